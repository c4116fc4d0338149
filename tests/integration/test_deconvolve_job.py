"""`tightframe deconvolve`: images, movies and traces in; kernels, maps, a list of defects, a record and a page out."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from PIL import Image

from door import refused
from tightframe.cli.main import main
from tightframe.data.pictured.superpositions import superposition
from tightframe.data.pictured.topographs import ring_kernels
from tightframe.data.recorded.calcium import calcium_trace
from tightframe.dictionary.blind.deconvolution import ShortAndSparseDeconvolution
from tightframe.jobs.deconvolve import read_signals_from
from tightframe.runs.record import Record

KERNELS = ring_kernels(2, 12)
TRUTH = superposition(KERNELS[:1], (72, 72), density=2e-3, noise=0.02, bias=1.0, seed=1)
SMALL = ["--kernel-size", "12", "12", "--positive", "--background", "none"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("one.npy", TRUTH.image)
    return tmp_path


def read(folder):
    return Record.from_json((folder / "record.json").read_text())


def listed(folder):
    with (folder / "defects.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_an_image_gives_its_kernel_and_every_defect(here, capsys):
    main(["deconvolve", "one.npy", *SMALL, "--out", "run"])
    arrays = np.load(here / "run" / "deconvolved.npz")
    model = ShortAndSparseDeconvolution((12, 12), positive=True).fit(TRUTH.image[None])
    assert np.allclose(arrays["kernels"], model.components_, atol=1e-6)
    assert np.allclose(arrays["reconstruction"], model.reconstruction_, atol=1e-6)
    # Rings have their centre of energy in their middle, whatever shift of the window was found.
    middles = np.argwhere(TRUTH.maps[0] > 0) + 5.5
    places = np.array([[float(row["row"]), float(row["column"])] for row in listed(here / "run")])
    apart = np.abs(np.mod(places[:, None] - middles[None] + 36, 72) - 36).max(axis=2)
    assert len(places) == len(middles)
    assert (apart.min(axis=0) < 1).all()
    record = read(here / "run")
    (summary,) = [{name: values[0] for name, values in record.tables["summary"].items()}]
    assert summary["defects"] == len(places)
    assert (summary["background taken out"], summary["taken from"]) == ("none", "white")
    explained = (
        1 - np.square(TRUTH.image - arrays["reconstruction"]).sum() / np.square(TRUTH.image - TRUTH.image.mean()).sum()
    )
    assert summary["variance explained"] == pytest.approx(explained)
    assert record.answer in capsys.readouterr().out
    page = (here / "run" / "report.html").read_text()
    assert page.count('<img class="thumbnail"') == len(record.tables["pictures"]["what"]) == 5
    assert str(here) not in (here / "run" / "record.json").read_text()
    assert Image.open(here / "run" / "reconstruction.png").size == (72, 72)


def test_two_kernels_in_a_tiff_with_a_slope(here):
    truth = superposition(KERNELS, (72, 72), density=2e-3, noise=0.01, bias=0.0, seed=0)
    slope = 0.05 * np.arange(72)[:, None]
    Image.fromarray((truth.image + slope).astype(np.float32)).save("two.tif")
    main(["deconvolve", "two.tif", "--kernel-size", "12", "12", "--kernels", "2", "--positive", "--out", "run"])
    record = read(here / "run")
    assert record.tables["summary"]["background taken out"] == ["plane"]
    found = np.load(here / "run" / "deconvolved.npz")["kernels"]
    spectra = [np.fft.fft2(kernels, (23, 23)) for kernels in (found, KERNELS)]
    match = np.fft.ifft2(spectra[0].conj()[:, None] * spectra[1][None]).real.max(axis=(2, 3))
    assert match.max(axis=0).min() > 0.97
    assert {row["kernel"] for row in listed(here / "run")} == {"0", "1"}
    assert len(listed(here / "run")) >= 0.8 * (truth.maps > 0).sum()


def test_traces_in_columns_with_padding_give_spikes_in_seconds(here):
    traces = [calcium_trace(1500, noise=0.1, seed=seed) for seed in range(2)]
    table = np.stack([one.fluorescence for one in traces], axis=1)
    padded = np.vstack([table, np.full((40, 2), np.nan)])
    np.savetxt("traces.csv", padded, delimiter=",")
    main(["deconvolve", "traces.csv", "--kernel-size", "60", "--positive", "--rate", "30", "--out", "run"])
    rows = listed(here / "run")
    assert {row["signal"] for row in rows} == {"0", "1"}
    for row in rows[:5]:
        assert float(row["seconds"]) == pytest.approx(float(row["frame"]) / 30)
    for number, one in enumerate(traces):
        frames = np.array([float(row["frame"]) for row in rows if row["signal"] == str(number)])
        spikes = np.flatnonzero(one.spikes)
        near = np.abs(frames[:, None] - spikes[None]).min(axis=0) <= 2
        assert near.mean() > 0.85
    record = read(here / "run")
    assert {panel.table for panel in record.panels} == {"shapes", "trace", "defects"}
    assert record.tables["summary"]["background taken out"] == ["none"]
    assert np.load(here / "run" / "deconvolved.npz")["signals"].shape == (2, 1500)


def test_streaks_are_not_taken_for_defects(here):
    """Correlated noise along the rows, which a penalty from white noise would fill with activations."""
    source = np.random.default_rng(3)
    smooth = np.fft.irfft2(np.fft.rfft2(source.standard_normal((72, 72))) * np.exp(-np.arange(37) / 3), (72, 72))
    image = 4 * TRUTH.clean + smooth / smooth.std() + 0.01 * source.standard_normal((72, 72))
    np.save("streaks.npy", image)
    main(["deconvolve", "streaks.npy", "--kernel-size", "12", "12", "--starts", "1", "--out", "run"])
    record = read(here / "run")
    assert record.tables["summary"]["taken from"] == ["background"]
    assert "structured background" in record.answer
    main(["deconvolve", "streaks.npy", "--kernel-size", "12", "12", "--starts", "1", "--noise", "white", "--out", "w"])
    white, ours = (read(here / name).tables["summary"]["activations"][0] for name in ("w", "run"))
    assert ours < white / 5


def test_frames_of_a_movie_share_kernels_and_movies_have_lasting_ones(here):
    frames = np.stack([TRUTH.image[:40, :40], TRUTH.image[30:70, 30:70]])
    np.save("frames.npy", frames)
    main(["deconvolve", "frames.npy", *SMALL, "--starts", "1", "--out", "run"])
    assert np.load(here / "run" / "deconvolved.npz")["activations"].shape == (2, 1, 40, 40)
    event = np.multiply.outer(np.exp(-np.arange(4) / 2), ring_kernels(1, 8)[0])
    movie = 0.01 * np.random.default_rng(0).standard_normal((20, 24, 24))
    for t, i, j in ((1, 2, 3), (6, 12, 10), (11, 4, 14), (14, 14, 2)):
        movie[t : t + 4, i : i + 8, j : j + 8] += event
    np.save("movie.npy", movie)
    main(["deconvolve", "movie.npy", "--kernel-size", "4", "8", "8", "--starts", "1", "--rate", "10", "--out", "m"])
    assert np.load(here / "m" / "deconvolved.npz")["kernels"].shape == (1, 4, 8, 8)
    assert set(listed(here / "m")[0]) >= {"frame", "row", "column", "seconds"}


def test_the_longer_side_of_a_table_is_time(here):
    np.save("wide.npy", np.arange(20.0).reshape(2, 10))
    np.save("tall.npy", np.arange(20.0).reshape(10, 2))
    assert read_signals_from(here / "wide.npy", axes=1).shape == (2, 10)
    assert read_signals_from(here / "tall.npy", axes=1)[1].tolist() == list(np.arange(1.0, 21.0, 2))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["absent.png", "--kernel-size", "8", "8"], "absent.png"),
        (["one.npy", "--kernel-size", "80", "80"], "a kernel smaller than"),
        (["one.npy", "--kernel-size", "72", "12"], "a kernel smaller than"),
        (["constant.npy", "--kernel-size", "8", "8"], "values that vary"),
        (["holes.npy", "--kernel-size", "8", "8"], "tightframe inpaint"),
        (["gap.csv", "--kernel-size", "8"], "finite values"),
        (["text.json", "--kernel-size", "8", "8"], "text.json"),
        (["damaged.png", "--kernel-size", "8", "8"], "damaged.png"),
        (["frames.npy", "--kernel-size", "8"], "two numbers for images"),
        (["one.npy", "--kernel-size", "8", "8", "8", "8"], "one number per axis"),
        (["one.npy", "--kernel-size", "8", "8", "--kernels", "0"], "kernels"),
        (["one.npy", "--kernel-size", "8", "8", "--alpha", "-1"], "penalty above zero"),
        (["one.npy", "--kernel-size", "8", "8", "--confidence", "1.5"], "confidence"),
        (["traces.npy", "--kernel-size", "8", "--background", "lines"], "images"),
    ],
)
def test_what_does_not_fit_is_refused(here, capsys, arguments, words):
    source = np.random.default_rng(0)
    np.save("constant.npy", np.full((40, 40), 3.0))
    holes = TRUTH.image.copy()
    holes[3, 4] = np.nan
    np.save("holes.npy", holes)
    gap = source.standard_normal((60, 2))
    gap[30, 0] = np.nan
    np.savetxt("gap.csv", gap, delimiter=",")
    (here / "text.json").write_text("{}")
    (here / "damaged.png").write_bytes(b"\x89PNG\r\n broken")
    np.save("frames.npy", source.standard_normal((3, 20, 20)))
    np.save("traces.npy", source.standard_normal((2, 100)))
    assert words in refused(capsys, "deconvolve", *arguments, "--out", "run")
    assert not (here / "run" / "record.json").exists()
