"""Subspaces that classes of features span: bases, distances to them, angles between them, and effective dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tightframe.core.checks import check_count, check_features, check_labels, check_same_device
from tightframe.core.errors import DegenerateError, InputError
from tightframe.core.typing import Features, Float, Labels


@dataclass(frozen=True, eq=False)
class Subspace:
    """The principal directions of one class.

    Args:
        basis: Orthonormal rows (r, d), float64, in the order of the singular values.
        singular_values: All min(n, d) of the class's samples, descending.
        mean: (d,) what was subtracted before, zero where nothing was.
        samples: Number n of samples of the class.
    """

    basis: Float[Tensor, "r d"]
    singular_values: Float[Tensor, " q"]
    mean: Float[Tensor, " d"]
    samples: int

    @property
    def rank(self) -> int:
        """Number of directions r."""
        return len(self.basis)


def class_subspaces(
    features: Features, labels: Labels, *, rank: int | None = None, energy: float | None = None, centre: bool = False
) -> tuple[Subspace, ...]:
    r"""The subspace that each class spans, from the singular value decomposition of its samples.

    .. math:: Z_k = P_k \operatorname{diag}(s_k) V_k^\top, \qquad
        S_k = \text{span of the first } r_k \text{ columns of } V_k

    with Z_k (n_k, d) the rows of class k. Directions in which a class does not reach beyond rounding are left out, so
    that a class of few samples has fewer than `rank`.

    Args:
        features: (n, d).
        labels: (n,) class indices 0..K-1, each of which occurs.
        rank: r_k of every class. Either this or `energy`.
        energy: The least r_k for which the first squared singular values make up this share of all, in (0, 1].
        centre: Subtract the class mean first: affine subspaces.

    Returns:
        One per class, in the order of the indices; float64 on the device of the features.

    Raises:
        InputError: Both or neither of rank and energy, NaN, a class without samples.

    Example:
        >>> points = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]])
        >>> [space.rank for space in class_subspaces(points, torch.tensor([0, 0, 1]), rank=2)]
        [1, 1]
    """
    _check_size(rank, energy)
    features, eps = _finite(features, "features")
    check_same_device(features, labels, "features and labels")
    labels = check_labels(labels, len(features), max(1, len(features)))  # every class has a sample, so K <= n
    counts = torch.bincount(labels).tolist()
    if not counts or 0 in counts:
        raise InputError(
            "every class 0..K-1 has samples",
            got=f"none of class {counts.index(0)}" if counts else "no samples at all",
            remedy="Renumber the labels from 0 without gaps, or pass samples of the missing class.",
        )
    rows = features[labels.argsort(stable=True)].split(counts)
    return tuple(_subspace(some, rank=rank, energy=energy, centre=centre, eps=eps) for some in rows)


def subspace_distances(features: Features, subspaces: Sequence[Subspace]) -> Float[Tensor, "n k"]:
    r"""Distance of every sample to every (affine) subspace.

    .. math:: D_{ik} = \| (I - V_k V_k^\top)(z_i - m_k) \|

    Args:
        features: (n, d).
        subspaces: K of them, as `class_subspaces` returns them.

    Returns:
        (n, k), float64.

    Raises:
        InputError: NaN, another d than that of the subspaces, mixed devices.
    """
    features, _ = _finite(features, "features")
    if not subspaces or any(space.mean.shape != features.shape[1:] for space in subspaces):
        wanted = f"d = {len(subspaces[0].mean)}" if subspaces else "none"
        raise InputError(
            "features of the dimension of the subspaces",
            got=f"d = {features.shape[1]}, subspaces of {wanted}",
            remedy="Pass the subspaces of the same layer.",
        )
    check_same_device(features, subspaces[0].mean, "features and subspaces")
    distances = []
    for space in subspaces:
        rest = features - space.mean
        # The difference of squared norms would lose half the digits of samples that lie in the subspace.
        rest = rest - (rest @ space.basis.T) @ space.basis
        distances.append(torch.linalg.vector_norm(rest, dim=1))
    return torch.stack(distances, dim=1)


def principal_angles(first: Float[Tensor, "a d"], second: Float[Tensor, "b d"]) -> Float[Tensor, " q"]:
    r"""Principal angles between the spans of two sets of vectors.

    .. math:: \cos\theta_i = \sigma_i(Q_A Q_B^\top), \qquad
        \sin\theta_i = \sigma_{q+1-i}\left(Q_B (I - Q_A^\top Q_A)\right)

    with orthonormal rows Q_A, Q_B of the two spans, the larger one first. Each angle comes from the sine below 45
    degrees and from the cosine above, so that it is right to rounding wherever it lies.

    Args:
        first: One vector per row (a, d), in any position and of any lengths.
        second: (b, d).

    Returns:
        min(rank A, rank B) angles in [0, pi/2], ascending, float64.

    Raises:
        InputError: NaN, different d, mixed devices.
        DegenerateError: One of them spans nothing.

    Example:
        >>> angles = principal_angles(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 1.0]]))
        >>> round(float(torch.rad2deg(angles[0])), 6)
        45.0

    Reference: [bjorck1973numerical]; [knyazev2002principal].
    """
    check_same_device(first, second, "the two sets of vectors")
    bases = [_orthonormal(vectors, name) for vectors, name in ((first, "first"), (second, "second"))]
    if bases[0].shape[1] != bases[1].shape[1]:
        raise InputError(
            "vectors of one dimension d",
            got=f"{bases[0].shape[1]} and {bases[1].shape[1]}",
            remedy="Compare subspaces of the same space.",
        )
    large, small = sorted(bases, key=len, reverse=True)
    products = small @ large.T
    cosine = torch.linalg.svdvals(products).clamp(max=1)
    sine = torch.linalg.svdvals(small - products @ large).flip(0).clamp(max=1)
    return torch.where(cosine.square() > 0.5, sine.asin(), cosine.acos())


def entropy_rank(features: Features) -> float:
    r"""Effective rank: the exponential of the entropy of the squared singular values.

    .. math:: \exp\left(-\sum_i p_i \log p_i\right), \qquad p_i = \sigma_i^2 / \sum_j \sigma_j^2

    The mean is not subtracted: r directions that are filled evenly count r. Roy and Vetterli take p_i from the singular
    values themselves; squares are shares of energy, as in the effective rank of a covariance.

    Args:
        features: (n, d).

    Returns:
        A number in [1, min(n, d)].

    Raises:
        InputError: NaN.
        DegenerateError: All features are zero.

    Example:
        >>> round(entropy_rank(torch.eye(3)), 6)
        3.0

    Reference: [roy2007effective].
    """
    share = _energies(features)
    return float(torch.exp(-torch.special.xlogy(share, share).sum()))


def stable_rank(features: Features) -> float:
    r"""Stable rank: squared singular values in units of the largest.

    .. math:: \| Z \|_F^2 / \| Z \|_2^2

    Args:
        features: (n, d).

    Returns:
        A number in [1, rank Z], at most `entropy_rank`.

    Raises:
        InputError: NaN.
        DegenerateError: All features are zero.

    Example:
        >>> round(stable_rank(torch.tensor([[2.0, 0.0], [0.0, 1.0]])), 6)
        1.25

    Reference: [rudelson2007sampling].
    """
    return float(1 / _energies(features).amax())


def _energies(features: Tensor) -> Tensor:
    """Squared singular values as shares of their sum."""
    values = torch.linalg.svdvals(_finite(features, "features")[0])
    if not values.numel() or float(values[0]) == 0:
        raise DegenerateError("features that differ from zero", got="none", remedy="Look for dead units.")
    squares = (values / values[0]).square()
    return squares / squares.sum()


def _subspace(rows: Tensor, *, rank: int | None, energy: float | None, centre: bool, eps: float) -> Subspace:
    mean = rows.mean(0) if centre else rows.new_zeros(rows.shape[1])
    scale = torch.linalg.vector_norm(rows)
    rows = rows - mean
    _, values, basis = torch.linalg.svd(rows, full_matrices=False)
    # What subtracting the mean leaves of equal samples is rounding: the scale is that of the samples themselves.
    reached = int((values > max(rows.shape) * eps * scale).sum())
    if energy is not None:
        shares = values[:reached].square().cumsum(0)
        rank = int((shares < energy * shares[-1]).sum()) + 1 if reached else 0
    return Subspace(basis[: min(rank, reached)], values, mean, len(rows))


def _orthonormal(vectors: Tensor, name: str) -> Tensor:
    vectors, eps = _finite(vectors, f"the {name} set of vectors")
    _, values, basis = torch.linalg.svd(vectors, full_matrices=False)
    if not values.numel() or float(values[0]) == 0:
        raise DegenerateError(
            f"the {name} set of vectors spans something", got="none but zeros", remedy="Leave out empty classes."
        )
    return basis[values > max(vectors.shape) * eps * values[0]]


def _finite(features: Tensor, name: str) -> tuple[Tensor, float]:
    """The features in float64, and the relative rounding of the dtype in which they came."""
    features = check_features(features, name)
    if not bool(torch.isfinite(features).all()):
        raise InputError(f"{name} are finite", got="NaN or inf", remedy="Look for divergence in whatever made them.")
    return features.double(), torch.finfo(features.dtype).eps


def _check_size(rank: int | None, energy: float | None) -> None:
    if (rank is None) == (energy is None):
        raise InputError(
            "either rank= or energy= of the subspaces",
            got=f"rank={rank}, energy={energy}",
            remedy="Give one of the two.",
        )
    if rank is not None:
        check_count(rank, "rank")
    elif not 0 < energy <= 1:
        raise InputError("energy is a share in (0, 1]", got=f"{energy}", remedy="Use 0.95, say.")
