"""Thin factorisations against dense pseudo-inverses; the ground's checks and errors."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
import torch

from tightframe.core import checks, errors
from tightframe.core.linalg import ThinBetween, add_gram, complement, directions_and_lengths, gram, mirrored, unit_rows
from tightframe.core.rng import generator

KINDS = [
    errors.InputError,
    errors.DegenerateError,
    errors.AmbiguityError,
    errors.UnsafeFileError,
    errors.MissingDependencyError,
]


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("rows", "columns"), [(9, 4), (3, 4), (4, 4), (5, 2)])
def test_dropping_a_null_direction_keeps_the_product(rows, columns, sign, seed):
    null = draw(columns, seed=seed)
    null[0] = sign * null[0].abs()
    matrix = draw(rows, columns, seed=seed + 10)
    matrix = matrix - torch.outer(matrix @ null, null) / (null @ null)
    before = null.clone()
    thin = complement(matrix, null)
    assert thin.shape == (rows, columns - 1)
    assert torch.allclose(thin @ thin.T, matrix @ matrix.T, atol=1e-13)
    assert torch.equal(null, before)


def test_dropping_the_first_axis_itself():
    matrix = torch.cat([torch.zeros(5, 1, dtype=torch.float64), draw(5, 3)], dim=1)
    for sign in (1.0, -1.0):
        thin = complement(matrix, torch.tensor([sign, 0.0, 0.0, 0.0], dtype=torch.float64))
        assert torch.allclose(thin @ thin.T, matrix @ matrix.T, atol=1e-14)


@pytest.mark.parametrize(("rows", "rank"), [(8, 3), (8, 8), (30, 1)])
def test_the_thin_inverse_is_the_pseudo_inverse(rows, rank):
    columns, scatter = draw(rows, rank), draw(rows, rows, seed=1)
    scatter = scatter @ scatter.T
    factor = ThinBetween(columns, "columns", "Do something.")
    inverse = np.linalg.pinv((columns @ columns.T).numpy(), rcond=1e-12, hermitian=True)
    expected = np.trace(scatter.numpy() @ inverse)
    whitener = factor.whitener.T
    assert float((scatter @ whitener * whitener).sum()) == pytest.approx(expected, rel=1e-9)
    x = draw(rows, seed=2)
    assert float((x @ whitener).square().sum()) == pytest.approx(x.numpy() @ inverse @ x.numpy(), rel=1e-9)


@pytest.mark.parametrize(("rows", "columns"), [(5, 3), (40, 128), (3, 200), (300, 1025)])
@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
def test_a_symmetric_product_is_the_full_product(rows, columns, precision):
    matrix = draw(rows, columns).to(precision)
    full = (matrix.double().T @ matrix.double()).to(precision)
    # |sum of n products - rounded| <= n eps sum |products| <= n eps max |column|^2
    atol = rows * torch.finfo(precision).eps * float(full.diagonal().max())
    assert torch.allclose(gram(matrix), full, rtol=0, atol=atol)
    total = mirrored(add_gram(torch.ones(columns, columns, dtype=torch.float64), matrix, sign=-1))
    assert torch.allclose(total, 1 - full.double(), rtol=0, atol=atol)


def test_nearly_dependent_columns_are_inverted_as_they_are():
    basis = torch.linalg.qr(draw(30, 8))[0]
    for smallest in (1e-6, 1e-11):
        columns = basis * torch.logspace(0, math.log10(smallest), 8, dtype=torch.float64)
        whitener = ThinBetween(columns, "columns", "Drop one.").whitener
        assert torch.allclose(whitener @ columns, torch.eye(8, dtype=torch.float64), atol=1e-15 / smallest)
    with pytest.raises(errors.DegenerateError, match="got a span of 7"):
        ThinBetween(torch.cat([basis[:, :7], 1e-15 * basis[:, 7:]], dim=1), "columns", "Drop one.")


@pytest.mark.parametrize("seed", range(5))
def test_dependent_columns_are_degenerate(seed):
    columns = draw(9, 4, seed=seed)
    columns[:, 2] = columns[:, 0] - 2 * columns[:, 3]
    with pytest.raises(errors.DegenerateError, match=r"columns span 4 dimensions; got a span of 3.*Drop one\."):
        ThinBetween(columns, "columns", "Drop one.")


@pytest.mark.parametrize("kind", KINDS)
def test_errors_have_three_parts_and_survive_pickling(kind):
    error = kind("a cat", got="a dog", remedy="Look again.")
    assert str(error) == "a cat; got a dog. Look again."
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert (again.expected, again.got, again.remedy) == ("a cat", "a dog", "Look again.")
    assert isinstance(error, errors.TightframeError)


def test_errors_are_caught_as_their_builtin_kin():
    assert issubclass(errors.InputError, ValueError)
    assert issubclass(errors.DegenerateError, ArithmeticError)
    assert issubclass(errors.MissingDependencyError, ImportError)
    assert issubclass(errors.AmbiguityError, errors.InputError)
    assert issubclass(errors.UnsafeFileError, errors.InputError)


@pytest.mark.parametrize("value", [0, -3, 1.0, "2", None, True, np.float64(3)])
def test_a_count_is_a_positive_integer(value):
    with pytest.raises(errors.InputError, match="size is an integer of at least 1"):
        checks.check_count(value, "size")


def test_integers_of_numpy_count_and_seed():
    count = checks.check_count(np.int64(3), "size")
    assert (count, type(count)) == (3, int)
    drawn = torch.rand(2, generator=generator(np.uint8(5)))
    assert torch.equal(drawn, torch.rand(2, generator=generator(5)))


@pytest.mark.parametrize("seed", [None, 1.5, "7", True])
def test_a_seed_is_an_integer(seed):
    with pytest.raises(errors.InputError, match="an integer seed"):
        generator(seed)


def test_a_classifier_comes_back_in_float64_with_a_bias():
    weight, bias = checks.check_classifier(torch.ones(2, 3).half(), None, 2, 3)
    assert weight.dtype == bias.dtype == torch.float64
    assert bias.tolist() == [0, 0]
    _, bias = checks.check_classifier(torch.ones(2, 3), torch.tensor([1.0, 2.0], requires_grad=True), 2, 3)
    assert bias.tolist() == [1, 2]
    assert not bias.requires_grad


@pytest.mark.parametrize(
    ("weight", "bias", "message"),
    [
        (torch.ones(3, 2), None, r"\(classes, features\) = \(2, 3\); got shape \(3, 2\)"),
        (torch.ones(2, 3), torch.ones(3), r"bias has shape \(2,\); got shape \(3,\)"),
        (torch.full((2, 3), torch.nan), None, "classifier is finite"),
        (torch.ones(2, 3), torch.tensor([0.0, torch.inf]), "classifier is finite"),
    ],
)
def test_a_classifier_that_does_not_fit(weight, bias, message):
    with pytest.raises(errors.InputError, match=message):
        checks.check_classifier(weight, bias, 2, 3)


def test_rows_are_kept_without_a_copy_where_none_is_ignored():
    features, labels = torch.ones(3, 2), torch.tensor([0, 1, 1])
    for ignored in (None, -100):
        kept, names = checks.kept_rows(features, labels, ignored)
        assert kept is features
        assert names is labels
    kept, names = checks.kept_rows(features, labels, 1)
    assert (len(kept), names.tolist()) == (1, [0])


@pytest.mark.parametrize("size", [1e-200, 1e-30, 1.0, 1e30, 1e200])
def test_directions_and_lengths_survive_squares_that_would_not(size):
    rows = draw(5, 3)
    directions, lengths = directions_and_lengths(size * rows)
    norms = torch.tensor([[math.hypot(*row)] for row in rows.tolist()], dtype=torch.float64)
    torch.testing.assert_close(directions, rows / norms, rtol=1e-15 * 4, atol=0)
    torch.testing.assert_close(lengths, size * norms, rtol=1e-15 * 4, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_rows_of_zeros_stay_with_finite_gradients_in_every_precision(dtype):
    rows = torch.tensor([[[3.0, -4.0], [0.0, 0.0]]], dtype=dtype, requires_grad=True)
    units = unit_rows(rows)
    assert units.dtype == dtype
    assert units[0, 1].tolist() == [0, 0]
    torch.testing.assert_close(units[0, 0].detach().double(), draw(2).new_tensor([0.6, -0.8]), rtol=5e-3, atol=0)
    units.sum().backward()
    assert bool(torch.isfinite(rows.grad).all())


def test_derivatives_of_directions_and_lengths_are_those_of_finite_differences():
    rows = draw(4, 3, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(directions_and_lengths, (rows,))
    assert torch.autograd.gradgradcheck(directions_and_lengths, (rows,))


def test_rows_without_a_direction_are_named():
    rows = torch.ones(6, 2)
    assert checks.check_directions(rows) is rows
    rows[2], rows[4, 1] = 0, math.nan
    with pytest.raises(errors.InputError, match=r"finite rows .*1 rows with NaN .* 1 of length.*first in row 2"):
        checks.check_directions(rows, "rows")
