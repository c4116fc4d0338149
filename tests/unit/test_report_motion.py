"""A motion as a specification and as still pictures; what is seen in space against rotation matrices."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from tightframe.core.errors import InputError
from tightframe.report import figures
from tightframe.report.motion import AZIMUTH, ELEVATION, SIZE, STILL
from tightframe.runs.record import Panel, Record, table_of

STEPS = (0, 2, 4, 8, 16, 32)
CORNERS = np.array([(1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)]) * 0.5


def panel(**fields) -> Panel:
    given = {"title": "P", "caption": "About it.", "table": "t", "x": "x", "y": "y", "frame": "step"} | fields
    return Panel(kind="motion", **given)


def record(*panels: Panel, rows) -> Record:
    return Record(name="r", title="R", question="?", tables={"t": table_of(rows)}, panels=panels)


def space() -> list[dict]:
    return [
        {"step": step, "class": f"c{k}", "x": x * (i + 1) / 6, "y": y * (i + 1) / 6, "z": z * (i + 1) / 6}
        for i, step in enumerate(STEPS)
        for k, (x, y, z) in enumerate(CORNERS.tolist())
    ]


def plane() -> list[dict]:
    return [
        {"step": step, "loss": loss, "class": f"c{k}", "x": math.cos(2 * k) * i, "y": math.sin(2 * k) * i}
        for i, step in enumerate(STEPS)
        for loss in ("ce", "mse")
        for k in range(3)
    ]


def marks(svg: str, name: str) -> list[tuple[str, float, float]]:
    """Labels and places of the marks whose description is `name`."""
    found = re.findall(rf'aria-label="([^"]*)"[^>]*aria-roledescription="{name}" transform="translate\(([^)]*)\)', svg)
    return [(label, *map(float, place.split(","))) for label, place in found]


def test_the_page_gets_one_view_of_the_last_frame_and_the_numbers_of_all():
    rows = record(panel(color="class"), rows=plane())
    spec = figures.chart(rows, rows.panels[0]).to_dict()
    assert {p["name"]: p.get("value") for p in spec["params"] if "value" in p} == {"now": 32}
    assert spec["usermeta"]["motion"] == {"steps": list(STEPS), "name": "step", "solid": False}
    assert spec["width"] == spec["height"] == SIZE
    assert spec["config"]["axis"]


def test_both_axes_have_one_unit_that_no_frame_changes():
    rows = record(panel(color="class"), rows=plane())
    for layer in figures.chart(rows, rows.panels[0]).to_dict()["layer"]:
        (left, right), (low, high) = (layer["encoding"][axis]["scale"]["domain"] for axis in "xy")
        assert right - left == pytest.approx(high - low)
        assert left < -5 * abs(math.cos(2)) * 0.99


def test_facets_share_one_clock():
    rows = record(panel(color="class", facet="loss"), rows=plane())
    spec = figures.chart(rows, rows.panels[0]).to_dict()
    assert spec["facet"]["sort"] == ["ce", "mse"]
    assert [p["name"] for p in spec["params"]].count("now") == 1
    assert "params" not in spec["spec"] or all(p["name"] != "now" for p in spec["spec"]["params"])


def test_a_click_on_the_legend_highlights_in_the_plane_and_in_space():
    """The selection has to belong to a layer with colours: the globe has none."""
    for fields in ({"z": "z"}, {}):
        rows = record(panel(color="class", **fields), rows=space())
        spec = figures.chart(rows, rows.panels[0]).to_dict()
        (chosen,) = (p for p in spec["params"] if p["name"] == "chosen")
        (owner,) = (layer for layer in spec["layer"] if layer.get("name") in chosen["views"])
        assert "field" in owner["encoding"]["color"]


def test_space_is_seen_as_rotation_matrices_turn_it(tmp_path):
    """Azimuth about z, then elevation about y: the eye looks along x, sees y to the right and z up."""
    rows = record(panel(z="z", color="class"), rows=space())
    svg = figures.save(rows, tmp_path)[0].read_text(encoding="utf-8")
    a, e = AZIMUTH, ELEVATION
    about_z = np.array([[math.cos(a), math.sin(a), 0], [-math.sin(a), math.cos(a), 0], [0, 0, 1]])
    about_y = np.array([[math.cos(e), 0, math.sin(e)], [0, 1, 0], [-math.sin(e), 0, math.cos(e)]])
    reach = 1.06 * np.linalg.norm(CORNERS[0])
    seen = marks(svg, "point")
    assert len(seen) == 3 * 4
    for i, step in ((0, 0), (2, 4), (5, 32)):
        for k, corner in enumerate(CORNERS):
            _, right, up = about_y @ about_z @ (corner * (i + 1) / 6)
            (place,) = ((x, y) for label, x, y in seen if f"step: {step};" in f"{label};" and f"c{k}" in label)
            # half a unit on the page is half the square; the frame of the picture starts at zero
            wanted = (STILL / 2 * (1 + right / reach), STILL / 2 * (1 - up / reach))
            assert place == pytest.approx(wanted, abs=0.02)


def test_what_is_nearer_is_larger_and_drawn_later(tmp_path):
    rows = [
        {"step": 0, "class": name, "x": math.cos(AZIMUTH) * far, "y": math.sin(AZIMUTH) * far, "z": 0.0}
        for name, far in (("near", 1.0), ("far", -1.0), ("middle", 0.0))
    ]
    held = record(panel(z="z", color="class"), rows=rows)
    svg = figures.save(held, tmp_path)[0].read_text(encoding="utf-8")
    found = re.findall(
        r'aria-label="([^"]*)" role="graphics-symbol" aria-roledescription="point"[^>]* d="M([0-9.]+)', svg
    )
    names = [label.split("class: ")[1].split(";")[0] for label, _ in found]
    radii = [float(radius) for _, radius in found]
    assert names == ["far", "middle", "near"]
    assert radii == sorted(radii)
    assert radii[0] < radii[1] < radii[2]


def test_paper_gets_the_first_a_middle_and_the_last_frame_with_the_trails_up_to_each():
    rows = record(panel(color="class", facet="loss"), rows=plane())
    spec = figures.stills(rows, rows.panels[0]).to_dict()
    assert spec["facet"]["column"]["sort"] == ["step 0", "step 4", "step 32"]
    assert spec["facet"]["row"]["sort"] == ["ce", "mse"]
    (drawn,) = spec["datasets"].values()
    assert {r["when"]: max(s["frame"] for s in drawn if s["when"] == r["when"]) for r in drawn} == {0: 0, 4: 4, 32: 32}
    assert sum(r["when"] == 4 for r in drawn) == 3 * 6
    one = record(panel(), rows=[{"step": 7, "x": 1.0, "y": 1.0}])
    assert figures.stills(one, one.panels[0]).to_dict()["facet"]["column"]["sort"] == ["step 7"]


def test_targets_stand_in_every_still_picture(tmp_path):
    target = {"step": None, "class": "c0", "x": 1.0, "y": 1.0, "z": 1.0, "loss": "ce"}
    rows = record(panel(z="z", color="class"), rows=[*space(), target])
    svg = figures.save(rows, tmp_path)[0].read_text(encoding="utf-8")
    assert len([label for label, *_ in marks(svg, "point") if "step: null" in label or "step" not in label]) == 3


def test_shapes_get_symbols_of_their_own():
    rows = [r | {"of": of} for r in space() for of in ("mean", "row")]
    held = record(panel(color="class", shape="of"), rows=rows)
    *_, vectors = figures.chart(held, held.panels[0]).to_dict()["layer"]
    scale = vectors["encoding"]["shape"]["scale"]
    assert scale["domain"] == ["mean", "row"]
    assert len(set(scale["range"])) == 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "motion"}, r"a motion panel names the column of its frames; got none\. Set frame="),
        ({"kind": "matrix"}, r"a matrix panel names the column of its values; got none\. Set value="),
        ({"kind": "curves", "frame": "s"}, r"`frame` of a panel belongs to motion only; got kind='curves', frame='s'"),
        ({"kind": "scatter", "z": "s"}, "`z` of a panel belongs to motion only"),
        ({"kind": "scatter", "shape": "s"}, "`shape` of a panel belongs to motion only"),
        ({"kind": "motion", "frame": "s", "value": "v"}, "`value` of a panel belongs to matrix only"),
        (
            {"kind": "matrix", "value": "v", "reference": "r"},
            "`reference` of a panel belongs to curves, layers, scatter",
        ),
        ({"kind": "motion", "frame": "s", "x_scale": "log"}, "the axes of a motion share one linear unit"),
        ({"kind": "film"}, "a panel is one of curves, layers, matrix, scatter, motion; got 'film'"),
    ],
)
def test_a_panel_that_mixes_kinds_is_refused(fields, message):
    with pytest.raises(InputError, match=message):
        Panel(title="P", caption="", table="t", x="x", y="y", **fields)


def test_the_columns_of_a_motion_must_exist_and_survive_json():
    with pytest.raises(InputError, match=r"unknown columns \['depth', 'time'\]"):
        record(panel(z="depth", frame="time"), rows=space())
    held = record(panel(z="z", color="class"), rows=space())
    assert Record.from_json(held.to_json()) == held


def test_words_are_no_coordinates_and_no_frames():
    for column in ("z", "step"):
        rows = [r | {column: "high"} for r in space()]
        held = record(panel(z="z"), rows=rows)
        with pytest.raises(InputError, match=f"draws numbers from column '{column}'"):
            figures.chart(held, held.panels[0])
