"""The record of a restored image: numbers beside thumbnails, and the atoms as a mosaic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tightframe.dictionary.images.fidelity import psnr, ssim
from tightframe.dictionary.images.pictures import Restored
from tightframe.runs.environment import describe
from tightframe.runs.pictures import encoded
from tightframe.runs.record import Cell, Panel, Record, table_of

_NAMES = {"dct": "fixed cosine dictionary", "learned": "learned dictionary"}


@dataclass(frozen=True)
class Restoration:
    """What is restored.

    Args:
        task: "denoise" or "inpaint".
        image: Name of the file.
        state: What is wrong with it, in a word or two.
        given: The degraded image, (height, width) or (channels, height, width).
        truth: The image before it was degraded, where that was done on purpose.
        missing: Share of missing pixels.
    """

    task: str
    image: str
    state: str
    given: Tensor
    truth: Tensor | None
    missing: float | None

    @property
    def limits(self) -> tuple[float, float]:
        """Values shown black and white: those of 8 bits where the image fits them."""
        whole = self.given if self.truth is None else self.truth
        low, high = float(whole.min()), float(whole.max())
        if low >= 0 and 1 < high <= 255:
            return 0.0, 255.0
        return (low, high) if low < high else (low, low + 1)


@dataclass(frozen=True)
class Attempt:
    """An image restored, and the seconds that took."""

    restored: Restored
    seconds: float


def record_of(job: Restoration, attempts: dict[str, Attempt], config: dict[str, Any]) -> Record:
    """The record of a restoration by several dictionaries."""
    rows = [_measured(job.state, job.given, job, None)]
    rows += [_measured(_NAMES[name], one.restored.image, job, one.seconds) for name, one in attempts.items()]
    shown = [(job.state, job.given)] if job.truth is None else [("truth", job.truth), (job.state, job.given)]
    shown += [(_NAMES[name], one.restored.image) for name, one in attempts.items()]
    pictures: list[dict[str, Cell]] = [{"what": what, "picture": _cell(image, job.limits)} for what, image in shown]
    learned = attempts["learned"].restored
    pictures.append({"what": "learned atoms", "picture": encoded(mosaic(learned.bases).round().astype(np.uint8))})
    trace = learned.solution.trace
    steps = [{"step": row["step"], "objective": row["objective"]} for row in trace]
    panel = Panel(
        kind="curves",
        title="Learning the dictionary",
        caption="Mean cost of a patch: what thresholding loses, plus the threshold squared per coefficient kept.",
        table="learning",
        x="step",
        y="objective",
    )
    verb = "removed from" if job.task == "denoise" else "filled in"
    return Record(
        name=job.task,
        title=f"{job.image}: {job.task}",
        question=f"How much of the {'noise is' if job.task == 'denoise' else 'image can be'} {verb} {job.image}?",
        answer=_answer(job, rows, attempts),
        config=config,
        environment=describe(),
        tables={"quality": table_of(rows), "pictures": table_of(pictures), "learning": table_of(steps)},
        panels=(panel,),
    )


def mosaic(bases: Tensor) -> np.ndarray:
    """Atoms (k, d, channels, size, size) side by side, each stretched to 0 to 255, mean grey being zero."""
    count, atoms, channels, size, _ = bases.shape
    largest = bases.abs().flatten(2).amax(dim=2).clamp_min(1e-12)[..., None, None, None]
    tiles = (127.5 + 127.5 * bases / largest).double()
    across = int(np.ceil(np.sqrt(atoms)))
    down = -(-atoms // across)
    page = torch.full((count, down * across, channels, size + 1, size + 1), 255.0, dtype=torch.float64)
    page[:, :atoms, :, :size, :size] = tiles
    page = page.view(count, down, across, channels, size + 1, size + 1)
    image = page.permute(1, 4, 0, 2, 5, 3).reshape(down * (size + 1), count * across * (size + 1), channels)
    if channels == 1:
        return image[..., 0].numpy()
    return (image if channels == 3 else image.mean(dim=2, keepdim=True).expand(-1, -1, 3)).numpy()


def _measured(what: str, image: Tensor, job: Restoration, seconds: float | None) -> dict[str, Cell]:
    row: dict[str, Cell] = {"image": what, "PSNR (dB)": None, "SSIM": None}
    if job.truth is not None:
        reach = job.limits[1] - job.limits[0]
        row["PSNR (dB)"] = psnr(image, job.truth, data_range=reach)
        row["SSIM"] = ssim(image, job.truth, data_range=reach) if min(image.shape[-2:]) > 10 else None
    if job.task == "denoise":
        row["removed (root mean square)"] = float((image - job.given).double().square().mean().sqrt())
    return row | {"seconds": seconds}


def _answer(job: Restoration, rows: list[dict[str, Cell]], attempts: dict[str, Attempt]) -> str:
    noise = attempts["learned"].restored.noise
    if job.task == "denoise":
        text = f"Noise of standard deviation {noise:.3g} was removed from {job.image}."
    else:
        text = f"{job.missing:.1%} of the pixels of {job.image} were filled in."
    if job.truth is None:
        return text
    before, fixed, learned = (row["PSNR (dB)"] for row in rows)
    return f"{text} PSNR {before:.2f} dB before, {learned:.2f} with the learned dictionary, {fixed:.2f} with the fixed."


def _cell(image: Tensor, limits: tuple[float, float]) -> str:
    low, high = limits
    pixels = ((image.double() - low) / (high - low)).clamp(0, 1).mul(255).round().byte()
    return encoded(pixels.numpy() if pixels.ndim == 2 else pixels.movedim(0, -1).numpy())
