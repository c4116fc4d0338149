"""D10 runs on bundled images, says what it needs where it cannot run, and fails where learning does not help."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

from tightframe.core.rng import generator
from tightframe.dictionary.images.fidelity import psnr
from tightframe.dictionary.images.restoration import denoise
from tightframe.experiments import catalog
from tightframe.experiments.dictionary import image_restoration, standard_denoisers
from tightframe.experiments.dictionary.image_restoration import Config, picture
from tightframe.report import page
from tightframe.runs.record import Record

TINY = Config(crop=56, samples=1500, rounds=1, magnify=True, peers=("wavelets", "BM3D"))


@pytest.fixture(scope="module")
def record():
    def absent(noisy, noise):
        raise ImportError("bm3d")

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(standard_denoisers.DENOISERS, "BM3D", absent)
        patch.setitem(standard_denoisers.DENOISERS, "wavelets", lambda noisy, noise: 0.9 * noisy + 0.05)
        return catalog.load("image-restoration").run(config=TINY)


def rows(record, **fixed):
    table = record.tables["restored"]
    count = len(table["task"])
    every = [{name: values[index] for name, values in table.items()} for index in range(count)]
    return [row for row in every if all(row[key] == value for key, value in fixed.items())]


def test_the_record_survives_its_file_and_can_be_drawn(record):
    assert Record.from_json(record.to_json()) == record
    assert {claim.id.split(".")[0] for claim in record.claims} == set(catalog.entry("image-restoration").claims)
    text = page.render([record])
    assert all(panel.title in text for panel in record.panels)


def test_rows_are_what_the_functions_give(record):
    truth = picture("china", 56, None)
    noisy = truth + 25 * torch.randn(truth.shape, generator=generator(0))
    (row,) = rows(record, task="denoising", image="china", method="learned")
    assert row["PSNR (dB)"] == psnr(denoise(noisy, noise=25.0, samples=1500).image, truth)
    (row,) = rows(record, task="denoising", image="china", method="none")
    assert row["PSNR (dB)"] == psnr(noisy, truth)
    (row,) = rows(record, task="denoising", image="china", method="wavelets")
    assert row["PSNR (dB)"] == pytest.approx(psnr(0.9 * noisy + 0.05 * 255, truth), abs=1e-4)


def test_a_package_that_is_absent_is_said_to_be(record):
    for row in rows(record, method="BM3D"):
        assert (row["PSNR (dB)"], row["note"]) == (None, "not installed")
    claims = {claim.id: claim for claim in record.claims}
    assert claims["D10.denoising.nlm"].verdict == "not run"
    assert "needs" in claims["D10.denoising.nlm"].note


def test_claims_are_the_least_gains(record):
    claims = {claim.id: claim for claim in record.claims}
    for name, task in (("denoising", "denoising"), ("inpainting", "inpainting"), ("magnification", "magnification")):
        gains = []
        for image in TINY.images:
            learned, fixed = (
                rows(record, task=task, image=image, method=method)[0]["PSNR (dB)"]
                for method in ("learned", "fixed cosine")
            )
            gains.append(learned - fixed)
        assert claims[f"D10.{name}"].observed == pytest.approx(min(gains))
    assert claims["D10.denoising"].verdict == "passed"


def test_magnification_interpolates_what_is_linear():
    line = 2 * torch.arange(16.0)[:, None] + 3 * torch.arange(18.0)
    doubled = image_restoration._bicubic(line[::2, ::2], line.shape)
    # The last line lies beyond the pixels kept, and cubic interpolation bends in the two cells at the border.
    assert torch.allclose(doubled[4:-6, 4:-6], line[4:-6, 4:-6], atol=1e-3)


def test_without_learning_the_claim_fails(monkeypatch):
    def fixed(image, **options):
        return denoise(image, **(options | {"dictionary": "dct", "noise": 2 * options["noise"]}))

    def swapped(image, *, dictionary, **options):
        return denoise(image, dictionary="dct", **options) if dictionary == "dct" else fixed(image, **options)

    monkeypatch.setattr(image_restoration, "denoise", swapped)
    config = Config(images=("china",), crop=48, missing=(), peers=())
    record = catalog.load("image-restoration").run(config=config)
    claims = {claim.id: claim.verdict for claim in record.claims}
    assert claims["D10.denoising"] == "failed"
    assert claims["D10.inpainting"] == claims["D10.magnification"] == "not run"


@pytest.mark.data
@pytest.mark.skipif(not os.environ.get("TIGHTFRAME_DATA"), reason="needs TIGHTFRAME_DATA")
def test_the_images_of_the_literature_are_grey_and_cropped():
    barbara = picture("barbara", 64, None)
    assert barbara.shape == (64, 64)
    assert 0 <= float(barbara.min()) < float(barbara.max()) <= 255
    assert picture("astronaut", None, None).shape == (512, 512)
    assert np.isfinite(picture("chelsea", 999, None).numpy()).all()
