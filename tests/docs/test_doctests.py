"""The examples in the docstrings do what they show."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import tightframe
from tightframe.core.errors import MissingDependencyError

# Importing this one is running the command line.
NAMES = [m.name for m in pkgutil.walk_packages(tightframe.__path__, "tightframe.") if m.name != "tightframe.__main__"]


@pytest.mark.parametrize("name", NAMES)
def test_the_examples_of(name):
    try:
        module = importlib.import_module(name)
    except (MissingDependencyError, ModuleNotFoundError) as error:
        missing = getattr(error, "name", None) or ""
        if missing.startswith("tightframe"):
            raise
        pytest.skip(f"needs an optional package: {error}")
    assert doctest.testmod(module, optionflags=doctest.ELLIPSIS).failed == 0


def test_the_most_important_names_have_an_example():
    finder = doctest.DocTestFinder()
    for name in ("measure", "Monitor", "ClassMoments", "FeatureTap"):
        value = getattr(tightframe, name)
        examples = finder.find(value, module=importlib.import_module(value.__module__))
        assert any(test.examples for test in examples), name
