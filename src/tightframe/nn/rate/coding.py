"""Coding rates: how long a code of the features is at a given precision, for all of them and class by class.

Lengths are in nats. `eps2` is the square of the precision everywhere. Published codes disagree: some pass the square
under the name eps, others pass eps and square it inside.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tightframe.core.checks import check_count, check_features, check_labels, check_same_device
from tightframe.core.errors import InputError
from tightframe.core.typing import Features, Float, Int

# Classes whose sizes differ by at most this factor share one batched factorisation; so do all of at most _SMALL rows.
_ALIKE = 1.5
_SMALL = 16
# Memberships of several classes are taken together up to this many numbers.
_TOGETHER = 1 << 24
_ROW_SUM = 1e-3


@dataclass(frozen=True)
class RateReduction:
    """Coding rates of features and of their classes, in nats.

    Args:
        total: R, rate of all features together; a tensor without axes.
        shares: Rates of the classes, each times its share of the samples, (k,); zero for a class without samples.
    """

    total: Float[Tensor, ""]
    shares: Float[Tensor, " k"]

    @property
    def compressed(self) -> Float[Tensor, ""]:
        """R_c, the rate of features coded class by class."""
        return self.shares.sum()

    @property
    def delta(self) -> Float[Tensor, ""]:
        """Delta R = R - R_c, the rate saved by knowing the classes; never negative but for rounding."""
        return self.total - self.compressed


def coding_rate(features: Features, eps2: float = 0.5, *, dtype: torch.dtype | None = None) -> Float[Tensor, ""]:
    r"""Nats per sample that code the features up to a mean square error of eps2.

    .. math:: R(Z, \epsilon) = \tfrac12 \log\det\Big(I + \frac{d}{n\,\epsilon^2} Z^\top Z\Big)

    where Z is `features` (n, d), one sample per row. The determinant is taken of the smaller of Z^T Z and Z Z^T.
    Rows of a length near one are expected: at lengths of 1000 the identity drowns in float32.

    Args:
        features: Z (n, d), differentiable.
        eps2: Square of the precision, above 0.
        dtype: torch.float32 or torch.float64 for products and factors; by default that of the features, float32 for
            half precision.

    Returns:
        R, a tensor without axes. Reading whether it is finite waits for the device once.

    Raises:
        InputError: Not a matrix with a row, NaN or inf, or eps2 not above 0.

    Example:
        >>> round(float(coding_rate(torch.eye(4), 1.0)), 6) == round(2 * math.log(2), 6)
        True

    Reference: [yu2020learning], section 2.
    """
    rows = _rows(features, dtype)
    with torch.autocast(rows.device.type, enabled=False):
        return _finite(_total(rows, check_precision(eps2)), rows)


def rate_reduction(
    features: Features,
    target: Int[Tensor, " n"] | Float[Tensor, "n k"],
    *,
    eps2: float = 0.5,
    classes: int | None = None,
    dtype: torch.dtype | None = None,
) -> RateReduction:
    r"""Coding rates of all features and of their classes.

    .. math:: \Delta R = R(Z) - \sum_j \frac{n_j}{2n}
        \log\det\Big(I + \frac{d}{n_j \epsilon^2} Z^\top \Pi_j Z\Big), \qquad n_j = \operatorname{tr} \Pi_j

    where Z is `features` (n, d) and the diagonal matrix Pi_j holds the memberships in class j, column j of `target`
    (n, k); labels (n,) are memberships of 0 and 1. With labels every determinant is taken on its smaller side,
    n_j x n_j or d x d, and classes of similar size share a batched Cholesky factorisation, padded by zero rows, which
    change no determinant. Soft memberships need a side of min(n, d) for every class, and as much memory.

    Args:
        features: Z (n, d), differentiable.
        target: Labels (n,), integers, or soft memberships (n, k), not negative, rows with sum 1, differentiable.
        eps2: Square of the precision, above 0.
        classes: K; by default one more than the largest label, or the columns of the memberships.
        dtype: As for `coding_rate`.

    Returns:
        R and the shares of the classes. Class sizes are read from the device, so that each call waits for it.

    Raises:
        InputError: Shapes that do not fit, NaN or inf, labels out of range, memberships that are none.

    Example:
        >>> rates = rate_reduction(torch.eye(4), torch.tensor([0, 0, 1, 1]), eps2=1.0)
        >>> round(float(rates.delta), 6) == round(2 * math.log(2) - math.log(3), 6)
        True

    Reference: [yu2020learning], section 2; [chan2022redunet].
    """
    rows = _rows(features, dtype)
    eps2 = check_precision(eps2)
    if not isinstance(target, Tensor):
        raise InputError("the target is a tensor", got=type(target).__name__, remedy="Use torch.as_tensor.")
    check_same_device(rows, target, "features and target")
    with torch.autocast(rows.device.type, enabled=False):
        if target.is_floating_point():
            memberships = _memberships(target, len(rows), classes)
            shares = _soft_shares(rows, memberships.to(rows.dtype), eps2)
        else:
            if classes is None:
                classes = max(1, 1 + int(target.max())) if target.numel() else 1
            labels = check_labels(target, len(rows), check_count(classes, "classes"))
            shares = _label_shares(rows, labels, classes, eps2)
        return RateReduction(_finite(_total(rows, eps2), rows), shares)


def check_precision(eps2: float) -> float:
    """A finite squared precision above 0."""
    if isinstance(eps2, bool) or not isinstance(eps2, int | float) or not 0 < eps2 < math.inf:
        raise InputError("a finite eps2 above 0", got=repr(eps2), remedy="Use 0.5; it is the square of the precision.")
    return float(eps2)


def _rows(features: Features, dtype: torch.dtype | None) -> Features:
    """The features in the precision of the factorisations, autograd history kept."""
    kept = check_features(features).dtype
    if dtype not in (None, torch.float32, torch.float64):
        raise InputError("dtype float32 or float64", got=repr(dtype), remedy="Leave it out, or use torch.float64.")
    if not len(features):
        raise InputError("at least one row of features", got="none", remedy="Leave empty batches out.")
    return features.to(dtype or kept)


def _memberships(target: Tensor, rows: int, classes: int | None) -> Tensor:
    wanted = classes or (target.shape[1] if target.ndim == 2 else 1)
    if target.shape != (rows, wanted) or wanted < 1:
        raise InputError(
            f"memberships have shape (n, k) = ({rows}, {classes or 'k'})",
            got=f"shape {tuple(target.shape)}",
            remedy="Pass one row per sample; class indices are integers of shape (n,).",
        )
    sums = target.detach().double().sum(1)
    low, least, most = torch.stack([target.detach().amin().double(), *torch.aminmax(sums)]).tolist()
    if not (low >= -_ROW_SUM and least >= 1 - _ROW_SUM and most <= 1 + _ROW_SUM):
        raise InputError(
            "memberships are not negative and have sum 1 in every row",
            got=f"a least entry of {low:g} and row sums from {least:g} to {most:g}",
            remedy="Take a softmax over the classes.",
        )
    return target


def _finite(total: Tensor, rows: Features) -> Tensor:
    if not bool(torch.isfinite(total)):
        bad = ~torch.isfinite(rows.detach()).all(dim=1)
        if bool(bad.any()):
            raise InputError(
                "features are finite",
                got=f"NaN or inf in {int(bad.sum())} of {len(bad)} rows, first in row {int(bad.nonzero()[0])}",
                remedy="Look for divergence, or overflow in half precision.",
            )
        raise InputError(
            "features whose rate can be computed in their precision",
            got=f"entries up to {float(rows.detach().abs().amax()):.3g} in {rows.dtype}",
            remedy="Scale the rows to length one, or pass dtype=torch.float64.",
        )
    return total


def _total(rows: Features, eps2: float) -> Tensor:
    n, d = rows.shape
    return _log_determinants(rows[None], rows.new_tensor([d / (n * eps2)]))[0] / 2


def _label_shares(rows: Features, labels: Tensor, classes: int, eps2: float) -> Tensor:
    n, d = rows.shape
    counts = torch.bincount(labels, minlength=classes)
    sizes = counts.tolist()
    order = torch.argsort(labels, stable=True)
    starts = counts.cumsum(0) - counts
    padded = torch.cat([rows, rows.new_zeros(1, d)])
    groups = [torch.tensor(group, device=rows.device) for group in _alike(sizes)]
    found = []
    for group in groups:
        places = torch.arange(max(sizes[j] for j in group.tolist()), device=rows.device)
        members = order[(starts[group, None] + places).clamp(max=n - 1)]
        members = torch.where(places < counts[group, None], members, n)
        # index_select, because the gradient of indexing is several times slower.
        blocks = padded.index_select(0, members.flatten()).view(len(group), len(places), d)
        found.append(_log_determinants(blocks, d / (eps2 * counts[group].to(rows.dtype))))
    rates = rows.new_zeros(classes).index_copy(0, torch.cat(groups), torch.cat(found))
    return rates * counts / (2 * n)


def _alike(sizes: Sequence[int]) -> list[list[int]]:
    """Classes with rows, those of similar size together."""
    groups: dict[int, list[int]] = {}
    for j, size in enumerate(sizes):
        if size:
            groups.setdefault(math.ceil(math.log(max(size, _SMALL), _ALIKE)), []).append(j)
    return list(groups.values())


def _soft_shares(rows: Features, memberships: Tensor, eps2: float) -> Tensor:
    n, d = rows.shape
    sizes = memberships.sum(0)
    weights = (memberships / torch.where(sizes > 0, sizes, 1.0)).T[:, None]
    scale, found = d / eps2, []
    square = scale * (rows @ rows.T) if n < d else None
    for part in weights.split(max(1, _TOGETHER // (n * min(n, d)))):
        if square is None:
            found.append(_log_determinant_of_shifted(scale * ((rows.T * part) @ rows)))
        else:
            # det(I + D G) = det(I + D^1/2 G D^1/2), but without the root, whose slope is infinite at membership 0.
            eye = torch.eye(n, dtype=rows.dtype, device=rows.device)
            found.append(torch.linalg.slogdet(eye + square * part).logabsdet)
    return torch.cat(found) * sizes / (2 * n)


def _log_determinants(blocks: Float[Tensor, "b s d"], scales: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """log det(I + scale Z^T Z) of every block Z, on the smaller side."""
    tall = blocks.shape[1] > blocks.shape[2]
    product = blocks.mT @ blocks if tall else blocks @ blocks.mT
    return _log_determinant_of_shifted(product * scales[:, None, None])


def _log_determinant_of_shifted(squares: Float[Tensor, "b s s"]) -> Float[Tensor, " b"]:
    """log det(I + A) of positive semi-definite matrices A, which are overwritten."""
    squares.diagonal(dim1=-2, dim2=-1).add_(1)
    return _LogDeterminant.apply(squares)


class _LogDeterminant(torch.autograd.Function):
    """log det of positive definite matrices, with the inverse as derivative.

    The derivative of a Cholesky factor, which is not needed, takes twice as long.
    """

    @staticmethod
    def forward(ctx: Any, squares: Tensor) -> Tensor:
        # A factorisation that breaks down leaves NaN; looking for it here would wait for the device every time.
        factors = torch.linalg.cholesky_ex(squares).L
        ctx.save_for_backward(squares, factors)
        return 2 * factors.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    @staticmethod
    def backward(ctx: Any, slopes: Tensor) -> Tensor:
        squares, factors = ctx.saved_tensors
        if torch.is_grad_enabled():  # a second derivative is wanted, for which the saved factors have no history
            factors = torch.linalg.cholesky_ex(squares).L
        return torch.cholesky_inverse(factors) * slopes[:, None, None]
