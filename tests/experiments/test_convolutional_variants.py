"""Variants of the bilinear Lasso as an experiment: signals, curves and ratios against their definitions."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tightframe.core.errors import InputError
from tightframe.experiments import catalog
from tightframe.experiments.dictionary import bilinear_variants
from tightframe.experiments.dictionary.variant_effects import CAVEATS, effects_of
from tightframe.experiments.dictionary.variant_runs import (
    VARIANTS,
    Cell,
    _solved,
    compare,
    observed,
    recover,
    spectral_flatness,
    true_kernels,
)
from tightframe.report import page
from tightframe.runs.record import Record
from tightframe.runs.series import rows_of

TINY = bilinear_variants.Config(length=20, size=400, seeds=1, counts=(2,), budget=60, tolerance=1e-3)
CELL = Cell("random", 1, 20, 400, 0.05, "rademacher", 0.01, 0.05, 1e-3, 1e-4, 60, 2, drawn=True)


@pytest.fixture(scope="module")
def record() -> Record:
    return catalog.load("bilinear-variants").run(config=TINY)


def test_every_claim_belongs_to_the_entry_and_has_its_numbers(record):
    assert {claim.id.split(".")[0] for claim in record.claims} == {"D7"}
    assert len({claim.id for claim in record.claims}) == len(record.claims) == 2 * 5 + 1 + 1 + 4
    found = {claim.id: claim for claim in record.claims}
    assert found["D7.found.all-pass"].verdict == "passed"
    assert found["D7.kernels"].observed is not None


def test_the_record_survives_its_file_and_every_panel_is_drawn(record):
    assert Record.from_json(record.to_json()) == record
    section = page._section(record, first=1)
    assert [figure.failure for figure in section["figures"]] == [""] * 4


def test_the_tables_hold_every_variant(record):
    runs = list(rows_of(record.tables["runs"]))
    assert [row["variant"] for row in runs] == [*VARIANTS] * 3
    assert len(list(rows_of(record.tables["effects"]))) == 2 * len(CAVEATS)
    assert len(list(rows_of(record.tables["several kernels"]))) == 2
    ends = {(row["kernel"], row["variant"]): row for row in rows_of(record.tables["convergence"])}
    for row in runs:
        end = ends[row["kernel"], row["variant"]]
        assert (end["step"], end["error"], end["seconds"]) == (row["steps"], row["error"], row["seconds"])


def test_kernels_are_what_their_names_say():
    transient = true_kernels("AR(2)", 1, 100)[0, 0]
    # A pulse through 1 / ((1 - 0.95 z)(1 - 0.8 z)), of unit norm.
    ringing = torch.zeros(100, dtype=torch.float64)
    for t in range(100):
        ringing[t] = float(t == 0) + (1.75 * ringing[t - 1] if t else 0) - (0.76 * ringing[t - 2] if t > 1 else 0)
    torch.testing.assert_close(transient, ringing / ringing.norm(), rtol=1e-9, atol=1e-12)
    bell = true_kernels("gaussian", 1, 50)[0, 0]
    torch.testing.assert_close(bell, bell.flip(0))
    # Width 10 per 100 entries: a log ratio of -(x^2) / (2 * 5^2) at a distance of x from the middle at 24.5.
    assert float((bell[29] / bell[24]).log()) == pytest.approx(-(4.5**2 - 0.5**2) / 50)
    for name in ("random", "AR(2)", "gaussian"):
        assert float(true_kernels(name, 1, 30).norm()) == pytest.approx(1)
    flatness = [spectral_flatness(true_kernels(name, 1, 40), 200) for name in ("random", "AR(2)", "gaussian")]
    assert flatness == sorted(flatness, reverse=True)
    assert spectral_flatness(torch.tensor([0.0, 1.0]), 64) == pytest.approx(1)
    with pytest.raises(InputError, match="several random ones"):
        true_kernels("gaussian", 2, 30)
    with pytest.raises(InputError, match="several random ones"):
        true_kernels("sinc", 1, 30)


def test_a_signal_is_its_kernels_at_sparse_places_and_noise():
    silent, _ = observed(replace(CELL, noise=0.0))
    noisy, truth = observed(CELL)
    spectra = torch.fft.rfft(silent[0, 0]) / torch.fft.rfft(truth[0, 0], n=CELL.size)
    codes = torch.fft.irfft(spectra, n=CELL.size)
    assert set(codes.round().unique().tolist()) == {-1.0, 0.0, 1.0}
    assert float((codes - codes.round()).abs().max()) < 1e-9
    # 400 draws of standard deviation 0.01: 5 standard errors.
    assert float((noisy - silent).std()) == pytest.approx(0.01, rel=5 / 800**0.5)


def test_shorter_runs_lie_on_the_path_of_longer_ones():
    """The curves rest on it."""
    signal, _ = observed(CELL)
    whole = _solved(CELL, signal, "inertial homotopy")
    for steps in (1, 7, 20):
        part = _solved(CELL, signal, "inertial homotopy", steps)
        assert part.trace["objective"] == whole.trace["objective"][: steps + 1]
        assert part.trace["step"][-1] == steps


def test_steps_to_the_target_are_those_of_the_trace():
    signal, _ = observed(CELL)
    runs = {row["variant"]: row for row in compare(CELL)["runs"]}
    target = 1.001 * min(row["objective"] for row in runs.values() if row["objective"] is not None)
    for name in ("plain", "inertial", "homotopy"):
        step = runs[name]["steps to target"]
        before, at = (_solved(CELL, signal, name, max(s, 1)).objective for s in (step - 1, step))
        assert at <= target
        assert before > target or name == "homotopy"
    assert runs["all"]["objective"] is None
    assert runs["all"]["steps to target"] is None


def test_lifting_decides_for_random_kernels_and_reweighting_lowers_the_error():
    cell = Cell("random", 1, 40, 2000, 40**-0.75, "rademacher", 0.01, 0.05, 1e-3, 1e-4, 300, 0)
    runs = {row["variant"]: row for row in compare(cell)["runs"]}
    assert runs["all"]["found"]
    assert not runs["all, no lift"]["found"]
    # Shrinkage by lambda of all activations goes; measured 0.021 and 0.010.
    assert runs["all"]["error"] < 0.7 * runs["inertial homotopy"]["error"]


def test_several_kernels_are_found_together():
    cell = Cell("random", 3, 40, 2000, 40**-0.75 / 3, "rademacher", 0.01, 0.05, 1e-3, 1e-4, 300, 1)
    row = recover(cell)
    assert row["share found"] == 1
    assert row["least similarity"] > 0.999
    assert row["activations in a window"] == pytest.approx(40**0.25)


def run_of(kernel: str, variant: str, error: float, steps: int | None, seconds: float | None = None) -> dict:
    row = {"kernel": kernel, "seed": 0, "variant": variant, "error": error, "found": error < 0.1}
    return row | {"steps to target": steps, "seconds to target": seconds}


def made_up(**steps: int | None) -> list[dict]:
    """Errors of 0.1, and 0.01 with reweighting; steps of plain descent and homotopy for low-pass kernels as given."""
    rows = []
    for kernel in ("random", "AR(2)", "gaussian"):
        for name in VARIANTS:
            count = 100 if kernel == "random" or name not in steps else steps[name]
            error = 0.01 if name in ("all", "reweighting") else 0.1
            rows.append(run_of(kernel, name, error, count, None if count is None else count / 1000))
    return rows


def test_effects_are_ratios_of_without_over_with():
    rows = made_up(**{"plain": 400, "inertial": 50, "inertial homotopy": None})
    rows[-len(VARIANTS)] |= {"steps to target": 100, "seconds to target": 0.1}
    effects = {(row["caveat"], row["kernels"]): row for row in effects_of(rows, budget=1000)}
    # Geometric mean of 400 / 50 and 100 / 50; and 50 / 1000 twice.
    assert effects["momentum", "low-pass"]["ratio of steps"] == pytest.approx(4)
    assert effects["momentum", "low-pass"]["ratio of seconds"] == pytest.approx(4)
    assert effects["momentum", "all-pass"]["ratio of steps"] == pytest.approx(1)
    assert effects["homotopy", "low-pass"]["ratio of steps"] == pytest.approx(0.05)
    assert effects["homotopy", "low-pass"]["ratio of seconds"] is None
    assert effects["homotopy", "low-pass"]["with, never there"] == 2
    assert effects["reweighting", "all-pass"]["ratio of errors"] == pytest.approx(10)


def test_verdicts_follow_from_the_effects():
    def verdicts(rows: list[dict]) -> dict[str, str]:
        effects = effects_of(rows, budget=1000)
        claims = [*bilinear_variants._caveat_claims(effects, TINY), *bilinear_variants._lift_claims(effects)]
        return {claim.id: claim.verdict for claim in claims}

    good = verdicts(made_up(**{"plain": 400, "inertial": 100, "inertial homotopy": 50}))
    assert {name for name, verdict in good.items() if verdict != "passed"} == set()
    slow = verdicts(made_up(**{"plain": 100, "inertial": 100, "inertial homotopy": 200}))
    failed = {name for name, verdict in slow.items() if verdict == "failed"}
    both = {"D7.momentum-homotopy", "D7.momentum-homotopy.most"}
    assert failed == {"D7.momentum", "D7.homotopy", "D7.homotopy.most", *both}
    unknown = verdicts(made_up(**{"plain": None, "inertial": 50, "inertial homotopy": None}))
    assert {unknown[name] for name in (*both, "D7.momentum.seconds")} == {"not run"}
    assert unknown["D7.momentum"] == "passed"
    assert verdicts([row | {"error": 0.1} for row in made_up()])["D7.lift"] == "failed"


def test_what_was_not_found_fails():
    runs = made_up(plain=400)
    several = [
        {"kernels": 3, "density": density, "share found": share} for density, share in ((0.01, 1.0), (0.03, 0.0))
    ]
    claims = {claim.id: claim.verdict for claim in bilinear_variants._found_claims(runs, several)}
    assert claims["D7.found.low-pass"] == claims["D7.kernels"] == "passed"
    assert claims["D7.kernels.dense"] == "failed"
    lost = [row | {"found": row["kernel"] != "gaussian"} for row in runs]
    claims = {claim.id: claim.verdict for claim in bilinear_variants._found_claims(lost, [])}
    assert (claims["D7.found.all-pass"], claims["D7.found.low-pass"]) == ("passed", "failed")
    assert claims["D7.kernels"] == "not run"


def test_bad_sizes_are_refused_and_every_preset_can_be_planned():
    for change in ({"seeds": 0}, {"counts": ()}, {"counts": (0,)}, {"budget": 0}):
        with pytest.raises(InputError, match="numbers of kernels"):
            replace(TINY, **change)
    for config in bilinear_variants.PRESETS.values():
        assert len(bilinear_variants._cells(config)) == 3 * config.seeds
        assert len(bilinear_variants._several(config)) == 2 * len(config.counts) * config.seeds
