"""Reference pages, from what each room exports: a page `.. room:: tightframe.ufm` becomes its whole reference."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

from sphinx.application import Sphinx

DOOR = "tightframe"
_ROOM = re.compile(r"^\.\. room:: ([\w.]+)$", re.MULTILINE)
# Methods that scikit-learn adds to every estimator, with docstrings that refer to its own pages.
_ROUTING = re.compile(r"set_\w+_request|get_metadata_routing")


def exported(room: str) -> dict[str, Any]:
    """Names that a room exports, with what they stand for."""
    package = importlib.import_module(room)
    return {name: getattr(package, name) for name in getattr(package, "__all__", ())}


def modules(room: str) -> Iterator[str]:
    """Public modules of a room, in order; of the front door none, as each room has a page."""
    package = importlib.import_module(room)
    if room == DOOR or not hasattr(package, "__path__"):
        return
    for found in pkgutil.walk_packages(package.__path__, f"{room}."):
        private = any(part.startswith("_") for part in found.name.split("."))
        if not found.ispkg and not private:
            yield found.name


def _summary(names: list[str]) -> list[str]:
    listed = [f"   {name}" for name in names]
    return [".. autosummary::", "   :nosignatures:", "", *listed, ""] if names else []


def _described(room: str, name: str, value: Any) -> list[str]:
    if not isinstance(value, type):
        return [f".. autofunction:: {room}.{name}", ""]
    kind = "autoexception" if issubclass(value, BaseException) else "autoclass"
    return [f".. {kind}:: {room}.{name}", "   :members:", ""]


def _module(room: str, module: str) -> list[str]:
    """A module without what is described under the name by which its room, or the door, exports it."""
    title, held = module.removeprefix(f"{room}."), importlib.import_module(module)
    lines = [title, "-" * len(title), "", f".. automodule:: {module}", "   :members:"]
    elsewhere = {
        name: place
        for place in (DOOR, room)
        for name, value in exported(place).items()
        if getattr(held, name, None) is value
    }
    if elsewhere:
        lines.append(f"   :exclude-members: {', '.join(elsewhere)}")
    lines.append("")
    own = sorted(name for name in elsewhere if getattr(held, name).__module__ == module)
    if own:
        links = ", ".join(f":py:obj:`{name} <{elsewhere[name]}.{name}>`" for name in own)
        lines += [f"Exported from here: {links}.", ""]
    return lines


def page(room: str) -> str:
    """reStructuredText of the reference of one room."""
    names = exported(room)
    lines = [f".. automodule:: {room}", "   :no-members:", "", *_summary(list(names))]
    for name, value in names.items():
        lines += _described(room, name, value)
    for module in modules(room):
        lines += _module(room, module)
    return "\n".join(lines)


def _read(_app: Sphinx, _name: str, content: list[str]) -> None:
    content[0] = _ROOM.sub(lambda found: page(found[1]), content[0])


def _skip(_app: Sphinx, _what: str, name: str, _value: Any, _skipped: bool, _options: Any) -> bool | None:
    return True if _ROUTING.fullmatch(name) else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Expand the pages as they are read."""
    app.connect("source-read", _read)
    app.connect("autodoc-skip-member", _skip)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
