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
    usual = {"classes": classes, "widths": (classes + 1,) * (factors - 1), "per_class": 2, "activation": "relu"}
    return DeepUnconstrainedFeatures(**usual | {"decays": tuple(1e-3 * (i + 1) for i in range(factors))} | changes)


def logits(problem, point):
    return point.weights[0] @ problem.levels(point)[-1][:, :: problem.counts[0]]


CASES = [(6, 2, "own"), (9, 2, "own"), (10, 2, "disjoint"), (10, 3, "own"), (4, 1, "own")]


@pytest.mark.parametrize("factors", [3, 4, 6])
@pytest.mark.parametrize(("classes", "size", "units"), CASES)
def test_points_fit_all_classes_at_the_value_of_the_closed_form(classes, size, units, factors):
    problem = chain(classes, factors, loss=SquaredError(target=2.0))
    point = subset_point(problem, size=size, units=units)
    Z = logits(problem, point)
    cost = cost_ratio(classes, factors, size=size, units=units) * float(classes) ** factors
    value, scale = collapsed_value(problem, cost)
    torch.testing.assert_close(Z, scale * torch.eye(classes, dtype=torch.float64), rtol=1e-11, atol=1e-11)
    assert problem.objective(point) == pytest.approx(value, rel=1e-12)
    assert subset_value(problem, size=size, units=units) == pytest.approx(value, rel=1e-12)
    norms = [decay * float(f.square().sum()) for decay, f in zip(problem.decays, point.factors, strict=True)]
    assert norms == pytest.approx([norms[0]] * factors, rel=1e-11)


@pytest.mark.parametrize("factors", [4, 5, 7])
@pytest.mark.parametrize("vertices", [4, 5, 8])
def test_the_cost_of_all_pairs_in_closed_form(vertices, factors):
    classes = math.comb(vertices, 2)
    nuclear = math.sqrt(2 * vertices - 2) + (vertices - 1) * math.sqrt(vertices - 2)
    expected = vertices / 4 * nuclear**2 / classes**2 * (vertices / classes) ** (factors - 4)
    assert cost_ratio(classes, factors) == pytest.approx(expected, rel=1e-12)
    assert cost_ratio(classes, 3) == pytest.approx(vertices / 2, rel=1e-12)


def test_the_cost_of_disjoint_pairs_of_five_vertices():
    # Eigenvalues 3, 1 (five times), -2 (four times) of the Petersen graph; rows of W_2 of squared norm 5/4.
    reader, compare = 1 / 9 + 5 + 4 / 4, 10 * 5 / 4
    nuclear = math.sqrt(8) + 4 * math.sqrt(3)
    assert cost_ratio(10, 4, units="disjoint") == pytest.approx(reader * compare * nuclear**2 / 1e4, rel=1e-12)


def test_disjoint_pairs_of_five_vertices_make_the_petersen_graph():
    problem = chain(10, 4)
    last = problem.levels(subset_point(problem, units="disjoint"))[-1][:10, ::2]
    graph = (last > 1e-12).double()
    torch.testing.assert_close(last, graph * last.max(), rtol=1e-12, atol=1e-13)
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
    with pytest.raises(InputError, match="widths of at least 4"):
        subset_point(chain(6, 4, widths=(6, 6, 3)))
    with pytest.raises(InputError, match="the deepest at least 6"):
        subset_value(chain(6, 4, widths=(5, 6, 6)))
    with pytest.raises(InputError, match="units"):
        subset_point(chain(6, 4), units="both")
    with pytest.raises(InputError):
        cost_ratio(6, 2)
    with pytest.raises(DegenerateError, match="tell the classes apart"):
        cost_ratio(3, 4, units="disjoint")
