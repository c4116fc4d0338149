"""What moves: frames, parts, trails, and the square or ball that holds every frame."""

from __future__ import annotations

import math

import pytest

from tightframe.core.errors import InputError
from tightframe.report.drawing import MOST_MOVING, draw
from tightframe.report.scene import MOST_TRAIL, Scene, scene
from tightframe.runs.record import Panel, Record, table_of


def panel(**fields) -> Panel:
    given = {"title": "P", "caption": "", "table": "t", "x": "x", "y": "y", "frame": "step"} | fields
    return Panel(kind="motion", **given)


def arranged(rows, **fields) -> Scene:
    chosen = panel(**fields)
    return scene(chosen, draw(Record(name="r", title="R", question="?", tables={"t": table_of(rows)}), chosen))


def row(step, x, y, **more) -> dict:
    return {"step": step, "x": x, "y": y} | more


def test_a_point_alone_in_its_colour_and_shape_is_a_vector_and_one_without_a_frame_a_target():
    rows = [
        row(step, 1.0, 0.0, c=c, of=of)
        for step in (0, 1)
        for c, of in (("a", "mean"), ("a", "sample"), ("a", "sample"), ("b", "mean"))
    ]
    rows += [row(None, 2.0, 0.0, c="a", of="frame"), row(None, 2.0, 1.0, c="a", of="frame")]
    shown = arranged(rows, color="c", shape="of")
    assert [r["part"] for r in shown.rows] == ["vector", "cloud", "cloud", "vector"] * 2 + ["target"] * 2
    assert [r["point"] for r in shown.rows if r["part"] == "vector"] == [0, 3, 0, 3]
    assert {r["part"] for r in arranged(rows[:8]).rows} == {"cloud"}


def test_frames_ascend_whatever_the_order_of_the_table():
    assert arranged([row(s, 1.0, 1.0) for s in (20, 0.5, 3)]).frames == [0.5, 3, 20]


def test_a_plane_is_the_least_square_around_points_and_origin():
    shown = arranged([row(0, 1.0, -1.0), row(1, 5.0, 2.0)])
    assert (shown.centre, shown.reach, shown.solid) == ((2.5, 0.5), 2.5, False)
    assert arranged([row(0, 0.0, 0.0)]).reach == 1.0


def test_a_space_is_a_ball_around_the_origin_with_the_globe_through_the_longest_target():
    rows = [row(0, 3.0, 4.0, z=12.0, c="a"), row(1, 0.0, 3.0, z=4.0, c="a")]
    shown = arranged(rows, z="z", color="c")
    assert (shown.centre, shown.reach, shown.globe) == ((0.0, 0.0), 13.0, 5.0)
    target = row(None, 0.0, 0.0, z=-2.0, c="a")
    assert arranged([*rows, target], z="z", color="c").globe == 2.0
    cloud = [r | {"c": "b"} for r in rows for _ in range(2)]
    assert arranged(cloud, z="z", color="c").globe == 13.0
    assert arranged([row(0, 0.0, 0.0, z=0.0)], z="z").globe == 1.0


def test_a_frame_with_another_number_of_points_is_refused_and_named():
    rows = [row(0, 1.0, 1.0), row(0, 2.0, 1.0), row(4, 1.0, 1.0)]
    with pytest.raises(InputError, match=r"frame of panel 'P' holds the same points; got 2 at step 0 and 1 at step 4"):
        arranged(rows)
    with pytest.raises(InputError, match="at least one frame; got None in every row of column 'step'"):
        arranged([row(None, 1.0, 1.0)])


def test_facets_may_hold_different_numbers_of_points():
    rows = [row(s, 1.0, 1.0, loss=loss) for s in (0, 1) for loss in ("ce", "mse", "mse")]
    assert len(arranged(rows, facet="loss").rows) == 6


def test_an_undefined_place_is_left_out_and_the_other_points_keep_theirs():
    rows = [row(0, None, 1.0, c="a"), row(0, 1.0, 1.0, c="b"), row(1, 2.0, 2.0, c="a"), row(1, 1.0, 1.0, c="b")]
    shown = arranged(rows, color="c")
    assert [(r["frame"], r["point"]) for r in shown.rows] == [(0, 1), (1, 0), (1, 1)]


def test_trails_pass_every_place_until_there_are_too_many():
    few = arranged([row(s, 1.0, 1.0) for s in range(MOST_TRAIL)])
    assert all(r["trail"] for r in few.rows)
    many = arranged([row(s, 1.0, 1.0, c=c) for s in range(MOST_TRAIL) for c in "abc"], color="c")
    passed = [r["frame"] for r in many.rows if r.get("trail") and r["color"] == "b"]
    assert passed == list(range(0, MOST_TRAIL, 3))


def test_places_are_rounded_far_below_a_pixel():
    size = 460
    rows = [row(i, math.sin(i) * 1e-7, math.cos(7 * i) * 1e-7) for i in range(50)]
    shown = arranged(rows)
    unit = 2 * shown.reach / size
    for given, kept in zip(rows, shown.rows, strict=True):
        assert abs(given["x"] - kept["x"]) < 0.05 * unit
        assert abs(given["y"] - kept["y"]) < 0.05 * unit


def test_a_long_motion_is_thinned_by_whole_frames_and_keeps_the_last_and_what_stands_still():
    points = 10
    steps = 2 * MOST_MOVING // points + 1
    rows = [row(s, float(p), 1.0) for s in range(steps) for p in range(points)] + [row(None, 0.0, 0.0)]
    chosen = panel()
    drawing = draw(Record(name="r", title="R", question="?", tables={"t": table_of(rows)}), chosen)
    shown = scene(chosen, drawing)
    assert (steps - 1) % 3
    assert shown.frames == [*range(0, steps, 3), steps - 1]
    assert sum(r["part"] == "target" for r in shown.rows) == 1
    assert drawing.notes == (f"One in 3 of the {steps} values of step is drawn.",)
