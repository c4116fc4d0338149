"""The page as text: order, escaping, self-containment, atomic writing. (Its behaviour is in tests/browser.)"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from tightframe.core.errors import InputError
from tightframe.report import page
from tightframe.runs.record import Claim, Panel, Record

HOSTILE = '</script><script>alert(1)</script><!--<img src=x onerror=alert(2)>" onload="\u2028\u2029'
PANEL = Panel(kind="curves", title="Curve", caption="A curve.", table="t", x="x", y="y", color="label")


def record(name="one", *, label="a", **fields) -> Record:
    given = {"title": name.upper(), "question": "Why?", "panels": [PANEL]} | fields
    return Record(name=name, tables={"t": {"x": [0, 1], "y": [1.0, 2.0], "label": [label] * 2}}, **given)


class Outline(HTMLParser):
    """Tags with their attributes, and the text inside `script` elements."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_data(self, data):
        if self.tags and self.tags[-1][0] == "script" and self.cdata_elem == "script":
            attrs, text = self.scripts[-1]
            self.scripts[-1] = (attrs, text + data)


def test_claims_come_first_then_environment_then_every_record():
    claims = [
        Claim(id="A", statement="Good.", source="S", expected=1.0, observed=0.5),
        Claim(id="B", statement="Bad.", source="S", expected=1.0, observed=2.0),
        Claim(id="C", statement="Absent.", source="S", expected=1.0, observed=None, note="no GPU"),
    ]
    text = page.render([record(claims=claims, environment={"torch": "2.5"}), record("two", answer="Because.")])
    places = [text.index(mark) for mark in (">Claims<", ">Environment<", 'id="run-1"', 'id="figure-1"', 'id="run-2"')]
    assert places == sorted(places)
    counts = re.findall(r"<dt>(.*?)</dt><dd>(\d+)</dd>", text)
    assert counts == [("claim passed", "1"), ("claim failed", "1"), ("claim not run", "1")]
    verdicts = re.findall(r'<tr role="row" class="(passed|failed|not-run)">', text)
    assert verdicts == ["passed", "failed", "not-run"]
    assert re.search(r"</span>not run</span>", text)
    assert text.index("Why?") < text.index('id="figure-1"')
    assert text.index("Because.") < text.index('id="figure-2"')


def test_headings_descend_one_step_at_a_time_and_ids_are_unique():
    outline = Outline(page.render([record(config={"a": 1}), record("two")]))
    levels = [int(tag[1]) for tag, _ in outline.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    ids = [attrs["id"] for _, attrs in outline.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    html = next(attrs for tag, attrs in outline.tags if tag == "html")
    assert html["lang"] == "en"
    assert all("scope" in attrs for tag, attrs in outline.tags if tag == "th")


def test_hostile_text_is_inert_wherever_it_stands():
    hostile = Record(
        name=HOSTILE,
        title=HOSTILE,
        question=HOSTILE,
        answer=HOSTILE,
        config={HOSTILE: HOSTILE},
        preset=HOSTILE,
        environment={HOSTILE: HOSTILE},
        tables={HOSTILE: {HOSTILE: [HOSTILE, "b"], "y": [1, 2]}},
        panels=[
            Panel(kind="layers", title=HOSTILE, caption=HOSTILE, table=HOSTILE, x=HOSTILE, y="y", color=HOSTILE),
            Panel(kind="curves", title=HOSTILE, caption=HOSTILE, table=HOSTILE, x=HOSTILE, y="y"),
        ],
        claims=[Claim(id=HOSTILE, statement=HOSTILE, source=HOSTILE, expected=0, observed=None, note=HOSTILE)],
        started=HOSTILE,
    )
    outline = Outline(page.render([hostile, hostile], title=HOSTILE))
    tags = [tag for tag, _ in outline.tags]
    plain = [tag for tag, _ in Outline(page.render([record(), record()])).tags]
    assert "img" not in tags
    assert tags.count("script") == plain.count("script")  # one drawable panel in each record, and two scripts
    assert not any(name.startswith("on") for _, attrs in outline.tags for name in attrs)
    spec = next(text for attrs, text in outline.scripts if attrs.get("type") == "application/json")
    assert not re.search("[<>&\u2028\u2029]", spec)
    (rows,) = json.loads(spec)["datasets"].values()
    assert rows[0]["x"] == HOSTILE


def test_the_page_fetches_nothing_and_runs_only_its_own_scripts():
    text = page.render([record(label=HOSTILE)])
    outline = Outline(text)
    links = [attrs.get("src") or attrs.get("href") for tag, attrs in outline.tags if {"src", "href"} & set(attrs)]
    assert links
    assert all(link.startswith(("#", "data:")) for link in links)
    assert not re.search(r"@import|url\(", text[text.index("<style>") : text.index("</style>")])
    policy = next(a["content"] for t, a in outline.tags if t == "meta" and a.get("http-equiv"))
    own = [text for attrs, text in outline.scripts if attrs.get("type") != "application/json"]
    assert len(own) == 2
    for script in own:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy
    assert "'unsafe-inline'" not in policy.split("script-src")[1].split(";")[0]


def test_the_bundle_is_embedded_once_and_only_where_something_is_drawn():
    one, many = page.render([record()]), page.render([record(), record("two"), record("three")])
    assert len(many) < 1.2 * len(one)
    assert len(page.render([record(panels=[])])) < 40_000


def test_a_panel_that_cannot_be_drawn_says_why_and_the_rest_stays():
    broken = Panel(kind="curves", title="Broken", caption="", table="t", x="x", y="y", where={"label": "<none>"})
    text = page.render([record(panels=[broken, PANEL])])
    assert text.count('data-state="failed"') == 1
    assert text.count('data-state="waiting"') == 1
    assert "could not be drawn: panel &#39;Broken&#39; has at least one row" in text


def test_contents_count_the_claims_of_every_record_and_claims_stand_under_their_record():
    claims = [
        Claim(id="A", statement="Good.", source="S", expected=1.0, observed=0.5),
        Claim(id="B", statement="Bad.", source="S", expected=1.0, observed=2.0),
    ]
    text = page.render([record(claims=claims), record("two", claims=claims[:1]), record("three")])
    contents = text[text.index('<nav id="contents"') : text.index("</nav>")]
    assert re.findall(r"(\d+) (passed|failed|not run)<", contents) == [
        ("1", "passed"),
        ("1", "failed"),
        ("1", "passed"),
    ]
    table = text[text.index('<table class="claims"') : text.index("</table>")]
    heads = re.findall(r'<th scope="rowgroup"[^>]*><a href="(#run-\d)">(\w+)</a>', table)
    assert heads == [("#run-1", "ONE"), ("#run-2", "TWO")]
    assert text.count('<a href="#contents">') == 3
    alone = page.render([record(claims=claims)])
    assert "#contents" not in alone
    assert 'class="part"' not in alone


def test_the_player_comes_only_with_a_motion():
    tables = {"t": {"x": [0, 1], "y": [1.0, 2.0], "z": [0.0, 1.0], "step": [0, 10]}}
    moves = {"kind": "motion", "title": "M", "caption": "", "table": "t", "x": "x", "y": "y", "frame": "step"}
    flat, solid = (
        page.render([Record(name="r", title="R", question="?", tables=tables, panels=[Panel(**moves, **more)])])
        for more in ({}, {"z": "z"})
    )
    for text in (flat, solid):
        assert re.search(r'<input type="range" name="at" min="0" max="1" value="1" aria-label="step">', text)
        assert text.count('class="stills"') == 1
        assert "prefers-reduced-motion" in text
    assert '<input type="range" name="turn"' in solid
    assert '<input type="range" name="turn"' not in flat
    assert "prefers-reduced-motion" not in page.render([record()])


def test_a_chart_keeps_its_room_until_it_is_drawn():
    tables = {"t": {"x": list(range(8)), "y": [0.0] * 8, "part": list("aabbccdd")}}
    panels = [
        Panel(kind="curves", title="A", caption="", table="t", x="x", y="y"),
        Panel(kind="curves", title="B", caption="", table="t", x="x", y="y", facet="part"),
    ]
    text = page.render([Record(name="r", title="R", question="?", tables=tables, panels=panels)])
    assert re.findall(r"min-height: (\d+)px", text) == ["320", "440"]  # two rows of 220


def test_configuration_states_the_difference_or_that_there_is_none():
    same = page.render([record(config={"lr": 0.1}, preset="smoke", preset_config={"lr": 0.1})])
    other = page.render([record(config={"lr": 0.2}, preset="smoke", preset_config={"lr": 0.1})])
    assert "Every setting is as in the preset <b>smoke</b>." in same
    assert '<tr><th scope="row">lr</th><td>0.1</td><td>0.2</td></tr>' in other


def test_long_tables_are_cut_and_say_so():
    size = page.MOST_ROWS + 1
    long = Record(name="r", title="R", question="?", tables={"t": {"x": list(range(size))}})
    text = page.render([long])
    assert f"The first {page.MOST_ROWS} of {size} rows of t" in text
    assert text.count('<td class="num">') == page.MOST_ROWS


def test_a_report_needs_a_record_and_a_file(tmp_path):
    with pytest.raises(InputError, match=r"at least one record; got none\. Name the runs"):
        page.render([])
    with pytest.raises(InputError, match=r"written to a file; got the folder .* Write .*report\.html"):
        page.write([record()], tmp_path)


def test_writing_is_whole_or_not_at_all(tmp_path, monkeypatch):
    target = tmp_path / "new" / "report.html"
    assert page.write([record()], target, figures=False) == target
    before = target.read_bytes()

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(InputError, match="no space left"):
        page.write([record("two")], target, figures=False)
    assert target.read_bytes() == before
    assert [path.name for path in target.parent.iterdir()] == ["report.html"]


def test_figures_are_saved_beside_the_page_without_overwriting_each_other(tmp_path):
    broken = Panel(kind="curves", title="Broken", caption="", table="t", x="x", y="y", where={"label": "none"})
    page.write([record(panels=[broken, PANEL]), record(), record("two")], tmp_path / "a.html")
    names = sorted(path.name for path in (tmp_path / "a_figures").iterdir())
    stems = ("one-1-01-curve", "one-2-01-curve", "two-01-curve")
    assert names == sorted(stem + end for stem in stems for end in (".svg", ".pdf"))


def test_a_lone_surrogate_in_a_label_loses_nothing(tmp_path):
    path = page.write([record(label="caf\udce9", title="caf\udce9")], tmp_path / "r.html")
    assert "caf&#56553;" in path.read_text(encoding="utf-8")
    assert list((tmp_path / "r_figures").iterdir())
