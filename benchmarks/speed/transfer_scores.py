"""Transferability scores beside the forward pass that makes the features, and beside the published formulas on rows."""

from __future__ import annotations

from statistics import median

import numpy as np
import torch
from benchmarks.measuring import Report, arguments, paired, ratio
from torch import Tensor

from tightframe.collapse.transfer import transfer_scores
from tightframe.core.rng import generator
from tightframe.nn.networks import build

BAR = 0.05
NAMES = ("H-score", "TransRate", "LogME")


def main() -> None:
    options = arguments(__doc__).parse_args()
    torch.set_num_threads(1)
    report = Report("Transferability scores", "python -m benchmarks.speed.transfer_scores")
    report.say(
        "Forward: ResNet18 on noise images 3 x 32 x 32 in evaluation mode, float32. Scores: NC1, both H-scores, "
        "TransRate, rate reduction and LogME of its features, in float64. Replicate: one bootstrap replicate of all "
        "six (16 groups). Probes: logistic regression and ridge classifier. CPU seconds, one round; bar "
        f"{BAR:g} for the scores without probes and replicates."
    )
    cells = [(512, 64, 10)] if not options.quick else [(40, 4, 4)]
    report.table(
        ["d", "N", "K", "forward (s)", "scores (s)", "scores/forward", "bar met", "replicate (s)", "probes (s)"],
        [_beside_forward(*cell) for cell in cells],
    )
    report.say(
        "Beside H-score, TransRate and LogME as published (pseudo-inverse, determinants d x d and singular values of "
        "the rows), on Gaussian classes. Difference: the largest relative one of the three values. Medians of three "
        "rounds that take turns."
    )
    cells = [(2000, 256, 10), (4000, 512, 10), (1000, 512, 50)] if not options.quick else [(60, 8, 3)]
    report.table(
        ["N", "d", "K", "all six, ours (s)", "three, published (s)", "published/ours", "difference"],
        [_beside_published(*cell) for cell in cells],
    )
    report.finish("transfer_scores", options)


def _beside_forward(samples: int, width: int, classes: int) -> tuple:
    draws = generator(0)
    images, labels = torch.randn(samples, 3, 32, 32, generator=draws), torch.arange(samples) % classes
    model = build("resnet18", shape=(3, 32, 32), classes=classes, width=width).eval()

    def forward() -> Tensor:
        with torch.no_grad():
            return torch.cat([model.forward_features(part) for part in images.split(128)])

    features = forward()
    times = paired(
        {
            "forward": forward,
            "scores": lambda: transfer_scores(features, labels, probe=False),
            "many": lambda: transfer_scores(features, labels, probe=False, bootstrap=12),
            "few": lambda: transfer_scores(features, labels, probe=False, bootstrap=2),
            "probes": lambda: transfer_scores(features, labels),
        },
        repeats=1,
        warm=False,
    )
    seconds = {name: median(spent) for name, spent in times.items()}
    share = seconds["scores"] / seconds["forward"]
    replicate = (seconds["many"] - seconds["few"]) / 10
    return (
        *(features.shape[1], samples, classes, seconds["forward"], seconds["scores"], share),
        *("yes" if share <= BAR else "no", replicate, seconds["probes"] - seconds["scores"]),
    )


def _beside_published(samples: int, width: int, classes: int) -> tuple:
    draws, labels = generator(0), torch.arange(samples) % classes
    means = torch.randn(classes, width, generator=draws, dtype=torch.float64)
    features = means[labels] + torch.randn(samples, width, generator=draws, dtype=torch.float64)
    rows, classes_of = features.numpy(), labels.numpy()
    ours = transfer_scores(features, labels, probe=False)
    theirs = _published(rows, classes_of)
    work = {
        "ours": lambda: transfer_scores(features, labels, probe=False),
        "published": lambda: _published(rows, classes_of),
    }
    times = paired(work, repeats=3, warm=False)
    difference = max(abs(ours[name] - value) / abs(value) for name, value in zip(NAMES, theirs, strict=True))
    return (
        *(samples, width, classes, median(times["ours"]), median(times["published"])),
        *(ratio(times["published"], times["ours"]), difference),
    )


def _published(rows: np.ndarray, labels: np.ndarray) -> tuple[float, float, float]:
    return _h_score(rows, labels), _transrate(rows, labels), _logme(rows, labels)


def _h_score(rows: np.ndarray, labels: np.ndarray) -> float:
    means = np.zeros_like(rows)
    for label in np.unique(labels):
        means[labels == label] = rows[labels == label].mean(0)
    inverse = np.linalg.pinv(np.cov(rows, rowvar=False), rcond=1e-15)
    return float(np.trace(inverse @ np.cov(means, rowvar=False)))


def _transrate(rows: np.ndarray, labels: np.ndarray, eps: float = 1e-4) -> float:
    def rate(part: np.ndarray) -> float:
        return np.linalg.slogdet(np.eye(part.shape[1]) + part.T @ part / (len(part) * eps))[1] / 2

    centred = rows - rows.mean(0)
    return rate(centred) - np.mean([rate(centred[labels == label]) for label in np.unique(labels)])


def _logme(rows: np.ndarray, labels: np.ndarray) -> float:
    (n, d), found = rows.shape, []
    left, singular, _ = np.linalg.svd(rows, full_matrices=False)
    sigma = singular**2
    for label in np.unique(labels):
        target = (labels == label).astype(float)
        squares, a, b = (left.T @ target) ** 2, 1.0, 1.0
        rest = target @ target - squares.sum()
        for _ in range(11):
            t = a / b
            freedom, weight = (sigma / (sigma + t)).sum(), (sigma * squares / (t + sigma) ** 2).sum()
            residual = (squares / (1 + sigma / t) ** 2).sum() + rest
            a, b = freedom / (weight + 1e-5), (n - freedom) / (residual + 1e-5)
            if abs(a / b - t) / t <= 1e-3:
                break
        value = d / 2 * np.log(a) + n / 2 * np.log(b) - np.log(a + b * sigma).sum() / 2
        found.append((value - b / 2 * residual - a / 2 * weight - n / 2 * np.log(2 * np.pi)) / n)
    return float(np.mean(found))


if __name__ == "__main__":
    main()
