"""A recording sorted by ours and by others: F1 of the spikes, overlapping ones apart, and CPU seconds."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

import numpy as np
import torch
from benchmarks.measuring import Report, arguments, cpu_seconds

from tightframe.data.recorded.recordings import Recording
from tightframe.data.recorded.spikes import Spikes
from tightframe.dictionary.spikes.sorting import sort_spikes
from tightframe.dictionary.spikes.sorting_scores import match_spikes
from tightframe.experiments.dictionary.spike_sorting import Case, Condition, Config, simulated
from tightframe.experiments.dictionary.threshold_sorter import threshold_sorting

Sorter = Callable[[Recording], Spikes]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--data-root", type=Path, help="folder of the data sets (TIGHTFRAME_DATA)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    labelled = bool(options.data_root or os.environ.get("TIGHTFRAME_DATA")) and not options.quick
    report = Report("Spike sorting, beside other methods", "python -m benchmarks.races.spikes")
    report.say(
        "One channel at 24 kHz, three units of 10 Hz, 14 % of the spikes within 1.5 ms of another unit's, white noise "
        "in units of the mean peak. A spike counts where it lies within 0.4 ms of a true one; units may be late by "
        "0.5 ms. 'threshold, PCA, GMM': troughs below 4 noise levels, five principal components, a mixture of "
        "normals with the number of units given or chosen by BIC; ours is not told it. Medians over the seeds. "
        f"{_versions()}"
    )
    rows = []
    for kind in ("analytic", "labelled") if labelled else ("analytic",):
        for noise in (0.1,) if options.quick else (0.05, 0.1, 0.15, 0.2):
            rows += _raced(kind, noise, options)
    columns = ["waveforms", "noise", "method", "F1", "least F1", "F1 overlapping", "F1 isolated", "units", "CPU (s)"]
    report.table(columns, rows)
    report.finish("spikes", options)


def _raced(kind: str, noise: float, options: argparse.Namespace) -> list[tuple]:
    config = Config(seconds=4.0 if options.quick else 20.0)
    rows = []
    for name, sorter in _sorters().items():
        scores, spent, units = [], [], []
        for seed in range(1 if options.quick else 5):
            truth = simulated(Case(kind, noise, Condition(), seed, config, options.data_root))
            found: list[Spikes] = []
            spent.append(cpu_seconds(partial(_kept, found, sorter, truth.recording)))
            scores.append(match_spikes(found[0], truth.spikes, lag=5e-4))
            units.append(len(found[0].labels))
        parts = [median(getattr(score, part).f1 for score in scores) for part in ("overall", "overlapping", "isolated")]
        least = min(score.overall.f1 for score in scores)
        shown = [f"{value:.4f}" for value in (parts[0], least, *parts[1:])]
        rows.append((kind, noise, name, *shown, "/".join(map(str, np.unique(units))), median(spent)))
    return rows


def _kept(found: list[Spikes], sorter: Sorter, recording: Recording) -> None:
    found.append(sorter(recording))


def _sorters() -> dict[str, Sorter]:
    return {
        "tightframe": lambda recording: sort_spikes(recording).spikes,
        "threshold, PCA, GMM, told 3 units": lambda recording: threshold_sorting(recording, units=3),
        "threshold, PCA, GMM, BIC": threshold_sorting,
    }


def _versions() -> str:
    found = []
    for package in ("scikit-learn", "spikeinterface"):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} not installed")
    return (
        f"Packages: {', '.join(found)}. Of spikeinterface's own sorters `simple` needs numba, and tridesclous2, "
        "spykingcircus2 and lupin further packages; they are left out."
    )


if __name__ == "__main__":
    main()
