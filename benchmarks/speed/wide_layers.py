"""NC1 of layers so wide that a d x d matrix is slow or does not fit."""

from __future__ import annotations

from statistics import median

import torch
from benchmarks.measuring import Report, arguments, cpu_seconds, in_fresh_process, peak, reset_peak
from torch import Tensor

from tightframe.collapse.variability import nc1, nc1_wide
from tightframe.core.rng import generator
from tightframe.features.moments import ClassMoments

CLASSES = 10
# d, N, seconds, MB: the bars.
BARS = ((4_096, 5_000, 0.1, None), (65_536, 2_000, 2.0, 200))


def main() -> None:
    options = arguments(__doc__).parse_args()
    torch.set_num_threads(1)
    bars, width, repeats = (((512, 500, 0.1, 200),), 128, 2) if options.quick else (BARS, 2_048, 5)
    report = Report("NC1 of wide layers", "python -m benchmarks.speed.wide_layers")
    report.say(
        f"K = {CLASSES}. `nc1_wide(features, labels, classes={CLASSES})`: two passes over float32 features in "
        f"memory, moments included, by the dual form; CPU seconds, median of {repeats}; memory is the growth of the "
        "peak resident set of a fresh process beyond the features."
    )
    rows = []
    for d, samples, seconds, megabytes in bars:
        spent, grown = in_fresh_process(_wide, d, samples, repeats)
        met = spent < seconds and (megabytes is None or grown < megabytes)
        bar = f"{seconds:g} s" + (f", {megabytes} MB" if megabytes else "")
        rows.append((d, samples, spent, grown, bar, "yes" if met else "NO"))
    report.table(["d", "N", "CPU (s)", "memory (MB)", "bar", "met"], rows)
    narrow = bars[0][0]
    spent, pinv = _from_moments(narrow, repeats), _pseudo_inverse(width)
    report.say("For scale, in the same run:")
    report.table(
        ["what", "d", "CPU (s)"],
        [
            ("`nc1(moments)` from ready moments with the full scatter", narrow, spent),
            ("`torch.linalg.pinv` of one d x d matrix of rank K - 1, float64", width, pinv),
        ],
    )
    report.finish("wide_layers", options)


def _draw(d: int, samples: int) -> tuple[Tensor, Tensor]:
    draws = generator(0)
    labels = torch.arange(samples) % CLASSES
    features, means = torch.empty(samples, d), torch.empty(CLASSES, d).normal_(generator=draws)
    for row, label in zip(features, labels.tolist(), strict=True):
        row.normal_(generator=draws).mul_(0.1).add_(means[label])
    return features, labels


def _wide(d: int, samples: int, repeats: int) -> tuple[float, float]:
    torch.set_num_threads(1)
    nc1_wide(*_draw(64, samples), classes=CLASSES)  # libraries load their pages before the count starts
    features, labels = _draw(d, samples)
    before = reset_peak()
    nc1_wide(features, labels, classes=CLASSES)
    grown = (peak() - before) / 1e6
    return median(cpu_seconds(lambda: nc1_wide(features, labels, classes=CLASSES)) for _ in range(repeats)), grown


def _from_moments(d: int, repeats: int) -> float:
    moments = ClassMoments(CLASSES)
    moments.update(*_draw(d, 1_000))
    return median(cpu_seconds(lambda: nc1(moments)) for _ in range(repeats))


def _pseudo_inverse(d: int) -> float:
    factor = torch.randn(d, CLASSES - 1, dtype=torch.float64, generator=generator(0))
    between = factor @ factor.T
    return cpu_seconds(lambda: torch.linalg.pinv(between))


if __name__ == "__main__":
    main()
