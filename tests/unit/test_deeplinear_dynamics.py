"""Simulated descent beside torch's own optimisers, and what is recorded of it."""

from __future__ import annotations

import pytest
import torch

from tightframe.core.errors import InputError
from tightframe.deeplinear.compression import CompressedNetwork
from tightframe.deeplinear.dynamics import simulate
from tightframe.deeplinear.network import DeepLinearNetwork
from tightframe.deeplinear.objective import Completion
from tightframe.deeplinear.separation import progressive_separation
from tightframe.deeplinear.stability import stable_step


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def trained(network: DeepLinearNetwork, optimizer: torch.optim.Optimizer, loss, steps: int) -> list[torch.Tensor]:
    for _ in range(steps):
        optimizer.zero_grad()
        loss(network.end_to_end()).backward()
        optimizer.step()
    return list(network.weights)


def assert_same(solution, weights: list[torch.Tensor], tolerance: float) -> None:
    for number, weight in enumerate(weights, start=1):
        torch.testing.assert_close(solution.variables[f"W{number}"], weight, atol=tolerance, rtol=0)


@pytest.mark.parametrize(("momentum", "decay"), [(0.0, 0.0), (0.8, 0.0), (0.0, 0.01), (0.8, 0.01)])
def test_descent_on_samples_is_that_of_torch(momentum, decay):
    X, Y = drawn(5, 12) / 4, drawn(3, 12, seed=1)
    start = DeepLinearNetwork([5, 6, 4, 3], init="normal", scale=0.5, seed=2)
    found = simulate(start, X, Y, step=0.01, steps=60, momentum=momentum, weight_decay=decay)
    reference = DeepLinearNetwork.of(start.weights)
    optimizer = torch.optim.SGD(reference.parameters(), lr=0.01, momentum=momentum, weight_decay=decay)
    weights = trained(reference, optimizer, lambda W: 0.5 * (W @ X - Y).pow(2).sum(), 60)
    # Rounding of 60 steps of numbers below 2.
    assert_same(found, weights, 1e-13)
    product = weights[2] @ weights[1] @ weights[0]
    loss = 0.5 * float((product @ X - Y).pow(2).sum())
    assert found.trace["loss"][-1] == pytest.approx(loss, rel=1e-12)
    size = sum(float(W.pow(2).sum()) for W in weights)
    assert found.objective == pytest.approx(loss + decay / 2 * size, rel=1e-12)


def test_adam_is_that_of_torch():
    Phi, start = drawn(4, 4), DeepLinearNetwork([4, 4, 4], scale=0.3)
    found = simulate(start, Phi, step=0.01, steps=80, algorithm="adam", weight_decay=0.1)
    reference = DeepLinearNetwork.of(start.weights)
    optimizer = torch.optim.Adam(reference.parameters(), lr=0.01, weight_decay=0.1)
    assert_same(found, trained(reference, optimizer, lambda W: 0.5 * (W - Phi).pow(2).sum(), 80), 1e-12)


@pytest.mark.parametrize("gamma", [0.0, 0.3])
def test_rates_of_layers_are_learning_rates(gamma):
    Phi, observed = drawn(6, 5), drawn(6, 5, seed=1) > 0
    left, right = torch.linalg.qr(drawn(6, 3)).Q, torch.linalg.qr(drawn(5, 3, seed=3)).Q
    network = CompressedNetwork(left, [0.5 * torch.eye(3).double()] * 2, right, gamma=gamma)
    found = simulate(network, Completion(Phi, observed), step=0.03, steps=40, momentum=0.5)
    reference = CompressedNetwork(left, [0.5 * torch.eye(3).double()] * 2, right, gamma=gamma)
    optimizer = torch.optim.SGD(reference.parameter_groups(0.03), lr=0.0, momentum=0.5)
    weights = trained(reference, optimizer, lambda W: 0.5 * (W - Phi)[observed].pow(2).sum(), 40)
    assert_same(found, weights, 1e-13)
    assert torch.equal(found.W1, right.T) == (gamma == 0)


def test_the_start_stays_and_is_recorded():
    start = DeepLinearNetwork([4, 4, 4], scale=0.3)
    before = [W.clone() for W in start.weights]
    found = simulate(start, drawn(4, 4), step=0.05, steps=10, every=4)
    assert all(torch.equal(a, b) for a, b in zip(before, start.weights, strict=True))
    assert found.trace["step"] == [0, 4, 8, 10]
    torch.testing.assert_close(found.S1[0], torch.full((4,), 0.3, dtype=torch.float64))
    assert found.S2.shape == (4, 4)
    assert found.status.outcome == "budget spent"
    assert simulate(before, drawn(4, 4), step=0.05, steps=10, every=4).W1.equal(found.W1)


def test_chosen_steps_are_recorded():
    start = DeepLinearNetwork([4, 4, 4], scale=0.3)
    found = simulate(start, drawn(4, 4), step=0.05, steps=10, every=[7, 3, 3])
    assert found.trace["step"] == [0, 3, 7, 10]
    shorter = simulate(start, drawn(4, 4), step=0.05, steps=7)
    torch.testing.assert_close(found.S1[2], shorter.S1[-1], atol=1e-14, rtol=0)
    for every in ([11], [-1], [2.5], 0):
        with pytest.raises(InputError):
            simulate(start, drawn(4, 4), step=0.05, steps=10, every=every)


def test_singular_vectors_make_the_layer_and_keep_their_signs():
    found = simulate(
        DeepLinearNetwork([5, 5, 3], init="normal", scale=0.8), drawn(3, 5), step=0.02, steps=30, every=1,
        record=("vectors",),
    )  # fmt: skip
    for number in (1, 2):
        U, S, V = (found.variables[f"{name}{number}"] for name in "USV")
        torch.testing.assert_close((U[-1] * S[-1]) @ V[-1].T, found.variables[f"W{number}"])
        # Between two small steps a vector with its sign kept has moved little: its overlap is near 1, never near -1.
        assert float((U[1:] * U[:-1]).sum(1).min()) > 0
    only_values = simulate(DeepLinearNetwork([5, 5, 3]), drawn(3, 5), step=0.02, steps=3)
    assert "U1" not in only_values.variables


def test_separation_of_every_recorded_step():
    X, Y = torch.linalg.qr(drawn(6, 6)).Q, torch.eye(2, dtype=torch.float64).repeat_interleave(3, 1)
    start = DeepLinearNetwork([6, 6, 6, 2], scale=0.4)
    found = simulate(start, X, Y, step=0.05, steps=20, every=10, record=("separation",))
    assert found.D.shape == (3, 3)
    torch.testing.assert_close(found.D[0], progressive_separation(start, X, Y))
    torch.testing.assert_close(found.D[-1], progressive_separation([found.W1, found.W2, found.W3], X, Y))


def test_deviations_are_recorded_layer_by_layer():
    found = simulate(DeepLinearNetwork([9] * 4, scale=0.3), drawn(9, 9), step=0.01, steps=50, every=25, rank=2,
                     record=("invariance",), algorithm="adam")  # fmt: skip
    assert found.rho.shape == found.off_diagonal.shape == found.spread.shape == (3, 3)
    largest = torch.maximum(found.off_diagonal, found.spread).amax(1)
    assert found.trace["deviation"] == pytest.approx(largest.tolist())
    assert found.trace["rho"] == pytest.approx(found.rho[:, 0].tolist())
    assert found.trace["deviation"][0] < 1e-14 < found.trace["deviation"][1]


def test_divergence_is_a_status_that_names_the_bound():
    Phi = drawn(4, 4)
    bound = stable_step(Phi, depth=3)
    found = simulate(DeepLinearNetwork([4] * 4, scale=1.0), Phi, step=10 * bound, steps=1000)
    assert found.status.outcome == "diverged"
    assert f"{bound:.3g}" in found.status.message
    assert "Hessian" in found.status.message
    assert bool(torch.isfinite(found.W1).all())
    assert found.objective == found.trace["objective"][-1] < 1e100
    assert len(found.S1) == len(found.trace)


def test_single_precision_stays_single():
    network = DeepLinearNetwork([4, 4, 4], scale=0.3).float()
    found = simulate(network, drawn(4, 4).float(), step=0.05, steps=5, record=("values", "invariance"), rank=1)
    assert found.W1.dtype == found.S1.dtype == torch.float32


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"step": 0.0}, "step above zero"),
        ({"steps": 0}, "steps"),
        ({"momentum": 1.0}, "momentum"),
        ({"momentum": 0.5, "algorithm": "adam"}, "no momentum"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"algorithm": "newton"}, "algorithm"),
        ({"record": ("values", "speed")}, "speed"),
        ({"record": "values"}, "tuple"),
        ({"record": ("separation",)}, "one-hot"),
        ({"rank": 9, "record": ("invariance",)}, "rank"),
    ],
)
def test_bad_settings(changes, words):
    with pytest.raises(InputError, match=words):
        simulate(DeepLinearNetwork([4, 4, 4]), drawn(4, 4), **{"step": 0.1, "steps": 3, **changes})


def test_bad_data():
    network, settings = DeepLinearNetwork([4, 4, 4]), {"step": 0.1, "steps": 3}
    with pytest.raises(InputError, match="finite"):
        simulate(network, drawn(4, 4) * float("nan"), **settings)
    with pytest.raises(InputError, match="samples in columns"):
        simulate(network, drawn(4, 5), **settings)
    with pytest.raises(InputError, match="float64"):
        simulate(network, drawn(4, 4).float(), **settings)
    with pytest.raises(InputError, match="one-hot"):
        simulate(network, drawn(4, 6), drawn(4, 6), record=("separation",), **settings)
    with pytest.raises(InputError, match="finite loss"):
        simulate([torch.full((2, 2), 1e60, dtype=torch.float64)], drawn(2, 2), **settings)
