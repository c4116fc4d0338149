"""Kernels matched up to shift, sign and order, against all shifts and orders one by one."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.nn import functional

from tightframe.core.errors import DegenerateError, InputError
from tightframe.core.rng import generator
from tightframe.dictionary.convolutional.shifts import aligned_kernels, match_kernels


def draw(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=generator(seed))


def similarity(found, truth):
    """Largest correlation over all shifts, by padding and summing."""
    axes, best = found.ndim - 1, 0.0
    pads = [side for length in reversed(truth.shape[1:]) for side in (length - 1, length - 1)]
    wide = functional.pad(found, pads)
    places = [range(w - t + 1) for w, t in zip(wide.shape[1:], truth.shape[1:], strict=True)]
    for corner in itertools.product(*places):
        window = wide[
            (slice(None), *(slice(i, i + truth.shape[1 + a]) for a, i in zip(range(axes), corner, strict=True)))
        ]
        best = max(best, abs(float((window * truth).sum())))
    return best / float(found.norm() * truth.norm())


@pytest.mark.parametrize(("found_size", "true_size"), [((5,), (5,)), ((7,), (4,)), ((3, 4), (3, 4)), ((5, 5), (2, 3))])
def test_assignment_is_the_best_of_all(found_size, true_size):
    found, truth = draw(3, 2, *found_size), draw(3, 2, *true_size, seed=1)
    table = torch.tensor([[similarity(a, b) for b in truth] for a in found], dtype=torch.float64)
    best = max(sum(table[p, q] for q, p in enumerate(order)) for order in itertools.permutations(range(3)))
    match = match_kernels(found, truth)
    assert float(match.similarity.sum()) == pytest.approx(float(best), rel=1e-12)
    assert torch.allclose(match.similarity, table[match.order, torch.arange(3)], rtol=1e-12)


@pytest.mark.parametrize("shift", [(0, 0), (2, 1), (-3, 2), (1, -2)])
def test_shift_sign_and_order_are_found_and_undone(shift):
    truth = torch.zeros(3, 2, 12, 11, dtype=torch.float64)
    truth[..., 4:8, 4:7] = draw(3, 2, 4, 3)
    order, signs = [2, 0, 1], torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64)
    found = torch.empty_like(truth)
    for k, place in enumerate(order):
        found[place] = 3 * signs[k] * truth[k].roll(shift, (1, 2))
    match = match_kernels(found, truth)
    assert match.order.tolist() == order
    assert match.signs.tolist() == signs.tolist()
    assert match.shifts.tolist() == [list(shift)] * 3
    assert match.similarity.min() > 1 - 1e-12
    # sqrt(2 - 2 s) turns rounding of s into its root.
    assert match.errors.max() < 1e-7
    assert torch.allclose(aligned_kernels(found, match, truth), 3 * truth, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("found_size", "true_size"), [((9,), (5,)), ((6, 5), (4, 3)), ((3, 5, 4), (3, 2, 2))])
@pytest.mark.parametrize("bare", ["found", "truth", "both"])
def test_kernels_of_one_channel_may_leave_its_axis_out(found_size, true_size, bare):
    found, truth, axes = draw(3, 1, *found_size), draw(2, 1, *true_size, seed=1), len(found_size)
    whole = match_kernels(found, truth)
    sets = [each[:, 0] if bare in (name, "both") else each for name, each in (("found", found), ("truth", truth))]
    match = match_kernels(*sets, axes=axes)
    for name in ("order", "similarity", "shifts", "signs"):
        assert torch.equal(getattr(match, name), getattr(whole, name)), name
    aligned = aligned_kernels(sets[0], match, sets[1])
    assert aligned.shape == sets[1].shape
    assert torch.equal(aligned.reshape(truth.shape), aligned_kernels(found, whole, truth))
    if bare != "both" or axes == 1:
        assert torch.equal(match_kernels(*sets).order, whole.order)


def test_error_is_the_distance_at_the_best_shift():
    truth = torch.zeros(1, 1, 9, dtype=torch.float64)
    truth[..., 3:6] = torch.tensor([3.0, 2.0, 1.0])
    truth = truth / truth.norm()
    found = truth.roll(2, 2) + 0.05 * draw(1, 1, 9)
    found = found / found.norm()
    shifted = min(float((sign * found - truth.roll(shift, 2)).norm()) for shift in range(-3, 4) for sign in (1, -1))
    assert float(match_kernels(found, truth).errors) == pytest.approx(shifted, rel=1e-9)


def test_more_kernels_than_true_ones_leave_some_out():
    truth = draw(2, 1, 6)
    found = torch.cat([draw(1, 1, 6, seed=5), truth.flip(0)])
    assert match_kernels(found, truth).order.tolist() == [2, 1]


def test_bad_kernels_are_refused():
    with pytest.raises(InputError, match="at least as many"):
        match_kernels(draw(1, 1, 4), draw(2, 1, 4))
    with pytest.raises(InputError, match="same channels"):
        match_kernels(draw(2, 1, 4), draw(2, 2, 4))
    with pytest.raises(InputError, match="2 axes of shape"):
        match_kernels(draw(2, 4), draw(2, 4), axes=2)
    with pytest.raises(InputError, match="axes of shape"):
        match_kernels(draw(2), draw(2), axes=0)
    with pytest.raises(DegenerateError, match="not zero"):
        match_kernels(torch.zeros(1, 1, 4), draw(1, 1, 4))
