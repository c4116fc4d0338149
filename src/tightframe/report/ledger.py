"""The ledger of a report: statement by statement whether it holds, from a record and those it was gathered from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tightframe.report import tables
from tightframe.runs.record import Cell, Claim, Record, Verdict
from tightframe.runs.series import rows_of

NAME = "claims"
# Of the table "ledger" of such a record, a row for every statement; "experiments" are names with commas between.
COLUMNS = (
    "id",
    "subject",
    "statement",
    "source",
    "verdict",
    *tables.VERDICTS,
    "seconds",
    "experiments",
    "note",
)


@dataclass(frozen=True, kw_only=True)
class Line:
    """One statement as the page shows it; `links` are titles with the positions of their sections, None for none."""

    id: str
    subject: str
    statement: str
    source: str
    verdict: Verdict
    tally: dict[Verdict, int]
    took: str
    links: tuple[tuple[str, int | None], ...]
    note: str


def find(records: Sequence[Record]) -> Record | None:
    """The first record that is a ledger."""
    return next((r for r in records if r.name == NAME and set(COLUMNS) <= set(r.tables.get("ledger", ()))), None)


def lines(ledger: Record, records: Sequence[Record]) -> list[Line]:
    """The statements of a ledger, with links to the sections of the other records."""
    sections = {record.name: (record.title, place) for place, record in enumerate(records, start=1)}
    return [
        Line(
            **{name: row[name] for name in ("id", "subject", "statement", "source", "verdict", "note")},
            tally={verdict: row[verdict] for verdict in tables.VERDICTS},
            took=_took(row["seconds"]),
            links=tuple(sections.get(name, (name, None)) for name in _names(row)),
        )
        for row in rows_of(ledger.tables["ledger"])
    ]


def counts(ledger: Record) -> dict[Verdict, int]:
    """How many statements passed, failed and were not run."""
    verdicts = ledger.tables["ledger"]["verdict"]
    return {verdict: verdicts.count(verdict) for verdict in tables.VERDICTS}


def statement_of(claim: Claim) -> str:
    """The id of the statement that a claim makes executable.

    >>> statement_of(Claim(id="N4.adam", statement="", source="", expected=0, observed=0))
    'N4'
    """
    return claim.id.partition(".")[0]


def belongs(claim: Claim, identifier: str) -> bool:
    """Whether a claim is one of a statement: "N4.adam" is of "N4", and of no other.

    >>> belongs(Claim(id="N12.law", statement="", source="", expected=0, observed=0), "N1")
    False
    """
    return statement_of(claim) == identifier


def markdown(ledger: Record, records: Sequence[Record], *, sources: Mapping[str, str]) -> str:
    """The ledger as a page of Markdown: every statement, and below them the claims that make it executable.

    Args:
        ledger: The record of the ledger.
        records: The records it was gathered from.
        sources: What the abbreviations of the sources stand for.
    """
    text = [f"# {ledger.title}", ledger.answer, _about(ledger)]
    text.append(_table(("source", "what it is"), [(short, _text(long)) for short, long in sources.items()]))
    rows = list(rows_of(ledger.tables["ledger"]))
    for subject in dict.fromkeys(row["subject"] for row in rows):
        text += [f"## {subject}", _summary([row for row in rows if row["subject"] == subject])]
    text.append("## Every claim")
    for row in rows:
        if claims := [claim for record in records for claim in record.claims if belongs(claim, row["id"])]:
            text += [f"### {row['id']}", _claims(claims)]
    return "\n\n".join(text) + "\n"


def _about(ledger: Record) -> str:
    named = [key for key in ("tightframe", "torch", "python") if key in ledger.environment]
    versions = ", ".join(f"{key} {ledger.environment[key]}" for key in named)
    gathered = f", gathered with {versions}" if versions else ""
    return (
        f"Preset {ledger.preset}: `tightframe claims --preset {ledger.preset}`{gathered}. A statement passed if all "
        "its claims did; one that was not run is not a pass. Times are those of the experiments that judge it, which "
        "may judge others too."
    )


def _summary(rows: Sequence[Mapping[str, Cell]]) -> str:
    head = ("id", "statement", "source", "verdict", *tables.VERDICTS, "time", "experiments")
    shown = []
    for row in rows:
        said = f"{row['statement']} ({row['note']})" if row["note"] else row["statement"]
        identifier = f"[{row['id']}](#{row['id'].lower()})" if _judged(row) else row["id"]
        tally = [str(row[verdict]) for verdict in tables.VERDICTS]
        names = ", ".join(map(_code, _names(row)))
        cells = (identifier, _text(said), _text(row["source"]), _marked(row["verdict"]), *tally)
        shown.append((*cells, _took(row["seconds"]), names))
    return _table(head, shown)


def _claims(claims: Sequence[Claim]) -> str:
    head = ("claim", "statement", "source", "expected", "tolerance", "observed", "verdict")
    return _table(
        head,
        [
            (
                _code(claim.id),
                _text(claim.statement + (f" ({claim.note})" if claim.note and claim.verdict != "passed" else "")),
                _text(claim.source),
                f"{tables.SIGNS[claim.relation]} {tables.number(claim.expected)}",
                tables.number(claim.tolerance),
                tables.observed(claim),
                _marked(claim.verdict),
            )
            for claim in claims
        ],
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def _text(text: str) -> str:
    """Words that cannot end their cell, nor begin a tag, a formula, code or an emphasis."""
    return "".join(f"\\{letter}" if letter in "\\|<$`*_" else letter for letter in " ".join(text.split()))


def _code(name: str) -> str:
    return f"`{name.replace('|', '-').replace('`', '-')}`"


def _marked(verdict: Verdict) -> str:
    return verdict if verdict == "passed" else f"**{verdict}**"


def _names(row: Mapping[str, Cell]) -> list[str]:
    return [name for name in row["experiments"].split(", ") if name]


def _judged(row: Mapping[str, Cell]) -> bool:
    return any(row[verdict] for verdict in tables.VERDICTS)


def _took(seconds: Cell) -> str:
    return tables.duration(seconds) if seconds else "–"
