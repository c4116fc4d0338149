"""Linear probes: scikit-learn's solvers, automatic differentiation, the dual bound, and the errors in words."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch.nn.functional import cross_entropy, one_hot

from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.nn.tuning.probe import LinearProbe, linear_probe, probe_path
from tightframe.optimize.ridge import principal


@parametrize_with_checks([LinearProbe(), LinearProbe(method="ridge")])
def test_scikit_learn_rules(estimator, check):
    check(estimator)


def problem(n: int = 60, d: int = 7, k: int = 3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Overlapping classes, off centre and of unequal scales and sizes."""
    random = generator(seed)
    drawn = torch.randint(0, k, (2, n - k), generator=random).amin(0)
    labels = torch.cat([torch.arange(k), drawn])
    features = torch.randn(n, d, generator=random, dtype=torch.float64)
    features += torch.randn(k, d, generator=random, dtype=torch.float64)[labels]
    return 3 * features * torch.logspace(0, -2, d, dtype=torch.float64) + 5, labels


def objective(features, labels, weight, bias, decay, *, method="logistic"):
    logits = features @ weight.T + bias
    if method == "logistic":
        loss = cross_entropy(logits, labels)
    else:
        loss = 0.5 * (logits - one_hot(labels, len(bias))).square().sum(1).mean()
    return loss + 0.5 * decay * weight.square().sum()


@pytest.mark.filterwarnings("ignore:.*[Ll]ine [Ss]earch", "ignore:Rounding errors")
@pytest.mark.parametrize("shape", [(60, 7, 3), (60, 7, 5), (20, 40, 3)])
@pytest.mark.parametrize("decay", [1.0, 1e-2, 1e-4])
def test_against_logistic_regression_of_scikit_learn(shape, decay):
    features, labels = problem(*shape)
    reference = LogisticRegression(C=1 / (len(labels) * decay), solver="newton-cg", tol=1e-13, max_iter=10_000)
    # Its conjugate gradients stop at a fraction of the gradient, so that centred features serve it best.
    mean = features.mean(0)
    reference.fit((features - mean).numpy(), labels.numpy())
    solution = linear_probe(features, labels, decay=decay)
    weight, bias = torch.from_numpy(reference.coef_), torch.from_numpy(reference.intercept_)
    bias = bias - weight @ mean
    theirs = float(objective(features, labels, weight, bias, decay))
    assert solution.objective <= theirs + 1e-13
    # A gap of g leaves the weights within sqrt(2 g / decay) of the optimum.
    gap = max(theirs - solution.objective, 1e-15)
    distance = torch.linalg.vector_norm(solution.W - weight)
    assert distance <= 2 * math.sqrt(2 * gap / decay) + 1e-7
    assert distance <= 1e-4 * torch.linalg.vector_norm(weight)
    agreed = torch.softmax(features @ solution.W.T + solution.b, 1) - torch.softmax(features @ weight.T + bias, 1)
    assert agreed.abs().max() < 1e-5


def test_two_classes_against_the_binary_problem():
    features, labels = problem(50, 4, 2)
    mean, decay = features.mean(0), 1e-2
    # Softmax of two classes with weights w / 2 and -w / 2 has the norm |w|^2 / 2.
    reference = LogisticRegression(C=2 / (50 * decay), solver="newton-cholesky", tol=1e-12, max_iter=1000)
    reference.fit((features - mean).numpy(), labels.numpy())
    solution = linear_probe(features, labels, decay=decay)
    assert (solution.W[1] - solution.W[0]).numpy() == pytest.approx(reference.coef_[0], rel=1e-6, abs=1e-8)
    assert solution.W.sum(0).abs().max() < 1e-9


@pytest.mark.parametrize("method", ["logistic", "ridge"])
@pytest.mark.parametrize("shape", [(60, 7, 4), (15, 30, 3)])
def test_objective_and_gradient_by_automatic_differentiation(method, shape):
    features, labels = problem(*shape)
    solution = linear_probe(features, labels, decay=1e-2, method=method)
    weight, bias = solution.W.clone().requires_grad_(), solution.b.clone().requires_grad_()
    value = objective(features, labels, weight, bias, 1e-2, method=method)
    value.backward()
    assert value.item() == pytest.approx(solution.objective, rel=1e-12)
    # The features lie about 5 sqrt(d) from the origin, which scales the stated gradient of 1e-10.
    assert torch.cat([weight.grad.flatten(), bias.grad]).abs().max() < 1e-8
    assert solution.status.converged
    assert solution.certificate.evidence["gradient"] <= 1e-10


@pytest.mark.parametrize("steps", [0, 1, 3, 50])
def test_the_dual_bound_at_points_far_from_and_at_the_optimum(steps):
    features, labels = problem(60, 7, 4)
    decay = 1e-2
    best = linear_probe(features, labels, decay=decay)
    stopped = probe_path(features, labels, [decay], max_iterations=max(steps, 1), tolerance=1e-12 if steps else 1e9)[0]
    above = stopped.objective - best.objective
    # The bound is on what it may be above the minimum, and rounding in float64 is below 1e-13.
    assert stopped.certificate.gap >= above - 1e-13
    assert stopped.certificate.holds == (steps == 50)
    assert (stopped.status.outcome == "budget spent") == (steps in (1, 3))


def test_the_dual_bound_with_a_rare_class_and_confident_decisions():
    features, _ = problem(400, 3, 2)
    labels = torch.zeros(400, dtype=torch.int64)
    labels[7], labels[10:50] = 2, 1
    features[labels == 1] += 100
    solution = linear_probe(features, labels, decay=1e-7)
    assert solution.status.converged
    assert solution.certificate.holds
    rough = linear_probe(features, labels, decay=1e-7, tolerance=1e-4)
    assert rough.certificate.gap >= rough.objective - solution.objective - 1e-13


def test_the_dual_value_written_out():
    features, labels = problem(40, 5, 3)
    solution = linear_probe(features, labels, decay=1e-2)
    q = torch.softmax(features @ solution.W.T + solution.b, 1)
    pull = (one_hot(labels, 3) - q).T @ (features - features.mean(0)) / 40
    dual = float(-(q * q.log()).sum(1).mean() - pull.square().sum() / (2 * 1e-2))
    assert solution.certificate.evidence["dual value"] == pytest.approx(dual, abs=1e-12)
    assert solution.objective == pytest.approx(dual, abs=1e-12)


@pytest.mark.parametrize("decay", [1e-4, 1.0])
@pytest.mark.parametrize("shape", [(60, 7, 4), (15, 30, 3)])
def test_ridge_against_scikit_learn(shape, decay):
    features, labels = problem(*shape)
    reference = Ridge(alpha=len(labels) * decay, solver="svd").fit(features.numpy(), one_hot(labels).double().numpy())
    solution = linear_probe(features, labels, decay=decay, method="ridge")
    assert solution.W.numpy() == pytest.approx(reference.coef_, rel=1e-8, abs=1e-10)
    assert solution.b.numpy() == pytest.approx(reference.intercept_, rel=1e-8, abs=1e-10)
    assert solution.certificate.holds


def test_a_path_is_its_solves_one_by_one_in_fewer_products():
    features, labels = problem(200, 20, 5)
    decays = (1e-4, 1e-1, 1e-3, 1e-1)
    path = probe_path(features, labels, decays)
    assert [float(s.decay) for s in path] == list(decays)
    assert all(s.status.converged and s.certificate.holds for s in path)
    alone = [linear_probe(features, labels, decay=decay) for decay in decays]
    for one, other in zip(path, alone, strict=True):
        assert torch.linalg.vector_norm(one.W - other.W) < 1e-6 * torch.linalg.vector_norm(other.W)
    assert path[0].trace["products"][-1] < alone[0].trace["products"][-1]


@settings(max_examples=15, deadline=None)
@given(scale=st.sampled_from([1e-6, 1e-2, 1.0, 1e4]), shift=st.floats(-1e3, 1e3), seed=st.integers(0, 100))
def test_scaling_and_moving_features_changes_neither_steps_nor_predictions(scale, shift, seed):
    features, labels = problem(40, 5, 3, seed=seed)
    solution = linear_probe(features, labels, decay=1e-2)
    other = linear_probe(scale * features + shift * scale, labels, decay=1e-2 * scale**2)
    assert other.status.converged
    logits = features @ solution.W.T + solution.b
    moved = (scale * features + shift * scale) @ other.W.T + other.b
    # A shift of 1e3 leaves 13 of 16 digits of the features.
    assert (logits - moved).abs().max() < 1e-6 * logits.abs().max()


def test_validation_chooses_a_decay():
    features, labels = problem(300, 40, 3)
    train, held = slice(0, 60), slice(60, None)
    decays = (1e-6, 1e-4, 1e-2, 1.0, 100.0)
    scores = []
    for decay in decays:
        solution = linear_probe(features[train], labels[train], decay=decay)
        logits = features[held] @ solution.W.T + solution.b
        scores.append(((logits.argmax(1) == labels[held]).double().mean(), -cross_entropy(logits, labels[held])))
    best = decays[scores.index(max(scores))]
    chosen = linear_probe(features[train], labels[train], decay=decays, validation=(features[held], labels[held]))
    assert float(chosen.decay) == best
    assert 1e-6 < best < 100
    shared = linear_probe(features, labels, decay=decays, validation=0.3, seed=4)
    again = linear_probe(features, labels, decay=float(shared.decay))
    assert torch.equal(shared.W, again.W)


def test_digits_at_a_thousand_samples():
    X, y = load_digits(return_X_y=True)
    solution = linear_probe(torch.from_numpy(X[:1000]).float(), torch.from_numpy(y[:1000]), decay=1e-2)
    predicted = (torch.from_numpy(X[1000:]) @ solution.W.T + solution.b).argmax(1).numpy()
    assert (predicted == y[1000:]).mean() > 0.9
    assert solution.W.dtype == torch.float64
    confident = linear_probe(torch.from_numpy(X), torch.from_numpy(y), decay=1e-5)
    # Probabilities down to zero; |g|^2 / (2 lambda) is 1e-13 in units of the radius, 37.
    assert abs(confident.certificate.gap) < 1e-11


def test_one_sample_of_each_class_has_an_optimum_but_cannot_be_split():
    features, labels = torch.eye(3).double(), torch.arange(3)
    solution = linear_probe(features, labels, decay=0.1)
    # By symmetry W = c (I - 11^T / 3) at the minimum of log(1 + 2 exp(-c)) + decay c^2.
    centred = torch.eye(3).double() - 1 / 3
    c = float((solution.W * centred).sum() / centred.square().sum())
    assert (solution.W - c * centred).abs().max() < 1e-9
    assert 0.1 * c == pytest.approx(1 / (math.exp(c) + 2), rel=1e-9)
    with pytest.raises(InputError, match="at least two samples of every class"):
        linear_probe(features, labels, decay=(0.1, 1.0), validation=0.5)


def test_equal_features_leave_the_class_shares():
    solution = linear_probe(torch.ones(6, 2), torch.tensor([0, 0, 0, 0, 1, 1]))
    assert solution.W.abs().max() == 0
    assert solution.b.softmax(0).tolist() == pytest.approx([2 / 3, 1 / 3])


def test_the_principal_coordinates():
    for shape in ((30, 5, 2), (6, 9, 2)):
        features, _ = problem(*shape)
        found = principal(features)
        r = min(shape[:2])
        assert found.rows.shape == (shape[0], r)
        assert (found.axes.T @ found.axes - torch.eye(r)).abs().max() < 1e-12
        back = found.radius * found.rows @ found.axes.T + found.mean
        assert (back - features).abs().max() < 1e-12 * features.abs().max() * 10
        assert (found.rows.T @ found.rows / shape[0] - torch.diag(found.variances)).abs().max() < 1e-12
        assert found.variances.sum() == pytest.approx(1.0)


BAD = [
    ({"features": torch.full((4, 2), math.nan)}, "features are finite"),
    ({"labels": torch.zeros(4, dtype=torch.long)}, "samples of at least two classes; got 1 class"),
    ({"labels": torch.tensor([0, 2, 2, 0])}, "each of the 3 classes.*none of class 1"),
    ({"labels": torch.tensor([0, 1, -1, 0])}, r"labels lie in \[0, 2\)"),
    ({"labels": torch.tensor([0, 1, 1])}, "one per row"),
    ({"labels": [0, 1, 1, 0]}, "labels are an integer tensor"),
    ({"features": torch.zeros(4, 2, 3)}, r"shape \(n, d\)"),
    ({"classes": 3}, "none of class 2"),
    ({"decay": 0.0}, "positive and finite decays"),
    ({"decay": (0.1, math.nan), "validation": 0.5}, "positive and finite decays"),
    ({"decay": (0.1, 0.2)}, "validation data to choose among several decays"),
    ({"decay": (), "validation": 0.5}, "positive and finite decays"),
    ({"validation": 1.5}, r"a share held out in \(0, 1\)"),
    ({"validation": (torch.zeros(2, 3), torch.tensor([0, 1]))}, "same dimension, 2"),
    ({"validation": (torch.zeros(2, 2), torch.tensor([0, 2]))}, r"labels lie in \[0, 2\)"),
    ({"method": "svm"}, "method is one of logistic, ridge"),
    ({"tolerance": 0.0}, "a positive tolerance"),
    ({"max_iterations": 0}, "max_iterations is an integer"),
]


@pytest.mark.parametrize(("changed", "message"), BAD)
def test_bad_input(changed, message):
    features = torch.tensor([[0.0, 1.0], [1.0, 1.0], [2.0, 0.0], [1.0, 3.0]])
    given = {"features": features, "labels": torch.tensor([0, 1, 1, 0])} | changed
    with pytest.raises(InputError, match=message):
        linear_probe(given.pop("features"), given.pop("labels"), **given)


def test_the_estimator_on_names_arrays_and_tensors():
    features, labels = problem(80, 6, 3)
    names = np.array(["ash", "birch", "oak"])[labels.numpy()]
    model = LinearProbe(decay=(1e-3, 1e-1), validation=0.25).fit(features.numpy(), names)
    assert model.decay_ in (1e-3, 1e-1)
    assert model.coef_.shape == (3, 6)
    again = clone(model).fit(features, labels)
    assert (model.predict(features) == np.array(["ash", "birch", "oak"])[again.predict(features)]).all()
    assert model.predict_proba(features).sum(1) == pytest.approx(1)
    assert model.solution_.certificate.holds
    with pytest.raises(InputError, match="at least two classes"):
        LinearProbe().fit(features, torch.zeros(80))
