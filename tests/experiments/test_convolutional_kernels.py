"""Kernels from fourth powers as an experiment: its pieces against definitions, its claims from what is measured."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tightframe.core.errors import DegenerateError, InputError
from tightframe.experiments import catalog
from tightframe.experiments.dictionary import convolutional_dictionaries
from tightframe.experiments.dictionary.circulant_runs import examine, kind_of
from tightframe.experiments.dictionary.circulant_scenes import (
    Cell,
    Scene,
    circular_similarity,
    distinct_shifts,
    landscape_of,
)
from tightframe.experiments.dictionary.convolutional_claims import claims_of
from tightframe.report import page
from tightframe.runs.record import Record
from tightframe.runs.series import rows_of

# Shorter kernels are too coherent for the claims, and fewer samples leave columns too far from maxima.
TINY = convolutional_dictionaries.Config(
    lengths=(48,), densities=(0.02,), signals=1500, seeds=1, starts=5, steps=25, searched=2, refined=200
)
CELL = Cell(12, 2, 300, 0.1, 3, starts=4, steps=12, searched=2, refined=100)


@pytest.fixture(scope="module")
def record() -> Record:
    return catalog.load("convolutional-dictionaries").run(config=TINY)


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene(CELL)


def circulant(vector: torch.Tensor) -> torch.Tensor:
    """C with C[i, j] = vector[i - j]."""
    return torch.stack([vector.roll(shift) for shift in range(len(vector))], 1)


def test_the_claims_follow_from_the_tables_and_hold(record):
    assert {claim.id.split(".")[0] for claim in record.claims} == {"D6"}
    assert len({claim.id for claim in record.claims}) == len(record.claims) == 10
    failed = {claim.id for claim in record.claims if claim.verdict != "passed"}
    # Independent trials need luck to meet every kernel; nothing else does.
    assert failed <= {"D6.kernels.trials"}
    assert record.answer.startswith("Yes: 100 %")


def test_the_record_survives_its_file_and_every_panel_is_drawn(record):
    assert Record.from_json(record.to_json()) == record
    section = page._section(record, first=1)
    assert [figure.failure for figure in section["figures"]] == [""] * 6


def test_the_tables_hold_every_start_and_kernel(record):
    rows = {name: len(next(iter(table.values()))) for name, table in record.tables.items()}
    assert rows["starts"] == 2 * 5
    assert rows["paths"] == 2 * (25 + 1)
    assert rows["kernels"] == 3 * 3
    assert rows["sets"] == 2
    refined = [
        e for e, s in zip(*(record.tables["kernels"][c] for c in ("error", "state")), strict=True) if s[0] == "r"
    ]
    deflated = [
        e for e, s in zip(*(record.tables["kernels"][c] for c in ("error", "state")), strict=True) if s[0] == "d"
    ]
    assert max(refined) < 0.2 * max(deflated)


def test_samples_and_preconditioner_are_those_of_the_formula(scene):
    n, density = CELL.length, CELL.density
    lifted = torch.cat([circulant(sample) for sample in scene.signals], 1)
    second = lifted @ lifted.T / (density * n * CELL.signals * CELL.kernels)
    values, vectors = torch.linalg.eigh(second)
    root = (vectors / values.sqrt()) @ vectors.T
    frame = root @ torch.cat([circulant(kernel) for kernel in scene.kernels], 1)
    torch.testing.assert_close(scene.atoms, frame.T, rtol=1e-9, atol=1e-9)
    # K times the identity up to the sampling error of the second moment, whose relative size per frequency is of the
    # order of 1 / sqrt(300) for a sum of 300 exponential variables.
    spread = torch.linalg.eigvalsh(frame @ frame.T) / CELL.kernels
    assert 0.7 < float(spread[0]) <= float(spread[-1]) < 1.4


def test_the_gradient_is_that_of_the_mean_fourth_power(scene):
    whitened = torch.fft.irfft(scene.spectra, n=CELL.length)
    rows = torch.cat([circulant(sample).T for sample in whitened])
    q = scene.starts("random")[:2].requires_grad_()
    value = (rows @ q.T).pow(4).mean(0).sum() / 4
    (slope,) = torch.autograd.grad(value, q)
    torch.testing.assert_close(scene.gradient(q.detach()), slope, rtol=1e-10, atol=1e-12)


def test_deflation_takes_away_gaussian_data_and_what_was_found(scene):
    found = scene.starts("data")[:1]
    slopes = scene.deflated_gradient(found)
    shifts = circulant(found[0]).T
    variance = torch.fft.irfft(scene.spectra, n=CELL.length).square().mean()
    # Along the direction itself what is left is only what its other shifts contribute.
    weight = (scene.gradient(found)[0] @ found[0]) - 3 * variance**2
    q = scene.starts("random")[:1]
    wanted = scene.gradient(q)[0] - 3 * variance**2 * q[0] - weight * ((shifts @ q[0]) ** 3) @ shifts
    torch.testing.assert_close(slopes(q)[0], wanted, rtol=1e-10, atol=1e-12)
    noise = Scene(replace(CELL, density=1.0, signals=4000))
    # Dense Gaussian codes have no cumulant: 3 c^2 q is all there is, up to sampling.
    left = torch.linalg.vector_norm(noise.deflated_gradient(noise.starts("random")[:1])(noise.starts("random")[1:2]))
    assert float(left) < 0.1 * float(torch.linalg.vector_norm(noise.gradient(noise.starts("random")[1:2])))


def test_curvature_and_slope_are_those_of_the_sphere(scene):
    point = scene.starts("random")[0]

    def value(v: torch.Tensor) -> torch.Tensor:
        return -(scene.atoms @ v).pow(4).sum() / 4

    slope = torch.autograd.functional.jacobian(value, point)
    tangent = torch.linalg.svd(point[None])[2][1:]
    hessian = tangent @ torch.autograd.functional.hessian(value, point) @ tangent.T
    hessian = hessian - (slope @ point) * torch.eye(len(tangent), dtype=torch.float64)
    fourth = (scene.atoms @ point).pow(4).sum()
    seen = landscape_of(scene.atoms, point[None], scene.coherence)
    assert float(seen["curvature"][0]) == pytest.approx(float(torch.linalg.eigvalsh(hessian)[0] / fourth), rel=1e-9)
    assert float(seen["slope"][0]) == pytest.approx(float(torch.linalg.vector_norm(tangent @ slope) / fourth), rel=1e-9)
    cubes = (scene.atoms @ point).abs().pow(3).sum() ** (2 / 3)
    assert float(seen["depth"][0]) == pytest.approx(float(fourth / (scene.coherence ** (2 / 3) * cubes)), rel=1e-9)
    cosines = [abs(float(point @ atom / atom.norm())) for atom in scene.atoms]
    assert float(seen["gap"][0]) == pytest.approx(1 - max(cosines), abs=1e-12)
    assert int(seen["column"][0]) == cosines.index(max(cosines))


def test_paths_are_normalised_gradients_and_stand_still_where_they_have_settled(scene):
    paths = scene.paths(scene.starts("data"))
    assert paths.shape == (13, 4, 12)
    slope = scene.gradient(paths[0])
    torch.testing.assert_close(paths[1], slope / slope.norm(dim=1, keepdim=True))
    still = scene.paths(Scene(replace(CELL, steps=400)).paths(paths[-1])[-1])
    torch.testing.assert_close(still[-1], still[1], rtol=0, atol=1e-8)


@pytest.mark.parametrize(
    ("numbers", "kind"),
    [
        ((0.05, -1, 1), "column"),
        ((0.06, -1, 0), "negative curvature"),
        ((0.06, 1, 1), "slope"),
        ((0.06, 0, 0), "other"),
    ],
)
def test_kinds_of_iterates(numbers, kind):
    assert kind_of(*numbers) == kind


def test_similarity_over_shifts_is_the_one_of_brute_force():
    source = torch.Generator().manual_seed(1)
    found, truth = (torch.randn(rows, 9, generator=source, dtype=torch.float64) for rows in (3, 2))
    found[2] = -2 * truth[1].roll(4)
    similarity, shift, sign = circular_similarity(found, truth)
    for i in range(3):
        for j in range(2):
            products = [float(found[i] @ truth[j].roll(s) / (found[i].norm() * truth[j].norm())) for s in range(9)]
            best = max(range(9), key=lambda s: abs(products[s]))
            assert float(similarity[i, j]) == pytest.approx(abs(products[best]), abs=1e-12)
            assert (int(shift[i, j]), float(sign[i, j])) == (best, 1.0 if products[best] > 0 else -1.0)
    assert (float(similarity[2, 1]), int(shift[2, 1]), float(sign[2, 1])) == (pytest.approx(1), 4, -1)


def test_shifts_of_one_kernel_count_once():
    one, two = torch.eye(6, dtype=torch.float64)[0], torch.tensor([1.0, 1, 0, 0, 0, 0], dtype=torch.float64) / 2**0.5
    three = torch.tensor([1.0, -1, 0, 1, 0, 0], dtype=torch.float64) / 3**0.5
    directions = torch.stack([one.roll(3), one, two, -two.roll(2), three])
    chosen = distinct_shifts(directions, torch.tensor([1.0, 5, 3, 4, 2]), 3)
    assert chosen.tolist() == [1, 3, 4]
    assert distinct_shifts(directions, torch.tensor([1.0, 5, 3, 4, 2]), 2).tolist() == [1, 3]


@pytest.mark.parametrize(
    ("table", "column", "value", "broken"),
    [
        ("kernels", "similarity", 0.9, {"D6.kernels", "D6.kernels.trials"}),
        ("kernels", "error", 0.02, {"D6.refined"}),
        ("starts", "found", False, {"D6.start"}),
        ("starts", "least depth later", 0.9, {"D6.region"}),
        ("starts", "of no kind", 1, {"D6.landscape.paths"}),
        ("starts", "curvature at the end", -0.1, {"D6.landscape.ends"}),
        ("critical points", "kind", "other", {"D6.landscape"}),
    ],
)
def test_another_number_fails_its_claim(record, table, column, value, broken):
    rows = {name: list(rows_of(values)) for name, values in record.tables.items()}
    before = {claim.id for claim in claims_of(rows) if claim.verdict == "failed"}
    rows[table] = [row | {column: value} for row in rows[table]]
    after = {claim.id for claim in claims_of(rows) if claim.verdict == "failed"}
    assert after - before == broken - before
    assert broken <= after


def test_without_searches_the_landscape_is_not_claimed():
    rows = examine(replace(CELL, kernels=3, searched=0))
    assert rows["critical points"] == []
    verdicts = {claim.id: claim.verdict for claim in claims_of(rows)}
    assert verdicts["D6.landscape"] == "not run"


def test_bad_sizes_are_refused():
    with pytest.raises(InputError, match="three among the counts"):
        replace(TINY, counts=(2,))
    with pytest.raises(InputError, match="sizes of at least one"):
        replace(CELL, starts=0)
    with pytest.raises(DegenerateError, match="every frequency"):
        Scene(replace(CELL, density=1e-12))
    with pytest.raises(DegenerateError, match="not silent"):
        Scene(replace(CELL, density=1e-3, signals=300, starts=300)).starts("data")


def test_every_preset_can_be_planned():
    for config in convolutional_dictionaries.PRESETS.values():
        cells = convolutional_dictionaries._cells(config)
        assert sum(cell.drawn for cell in cells) == len(config.lengths) * len(config.densities)
        assert len(set(cells)) == len(cells)
