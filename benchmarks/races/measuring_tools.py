"""Beside other tools for neural collapse, on the same data in the same run: time and memory."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import torch
from benchmarks.measuring import Report, Work, arguments, in_fresh_process, paired, peak, ratio, reset_peak
from benchmarks.races import peers
from torch import Tensor

from tightframe.collapse.means import CentredMeans
from tightframe.collapse.pairs import class_pairs
from tightframe.collapse.simplex import feature_distance
from tightframe.collapse.variability import nc1
from tightframe.core.rng import generator
from tightframe.features.moments import ClassMoments

Contenders = Callable[..., dict[str, Work]]

# N, d, K, batch, rounds, and how many times faster than neural-collapse: the bar.
STATISTICS = (
    (50_000, 512, 10, 1024, 5, 1),
    (50_000, 512, 10, 128, 5, 1),
    (20_000, 512, 1_000, 1024, 5, 4),
    (20_000, 512, 1_000, 128, 5, 4),
    (100_000, 512, 10_000, 1024, 1, 20),
    (20_000, 512, 10_000, 128, 3, 20),
)
_COLUMNS = ("ours (s)", "theirs (s)", "times faster", "ours (MB)", "theirs (MB)", "bar", "met")
# Metric, K, d, rounds, bar.
MEANS = (("CDNV and log kernel", 10_000, 512, 1, 10), ("NC2", 20_000, 256, 3, 30))
WHOLE = (20_000, 512, 10)


def main() -> None:
    parser = arguments(__doc__)
    peers.add_option(parser)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = peers.load(options.peer)
    report = Report("Beside other tools", f"python -m benchmarks.races.measuring_tools {peers.COMMAND}")
    report.say(peers.describe(found))
    if "neural_collapse" in found:
        _beside_the_first(report, options)
    else:
        report.say("Without neural-collapse there is no race; see README.md.")
    _whole(report, options, list(found))
    report.finish("races", options)


def _beside_the_first(report: Report, options: argparse.Namespace) -> None:
    report.say(
        "Class means, within-class variances and covariance of float32 features in memory. tightframe: one pass; "
        "neural-collapse: two. CPU seconds, medians of rounds that take turns; memory: growth of the peak resident set "
        "beyond the features, each in a fresh process."
    )
    sizes = ((2_000, 32, 10, 128, 2, 1), (2_000, 32, 100, 128, 2, 1)) if options.quick else STATISTICS
    rows = []
    for n, d, k, batch, rounds, bar in sizes:
        cells = _race(_statistics_contenders, (n, d, k, batch), (500, 16, 4, 64), options.peer, rounds)
        rows.append((n, d, k, batch, rounds, *cells, bar, _met(cells[2], bar)))
    report.table(["N", "d", "K", "batch", "rounds", *_COLUMNS], rows)
    report.say(
        "Metrics of ready class means: CDNV with the variance of the log kernel (their tile of 64 rows), and the "
        "distance of the means to a simplex ETF."
    )
    sizes = (("CDNV and log kernel", 200, 32, 2, 1), ("NC2", 200, 32, 2, 1)) if options.quick else MEANS
    rows = []
    for metric, k, d, rounds, bar in sizes:
        cells = _race(_means_contenders, (metric, k, d), (metric, 8, 16), options.peer, rounds)
        rows.append((metric, k, d, rounds, *cells, bar, _met(cells[2], bar)))
    report.table(["metric", "K", "d", "rounds", *_COLUMNS], rows)


def _whole(report: Report, options: argparse.Namespace, found: list[str]) -> None:
    n, d, k = (500, 32, 10) if options.quick else WHOLE
    report.say(f"NC1 from {n:,} float32 features in memory (d = {d}, K = {k}), each tool in a fresh process, once.")
    rows = [(name, *in_fresh_process(_nc1_alone, name, options.peer, n, d, k)) for name in ("tightframe", *found)]
    report.table(["tool", "CPU (s)", "memory (MB)", "NC1"], [(*row[:3], f"{row[3]:.6g}") for row in rows])


def _met(faster: float, bar: float) -> str:
    return "yes" if faster >= bar else "NO"


def _race(contenders: Contenders, sizes: tuple, tiny: tuple, paths: Sequence[Path], rounds: int) -> tuple[float, ...]:
    times = paired(contenders(*sizes), repeats=rounds, warm=rounds > 1)
    memory = [in_fresh_process(_memory, contenders, sizes, tiny, paths, name) for name in times]
    ours, theirs = times.values()
    return median(ours), median(theirs), ratio(theirs, ours), *memory


def _memory(contenders: Contenders, sizes: tuple, tiny: tuple, paths: Sequence[Path], name: str) -> float:
    torch.set_num_threads(1)
    peers.load(paths)
    contenders(*tiny)[name]()  # libraries load their pages before the count starts
    work = contenders(*sizes)[name]
    before = reset_peak()
    work()
    return (peak() - before) / 1e6


def _draw(n: int, d: int, k: int) -> tuple[Tensor, Tensor]:
    draws = generator(0)
    means = torch.randn(k, d, generator=draws)
    labels = torch.arange(n)[torch.randperm(n, generator=draws)] % k
    features = torch.empty(n, d).normal_(generator=draws).mul_(0.4)
    for rows in torch.arange(n).split(1024):
        features[rows] += means[labels[rows]]
    return features, labels


def _statistics_contenders(n: int, d: int, k: int, batch: int) -> dict[str, Work]:
    features, labels = _draw(n, d, k)

    def one_pass() -> tuple[Tensor, ...]:
        moments = ClassMoments(k)
        for x, y in zip(features.split(batch), labels.split(batch), strict=True):
            moments.update(x, y)
        return moments.mean, moments.within / moments.count, moments.scatter / moments.total

    return {"tightframe": one_pass, "neural-collapse": lambda: peers.statistics(features, labels, k, batch)}


def _means_contenders(metric: str, k: int, d: int) -> dict[str, Work]:
    means, variances = peers.as_class_means(k, d, generator(0))
    moments = ClassMoments.from_statistics(torch.full((k,), 20), means.double(), within=20 * variances.double())
    if metric == "NC2":
        ours = lambda: feature_distance(CentredMeans(moments))  # noqa: E731
        return {"tightframe": ours, "neural-collapse": lambda: peers.etf_distance("neural_collapse", means)}
    ours = lambda: class_pairs(CentredMeans(moments))  # noqa: E731
    return {"tightframe": ours, "neural-collapse": lambda: peers.pair_metrics(means, variances)}


def _nc1_alone(name: str, paths: Sequence[Path], n: int, d: int, k: int) -> tuple[float, float, float]:
    torch.set_num_threads(1)
    peers.load(paths)
    features, labels = _draw(n, d, k)
    before, start = reset_peak(), time.process_time()
    value = _our_nc1(features, labels, k) if name == "tightframe" else peers.nc1(name, features, labels, k)
    return time.process_time() - start, (peak() - before) / 1e6, value


def _our_nc1(features: Tensor, labels: Tensor, k: int) -> float:
    moments = ClassMoments(k)
    for x, y in zip(features.split(1024), labels.split(1024), strict=True):
        moments.update(x, y)
    return nc1(moments)


if __name__ == "__main__":
    main()
