"""From a declared `Panel` to an Altair chart, and from a record to SVG and PDF files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tightframe.report import channels, motion
from tightframe.report.drawing import Drawing, caption, draw
from tightframe.runs.record import Panel, Record

if TYPE_CHECKING:
    import altair as alt

__all__ = ["caption", "chart", "save", "vega_lite_version"]

SAVED_WIDTH = 640
FACET_WIDTH, FACET_HEIGHT = 270, 220
MOST_COLUMNS = 3
# A bare wheel and a finger scroll the page, so only the mouse moves a chart and only shift-wheel zooms it.
_MOVE = "[mousedown, window:mouseup] > window:mousemove!"
_ZOOM = "wheel![event.shiftKey]"


def chart(record: Record, panel: Panel) -> alt.Chart | alt.LayerChart | alt.FacetChart:
    """Draw one panel.

    Lines carry a dash pattern where a column "split" varies, and there is one line per value of every other
    varying column of labels; a "layers" panel whose table has a column "fit" shows it as a dashed line beside
    the measured points. A click on a legend entry highlights it; the mouse moves the axes, and with the shift
    key held its wheel zooms.

    Args:
        record: The record that holds the panel's table.
        panel: What to draw.

    Returns:
        A chart without a title; its width is "container" where Vega-Lite allows that.

    Raises:
        InputError: No row, or no defined value, is left after the panel's `where`; or a column that must hold
            numbers does not.
    """
    drawing = draw(record, panel)
    build = {"curves": _lines, "layers": _lines, "matrix": _matrix, "scatter": _scatter, "motion": motion.animation}
    return _finished(build[panel.kind](panel, drawing), panel)


def stills(record: Record, panel: Panel) -> alt.FacetChart:
    """Draw a motion as pictures of its first frame, one in the middle and the last.

    Raises:
        InputError: As for `chart`.
    """
    return _finished(motion.stills(panel, draw(record, panel)), panel)


def save(record: Record, directory: str | Path) -> list[Path]:
    """Write every panel of `record` as SVG and as PDF, named `<record>-<number>-<title>`.

    Returns:
        The files written, in the order of the panels.

    Raises:
        InputError: As for `chart`.
    """
    import altair as alt
    import vl_convert

    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    version = vega_lite_version()
    written: list[Path] = []
    for number, panel in enumerate(record.panels, start=1):
        draws = stills if panel.kind == "motion" else chart
        drawn = draws(record, panel).properties(title=panel.title)
        if not isinstance(drawn, alt.FacetChart) and panel.kind != "matrix":
            drawn = drawn.properties(width=SAVED_WIDTH)
        spec = drawn.to_dict()
        path = directory / f"{slug(record.name)}-{number:02d}-{slug(panel.title)}.svg"
        path.write_text(vl_convert.vegalite_to_svg(spec, vl_version=version), encoding="utf-8")
        path.with_suffix(".pdf").write_bytes(vl_convert.vegalite_to_pdf(spec, vl_version=version))
        written += [path, path.with_suffix(".pdf")]
    return written


def vega_lite_version() -> str:
    """The Vega-Lite release the installed Altair writes, as vl-convert names it ("6.4")."""
    import altair as alt

    return ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])


def slug(text: str) -> str:
    """Letters and digits of `text` joined by hyphens: safe as the name of a file on every system.

    >>> slug("NC1, by layer: ../../x")
    'nc1-by-layer-x'
    """
    return "-".join(re.findall(r"[a-z0-9]+", text.lower()))[:60] or "figure"


def _finished(view: Any, panel: Panel) -> Any:
    return view.properties(description=f"{panel.title}. {panel.caption}").configure(**channels.THEME)


def _lines(panel: Panel, drawing: Drawing) -> alt.LayerChart | alt.FacetChart:
    import altair as alt

    legend, fade = channels.highlight(drawing)
    x, y = channels.axis(panel, drawing, "x"), channels.axis(panel, drawing, "y")
    shared: dict[str, Any] = {"x": x, "y": y, "opacity": fade}
    if "color" in drawing.titles:
        shared["color"] = channels.color(drawing)
    if parts := channels.details(drawing):
        shared["detail"] = parts
    dash = {"strokeDash": channels.dash(drawing)} if "dash" in drawing.titles else {}
    base = alt.Chart()
    ink = {} if "color" in shared else {"color": channels.FEW[0]}
    crowded = len({row["x"] for row in drawing.rows}) > 60
    line = base.mark_line(strokeWidth=1.75, clip=True, **ink).encode(**shared, **dash)
    # on a crowded line the points are only there to be pointed at, unless they stand beside their prediction
    seen = {"opacity": alt.value(0)} if crowded and panel.reference is None else {}
    points = base.mark_point(filled=True, size=38, clip=True, **ink).encode(
        **shared | seen, tooltip=channels.tooltip(drawing)
    )
    layers = [line, points]
    if "fit" in drawing.titles:
        layers[0] = _prediction(panel, drawing, shared)
    # an axis of names has no scale to move
    axes = ["y"] if "x" in drawing.orders else ["x", "y"]
    zoom = alt.selection_interval(name="move", bind="scales", encodings=axes, translate=_MOVE, zoom=_ZOOM)
    stack = alt.layer(*layers).add_params(zoom, *legend)
    return _placed(stack, panel, drawing, height=320)


def _scatter(panel: Panel, drawing: Drawing) -> alt.Chart | alt.FacetChart:
    import altair as alt

    legend, fade = channels.highlight(drawing, full=0.85 if "fit" in drawing.titles else 0.55)
    shared: dict[str, Any] = {"x": channels.axis(panel, drawing, "x"), "y": channels.axis(panel, drawing, "y")}
    if "color" in drawing.titles:
        shared["color"] = channels.color(drawing)
    ink = {} if "color" in shared else {"color": channels.FEW[0]}
    size = 48 if "fit" in drawing.titles else 22
    points = alt.Chart().mark_point(filled=True, size=size, **ink)
    stack = points.encode(**shared, opacity=fade, tooltip=channels.tooltip(drawing))
    if "fit" in drawing.titles:
        _, clear = channels.highlight(drawing)
        stack = alt.layer(_prediction(panel, drawing, shared | {"opacity": clear}), stack)
    if "facet" in drawing.titles:
        return _placed(stack.add_params(*legend), panel, drawing, height=FACET_WIDTH)
    zoom = alt.selection_interval(name="move", bind="scales", translate=_MOVE, zoom=_ZOOM)
    return _placed(stack.add_params(zoom, *legend), panel, drawing, height=400)


def _prediction(panel: Panel, drawing: Drawing, shared: dict[str, Any]) -> alt.Chart:
    """The predicted values as a dashed line, for the measured points to stand on."""
    import altair as alt

    ink = {} if "color" in shared else {"color": channels.FEW[0]}
    y = channels.axis(panel, drawing, "y", field="fit")
    line = alt.Chart().mark_line(strokeWidth=1.25, strokeDash=[5, 4], clip=True, **ink)
    if panel.reference:
        line = line.transform_calculate(reference=json.dumps(drawing.titles["fit"]))
    return line.encode(**shared | {"y": y} | channels.predicted(panel, drawing))


def _matrix(panel: Panel, drawing: Drawing) -> alt.Chart | alt.FacetChart:
    import altair as alt

    largest = max((abs(row["value"]) for row in drawing.rows if row["value"] is not None), default=0.0) or 1.0
    scale = alt.Scale(domain=[-largest, largest], range=list(channels.DIVERGING), interpolate="lab")
    cells = (
        alt.Chart()
        .mark_rect()
        .encode(
            x=channels.axis(panel, drawing, "x"),
            y=channels.axis(panel, drawing, "y"),
            color=alt.Color(
                "value:Q", title=panel.value, scale=scale, legend=alt.Legend(gradientLength=180, format="~g")
            ),
            tooltip=channels.tooltip(drawing),
        )
    )
    shape = len(drawing.orders["y"]) / len(drawing.orders["x"])
    width = FACET_WIDTH if "facet" in drawing.titles else 1.4 * FACET_WIDTH
    # the height of a cell follows its width: the matrix is square when its table is
    return _placed(cells, panel, drawing, width=round(width), height=round(width * shape))


def _placed(view: Any, panel: Panel, drawing: Drawing, *, height: int, width: int | None = None) -> Any:
    """Give the view its data and size, once or side by side."""
    import altair as alt

    data = alt.InlineData(values=drawing.rows)
    if "facet" not in drawing.titles:
        return view.properties(data=data, width=width or "container", height=height)
    names = drawing.orders["facet"]
    sized = view.properties(
        width=width or FACET_WIDTH, height=height if width or height == FACET_WIDTH else FACET_HEIGHT
    )
    rows = -(-len(names) // MOST_COLUMNS)
    return sized.facet(alt.Facet("facet:N", sort=names, title=None), columns=-(-len(names) // rows), data=data)
