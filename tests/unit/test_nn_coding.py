"""Coding rates against the definition, a dense formulation and closed forms; their gradients; bad input."""

from __future__ import annotations

import math

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.nn.rate.coding import coding_rate, rate_reduction

EPS2 = 0.3


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=generator(seed))


def labelled(sizes, d, seed=0):
    """Features of length one and labels of classes of these sizes, in mixed order."""
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    order = torch.randperm(len(labels), generator=generator(seed + 1))
    rows = normal(len(labels), d, seed=seed)
    return rows / rows.norm(dim=1, keepdim=True), labels[order]


def memberships(n, k, seed=0):
    return torch.softmax(3 * normal(n, k, seed=seed + 7), 1)


def dense(rows, shares, eps2):
    """R and R_c as the definition says, with a diagonal matrix Pi for every class and columns as samples."""
    Z, (n, d) = rows.T, rows.shape
    eye = torch.eye(d, dtype=rows.dtype)
    total = torch.linalg.slogdet(eye + d / (n * eps2) * Z @ Z.T).logabsdet / 2
    parts = []
    for column in shares.T:
        Pi, size = torch.diag(column), column.sum()
        if size == 0:
            parts.append(torch.zeros((), dtype=rows.dtype))
            continue
        parts.append(size / (2 * n) * torch.linalg.slogdet(eye + d / (size * eps2) * Z @ Pi @ Z.T).logabsdet)
    return total, torch.stack(parts)


# Tall and flat classes, one row, no row, many sizes in one batch, sizes around d where the side changes.
SIZES = [(7, 5), (40, 30, 50), (1, 2, 3, 30), (0, 9, 0, 4), (16, 17, 18, 20, 25, 8, 12), (5,), tuple(range(1, 40))]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("d", [3, 17])
def test_labels_by_the_definition(sizes, d):
    rows, labels = labelled(sizes, d)
    rates = rate_reduction(rows, labels, eps2=EPS2, classes=len(sizes))
    total, parts = dense(rows, torch.nn.functional.one_hot(labels, len(sizes)).double(), EPS2)
    # Condition numbers are below 1 + d/eps2 = 60; sums of up to 40 logarithms of size 4 round to 1e-13.
    assert float(rates.total) == pytest.approx(float(total), rel=1e-12)
    torch.testing.assert_close(rates.shares, parts, rtol=1e-12, atol=1e-14)
    assert float(rates.compressed) == pytest.approx(float(parts.sum()), rel=1e-12)
    assert float(rates.delta) == pytest.approx(float(total - parts.sum()), abs=1e-12)
    assert float(coding_rate(rows, EPS2)) == float(rates.total)


@pytest.mark.parametrize(("n", "d"), [(30, 6), (6, 30), (8, 8)])
def test_soft_memberships_by_the_definition(n, d):
    rows, shares = labelled((n,), d)[0], memberships(n, 4)
    rates = rate_reduction(rows, shares, eps2=EPS2)
    total, parts = dense(rows, shares, EPS2)
    assert float(rates.total) == pytest.approx(float(total), rel=1e-12)
    torch.testing.assert_close(rates.shares, parts, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("sizes", "d"), [((9, 4, 0, 6), 5), ((9, 4, 0, 6), 40)])
def test_memberships_of_zero_and_one_are_labels(sizes, d):
    rows, labels = labelled(sizes, d)
    hard = torch.nn.functional.one_hot(labels, len(sizes)).double()
    by_labels = rate_reduction(rows, labels, eps2=EPS2, classes=len(sizes))
    torch.testing.assert_close(rate_reduction(rows, hard, eps2=EPS2).shares, by_labels.shares, rtol=1e-12, atol=1e-14)


def test_memberships_are_taken_in_parts_with_the_same_result(monkeypatch):
    rows, shares = labelled((20,), 6)[0], memberships(20, 7)
    whole = rate_reduction(rows, shares, eps2=EPS2).shares
    monkeypatch.setattr("tightframe.nn.rate.coding._TOGETHER", 2 * 20 * 6)
    torch.testing.assert_close(rate_reduction(rows, shares, eps2=EPS2).shares, whole, rtol=1e-14, atol=0)


@pytest.mark.parametrize(("d", "sides"), [(3, {3}), (10, {10, 6}), (40, {11, 6, 17})])
def test_every_determinant_is_on_its_smaller_side(d, sides, monkeypatch):
    """Classes of 6 and 11 rows, 17 in all, none padded since their sizes are far apart."""
    seen, factorise = set(), torch.linalg.cholesky_ex
    monkeypatch.setattr("tightframe.nn.rate.coding._SMALL", 1)
    monkeypatch.setattr(torch.linalg, "cholesky_ex", lambda a: (seen.add(a.shape[-1]), factorise(a))[1])
    rate_reduction(*labelled((6, 11), d), eps2=EPS2)
    assert seen == sides


@pytest.mark.parametrize("d", [4, 12])
def test_gradients_of_labels(d):
    rows, labels = labelled((3, 8, 1, 6), d)
    gradcheck(lambda z: rate_reduction(z, labels, eps2=EPS2).delta, (rows.requires_grad_(),))
    gradcheck(lambda z: coding_rate(z, EPS2), (rows,))


@pytest.mark.parametrize("d", [2, 5])
def test_second_derivatives(d):
    rows, labels = labelled((3, 1), d)
    gradgradcheck(lambda z: rate_reduction(z, labels, eps2=EPS2).delta, (rows.requires_grad_(),))


@pytest.mark.parametrize("d", [4, 12])
def test_gradients_of_memberships(d):
    rows, shares = labelled((8,), d)[0], memberships(8, 3)
    inputs = (rows.requires_grad_(), shares.requires_grad_())
    gradcheck(lambda z, p: rate_reduction(z, p, eps2=EPS2).shares, inputs)


@pytest.mark.parametrize("d", [3, 12])
def test_gradient_at_memberships_of_zero_is_that_of_the_definition(d):
    """A root of the memberships would have an infinite slope there."""
    rows, labels = labelled((4, 4), d)
    hard = torch.nn.functional.one_hot(labels, 2).double().requires_grad_()
    (ours,) = torch.autograd.grad(rate_reduction(rows, hard, eps2=EPS2).compressed, hard)
    (theirs,) = torch.autograd.grad(dense(rows, hard, EPS2)[1].sum(), hard)
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-13)


def test_gradient_with_a_class_of_no_membership():
    rows, hard = labelled((4, 4), 3)[0], torch.tensor([[1.0, 0, 0]] * 4 + [[0, 1.0, 0]] * 4, dtype=torch.float64)
    rates = rate_reduction(rows, hard.requires_grad_(), eps2=EPS2)
    (slope,) = torch.autograd.grad(rates.delta, hard)
    assert bool(torch.isfinite(slope).all())
    assert rates.shares[2].item() == 0


def test_orthonormal_rows_in_closed_form():
    """Z Z^T = I_n: R = n/2 log(1 + d/(n eps2)), and the same for each class with its own number."""
    rows = torch.linalg.qr(normal(20, 12)).Q.T
    labels = torch.tensor([0] * 3 + [1] * 9)
    rates = rate_reduction(rows, labels, eps2=EPS2)
    assert float(rates.total) == pytest.approx(6 * math.log1p(20 / (12 * EPS2)), rel=1e-13)
    expected = [m / 24 * m * math.log1p(20 / (m * EPS2)) for m in (3, 9)]
    assert rates.shares.tolist() == pytest.approx(expected, rel=1e-13)


def test_one_class_saves_nothing_and_knowing_more_never_costs():
    rows, labels = labelled((10, 20, 5), 8)
    assert float(rate_reduction(rows, torch.zeros_like(labels), eps2=EPS2).delta) == pytest.approx(0, abs=1e-13)
    coarse = rate_reduction(rows, labels.clamp(max=1), eps2=EPS2).delta
    fine = rate_reduction(rows, labels, eps2=EPS2).delta
    assert 0 < float(coarse) < float(fine)


def test_rotations_and_orders_change_nothing():
    rows, labels = labelled((10, 20, 5), 8)
    turned = rows @ torch.linalg.qr(normal(8, 8, seed=3)).Q
    order = torch.randperm(35, generator=generator(4))
    one, two = (rate_reduction(z, y, eps2=EPS2) for z, y in ((rows, labels), (turned[order], labels[order])))
    torch.testing.assert_close(one.shares, two.shares, rtol=1e-12, atol=0)
    assert float(one.total) == pytest.approx(float(two.total), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_precision_follows_the_features_or_the_argument(dtype):
    rows, labels = labelled((30, 20), 8)
    rows = rows.to(dtype)
    exact = rate_reduction(rows.double(), labels, eps2=EPS2).delta
    plain = rate_reduction(rows, labels, eps2=EPS2)
    assert plain.total.dtype == plain.shares.dtype == torch.float32
    # Sums of up to 30 products, eigenvalues up to 27, logarithms of 8 of them: 100 roundings of 6e-8.
    assert float(plain.delta) == pytest.approx(float(exact), rel=1e-5)
    wide = rate_reduction(rows, labels, eps2=EPS2, dtype=torch.float64)
    assert wide.total.dtype == torch.float64
    assert float(wide.delta) == float(exact)


def test_autocast_does_not_reach_the_determinants():
    rows, labels = labelled((30, 20), 8)
    rows = rows.float()
    plain = rate_reduction(rows, labels).delta
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert float(rate_reduction(rows, labels).delta) == float(plain)


GOOD = torch.eye(4)
Y = torch.tensor([0, 0, 1, 1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((GOOD * torch.nan, Y), "features are finite"),
        ((torch.full((4, 4), torch.inf), Y), "features are finite"),
        ((1e25 * GOOD, Y), "computed in their precision"),
        ((GOOD[0], Y), "shape"),
        ((GOOD.long(), Y), "floating-point"),
        ((GOOD[:0], Y[:0]), "at least one row"),
        ((GOOD, Y[:3]), "one per row"),
        ((GOOD, Y - 1), "labels lie in"),
        ((GOOD, [0, 0, 1, 1]), "target is a tensor"),
        ((GOOD, GOOD[:, :0]), "memberships have shape"),
        ((GOOD, GOOD[:3]), "memberships have shape"),
        ((GOOD, 2 * GOOD), "sum 1"),
        ((GOOD, GOOD - 0.5 + 0.25), "not negative"),
        ((GOOD, GOOD * torch.nan), "not negative"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(InputError, match=message):
        rate_reduction(*arguments)


def test_bad_options():
    for eps2 in (0, -1.0, math.nan, math.inf, True, "0.5"):
        with pytest.raises(InputError, match="eps2"):
            coding_rate(GOOD, eps2)
    with pytest.raises(InputError, match="dtype"):
        coding_rate(GOOD, dtype=torch.float16)
    with pytest.raises(InputError, match="labels lie in"):
        rate_reduction(GOOD, Y, classes=1)
    with pytest.raises(InputError, match="memberships have shape"):
        rate_reduction(GOOD, GOOD, classes=3)
