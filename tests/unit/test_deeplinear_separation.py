"""D of layers by its definition, the numbers of the law, and its assumptions on networks at hand."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from tightframe.core.errors import DegenerateError, InputError
from tightframe.deeplinear.network import DeepLinearNetwork
from tightframe.deeplinear.separation import (
    SeparationLaw,
    check_separation,
    one_hot_labels,
    progressive_separation,
)


def samples(classes: int, per_class: int, d: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    drawn = torch.randn(d, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    X = torch.linalg.qr(drawn).Q[:, : classes * per_class]
    return X, torch.eye(classes, dtype=torch.float64).repeat_interleave(per_class, 1)


def by_definition(Z: torch.Tensor, labels: torch.Tensor) -> float:
    within = between = 0.0
    mean = Z.mean(1)
    for k in range(int(labels.max()) + 1):
        mine = Z[:, labels == k]
        within += float((mine - mine.mean(1, keepdim=True)).square().sum()) / Z.shape[1]
        between += mine.shape[1] / Z.shape[1] * float((mine.mean(1) - mean).square().sum())
    return within / between


def test_d_of_every_layer_is_that_of_the_definition():
    X, Y = samples(3, 4, 12)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    X, Y = X[:, order], Y[:, order]
    network = DeepLinearNetwork([12, 7, 9, 3], init="normal", scale=1.0, seed=2)
    labels, Z, expected = Y.argmax(0), X, []
    for W in network.weights:
        expected.append(by_definition(Z, labels))
        Z = W @ Z
    found = progressive_separation(network, X, Y)
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx(expected, rel=1e-12)
    assert progressive_separation(network.weights, X, Y).equal(found)


def test_small_values_keep_their_digits():
    """Within-class scatter 1e-20 of the between-class one, which a difference of squares would lose."""
    X, Y = samples(2, 5, 10)
    means = (X @ Y.T / 5) @ Y
    Z = means + 1e-10 * (X - means)
    assert float(progressive_separation([torch.eye(10, dtype=torch.float64)], Z, Y)) == pytest.approx(
        1e-20 * by_definition(X, Y.argmax(0)), rel=1e-4
    )


def test_the_numbers_of_the_law():
    law = SeparationLaw(classes=10, per_class=20, depth=4, scale=0.1, width=200)
    assert law.ratio == pytest.approx(0.01 / 20**0.25, rel=1e-14)
    assert law.lecture == pytest.approx(0.02 * (10**0.5 + 1), rel=1e-14)
    assert law.floor == pytest.approx(law.ratio * 180 / 190, rel=1e-14)


def exact(classes: int, per_class: int, d: int, depth: int, scale: float):
    """A minimum with every assumption: the top K values n^(1/(2L)) along Phi, epsilon on d - 2K, zero elsewhere."""
    X, Y = samples(classes, per_class, d)
    X = torch.linalg.qr(torch.cat([X, torch.randn(d, d - X.shape[1], dtype=torch.float64)], dim=1)).Q
    Y = torch.cat([Y, torch.zeros(classes, d - Y.shape[1], dtype=torch.float64)], dim=1)
    U, S, Vh = torch.linalg.svd(Y @ X.T)
    values = torch.zeros(d, dtype=torch.float64)
    values[:classes], values[2 * classes :] = S ** (1 / depth), scale
    inner = torch.diag(values)
    last = U @ inner[:classes]
    return X, Y, [inner @ Vh, *[inner] * (depth - 2), last]


def test_the_assumptions_hold_where_they_were_built_in():
    X, Y, weights = exact(3, 4, 12, 3, 0.2)
    found = check_separation(weights, X, Y, scale=0.2, tolerance=1e-8)
    assert found.holds, found
    assert (found.classes, found.per_class, found.kept, found.expected) == (3, 4, 6, 6)
    # W_L^T W_L - W W^T is epsilon^2 on d - 2K dimensions.
    assert found.last_balance == pytest.approx(0.04 * 6**0.5, rel=1e-10)
    assert found.last_allowed == pytest.approx(0.04 * 9**0.5, rel=1e-14)
    ratios = progressive_separation(weights, X, Y)
    law = SeparationLaw(classes=3, per_class=4, depth=3, scale=0.2, width=12)
    # Without the s_i the first ratio is the floor and the others are the limit.
    assert float(ratios[1] / ratios[0]) == pytest.approx(law.floor, rel=1e-10)
    assert float(ratios[2] / ratios[1]) == pytest.approx(law.ratio, rel=1e-10)


def test_each_violation_is_named():
    X, Y, weights = exact(3, 4, 12, 3, 0.2)

    def violated(changed, inputs=X) -> tuple[str, ...]:
        return check_separation(changed, inputs, Y, scale=0.2, tolerance=1e-8).violated

    turn = torch.linalg.qr(torch.randn(12, 12, dtype=torch.float64)).Q
    assert violated([turn @ weights[0], weights[1] @ turn.T, weights[2]]) == ()
    unbalanced = [2 * weights[0], weights[1] / 2, weights[2]]
    assert set(violated(unbalanced)) == {"balance", "last_balance", "kept"}
    assert set(violated([weights[0], weights[1], 1.5 * weights[2]])) >= {"loss", "last_balance"}
    assert "whiteness" in violated(weights, X * 1.01)


def test_bad_input():
    X, Y = samples(3, 4, 12)
    network = DeepLinearNetwork([12, 12, 3])
    for bad in (2 * Y, Y.roll(1, 0) + Y, torch.cat([Y[:1], Y[1:2] + Y[2:], 0 * Y[:1]])):
        with pytest.raises(InputError, match="one-hot"):
            progressive_separation(network, X, bad)
    with pytest.raises(InputError, match="columns"):
        progressive_separation(network, X[:, :5], Y)
    with pytest.raises(DegenerateError):
        progressive_separation(network, torch.ones_like(X), Y)
    with pytest.raises(InputError, match="equally many"):
        check_separation(network, X[:, 1:], Y[:, 1:], scale=0.1)
    with pytest.raises(InputError, match="two layers"):
        check_separation(network.weights[:1], X, Y, scale=0.1)
    with pytest.raises(InputError):
        one_hot_labels(Y[:, :4])
    sound = SeparationLaw(classes=3, per_class=4, depth=3, scale=0.1, width=12)
    for changes in ({"classes": 1}, {"per_class": 0}, {"depth": 1}, {"scale": 0.0}, {"width": 5}):
        with pytest.raises(InputError):
            dataclasses.replace(sound, **changes)
