"""Literal float64 definitions of every metric, in numpy with loops over classes and dense K x K and d x d matrices."""

from __future__ import annotations

import math

import numpy as np
import torch


def gaussian_classes(counts, features, *, seed, spread=0.3, offset=0.0, dtype=torch.float64):
    """Shuffled features (n, d) and labels (n,): standard normal class means, within-class std `spread`."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    labels = labels[torch.randperm(len(labels), generator=draw)]
    means = torch.randn(len(counts), features, dtype=torch.float64, generator=draw) + offset
    noise = torch.randn(len(labels), features, dtype=torch.float64, generator=draw)
    return (means[labels] + spread * noise).to(dtype), labels


class TwoPass:
    """Counts, means and covariances of the classes by the textbook two passes."""

    def __init__(self, features, labels, *, classes=None):
        h = features.double().numpy()
        y = labels.numpy()
        self.names = [k for k in range(int(y.max()) + 1 if classes is None else classes) if (y == k).any()]
        self.groups = [h[y == k] for k in self.names]
        self.count = np.array([len(g) for g in self.groups])
        self.total, self.classes, self.features = int(self.count.sum()), len(self.groups), h.shape[1]
        # Summed about the first row, so that a large common offset costs the reference no digits.
        self.mean = np.stack([g[0] + (g - g[0]).mean(0) for g in self.groups])
        self.scatters = [(g - m).T @ (g - m) for g, m in zip(self.groups, self.mean, strict=True)]
        self.trace = np.array([((g - m) ** 2).sum() for g, m in zip(self.groups, self.mean, strict=True)])
        self.variance = self.trace / self.count

    @property
    def scatter(self):
        return sum(self.scatters)

    def centre(self, kind="sample"):
        weights = self.count / self.total if kind == "sample" else np.full(self.classes, 1 / self.classes)
        return self.mean[0] + weights @ (self.mean - self.mean[0])

    def centred(self, kind="sample"):
        return self.mean - self.centre(kind)

    def within(self, kind="sample"):
        if kind == "sample":
            return self.scatter / self.total
        return sum(s / n for s, n in zip(self.scatters, self.count, strict=True)) / self.classes

    def between(self, weights="count", centre="sample"):
        out = np.zeros((self.features, self.features))
        for n, row in zip(self.count, self.centred(centre), strict=True):
            out += (n / self.total if weights == "count" else 1 / self.classes) * np.outer(row, row)
        return out

    def nc1(self, *, weights="count", centre="sample", within="sample", divide=True):
        return nc1_of(self.within(within), self.between(weights, centre), self.classes, divide=divide)

    def trace_ratio(self):
        return np.trace(self.within()) / np.trace(self.between())

    def cdnv(self, exponent=1):
        total, pairs = 0.0, 0
        for i in range(self.classes):
            for j in range(self.classes):
                if i != j:
                    gap = ((self.mean[i] - self.mean[j]) ** 2).sum()
                    total, pairs = total + (self.variance[i] + self.variance[j]) / (2 * gap**exponent), pairs + 1
        return total / pairs

    def vci(self):
        within, between = self.within(), self.between()
        inverse = np.linalg.pinv(within + between, rcond=1e-11, hermitian=True)
        return 1 - np.trace(inverse @ between) / min(self.features, self.classes - 1)


def nc1_of(within, between, classes, *, divide):
    """tr(S_W pinv(S_B)), the pseudo-inverse cut at rank min(K-1, d)."""
    values, vectors = np.linalg.eigh(between)
    rank = min(classes - 1, len(between))
    values, vectors = values[-rank:], vectors[:, -rank:]
    trace = sum(vectors[:, r] @ within @ vectors[:, r] / values[r] for r in range(rank))
    return trace / classes if divide else trace


def etf_target(classes):
    return (np.eye(classes) - 1 / classes) / math.sqrt(classes - 1)


def gram_error(gram, target):
    return np.linalg.norm(gram / np.linalg.norm(gram) - target)


def pair_cosines(rows):
    """Cosines of all ordered pairs of different rows."""
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return np.array([unit[i] @ unit[j] for i in range(len(rows)) for j in range(len(rows)) if i != j])


def pair_logs(rows):
    """log(1/|u_i - u_j|) of all ordered pairs of different unit rows."""
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    gaps = [np.linalg.norm(unit[i] - unit[j]) for i in range(len(rows)) for j in range(len(rows)) if i != j]
    return -np.log(np.array(gaps))


def nearest(features, means):
    """Index of the nearest row of `means`, one sample at a time."""
    return np.array([np.argmin(((means - h) ** 2).sum(1)) for h in features])
