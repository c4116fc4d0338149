"""What type checkers see of an installed package: every public name has a type, but for what others leave untyped."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

# scikit-learn ships no types, so that the bases of its estimators have none; a package's loader of names is its own.
UNTYPED_BASES = r"Type of (base class|metaclass) unknown|Type of base class \"tightframe\.\S+\" is partially unknown"
LOADERS = r"\.__(getattr|dir)__$"


def pyright(*arguments: str, cwd: Path) -> dict:
    pytest.importorskip("pyright", reason="the type checker is not installed")
    # pyright reads the types of the interpreter that it finds first.
    place = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        [sys.executable, "-m", "pyright", *arguments, "--outputjson"],
        cwd=cwd,
        env=os.environ | {"PATH": place},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    where = tmp_path_factory.mktemp("elsewhere")
    return pyright("--verifytypes", "tightframe", "--ignoreexternal", cwd=where)["typeCompleteness"]


@pytest.mark.slow
@pytest.mark.timeout(700)
def test_every_public_name_has_a_type(report):
    places = {}
    for symbol in report["symbols"]:
        if not symbol["isExported"] or re.search(LOADERS, symbol["name"]):
            continue
        said = [d["message"] for d in symbol.get("diagnostics", []) if not re.match(UNTYPED_BASES, d["message"])]
        if not symbol["isTypeKnown"] and said and not consequences(said, report):
            places[symbol["name"]] = said[0]
    assert places == {}
    assert report["completenessScore"] > 0.99


@pytest.mark.slow
@pytest.mark.timeout(700)
def test_the_files_named_in_the_project_are_strictly_typed():
    found = pyright(cwd=Path(__file__).parents[2])
    assert found["summary"]["filesAnalyzed"] >= 16
    assert [diagnostic["message"] for diagnostic in found["generalDiagnostics"]] == []


def consequences(messages: list[str], report: dict) -> bool:
    """Whether all that is said of a symbol is that it takes or returns an estimator whose bases are untyped."""
    estimators = {
        symbol["name"].rsplit(".", 1)[1]
        for symbol in report["symbols"]
        if any(re.match(UNTYPED_BASES, d["message"]) for d in symbol.get("diagnostics", []))
    }
    named = [set(re.findall(r"\w+", text)) for text in messages]
    return all("partially unknown" in text and words & estimators for text, words in zip(messages, named, strict=True))
