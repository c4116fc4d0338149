"""The bilinear Lasso on the support of its maps, against the dense convolution and automatic derivatives."""

from __future__ import annotations

import pytest
import torch

from tightframe.core.rng import generator
from tightframe.dictionary.convolutional.bilinear import bilinear_lasso
from tightframe.dictionary.convolutional.convolution import Convolution
from tightframe.dictionary.convolutional.descent import Descent, unit_kernels
from tightframe.dictionary.convolutional.sparse_coding import convolutional_sparse_coding
from tightframe.dictionary.convolutional.support import SupportLasso, polished

CASES = [
    (boundary, shape, kernel, channels, method)
    for boundary in ("circular", "zero", "valid")
    for shape, kernel, channels, method in [((19,), (4,), 1, "fft"), ((12, 9), (3, 2), 2, "direct")]
]


def drawn(shape, kernel, channels, boundary, method="fft", *, seed=0, density=0.15, positive=False):
    source = generator(seed)
    operator = Convolution(shape, kernel, boundary=boundary, method=method, dtype=torch.float64)
    kernels = unit_kernels(torch.randn((3, channels, *kernel), generator=source, dtype=torch.float64))
    maps = torch.randn((2, 3, *operator.map_shape), generator=source, dtype=torch.float64)
    maps *= torch.rand(maps.shape, generator=source, dtype=torch.float64) < density
    maps = maps.abs() if positive else maps
    signals = torch.randn((2, channels, *shape), generator=source, dtype=torch.float64)
    return operator, signals, kernels, maps


def by_hand(operator, signals, kernels, maps, penalty, *, bias=False):
    """F of whole maps and kernels of any length, from the convolution alone."""
    flat = kernels.flatten(1)
    unit = (flat / flat.norm(dim=1, keepdim=True)).view_as(kernels)
    left = signals - operator.synthesize(unit, maps)
    if bias:
        left = left - left.flatten(2).mean(2).view(*left.shape[:2], *[1] * (left.ndim - 2))
    return 0.5 * left.square().sum() + (penalty * maps.abs()).sum()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("boundary", "shape", "kernel", "channels", "method"), CASES)
def test_value_and_slope_are_those_of_the_dense_problem(boundary, shape, kernel, channels, method, bias):
    operator, signals, kernels, maps = drawn(shape, kernel, channels, boundary, method)
    weights = torch.rand(maps.shape, generator=generator(5), dtype=torch.float64)
    target = signals - signals.mean(tuple(range(2, signals.ndim)), keepdim=True) if bias else signals
    problem = SupportLasso(operator.products, target, kernels, maps, 0.1 * weights, bias=bias)
    point = problem.start()
    value, residual = problem.objective(point)
    assert value == pytest.approx(float(by_hand(operator, signals, kernels, maps, 0.1 * weights, bias=bias)), rel=1e-12)
    dense, atoms = maps.clone().requires_grad_(), kernels.clone().requires_grad_()
    by_hand(operator, signals, atoms, dense, 0.1 * weights, bias=bias).backward()
    wanted = torch.cat([dense.grad[problem.places], (atoms.grad.flatten(1) / problem.scales).flatten()])
    torch.testing.assert_close(problem.slope(point, residual), wanted, rtol=1e-10, atol=1e-10)


def test_kernels_and_maps_of_the_first_point_are_those_given():
    operator, signals, kernels, maps = drawn((12, 9), (3, 2), 2, "zero")
    problem = SupportLasso(operator.products, signals, kernels, maps, 0.1)
    found = problem.kernels_and_maps(problem.start())
    torch.testing.assert_close(found, (kernels, maps))


@pytest.mark.parametrize("positive", [False, True])
def test_polishing_lowers_the_objective_keeps_signs_and_norms(positive):
    operator, signals, kernels, maps = drawn((12, 9), (3, 2), 1, "circular", positive=positive)
    begin = float(by_hand(operator, signals, kernels, maps, 0.3))
    problem = SupportLasso(operator.products, signals, kernels, maps, 0.3)
    found, moved = polished(problem, curvature=3.0, max_steps=100)
    assert float(by_hand(operator, signals, found, moved, 0.3)) < 0.9 * begin
    assert bool((moved * maps >= 0).all())
    assert bool((moved[maps == 0] == 0).all())
    # Some entries are in the way and must be able to leave.
    assert int((moved != 0).sum()) < int((maps != 0).sum())
    torch.testing.assert_close(found.flatten(1).norm(dim=1), torch.ones(3, dtype=torch.float64))


def test_polishing_ends_where_no_slope_is_left():
    operator, signals, kernels, maps = drawn((40,), (4,), 1, "circular", density=0.1)
    for _ in range(30):
        problem = SupportLasso(operator.products, signals, kernels, maps, 0.05)
        kernels, maps = polished(problem, curvature=3.0, max_steps=100)
    problem = SupportLasso(operator.products, signals, kernels, maps, 0.05)
    slope = problem.slope(problem.start(), problem.objective(problem.start())[1])
    scale = float(signals.square().sum().sqrt())
    # Every round ends at 2e-3 of what it gained; thirty leave rounding.
    assert float(slope.abs().max()) < 1e-6 * scale


def test_a_kernel_without_entries_stays_as_it_is():
    _operator, signals, kernels, maps = drawn((12, 9), (3, 2), 1, "valid")
    maps[:, 1] = 0
    for dtype in (torch.float32, torch.float64):
        given = [value.to(dtype) for value in (signals, kernels, maps)]
        products = Convolution((12, 9), (3, 2), boundary="valid", dtype=dtype).products
        found, moved = polished(SupportLasso(products, given[0], given[1], given[2], 0.1), curvature=3.0)
        assert found.dtype == moved.dtype == dtype
        torch.testing.assert_close(found[1], given[1][1])
        assert bool(torch.isfinite(found).all())
        assert not bool(moved[:, 1].any())


def test_a_descent_polishes_only_sparse_maps_and_never_goes_up():
    operator, signals, kernels, maps = drawn((64,), (3,), 1, "circular", density=0.05)
    settings = {"bias": True, "positive": False, "rank_one": False, "momentum": 0.9}
    dense = Descent(operator, signals, kernels, torch.ones_like(maps), **settings)
    assert not dense.polish(0.1)
    assert not Descent(operator, signals, kernels, torch.zeros_like(maps), **settings).polish(0.1)
    sparse = Descent(operator, signals, kernels, maps, **settings)
    before = sparse.objective(0.1)
    assert sparse.polish(0.1)
    assert sparse.objective(0.1) < before
    # What is kept of the point is what a fresh start there would compute.
    fresh = Descent(operator, signals, sparse.kernels, sparse.maps, **settings)
    assert fresh.objective(0.1) == pytest.approx(sparse.objective(0.1), rel=1e-12)
    torch.testing.assert_close(fresh.residual, sparse.residual)


def test_a_polished_solve_ends_at_a_stationary_point():
    operator, signals, kernels, _ = drawn((200,), (4,), 1, "circular", seed=3)
    found = bilinear_lasso(signals, kernels, alpha=1.5, tolerance=1e-7, max_iterations=3000)
    assert found.status.converged
    coded = convolutional_sparse_coding(signals, found.kernels, alpha=1.5, tolerance=1e-9)
    # The maps are optimal for the kernels: the gap certifies the value within 1e-9 of half the energy.
    assert found.objective == pytest.approx(coded.objective, abs=1e-7 * float(signals.square().sum()))
    atoms = found.kernels.clone().requires_grad_()
    by_hand(operator, signals, atoms, found.maps, 1.5).backward()
    assert float(atoms.grad.abs().max()) < 1e-4 * float(signals.square().sum())
