"""Invariant frames by their definition, and deviations by explicit blocks."""

from __future__ import annotations

import pytest
import torch

from tightframe.core.errors import DegenerateError, InputError
from tightframe.deeplinear.dynamics import simulate
from tightframe.deeplinear.invariance import decompose
from tightframe.deeplinear.network import DeepLinearNetwork
from tightframe.deeplinear.objective import Completion


def low_rank(outputs: int, d: int, values: list[float], seed: int = 0) -> torch.Tensor:
    draws = torch.Generator().manual_seed(seed)
    U, V = (torch.randn(rows, len(values), dtype=torch.float64, generator=draws) for rows in (outputs, d))
    return torch.linalg.qr(U).Q * torch.tensor(values, dtype=torch.float64) @ torch.linalg.qr(V).Q.T


def weights_of(found, depth: int) -> list[torch.Tensor]:
    return [found.variables[f"W{number}"] for number in range(1, depth + 1)]


@pytest.mark.parametrize("outputs", [3, 16])
def test_the_frame_is_the_complement_of_two_kernels(outputs):
    """By brute force: what Gamma and Gamma^T W_1(0) both send to zero, Gamma = W_{L:2}(0)^T Phi."""
    Phi = low_rank(outputs, 16, [3.0, 2.0, 1.0])
    start = DeepLinearNetwork([16, 16, 16, outputs], scale=0.4, seed=1)
    W1, W2, W3 = start.weights
    gamma = (W3 @ W2).T @ Phi
    _, S, Vh = torch.linalg.svd(torch.cat([gamma, gamma.T @ W1]))
    assert int((S > 1e-10).sum()) == 6
    V = decompose(start, Phi).right
    assert V.shape == (16, 6)
    torch.testing.assert_close(V @ V.T, Vh[:6].T @ Vh[:6], atol=1e-13, rtol=0)


@pytest.mark.parametrize("outputs", [3, 5, 16])
def test_the_blocks_stay_where_the_theorem_puts_them(outputs):
    Phi = low_rank(outputs, 16, [2.0, 1.0, 0.5])
    start = DeepLinearNetwork([16, 16, 16, outputs], scale=0.5, seed=1)
    frames = decompose(start, Phi)
    q, m = frames.right.shape[1], frames.complement
    assert (frames.case, q + m) == (1 if outputs < 16 else 2, 16)
    found = simulate(start, Phi, step=0.05, steps=300, weight_decay=1e-3, momentum=0.3)
    for number, W in enumerate(weights_of(found, 3), start=1):
        U, V = frames.bases(number)
        for basis in (U, V):
            torch.testing.assert_close(basis.T @ basis, torch.eye(len(basis)).double(), atol=1e-13, rtol=0)
        blocks = U.T @ W @ V
        if number == 3 and outputs < 16:
            assert float(blocks[:, q:].abs().max()) < 1e-13
            continue
        assert float(blocks[:q, q:].abs().max()) < 1e-13
        assert float(blocks[q:, :q].abs().max()) < 1e-13
        rho = float(blocks[-1, -1])
        torch.testing.assert_close(blocks[q:, q:], rho * torch.eye(m).double(), atol=1e-13, rtol=0)
        torch.testing.assert_close(frames.small(weights_of(found, 3))[number - 1], blocks[:q, :q])
        assert rho < 0.5


@pytest.mark.parametrize("outputs", [4, 12])
def test_deviations_are_those_of_explicit_blocks(outputs):
    start = DeepLinearNetwork([12, 12, 12, outputs], scale=0.5, seed=1)
    frames = decompose(start, low_rank(outputs, 12, [2.0, 1.0]))
    q, m = frames.right.shape[1], frames.complement
    weights = DeepLinearNetwork([12, 12, 12, outputs], init="normal", scale=1.0, seed=5).weights
    found = frames.deviation(weights)
    for number, W in enumerate(weights, start=1):
        U, V = frames.bases(number)
        blocks = U.T @ W @ V
        last = number == 3 and outputs < 12
        rest = blocks[q:, q:]
        rho = 0.0 if last else float(rest.diagonal().mean())
        spread = 0.0 if last else float((rest - rho * torch.eye(m).double()).norm())
        off = float(torch.hypot(blocks[:q, q:].norm(), blocks[q:, :q].norm()))
        row = number - 1
        assert float(found.off_diagonal[row]) == pytest.approx(off, rel=1e-12)
        assert float(found.spread[row]) == pytest.approx(spread, rel=1e-12, abs=1e-12)
        assert float(found.rho[row]) == pytest.approx(rho, rel=1e-10, abs=1e-13)
        assert float(found.relative[row]) == pytest.approx((off**2 + spread**2) ** 0.5 / float(W.norm()), rel=1e-12)
    assert found.largest == pytest.approx(float(torch.cat([found.off_diagonal, found.spread]).max()))


def test_coinciding_directions_leave_the_frames_sound():
    """With Q the identity and U = V the two halves of the frame span the same: any completion will do."""
    start = DeepLinearNetwork.of([0.5 * torch.eye(8, dtype=torch.float64)] * 3)
    Phi = torch.diag(torch.tensor([2.0, 1.0, 0, 0, 0, 0, 0, 0], dtype=torch.float64))
    frames = decompose(start, Phi)
    assert frames.right.shape == (8, 4)
    found = simulate(start, Phi, step=0.05, steps=200)
    assert frames.deviation(weights_of(found, 3)).largest < 1e-14


def test_where_the_theory_ends_the_deviation_says_so():
    draws = torch.Generator().manual_seed(0)
    Phi = low_rank(12, 12, [2.0, 1.0])
    start = DeepLinearNetwork([12] * 4, scale=0.3, seed=1)
    settings = {"step": 0.02, "steps": 200, "every": 200, "record": ("invariance",)}
    assert simulate(start, Phi, **settings).trace["deviation"][-1] < 1e-13
    assert simulate(start, Phi, algorithm="adam", **settings).trace["deviation"][-1] > 1e-2
    X = torch.linalg.qr(torch.randn(12, 12, dtype=torch.float64, generator=draws)).Q
    skewed = X * torch.linspace(0.5, 1.5, 12, dtype=torch.float64)
    assert simulate(start, skewed, Phi @ skewed, rank=2, **settings).trace["deviation"][-1] > 1e-3
    observed = torch.rand(12, 12, generator=draws) < 0.5
    assert simulate(start, Completion(Phi, observed), rank=2, **settings).trace["deviation"][-1] > 1e-3


def test_a_rank_below_that_of_the_target_is_allowed_and_one_above_is_not():
    start, Phi = DeepLinearNetwork([10] * 3, scale=0.3), low_rank(10, 10, [2.0, 1.0, 0.5])
    assert decompose(start, Phi, rank=2).right.shape == (10, 4)
    assert decompose(start.weights, Phi).right.shape == (10, 6)
    with pytest.raises(InputError, match="rank of at most 3"):
        decompose(start, Phi, rank=4)


def test_bad_input():
    Phi = low_rank(10, 10, [2.0, 1.0])
    start = DeepLinearNetwork([10] * 3, scale=0.3)
    with pytest.raises(DegenerateError, match="not zero"):
        decompose(start, torch.zeros(10, 10, dtype=torch.float64))
    with pytest.raises(InputError, match="orthonormal rows"):
        decompose(DeepLinearNetwork([10] * 3, init="normal"), Phi)
    with pytest.raises(InputError, match="orthonormal rows"):
        decompose([W * factor for W, factor in zip(start.weights, (1.0, 2.0), strict=True)], Phi)
    for widths in ([10, 9, 10], [10, 10], [10, 10, 11], [10, 10, 9]):
        with pytest.raises(InputError, match="d x d"):
            decompose(DeepLinearNetwork(widths), Phi)
    with pytest.raises(InputError, match="width of at least 12"):
        decompose(start, low_rank(10, 10, [1.0] * 6))
    frames = decompose(start, Phi)
    with pytest.raises(InputError, match="shapes"):
        frames.deviation(start.weights[:1])
    for number in (0, 3):
        with pytest.raises(InputError, match="layer"):
            frames.bases(number)
