"""What a panel draws, before any mark is chosen: its rows selected, checked, ordered and thinned."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tightframe.core.errors import InputError
from tightframe.runs.record import Cell, Panel, Record, Table

MOST_POINTS = 4000  # of one drawing: more make a page of SVG slow and tell the eye nothing
MOST_MOVING = 8000  # over all frames of a motion, which shows one frame at a time
MOST_CLASSES = 100  # rows and columns of a matrix, for the same reason

_NUMERIC = {
    "curves": ("x", "y", "fit"),
    "layers": ("y", "fit"),
    "matrix": ("value",),
    "scatter": ("x", "y", "fit"),
    "motion": ("x", "y", "z", "frame"),
}

Rows = list[dict[str, Cell]]


@dataclass(frozen=True)
class Drawing:
    """The rows of a panel under the names of their roles ("x", "y", "color", ...), ready to be drawn.

    Args:
        rows: One mapping from role to cell per mark. Columns are renamed to roles because a dot or a bracket
            in the name of a field means something to Vega-Lite.
        titles: The column each role stands for.
        orders: The labels of each categorical role, in the order in which they are shown.
        ordinal_color: Whether the colours stand for ordered numbers (epochs) rather than for names.
        logs: The axes ("x", "y") that are drawn on a logarithmic scale.
        notes: What the drawing leaves out or changes, in sentences.
    """

    rows: Rows
    titles: dict[str, str]
    orders: dict[str, list[str]]
    ordinal_color: bool
    logs: frozenset[str]
    notes: tuple[str, ...]


def draw(record: Record, panel: Panel) -> Drawing:
    """Select, check and order the rows of one panel.

    Args:
        record: The record that holds the panel's table.
        panel: What to draw.

    Raises:
        InputError: No row, or no defined value, is left after the panel's `where`; or a column that must hold
            numbers does not.
    """
    table = record.table(panel.table)
    size = len(table[panel.x])
    kept = [i for i in range(size) if all(_matches(table[name][i], want) for name, want in panel.where.items())]
    if not kept:
        raise InputError(
            f"panel {panel.title!r} has at least one row to draw",
            got=f"none among the {size} rows of table {panel.table!r} with where={dict(panel.where)}",
            remedy="Correct the panel's `where`, or leave the panel out.",
        )
    titles = _roles(panel, table, kept)
    rows: Rows = [{role: table[name][i] for role, name in titles.items()} for i in kept]
    numeric = tuple(role for role in _NUMERIC[panel.kind] if role in titles)
    for role in numeric:
        _check_numbers(panel, titles[role], (row[role] for row in rows))
    if panel.facet and all(_is_number(row["facet"]) for row in rows):
        rows = [row | {"facet": f"{panel.facet} {label(row['facet'])}"} for row in rows]  # a bare number says nothing
    _check_defined(panel, rows, numeric)
    ordinal = panel.kind in ("curves", "layers") and all(_is_number(row.get("color")) for row in rows)
    orders = {role: _order(rows, role, ascending=ordinal and role == "color") for role in titles if role not in numeric}
    rows = [{role: cell if role in numeric else label(cell) for role, cell in row.items()} for row in rows]
    rows, orders, thinned = _thin(panel, rows, orders)
    rows, logs, blanked = _blank(panel, rows, numeric)
    shown = {role: _printable(name) for role, name in titles.items()}
    return Drawing(rows, shown, orders, ordinal, logs, (*thinned, *blanked))


def caption(record: Record, panel: Panel) -> str:
    """The panel's caption, followed by what its drawing leaves out.

    Raises:
        InputError: As for `draw`.
    """
    return " ".join([panel.caption, *draw(record, panel).notes]).strip()


def label(cell: Cell) -> str:
    """A cell as the name of a category.

    >>> [label(cell) for cell in ("dog", 3, 0.5, True, None)]
    ['dog', '3', '0.5', 'true', '–']
    """
    if cell is None:
        return "–"
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float):
        return f"{cell:.6g}"
    # a lone surrogate, as undecodable file names leave behind, cannot be drawn
    return str(cell).encode("utf-8", "replace").decode()


def _roles(panel: Panel, table: Table, kept: list[int]) -> dict[str, str]:
    named = {"x": panel.x, "y": panel.y, "z": panel.z, "frame": panel.frame, "color": panel.color}
    named |= {"shape": panel.shape, "facet": panel.facet, "value": panel.value, "fit": panel.reference}
    roles = {role: column for role, column in named.items() if column}
    if panel.kind in ("curves", "layers"):
        # every other label that varies starts a line of its own: joining its values would draw a zigzag
        others = [c for c in table if c not in roles.values() and _separates([table[c][i] for i in kept])]
        roles |= {"dash" if c == "split" else f"line{i}": c for i, c in enumerate(others)}
        if panel.kind == "layers" and "fit" in table:
            roles.setdefault("fit", "fit")
    return roles


def _thin(panel: Panel, rows: Rows, orders: dict[str, list[str]]) -> tuple[Rows, dict[str, list[str]], list[str]]:
    """Leave out evenly what is too much to draw, and say so."""
    if panel.kind == "matrix":
        notes = []
        for role, word in (("y", "rows"), ("x", "columns")):
            if (size := len(orders[role])) > MOST_CLASSES:
                orders = orders | {role: orders[role][:MOST_CLASSES]}
                notes.append(f"The first {MOST_CLASSES} of {size} {word} are drawn.")
        rows_in, columns_in = set(orders["y"]), set(orders["x"])
        return [row for row in rows if row["y"] in rows_in and row["x"] in columns_in], orders, notes
    moving = panel.kind == "motion"
    step = -(-len(rows) // (MOST_MOVING if moving else MOST_POINTS))
    if step == 1 or panel.kind == "layers":
        return rows, orders, []
    if panel.kind == "scatter":
        return rows[::step], orders, [f"One in {step} of the {len(rows)} points is drawn."]
    along, column = ("frame", panel.frame) if moving else ("x", panel.x)
    places = sorted({row[along] for row in rows if row[along] is not None})
    shown = {*places[::step], *places[-1:]} | ({None} if moving else set())
    note = f"One in {step} of the {len(places)} values of {column} is drawn."
    return [row for row in rows if row[along] in shown], orders, [note]


def _blank(panel: Panel, rows: Rows, numeric: tuple[str, ...]) -> tuple[Rows, frozenset[str], list[str]]:
    """Put None for what a log scale cannot show: that interrupts a line, where leaving it out would bridge the gap."""
    notes, logs = [], []
    if undefined := sum(not _is_defined(panel, row, numeric) for row in rows):
        notes.append(f"{undefined} {'value is' if undefined == 1 else 'values are'} undefined and not drawn.")
    for axis, scale in (("x", panel.x_scale), ("y", panel.y_scale)):
        if scale != "log" or axis not in numeric:
            continue
        if not any(_is_positive(row[axis]) for row in rows):
            notes.append(f"No {axis} value is above zero, so the {axis} scale is linear.")
            continue
        logs.append(axis)
        low = sum(row[axis] is not None and not _is_positive(row[axis]) for row in rows)
        if low:
            values = "value at or below zero is" if low == 1 else "values at or below zero are"
            notes.append(f"{low} {values} not drawn on the log scale.")
        drawn = {axis, "fit"} if axis == "y" else {axis}
        rows = [
            {role: None if role in drawn and not _is_positive(cell) else cell for role, cell in row.items()}
            for row in rows
        ]
    return rows, frozenset(logs), notes


def _matches(cell: Cell, wanted: object) -> bool:
    return cell in wanted if isinstance(wanted, list | tuple | set | frozenset) else cell == wanted


def _separates(cells: list[Cell]) -> bool:
    return any(isinstance(cell, str | bool) for cell in cells) and len(set(cells)) > 1


def _order(rows: Rows, role: str, *, ascending: bool) -> list[str]:
    distinct = list(dict.fromkeys(row[role] for row in rows))
    if ascending:
        distinct.sort()
    return list(dict.fromkeys(label(cell) for cell in distinct))


def _check_numbers(panel: Panel, column: str, cells: Iterable[Cell]) -> None:
    bad = next((cell for cell in cells if cell is not None and not _is_number(cell)), None)
    if bad is not None:
        raise InputError(
            f"panel {panel.title!r} of kind {panel.kind!r} draws numbers from column {column!r}",
            got=repr(bad),
            remedy="Name a column of numbers, or use another kind of panel.",
        )


def _check_defined(panel: Panel, rows: Rows, numeric: tuple[str, ...]) -> None:
    if not any(_is_defined(panel, row, numeric) for row in rows):
        raise InputError(
            f"panel {panel.title!r} has at least one defined value to draw",
            got=f"{len(rows)} rows of table {panel.table!r}, each with an undefined value",
            remedy="Leave the panel out, or record the values.",
        )


def _is_defined(panel: Panel, row: dict[str, Cell], numeric: tuple[str, ...]) -> bool:
    # a prediction may be drawn on a finer grid than what was measured; a point without a frame stands still
    spared = {"fit", "frame", "y"} if panel.reference and row["fit"] is not None else {"fit", "frame"}
    return all(row[role] is not None for role in numeric if role not in spared)


def _printable(name: str) -> str:
    # Vega-Lite writes titles into expressions, and does not quote a backslash or the end of a line there
    return "".join("∖" if c == "\\" else c if c.isprintable() else " " for c in name)


def _is_number(cell: Cell) -> bool:
    return isinstance(cell, int | float) and not isinstance(cell, bool)


def _is_positive(cell: Cell) -> bool:
    return _is_number(cell) and cell > 0
