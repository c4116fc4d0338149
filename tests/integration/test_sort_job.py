"""`tightframe sort`: recordings in, spikes, templates, a record and a report out; bad files are refused in words."""

from __future__ import annotations

import csv
import sys
import types

import numpy as np
import pytest

from door import refused
from tightframe.cli.main import main
from tightframe.core.errors import InputError
from tightframe.data.recorded.spike_trains import spike_recording
from tightframe.data.recorded.spikes import read_spikes
from tightframe.data.recorded.waveforms import analytic_templates
from tightframe.dictionary.spikes.sorting_scores import match_spikes
from tightframe.jobs.sort import sort_recording
from tightframe.jobs.sort_options import SortOptions
from tightframe.runs.record import Record

RATE = 24_000.0
TRUTH = spike_recording(
    analytic_templates(2, RATE, channels=2, milliseconds=2.0), RATE, seconds=4.0, firing_rates=15.0, noise=0.1, seed=0
)
VOLTS = (1000 * TRUTH.recording.values).round().astype(np.int16)
FILES = ("spikes.csv", "sorting.npz", "templates.npz", "record.json", "report.html")


@pytest.fixture(scope="module")
def sorted_run(tmp_path_factory):
    """A run over a raw file, without spikeinterface."""
    folder = tmp_path_factory.mktemp("sort")
    VOLTS.T.tofile(folder / "two.raw")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "spikeinterface", None)
        main(["sort", str(folder / "two.raw"), "--rate", "24000", "--channels", "2", "--out", str(folder / "out")])
    return folder / "out"


def test_the_files_hold_the_sorting(sorted_run):
    assert all((sorted_run / name).exists() for name in FILES)
    assert not (sorted_run / "spikeinterface").exists()
    found = read_spikes(sorted_run / "spikes.csv")
    scores = match_spikes(found, TRUTH.spikes, lag=5e-4)
    assert scores.overall.f1 > 0.98
    with np.load(sorted_run / "sorting.npz") as stored:
        np.testing.assert_array_equal(stored["seconds"], found.times)
        np.testing.assert_array_equal(stored["unit"], found.units)
        assert stored["gain"].shape == found.times.shape
        assert stored["rate"] == RATE
    with np.load(sorted_run / "templates.npz") as stored:
        templates, peak = stored["templates"], int(stored["peak"])
    assert templates.shape == (2, 2, 72)
    assert np.abs(templates).max(axis=1).argmax(axis=1).tolist() == [peak, peak]
    # Each in the unit of the file: peaks of about 1000, the high-pass taking up to a sixth.
    assert all(800 < np.abs(wave).max() < 1050 for wave in templates)


def test_the_record_and_the_report_show_the_units(sorted_run):
    record = Record.from_json((sorted_run / "record.json").read_text())
    assert record.title == "two.raw: spikes"
    assert record.tables["units"]["unit"] == [0, 1]
    found = read_spikes(sorted_run / "spikes.csv")
    assert record.tables["units"]["spikes"] == [len(found.of(0)), len(found.of(1))]
    intervals = record.tables["intervals"]
    for unit in (0, 1):
        gaps = 1000 * np.diff(found.of(unit))
        shown = [n for n, name in zip(intervals["count"], intervals["unit"], strict=True) if name == str(unit)]
        assert sum(shown) == (gaps < 50).sum()
    assert len(record.tables["raster"]["seconds"]) == len(found)
    page = (sorted_run / "report.html").read_text()
    assert all(panel.title in page for panel in record.panels)
    assert "not installed" in record.answer
    assert f"2 units fired {len(found)} spikes in 4.0 s on 2 channels" in record.answer


class _Recording:
    """What `sort_recording` uses of a recording of spikeinterface."""

    def get_num_segments(self):
        return 1

    def get_traces(self, segment_index):
        return VOLTS.T

    def get_sampling_frequency(self):
        return RATE


def test_a_recording_object_gives_the_same_and_a_sorting_is_exported(sorted_run, tmp_path, monkeypatch):
    saved = []

    class Sorting:
        @staticmethod
        def from_samples_and_labels(samples, labels, sampling_frequency):
            saved.append((samples[0], labels[0], sampling_frequency))
            return types.SimpleNamespace(save=lambda folder: folder.mkdir())

    monkeypatch.setitem(sys.modules, "spikeinterface", types.SimpleNamespace(NumpySorting=Sorting))
    options = SortOptions(recording=tmp_path / "object", out=tmp_path / "out", quiet=True)
    found = sort_recording(_Recording(), options)
    spikes = read_spikes(sorted_run / "spikes.csv")
    np.testing.assert_array_equal(found.sorting.spikes.times, spikes.times)
    assert (tmp_path / "out" / "spikeinterface").is_dir()
    samples, labels, rate = saved[0]
    np.testing.assert_array_equal(samples, np.rint(spikes.times * RATE))
    np.testing.assert_array_equal(labels, spikes.units)
    assert rate == RATE
    assert "not installed" not in found.record.answer


def test_npy_with_a_given_number_of_units(tmp_path, capsys):
    np.save(tmp_path / "short.npy", VOLTS[:, :48_000])
    main(
        [
            "sort",
            str(tmp_path / "short.npy"),
            "--rate",
            "24000",
            "--units",
            "3",
            "--out",
            str(tmp_path / "o"),
            "--quiet",
        ]
    )
    out, err = capsys.readouterr()
    assert "3 units fired" in out
    assert "round" not in err
    assert len(list(csv.DictReader((tmp_path / "o" / "spikes.csv").open()))) == len(
        read_spikes(tmp_path / "o/sorting.npz")
    )


def test_bad_recordings_are_refused(tmp_path, capsys):
    out = ("--out", tmp_path / "out")
    VOLTS.T.tofile(tmp_path / "two.raw")
    assert "--rate" in refused(capsys, "sort", tmp_path / "two.raw", *out)
    message = refused(capsys, "sort", tmp_path / "two.raw", "--rate", "24000", "--channels", "7", *out)
    assert "counts that fit: 1, 2" in message
    assert "short" in refused(capsys, "sort", tmp_path / "two.raw", "--rate", "24000", "--dtype", "short-ish", *out)
    np.save(tmp_path / "zero.npy", np.zeros((1, 24_000), dtype=np.int16))
    assert "constant" in refused(capsys, "sort", tmp_path / "zero.npy", "--rate", "24000", *out)
    broken = VOLTS[:1].astype(np.float32)
    broken[0, 50] = np.nan
    np.save(tmp_path / "nan.npy", broken)
    assert "finite" in refused(capsys, "sort", tmp_path / "nan.npy", "--rate", "24000", *out)
    np.save(tmp_path / "brief.npy", VOLTS[:1, :300])
    assert "longer recording" in refused(capsys, "sort", tmp_path / "brief.npy", "--rate", "24000", *out)
    # None of these leaves a run behind that would block the next one.
    assert not (tmp_path / "out" / "config.json").exists()
    with pytest.raises(InputError, match="spikeinterface"):
        sort_recording(object(), SortOptions(recording=tmp_path, out=tmp_path / "out"))
