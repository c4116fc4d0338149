from __future__ import annotations

import sys

import numpy as np
import pytest

from tightframe.core.errors import InputError, MissingDependencyError
from tightframe.data.recorded.spikes import Spikes, from_sorting, read_spikes, to_spikeinterface, write_spikes


def some(count=200, seed=0):
    random = np.random.default_rng(seed)
    return Spikes(random.uniform(0, 1, count), random.integers(0, 4, count))


def test_spikes_are_sorted_with_their_units():
    spikes = Spikes([0.3, 0.1, 0.2, 0.1], [7, 5, -1, 2])
    assert spikes.times.tolist() == [0.1, 0.1, 0.2, 0.3]
    assert spikes.units.tolist() == [2, 5, -1, 7]
    assert spikes.labels == (-1, 2, 5, 7)
    assert spikes.of(5).tolist() == [0.1]
    assert len(spikes.of(99)) == 0


def test_overlaps_by_brute_force():
    spikes = some()
    for window in (0.0, 1e-3, 5e-3, 0.5):
        expected = [
            any(abs(t - s) <= window and u != v for s, v in zip(spikes.times, spikes.units, strict=True))
            for t, u in zip(spikes.times, spikes.units, strict=True)
        ]
        assert spikes.overlapping(window).tolist() == expected


@pytest.mark.parametrize("kind", [".csv", ".npz"])
def test_written_spikes_come_back_to_the_bit(tmp_path, kind):
    spikes = some()
    again = read_spikes(write_spikes(tmp_path / f"spikes{kind}", spikes))
    np.testing.assert_array_equal(again.times, spikes.times)
    np.testing.assert_array_equal(again.units, spikes.units)


@pytest.mark.parametrize("kind", [".csv", ".npz"])
def test_no_spikes_are_written_and_read(tmp_path, kind):
    none = Spikes([], [])
    assert len(read_spikes(write_spikes(tmp_path / f"spikes{kind}", none))) == 0
    assert len(none.overlapping()) == 0


def test_other_files_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"\.csv or \.npz"):
        write_spikes(tmp_path / "spikes.txt", some())
    with pytest.raises(InputError, match=r"\.csv, \.npz"):
        read_spikes(tmp_path / "spikes.txt")
    (tmp_path / "spikes.csv").write_text("time,unit\n1.0,2\n")
    with pytest.raises(InputError, match="Add seconds"):
        read_spikes(tmp_path / "spikes.csv")
    (tmp_path / "spikes.csv").write_text("seconds,unit\n1.0,2.5\n")
    with pytest.raises(InputError, match="integers"):
        read_spikes(tmp_path / "spikes.csv")


@pytest.mark.parametrize(
    ("times", "units"),
    [([0.1], [1, 2]), ([[0.1]], [[1]]), ([np.nan], [1]), ([0.1], [1.0]), ([0.1], ["a"])],
)
def test_what_are_no_spikes_is_refused(times, units):
    with pytest.raises(InputError):
        Spikes(times, units)


def test_a_negative_window_is_refused():
    with pytest.raises(InputError, match="window"):
        some().overlapping(-1.0)


def test_a_sorting_of_spikeinterface_has_the_samples():
    pytest.importorskip("spikeinterface")
    spikes = some()
    sorting = to_spikeinterface(spikes, 30_000.0)
    assert sorting.get_sampling_frequency() == 30_000
    assert sorted(int(unit) for unit in sorting.get_unit_ids()) == list(spikes.labels)
    for unit in spikes.labels:
        train = sorting.get_unit_spike_train(unit_id=unit, segment_index=0)
        np.testing.assert_array_equal(train, np.rint(spikes.of(unit) * 30_000))


def test_a_sorting_of_spikeinterface_is_read():
    spikeinterface = pytest.importorskip("spikeinterface")
    spikes = some()
    again = from_sorting(to_spikeinterface(spikes, 30_000.0))
    on_samples = Spikes(np.rint(spikes.times * 30_000) / 30_000, spikes.units)
    np.testing.assert_array_equal(again.times, on_samples.times)
    np.testing.assert_array_equal(again.units, on_samples.units)
    trains = {"b": np.array([5, 900]), "a": np.array([100]), "silent": np.array([], dtype=int)}
    named = from_sorting(spikeinterface.NumpySorting.from_unit_dict([trains], sampling_frequency=1000.0))
    order = list(trains)
    expected = sorted((sample / 1000, order.index(name)) for name, train in trains.items() for sample in train)
    assert list(zip(named.times.tolist(), named.units.tolist(), strict=True)) == expected
    with pytest.raises(InputError, match="Spikes, without get_unit_ids"):
        from_sorting(spikes)


def test_a_sorting_needs_the_package_a_rate_and_times_from_zero(monkeypatch):
    with pytest.raises(InputError, match="rate"):
        to_spikeinterface(some(), 0.0)
    with pytest.raises(InputError, match="times from 0"):
        to_spikeinterface(Spikes([-1.0], [0]), 1e4)
    monkeypatch.setitem(sys.modules, "spikeinterface", None)
    with pytest.raises(MissingDependencyError, match=r"tightframe\[spikes\]"):
        to_spikeinterface(some(), 1e4)
