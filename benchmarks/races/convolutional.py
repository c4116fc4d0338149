"""Convolutional dictionary learning beside SPORCO: from one start, from the default starts, and per iteration."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from benchmarks.measuring import Report, arguments, cpu_seconds
from torch import Tensor

from tightframe.core.errors import MissingDependencyError
from tightframe.core.rng import generator
from tightframe.data.sparse import sparse_codes
from tightframe.dictionary.convolutional.bilinear import bilinear_lasso
from tightframe.dictionary.convolutional.convolution import Convolution
from tightframe.dictionary.convolutional.convolutional import ConvolutionalDictionaryLearning
from tightframe.dictionary.convolutional.descent import Descent, unit_kernels
from tightframe.dictionary.convolutional.lifting import lifted_bilinear_lasso
from tightframe.dictionary.convolutional.shifts import match_kernels
from tightframe.dictionary.convolutional.starts import random_kernels

ALPHA = 0.02
# An objective near that of the truth, which kernels that fade towards their edges let a narrow search reach.
START_BAR = 30.5
# The image of this race, where TIGHTFRAME_DATA has it, and the penalty used for it.
IMAGE, IMAGE_ALPHA = "images/set12_09.png", 0.05
IMAGE_BARS = (28.0, 27.5, 27.0, 26.5)


@dataclass(frozen=True)
class Run:
    """What a contender reached: objectives with the CPU seconds spent until then, and its kernels."""

    objectives: Sequence[float]
    seconds: Sequence[float]
    kernels: Tensor

    def until(self, value: float) -> float | str:
        """CPU seconds until the objective was this low."""
        pairs = zip(self.objectives, self.seconds, strict=True)
        return next((spent for objective, spent in pairs if objective <= value), "not reached")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--part", choices=sorted(_PARTS), help="run one part only")
    options = parser.parse_args()
    torch.set_num_threads(1)
    report = Report("Convolutional dictionary learning", "python -m benchmarks.races.convolutional")
    report.say(
        "Float32 on both sides, objective 1/2 |y - sum a * x|^2 + alpha |x|_1, kernels of norm one, circular border. "
        "SPORCO has no stopping tolerance and its default step for the kernels does not converge here; it is given by "
        "hand the step 1 / L written beside it (ADMM for the maps, proximal gradient for the kernels) and an iteration "
        "limit. CPU seconds of all threads; an iteration's share of them is that of its share of the wall clock."
    )
    for name, part in _PARTS.items():
        if options.part in (None, name):
            part(report, options.quick)
    report.finish(f"convolutional_{options.part or 'races'}", options)


def synthetic(size: int, count: int, seed: int, *, fading: bool = False) -> tuple[Tensor, Tensor]:
    """A signal of `count` random kernels of 11 x 11 at density 0.003 with noise 0.01, and the kernels.

    With `fading` the kernels are multiplied by a Hann window: a shift by a pixel then costs little.
    """
    kernels = torch.randn((count, 1, 11, 11), generator=generator(seed), dtype=torch.float64)
    if fading:
        taper = torch.hann_window(13, periodic=False, dtype=torch.float64)[1:-1]
        kernels = kernels * taper[:, None] * taper
    kernels = unit_kernels(kernels)
    maps = sparse_codes((1, count, size, size), 0.003, seed=1000 + seed)
    signals = Convolution((size, size), (11, 11), dtype=torch.float64).synthesize(kernels, maps)
    noise = torch.randn(signals.shape, generator=generator(2000 + seed), dtype=torch.float64)
    return (signals + 0.01 * noise).float(), kernels.float()


def _one_start(report: Report, quick: bool) -> None:
    size, count, rounds = (64, 3, 60) if quick else (256, 8, 1000)
    report.say(
        f"{count} kernels of 11 x 11 under a Hann window, {size} x {size}, from one random start of 11 x 11. "
        "`tightframe, widened` is given the same start and widens its windows by itself; its objective counts from "
        "where kernels are 11 x 11 again."
    )
    rows = []
    for seed in range(1 if quick else 3):
        signals, kernels = synthetic(size, count, seed, fading=True)
        start = random_kernels(count, 1, (11, 11), seed=5000 + seed, like=signals)
        runs = {
            "tightframe": _ours(signals, start, ALPHA, rounds),
            "tightframe, widened": _widened(signals, start, ALPHA, rounds),
            "SPORCO, L = 500": _sporco(signals, start, ALPHA, 500.0, 20 if quick else 300),
        }
        ends = [run.objectives[-1] for run in runs.values() if isinstance(run, Run)]
        bars = [1.1 * max(ends), 1.01 * max(ends), max(ends), START_BAR]
        _curves(report, f"{count} kernels of 11 x 11, start {seed}", runs)
        for name, run in runs.items():
            if not isinstance(run, Run):
                rows.append((seed, name, run, *[""] * 6))
                continue
            similarity = match_kernels(run.kernels, kernels).similarity
            least = f"{similarity.mean():.3f} / {similarity.min():.3f}"
            rows.append((seed, name, run.objectives[-1], run.seconds[-1], least, *map(run.until, bars)))
    columns = ["start", "solver", "objective", "CPU s", "match mean / min", "s to 1.1 E", "s to 1.01 E", "s to E"]
    columns.append(f"s to {START_BAR:g}")
    report.say("E is the larger of the two final objectives.")
    report.table(columns, rows)


def _default_starts(report: Report, quick: bool) -> None:
    size, count = (64, 3) if quick else (256, 8)
    signals, kernels = synthetic(size, count, 0)
    rows = []
    for penalty in (ALPHA, "auto"):
        matches, spent, ends = [], [], []
        for seed in range(2 if quick else 10):
            model = ConvolutionalDictionaryLearning(count, (11, 11), alpha=penalty, seed=seed)
            begun = time.process_time()
            model.fit(signals)
            spent.append(time.process_time() - begun)
            matches.append(float(match_kernels(model.components_, kernels).similarity.min()))
            ends.append(model.solution_.status.outcome)
        good = sum(value >= 0.99 for value in matches)
        rows.append((penalty, f"{good} of {len(matches)}", f"{min(matches):.5f}", median(spent), max(spent), set(ends)))
    report.say("The estimator with its defaults: starts at windows of the data, nothing tuned.")
    report.table(["alpha", "least match >= .99", "worst match", "CPU s, median", "CPU s, most", "status"], rows)


def _image(report: Report, quick: bool) -> None:
    folder = os.environ.get("TIGHTFRAME_DATA")
    path = Path(folder) / IMAGE if folder else None
    if path is None or not path.is_file():
        report.say(f"The natural image was not run: TIGHTFRAME_DATA has no {IMAGE}.")
        return
    from PIL import Image

    image = torch.from_numpy(np.asarray(Image.open(path).convert("L")).astype(np.float64) / 255)
    side = 64 if quick else 256
    signals = _high_passed(image[128 : 128 + side, 128 : 128 + side]).float()[None, None]
    count = 4 if quick else 32
    report.say(f"A {side} x {side} crop of {IMAGE}, high-passed, {count} kernels of 8 x 8, alpha {IMAGE_ALPHA}.")
    rows = []
    for seed in range(1 if quick else 3):
        start = random_kernels(count, 1, (8, 8), seed=5000 + seed, like=signals)
        runs = {
            "tightframe": _ours(signals, start, IMAGE_ALPHA, 20 if quick else 200),
            "SPORCO, L = 100": _sporco(signals, start, IMAGE_ALPHA, 100.0, 5 if quick else 150),
        }
        ends = [run.objectives[-1] for run in runs.values() if isinstance(run, Run)]
        bars = (1.1 * max(ends), 1.01 * max(ends), max(ends), *IMAGE_BARS)
        _curves(report, f"natural image, {count} kernels of 8 x 8, start {seed}", runs)
        for name, run in runs.items():
            found = (run.objectives[-1], run.seconds[-1], *map(run.until, bars)) if isinstance(run, Run) else (run,)
            rows.append((seed, name, *found))
    columns = ["start", "solver", "objective", "CPU s", "s to 1.1 E", "s to 1.01 E", "s to E"]
    report.table([*columns, *(f"s to {bar:g}" for bar in IMAGE_BARS)], rows)


def _iterations(report: Report, quick: bool) -> None:
    report.say("One iteration beside the transforms that it needs: maps and padded kernels, there and back.")
    rows = []
    for size, count, kernel in ((64, 3, 11),) if quick else ((256, 8, 11), (256, 8, 31), (256, 32, 8)):
        signals, _ = synthetic(size, count, 0)
        kernels = random_kernels(count, 1, (kernel, kernel), like=signals)
        operator = Convolution((size, size), (kernel, kernel))
        maps = torch.zeros(1, count, size, size)
        settings = {"bias": False, "positive": False, "rank_one": False, "momentum": 0.97}
        descent = Descent(operator, signals, kernels, maps, **settings)
        spectrum = torch.fft.rfft2(maps)

        def bare(maps=maps, kernels=kernels, spectrum=spectrum, size=size):
            torch.fft.rfft2(maps), torch.fft.rfft2(kernels, s=(size, size))
            torch.fft.irfft2(spectrum, s=(size, size)), torch.fft.irfft2(spectrum, s=(size, size))

        for _ in range(20):  # past the first restarts
            descent.advance(ALPHA)
        pairs = [
            (cpu_seconds(lambda d=descent: d.advance(ALPHA)), cpu_seconds(bare)) for _ in range(5 if quick else 40)
        ]
        ours, theirs = median(a for a, _ in pairs), median(b for _, b in pairs)
        rows.append((f"{count} of {kernel} x {kernel}, {size} x {size}", 1e3 * ours, 1e3 * theirs, ours / theirs))
    report.table(["problem", "iteration, ms", "bare transforms, ms", "ratio"], rows)


def _curves(report: Report, problem: str, runs: dict[str, Run | str]) -> None:
    for name, run in runs.items():
        if isinstance(run, Run):
            report.curve(problem, name, run.seconds, run.objectives, measure="objective")


def _ours(signals: Tensor, start: Tensor, alpha: float, rounds: int) -> Run:
    begun = time.process_time()
    found = bilinear_lasso(signals, start, alpha=alpha, max_iterations=rounds, tolerance=1e-5)
    spent = time.process_time() - begun
    walls = found.trace["seconds"]
    return Run(found.trace["objective"], [spent * wall / walls[-1] for wall in walls], found.kernels)


def _widened(signals: Tensor, start: Tensor, alpha: float, rounds: int) -> Run:
    begun = time.process_time()
    found = lifted_bilinear_lasso(signals, start, alpha=alpha, max_iterations=rounds)
    spent = time.process_time() - begun
    last = found.trace["seconds"][-1]
    rows = [row for row in found.trace if row["kernel size"] == start[0, 0].numel()]
    return Run([row["objective"] for row in rows], [spent * row["seconds"] / last for row in rows], found.kernels)


def _sporco(signals: Tensor, start: Tensor, alpha: float, bound: float, rounds: int) -> Run | str:
    try:
        learner = _learner(signals, start, alpha, bound, rounds)
    except MissingDependencyError:
        return "not installed"
    begun = time.process_time()
    learner.solve()
    spent = time.process_time() - begun
    found = learner.getitstat()
    kernels = torch.from_numpy(np.array(learner.getdict()).squeeze().transpose(2, 0, 1)).float()[:, None]
    return Run(list(found.ObjFun), [spent * wall / found.Time[-1] for wall in found.Time], kernels)


def _learner(signals: Tensor, start: Tensor, alpha: float, bound: float, rounds: int) -> object:
    try:
        from sporco.dictlrn.cbpdndl import ConvBPDNDictLearn
    except ImportError as error:
        raise MissingDependencyError("sporco for this race", got="none", remedy="pip install sporco") from error
    kinds = {"xmethod": "admm", "dmethod": "pgm"}
    settings = {
        "Verbose": False,
        "MaxMainIter": rounds,
        "CBPDN": {"DataType": np.float32},
        "CCMOD": {"L": bound, "DataType": np.float32},
    }
    options = ConvBPDNDictLearn.Options(settings, **kinds)
    kernels = start[:, 0].numpy().transpose(1, 2, 0)
    return ConvBPDNDictLearn(kernels, signals[0, 0].numpy(), alpha, options, dimK=0, **kinds)


def _high_passed(image: Tensor) -> Tensor:
    """Image less its smooth part, min |s|^2 strength of its gradient, with reflected borders."""
    pad = 16
    wide = torch.nn.functional.pad(image[None, None], (pad,) * 4, mode="reflect")[0, 0]
    rows, columns = (torch.fft.fftfreq(length, dtype=torch.float64) for length in wide.shape)
    slopes = 4 * (torch.sin(torch.pi * rows)[:, None] ** 2 + torch.sin(torch.pi * columns) ** 2)
    smooth = torch.fft.ifft2(torch.fft.fft2(wide) / (1 + 5 * slopes)).real
    return (wide - smooth)[pad:-pad, pad:-pad]


_PARTS = {"start": _one_start, "default": _default_starts, "image": _image, "iteration": _iterations}

if __name__ == "__main__":
    main()
