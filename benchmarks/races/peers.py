"""Other tools for neural collapse, if they are at hand: the same quantities through their own interfaces."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import distributions
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

# Package that is imported -> name of the project and where it is to be had.
PEERS = {
    "neural_collapse": "rhubarbwu/neural-collapse",
    "kowalski": "kowalski",
    "nc_toolbox": "felixsh/nc-toolbox",
}
COMMAND = "--peer PATH --peer PATH --peer PATH"
TILE = 64


def add_option(parser: argparse.ArgumentParser) -> None:
    """The option --peer."""
    parser.add_argument(
        "--peer", action="append", type=Path, default=[], metavar="PATH", help="folder to import from (see README.md)"
    )


def load(paths: Sequence[Path]) -> dict[str, ModuleType]:
    """The peers that can be imported with these folders on the path."""
    sys.path[:0] = [str(path) for path in paths if str(path) not in sys.path]
    found = {}
    for package in PEERS:
        try:
            found[package] = import_module(package)
        except ImportError:
            continue
    return found


def describe(found: dict[str, ModuleType]) -> str:
    """One line that says which peers took part, at which version, and which did not."""
    present = [f"{PEERS[package]} ({_version(module)})" for package, module in found.items()]
    absent = [name for package, name in PEERS.items() if package not in found]
    line = "Peers: " + (", ".join(present) or "none") + "."
    return line + (f" Absent, so skipped: {', '.join(absent)}." if absent else "")


def statistics(features: Tensor, labels: Tensor, k: int, batch: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """neural-collapse: means, their mean, within-class variances and covariance, by its two passes."""
    from neural_collapse.accumulate import CovarAccumulator, MeanAccumulator, VarNormAccumulator

    d = features.shape[1]
    first = MeanAccumulator(k, d)
    for x, y in zip(features.split(batch), labels.split(batch), strict=True):
        first.accumulate(x, y)
    means, centre = first.compute()
    variances, covariance = VarNormAccumulator(k, d, M=means), CovarAccumulator(k, d, M=means)
    for x, y in zip(features.split(batch), labels.split(batch), strict=True):
        variances.accumulate(x, y, means)
        covariance.accumulate(x, y, means)
    return means, centre, variances.compute()[0], covariance.compute()


def pair_metrics(means: Tensor, variances: Tensor, tile: int = TILE) -> tuple[float, float]:
    """neural-collapse: CDNV, and the variance of the log kernel."""
    from neural_collapse.kernels import kernel_stats, log_kernel
    from neural_collapse.measure import variability_cdnv

    cdnv = variability_cdnv(variances, means, tile_size=tile)
    return cdnv, kernel_stats(means, means.mean(0), kernel=log_kernel, tile_size=tile)[1]


def nc1(package: str, features: Tensor, labels: Tensor, k: int, batch: int = 1024) -> float:
    """NC1 from features and labels in memory, by the way each tool documents."""
    if package == "neural_collapse":
        from neural_collapse.measure import covariance_ratio

        means, centre, _, covariance = statistics(features, labels, k, batch)
        return covariance_ratio(covariance, means, centre)
    if package == "kowalski":
        from kowalski.neural_collapse import within_class_variability
        from kowalski.utils import to_per_class_list

        return float(within_class_variability(to_per_class_list(features, labels)))
    import nc_toolbox

    rows, classes = features.numpy(), labels.numpy()
    means = nc_toolbox.class_embedding_means(rows, classes)
    return nc_toolbox.nc1_strong(rows, classes, means, nc_toolbox.global_embedding_mean(rows))


def cdnv(package: str, features: Tensor, labels: Tensor, k: int) -> float:
    """CDNV from features and labels in memory."""
    if package == "neural_collapse":
        from neural_collapse.measure import variability_cdnv

        means, _, variances, _ = statistics(features, labels, k, 1024)
        return variability_cdnv(variances, means, tile_size=TILE)
    if package == "kowalski":
        from kowalski.neural_collapse import class_distance_normalized_variance
        from kowalski.utils import to_per_class_list

        return float(class_distance_normalized_variance(to_per_class_list(features, labels)))
    import nc_toolbox

    rows, classes = features.numpy(), labels.numpy()
    means = nc_toolbox.class_embedding_means(rows, classes)
    return nc_toolbox.nc1_cdnv(means, nc_toolbox.class_embedding_variances(rows, classes, means))


def agreement(package: str, features: Tensor, labels: Tensor, weight: Tensor, bias: Tensor) -> float:
    """Share of samples where the classifier decides like the nearest class mean; kowalski has no such metric."""
    if package == "neural_collapse":
        from neural_collapse.accumulate import DecAccumulator
        from neural_collapse.measure import clf_ncc_agreement

        k, d = weight.shape
        means = statistics(features, labels, k, 1024)[0]
        decisions = DecAccumulator(k, d, M=means, W=weight)
        decisions.accumulate(features, labels, weight, means)
        return clf_ncc_agreement(decisions)
    if package == "kowalski":
        raise NotImplementedError("no such metric")
    import nc_toolbox

    rows, classes = features.numpy(), labels.numpy()
    means = nc_toolbox.class_embedding_means(rows, classes)
    return nc_toolbox.nc4_classifier_agreement(rows, weight.numpy(), bias.numpy(), means)


def etf_distance(package: str, means: Tensor) -> float:
    """NC2 of class means; only neural-collapse has it for features, kowalski for a classifier's rows."""
    if package == "neural_collapse":
        from neural_collapse.measure import simplex_etf_error

        return simplex_etf_error(means, means.mean(0))
    if package == "kowalski":
        from kowalski.neural_collapse import classifier_etf_convergence

        return float(classifier_etf_convergence(means - means.mean(0)))
    raise NotImplementedError("no such metric")


def _version(module: ModuleType) -> str:
    folder = Path(module.__file__).parent.parent
    if (folder / ".git").exists():
        commit = subprocess.run(["git", "-C", folder, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
        return f"commit {commit.stdout.strip()}" if commit.returncode == 0 else "commit unknown"
    names = {found.metadata["Name"]: found.version for found in distributions(path=[str(folder)])}
    return names.get(module.__name__, "version unknown")


def as_class_means(k: int, d: int, draws: torch.Generator) -> tuple[Tensor, Tensor]:
    """Class means and within-class variances for the metrics that start from them."""
    return torch.randn(k, d, generator=draws), 0.1 + torch.rand(k, generator=draws)
