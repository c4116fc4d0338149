"""Deconvolve an image, a movie or traces blindly: kernels, activation maps, reconstruction and a list of defects."""

from __future__ import annotations

import csv
import io
import math
import time
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tightframe.core.checks import check_count
from tightframe.core.errors import DegenerateError, InputError
from tightframe.core.solution import Solution
from tightframe.data.array_files import read_array, write_arrays
from tightframe.data.pictured.image_files import read_movie, write_image
from tightframe.dictionary.blind.deconvolution import ShortAndSparseDeconvolution
from tightframe.dictionary.convolutional.several_kernels import deconvolve_several
from tightframe.dictionary.images.background import likely_background, structured_level, without_background
from tightframe.dictionary.images.defects import Defects, find_defects
from tightframe.jobs.deconvolution_report import Deconvolution, Found, record_of, tiles
from tightframe.jobs.deconvolve_options import DeconvolveOptions
from tightframe.runs.console import progress
from tightframe.runs.record import Record
from tightframe.runs.store import RunDirectory, write_atomic
from tightframe.training.fabric import connect

_PLACES = ("out", "accelerator", "quiet")
# Activations per area of a kernel above which an image is full of them.
_FULL = 4.0
# Penalty where the background measures nothing.
_LEAST = 1e-12


@dataclass(frozen=True)
class _Fit:
    """What either estimator found, in one form."""

    kernels: Tensor
    maps: Tensor
    reconstruction: Tensor
    offset: tuple[int, ...]
    alpha: float
    solution: Solution


def deconvolve(options: DeconvolveOptions) -> Record:
    """Deconvolve the file that the options name; write what was found and its record.

    Raises:
        InputError: A file that cannot be read or is of another kind, NaN, a kernel larger than the signals, a number
            out of range. DegenerateError: A constant image or trace.
    """
    started, clock = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
    _check(options)
    given = read_signals_from(options.signals, axes=len(options.kernel_size), key=options.key)
    _check_fit(given, options)
    method = likely_background(given) if options.background == "auto" else options.background
    flat = without_background(given, method, options.kernel_size)
    config = {key: value for key, value in asdict(options).items() if key not in _PLACES}
    config |= {"signals": options.signals.name, "kernel_size": list(options.kernel_size)}
    with RunDirectory.create(options.out, config=config) as directory:
        device = connect(accelerator=options.accelerator).device
        with progress(2, "kernels, then defects", enabled=not options.quiet) as meter:
            fit, noise = _fitted(torch.from_numpy(flat).to(device), options)
            meter.advance(penalty=fit.alpha, activations=int(fit.maps.count_nonzero()))
            found = _found(flat, fit, options, rough=noise == "background")
            meter.advance(defects=sum(map(len, found.defects)))
        job = Deconvolution(options, method, noise, flat)
        _write(options.out, job, found)
        record = record_of(job, found, config)
        record = replace(record, name=options.out.resolve().name, started=started, seconds=time.perf_counter() - clock)
        directory.save_record(record)
    return record


def read_signals_from(path: Path, *, axes: int, key: str | None = None) -> np.ndarray:
    """Signals (n, *shape) with so many axes: traces, frames of images, or one movie.

    Raises:
        InputError: A file that cannot be read, of another kind, or with NaN other than padding at the end of traces.
    """
    if axes == 1:
        table = np.array(read_array(path, key=key), dtype=np.float64)
        if table.ndim not in (1, 2):
            raise InputError(
                f"a trace or a table of traces in {path}",
                got=f"shape {table.shape}",
                remedy="Give a kernel size of two numbers for images.",
            )
        traces = table[None] if table.ndim == 1 else table if table.shape[1] >= table.shape[0] else table.T
        whole = np.isfinite(traces).all(axis=0)
        # Tables of traces of several lengths are padded with NaN at the end.
        length = int(whole.argmin()) if not whole.all() else len(whole)
        signals = traces[:, :length] if not whole[length:].any() and length else traces
    else:
        movie = np.array(read_movie(path, key=key), dtype=np.float64)
        signals = movie if axes == 2 else movie[None]
    if not np.isfinite(signals).all():
        raise InputError(
            f"finite values in {path}",
            got=f"{int((~np.isfinite(signals)).sum())} NaN or infinite",
            remedy="Fill them in, an image with `tightframe inpaint`.",
        )
    return signals


def _check(options: DeconvolveOptions) -> None:
    if len(options.kernel_size) not in (1, 2, 3):
        raise InputError(
            "one number per axis of the kernel: 1 for traces, 2 for images, 3 for movies",
            got=f"--kernel-size {' '.join(map(str, options.kernel_size))}",
            remedy="Use --kernel-size 32 32.",
        )
    for side in options.kernel_size:
        check_count(side, "kernel_size", least=2)
    check_count(options.kernels, "kernels")
    if not 0 <= options.confidence < 1:
        raise InputError("a confidence in [0, 1)", got=repr(options.confidence), remedy="Use 0.9.")
    if options.rate is not None and not 0 < options.rate < math.inf:
        raise InputError("a positive rate", got=repr(options.rate), remedy="Leave the option out.")


def _check_fit(signals: np.ndarray, options: DeconvolveOptions) -> None:
    shape, size = signals.shape[1:], options.kernel_size
    if any(side >= length for side, length in zip(size, shape, strict=True)):
        raise InputError(
            f"a kernel smaller than {options.signals}, {' x '.join(map(str, shape))}",
            got=f"--kernel-size {' '.join(map(str, size))}",
            remedy="Use a smaller kernel; kernels recur, so that several should fit.",
        )
    constant = np.ptp(signals.reshape(len(signals), -1), axis=1) == 0
    if constant.any():
        raise DegenerateError(
            f"values that vary in {options.signals}",
            got=f"{int(constant.sum())} of {len(signals)} constant",
            remedy="Leave those out.",
        )


def _fitted(signals: Tensor, options: DeconvolveOptions) -> tuple[_Fit, str]:
    """The fit, and the kind of noise that its penalty is taken from."""
    if options.alpha is not None:
        return _fit(signals, options, options.alpha), "given"
    if options.noise != "background":
        fit = _fit(signals, options, None)
        area = math.prod(options.kernel_size)
        full = int(fit.maps.count_nonzero()) * area > _FULL * options.kernels * signals.numel()
        if options.noise == "white" or signals.ndim == 2 or not full:
            return fit, "white"
    level = float(np.median(structured_level(signals.cpu().numpy(), options.kernel_size)))
    # One kernel is coded in rounds that drop activations below twice the penalty, several ones in rounds that do not.
    return _fit(signals, options, max(level, _LEAST) * (1.0 if options.kernels == 1 else 2.0)), "background"


def _fit(signals: Tensor, options: DeconvolveOptions, alpha: float | None) -> _Fit:
    return _one_kernel(signals, options, alpha) if options.kernels == 1 else _several(signals, options, alpha)


def _one_kernel(signals: Tensor, options: DeconvolveOptions, alpha: float | None) -> _Fit:
    model = ShortAndSparseDeconvolution(
        options.kernel_size,
        alpha="auto" if alpha is None else alpha,
        positive=options.positive,
        # The start of a trace shows the decay of what came before; an event cut by the border of an image is better
        # continued at the other side than lost.
        boundary="valid" if signals.ndim == 2 else "circular",
        n_starts=options.starts,
        seed=options.seed,
    ).fit(signals)
    offset = (0,) * len(options.kernel_size)
    maps, penalty = model.activations_[:, None], float(model.solution_.penalty.median())
    return _Fit(model.components_, maps, model.reconstruction_, offset, penalty, model.solution_)


def _several(signals: Tensor, options: DeconvolveOptions, alpha: float | None) -> _Fit:
    found = deconvolve_several(
        signals,
        options.kernels,
        options.kernel_size,
        alpha=alpha,
        positive=options.positive,
        n_starts=options.starts,
        seed=options.seed,
    )
    offset = tuple(side - 1 for side in options.kernel_size)
    return _Fit(found.kernels, found.maps, found.reconstruction, offset, float(found.alpha), found)


def _found(flat: np.ndarray, fit: _Fit, options: DeconvolveOptions, *, rough: bool) -> Found:
    kernels, maps, clean = (values.cpu().numpy() for values in (fit.kernels, fit.maps, fit.reconstruction))
    trace, shape = flat.ndim == 2, np.array(flat.shape[1:])
    defects = []
    for signal, rebuilt, one in zip(flat, clean, maps, strict=True):
        found = find_defects(
            one,
            kernels,
            residual=signal - rebuilt,
            offset=fit.offset,
            separation=tuple(max(1, side // 3) for side in options.kernel_size) if rough else 1,
            anchor="start" if trace else "centre",
            confidence=options.confidence,
        )
        defects.append(_inside(found, shape, wraps=not trace and not any(fit.offset)))
    return Found(kernels, maps, clean, tuple(defects), fit.alpha, fit.solution)


def _inside(found: Defects, shape: np.ndarray, *, wraps: bool) -> Defects:
    if wraps:
        return replace(found, places=np.mod(found.places, shape))
    return found.taken(((found.places >= 0) & (found.places <= shape - 1)).all(axis=1))


def _write(out: Path, job: Deconvolution, found: Found) -> None:
    """Numbers as npz, the list as csv, pictures as png."""
    arrays = {"kernels": found.kernels, "activations": found.maps, "reconstruction": found.reconstruction}
    write_arrays(out / "deconvolved.npz", arrays | {"signals": job.signals})
    rows = found.rows(job.options.rate)
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, fieldnames=found.columns(job.options.rate))
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(out / "defects.csv", table.getvalue())
    if found.kernels.ndim == 3:
        write_image(out / "kernels.png", tiles(found.kernels), limits=(0, 255))
        for name, image in (("signals", job.signals[0]), ("reconstruction", found.reconstruction[0])):
            write_image(out / f"{name}.png", image, limits=job.limits)
