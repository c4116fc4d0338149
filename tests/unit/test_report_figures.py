"""Charts have the encodings their panels declare, and are saved as SVG and PDF."""

from __future__ import annotations

import math
import re

import pytest

from tightframe.core.errors import InputError
from tightframe.report import figures
from tightframe.report.channels import DIVERGING, FADED, FEW, TEN
from tightframe.runs.record import Panel, Record


def record(panels=(), **tables) -> Record:
    return Record(name="My run", title="R", question="?", tables=tables, panels=panels)


def panel(kind="curves", **fields) -> Panel:
    given = {"title": "P", "caption": "About it.", "table": "t", "x": "x", "y": "y"} | fields
    return Panel(kind=kind, **given)


def spec(kind="curves", table=None, **fields) -> dict:
    return figures.chart(record(t=table), panel(kind, **fields)).to_dict()


CURVES = {
    "x": [0, 1, 0, 1],
    "y": [1.0, 1e-5, 2.0, 1e-4],
    "metric": ["a", "a", "b", "b"],
    "split": ["train", "test", "train", "test"],
}
MATRIX = {"x": ["b", "a"] * 2, "y": ["b", "b", "a", "a"], "v": [0.4, -0.8, None, 0.1], "state": ["m"] * 4}


def test_curves_are_lines_and_points_with_colour_dash_and_interaction():
    drawn = spec(table=CURVES, color="metric", y_scale="log")
    line, points = drawn["layer"]
    assert (line["mark"]["type"], points["mark"]["type"]) == ("line", "point")
    assert line["encoding"]["y"]["scale"]["type"] == "log"
    assert line["encoding"]["color"]["scale"] == {"domain": ["a", "b"], "range": list(FEW)}
    assert line["encoding"]["strokeDash"]["scale"]["range"] == [[1, 0], [5, 3]]
    assert [t["title"] for t in points["encoding"]["tooltip"]] == ["x", "y", "metric", "split"]
    assert drawn["width"] == "container"
    params = {param["name"]: param for param in drawn["params"]}
    assert params["move"]["bind"] == "scales"
    assert params["chosen"]["bind"] == "legend"
    assert line["encoding"]["opacity"]["condition"]["param"] == "chosen"
    assert line["encoding"]["opacity"]["value"] == FADED
    assert "title" not in drawn


def test_ticks_of_a_wide_log_axis_are_powers_of_ten_one_per_decade():
    axis = spec(table=CURVES, color="metric", y_scale="log")["layer"][0]["encoding"]["y"]["axis"]
    assert axis["tickCount"] == 5  # whole decades between 10⁻⁵ and 2
    assert "10⁻⁵" in axis["labelExpr"]
    narrow = spec(table=CURVES | {"y": [1.0, 2.0, 3.0, 4.0]}, y_scale="log")["layer"][0]["encoding"]["y"]["axis"]
    assert "labelExpr" not in narrow


def test_values_at_or_below_zero_reach_no_log_scale():
    drawn = spec(table=CURVES | {"y": [1.0, 0.0, -2.0, 1e-4]}, y_scale="log")
    (rows,) = drawn["datasets"].values()
    assert [row["y"] for row in rows] == [1.0, None, None, 1e-4]


@pytest.mark.parametrize(("scale", "domain"), [("linear", [0.27, 0.33]), ("log", [0.15, 0.6])])
def test_a_constant_gets_a_domain_around_it(scale, domain):
    drawn = spec(table={"x": [0, 1], "y": [0.3, 0.3]}, y_scale=scale)
    assert drawn["layer"][0]["encoding"]["y"]["scale"]["domain"] == pytest.approx(domain)
    assert "domain" not in drawn["layer"][0]["encoding"]["x"]["scale"]


def test_a_crowded_line_shows_no_points_but_keeps_their_tooltips():
    size = 100
    drawn = spec(table={"x": list(range(size)), "y": [math.exp(-i / 20) for i in range(size)]})
    assert drawn["layer"][1]["encoding"]["opacity"] == {"value": 0}
    assert drawn["layer"][1]["encoding"]["tooltip"]


def test_layers_stand_in_the_order_of_the_table_with_the_fit_dashed():
    table = {"x": ["z", "a", "m"], "y": [1.0, 0.1, 0.01], "fit": [0.9, 0.12, 0.011]}
    line, points = spec("layers", table, y_scale="log")["layer"]
    assert line["encoding"]["x"]["sort"] == ["z", "a", "m"]
    assert line["mark"]["strokeDash"] == [5, 4]
    assert line["encoding"]["y"]["field"] == "fit"
    assert points["encoding"]["y"]["field"] == "y"
    without = spec("layers", {"x": ["z", "a"], "y": [1.0, 0.1]})
    assert "strokeDash" not in without["layer"][0]["mark"]


@pytest.mark.parametrize("kind", ["curves", "layers", "scatter"])
def test_a_reference_is_a_dashed_line_named_in_the_legend_under_the_measured_points(kind):
    table = {"x": [0, 1, 0, 1], "y": [1.0, 0.1, 2.0, 0.2], "theory": [0.9, 0.12] * 2, "loss": ["a", "a", "b", "b"]}
    line, points = spec(kind, table, color="loss", reference="theory", y_scale="log")["layer"]
    assert (line["mark"]["type"], points["mark"]["type"]) == ("line", "point")
    assert line["encoding"]["y"]["field"] == "fit"
    assert line["encoding"]["y"]["scale"]["type"] == "log"
    assert points["encoding"]["y"]["field"] == "y"
    assert line["encoding"]["color"] == points["encoding"]["color"]
    dash = line["encoding"]["strokeDash"]
    assert dash["scale"] == {"domain": ["theory"], "range": [[5, 4]]}
    assert line["transform"] == [{"calculate": '"theory"', "as": "reference"}]
    assert points["encoding"]["tooltip"][-1]["title"] == "theory"


def test_points_beside_their_prediction_are_seen_on_a_crowded_line():
    size = 100
    table = {"x": list(range(size)), "y": [1.0] * size, "theory": [1.0] * size}
    _, points = spec(table=table, reference="theory")["layer"]
    assert points["encoding"]["opacity"] != {"value": 0}


def test_the_prediction_of_every_split_is_a_line_of_its_own():
    table = CURVES | {"theory": CURVES["y"], "layer": ["u", "u", "v", "v"]}
    line, _ = spec(table=table, reference="theory")["layer"]
    joined = [detail["field"] for detail in line["encoding"]["detail"]]
    assert joined[0] == "dash"
    assert len(joined) == 3  # metric and layer
    assert "strokeDash" not in line["encoding"]
    assert line["mark"]["strokeDash"] == [5, 4]


def test_a_saved_prediction_with_a_hostile_name_joins_its_points(tmp_path):
    name = 'it\'s "y"\n\\'
    table = {"x": [0.0, 2.0, 1.0], "y": [0.0, 2.0, None], name: [0.0, 2.0, 1.0]}
    held = record([panel("scatter", reference=name)], t=table)
    svg = figures.save(held, tmp_path)[0].read_text(encoding="utf-8")
    (line,) = re.findall(r'aria-roledescription="line mark" d="([^"]*)"', svg)
    assert len(re.findall("[ML]", line)) == 3  # in the order of x
    places = [float(x) for x, _ in re.findall(r"([0-9.]+),([0-9.]+)", line)]
    assert places == sorted(places)
    assert len(re.findall(r'aria-roledescription="point"', svg)) == 2
    assert '>it\'s "y" ∖</text>' in svg.replace("&quot;", '"')


def test_a_matrix_is_square_centred_on_zero_and_in_the_order_of_the_table():
    drawn = spec("matrix", MATRIX, value="v")
    assert drawn["encoding"]["color"]["scale"]["domain"] == [-0.8, 0.8]
    assert drawn["encoding"]["color"]["scale"]["range"] == list(DIVERGING)
    assert drawn["encoding"]["x"]["sort"] == drawn["encoding"]["y"]["sort"] == ["b", "a"]
    assert drawn["width"] == drawn["height"]
    wide = spec("matrix", {"x": [0, 1, 2, 3], "y": [0] * 4, "v": [0.0] * 4}, value="v")
    assert wide["height"] / wide["width"] == pytest.approx(1 / 4, abs=1 / wide["width"])
    assert wide["encoding"]["color"]["scale"]["domain"] == [-1, 1]


def test_facets_stand_side_by_side_in_the_order_of_the_table():
    table = {"x": [0, 1, 2, 3], "y": [0, 1, 2, 3], "label": [0, 1, 0, 1], "epoch": [9, 9, 5, 5]}
    drawn = spec("scatter", table, color="label", facet="epoch")
    assert drawn["columns"] == 2
    assert drawn["facet"]["sort"] == ["epoch 9", "epoch 5"]
    assert "resolve" not in drawn  # one scale for all facets, so that they can be compared
    four = spec("scatter", table | {"epoch": [1, 2, 3, 4]}, facet="epoch")
    assert four["columns"] == 2


@pytest.mark.parametrize(("classes", "palette"), [(7, FEW), (8, TEN), (10, TEN)])
def test_every_class_has_a_colour_of_its_own_up_to_ten(classes, palette):
    table = {"x": list(range(classes)), "y": [0] * classes, "label": list(range(classes))}
    scale = spec("scatter", table, color="label")["encoding"]["color"]["scale"]
    assert scale["range"] == list(palette)
    assert len(set(palette)) == len(palette) >= classes


def test_columns_with_dots_brackets_and_quotes_are_drawn():
    """Vega-Lite would read `a.b` and `a[0]` as paths into a value, and quotes as the end of a string."""
    x, y, c = "a.b", 'loss[0]"\\', "it's"
    table = {x: [0, 1], y: [1.0, 2.0], c: ['"quoted"\\', "line\nbreak"]}
    held = record([panel(x=x, y=y, color=c)], t=table)
    drawn = figures.chart(held, held.panels[0]).to_dict()
    assert drawn["layer"][0]["encoding"]["x"]["field"] == "x"
    assert drawn["layer"][0]["encoding"]["x"]["title"] == "a.b"


def test_saved_figures_carry_title_and_marks(tmp_path):
    panels = [
        panel(color="metric", title="Loss & ../collapse", y_scale="log"),
        panel("matrix", table="m", value="v", facet="state", title="Gram"),
        panel("scatter", title='a "b"', x="x", y="y", color="metric"),
    ]
    written = figures.save(record(panels, t=CURVES, m=MATRIX), tmp_path / "deep" / "figures")
    names = ["my-run-01-loss-collapse", "my-run-02-gram", "my-run-03-a-b"]
    assert [path.name for path in written] == [name + end for name in names for end in (".svg", ".pdf")]
    for path in written[::2]:
        assert re.search(r'class="mark-(symbol|rect) role-mark', path.read_text(encoding="utf-8"))
    assert "Loss &amp; ../collapse" in written[0].read_text(encoding="utf-8")
    assert all(path.read_bytes().startswith(b"%PDF") for path in written[1::2])


def test_saving_names_the_panel_without_rows(tmp_path):
    held = record([panel(where={"metric": "c"})], t=CURVES)
    with pytest.raises(InputError, match="panel 'P' has at least one row"):
        figures.save(held, tmp_path)
