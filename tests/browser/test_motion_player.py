"""A motion in headless Chromium: it plays, stops, is stepped and turned by hand, and lies still on paper."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from chromium import browse, states, title, with_script
from tightframe.report import page
from tightframe.runs.record import Panel, Record, table_of

pytestmark = pytest.mark.browser

STEPS = [0, 5, 20, 80, 320]
SPACE = ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1))
# What a script of these tests waits for: the page has drawn everything.
READY = """
const wait = (time) => new Promise((done) => setTimeout(done, time));
const figure = (number) => document.querySelector(`#figure-${number}`);
const shown = (number) => [...figure(number).querySelectorAll('.chart path[aria-roledescription="point"]')]
  .map((point) => point.getAttribute('aria-label'));
const places = (number) => [...figure(number).querySelectorAll('.chart path[aria-roledescription="point"]')]
  .map((point) => point.getAttribute('transform')).sort().join();
const report = (value) => { document.title = JSON.stringify(value); };
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    plane = [
        {"step": step, "kind": f"k{k}", "a": math.cos(2 * k) * i / 4, "b": math.sin(2 * k) * i / 4}
        for i, step in enumerate(STEPS)
        for k in range(3)
    ]
    space = [
        {"step": step, "class": k, "of": of, "x": x * i / 4, "y": y * i / 4, "z": z * i / 4}
        for i, step in enumerate(STEPS)
        for k, (x, y, z) in enumerate(SPACE)
        for of in ("mean", "row")
    ]
    space += [{"step": None, "class": k, "of": "frame", "x": x, "y": y, "z": z} for k, (x, y, z) in enumerate(SPACE)]
    moves = {"kind": "motion", "caption": "They move.", "frame": "step"}
    panels = [
        Panel(title="Plane", table="plane", x="a", y="b", color="kind", **moves),
        Panel(title="Space", table="space", x="x", y="y", z="z", color="class", shape="of", **moves),
        Panel(title="Beside", table="plane", x="a", y="b", facet="kind", **moves),
    ]
    record = Record(
        name="motion",
        title="Motion",
        question="?",
        tables={"plane": table_of(plane), "space": table_of(space)},
        panels=panels,
    )
    return page.write([record], tmp_path_factory.mktemp("report") / "motion.html", figures=False)


def run(report: Path, folder: Path, script: str, *flags: str, early: str = "") -> object:
    """What the script reports once the page is drawn; the console has to stay silent.

    Scripts that run early come before those of the page.
    """
    copy = with_script(report, folder, f"{READY} (async () => {{ await wait(9000); {script} }})();", early=early)
    document, log = browse(copy, folder, "--window-size=1280,1000", *flags, "--dump-dom")
    assert "CONSOLE" not in log
    return json.loads(title(document))


def test_every_motion_is_drawn_with_its_controls_and_its_stills(report, tmp_path):
    document, log = browse(report, tmp_path, "--dump-dom")
    assert states(document) == ["drawn"] * 3
    assert "CONSOLE" not in log
    assert document.count('<div class="stills vega-embed') == 3
    assert "hidden" not in "".join(part.split(">")[0] for part in document.split('<div class="player"')[1:])


def test_stepping_by_hand_shows_the_points_of_that_step(report, tmp_path):
    script = """
    const seen = [];
    for (const at of [0, 3]) {
      const slider = figure(1).querySelector("input[name='at']");
      slider.value = at;
      slider.dispatchEvent(new Event('input'));
      await wait(300);
      seen.push([figure(1).querySelector('output').textContent, slider.getAttribute('aria-valuetext'), shown(1)]);
    }
    report(seen);
    """
    (first, spoken, start), (later, _, fourth) = run(report, tmp_path, script, "--force-prefers-reduced-motion")
    assert (first, spoken, later) == ("step 0", "step 0", "step 80")
    assert len(fourth) == 3
    assert start == [f"a: 0; b: 0; kind: k{k}; step: 0" for k in range(3)]
    for k, text in enumerate(fourth):
        numbers = dict(part.split(": ") for part in text.replace("−", "-").split("; "))
        assert (numbers["kind"], numbers["step"]) == (f"k{k}", "80")
        # labels carry the rounded coordinates to twelve digits
        assert float(numbers["a"]) == pytest.approx(0.75 * math.cos(2 * k), abs=1e-4)
        assert float(numbers["b"]) == pytest.approx(0.75 * math.sin(2 * k), abs=1e-4)


def test_a_motion_plays_to_its_end_when_asked_and_not_before_for_who_wants_calm(report, tmp_path):
    script = """
    const button = figure(1).querySelector('button');
    const [output, slider] = [figure(1).querySelector('output'), figure(1).querySelector("input[name='at']")];
    figure(1).scrollIntoView();
    await wait(1000);
    const before = [figure(1).dataset.playing, output.textContent, button.textContent];
    const seen = [];
    button.click();
    const during = button.textContent;
    for (let i = 0; i < 60; i += 1) {
      if (seen.at(-1) !== output.textContent) seen.push(output.textContent);
      await wait(50);
    }
    report([before, during, seen, figure(1).dataset.playing, button.textContent]);
    """
    before, during, seen, playing, after = run(report, tmp_path, script, "--force-prefers-reduced-motion")
    assert before == ["false", "step 320", "Play"]
    assert during == "Pause"
    assert seen == [f"step {step}" for step in STEPS]
    assert (playing, after) == ("false", "Play")


def test_a_motion_in_sight_plays_once_by_itself_and_rests_out_of_sight(report, tmp_path):
    """The observer is played by the test: with the time of these tests, Chromium looks at what is in sight once."""
    early = """
    const watched = [];
    window.IntersectionObserver = class {
      constructor(tell) { this.tell = tell; }
      observe(box) { watched.push((isIntersecting) => this.tell([{ isIntersecting, target: box }])); }
    };
    """
    script = """
    const seen = [];
    const look = () => seen.push([figure(1).dataset.playing, figure(1).querySelector('output').textContent]);
    watched[0](true); await wait(600); look();
    watched[0](false); await wait(600); look();
    watched[0](true); await wait(600); look();
    report(seen);
    """
    playing, resting, again = run(report, tmp_path, script, early=early)
    assert playing == ["true", "step 5"]  # 400 ms a frame
    assert resting == again == ["false", "step 5"]
    calm = run(report, tmp_path, script, "--force-prefers-reduced-motion", early=early)
    assert calm == [[None, "step 320"], ["false", "step 320"], ["false", "step 320"]]


def test_the_globe_turns_by_slider_and_by_pointer_and_a_click_stays_a_click(report, tmp_path):
    script = """
    figure(2).scrollIntoView();
    await wait(300);
    const states = [places(2)];
    const keep = async () => { await wait(300); states.push(places(2)); };
    const angle = figure(2).querySelector("input[name='turn']");
    angle.value = 120;
    angle.dispatchEvent(new Event('input'));
    await keep();
    const globe = figure(2).querySelector('svg.marks');
    const box = globe.getBoundingClientRect();
    const at = (type, across, target = globe) => target.dispatchEvent(new PointerEvent(type, {
      bubbles: true, pointerId: 1, button: 0, clientX: box.x + box.width / 2 + across, clientY: box.y + box.height / 2,
    }));
    HTMLElement.prototype.setPointerCapture = () => {}; // there is no pointer behind an event made by hand
    at('pointerdown', 0); at('pointermove', 2);
    await keep();
    at('pointermove', 50); at('pointerup', 50); at('pointermove', 90);
    await keep();
    report([states.map((state) => states.indexOf(state)), Number(angle.value)]);
    """
    order, angle = run(report, tmp_path, script, "--force-prefers-reduced-motion")
    assert order == [0, 1, 1, 3]  # turned by the slider, left alone by two pixels, turned by fifty
    assert angle == round(120 - math.degrees(50 * 0.008))


def test_paper_gets_still_pictures_instead_of_the_player(report, tmp_path):
    script = """
    const shows = () => ['.chart', '.player', '.stills'].map((part) =>
      getComputedStyle(figure(2).querySelector(part)).display !== 'none');
    const screen = shows();
    const rules = [...document.styleSheets].flatMap((sheet) => [...sheet.cssRules]);
    const print = rules.filter((rule) => rule.media?.mediaText === 'print');
    print.forEach((rule) => { rule.media.mediaText = 'screen'; });
    const heads = [...figure(2).querySelectorAll('.stills .role-column-header text')].map((text) => text.textContent);
    report([screen, shows(), heads, print.length]);
    """
    screen, paper, heads, rules = run(report, tmp_path, script, "--force-prefers-reduced-motion")
    assert rules == 1
    assert screen == [True, True, False]
    assert paper == [False, False, True]
    assert heads == ["step 0", "step 20", "step 320"]
