"""Rounding on the l1 norm, beside linear programming."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.data.sparse import sparse_codes
from tightframe.dictionary.blind.rounding import l1_certificate, l1_rounding


def _problem(rows=120, columns=8, density=0.2, seed=0):
    """A = X Q with sparse X: its sparsest combination is a row of the inverse of Q, and a reference near it."""
    codes = sparse_codes((rows, columns), density, seed=seed)
    mixing = torch.linalg.qr(torch.randn(columns, columns, generator=generator(seed), dtype=torch.float64))[0]
    noise = torch.randn(columns, generator=generator(seed + 1), dtype=torch.float64)
    answer = mixing[0]
    return codes @ mixing, answer + 0.1 * noise, answer


def _linear_program(A, reference):
    """min sum t subject to -t <= A q <= t and r^T q = 1."""
    rows, columns = A.shape
    identity = np.eye(rows)
    bounds = np.block([[A, -identity], [-A, -identity]])
    cost = np.concatenate([np.zeros(columns), np.ones(rows)])
    equality = np.concatenate([reference, np.zeros(rows)])[None]
    free = [(None, None)] * columns + [(0, None)] * rows
    found = linprog(cost, bounds, np.zeros(2 * rows), equality, [1.0], bounds=free)
    return found.fun, found.x[:columns]


def _products(A):
    return (lambda q: A @ q), (lambda s: A.T @ s)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_is_the_optimum_of_the_linear_program(seed):
    A, reference, answer = _problem(seed=seed)
    found = l1_rounding(*_products(A), reference, max_iterations=1500)
    value, point = _linear_program(A.numpy(), (reference / reference.norm()).numpy())
    assert found.objective == pytest.approx(value, rel=1e-8)
    torch.testing.assert_close(found.q, torch.from_numpy(point), rtol=0, atol=1e-7)
    assert abs(float(found.q @ answer / found.q.norm())) == pytest.approx(1, abs=1e-12)
    assert float(found.q @ reference / reference.norm()) == pytest.approx(1, abs=1e-12)


def test_the_certificate_holds_at_the_optimum_and_only_there():
    A, reference, _ = _problem()
    optimum = l1_rounding(*_products(A), reference, max_iterations=1500)
    assert l1_certificate(*_products(A), reference, optimum.q).holds
    away = l1_certificate(*_products(A), reference, optimum.q + 0.01 * torch.randn(8, generator=generator(7)).double())
    assert not away.holds


def test_the_certificate_bounds_the_distance_from_the_optimum():
    # A point that is optimal for one reference is not for another; the bound must cover what it lacks there.
    covered = 0
    for seed in range(12):
        A, reference, _ = _problem(seed=seed)
        q = l1_rounding(*_products(A), reference, max_iterations=1500).q
        other = reference / reference.norm() + 0.6 * torch.randn(8, generator=generator(seed + 50)).double()
        other = other / other.norm() * torch.sign(other @ q)
        value, _ = _linear_program(A.numpy(), other.numpy())
        lacking = 1 - value / float((A @ (q / (other @ q))).abs().sum())
        gap = l1_certificate(*_products(A), other, q).gap
        assert gap >= lacking - 1e-8
        covered += lacking > 1e-3
    assert covered >= 2


def test_the_scale_of_the_reference_does_not_matter_and_float32_is_kept():
    A, reference, answer = _problem()
    first, second = (l1_rounding(*_products(A), factor * reference) for factor in (1.0, 37.0))
    torch.testing.assert_close(first.q, second.q, rtol=0, atol=1e-9)
    rounded = l1_rounding(*_products(A.float()), reference.float())
    assert rounded.q.dtype == torch.float32
    assert abs(float(rounded.q.double() @ answer) / float(rounded.q.norm())) > 1 - 1e-6


def test_a_budget_too_small_is_said():
    A, reference, _ = _problem()
    found = l1_rounding(*_products(A), reference, max_iterations=3)
    assert found.status.outcome == "budget spent"
    assert "max_iterations" in found.status.message


@pytest.mark.parametrize("reference", [torch.zeros(3), torch.tensor([1.0, float("nan"), 0.0])])
def test_bad_references(reference):
    with pytest.raises(InputError, match="not zero"):
        l1_rounding(lambda q: q, lambda s: s, reference)
