"""`Record`: everything a run leaves behind, and the only thing the report reads."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from tightframe.core.errors import InputError

SCHEMA = 1
SERIES_COLUMNS = ("run", "epoch", "split", "layer", "metric", "value")

Cell = int | float | str | bool | None
Table = dict[str, list[Cell]]
Verdict = Literal["passed", "failed", "not run"]
Relation = Literal["<=", ">=", "=="]

_KINDS = ("curves", "layers", "matrix", "scatter", "motion")
_BELONGS = {
    "value": ("matrix",),
    "z": ("motion",),
    "frame": ("motion",),
    "shape": ("motion",),
    "reference": ("curves", "layers", "scatter"),
}


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One statement of a source, made executable: the verdict follows from the numbers and is never set.

    `observed relation expected` must hold within `tolerance`: `observed <= expected + tolerance`,
    `observed >= expected - tolerance`, or `|observed - expected| <= tolerance`. A claim whose `observed` is
    None was not run (`note` says why), and that is never a pass. An observed value that is not finite fails.

    Args:
        id: Entry of the claims ledger, with an optional part after a dot ("N4.adam").
        statement: What is claimed, in words.
        source: Where it is stated (source, theorem or figure).
        expected: The right-hand side, a number with the unit of `observed`.
        observed: The measured value, or None when the claim was not run.
        relation: How the two compare.
        tolerance: Non-negative slack in the unit of `expected`.
        note: How the number was obtained, or why the claim was not run.
    """

    id: str
    statement: str
    source: str
    expected: float
    observed: float | None
    relation: Relation = "<="
    tolerance: float = 0.0
    note: str = ""

    def __post_init__(self) -> None:
        if self.relation not in ("<=", ">=", "=="):
            raise InputError(
                'a claim\'s relation is "<=", ">=" or "=="',
                got=repr(self.relation),
                remedy="Use one of the three.",
            )
        if not (math.isfinite(self.expected) and self.tolerance >= 0):
            raise InputError(
                "a claim needs a finite expected value and a non-negative tolerance",
                got=f"expected={self.expected}, tolerance={self.tolerance}",
                remedy="State the number the source gives and derive the tolerance.",
            )

    @property
    def verdict(self) -> Verdict:
        """ "passed", "failed" or "not run", computed from the numbers."""
        if self.observed is None:
            return "not run"
        if not math.isfinite(self.observed):
            return "failed"
        difference = self.observed - self.expected
        within = {
            "<=": difference <= self.tolerance,
            ">=": -difference <= self.tolerance,
            "==": abs(difference) <= self.tolerance,
        }
        return "passed" if within[self.relation] else "failed"


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One figure, declared: which table is drawn, and which of its columns goes where.

    Kinds: "curves" (lines over a continuous x), "layers" (lines over an ordered x, in table order),
    "matrix" (a heat map of `value` at row y, column x), "scatter" (points), "motion" (points that move over the
    numbers of `frame`, in the plane or, with `z`, in space).

    `reference` names the column of a prediction: curves, layers and a scatter show it as a dashed line beside the
    measured points. `shape` tells kinds of moving points apart. In a motion every frame lists the same points in
    the same order, and rows whose frame is None stand still.
    """

    kind: Literal["curves", "layers", "matrix", "scatter", "motion"]
    title: str
    caption: str
    table: str
    x: str
    y: str
    color: str | None = None
    facet: str | None = None
    value: str | None = None
    z: str | None = None
    frame: str | None = None
    shape: str | None = None
    reference: str | None = None
    y_scale: Literal["linear", "log"] = "linear"
    x_scale: Literal["linear", "log"] = "linear"
    where: Mapping[str, Cell | Sequence[Cell]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise InputError(
                f"a panel is one of {', '.join(_KINDS)}", got=repr(self.kind), remedy="Use one of these kinds."
            )
        for name, kinds in _BELONGS.items():
            if getattr(self, name) is not None and self.kind not in kinds:
                raise InputError(
                    f"`{name}` of a panel belongs to {', '.join(kinds)} only",
                    got=f"kind={self.kind!r}, {name}={getattr(self, name)!r}",
                    remedy=f"Leave out {name}=.",
                )
        needed = {"matrix": "value", "motion": "frame"}.get(self.kind)
        if needed and getattr(self, needed) is None:
            raise InputError(
                f"a {self.kind} panel names the column of its {needed}s", got="none", remedy=f"Set {needed}=."
            )
        if self.kind == "motion" and "log" in (self.x_scale, self.y_scale):
            raise InputError("the axes of a motion share one linear unit", got="a log scale", remedy="Leave it out.")


@dataclass(frozen=True, kw_only=True)
class Record:
    """Config, environment, series, tables, panels and claims of one run; immutable, plain data, JSON in and out.

    Args:
        name: Short identifier (an experiment's or a job's name).
        title: Heading of its section in the report.
        question: What the run was made to answer.
        answer: One or two sentences computed from the numbers.
        config: Resolved configuration (JSON values).
        preset: Name of the preset the configuration started from, or "".
        preset_config: That preset's configuration, so that the report shows the difference.
        environment: Output of `runs.environment.describe`.
        series: Long table with columns `SERIES_COLUMNS`, one row per measured value.
        tables: Further tables by name; columns of equal length.
        panels: Figures, in the order in which they are shown.
        claims: Executable claims.
        started: ISO 8601 time, UTC.
        seconds: Wall-clock duration.
    """

    name: str
    title: str
    question: str
    answer: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    preset: str = ""
    preset_config: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    series: Table = field(default_factory=lambda: {name: [] for name in SERIES_COLUMNS})
    tables: dict[str, Table] = field(default_factory=dict)
    panels: tuple[Panel, ...] = ()
    claims: tuple[Claim, ...] = ()
    started: str = ""
    seconds: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "panels", tuple(self.panels))
        object.__setattr__(self, "claims", tuple(self.claims))
        if set(self.series) != set(SERIES_COLUMNS):
            raise InputError(
                f"the series of a record has the columns {', '.join(SERIES_COLUMNS)}",
                got=", ".join(self.series) or "none",
                remedy="Build it with `series_table(rows)`.",
            )
        for name, table in {"series": self.series, **self.tables}.items():
            _check_table(name, table)
        for panel in self.panels:
            self._check_panel(panel)

    def table(self, name: str) -> Table:
        """The table called `name`; "series" is the long table of measured values."""
        return self.series if name == "series" else self.tables[name]

    def to_json(self) -> str:
        """Serialise; the verdict of each claim is written beside its numbers for other readers."""
        plain = asdict(self) | {"schema": SCHEMA}
        for claim, entry in zip(self.claims, plain["claims"], strict=True):
            entry["verdict"] = claim.verdict
            if claim.observed is not None and not math.isfinite(claim.observed):
                entry["observed"] = repr(float(claim.observed))
        return json.dumps(plain, allow_nan=False, indent=1, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Record:
        """Read what `to_json` wrote.

        Raises:
            InputError: The text is not JSON, is of another schema, lacks or adds fields, or a stored verdict
                does not follow from its numbers.
        """
        try:
            plain = json.loads(text)
        except json.JSONDecodeError as error:
            raise InputError("a record is a JSON document", got=str(error), remedy=_REWRITE) from error
        if not isinstance(plain, dict) or plain.pop("schema", None) != SCHEMA:
            raise InputError(f"a record of schema {SCHEMA}", got="another document or schema", remedy=_REWRITE)
        known = {entry.name for entry in fields(cls)}
        if not set(plain) <= known:
            raise InputError("only known fields in a record", got=str(sorted(set(plain) - known)), remedy=_REWRITE)
        try:
            plain["claims"] = tuple(_read_claim(entry) for entry in plain.get("claims", ()))
            plain["panels"] = tuple(Panel(**entry) for entry in plain.get("panels", ()))
            return cls(**plain)
        except (TypeError, AttributeError, KeyError) as error:
            raise InputError("a complete record", got=str(error), remedy=_REWRITE) from error

    def _check_panel(self, panel: Panel) -> None:
        if panel.table != "series" and panel.table not in self.tables:
            raise InputError(
                f"panel {panel.title!r} draws a table of its record",
                got=repr(panel.table),
                remedy=f"Use one of {['series', *self.tables]}.",
            )
        columns = self.table(panel.table)
        named = [panel.x, panel.y, panel.z, panel.color, panel.shape, panel.facet, panel.value, panel.frame]
        used = [column for column in (*named, panel.reference, *panel.where) if column]
        missing = [column for column in used if column not in columns]
        if missing:
            raise InputError(
                f"panel {panel.title!r} uses columns of table {panel.table!r}",
                got=f"unknown columns {missing}",
                remedy=f"Use one of {list(columns)}.",
            )


_REWRITE = "Write the run again with this version of tightframe."


def series_table(rows: Sequence[Mapping[str, Cell]]) -> Table:
    """Turn rows with the keys `SERIES_COLUMNS` into the long table of a record."""
    return {column: [row[column] for row in rows] for column in SERIES_COLUMNS}


def table_of(rows: Sequence[Mapping[str, Cell]]) -> Table:
    """Columns from rows; a value that a row lacks is None."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _check_table(name: str, table: Table) -> None:
    lengths = {column: len(values) for column, values in table.items()}
    if len(set(lengths.values())) > 1:
        raise InputError(
            f"the columns of table {name!r} have one length",
            got=str(lengths),
            remedy="Fill the short columns with None.",
        )
    for column, values in table.items():
        bad = next((v for v in values if not _is_cell(v)), _FINE)
        if bad is not _FINE:
            raise InputError(
                f"cells of {name}.{column} are finite numbers, strings, booleans or None",
                got=f"{bad!r} of type {type(bad).__name__}",
                remedy="Convert tensors with .item() and write None where a value is undefined.",
            )


_FINE = object()


def _is_cell(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, int | str | bool)


def _read_claim(entry: dict[str, Any]) -> Claim:
    stated = entry.pop("verdict", None)
    if isinstance(entry.get("observed"), str):
        entry["observed"] = float(entry["observed"])
    claim = Claim(**entry)
    if stated != claim.verdict:
        raise InputError(
            f"the verdict of claim {claim.id} follows from its numbers",
            got=f"{stated!r} where the numbers give {claim.verdict!r}",
            remedy=_REWRITE,
        )
    return claim
