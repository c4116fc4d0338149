"""Certificates and products of the tangent kernel at 20,000 points without storing the matrix: time and memory."""

from __future__ import annotations

import math
from statistics import median

import torch
from benchmarks.measuring import Report, arguments, cpu_seconds, in_fresh_process, paired, peak, ratio, reset_peak

from tightframe.core.rng import generator
from tightframe.data.curves import SampledCurve, coaxial_circles
from tightframe.ntk.certificates import certificate
from tightframe.ntk.kernel import relu_ntk
from tightframe.ntk.operator import KernelOperator
from tightframe.ntk.recursion import Architecture

SEPARATION = 0.2
TOLERANCE = 1e-3


def main() -> None:
    options = arguments(__doc__).parse_args()
    torch.set_num_threads(1)
    sizes, depth, dimension = ((5000, 10_000, 20_000), 50, 64)
    if options.quick:
        sizes, depth = (300,), 5
    report = Report("The tangent kernel at many points", "python -m benchmarks.speed.tangent_kernel_scale")
    report.say(
        f"Depth {depth}, float64. One product of the weighted kernel with a vector by `KernelOperator`, points of the "
        f"unit sphere in {dimension} dimensions; peak of memory of a fresh process over its size before, beside what "
        "the stored matrix would take."
    )
    report.table(
        ["N", "product (s)", "ns per pair", "memory (MB)", "stored (MB)"],
        [in_fresh_process(_product, size, depth, dimension) for size in sizes],
    )
    report.say(
        f"Certificates of two circles {SEPARATION:g} apart: even points by FFT to rounding, random points by conjugate "
        f"gradients to a residual of {TOLERANCE:g} of the initial error. Norms of both tend to one number."
    )
    report.table(
        ["N", "method", "seconds", "products", "norm", "residual", "memory (MB)"],
        [
            in_fresh_process(_certificate, size, depth, even)
            for size in dict.fromkeys((sizes[0], sizes[-1]))
            for even in (True, False)
        ],
    )
    size = sizes[0]
    report.say(
        f"One product at N = {size} beside the same with the matrix formed and multiplied; CPU seconds, medians of "
        "rounds that take turns."
    )
    report.table(
        ["N", "operator (s)", "formed (s)", "operator/formed", "difference"], [_beside(size, depth, dimension)]
    )
    report.finish("tangent_kernel_scale", options)


def _sphere(size: int, dimension: int) -> torch.Tensor:
    rows = torch.randn(size, dimension, generator=generator(0), dtype=torch.float64)
    return torch.nn.functional.normalize(rows, dim=1)


def _product(size: int, depth: int, dimension: int) -> tuple:
    torch.set_num_threads(1)
    points = _sphere(size, dimension)
    vector = torch.randn(size, generator=generator(1), dtype=torch.float64)
    before = reset_peak()
    operator = KernelOperator(points, Architecture(depth), weights=torch.full((size,), 1 / size, dtype=torch.float64))
    spent = cpu_seconds(lambda: operator @ vector)
    return size, spent, 1e9 * spent / size**2, (peak() - before) / 1e6, 8 * size**2 / 1e6


def _certificate(size: int, depth: int, even: bool) -> tuple:
    torch.set_num_threads(1)
    circles = coaxial_circles(SEPARATION)
    curves = [
        circle.uniform(size // 2) if even else _jittered(circle.uniform(size // 2), seed)
        for seed, circle in enumerate(circles)
    ]
    method = "circulant" if even else "conjugate gradients"
    found = []
    before = reset_peak()
    spent = cpu_seconds(
        lambda: found.append(certificate(curves, depth, method=method, tolerance=TOLERANCE, max_iterations=40))
    )
    result = found[0]
    return (
        *(size, method, spent, len(result.solution.trace), result.norm),
        *(result.residual / result.initial, (peak() - before) / 1e6),
    )


def _jittered(curve: SampledCurve, seed: int) -> SampledCurve:
    """Points turned about the axis by up to a third of the gap, so that no rotation maps them to each other."""
    n = len(curve.points)
    turns = 2 * math.pi / n * (torch.rand(n, generator=generator(seed), dtype=torch.float64) - 0.5) / 1.5
    x, y, z = curve.points.unbind(1)
    turned = torch.stack((turns.cos() * x - turns.sin() * y, turns.sin() * x + turns.cos() * y, z), dim=1)
    return SampledCurve(turned, curve.weights, curve.closed)


def _beside(size: int, depth: int, dimension: int) -> tuple:
    points = _sphere(size, dimension)
    vector = torch.randn(size, generator=generator(1), dtype=torch.float64)
    operator = KernelOperator(points, Architecture(depth))
    work = {"operator": lambda: operator @ vector, "formed": lambda: relu_ntk(points, depth=depth) @ vector}
    times = paired(work, repeats=3)
    apart = float((work["operator"]() - work["formed"]()).abs().amax() / work["formed"]().abs().amax())
    middle = [median(times[name]) for name in ("operator", "formed")]
    return (size, *middle, ratio(times["operator"], times["formed"]), apart)


if __name__ == "__main__":
    main()
