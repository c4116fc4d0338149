"""The gallery: every script runs, leaves its picture, is short, and its committed page is the page of this script."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from examples import SECTIONS
from examples.__main__ import PAGES, index, page, read, run

ROOT = Path(__file__).parents[2]
NAMES = [name for listed in SECTIONS.values() for name in listed]
QUICK = ("minority_collapse",)  # those that the default tests run, a few seconds each


def test_every_script_is_in_the_gallery_once():
    scripts = {path.stem for path in (ROOT / "examples").glob("*.py") if not path.stem.startswith("__")}
    assert len(NAMES) == len(set(NAMES)) >= 20
    assert set(NAMES) == scripts
    pages = {path.stem for path in PAGES.glob("*.md")} - {"index"}
    assert pages == scripts


@pytest.mark.parametrize("name", NAMES)
def test_a_script_is_short_and_its_page_is_up_to_date(name):
    example = read(name)
    assert len(example.script.read_text(encoding="utf-8").splitlines()) <= 120
    assert example.title
    assert example.text
    committed = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    head, _, rest = committed.partition("It prints:")
    assert head.strip() == page(example, "").strip()
    assert ("print(" in example.script.read_text(encoding="utf-8")) == bool(rest)


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_is_large_enough_to_see_and_small_enough_to_keep(name):
    data = (PAGES / f"{name}.png").read_bytes()
    width, height = struct.unpack(">II", data[16:24])
    assert width >= 400
    assert height >= 200
    assert len(data) <= 250_000


def test_the_index_shows_them_all():
    assert (PAGES / "index.md").read_text(encoding="utf-8") == index()


@pytest.mark.parametrize("name", QUICK)
def test_a_quick_script_runs(name, tmp_path):
    run(read(name), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name not in QUICK])
def test_a_script_runs(name, tmp_path):
    run(read(name), tmp_path)
