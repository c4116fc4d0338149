"""Full descent on a deep linear network, its compressed form, and its exact reduction, beside each other."""

from __future__ import annotations

from itertools import pairwise
from statistics import median
from time import process_time

import torch
from benchmarks.measuring import Report, arguments, in_fresh_process, paired, peak, ratio
from torch import Tensor

from tightframe.core.rng import generator
from tightframe.deeplinear.compression import compress
from tightframe.deeplinear.dynamics import simulate
from tightframe.deeplinear.frames import haar_frames
from tightframe.deeplinear.invariance import decompose
from tightframe.deeplinear.network import DeepLinearNetwork
from tightframe.deeplinear.reduced import descend_reduced

DEPTH, RANK, SCALE = 3, 5, 0.1


def main() -> None:
    options = arguments(__doc__).parse_args()
    torch.set_num_threads(1)
    report = Report("Deep linear networks", "python -m benchmarks.speed.deep_linear")
    _beside_each_other(report, [(40, 100, 2)] if options.quick else [(200, 4000, 1), (1000, 100, 1)])
    _alone(report, [(2_000, 100)] if options.quick else [(20_000, 4000), (200_000, 4000)])
    report.finish("deep_linear", options)


def _beside_each_other(report: Report, cells: list[tuple[int, int, int]]) -> None:
    report.say(
        f"Factorisation of a d x d matrix of rank {RANK}, depth {DEPTH}, orthogonal start times {SCALE:g}, float64, "
        "all from the same start with the same step. Full: `simulate` on the network. Compressed: `simulate` on "
        "`compress(...)`, whose outer factors are fixed. Reduced: `descend_reduced` on `decompose(...)`. CPU seconds "
        "of the descents, medians of rounds that take turns; difference: the largest entry of full minus reduced, "
        "end to end."
    )
    rows = []
    for d, steps, repeats in cells:
        U, S, V = _factors(d)
        Phi, start = U * S @ V.T, DeepLinearNetwork([d] * (DEPTH + 1), scale=SCALE)
        small, frames = compress(Phi, depth=DEPTH, rank=RANK, scale=SCALE, network=start), decompose(start, Phi)
        settings = {"step": 0.02, "steps": steps, "every": steps}
        found: dict = {}

        def work(name: str, run, found=found) -> None:
            found[name] = run()

        def full(start=start, Phi=Phi, settings=settings):
            return simulate(start, Phi, record=(), **settings)

        def compressed(small=small, Phi=Phi, settings=settings):
            return simulate(small, Phi, record=(), **settings)

        def reduced(frames=frames, settings=settings):
            return descend_reduced(frames, **settings)

        contenders = {
            name: lambda name=name, run=run: work(name, run)
            for name, run in (("full", full), ("compressed", compressed), ("reduced", reduced))
        }
        times = paired(contenders, repeats=repeats, warm=repeats > 1)
        wide, exact = found["full"], found["reduced"].end_to_end(steps).dense()
        rows.append(
            (
                *(d, steps),
                *(median(times[name]) for name in contenders),
                *(ratio(times["full"], times[name]) for name in ("compressed", "reduced")),
                float((wide.W3 @ wide.W2 @ wide.W1 - exact).abs().max()),
            )
        )
    report.table(
        ["d", "steps", "full (s)", "compressed (s)", "reduced (s)", "full/compressed", "full/reduced", "difference"],
        rows,
    )


def _alone(report: Report, cells: list[tuple[int, int]]) -> None:
    report.say(
        "The reduction alone, with frames of a random network that is never formed (`haar_frames`), its descent, and "
        "one layer at the end times a vector. CPU seconds; memory is the peak resident set of the whole process, the "
        "factors of the matrix included."
    )
    rows = [(d, steps, *in_fresh_process(_reduced_alone, d, steps)) for d, steps in cells]
    report.table(["d", "steps", "frames (s)", "descent (s)", "layer (s)", "loss", "peak (GiB)"], rows)


def _reduced_alone(d: int, steps: int) -> tuple[float, ...]:
    torch.set_num_threads(1)
    U, S, V = _factors(d)
    vector = torch.randn(d, dtype=torch.float64, generator=generator(2))
    marks = [process_time()]
    frames = haar_frames(U, S, V, depth=DEPTH, scale=SCALE)
    marks.append(process_time())
    found = descend_reduced(frames, step=0.02, steps=steps)
    marks.append(process_time())
    found.layer(steps, 2) @ vector
    marks.append(process_time())
    spent = [after - before for before, after in pairwise(marks)]
    return *spent, found.trace["loss"][-1], peak() / 2**30


def _factors(d: int) -> tuple[Tensor, Tensor, Tensor]:
    U, V = (torch.linalg.qr(torch.randn(d, RANK, dtype=torch.float64, generator=generator(seed))).Q for seed in (0, 1))
    return U, torch.arange(RANK, 0, -1, dtype=torch.float64), V


if __name__ == "__main__":
    main()
