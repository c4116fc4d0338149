"""Theorems on spheres: collapse is the only minimum, all else is a strict saddle, and where that ends."""

from __future__ import annotations

import math

import pytest
import torch

from tightframe.geometry.frames import ideal_gram
from tightframe.optimize.curvature import dense_matrix
from tightframe.ufm.normalized import NormalizedFeatures, SphereForm
from tightframe.ufm.normalized_landscape import classify_normalized, negative_curvature
from tightframe.ufm.normalized_optima import proven_temperature
from tightframe.ufm.normalized_saddles import nearby_critical_point, opposite_features, single_classifier
from tightframe.ufm.normalized_solvers import solve_normalized


def model(classes, features, temperature, counts):
    return NormalizedFeatures(classes=classes, features=features, per_class=counts, temperature=temperature)


@pytest.mark.parametrize(
    ("classes", "features", "temperature"),
    [(4, 6, 1.0), (4, 6, 7.9), (4, 6, 14.0), (3, 5, 4.0), (2, 3, 1.5), (5, 7, 8.0), (4, 4, 9.0), (3, 3, 6.0)],
)
def test_every_start_ends_in_collapse(classes, features, temperature):
    """[yaras2022neural], theorems 3.1 and 3.2, and beyond their temperatures and dimensions."""
    problem = model(classes, features, temperature, 3)
    value = math.log1p((classes - 1) * math.exp(-classes * temperature / (classes - 1)))
    for seed in range(6):
        solution = solve_normalized(problem, seed=seed)
        assert solution.certificate.holds
        assert solution.objective == pytest.approx(value, abs=1e-9)
        # At tau = 14 a gap of 1e-9 is reached about when the cosines are right to a hundredth.
        assert torch.allclose(solution.W @ solution.W.T, ideal_gram(classes), atol=1e-2)
        assert torch.allclose(solution.H, solution.W.T[:, problem.labels], atol=0.1)


@pytest.mark.parametrize(("classes", "features"), [(3, 4), (3, 3), (2, 4)])
def test_critical_points_of_all_kinds_are_strict_saddles(classes, features):
    """Newton's method finds saddles as readily as minima: from d = K on, none of them is of a third kind."""
    constructions = set()
    for temperature in (0.7, 2.0):
        for seed in range(5):
            problem = model(classes, features, temperature, 2)
            found = nearby_critical_point(problem, seed=seed)
            if found.status.converged:
                point = classify_normalized(problem, found.W, found.H)
                assert point.kind in ("strict saddle", "global")
                constructions.add(point.construction)
    assert constructions
    assert "eigenvector" not in constructions


def mixtures(problem):
    """Curvature at a single classifier along (u b^T, (I - h h^T) b u_y): as it is, and at the best proportion."""
    point = single_classifier(problem, seed=1)
    form = SphereForm(problem, point.W, point.H)
    best = negative_curvature(form)[1]
    u = torch.tensor([1.0, 1.0, -1.0, -1.0]).double()
    b = best.W[0] / best.W[0].norm()
    dW = torch.outer(u, b)
    dH = (b[:, None] - form.H * (b @ form.H)) * u[problem.labels]
    return form.curvature_along(dW, dH) / float(dW.square().sum() + dH.square().sum()), best.curvature


def test_the_bound_on_the_temperature_is_that_of_one_direction():
    """A fixed mixture turns positive near the proven bound 2(d-2); the best one is negative at every temperature."""
    bound = proven_temperature(4, 12)
    assert bound == 20
    for temperature in (0.5 * bound, 0.9 * bound):
        fixed, best = mixtures(model(4, 12, temperature, 200))
        assert best <= fixed < 0
    for temperature in (1.2 * bound, 10 * bound, 1000 * bound):
        fixed, best = mixtures(model(4, 12, temperature, 200))
        assert fixed > 0 > best
    # Its limit at high temperatures: -(coupling)^2 over the curvature of W alone, about -d/N.
    assert best == pytest.approx(-12 / 800, rel=0.3)


@pytest.mark.parametrize(("temperature", "minimum"), [(1.5, False), (1.95, False), (2.15, True), (3.5, True)])
def test_one_dimension_less_has_local_minima_beyond_a_temperature(temperature, minimum):
    """For d = K - 1 a feature opposite to its classifier is held there beyond tau = K - 1, given many others."""
    problem = model(3, 2, temperature, 200)
    point = opposite_features(problem, 1)
    form = problem.form(point.W, point.H)
    assert form.gradient_norm < 1e-14
    assert float((form.W @ form.H).amax(0).min()) < 1 - 1e-3
    spectrum = torch.linalg.eigvalsh(dense_matrix(form.product, form.dimension))
    rotation = int(spectrum.abs().argmin())
    assert abs(float(spectrum[rotation])) < 1e-14
    others = torch.cat([spectrum[:rotation], spectrum[rotation + 1 :]])
    assert bool((others > 1e-6).all()) is minimum
    # One dimension more, and there is a way down.
    wider = model(3, 3, temperature, 200)
    lifted = opposite_features(wider, 1)
    assert classify_normalized(wider, lifted.W, lifted.H).kind == "strict saddle"


def test_the_curvature_that_holds_a_feature_is_its_formula():
    for classes, temperature in ((3, 2.5), (4, 2.0), (5, 6.0)):
        problem = model(classes, classes - 1, temperature, 2)
        form = problem.form(*[getattr(opposite_features(problem, 1), name) for name in ("W", "H")])
        dH = torch.zeros_like(form.H)
        draw = torch.linspace(-1, 1, classes - 1, dtype=torch.float64)
        dH[:, 0] = draw - form.H[:, 0] * (form.H[:, 0] @ draw)
        share = float(torch.softmax(form.logits[:, 0], 0)[0])
        expected = temperature * (1 - share) * classes / (classes - 1) * (temperature / (classes - 1) - 1)
        found = form.curvature_along(torch.zeros_like(form.W), dH) / float(dH.square().sum())
        assert found * problem.samples == pytest.approx(expected, rel=1e-10)
