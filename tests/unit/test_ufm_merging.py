"""The decay at which classes of one size merge: closed form, bisection, and the law in between."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import pytest
import torch

from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.ufm.convex import factor, solve_convex
from tightframe.ufm.losses import CrossEntropy, Focal, SquaredError
from tightframe.ufm.merging import measured_merging_decay, merging_decay, separation
from tightframe.ufm.model import UnconstrainedFeatures

# Two sizes; equal sizes; several sizes, of which the smallest merge.
SIZES = ((30, 30, 4, 4, 4), (10, 10, 10), (50, 20, 7, 3, 3))
LOSSES = (CrossEntropy(), CrossEntropy(0.3), SquaredError(), SquaredError(1.0, 2.0))


def model(loss="ce", bias="none", counts=SIZES[0], decay=1e-3):
    return UnconstrainedFeatures(
        classes=len(counts), features=len(counts), per_class=counts, loss=loss, weight_decay=(decay, decay), bias=bias
    )


def at(problem, decay):
    problem = replace(problem, weight_decay=(decay, decay))
    return problem, solve_convex(problem, subgradient_tolerance=1e-11)


@pytest.mark.parametrize(("loss", "counts"), list(product(LOSSES, SIZES)), ids=str)
def test_the_threshold_is_where_bisection_finds_it(loss, counts):
    problem = model(loss, "none", counts)
    measured = measured_merging_decay(problem, precision=1e-4)
    # The middle of an interval of that relative width.
    assert measured == pytest.approx(float(merging_decay(problem)[-1]), rel=0.6e-4)


@pytest.mark.parametrize(("loss", "bias", "counts"), list(product(LOSSES, ("none", "free", 0.01, 3.0), SIZES)), ids=str)
def test_outputs_of_classes_of_one_size_differ_by_the_law_and_merge_at_its_end(loss, bias, counts):
    problem = model(loss, bias, counts)
    threshold = float(merging_decay(problem)[-1])
    for share in (0.4, 0.999):
        below, found = at(problem, share * threshold)
        law = (1 - share) * threshold * problem.samples / counts[-1] ** 0.5
        # Newton's method and the subgradient leave 1e-11 of an output.
        assert separation(below, found.Z, found.b) == pytest.approx(law, abs=1e-9)
    above, found = at(problem, 1.001 * threshold)
    assert separation(above, found.Z, found.b) == pytest.approx(0.0, abs=1e-12)
    own = [k for k, count in enumerate(counts) if count == counts[-1]]
    # Merged: not only these outputs but all logits, and the classifiers.
    assert (found.Z[:, own] - found.Z[:, own[:1]]).abs().max() < 1e-10
    W = factor(above, found).W
    assert (W[own] - W[own[0]]).abs().max() < 1e-10


def test_large_classes_stay_apart_where_small_ones_have_merged():
    problem, found = at(model(), 1.001 * float(merging_decay(model())[-1]))
    large, small = ((found.Z[:, pair[0]] - found.Z[:, pair[1]]).abs().max() for pair in ((0, 1), (3, 4)))
    assert small < 1e-10
    assert large > 0.1
    assert problem.nuclear_decay < float(merging_decay(problem)[0])


def test_a_rescaled_squared_error_has_a_threshold_without_a_formula():
    problem = model(SquaredError(5.0, 1.0), counts=(30, 30, 4, 4))
    with pytest.raises(InputError, match="scale 1"):
        merging_decay(problem)
    measured = measured_merging_decay(problem, precision=1e-2)
    for share, apart in ((0.98, True), (1.02, False)):
        there, found = at(problem, share * measured)
        assert (separation(there, found.Z, found.b) > 1e-9) == apart


@pytest.mark.parametrize("loss", ["ce", "mse"])
def test_separation_is_its_definition(loss):
    problem = model(loss, "free", (9, 2, 5, 2, 2))
    draws = generator(5)
    Z, b = (torch.randn(shape, dtype=torch.float64, generator=draws) for shape in ((5, 5), (5,)))
    outputs = Z + b[:, None]
    if loss == "ce":
        outputs = outputs.exp() / outputs.exp().sum(0)
    small = (1, 3, 4)
    expected = sum(outputs[k, k] - sum(outputs[j, k] for j in small if j != k) / 2 for k in small) / 3
    assert separation(problem, Z, b) == pytest.approx(float(expected), rel=1e-12)


def test_a_single_smallest_class_has_nothing_to_merge_with():
    problem = model(counts=(9, 9, 2))
    with pytest.raises(InputError, match="two or more classes of the smallest size"):
        separation(problem, torch.zeros(3, 3), torch.zeros(3))
    with pytest.raises(InputError, match="two or more classes of the smallest size"):
        measured_merging_decay(problem)


@pytest.mark.parametrize(("Z", "b"), [((3, 5), (5,)), ((5, 5), (4,))])
def test_shapes_must_fit(Z, b):
    with pytest.raises(InputError, match="Z of shape"):
        separation(model(), torch.zeros(Z), torch.zeros(b))


@pytest.mark.parametrize("precision", [0.0, -1.0, math.nan])
def test_a_precision_is_above_zero(precision):
    with pytest.raises(InputError, match="precision above zero"):
        measured_merging_decay(model(), precision=precision)


def test_focal_loss_has_neither_formula_nor_convex_program():
    with pytest.raises(InputError, match="cross-entropy"):
        merging_decay(model(Focal(2.0)))
    with pytest.raises(InputError, match="a convex loss"):
        measured_merging_decay(model(Focal(2.0)))
