"""What is published: the wheel holds the package and nothing else, works unpacked, and can be built from the sdist."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from tightframe.core.errors import MissingDependencyError

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
STEM = f"tightframe-{PROJECT['version']}"


def run(*arguments, cwd):
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def contents(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return sorted(archive.namelist())


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """(wheel, sdist), built from the checkout."""
    pytest.importorskip("hatchling", reason="the build backend is not installed")
    out = tmp_path_factory.mktemp("dist")
    run("-m", "hatchling", "build", "-t", "wheel", "-t", "sdist", "-d", out, cwd=ROOT)
    return out / f"{STEM}-py3-none-any.whl", out / f"{STEM}.tar.gz"


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(built):
    found = [name for name in contents(built[0]) if not name.startswith(f"{STEM}.dist-info/")]
    files = [path for path in (SOURCE / "tightframe").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert found == sorted(path.relative_to(SOURCE).as_posix() for path in files)
    assert {"tightframe/py.typed", "tightframe/report/templates/page.html.j2"} <= set(found)


@pytest.mark.slow
def test_the_metadata_say_what_the_project_says(built):
    with zipfile.ZipFile(built[0]) as archive:
        metadata = Parser().parsestr(archive.read(f"{STEM}.dist-info/METADATA").decode())
        points = archive.read(f"{STEM}.dist-info/entry_points.txt").decode()
        licence = archive.read(f"{STEM}.dist-info/licenses/LICENSE")
    assert metadata["Version"] == PROJECT["version"]
    assert metadata["License-Expression"] == "Apache-2.0"
    assert licence == (ROOT / "LICENSE").read_bytes()
    assert set(metadata.get_all("Provides-Extra")) == set(PROJECT["optional-dependencies"])
    assert "# tightframe" in metadata.get_payload()
    assert "tightframe = tightframe.cli.main:main" in points


@pytest.mark.slow
def test_the_wheel_works_where_the_checkout_is_not(built, tmp_path):
    with zipfile.ZipFile(built[0]) as archive:
        archive.extractall(tmp_path)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import tightframe; from tightframe.cli.main import main; main(['list'])\n"
        "from tightframe.report import page; from tightframe.runs.record import Record\n"
        "page.write([Record(name='a', title='A', question='?')], 'page.html'); sys.stdout.write(tightframe.__file__)"
    )
    lines = run("-c", code, cwd=tmp_path).splitlines()
    assert Path(lines[-1]).is_relative_to(tmp_path)
    assert lines[0].startswith("experiments")
    assert "<style>" in (tmp_path / "page.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_sdist_builds_the_same_wheel(built, tmp_path):
    with tarfile.open(built[1]) as archive:
        archive.extractall(tmp_path, filter="data")
    run("-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path / "again", cwd=tmp_path / STEM)
    assert contents(tmp_path / "again" / built[0].name) == contents(built[0])
    assert (tmp_path / STEM / "CITATION.cff").is_file()


def test_the_citation_names_the_version_and_the_licence_of_the_project():
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    said = dict(re.findall(r"^([\w-]+): (\S.*)$", text, re.MULTILINE))
    assert said["version"] == PROJECT["version"]
    assert said["license"] == PROJECT["license"]
    assert said["title"] == PROJECT["name"]
    assert f"- name: {PROJECT['authors'][0]['name']}" in text


def extras_in_errors() -> dict[str, set[str]]:
    """By extra, the packages whose absence an error of the library answers with it."""
    named: dict[str, set[str]] = {}
    for path in (SOURCE / "tightframe").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "missing_package":
                said, extra = ast.unparse(node.args[0]), ast.literal_eval(node.args[1])
                named.setdefault(extra, set()).update(re.findall(r"`([\w{}]+)`", said))
    return named


def test_an_error_about_a_package_names_an_extra_that_installs_it():
    extras = {
        extra: {re.match(r"[\w-]+", line).group() for line in lines}
        for extra, lines in PROJECT["optional-dependencies"].items()
    }
    found = extras_in_errors()
    # The other extras are for comparisons, which are left out without their packages, and for those who work on this.
    assert set(found) == set(extras) - {"labels", "images", "docs", "dev"}
    # The packages of ONNX are imported, and named, in a loop.
    assert found.pop("export") == {"{name}"}
    for extra, packages in found.items():
        assert packages <= extras[extra]


def test_every_extra_is_explained_where_one_starts():
    page = (ROOT / "docs" / "start.md").read_text(encoding="utf-8")
    rows = [re.findall(r"`(\w+)`", line.split("|")[1]) for line in page.splitlines() if line.startswith("| `")]
    assert sorted(name for row in rows for name in row) == sorted(PROJECT["optional-dependencies"])


@pytest.mark.parametrize(
    ("package", "extra", "module"),
    [("peft", "hf", "integrations.peft"), ("transformers", "hf", "integrations.transformers")],
)
def test_a_module_without_its_package_says_what_installs_it(package, extra, module, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"tightframe.{module}", raising=False)
    with pytest.raises(MissingDependencyError, match=rf"`{package}`.*pip install 'tightframe\[{extra}\]'"):
        importlib.import_module(f"tightframe.{module}")
