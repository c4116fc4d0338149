"""Docstrings as they are written in the code, turned into reStructuredText.

They are plain text with three conventions: names in single backquotes, displayed formulas under `.. math::`, and
references as [key]. Asterisks, bars and trailing underscores mean themselves.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rooms import exported
from sphinx.application import Sphinx

BIBLIOGRAPHY = Path(__file__).parents[1] / "references.bib"
_KEYS = frozenset(re.findall(r"^@\w+\{(\w+),", BIBLIOGRAPHY.read_text(encoding="utf-8"), re.MULTILINE))
_SPAN = re.compile(r"(?<![`:])`([^`\n]+)`(?!`)|:\w+:`[^`]+`|``[^`]+``")
_SPECIAL = re.compile(r"(?<!\\)(\*|\||(?<=[\w)])_(?!\w))")
# Tables of sources name keys without brackets.
_BARE = re.compile(r"(?<![\w`/\[])([a-z]+\d{4}[a-z0-9]+)(?![\w`\]])")
_CITED = re.compile(r"\[([a-z]+\d{4}[a-z0-9]+)\]")
# "name: what it is" and "*args: what they are" in a section of arguments: napoleon escapes the name itself.
_ARGUMENT = re.compile(r"^(\s+\*{0,2}\w+(?:, \w+)*:)(\s.*)?$")
# A name as guides write it: `ufm.certify`, with the package or without.
_NAME = re.compile(r"`(?:tightframe\.)?(ufm|nn|ntk|deeplinear|dictionary|collapse)\.(\w+)`")
_BULLET = re.compile(r"^\s*(?:-|\d+\.) ")


def cited(text: str, role: str) -> str:
    """[key] of a known key as a citation in the syntax of `role`."""
    return _CITED.sub(lambda found: role.format(found[1]) if found[1] in _KEYS else found[0], text)


def _literal(text: str, found: re.Match[str]) -> str:
    if found[1] is None:
        return found[0]
    before = "\\ " if found.start() and text[found.start() - 1].isalnum() else ""
    after = "\\ " if text[found.end() : found.end() + 1].isalnum() else ""
    return f"{before}``{found[1]}``{after}"


def escaped(text: str) -> str:
    """One line of plain text as reStructuredText."""
    pieces, last = [], 0
    for found in _SPAN.finditer(text):
        pieces += [_SPECIAL.sub(r"\\\1", text[last : found.start()]), _literal(text, found)]
        last = found.end()
    pieces.append(_SPECIAL.sub(r"\\\1", text[last:]))
    return cited("".join(pieces), ":cite:p:`{}`")


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _returns(lines: list[str]) -> Iterator[str]:
    """ "Returns:" as a field, so that a colon in the description does not make its first words a type."""
    place = 0
    while place < len(lines):
        if lines[place].strip() != "Returns:":
            yield lines[place]
            place += 1
            continue
        margin = _indent(lines[place])
        place += 1
        body = []
        while place < len(lines) and (not lines[place].strip() or _indent(lines[place]) > margin):
            body.append(lines[place])
            place += 1
        yield " " * margin + ":returns: " + body[0].strip()
        yield from body[1:]


def _spaced(lines: list[str]) -> Iterator[str]:
    """An empty line before a list that follows text, where plain text does without."""
    before = ""
    for line in lines:
        opens = _BULLET.match(line) and before.strip() and not _BULLET.match(before)
        if opens and _indent(before) <= _indent(line) and not before.lstrip().startswith(":"):
            yield ""
        yield line
        before = line


def rewritten(lines: list[str]) -> list[str]:
    """A docstring, line by line."""
    done: list[str] = []
    verbatim: int | None = None
    for line in _returns(list(_spaced(lines))):
        if verbatim is not None and line.strip() and _indent(line) <= verbatim:
            verbatim = None
        if line.lstrip().startswith((".. math::", "..code")) or (line.rstrip().endswith("::") and verbatim is None):
            verbatim = _indent(line)
        elif line.lstrip().startswith(">>>"):
            verbatim = _indent(line) - 1
        elif verbatim is not None and not line.strip() and done and done[-1].lstrip().startswith((">>>", "...")):
            verbatim = None
        if verbatim is not None:
            done.append(line)
            continue
        argument = _ARGUMENT.match(line)
        done.append(argument[1] + escaped(argument[2] or "") if argument else escaped(line))
    return done


def _process(_app: Sphinx, what: str, _name: str, _obj: Any, _options: Any, lines: list[str]) -> None:
    lines[:] = rewritten(lines)
    if what in ("attribute", "data", "property"):
        # Napoleon takes what stands before a colon in the first line of these for their type.
        lines.insert(0, "")


def marked(page: str) -> str:
    """A page in Markdown with its citations, and with links where names that rooms export stand in backquotes."""
    parts = re.split(r"(^```.*?^```$|\{[\w:]+\}`[^`\n]+`|`[^`\n]+`)", page, flags=re.DOTALL | re.MULTILINE)
    parts[::2] = [_named(cited(part, "{{cite:p}}`{}`")) for part in parts[::2]]
    parts[1::2] = [_linked(part) for part in parts[1::2]]
    return "".join(parts)


def _named(text: str) -> str:
    return _BARE.sub(lambda found: f"{{cite:t}}`{found[1]}`" if found[1] in _KEYS else found[0], text)


def _linked(code: str) -> str:
    found = _NAME.fullmatch(code)
    if found is None or found[2] not in exported(f"tightframe.{found[1]}"):
        return code
    return f"{{py:obj}}`{found[1]}.{found[2]} <tightframe.{found[1]}.{found[2]}>`"


def _read(app: Sphinx, name: str, content: list[str]) -> None:
    """Citations of the pages written in Markdown, outside code."""
    if app.env.doc2path(name).suffix != ".md":
        return
    content[0] = marked(content[0])


def setup(app: Sphinx) -> dict[str, bool]:
    """Run before napoleon (priority 500)."""
    app.connect("autodoc-process-docstring", _process, priority=400)
    app.connect("source-read", _read, priority=600)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
