"""The pages of the documentation: what their blocks say holds, and what generates them says what the code says."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest

import tightframe
from tightframe.cli.main import main
from tightframe.cli.options import COMMANDS
from tightframe.experiments.catalog import ENTRIES

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS / "_extensions"))

pytest.importorskip("sphinx", reason="needs the docs extra")

import benchmark_results as results  # noqa: E402
import catalogue  # noqa: E402
import docstrings  # noqa: E402
import mathml  # noqa: E402
import rooms  # noqa: E402

CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.DOTALL | re.MULTILINE)
WRITTEN = sorted(path for path in DOCS.rglob("*.md") if "_" not in path.parent.name)
FORMULAS = [
    (path.relative_to(ROOT).as_posix(), formula)
    for path in WRITTEN
    for text in [CODE.sub("", path.read_text(encoding="utf-8"))]
    for formula in re.findall(r"\$\$(.+?)\$\$", text, re.DOTALL)
]
DISPLAYED = [
    (path.relative_to(ROOT).as_posix(), formula)
    for path in sorted((ROOT / "src").rglob("*.py"))
    for formula in re.findall(r"\.\. math::(.+?)(?:\n\s*\n|\"{3})", path.read_text(encoding="utf-8"), re.DOTALL)
]


def test_there_are_formulas_to_look_at():
    assert len(FORMULAS) > 25
    assert len(DISPLAYED) > 200


@pytest.mark.parametrize(("place", "formula"), [*FORMULAS, *DISPLAYED])
def test_a_formula_becomes_mathml(place, formula):
    assert mathml.converted(formula, block=True).startswith("<math"), place


def test_a_command_nobody_knows_is_refused():
    with pytest.raises(mathml.MathError):
        mathml.converted(r"\nosuchcommand{x}", block=False)


@pytest.mark.parametrize(
    ("plain", "marked"),
    [
        ("the norm |x| of x*y", r"the norm \|x\| of x\*y"),
        ("`components_` and means_ of it", r"``components_`` and means\_ of it"),
        ("a file_name stays", "a file_name stays"),
        ("`Solution`s of it", r"``Solution``\ s of it"),
        ("by [zhu2021geometric], theorem 3.1", "by :cite:p:`zhu2021geometric`, theorem 3.1"),
        ("of nobody [nobody1900nothing]", "of nobody [nobody1900nothing]"),
        (":math:`a_b|c|` as it is", ":math:`a_b|c|` as it is"),
    ],
)
def test_plain_text_becomes_restructured_text(plain, marked):
    assert docstrings.escaped(plain) == marked


def test_a_docstring_keeps_its_formulas_and_examples():
    lines = [
        "Sum |x|.",
        "",
        ".. math:: |x| * y_",
        "",
        "    z_ * |w|",
        "",
        "Args:",
        "    x_: a|b",
        "",
        ">>> f(x_) * 2",
        "a * b",
        "",
    ]
    found = docstrings.rewritten(lines)
    assert found[0] == r"Sum \|x\|."
    assert found[2] == ".. math:: |x| * y_"
    assert found[4] == "    z_ * |w|"
    assert found[7] == r"    x_: a\|b"
    assert found[9:11] == [">>> f(x_) * 2", "a * b"]


@pytest.mark.parametrize(
    ("written", "marked"),
    [
        ("as in [zhu2021geometric], theorem 3.1", "as in {cite:p}`zhu2021geometric`, theorem 3.1"),
        ("| NC1 | zhu2021geometric, weighted |", "| NC1 | {cite:t}`zhu2021geometric`, weighted |"),
        ("see nobody1900nothing and [nobody1900nothing]", "see nobody1900nothing and [nobody1900nothing]"),
        ("`[zhu2021geometric]` in code", "`[zhu2021geometric]` in code"),
        ("```text\n[zhu2021geometric]\n```", "```text\n[zhu2021geometric]\n```"),
        ("call `ufm.certify`", "call {py:obj}`ufm.certify <tightframe.ufm.certify>`"),
        ("call `tightframe.ufm.certify`", "call {py:obj}`ufm.certify <tightframe.ufm.certify>`"),
        ("no `ufm.certificate_of_nothing`", "no `ufm.certificate_of_nothing`"),
        ("a role {py:mod}`ufm.certify` stays", "a role {py:mod}`ufm.certify` stays"),
    ],
)
def test_pages_in_markdown_get_citations_and_links(written, marked):
    assert docstrings.marked(written) == marked


def test_a_property_is_not_split_at_a_colon():
    lines = ["The rank: values above a tolerance."]
    docstrings._process(None, "property", "", None, None, lines)
    assert lines == ["", "The rank: values above a tolerance."]


@pytest.mark.parametrize(
    ("formula", "inside"),
    [
        (r"\tfrac14", "<mn>4</mn>"),
        (r"\frac12 x", "<mn>2</mn>"),
        (r"\widetilde W_l + \hat{\mathbf{a}}_k + \bar\sigma^2", "<msub>"),
        (r"\big(a\big)", 'minsize="1.2em"'),
        (r"\Big\|a\Big\|", "‖"),
        (r"\Bigl[a\Bigr]", 'minsize="1.623em"'),
    ],
)
def test_spellings_that_the_converter_lacks(formula, inside):
    found = mathml.converted(formula, block=False)
    assert inside in found
    assert "<mn>14</mn>" not in found
    assert "<munder>" not in found


def test_what_is_returned_is_one_field():
    found = docstrings.rewritten(
        ["Returns:", "    The gap: a number,", "    at least 0.", "", "Raises:", "    InputError: No."]
    )
    assert found[:2] == [":returns: The gap: a number,", "    at least 0."]
    assert "Raises:" in found


def test_every_room_has_a_page_and_every_export_is_on_it():
    pages = {path.stem: path.read_text(encoding="utf-8") for path in (DOCS / "reference").glob("*.rst")}
    named = set(re.findall(r"^(\w+)$", (DOCS / "reference/index.md").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(tightframe._ROOMS) | {"tightframe"} == set(pages) == named
    for room in ("tightframe", "tightframe.ufm", "tightframe.ntk"):
        text = rooms.page(room)
        for name in rooms.exported(room):
            assert re.search(rf"^\.\. auto\w+:: {re.escape(room)}\.{name}$", text, re.MULTILINE), name


def test_no_name_is_described_twice():
    text = rooms.page("tightframe.features")
    part = text[text.index("automodule:: tightframe.features.moments") :]
    assert re.search(r":exclude-members:.*\bClassMoments\b", part.split("\n\n")[0])
    assert "ClassMoments <tightframe.ClassMoments>" in part


def test_the_table_of_results_has_every_file_with_its_command():
    files = sorted(results.RESULTS.glob("*.md"))
    assert len(files) > 10
    lines = results.table(files).splitlines()[2:]
    assert len(lines) == len(files)
    for path, line in zip(files, lines, strict=True):
        command = re.search(r"^Command: (`[^`]+`)", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert command, f"{path.name} names no command"
        assert command[1] in line
        assert results.whole(path).startswith(f"({line.split('(#')[1].split(')')[0]})=")


def test_the_table_of_experiments_is_the_catalogue():
    named = re.findall(r"^\| `([\w-]+)` \|", catalogue.table(), re.MULTILINE)
    assert named == [entry.name for entry in ENTRIES]


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.relative_to(DOCS).as_posix())
def test_every_link_of_a_page_leads_somewhere(path):
    text = CODE.sub("", path.read_text(encoding="utf-8"))
    links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", text)
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_no_page_needs_the_network():
    for path in [*WRITTEN, DOCS / "conf.py", *(DOCS / "_static").iterdir()]:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"!\[[^\]]*\]\(https?:|<(?:script|img|link|iframe)\b|@import|url\(", text), path.name
    assert "intersphinx" not in (DOCS / "conf.py").read_text(encoding="utf-8")


SHOWN = (DOCS / "which_tool.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(?:tightframe\.)?((?:ufm|nn|ntk|deeplinear|dictionary|collapse)\.[\w.]+)[`(]", SHOWN)))


@pytest.mark.parametrize("dotted", NAMED)
def test_a_name_in_the_choice_of_tools_exists(dotted):
    room, _, rest = dotted.partition(".")
    *modules, name = rest.split(".")
    home = importlib.import_module(".".join(["tightframe", room, *modules]))
    assert getattr(home, name) is not None


def test_the_choice_of_tools_names_many_and_only_commands_that_exist():
    assert len(NAMED) > 20
    commands = set(re.findall(r"`tightframe ([a-z]+)", SHOWN))
    assert len(commands) > 10
    assert commands <= {*COMMANDS, "COMMAND"} | {"list"}


@pytest.mark.parametrize("words", sorted(set(re.findall(r"`tightframe ([a-z][^`\n]*)`", SHOWN))))
def test_the_options_in_the_choice_of_tools_exist(words, capsys):
    command, *options = words.split()
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code in (0, None)
    text = capsys.readouterr().out
    assert [option for option in options if option.startswith("--") and option not in text] == []
