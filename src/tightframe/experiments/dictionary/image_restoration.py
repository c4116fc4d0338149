"""D10: dictionaries learned on an image restore it better than a fixed one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tightframe.core.rng import generator
from tightframe.data.pictured.reference_images import reference_image
from tightframe.dictionary.images.fidelity import psnr, ssim
from tightframe.dictionary.images.inpainting import inpaint
from tightframe.dictionary.images.restoration import denoise
from tightframe.experiments.catalog import entry
from tightframe.experiments.dictionary.standard_denoisers import DENOISERS, denoised_by
from tightframe.experiments.study import Findings, Study, Sweep
from tightframe.runs.record import Cell, Claim, Panel, table_of

_SOURCE = "Q21, first half: denoising, restoration, super-resolution"
# Images that come with scikit-learn.
_BUNDLED = ("china", "flower")
_DENOISE, _INPAINT, _MAGNIFY = "denoising", "inpainting", "magnification"

Row = dict[str, Cell]


@dataclass(frozen=True)
class Config:
    """What is restored.

    Args:
        images: Names of test images, or china and flower, which need no files; in grey.
        crop: Side of the square in the middle that is used; None for all of it.
        noises: Standard deviations of the noise, for pixels of 0 to 255.
        missing: Shares of pixels that are missing.
        magnify: Also double the height and width from every second pixel.
        peers: Other denoisers to put beside.
        samples: Patches to learn from.
        rounds: Of learning while pixels are filled in.
        seed: Of noise, missing pixels and patches.
    """

    images: tuple[str, ...] = _BUNDLED
    crop: int | None = 128
    noises: tuple[float, ...] = (25.0,)
    missing: tuple[float, ...] = (0.5,)
    magnify: bool = False
    peers: tuple[str, ...] = ("non-local means", "wavelets")
    samples: int = 10_000
    rounds: int = 2
    seed: int = 0


_FULL = {"noises": (15.0, 25.0, 50.0), "magnify": True, "peers": tuple(DENOISERS), "samples": 20_000, "rounds": 3}
_LEAST = ("barbara", "camera", "peppers")
_ALL = (*_LEAST, "cameraman", "starfish", "monarch", "airplane", "boat", "brick", "astronaut", "chelsea")
PRESETS = {
    "smoke": Config(),
    "quick": Config(images=_LEAST, crop=256, missing=(0.25, 0.5, 0.8), **_FULL),
    "paper": Config(images=_ALL, crop=None, missing=(0.25, 0.5, 0.8), **_FULL),
}


@dataclass(frozen=True)
class Case:
    """One image, degraded in one way.

    Args:
        task: What has to be done.
        image: Its name.
        level: Noise, or share of missing pixels.
        config: The rest.
        root: Folder of the data sets.
    """

    task: Literal["denoising", "inpainting", "magnification"]
    image: str
    level: float
    config: Config
    root: Path | None


def investigate(config: Config, sweep: Sweep) -> Findings:
    """Every image at every level by every method; then the least gain of learning."""
    cases = [Case(_DENOISE, *pair, config, sweep.data_root) for pair in product(config.images, config.noises)]
    cases += [Case(_INPAINT, *pair, config, sweep.data_root) for pair in product(config.images, config.missing)]
    if config.magnify:
        cases += [Case(_MAGNIFY, image, 0.75, config, sweep.data_root) for image in config.images]
    rows = [row for found in sweep(restored, cases) for row in found]
    claims = (
        *_denoising_claims(rows),
        _least(rows, _INPAINT, "PSNR (dB)", "fixed cosine", "D10.inpainting", "fills in missing pixels better than"),
        _least(rows, _MAGNIFY, "PSNR (dB)", "fixed cosine", "D10.magnification", "doubles an image better than"),
    )
    return Findings(claims, _answer(rows), {"restored": table_of(rows), "gains": table_of(_gains(rows))}, _panels(rows))


def restored(case: Case) -> list[Row]:
    """Rows of the table: the degraded image, and every method."""
    truth = picture(case.image, case.config.crop, case.root)
    draws = generator(case.config.seed)
    if case.task == _DENOISE:
        given = truth + case.level * torch.randn(truth.shape, generator=draws)
        return [_row(case, "none", given, truth, 0.0), *_denoised(case, given, truth)]
    if case.task == _INPAINT:
        holes = torch.rand(truth.shape, generator=draws) < case.level
        return [_row(case, "none", truth.masked_fill(holes, 0.0), truth, 0.0), *_filled(case, holes, truth)]
    holes = torch.ones(truth.shape, dtype=torch.bool)
    holes[::2, ::2] = False
    begun = time.process_time()
    doubled = _bicubic(truth[::2, ::2], truth.shape)
    return [_row(case, "bicubic", doubled, truth, time.process_time() - begun), *_filled(case, holes, truth)]


def picture(name: str, crop: int | None, root: Path | None) -> Tensor:
    """A grey image of 0 to 255, float32, or the square in its middle."""
    if name in _BUNDLED:
        from sklearn.datasets import load_sample_image

        pixels = load_sample_image(f"{name}.jpg").astype(np.float64)
    else:
        pixels = reference_image(name, root=root)
    if pixels.ndim == 3:
        pixels = pixels @ np.array([0.299, 0.587, 0.114])
    if crop is not None:
        top, left = (max(0, (side - crop) // 2) for side in pixels.shape)
        pixels = pixels[top : top + crop, left : left + crop]
    return torch.from_numpy(np.ascontiguousarray(pixels, dtype=np.float32))


def _denoised(case: Case, given: Tensor, truth: Tensor) -> list[Row]:
    rows = []
    options = {"noise": case.level, "samples": case.config.samples, "seed": case.config.seed}
    for method, name in (("fixed cosine", "dct"), ("learned", "learned")):
        begun = time.process_time()
        image = denoise(given, dictionary=name, **options).image
        rows.append(_row(case, method, image, truth, time.process_time() - begun))
    for peer in case.config.peers:
        begun = time.process_time()
        image = denoised_by(peer, given.double().numpy() / 255, case.level / 255)
        if image is None:
            rows.append({**_row(case, peer, given, truth, 0.0), "PSNR (dB)": None, "SSIM": None, "CPU (s)": None})
            rows[-1]["note"] = "not installed"
        else:
            rows.append(_row(case, peer, torch.from_numpy(255 * image), truth, time.process_time() - begun))
    return rows


def _filled(case: Case, holes: Tensor, truth: Tensor) -> list[Row]:
    rows = []
    for method, name in (("fixed cosine", "dct"), ("learned", "learned")):
        begun = time.process_time()
        options = {"rounds": case.config.rounds, "samples": case.config.samples, "seed": case.config.seed}
        image = inpaint(truth.masked_fill(holes, 0.0), holes, dictionary=name, **options).image
        rows.append(_row(case, method, image, truth, time.process_time() - begun))
    return rows


def _row(case: Case, method: str, image: Tensor, truth: Tensor, seconds: float) -> Row:
    numbers = {"PSNR (dB)": psnr(image, truth), "SSIM": ssim(image, truth), "CPU (s)": seconds}
    return {"task": case.task, "image": case.image, "level": case.level, "method": method, **numbers}


def _bicubic(small: Tensor, shape: torch.Size) -> Tensor:
    """Cubic interpolation through the pixels kept, the first of which is the first of the image."""
    grid = [torch.arange(side, dtype=small.dtype) / 2 for side in shape]
    places = [2 * axis / (side - 1) - 1 for axis, side in zip(grid, small.shape, strict=True)]
    rows, columns = torch.meshgrid(*places, indexing="ij")
    flow = torch.stack([columns, rows], dim=-1)[None]
    return functional.grid_sample(small[None, None], flow, mode="bicubic", padding_mode="border", align_corners=True)[
        0, 0
    ]


def _gains(rows: Sequence[Row]) -> list[Row]:
    """What the learned dictionary gains over every other method."""
    learned = {(row["task"], row["image"], row["level"]): row for row in rows if row["method"] == "learned"}
    gains = []
    for row in rows:
        if row["method"] in ("learned", "none") or row["PSNR (dB)"] is None:
            continue
        best = learned[row["task"], row["image"], row["level"]]
        more = {name: best[name] - row[name] for name in ("PSNR (dB)", "SSIM")}
        gains.append({key: row[key] for key in ("task", "image", "level")} | {"over": row["method"], **more})
    return gains


def _denoising_claims(rows: Sequence[Row]) -> list[Claim]:
    better = "removes noise better than"
    return [
        _least(rows, _DENOISE, "PSNR (dB)", "fixed cosine", "D10.denoising", better),
        _least(rows, _DENOISE, "SSIM", "fixed cosine", "D10.denoising.ssim", better),
        _least(rows, _DENOISE, "PSNR (dB)", "non-local means", "D10.denoising.nlm", better),
        _least(rows, _DENOISE, "PSNR (dB)", "wavelets", "D10.denoising.wavelets", better),
    ]


def _least(rows: Sequence[Row], task: str, what: str, other: str, name: str, verb: str) -> Claim:
    """A claim that the learned dictionary gains over another method on every image at every level."""
    gains = [row[what] for row in _gains(rows) if (row["task"], row["over"]) == (task, other)]
    against = "the fixed cosine dictionary" if other == "fixed cosine" else other
    missing = "needs a larger preset" if task == _MAGNIFY else "needs scikit-image"
    return Claim(
        id=name,
        statement=f"A learned dictionary {verb} {against}: least gain in {what}",
        source=_SOURCE,
        expected=0.0,
        observed=min(gains, default=None),
        relation=">=",
        note=f"{len(gains)} pairs of image and level, median {np.median(gains):.3g}" if gains else missing,
    )


def _answer(rows: Sequence[Row]) -> str:
    parts = []
    for task, levels in ((_DENOISE, "noise"), (_INPAINT, "missing pixels"), (_MAGNIFY, "magnification")):
        gains = [row["PSNR (dB)"] for row in _gains(rows) if (row["task"], row["over"]) == (task, "fixed cosine")]
        if gains:
            parts.append(f"{levels}: {min(gains):.2f} to {max(gains):.2f} dB")
    return f"What learning gains over the fixed cosine dictionary, in PSNR: {'; '.join(parts)}."


def _panels(rows: Sequence[Row]) -> tuple[Panel, ...]:
    tasks = list(dict.fromkeys(row["task"] for row in rows if row["task"] != _MAGNIFY))
    captions = {
        _DENOISE: "By standard deviation of the noise; 'none' is the noisy image.",
        _INPAINT: "By share of missing pixels; 'none' has zeros in their place.",
    }
    return tuple(
        Panel(
            kind="curves",
            title=f"{task.capitalize()} by method",
            caption=f"PSNR in decibels. {captions[task]}",
            table="restored",
            x="level",
            y="PSNR (dB)",
            color="method",
            facet="image",
            where={"task": task},
        )
        for task in tasks
    )


EXPERIMENT = Study(entry("image-restoration"), PRESETS, investigate)
