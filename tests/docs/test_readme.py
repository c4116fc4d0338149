"""What the README says works: its code runs, its commands are understood, its files exist.

A block right under the comment `<!-- not run -->` is left out.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

import pytest

from tightframe.cli import commands
from tightframe.cli.main import main

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
FENCE = re.compile(r"^(?P<mark><!-- not run -->\n+)?```(?P<language>\w+)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    line: int
    language: str
    code: str


def blocks(text: str, *languages: str) -> list[Block]:
    return [
        Block(text.count("\n", 0, match.start("code")) + 1, match["language"], match["code"])
        for match in FENCE.finditer(text)
        if match["language"] in languages and match["mark"] is None
    ]


# Every page with code that Python reads; what these show is run whole.
PAGES = [
    README,
    *(page for page in sorted((ROOT / "docs").rglob("*.md")) if blocks(page.read_text(encoding="utf-8"), "python")),
]


def spoken(text: str) -> list[tuple[int, str]]:
    """Lines of the shell blocks with their numbers; a line that ends in a backslash goes on in the next."""
    lines: list[tuple[int, str]] = []
    for block in blocks(text, "sh", "bash", "console", "shell"):
        continued = False
        for number, line in enumerate(block.code.splitlines(), start=block.line):
            words = line.strip().removesuffix("\\").strip()
            if continued:
                start, before = lines.pop()
                lines.append((start, f"{before} {words}"))
            elif words.startswith("$ ") or (words and block.language != "console"):
                lines.append((number, words.removeprefix("$ ")))
            else:
                continue
            continued = line.endswith("\\")
    return lines


def calls(text: str) -> list[tuple[int, list[str]]]:
    """Arguments of every call of tightframe, also under torchrun and in inline code."""
    inline = [(text.count("\n", 0, m.start()) + 1, m[1]) for m in re.finditer(r"`(tightframe [a-z][^`\n]*)`", text)]
    found = []
    for number, line in [*spoken(text), *inline]:
        words = shlex.split(line, comments=True)
        if "tightframe" in words and words[0] in ("tightframe", "torchrun", "python"):
            found.append((number, words[words.index("tightframe") + 1 :]))
    return found


TEXT = README.read_text(encoding="utf-8")
# Inline code often names a command alone; only calls with all they need are parsed.
CALLS = [(number, words) for number, words in calls(TEXT) if len(words) > 1 or words == ["list"]]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_python_blocks_run_in_order(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "readme"}
    ran = 0
    for block in blocks(page.read_text(encoding="utf-8"), "python"):
        code = "\n" * (block.line - 1) + block.code
        exec(compile(code, str(page), "exec", dont_inherit=True), namespace)  # noqa: S102
        ran += 1
    assert ran


def test_no_page_has_lost_its_code():
    shown = {page.relative_to(ROOT / "docs").as_posix() for page in PAGES[1:]}
    guides = {"start", "unconstrained_features", "training_levers", "transfer", "deep_linear", "dictionaries"}
    concepts = {
        f"concepts/{name}" for name in ("collapse", "optima", "certificates", "layers", "rank", "depth", "sparse")
    }
    adding = {f"adding_{name}" for name in ("a_metric", "a_loss", "a_solver", "an_experiment")}
    assert {f"{name}.md" for name in guides | concepts | adding | {"tangent_kernel"}} <= shown


@pytest.mark.parametrize(("line", "words"), CALLS, ids=[f"line {number}" for number, _ in CALLS])
def test_the_command_line_understands(line, words, monkeypatch):
    understood = []
    monkeypatch.setattr(commands, "execute", understood.append)
    if "--config" in words:
        at = words.index("--config")
        words = words[:at] + words[at + 2 :]
    main(words)
    assert len(understood) == 1


def test_every_command_of_the_door_is_shown():
    from tightframe.cli.options import COMMANDS

    assert {words[0] for _, words in CALLS} >= set(COMMANDS)


def test_every_target_of_make_exists():
    named = set(re.findall(r"`?\bmake ([a-z][a-z-]*)`", TEXT)) | set(
        re.findall(r"^make ([a-z-]+)", "\n".join(line for _, line in spoken(TEXT)), re.MULTILINE)
    )
    assert named
    assert named <= TARGETS


def test_every_link_into_the_repository_leads_somewhere():
    links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", TEXT)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
    named = re.findall(r"`((?:src|docs|tests|benchmarks|examples)/[\w./-]*)`", TEXT)
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_what_the_tests_read_is_what_is_written(tmp_path):
    """The reader of blocks itself: marks, prompts, continued lines, comments."""
    page = "a\n```python\nx = 1\n```\n<!-- not run -->\n```python\n1 / 0\n```\n"
    page += "```console\n$ tightframe train \\\n    --out x  # why\nanswer\n"
    page += "$ torchrun -m tightframe run N4 --out y\n```\n"
    assert blocks(page, "python") == [Block(3, "python", "x = 1\n")]
    assert calls(page) == [(10, ["train", "--out", "x"]), (13, ["run", "N4", "--out", "y"])]
