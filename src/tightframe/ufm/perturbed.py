"""Fixed features around a collapsed frame: the classifier that squared error gives them, and how much of it is left."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.ufm.losses import SquaredError
from tightframe.ufm.model import Columns, Point, UnconstrainedFeatures
from tightframe.ufm.optima import optimum

Distribution = Literal["normal", "uniform", "laplace"]


def attenuation(problem: UnconstrainedFeatures, noise: float) -> float:
    r"""The factor that is left of the optimal classifier when noise is put on the optimal features.

    .. math:: \hat W \to a W \quad (n \to \infty,\; n\lambda_H \text{ fixed}), \qquad
        a = \frac{\rho/K + \lambda_W}{\rho/K + \lambda_W + s^2}

    where
        W and Hbar are a minimiser of the model, What the classifier that minimises it for the fixed features
        Hbar + noise, s the standard deviation `noise` of every entry, and rho the repeated eigenvalue of
        Hbar^T Hbar: the squared norm of a feature without bias, K/(K-1) times that with a free one.

    The proof rests on the closed form of What, and so on squared error: for cross-entropy, label smoothing and focal
    loss no such factor is known. A regularised bias has two, one for the part along the vector of ones.

    Args:
        problem: Balanced, with plain squared error, bias "none" or "free", and room for the frame.
        noise: s, at least zero.

    Returns:
        a in (0, 1].

    Raises:
        InputError: A model that the theorem does not cover, a noise below zero, a minimiser that is zero.

    Example:
        >>> problem = UnconstrainedFeatures(
        ...     classes=4, features=20, per_class=50, loss="mse", weight_decay=(5e-3, 5e-5)
        ... )
        >>> round(attenuation(problem, 0.5), 6)
        0.585786

    Reference: [tirer2022extended], theorem 5.1 (its appendix F for the constant).
    """
    _check_noise(noise)
    spread = _power(problem) / problem.classes + problem.weight_decay[0]
    return spread / (spread + noise**2)


def expected_error(problem: UnconstrainedFeatures, noise: float) -> float:
    r"""How far the classifier of finitely many samples is from its limit, to leading order in their number.

    .. math:: \sqrt{\mathbb E \|\hat W - a W\|_F^2} \approx v/\sqrt N, \qquad
        v^2 = \tfrac{r}{K} s^2 \big[u^2 (r\tau^2 + (d-r)\tau_\perp^2) + (r z - 2u) z \tau^2\big]
        + r a^2 w^2 s^4 \big[(r+1)\tau^2 + (d-r)\tau_\perp^2\big]

    where
        r is the rank of the frame (K, or K - 1 with a free bias), W Hbar has the eigenvalue g and W the singular value
        w, z = a g, u = M - z with M the target, tau = 1/(rho/K + lambda_W + s^2), tau_perp = 1/(lambda_W + s^2).

    It is the variance of the sums that the law of large numbers takes to their means, for normal noise.

    Args:
        problem: As for `attenuation`.
        noise: s, at least zero.

    Returns:
        v / sqrt(N).

    Raises:
        InputError: As for `attenuation`.
    """
    a, power, s, scale = attenuation(problem, noise), _power(problem), noise, optimum(problem).scale
    classes, decay = problem.classes, problem.weight_decay[0]
    rank = classes - (problem.bias == "free")
    rest = problem.features - rank
    inside, outside = 1 / (power / classes + decay + s**2) ** 2, 1 / (decay + s**2) ** 2
    kept, lost = a * scale, problem.loss.target - a * scale
    linear = lost**2 * (rank * inside + rest * outside) + (rank * kept - 2 * lost) * kept * inside
    square = (a * scale) ** 2 / power * ((rank + 1) * inside + rest * outside)
    return (rank * (s**2 * linear / classes + s**4 * square) / problem.samples) ** 0.5


def ridge_classifier(problem: UnconstrainedFeatures, H: Columns) -> Point:
    r"""The classifier and bias that minimise the model for fixed features, by one d x d system.

    .. math:: \hat W = \tfrac1N Y H^\top \big(\tfrac1N H H^\top + \lambda_W I\big)^{-1}

    and, with a bias, the same for features to which a 1 is appended, with decay lambda_b on it.

    Args:
        problem: Any classes, any d, any bias; plain squared error.
        H: Features (d, n), ordered by class.

    Returns:
        Point with W (k, d), the features H as they are, and b (k,).

    Raises:
        InputError: Another loss (none other has a closed form), features that do not fit the problem, or with NaN.

    Example:
        >>> from tightframe.ufm.optima import optimum
        >>> problem = UnconstrainedFeatures(classes=3, features=4, per_class=5, loss="mse")
        >>> best = optimum(problem).point()
        >>> torch.allclose(ridge_classifier(problem, best.H).W, best.W)
        True

    Reference: [tirer2022extended], equation 82.
    """
    _check_loss(problem)
    H = problem.point(torch.zeros(problem.classes, problem.features, device=getattr(H, "device", None)), H).H
    rows, biased = H, problem.bias != "none"
    decay = H.new_full((problem.features + biased,), problem.weight_decay[0])
    if biased:
        rows = torch.cat([H, H.new_ones(1, problem.samples)])
        decay[-1] = problem.bias_decay
    labels = problem.labels.to(H.device)
    sums = rows.new_zeros(len(rows), problem.classes).index_add_(1, labels, rows)
    second = torch.addmm(torch.diag(decay), rows, rows.T, alpha=1 / problem.samples)
    factor = torch.linalg.cholesky(second)
    solved = torch.cholesky_solve(sums * (problem.loss.target / problem.samples), factor).T
    bias = solved[:, -1].clone() if biased else solved.new_zeros(problem.classes)
    return Point(solved[:, : problem.features].contiguous(), H, bias)


def perturbed_features(
    problem: UnconstrainedFeatures, noise: float, *, seed: int = 0, distribution: Distribution = "normal"
) -> Point:
    r"""A minimiser with independent noise on every entry of its features.

    .. math:: H = \bar H \otimes \mathbf 1_n^\top + E, \qquad \mathbb E E_{ij} = 0, \quad \mathbb E E_{ij}^2 = s^2

    Args:
        problem: One whose optimum is known.
        noise: s, at least zero.
        seed: Seed of the placement of the frame and of the noise.
        distribution: "normal", "uniform" or "laplace", all of variance s^2.

    Returns:
        Point with the optimal W and b, and the perturbed H (d, n).

    Raises:
        InputError: No closed form is known, a noise below zero, an unknown distribution.
    """
    _check_noise(noise)
    draws = generator(seed)
    # Not the same seed for both: frame and noise would begin with the same numbers.
    best = optimum(problem).point(seed=int(torch.randint(2**31, (1,), generator=draws)))
    return Point(best.W, best.H.add(_unit(best.H.shape, distribution, draws), alpha=noise), best.b)


def _unit(shape: torch.Size, distribution: str, draws: torch.Generator) -> Tensor:
    """Independent entries of mean 0 and variance 1."""
    if distribution == "normal":
        return torch.randn(shape, dtype=torch.float64, generator=draws)
    centred = torch.rand(shape, dtype=torch.float64, generator=draws) - 0.5
    if distribution == "uniform":
        return centred.mul_(12**0.5)
    if distribution == "laplace":
        return -torch.sign(centred) * torch.log1p(-2 * centred.abs()) / 2**0.5
    raise InputError(
        'distribution is "normal", "uniform" or "laplace"', got=repr(distribution), remedy="Use one of the three."
    )


def _power(problem: UnconstrainedFeatures) -> float:
    """rho, the repeated eigenvalue of Hbar^T Hbar."""
    _check_loss(problem)
    best = optimum(problem) if problem.balanced and problem.bias in ("none", "free") else None
    if best is None or best.frame not in ("orthogonal frame", "simplex ETF", "zero"):
        raise InputError(
            'balanced classes, bias "none" or "free", and d at least the rank of the frame',
            got=f"counts {list(problem.counts[:8])}, bias={problem.bias!r}, features={problem.features}",
            remedy="Use ridge_classifier on perturbed_features, which need none of these.",
        )
    if best.frame == "zero":
        raise InputError(
            "a minimiser that is not zero", got=f"c = {best.threshold:.3g}", remedy="Lower weight_decay, so that c < 1."
        )
    decay_W, decay_H = problem.weight_decay
    return best.scale * (decay_W / (problem.counts[0] * decay_H)) ** 0.5


def _check_loss(problem: UnconstrainedFeatures) -> None:
    if not (isinstance(problem.loss, SquaredError) and problem.loss.scale == 1):
        raise InputError(
            "plain squared error, whose classifier has a closed form",
            got=problem.loss.name,
            remedy='Use loss="mse"; for the other losses minimise over W and b numerically.',
        )


def _check_noise(noise: float) -> None:
    if not 0 <= noise < float("inf"):
        raise InputError("a standard deviation of at least 0", got=repr(noise), remedy="Use 0.1.")
