"""Spike sorting: decoding against brute force, noise made white, and recordings sorted to their truth."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tightframe.core.errors import DegenerateError, InputError
from tightframe.data.recorded.recordings import Recording
from tightframe.data.recorded.spike_trains import spike_recording
from tightframe.data.recorded.waveforms import analytic_templates
from tightframe.dictionary.spikes.sorting import sort_spikes
from tightframe.dictionary.spikes.sorting_scores import match_spikes
from tightframe.dictionary.spikes.spike_atoms import PHASES, Atoms, Events, Prior, fractions, shifted
from tightframe.dictionary.spikes.spike_decoding import decode
from tightframe.dictionary.spikes.spike_learning import averaged, decode_long, synthesized
from tightframe.dictionary.spikes.spike_noise import fit_noise

RATE = 24_000.0
WAVES = analytic_templates(3, RATE, milliseconds=2.0)


def events(*rows):
    """Events from (place, unit, phase, gain)."""
    columns = np.array(sorted(rows), dtype=np.float64).reshape(-1, 4)
    whole = columns[:, :3].astype(np.int64)
    return Events(whole[:, 0], whole[:, 1], whole[:, 2], columns[:, 3])


def prior(units, *, cost=8.0, spread=0.1, refractory=20):
    return Prior(np.full(units, cost), np.ones(units), spread, refractory)


def value(signal, found, waves, known):
    """Logarithm of the odds of spikes against silence, from its definition."""
    model = np.zeros_like(signal)
    for place, unit, phase, gain in zip(found.places, found.units, found.phases, found.gains, strict=True):
        model[:, place : place + waves.shape[2]] += gain * shifted(waves[unit], fractions()[phase])
    likelihood = 0.5 * (np.square(signal).sum() - np.square(signal - model).sum())
    price = np.square(found.gains - 1) / (2 * known.spread**2) + known.cost[found.units]
    return likelihood - price.sum()


def test_a_shift_is_that_of_the_band_limited_wave():
    time = np.arange(64.0)
    bell = np.exp(-((time - 30) ** 2) / 18)
    np.testing.assert_allclose(shifted(bell, 0.3), np.exp(-((time - 30.3) ** 2) / 18), atol=1e-8)
    np.testing.assert_allclose(shifted(bell, 5.0), np.exp(-((time - 35) ** 2) / 18), atol=1e-8)
    np.testing.assert_allclose(fractions().mean(), 0, atol=1e-15)


def test_atoms_overlap_as_their_signals_do():
    source = np.random.default_rng(0)
    atoms = Atoms(source.standard_normal((2, 3, 7)))
    for p, q, lag in itertools.product(range(8), range(8), (-6, -2, 0, 1, 5)):
        first, second = np.zeros((2, 3, 30))
        first[:, 10:17], second[:, 10 + lag : 17 + lag] = atoms.waves[p], atoms.waves[q]
        assert atoms.overlap[p, q, 6 + lag] == pytest.approx((first * second).sum(), abs=1e-10)
    signal = source.standard_normal((3, 40))
    expected = [[(signal[:, t : t + 7] * wave).sum() for t in range(34)] for wave in atoms.waves]
    # float32 products of 21 terms of order one.
    np.testing.assert_allclose(atoms.correlate(signal), expected, atol=1e-5)


@pytest.mark.parametrize("delay", [3, 6, 11])
@pytest.mark.parametrize("pair", [(0, 1), (1, 2), (0, 2)])
def test_two_overlapping_spikes_are_the_best_of_all_pairs(delay, pair):
    waves = 12 * WAVES
    truth = events((40, pair[0], 1, 1.0), (40 + delay, pair[1], 2, 1.0))
    atoms, known = Atoms(waves), prior(3)
    signal = atoms.synthesize(truth, 150) + np.random.default_rng(delay).standard_normal((1, 150))
    found = decode(signal, atoms, known)
    assert found.units.tolist() == list(pair)
    np.testing.assert_allclose(found.starts, truth.starts, atol=0.5)
    best = value(signal, found, waves, known)
    # Brute force over both units, places near the truth and every phase, with the best gains of each.
    places = [(p, k) for p in range(38, 43) for k in range(PHASES)]
    late = [(p + delay, k) for p, k in places]
    weight = 1 / known.spread**2
    for (a, b), (one, two) in itertools.product(itertools.product(range(3), repeat=2), itertools.product(places, late)):
        rows = np.zeros((2, 150))
        rows[0, one[0] : one[0] + 48] = shifted(waves[a, 0], fractions()[one[1]])
        rows[1, two[0] : two[0] + 48] = shifted(waves[b, 0], fractions()[two[1]])
        if a == b and abs(one[0] - two[0]) <= known.refractory:
            continue
        target = rows @ signal[0] + weight
        gains = np.linalg.solve(rows @ rows.T + weight * np.eye(2), target)
        # Correlations are computed in float32: 1e-6 of values of about 500.
        assert 0.5 * gains @ target - weight - 16.0 <= best + 1e-2


def test_gains_follow_the_prior_and_noise_holds_no_spikes():
    waves = 10 * WAVES
    atoms = Atoms(waves)
    signal = atoms.synthesize(events((30, 0, 1, 1.3)), 120)
    energy = float(atoms.energy[1])
    found = decode(signal, atoms, prior(3, spread=0.1))
    # The mean of the posterior: (1.3 E + 1 / spread^2) / (E + 1 / spread^2).
    assert found.gains.tolist() == pytest.approx([(1.3 * energy + 100) / (energy + 100)], rel=1e-4)
    assert len(decode(np.random.default_rng(1).standard_normal((1, 5000)), atoms, prior(3, cost=10.0))) == 0
    assert len(decode(np.zeros((1, 20)), atoms, prior(3))) == 0


def test_stretches_give_what_the_whole_does(monkeypatch):
    truth = spike_recording(WAVES, RATE, seconds=2.0, firing_rates=30.0, noise=0.1, seed=3)
    signal, atoms = truth.recording.values / 0.1, Atoms(WAVES / 0.1)
    whole = decode(signal, atoms, prior(3))
    monkeypatch.setattr("tightframe.dictionary.spikes.spike_learning._STRETCH", 5000)
    found = decode_long(lambda first, last: signal[:, first:last], signal.shape[1], atoms, prior(3))
    # Gains expected later on follow those found before, so only times and units are the same.
    assert len(whole) > 100
    assert (found.units == whole.units).all()
    np.testing.assert_allclose(found.starts, whole.starts, atol=0.5)


def test_refits_return_the_waveforms_of_known_spikes():
    truth = spike_recording(WAVES, RATE, seconds=4.0, firing_rates=20.0, noise=0.0, overlaps=0.3, seed=1)
    starts = truth.spikes.times * RATE - np.abs(WAVES[:, 0]).argmax(axis=1)[truth.spikes.units]
    places = np.rint(starts).astype(np.int64)
    phases = np.clip(np.floor((starts - places + 0.5) * PHASES), 0, PHASES - 1).astype(np.int64)
    order = np.argsort(places)
    known = Events(places[order], truth.spikes.units[order], phases[order], np.ones(len(order)))
    waves = averaged(truth.recording.values, known, 3, WAVES.shape[2], rounds=8)
    # Phases are off by an eighth of a sample at most, evenly: the narrowest unit's slope is about 0.4 per sample.
    assert np.abs(waves - WAVES).max() < 0.03


def test_noise_is_white_and_of_unit_variance_afterwards():
    truth = spike_recording(WAVES, RATE, seconds=6.0, noise=0.2, correlation=0.7, seed=0)
    noise = fit_noise(truth.recording)
    white = noise.whitened(noise.filtered(truth.recording, 0, 144_000))[0]
    quiet = white[np.abs(white) < 4]
    assert quiet.std() == pytest.approx(1.0, abs=0.05)
    lagged = [np.corrcoef(white[lag:], white[:-lag])[0, 1] for lag in (1, 2, 3)]
    before = truth.recording.values[0]
    assert np.corrcoef(before[1:], before[:-1])[0, 1] > 0.6
    # Spikes themselves are correlated in time.
    assert np.abs(lagged).max() < 0.12
    part = noise.filtered(truth.recording, 50_000, 60_000)
    np.testing.assert_allclose(part, noise.filtered(truth.recording, 0, 144_000)[:, 50_000:60_000], atol=1e-6)


@pytest.fixture(scope="module")
def plain():
    truth = spike_recording(WAVES, RATE, seconds=5.0, noise=0.1, overlaps=0.14, seed=0)
    return truth, sort_spikes(truth.recording)


def test_a_recording_is_sorted_to_its_truth(plain):
    truth, found = plain
    scores = match_spikes(found.spikes, truth.spikes, lag=5e-4)
    assert found.spikes.labels == (0, 1, 2)
    assert scores.overall.f1 > 0.99
    assert scores.overlapping.f1 > 0.95
    assert scores.spurious == ()
    # The residual is the noise, whose scale was estimated with the spikes in it.
    assert found.trace["energy"][-1] == pytest.approx(1.0, abs=0.12)


def test_templates_are_in_the_unit_of_the_recording(plain):
    truth, found = plain
    rows = found.quality
    assert [row["unit"] for row in rows] == [0, 1, 2]
    assert sum(row["spikes"] for row in rows) == len(found.spikes) == len(found.gains)
    peaks = [np.abs(wave).max() for wave in found.templates]
    assert peaks == sorted(peaks, reverse=True)
    assert np.abs(found.templates).max(axis=1).argmax(axis=1).tolist() == [found.before] * 3
    # True peaks are 1; the high-pass takes up to a sixth of the widest one.
    assert all(0.8 < peak < 1.05 for peak in peaks)
    assert all(7 < row["SNR"] < 11 and row["ISI violations"] == 0 for row in rows)
    doubled = sort_spikes(Recording(1000 * truth.recording.values, RATE))
    np.testing.assert_array_equal(doubled.spikes.times, found.spikes.times)
    np.testing.assert_allclose(doubled.templates, 1000 * found.templates, rtol=1e-6, atol=1e-6)


def test_long_recordings_are_decoded_with_waveforms_of_a_part(plain):
    truth, _ = plain
    found = sort_spikes(truth.recording, learn_seconds=3.0)
    scores = match_spikes(found.spikes, truth.spikes, lag=5e-4)
    assert scores.overall.f1 > 0.98


def test_tetrodes_with_shared_noise_and_drift():
    waves = analytic_templates(4, RATE, channels=3, milliseconds=2.0)
    truth = spike_recording(waves, RATE, seconds=4.0, noise=0.15, shared=0.3, drift=0.2, seed=1)
    integers = Recording((2000 * truth.recording.values).round().astype(np.int16), RATE)
    found = sort_spikes(integers, verbose=False)
    assert len(found.templates) == 4
    assert found.templates.shape[1] == 3
    assert match_spikes(found.spikes, truth.spikes, lag=5e-4).overall.f1 > 0.98


def test_synthesis_of_spikes_cut_by_the_ends():
    atoms = Atoms(WAVES)
    found = events((-10, 0, 1, 1.0), (95, 1, 2, 2.0))
    signal = synthesized(atoms, found, 100)
    np.testing.assert_allclose(signal[:, :38], atoms.waves[1][:, 10:], atol=1e-12)
    np.testing.assert_allclose(signal[:, 95:], 2 * atoms.waves[6][:, :5], atol=1e-12)


def test_progress_is_reported_only_where_asked(capsys, plain):
    truth, _ = plain
    sort_spikes(truth.recording.excerpt(0.0, 3.0), rounds=2)
    assert capsys.readouterr() == ("", "")
    sort_spikes(truth.recording.excerpt(0.0, 3.0), rounds=2, verbose=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "round 1: 12 units" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"units": 0}, "units"),
        ({"threshold": -1.0}, "threshold"),
        ({"learn_seconds": 0.0}, "seconds"),
        ({"milliseconds": 0.1}, "8 samples"),
        ({"rounds": 0}, "rounds"),
        ({"low": 7000.0}, "band"),
    ],
)
def test_numbers_out_of_range_are_refused(options, message):
    recording = Recording(np.random.default_rng(0).standard_normal((1, 24_000)), RATE)
    with pytest.raises(InputError, match=message):
        sort_spikes(recording, **options)


def test_recordings_that_cannot_be_sorted_are_refused():
    noise = np.random.default_rng(0).standard_normal((1, 24_000))
    with pytest.raises(InputError, match="ten waveforms"):
        sort_spikes(Recording(noise[:, :500], RATE))
    with pytest.raises(DegenerateError, match="vary"):
        sort_spikes(Recording(np.zeros((1, 24_000)), RATE))
    with pytest.raises(DegenerateError, match="peaks above"):
        sort_spikes(Recording(noise, RATE), threshold=8.0)
    broken = noise.copy()
    broken[0, 100] = np.nan
    with pytest.raises(InputError, match="finite"):
        sort_spikes(Recording(broken, RATE))
