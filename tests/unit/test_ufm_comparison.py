"""The solver's minimum beside the closed form: every quantity is what its name says."""

from __future__ import annotations

import pytest
import torch

from tightframe.core.errors import InputError
from tightframe.ufm import comparison
from tightframe.ufm.comparison import compared
from tightframe.ufm.model import UnconstrainedFeatures
from tightframe.ufm.optima import optimum
from tightframe.ufm.solvers import solve


def model(**changes) -> UnconstrainedFeatures:
    settings = {"classes": 3, "features": 4, "per_class": 5, "loss": "mse", "weight_decay": (1e-2, 1e-2)} | changes
    return UnconstrainedFeatures(**settings)


@pytest.mark.parametrize("changes", [{}, {"bias": "free"}, {"bias": 0.5}, {"loss": "ce"}, {"loss": "focal"}])
def test_found_and_predicted_agree(changes):
    found = compared(model(**changes))
    # Newton's method ends at rounding; the errors of a point are about the root of its gap where it did not.
    assert max(found[name] for name in ("value error", "logits error", "bias error")) < 1e-8
    assert found["scale"] == pytest.approx(found["predicted scale"], abs=1e-8)
    assert found["m"] == pytest.approx(found["predicted m"], abs=1e-8)
    assert found["NC2 simplex"] < 1e-7
    assert found["NC3 alignment"] < 1e-7
    assert 0 <= found["gap"] < 1e-9


def test_the_two_eigenvalues_are_those_of_the_split():
    c, decay = 3 * 5**0.5 * 1e-2, 0.5
    found = compared(model(bias=decay))
    assert found["predicted scale"] == pytest.approx(1 - c, rel=1e-12)
    assert found["predicted m"] == pytest.approx(1 - c * (1 + 1 / decay), rel=1e-12)


def test_a_solution_elsewhere_is_as_far_off_as_it_is(monkeypatch):
    """The solver's answer is replaced by that of another model."""
    problem, other = model(), model(bias="free")
    monkeypatch.setattr(comparison, "solve", lambda problem, **settings: solve(other, **settings))
    found, here, there = compared(problem), optimum(problem), optimum(other)
    assert found["logits error"] == pytest.approx(float((here.logits - there.logits).abs().max()), abs=1e-8)
    assert found["bias error"] == pytest.approx(1 / 3, abs=1e-8)
    assert found["value error"] == pytest.approx(here.value - there.value, abs=1e-8)
    assert found["m"] == pytest.approx(0.0, abs=1e-8)
    assert found["predicted m"] == pytest.approx(float(here.logits.sum() / 3), abs=1e-12)


def test_at_a_minimum_of_zero_no_frame_is_measured():
    found = compared(model(weight_decay=(1.0, 1.0)))
    assert found["scale"] == pytest.approx(0.0, abs=1e-9)
    assert "NC2 simplex" not in found


@pytest.mark.parametrize(
    "problem",
    [model(loss="ce", per_class=(1, 2, 3)), model(per_class=(1, 2, 3)), model(loss="ce", features=1)],
)
def test_without_a_closed_form_or_equal_classes_it_refuses(problem):
    with pytest.raises(InputError, match="balanced classes and a known optimum"):
        compared(problem)


def test_the_bias_of_the_point_counts():
    assert torch.allclose(optimum(model(bias="free")).bias, torch.full((3,), 1 / 3, dtype=torch.float64))
    assert compared(model(bias="free"))["bias error"] < 1e-9
