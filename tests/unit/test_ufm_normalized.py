"""The model on spheres: objective against torch's, derivatives against automatic ones of x -> f(x/|x|)."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.optimize.curvature import dense_matrix
from tightframe.ufm.losses import CrossEntropy, Focal, SquaredError
from tightframe.ufm.normalized import NormalizedFeatures, SphereForm

LOSSES = [CrossEntropy(), CrossEntropy(0.2), Focal(2.0), SquaredError(2.0, 1.5)]
COUNTS = [3, (1, 4, 2)]


def model(loss="ce", counts=3, **changes):
    return NormalizedFeatures(
        **{"classes": 3, "features": 4, "per_class": counts, "temperature": 2.5, "loss": loss} | changes
    )


def at_random(problem, *, seed=0):
    start = problem.start(seed=seed)
    return SphereForm(problem, start.W, start.H)


def free_objective(problem):
    """f at the directions of free matrices: constant along radii, so that its derivatives are those on spheres."""

    def value(W, H):
        rows, columns = functional.normalize(W, dim=1), functional.normalize(H, dim=0)
        return problem.loss.value(problem.temperature * rows @ columns, problem.labels).mean()

    return value


def tangent_direction(form, *, seed=1):
    draw = torch.randn(form.dimension, dtype=torch.float64, generator=generator(seed))
    return form.direction(draw)


@pytest.mark.parametrize("counts", COUNTS)
def test_the_objective_is_torchs_cross_entropy_of_scaled_cosines(counts):
    problem = model(counts=counts)
    start = problem.start(seed=3)
    cosines = functional.cosine_similarity(start.W[:, :, None], start.H[None], dim=1)
    expected = functional.cross_entropy(2.5 * cosines.T, problem.labels)
    assert problem.objective(start.W, start.H) == pytest.approx(float(expected), rel=1e-13)


def test_a_start_is_on_the_spheres_and_seeded():
    problem = model()
    start, again = problem.start(seed=1), problem.start(seed=1)
    assert torch.equal(start.W, again.W)
    assert torch.allclose(start.W.norm(dim=1), torch.ones(3).double(), atol=1e-15)
    assert torch.allclose(start.H.norm(dim=0), torch.ones(9).double(), atol=1e-15)
    assert not start.b.any()


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
@pytest.mark.parametrize("counts", COUNTS)
def test_the_gradient_is_that_of_the_normalised_objective(loss, counts):
    form = at_random(model(loss, counts))
    expected = torch.func.grad(free_objective(form.problem), argnums=(0, 1))(form.W, form.H)
    for mine, theirs in zip(form.gradient, expected, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-14)
    norm = sum(float(part.square().sum()) for part in expected) ** 0.5
    assert form.gradient_norm == pytest.approx(norm, rel=1e-12)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
@pytest.mark.parametrize("counts", COUNTS)
def test_the_hessian_is_that_of_the_normalised_objective(loss, counts):
    form = at_random(model(loss, counts))
    dW, dH = tangent_direction(form)
    gradient = torch.func.grad(free_objective(form.problem), argnums=(0, 1))
    _, bent = torch.func.jvp(gradient, (form.W, form.H), (dW, dH))
    along = float((dW * bent[0]).sum() + (dH * bent[1]).sum())
    assert form.curvature_along(dW, dH) == pytest.approx(along, rel=1e-11)
    # The ambient Hessian also has a radial part where the point is not critical.
    in_W = bent[0] - (bent[0] * form.W).sum(1, keepdim=True) * form.W
    in_H = bent[1] - (bent[1] * form.H).sum(0) * form.H
    for mine, theirs in zip(form.second(dW, dH), (in_W, in_H), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-13)


def test_the_second_derivative_is_that_along_a_geodesic():
    form = at_random(model())
    dW, dH = tangent_direction(form)

    def along(t):
        angles_W, angles_H = dW.norm(dim=1, keepdim=True), dH.norm(dim=0)
        W = form.W * torch.cos(t * angles_W) + dW / angles_W * torch.sin(t * angles_W)
        H = form.H * torch.cos(t * angles_H) + dH / angles_H * torch.sin(t * angles_H)
        return form.problem.loss.value(2.5 * W @ H, form.problem.labels).mean()

    zero = torch.zeros((), dtype=torch.float64)
    expected = torch.func.grad(torch.func.grad(along))(zero)
    assert form.curvature_along(dW, dH) == pytest.approx(float(expected), rel=1e-11)


def test_coordinates_carry_the_hessian_without_its_normal_directions():
    form = at_random(model())
    matrix = dense_matrix(form.product, form.dimension)
    assert matrix.shape == (3 * 12, 3 * 12)
    draw = torch.randn(form.dimension, dtype=torch.float64, generator=generator(5))
    assert torch.allclose(form.coordinates(*form.direction(draw)), draw, atol=1e-14)
    assert float(draw @ matrix @ draw) == pytest.approx(form.curvature_along(*form.direction(draw)), rel=1e-11)
    # Of the projected ambient Hessian the tangent one is all but a zero per sphere.
    gradient = torch.func.grad(free_objective(form.problem), argnums=(0, 1))

    def ambient(vector):
        dW, dH = vector[:12].view(3, 4), vector[12:].view(4, 9)
        dW = dW - (dW * form.W).sum(1, keepdim=True) * form.W
        dH = dH - (dH * form.H).sum(0) * form.H
        _, (in_W, in_H) = torch.func.jvp(gradient, (form.W, form.H), (dW, dH))
        in_W = in_W - (in_W * form.W).sum(1, keepdim=True) * form.W
        return torch.cat([in_W.flatten(), (in_H - (in_H * form.H).sum(0) * form.H).flatten()])

    expected = torch.linalg.eigvalsh(dense_matrix(ambient, 48))
    found = torch.cat([torch.linalg.eigvalsh(matrix), torch.zeros(12).double()]).sort().values
    assert torch.allclose(found, expected, atol=1e-13)


def test_a_step_stays_on_the_spheres_and_begins_along_its_direction():
    form = at_random(model())
    dW, dH = tangent_direction(form)
    moved = form.moved(1e-6 * dW, 1e-6 * dH)
    assert torch.allclose(moved.H.norm(dim=0), torch.ones(9).double(), atol=1e-15)
    # The way back to the sphere is of second order, 1e-12.
    assert torch.allclose((moved.W - form.W) / 1e-6, dW, atol=2e-5)
    slope = float((form.gradient[0] * dW).sum() + (form.gradient[1] * dH).sum())
    assert float(moved.value - form.value) == pytest.approx(1e-6 * slope, abs=1e-10)


def test_labels_bring_columns_into_order():
    problem, labels = model(), torch.tensor([2, 0, 1, 2, 0, 1, 2, 0, 1])
    start = problem.start(seed=0)
    order = torch.argsort(labels, stable=True)
    expected = problem.objective(start.W, start.H[:, order])
    assert float(problem.form(start.W, start.H, labels=labels).value) == expected


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": float("inf")}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"features": 1}, "features"),
        ({"classes": 1}, "classes"),
        ({"per_class": 0}, "per_class"),
        ({"per_class": (1, 2)}, "per_class"),
        ({"loss": "hinge"}, "loss"),
    ],
)
def test_bad_problems_are_named(change, words):
    with pytest.raises(InputError, match=words):
        model(**change)


@pytest.mark.parametrize(
    ("W", "H", "words"),
    [
        (torch.ones(3, 4), torch.eye(4)[:, [0] * 9], "rows of W"),
        (torch.eye(4)[:3], torch.ones(4, 9), "columns of H"),
        (torch.eye(4)[:3], torch.eye(4)[:, [0] * 8], "shape"),
        (torch.eye(4)[:2], torch.eye(4)[:, [0] * 9], "shape"),
        (torch.full((3, 4), float("nan")), torch.eye(4)[:, [0] * 9], "NaN"),
        (torch.eye(4)[:3].long(), torch.eye(4)[:, [0] * 9], "floating"),
        (torch.zeros(3, 4), torch.eye(4)[:, [0] * 9], "unit norm"),
    ],
)
def test_bad_points_are_named(W, H, words):
    with pytest.raises(InputError, match=words):
        model().objective(W, H)
