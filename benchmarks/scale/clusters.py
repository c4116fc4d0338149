"""The same sweep in one process, on joblib's own processes, on a Dask cluster and on Ray, all on this machine."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module, metadata
from statistics import median

import joblib
import torch

from benchmarks.measuring import Report, arguments
from tightframe.collapse.variability import nc1
from tightframe.core.rng import generator
from tightframe.experiments.sweeps import Sweep
from tightframe.features.moments import ClassMoments

WORKERS = 2
REPEATS = 3
# Items of a sweep, and rows, dimensions and classes that each of them measures.
SIZE, TINY = (32, 8_192, 512, 100), (4, 500, 16, 5)
BACKENDS = {"loky": None, "dask": "distributed", "ray": "ray"}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, help="all; with --quick: loky, which starts at once")
    options = parser.parse_args()
    torch.set_num_threads(1)
    items, *size = TINY if options.quick else SIZE
    work = [(seed, *size) for seed in range(items)]
    report = Report("A sweep on clusters", "python -m benchmarks.scale.clusters", threads=f"{WORKERS} workers")
    report.say(
        f"{items} items, each the moments and NC1 of {size[0]:,} samples in {size[1]:,} dimensions and {size[2]:,} "
        f"classes, through `Sweep(workers={WORKERS})` in `joblib.parallel_config(backend=...)`; one thread in each of "
        f"{WORKERS} workers on this machine. Seconds on the clock: until the cluster is up, of the first sweep (the "
        f"workers import torch), and the median of {REPEATS} further ones (--quick: one). Equal "
        "means every number the same, in the same order, as in one process."
    )
    alone, expected = _timed(Sweep(), work)
    rows: list[tuple[object, ...]] = [("one process", "", alone, alone, "", "yes")]
    absent = []
    for name in options.backends or list(BACKENDS)[: 1 if options.quick else None]:
        module = BACKENDS[name]
        if module and not _installed(module):
            absent.append(module)
            continue
        rows.append((name + _version(module), *_swept(name, work, alone, expected, 1 if options.quick else REPEATS)))
    columns = ["backend", "start (s)", "first sweep (s)", "later sweeps (s)", "one process / this", "equal"]
    report.table(columns, rows)
    if absent:
        report.say(f"Absent, so skipped: {', '.join(absent)}.")
    report.finish("clusters", options)


def _swept(
    name: str, work: list[tuple[int, ...]], alone: float, expected: list[float], repeats: int
) -> tuple[object, ...]:
    """Seconds on one backend, and whether every sweep found what one process did."""
    begun = time.perf_counter()
    with _cluster(name), joblib.parallel_config(backend=name):
        started = time.perf_counter() - begun
        runs = [_timed(Sweep(workers=WORKERS), work) for _ in range(repeats + 1)]
    (first, _), *later = runs
    seconds = median(spent for spent, _ in later)
    equal = all(found == expected for _, found in runs)
    return started, first, seconds, alone / seconds, "yes" if equal else "NO"


def _timed(sweep: Sweep, work: list[tuple[int, ...]]) -> tuple[float, list[float]]:
    begun = time.perf_counter()
    found = sweep(_variability, work)
    return time.perf_counter() - begun, found


def _variability(item: tuple[int, ...]) -> float:
    seed, n, d, k = item
    draws = generator(seed)
    means, labels = torch.randn(k, d, generator=draws), torch.randint(k, (n,), generator=draws)
    moments = ClassMoments(k)
    moments.update(torch.randn(n, d, generator=draws) + means[labels], labels)
    return nc1(moments)


@contextmanager
def _cluster(name: str) -> Iterator[None]:
    if name == "dask":
        distributed = import_module("distributed")
        options = {"n_workers": WORKERS, "threads_per_worker": 1, "dashboard_address": None}
        with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster):
            yield
    elif name == "ray":
        # Nothing outside this machine may connect, so no token is made for it.
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
        ray = import_module("ray")
        ray.init(num_cpus=WORKERS, include_dashboard=False, logging_level="error", log_to_driver=False)
        try:
            import_module("ray.util.joblib").register_ray()
            yield
        finally:
            ray.shutdown()
    else:
        yield


def _installed(module: str) -> bool:
    try:
        import_module(module)
    except ImportError:
        return False
    return True


def _version(module: str | None) -> str:
    return f" {metadata.version(module or 'joblib')}"


if __name__ == "__main__":
    main()
