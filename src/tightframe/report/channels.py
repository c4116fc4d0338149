"""How the roles of a drawing become axes, colours, dashes and tooltips; and the theme of every chart."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from tightframe.report.drawing import Drawing
from tightframe.report.tables import SUPERSCRIPTS
from tightframe.runs.record import Panel

if TYPE_CHECKING:
    import altair as alt

# Okabe and Ito's colours without yellow, which is lost on white; Tol's "muted" set for up to ten classes.
FEW = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#4d4d4d")
TEN = ("#332288", "#88ccee", "#44aa99", "#117733", "#999933", "#ddcc77", "#cc6677", "#882255", "#aa4499", "#888888")
DIVERGING = ("#a34400", "#d9813f", "#f3cba9", "#f7f6f3", "#b3d3ea", "#4f99cd", "#00508a")
INK, SOFT, LINE, RULE = "#22262b", "#59616a", "#9aa1a8", "#e6e8ea"
SANS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'Liberation Sans', Arial, sans-serif"

SHAPES = ("circle", "diamond", "square", "triangle-up", "triangle-down", "cross")

FADED = 0.1
LEGEND_WIDTH = 640

_AXIS = {
    "domainColor": LINE,
    "gridColor": RULE,
    "labelColor": SOFT,
    "labelFontSize": 12,
    "labelLimit": 150,
    "labelOverlap": "greedy",
    "labelSeparation": 6,
    "tickColor": LINE,
    "tickSize": 4,
    "titleColor": INK,
    "titleFontSize": 12,
    "titleFontWeight": "normal",
    "titlePadding": 8,
}
_LEGEND = {
    "orient": "top",
    "direction": "horizontal",
    "labelColor": INK,
    "labelFontSize": 12,
    "labelLimit": 220,
    "titleColor": SOFT,
    "titleFontSize": 12,
    "titleFontWeight": "normal",
    "symbolLimit": 40,
    "offset": 12,
}
THEME: dict[str, Any] = {
    "font": SANS,
    "view": {"stroke": None},
    "axis": _AXIS,
    "legend": _LEGEND,
    "header": {"labelColor": INK, "labelFontSize": 13, "labelFontWeight": 600, "title": None},
    "title": {"anchor": "start", "color": INK, "fontSize": 15, "fontWeight": 600, "offset": 14},
}


def axis(panel: Panel, drawing: Drawing, role: str, *, field: str = "") -> Any:
    """The x or y channel of `role`; with `field`, another column on the same axis."""
    import altair as alt

    channel = {"x": alt.X, "y": alt.Y}[role]
    title = drawing.titles[role]
    metric = panel.where.get("metric")
    if title == "value" and isinstance(metric, str):
        title = metric
    if role in drawing.orders:
        names = drawing.orders[role]
        tilt = -40 if role == "x" and len(names) * max(map(len, names)) > 60 else 0
        # names of layers differ at their end
        text = "length(datum.label) > 20 ? '…' + slice(datum.label, -19) : datum.label"
        ticks = alt.Axis(labelAngle=tilt, labelExpr=text, grid=False, ticks=False)
        return channel(f"{role}:O", title=title, sort=names, axis=ticks)
    shown = (role, "fit") if role == "y" else (role,)
    cells = [row[name] for row in drawing.rows for name in shown if row.get(name) is not None]
    log = role in drawing.logs
    kind = {"type": "log"} if log else {"type": "linear", "zero": False}
    # padding keeps the outermost points from being cut in half
    scale = alt.Scale(**kind, **_domain(cells, log=log), nice=False, padding=8)
    ticks = _decades(cells) if log else alt.Axis(tickCount=8 if role == "x" else 6)
    return channel(f"{field or role}:Q", title=title, scale=scale, axis=ticks)


def color(drawing: Drawing) -> alt.Color:
    """Colours of names, told apart by colour-blind readers; of ordered numbers, a ramp."""
    import altair as alt

    names = drawing.orders["color"]
    if drawing.ordinal_color:
        scale = alt.Scale(domain=names, scheme=alt.SchemeParams(name="viridis", extent=[0, 0.88]))
    elif len(names) <= len(TEN):
        scale = alt.Scale(domain=names, range=list(FEW if len(names) <= len(FEW) else TEN))
    else:
        scale = alt.Scale(domain=names, scheme="turbo")
    legend = alt.Legend(columns=_columns(names), symbolOpacity=1, symbolType="circle", symbolSize=70)
    return alt.Color("color:N", title=drawing.titles["color"], sort=names, scale=scale, legend=legend)


def dash(drawing: Drawing) -> alt.StrokeDash:
    """A dash pattern per split."""
    import altair as alt

    names = drawing.orders["dash"]
    patterns = [[1, 0], [5, 3], [1.5, 2.5], [8, 3, 1.5, 3]]
    scale = alt.Scale(domain=names, range=[patterns[i % len(patterns)] for i in range(len(names))])
    legend = alt.Legend(columns=_columns(names), symbolType="stroke", symbolSize=300, symbolStrokeColor=INK)
    return alt.StrokeDash("dash:N", title=drawing.titles["dash"], sort=names, scale=scale, legend=legend)


def predicted(panel: Panel, drawing: Drawing) -> dict[str, Any]:
    """Which points the line of predictions joins and, for a column that the panel names, its entry in the legend."""
    import altair as alt

    if "dash" in drawing.titles:  # dashes tell splits apart there
        return {"detail": [alt.Detail("dash", type="nominal"), *details(drawing)]}
    joined = {"detail": details(drawing)} if details(drawing) else {}
    if panel.reference is None:
        return joined
    scale = alt.Scale(domain=[drawing.titles["fit"]], range=[[5, 4]])
    legend = alt.Legend(title="line", columns=1, symbolType="stroke", symbolSize=300, symbolStrokeColor=INK)
    return joined | {"strokeDash": alt.StrokeDash("reference:N", scale=scale, legend=legend)}


def details(drawing: Drawing) -> list[Any]:
    """The labels beside colour and dash that start lines of their own."""
    import altair as alt

    return [alt.Detail(role, type="nominal") for role in drawing.titles if role.startswith("line")]


def shape(drawing: Drawing) -> alt.Shape:
    """A symbol per kind of point, drawn in outline in the legend because its filling is the colour's to choose."""
    import altair as alt

    names = drawing.orders["shape"]
    scale = alt.Scale(domain=names, range=[SHAPES[i % len(SHAPES)] for i in range(len(names))])
    outline = {"symbolFillColor": "transparent", "symbolStrokeColor": INK, "symbolOpacity": 1, "symbolSize": 90}
    legend = alt.Legend(columns=_columns(names), **outline)
    return alt.Shape("shape:N", title=drawing.titles["shape"], sort=names, scale=scale, legend=legend)


def highlight(drawing: Drawing, *, full: float = 1.0) -> tuple[list[Any], Any]:
    """The selection a click on the legend makes (none without colours), and the opacity that follows from it."""
    import altair as alt

    if "color" not in drawing.titles:
        return [], alt.value(full)
    chosen = alt.selection_point(name="chosen", fields=["color"], bind="legend")
    return [chosen], alt.condition(chosen, alt.value(full), alt.value(FADED))


def tooltip(drawing: Drawing) -> list[Any]:
    """Every drawn column under its own name."""
    import altair as alt

    shown = []
    for role, title in drawing.titles.items():
        numeric = role not in drawing.orders
        kind = {"type": "quantitative", "format": ".4~g"} if numeric else {"type": "nominal"}
        shown.append(alt.Tooltip(role, title=title, **kind))
    return shown


def _domain(cells: list[float], *, log: bool) -> dict[str, list[float]]:
    """A domain of its own for an axis with a single value, which has no extent to follow."""
    if len(set(cells)) > 1:
        return {}
    middle = cells[0]
    reach = 0.1 * abs(middle) or 1
    return {"domain": [middle / 2, middle * 2] if log else [middle - reach, middle + reach]}


def _decades(cells: list[float]) -> alt.Axis:
    """Ticks at powers of ten, written as such, where the values span at least three of them."""
    import altair as alt

    lowest, highest = math.log10(min(cells)), math.log10(max(cells))
    if highest - lowest < 3:
        return alt.Axis(format="~g", tickCount=10)
    low, high = math.floor(lowest), math.ceil(highest)
    powers = [f"10{str(n).translate(SUPERSCRIPTS)}" for n in range(low, high + 1)]
    exponent = "round(log(datum.value) / LN10)"
    known = f"abs(datum.value / pow(10, {exponent}) - 1) < 1e-9 && {exponent} >= {low} && {exponent} <= {high}"
    text = f"{known} ? {powers}[{exponent} - {low}] : format(datum.value, '~g')"
    # with no more ticks than decades, the scale puts none in between
    return alt.Axis(labelExpr=text, tickCount=min(math.floor(highest - lowest), 10))


def _columns(names: list[str]) -> int:
    return max(1, int(LEGEND_WIDTH / (7 * min(30, max(map(len, names))) + 36)))
