"""The page of benchmarks, from the files that the benchmarks write: a line `<!-- results -->` becomes all of them."""

from __future__ import annotations

import re
from pathlib import Path

from sphinx.application import Sphinx

RESULTS = Path(__file__).parents[2] / "benchmarks/results"
_MARK = "<!-- results -->"
_LINK = re.compile(r"\]\(\.\./benchmarks/results/(\w+)\.md\)")
_COMMAND = re.compile(r"^Command: (`[^`]+`)", re.MULTILINE)


def _anchor(path: Path) -> str:
    return f"results-{path.stem.replace('_', '-')}"


def table(paths: list[Path]) -> str:
    """One line per file: what it measured, and the command that wrote it."""
    lines = ["| results | command |", "| --- | --- |"]
    for path in paths:
        text = path.read_text(encoding="utf-8")
        command = _COMMAND.search(text)
        title = text.splitlines()[0].removeprefix("# ")
        lines.append(f"| [{title}](#{_anchor(path)}) | {command[1] if command else ''} |")
    return "\n".join(lines)


def whole(path: Path) -> str:
    """A file of results as a section of the page."""
    text = re.sub(r"^(#+ )", r"#\1", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return f"({_anchor(path)})=\n{text}"


def _read(app: Sphinx, name: str, content: list[str]) -> None:
    # Pages link to the files, so that the links also lead somewhere in the repository.
    content[0] = _LINK.sub(lambda found: f"](#{_anchor(Path(found[1]))})", content[0])
    if _MARK not in content[0]:
        return
    paths = sorted(RESULTS.glob("*.md"))
    for path in paths:
        app.env.note_dependency(str(path), docname=name)
    pieces = [table(paths), *(whole(path) for path in paths)]
    content[0] = content[0].replace(_MARK, "\n\n".join(pieces))


def setup(app: Sphinx) -> dict[str, bool]:
    """Expand the page as it is read."""
    app.connect("source-read", _read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
