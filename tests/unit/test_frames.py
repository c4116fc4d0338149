"""The simplex ETF and the orthogonal frame are what they say, for every size, seeded."""

from __future__ import annotations

import pytest
import torch

from tightframe.core.errors import DegenerateError, InputError
from tightframe.geometry.frames import ideal_gram, nearest_simplex_etf, orthogonal_frame, simplex_etf


@pytest.mark.parametrize("classes", [2, 3, 4, 10, 33])
@pytest.mark.parametrize("extra", [0, 1, 20])
def test_simplex_etf(classes, extra):
    frame = simplex_etf(classes, classes - 1 + extra, seed=3)
    assert frame.shape == (classes, classes - 1 + extra)
    assert frame.dtype == torch.float64
    gram = frame @ frame.T
    for i in range(classes):
        for j in range(classes):
            assert float(gram[i, j]) == pytest.approx(1 if i == j else -1 / (classes - 1), abs=1e-13)
    assert float(frame.sum(0).abs().max()) < 1e-13
    # Tight: the frame operator is K/(K-1) times the projection on its span.
    values = torch.linalg.eigvalsh(frame.T @ frame)
    assert torch.allclose(
        values[-(classes - 1) :], torch.tensor(classes / (classes - 1), dtype=torch.float64), rtol=1e-12
    )
    assert float(values[: -(classes - 1)].abs().sum()) < 1e-12


@pytest.mark.parametrize("classes", [2, 5, 30])
def test_ideal_gram(classes):
    expected = classes / (classes - 1) * (torch.eye(classes, dtype=torch.float64) - 1 / classes)
    assert torch.allclose(ideal_gram(classes), expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize(("classes", "features"), [(2, 2), (5, 5), (5, 40)])
def test_orthogonal_frame(classes, features):
    frame = orthogonal_frame(classes, features, seed=1)
    assert torch.allclose(frame @ frame.T, torch.eye(classes, dtype=torch.float64), atol=1e-13)


@pytest.mark.parametrize("build", [simplex_etf, orthogonal_frame])
def test_a_seed_fixes_the_frame_and_leaves_the_global_state_alone(build):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    first = build(4, 6, seed=5)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(build(4, 6, seed=5), first)
    assert not torch.allclose(build(4, 6, seed=6), first)


def test_frames_are_placed_without_preference():
    # Haar: over many seeds each entry of the first vector has mean 0 and mean square 1/d.
    rows = torch.stack([orthogonal_frame(2, 3, seed=seed)[0] for seed in range(2000)])
    assert float(rows.mean(0).abs().max()) < 4 * (1 / 3 / 2000) ** 0.5
    assert float((rows.square().mean(0) - 1 / 3).abs().max()) < 4 * (4 / 45 / 2000) ** 0.5


@pytest.mark.parametrize(
    ("build", "arguments", "message"),
    [
        (simplex_etf, (10, 8), "at least K - 1 = 9 dimensions.*got 8"),
        (orthogonal_frame, (10, 9), "at least K = 10 dimensions.*got 9"),
        (simplex_etf, (1, 8), "classes is an integer of at least 2"),
        (orthogonal_frame, (1, 8), "classes is an integer of at least 2"),
        (ideal_gram, (1,), "classes is an integer of at least 2"),
        (ideal_gram, (2.5,), "got 2.5"),
    ],
)
def test_frames_that_do_not_exist(build, arguments, message):
    with pytest.raises(InputError, match=message):
        build(*arguments)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize(("classes", "features"), [(2, 1), (2, 5), (3, 2), (5, 4), (5, 5), (10, 40)])
def test_the_nearest_simplex_is_one_and_is_nearer_than_others(classes, features):
    vectors = normal(classes, features)
    nearest = nearest_simplex_etf(vectors)
    torch.testing.assert_close(nearest @ nearest.T, ideal_gram(classes), atol=1e-12, rtol=0)
    product = float((nearest * vectors).sum())
    others = [float((simplex_etf(classes, features, seed=seed) * vectors).sum()) for seed in range(200)]
    assert product >= max(others) - 1e-12
    # Stationary: no small rotation of the space increases the product.
    for seed in range(20):
        skew = normal(features, features, seed=seed + 1)
        turned = nearest @ torch.linalg.matrix_exp(1e-3 * (skew - skew.T))
        assert float((turned * vectors).sum()) <= product + 1e-12


def test_the_nearest_simplex_by_another_closed_form():
    """max <F, M> is the nuclear norm of the centred M times sqrt(K/(K-1)), and F is read off the SVD of that."""
    vectors = normal(6, 9, seed=3)
    centred = vectors - vectors.mean(0)
    left, sizes, right = torch.linalg.svd(centred, full_matrices=False)
    expected = (6 / 5) ** 0.5 * left[:, :5] @ right[:5]
    torch.testing.assert_close(nearest_simplex_etf(vectors), expected, atol=1e-12, rtol=0)
    assert float((expected * vectors).sum()) == pytest.approx((6 / 5) ** 0.5 * float(sizes.sum()))


@pytest.mark.parametrize("scale", [1e-160, 1e-3, 1.0, 1e150])
def test_a_simplex_is_nearest_to_itself_whatever_its_scale(scale):
    frame = simplex_etf(5, 7, seed=2)
    torch.testing.assert_close(nearest_simplex_etf(scale * frame), frame, atol=1e-12, rtol=0)


def test_the_nearest_simplex_keeps_dtype_and_ignores_the_mean():
    vectors = normal(4, 6, dtype=torch.float32)
    nearest = nearest_simplex_etf(vectors)
    assert nearest.dtype == torch.float32
    torch.testing.assert_close(nearest_simplex_etf(vectors + 3), nearest, atol=1e-5, rtol=0)
    assert nearest_simplex_etf(vectors.half()).dtype == torch.float32


def test_where_the_nearest_simplex_is_not_unique_one_of_the_nearest_comes_back():
    vectors = torch.zeros(4, 6, dtype=torch.float64)
    vectors[0, 0], vectors[1, 0] = 1.0, -1.0  # the centred rows span one dimension of three
    nearest = nearest_simplex_etf(vectors)
    torch.testing.assert_close(nearest @ nearest.T, ideal_gram(4), atol=1e-12, rtol=0)
    assert float((nearest * vectors).sum()) == pytest.approx((4 / 3) ** 0.5 * 2**0.5)


@pytest.mark.parametrize(
    ("vectors", "error", "message"),
    [
        (torch.ones(3, 5), DegenerateError, "at least two different vectors"),
        (torch.zeros(3, 5), DegenerateError, "at least two different vectors"),
        (torch.eye(6)[:, :4], InputError, "at least K - 1 = 5 dimensions.*got 4"),
        (torch.full((3, 5), float("nan")), InputError, "finite"),
        (torch.ones(1, 5), InputError, "number of vectors"),
        (torch.ones(3), InputError, "shape"),
    ],
)
def test_vectors_without_a_nearest_simplex(vectors, error, message):
    with pytest.raises(error, match=message):
        nearest_simplex_etf(vectors)
