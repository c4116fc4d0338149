"""A completed matrix in factors: its entries, rows and largest entries, with averages where nothing was observed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tightframe.core.errors import InputError
from tightframe.core.typing import Float, Int
from tightframe.deeplinear.entries import as_tensor
from tightframe.deeplinear.observations import Observations, gathered
from tightframe.deeplinear.side_terms import SideTerms, averages

# Scores held at a time when looking for the largest.
_SCORES = 1 << 22


@dataclass(frozen=True, eq=False)
class CompletedMatrix:
    r"""Side terms and a product of thin factors; averages in rows and columns without observations.

    .. math:: \hat x_{ij} = \mu + b_i + c_j + a_i^\top b_j

    Args:
        observed: The entries it was made from.
        left: A (m, r).
        right: B (n, r).
        terms: mu, b and c.
        fallback: What stands in rows and columns without observations.
    """

    observed: Observations
    left: Float[Tensor, "m r"]
    right: Float[Tensor, "n r"]
    terms: SideTerms
    fallback: SideTerms

    @classmethod
    def of(cls, observed: Observations, left: Tensor, right: Tensor, terms: SideTerms) -> CompletedMatrix:
        """With the averages of the observed entries to fall back on."""
        return cls(observed, left, right, terms, averages(observed))

    def index(self, given: Any, axis: int) -> Int[Tensor, " t"]:
        """Numbers of rows (axis 0) or columns (1), on the device of the factors.

        Raises:
            InputError: No integers in a line, or one outside the matrix.
        """
        name, size = ("rows", "columns")[axis], self.observed.shape[axis]
        found = torch.atleast_1d(as_tensor(given))
        if not found.numel():
            found = found.long()
        if found.ndim != 1 or found.is_floating_point() or found.dtype == torch.bool:
            got = f"{found.dtype} {tuple(found.shape)}"
            raise InputError(f"integer {name} (t,)", got=got, remedy="Number them from 0.")
        if found.numel() and (int(found.min()) < 0 or int(found.max()) >= size):
            raise InputError(
                f"{name} from 0 to {size - 1}",
                got=f"{int(found.min())} to {int(found.max())}",
                remedy="Fit with a larger shape= for those not seen yet.",
            )
        return found.long().to(self.left.device)

    def known(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Whether both the row and the column have observations; shapes broadcast."""
        return (self.observed.row_counts[rows] > 0) & (self.observed.column_counts[columns] > 0)

    def at(self, rows: Tensor, columns: Tensor) -> Float[Tensor, " t"]:
        """Entries at these places."""
        values = gathered(self.left, self.right, rows, columns) + self.terms.at(rows, columns)
        return torch.where(self.known(rows, columns), values, self.fallback.at(rows, columns))

    def whole_rows(self, rows: Tensor) -> Float[Tensor, "q n"]:
        """Rows of the matrix."""
        columns, rows = torch.arange(self.observed.shape[1], device=rows.device), rows[:, None]
        values = self.left[rows[:, 0]] @ self.right.T + self.terms.at(rows, columns)
        return torch.where(self.known(rows, columns), values, self.fallback.at(rows, columns))

    def largest(self, rows: Tensor, top: int, *, seen: bool) -> tuple[Tensor, Tensor]:
        """Columns and values (q, top) of the largest entries, observed ones only where `seen`; -1 and -inf if fewer."""
        columns, scores = [], []
        for part in rows.split(max(1, _SCORES // self.observed.shape[1])):
            predicted = self.whole_rows(part)
            if not seen:
                predicted = predicted.masked_fill(self._observed_in(part), -math.inf)
            best = predicted.topk(top, dim=1)
            columns.append(best.indices.masked_fill(best.values == -math.inf, -1))
            scores.append(best.values)
        return torch.cat(columns), torch.cat(scores)

    def _observed_in(self, rows: Tensor) -> Tensor:
        """Whether the entries of these rows (q, n) are observed."""
        m, n = self.observed.shape
        distinct, back = rows.unique(return_inverse=True)
        place = torch.full((m,), -1, device=rows.device)
        place[distinct] = torch.arange(len(distinct), device=rows.device)
        mask = torch.zeros(len(distinct), n, dtype=torch.bool, device=rows.device)
        inside = place[self.observed.rows] >= 0
        mask[place[self.observed.rows[inside]], self.observed.columns[inside]] = True
        return mask[back]
