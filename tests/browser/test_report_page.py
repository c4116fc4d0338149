"""The page in headless Chromium: every chart drawn, nothing fetched, labels inert, phone and paper served."""

from __future__ import annotations

import html
import json
import math
import random
import re
from pathlib import Path

import pytest

from chromium import browse, states, title, with_script, write
from tightframe.report import page
from tightframe.report.compare import compare
from tightframe.runs.record import Claim, Panel, Record, series_table

pytestmark = pytest.mark.browser

HOSTILE = "</script><script>document.documentElement.dataset.owned='yes'</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    return page.write([rich_record("collapse"), rich_record("second", factor=2.0)], path, figures=False)


@pytest.fixture(scope="module")
def visit(report, tmp_path_factory) -> tuple[str, str]:
    """The report's document after its scripts ran, and the browser's log."""
    return browse(report, tmp_path_factory.mktemp("profile"), "--window-size=1280,1000", "--dump-dom")


def rich_record(name: str, *, factor: float = 1.0) -> Record:
    rng = random.Random(0)
    metrics = {"nc1": 0.05, "cdnv": 0.04, "nc2": 0.03, "nc3": 0.02, "nc4": 0.0, "vci": 0.01}
    rows = [
        {
            "run": "",
            "epoch": e,
            "split": s,
            "layer": "",
            "metric": m,
            "value": factor * math.exp(-e * r) if r else e % 2,
        }
        for e in range(200)
        for s in ("train", "test")
        for m, r in metrics.items()
    ]
    classes = ["0", "1", HOSTILE, 'it\'s "3"\\']
    depth = {"layer": [f"blocks.{i}" for i in range(8)]}
    depth |= {"D": [10.0**-i for i in range(8)], "fit": [1.1 * 10.0**-i for i in range(8)]}
    gram = [
        (state, a, b, 1.0 if a == b else -1 / 3 + (rng.gauss(0, 0.1) if state == "measured" else 0.0))
        for state in ("measured", "ideal ETF")
        for a in classes
        for b in classes
    ]
    points = [(epoch, rng.choice(classes), rng.gauss(0, 1), rng.gauss(0, 1)) for epoch in (0, 199) for _ in range(150)]
    curves = {"kind": "curves", "table": "series", "x": "epoch", "y": "value"}
    panels = [
        Panel(**curves, title="All", caption="All metrics.", color="metric", y_scale="log"),
        Panel(**curves, title="By metric", caption="Apart.", color="split", facet="metric", y_scale="log"),
        Panel(kind="layers", title="Depth", caption="D.", table="depth", x="layer", y="D", y_scale="log"),
        Panel(
            kind="matrix", title="Gram", caption="G.", table="gram", x="column", y="row", value="cosine", facet="state"
        ),
        Panel(
            kind="scatter",
            title="Features",
            caption="F.",
            table="points",
            x="a.1",
            y="a[2]",
            color="class",
            facet="epoch",
        ),
        Panel(kind="scatter", title="Last", caption="L.", table="points", x="a.1", y="a[2]", color="class"),
    ]
    return Record(
        name=name,
        title=f"Collapse of {name}",
        question="Does it collapse?",
        answer="It does.",
        config={"epochs": 200, "a_long_key_" * 6: "a_long_value_" * 12},
        environment={"torch": "2.5"},
        series=series_table(rows),
        tables={
            "depth": depth,
            "gram": dict(zip(("state", "row", "column", "cosine"), map(list, zip(*gram, strict=True)), strict=True)),
            "points": dict(zip(("epoch", "class", "a.1", "a[2]"), map(list, zip(*points, strict=True)), strict=True)),
            "wide": {f"a rather long column {i}": [1.0] for i in range(30)},
        },
        panels=panels,
        claims=[
            Claim(id="A", statement="Holds.", source="S", expected=1.0, observed=0.5),
            Claim(id="B", statement="Fails.", source="S", expected=1.0, observed=2.0),
            Claim(id=HOSTILE, statement="Absent.", source="S", expected=1.0, observed=None),
        ],
    )


def figures(document: str) -> list[str]:
    return re.findall(r'<figure id="figure-\d+".*?</figure>', document, flags=re.DOTALL)


def test_every_chart_is_drawn_with_its_marks(visit):
    document, _ = visit
    assert states(document) == ["drawn"] * 12
    shown = figures(document)
    expected = ((0, "line mark", 6 * 2), (2, "point", 8), (3, "rect mark", 4 * 4 * 2), (5, "point", 300))
    for figure, kind, count in expected:
        assert shown[figure].count(f'aria-roledescription="{kind}"') == count
    for figure in shown:
        assert "<svg" in figure
        assert "NaN" not in re.sub(r"<script.*?</script>", "", figure, flags=re.DOTALL)


def test_the_console_stays_silent_and_nothing_is_fetched(visit):
    _, log = visit
    assert "CONSOLE" not in log


def test_hostile_labels_are_shown_and_never_run(visit):
    document, _ = visit
    assert "data-owned" not in document.split(">", 2)[1]
    assert not re.search(r"<img", re.sub(r"<script.*?</script>", "", document, flags=re.DOTALL))
    assert html.escape(HOSTILE, quote=False) in document


def test_neither_a_phone_nor_a_desk_needs_sideways_scrolling(report, tmp_path):
    """Chromium's windows are at least 500 wide, so the phone is a frame 375 wide."""
    inner = html.escape(report.read_text(encoding="utf-8"))
    frames = "".join(f'<iframe width="{width}" height="900" srcdoc="{inner}"></iframe>' for width in (375, 1100))
    measure = (
        "setTimeout(() => { document.title = [...document.querySelectorAll('iframe')].map((frame) => {"
        "const page = frame.contentDocument;"
        "page.querySelectorAll('details').forEach((part) => { part.open = true; });"
        "const edges = [...page.querySelectorAll('svg.marks')].map((svg) => svg.getBoundingClientRect().right);"
        "return [frame.contentWindow.innerWidth, page.documentElement.scrollWidth, Math.max(...edges),"
        "page.querySelectorAll('[data-state=drawn]').length].join(' '); }).join('; '); }, 14000);"
    )
    path = write(tmp_path / "frames.html", f"<!doctype html><title></title>{frames}<script>{measure}</script>")
    document, _ = browse(path, tmp_path, "--dump-dom")
    measured = title(document).split("; ")
    for wanted, values in zip((375, 1100), measured, strict=True):
        width, scroll, edge, drawn = map(float, values.split())
        assert width == wanted
        assert max(scroll, edge) <= width
        assert drawn == 12


def test_a_click_on_a_legend_entry_fades_the_others_and_a_tooltip_is_inert(report, tmp_path):
    script = """
    setTimeout(async () => {
      const at = (node, type) => { const box = node.getBoundingClientRect(); node.dispatchEvent(new MouseEvent(type,
        {bubbles: true, clientX: box.x + box.width / 2, clientY: box.y + box.height / 2})); };
      const opacities = () => [...document.querySelectorAll('#figure-1 path[aria-roledescription="line mark"]')]
        .map((line) => line.getAttribute('opacity') ?? '1');
      at(document.querySelector('#figure-1 .role-legend-symbol path'), 'click');
      await new Promise((done) => setTimeout(done, 500));
      const faded = opacities().filter((value) => Number(value) < 0.5).length;
      const point = [...document.querySelectorAll('#figure-6 path[aria-roledescription="point"]')]
        .find((node) => node.getAttribute('aria-label').includes('onerror'));
      at(point, 'pointermove'); at(point, 'mousemove');
      await new Promise((done) => setTimeout(done, 500));
      const tip = document.querySelector('#vg-tooltip-element');
      document.title = JSON.stringify([faded, opacities().length, tip.textContent.includes('onerror'),
        tip.querySelectorAll('img, script').length]);
    }, 10000);
    """
    document, log = browse(with_script(report, tmp_path, script), tmp_path, "--dump-dom")
    assert title(document) == "[10,12,true,0]"
    assert "CONSOLE" not in log


def test_a_chart_that_fails_says_so_and_leaves_the_others(report, tmp_path):
    text = report.read_text(encoding="utf-8")
    broken = text.replace('"type": "line"', '"type": "no such mark"', 1)
    assert broken != text
    document, _ = browse(write(tmp_path / "broken.html", broken), tmp_path, "--dump-dom")
    assert states(document) == ["failed"] + ["drawn"] * 11
    assert re.search(r'class="failure" role="alert">This figure could not be drawn: \w', document)


def test_figures_in_sight_are_drawn_before_the_others(report, tmp_path):
    script = """
    const drawn = [];
    document.addEventListener('drawn', (event) => drawn.push(Number(event.target.id.split('-')[1])));
    document.querySelector('#figure-9').scrollIntoView();
    setTimeout(() => { document.title = JSON.stringify(drawn); }, 12000);
    """
    document, _ = browse(with_script(report, tmp_path, script), tmp_path, "--window-size=1280,700", "--dump-dom")
    order = json.loads(title(document))
    assert sorted(order) == list(range(1, 13))
    assert set(order[:2]) <= {8, 9, 10}
    assert order.index(1) > 6


def test_the_page_prints(report, tmp_path):
    browse(report, tmp_path, "--no-pdf-header-footer", f"--print-to-pdf={tmp_path / 'report.pdf'}")
    content = (tmp_path / "report.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", content)) >= 6


def test_unusual_tables_are_drawn_without_a_warning(tmp_path):
    tables = {
        "single": {"x": [0], "y": [0.5]},
        "constant": {"x": [0, 1, 2], "y": [0.3, 0.3, 0.3]},
        "extreme": {"x": [0, 1, 2], "y": [1e-18, 3e-300, 1e5]},
        "seven": {"x": [0, 1] * 7, "y": [0.1 * i for i in range(14)], "part": [f"p {i // 2}" for i in range(14)]},
        "many": {"x": list(range(90)), "y": [i * 17 % 89 for i in range(90)], "kind": [i % 30 for i in range(90)]},
        "cell": {"x": ["a"], "y": ["b"], "v": [0.0]},
        "deep": {"x": [f"model.encoder.layers.{i}.output" for i in range(40)], "y": [2.0**-i for i in range(40)]},
    }
    panels = [
        *(Panel(kind="curves", title=t, caption="", table=t, x="x", y="y") for t in ("single", "constant", "seven")),
        *(
            Panel(kind="curves", title=t, caption="", table=t, x="x", y="y", y_scale="log")
            for t in ("single", "constant", "extreme")
        ),
        Panel(kind="curves", title="s", caption="", table="seven", x="x", y="y", facet="part"),
        Panel(kind="scatter", title="m", caption="", table="many", x="x", y="y", color="kind"),
        Panel(kind="matrix", title="c", caption="", table="cell", x="x", y="y", value="v"),
        Panel(kind="layers", title="d", caption="", table="deep", x="x", y="y", y_scale="log"),
    ]
    record = Record(name="odd", title="Odd", question="?", tables=tables, panels=panels)
    path = page.write([record], tmp_path / "odd.html", figures=False)
    document, log = browse(path, tmp_path, "--dump-dom")
    assert states(document) == ["drawn"] * len(panels)
    assert "CONSOLE" not in log


def test_a_comparison_is_drawn_too(tmp_path):
    both = compare(rich_record("first"), rich_record("second", factor=3.0))
    path = page.write([both], tmp_path / "compare.html", figures=False)
    document, log = browse(path, tmp_path, "--dump-dom")
    assert states(document) == ["drawn"] * 6
    assert "CONSOLE" not in log
