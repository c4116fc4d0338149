"""The table of experiments, from the catalogue: a line `<!-- experiments -->` becomes it."""

from __future__ import annotations

from sphinx.application import Sphinx

from tightframe.experiments.catalog import ROOMS

_MARK = "<!-- experiments -->"


def table() -> str:
    """One line per experiment, room by room."""
    lines = ["| experiment | question | claims |", "| --- | --- | --- |"]
    for room in ROOMS:
        for entry in room.ENTRIES:
            lines.append(f"| `{entry.name}` | {entry.question} | {', '.join(entry.claims)} |")
    return "\n".join(lines)


def _read(_app: Sphinx, _name: str, content: list[str]) -> None:
    content[0] = content[0].replace(_MARK, table())


def setup(app: Sphinx) -> dict[str, bool]:
    """Expand the page as it is read."""
    app.connect("source-read", _read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
