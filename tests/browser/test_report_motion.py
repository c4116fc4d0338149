"""A motion in headless Chromium: it plays, stops, is stepped and turned by hand, and lies still on paper."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from chromium import browse, states, title, with_script, write

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
    space += [
        {"step": None, "class": k, "of": "frame", "x": x, "y": y, "z": z} for k, (x, y, z) in enumerate(SPACE)
    ]
    moves = {"kind": "motion", "caption": "They move.", "frame": "step"}
    panels = [
        Panel(title="Plane", table="plane", x="a", y="b", color="kind", **moves),
        Panel(title="Space", table="space", x="x", y="y", z="z", color="class", shape="of", **moves),
        Panel(title="Beside", table="plane", x="a", y="b", facet="kind", **moves),
    ]
    record = Record(
        name="motion", title="Motion", question="?", tables={"plane": table_of(plane), "space": table_of(space)},
        panels=panels,
    )
    return page.write([record], tmp_path_factory.mktemp("report") / "motion.html", figures=False)


def run(report: Path, folder: Path, script: str, *flags: str) -> object:
    """What the script reports once the page is drawn; the console has to stay silent."""
    copy = with_script(report, folder, f"{READY} (async () => {{ await wait(9000); {script} }})();")
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
    assert len(start) == len(fourth) == 3
    assert all("a: 0; b: 0; step: 0" in label for label in start)
    place = f"a: {math.cos(2) * 0.75:.4g}; b: {math.sin(2) * 0.75:.4g}; step: 80; kind: k1"
    assert sum(place.replace("-", "−") in label for label in fourth) == 1


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


def test_a_motion_in_sight_plays_once_by_itself_and_can_be_paused(report, tmp_path):
    script = """
    const seen = [];
    figure(2).addEventListener('drawn', () => seen.push('drawn'));
    report(0);
    """
    watch = """
    const seen = [];
    new MutationObserver(() => {
      if (figure(1).dataset.playing === 'true' && seen.push('plays') === 1) {
        setTimeout(() => { figure(1).querySelector('button').click(); }, 500);
      }
      if (figure(1).dataset.playing === 'false' && seen.length) seen.push('rests');
    }).observe(figure(1), { attributes: true, attributeFilter: ['data-playing'] });
    figure(1).scrollIntoView();
    await wait(8000);
    report([seen, figure(1).querySelector('output').textContent]);
    """.replace("await wait(8000)", "await wait(9000)")
    del script
    copy = with_script(report, tmp_path, f"{READY} (async () => {{ {watch} }})();")
    document, _ = browse(copy, tmp_path, "--window-size=1280,1000", "--dump-dom")
    seen, text = json.loads(title(document))
    assert seen == ["plays", "rests"]
    assert text in ("step 5", "step 20")
