"""Points that move: one view whose frame the page chooses, and the same as still pictures for paper."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tightframe.report import channels
from tightframe.report.drawing import Drawing, label
from tightframe.report.scene import Scene, scene
from tightframe.runs.record import Panel

if TYPE_CHECKING:
    import altair as alt

SIZE, BESIDE, STILL = 460, 345, 200  # sides of the squares, in pixels: alone, beside another, on paper
AZIMUTH, ELEVATION = 0.61, 0.35  # of the eye, in radians; off the planes of symmetry of a simplex

_CHORDS = 48  # of a great circle
_MARGIN = 1.06
# Where the eye sees a point (x, y, z) from far away: to the right, up, and towards the eye.
_LEVEL = "(datum.x * cos(turn) + datum.y * sin(turn))"
_SEEN = {
    "across": "datum.y * cos(turn) - datum.x * sin(turn)",
    "up": f"datum.z * cos(tilt) - {_LEVEL} * sin(tilt)",
    "near": f"{_LEVEL} * cos(tilt) + datum.z * sin(tilt)",
}


def animation(panel: Panel, drawing: Drawing) -> alt.LayerChart | alt.FacetChart:
    """One view of the frame that the parameter `now` names, at first the last one.

    The numbers of the frames stand in the chart's `usermeta`, for the page's controls. A point that is alone in its
    colour and shape is a vector: it has a line from the origin and leaves a trail. In space the parameters `turn`
    and `tilt` place the eye.

    Args:
        panel: A panel of kind "motion".
        drawing: What `draw` made of it.

    Raises:
        InputError: There is no frame, or two frames hold different numbers of points.
    """
    import altair as alt

    shown = scene(panel, drawing)
    faceted = "facet" in drawing.titles
    view = _view(shown, drawing, now="now", size=BESIDE if faceted else SIZE)
    data = alt.InlineData(values=shown.rows)
    if faceted:
        names = drawing.orders["facet"]
        facet = alt.Facet("facet:N", sort=names, title=None)
        view = view.facet(facet, columns=min(len(names), 2), data=data)
    else:
        view = view.properties(data=data)
    steps = {"steps": shown.frames, "name": panel.frame, "solid": shown.solid}
    return view.add_params(alt.param(name="now", value=shown.frames[-1])).properties(usermeta={"motion": steps})


def stills(panel: Panel, drawing: Drawing) -> alt.FacetChart:
    """The first frame, one in the middle and the last, side by side, each with the trails up to it.

    Args:
        panel: A panel of kind "motion".
        drawing: What `draw` made of it.

    Raises:
        InputError: As for `animation`.
    """
    import altair as alt

    shown = scene(panel, drawing)
    frames, last = shown.frames, len(shown.frames) - 1
    moments = {frames[i]: f"{panel.frame} {label(frames[i])}" for i in (0, last // 2, last)}
    rows = [
        row | {"when": moment, "moment": name}
        for moment, name in moments.items()
        for row in shown.rows
        if row["frame"] in (None, moment) or ("trail" in row and row["frame"] < moment)
    ]
    placed: dict[str, Any] = {"column": alt.Column("moment:N", sort=list(moments.values()), title=None)}
    if "facet" in drawing.titles:
        placed["row"] = alt.Row("facet:N", sort=drawing.orders["facet"], title=None)
    view = _view(shown, drawing, now="datum.when", size=STILL)
    return view.facet(**placed, data=alt.InlineData(values=rows))


def _view(shown: Scene, drawing: Drawing, *, now: str, size: int) -> alt.LayerChart:
    """Everything of one frame, from back to front: globe, trails, lines from the origin, cloud, targets, vectors."""
    import altair as alt

    scale = size / SIZE
    origin = {"x2": alt.X2Datum(0), "y2": alt.Y2Datum(0)}
    trail = {"detail": alt.Detail("point:N"), "order": alt.Order("frame:Q")}
    told = channels.tooltip(drawing)
    placed = _placed(shown, drawing)
    color = channels.color(drawing) if "color" in drawing.titles else alt.value(channels.FEW[0])
    where = {
        "trail": f"datum.trail && datum.frame < {now} || datum.part == 'vector' && datum.frame == {now}",
        "target": "datum.part == 'target'",
        "cloud": f"datum.part == 'cloud' && datum.frame == {now}",
        "vector": f"datum.part == 'vector' && datum.frame == {now}",
    }

    def layer(part: str, mark: str, *, opacity: float, channel: dict[str, Any], **style: Any) -> alt.Chart:
        chart = _seen(alt.Chart(mark=alt.MarkDef(type=mark, **style)).transform_filter(where[part]), shown)
        _, fade = channels.highlight(drawing, full=opacity)
        return chart.encode(**placed, color=color, opacity=fade, **channel)

    def points(part: str, *, area: float, opacity: float, **style: Any) -> alt.Chart:
        channel = {"shape": channels.shape(drawing)} if "shape" in drawing.titles else {}
        channel |= {"tooltip": [tip for tip in told if part != "target" or tip.shorthand != "frame"]}
        if shown.solid:
            # what is nearer is larger and in front
            depth = f"{area * scale:.4g} * (1 + 0.45 * datum.near / {shown.reach:.6g})"
            channel |= {"size": alt.Size("area:Q", scale=None), "order": alt.Order("near:Q")}
            return layer(part, "point", opacity=opacity, channel=channel, **style).transform_calculate(area=depth)
        return layer(part, "point", opacity=opacity, channel=channel, size=area * scale, **style)

    legend, _ = channels.highlight(drawing)
    layers = [
        *(_globe(shown, drawing) if shown.solid else []),
        # the globe has no colours, so the selection from their legend belongs to another layer
        layer("trail", "line", opacity=0.4, channel=trail, strokeWidth=1.25).add_params(*legend),
        layer("target", "rule", opacity=0.45, channel=origin, strokeWidth=1.25, strokeDash=[2, 3]),
        layer("vector", "rule", opacity=0.8, channel=origin, strokeWidth=1.75),
        points("cloud", area=18, opacity=0.5, filled=True),
        points("target", area=260, opacity=0.8, filled=False, strokeWidth=1.25),
        points("vector", area=130, opacity=1, filled=True, stroke="white", strokeWidth=1),
    ]
    eye = [alt.param(name="turn", value=AZIMUTH), alt.param(name="tilt", value=ELEVATION)] if shown.solid else []
    return alt.layer(*layers).add_params(*eye).properties(width=size, height=size)


def _seen(chart: alt.Chart, shown: Scene) -> alt.Chart:
    return chart.transform_calculate(**_SEEN) if shown.solid else chart


def _placed(shown: Scene, drawing: Drawing) -> dict[str, Any]:
    """The two axes: one unit on both, fixed over the frames; without ticks where they turn."""
    import altair as alt

    reach = _MARGIN * shown.reach
    placed = {}
    for role, seen, channel, middle in zip("xy", ("across", "up"), (alt.X, alt.Y), shown.centre, strict=True):
        scale = alt.Scale(domain=[middle - reach, middle + reach], nice=False, zero=False)
        field = seen if shown.solid else role
        ticks = None if shown.solid else alt.Axis(tickCount=6)
        placed[role] = channel(f"{field}:Q", title=drawing.titles[role], scale=scale, axis=ticks)
    return placed


def _globe(shown: Scene, drawing: Drawing) -> list[alt.Chart]:
    """Three great circles, and the names of the coordinates where the axes meet them."""
    import altair as alt

    angle = f"(datum.i % {_CHORDS + 1}) * 2 * PI / {_CHORDS}"
    first, second = (f"{shown.globe:.6g} * {wave}({angle})" for wave in ("cos", "sin"))
    circle = {
        "circle": f"floor(datum.i / {_CHORDS + 1})",
        "x": f"datum.circle == 2 ? 0 : {first}",
        "y": f"datum.circle == 0 ? {second} : datum.circle == 2 ? {first} : 0",
        "z": f"datum.circle == 0 ? 0 : {second}",
    }
    line = alt.Chart(alt.sequence(3 * (_CHORDS + 1), as_="i"), mark=alt.MarkDef(type="line", strokeWidth=1))
    for name, formula in circle.items():
        line = line.transform_calculate(**{name: formula})
    place = _placed(shown, drawing)
    drawn = {"detail": alt.Detail("circle:N"), "order": alt.Order("i:Q"), "color": alt.value(channels.RULE)}
    ends = [
        {axis: 1.05 * shown.globe * (axis == role) for axis in "xyz"} | {"name": drawing.titles[role]} for role in "xyz"
    ]
    text = alt.Chart(alt.InlineData(values=ends), mark=alt.MarkDef(type="text", fontSize=11))
    named = {"text": alt.Text("name:N"), "color": alt.value(channels.LINE)}
    return [_seen(line, shown).encode(**place, **drawn), _seen(text, shown).encode(**place, **named)]
