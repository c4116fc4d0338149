"""Denoise an image or fill in its missing pixels, with a learned dictionary and the fixed cosine one beside it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.data.array_files import write_arrays
from tightframe.data.pictured.image_files import read_image, write_image
from tightframe.dictionary.images.inpainting import inpaint
from tightframe.dictionary.images.pictures import Restored
from tightframe.dictionary.images.restoration import denoise
from tightframe.jobs.restore_options import DenoiseOptions, InpaintOptions
from tightframe.jobs.restore_report import Attempt, Restoration, mosaic, record_of
from tightframe.runs.console import watched
from tightframe.runs.record import Record
from tightframe.runs.store import RunDirectory
from tightframe.training.fabric import connect

_PLACES = ("out", "accelerator", "quiet")


def denoise_image(options: DenoiseOptions) -> Record:
    """Denoise the image that the options name; write the results and their record.

    Raises:
        InputError: An image that cannot be read, or as for `denoise`.
    """
    pixels = _pixels(options.image, options.key)
    if not np.isfinite(pixels).all():
        raise InputError(
            f"finite pixels in {options.image}",
            got=f"{int((~np.isfinite(pixels)).sum())} NaN or infinite",
            remedy="Fill them in with `tightframe inpaint`.",
        )
    truth, given = None, torch.from_numpy(pixels)
    if options.add_noise is not None:
        if not options.add_noise > 0:
            raise InputError("positive noise", got=f"--add-noise {options.add_noise}", remedy="Leave the option out.")
        truth = given
        given = truth + options.add_noise * torch.randn(truth.shape, generator=generator(options.seed))

    def attempt(name: str, device: torch.device) -> Restored:
        return denoise(
            given.to(device),
            noise=options.noise,
            dictionary=name,
            patch_size=options.patch_size,
            bases=options.bases,
            samples=options.samples,
            seed=options.seed,
        )

    job = Restoration("denoise", options.image.name, "noisy", given, truth, None)
    return _carried_out(job, options, attempt)


def inpaint_image(options: InpaintOptions) -> Record:
    """Fill in the missing pixels of the image that the options name; write the results and their record.

    Raises:
        InputError: An image or a mask that cannot be read, neither --mask nor --remove nor NaN, or as for `inpaint`.
    """
    pixels = _pixels(options.image, options.key)
    missing = ~np.isfinite(pixels).all(axis=0) if pixels.ndim == 3 else ~np.isfinite(pixels)
    truth = None
    if options.mask is not None:
        missing = missing | _mask(options.mask, pixels.shape[-2:])
    if options.remove is not None:
        if not 0 < options.remove < 1 or missing.any():
            raise InputError(
                "a share between 0 and 1 of a whole image",
                got=f"--remove {options.remove}, {int(missing.sum())} pixels missing already",
                remedy="Use --remove 0.5 without --mask.",
            )
        truth = torch.from_numpy(pixels)
        missing = (torch.rand(pixels.shape[-2:], generator=generator(options.seed)) < options.remove).numpy()
    if not missing.any() or missing.all():
        raise InputError(
            "missing pixels and known ones",
            got="all missing" if missing.all() else "none missing",
            remedy="Mark the missing ones with --mask FILE (not zero there), or try --remove 0.5.",
        )
    holes = torch.from_numpy(missing)
    given = torch.from_numpy(pixels).masked_fill(holes, float(pixels[..., ~missing].min()))

    def attempt(name: str, device: torch.device) -> Restored:
        return inpaint(
            given.to(device),
            holes.to(device),
            noise=options.noise,
            dictionary=name,
            patch_size=options.patch_size,
            rounds=options.rounds,
            samples=options.samples,
            seed=options.seed,
        )

    job = Restoration("inpaint", options.image.name, "with holes", given, truth, float(missing.mean()))
    return _carried_out(job, options, attempt)


def _carried_out(
    job: Restoration,
    options: DenoiseOptions | InpaintOptions,
    attempt: Callable[[str, torch.device], Restored],
) -> Record:
    """Both dictionaries in turn, and what they leave behind."""
    started, clock = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
    config = {key: value for key, value in asdict(options).items() if key not in _PLACES}
    config |= {key: value.name for key, value in config.items() if isinstance(value, Path)}
    with RunDirectory.create(options.out, config=config) as directory:
        device = connect(accelerator=options.accelerator).device
        attempts, names = {}, ("dct", "learned")
        for name in watched(names, len(names), f"{job.task}, by two dictionaries", enabled=not options.quiet):
            begun = time.perf_counter()
            attempts[name] = Attempt(_at_home(attempt(name, device)), time.perf_counter() - begun)
        _write(options.out, job, attempts)
        record = record_of(job, attempts, config)
        record = replace(record, name=options.out.resolve().name, started=started, seconds=time.perf_counter() - clock)
        directory.save_record(record)
    return record


def _at_home(restored: Restored) -> Restored:
    return replace(restored, image=restored.image.cpu(), pilot=restored.pilot.cpu(), bases=restored.bases.cpu())


def _write(out: Path, job: Restoration, attempts: dict[str, Attempt]) -> None:
    """Images as png between the limits of the pixels, and everything as numbers."""
    limits = job.limits
    for name, one in attempts.items():
        write_image(out / f"{name}.png", _last(one.restored.image), limits=limits)
    write_image(out / f"{job.state.replace(' ', '-')}.png", _last(job.given), limits=limits)
    atoms = attempts["learned"].restored.bases
    write_image(out / "atoms.png", mosaic(atoms), limits=(0, 255))
    arrays = {name: _last(one.restored.image) for name, one in attempts.items()}
    write_arrays(out / "restored.npz", arrays | {"bases": atoms.numpy()})


def _last(image: Tensor) -> np.ndarray:
    """Channels after height and width, as files have them."""
    return image.numpy() if image.ndim == 2 else image.movedim(0, -1).numpy()


def _pixels(path: Path, key: str | None) -> np.ndarray:
    """(height, width) or (channels, height, width), float64."""
    pixels = read_image(path, key=key)
    return np.ascontiguousarray(pixels if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0))


def _mask(path: Path, shape: tuple[int, int]) -> np.ndarray:
    values = read_image(path)
    mask = values != 0 if values.ndim == 2 else (values != 0).any(axis=-1)
    if mask.shape != shape:
        raise InputError(
            f"a mask of the image's height and width, {shape[0]} x {shape[1]}",
            got=f"{mask.shape[0]} x {mask.shape[1]} in {path}",
            remedy="Save one that is not zero where a pixel of this image is missing.",
        )
    return mask
