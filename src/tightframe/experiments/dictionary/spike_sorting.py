"""D8: spikes sorted by learned waveforms, beside the truth and beside threshold, PCA and a mixture of normals."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from tightframe.data.recorded.recordings import Recording, locust_recording
from tightframe.data.recorded.spike_trains import SpikeTruth, spike_recording
from tightframe.data.recorded.spikes import Spikes
from tightframe.data.recorded.waveforms import analytic_templates, labelled_waveforms
from tightframe.dictionary.spikes.sorting import sort_spikes
from tightframe.dictionary.spikes.sorting_scores import isi_violations, match_spikes
from tightframe.experiments.catalog import entry
from tightframe.experiments.dictionary.threshold_sorter import threshold_sorting
from tightframe.experiments.study import Findings, Study, Sweep
from tightframe.runs.record import Cell, Claim, Panel, table_of

_SOURCE = "Q21, first half: spike sorting"
OURS, BASE, BASE_TOLD = "tightframe", "threshold, PCA, GMM", "the same, told the units"
# The recording of the published figures: their noise, and their F1 of threshold, PCA and GMM.
_PLAIN, _TARGET_NOISE = "plain", 0.1
_RATE = 24_000.0

Row = dict[str, Cell]
Kind = Literal["analytic", "labelled"]


@dataclass(frozen=True)
class Condition:
    """What makes a recording harder.

    Args:
        name: What tables call it.
        drift: Largest relative change of the amplitudes.
        correlation: Of the noise at successive samples.
        overlaps: Share of spikes within 1.5 ms of another unit's.
    """

    name: str = _PLAIN
    drift: float = 0.0
    correlation: float = 0.0
    overlaps: float = 0.14


@dataclass(frozen=True)
class Config:
    """What is sorted.

    Args:
        waveforms: "analytic", which need no file, or "labelled" ones of a real recording.
        units: Analytic ones; of the labelled ones the three that rise above the noise are used.
        seconds: Of each recording.
        noises: Standard deviations of the noise; the mean peak of the units is 1.
        conditions: What makes recordings harder.
        seeds: Of spike times and noise.
        real: Also sort the real locust recording, which has no labels.
    """

    waveforms: tuple[Kind, ...] = ("analytic",)
    units: int = 3
    seconds: float = 10.0
    noises: tuple[float, ...] = (0.1, 0.2)
    conditions: tuple[Condition, ...] = (Condition(),)
    seeds: tuple[int, ...] = (0,)
    real: bool = False


_CONDITIONS = (
    Condition(),
    Condition("drift", drift=0.15),
    # Amplitudes of the labelled units, which differ in little else, then come to overlap.
    Condition("strong drift", drift=0.3),
    Condition("correlated noise", correlation=0.7),
    Condition("many overlaps", overlaps=0.4),
)
_BOTH: tuple[Kind, ...] = ("analytic", "labelled")
_FULL = Config(_BOTH, 3, 20.0, (0.05, 0.1, 0.15, 0.2), _CONDITIONS, real=True)
PRESETS = {
    "smoke": Config(),
    "quick": replace(_FULL, noises=(0.1, 0.2)),
    "paper": replace(_FULL, seeds=tuple(range(5))),
}


@dataclass(frozen=True)
class Case:
    """One recording."""

    waveforms: Kind
    noise: float
    condition: Condition
    seed: int
    config: Config
    root: Path | None


def investigate(config: Config, sweep: Sweep) -> Findings:
    """Every recording by every method; then the claims."""
    cases = [
        Case(kind, noise, condition, seed, config, sweep.data_root)
        for kind in config.waveforms
        for noise in config.noises
        for condition in config.conditions
        for seed in config.seeds
    ]
    rows = [row for found in sweep(compared, cases) for row in found]
    tables = {"recordings": table_of(rows)}
    real = real_units(sweep.data_root) if config.real else []
    if real:
        tables["locust"] = table_of(real)
    return Findings(_claims(rows, real, config), _answer(rows, real), tables, _panels(rows))


def templates(kind: Kind, units: int, root: Path | None) -> np.ndarray:
    """Waveforms (units, samples) whose peaks are 1 on average; the labelled ones scaled together."""
    if kind == "analytic":
        return analytic_templates(units, _RATE)[:, 0]
    waves = labelled_waveforms(root=root).means()
    peaks = np.abs(waves).max(axis=1)
    # The faintest of the four lies below the noise of its own recording.
    waves = waves[np.argsort(-peaks)[:3]]
    return waves / np.abs(waves).max(axis=1).mean()


def simulated(case: Case) -> SpikeTruth:
    """The recording of a case with its truth."""
    condition = case.condition
    return spike_recording(
        templates(case.waveforms, case.config.units, case.root),
        _RATE,
        seconds=case.config.seconds,
        noise=case.noise,
        overlaps=condition.overlaps,
        correlation=condition.correlation,
        drift=condition.drift,
        seed=case.seed,
    )


def compared(case: Case) -> list[Row]:
    """One row per method: F1 over all spikes, those that overlap and the others, units found and CPU seconds."""
    truth = simulated(case)
    count = len(truth.templates)
    methods: dict[str, Callable[[Recording], Spikes]] = {
        OURS: lambda recording: sort_spikes(recording).spikes,
        BASE: threshold_sorting,
        BASE_TOLD: partial(threshold_sorting, units=count),
    }
    return [_row(case, name, method, truth) for name, method in methods.items()]


def _row(case: Case, name: str, method: Callable[[Recording], Spikes], truth: SpikeTruth) -> Row:
    begun = time.process_time()
    found = method(truth.recording)
    spent = time.process_time() - begun
    # Waveforms learned without labels have no natural zero: a whole unit may be half a millisecond early or late.
    scores = match_spikes(found, truth.spikes, lag=5e-4)
    return {
        "waveforms": case.waveforms,
        "condition": case.condition.name,
        "noise": case.noise,
        "seed": case.seed,
        "method": name,
        "F1": scores.overall.f1,
        "F1 overlapping": scores.overlapping.f1,
        "F1 isolated": scores.isolated.f1,
        "true units": len(truth.templates),
        "units": len(found.labels),
        "CPU (s)": spent,
    }


def real_units(root: Path | None) -> list[Row]:
    """Units of the locust recording, by both methods: spikes and violations of the refractory time."""
    recording = locust_recording(root=root)
    sorting = sort_spikes(recording)
    plain = threshold_sorting(recording)
    rows: list[Row] = [{"method": OURS, **row} for row in sorting.quality]
    blank = dict.fromkeys(("SNR", "amplitude", "spread of amplitudes", "channel"))
    for unit in plain.labels:
        times = plain.of(unit)
        counted = {"unit": unit, "spikes": len(times), "rate": len(times) / recording.seconds}
        rows.append({"method": BASE, **counted, "ISI violations": isi_violations(times), **blank})
    return [{key: row[key] for key in rows[0]} for row in rows]


def _claims(rows: Sequence[Row], real: Sequence[Row], config: Config) -> tuple[Claim, ...]:
    plain = [row for row in rows if (row["condition"], row["method"]) == (_PLAIN, OURS)]
    at_target = [row for row in plain if row["noise"] == _TARGET_NOISE]
    claims = [
        _bound("D8.f1", "F1 of the spikes at noise 0.1 is above 0.95", 0.95, [row["F1"] for row in at_target]),
        _bound(
            "D8.overlaps",
            "F1 of overlapping spikes at noise 0.1 is above 0.9",
            0.9,
            [row["F1 overlapping"] for row in at_target],
        ),
        Claim(
            id="D8.units",
            statement="The number of units is found: largest difference over plain recordings",
            source=_SOURCE,
            expected=0.0,
            observed=float(max(abs(row["units"] - row["true units"]) for row in plain)) if plain else None,
            note=f"{len(plain)} recordings, noise {_range(config.noises)}",
        ),
        _bound(
            "D8.baseline",
            "F1 is above that of threshold, PCA and GMM, told the units or not: least gain",
            0.0,
            _gains(rows),
        ),
    ]
    violations = [row["ISI violations"] for row in real if row["method"] == OURS]
    claims.append(
        Claim(
            id="D8.locust",
            statement="Of the intervals between a unit's spikes in the locust recording at most 1 % are below 1.5 ms",
            source=_SOURCE,
            expected=0.01,
            observed=max(violations, default=None),
            note=f"{len(violations)} units" if violations else "needs a larger preset and the data",
        )
    )
    return tuple(claims)


def _bound(name: str, statement: str, least: float, values: Sequence[float]) -> Claim:
    note = f"{len(values)} recordings, median {np.median(values):.3f}" if values else "no such recording"
    return Claim(
        id=name,
        statement=statement,
        source=_SOURCE,
        expected=least,
        observed=min(values, default=None),
        relation=">=",
        note=note,
    )


def _gains(rows: Sequence[Row]) -> list[float]:
    """What ours gains over the better of the other two, recording by recording."""
    keys = ("waveforms", "condition", "noise", "seed")
    others: dict[tuple[Cell, ...], float] = {}
    for row in rows:
        if row["method"] != OURS:
            case = tuple(row[key] for key in keys)
            others[case] = max(others.get(case, 0.0), row["F1"])
    return [row["F1"] - others[tuple(row[key] for key in keys)] for row in rows if row["method"] == OURS]


def _range(values: Sequence[float]) -> str:
    return f"{min(values):g} to {max(values):g}"


def _answer(rows: Sequence[Row], real: Sequence[Row]) -> str:
    parts = []
    for name in (OURS, BASE_TOLD):
        mine = [row for row in rows if row["method"] == name]
        parts.append(
            f"{name}: F1 {_range([round(row['F1'], 3) for row in mine])}, "
            f"overlapping spikes {_range([round(row['F1 overlapping'], 3) for row in mine])}"
        )
    text = f"Over {len(rows) // max(len({row['method'] for row in rows}), 1)} recordings: {'; '.join(parts)}."
    units = sum(row["method"] == OURS for row in real)
    return f"{text} The locust recording has {units} units." if units else text


def _panels(rows: Sequence[Row]) -> tuple[Panel, ...]:
    shown = (("F1", "All spikes", ""), ("F1 overlapping", "Overlapping spikes", " of those near another unit's"))
    return tuple(
        Panel(
            kind="scatter",
            title=title,
            caption=f"F1{which} over the noise, in units of the mean peak; one point per recording.",
            table="recordings",
            x="noise",
            y=column,
            color="method",
            facet="condition",
            where={"waveforms": kind},
        )
        for kind in dict.fromkeys(row["waveforms"] for row in rows)
        for column, title, which in ((column, f"{title}, {kind} waveforms", which) for column, title, which in shown)
    )


EXPERIMENT = Study(entry("spike-sorting"), PRESETS, investigate)
