from __future__ import annotations

import os

import numpy as np
import pytest
from scipy.io import savemat

from tightframe.core.errors import DegenerateError, InputError
from tightframe.data.recorded.waveforms import LabelledWaveforms, analytic_templates, labelled_waveforms, unit_peaks


@pytest.mark.parametrize("rate", [15_000.0, 24_000.0, 30_000.0])
@pytest.mark.parametrize("units", [1, 3, 8])
def test_analytic_templates_differ_and_end_near_zero(units, rate):
    templates = analytic_templates(units, rate)
    assert templates.shape == (units, 1, round(0.003 * rate))
    np.testing.assert_array_equal(np.abs(templates).max(axis=(1, 2)), 1.0)
    assert np.abs(templates[..., [0, -1]]).max() < 0.01
    # The hump moves the trough by a sample at most.
    np.testing.assert_allclose(templates.argmin(axis=2)[:, 0], round(0.4 * templates.shape[2]), atol=1)
    flat = templates.reshape(units, -1)
    cosines = (flat @ flat.T) / np.outer(*[np.linalg.norm(flat, axis=1)] * 2)
    assert (cosines - 2 * np.eye(units)).max() < 0.99


def test_analytic_templates_are_the_formula():
    wave = analytic_templates(1, 20_000.0)[0, 0]
    t = (np.arange(60) - 24) / 20
    # The first unit: width 0.06 ms, height 0.2 + 0.5 * 0.3, delay 2.5 widths and 0.1 of 0.3 ms.
    expected = -np.exp(-(t**2) / (2 * 0.06**2)) + 0.35 * np.exp(-((t - 0.18) ** 2) / (2 * 0.09**2))
    np.testing.assert_allclose(wave, expected / np.abs(expected).max(), atol=1e-12)


def test_channels_see_a_unit_by_distance():
    templates = analytic_templates(2, 24_000.0, channels=4)
    # Centres at 0.5 and 2.5: gains are symmetric about them and fall with distance.
    peaks = np.abs(templates).max(axis=2)
    np.testing.assert_allclose(peaks[0], np.exp(-(np.array([0, 0, 1, 2]) * (np.array([0, 0, 2, 3]))) / 2), atol=1e-12)
    np.testing.assert_allclose(peaks[1], peaks[0][::-1], atol=1e-12)


@pytest.mark.parametrize("options", [{"units": 0}, {"rate": 10_000.0}, {"channels": 0}, {"milliseconds": 1.0}])
def test_impossible_templates_are_refused(options):
    with pytest.raises(InputError):
        analytic_templates(**{"units": 2, "rate": 24_000.0, **options})


def test_unit_peaks_scale_and_refuse_nothing_and_nan():
    values = np.array([[[1.0, -4.0], [2.0, 0.0]], [[0.1, 0.2], [0.0, 0.0]]])
    np.testing.assert_allclose(unit_peaks(values), [[[0.25, -1], [0.5, 0]], [[0.5, 1], [0, 0]]])
    with pytest.raises(DegenerateError, match="zeros"):
        unit_peaks(np.zeros((1, 4)))
    with pytest.raises(InputError, match="NaN"):
        unit_peaks([[np.nan, 1.0]])


def test_means_are_means_and_tapers_bring_their_ends_down():
    random = np.random.default_rng(0)
    waves = LabelledWaveforms(random.standard_normal((40, 12)) + 3, np.repeat([2, 5], [10, 30]))
    plain = waves.means(taper=0)
    np.testing.assert_allclose(plain, [waves.values[:10].mean(axis=0), waves.values[10:].mean(axis=0)])
    tapered = waves.means(taper=3)
    rise = [(1 - np.cos(np.pi * k / 4)) / 2 for k in (1, 2, 3)]
    np.testing.assert_allclose(tapered[:, :3], plain[:, :3] * rise)
    np.testing.assert_allclose(tapered[:, -3:], plain[:, -3:] * rise[::-1])
    np.testing.assert_array_equal(tapered[:, 3:-3], plain[:, 3:-3])
    with pytest.raises(InputError, match="taper"):
        waves.means(taper=7)


def test_a_file_of_waveforms_is_read_from_a_path_or_the_root(tmp_path):
    values = np.random.default_rng(0).standard_normal((8, 20))
    content = {"Spike": values, "LabelC": np.arange(20)[None] % 3 + 1}
    (tmp_path / "spikes").mkdir()
    path = tmp_path / "spikes" / "Refine_original_waveforms.mat"
    savemat(path, content)
    for waves in (labelled_waveforms(path), labelled_waveforms(root=tmp_path)):
        np.testing.assert_array_equal(waves.values, values.T)
        assert waves.units.tolist() == content["LabelC"][0].tolist()
    savemat(path, {"Spike": values})
    with pytest.raises(InputError, match="Add LabelC"):
        labelled_waveforms(path)
    savemat(path, {**content, "LabelC": np.arange(19)})
    with pytest.raises(InputError, match="19 labels"):
        labelled_waveforms(path)
    with pytest.raises(InputError, match="Refine_original_waveforms"):
        labelled_waveforms(root=tmp_path / "spikes")


@pytest.mark.data
@pytest.mark.skipif("TIGHTFRAME_DATA" not in os.environ, reason="TIGHTFRAME_DATA is not set")
def test_the_shared_waveforms_have_the_stated_units():
    waves = labelled_waveforms()
    assert waves.values.shape == (3310, 32)
    assert np.bincount(waves.units).tolist() == [0, 2592, 148, 506, 64]
    # Means explain the waveforms of the large units: 95 % of their energy.
    for row, unit in enumerate((1, 2, 3, 4)):
        own = waves.values[waves.units == unit]
        if np.abs(own.mean(axis=0)).max() > 50:
            assert ((own - waves.means(taper=0)[row]) ** 2).sum() < 0.05 * (own**2).sum()
