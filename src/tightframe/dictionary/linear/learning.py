"""A dictionary from samples: a global start, whatever the initialisation, and a finish that is exact."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.core.solution import Solution, Status, Trace
from tightframe.core.typing import Float
from tightframe.dictionary.linear.coding import coded_refinement
from tightframe.dictionary.linear.overcomplete import all_columns
from tightframe.dictionary.linear.precondition import Whitening, second_moment, whitening
from tightframe.dictionary.linear.refinement import code_noise, projected_thresholding, thresholded_power
from tightframe.geometry.frames import haar_columns
from tightframe.optimize.power import matching_stretching_projection, orthogonal_ascent

Method = Literal["msp", "rgd", "trust-region"]
Finish = Literal["auto", "threshold", "coding", "none"]
Rows = Float[Tensor, "n d"]
Atoms = Float[Tensor, "p d"]

# Samples per atom that a search looks at; the finish uses all.
_SEARCHED, _LEAST_SEARCHED, _MOST_SEARCHED = 60, 2000, 50_000
# Samples per atom in the rounds of sparse coding that come first, and how many of these; with noise some more on all.
_CODED, _LEAST_CODED, _ROUNDS, _ROUNDS_ON_ALL, _CODING_STEPS = 50, 5000, 30, 5, 15
# Change of a direction at which a search ends, and the noise of codes (root mean square one) that passes for rounding.
_TURN, _ROUNDING = 1e-3, 1e-3
# Noise in codes from which sparse coding is better than the inverse of the dictionary, and starts tried at most.
_AMPLIFIED, _STARTS = 0.3, 3
# Share of the energy below which what codes of more atoms than dimensions leave says that they explain the data.
_EXPLAINED = 0.1
# Two directions this near are one atom twice.
_TWICE = 0.95


@dataclass(frozen=True)
class Options:
    """How a dictionary is learned; the arguments of `complete_dictionary`."""

    method: Method = "msp"
    order: int = 3
    finish: Finish = "auto"
    noise: float | None = None
    tolerance: float | None = None
    max_iterations: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, choices in (
            ("method", self.method, get_args(Method)),
            ("order", self.order, (3, 4)),
            ("finish", self.finish, get_args(Finish)),
        ):
            if value not in choices:
                raise InputError(f"{name}, one of {', '.join(map(str, choices))}", got=repr(value), remedy="Choose.")
        check_count(self.max_iterations, "max_iterations")
        if self.noise is not None and not 0 <= self.noise < math.inf:
            raise InputError("a noise of at least zero", got=repr(self.noise), remedy="Use None to have it measured.")


def complete_dictionary(
    rows: Rows, count: int | None = None, *, options: Options | None = None, start: Atoms | None = None
) -> Solution:
    r"""At most as many atoms as dimensions, from sparse combinations of them: whiten, search, refine.

    .. math:: y_j = \sum_k x_{jk}\, a_k, \qquad \|a_k\| = 1

    1. `whitening` of the samples, in their `count` largest directions;
    2. orthonormal directions by `matching_stretching_projection` ("msp"), by `orthogonal_ascent` ("rgd"), or one by
       one by trust regions on the sphere ("trust-region"), on at most 60 samples per atom and in float32;
    3. `projected_thresholding`, then `thresholded_power`, on a part first. Exact data give the dictionary exactly;
       where the result has not settled, or holds an atom twice, up to two further starts are tried, and the sparsest
       result is kept;
    4. where noise, amplified by the inverse of the dictionary, drowns some codes or has two searches end at one atom:
       `coded_refinement` instead.

    Args:
        rows: y (n, d); not moved to their mean, as sparse codes of either sign have none.
        count: K <= d; None for the dimension of the span of the samples.
        options: How.
        start: Atoms to begin with (K, d) instead of a search.

    Returns:
        Solution with `atoms` (K, d) of unit norm in the order of their energy, each with its largest entry positive;
        `noise` (K,), the deviation around zero of their codes; `density` (K,), the share of codes above it; as its
        objective the mean modulus of codes of root mean square one (small is sparse), and a trace of the stages:
        "objective", "seconds", "steps".

    Raises:
        InputError: More atoms than dimensions, or options that are none.
        DegenerateError: Zeros only, or samples of a span smaller than `count`.

    Reference: [zhai2020complete]; [sun2017complete], for preconditioning and a finish that takes the bias out.
    """
    options, trace, begun = options or Options(), Trace(), time.perf_counter()
    precision = rows.shape[1] * torch.finfo(rows.dtype).eps
    white = whitening(second_moment(rows), rank=count, precision=precision)
    coordinates, best = white.rows(rows), None
    for attempt in range(1 if start is not None else _STARTS):
        found = _attempt(white, coordinates, options, start, attempt)
        if best is None or found.objective < best.objective:
            best = found
        seconds = time.perf_counter() - begun
        trace.record(attempt, {"objective": found.objective, "seconds": seconds, "steps": float(len(found.trace))})
        if options.finish in ("none", "coding") or _drowned(best) or not _flawed(best):
            break
    atoms = white.atoms(torch.linalg.pinv(best.Q.T.double())).to(rows)
    status, noise = best.status, None
    lost = _drowned(best) or _twice(best)
    if options.finish == "coding" or (options.finish == "auto" and lost):
        searched = white.atoms(best.searched.double()).to(rows)
        # The noise is far above what float32 rounds to.
        coded = _coded(rows.float(), searched.float(), options) if lost else _coded(rows, searched, options)
        atoms, status, noise = coded.atoms.to(rows), coded.status, float(coded.noise)
        trace.record(len(trace), {"objective": coded.objective, "seconds": time.perf_counter() - begun})
    return _described(rows, atoms, noise, status, best.objective, trace)


def overcomplete_dictionary(rows: Rows, count: int, *, options: Options | None = None) -> Solution:
    r"""More atoms than dimensions: `all_columns` of the whitened samples, then `coded_refinement` where it helps.

    The atoms of `all_columns` carry the error of a sample of fourth powers, about 1/sqrt(n). Where codes are so sparse
    that the l1 norm finds them, refinement takes the error away, down to rounding for exact data; where it does not
    (its residual exceeds a tenth of the data's), the atoms stay as they are, and the status says so.

    Arguments, result and errors are those of `complete_dictionary`, but that `count` must be given, method "msp" stands
    for the power iteration on the sphere, and `noise` is that of an entry of the data, for all atoms.

    Reference: [qu2020geometric].
    """
    options, begun = options or Options(), time.perf_counter()
    white = whitening(second_moment(rows), rank=rows.shape[1])
    some = _some(rows, _MOST_SEARCHED, options.seed)
    method = "power" if options.method == "msp" else options.method
    found = all_columns(white.rows(some).float(), count, method=method, seed=options.seed)
    trace, status = found.trace, found.status
    atoms, noise = white.atoms(found.Q.to(rows)), None
    if options.finish in ("auto", "coding"):
        coded = _coded(rows, atoms, options)
        trace.record(len(trace) + 1, {"objective": coded.objective, "seconds": time.perf_counter() - begun})
        left = coded.objective / float(_present(rows).square().sum(1).mean())
        if left < _EXPLAINED and status.converged:
            atoms, status, noise = coded.atoms, coded.status, float(coded.noise)
        elif left >= _EXPLAINED:
            unexplained = f"not refined, as the codes leave {left:.0%} of the data unexplained"
            status = Status(status.outcome, f"{status.message}; {unexplained}: too dense for their dictionary")
    return _described(rows, atoms, noise, status, found.objective, trace)


def analysis(atoms: Atoms) -> Atoms:
    """Rows w (K, d) with which codes are y^T w, for at most as many atoms as dimensions: the pseudo-inverse."""
    return torch.linalg.pinv(atoms.double()).T.to(atoms)


def _attempt(white: Whitening, coordinates: Rows, options: Options, start: Atoms | None, attempt: int) -> Solution:
    """One start taken to its end, with the orthonormal directions it came from as `searched`."""
    count = len(white.matrix)
    size = max(_LEAST_SEARCHED, _SEARCHED * count)
    few = _some(coordinates, size, options.seed + attempt).float()
    if start is not None:
        # The images of atoms are not the directions that give the codes, unless they are orthonormal.
        Q = torch.linalg.pinv(white.directions(start.double())).T.to(few)
        searched = found = Solution(Status("converged", "given"), 0.0, {"Q": Q}, Trace())
    else:
        found = _search(few, count, options, attempt)
        searched = projected_thresholding(few, found.Q)
    if options.finish == "none":
        Q = found.Q.to(coordinates)
        codes = coordinates @ Q.T
        variables = {"Q": Q, "searched": Q, "noise": code_noise(codes)}
        return Solution(found.status, float(codes.abs().mean()), variables, found.trace)
    near, beginning = searched.Q.to(coordinates), {}
    if len(coordinates) > 2 * size:
        part = _some(coordinates, size, options.seed + attempt)
        inner = whitening(second_moment(part))
        first = thresholded_power(inner.rows(part), near @ inner.inverse.to(near).T, tolerance=options.tolerance)
        # A part of exact data gives the exact directions; in whitened coordinates of its own, as the sample is another.
        if first.status.converged and float(first.noise.amax()) <= _ROUNDING:
            near = first.Q @ inner.matrix.to(near)
            beginning = {"beginning": torch.finfo(near.dtype).eps ** 0.4}
    refined = thresholded_power(coordinates, near, tolerance=options.tolerance, **beginning)
    variables = {**refined.variables, "searched": searched.Q.to(coordinates)}
    return Solution(refined.status, refined.objective, variables, refined.trace)


def _coded(rows: Rows, atoms: Atoms, options: Options) -> Solution:
    """Rounds on a part of the samples that are not empty, enough where data are exact; with noise some on all."""
    rows = _present(rows)
    given = {"noise": options.noise, "tolerance": options.tolerance, "coding_iterations": _CODING_STEPS}
    part = _some(rows, max(_LEAST_CODED, _CODED * len(atoms)), options.seed)
    found = coded_refinement(part, atoms, max_iterations=_ROUNDS, **given)
    exact = float(found.noise) <= _ROUNDING * float(part.square().mean()) ** 0.5
    if exact or len(part) == len(rows):
        return found
    many = _some(rows, _MOST_SEARCHED, options.seed + 1)
    return coded_refinement(many, found.atoms, max_iterations=_ROUNDS_ON_ALL, **given)


def _search(few: Rows, count: int, options: Options, attempt: int) -> Solution:
    if options.method == "trust-region":
        return all_columns(few, count, method="trust-region", tolerance=1e-4, seed=options.seed + attempt)
    start = haar_columns(count, count, seed=options.seed + attempt).T.to(few)
    climb = matching_stretching_projection if options.method == "msp" else orthogonal_ascent
    return climb(few, start, order=options.order, tolerance=_TURN, max_iterations=options.max_iterations)


def _flawed(found: Solution) -> bool:
    """Whether another start may do better: an atom is there twice, or of exact data not all codes are sparse alike.

    A mixture of two atoms can be a fixed point of thresholding, with as many codes as both together.
    """
    noise = found.noise
    uneven, exact = noise.amax() > 10 * noise.median() + 1e-6, noise.median() <= _ROUNDING
    mixed = found.density.amax() > 1.5 * found.density.median()
    return _twice(found) or bool(exact and (uneven or mixed or not found.status.converged))


def _twice(found: Solution) -> bool:
    cosines = found.Q @ found.Q.T
    return float(cosines.abs().fill_diagonal_(0).amax()) > _TWICE


def _drowned(found: Solution) -> bool:
    noise = float(found.noise.amax())
    return noise > _AMPLIFIED or (noise > _ROUNDING and not found.status.converged)


def _some(rows: Rows, count: int, seed: int) -> Rows:
    """All rows, or `count` of them at random where there are more."""
    if len(rows) <= count:
        return rows
    chosen = torch.randperm(len(rows), generator=generator(seed))[:count]
    return rows[chosen.to(rows.device)]


def _present(rows: Rows) -> Rows:
    """Without the rows of zeros, of which very sparse codes give many."""
    kept = rows.count_nonzero(1) > 0
    return rows if bool(kept.all()) else rows[kept]


def _described(
    rows: Rows, atoms: Atoms, noise: float | None, status: Status, objective: float, trace: Trace
) -> Solution:
    """Atoms in their order and sign, with the noise and density of their codes."""
    largest = atoms.gather(1, atoms.abs().argmax(1, keepdim=True))
    atoms = atoms * torch.where(largest < 0, -1.0, 1.0).to(atoms)
    few = _some(rows, 20_000, 0)
    if len(atoms) <= rows.shape[1]:
        inverse = analysis(atoms)
        codes = few @ inverse.T
        level = code_noise(codes) if noise is None else noise * torch.linalg.vector_norm(inverse, dim=1)
        energy = codes.square().mean(0)
        density = (codes.abs() > 3.5 * level.clamp_min(1e-9 * float(energy.amax()) ** 0.5)).to(codes).mean(0)
    else:
        along = few @ atoms.T
        energy, density = along.square().mean(0), along.new_full((len(atoms),), float("nan"))
        level = along.new_full((len(atoms),), 0.0 if noise is None else noise)
    order = energy.argsort(descending=True, stable=True)
    variables = {"atoms": atoms[order], "noise": level[order], "density": density[order]}
    return Solution(status, objective, variables, trace)
