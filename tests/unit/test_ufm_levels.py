"""Metrics of every level against their definitions."""

from __future__ import annotations

import pytest
import torch

from tightframe.ufm.chains import deep_optimum
from tightframe.ufm.extended import DeepUnconstrainedFeatures
from tightframe.ufm.levels import level_metrics, ranks


def chain(**changes):
    usual = {"classes": 3, "widths": (7, 5), "per_class": 4, "decays": (1e-3,) * 3}
    return DeepUnconstrainedFeatures(**usual | changes)


def definitions(columns, labels, reader):
    """NC1, NC2 and NC3 of Tirer and Bruna with pseudo-inverses and Gram matrices written out."""
    classes = int(labels.max()) + 1
    means = torch.stack([columns[:, labels == k].mean(1) for k in range(classes)], 1)
    centred = means - means.mean(1, keepdim=True)
    within = columns - means[:, labels]
    between = centred @ centred.T / classes
    nc1 = torch.trace(within @ within.T / columns.shape[1] @ torch.linalg.pinv(between)) / classes
    eye = torch.eye(classes, dtype=torch.float64)
    simplex, frame = (eye - 1 / classes) / (classes - 1) ** 0.5, eye / classes**0.5

    def distance(gram, ideal):
        return float((gram / gram.norm() - ideal).norm())

    values = {
        "NC1": float(nc1),
        "NC2 ETF": distance(centred.T @ centred, simplex),
        "NC2 OF": distance(means.T @ means, frame),
    }
    if reader is not None:
        values |= {"NC3 ETF": distance(reader @ centred, simplex), "NC3 OF": distance(reader @ means, frame)}
    return values


@pytest.mark.parametrize("activation", ["identity", "relu"])
def test_metrics_are_those_of_the_definitions(activation):
    problem = chain(activation=activation)
    point = problem.start(seed=3)
    W2, W1 = point.weights
    before = W1 @ point.H
    linear = activation == "identity"
    expected = {
        "H2": (before if linear else before.relu(), W2),
        "H1": (point.H, W2 @ W1 if linear else None),
    }
    if not linear:
        expected["W1 H1"] = (before, None)
    wanted = {
        f"{name} of {level}": value
        for level, (columns, reader) in expected.items()
        for name, value in definitions(columns, problem.labels, reader).items()
    }
    # Pseudo-inverses of condition below 100.
    assert level_metrics(problem, point) == pytest.approx(wanted, rel=1e-10)


def test_undefined_metrics_are_left_out():
    problem = chain(activation="relu")
    point = problem.start(seed=0)
    dead = problem.point([point.weights[0], -point.weights[1].abs()], point.H.abs())
    values = level_metrics(problem, dead)
    assert not [name for name in values if name.endswith("of H2")]
    assert "NC1 of H1" in values
    assert "NC1 of W1 H1" in values


def test_ranks_count_singular_values_above_a_share_of_the_largest():
    problem = chain(classes=4, widths=(6, 2))
    assert ranks(problem, deep_optimum(problem).point()) == {"H1": 2, "H2": 2}
    point = problem.start(seed=1)
    assert ranks(problem, point, threshold=1e-9) == {"H1": 2, "H2": 2}
    assert ranks(problem, point, threshold=0.9999) == {"H1": 1, "H2": 1}
