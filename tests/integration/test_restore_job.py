"""`tightframe denoise` and `tightframe inpaint`: files in, files, a record and a report out."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

from door import refused
from tightframe.cli.main import main
from tightframe.core.rng import generator
from tightframe.dictionary.images.fidelity import psnr
from tightframe.dictionary.images.inpainting import inpaint
from tightframe.dictionary.images.restoration import denoise
from tightframe.jobs.restore_report import mosaic
from tightframe.runs.record import Record

PIXELS = load_sample_image("china.jpg")[120:168, 300:348]
FEW = ["--patch-size", "6", "--samples", "1000"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(PIXELS).save("colour.png")
    Image.fromarray(PIXELS[..., 0]).save("grey.tiff")
    return tmp_path


def read(folder):
    return Record.from_json((folder / "record.json").read_text())


def test_denoising_writes_what_the_function_returns(here, capsys):
    main(["denoise", "grey.tiff", "--add-noise", "20", "--seed", "3", "--out", "run", *FEW])
    truth = torch.from_numpy(PIXELS[..., 0].astype(np.float64))
    noisy = truth + 20 * torch.randn(truth.shape, generator=generator(3))
    arrays = np.load(here / "run" / "restored.npz")
    for name in ("learned", "dct"):
        expected = denoise(noisy, patch_size=6, samples=1000, seed=3, dictionary=name)
        assert np.allclose(arrays[name], expected.image.numpy(), atol=1e-3)
        shown = np.asarray(Image.open(here / "run" / f"{name}.png"))
        assert np.abs(shown - expected.image.numpy().clip(0, 255)).max() <= 0.51
    record = read(here / "run")
    quality = record.tables["quality"]
    assert quality["image"] == ["noisy", "fixed cosine dictionary", "learned dictionary"]
    assert quality["PSNR (dB)"][0] == pytest.approx(psnr(noisy, truth))
    assert quality["PSNR (dB)"][2] == pytest.approx(psnr(arrays["learned"], truth), abs=1e-6)
    assert "PSNR" in record.answer
    out = capsys.readouterr().out
    assert record.answer in out
    page = (here / "run" / "report.html").read_text()
    assert page.count('<img class="thumbnail"') == 5
    assert str(here) not in (here / "run" / "record.json").read_text()


def test_a_colour_image_without_truth_has_no_score(here):
    main(["denoise", "colour.png", "--noise", "10", "--out", "run", *FEW])
    record = read(here / "run")
    assert record.tables["quality"]["PSNR (dB)"] == [None] * 3
    assert Image.open(here / "run" / "learned.png").size == (48, 48)
    assert np.load(here / "run" / "restored.npz")["learned"].shape == (48, 48, 3)
    assert np.load(here / "run" / "restored.npz")["bases"].shape == (4, 108, 3, 6, 6)
    assert json.loads((here / "run" / "config.json").read_text())["image"] == "colour.png"


def test_filling_in_by_a_mask(here):
    mask = np.zeros((48, 48), dtype=np.uint8)
    mask[10:14, 5:40] = 255
    Image.fromarray(mask).save("mask.png")
    main(["inpaint", "colour.png", "--mask", "mask.png", "--rounds", "1", "--out", "run", *FEW])
    found = np.load(here / "run" / "restored.npz")["learned"]
    assert np.array_equal(found[mask == 0], PIXELS[mask == 0])
    image = np.moveaxis(PIXELS, -1, 0).astype(np.float64)
    expected = inpaint(image, mask > 0, patch_size=6, samples=1000, rounds=1).image
    assert np.allclose(np.moveaxis(found, -1, 0), expected, atol=1e-3)
    assert "6.1%" in read(here / "run").answer


def test_pixels_removed_on_purpose_are_scored(here):
    main(["inpaint", "grey.tiff", "--remove", "0.4", "--rounds", "1", "--out", "run", *FEW])
    before, fixed, learned = read(here / "run").tables["quality"]["PSNR (dB)"]
    assert min(fixed, learned) > before + 10


def test_nan_is_missing(here, capsys):
    values = PIXELS[..., 0].astype(np.float64)
    values[3:6, 7] = np.nan
    np.save("holes.npy", values)
    main(["inpaint", "holes.npy", "--rounds", "1", "--out", "run", *FEW])
    found = np.load(here / "run" / "restored.npz")["learned"]
    assert np.isfinite(found).all()
    assert np.array_equal(found[~np.isnan(values)], values[~np.isnan(values)])
    assert "tightframe inpaint" in refused(capsys, "denoise", "holes.npy", "--out", "other")


def test_a_mosaic_shows_every_atom():
    bases = torch.eye(4).view(1, 4, 1, 2, 2)
    page = mosaic(bases)
    assert page.shape == (6, 6)
    assert page[0, 0] == page[0, 4] == page[4, 0] == page[4, 4] == 255
    assert page[0, 1] == page[1, 1] == 127.5
    assert mosaic(torch.randn(2, 12, 3, 2, 2)).shape == (9, 24, 3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["denoise", "absent.png"], "absent.png"),
        (["denoise", "grey.tiff", "--add-noise", "-3"], "positive noise"),
        (["denoise", "grey.tiff", "--patch-size", "60"], "Use smaller patches"),
        (["inpaint", "grey.tiff"], "none missing"),
        (["inpaint", "grey.tiff", "--remove", "1.5"], "a share between 0 and 1"),
        (["inpaint", "grey.tiff", "--mask", "small.png"], "a mask of the image's height and width"),
        (["inpaint", "grey.tiff", "--mask", "all.png"], "all missing"),
    ],
)
def test_what_does_not_fit_is_refused(here, capsys, arguments, words):
    Image.fromarray(np.ones((5, 5), dtype=np.uint8)).save("small.png")
    Image.fromarray(np.full((48, 48), 9, dtype=np.uint8)).save("all.png")
    assert words in refused(capsys, *arguments, "--out", "run")
    assert not (here / "run" / "record.json").exists()
