"""NC4 and bias collapse: does the classifier decide like the nearest class centre?"""

from __future__ import annotations

import torch
from torch import Tensor

from tightframe.collapse.means import CentredMeans
from tightframe.core.checks import check_classifier, check_features
from tightframe.core.errors import InputError

_BLOCK = 1 << 24


def nearest_class(features: Tensor, means: CentredMeans) -> Tensor:
    r"""Index of the nearest class mean of each row (n,).

    .. math:: \arg\min_k \|h - \mu_k\| = \arg\min_k \left( \tfrac12\|c_k\|^2 - \langle h-\mu_G, c_k\rangle \right),
        \qquad c_k = \mu_k-\mu_G

    Both sides are centred first, so a common offset, however large, does not eat the digits that decide. Blocked over
    samples and classes.

    Args:
        features: (n, d).
        means: Centred class means.

    Returns:
        Class indices (n,), int64, in the numbering of the moments.

    Raises:
        InputError: Features of another dimension, or NaN or inf among them.
    """
    features = check_features(features)
    if features.shape[1] != means.features:
        raise InputError(
            f"features of dimension {means.features}, as the class means",
            got=f"dimension {features.shape[1]}",
            remedy="Measure features and means at the same layer.",
        )
    best = torch.empty(len(features), dtype=torch.int64, device=features.device)
    step = max(1, _BLOCK // max(means.classes, means.features))
    for start in range(0, len(features), step):
        rows = features[start : start + step].double() - means.origin
        least = torch.full((len(rows),), torch.inf, dtype=torch.float64, device=rows.device)
        for low, high in means.ranges():
            centres = means.rows(low, high)
            value, index = torch.addmm(means.norms[low:high].square() / 2, rows, centres.T, alpha=-1).min(dim=1)
            nearer = value < least
            least = torch.where(nearer, value, least)
            target = best[start : start + step]
            target[nearer] = index[nearer] + low
        if not bool(torch.isfinite(least).all()):
            raise InputError("features are finite", got="NaN or inf", remedy="Look for divergence or overflow.")
    return means.index[best]


def disagreement(features: Tensor, predicted: Tensor, means: CentredMeans) -> float:
    """NC4: share of rows where the network's decision is not the nearest class mean.

    Args:
        features: (n, d).
        predicted: argmax of the logits W h + b, bias included (n,).
        means: Centred class means, usually those of the training set.

    Returns:
        Share in [0, 1].

    Raises:
        InputError: No rows, or numbers of rows that differ.

    Reference: [papyan2020prevalence], NC4.
    """
    if len(features) == 0 or predicted.shape != (len(features),):
        raise InputError(
            "one decision per row and at least one row",
            got=f"{len(features)} rows and decisions of shape {tuple(predicted.shape)}",
            remedy="Pass argmax of the logits over classes.",
        )
    return float((nearest_class(features, means) != predicted).double().mean())


def bias_collapse(means: CentredMeans, weight: Tensor, bias: Tensor) -> float:
    """Norm |b + W mu_G| of the logits at the global mean; zero at collapse. Reference: [zhu2021geometric]."""
    weight, bias = check_classifier(weight, bias, means.classes, means.features)
    return float(torch.linalg.vector_norm(bias + weight @ means.origin))
