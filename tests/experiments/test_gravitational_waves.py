"""K6 on chirps: statistics against their definitions, rates against known distributions, claims against rows."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import ive
from scipy.stats import binom, norm

from tightframe.core.errors import DegenerateError, InputError
from tightframe.experiments import catalog
from tightframe.experiments.ntk import chirp_networks, gravitational_waves
from tightframe.experiments.ntk.chirp_networks import BankDetector, PlainDetector, Schedule, logits
from tightframe.experiments.ntk.chirp_scenes import (
    CONDITIONS,
    GLITCHES,
    KNOWN,
    SAMPLES,
    SHIFTS,
    SPECTRUM,
    TAILS,
    draw_masses,
    noise,
    shapes,
    signals,
)
from tightframe.experiments.ntk.detection_rates import curve, detection
from tightframe.experiments.ntk.matched_filters import adapted_bank, bank_of, coverage, mass_grid, score
from tightframe.experiments.ntk.wave_runs import BEGUN, FILTER, NETWORK, OPTIMAL, TOLD
from tightframe.report import page
from tightframe.runs.record import Record
from tightframe.runs.series import rows_of

LIMITS = (10.0, 30.0)
TINY = gravitational_waves.Config(per_axis=3, begun_per_axis=2, pool=40, null=1000, found=60, steps=6, begun_steps=4)


@pytest.fixture(scope="module")
def record() -> Record:
    return catalog.load("gravitational-waves").run(config=replace(TINY, conditions=tuple(CONDITIONS)))


@pytest.fixture(scope="module")
def bank():
    return bank_of(mass_grid(4, LIMITS))


@pytest.fixture(scope="module")
def windows() -> torch.Tensor:
    source = np.random.default_rng(0)
    chirps, _ = signals(shapes(draw_masses(8, LIMITS, source)), 6, (5.0, 7.0), source)
    return torch.as_tensor(noise(KNOWN, 6, source) + chirps).float()


def products(bank_masses: np.ndarray, values: np.ndarray) -> np.ndarray:
    """|z| (k, shifts) of one window, shift by shift, from the inner products with both quadratures."""
    found = np.empty((len(bank_masses), SHIFTS))
    for k, template in enumerate(shapes(bank_masses)):
        for shift in range(SHIFTS):
            moved = np.roll(template, shift)
            found[k, shift] = math.hypot(values @ moved.real, values @ moved.imag)
    return found


def test_the_record_survives_its_file_and_every_panel_is_drawn(record):
    assert Record.from_json(record.to_json()) == record
    assert [figure.failure for figure in page._section(record, first=1)["figures"]] == ["", ""]
    detectors = {condition: [] for condition in CONDITIONS}
    for row in rows_of(record.tables["rates"]):
        detectors[row["noise"]].append(row["detector"])
        assert 0 <= row["low"] <= row["detections"] <= row["high"] <= 1
    assert set(detectors.pop(KNOWN.name)) == {FILTER, OPTIMAL, NETWORK, BEGUN}
    assert all(set(each) == {FILTER, TOLD, NETWORK, BEGUN} for each in detectors.values())


def test_every_claim_was_run_and_is_one_of_the_entry(record):
    ids = {claim.id for claim in record.claims}
    assert len(ids) == len(record.claims) == 4 + 3 * 4
    assert {name.split(".")[0] for name in ids} == set(catalog.entry("gravitational-waves").claims)
    assert "not run" not in {claim.verdict for claim in record.claims}


def test_claims_follow_from_the_rates(record):
    rows = list(rows_of(record.tables["rates"]))
    config = replace(TINY, conditions=(KNOWN.name, GLITCHES.name))

    def verdicts(**rates: tuple[float, float, float]) -> dict[str, str]:
        names = {"network": NETWORK, "begun": BEGUN, "filter": FILTER, "best": OPTIMAL, "told": TOLD}
        chosen = {names[name]: dict(zip(("detections", "low", "high"), at, strict=True)) for name, at in rates.items()}
        changed = [row | chosen[row["detector"]] for row in rows]
        return {claim.id: claim.verdict for claim in gravitational_waves.claims_of(changed, config)}

    usual = {"filter": (0.6, 0.55, 0.65), "best": (0.62, 0.6, 0.64), "told": (0.7, 0.65, 0.75)}
    found = verdicts(network=(0.8, 0.77, 0.83), begun=(0.66, 0.6, 0.7), **usual)
    assert found["K6.waves.known.random.0.01"] == "failed"
    assert found["K6.waves.known.bank.0.01"] == "passed"
    assert found["K6.waves.learned.0.01"] == "passed"
    assert found["K6.waves.glitches.random.filter.0.01"] == found["K6.waves.glitches.random.told.0.01"] == "passed"
    # Higher rates, but intervals that overlap.
    assert found["K6.waves.glitches.bank.filter.0.01"] == "failed"
    found = verdicts(network=(0.5, 0.4, 0.6), begun=(0.6, 0.5, 0.7), **usual)
    assert found["K6.waves.learned.0.01"] == "failed"
    assert found["K6.waves.glitches.random.told.0.01"] == "failed"


def test_the_loudest_product_is_that_of_all_shifts(bank, windows):
    expected = products(mass_grid(4, LIMITS), windows[0].double().numpy())
    # complex64 spectra of 512 samples.
    np.testing.assert_allclose(bank.moduli(windows[:1])[0], expected, atol=2e-5)
    assert float(bank.loudest(windows)[0]) == pytest.approx(expected.max(), abs=2e-5)


def test_the_likelihood_ratio_is_the_average_over_all_that_is_unknown(bank, windows):
    strengths = np.array([4.0, 6.0, 8.0])
    values = products(mass_grid(4, LIMITS), windows[1].double().numpy())[..., None] * strengths
    ratios = ive(0, values) * np.exp(values - strengths**2 / 2)
    found = bank.marginal(windows[1:2], torch.as_tensor(strengths).float())
    # All but a constant, the logarithm of the number of hypotheses.
    assert float(found[0]) == pytest.approx(math.log(ratios.sum()), abs=1e-4)
    # The mean over phases of the exponential of the likelihood is what the Bessel function stands for.
    turns = np.exp(2j * math.pi * np.arange(400) / 400)
    assert np.exp(3.0 * turns.real).mean() == pytest.approx(float(ive(0, 3.0) * math.exp(3.0)))


def test_a_glitch_is_made_less_and_a_chirp_is_not(bank):
    template = shapes(mass_grid(4, LIMITS))[3].real
    # Of one frequency, where the power of a chirp is spread over eight bands.
    time = np.arange(SAMPLES) / 1024.0
    burst = np.exp(-(((time - 0.4) / 0.02) ** 2)) * np.cos(2 * math.pi * 90 * time)
    burst /= np.linalg.norm(burst)
    both = torch.as_tensor(np.stack((10 * template, 30 * burst))).float()
    loudest, less = bank.loudest(both), bank.reweighted(both)
    assert float(less[0]) == pytest.approx(10, abs=0.05)
    assert float(loudest[1]) > 10
    assert float(less[1]) < 0.7 * float(loudest[1])


def test_bands_hold_equal_shares_of_a_matching_chirp(bank):
    # Noise aside, chi-squared of p bands is 0 for the template itself and has mean 2 p - 2 in noise: r is near 1.
    source = np.random.default_rng(5)
    template = shapes(mass_grid(4, LIMITS))[2].real
    noisy = torch.as_tensor(12 * template + noise(KNOWN, 400, source)).float()
    share = bank.reweighted(noisy) / bank.loudest(noisy)
    assert float(share.median()) > 0.97
    # r has mean 1 and deviation (2 / 14)^0.5 = 0.38, so that about half of the windows are above 1.
    assert 0.3 < float((share < 1).float().mean()) < 0.75


def test_an_adapted_bank_restores_what_a_line_took():
    source = np.random.default_rng(1)
    adapted, excess = adapted_bank(mass_grid(4, LIMITS), noise(SPECTRUM, 3000, source))
    frequencies = np.fft.rfftfreq(SAMPLES, 1 / 1024.0)
    assert excess[np.argmin(abs(frequencies - 60))] == pytest.approx(31, rel=0.15)
    assert excess[frequencies > 250] == pytest.approx(1, abs=0.15)
    norms = torch.fft.ifft(adapted.spectra).real.norm(dim=1)
    torch.testing.assert_close(norms, torch.ones_like(norms), atol=1e-4, rtol=0)


def test_the_score_is_the_derivative_of_the_log_density():
    from scipy.stats import t

    values, step, scale = np.linspace(-8, 8, 33), 1e-5, math.sqrt(1 / 3)
    density = t(3, scale=scale)
    slope = -(density.logpdf(values + step) - density.logpdf(values - step)) / (2 * step)
    found = score(torch.as_tensor(values), 3.0) * math.sqrt(3)
    np.testing.assert_allclose(found, slope, atol=1e-7)


def test_scenes_are_as_strong_as_said_and_banks_cover_them():
    source = np.random.default_rng(2)
    pool = shapes(draw_masses(50, LIMITS, source))
    chirps, strengths = signals(pool, 200, (4.0, 8.0), source)
    # Both quadratures have norm 1 and are orthogonal to about 2e-3.
    np.testing.assert_allclose(np.linalg.norm(chirps, axis=1), strengths, rtol=3e-3)
    assert strengths.min() >= 4
    assert strengths.max() <= 8
    own, fine, coarse = (
        coverage(bank_of(masses), chirps / strengths[:, None])
        for masses in (np.array([[20.0, 20.0]]), mass_grid(8, LIMITS), mass_grid(2, LIMITS))
    )
    assert float(fine.min()) > 0.92
    assert float(own.min()) < float(coarse.max()) < 1.005


@pytest.mark.parametrize("condition", CONDITIONS.values(), ids=CONDITIONS)
def test_noise_differs_from_the_known_as_said(condition):
    values = noise(condition, 1500, np.random.default_rng(3))
    kurtosis = (values**4).mean() / (values**2).mean() ** 2
    power = np.mean(np.abs(np.fft.rfft(values, axis=1)) ** 2, axis=0) / SAMPLES
    flat = power[100:-1].max() < 1.5
    assert (kurtosis > 3.5) == (condition in (TAILS, GLITCHES))
    assert flat
    assert (power.max() > 10) == (condition is SPECTRUM)


def test_detection_rates_of_known_distributions():
    source = np.random.default_rng(4)
    null, found = source.standard_normal(40_000), source.standard_normal(5000) + 2
    truth = float(norm.sf(norm.isf(0.01) - 2))
    at = detection(null, found, 0.01)
    assert at.low < truth < at.high
    assert at.rate == pytest.approx(truth, abs=0.03)
    assert at.half < 0.06
    # The threshold is exceeded by the share asked for, and by no more.
    assert detection(null, null, 0.01).rate == 0.01


def test_intervals_hold_as_often_as_they_say():
    source = np.random.default_rng(5)
    truth, inside = float(norm.sf(norm.isf(0.05) - 1.5)), 0
    for _ in range(300):
        at = detection(source.standard_normal(400), source.standard_normal(200) + 1.5, 0.05)
        inside += at.low <= truth <= at.high
    # At least 95 %; fewer than this many of 300 would happen once in 10,000.
    assert inside >= binom.ppf(1e-4, 300, 0.95)
    # A threshold without an interval of its own would make the whole far too short.
    assert at.half > 0.05


def test_detections_refuse_what_they_cannot_say():
    good = np.arange(1000.0)
    with pytest.raises(DegenerateError, match="expected false alarms"):
        detection(good, good, 1e-3)
    with pytest.raises(InputError, match="alarms in"):
        detection(good, good, 0.0)
    with pytest.raises(InputError, match="found: numbers"):
        detection(good, np.array([1.0, math.nan]), 0.1)


def test_curves_rise_from_the_rarest_alarms():
    source = np.random.default_rng(6)
    points = curve(source.standard_normal(2000), source.standard_normal(2000) + 1, points=9)
    alarms, rates = zip(*points, strict=True)
    assert (np.diff(rates) >= 0).all()
    assert alarms[0] == pytest.approx(10 / 2000)
    assert rates[-1] == pytest.approx(norm.sf(-1), abs=0.04)


def test_the_network_at_the_bank_begins_as_its_matched_filter(bank, windows):
    begun = BankDetector(shapes(mass_grid(4, LIMITS)))
    found = (logits(begun, windows) + begun.scale[1]) / begun.scale[0]
    # A soft maximum over k templates exceeds the largest by at most 0.3 log k.
    excess = (found - bank.loudest(windows)).detach()
    assert (excess >= -1e-3).all()
    assert (excess <= 0.3 * math.log(10) + 1e-3).all()


def test_both_networks_learn():
    pool = shapes(draw_masses(60, LIMITS, np.random.default_rng(7)))
    loud = {"strengths": (14.0, 16.0), "seed": 0}
    torch.manual_seed(0)
    plain, begun = PlainDetector(8), BankDetector(shapes(mass_grid(2, LIMITS)))
    before = {name: each.detach().clone() for name, each in begun.named_parameters()}
    chance = math.log(2)
    assert chirp_networks.train(plain, KNOWN, pool, Schedule(60, 64, 3e-3), **loud) < chance / 2
    assert chirp_networks.train(begun, KNOWN, pool, Schedule(20, 64), **loud) < chance / 2
    # Every part of the network is trained; the first layers of the small networks wait for their last ones.
    assert not any(torch.equal(before[name], each) for name, each in begun.named_parameters())


def test_bad_configurations_are_refused():
    with pytest.raises(InputError, match="conditions among"):
        replace(TINY, conditions=("glitches",))
    with pytest.raises(InputError, match="conditions among"):
        replace(TINY, conditions=(KNOWN.name, "sunshine"))
    with pytest.raises(InputError, match="null of at least"):
        replace(TINY, alarms=(1e-2, 1e-3))


@pytest.mark.parametrize("preset", gravitational_waves.PRESETS)
def test_every_preset_can_be_planned(preset):
    scenes = gravitational_waves.scenes_of(gravitational_waves.PRESETS[preset])
    assert len(set(scenes)) == len(scenes)
    assert scenes[0].noise == KNOWN
