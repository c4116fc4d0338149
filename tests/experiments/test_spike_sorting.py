"""D8: the record, the rows and the claims of the spike-sorting experiment, and the method that it is put beside."""

from __future__ import annotations

import os

import numpy as np
import pytest

from tightframe.core.errors import InputError
from tightframe.data.recorded.recordings import Recording, locust_recording
from tightframe.data.recorded.spike_trains import spike_recording
from tightframe.data.recorded.waveforms import analytic_templates
from tightframe.dictionary.spikes.sorting_scores import match_spikes
from tightframe.experiments import catalog
from tightframe.experiments.base import Place
from tightframe.experiments.dictionary import spike_sorting
from tightframe.experiments.dictionary.spike_sorting import (
    BASE,
    BASE_TOLD,
    OURS,
    Case,
    Condition,
    Config,
    investigate,
    templates,
)
from tightframe.experiments.dictionary.threshold_sorter import threshold_sorting
from tightframe.experiments.study import Sweep
from tightframe.report import page
from tightframe.runs.record import Record
from tightframe.runs.series import rows_of

TINY = Config(seconds=4.0, noises=(0.1,))


@pytest.fixture(scope="module")
def record(tmp_path_factory) -> Record:
    place = Place(out=tmp_path_factory.mktemp("runs") / "spike-sorting")
    return catalog.load("spike-sorting").run(config=TINY, place=place)


def test_the_record_has_every_method(record):
    assert Record.from_json(record.to_json()) == record
    rows = list(rows_of(record.tables["recordings"]))
    assert [row["method"] for row in rows] == [OURS, BASE, BASE_TOLD]
    assert all(0 <= row[name] <= 1 for row in rows for name in ("F1", "F1 overlapping", "F1 isolated"))
    assert rows[0]["F1"] > 0.98
    text = page.render([record])
    assert all(panel.title in text for panel in record.panels)


def test_the_claims_follow_from_the_rows(record):
    claims = {claim.id: claim for claim in record.claims}
    rows = list(rows_of(record.tables["recordings"]))
    assert set(claims) == {"D8.f1", "D8.overlaps", "D8.units", "D8.baseline", "D8.locust"}
    assert claims["D8.f1"].observed == rows[0]["F1"]
    assert claims["D8.overlaps"].observed == rows[0]["F1 overlapping"]
    assert claims["D8.units"].observed == abs(rows[0]["units"] - 3)
    assert claims["D8.baseline"].observed == rows[0]["F1"] - max(row["F1"] for row in rows[1:])
    assert claims["D8.locust"].verdict == "not run"


def test_a_sorter_that_finds_nothing_fails_the_claims(monkeypatch):
    class Empty:
        def __init__(self, recording):
            self.spikes = threshold_sorting(recording, threshold=1e9)

    monkeypatch.setattr(spike_sorting, "sort_spikes", Empty)
    verdicts = {claim.id: claim.verdict for claim in investigate(TINY, Sweep()).claims}
    assert verdicts == {
        "D8.f1": "failed",
        "D8.overlaps": "failed",
        "D8.units": "failed",
        "D8.baseline": "failed",
        "D8.locust": "not run",
    }


def test_conditions_reach_the_recording():
    case = Case("analytic", 0.1, Condition("drift", drift=0.3, overlaps=0.4), 1, TINY, None)
    truth = spike_sorting.simulated(case)
    assert np.abs(truth.amplitudes - 1).max() > 0.25
    assert truth.spikes.overlapping(1.5e-3).mean() > 0.3
    assert truth.recording.seconds == 4.0


def test_the_plain_method_sorts_what_does_not_overlap():
    waves = analytic_templates(2, 24_000.0)
    truth = spike_recording(waves, 24_000.0, seconds=6.0, noise=0.05, overlaps=0.1, seed=0)
    scores = match_spikes(threshold_sorting(truth.recording, units=2), truth.spikes, lag=5e-4)
    assert scores.isolated.f1 > 0.95
    assert scores.isolated.f1 > scores.overlapping.f1
    found = threshold_sorting(truth.recording)
    assert 2 <= len(found.labels) <= 8
    noise = Recording(np.random.default_rng(0).standard_normal((1, 24_000)), 24_000.0)
    assert len(threshold_sorting(noise, threshold=8.0)) == 0


def test_labelled_waveforms_need_the_data(monkeypatch):
    monkeypatch.delenv("TIGHTFRAME_DATA", raising=False)
    with pytest.raises(InputError, match="TIGHTFRAME_DATA"):
        templates("labelled", 3, None)


@pytest.mark.data
@pytest.mark.skipif("TIGHTFRAME_DATA" not in os.environ, reason="needs TIGHTFRAME_DATA")
def test_labelled_waveforms_keep_their_ratios():
    waves = templates("labelled", 3, None)
    peaks = np.abs(waves).max(axis=1)
    assert waves.shape == (3, 32)
    assert peaks.mean() == pytest.approx(1.0)
    assert peaks.max() / peaks.min() == pytest.approx(222 / 58, rel=0.02)
    assert locust_recording().channels == 4
