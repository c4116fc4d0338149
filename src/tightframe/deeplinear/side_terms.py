"""The mean and the effects of rows and columns, fitted to observed entries with damping."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tightframe.core.typing import Float
from tightframe.deeplinear.observations import Observations

# Rounds of fitting rows and columns in turn.
_ROUNDS = 20


@dataclass(frozen=True, eq=False)
class SideTerms:
    r"""Means by row and column that need no factors.

    .. math:: \hat x_{ij} = \mu + b_i + c_j

    Args:
        mean: mu (), the average of the observed entries.
        rows: b (m,), zero for a row without entries.
        columns: c (n,), zero for a column without entries.
    """

    mean: Float[Tensor, ""]
    rows: Float[Tensor, " m"]
    columns: Float[Tensor, " n"]

    def at(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Values (t,) at these places."""
        return self.mean + self.rows[rows] + self.columns[columns]


def side_terms(observed: Observations, *, damping: float = 1.0) -> SideTerms:
    r"""Fit mean and effects to observed entries, rows and columns in turn.

    .. math:: \min_{b, c}\ \sum_{(i,j) \in \Omega} (x_{ij} - \mu - b_i - c_j)^2 + \lambda (\|b\|^2 + \|c\|^2)

    What is left of a matrix of rank r has rank at most r + 2 however b and c are chosen, so that a low-rank fit of the
    rest loses nothing.

    Args:
        observed: Omega and x.
        damping: lambda, at least 0: as many entries of effect zero are added to every row and column.
    """
    mean = observed.values.mean()
    rest = observed.values - mean
    b, c = rest.new_zeros(observed.shape[0]), rest.new_zeros(observed.shape[1])
    in_rows, in_columns = (
        (counts + damping).clamp_min(1).to(rest) for counts in (observed.row_counts, observed.column_counts)
    )
    for _ in range(_ROUNDS):
        b = torch.zeros_like(b).index_add_(0, observed.rows, rest - c[observed.columns]) / in_rows
        c = torch.zeros_like(c).index_add_(0, observed.columns, rest - b[observed.rows]) / in_columns
    return SideTerms(mean, b, c)


def no_side_terms(observed: Observations) -> SideTerms:
    """Zeros."""
    zeros = [observed.values.new_zeros(size) for size in observed.shape]
    return SideTerms(observed.values.new_zeros(()), zeros[0], zeros[1])


def averages(observed: Observations) -> SideTerms:
    """What to predict where a row or a column has no entries: its partner's average, or that of all."""
    mean = observed.values.mean()
    effects = []
    for index, counts in ((observed.rows, observed.row_counts), (observed.columns, observed.column_counts)):
        sums = observed.values.new_zeros(len(counts)).index_add_(0, index, observed.values - mean)
        effects.append(sums / counts.clamp_min(1))
    return SideTerms(mean, effects[0], effects[1])
