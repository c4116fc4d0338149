"""Solvers of small problems stay on one thread, and put the number of threads back."""

from __future__ import annotations

import pytest
import torch

from tightframe.core.threads import on_few_threads
from tightframe.ufm import UnconstrainedFeatures, descend


@pytest.fixture(autouse=True)
def _threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("features", "expected"), [(8, 1), (80_000, 2)])
def test_the_size_of_the_problem_decides(features, expected):
    problem = UnconstrainedFeatures(classes=5, features=features, per_class=3)
    assert on_few_threads(lambda problem: torch.get_num_threads())(problem) == expected
    assert torch.get_num_threads() == 2


def test_a_descent_is_limited_and_keeps_its_name():
    problem, seen = UnconstrainedFeatures(classes=3, features=4, per_class=2), []
    descend(
        problem=problem,
        steps=2,
        metrics=False,
        observe=lambda *_: {"threads": seen.append(torch.get_num_threads()) or 1.0},
    )
    assert set(seen) == {1}
    assert descend.__name__ == "descend"
    assert torch.get_num_threads() == 2


def test_threads_come_back_after_a_failure():
    with pytest.raises(ZeroDivisionError):
        on_few_threads(lambda problem: 1 / 0)(UnconstrainedFeatures(classes=3, features=4))
    assert torch.get_num_threads() == 2
