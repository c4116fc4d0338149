"""NC3: alignment of the classifier with the class means, in the published forms."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tightframe.collapse.means import DENSE, CentredMeans
from tightframe.collapse.simplex import Target, check_target, frame_distance, identity_distance
from tightframe.core.checks import check_classifier
from tightframe.core.errors import DegenerateError
from tightframe.core.linalg import add_gram, mirrored


def duality_gram(means: CentredMeans, weight: Tensor, target: Target = "etf") -> float:
    r"""NC3 of Zhu et al.

    .. math:: \left\| \tfrac{G}{\|G\|_F} - \tfrac{I - J/K}{\sqrt{K-1}} \right\|_F, \qquad G = W [\mu_k - \mu_G]

    and, for "of", with uncentred means against I/sqrt(K).

    Args:
        means: Centred class means.
        weight: Classifier (k, d), one row per class present in `means`.
        target: "etf" or "of".

    Reference: [zhu2021geometric]; [tirer2022extended] for the orthogonal frame.
    """
    check_target(target)
    weight = check_classifier(weight, None, means.classes, means.features)[0]
    rows = means.rows if target == "etf" else means.uncentred
    if means.classes <= DENSE:
        stacked = torch.cat([rows(*r) for r in means.ranges()])
        return frame_distance(weight @ stacked.T, target)
    left, right = weight.new_zeros(means.features, means.features), weight.new_zeros(means.features, means.features)
    inner, row_sum = weight.new_zeros(()), weight.new_zeros(means.features)
    for start, stop in means.ranges():
        w, c = weight[start:stop], rows(start, stop)
        inner, row_sum = inner + (w * c).sum(), row_sum + c.sum(0)
        add_gram(left, w)
        add_gram(right, c)
    if target == "etf":
        inner = inner - weight.sum(0) @ row_sum / means.classes
    norm = (mirrored(left) * mirrored(right)).sum().clamp(min=0).sqrt()
    return identity_distance(inner, norm, means.classes, target)


def duality_distance(means: CentredMeans, weight: Tensor, *, centred: bool = True) -> float:
    r"""NC3 of Papyan et al., and of Tirer and Bruna with `centred=False`.

    .. math:: \left\| \tfrac{W}{\|W\|_F} - \tfrac{C^\top}{\|C\|_F} \right\|_F

    with C the centred (or uncentred) class means. The notebook of Papyan et al. logs the square of this.
    """
    weight = check_classifier(weight, None, means.classes, means.features)[0]
    rows = means.rows if centred else means.uncentred
    scale_w = torch.linalg.vector_norm(weight)
    scale_c = _over_blocks(means, lambda start, stop: rows(start, stop).square().sum()).sqrt()
    if not (float(scale_w) > 0 and float(scale_c) > 0):
        raise DegenerateError("a classifier and class means that are not zero", got="zero", remedy="Train first.")
    return float(
        _over_blocks(
            means,
            lambda start, stop: (weight[start:stop] / scale_w - rows(start, stop) / scale_c).square().sum(),
        ).sqrt()
    )


def class_cosines(means: CentredMeans, weight: Tensor) -> Tensor:
    """Cosine between each classifier row and its centred class mean (k,)."""
    products = class_products(means, weight)
    norms = torch.linalg.vector_norm(weight.detach().double(), dim=1) * means.norms
    if not float(norms.min()) > 0:
        raise DegenerateError(
            "classifier rows and centred means that are not zero", got="one of length zero", remedy="Train first."
        )
    return products / norms


def class_products(means: CentredMeans, weight: Tensor) -> Tensor:
    """Inner product of each classifier row with its centred class mean (k,); its variance is UNC3."""
    weight = check_classifier(weight, None, means.classes, means.features)[0]
    return torch.cat([torch.linalg.vecdot(weight[a:b], means.rows(a, b)) for a, b in means.ranges()])


def _over_blocks(means: CentredMeans, term: Callable[[int, int], Tensor]) -> Tensor:
    return sum((term(*r) for r in means.ranges()), start=means.count.new_zeros(()))
