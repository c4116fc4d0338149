"""D9, calcium: correlations against their definition, rows of a peer where it is installed, and honest verdicts."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from tightframe.data.recorded.calcium import calcium_trace
from tightframe.experiments import catalog
from tightframe.experiments.dictionary import calcium
from tightframe.experiments.dictionary.calcium import Case, Config, recorded
from tightframe.report import page
from tightframe.runs.record import Record

TINY = Config(frames=1200, noises=(0.1,), pooled=3, length=60)


def stand_in(monkeypatch, deconvolve):
    monkeypatch.setitem(sys.modules, "oasis", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "oasis.functions", SimpleNamespace(deconvolve=deconvolve))


@pytest.fixture(scope="module")
def record():
    def threshold(trace, penalty, **options):
        spikes = np.maximum(np.diff(trace, prepend=0.0) - 0.3, 0.0)
        return trace, spikes, 0.0, options, 0.0

    with pytest.MonkeyPatch.context() as patch:
        stand_in(patch, threshold)
        return catalog.load("calcium").run(config=TINY)


def test_the_record_survives_its_file_and_can_be_drawn(record):
    assert Record.from_json(record.to_json()) == record
    text = page.render([record])
    assert all(panel.title in text for panel in record.panels)


def test_correlations_are_those_of_the_true_spikes(record):
    table = record.tables["simulated"]
    expected = []
    for number in range(3):
        trace = calcium_trace(1200, noise=0.1, seed=number)
        found = np.maximum(np.diff(trace.fluorescence, prepend=0.0) - 0.3, 0.0)
        bins = [values.reshape(-1, 3).sum(axis=1) for values in (found, trace.spikes)]
        expected.append(np.corrcoef(*bins)[0, 1])
    where = table["method"].index("OASIS, AR(2) estimated")
    assert table["correlation"][where] == pytest.approx(np.mean(expected))
    assert table["worst trace"][where] == pytest.approx(min(expected))
    claims = {claim.id: claim for claim in record.claims}
    blind = table["correlation"][table["method"].index("blind")]
    assert claims["D9.calcium"].observed == blind > 0.95
    assert claims["D9.calcium.family"].observed == pytest.approx(blind - np.mean(expected))
    assert claims["D9.calcium.noisy"].verdict == claims["D9.spikefinder"].verdict == "not run"


def test_the_response_found_is_that_of_the_generator(record):
    table = record.tables["responses"]
    curves = {}
    for name, value in zip(table["response"], table["value"], strict=True):
        curves.setdefault(name, []).append(value)
    assert np.dot(curves["true"], curves["found"]) > 0.99


def test_without_the_peer_its_rows_say_so_and_its_claims_are_not_run(monkeypatch):
    monkeypatch.setitem(sys.modules, "oasis.functions", None)
    config = Config(frames=600, noises=(0.1,), pooled=2, length=45)
    record = catalog.load("calcium").run(config=config)
    claims = {claim.id: claim for claim in record.claims}
    assert claims["D9.calcium.family"].verdict == "not run"
    assert "oasis-deconv" in claims["D9.calcium.family"].note
    assert record.tables["simulated"]["correlation"][1:] == [None, None]


def test_a_method_that_finds_nothing_scores_zero_and_fails(monkeypatch):
    def silent(traces, **options):
        return SimpleNamespace(activations_=np.zeros_like(traces), kernel_=np.ones(45) / np.sqrt(45))

    monkeypatch.setattr(
        calcium, "ShortAndSparseDeconvolution", lambda *a, **o: SimpleNamespace(fit=lambda x: silent(x))
    )
    record = catalog.load("calcium").run(config=Config(frames=600, noises=(0.1,), pooled=1, length=45))
    (claim,) = (claim for claim in record.claims if claim.id == "D9.calcium")
    assert (claim.observed, claim.verdict) == (0.0, "failed")


@pytest.mark.data
@pytest.mark.skipif(not os.environ.get("TIGHTFRAME_DATA"), reason="needs TIGHTFRAME_DATA")
def test_every_recorded_neuron_has_a_row(monkeypatch):
    monkeypatch.setattr(calcium, "_LONGEST", 600)
    rows = recorded(Case(Config(starts=1), number=4))
    blind = [row for row in rows if row["method"] == "blind"]
    assert len(blind) == 6
    assert all(-1 <= row["correlation at 25 Hz"] <= 1 for row in blind)
