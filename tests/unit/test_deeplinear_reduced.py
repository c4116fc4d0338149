"""The small network and the number rho, beside full descent on every layer and along the whole trajectory."""

from __future__ import annotations

import pytest
import torch

from tightframe.core.errors import InputError
from tightframe.deeplinear.dynamics import simulate
from tightframe.deeplinear.frames import haar_frames, outer_frames
from tightframe.deeplinear.invariance import decompose
from tightframe.deeplinear.network import DeepLinearNetwork
from tightframe.deeplinear.reduced import descend_reduced
from tightframe.deeplinear.stability import stable_step


def thin(outputs: int, d: int, values: list[float], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(seed)
    U, V = (
        torch.linalg.qr(torch.randn(rows, len(values), dtype=torch.float64, generator=draws)).Q for rows in (outputs, d)
    )
    return U, torch.tensor(values, dtype=torch.float64), V


def product(weights) -> torch.Tensor:
    made = weights[0]
    for weight in weights[1:]:
        made = weight @ made
    return made


def assert_same_trajectory(frames, start: DeepLinearNetwork, Phi: torch.Tensor, **settings) -> None:
    """Every layer, their product, the loss and the objective, at every recorded step, to 1e-12."""
    small = descend_reduced(frames, **settings)
    times = small.trace["step"]
    full = simulate(start, Phi, record=("vectors",), **settings)
    assert full.trace["step"] == times
    for row, time in enumerate(times):
        weights = []
        for number in range(1, frames.depth + 1):
            U, S, V = (full.variables[f"{name}{number}"][row] for name in "USV")
            weights.append((U * S) @ V.T)
            torch.testing.assert_close(small.layer(time, number).dense(), weights[-1], atol=1e-12, rtol=0)
            torch.testing.assert_close(small.layer(time, number).singular_values(), S, atol=1e-12, rtol=0)
        torch.testing.assert_close(small.end_to_end(time).dense(), product(weights), atol=1e-12, rtol=0)
    for name in ("loss", "objective"):
        assert small.trace[name] == pytest.approx(full.trace[name], abs=1e-12)


@pytest.mark.parametrize(
    ("outputs", "depth", "scale", "momentum", "decay"),
    [
        (3, 3, 1.0, 0.0, 0.0),
        (3, 3, 0.3, 0.9, 0.0),
        (3, 2, 0.3, 0.0, 1e-2),
        (5, 3, 0.3, 0.5, 1e-2),
        (18, 2, 0.3, 0.0, 0.0),
        (18, 3, 1.0, 0.0, 0.0),
        (18, 3, 0.3, 0.9, 0.0),
        (18, 4, 0.3, 0.0, 1e-2),
        (18, 3, 0.5, 0.6, 1e-2),
    ],
)
def test_it_equals_full_descent_on_a_network_at_hand(outputs, depth, scale, momentum, decay):
    U, S, V = thin(outputs, 18, [2.0, 1.2, 0.6])
    Phi = U * S @ V.T
    start = DeepLinearNetwork([18] * depth + [outputs], scale=scale, seed=3)
    step = 0.2 * (1 - momentum) * stable_step(Phi, depth=depth)
    assert_same_trajectory(
        decompose(start, Phi), start, Phi, step=step, steps=400, momentum=momentum, weight_decay=decay
    )


@pytest.mark.parametrize("outputs", [2, 3, 14])
def test_the_network_that_random_frames_stand_for_trains_in_the_same_way(outputs):
    U, S, V = thin(outputs, 14, [2.0, 1.0])
    frames = haar_frames(U, S, V, depth=3, scale=0.4, seed=5)
    layers = [frames.layer(frames.starts[number - 1], 0.4, number).dense() for number in (1, 2, 3)]
    for layer in layers:
        eye = torch.eye(len(layer), dtype=torch.float64)
        torch.testing.assert_close(layer @ layer.T, 0.16 * eye, atol=1e-14, rtol=0)
    start = DeepLinearNetwork.of(layers)
    assert_same_trajectory(frames, start, U * S @ V.T, step=0.05, steps=300, momentum=0.3, weight_decay=1e-3)


def test_whitened_samples_are_a_matrix():
    X, Y = torch.linalg.qr(thin(12, 12, [1.0] * 12)[0]).Q, thin(3, 12, [2.0, 1.0, 0.5])
    Y = Y[0] * Y[1] @ Y[2].T
    start = DeepLinearNetwork([12, 12, 12, 3], scale=0.3)
    full = simulate(start, X, Y, step=0.05, steps=200)
    small = descend_reduced(decompose(start, X, Y), step=0.05, steps=200)
    torch.testing.assert_close(small.layer(200, 2).dense(), full.W2, atol=1e-12, rtol=0)


def test_the_target_has_the_blocks_of_the_formula():
    U, S, V = thin(20, 20, [3.0, 2.0])
    frames = haar_frames(U, S, V, depth=2, scale=0.1)
    A, E = frames.left[:, :2], frames.left[:, 2:]
    expected = torch.cat([torch.cat([A.T @ U * S, E.T @ U * S]), torch.zeros(4, 2, dtype=torch.float64)], dim=1)
    torch.testing.assert_close(frames.target, expected, atol=1e-14, rtol=0)
    # Nothing of the target lies outside.
    torch.testing.assert_close(frames.left @ frames.target @ frames.right.T, U * S @ V.T, atol=1e-14, rtol=0)


def test_random_frames_have_the_law_of_random_layers():
    """E |U^T Q V|^2 = r^2/d for a Haar matrix Q; 400 draws know it to 5 standard errors."""
    U, S, V = thin(20, 20, [3.0, 2.0])
    implicit, explicit = [], []
    for seed in range(400):
        frames = haar_frames(U, S, V, depth=2, scale=0.1, seed=seed)
        implicit.append(float((frames.left[:, :2].T @ U).square().sum()))
        Q = DeepLinearNetwork([20, 20], scale=1.0, seed=seed).weights[0]
        explicit.append(float((U.T @ Q @ V).square().sum()))
    for values in (torch.tensor(implicit), torch.tensor(explicit)):
        assert abs(float(values.mean()) - 4 / 20) < 5 * float(values.std()) / 400**0.5
    # The second moments agree too, to 5 standard errors of a fourth-moment estimate (about 15 %).
    assert float(torch.tensor(implicit).std() / torch.tensor(explicit).std()) == pytest.approx(1, abs=0.3)


def test_a_wide_network_without_a_wide_matrix():
    d = 20_000
    U, S, V = thin(d, d, [3.0, 2.0, 1.0])
    frames = haar_frames(U, S, V, depth=3, scale=0.5, seed=1)
    found = descend_reduced(frames, step=0.02, steps=600, every=600)
    rho = found.trace["rho"][-1]
    x = torch.randn(d, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    for number in (1, 2, 3):
        beyond = x - frames.frame(number) @ (frames.frame(number).T @ x)
        out = found.layer(600, number) @ beyond
        assert float(out.norm()) == pytest.approx(rho * float(beyond.norm()), rel=1e-12)
        assert float((frames.frame(number + 1).T @ out).abs().max()) < 1e-12
    made = found.end_to_end(600)
    chained = found.layer(600, 3) @ (found.layer(600, 2) @ (found.layer(600, 1) @ x))
    torch.testing.assert_close(made @ x, chained, atol=1e-12, rtol=1e-10)
    # |W - Phi|^2 = |W|^2 - 2 <W, Phi> + |Phi|^2, from singular values and from V alone.
    squared = float(made.singular_values().square().sum()) - 2 * float(((made @ V) * U * S).sum()) + 14
    assert found.trace["loss"][-1] == pytest.approx(squared / 2, rel=1e-9)
    P, values, R = made.thin_svd()
    torch.testing.assert_close(made @ R, P * values, atol=1e-12, rtol=0)


def test_rho_decays_as_the_recursion_says():
    U, S, V = thin(10, 10, [1.0])
    found = descend_reduced(
        haar_frames(U, S, V, depth=3, scale=0.8), step=0.1, steps=50, weight_decay=0.02, momentum=0.4, every=1
    )
    rho, velocity, expected = 0.8, 0.0, []
    for _ in range(51):
        expected.append(rho)
        velocity = 0.4 * velocity + rho**5 + 0.02 * rho
        rho -= 0.1 * velocity
    assert found.trace["rho"] == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("depth", [3, 12])
def test_divergence_is_a_status(depth):
    """At depth 12 the power of rho alone would leave the numbers."""
    U, S, V = thin(10, 10, [1.0])
    found = descend_reduced(haar_frames(U, S, V, depth=depth, scale=3.0), step=1.0, steps=200)
    assert found.status.outcome == "diverged"
    assert "2/||Hessian||" in found.status.message
    assert bool(torch.isfinite(found.W1).all())
    assert found.end_to_end(found.trace["step"][-1]).shape == (10, 10)


def test_momentum_is_counted_once_in_the_bound():
    """The message says 2 / ||Hessian||, here 2 / (3 sigma^(4/3) + lambda), and what momentum makes of that."""
    U, S, V = thin(10, 10, [8.0])
    options = {"step": 5.0, "steps": 200, "weight_decay": 0.5}
    for momentum in (0.0, 0.9):
        message = descend_reduced(haar_frames(U, S, V, depth=3, scale=3.0), **options, momentum=momentum).status.message
        assert f"2/||Hessian|| = {2 / 48.5:.3g} (1 + momentum times that)" in message


def test_only_recorded_steps_and_layers_that_exist():
    U, S, V = thin(10, 10, [1.0])
    found = descend_reduced(haar_frames(U, S, V, depth=3, scale=0.3), step=0.1, steps=20, every=10)
    assert found.W1.equal(found.history[0][-1])
    with pytest.raises(InputError, match="nearest is 10"):
        found.layer(12, 1)
    for number in (0, 4):
        with pytest.raises(InputError, match="layer"):
            found.layer(10, number)


def test_bad_frames():
    U, S, V = thin(10, 10, [2.0, 1.0])
    for bad in ((2 * U, S, V), (U, -S, V), (U, S[:1], V), (torch.cat([U, U]), S, V), (U, S, V * float("nan"))):
        with pytest.raises(InputError):
            haar_frames(*bad, depth=3, scale=0.1)
    with pytest.raises(InputError, match="depth"):
        haar_frames(U, S, V, depth=1, scale=0.1)
    with pytest.raises(InputError, match="scale"):
        haar_frames(U, S, V, depth=2, scale=0.0)
    with pytest.raises(InputError, match="width of at least 12"):
        haar_frames(*thin(10, 10, [1.0] * 6), depth=2, scale=0.1)
    with pytest.raises(InputError, match="width"):
        outer_frames(torch.eye(3), torch.eye(8, 3), seed=0)


def test_bad_settings():
    frames = haar_frames(*thin(10, 10, [2.0, 1.0]), depth=3, scale=0.1)
    for changes in ({"step": -1.0}, {"steps": 0}, {"momentum": 1.0}, {"weight_decay": float("nan")}, {"every": 0}):
        with pytest.raises(InputError):
            descend_reduced(frames, **{"step": 0.1, "steps": 5, **changes})
