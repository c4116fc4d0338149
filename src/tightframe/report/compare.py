"""Two records side by side, as a record of its own."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

from tightframe.core.errors import InputError
from tightframe.report.tables import counts, flatten, latest
from tightframe.runs.record import SERIES_COLUMNS, Cell, Claim, Panel, Record, Table, series_table
from tightframe.runs.series import rows_of

_COLUMNS = {"run", "metric", "layer", "split", "ratio", "setting"}  # of the tables, whose other columns are runs
_WIDE = 30.0  # positive values whose extremes differ by more than this factor get a logarithmic scale


def compare(first: Record, second: Record) -> Record:
    """Set two runs side by side: curves of every shared metric, last values with their ratio, settings, claims.

    A metric measured at several layers is drawn over training at the deepest shared one, and over the layers
    at the last epoch. Claims keep their identifiers and numbers; their notes name the run.

    Args:
        first: The run shown first, and the denominator of the ratios.
        second: The other run.

    Returns:
        A record called "compare" with the tables "last values", "last layers" and "settings".

    Raises:
        InputError: The two series have no metric in common.
    """
    ours = dict.fromkeys(first.series["metric"])
    shared = [str(metric) for metric in ours if metric in set(second.series["metric"])]
    if not shared:
        raise InputError(
            "two runs that are compared share at least one metric",
            got=f"{_listed(first)} in {first.name!r} and {_listed(second)} in {second.name!r}",
            remedy="Compare runs that measured the same.",
        )
    names, records = _names(first, second), (first, second)
    series = _joined(names, records, shared)
    layers = {metric: _shared_layers(first, second, metric) for metric in shared}
    settings = _settings(names, records)
    tables = {"last values": _side_by_side(names, records, shared), "settings": settings}
    if any(len(named) > 1 for named in layers.values()):
        rows = latest(series)
        tables["last layers"] = {column: [row[column] for row in rows] for column in SERIES_COLUMNS}
    return Record(
        name="compare",
        title=f"{names[0]} and {names[1]}",
        question=f"Where do the runs {names[0]} and {names[1]} differ?",
        answer=_answer(names, records, len(shared), settings),
        config={name: record.config for name, record in zip(names, records, strict=True)},
        environment=_environment(names, records),
        series=series,
        tables=tables,
        panels=tuple(panel for metric in shared for panel in _panels(metric, series, layers[metric])),
        claims=tuple(
            _noted(claim, name) for name, record in zip(names, records, strict=True) for claim in record.claims
        ),
        started=max(first.started, second.started),
    )


def _names(first: Record, second: Record) -> tuple[str, str]:
    if first.name != second.name and not {first.name, second.name} & _COLUMNS:
        return first.name, second.name
    return f"{first.name} (first)", f"{second.name} (second)"


def _joined(names: tuple[str, str], records: tuple[Record, Record], shared: list[str]) -> Table:
    rows: list[dict[str, Cell]] = []
    for name, record in zip(names, records, strict=True):
        runs = dict.fromkeys(record.series["run"])
        for row in rows_of(record.series):
            if row["metric"] in shared:
                rows.append(row | {"run": name if len(runs) == 1 else f"{name}: {row['run']}"})
    return series_table(rows)


def _panels(metric: str, series: Table, layers: list[str]) -> list[Panel]:
    """A metric over training at its deepest shared layer, and over the layers where there are several."""
    where: dict[str, Cell] = {"metric": metric} | ({"layer": layers[-1]} if layers else {})
    named = f" at {layers[-1]}" if layers and layers[-1] else ""
    scale = _scale([v for m, v in zip(series["metric"], series["value"], strict=True) if m == metric])
    curves = Panel(
        kind="curves",
        title=f"{metric} over training",
        caption=f"{metric}{named}, both runs.",
        table="series",
        x="epoch",
        y="value",
        color="run",
        y_scale=scale,
        where=where,
    )
    if len(layers) < 2:
        return [curves]
    across = Panel(
        kind="layers",
        title=f"{metric} layer by layer",
        caption=f"{metric} at every shared layer, at the last epoch of each run.",
        table="last layers",
        x="layer",
        y="value",
        color="run",
        y_scale=scale,
        where={"metric": metric, "layer": layers},
    )
    return [curves, across]


def _shared_layers(first: Record, second: Record, metric: str) -> list[str]:
    """The layers at which both runs measured a metric, in the order of the first."""
    ours, theirs = (
        dict.fromkeys(
            layer for layer, name in zip(record.series["layer"], record.series["metric"], strict=True) if name == metric
        )
        for record in (first, second)
    )
    return [str(layer) for layer in ours if layer in theirs]


def _scale(values: list[Cell]) -> Literal["linear", "log"]:
    known = [value for value in values if value is not None]
    return "log" if known and min(known) > 0 and max(known) > _WIDE * min(known) else "linear"


def _side_by_side(names: tuple[str, str], records: tuple[Record, Record], shared: list[str]) -> Table:
    sides = []
    single = all(len(set(record.series["run"])) == 1 for record in records)
    for record in records:
        rows = (row for row in latest(record.series) if row["metric"] in shared)
        sides.append(
            {("" if single else row["run"], row["metric"], row["layer"], row["split"]): row["value"] for row in rows}
        )
    table: Table = {name: [] for name in ("run", "metric", "layer", "split", *names, "ratio")}
    for key in dict.fromkeys([*sides[0], *sides[1]]):
        ours, theirs = (side.get(key) for side in sides)
        ratio = theirs / ours if ours and theirs is not None else None
        finite = ratio if ratio is not None and math.isfinite(ratio) else None
        for column, cell in zip(table, (*key, ours, theirs, finite), strict=True):
            table[column].append(cell)
    return {name: cells for name, cells in table.items() if name in ("metric", *names, "ratio") or any(cells)}


def _settings(names: tuple[str, str], records: tuple[Record, Record]) -> Table:
    ours, theirs = (flatten(record.config) for record in records)
    keys = [key for key in dict.fromkeys([*ours, *theirs]) if ours.get(key) != theirs.get(key)]
    return {
        "setting": list(keys),
        names[0]: [ours.get(key, "not set") for key in keys],
        names[1]: [theirs.get(key, "not set") for key in keys],
    }


def _environment(names: tuple[str, str], records: tuple[Record, Record]) -> dict[str, str]:
    ours, theirs = (flatten(record.environment) for record in records)
    joined = {}
    for key in dict.fromkeys([*ours, *theirs]):
        if ours.get(key) == theirs.get(key):
            joined[key] = ours[key]
        else:
            joined |= {
                f"{key} ({name})": side[key] for name, side in zip(names, (ours, theirs), strict=True) if key in side
            }
    return joined


def _answer(names: tuple[str, str], records: tuple[Record, Record], shared: int, settings: Table) -> str:
    differing = len(settings["setting"])
    verdicts = "; ".join(
        f"{name}: " + ", ".join(f"{count} {verdict}" for verdict, count in counts([record]).items())
        for name, record in zip(names, records, strict=True)
    )
    metrics = "1 metric is" if shared == 1 else f"{shared} metrics are"
    apart = "1 setting differs" if differing == 1 else f"{differing} settings differ"
    return f"{metrics} shared and {apart}. Claims of {verdicts}."


def _noted(claim: Claim, name: str) -> Claim:
    return replace(claim, note=f"{name}: {claim.note}" if claim.note else name)


def _listed(record: Record) -> str:
    return ", ".join(map(str, dict.fromkeys(record.series["metric"]))) or "no metric"
