"""A bar: a number that the project set itself to reach, judged by a result file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.races.observed import Observer
from benchmarks.reading import MissingTableError, ResultFile

from tightframe.runs.record import Claim, Relation

# A load average from which on a figure comes with a remark.
BUSY = 4.0


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A number to reach; `observed` reads it off the result file `result`, and None means that no table holds it.

    `note` says how the bar is read where its words leave a choice, or what else measures it.
    """

    id: str
    statement: str
    relation: Relation
    expected: float
    result: str = ""
    observed: Observer | None = None
    note: str = ""

    def judged(self, results: Mapping[str, ResultFile]) -> Claim:
        """The bar beside what was measured."""
        result, found, notes = results.get(self.result), None, [self.note]
        if result is not None and self.observed is not None:
            try:
                found = self.observed(result)
            except MissingTableError:
                notes.append("that part of the benchmark was not run")
        if result is not None and found is not None and result.load > BUSY:
            notes.append(f"measured beside other work, load {result.load:g}")
        return Claim(
            id=self.id,
            statement=self.statement,
            source=f"{self.result}.md" if self.result else "no table",
            expected=self.expected,
            observed=found,
            relation=self.relation,
            note="; ".join(filter(None, notes)),
        )


def bar(
    name: str, statement: str, relation: Relation, expected: float, result: str, observed: Observer, note: str = ""
) -> Bar:
    """A bar whose figure stands in a result file."""
    return Bar(
        id=name,
        statement=statement,
        relation=relation,
        expected=expected,
        result=result,
        observed=observed,
        note=note,
    )


def elsewhere(name: str, statement: str, relation: Relation, expected: float, note: str) -> Bar:
    """A bar that no result file holds."""
    return Bar(id=name, statement=statement, relation=relation, expected=expected, note=note)
