"""Results gathered: a record of every race with its bars, the table of all bars, and the table of ratios."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from benchmarks.races.bar import Bar
from benchmarks.races.bars import BARS
from benchmarks.races.ratios import COLUMNS, ratios_of
from benchmarks.reading import Curve, ResultFile, ResultTable

from tightframe.runs.record import Cell, Claim, Panel, Record, Table, table_of
from tightframe.runs.store import write_atomic

COMMAND = "python -m benchmarks.races --gather"
VERDICTS = {"passed": "met", "failed": "**not met**", "not run": "not measured"}
# Of one drawing with lines, beyond which the points on them are not shown.
_MOST_TIMES = 60
# With a drawing each; the ends of more share one.
_MOST_PROBLEMS = 6

Results = Mapping[str, ResultFile]


def records(results: Results) -> list[Record]:
    """One record for every result file that has a bar, a ratio or a curve, and one for the bars without any file.

    Those with curves come first.
    """
    bars = [bar for group in BARS.values() for bar in group]
    found = []
    for name, result in sorted(results.items(), key=lambda item: (not item[1].curves, item[0])):
        own = [bar for bar in bars if bar.result == name]
        if own or result.curves or ratios_of(result):
            found.append(_record(result, own, results))
    rest = [bar for bar in bars if bar.result not in results]
    claims = tuple(bar.judged(results) for bar in rest)
    if claims:
        found.append(
            Record(
                name="not-measured",
                title="Bars without a table",
                question="What has no result file?",
                answer="These bars are not measured by a benchmark, or their benchmark has not been run.",
                claims=claims,
            )
        )
    return found


def write_tables(results: Results, folder: Path, *, toy: bool = False) -> list[Path]:
    """Write bars.md and ratios.md; `toy` says that the sizes were small ones."""
    written = []
    warning = "Measured at toy sizes: these figures say nothing.\n\n" if toy else ""
    for name, text in (("bars", bars_page(results)), ("ratios", ratios_page(results))):
        folder.mkdir(parents=True, exist_ok=True)
        head, _, rest = text.partition("\n\n")
        write_atomic(folder / f"{name}.md", f"{head}\n\n{warning}{rest}")
        written.append(folder / f"{name}.md")
    return written


def bars_page(results: Results) -> str:
    """Every bar with its figure and verdict, as markdown."""
    judged = {subject: [(bar, bar.judged(results)) for bar in group] for subject, group in BARS.items()}
    counts = _counted(claim for pairs in judged.values() for _, claim in pairs)
    parts = [
        "# Bars",
        f"Command: `{COMMAND}`",
        "Every bar that the project set itself, read off the tables of this folder: "
        f"{counts['passed']} met, {counts['failed']} not met, {counts['not run']} not measured. "
        "Machine and versions stand in the file of each figure.",
    ]
    missed = [(subject, pair) for subject, pairs in judged.items() for pair in pairs if pair[1].verdict == "failed"]
    columns = ("what", "bar", "measured", "verdict", "file", "remark")
    if missed:
        rows = [(subject, *_bar_row(*pair)[:3], *_bar_row(*pair)[4:]) for subject, pair in missed]
        parts += ["## Not met", _markdown(("subject", "what", "bar", "measured", "file", "remark"), rows)]
    for subject, pairs in judged.items():
        parts += [f"## {subject}", _markdown(columns, [_bar_row(*pair) for pair in pairs])]
    return "\n\n".join(parts) + "\n"


def ratios_page(results: Results) -> str:
    """The times of others over ours, file by file, as markdown."""
    parts = [
        "# Ratios",
        f"Command: `{COMMAND}`",
        "Times of others over ours, from the tables of this folder; above one we are faster. `column` is the column "
        "that the times stand in. Both were measured in one run by the command of the section.",
    ]
    for name, result in results.items():
        if rows := ratios_of(result):
            parts += [
                f"## {result.title}",
                f"{name}.md, by `{result.command}`.\n\n- Machine: {result.machine}\n- Versions: {result.versions}",
                _markdown(COLUMNS, rows),
            ]
    return "\n\n".join(parts) + "\n"


def _record(result: ResultFile, bars: Iterable[Bar], results: Results) -> Record:
    claims = tuple(bar.judged(results) for bar in bars)
    counts = _counted(claims)
    tables = {f"table {number}": _typed(table) for number, table in enumerate(result.tables, start=1)}
    if rows := ratios_of(result):
        tables["ratios"] = table_of([dict(zip(COLUMNS, map(_cell, row), strict=True)) for row in rows])
    curves, panels = _drawn(result.curves)
    said = f"{counts['passed']} bars met, {counts['failed']} not met, {counts['not run']} not measured."
    return Record(
        name=result.name.replace("_", "-"),
        title=result.title,
        question=f"How far and how fast, by {result.command}",
        answer=said if claims else "No bar; the tables say how far and how fast.",
        config={"command": result.command, "machine": result.machine, "versions": result.versions},
        environment={"machine": result.machine.partition(";")[0], "versions": result.versions},
        tables=curves | tables,
        panels=panels,
        claims=claims,
    )


def _drawn(curves: Iterable[Curve]) -> tuple[dict[str, Table], tuple[Panel, ...]]:
    """Lines for the problems where somebody was measured on the way, points for those where only the end was."""
    by_problem: dict[tuple[str, str], list[Curve]] = {}
    for curve in curves:
        by_problem.setdefault((curve.measure, curve.problem), []).append(curve)
    tables: dict[str, Table] = {}
    panels = []
    ends: dict[str, dict[str, list[Curve]]] = {}
    for (measure, problem), group in by_problem.items():
        if max(len(curve.seconds) for curve in group) == 1:
            ends.setdefault(measure, {})[problem] = group
            continue
        name = f"figure {len(panels) + 1}"
        tables[name] = _points(group, most=_MOST_TIMES // len(group))
        caption = f"{measure.capitalize()} against seconds. A contender with one point was measured at its end only."
        panels.append(_panel("curves", problem, caption, name, measure))
    for measure, groups in ends.items():
        if len(groups) > _MOST_PROBLEMS:
            groups = {"Every problem a point": [curve for group in groups.values() for curve in group]}
        for title, group in groups.items():
            name = f"figure {len(panels) + 1}"
            tables[name] = _points(group, most=1)
            caption = f"{measure.capitalize()} against the seconds of the whole run."
            panels.append(_panel("scatter", title, caption, name, measure))
    return tables, tuple(panels)


def _panel(kind: Literal["curves", "scatter"], title: str, caption: str, table: str, measure: str) -> Panel:
    return Panel(
        kind=kind,
        title=title,
        caption=caption,
        table=table,
        x="seconds",
        y=measure,
        color="contender",
        x_scale="log",
        y_scale="log",
    )


def _points(curves: Iterable[Curve], *, most: int) -> Table:
    rows: list[dict[str, Cell]] = []
    for curve in curves:
        step = -(-len(curve.seconds) // most)
        kept = sorted({*range(0, len(curve.seconds), step), len(curve.seconds) - 1})
        for at in kept:
            who: dict[str, Cell] = {"problem": curve.problem, "contender": curve.contender}
            rows.append({**who, "seconds": curve.seconds[at], curve.measure: curve.values[at]})
    return table_of(rows)


def _typed(table: ResultTable) -> Table:
    return {name: [_cell(row[at]) for row in table.rows] for at, name in enumerate(table.columns)}


def _cell(text: str) -> Cell:
    if text == "":
        return None
    try:
        value = float(text.replace(",", ""))
    except ValueError:
        return text
    return value if value - value == 0 else text


def _bar_row(bar: Bar, claim: Claim) -> tuple[str, ...]:
    sign = {"<=": "at most", ">=": "at least", "==": "exactly"}[claim.relation]
    measured = "" if claim.observed is None else f"{claim.observed:.3g}"
    file = f"{bar.result}.md" if bar.result else ""
    return bar.statement, f"{sign} {claim.expected:g}", measured, VERDICTS[claim.verdict], file, claim.note


def _counted(claims: Iterable[Claim]) -> dict[str, int]:
    counts = dict.fromkeys(VERDICTS, 0)
    for claim in claims:
        counts[claim.verdict] += 1
    return counts


def _markdown(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(columns)
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *map(list, rows)))
