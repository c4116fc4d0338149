from __future__ import annotations

import gzip
import os

import numpy as np
import pytest

from tightframe.core.errors import InputError
from tightframe.data.recorded.calcium import calcium_movie, calcium_response, calcium_trace, spikefinder


def written(folder, calcium, spikes):
    place = folder / "calcium"
    place.mkdir(exist_ok=True)
    for name, values in (("calcium", calcium), ("spikes", spikes)):
        lines = [",".join(map(str, range(values.shape[1])))]
        lines += [",".join("" if np.isnan(value) else repr(float(value)) for value in row) for row in values]
        (place / f"3.train.{name}.csv.gz").write_bytes(gzip.compress("\n".join(lines).encode(), mtime=0))
    return folder


def cells(seed=0):
    random = np.random.default_rng(seed)
    calcium, spikes = random.standard_normal((40, 3)), random.poisson(0.3, (40, 3)).astype(float)
    for cell, count in enumerate((40, 25, 39)):
        calcium[count:, cell] = spikes[count:, cell] = np.nan
    return calcium, spikes


def test_cells_come_without_header_and_padding(tmp_path):
    calcium, spikes = cells()
    traces = spikefinder(3, root=written(tmp_path, calcium, spikes))
    assert [len(trace.spikes) for trace in traces] == [40, 25, 39]
    for cell, trace in enumerate(traces):
        count = len(trace.spikes)
        np.testing.assert_allclose(trace.fluorescence, calcium[:count, cell], rtol=4e-16)
        np.testing.assert_array_equal(trace.spikes, spikes[:count, cell])
        assert trace.rate == 100


def test_sets_that_do_not_belong_together_are_refused(tmp_path):
    calcium, spikes = cells()
    with pytest.raises(InputError, match=r"3\.train\.calcium\.csv"):
        spikefinder(3, root=tmp_path)
    with pytest.raises(InputError, match=r"\(40, 3\) and \(40, 2\)"):
        spikefinder(3, root=written(tmp_path, calcium, spikes[:, :2]))
    calcium[5, 1] = np.nan
    with pytest.raises(InputError, match="gaps in 1"):
        spikefinder(3, root=written(tmp_path, calcium, spikes))
    with pytest.raises(InputError, match="number"):
        spikefinder(0, root=tmp_path)


def test_the_response_rises_and_decays_as_stated():
    response = calcium_response(1000.0, rise=0.05, decay=0.4)
    # Values at the ends of frames: the first is not that of the spike's own time, which is 0.
    factor = 8 ** (-1 / 7) - 8 ** (-8 / 7)
    assert response[0] == pytest.approx((np.exp(-0.001 / 0.4) - np.exp(-0.001 / 0.05)) / factor, rel=1e-12)
    # The peak lies at log(decay / rise) / (1 / rise - 1 / decay) and is 1 but for the grid of a millisecond.
    assert response.argmax() == round(1000 * np.log(8) / (1 / 0.05 - 1 / 0.4)) - 1
    assert response.max() == pytest.approx(1, abs=1e-4)
    # It obeys a recursion of second order with the two decay factors as roots.
    fast, slow = np.exp(-0.001 / 0.05), np.exp(-0.001 / 0.4)
    recursion = (fast + slow) * response[1:-1] - fast * slow * response[:-2]
    np.testing.assert_allclose(response[2:], recursion, atol=1e-12)
    # Late enough for the rise to be over, a second exponential is left.
    assert response[1500] / response[1000] == pytest.approx(np.exp(-0.5 / 0.4), rel=1e-6)
    assert len(response) == 3200
    # What is left is exp(-8) over the factor 0.65 by which the two exponentials are scaled to the peak.
    assert response[-1] == pytest.approx(np.exp(-8) / 0.65, rel=0.02)


@pytest.mark.parametrize("options", [{"rise": 0.7}, {"rise": 0.0}, {"decay": np.inf}, {"seconds": 0.01}])
def test_impossible_responses_are_refused(options):
    with pytest.raises(InputError):
        calcium_response(30.0, **options)


def test_a_trace_is_the_sum_of_responses_and_noise():
    trace = calcium_trace(2000, events=1.0, noise=0.0, baseline=3.0, seed=1)
    response = calcium_response(30.0)
    expected = np.full(2000, 3.0)
    for frame in np.nonzero(trace.spikes)[0]:
        for step, value in enumerate(response):
            if frame + step < 2000:
                expected[frame + step] += trace.spikes[frame] * value
    np.testing.assert_allclose(trace.fluorescence, expected, atol=1e-10)
    noisy = calcium_trace(2000, events=1.0, noise=0.2, baseline=3.0, seed=1)
    np.testing.assert_array_equal(noisy.spikes, trace.spikes)
    assert (noisy.fluorescence - expected).std() == pytest.approx(0.2, rel=4 / np.sqrt(4000))


def test_spikes_come_at_the_stated_rate():
    spikes = calcium_trace(60_000, events=0.5).spikes
    assert abs(spikes.sum() - 1000) < 4 * np.sqrt(1000)


def test_a_movie_is_made_of_its_parts():
    movie = calcium_movie(5, 40, shape=(24, 32), radius=3.0, noise=0.0, background=0.8, seed=2)
    assert movie.frames.shape == (40, 24, 32)
    np.testing.assert_allclose(movie.footprints.max(axis=(1, 2)), 1.0)
    slope = 0.8 * (np.arange(24)[:, None] / 24 + np.arange(32) / 32) / 2
    expected = np.einsum("ct,chw->thw", movie.traces, movie.footprints) + slope
    np.testing.assert_allclose(movie.frames, expected, atol=1e-12)
    for spikes, trace in zip(movie.spikes, movie.traces, strict=True):
        np.testing.assert_allclose(trace, np.convolve(spikes, calcium_response(30.0))[:40], atol=1e-10)
    # Footprints are discs of that radius: exp(-1) at the edge, so half of them lies within 0.91 radii.
    areas = (movie.footprints > 0.5).sum(axis=(1, 2))
    np.testing.assert_allclose(areas, np.pi * (3 * np.log(2) ** 0.25) ** 2, rtol=0.3)
    edges = movie.footprints[:, [0, -1], :].max(), movie.footprints[:, :, [0, -1]].max()
    assert max(edges) < 0.5
    noisy = calcium_movie(5, 40, shape=(24, 32), radius=3.0, noise=0.3, background=0.8, seed=2)
    assert (noisy.frames - movie.frames).std() == pytest.approx(0.3, rel=4 / np.sqrt(2 * movie.frames.size))


@pytest.mark.parametrize(
    "options",
    [
        {"cells": 0},
        {"frames": 0},
        {"shape": (8, 64)},
        {"radius": 0.0},
        {"noise": -1.0},
        {"events": np.nan},
        {"rate": 0.0},
    ],
)
def test_impossible_movies_are_refused(options):
    with pytest.raises(InputError):
        calcium_movie(**{"cells": 2, "frames": 5, **options})


@pytest.mark.data
@pytest.mark.skipif("TIGHTFRAME_DATA" not in os.environ, reason="TIGHTFRAME_DATA is not set")
@pytest.mark.parametrize(("number", "count", "frames", "spikes"), [(4, 6, 27_763, 1902), (5, 9, 16_919, 476)])
def test_the_shared_sets_have_the_stated_cells(number, count, frames, spikes):
    traces = spikefinder(number)
    assert len(traces) == count
    assert len(traces[0].spikes) == frames
    assert traces[0].spikes.sum() == spikes
