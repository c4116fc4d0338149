"""Relative error of NC1 from one-pass moments against two passes in float64."""

from __future__ import annotations

from itertools import product

import torch
from benchmarks.measuring import Report, arguments
from torch import Tensor

from tightframe.collapse.variability import nc1
from tightframe.core.rng import generator
from tightframe.features.moments import ClassMoments

BAR = 1e-6
OFFSET = 10.0
ORDERS = ("shuffled", "sorted", "reversed")


def main() -> None:
    options = arguments(__doc__).parse_args()
    torch.set_num_threads(1)
    samples, d, k = (2_000, 16, 5) if options.quick else (20_000, 256, 10)
    report = Report("Accuracy of NC1 from one-pass moments", "python -m benchmarks.accuracy.moments")
    report.say(
        f"N = {samples:,}, d = {d}, K = {k}, float32 features: class means {OFFSET:g} + a standard normal, "
        "within-class standard deviation as given. Largest relative error of NC1, over the numbers of merged "
        f"workers, against two passes in float64 over the same float32 numbers. Bar: at most {BAR:g}. Last column: "
        "what raw second moments in float32 (sum h h^T - sum n_k mu_k mu_k^T, sums over batches) give, as a "
        "multiple of the right value."
    )
    columns = ["std", "order", "batch", *(f"{w} worker{'s' * (w > 1)}" for w in range(1, 5)), "bar met", "raw float32"]
    report.table(columns, list(_float32_features(samples, d, k)))
    counts, d, k = ((2_000, 10_000), 16, 5) if options.quick else ((10_000, 100_000, 1_000_000), 128, 10)
    report.say(
        f"State in float32 (`ClassMoments(dtype=torch.float32)`, the default where a device has no float64), d = {d}, "
        f"K = {k}, the same kind of data in random order: relative error of NC1 against a float64 state fed the same "
        "numbers as float64."
    )
    report.table(["std", "batch", *(f"N = {n:,}" for n in counts)], list(_float32_state(counts, d, k)))
    report.finish("accuracy", options)


def _float32_features(samples: int, d: int, k: int):
    for std, order in product((1.0, 1e-2, 1e-4), ORDERS):
        features, labels = _draw(samples, d, k, std=std, order=order)
        right = two_pass_nc1(features, labels, k)
        for batch in (128, 1024):
            errors = [_error(features, labels, k, batch, workers, right) for workers in range(1, 5)]
            raw = raw_nc1(features, labels, k, batch) / right
            yield std, order, batch, *errors, "yes" if max(errors) <= BAR else "NO", raw


def _float32_state(counts: tuple[int, ...], d: int, k: int):
    for std, batch in product((1.0, 1e-2, 1e-4), (128, 1024)):
        draws = generator(1)
        means = OFFSET + torch.randn(k, d, generator=draws)
        narrow, wide = ClassMoments(k, dtype=torch.float32), ClassMoments(k)
        errors = []
        for count in counts:
            while narrow.total < count:
                size = min(batch, count - narrow.total)
                labels = torch.randint(k, (size,), generator=draws)
                features = means[labels] + std * torch.randn(size, d, generator=draws)
                narrow.update(features, labels)
                wide.update(features.double(), labels)
            errors.append(abs(nc1(narrow) / nc1(wide) - 1))
        yield std, batch, *errors


def _draw(samples: int, d: int, k: int, *, std: float, order: str) -> tuple[Tensor, Tensor]:
    draws = generator(0)
    means = OFFSET + torch.randn(k, d, generator=draws)
    labels = torch.randint(k, (samples,), generator=draws)
    features = means[labels] + std * torch.randn(samples, d, generator=draws)
    if order == "shuffled":
        return features, labels
    index = labels.argsort(stable=True, descending=order == "reversed")
    return features[index], labels[index]


def _error(features: Tensor, labels: Tensor, k: int, batch: int, workers: int, right: float) -> float:
    parts = [ClassMoments(k) for _ in range(workers)]
    for turn, rows in enumerate(torch.arange(len(features)).split(batch)):
        parts[turn % workers].update(features[rows], labels[rows])
    for other in parts[1:]:
        parts[0].merge(other)
    return abs(nc1(parts[0]) / right - 1)


def two_pass_nc1(features: Tensor, labels: Tensor, k: int) -> float:
    """tr(S_W pinv(S_B)) / K by definition, in float64: means first, then residuals."""
    features, count = features.double(), torch.bincount(labels, minlength=k).double()
    means = torch.stack([features[labels == c].mean(0) for c in range(k)])
    residual = features - means[labels]
    return _trace(residual.T @ residual / len(features), means, count)


def raw_nc1(features: Tensor, labels: Tensor, k: int, batch: int) -> float:
    """The same from raw second moments summed in float32, as many training scripts do; NC1 itself in float64."""
    second, first = torch.zeros(features.shape[1], features.shape[1]), torch.zeros(k, features.shape[1])
    for rows, classes in zip(features.split(batch), labels.split(batch), strict=True):
        second += rows.T @ rows
        first.index_add_(0, classes, rows)
    count = torch.bincount(labels, minlength=k).float()
    means = first / count[:, None]
    within = (second - (means * count[:, None]).T @ means) / len(features)
    return _trace(within.double(), means.double(), count.double())


def _trace(within: Tensor, means: Tensor, count: Tensor) -> float:
    centred = means - count @ means / count.sum()
    between = centred.T @ (centred * (count / count.sum())[:, None])
    values, vectors = torch.linalg.eigh(between)
    rank = min(len(means) - 1, len(between))
    values, vectors = values[-rank:], vectors[:, -rank:]
    return float(((vectors.T @ within * vectors.T).sum(1) / values).sum()) / len(means)


if __name__ == "__main__":
    main()
