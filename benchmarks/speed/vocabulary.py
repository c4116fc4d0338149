"""Moments of a vocabulary: tens of thousands of classes of wide features within 4 GiB."""

from __future__ import annotations

from statistics import median
from time import process_time

import torch
from benchmarks.measuring import Report, arguments, in_fresh_process, peak

from tightframe.collapse.means import CentredMeans
from tightframe.collapse.simplex import distance_floor, equinorm, feature_distance
from tightframe.collapse.variability import trace_ratio
from tightframe.core.rng import generator
from tightframe.features.moments import ClassMoments

BAR = 4.0
BATCH = 4096
RANK = 64


def main() -> None:
    options = arguments(__doc__).parse_args()
    d, k, batches = (256, 2_000, 4) if options.quick else (4_096, 50_000, 40)
    report = Report("Moments of a vocabulary", "python -m benchmarks.speed.vocabulary")
    report.say(
        f"d = {d:,}, K = {k:,} classes, {batches} batches of {BATCH:,} tokens, float32, made on the fly (class means "
        f"of rank {RANK} plus noise; every class occurs). CPU seconds on 1 thread: per update the median over the "
        "batches, the metrics once. Memory is the peak resident set of the whole process, Python and torch "
        f"included, read after the metrics. Bar: under {BAR:g} GiB."
    )
    rows = []
    for mode in ("trace", "full"):
        result = in_fresh_process(_stream, mode, d, k, batches)
        rows.append((mode, *result[:-3], "yes" if result[4] < BAR else "NO"))
    columns = ["mode", "update (s)", "D (s)", "NC2 (s)", "equinorm (s)", "peak (GiB)", "bar met"]
    report.table(columns, rows)
    ratio, distance, spread = result[-3:]
    report.say(
        f"Values: D = {ratio:.4g}, NC2 of the features = {distance:.6f} (least possible in {d:,} dimensions: "
        f"{distance_floor(k, d):.6f}), equinorm = {spread:.4g}."
    )
    report.finish("vocabulary", options)


def _stream(mode: str, d: int, k: int, batches: int) -> tuple[float, ...]:
    torch.set_num_threads(1)
    draws = generator(0)
    codes = torch.empty(k, RANK).normal_(generator=draws)
    directions = torch.empty(RANK, d).normal_(generator=draws)
    moments, spent = ClassMoments(k, mode), []
    for batch in range(batches):
        labels = torch.arange(batch * BATCH, (batch + 1) * BATCH) % k
        features = torch.empty(BATCH, d).normal_(generator=draws).addmm_(codes[labels], directions)
        start = process_time()
        moments.update(features, labels)
        spent.append(process_time() - start)
    del features
    means = CentredMeans(moments)
    metrics = (
        lambda: trace_ratio(moments),
        lambda: feature_distance(means),
        lambda: equinorm(means.norms),
    )
    values, times = [], []
    for metric in metrics:
        start = process_time()
        values.append(metric())
        times.append(process_time() - start)
    return median(spent), *times, peak() / 2**30, *values


if __name__ == "__main__":
    main()
