"""Compressed networks: their frames, the trajectory of the original, discrepant rates."""

from __future__ import annotations

import warnings

import pytest
import torch

from tightframe.core.errors import DegenerateError, InputError
from tightframe.deeplinear import compression
from tightframe.deeplinear.compression import CompressedNetwork, compress
from tightframe.deeplinear.dynamics import simulate
from tightframe.deeplinear.invariance import decompose
from tightframe.deeplinear.network import DeepLinearNetwork
from tightframe.deeplinear.objective import Completion


def low_rank(outputs: int, d: int, values: list[float], seed: int = 0) -> torch.Tensor:
    draws = torch.Generator().manual_seed(seed)
    U, V = (torch.randn(rows, len(values), dtype=torch.float64, generator=draws) for rows in (outputs, d))
    return torch.linalg.qr(U).Q * torch.tensor(values, dtype=torch.float64) @ torch.linalg.qr(V).Q.T


def product(found) -> torch.Tensor:
    names = sorted((name for name in found.variables if name[0] == "W"), key=lambda name: int(name[1:]))
    made = found.variables[names[0]]
    for name in names[1:]:
        made = found.variables[name] @ made
    return made


def entries(d: int = 30, rank: int = 2, share: float = 0.5, seed: int = 0) -> tuple[torch.Tensor, Completion]:
    draws = torch.Generator().manual_seed(seed)
    left, right = (torch.randn(d, rank, dtype=torch.float64, generator=draws) for _ in range(2))
    Phi = left @ right.T / d**0.5
    return Phi, Completion(Phi, torch.rand(d, d, generator=draws) < share)


def test_the_factors_are_the_frames_of_the_original():
    Phi, original = low_rank(20, 20, [3.0, 2.0]), DeepLinearNetwork([20] * 4, scale=0.2, seed=3)
    network, frames = compress(Phi, depth=3, rank=2, scale=0.2, network=original), decompose(original, Phi)
    right, left = network.weights[0].T, network.weights[-1]
    torch.testing.assert_close(right @ right.T, frames.right @ frames.right.T, atol=1e-13, rtol=0)
    torch.testing.assert_close(left @ left.T, frames.left @ frames.left.T, atol=1e-13, rtol=0)
    # Both turn in the same way: the product at the start is that of the original within the frames.
    torch.testing.assert_close(
        network.end_to_end().detach(), original.end_to_end().detach() @ right @ right.T, atol=1e-14, rtol=0
    )


@pytest.mark.parametrize(("momentum", "decay"), [(0.0, 0.0), (0.6, 0.0), (0.0, 1e-2)])
def test_the_trajectory_is_that_of_the_original_up_to_rho(momentum, decay):
    Phi, original = low_rank(20, 20, [2.0, 1.0]), DeepLinearNetwork([20] * 4, scale=0.3, seed=3)
    network = compress(Phi, depth=3, rank=2, scale=0.3, network=original)
    for steps in (20, 150, 600):
        settings = {"step": 0.03, "steps": steps, "momentum": momentum, "weight_decay": decay}
        wide = simulate(original, Phi, record=("invariance",), **settings)
        small = simulate(network, Phi, record=(), **settings)
        beyond = float(wide.rho[-1, 0]) ** 3 * (20 - 4) ** 0.5
        assert float((product(wide) - product(small)).norm()) == pytest.approx(beyond, abs=1e-12)


def test_a_random_network_needs_no_matrix_of_its_own():
    Phi = low_rank(30, 18, [3.0, 2.0])
    network = compress(Phi, depth=3, rank=2, scale=0.1, seed=4)
    assert network.widths == (18, 4, 4, 4, 4, 30)
    for outer in (network.weights[0], network.weights[-1].T):
        torch.testing.assert_close(outer @ outer.T, torch.eye(4, dtype=torch.float64), atol=1e-13, rtol=0)
    assert all(torch.equal(W, 0.1 * torch.eye(4, dtype=torch.float64)) for W in network.weights[1:-1])
    left, right = network.weights[-1], network.weights[0].T
    torch.testing.assert_close(left @ (left.T @ Phi @ right) @ right.T, Phi, atol=1e-13, rtol=0)
    found = simulate(network, Phi, step=0.03, steps=1500, record=())
    # The inner layers alone fit it: Phi lies within the fixed frames. The two other modes never rise above 0.1^3.
    assert found.trace["loss"][-1] < 2 * 0.1**6 / 2
    other = compress(Phi, depth=3, rank=2, scale=0.1, seed=5)
    assert not torch.allclose(other.weights[0], network.weights[0])


def test_an_overestimated_rank_changes_nothing_but_the_size():
    Phi = low_rank(20, 20, [3.0, 2.0])
    network = compress(Phi, depth=3, rank=5, scale=1e-2)
    assert network.widths == (20, 10, 10, 10, 10, 20)
    # Two plateaus of about 1 / (step sigma epsilon) steps: 1700 and 2500 at this step.
    assert simulate(network, Phi, step=0.03, steps=6000, record=()).trace["loss"][-1] < 1e-8


def test_large_matrices_are_not_decomposed_whole(monkeypatch):
    Phi = low_rank(80, 90, [3.0, 2.0, 1.0])
    whole = compress(Phi, depth=2, rank=3, scale=0.1)
    monkeypatch.setattr(compression, "_WHOLE", 100)
    parts = compress(Phi, depth=2, rank=3, scale=0.1)
    # The first three columns span the right singular vectors, whichever way they were found.
    for V in (whole.weights[0].T[:, :3], parts.weights[0].T[:, :3]):
        torch.testing.assert_close(Phi @ V @ V.T, Phi, atol=1e-12, rtol=0)


def test_groups_train_as_simulate_does_and_leave_fixed_factors_out():
    Phi, observed = entries()
    network = compress(observed, depth=3, rank=2, scale=0.3)
    assert network.rates == (0.1, 1.0, 1.0, 1.0, 0.1)
    assert [group["lr"] for group in network.parameter_groups(0.5)] == [0.5, 0.05]
    fixed = compress(Phi, depth=3, rank=2, scale=0.3)
    assert fixed.rates == (0.0, 1.0, 1.0, 1.0, 0.0)
    assert len(fixed.parameter_groups(0.5)) == 1
    assert [p.requires_grad for p in fixed.parameters()] == [False, True, True, True, False]
    assert sum(p.numel() for p in network.parameters()) == 2 * 30 * 4 + 3 * 16


def test_completion_learns_the_frames_only_with_a_rate():
    Phi, objective = entries()
    errors = {}
    for gamma in (0.0, 0.1):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network = compress(objective, depth=3, rank=2, scale=1e-2, gamma=gamma)
        W = product(simulate(network, objective, step=0.1, steps=2500, record=()))
        errors[gamma] = float(((W - Phi)[~objective.observed]).norm() / Phi[~objective.observed].norm())
    assert errors[0.1] < 1e-3
    assert errors[0.0] > 0.1


def test_completion_starts_from_the_gradient_of_a_network_at_hand():
    _, objective = entries()
    original = DeepLinearNetwork([30] * 4, scale=0.5, seed=2)
    network = compress(objective, depth=3, rank=2, scale=0.5, network=original)
    slope = objective.slope(original.end_to_end().detach())
    _, _, Vh = torch.linalg.svd(slope)
    right = network.weights[0].T
    torch.testing.assert_close(right @ (right.T @ Vh[:2].T), Vh[:2].T, atol=1e-12, rtol=0)


def test_fixed_factors_in_completion_are_warned_of():
    _, objective = entries()
    with pytest.warns(UserWarning, match="gamma = 0"):
        compress(objective, depth=3, rank=2, scale=1e-2, gamma=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compress(objective, depth=3, rank=2, scale=1e-2)
        compress(low_rank(9, 9, [1.0]), depth=3, rank=1, scale=1e-2)


def test_single_precision_stays_single():
    network = compress(low_rank(12, 12, [2.0, 1.0]).float(), depth=2, rank=2, scale=0.1)
    assert {W.dtype for W in network.weights} == {torch.float32}


def test_bad_input():
    Phi, original = low_rank(20, 20, [3.0, 2.0]), DeepLinearNetwork([20] * 4, scale=0.2)
    settings = {"depth": 3, "rank": 2, "scale": 0.2}
    for changes, words in (
        ({"depth": 1}, "depth"),
        ({"rank": 0}, "rank"),
        ({"rank": 11}, "width of at least 22"),
        ({"scale": 0.0}, "scale"),
        ({"gamma": -0.1}, "gamma"),
        ({"network": original, "depth": 2}, "depth 2"),
        ({"network": original, "scale": 0.1}, "times 0.1"),
        ({"network": DeepLinearNetwork([20] * 4, init="normal", scale=0.2)}, "orthogonal"),
        ({"network": DeepLinearNetwork([10] * 4, scale=0.2)}, "of the shape"),
    ):
        with pytest.raises(InputError, match=words):
            compress(Phi, **{**settings, **changes})
    with pytest.raises(DegenerateError, match="gradient"):
        compress(torch.zeros(20, 20), **settings)
    with pytest.raises(InputError):
        CompressedNetwork(torch.eye(4, 2), [torch.eye(3)], torch.eye(4, 2), gamma=0.1)
