"""What is measured of fourth powers on the sphere: ends of random starts, moments, critical points, whole bases."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from tightframe.core.errors import DegenerateError, InputError
from tightframe.core.rng import generator
from tightframe.core.typing import Float
from tightframe.data.sparse import Values, sparse_codes
from tightframe.dictionary.linear.landscape import (
    SpherePoints,
    expected_fourth_power,
    power_constants,
    sphere_critical_points,
)
from tightframe.dictionary.linear.learning import Options, complete_dictionary
from tightframe.dictionary.linear.overcomplete import distinct
from tightframe.dictionary.linear.precondition import second_moment, whitening
from tightframe.dictionary.linear.recovery import l4_score, nearest_atom_gaps
from tightframe.dictionary.linear.refinement import thresholded_power
from tightframe.geometry.coherence import coherence
from tightframe.geometry.frames import haar_columns, unit_norm_tight_frame
from tightframe.geometry.incoherent import incoherent_frame
from tightframe.optimize.power import matching_stretching_projection, power_gradient, sphere_ascent, sphere_power

# 1 - |cosine| with an atom up to which a direction counts as it (the sources'), and l4 score up to which a basis does.
NEAR, EXACT = 0.05, 1e-8
# Change of a direction at which a descent on data and one on their expectation end, and steps at most.
_SETTLED, _SETTLED_EXACTLY, _STEPS = 1e-6, 1e-8, 5000

Row = Mapping[str, float | int | str | bool | None]
Atoms = Float[Tensor, "m d"]


@dataclass(frozen=True)
class Sparse:
    """Samples y = A x with Bernoulli-Gaussian or Bernoulli-Rademacher x.

    Args:
        dimension: n.
        atoms: m; A is orthogonal where it is n.
        samples: p.
        density: theta.
        seed: Of A, x and the starts.
        frame: "tight" (unit norm tight frame), "incoherent" (small coherence) or "gaussian" (of independent entries).
        values: Distribution of the codes that are not zero.
    """

    dimension: int
    atoms: int
    samples: int = 0
    density: float = 0.1
    seed: int = 0
    frame: str = "tight"
    values: Values = "gaussian"

    @property
    def dictionary(self) -> Atoms:
        """A (m, n), one atom per row, float64."""
        if self.frame == "gaussian":
            return torch.randn(self.atoms, self.dimension, generator=generator(self.seed), dtype=torch.float64)
        if self.frame not in ("tight", "incoherent"):
            raise InputError("tight, incoherent or gaussian", got=repr(self.frame), remedy='Use "tight".')
        if self.atoms == self.dimension:
            return haar_columns(self.dimension, self.dimension, seed=self.seed)
        make = unit_norm_tight_frame if self.frame == "tight" else incoherent_frame
        return make(self.atoms, self.dimension, seed=self.seed)

    def rows(self, dictionary: Atoms) -> Float[Tensor, "p d"]:
        """The samples (p, n)."""
        drawn = generator(self.seed + 1)
        return sparse_codes((self.samples, self.atoms), self.density, values=self.values, seed=drawn) @ dictionary

    def starts(self, count: int) -> Float[Tensor, "q d"]:
        """Random directions (count, n)."""
        return torch.randn(count, self.dimension, generator=generator(self.seed + 2), dtype=torch.float64)

    @property
    def words(self) -> dict[str, float | int | str]:
        """What tells it from others, for tables."""
        return {
            "n": self.dimension,
            "m": self.atoms,
            "m/n": self.atoms / self.dimension,
            "p": self.samples,
            "theta": self.density,
            "seed": self.seed,
        }


def nearest_distances(directions: Float[Tensor, "q d"], atoms: Atoms) -> Float[Tensor, " q"]:
    """Distance of every direction (q, n), scaled to length one, from the nearest of the unit atoms and their negatives.

    The difference itself keeps the digits that 2 - 2 cos would lose.
    """
    units = torch.nn.functional.normalize(directions.double(), dim=1)
    cosines = units @ atoms.T
    nearest = cosines.abs().argmax(1)
    signs = cosines.gather(1, nearest[:, None]).sign()
    return torch.linalg.vector_norm(units - signs * atoms[nearest], dim=1)


def refined_columns(rows: Float[Tensor, "p d"], directions: Float[Tensor, "q d"]) -> Float[Tensor, "q d"]:
    """Directions (q, n) near those in which the codes y^T q are sparse, taken there: columns of an orthogonal A.

    The fixed points of thresholding are exact for whitened rows z alone, and y^T q = z^T w for w = q @ inverse^T.
    """
    white = whitening(second_moment(rows), rank=rows.shape[1])
    found = thresholded_power(white.rows(rows), directions @ white.inverse.T).Q @ white.matrix
    return torch.nn.functional.normalize(found, dim=1)


def column_ends(item: tuple[Sparse, str, int]) -> Row:
    """Where maximising the fourth power of the projections ends from random starts, for an orthogonal dictionary."""
    cell, method, starts = item
    atoms = cell.dictionary
    rows = cell.rows(atoms)
    climb = {"power": sphere_power, "rgd": sphere_ascent}[method]
    found = climb(partial(power_gradient, rows), cell.starts(starts), tolerance=_SETTLED, max_iterations=300)
    gaps, distances = nearest_atom_gaps(found.Q, atoms), nearest_distances(found.Q, atoms)
    kept = distinct(found.Q, cosine=1 - NEAR / 2)[0]
    refined = refined_columns(rows, found.Q[kept])
    # delta_j (3 theta - 3 theta^2) = mean of x_i^3 x_j, whose variance is 15 theta^2 / p.
    predicted = math.sqrt(15 * (cell.dimension - 1) / cell.samples) / (3 * (1 - cell.density))
    return cell.words | {
        "method": method,
        "starts": starts,
        "steps": len(found.trace),
        "share within 1e-2": float((gaps <= 1e-2).double().mean()),
        "share within distance 1e-2": float((distances <= 1e-2).double().mean()),
        "share near a column": float((gaps <= NEAR).double().mean()),
        "distance": float(distances.square().mean().sqrt()),
        "predicted distance": predicted,
        "columns reached": len((found.Q @ atoms.T).abs().argmax(1).unique()),
        "distance, refined": float(nearest_distances(refined, atoms).amax()),
    }


def whole_basis(item: tuple[Sparse, float]) -> Row:
    """All columns at once by matching, stretching and projection of fourth powers; without noise refined, too."""
    cell, noise = item
    atoms = cell.dictionary
    rows = cell.rows(atoms)
    rows = rows + noise * torch.randn(rows.shape, generator=generator(cell.seed + 4), dtype=rows.dtype)
    start = haar_columns(cell.dimension, cell.dimension, seed=cell.seed + 2).T
    found = matching_stretching_projection(rows, start, order=4, tolerance=_SETTLED, max_iterations=200)
    refined = None
    if not noise:
        refined = max(0.0, l4_score(refined_columns(rows, found.Q), atoms))
    gaps = nearest_atom_gaps(atoms, found.Q)
    return cell.words | {
        "noise": noise,
        "density": f"{cell.density:g}",
        "deviation of noise": f"{noise:g}",
        "steps": len(found.trace),
        "columns within 1e-2": float((gaps <= 1e-2).double().mean()),
        "l4 score": l4_score(found.Q, atoms),
        "l4 score, refined": refined,
    }


def exactness(item: tuple[Sparse, int]) -> Row:
    """Whether a basis is recovered up to rounding, from a start by third or by fourth powers."""
    cell, order = item
    atoms = cell.dictionary
    found = complete_dictionary(cell.rows(atoms), options=Options(order=order, seed=cell.seed))
    score = max(0.0, l4_score(found.atoms, atoms))
    return cell.words | {"powers": f"l{order}", "l4 score": score, "exact": score < EXACT}


def moments(item: tuple[Sparse, int]) -> list[Row]:
    """Fourth powers of projections averaged over p samples, beside their expectation, for many draws."""
    cell, draws = item
    atoms, rows = cell.dictionary, []
    first, second = power_constants(cell.density, values=cell.values)
    drawn = generator(cell.seed + 3)
    for _ in range(draws):
        # From isotropic directions to columns, so that the norm of order four varies.
        mixing = torch.rand((), generator=drawn, dtype=torch.float64)
        column = atoms[int(torch.randint(cell.atoms, (), generator=drawn))]
        other = torch.nn.functional.normalize(torch.randn(cell.dimension, generator=drawn, dtype=torch.float64), dim=0)
        q = torch.nn.functional.normalize(mixing * column + (1 - mixing) * other, dim=0)
        codes = sparse_codes((cell.samples, cell.atoms), cell.density, values=cell.values, seed=drawn)
        weights = atoms @ q
        measured = float((codes @ weights).pow(4).mean())
        expected = float(expected_fourth_power(atoms, q[None], cell.density, values=cell.values))
        deviation = math.sqrt((eighth_moment(weights, cell.density, values=cell.values) - expected**2) / cell.samples)
        powers = {"l4 part": float(weights.pow(4).sum()), "l2 part": float(weights.square().sum() ** 2)}
        constants = {"c1": first, "c2": second}
        rows.append(
            cell.words
            | {"frame": name_of(cell), "codes": cell.values, "measured": measured, "expected": expected}
            | {"deviation": deviation}
            | powers
            | constants
        )
    return rows


def eighth_moment(weights: Float[Tensor, " m"], density: float, *, values: Values = "gaussian") -> float:
    r"""E (x^T w)^8 for Bernoulli-Gaussian or Bernoulli-Rademacher x, from cumulants, which add up.

    .. math:: \mathbb E s^8 = K_8 + 28 K_6 K_2 + 35 K_4^2 + 210 K_4 K_2^2 + 105 K_2^4, \qquad
        K_r = \kappa_r \sum_k w_k^r

    Args:
        weights: w (m,).
        density: theta.
        values: "gaussian" or "rademacher".

    Example:
        >>> eighth_moment(torch.ones(1, dtype=torch.float64), 1.0)
        105.0
    """
    m2, m4, m6, m8 = (density * moment for moment in ((1, 3, 15, 105) if values == "gaussian" else (1, 1, 1, 1)))
    cumulants = {
        2: m2,
        4: m4 - 3 * m2**2,
        6: m6 - 15 * m4 * m2 + 30 * m2**3,
        8: m8 - 28 * m6 * m2 - 35 * m4**2 + 420 * m4 * m2**2 - 630 * m2**4,
    }
    K = {order: value * float(weights.double().pow(order).sum()) for order, value in cumulants.items()}
    return K[8] + 28 * K[6] * K[2] + 35 * K[4] ** 2 + 210 * K[4] * K[2] ** 2 + 105 * K[2] ** 4


def critical_points(item: tuple[Sparse, int, int]) -> list[Row]:
    """Critical points of minus the expected fourth power: ends of descents, and what Newton's method finds."""
    cell, starts, searches = item
    atoms = cell.dictionary
    drawn = cell.starts(starts + searches)
    ended = population_ends(atoms, drawn[:starts])
    kept, sizes = distinct(ended, cosine=0.999)
    words = cell.words | {"frame": name_of(cell), "coherence": coherence(atoms)}
    rows = []
    for how, where, counts in (("descent", ended[kept], sizes.tolist()), ("Newton", drawn[starts:], [1] * searches)):
        for start, count in zip(where, counts, strict=True):
            found = _searched(atoms, start)
            numbers = {"kind": "not converged"} if found is None else _described(found)
            rows.append(words | {"found by": how, "starts": count} | numbers)
    return rows


def population_ends(atoms: Atoms, starts: Float[Tensor, "q d"]) -> Float[Tensor, "q d"]:
    """Where maximising |A^T q|_4^4, the limit of infinitely many samples, ends from every start."""

    def gradient(q: Tensor) -> Tensor:
        return (q @ atoms.T).pow(3) @ atoms

    return sphere_power(gradient, starts, tolerance=_SETTLED_EXACTLY, max_iterations=_STEPS).Q


def name_of(cell: Sparse) -> str:
    """The kind of dictionary, for tables."""
    return "orthogonal" if cell.atoms == cell.dimension and cell.frame != "gaussian" else cell.frame


def _searched(atoms: Atoms, start: Tensor) -> SpherePoints | None:
    try:
        return sphere_critical_points(atoms, start[None])
    except DegenerateError:
        return None


def _described(found: SpherePoints) -> dict[str, float | str]:
    return {
        "kind": found.kinds(near=NEAR)[0],
        "value": float(found.values[0]),
        "gradient": float(found.gradients[0]),
        "curvature": float(found.curvatures[0]),
        "gap": float(found.gaps[0]),
    }
