"""Completion where no gap shows the rank: three families of fits, chosen and mixed by entries held out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from statistics import geometric_mean, median_low

import torch
from scipy.optimize import lsq_linear
from torch import Tensor

from tightframe.core.typing import Float
from tightframe.deeplinear.alternating import alternating_least_squares
from tightframe.deeplinear.nuclear_norm import soft_impute, threshold_path
from tightframe.deeplinear.observations import Observations
from tightframe.deeplinear.path import balanced, descend_observed, leading_components, spectral_network, thin_svd

# Ridges of the nuclear norm, each this share of the one before, and how many worse ones end the path.
_FALL, _RIDGES, _WORSE = 0.5, 20, 2
# Up to this many multiplications of a decomposition m n min(m, n) the nuclear norm is fitted without a limit of rank.
_WHOLE = 1e7
# A start so small that components come one after another; steps between looks and without progress.
_SMALL, _MOMENTUM, _STEPS, _PATIENCE = 0.03, 0.9, 1500, 300
# Steps to the components that least squares begin from.
_FIRST = 300
# Splits are repeated, at most so often, until this many entries have been held out: fewer choose by chance.
_SPLITS, _ENOUGH = 5, 3000
# Fewer held-out entries than this choose one fit, but do not weigh several.
_WEIGHABLE = 50
# Largest weight: what is shrunk may be scaled up, but not a fit that has hardly begun.
_HEAVIEST = 2.0
# A fit of fixed rank this close to the best mixture is preferred to it, and one this close to the best enters it.
_CLOSE, _MIXABLE = 1.02, 1.1
# Ranks that are tried, each about a fifth more than the one before.
_RANKS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 17, 20, 24, 29, 35, 42, 50, 60, 72, 86, 103)
# Sweeps of a fit that is only compared; singular values below this share of the first are not kept of a whole matrix.
_SWEEPS, _RANK = 60, 1e-9

Factors = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Tried:
    """A family's fits to one split.

    Args:
        parameter: Of the fit that met the held-out entries best.
        predicted: What that fit says of them (t,).
        errors: Root mean square errors by parameter.
    """

    parameter: float
    predicted: Float[Tensor, " t"]
    errors: dict[float, float]


@dataclass(frozen=True)
class Family:
    """Fits with one parameter.

    Args:
        name: With a place for the parameter.
        tried: Fits to a part of the entries, judged by the others.
        fitted: The fit of all entries with one parameter.
        common: One parameter out of those of several splits.
    """

    name: str
    tried: Callable[[Observations, Observations], Tried]
    fitted: Callable[[Observations, float], Factors]
    common: Callable[[list[float]], float]


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
    r"""Fit by rank, by nuclear norm and by deep descent stopped early; mix them, or take the first alone.

    .. math:: \hat X = \sum_f w_f X_f, \qquad
        w = \arg\min_{0 \le w \le 2} \sum_{\text{held out}} \Big(\sum_f w_f (X_f)_{ij} - x_{ij}\Big)^2

    Each family has one parameter, chosen by the same held-out entries: the rank of alternating least squares, the
    threshold of the nuclear norm, the number of steps of the descent. The fits are repeated on all entries with
    parameters and weights kept. Where few entries are held out at a time, up to five splits are made, whose parameters
    are averaged and whose predictions are weighed together.

    Least squares of fixed rank are taken alone where no mixture is better by more than 2 %. They are left out where the
    best is better by more than 10 %: nothing shrinks their fits, and a few rows with large errors spoil a mixture.

    Args:
        observed: Omega and x.
        width: Columns of the deep network, and of the nuclear norm where m n min(m, n) is above ten million. Below, it
            is fitted by thresholding whole matrices, whose rank has no limit.
        limit: Largest rank tried.
        depth: Of the deep network.
        share: Of the entries held out.
        seed: Of the choice of these, and of the start.
        steps: Of the descent at most.

    Returns:
        Chosen.

    Reference: [hastie2015matrix] for the first two; [mazumder2010spectral] for the whole path of thresholds.
    """
    splits = [observed.split(share, seed=seed)]
    again = min(_SPLITS, math.ceil(_ENOUGH / len(splits[0][1])))
    splits += [observed.split(share, seed=seed + number) for number in range(1, again)]
    families = [
        _by_rank(width, limit, depth, seed),
        _by_norm(observed, width, seed),
        _by_steps(width, depth, seed, steps),
    ]
    truth = torch.cat([held.values for _, held in splits])
    parameters, tables, names, errors = [], [], [], {}
    for family in families:
        found = [family.tried(*split) for split in splits]
        parameters.append(family.common([one.parameter for one in found]))
        names.append(family.name.format(parameters[-1]))
        tables.append(torch.cat([one.predicted for one in found]))
        errors |= _in_every_split(family, found)
        errors.setdefault(names[-1], _error(tables[-1], truth))
    weights, errors["mixture"] = _decided(tables, truth)
    used = [at for at, weight in enumerate(weights) if weight > 0]
    fits = [(weights[at], families[at].fitted(observed, parameters[at])) for at in used]
    return Chosen(_mixture(observed, fits), {names[at]: weights[at] for at in used}, errors)


def first_components(observed: Observations, width: int, depth: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Singular vectors and values of the product, where deep descent has fitted 95 % of the norm, or has grown slow."""
    network, top = spectral_network(observed, width, depth=depth, seed=seed)
    descent = descend_observed(observed, network, top, max_steps=_FIRST)
    return thin_svd(descent.A, descent.B)


def _by_rank(width: int, limit: int, depth: int, seed: int) -> Family:
    """Alternating least squares from the leading components that deep descent finds first."""

    def fits(train: Observations) -> Iterator[tuple[float, Factors]]:
        components = first_components(train, width, depth, seed)
        for rank in [rank for rank in _RANKS if rank <= limit]:
            fit = alternating_least_squares(train, *balanced(*components, rank), progress=1e-3, max_sweeps=_SWEEPS)
            yield rank, (fit.A, fit.B)

    def fitted(observed: Observations, rank: float) -> Factors:
        start = balanced(*first_components(observed, width, depth, seed), int(rank))
        fit = alternating_least_squares(observed, *start, max_sweeps=10 * _SWEEPS)
        return fit.A, fit.B

    def tried(train: Observations, held: Observations) -> Tried:
        return _least(((rank, held.entries(*factors)) for rank, factors in fits(train)), held)

    return Family("rank {}", tried, fitted, median_low)


def _by_norm(observed: Observations, width: int, seed: int) -> Family:
    """The nuclear norm: by thresholding whole matrices where they are small, else by least squares with a ridge."""
    whole = math.prod(observed.shape) * min(observed.shape) <= _WHOLE

    def tried(train: Observations, held: Observations) -> Tried:
        if whole:
            fits = ((threshold, X[held.rows, held.columns]) for threshold, X in threshold_path(train))
        else:
            fits = ((ridge, held.entries(*factors)) for ridge, factors in ridge_path(train, width, seed=seed))
        found = _least(fits, held)
        # What noise adds to the spectral norm, which the threshold has to exceed, grows as the root of their number.
        more = math.sqrt((len(train) + len(held)) / len(train))
        return Tried(found.parameter * more, found.predicted, found.errors)

    def fitted(observed: Observations, threshold: float) -> Factors:
        if whole:
            U, S, Vh = torch.linalg.svd(soft_impute(observed, threshold, tolerance=1e-5).X, full_matrices=False)
            return balanced(U, S, Vh.T, max(1, int(S.gt(_RANK * S[0]).sum())))
        start = balanced(*leading_components(observed, width, seed=seed), width)
        fit = alternating_least_squares(observed, *start, ridge=threshold, tolerance=0.0, max_sweeps=2 * _SWEEPS)
        return fit.A, fit.B

    return Family("nuclear norm, threshold {:.3g}", tried, fitted, geometric_mean)


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


def _by_steps(width: int, depth: int, seed: int, steps: int) -> Family:
    """Deep descent from a start so small that components come one after another, stopped early."""

    def descended(observed: Observations, **options) -> Factors:
        network, top = spectral_network(observed, width, depth=depth, scale=_SMALL, seed=seed)
        return descend_observed(observed, network, top, momentum=_MOMENTUM, **options)

    def tried(train: Observations, held: Observations) -> Tried:
        fit = descended(train, residual=1e-6, max_steps=steps, held_out=held, patience=_PATIENCE)
        return Tried(fit.trace["best"][-1], held.entries(fit.A, fit.B), {})

    def fitted(observed: Observations, best: float) -> Factors:
        fit = descended(observed, residual=0.0, max_steps=max(1, round(best) - 1))
        return fit.A, fit.B

    return Family("deep descent, {:.0f} steps", tried, fitted, geometric_mean)


def _least(fits: Iterator[tuple[float, Tensor]], held: Observations) -> Tried:
    """The best of a path, which ends where it has got worse."""
    errors, best, worse = {}, None, 0
    for parameter, predicted in fits:
        errors[parameter] = _error(predicted, held.values)
        if best is None or errors[parameter] < errors[best[0]]:
            best, worse = (parameter, predicted), 0
            continue
        worse += 1
        if worse == _WORSE:
            break
    return Tried(*best, errors)


def _in_every_split(family: Family, found: list[Tried]) -> dict[str, float]:
    """Errors of the parameters that all splits have tried."""
    common = [parameter for parameter in found[0].errors if all(parameter in one.errors for one in found)]
    mean = {at: math.sqrt(sum(one.errors[at] ** 2 for one in found) / len(found)) for at in common}
    return {family.name.format(parameter): error for parameter, error in mean.items()}


def _decided(tables: list[Tensor], truth: Tensor) -> tuple[list[float], float]:
    """Weights of the families, the first of which is of fixed rank, and the error of their mixture."""
    alone = [_error(table, truth) for table in tables]
    least = min(alone)
    mixed = [float(error == least) for error in alone]
    if len(truth) >= _WEIGHABLE:
        most = [_HEAVIEST if alone[0] <= _MIXABLE * least else 1e-12, *[_HEAVIEST] * (len(tables) - 1)]
        table, target = (one.double().cpu().numpy() for one in (torch.stack(tables, dim=1), truth))
        mixed = lsq_linear(table, target, bounds=(0, most), method="bvls").x.clip(0, None)
        mixed = [weight if weight > 1e-6 else 0.0 for weight in mixed.tolist()]
    error = _error(sum(weight * table for weight, table in zip(mixed, tables, strict=True)), truth)
    if alone[0] <= _CLOSE * min(least, error):
        return [1.0, *[0.0] * (len(tables) - 1)], error
    return mixed, error


def _mixture(observed: Observations, fits: list[tuple[float, Factors]]) -> Factors:
    if not fits:
        return tuple(observed.values.new_zeros(size, 1) for size in observed.shape)
    return torch.cat([weight * A for weight, (A, _) in fits], 1), torch.cat([B for _, (_, B) in fits], 1)


def _error(predicted: Float[Tensor, " t"], truth: Float[Tensor, " t"]) -> float:
    return math.sqrt(float((predicted - truth).square().mean()))
