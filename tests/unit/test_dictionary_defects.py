"""Defect lists from activation maps: places, sizes and confidence against their definitions; and backgrounds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.signal import correlate2d
from scipy.stats import norm

from tightframe.core.errors import InputError
from tightframe.data.pictured.levelling import levelled
from tightframe.dictionary.images.background import likely_background, structured_level, without_background
from tightframe.dictionary.images.defects import find_defects

SOURCE = np.random.default_rng(0)
KERNELS = SOURCE.standard_normal((2, 4, 5))
KERNELS /= np.linalg.norm(KERNELS, axis=(1, 2), keepdims=True)


def test_places_sizes_and_noise_are_those_of_the_formulas():
    maps = np.zeros((2, 30, 40))
    maps[0, 5, 6], maps[1, 20, 30] = 3.0, -2.0
    residual = 0.1 * SOURCE.standard_normal((30, 40))
    found = find_defects(maps, KERNELS, residual=residual)
    assert found.kernels.tolist() == [0, 1]
    assert found.starts.tolist() == [[5, 6], [20, 30]]
    assert found.amplitudes.tolist() == [3.0, -2.0]
    for at, kernel in enumerate(KERNELS):
        seen = correlate2d(residual, kernel, mode="valid")
        score = abs(found.amplitudes[at]) / (1.4826 * np.median(np.abs(seen)))
        assert found.scores[at] == pytest.approx(score, rel=1e-9)
        energy = kernel**2
        centre = [(energy.sum(1) * np.arange(4)).sum(), (energy.sum(0) * np.arange(5)).sum()]
        assert found.places[at] == pytest.approx(found.starts[at] + np.array(centre))
    assert found.boxes().tolist() == [[5, 6, 4, 5], [20, 30, 4, 5]]


def test_confidence_is_the_chance_that_noise_stays_below():
    maps = np.zeros((1, 50))
    maps[0, 10], maps[0, 30] = 4.0, 3.0
    residual = np.tile([1.0, -1.0], 25) / 1.4826
    found = find_defects(maps, [[1.0]], residual=residual)
    assert found.scores == pytest.approx([4.0, 3.0])
    expected = [(1 - 2 * norm.sf(z)) ** 50 for z in (4.0, 3.0)]
    assert found.confidence == pytest.approx(expected, rel=1e-10)
    assert len(find_defects(maps, [[1.0]], residual=residual, confidence=0.99)) == 1
    assert found.surer_than(3.5).starts.tolist() == [[10]]


def test_noise_alone_is_listed_as_seldom_as_the_confidence_says():
    """400 maps of pure noise: a defect of confidence 0.9 appears in a tenth of them, give or take 4 deviations."""
    listed, trials = 0, 400
    for _ in range(trials):
        noise = SOURCE.standard_normal(300)
        listed += len(find_defects(noise[None], [[1.0]], residual=noise, separation=0, confidence=0.9)) > 0
    # The spread that is measured from 300 values errs by 6 %, which widens the tail a little.
    assert 0.1 - 4 * math.sqrt(0.09 / trials) < listed / trials < 0.2


def test_neighbours_of_one_sign_are_one_defect_and_ripples_are_none():
    maps = np.zeros((2, 20, 20))
    maps[0, 8, 8], maps[0, 8, 9], maps[0, 9, 8], maps[1, 9, 9] = 2.0, 1.0, -0.5, 0.3
    maps[0, 8, 12] = 1.5
    found = find_defects(maps, KERNELS, residual=np.zeros((20, 20)), anchor="start")
    assert found.amplitudes.tolist() == [3.0, 1.5]
    assert found.places[0] == pytest.approx([8, 8 + 1 / 3])
    wide = find_defects(maps, KERNELS, residual=np.zeros((20, 20)), separation=(1, 4))
    assert len(wide) == 1


def test_maps_that_reach_over_the_border_and_channels():
    maps = np.zeros((1, 33, 44))
    maps[0, 0, 0] = 1.0
    found = find_defects(maps, KERNELS[:1], residual=np.zeros((30, 40)), offset=(3, 4), anchor="start")
    assert found.places.tolist() == [[-3, -4]]
    kernels, left = SOURCE.standard_normal((1, 3, 7)), SOURCE.standard_normal((3, 50))
    found = find_defects(np.eye(50)[:1], kernels, residual=left)
    seen = sum(np.correlate(channel, kernel, mode="valid") for channel, kernel in zip(left, kernels[0], strict=True))
    assert found.scores[0] == pytest.approx(1 / (1.4826 * np.median(np.abs(seen))))


def test_nothing_found_is_an_empty_list():
    found = find_defects(np.zeros((2, 20, 20)), KERNELS, residual=np.zeros((20, 20)))
    assert len(found) == 0
    assert found.boxes().shape == (0, 4)
    assert len(found.surer_than(1.0)) == 0


@pytest.mark.parametrize(
    ("maps", "kernels", "residual", "options", "words"),
    [
        (np.zeros((1, 20, 20)), KERNELS, np.zeros((20, 20)), {}, "maps"),
        (np.zeros((2, 3, 3)), KERNELS, np.zeros((3, 3)), {}, "no smaller"),
        (np.full((2, 20, 20), np.nan), KERNELS, np.zeros((20, 20)), {}, "finite"),
        (np.zeros((2, 20, 20)), KERNELS, np.zeros((20, 20)), {"anchor": "corner"}, "centre or start"),
        (np.zeros((2, 20, 20)), KERNELS, np.zeros((20, 20)), {"offset": (1, 2, 3)}, "one per axis"),
        (np.zeros((2, 20, 20)), KERNELS, np.zeros((20, 20)), {"separation": -1}, "separation"),
    ],
)
def test_what_does_not_fit_is_refused(maps, kernels, residual, options, words):
    with pytest.raises(InputError, match=words):
        find_defects(maps, kernels, residual=residual, **options)


def test_a_plane_a_line_and_a_volume_are_levelled():
    rows, columns = np.mgrid[:12, :15]
    noise = SOURCE.standard_normal((12, 15))
    flat = without_background((3 + 2 * rows - columns + noise)[None], "plane", (3, 3))[0]
    basis = np.stack([np.ones(180), rows.ravel(), columns.ravel()], axis=1)
    expected = noise.ravel() - basis @ np.linalg.lstsq(basis, noise.ravel(), rcond=None)[0]
    assert flat.ravel() == pytest.approx(expected)
    assert without_background([np.arange(30.0)], "plane", (3,)) == pytest.approx(np.zeros((1, 30)), abs=1e-9)
    volume = np.add.outer(np.add.outer(np.arange(4.0), 2 * np.arange(5.0)), -np.arange(6.0))
    assert without_background(volume[None], "plane", (2, 2, 2)) == pytest.approx(np.zeros((1, 4, 5, 6)), abs=1e-9)


def test_lines_are_those_of_levelling_and_none_changes_nothing():
    image = SOURCE.standard_normal((2, 12, 15))
    assert np.array_equal(without_background(image, "lines", (3, 3))[1], levelled(image[1]))
    assert np.array_equal(without_background(image, "none", (3, 3)), image)


def test_high_pass_keeps_events_and_removes_waves():
    frames = np.arange(2000)
    events = np.zeros(2000)
    events[::200] = 5.0
    drift = 3 * np.sin(2 * np.pi * frames / 2000)
    flat = without_background((events + drift)[None], "high-pass", (20,))[0]
    # A running median over 161 frames of a wave of 2000 leaves at most its curvature: 3 (2 pi / 2000)^2 80^2 / 2.
    inner = slice(100, -100)
    assert np.abs(flat - events)[inner].max() < 0.1


def test_scan_evens_noisy_rows_in_units_of_the_noise():
    image = SOURCE.standard_normal((64, 64)) + 10 * SOURCE.standard_normal((64, 1))
    image[32:] *= 1.8
    image[10, 10] = 100.0
    flat = without_background(image[None], "scan", (12, 12))[0]
    upper, lower = (1.4826 * np.median(np.abs(part)) for part in (flat[:28], flat[36:]))
    assert upper == pytest.approx(lower, rel=0.1)
    assert 0.9 < 1.4826 * np.median(np.abs(flat)) < 1.1
    assert np.abs(flat).max() == 6.0


def test_the_likely_background_follows_the_rows():
    image = SOURCE.standard_normal((1, 64, 64))
    assert likely_background(image) == "plane"
    assert likely_background(image + 3 * SOURCE.standard_normal((1, 64, 1))) == "lines"
    assert likely_background(image + 3 * SOURCE.standard_normal((1, 1, 64))) == "plane"
    assert likely_background(image + np.arange(64.0)[:, None]) == "plane"
    assert likely_background(image[0]) == "none"
    assert likely_background(image[None]) == "plane"


def test_structured_level_of_white_noise_is_its_deviation_and_streaks_raise_it():
    noise = SOURCE.standard_normal((2, 200, 200))
    assert structured_level(2 * noise, (10, 10)) == pytest.approx([2.0, 2.0], rel=0.1)
    assert (structured_level(noise + SOURCE.standard_normal((2, 200, 1)), (10, 10)) > 1.5).all()
    assert structured_level(noise.reshape(2, -1), (10,)) == pytest.approx([1.0, 1.0], rel=0.1)


@pytest.mark.parametrize(
    ("signals", "method", "words"),
    [
        (np.full((1, 9, 9), np.nan), "plane", "finite"),
        (np.zeros((1, 9)), "lines", "images"),
        (np.zeros((1, 9)), "scan", "images"),
        (np.zeros((1, 9)), "sky", "one of none"),
    ],
)
def test_backgrounds_that_do_not_fit_are_refused(signals, method, words):
    with pytest.raises(InputError, match=words):
        without_background(signals, method, (3,) * (signals.ndim - 1))
