"""One self-contained HTML page from records: no network, every label escaped."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from tightframe.core.errors import InputError
from tightframe.report import figures as drawn
from tightframe.report import ledger, tables
from tightframe.runs.record import Panel, Record, Table
from tightframe.runs.store import write_atomic

MOST_ROWS = 200  # of a table on the page; the record itself holds them all
_TITLE = "tightframe report"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One panel on the page: its specification, or the reason why there is none."""

    number: int
    title: str
    caption: str
    spec: dict[str, Any] | None
    stills: dict[str, Any] | None = None
    failure: str = ""

    @property
    def solid(self) -> bool:
        """Whether the reader can turn it: a motion in space."""
        return bool(self.stills and self.spec["usermeta"]["motion"]["solid"])

    @property
    def height(self) -> int:
        """Room to keep for the chart in pixels, so that the page moves little when it is drawn."""
        if self.spec is None:
            return 0
        if "spec" not in self.spec:
            return self.spec["height"]
        return self.spec["spec"]["height"] * -(-len(self.spec["facet"]["sort"]) // self.spec["columns"])


@dataclass(frozen=True, kw_only=True)
class Listing:
    """One table on the page, cut to its first rows."""

    name: str
    columns: tuple[str, ...]
    numeric: tuple[bool, ...]
    rows: list[tuple[str, ...]]
    size: int

    @property
    def shown(self) -> bool:
        """Whether the reader sees it without asking: short tables, and those with pictures."""
        return self.size <= 20 or any(cell.startswith("data:image/") for cell in self.rows[0])


def render(records: Sequence[Record], *, title: str | None = None) -> str:
    """The page as HTML text.

    A panel that cannot be drawn shows why in its own place; the rest of the page is not lost. A ledger among the
    records becomes the table above all claims, with links to the sections of the others.

    Args:
        records: What to show, in this order.
        title: Heading of the page; by default that of the only record, that of the ledger, or the project's name.

    Raises:
        InputError: There is no record.
    """
    if not records:
        raise InputError("a report shows at least one record", got="none", remedy="Name the runs to report on.")
    gathered = ledger.find(records)
    shown = [record for record in records if record is not gathered]
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    page = Environment(
        loader=PackageLoader("tightframe.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page.filters["duration"] = tables.duration
    sections, first = [], 1
    for record in shown:
        sections.append(_section(record, first=first))
        first += len(record.panels)
    moving = any(panel.kind == "motion" for record in shown for panel in record.panels)
    names = ["motion.js", "page.js"] if moving else ["page.js"]
    scripts = [_vega(), *map(_template, names)] if first > 1 else []
    return page.get_template("page.html.j2").render(
        title=title or (records[0].title if len(records) == 1 else gathered.title if gathered else _TITLE),
        sections=sections,
        ledger=gathered and ledger.lines(gathered, shown),
        answer=gathered.answer if gathered else "",
        claims=tables.claims(shown),
        anchors=_anchors(gathered, shown),
        statements=gathered and ledger.counts(gathered),
        counts=tables.counts(shown),
        environment=tables.environment(shown),
        style=Markup(_template("page.css")),
        scripts=[Markup(script) for script in scripts],
        hashes=" ".join(f"'sha256-{_sha256(script)}'" for script in scripts) or "'none'",
    )


def write(records: Sequence[Record], path: str | Path, *, title: str | None = None, figures: bool = True) -> Path:
    """Write the page to `path`, whole or not at all, and its figures as SVG and PDF into `<stem>_figures` beside it.

    Args:
        records: What to show, in this order.
        path: File to write; missing folders are made.
        title: Heading of the page, as for `render`.
        figures: Whether to save the figures too.

    Returns:
        The path written.

    Raises:
        InputError: There is no record, or `path` is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(
            "a report is written to a file", got=f"the folder {path}", remedy=f"Write {path / 'report.html'}."
        )
    text = render(records, title=title)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError("a folder for the report", got=str(error), remedy="Choose another --output.") from error
    # a label from an undecodable file name holds lone surrogates, which UTF-8 has no bytes for
    write_atomic(path, text.encode("utf-8", errors="xmlcharrefreplace"))
    if figures:
        for record in _distinct(records):
            drawn.save(record, path.with_name(f"{path.stem}_figures"))
    return path


def _anchors(gathered: Record | None, shown: Sequence[Record]) -> dict[int, str]:
    """The statement that the claim at a position is the first of, for the links of the ledger."""
    if gathered is None:
        return {}
    claims = [claim for record in shown for claim in record.claims]
    firsts = {}
    for identifier in gathered.tables["ledger"]["id"]:
        at = next((at for at, claim in enumerate(claims, start=1) if ledger.belongs(claim, identifier)), None)
        if at is not None:
            firsts[at] = identifier
    return firsts


def _section(record: Record, *, first: int) -> dict[str, Any]:
    measured = {"last values": tables.last_values(record)} if record.series["value"] else {}
    return {
        "record": record,
        "counts": tables.counts([record]),
        "figures": [_figure(record, panel, number) for number, panel in enumerate(record.panels, start=first)],
        "settings": tables.configuration(record),
        "listings": [_listing(name, table) for name, table in (measured | record.tables).items() if table],
    }


def _figure(record: Record, panel: Panel, number: int) -> Figure:
    try:
        spec = drawn.chart(record, panel).to_dict()
        stills = drawn.stills(record, panel).to_dict() if panel.kind == "motion" else None
        return Figure(number=number, title=panel.title, caption=drawn.caption(record, panel), spec=spec, stills=stills)
    except InputError as error:
        return Figure(number=number, title=panel.title, caption=panel.caption, spec=None, failure=str(error))


def _listing(name: str, table: Table) -> Listing:
    cells = list(zip(*table.values(), strict=True))
    numeric = tuple(all(not isinstance(cell, str | bool) for cell in column) for column in table.values())
    rows = [tuple(tables.number(cell) for cell in row) for row in cells[:MOST_ROWS]]
    return Listing(name=name, columns=tuple(table), numeric=numeric, rows=rows, size=len(cells))


def _distinct(records: Sequence[Record]) -> list[Record]:
    """The records with the panels that can be drawn, under names that do not overwrite each other's files."""
    names = [drawn.slug(record.name) for record in records]
    kept = []
    for index, record in enumerate(records):
        name = f"{record.name}-{index + 1}" if names.count(names[index]) > 1 else record.name
        panels = tuple(panel for panel in record.panels if not _figure(record, panel, 0).failure)
        kept.append(replace(record, name=name, panels=panels))
    return kept


@cache
def _vega() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script that defines `vegaEmbed` and nothing else."""
    import vl_convert

    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=drawn.vega_lite_version())
    return _inline(f"(() => {{{bundle}\n}})();")


@cache
def _template(name: str) -> str:
    return _inline(files("tightframe.report").joinpath("templates", name).read_text(encoding="utf-8"))


def _inline(script: str) -> str:
    """Text that cannot end the element it stands in; inside strings of JavaScript and CSS it means the same."""
    return re.sub(r"<(?=/script|/style|!--)", r"<\\", script, flags=re.IGNORECASE)


def _sha256(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
