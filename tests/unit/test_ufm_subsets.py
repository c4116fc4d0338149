"""Points of low rank: they fit, cost what the closed form says, and are what they are called."""

from __future__ import annotations

import math

import pytest
import torch

from tightframe.core.errors import DegenerateError, InputError
from tightframe.ufm.chains import collapsed_value, deep_optimum
from tightframe.ufm.extended import DeepUnconstrainedFeatures
from tightframe.ufm.losses import SquaredError
from tightframe.ufm.subsets import cost_ratio, fewest_vertices, subset_point, subset_value


def chain(classes, factors, **changes):
    usual = {"classes": classes, "widths": (2 * classes,) * (factors - 1), "per_class": 2, "activation": "relu"}
    return DeepUnconstrainedFeatures(**usual | {"decays": tuple(1e-3 * (i + 1) for i in range(factors))} | changes)


def logits(problem, point):
    return point.weights[0] @ problem.levels(point)[-1][:, :: problem.counts[0]]


CASES = [(6, 2, None), (9, 2, 2), (10, 2, 3), (12, 2, 3), (10, 3, 3), (4, 1, None)]


@pytest.mark.parametrize("factors", [3, 4, 6])
@pytest.mark.parametrize(("classes", "size", "reach"), CASES)
def test_points_fit_all_classes_at_the_value_of_the_closed_form(classes, size, reach, factors):
    problem = chain(classes, factors, loss=SquaredError(target=2.0))
    point = subset_point(problem, size=size, reach=reach)
    Z = logits(problem, point)
    cost = cost_ratio(classes, factors, size=size, reach=reach) * float(classes) ** factors
    value, scale = collapsed_value(problem, cost)
    torch.testing.assert_close(Z, scale * torch.eye(classes, dtype=torch.float64), rtol=1e-11, atol=1e-11)
    assert problem.objective(point) == pytest.approx(value, rel=1e-12)
    assert subset_value(problem, size=size, reach=reach) == pytest.approx(value, rel=1e-12)
    norms = [decay * float(f.square().sum()) for decay, f in zip(problem.decays, point.factors, strict=True)]
    assert norms == pytest.approx([norms[0]] * factors, rel=1e-11)


@pytest.mark.parametrize("factors", [4, 5, 7])
@pytest.mark.parametrize("vertices", [4, 5, 8])
def test_the_cost_of_all_pairs_in_closed_form(vertices, factors):
    classes = math.comb(vertices, 2)
    nuclear = math.sqrt(2 * vertices - 2) + (vertices - 1) * math.sqrt(vertices - 2)
    expected = vertices / 4 * nuclear**2 / classes**2 * (vertices / classes) ** (factors - 4)
    assert cost_ratio(classes, factors) == pytest.approx(expected, rel=1e-12)
    # |S_j cap S_k| - 1 has the eigenvalue 2v - 2 - K once and v - 2 for v - 1 vectors.
    direct = abs(2 * vertices - 2 - classes) + (vertices - 1) * (vertices - 2)
    assert cost_ratio(classes, 3) == pytest.approx(classes * direct**2 / classes**3, rel=1e-12)


def test_the_cost_of_units_of_three_of_five_vertices():
    # Eigenvalues 3, 1 (five times), -2 (four times) of the Petersen graph; rows of W_2 of squared norm 5/4.
    reader, compare = 1 / 9 + 5 + 4 / 4, 10 * 5 / 4
    nuclear = math.sqrt(8) + 4 * math.sqrt(3)
    assert cost_ratio(10, 4, reach=3) == pytest.approx(reader * compare * nuclear**2 / 1e4, rel=1e-12)


def test_the_cost_of_units_of_three_of_six_vertices():
    # Squared singular values 12, 6 (five times), 2 (nine times) of H_2, and 24 (five times) of W_1 H_1.
    reader, nuclear = 1 / 12 + 5 / 6 + 9 / 2, 5 * math.sqrt(24)
    assert cost_ratio(15, 3, reach=3) == pytest.approx(reader * nuclear**2 / 15**3, rel=1e-12)
    assert cost_ratio(15, 3, reach=3) == pytest.approx(26 / 27, rel=1e-12)


def test_units_of_three_of_five_vertices_make_the_petersen_graph():
    problem = chain(10, 4)
    last = problem.levels(subset_point(problem, reach=3))[-1][:10, ::2]
    graph = (last > 1e-12).double().flip(0)  # a triple and the pair outside of it are in opposite order
    torch.testing.assert_close(last, graph.flip(0) * last.max(), rtol=1e-12, atol=1e-13)
    # Strongly regular (10, 3, 0, 1): A^2 = 3 I + 0 A + 1 (J - I - A), which only the Petersen graph satisfies.
    eye, ones = torch.eye(10, dtype=torch.float64), torch.ones(10, 10, dtype=torch.float64)
    assert torch.equal(graph @ graph, 3 * eye + ones - eye - graph)


def test_subsets_of_one_vertex_are_the_collapsed_point():
    problem = chain(5, 4)
    assert cost_ratio(5, 4, size=1) == pytest.approx(1.0, rel=1e-14)
    assert subset_value(problem, size=1) == pytest.approx(deep_optimum(problem).value, rel=1e-13)


def test_the_rank_is_the_number_of_vertices():
    problem = chain(15, 5)
    levels = problem.levels(subset_point(problem))
    assert [int(torch.linalg.matrix_rank(level)) for level in levels] == [6, 6, 6, 15]


@pytest.mark.parametrize(("classes", "size", "least"), [(6, 2, 4), (7, 2, 5), (10, 2, 5), (11, 3, 6), (3, 1, 3)])
def test_fewest_vertices(classes, size, least):
    assert fewest_vertices(classes, size=size) == least
    assert math.comb(least, size) >= classes > math.comb(least - 1, size)


def test_bad_input_is_refused():
    for bad in (
        chain(6, 4, activation="identity"),
        chain(6, 4, loss="ce"),
        chain(6, 4, per_class=(1, 1, 1, 1, 1, 2)),
        chain(6, 2),
    ):
        with pytest.raises(InputError, match="squared error, ReLU"):
            subset_point(bad)
    with pytest.raises(InputError, match=r"widths of at least \(6, 4, 4\)"):
        subset_point(chain(6, 4, widths=(6, 6, 2)))
    with pytest.raises(InputError, match=r"got \(5, 6, 6\)"):
        subset_value(chain(6, 4, widths=(5, 6, 6)))
    with pytest.raises(InputError, match="reach is an integer of at least 2"):
        subset_point(chain(6, 4), reach=1)
    with pytest.raises(InputError):
        cost_ratio(6, 2)
    with pytest.raises(DegenerateError, match="tell the classes apart"):
        cost_ratio(10, 4, reach=4)
