"""Cost of ClassMoments.update beside the matrix product H^T H that any scatter needs."""

from __future__ import annotations

from statistics import median

import torch
from benchmarks.measuring import Report, arguments, paired, ratio

from tightframe.core.rng import generator
from tightframe.features.moments import ClassMoments

BAR = 1.5
BATCH = 1024


def main() -> None:
    options = arguments(__doc__).parse_args()
    torch.set_num_threads(1)
    widths, counts, batches, repeats = ((512, 2048), (10, 1000), 40, 7)
    if options.quick:
        widths, counts, batches, repeats = (64,), (10, 1000), 4, 2
    report = Report("ClassMoments.update beside a bare GEMM", "python -m benchmarks.speed.moments_update")
    report.say(
        f"CPU seconds for {batches} batches of {BATCH} float32 rows held in memory, from empty moments; the bare "
        "product is `torch.mm(H.T, H, out=...)` in float32 on the same batches, into one buffer. Medians of "
        f"{repeats} rounds that take turns; the ratio is the median of the rounds' ratios. Bar: at most {BAR}."
    )
    rows = [row for d in widths for k in counts for row in _cells(d, k, batches=batches, repeats=repeats)]
    report.table(["d", "K", "mode", "bare GEMM (s)", "update (s)", "ratio", "bar met"], rows)
    report.say(
        "Ratios below 1 come from the symmetry of the scatter: update fills the upper block triangle only, the bare "
        'product the whole square. Mode "trace" keeps no scatter, so no product either.'
    )
    report.finish("moments_update", options)


def _cells(d: int, k: int, *, batches: int, repeats: int) -> list[tuple]:
    draws = generator(0)
    data = [
        (torch.randn(BATCH, d, generator=draws).add_(3), torch.randint(k, (BATCH,), generator=draws))
        for _ in range(batches)
    ]
    square = torch.empty(d, d)

    def bare() -> None:
        for features, _ in data:
            torch.mm(features.T, features, out=square)

    def update(mode: str) -> ClassMoments:
        moments = ClassMoments(k, mode)
        for features, labels in data:
            moments.update(features, labels)
        return moments

    modes = ("full", "trace")
    times = paired({"bare": bare} | {mode: lambda mode=mode: update(mode) for mode in modes}, repeats=repeats)
    rows = []
    for mode in modes:
        cost = ratio(times[mode], times["bare"])
        met = "yes" if cost <= BAR else "NO"
        rows.append((d, k, mode, median(times["bare"]), median(times[mode]), cost, met))
    return rows


if __name__ == "__main__":
    main()
