"""Tangent kernels beside neural-tangents, the bare product X X^T with one table look-up, and torch.func's Jacobians."""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from statistics import median

import numpy as np
import torch
from benchmarks.measuring import Report, arguments, cpu_seconds, in_fresh_process, paired, peak, ratio, reset_peak
from torch import Tensor

from tightframe.core.rng import generator
from tightframe.ntk.empirical import empirical_ntk
from tightframe.ntk.finite import relu_network
from tightframe.ntk.kernel import relu_ntk
from tightframe.ntk.operator import KernelOperator
from tightframe.ntk.recursion import Architecture
from tightframe.ntk.tabulated import kernel_table

AWAY = "error relative to the largest entry"
# Minutes for the peer at one depth: its compiler unrolls all layers.
_PATIENCE = 10
# Runs under the interpreter of neural-tangents, which needs older versions of jax and numpy than are current.
_PEER = """
import sys, time
import numpy as np
import jax
jax.config.update("jax_enable_x64", True)
from neural_tangents import stax
folder, depth, repeats = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
rows = np.load(f"{folder}/points.npy")
layers = []
for _ in range(depth):
    layers += [stax.Dense(1, W_std=2**0.5, parameterization="ntk"), stax.Relu()]
kernel = stax.serial(*layers, stax.Dense(1, W_std=1.0, parameterization="ntk"))[2]
call = jax.jit(lambda x: kernel(x, None, "ntk"))
times = []
for _ in range(repeats + 1):
    start = time.process_time()
    values = call(rows).block_until_ready()
    times.append(time.process_time() - start)
np.save(f"{folder}/values.npy", np.asarray(values))
np.save(f"{folder}/times.npy", np.array(times))
"""


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--peer", help="python with neural-tangents 0.6.5 and jax 0.4.30 (or TIGHTFRAME_NT_PYTHON)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    report = Report("Tangent kernels", "python -m benchmarks.races.tangent_kernels --peer PYTHON")
    _analytic(report, options)
    _beside_products(report, options.quick)
    _large(report, options.quick)
    _empirical(report, options.quick)
    report.finish("tangent_kernels", options)


def sphere(n: int, d: int, seed: int = 0) -> Tensor:
    """Random unit vectors, with a pair 1e-7 apart."""
    rows = torch.randn(n, d, generator=generator(seed), dtype=torch.float64)
    rows[1] = rows[0] + 1e-7 * rows[2]
    return rows / rows.norm(dim=1, keepdim=True)


def _analytic(report: Report, options: argparse.Namespace) -> None:
    n = 200 if options.quick else 2000
    points = sphere(n, 64)
    report.say(
        f"N = {n}, d = 64, float64, CPU seconds of one thread. First calls include the table here and the compilation "
        "there; later calls keep them. Errors are against the exact recursion, relative to the largest entry; "
        "neural-tangents trains the last layer too, and so do both here (readout=True)."
    )
    python = options.peer or os.environ.get("TIGHTFRAME_NT_PYTHON")
    rows = []
    for depth in (3, 10) if options.quick else (3, 10, 125, 625):
        kernel_table.cache_clear()

        def ours(depth: int = depth) -> object:
            return relu_ntk(points, depth=depth, readout=True)

        first, later = cpu_seconds(ours), median(cpu_seconds(ours) for _ in range(5))
        part = points[:300]
        exact = relu_ntk(part, depth=depth, readout=True, exact=True)
        error = float((ours()[:300, :300][: len(part), : len(part)] - exact).abs().max() / exact.max())
        problem = f"infinite width, L = {depth}"
        report.curve(problem, "tightframe, later calls", [later], [error], measure=AWAY)
        theirs = _peer(python, points, depth, 1 if depth > 125 else 3)
        if isinstance(theirs, str):
            rows.append((depth, first, later, error, theirs, "", "", ""))
            continue
        warm, start, values = theirs
        away = float((values[:300, :300] - exact).abs().max() / exact.max())
        report.curve(problem, "neural-tangents, later calls", [warm], [away], measure=AWAY)
        rows.append((depth, first, later, error, start, warm, warm / later, away))
    columns = ["L", "first", "later", "error", "NT first", "NT later", "NT later / later", "NT error"]
    report.table(columns, rows)


def _peer(python: str | None, points: Tensor, depth: int, repeats: int) -> tuple[float, float, Tensor] | str:
    """Seconds of later calls and of the first, and the kernel; or why there are none."""
    if not python:
        return "not installed"
    with tempfile.TemporaryDirectory() as folder:
        # Its kernels divide inner products by the dimension.
        np.save(f"{folder}/points.npy", points.numpy() * points.shape[1] ** 0.5)
        single = {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"}
        quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "OMP_NUM_THREADS": "1"}
        command = [python, "-c", _PEER, folder, str(depth), str(repeats)]
        alone = {**os.environ, **single, **quiet}
        try:
            done = subprocess.run(command, env=alone, capture_output=True, text=True, timeout=60 * _PATIENCE)
        except subprocess.TimeoutExpired:
            return f"not finished in {_PATIENCE} minutes"
        if done.returncode:
            said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            return f"failed: {said[-1][:80]}"
        times = np.load(f"{folder}/times.npy")
        values = torch.from_numpy(np.load(f"{folder}/values.npy"))
        return float(np.median(times[1:])), float(times[0]), values


def _beside_products(report: Report, quick: bool) -> None:
    report.say(
        "Beside the bare product X X^T, one addition and one look-up of every entry in a table of 8192 numbers by "
        "index_select, none of it symmetric; ratios are medians of rounds in turn."
    )
    rows = []
    for n, d in ((200, 64),) if quick else ((2000, 64), (2000, 784), (5000, 64)):
        points = sphere(n, d)
        table = torch.rand(8192, dtype=torch.float64)

        def bare(points: Tensor = points, table: Tensor = table) -> Tensor:
            index = (points @ points.T).add_(1).mul_(4000).int().clamp_(0, 8191)
            return table.index_select(0, index.view(-1)).view(index.shape)

        def ours(points: Tensor = points) -> Tensor:
            return relu_ntk(points, depth=125)

        times = paired({"ours": ours, "bare": bare}, repeats=3 if quick else 9)
        rows.append((n, d, median(times["ours"]), median(times["bare"]), ratio(times["ours"], times["bare"])))
    report.table(["N", "d", "kernel, L = 125, s", "product and look-up, s", "ratio"], rows)


def _large(report: Report, quick: bool) -> None:
    n = 1000 if quick else 20000
    report.say(f"N = {n}, d = 64, L = 125, in processes of their own: the kernel in float32, and products without it.")
    rows = []
    for name, work in (("the kernel, float32", _whole), ("one product with it", _product)):
        seconds, extra = in_fresh_process(work, n)
        rows.append((name, seconds, extra / 2**20, n * n * 4 / 2**20))
    report.table(["what", "CPU s", "peak above start, MiB", "float32 matrix, MiB"], rows)


def _whole(n: int) -> tuple[float, int]:
    torch.set_num_threads(1)
    points = sphere(n, 64).float()
    relu_ntk(points[:400], depth=125)
    start, begun = reset_peak(), time.process_time()
    relu_ntk(points, depth=125)
    return time.process_time() - begun, peak() - start


def _product(n: int) -> tuple[float, int]:
    torch.set_num_threads(1)
    operator = KernelOperator(sphere(n, 64), Architecture(125))
    vector = torch.ones(n, dtype=torch.float64)
    start, begun = reset_peak(), time.process_time()
    operator @ vector
    return time.process_time() - begun, peak() - start


def _empirical(report: Report, quick: bool) -> None:
    n, width, depth = (20, 64, 2) if quick else (60, 256, 5)
    report.say(f"The kernel of a finite network: N = {n}, width {width}, {depth} hidden layers, float64.")
    model = relu_network(64, width=width, depth=depth)
    points = sphere(n, 64)
    runs = {"products": lambda: empirical_ntk(model, points).values, "torch.func": lambda: _plain(model, points)}
    apart = float((runs["products"]() - runs["torch.func"]()).abs().max() / runs["products"]().max())
    times = paired(runs, repeats=3 if quick else 5)
    memory = {name: in_fresh_process(_peak_of, name, n, width, depth) / 2**20 for name in runs}
    rows = [(name, median(times[name]), ratio(times[name], times["products"]), memory[name]) for name in runs]
    report.table(["method", "CPU s", "times ours", "peak above start, MiB"], rows)
    report.say(f"The two agree to {apart:.1e} of the largest entry.")


def _plain(model: torch.nn.Module, points: Tensor) -> Tensor:
    """The contraction of Jacobians of torch's own tutorial."""
    weights = {name: each.detach() for name, each in model.named_parameters()}

    def output(trained: dict[str, Tensor], point: Tensor) -> Tensor:
        return torch.func.functional_call(model, trained, (point[None],)).squeeze(0)

    jacobian = torch.func.vmap(torch.func.jacrev(output), (None, 0))(weights, points)
    flat = [each.flatten(2) for each in jacobian.values()]
    return torch.stack([torch.einsum("nkp,mkp->nm", each, each) for each in flat]).sum(0)


def _peak_of(name: str, n: int, width: int, depth: int) -> int:
    torch.set_num_threads(1)
    model, points = relu_network(64, width=width, depth=depth), sphere(n, 64)
    work = _plain if name == "torch.func" else lambda model, points: empirical_ntk(model, points).values
    work(model, points[:2])
    start = reset_peak()
    work(model, points)
    return peak() - start


if __name__ == "__main__":
    main()
