"""A network's last layer and features as a point of the model: the objective, the decays, what is refused."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from tightframe.core.errors import DegenerateError, InputError
from tightframe.ufm.certificate import certify
from tightframe.ufm.losses import CrossEntropy, Focal, SquaredError
from tightframe.ufm.model import UnconstrainedFeatures
from tightframe.ufm.network import of_features
from tightframe.ufm.solvers import solve


def last_layer(dtype=torch.float64, classes=4, width=6, samples=37):
    """Features in no order of their classes, labels, weight and bias."""
    draws = torch.Generator().manual_seed(2)
    labels = torch.arange(samples) * 7 % classes
    features = torch.randn(samples, width, generator=draws, dtype=torch.float64)
    weight, bias = (
        torch.randn(*shape, generator=draws, dtype=torch.float64) for shape in ((classes, width), (classes,))
    )
    return features.to(dtype), labels, weight.to(dtype), bias.to(dtype)


def focal(logits, labels):
    picked = functional.log_softmax(logits, 1).gather(1, labels[:, None])[:, 0]
    return (-((1 - picked.exp()) ** 2) * picked).mean()


def squared(logits, labels, scale=1.0, target=1.0):
    here = functional.one_hot(labels, logits.shape[1])
    weights = torch.where(here > 0, scale, 1.0)
    return 0.5 * (weights * (logits - target * here).square()).sum(1).mean()


DEFINITIONS = {
    "ce": ("ce", functional.cross_entropy),
    "ls": (CrossEntropy(0.2), lambda z, y: functional.cross_entropy(z, y, label_smoothing=0.2)),
    "focal": (Focal(2.0), focal),
    "mse": ("mse", squared),
    "rescaled": (SquaredError(3.0, 2.0), lambda z, y: squared(z, y, 3.0, 2.0)),
}


@pytest.mark.parametrize("name", DEFINITIONS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_the_objective_is_the_loss_of_torch_and_the_decays(name, dtype):
    loss, definition = DEFINITIONS[name]
    features, labels, weight, bias = last_layer(dtype)
    problem, point = of_features(
        features, labels, weight=weight, bias=bias, weight_decay=0.03, feature_decay=0.002, bias_decay=0.1, loss=loss
    )
    h, W, b = features.double(), weight.double(), bias.double()
    decays = 0.5 * (0.03 * W.square().sum() + 0.002 * h.square().sum() + 0.1 * b.square().sum())
    expected = float(definition(h @ W.T + b, labels) + decays)
    # Half precision is converted, not rounded further: float64 accuracy for every type.
    assert problem.objective(point.W, point.H, point.b) == pytest.approx(expected, rel=1e-13)
    assert point.H.dtype == torch.float64


def test_columns_are_ordered_by_class_and_else_as_they_came():
    features, labels, weight, _ = last_layer()
    problem, point = of_features(features, labels, weight=weight, weight_decay=1.0)
    assert problem.counts == tuple(torch.bincount(labels).tolist())
    expected = [row for k in range(4) for row in features[labels == k]]
    assert torch.equal(point.H.T, torch.stack(expected))


@pytest.mark.parametrize("per_class", [5, (9, 4, 6, 3)])
def test_the_balanced_decay_is_the_true_one_at_a_critical_point(per_class):
    """lambda_W W^T W = lambda_H H H^T there, so that the trace gives lambda_H back."""
    problem = UnconstrainedFeatures(classes=4, features=6, per_class=per_class, weight_decay=(5e-3, 3e-4), bias=0.02)
    solution = solve(problem, seed=1)
    assert solution.status.converged
    found, point = of_features(
        solution.H.T, problem.labels, weight=solution.W, bias=solution.b, weight_decay=5e-3, bias_decay=0.02
    )
    # The gradient of a solution is zero up to about 1e-8 of the decay terms.
    assert found.weight_decay[1] == pytest.approx(3e-4, rel=1e-6)
    assert certify(found, point.W, point.H, point.b, tolerance=1e-8).holds


def test_the_decay_of_the_bias_is_that_of_the_weights_unless_given():
    features, labels, weight, bias = last_layer()

    def regime(bias, bias_decay):
        return of_features(features, labels, weight=weight, bias=bias, weight_decay=0.25, bias_decay=bias_decay)[0].bias

    assert (regime(bias, None), regime(bias, 0.0), regime(bias, 0.5)) == (0.25, "free", 0.5)
    assert regime(None, None) == regime(None, 0.5) == "none"


def test_what_does_not_fit_is_refused():
    features, labels, weight, bias = last_layer()

    def refused(kind=InputError, **changes):
        given = {"weight": weight, "bias": bias, "weight_decay": 1e-2, "features": features, "labels": labels} | changes
        with pytest.raises(kind) as refusal:
            of_features(given.pop("features"), given.pop("labels"), **given)
        return str(refusal.value)

    more = torch.cat([weight, torch.ones(2, 6)])
    assert "samples of each of the 6 classes; got none of classes 4, 5" in refused(weight=more, bias=None)
    only = labels.clamp(max=2)
    assert "got none of class 3" in refused(labels=only)
    assert "shape (k, 6); got shape (6,)" in refused(weight=weight[0])
    assert "got list" in refused(weight=weight.tolist())
    assert "(classes, features) = (4, 6); got shape (4, 5)" in refused(weight=weight[:, 1:])
    assert "bias has shape (4,)" in refused(bias=bias[1:])
    assert "labels lie in [0, 4); got values from 0 to 5" in refused(labels=labels.where(labels < 3, 5))
    assert "one per row" in refused(labels=labels[1:])
    assert "integer tensor" in refused(labels=labels.double())
    assert "floating-point" in refused(features=features.long())
    assert "features are finite" in refused(features=features.masked_fill(features > 2, torch.nan))
    assert "classifier is finite" in refused(weight=weight.masked_fill(weight > 1, torch.inf))
    assert "classes is an integer of at least 2; got 1" in refused(weight=weight[:1], bias=None, labels=0 * labels)
    for decay in (0.0, -1.0, float("nan")):
        assert "both above zero" in refused(weight_decay=decay)
        assert "both above zero" in refused(feature_decay=decay)
    assert "a coefficient above zero; got -1.0" in refused(bias_decay=-1.0)
    assert "a loss of this model; got 'hinge'" in refused(loss="hinge")
    assert "got features of zeros" in refused(DegenerateError, features=0 * features)
    assert "got weight of zeros" in refused(DegenerateError, weight=0 * weight)
    assert of_features(0 * features, labels, weight=weight, weight_decay=1.0, feature_decay=1.0)
