"""One measurement by 1, 2 and 3 processes under torchrun: seconds, bytes exchanged, and the same numbers."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from unittest.mock import patch

import torch
import torch.distributed as dist
from torch import Tensor

from benchmarks.measuring import Report, arguments, in_fresh_process
from benchmarks.scale.exchange import two_sums
from tightframe.collapse.means import CentredMeans
from tightframe.collapse.simplex import feature_distance
from tightframe.collapse.variability import nc1
from tightframe.core.rng import generator
from tightframe.features.moments import ClassMoments

BLOCK = 2_048
WORLDS, FEWEST = (2, 3), (2,)
SIZE, TINY = (65_536, 1_024, 1_000), (600, 32, 10)
MEASUREMENTS = 5
BAR = 1e-12


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rank-in", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    rows, d, k = TINY if options.quick else SIZE
    if options.rank_in:
        _rank(options.rank_in, rows, d, k)
        return
    report = Report("One measurement by several processes", "python -m benchmarks.scale.processes")
    report.say(
        f"{rows:,} rows of {d:,} float64 features in {k:,} classes with mean 1, drawn from one seed and dealt out in "
        f"turn; processes of torchrun on this machine, gloo, one thread each. Update: all blocks of {BLOCK:,} rows of "
        f"a rank. All-reduce: from the moments of each rank to those of all, median of {MEASUREMENTS} measurements. "
        "Both are seconds on the clock, of the slowest rank and by rank."
    )
    with TemporaryDirectory() as folder:
        own, alone = in_fresh_process(_measured, 0, 1, rows, d, k)
        found, together = {1: [own]}, {}
        for world in FEWEST if options.quick else WORLDS:
            found[world], together[world] = _launched(world, Path(folder) / str(world), options.quick)
    report.table(
        ["processes", "update (s)", "by rank", "all-reduce (s)", "by rank", "bytes", "of the formula"],
        [_line(world, ranks, d, k) for world, ranks in found.items()],
    )
    report.say(
        "Bytes are those of the buffers handed to `torch.distributed.all_reduce` in one measurement by one rank, "
        "counted; the formula is 8 [2 K (d + 1) + d (d + 1) / 2] + 56 for any p. A ring sends 2 (p - 1) / p of them."
    )
    report.say(f"Against one process, the largest difference relative to the largest entry; bar {BAR:g}.")
    names = list(alone)
    rows_of = [(world, *(_apart(values[name], alone[name]) for name in names)) for world, values in together.items()]
    met = [(*line, "yes" if max(line[1:]) <= BAR else "NO") for line in rows_of]
    report.table(["processes", *names, "bar met"], met)
    report.finish("processes", options)


def _line(world: int, ranks: list[dict[str, float]], d: int, k: int) -> tuple[object, ...]:
    times = ([one[name] for one in ranks] for name in ("update", "reduce"))
    shown = [entry for column in times for entry in (max(column), ", ".join(f"{one:.3g}" for one in column))]
    expected = two_sums(k, d) if world > 1 else 0
    return (world, *shown, ranks[0]["bytes"], expected)


def _launched(world: int, folder: Path, quick: bool) -> tuple[list[dict[str, float]], dict[str, Tensor]]:
    """What each rank found, and the values that the first one holds."""
    folder.mkdir()
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world)]
    launch += ["--log-dir", str(folder / "logs"), "-m", "benchmarks.scale.processes", "--rank-in", str(folder)]
    subprocess.run([*launch, *(["--quick"] * quick)], check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    ranks = [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(world)]
    return ranks, torch.load(folder / "values.pt", weights_only=True)


def _rank(folder: Path, rows: int, d: int, k: int) -> None:
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    times, values = _measured(rank, dist.get_world_size(), rows, d, k)
    (folder / f"rank{rank}.json").write_text(json.dumps(times))
    if rank == 0:
        torch.save(values, folder / "values.pt")
    dist.barrier()
    dist.destroy_process_group()


def _measured(rank: int, world: int, rows: int, d: int, k: int) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Seconds and bytes of one rank, and the values that it holds in the end."""
    torch.set_num_threads(1)
    features, labels = _share(rows, d, k, rank, world)
    begun = time.perf_counter()
    moments = ClassMoments(k)
    for start in range(0, len(labels), BLOCK):
        moments.update(features[start : start + BLOCK], labels[start : start + BLOCK])
    spent, state, seconds, moved = time.perf_counter() - begun, moments.state_dict(), [], 0
    for _ in range(MEASUREMENTS):
        moments.load_state_dict(state)
        if world > 1:
            dist.barrier()
        begun = time.perf_counter()
        moved = _reduced(moments)
        seconds.append(time.perf_counter() - begun)
    return {"update": spent, "reduce": median(seconds), "bytes": moved}, _values(moments)


def _share(rows: int, d: int, k: int, rank: int, world: int) -> tuple[Tensor, Tensor]:
    """Rows rank, rank + world, ... of the same sample, whatever the number of ranks."""
    draws = generator(0)
    means = torch.randn(k, d, generator=draws, dtype=torch.float64).add_(1)
    labels = torch.randint(k, (rows,), generator=draws)
    noise = [
        torch.randn(stop - start, d, generator=draws, dtype=torch.float64)[(rank - start) % world :: world]
        for start, stop in ((start, min(start + BLOCK, rows)) for start in range(0, rows, BLOCK))
    ]
    labels = labels[rank::world]
    return torch.cat(noise).add_(means[labels]), labels


def _reduced(moments: ClassMoments) -> int:
    """All-reduce; the bytes of the buffers that were handed over."""
    handed: list[int] = []
    exchange = dist.all_reduce

    def counted(buffer: Tensor, *args: object, **options: object) -> object:
        handed.append(buffer.nbytes)
        return exchange(buffer, *args, **options)

    with patch.object(dist, "all_reduce", counted):
        moments.all_reduce()
    return sum(handed)


def _values(moments: ClassMoments) -> dict[str, Tensor]:
    metrics = {"NC1": nc1(moments), "NC2": feature_distance(CentredMeans(moments))}
    arrays = {"means": moments.mean, "traces": moments.within, "scatter": moments.scatter}
    return arrays | {name: torch.tensor(value, dtype=torch.float64) for name, value in metrics.items()}


def _apart(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


if __name__ == "__main__":
    main()
