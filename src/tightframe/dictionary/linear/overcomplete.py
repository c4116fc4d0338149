"""Overcomplete dictionaries: one atom from a point of the sphere, and all of them by repeated trials and deflation."""

from __future__ import annotations

import time
from typing import Literal, get_args

import torch
from torch import Tensor

from tightframe.core.checks import check_count
from tightframe.core.errors import DegenerateError, InputError
from tightframe.core.linalg import unit_rows
from tightframe.core.rng import generator
from tightframe.core.solution import Solution, Status, Trace
from tightframe.core.typing import Float
from tightframe.dictionary.linear.cumulant import FourthCumulant, alternating_least_squares
from tightframe.optimize.power import sphere_ascent, sphere_power
from tightframe.optimize.riemannian import minimize_on_spheres, on_spheres

Method = Literal["power", "rgd", "trust-region"]
Rows = Float[Tensor, "n d"]
Directions = Float[Tensor, "p d"]

# Directions nearer than this are one atom; a candidate or an atom of less than this share of the median weight is none.
_SAME_BEFORE, _SAME_AFTER, _LEAST_BEFORE, _LEAST_AFTER = 0.9, 0.95, 0.4, 0.5
_FEWEST_STARTS, _POLISH = 16, 20
# Rounds in a row without a new atom after which there is none left to find.
_FRUITLESS = 2


def one_column(
    rows: Rows | FourthCumulant,
    start: Directions,
    *,
    method: Method = "power",
    tolerance: float = 1e-2,
    max_iterations: int = 200,
) -> Solution:
    r"""Maximise the fourth cumulant of the projections over the sphere, from each of several starts on its own.

    .. math:: \max_{\|q\| = 1} \frac1n \sum_j (z_j^\top q)^4 - 3\,(q^\top \Sigma q)^2

    which for whitened rows is the mean fourth power up to a constant. Each maximiser is near an atom of a dictionary
    that is orthogonal, or a tight frame of small coherence, and sparse codes.

    Args:
        rows: z, whitened (n, d), or their `FourthCumulant`, with atoms taken out of it or not.
        start: (p, d), one start per row.
        method: "power" (gradient steps of infinite length), "rgd" (Riemannian gradient ascent) or "trust-region".
        tolerance: Change of a direction at which it stops; for "trust-region" the norm of the gradient of all.
        max_iterations: Steps at most.

    Returns:
        Solution with Q (p, d), in the dtype of the start, and a trace.

    Raises:
        InputError: Another method, or as `sphere_power` or `minimize_on_spheres`.

    Reference: [qu2020geometric], sections 2 and 3.
    """
    cumulant = rows if isinstance(rows, FourthCumulant) else FourthCumulant(rows)
    if method not in get_args(Method):
        raise InputError(f"method, one of {', '.join(get_args(Method))}", got=repr(method), remedy='Use "power".')
    if method != "trust-region":
        climb = sphere_power if method == "power" else sphere_ascent
        return climb(cumulant.contract, start, tolerance=tolerance, max_iterations=max_iterations)
    dtype = cumulant.rows.dtype

    def value(Q: Tensor) -> float:
        return -0.25 * float(cumulant.value(Q.T.to(dtype)).double().sum())

    def gradient(Q: Tensor) -> list[Tensor]:
        return [-cumulant.contract(Q.T.to(dtype)).T.double()]

    def product(Q: Tensor, V: Tensor) -> list[Tensor]:
        return [-cumulant.derivative(Q.T.to(dtype), V.T.to(dtype)).T.double()]

    found = minimize_on_spheres(
        value,
        gradient,
        product,
        {"Q": on_spheres(start.T.double())},
        gradient_tolerance=tolerance,
        max_iterations=max_iterations,
    )
    Q = found.Q.T.to(start).contiguous()
    return Solution(found.status, -4 * found.objective, {"Q": Q}, found.trace)


def all_columns(
    rows: Rows,
    count: int | None = None,
    *,
    method: Method = "power",
    max_rounds: int = 20,
    tolerance: float = 1e-2,
    seed: int = 0,
) -> Solution:
    r"""All atoms of a dictionary in whitened coordinates: trials from random starts, clustering, deflation.

    Each round starts many directions at once, twice as many as there are atoms missing, on the cumulant from which
    the atoms of the rounds before are taken out, so that none is found twice; counts the directions that agree up to
    sign once; drops those of little weight; and solves for all atoms together by `alternating_least_squares`. It ends
    with the atoms asked for, or when two rounds in a row find no other one.

    The first round, in which nothing is taken out, also says how many were to be expected from further trials of
    this kind: 1 - (atoms found once) / (trials) is the estimate of Good and Turing of the share of trials that lead
    to an atom already seen.

    Args:
        rows: z, whitened (n, d).
        count: Atoms sought, m; None to find as many as there are.
        method: As in `one_column`.
        max_rounds: Rounds at most.
        tolerance: Change of a direction at which it stops; the least squares take it further.
        seed: Seed of the starts.

    Returns:
        Solution with Q (p, d), unit rows in order of weight; `weights` (p,), the cumulant of each; `coverage` (), the
        estimate for the first round; as its objective the sum of the weights, and a trace of "atoms", "new", "trials"
        and "seconds" for each round. Fewer atoms than asked for are a status "stalled".

    Raises:
        InputError: A count, a number of rounds or a tolerance that is not above zero.
        DegenerateError: No direction along which the rows are more heavy-tailed than Gaussian ones.

    Reference: [qu2020geometric], section 5, for repeated trials; [good1953population], for the coverage;
        [anandkumar2014tensor], for deflation.
    """
    if count is not None:
        check_count(count, "count")
    check_count(max_rounds, "max_rounds")
    trace, begun, draws = Trace(), time.perf_counter(), generator(seed)
    whole = cumulant = FourthCumulant(rows)
    atoms, weights = rows.new_zeros(0, rows.shape[1]), rows.new_zeros(0)
    coverage, fruitless, number = 0.0, 0, 0
    while number < max_rounds and fruitless < _FRUITLESS and (count is None or len(atoms) < count):
        number += 1
        missing = count - len(atoms) if count else max(rows.shape[1], len(atoms)) if number == 1 else len(atoms)
        start = torch.randn(max(2 * missing, _FEWEST_STARTS), rows.shape[1], generator=draws).to(rows)
        ended = one_column(cumulant, start, method=method, tolerance=tolerance, max_iterations=60).Q
        fresh, sizes = _candidates(cumulant, ended, weights)
        if number == 1:
            coverage = 1 - float((sizes == 1).sum()) / max(1, int(sizes.sum()))
        before = len(atoms)
        if len(fresh):
            atoms, weights = _together(whole, torch.cat([atoms, fresh]), count)
            cumulant = whole.without(atoms, weights)
        fruitless = 0 if len(atoms) > before else fruitless + 1
        row = {"atoms": float(len(atoms)), "new": float(len(atoms) - before), "trials": float(len(start))}
        trace.record(number, {**row, "seconds": time.perf_counter() - begun})
    if not len(atoms):
        raise DegenerateError(
            "rows with heavier tails than Gaussian ones in some direction",
            got=f"none in {trace['trials'][-1]:.0f} trials",
            remedy="Codes this dense, or this noisy, tell no atoms apart; take sparser data.",
        )
    atoms, weights = alternating_least_squares(whole, atoms, iterations=_POLISH)
    order = weights.argsort(descending=True)
    found = {"Q": atoms[order], "weights": weights[order], "coverage": torch.tensor(coverage, dtype=torch.float64)}
    return Solution(_status(len(atoms), count, number, fruitless), float(weights.sum()), found, trace)


def distinct(directions: Directions, *, cosine: float = 0.9) -> tuple[Tensor, Tensor]:
    """The first of every group of unit rows that agree up to sign, and the size of its group.

    A row belongs to the earliest kept row with which its |cosine| is above `cosine`; put better ones first.

    Args:
        directions: (p, d), unit.
        cosine: In (0, 1).

    Returns:
        Indices of the rows kept, ascending, and the sizes of their groups.

    Example:
        >>> kept, sizes = distinct(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]))
        >>> kept.tolist(), sizes.tolist()
        ([0, 1], [2, 1])
    """
    alike = ((directions @ directions.T).abs() > cosine).cpu()
    left, kept, sizes = torch.ones(len(directions), dtype=torch.bool), [], []
    for i in range(len(directions)):
        if left[i]:
            group = alike[i] & left
            group[i] = True
            left &= ~group
            kept.append(i)
            sizes.append(int(group.sum()))
    return torch.tensor(kept, dtype=torch.long), torch.tensor(sizes, dtype=torch.long)


def _candidates(cumulant: FourthCumulant, ended: Directions, weights: Tensor) -> tuple[Directions, Tensor]:
    """Directions that may be new atoms, and how many trials led to each."""
    values = cumulant.value(ended)
    order = values.argsort(descending=True)
    ended, values = ended[order], values[order]
    kept, sizes = distinct(ended, cosine=_SAME_BEFORE)
    typical = weights.median() if len(weights) else values[kept.to(values.device)].median()
    heavy = (values[kept.to(values.device)] > _LEAST_BEFORE * typical.clamp_min(0)).cpu()
    return ended[kept[heavy].to(ended.device)], sizes[heavy]


def _together(whole: FourthCumulant, atoms: Directions, count: int | None) -> tuple[Directions, Tensor]:
    """All atoms solved for at once, less those that run into another or lose their weight."""
    atoms, weights = alternating_least_squares(whole, atoms, iterations=6)
    order = weights.argsort(descending=True)
    atoms, weights = atoms[order], weights[order]
    kept = distinct(atoms, cosine=_SAME_AFTER)[0].to(atoms.device)
    atoms, weights = atoms[kept], weights[kept]
    heavy = weights > _LEAST_AFTER * weights.median()
    return unit_rows(atoms[heavy][:count]), weights[heavy][:count]


def _status(found: int, count: int | None, rounds: int, fruitless: int) -> Status:
    said = f"{found} atoms in {rounds} rounds"
    if count is not None and found >= count:
        return Status("converged", said)
    if fruitless >= _FRUITLESS:
        said += f", {fruitless} of them without another one"
        if count is None:
            return Status("converged", said)
        return Status("stalled", f"{said}: {count} were asked for; take more samples, or ask for fewer")
    return Status("budget spent", f"{said}; raise max_rounds")
