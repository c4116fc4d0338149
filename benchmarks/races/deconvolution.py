"""Blind deconvolution: channels and density for one long kernel, kernels for the short ones, calcium beside OASIS."""

from __future__ import annotations

import math
import time
import warnings
from importlib.metadata import PackageNotFoundError, version
from statistics import median

import numpy as np
import torch
from benchmarks.measuring import Report, arguments
from torch import Tensor

from tightframe.core.rng import generator
from tightframe.data.sparse import sparse_codes
from tightframe.dictionary.blind.multichannel import deconvolve_channels
from tightframe.dictionary.blind.short_and_sparse import deconvolve_short

EXACT = 1e-6


def main() -> None:
    options = arguments(__doc__).parse_args()
    torch.set_num_threads(1)
    report = Report("Blind deconvolution", "python -m benchmarks.races.deconvolution")
    report.say(
        "Errors are distances of unit kernels, least over shifts and signs. Everything in float64; CPU seconds of one "
        "call. No argument is tuned by row: penalties come from the measured noise, and starts are chosen by the "
        "information criterion."
    )
    deconvolve_channels(_channels(10, (16,), 0.2, 0)[1])  # what is imported on first use is not timed
    _multichannel(report, options.quick)
    _short_and_sparse(report, options.quick)
    _calcium(report, options.quick)
    report.finish("deconvolution_races", options)


def _multichannel(report: Report, quick: bool) -> None:
    report.say("Multichannel: circular signals of 200 points (or 10 x 10), Gaussian kernel, Bernoulli-Gaussian codes.")
    cases = [((200,), p, 0.25) for p in (5, 10, 20, 40, 80)] + [((200,), 50, t) for t in (0.1, 0.3, 0.4, 0.5)]
    cases.append(((10, 10), 100, 0.2))
    seeds = range(1 if quick else 10)
    rows = []
    for shape, channels, density in cases[3:5] if quick else cases:
        for loss in ("huber",) if quick else ("huber", "l3", "l4"):
            errors, seconds = [], []
            for seed in seeds:
                kernel, signals = _channels(channels, shape, density, seed)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    found, spent = _timed(lambda s=signals, n=seed, h=loss: deconvolve_channels(s, loss=h, seed=n))
                errors.append(_circular_error(found.kernel, kernel))
                seconds.append(spent)
            exact = sum(error < EXACT for error in errors)
            size = " x ".join(map(str, shape))
            name = f"{size}, p = {channels}, theta = {density}"
            report.curve(name, loss, [median(seconds)], [median(errors)], measure="error of the kernel")
            rows.append((size, channels, density, loss, f"{exact} of {len(errors)}", median(errors), median(seconds)))
    report.table(["signal", "p", "theta", "loss", "exact", "median error", "CPU s"], rows)


def _short_and_sparse(report: Report, quick: bool) -> None:
    report.say("Short and sparse: kernels of 100 points, 10,000 samples, theta = 100^(-3/4), noise 0.01, unit kernels.")
    rows = []
    seeds = range(1 if quick else 5)
    for name in ("randn",) if quick else ("randn", "AR(2), poles 0.95 and 0.8", "gaussian, sd 10", "gaussian, sd 5"):
        for positive in (True,) if quick else (True, False):
            errors, seconds, starts = [], [], []
            for seed in seeds:
                kernel = _kernel(name, 100, seed)
                values = "uniform" if positive else "rademacher"
                codes = sparse_codes((1, 10_000), 100**-0.75, values=values, seed=seed)
                signals = _convolved(kernel, codes) + 0.01 * _noise((1, 10_000), seed + 1)
                found, spent = _timed(lambda s=signals, p=positive: deconvolve_short(s, 100, positive=p))
                errors.append(_error(found.kernel, kernel))
                seconds.append(spent)
                starts.append(len(found.trace))
            kind = "x >= 0" if positive else "signed"
            rows.append((name, kind, median(errors), max(errors), median(seconds), median(starts)))
    report.table(["kernel", "codes", "median error", "largest error", "CPU s", "starts"], rows)


def _calcium(report: Report, quick: bool) -> None:
    try:
        oasis = version("oasis-deconv")
        from oasis.functions import deconvolve
    except (PackageNotFoundError, ImportError):
        oasis, deconvolve = "(not installed)", None
    report.say(
        "Calcium: 10,000 frames at 30 Hz, 165 events, kernel exp(-t/0.4 s) - exp(-t/0.05 s) with peak one. OASIS "
        f"{oasis} knows the family, an AR(2), and estimates its constants; ours is blind. Correlations of three-frame "
        "sums, at the best common shift of up to six frames, as no blind method can know where the kernel begins."
    )
    rows = []
    for noise, traces in ((0.1, 1),) if quick else ((0.1, 1), (0.3, 1), (0.3, 10)):
        ours, theirs, errors, seconds, peer_seconds = [], [], [], [], []
        for seed in range(1 if quick or traces > 1 else 5):
            kernel, codes, signals = _traces(noise, traces, seed)
            found, spent = _timed(lambda s=signals: deconvolve_short(s, 60, positive=True))
            ours += [_correlation(x, s) for x, s in zip(codes, found.activations, strict=True)]
            errors.append(_error(found.kernel, kernel))
            seconds.append(spent)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for signal, truth in zip(signals.numpy(), codes, strict=True) if deconvolve else ():
                    result, spent = _timed(lambda y=signal: deconvolve(y, g=(None, None), penalty=1))
                    theirs.append(_correlation(truth, torch.from_numpy(np.asarray(result[1]))))
                    peer_seconds.append(spent)
        rows.append(
            (
                noise,
                traces,
                median(ours),
                median(errors),
                median(seconds),
                median(theirs) if theirs else "–",
                traces * median(peer_seconds) if theirs else "–",
            )
        )
    columns = ["noise", "traces", "ours", "kernel error", "CPU s", "OASIS", "CPU s of OASIS"]
    report.table(columns, rows)


def _timed(work):
    start = time.process_time()
    result = work()
    return result, time.process_time() - start


def _noise(shape, seed: int) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def _channels(channels: int, shape, density: float, seed: int) -> tuple[Tensor, Tensor]:
    kernel = _noise(shape, seed + 100)
    kernel /= torch.linalg.vector_norm(kernel)
    return kernel, _convolved(kernel, sparse_codes((channels, *shape), density, seed=seed))


def _kernel(name: str, length: int, seed: int) -> Tensor:
    steps = torch.arange(1, length + 1, dtype=torch.float64)
    if name == "randn":
        kernel = _noise((length,), seed + 100)
    elif name.startswith("AR"):
        kernel = 0.95**steps - 0.8**steps
    else:
        kernel = torch.exp(-0.5 * ((steps - (length + 1) / 2) / float(name.rsplit(" ", 1)[1])) ** 2)
    return kernel / kernel.norm()


def _traces(noise: float, traces: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    steps = torch.arange(1, 61, dtype=torch.float64) / 30
    kernel = torch.exp(-steps / 0.4) - torch.exp(-steps / 0.05)
    kernel /= kernel.max()
    codes = sparse_codes((traces, 10_000), 165 / 10_000, values="one", seed=seed)
    return kernel, codes, _convolved(kernel, codes) + noise * _noise((traces, 10_000), seed + 1)


def _convolved(kernel: Tensor, codes: Tensor) -> Tensor:
    axes, shape = tuple(range(1, codes.ndim)), codes.shape[1:]
    response = torch.fft.rfftn(kernel, s=shape, dim=tuple(range(kernel.ndim)))
    return torch.fft.irfftn(torch.fft.rfftn(codes, dim=axes) * response, s=shape, dim=axes)


def _circular_error(found: Tensor, kernel: Tensor) -> float:
    correlation = torch.fft.ifftn(torch.fft.fftn(kernel) * torch.fft.fftn(found).conj()).real.flatten()
    best = int(correlation.abs().argmax())
    shift = [int(i) for i in np.unravel_index(best, tuple(kernel.shape))]
    aligned = found.roll(shift, tuple(range(found.ndim))) * correlation[best].sign()
    return float(torch.linalg.vector_norm(aligned - kernel))


def _error(found: Tensor, kernel: Tensor) -> float:
    length = 3 * len(kernel)
    padded = [torch.nn.functional.pad(k / k.norm(), (0, length - len(k))) for k in (found, kernel)]
    return _circular_error(*padded)


def _correlation(truth: Tensor, found: Tensor) -> float:
    sums = [np.convolve(values.numpy(), np.ones(3), "same") for values in (truth, found)]
    best = max(np.corrcoef(sums[0], np.roll(sums[1], shift))[0, 1] for shift in range(-6, 7))
    return float(best) if math.isfinite(best) else 0.0


if __name__ == "__main__":
    main()
