"""`RowCache`: rows come back as they were put aside, from memory and from the file."""

from __future__ import annotations

import pytest
import torch

from tightframe.features.cache import RowCache

DTYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float8_e4m3fn,
    torch.int64,
    torch.int32,
    torch.uint8,
    torch.bool,
]


def chunks(dtype: torch.dtype = torch.float32, shape=(3,)) -> list[torch.Tensor]:
    draws = torch.Generator().manual_seed(0)
    sizes = [5, 0, 1, 7, 2]
    return [(torch.randn(n, *shape, generator=draws) * 3).to(dtype) for n in sizes]


def same(cache: RowCache, expected: list[torch.Tensor]) -> bool:
    got = list(cache)
    return len(got) == len(expected) and all(
        a.dtype == b.dtype and a.shape == b.shape and torch.equal(a.view(torch.uint8), b.view(torch.uint8))
        for a, b in zip(got, expected, strict=True)
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("memory", [0, 64, 1 << 20])
def test_every_type_comes_back_bit_for_bit(dtype, memory):
    cache, rows = RowCache(memory=memory), chunks(dtype)
    for chunk in rows:
        cache.append(chunk)
    assert same(cache, rows)
    assert same(cache, rows)


@pytest.mark.parametrize("shape", [(), (2, 3)])
def test_rows_of_any_shape(shape):
    cache, rows = RowCache(memory=0), chunks(torch.int64, shape)
    for chunk in rows:
        cache.append(chunk)
    assert same(cache, rows)


def test_the_file_begins_where_the_memory_ends():
    cache, rows = RowCache(memory=5 * 3 * 4 + 3 * 4), chunks()
    for chunk in rows:
        cache.append(chunk)
    assert len(cache._chunks) == 3
    assert same(cache, rows)


def test_later_changes_of_the_given_rows_are_not_seen():
    cache, rows = RowCache(), torch.ones(2, 3)
    cache.append(rows)
    rows.zero_()
    assert next(iter(cache)).sum() == 6


def test_rows_that_require_grad_or_are_not_contiguous():
    rows = torch.arange(12.0).reshape(3, 4).requires_grad_()
    for memory in (0, 1 << 20):
        cache = RowCache(memory=memory)
        cache.append(rows.T)
        (back,) = cache
        assert not back.requires_grad
        assert torch.equal(back, rows.detach().T)


def test_an_abandoned_reading_does_not_spoil_what_is_written_next():
    cache, rows = RowCache(memory=0), chunks()
    for chunk in rows[:4]:
        cache.append(chunk)
    reading = iter(cache)
    assert torch.equal(next(reading), rows[0])
    cache.append(rows[4])
    assert same(cache, rows)


def test_two_readings_take_turns():
    cache, rows = RowCache(memory=0), [chunk for chunk in chunks() if len(chunk)]
    for chunk in rows:
        cache.append(chunk)
    for first, second, expected in zip(cache, cache, rows, strict=True):
        assert torch.equal(first, expected)
        assert torch.equal(second, expected)


def test_an_empty_cache_yields_nothing():
    assert list(RowCache()) == []
