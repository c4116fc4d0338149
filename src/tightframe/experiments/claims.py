"""Check the claims of the ledger: run what judges them, or read it back, and say which statements hold."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from tightframe.core.errors import InputError
from tightframe.core.files import unwritable
from tightframe.experiments import catalog, ledger
from tightframe.experiments.attempts import Attempt, attempts, gathered
from tightframe.experiments.base import Place
from tightframe.experiments.entry import Entry
from tightframe.experiments.statements import Statement
from tightframe.report.ledger import NAME, belongs, statement_of
from tightframe.runs.environment import describe
from tightframe.runs.record import Cell, Claim, Record, Table, Verdict, table_of
from tightframe.runs.store import RunDirectory


def check(
    names: Sequence[str] = (),
    preset: str = "smoke",
    *,
    place: Place,
    gather: bool = False,
) -> tuple[Record, list[Record]]:
    """Run the experiments that judge these claims, each in a directory of its own below `place.out`.

    An experiment that fails takes no other with it: what it judges is not run, for the reason it gave.

    Args:
        names: Ids of claims, or letters of subjects; all by default.
        preset: Of every experiment.
        place: Where to write. Its `workers` are experiments at the same time; with `resume` finished ones are read
            back.
        gather: Run nothing, read back only.

    Returns:
        The ledger, saved in `place.out`, and the records it was gathered from, in the order of the catalogue.

    Raises:
        InputError: An unknown name or preset, no directory, runs of another preset in it, or, without `resume`, any.
    """
    started, clock = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
    statements = ledger.chosen(names)
    ids = {line.id for line in statements}
    entries = [entry for entry in catalog.ENTRIES if ids & set(entry.claims)]
    place = replace(place, resume=place.resume or gather)
    _refuse(entries, preset, place)
    directory = _directory(place.out / NAME)
    if gather:
        found = [gathered(entry, preset, place=place) for entry in entries]
    else:
        found = sorted(attempts(entries, preset, place=place), key=lambda attempt: entries.index(attempt.entry))
    records = [attempt.record for attempt in found if attempt.record is not None]
    rows = [_row(line, found) for line in statements]
    record = Record(
        name=NAME,
        title="The claims ledger",
        question="Which statements of the sources hold when they are made executable?",
        answer=_answer(rows),
        config={"preset": preset, "ids": [line.id for line in statements]},
        preset=preset,
        preset_config={"preset": preset, "ids": [line.id for line in ledger.LEDGER]},
        environment=describe(),
        tables={"ledger": table_of(rows), "claims": _claims(ids, records)},
        started=started,
        seconds=time.perf_counter() - clock,
    )
    directory.save_record(record)
    return record, records


def _refuse(entries: Sequence[Entry], preset: str, place: Place) -> None:
    """Before anything is run: what could not end in one ledger."""
    if place.out is None:
        raise InputError("a directory for the ledger", got="place.out=None", remedy="Give --out.")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError(
            "one process, which starts others itself", got="torchrun", remedy="Use --workers, or `tightframe run`."
        )
    lacking = [entry.name for entry in entries if preset not in entry.presets]
    if lacking:
        raise InputError(
            "a preset that every experiment has",
            got=f"{preset!r}, which {', '.join(lacking)} lack",
            remedy="Use smoke, quick or paper.",
        )
    begun = [entry.name for entry in entries if _begun(place.out / entry.name)]
    if begun and not place.resume:
        raise InputError(
            "an empty or new directory for a new ledger",
            got=f"{place.out}, which holds {', '.join(begun[:4])}{', ...' if len(begun) > 4 else ''}",
            remedy="Go on with those runs by --resume, or choose another --out.",
        )
    presets = {name: RunDirectory(place.out / name).config().get("preset") for name in begun}
    others = [f"{name} ({other})" for name, other in presets.items() if other != preset]
    if others:
        raise InputError(
            f"runs of preset {preset!r} in one ledger",
            got=f"runs of others in {place.out}: {', '.join(others)}",
            remedy="Give their --preset, or choose another --out.",
        )


def _directory(path: Path) -> RunDirectory:
    """Made before hours of work that could not be kept."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error
    return RunDirectory(path)


def _begun(path: Path) -> bool:
    return path.is_dir() and any(path.iterdir())


def _row(line: Statement, found: Sequence[Attempt]) -> dict[str, Cell]:
    own = [attempt for attempt in found if line.id in attempt.entry.claims]
    records = [attempt.record for attempt in own if attempt.record is not None]
    verdicts = [claim.verdict for record in records for claim in record.claims if belongs(claim, line.id)]
    missing = [f"{attempt.entry.name}: {attempt.reason}" for attempt in own if attempt.record is None]
    return {
        "id": line.id,
        "subject": ledger.SUBJECTS[ledger.subject(line.id)],
        "statement": line.text,
        "source": line.source,
        "verdict": _verdict(verdicts, complete=bool(own) and not missing),
        "passed": verdicts.count("passed"),
        "failed": verdicts.count("failed"),
        "not run": verdicts.count("not run"),
        "seconds": sum(record.seconds for record in records) if records else None,
        "experiments": ", ".join(attempt.entry.name for attempt in own),
        "note": "; ".join(missing) if own else "no experiment judges it",
    }


def _verdict(verdicts: Sequence[Verdict], *, complete: bool) -> Verdict:
    """Failed if any claim did, passed if all did and none is missing."""
    if "failed" in verdicts:
        return "failed"
    return "passed" if complete and set(verdicts) == {"passed"} else "not run"


def _claims(ids: set[str], records: Sequence[Record]) -> Table:
    rows = [
        {
            "id": statement_of(claim),
            "claim": claim.id,
            "statement": claim.statement,
            "source": claim.source,
            "relation": claim.relation,
            "expected": claim.expected,
            "tolerance": claim.tolerance,
            "observed": _observed(claim),
            "verdict": claim.verdict,
            "experiment": record.name,
            "note": claim.note,
        }
        for record in records
        for claim in record.claims
        if statement_of(claim) in ids
    ]
    return table_of(rows)


def _observed(claim: Claim) -> Cell:
    """The number, or, where it is none that a table could hold, its name."""
    return claim.observed if claim.observed is None or math.isfinite(claim.observed) else repr(float(claim.observed))


def _answer(rows: Sequence[dict[str, Cell]]) -> str:
    found: dict[str, list[str]] = {"passed": [], "failed": [], "not run": []}
    for row in rows:
        found[row["verdict"]].append(row["id"])
    named = "".join(
        f" {what}: {', '.join(found[key])}."
        for key, what in (("failed", "Failed"), ("not run", "Not run"))
        if found[key]
    )
    return f"Of {len(rows)} statements {len(found['passed'])} passed all their claims.{named}"
