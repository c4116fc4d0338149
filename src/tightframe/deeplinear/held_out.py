"""Completion where no gap shows the rank: three families of fits, chosen and weighed by entries held out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from scipy.optimize import nnls
from torch import Tensor

from tightframe.core.typing import Float
from tightframe.deeplinear.alternating import alternating_least_squares
from tightframe.deeplinear.observations import Observations
from tightframe.deeplinear.path import balanced, descend_observed, leading_components, spectral_network, thin_svd

# Ridges of the nuclear norm, each this share of the one before, and how many worse ones end the path.
_FALL, _RIDGES, _WORSE = 0.5, 20, 2
# A start so small that components come one after another; steps between looks and without progress.
_SMALL, _MOMENTUM, _STEPS, _PATIENCE = 0.03, 0.9, 1500, 300
# Fewer held-out entries than this choose one fit, but do not weigh several.
_WEIGHABLE = 50
# A fit of fixed rank this close to the best mixture is preferred to it.
_CLOSE = 1.02
# Ranks that are tried, each about a fifth more than the one before.
_RANKS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 17, 20, 24, 29, 35, 42, 50, 60, 72, 86, 103)
# Sweeps of a fit that is only compared.
_SWEEPS = 60

Factors = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Family:
    """The best fit of one kind.

    Args:
        name: What it is, with its parameter.
        error: Root mean square error of held-out entries.
        factors: Fit of the entries that were not held out.
        refit: The same fit of all entries.
    """

    name: str
    error: float
    factors: Factors
    refit: Callable[[Observations], Factors]


@dataclass(frozen=True)
class Chosen:
    """What held-out entries have chosen.

    Args:
        factors: A (m, k) and B (n, k), fitted to all entries.
        weights: Of each family in the fit, by name; one of them 1 where it alone was chosen.
        errors: Root mean square error of held-out entries, by fit.
    """

    factors: Factors
    weights: dict[str, float]
    errors: dict[str, float] = field(default_factory=dict)


def choose_by_held_out(
    observed: Observations, *, width: int, limit: int, depth: int, share: float, seed: int, steps: int = _STEPS
) -> Chosen:
    r"""Fit by rank, by nuclear norm and by deep descent stopped early; mix the best of each.

    .. math:: \hat X = \sum_f w_f A_f B_f^\top, \qquad
        w = \arg\min_{w \ge 0} \sum_{\text{held out}} \Big(\sum_f w_f (A_f B_f^\top)_{ij} - x_{ij}\Big)^2

    Each family has one parameter, chosen by the same held-out entries: the rank of alternating least squares, the ridge
    of the nuclear norm, the number of steps of the descent. The fits are repeated on all entries with parameters and
    weights kept. A single fit of fixed rank that is within 2 % of the mixture is taken alone.

    Args:
        observed: Omega and x.
        width: Columns of the deep network and of the nuclear norm.
        limit: Largest rank tried.
        depth: Of the deep network.
        share: Of the entries held out.
        seed: Of the choice of these, and of the start.
        steps: Of the descent at most.

    Returns:
        Chosen.
    """
    train, held = observed.split(share, seed=seed)
    by_rank, errors = _by_rank(train, held, width, limit, depth, seed)
    families = [by_rank]
    for family, found in (_by_ridge(train, held, width, seed), _by_steps(train, held, width, depth, seed, steps)):
        families.append(family)
        errors |= found
    weights = _weights(families, held)
    mixed = _mixture(families, weights, lambda family: family.factors)
    errors["mixture"] = _error(held, mixed)
    best = min(families, key=lambda family: family.error)
    if by_rank.error <= _CLOSE * min(best.error, errors["mixture"]):
        best, alone = by_rank, True
    else:
        alone = best.error <= errors["mixture"]
    if alone:
        return Chosen(best.refit(observed), {best.name: 1.0}, errors)
    kept = {family.name: weight for family, weight in zip(families, weights, strict=True) if weight > 0}
    return Chosen(_mixture(families, weights, lambda family: family.refit(observed)), kept, errors)


def rank_fit(observed: Observations, rank: int, *, width: int, depth: int, seed: int, sweeps: int) -> Factors:
    """Alternating least squares from the leading components that deep descent finds first."""
    U, S, V = first_components(observed, width, depth, seed)
    fit = alternating_least_squares(observed, *balanced(U, S, V, rank), max_sweeps=sweeps)
    return fit.A, fit.B


def first_components(observed: Observations, width: int, depth: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Singular vectors and values of the product, where deep descent has fitted 95 % of the entries' norm."""
    descent = descend_observed(observed, *spectral_network(observed, width, depth=depth, seed=seed))
    return thin_svd(descent.A, descent.B)


def _by_rank(
    train: Observations, held: Observations, width: int, limit: int, depth: int, seed: int
) -> tuple[Family, dict[str, float]]:
    components = first_components(train, width, depth, seed)
    errors, fits, worse = {}, {}, 0
    for rank in [rank for rank in _RANKS if rank <= limit]:
        fit = alternating_least_squares(train, *balanced(*components, rank), progress=1e-3, max_sweeps=_SWEEPS)
        fits[rank], errors[rank] = (fit.A, fit.B), _error(held, (fit.A, fit.B))
        worse = worse + 1 if errors[rank] > min(errors.values()) else 0
        if worse == _WORSE:
            break
    rank = min(errors, key=errors.__getitem__)

    def refit(observed: Observations) -> Factors:
        return rank_fit(observed, rank, width=width, depth=depth, seed=seed, sweeps=10 * _SWEEPS)

    named = {f"rank {tried}": error for tried, error in errors.items()}
    return Family(f"rank {rank}", errors[rank], fits[rank], refit), named


def _by_ridge(train: Observations, held: Observations, width: int, seed: int) -> tuple[Family, dict[str, float]]:
    tried = ridge_path(train, width, seed=seed)
    errors, fits, worse = {}, {}, 0
    for ridge, factors in tried:
        fits[ridge], errors[ridge] = factors, _error(held, factors)
        worse = worse + 1 if errors[ridge] > min(errors.values()) else 0
        if worse == _WORSE:
            break
    ridge = min(errors, key=errors.__getitem__)

    def refit(observed: Observations) -> Factors:
        # What noise adds to the spectral norm, which the ridge has to exceed, grows as the root of the observations.
        wanted = ridge * math.sqrt(len(observed) / len(train))
        fit = alternating_least_squares(
            observed, *fits[ridge], ridge=wanted, tolerance=0.0, progress=1e-4, max_sweeps=_SWEEPS
        )
        return fit.A, fit.B

    named = {f"nuclear norm, ridge {tried:.3g}": error for tried, error in errors.items()}
    return Family(f"nuclear norm, ridge {ridge:.3g}", errors[ridge], fits[ridge], refit), named


def ridge_path(observed: Observations, width: int, *, seed: int) -> Iterator[tuple[float, Factors]]:
    """Fits with a nuclear norm, from the ridge at which all is zero downwards, each from the one before."""
    U, S, V = leading_components(observed, width, seed=seed)
    left, right = balanced(U, S, V, width)
    ridge = float(S[0]) * observed.share
    for _ in range(_RIDGES):
        ridge *= _FALL
        fit = alternating_least_squares(observed, left, right, ridge=ridge, tolerance=0.0, progress=3e-3, max_sweeps=15)
        left, right = fit.A, fit.B
        yield ridge, (left, right)


def _by_steps(
    train: Observations, held: Observations, width: int, depth: int, seed: int, steps: int
) -> tuple[Family, dict[str, float]]:
    def network(observed: Observations):
        return spectral_network(observed, width, depth=depth, scale=_SMALL, seed=seed)

    fit = descend_observed(
        train, *network(train), residual=1e-6, max_steps=steps, held_out=held, patience=_PATIENCE, momentum=_MOMENTUM
    )
    best = int(fit.trace["best"][-1])

    def refit(observed: Observations) -> Factors:
        whole = descend_observed(
            observed, *network(observed), residual=0.0, max_steps=max(1, best - 1), momentum=_MOMENTUM
        )
        return whole.A, whole.B

    name = f"deep descent, {best} steps"
    error = _error(held, (fit.A, fit.B))
    return Family(name, error, (fit.A, fit.B), refit), {name: error}


def _weights(families: list[Family], held: Observations) -> list[float]:
    if len(held) < _WEIGHABLE:
        best = min(range(len(families)), key=lambda at: families[at].error)
        return [float(at == best) for at in range(len(families))]
    table = torch.stack([held.entries(*family.factors) for family in families], dim=1)
    return [float(weight) for weight in nnls(table.double().cpu().numpy(), held.values.double().cpu().numpy())[0]]


def _mixture(families: list[Family], weights: list[float], factors: Callable[[Family], Factors]) -> Factors:
    used = [(weight, factors(family)) for family, weight in zip(families, weights, strict=True) if weight > 0]
    if not used:
        return tuple(torch.zeros_like(factor[:, :1]) for factor in families[0].factors)
    return torch.cat([weight * A for weight, (A, _) in used], 1), torch.cat([B for _, (_, B) in used], 1)


def _error(held: Observations, factors: Factors) -> float:
    values: Float[Tensor, " t"] = held.entries(*factors) - held.values
    return math.sqrt(float(values.square().mean()))
