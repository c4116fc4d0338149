"""Exact recovery over many draws: how often it happens, where it ends, and where theory puts the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import torch
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import norm
from torch import Tensor

from tightframe.core.errors import DegenerateError, InputError
from tightframe.core.typing import Float

Row = Mapping[str, float | int | str | bool | None]

METHODS = {"convex": "convex program", "descent": "gradient descent"}
SHARE = "share recovered"
# Of the axes of a matrix, whose places are words.
_LABELS = {"dimension/samples": "columns/rows", "share corrupted": "corrupted"}


def shares(rows: Sequence[Row], keys: tuple[str, ...]) -> list[Row]:
    """Share of the trials in which each method recovered theta, and their mean coherence, by the values of `keys`."""
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    found = []
    for method, (place, some) in product(METHODS, groups.items()):
        named = dict(zip(keys, place, strict=True))
        found.append(
            named
            | {_LABELS[key]: f"{value:.3g}" for key, value in named.items() if key in _LABELS}
            | {
                "method": METHODS[method],
                SHARE: sum(bool(row[f"recovered, {method}"]) for row in some) / len(some),
                "coherence": sum(row["coherence"] for row in some) / len(some),
                "trials": len(some),
            }
        )
    return found


def crossings(phase: Sequence[Row]) -> list[Row]:
    """The share of corruption at which recovery ends, by method and dimension: the area under the share recovered.

    The shares of corruption are evenly spaced; below the first the share recovered is taken to be 1.
    """
    corrupted = sorted({row["share corrupted"] for row in phase})
    width = (corrupted[-1] - corrupted[0]) / (len(corrupted) - 1)
    groups: dict[tuple, list[float]] = {}
    for row in phase:
        groups.setdefault((row["method"], row["dimension/samples"]), []).append(row[SHARE])
    return [
        {
            "method": method,
            "dimension/samples": dimension,
            "recovery ends at": corrupted[0] - width / 2 + width * sum(some),
            "predicted": transition(dimension),
            "width of grid": width,
        }
        for (method, dimension), some in groups.items()
    ]


def row_coherence(J: Float[Tensor, "m d"]) -> float:
    r"""How much of the column space of J one row holds: mu = (m / r) max_i |U_i|^2, from 1 to m / r.

    U has orthonormal columns that span those of J, r is their number.

    Args:
        J: (m, d), not zero.

    Raises:
        DegenerateError: J is zero.

    Reference: [candes2009exact], definition 1.2.
    """
    left, values, _ = torch.linalg.svd(J.double(), full_matrices=False)
    rank = int((values > values[0] * max(J.shape) * torch.finfo(torch.float64).eps).sum())
    if rank == 0:
        raise DegenerateError("a matrix that is not zero", got="rank 0", remedy="Leave it out.")
    return float(len(J) / rank * left[:, :rank].square().sum(1).max())


def transition(dimension_share: float) -> float:
    r"""Share of corrupted rows up to which min |y - J theta|_1 finds theta, for Gaussian J of many rows.

    .. math:: \psi(\rho) = 1 - \tfrac{d}{m}, \qquad \psi(\rho) = \min_{\tau \ge 0}\;
        \rho\,(1 + \tau^2) + 2\,(1 - \rho)\big[(1 + \tau^2)\,\bar\Phi(\tau) - \tau\varphi(\tau)\big]

    where psi(rho) is the statistical dimension, per row, of the descent cone of the l1 norm at a vector with a share
    rho of entries that are not zero, phi the density of a standard normal and \bar\Phi its upper tail.

    Args:
        dimension_share: d / m in (0, 1).

    Raises:
        InputError: A share outside (0, 1).

    Reference: [amelunxen2014living], theorem II and proposition 4.5.
    """
    if not 0 < dimension_share < 1:
        raise InputError("a share in (0, 1)", got=repr(dimension_share), remedy="Pass d / m of a tall J.")

    def excess(share: float) -> float:
        def cone(t: float) -> float:
            tail = (1 + t * t) * norm.sf(t) - t * norm.pdf(t)
            return share * (1 + t * t) + 2 * (1 - share) * tail

        return minimize_scalar(cone, bounds=(0, 40), method="bounded", options={"xatol": 1e-10}).fun

    return brentq(lambda share: excess(share) - (1 - dimension_share), 1e-9, 1 - 1e-9)
