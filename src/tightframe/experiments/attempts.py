"""Experiments run one after the other or at the same time: what came of each, whatever happens to another."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import shorten

import torch

from tightframe.core.errors import TightframeError
from tightframe.experiments import catalog
from tightframe.experiments.base import Place
from tightframe.experiments.entry import Entry
from tightframe.experiments.sweeps import parallel
from tightframe.report.ledger import statement_of
from tightframe.runs.console import progress
from tightframe.runs.record import Record
from tightframe.runs.store import RunDirectory

# Those that take longest at the preset quick, longest first, so that none of them begins last.
HEAVIEST = (
    "ufm-low-rank",
    "fine-tuning",
    "label-noise",
    "curve-geometry",
    "transfer-scores",
    "convolutional-dictionaries",
    "bilinear-variants",
    "gravitational-waves",
    "ufm-depth",
    "image-restoration",
    "ufm-convex",
    "ufm-landscape",
    "two-curves",
    "ufm-collapse",
    "rate-reduction",
    "ufm-bias",
    "random-labels",
    "weight-decay",
    "ufm-normalized-speed",
    "noisy-labels",
    "ufm-normalized",
    "fixed-heads",
    "l4-columns",
    "l4-dictionaries",
    "ufm-extended",
    "ufm-perturbed",
    "depthwise",
    "microscopy",
    "optimizers",
    "four-losses",
    "spike-sorting",
)
# Of a reason in the ledger.
_MOST_LETTERS = 300


@dataclass(frozen=True)
class Attempt:
    """What came of an experiment: its record, or the reason why there is none."""

    entry: Entry
    record: Record | None = None
    reason: str = ""


def attempts(entries: Sequence[Entry], preset: str, *, place: Place) -> Iterator[Attempt]:
    """Run experiments, each in a directory of its own below `place.out`, those that take longest first.

    Args:
        entries: Which.
        preset: Of every experiment.
        place: Where to write. Its `workers` are experiments at the same time, each then on one thread; with `resume`
            finished ones are read back.

    Yields:
        What came of each, as soon as it is known.
    """
    order = sorted(entries, key=lambda entry: (*HEAVIEST, entry.name).index(entry.name))
    if place.workers <= 1 or len(entries) <= 1:
        yield from (_attempt(entry, preset, place) for entry in order)
        return
    with progress(len(order), "experiments", enabled=place.progress) as meter:
        quiet = replace(place, workers=0, progress=False)
        for attempt in in_processes(_alone, order, preset=preset, place=quiet, workers=place.workers):
            meter.advance(last=attempt.entry.name)
            yield attempt


def in_processes(
    function: Callable[[Entry, str, Place], Attempt],
    entries: Sequence[Entry],
    *,
    preset: str,
    place: Place,
    workers: int,
) -> Iterator[Attempt]:
    """`function` of every entry in `workers` processes; a process that is killed takes no other entry with it."""
    from joblib import Parallel, delayed

    pending = list(entries)
    try:
        for attempt in parallel(workers, return_as="generator_unordered")(
            delayed(function)(entry, preset, place) for entry in entries
        ):
            pending.remove(attempt.entry)
            yield attempt
    except BrokenProcessPool:
        # One of the processes was killed, and nobody knows which experiment it was at: now one at a time.
        place = replace(place, resume=True)
        for entry in pending:
            try:
                yield from Parallel(n_jobs=2)([delayed(function)(entry, preset, place)])
            except BrokenProcessPool:
                yield Attempt(entry, reason="its process was killed, for memory perhaps")


def _alone(entry: Entry, preset: str, place: Place) -> Attempt:
    torch.set_num_threads(1)
    return _attempt(entry, preset, place)


def gathered(entry: Entry, preset: str, *, place: Place) -> Attempt:
    """A finished experiment read back; nothing is run."""
    if not RunDirectory(place.out / entry.name).record_path.exists():
        return Attempt(entry, reason="there is no finished run")
    return _attempt(entry, preset, place)


def _attempt(entry: Entry, preset: str, place: Place) -> Attempt:
    own = place.out / entry.name
    try:
        record = catalog.load(entry.name).run(preset, place=replace(place, out=own))
    except TightframeError as error:
        # The ledger goes elsewhere, where a folder of this machine says nothing.
        return Attempt(entry, reason=_cut(str(error).replace(str(own), entry.name)))
    # Whatever goes wrong in one experiment is its own affair; the others go on.
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        said = f"{type(error).__name__} in {Path(where.filename).name}, line {where.lineno}: {error}"
        return Attempt(entry, reason=_cut(said))
    judged = {statement_of(claim) for claim in record.claims}
    if judged != set(entry.claims):
        said = (
            f"its record judges {', '.join(sorted(judged)) or 'nothing'}, not {', '.join(entry.claims)}: run it again"
        )
        return Attempt(entry, reason=said)
    return Attempt(entry, record)


def _cut(text: str) -> str:
    return shorten(text, _MOST_LETTERS, placeholder=" ...")
