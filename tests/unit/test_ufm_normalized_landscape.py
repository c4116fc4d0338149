"""Certificates, classification and ways down on spheres, against dense Hessians and points known to be optimal."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tightframe.core.errors import InputError
from tightframe.optimize.curvature import dense_matrix
from tightframe.ufm.losses import CrossEntropy, Focal, SquaredError
from tightframe.ufm.normalized import NormalizedFeatures, SphereForm
from tightframe.ufm.normalized_landscape import (
    certify_normalized,
    classify_normalized,
    dual_gap,
    negative_curvature,
    smallest_curvature,
    way_down,
)
from tightframe.ufm.normalized_optima import normalized_optimum
from tightframe.ufm.normalized_saddles import (
    merged_classes,
    nearby_critical_point,
    opposite_features,
    polygon,
    single_classifier,
)
from tightframe.ufm.normalized_solvers import solve_normalized


def model(classes=4, features=6, temperature=3.0, counts=3, loss="ce"):
    return NormalizedFeatures(classes=classes, features=features, per_class=counts, temperature=temperature, loss=loss)


def at(problem, point):
    return SphereForm(problem, point.W, point.H)


SADDLES = {
    "single classifier": (model(counts=8), single_classifier),
    "single classifier, odd": (model(5, 7, counts=9), single_classifier),
    "all together": (model(), lambda problem: merged_classes(problem, 1)),
    "pairs": (model(), lambda problem: merged_classes(problem, 2)),
    "triples": (model(6, 8), lambda problem: merged_classes(problem, 2)),
    "square": (model(), polygon),
    "pentagon": (model(5, 6), polygon),
    "one opposite": (model(), lambda problem: opposite_features(problem, 1)),
    "all opposite": (model(), lambda problem: opposite_features(problem, 3)),
    "one opposite, d = K": (model(features=4), lambda problem: opposite_features(problem, 1)),
}


@pytest.mark.parametrize("name", SADDLES)
@pytest.mark.parametrize("temperature", [0.5, 3.0, 12.0])
def test_constructed_points_are_strict_saddles(name, temperature):
    problem, build = SADDLES[name]
    problem = model(problem.classes, problem.features, temperature, problem.counts[0])
    point = build(problem)
    found = classify_normalized(problem, point.W, point.H)
    # Gradients cancel up to rounding of terms of size tau.
    assert found.gradient_norm < 1e-14 * temperature * problem.samples
    assert found.kind == "strict saddle"
    form = at(problem, point)
    spectrum = torch.linalg.eigvalsh(dense_matrix(form.product, form.dimension))
    assert found.smallest_eigenvalue == pytest.approx(float(spectrum[0]), rel=1e-9, abs=1e-12)
    direction = found.direction
    assert direction.kind == "negative curvature"
    size = float(direction.W.square().sum() + direction.H.square().sum())
    assert size == pytest.approx(1.0, abs=1e-12)
    assert direction.predicted < 0
    assert direction.curvature == pytest.approx(direction.predicted, rel=1e-9, abs=1e-13)
    assert direction.curvature >= float(spectrum[0]) - 1e-12
    step = 1e-2
    moved = [float(form.moved(sign * step * direction.W, sign * step * direction.H).value) for sign in (1, -1)]
    assert min(moved) < float(form.value)


def test_the_null_space_gives_the_lowest_eigenvalue_at_low_rank():
    for name in ("pairs", "square", "all opposite", "all together"):
        problem, build = SADDLES[name]
        form = at(problem, build(problem))
        construction, direction = negative_curvature(form)
        assert construction == "null space"
        assert direction.predicted == pytest.approx(smallest_curvature(form), rel=1e-9)


def test_a_single_classifier_is_left_within_the_span():
    problem, build = SADDLES["single classifier"]
    form = at(problem, build(problem))
    assert torch.linalg.matrix_rank(form.H) == problem.features
    assert negative_curvature(form)[0] == "single classifier"


def test_even_features_are_orthogonal_to_the_classifier_and_isotropic_beside_it():
    problem = model(counts=20)
    point = single_classifier(problem, even=True)
    assert float((point.W @ point.H).abs().max()) < 1e-14
    assert float(point.H.sum(1).abs().max()) < 1e-13
    across = torch.eye(6).double() - torch.outer(point.W[0], point.W[0])
    assert torch.allclose(point.H @ point.H.T, across * 80 / 5, atol=1e-12)
    form = at(problem, point)
    # In the plane of the two directions the Hessian is [[A, c], [c, 0]], in closed form for these features.
    alone, coupling = 9.0 / 4 / 5, 3.0 / 80 * (20 * (1 - 1 / 5)) ** 0.5
    expected = alone / 2 - math.hypot(alone / 2, coupling)
    assert negative_curvature(form)[1].curvature == pytest.approx(expected, rel=1e-12)
    assert smallest_curvature(form) == pytest.approx(expected, rel=1e-9)


def test_the_dual_gap_is_of_the_size_of_the_loss_where_the_classifiers_agree():
    """There T is largest: every loss is log K, and none is above log K + 2 tau."""
    for temperature in (0.5, 3.0, 12.0):
        problem = model(temperature=temperature, counts=8)
        assert dual_gap(at(problem, single_classifier(problem))) < 2 * (math.log(4) + 2 * temperature)


def test_the_inverse_classifier_has_the_curvature_of_its_feature():
    """Two classes in the plane: two features of three are on their own side, and the margin balances their pulls."""
    problem = model(2, 2, 2.0, 3)
    half = math.log(2) / 2.0 / 2  # the margin tau |w_1 - w_2| is log 2, where two right answers pull as one wrong one
    W = torch.tensor([[(1 - half**2) ** 0.5, half], [(1 - half**2) ** 0.5, -half]], dtype=torch.float64)
    H = torch.tensor([[0.0] * 6, [1.0, 1.0, -1.0, -1.0, -1.0, 1.0]], dtype=torch.float64)
    form = problem.form(W, H)
    assert form.gradient_norm < 1e-15
    assert float(form.alpha.abs().max()) < 1e-15
    construction, direction = negative_curvature(form)
    assert construction == "inverse classifier"
    assert direction.predicted == pytest.approx(-float(form.beta.max()), rel=1e-12)
    assert direction.curvature == pytest.approx(direction.predicted, rel=1e-9)
    assert direction.predicted == pytest.approx(-2.0 * (2 / 3) * 2 * half / 6, rel=1e-12)


def test_the_optimum_is_global_and_rotations_are_its_only_flat_directions():
    problem = model(4, 3, 2.0)
    best = normalized_optimum(problem).point(seed=2)
    found = classify_normalized(problem, best.W, best.H)
    assert found.kind == "global"
    assert found.direction is None
    assert abs(found.smallest_eigenvalue) < 1e-14
    form = at(problem, best)
    spectrum = torch.linalg.eigvalsh(dense_matrix(form.product, form.dimension))
    assert int((spectrum.abs() < 1e-12).sum()) == 3  # rotations of three dimensions
    assert float(spectrum.abs().sort().values[3]) > 1e-4


def test_a_point_that_is_not_critical_is_sent_down_its_gradient():
    problem = model()
    start = problem.start(seed=0)
    found = classify_normalized(problem, start.W, start.H)
    assert (found.kind, found.construction, found.direction.kind) == ("not critical", "gradient", "gradient")
    assert found.direction.slope == pytest.approx(-(found.gradient_norm**2), rel=1e-12)


def test_a_degenerate_point_is_neither():
    """In the plane a single classifier with features at right angles has a Hessian without negative eigenvalue."""
    problem = model(2, 2, 3.0, 2)
    W = torch.tensor([[1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    H = torch.tensor([[0.0, 0.0, 0.0, 0.0], [1.0, -1.0, 1.0, -1.0]], dtype=torch.float64)
    found = classify_normalized(problem, W, H)
    assert (found.kind, found.direction) == ("other", None)
    assert found.gradient_norm < 1e-15
    assert found.smallest_eigenvalue > -1e-15


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    classes=st.integers(2, 5),
    features=st.integers(2, 6),
    temperature=st.floats(0.05, 30),
    toward=st.floats(0, 1),
    smoothing=st.sampled_from([0.0, 0.2]),
)
def test_the_dual_gap_is_never_below_the_distance(seed, classes, features, temperature, toward, smoothing):
    problem = model(classes, features, temperature, 2, CrossEntropy(smoothing))
    start = problem.start(seed=seed)
    optimum = normalized_optimum(problem)
    if optimum.known:  # also close to the optimum, where the bound is tight
        best = optimum.point(seed=seed)
        form = SphereForm(problem, best.W, best.H).moved(toward**4 * start.W, toward**4 * start.H)
    else:
        form = SphereForm(problem, start.W, start.H)
    # Sums of terms of size tau round at 1e-16 each.
    assert dual_gap(form) >= float(form.value) - optimum.bound - 1e-14 * (1 + temperature)


@pytest.mark.parametrize("problem", [model(), model(4, 3), model(5, 4, 8.0), model(3, 5, 0.2, 1)], ids=str)
def test_the_dual_gap_is_zero_at_the_optimum(problem):
    best = normalized_optimum(problem).point()
    assert abs(dual_gap(at(problem, best))) < 1e-14


def test_unequal_classes_and_squared_error_are_certified_by_duality():
    for problem in (model(counts=(1, 3, 2, 6)), model(3, 6, 2.0, (4, 1, 1), SquaredError())):
        solution = solve_normalized(problem, seed=1)
        assert solution.certificate.kind == "dual gap"
        assert solution.certificate.holds
        values = [solve_normalized(problem, seed=seed).objective for seed in range(2, 5)]
        assert values == pytest.approx([solution.objective] * 3, abs=1e-9)
        # A certificate of one point bounds every other.
        start = problem.start(seed=9)
        assert problem.objective(start.W, start.H) > solution.certificate.evidence["bound"]


def test_a_loss_that_is_not_convex_has_no_dual_gap_but_a_closed_form():
    problem = model(loss=Focal(2.0), temperature=6.0)
    best = normalized_optimum(problem).point()
    certificate = certify_normalized(at(problem, best))
    assert certificate.kind == "closed form"
    assert certificate.holds
    assert certificate.evidence["dual gap"] == math.inf
    uneven = model(loss=Focal(2.0), counts=(1, 2, 1, 1))
    start = uneven.start(seed=0)
    assert not certify_normalized(at(uneven, start)).holds


def test_labels_reach_the_classification():
    problem, labels = model(3, 4, counts=2), torch.tensor([2, 0, 1, 1, 2, 0])
    best = normalized_optimum(problem).point()
    H = best.W.T[:, labels]
    assert classify_normalized(problem, best.W, H, labels=labels).kind == "global"
    assert classify_normalized(problem, best.W, H).kind == "not critical"


def test_critical_points_near_random_starts_are_critical():
    problem = model(3, 4, 1.0, 2)
    solution = nearby_critical_point(problem, seed=0)
    assert solution.status.converged
    assert len(solution.trace) < 30  # damped Newton steps with a wrong Hessian take hundreds
    form = problem.form(solution.W, solution.H)
    assert form.gradient_norm < 1e-11
    assert solution.objective == pytest.approx(float(form.value), abs=1e-15)
    near = nearby_critical_point(problem, start=problem.point(solution.W, solution.H))
    assert torch.allclose(near.W, solution.W, atol=1e-10)


def test_way_down_finds_none_at_the_optimum():
    problem = model()
    assert way_down(at(problem, normalized_optimum(problem).point())) is None


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: single_classifier(model(counts=(1, 2, 1, 1))), "equally many"),
        (lambda: single_classifier(model(loss="mse")), "differences"),
        (lambda: single_classifier(model(), even=True), "multiple"),
        (lambda: merged_classes(model(), 3), "divisor"),
        (lambda: merged_classes(model(), 4), "divisor"),
        (lambda: merged_classes(model(), 0), "groups"),
        (lambda: polygon(model(3, 4)), "classes"),
        (lambda: opposite_features(model(), 4), "at most 3"),
        (lambda: opposite_features(model(), 0), "count"),
        (lambda: opposite_features(model(5, 3), 1), "dimensions"),
        (lambda: classify_normalized(model(), torch.ones(4, 6), torch.ones(6, 12)), "unit norm"),
    ],
)
def test_bad_input_is_named(build, words):
    with pytest.raises(InputError, match=words):
        build()
