"""Signals from kernels and maps, against the definition in loops and against dense matrices."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.dictionary.convolutional.convolution import Convolution, moved_maps

SIZES = [((9,), (4,)), ((10,), (1,)), ((5,), (5,)), ((7, 6), (3, 2)), ((6, 7), (2, 3)), ((4, 5, 6), (2, 3, 2))]
BORDERS = ["circular", "zero", "valid"]
# Sums of some hundred products of standard normal numbers in float64.
ROUNDING = 1e-12


def draw(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=generator(seed))


def by_definition(kernels, maps, shape, boundary):
    """y[t] = sum of a[j] x[i] over places i + j = t, with x[0] at place 1 - k where events may be cut."""
    size, area = kernels.shape[2:], maps.shape[2:]
    signals = maps.new_zeros((len(maps), kernels.shape[1], *shape))
    first = [1 - k if boundary == "zero" else 0 for k in size]
    for entry in itertools.product(*map(range, area)):
        for j in itertools.product(*map(range, size)):
            place = [a + b + c for a, b, c in zip(entry, first, j, strict=True)]
            if boundary == "circular":
                place = [p % s for p, s in zip(place, shape, strict=True)]
            if all(0 <= p < s for p, s in zip(place, shape, strict=True)):
                signals[(..., *place)] += maps[(..., *entry)] @ kernels[(..., *j)]
    return signals


def operator(shape, size, boundary="circular", method="fft", dtype=torch.float64):
    return Convolution(shape, size, boundary=boundary, method=method, dtype=dtype)


@pytest.mark.parametrize("boundary", BORDERS)
@pytest.mark.parametrize("method", ["fft", "direct"])
@pytest.mark.parametrize(("shape", "size"), SIZES)
def test_products_are_the_definition(shape, size, method, boundary):
    found = operator(shape, size, boundary, method)
    kernels, maps = draw(3, 2, *size), draw(2, 3, *found.map_shape, seed=1)
    expected = by_definition(kernels, maps, shape, boundary)
    assert (found.synthesize(kernels, maps) - expected).abs().max() < ROUNDING
    signals = draw(2, 2, *shape, seed=2)
    products = found.products
    form = products.product(products.kernel_form(kernels), products.map_form(maps))
    assert products.energy(form) == pytest.approx(float(expected.square().sum()), rel=1e-12)
    centered = expected - expected.mean(tuple(range(2, expected.ndim)), keepdim=True)
    assert (products.signals(products.centered(form)) - centered).abs().max() < ROUNDING
    # Both adjoints by autograd of the definition.
    kernels.requires_grad_(), maps.requires_grad_()
    inner = (by_definition(kernels, maps, shape, boundary) * signals).sum()
    to_kernels, to_maps = torch.autograd.grad(inner, (kernels, maps))
    assert (found.correlate_kernels(kernels.detach(), signals) - to_maps).abs().max() < ROUNDING
    assert (found.correlate_maps(maps.detach(), signals) - to_kernels).abs().max() < ROUNDING


@pytest.mark.parametrize("channels", [1, 2, 4])
@pytest.mark.parametrize("count", [1, 3])
def test_norms_are_those_of_dense_matrices(channels, count):
    """Circular: exact. Other borders: a compression of a longer circulant matrix, so a bound, and a tight one."""
    kernels = draw(count, channels, 4)
    for boundary in BORDERS:
        found = operator((24,), (4,), boundary)
        basis = torch.eye(count * found.map_shape[0], dtype=torch.float64)
        maps = basis.view(-1, count, found.map_shape[0])
        dense = found.synthesize(kernels, maps).flatten(1)
        exact = float(torch.linalg.matrix_norm(dense, 2)) ** 2
        bound = found.squared_norm_of_kernels(kernels)
        assert exact <= bound * (1 + 1e-9)
        assert bound <= (1 + 1e-9) * exact if boundary == "circular" else 1.2 * exact


def test_norm_of_maps_bounds_that_on_kernels():
    maps = draw(2, 3, 16)
    for size, equal in ((16, True), (5, False)):
        found = operator((16,), (size,))
        kernels = torch.eye(3 * size, dtype=torch.float64).view(-1, 3, size)
        dense = torch.stack([found.synthesize(kernel[:, None], maps).flatten() for kernel in kernels])
        exact, bound = float(torch.linalg.matrix_norm(dense, 2)) ** 2, found.squared_norm_of_maps(maps)
        assert exact <= bound * (1 + 1e-9)
        assert not equal or bound == pytest.approx(exact, rel=1e-9)


def test_float32_is_kept_and_close():
    found, exact = operator((64, 60), (7, 5), dtype=torch.float32), operator((64, 60), (7, 5))
    kernels, maps = draw(2, 1, 7, 5), draw(1, 2, 64, 60, seed=1)
    single = found.synthesize(kernels.float(), maps.float())
    assert single.dtype == torch.float32
    # 70 products of normal numbers per entry: deviation about 8, times a few units of 6e-8.
    assert (single - exact.synthesize(kernels, maps)).abs().max() < 1e-4


def test_auto_takes_the_direct_product_for_short_kernels():
    assert operator((65536,), (3,), method="auto").method == "direct"
    assert operator((256, 256), (11, 11), method="auto").method == "fft"
    assert operator((8, 8, 8, 8), (1, 1, 1, 1), method="auto").method == "fft"


@settings(max_examples=40, deadline=None)
@given(st.integers(-3, 3), st.integers(-3, 3), st.sampled_from(BORDERS), st.sampled_from(BORDERS))
def test_moved_maps_move_signals(up, right, boundary, other):
    """An event far from every border is at its place plus the shift, whatever the two borders are."""
    source, target = operator((15, 16), (3, 4), boundary), operator((15, 16), (2, 3), other)
    first = [0 if o.boundary != "zero" else 1 for o in (source, target)]
    maps = torch.zeros(2, *source.map_shape, dtype=torch.float64)
    maps[:, 6 + 2 * first[0], 7 + 3 * first[0]] = torch.tensor([2.0, -1.0], dtype=torch.float64)
    moved = moved_maps(maps, (up, right), source=source, target=target)
    assert moved.shape[1:] == target.map_shape
    expected = torch.zeros_like(moved)
    expected[:, 6 + up + first[1], 7 + right + 2 * first[1]] = torch.tensor([2.0, -1.0], dtype=torch.float64)
    assert torch.equal(moved, expected)


def test_moved_maps_wrap_on_a_circle_and_drop_elsewhere():
    circle, line = operator((6,), (2,)), operator((6,), (2,), "valid")
    maps = torch.arange(1.0, 7.0)[None]
    assert moved_maps(maps, (2,), source=circle, target=circle).tolist() == [[5, 6, 1, 2, 3, 4]]
    assert moved_maps(maps[:, :5], (2,), source=line, target=line).tolist() == [[0, 0, 1, 2, 3]]
    assert moved_maps(maps[:, :5], (9,), source=line, target=line).tolist() == [[0, 0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("shape", "size", "options", "message"),
    [
        ((5,), (6,), {}, "no longer than the signals"),
        ((5, 5), (3,), {}, "as many axes"),
        ((), (), {}, "as many axes"),
        ((5,), (0,), {}, "no longer than the signals"),
        ((5,), (2,), {"boundary": "mirror"}, "circular, zero, valid"),
        ((5,), (2,), {"method": "slow"}, "auto, fft, direct"),
        ((4, 4, 4, 4), (2, 2, 2, 2), {"method": "direct"}, "at most three axes"),
    ],
)
def test_bad_sizes_are_refused(shape, size, options, message):
    with pytest.raises(InputError, match=message):
        Convolution(shape, size, **options)
