"""The law of parsimony, progressive separation, and what compression makes of them."""

from __future__ import annotations

import warnings

import pytest
import torch

from tightframe.deeplinear.compression import compress
from tightframe.deeplinear.dynamics import simulate
from tightframe.deeplinear.frames import haar_frames
from tightframe.deeplinear.invariance import decompose
from tightframe.deeplinear.network import DeepLinearNetwork
from tightframe.deeplinear.objective import Completion
from tightframe.deeplinear.reduced import descend_reduced
from tightframe.deeplinear.separation import SeparationLaw, check_separation, progressive_separation


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def orthogonal(d: int, seed: int = 0) -> torch.Tensor:
    return torch.linalg.qr(drawn(d, d, seed=seed)).Q


@pytest.mark.parametrize(
    ("outputs", "scale", "depth", "decay", "momentum", "steps"),
    [
        (3, 1.0, 3, 0.0, 0.0, 1500),
        (3, 0.3, 3, 1e-3, 0.0, 1500),
        (3, 0.3, 3, 0.0, 0.9, 1500),
        (30, 1.0, 3, 0.0, 0.0, 1500),
        (30, 0.3, 3, 1e-3, 0.0, 1500),
        (30, 0.3, 3, 0.0, 0.9, 1500),
        (30, 0.1, 5, 0.0, 0.0, 1500),
    ],
)
def test_weights_move_in_a_small_space_and_rho_does_as_predicted(outputs, scale, depth, decay, momentum, steps):
    """P1: the invariant blocks and rho along training, whitened samples, both cases; asked for is 1e-8."""
    X = orthogonal(30)
    U, V = orthogonal(outputs, seed=1)[:, :3], orthogonal(30, seed=2)[:, :3]
    Y = U * torch.tensor([2.0, 1.5, 1.0], dtype=torch.float64) @ V.T @ X
    start = DeepLinearNetwork([30] * depth + [outputs], scale=scale, seed=3)
    settings = {"step": 0.02 * (1 - momentum), "steps": steps, "weight_decay": decay, "momentum": momentum}
    found = simulate(start, X, Y, record=("values", "invariance"), **settings)
    assert max(found.trace["deviation"]) < 1e-12
    predicted = torch.tensor(descend_reduced(decompose(start, X, Y), **settings).trace["rho"], dtype=torch.float64)
    hidden = found.rho[:, :-1] if outputs < 30 else found.rho
    assert float((hidden - predicted[:, None]).abs().max()) < 1e-12
    # All but 2 r singular values of every hidden layer are rho.
    beyond = (found.S1 - predicted[:, None].abs()).abs() < 1e-12
    assert int(beyond.sum(1).min()) >= 30 - 6
    assert found.trace["loss"][-1] < found.trace["loss"][0]


def test_the_structure_persists_approximately_without_whitening():
    """P2: condition number 1.2 of the inputs leaves most of every weight in the structure; 1e-2 relative here."""
    X = orthogonal(30) * torch.linspace(1.0, 1.2, 30, dtype=torch.float64)
    U, V = orthogonal(30, seed=1)[:, :3], orthogonal(30, seed=2)[:, :3]
    Phi = U * torch.tensor([2.0, 1.5, 1.0], dtype=torch.float64) @ V.T
    start = DeepLinearNetwork([30] * 4, scale=0.1, seed=3)
    found = simulate(start, X, Phi @ X, step=0.02, steps=1500, record=("invariance",), rank=3)
    relative = decompose(start, X, Phi @ X, rank=3).deviation([found.W1, found.W2, found.W3]).relative
    assert found.trace["loss"][-1] < 1e-3 * found.trace["loss"][0]
    assert 1e-8 < float(relative.max()) < 0.1


@pytest.mark.parametrize(
    ("classes", "per_class", "depth", "scale", "step", "steps"),
    [
        (5, 10, 4, 0.5, 0.02, 2500),
        (5, 10, 4, 0.25, 0.05, 1500),
        (5, 10, 3, 0.05, 0.05, 2000),
        (5, 10, 8, 0.5, 0.02, 1200),
    ],
)
def test_separation_falls_by_the_sharper_law(classes, per_class, depth, scale, step, steps):
    """P3: the lecture's bound holds, many times too large; epsilon^2 n^(-1/L) is right to a few percent."""
    d = classes * per_class
    X, Y = orthogonal(d), torch.eye(classes, dtype=torch.float64).repeat_interleave(per_class, 1)
    start = DeepLinearNetwork([d] * depth + [classes], scale=scale, seed=1)
    found = simulate(start, X, Y, step=step, steps=steps, record=())
    weights = [found.variables[f"W{number}"] for number in range(1, depth + 1)]
    # Steps keep the layers balanced up to terms of the order of the step.
    assumed = check_separation(weights, X, Y, scale=scale, tolerance=1.5 * step)
    assert assumed.holds, assumed.violated
    values = progressive_separation(weights, X, Y)
    law = SeparationLaw(classes=classes, per_class=per_class, depth=depth, scale=scale, width=d)
    for ratio in (values[1:] / values[:-1]).tolist():
        assert ratio <= law.lecture
        assert law.floor <= ratio <= law.ratio
        assert ratio == pytest.approx(law.ratio, rel=0.05)
    # The formula with the remaining singular values, exact up to relative terms of order epsilon^2 and of the step.
    S = torch.linalg.svdvals(weights[0])
    top, rest = S[:classes].square().mean(), S[classes:]
    powers = torch.arange(depth)[:, None]
    predicted = rest.square().pow(powers).sum(1) / ((d - classes) * top ** powers[:, 0])
    assert (values / values[0]).log().tolist() == pytest.approx(predicted.log().tolist(), abs=scale**2 / 4 + step)


def test_a_smaller_start_separates_faster_and_trains_slower():
    """P4: with epsilon halved the decay per layer is four times as strong, and the plateau longer."""
    X, Y = orthogonal(20), torch.eye(2, dtype=torch.float64).repeat_interleave(10, 1)
    ratios, reached = [], []
    for scale in (0.4, 0.2):
        start = DeepLinearNetwork([20, 20, 20, 2], scale=scale, seed=1)
        found = simulate(start, X, Y, step=0.02, steps=1500, every=1, record=())
        values = progressive_separation([found.W1, found.W2, found.W3], X, Y)
        ratios.append(float(values[2] / values[1]))
        reached.append(next(t for t, loss in enumerate(found.trace["loss"]) if loss < 0.1))
    assert ratios[0] / ratios[1] == pytest.approx(4, rel=0.1)
    assert reached[1] > 1.5 * reached[0]


@pytest.mark.parametrize("init", ["normal", "uniform"])
def test_separation_does_not_need_an_orthogonal_start(init):
    """P4: with other starts of the same norm D falls too, though not by one ratio."""
    X, Y = orthogonal(50), torch.eye(5, dtype=torch.float64).repeat_interleave(10, 1)
    start = DeepLinearNetwork([50, 50, 50, 50, 5], init=init, scale=0.25, seed=1)
    found = simulate(start, X, Y, step=0.05, steps=1500, record=("separation",))
    assert found.trace["loss"][-1] < 1e-3
    ratios = found.D[-1, 1:] / found.D[-1, :-1]
    assert float(ratios.max()) < 2 * (5**0.5 + 1) * 0.25**2


def test_a_compressed_factorisation_follows_the_original():
    """P5: the end-to-end matrices differ by rho^L in the d - 2r directions that nothing moves, and by nothing else."""
    U, S, V = orthogonal(40, seed=1)[:, :3], torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64), orthogonal(40)[:, :3]
    Phi, original = U * S @ V.T, DeepLinearNetwork([40] * 4, scale=1e-2, seed=3)
    settings = {"step": 0.05, "steps": 4000, "every": 500, "record": ()}
    wide = simulate(original, Phi, **settings)
    small = simulate(compress(Phi, depth=3, rank=3, scale=1e-2, network=original), Phi, **settings)
    difference = wide.W3 @ wide.W2 @ wide.W1 - small.W5 @ small.W4 @ small.W3 @ small.W2 @ small.W1
    rho = descend_reduced(decompose(original, Phi), step=0.05, steps=4000).trace["rho"][-1]
    assert float(difference.norm()) == pytest.approx(rho**3 * 34**0.5, abs=1e-12)
    assert wide.trace["loss"] == pytest.approx(small.trace["loss"], abs=1e-10)
    assert small.trace["loss"][-1] < 1e-9


def test_completion_needs_the_discrepant_rate():
    """P6: gamma = 0 stalls, small rates complete the matrix."""
    Phi = drawn(60, 2) @ drawn(2, 60, seed=1) / 60**0.5
    objective = Completion(Phi, torch.rand(60, 60, generator=torch.Generator().manual_seed(2)) < 0.4)
    hidden, errors = ~objective.observed, {}
    for gamma in (0.0, 0.01, 0.1):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network = compress(objective, depth=3, rank=2, scale=1e-2, gamma=gamma)
        found = simulate(network, objective, step=0.03, steps=6000, record=())
        made = found.W5 @ found.W4 @ found.W3 @ found.W2 @ found.W1
        errors[gamma] = float((made - Phi)[hidden].norm() / Phi[hidden].norm())
    assert errors[0.0] > 0.2
    assert errors[0.01] < 5e-2
    assert errors[0.1] < 1e-4


def test_width_enters_only_through_random_angles():
    """Any width at the price of the small network: entries of A^T U shrink as d^(-1/2), and trajectories agree."""
    S, paths = torch.tensor([2.0, 1.0], dtype=torch.float64), {}
    for d in (2_000, 20_000):
        U = torch.eye(d, 2, dtype=torch.float64)
        frames = haar_frames(U, S, U.flip(0), depth=3, scale=0.2, seed=1)
        assert float((frames.left[:, :2].T @ U).abs().max()) < 5 / d**0.5
        found = descend_reduced(frames, step=0.05, steps=400)
        remaining = torch.tensor(found.trace["rho"], dtype=torch.float64).pow(6) * (d - 4) / 2
        paths[d] = torch.tensor(found.trace["loss"], dtype=torch.float64) - remaining
    # The loss in the frames differs by terms of the order of A^T U, here 0.02 at most of |Phi|^2 = 5.
    assert float((paths[2_000] - paths[20_000]).abs().max()) < 0.5
    assert float(paths[20_000][-1]) < 1e-3
