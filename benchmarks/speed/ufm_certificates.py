"""Certificates and certified solutions of unconstrained-features models, beside the bare products."""

from __future__ import annotations

from statistics import median

import torch
from benchmarks.measuring import Report, arguments, peak, reset_peak, wall_seconds

from tightframe.core.rng import generator
from tightframe.ufm import Point, UnconstrainedFeatures, certify, optimum, solve

LOSSES, BIASES = ("ce", "ls", "focal", "mse"), ("none", "free", 1e-3)
GAP, BAR = 1e-8, 10.0


def main() -> None:
    options = arguments(__doc__).parse_args()
    torch.set_num_threads(2)
    report = Report("Unconstrained features", "python -m benchmarks.speed.ufm_certificates", threads="2 threads")
    _certificates(report, (50, 96, 4, 2) if options.quick else (1000, 2048, 10, 5))
    _solutions(report, (10, 16, 5, 1) if options.quick else (100, 128, 100, 3))
    _large(report, (40, 64, 4) if options.quick else (1000, 2048, 10))
    report.finish("ufm_certificates", options)


def _certificates(report: Report, sizes: tuple[int, int, int, int]) -> None:
    k, d, n, repeats = sizes
    report.say(
        f"Certificate of any point, K = {k:,}, d = {d:,}, n = {n}, cross-entropy: the dual gap and a way down. The "
        "bare products are WH, G H^T and W^T G on the same matrices. Wall seconds, medians of "
        f"{repeats} rounds that take turns."
    )
    rows = []
    for bias in ("none", "free"):
        problem = UnconstrainedFeatures(classes=k, features=d, per_class=n, weight_decay=(5e-5, 5e-5), bias=bias)
        for name, point in _points(problem).items():
            before = reset_peak()
            ours, bare = [], []
            for _ in range(repeats):
                ours.append(wall_seconds(lambda p=problem, at=point: certify(p, at.W, at.H, at.b)))
                bare.append(wall_seconds(lambda at=point: _products(at)))
            found = certify(problem, point.W, point.H, point.b)
            down = found.evidence.get("direction")
            rows.append(
                (
                    name,
                    bias,
                    median(ours),
                    median(bare),
                    median(a / b for a, b in zip(ours, bare, strict=True)),
                    found.gap,
                    down.kind if down else "none needed",
                    "" if down is None or down.predicted is None else down.curvature / down.predicted,
                    (peak() - before) >> 20,
                )
            )
    report.table(
        ["point", "bias", "certify (s)", "bare products (s)", "ratio", "gap", "way down", "curvature / theory", "MiB"],
        rows,
    )


def _points(problem: UnconstrainedFeatures) -> dict[str, Point]:
    best = optimum(problem).point()
    noise = 1e-2 * torch.randn(best.H.shape, dtype=torch.float64, generator=generator(0))
    return {
        "the optimum": best,
        "spread features": Point(best.W, best.H + noise, best.b),
        "the saddle at zero": Point(torch.zeros_like(best.W), torch.zeros_like(best.H), best.b),
    }


def _products(point: Point) -> torch.Tensor:
    logits = point.W @ point.H
    return (logits @ point.H.T).sum() + (point.W.T @ logits).sum()


def _solutions(report: Report, sizes: tuple[int, int, int, int]) -> None:
    k, d, n, repeats = sizes
    report.say(
        f"From a random start to a certified gap of {GAP:g}, K = {k}, d = {d}, n = {n}, decays 5e-4. Wall seconds, "
        f"medians of {repeats} seeds. Bar: {BAR:g} s."
    )
    rows = []
    for loss in LOSSES:
        for bias in BIASES:
            problem = UnconstrainedFeatures(classes=k, features=d, per_class=n, loss=loss, bias=bias)
            times, gaps = [], []
            for seed in range(repeats):
                found = []
                times.append(
                    wall_seconds(lambda s=seed, p=problem, out=found: out.append(solve(p, seed=s, tolerance=GAP)))
                )
                gaps.append(found[0].certificate.gap)
            met = "yes" if max(gaps) <= GAP and median(times) < BAR else "NO"
            rows.append((problem.loss.name, bias, median(times), max(gaps), met))
    report.table(["loss", "bias", "solve (s)", "largest gap", "bar met"], rows)


def _large(report: Report, sizes: tuple[int, int, int]) -> None:
    k, d, n = sizes
    problem = UnconstrainedFeatures(classes=k, features=d, per_class=n, weight_decay=(5e-5, 5e-5), bias="free")
    found: list = []
    before = reset_peak()
    spent = wall_seconds(lambda: found.append(solve(problem, tolerance=GAP)))
    report.say(f"From a random start at K = {k:,}, d = {d:,}, n = {n}, cross-entropy, free bias, one run:")
    report.table(
        ["solve (s)", "gap", "above the closed form", "MiB"],
        [(spent, found[0].certificate.gap, found[0].objective - optimum(problem).value, (peak() - before) >> 20)],
    )


if __name__ == "__main__":
    main()
