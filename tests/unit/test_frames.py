"""The simplex ETF and the orthogonal frame are what they say, for every size, seeded."""

from __future__ import annotations

import pytest
import torch

from tightframe.core.errors import InputError
from tightframe.geometry.frames import ideal_gram, orthogonal_frame, simplex_etf


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
