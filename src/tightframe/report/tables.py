"""What the report puts into tables: claims, configuration, environment, last values; and numbers as text."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tightframe.runs.record import Cell, Claim, Record, Table, Verdict
from tightframe.runs.series import rows_of

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
SIGNS = {"<=": "≤", ">=": "≥", "==": "="}
VERDICTS: tuple[Verdict, ...] = ("passed", "failed", "not run")


@dataclass(frozen=True, kw_only=True)
class ClaimRow:
    """One claim as the table shows it; `section` is the position of its record."""

    section: int
    record: str
    id: str
    statement: str
    source: str
    expected: str
    observed: str
    verdict: Verdict
    note: str


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One key of a configuration: what the preset says and what the run used."""

    key: str
    preset: str
    used: str


def claims(records: Sequence[Record]) -> list[ClaimRow]:
    """The claims of all records, in their order."""
    return [
        ClaimRow(
            section=section,
            record=record.title,
            id=claim.id,
            statement=claim.statement,
            source=claim.source,
            expected=expected(claim),
            observed=observed(claim),
            verdict=claim.verdict,
            note=claim.note,
        )
        for section, record in enumerate(records, start=1)
        for claim in record.claims
    ]


def counts(records: Sequence[Record]) -> dict[Verdict, int]:
    """How many claims passed, failed and were not run: three numbers that are never added up.

    >>> counts([])
    {'passed': 0, 'failed': 0, 'not run': 0}
    """
    verdicts = [claim.verdict for record in records for claim in record.claims]
    return {verdict: verdicts.count(verdict) for verdict in VERDICTS}


def expected(claim: Claim) -> str:
    """What the claim expects, with its relation and tolerance: "≤ 0.1, within 0.01"."""
    text = f"{SIGNS[claim.relation]} {number(claim.expected)}"
    if not claim.tolerance:
        return text
    return (
        f"{text} ± {number(claim.tolerance)}" if claim.relation == "==" else f"{text}, within {number(claim.tolerance)}"
    )


def observed(claim: Claim) -> str:
    """What was observed, with as many digits as it takes to tell it from what was expected."""
    if claim.observed is None:
        return "–"
    for digits in range(4, 17):
        text = number(claim.observed, digits=digits)
        if text != number(claim.expected, digits=digits):
            return text
    return number(claim.observed)


def configuration(record: Record) -> list[Setting]:
    """The settings in which the run departs from its preset; all of them where it started from none."""
    used, preset = flatten(record.config), flatten(record.preset_config)
    keys = list(dict.fromkeys([*used, *preset]))
    missing = "not set"
    return [
        Setting(key=key, preset=preset.get(key, missing), used=used.get(key, missing))
        for key in keys
        if not record.preset or used.get(key) != preset.get(key)
    ]


def environment(records: Sequence[Record]) -> list[tuple[str, str]]:
    """Keys and values of the environments; where records differ, each value names its records."""
    flat = [(record.name, flatten(record.environment)) for record in records]
    rows = []
    for key in dict.fromkeys(key for _, values in flat for key in values):
        names: dict[str, list[str]] = {}
        for name, values in flat:
            if key in values:
                names.setdefault(values[key], []).append(name)
        shared = len(names) == 1
        rows.append(
            (key, next(iter(names)) if shared else "; ".join(f"{v} ({', '.join(n)})" for v, n in names.items()))
        )
    return rows


def latest(series: Table) -> list[dict[str, Cell]]:
    """The rows of a long series at the last epoch of each run, split, layer and metric."""
    rows: dict[tuple[Cell, ...], dict[str, Cell]] = {}
    for row in rows_of(series):
        key = (row["run"], row["split"], row["layer"], row["metric"])
        if key not in rows or _rank(row["epoch"]) >= _rank(rows[key]["epoch"]):
            rows[key] = row
    return list(rows.values())


def last_values(record: Record) -> Table:
    """The last measured values of a record, without the columns that say nothing."""
    rows = latest(record.series)
    columns = ("run", "layer", "metric", "split", "epoch", "value")
    said = [name for name in columns if name in ("metric", "value") or any(row[name] not in ("", None) for row in rows)]
    return {name: [row[name] for row in rows] for name in said}


def text_claims(records: Sequence[Record]) -> str:
    """The claims as an aligned plain-text table for a terminal, with the three counts beneath.

    Control characters in labels are replaced, so that no label can move the cursor or change a colour.
    """
    head = ("verdict", "claim", "expected", "observed", "statement")
    rows = [(r.verdict.upper(), r.id, r.expected, r.observed, r.statement) for r in claims(records)]
    total = ", ".join(f"{count} {verdict}" for verdict, count in counts(records).items())
    return f"{_aligned([head, *rows])}\n\n{total}" if rows else f"no claims ({total})"


def text_table(table: Table) -> str:
    """A table of a record as aligned plain text for a terminal."""
    columns = [[name, *(cell if isinstance(cell, str) else number(cell) for cell in table[name])] for name in table]
    return _aligned(list(zip(*columns, strict=True)))


def flatten(settings: Mapping[str, Any], *, under: str = "") -> dict[str, str]:
    """Nested settings as one level of dotted keys with values as text.

    >>> flatten({"model": {"name": "mlp", "width": 256}, "lr": 0.05})
    {'model.name': 'mlp', 'model.width': '256', 'lr': '0.05'}
    """
    flat: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, under=f"{under}{key}.")
        else:
            flat[f"{under}{key}"] = _setting(value)
    return flat


def number(value: Cell, *, digits: int = 4) -> str:
    """A cell as text: numbers to `digits` significant digits, with a true minus sign and powers of ten.

    >>> [number(x) for x in (0.12345, -3, 1.6e-05, 123456.0, None, "relu")]
    ['0.1235', '−3', '1.6 × 10⁻⁵', '123456', '–', 'relu']
    """
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) or (value.is_integer() and abs(value) < 1e6):
        return f"{int(value)}".replace("-", "−")
    if not math.isfinite(value):
        return {math.inf: "∞", -math.inf: "−∞"}.get(value, "not a number")
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    if -4 <= int(exponent) < max(6, digits):
        return _trim(f"{value:.{max(0, digits - 1 - int(exponent))}f}").replace("-", "−")
    return f"{_trim(mantissa)} × 10{str(int(exponent)).translate(SUPERSCRIPTS)}".replace("-", "−")


def duration(seconds: float) -> str:
    """A length of time for people.

    >>> [duration(s) for s in (0.42, 12, 143.2, 7384)]
    ['0.42 s', '12 s', '2 min 23 s', '2 h 3 min']
    """
    if seconds < 60:
        return f"{seconds:.2g} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    clean = [["".join(c if c.isprintable() else "�" for c in cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in clean) for i in range(len(clean[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in clean
    )


def _setting(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(_setting, value)) or "none"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _trim(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text


def _rank(epoch: Cell) -> float:
    return float(epoch) if isinstance(epoch, int | float) else -math.inf
