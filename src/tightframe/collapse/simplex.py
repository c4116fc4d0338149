"""NC2: how close class means or classifier rows are to a simplex ETF, an orthogonal frame, or the best possible."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor

from tightframe.collapse.means import DENSE, CentredMeans
from tightframe.core import linalg
from tightframe.core.checks import check_count
from tightframe.core.errors import DegenerateError, InputError
from tightframe.core.linalg import add_gram, mirrored

Target = Literal["etf", "of"]


def check_target(target: str) -> None:
    """One of the two frames by name."""
    if target not in ("etf", "of"):
        raise InputError('target is "etf" or "of"', got=repr(target), remedy="Use one of the two.")


def feature_distance(means: CentredMeans, target: Target = "etf") -> float:
    r"""NC2 of the features.

    .. math:: \left\| \tfrac{G}{\|G\|_F} - \tfrac{I - J/K}{\sqrt{K-1}} \right\|_F,
        \qquad G_{ij} = \langle \mu_i-\mu_G, \mu_j-\mu_G\rangle

    for "etf", and with uncentred means against I/sqrt(K) for "of".

    Args:
        means: Centred class means.
        target: "etf" (simplex) or "of" (orthogonal frame).

    Returns:
        Distance in [0, sqrt 2]; at least `distance_floor` where the frame does not fit into the space.

    Reference: [tirer2022extended], equation 27.
    """
    check_target(target)
    if means.classes > DENSE:
        rows = means.rows if target == "etf" else means.uncentred
        return _blocked_distance((rows(*r) for r in means.ranges()), target)
    if target == "etf":
        return frame_distance(means.gram, target)
    shift = means.all @ means.origin
    return frame_distance(means.gram + shift[:, None] + (shift + means.origin @ means.origin), target)


def classifier_distance(weight: Tensor, *, centre: bool = False) -> float:
    """NC2 of a classifier (k, d) against the simplex ETF: rows as they are ("zhu") or less their mean ("nc-loss")."""
    rows = weight.detach().double()
    if centre:
        rows = rows - rows.mean(0)
    if len(rows) > DENSE:
        return _blocked_distance([rows], "etf")
    return frame_distance(linalg.gram(rows.T), "etf")


def distance_floor(classes: int, features: int, target: Target = "etf") -> float:
    r"""The least value that NC2 can take with K classes in d dimensions.

    .. math:: \sqrt{2 - 2\sqrt{\tfrac{d}{K-1}}} \ \text{for}\ d < K-1, \quad \text{else}\ 0

    (and K in place of K - 1 for the orthogonal frame): <G, T> is at most the trace of G over sqrt(K-1), and a matrix
    of rank d has trace at most sqrt(d) times its Frobenius norm.
    """
    check_count(classes, "classes", least=2)
    check_count(features, "features")
    check_target(target)
    needed = classes - 1 if target == "etf" else classes
    return max(0.0, 2 - 2 * (features / needed) ** 0.5) ** 0.5 if features < needed else 0.0


def equinorm(norms: Tensor, *, unbiased: bool = False) -> float:
    """Coefficient of variation of class norms, std/mean; `unbiased` divides by K-1 as Papyan's notebook does."""
    norms = norms.detach().double()
    mean = float(norms.mean())
    if not 0 < mean < math.inf:
        raise DegenerateError(
            "finite norms above zero",
            got="all zero" if mean == 0 else f"a mean of {mean}",
            remedy="Look for dead units, an untrained layer or divergence.",
        )
    return float(norms.std(correction=int(unbiased))) / mean


def frame_distance(gram: Tensor, target: Target) -> float:
    """| G/|G| - T | with T the unit-norm Gram matrix of the target frame, from a (k, k) matrix G."""
    norm = _norm(torch.linalg.matrix_norm(gram))
    classes = len(gram)
    ideal = torch.eye(classes, dtype=gram.dtype, device=gram.device)
    if target == "etf":
        ideal = (ideal - 1 / classes) / (classes - 1) ** 0.5
    else:
        ideal /= classes**0.5
    return float(torch.linalg.matrix_norm(gram / norm - ideal))


def identity_distance(inner: Tensor, norm: Tensor, classes: int, target: Target) -> float:
    """The same from <G, I - J/K> (or <G, I>) and |G|."""
    size = (classes - 1 if target == "etf" else classes) ** 0.5
    return max(0.0, float(2 - 2 * inner / (size * _norm(norm)))) ** 0.5


def _blocked_distance(blocks: Iterable[Tensor], target: Target) -> float:
    """Distance of the Gram matrix of many rows, in blocks, to the target frame, without a K x K matrix.

    |G/|G| - T|^2 = 2 - 2 <G, T>/|G| needs traces and a d x d matrix only; its absolute error is about 1e-8, which is
    why up to `DENSE` classes the matrices themselves are compared.
    """
    classes, square, total = 0, None, 0.0
    for block in blocks:
        square = block.new_zeros(block.shape[1], block.shape[1]) if square is None else square
        add_gram(square, block)
        total += block.sum(0)
        classes += len(block)
    inner = square.trace() - (total @ total / classes if target == "etf" else 0.0)
    return identity_distance(inner, torch.linalg.matrix_norm(mirrored(square)), classes, target)


def _norm(norm: Tensor) -> Tensor:
    if not 0 < float(norm) < math.inf:
        raise DegenerateError(
            "vectors that differ, with a finite Gram matrix",
            got="all equal or all zero" if float(norm) == 0 else f"a Gram matrix of norm {float(norm)}",
            remedy="Look for dead units, an untrained layer or divergence.",
        )
    return norm
