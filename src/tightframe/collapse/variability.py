"""NC1: how far samples spread within their class, measured against how far the classes are apart."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from tightframe.collapse.conventions import VariabilityConvention, variability_convention
from tightframe.collapse.means import Absent, CentredMeans, as_means
from tightframe.core.checks import check_features, check_labels, kept_rows
from tightframe.core.errors import DegenerateError, InputError
from tightframe.core.linalg import ThinBetween, add_gram, complement, mirrored
from tightframe.core.precision import full_precision
from tightframe.features.anchored import CACHED, blocks
from tightframe.features.moments import ClassMoments

_REMEDY = (
    "Class means coincide or are dependent, so pinv(S_B) and NC1 are undefined: use the trace ratio D, or look for "
    "dead units, duplicated classes or an untrained layer."
)


def nc1(moments: ClassMoments | CentredMeans, convention: str = "weighted", *, absent: Absent = "error") -> float:
    r"""Within-class variability against between-class spread, NC1.

    .. math:: \mathrm{NC1} = \tfrac1K \operatorname{tr}(\Sigma_W \Sigma_B^\dagger), \qquad
        \Sigma_W = \tfrac1N \sum_i (h_i-\mu_{y_i})(h_i-\mu_{y_i})^\top, \quad
        \Sigma_B = \sum_k \tfrac{n_k}{N} (\mu_k-\mu_G)(\mu_k-\mu_G)^\top

    The rank of the between-class covariance is min(K-1, d) by construction: the one dependency of the centred means is
    removed exactly, and no tolerance decides what is inverted. So the value is never negative.

    Args:
        moments: Class moments in mode "full" (WideVariability serves layers too wide for that), or their centred means.
        convention: Name in `conventions.VARIABILITY`: "weighted" (default), "zhu", "anchor", "lecture6",
            "papyan-notebook", "he-su", "he-su-imbalanced". They differ in the factor 1/K, in the weights of the classes
            and in the global mean; on balanced data all agree up to the factor K.
        absent: "error" or "drop" classes without samples.

    Returns:
        NC1, dimensionless, at least 0; 0 for complete collapse.

    Raises:
        DegenerateError: The class means do not span min(K-1, d) dimensions.
        InputError: A class without samples, or moments in mode "trace".

    Reference: [zhu2021geometric], section 2; [papyan2020prevalence].
    """
    chosen = variability_convention(convention)
    means = as_means(moments, centre=chosen.centre, absent=absent)
    if means.classes - 1 > means.features:
        trace = _trace_many_classes(means, chosen)
    else:
        columns = between_factor(means, chosen).whitener.T
        trace = (_scatter_product(means, chosen, columns) * columns).sum()
    return max(float(trace), 0.0) / (means.classes if chosen.divide else 1)


def between_factor(means: CentredMeans, chosen: VariabilityConvention) -> ThinBetween:
    """Thin factor of S_B (d x (K-1)), for K - 1 <= d."""
    weights = _between_weights(means, chosen)
    # With either global mean the centred means have exactly one dependency: sum_k omega_k c_k = 0.
    columns = complement((means.all * weights.sqrt()[:, None]).T, means.weights / weights.sqrt())
    return ThinBetween(columns, "class means", _REMEDY)


def _between_weights(means: CentredMeans, chosen: VariabilityConvention) -> Tensor:
    """Weights of the classes in S_B (k,)."""
    return means.count / means.total if chosen.between == "count" else torch.full_like(means.count, 1 / means.classes)


def trace_ratio(moments: ClassMoments | CentredMeans, *, absent: Absent = "error") -> float:
    r"""Separation measure D of a layer.

    .. math:: D = \operatorname{tr}(\Sigma_W) / \operatorname{tr}(\Sigma_B)

    with class-weighted between-class covariance. Needs traces only, so any width and either mode.

    Raises:
        DegenerateError: All class means coincide.

    Reference: lecture 6 of ICASSP 2023 [qu2023lecture6]; [wang2023understanding].
    """
    means = as_means(moments, absent=absent)
    between = float((means.count / means.total) @ means.norms.square())
    within = float(means.within @ means.count) / means.total
    scale = float(torch.linalg.vector_norm(means.origin)) + float(means.norms.max())
    if between <= (torch.finfo(torch.float64).eps * scale) ** 2:
        raise DegenerateError("class means that differ", got="one common mean", remedy=_REMEDY)
    return within / between


class WideVariability:
    r"""NC1 of layers too wide for a d x d matrix, by a second pass over the features.

    .. math:: \operatorname{tr}(\Sigma_W \Sigma_B^\dagger) = \tfrac1N \sum_i \| R^{-1} Q^\top (h_i - \mu_{y_i}) \|^2

    with the thin factor QR of the centred means: memory O(d K), time O(N d K).

    Args:
        moments: Class moments of the same features (mode "trace" suffices), K - 1 <= d.
        convention: As for `nc1`; "he-su" (averaged class covariances) is not offered here.

    Raises:
        InputError: K - 1 > d; DegenerateError: dependent class means.
    """

    def __init__(self, moments: ClassMoments, convention: str = "weighted", *, absent: Absent = "error") -> None:
        self._convention = variability_convention(convention)
        means = CentredMeans(moments, centre=self._convention.centre, absent=absent)
        if means.classes - 1 > means.features or self._convention.within == "class":
            raise InputError(
                "no more than d + 1 classes and a convention that averages over samples",
                got=f"K={means.classes}, d={means.features}, convention {convention!r}",
                remedy='Use nc1 with ClassMoments(mode="full"): the layer is narrow.',
            )
        self._moments, self._classes = moments, means.classes
        whitener = between_factor(means, self._convention).whitener
        self._scale = float(whitener.abs().max())
        self._whitener = whitener / self._scale
        self._sum, self._rows = 0.0, 0

    @torch.no_grad()
    def update(self, features: Tensor, labels: Tensor) -> None:
        """Add a batch of the same features that made the moments.

        Raises:
            InputError: As ClassMoments.update; the batch is then not counted.
        """
        features = check_features(features)
        ignored = self._moments.ignore_index
        labels = check_labels(labels, len(features), self._moments.classes, ignore_index=ignored)
        if features.shape[1] != self._moments.features:
            raise InputError(
                f"features of dimension {self._moments.features}, as in the first pass",
                got=f"dimension {features.shape[1]}",
                remedy="Feed the same layer twice.",
            )
        features, labels = kept_rows(features, labels, ignored)
        if len(labels):
            with full_precision(features.device):
                self._sum += self._energy(features, labels)
            self._rows += len(labels)

    def _energy(self, features: Tensor, labels: Tensor) -> float:
        """Sum of |whitener (h - mu)|^2 over the rows of a batch."""
        energy = 0.0
        whitener = self._whitener.to(features.dtype).T
        present, position = labels.unique(return_inverse=True)
        means = torch.cat([self._moments.mean_rows(k, k + 1) for k in present.tolist()])
        near = means.to(features.dtype)
        # The rounded mean is subtracted first (exact for nearby numbers), what the rounding left after projecting.
        rest = (means - near.to(means)).double() @ self._whitener.T
        for start, stop in blocks(*features.shape, size=CACHED):
            classes = position[start:stop]
            residual = near.index_select(0, classes).neg_().add_(features[start:stop])
            projected = (residual @ whitener).double() - rest[classes]
            energy += float(projected.square().sum())
        if not math.isfinite(energy):
            raise InputError(
                "features are finite",
                got="NaN or inf in the second pass",
                remedy="Feed the features of the first pass again; nothing of this batch was counted.",
            )
        return energy

    def all_reduce(self, group: Any = None) -> WideVariability:
        """Add the rows of the other ranks; the moments must be those of all ranks already."""
        shared = torch.tensor([self._sum, self._rows], dtype=torch.float64, device=self._whitener.device)
        dist.all_reduce(shared, group=group)
        self._sum, self._rows = float(shared[0]), round(float(shared[1]))
        return self

    def compute(self) -> float:
        """NC1 over all rows seen in the second pass."""
        if self._rows != self._moments.total:
            raise InputError(
                f"a second pass over the same {self._moments.total} rows",
                got=f"{self._rows} rows",
                remedy="Feed every batch of the first pass once.",
            )
        value = self._sum * self._scale**2 / self._rows
        return value / (self._classes if self._convention.divide else 1)


def nc1_wide(features: Tensor, labels: Tensor, *, classes: int, convention: str = "weighted") -> float:
    """NC1 of wide features held in memory or memory-mapped (n, d), in O(d K) further memory; see WideVariability."""
    moments = ClassMoments(classes, mode="trace")
    moments.update(features, labels)
    variability = WideVariability(moments, convention)
    variability.update(features, labels)
    return variability.compute()


def _scatter_product(means: CentredMeans, chosen: VariabilityConvention, columns: Tensor) -> Tensor:
    """S_W times `columns`."""
    if chosen.within == "sample" or bool((means.count == means.count[0]).all()):
        return means.scatter_times(columns) / means.total
    raise InputError(
        "balanced classes for a convention that averages class covariances",
        got=f"between {int(means.count.min())} and {int(means.count.max())} samples per class",
        remedy='Use "he-su-imbalanced", the form its authors give for imbalanced data.',
    )


def _trace_many_classes(means: CentredMeans, chosen: VariabilityConvention) -> Tensor:
    """tr(S_W inv(S_B)) for K - 1 > d, where S_B has full rank d and is summed over blocks of classes."""
    weights = _between_weights(means, chosen)
    between = means.count.new_zeros(means.features, means.features)
    for start, stop in means.ranges():
        rows = means.rows(start, stop) * weights[start:stop, None].sqrt()
        add_gram(between, rows)
    lower, failed = torch.linalg.cholesky_ex(mirrored(between))
    # A squared pivot is what a dimension keeps beside those before it: below rounding of its own square it is none.
    floor = 8 * means.features * torch.finfo(torch.float64).eps * between.diagonal()
    if int(failed) or bool((lower.diagonal().square() <= floor).any()):
        raise DegenerateError(f"class means span all {means.features} dimensions", got="a smaller span", remedy=_REMEDY)
    identity = torch.eye(means.features, dtype=lower.dtype, device=lower.device)
    inverse = torch.linalg.solve_triangular(lower, identity, upper=False)
    product = _scatter_product(means, chosen, inverse.T)
    return (inverse * product.T).sum()
