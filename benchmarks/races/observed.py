"""What the tables of results say about a bar: the worst cell, the worst ratio of cells, how many are wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from benchmarks.reading import ResultFile, Where, number

# None where the tables hold no such row, or its cells no number.
Observer = Callable[[ResultFile], float | None]


def largest(*columns: str, where: Where | None = None) -> Observer:
    """The largest number of these columns over the rows that match."""
    return _extreme(max, columns, where)


def smallest(*columns: str, where: Where | None = None) -> Observer:
    """The smallest one."""
    return _extreme(min, columns, where)


def quotient(
    column: str,
    *,
    of: Where,
    over: Where,
    by: tuple[str, ...] = (),
    worst: Callable[[Iterable[float]], float] = max,
) -> Observer:
    """The cell of the rows `of` divided by the least one of the rows `over`, both within rows that agree in `by`.

    Of several groups, or of several rows `of` in one, `worst` chooses.
    """

    def observed(result: ResultFile) -> float | None:
        rivals: dict[tuple[str, ...], list[float]] = {}
        for row in result.rows(column, *by, *of, where=over):
            if (value := number(row[column])) is not None:
                rivals.setdefault(tuple(row[name] for name in by), []).append(value)
        ratios = []
        for row in result.rows(column, *by, *over, where=of):
            value, against = number(row[column]), rivals.get(tuple(row[name] for name in by))
            if value is not None and against:
                ratios.append(value / min(against))
        # infinity over infinity: nobody arrived
        ratios = [value for value in ratios if value == value]
        return worst(ratios) if ratios else None

    return observed


def beyond(column: str, *, of: Where, over: Where, by: tuple[str, ...]) -> Observer:
    """The least amount by which the cell of a row `of` exceeds every one of the rows `over` that agree in `by`."""

    def observed(result: ResultFile) -> float | None:
        gaps, others = [], result.rows(column, *by, where=over)
        for row in result.rows(column, *by, where=of):
            key = [row[name] for name in by]
            rivals = [number(other[column]) for other in others if [other[name] for name in by] == key]
            known = [value for value in rivals if value is not None]
            if known:
                gaps.append((number(row[column]) or 0.0) - max(known))
        return min(gaps) if gaps else None

    return observed


def columns_quotient(above: str, below: str, *, where: Where | None = None) -> Observer:
    """The largest ratio of two cells of one row."""

    def observed(result: ResultFile) -> float | None:
        pairs = [(number(row[above]), number(row[below])) for row in result.rows(above, below, where=where)]
        ratios = [a / b for a, b in pairs if a is not None and b]
        return max(ratios) if ratios else None

    return observed


def marked(column: str, mark: str) -> Observer:
    """How many cells of a column contain a mark."""
    return lambda result: float(sum(mark in row[column] for row in result.rows(column)))


def total(column: str, *, where: Where | None = None) -> Observer:
    """The sum of a column."""

    def observed(result: ResultFile) -> float | None:
        values = [number(row[column]) for row in result.rows(column, where=where)]
        return sum(value for value in values if value is not None) if values else None

    return observed


def share_found(column: str, frame: str, *, where: Where) -> Observer:
    """The least share of atoms found, their number read off the frame's name ("d = 32, m = 64")."""

    def observed(result: ResultFile) -> float | None:
        shares = []
        for row in result.rows(column, frame, where=where):
            count, found = re.search(r"m = ([\d,]+)", row[frame]), number(row[column])
            if count and found is not None:
                shares.append(found / float(count[1].replace(",", "")))
        return min(shares) if shares else None

    return observed


def minutes(pattern: str) -> Observer:
    """Minutes read off the text, where the pattern's groups are minutes and seconds."""

    def observed(result: ResultFile) -> float | None:
        found = re.search(pattern, result.text)
        return int(found[1]) + int(found[2]) / 60 if found else None

    return observed


def _extreme(choose: Callable[[list[float]], float], columns: tuple[str, ...], where: Where | None) -> Observer:
    def observed(result: ResultFile) -> float | None:
        rows = result.rows(*columns, where=where)
        values = [number(row[column]) for row in rows for column in columns]
        known = [value for value in values if value is not None]
        return choose(known) if known else None

    return observed
