"""The source keeps the shape that was decided: floors, sizes, names, words."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src/tightframe"
FILES = sorted(SOURCE.rglob("*.py"))
TREES = {path.relative_to(SOURCE).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in FILES}

MOST_LINES = 300
MOST_LINES_OF_A_FUNCTION = 60
SPOKEN_FOR_NOTHING = {"utils", "helpers", "misc", "common"}

# Written in two parts, so that this file passes its own search.
PRIVATE = {
    "a path of one machine": r"(?<![\w.~/\])}:])/" + r"(?:work|root|home|tmp|Users|mnt)\b(?=/|\b)",
    "a package index": r"--(?:extra-)?index" + r"-url|--trusted" + r"-host|--find" + r"-links",
    "an address": r"https?://(?:local" + r"host|\d+\.\d+\.\d+\.\d+|[\w.-]+\.(?:internal|local|corp|lan))\b",
}
UNFINISHED = r"\b(?:TO" + r"DO|FIX" + r"ME|X" + r"XX)\b"


def tracked_files() -> list[Path]:
    """Files that git follows or would follow; without git, those of the source and the tests."""
    listing = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        names = subprocess.run(listing, capture_output=True, check=True, text=True).stdout.split("\0")
    except (OSError, subprocess.CalledProcessError):
        return [path for folder in ("src", "tests") for path in (ROOT / folder).rglob("*.py")]
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def found(pattern: str, paths: list[Path]) -> list[str]:
    """Places in text files where the pattern occurs."""
    places = []
    for path in paths:
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for match in re.finditer(pattern, text):
            line = text.count("\n", 0, match.start()) + 1
            places.append(f"{path.relative_to(ROOT)}:{line}: {match.group()}")
    return places


def functions(tree: ast.AST) -> list[ast.FunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def code_lines(function: ast.FunctionDef) -> int:
    """Lines from the first decorator to the last statement, less those of the docstring."""
    first = min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)])
    has_docstring = ast.get_docstring(function) is not None
    docstring = function.body[0].end_lineno - function.body[0].lineno + 1 if has_docstring else 0
    return function.end_lineno - first + 1 - docstring


def is_setter(method: ast.FunctionDef) -> bool:
    return any(ast.unparse(decorator) == f"{method.name}.setter" for decorator in method.decorator_list)


def undocumented(tree: ast.Module) -> list[str]:
    """Public classes, functions and methods without a docstring; that of a property serves its setter."""
    missing = [] if ast.get_docstring(tree) else ["the module"]
    for node in tree.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef) or node.name.startswith("_"):
            continue
        if not ast.get_docstring(node):
            missing.append(node.name)
        if isinstance(node, ast.ClassDef):
            methods = [method for method in node.body if isinstance(method, ast.FunctionDef)]
            missing += [
                f"{node.name}.{method.name}"
                for method in methods
                if not method.name.startswith("_") and not ast.get_docstring(method) and not is_setter(method)
            ]
    return missing


def test_imports_go_strictly_down():
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as lint; lint()", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 kept, 0 broken" in done.stdout


def test_every_room_of_experiments_is_independent_and_its_list_imports_nothing_else():
    """A room that the contract does not name could import its neighbours; so could the lists that it leaves out."""
    contract = (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("modules = [")[1].split("]")[0]
    named = set(re.findall(r'"tightframe\.experiments\.(\w+)"', contract))
    assert named == {path.parent.name for path in SOURCE.glob("experiments/*/__init__.py")}
    for room in named:
        tree = TREES[f"experiments/{room}/entries.py"]
        imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert imported <= {"__future__", "tightframe.experiments.entry"}, room


def test_every_room_stands_on_a_floor():
    """A folder that the contract does not name would be free to import anything."""
    floors = (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("layers = [")[1].split("]")[0]
    named = {room.strip() for line in re.findall(r'"([^"]+)"', floors) for room in line.split("|")}
    assert named == {path.parent.name for path in SOURCE.glob("*/__init__.py")}


@pytest.mark.parametrize("name", TREES)
def test_a_file_is_short_and_documented(name):
    tree = TREES[name]
    lines = len((SOURCE / name).read_text(encoding="utf-8").splitlines())
    assert lines <= MOST_LINES, f"{name} has {lines} lines: move a concept into a file of its own"
    long = {f.name: code_lines(f) for f in functions(tree) if code_lines(f) > MOST_LINES_OF_A_FUNCTION}
    assert not long, f"functions of {name} that are too long: {long}"
    assert undocumented(tree) == []


def test_names_say_what_is_inside():
    empty_words = [
        path.relative_to(ROOT).as_posix()
        for path in tracked_files()
        if SPOKEN_FOR_NOTHING & set(re.split(r"[/._-]", path.relative_to(ROOT).as_posix().lower()))
    ]
    assert empty_words == []


def test_nothing_is_printed_and_no_input_is_asserted():
    offences = []
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            printed = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
            bare = isinstance(node, ast.ExceptHandler) and node.type is None
            if printed or bare or isinstance(node, ast.Assert):
                offences.append(f"{name}:{node.lineno}: {type(node).__name__}")
    assert offences == []


def test_init_files_only_say_what_the_room_is():
    """A package that imports on its own would make every import of a neighbour slow."""
    for name, tree in TREES.items():
        if name.endswith("/__init__.py"):
            assert ast.get_docstring(tree), name
            imported = {node.module for node in tree.body if isinstance(node, ast.ImportFrom)}
            assert imported <= {"__future__", "typing", "tightframe.core.lazy"}, name


def test_nothing_is_left_unfinished():
    assert found(UNFINISHED, tracked_files()) == []


def test_the_search_finds_what_it_looks_for(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(f"run '/{'tmp'}/x' or\n/{'home'}/me, not a/{'tmp'} nor example.com/{'work'}\nTO{'DO'}")
    places = found(PRIVATE["a path of one machine"], [page])
    assert [place.split(": ")[0] for place in places] == ["page.md:1", "page.md:2"]
    assert len(found(UNFINISHED, [page])) == 1


@pytest.mark.parametrize("what", PRIVATE)
def test_no_file_names(what):
    assert found(PRIVATE[what], tracked_files()) == []
