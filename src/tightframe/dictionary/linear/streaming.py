"""A complete dictionary from batches that pass by once: a pool to find it in, and running sums to improve it with."""

from __future__ import annotations

import torch
from torch import Tensor

from tightframe.core.solution import Solution
from tightframe.core.typing import Float
from tightframe.dictionary.linear.learning import Options, analysis, complete_dictionary
from tightframe.dictionary.linear.refinement import code_noise

Rows = Float[Tensor, "n d"]

# Samples per atom that the pool holds, at least so many, and deviations below which a code counts as zero.
_POOLED, _FEWEST, _DEVIATIONS = 100, 2000, 3.5


class Stream:
    r"""What is kept between batches.

    Until `capacity` samples are pooled, each batch is added to the pool and the dictionary is learned from it, with
    the atoms found so far as the start. From then on the pool stays as it is, and two sums go on over the samples:

    .. math:: S = \sum_j y_j y_j^\top, \qquad C = \sum_j H_{\tau}(W y_j)\, y_j^\top, \qquad W \leftarrow C S^{-1}

    the least squares problem min sum_j |H_tau(W y_j) - W y_j|^2 of `thresholded_power`, with every sample's codes as
    they were when it passed. Exact data give an exact W from the pool on; with noise its error falls as 1/sqrt(n).

    Args:
        count: K, or None for the dimension of the span of the pool.
        options: Of `complete_dictionary`.
    """

    def __init__(self, count: int | None, options: Options) -> None:
        self.count = count
        self.options: Options = options
        self.pool: Tensor | None = None
        self.full: bool = False
        self.seen: int = 0
        self.solution: Solution | None = None

    def add(self, rows: Rows) -> Solution:
        """Learn from one more batch."""
        self.seen += len(rows)
        if not self.full:
            return self._pooled(rows)
        self._sum(rows)
        # Not by lstsq, which on some devices takes the moment for one of full rank.
        inverse = self._cross @ torch.linalg.pinv(self._moment, hermitian=True)
        atoms = torch.linalg.pinv(inverse).T.to(rows)
        atoms = torch.nn.functional.normalize(atoms, dim=1)
        old = self.solution
        codes = rows @ analysis(atoms).T
        variables = {**old.variables, "atoms": atoms, "noise": code_noise(codes)}
        self.solution = Solution(old.status, old.objective, variables, old.trace)
        return self.solution

    def _pooled(self, rows: Rows) -> Solution:
        self.pool = rows if self.pool is None else torch.cat([self.pool, rows.to(self.pool)])
        start = self.solution.atoms if self.solution is not None and self.solution.status.converged else None
        # A batch may span what those before it did not.
        if start is not None and self.count is None and len(start) < rows.shape[1]:
            start = None
        self.solution = complete_dictionary(self.pool, self.count, options=self.options, start=start)
        count = len(self.solution.atoms)
        if len(self.pool) >= max(_FEWEST, _POOLED * count):
            self.full: bool = True
            self._moment = rows.new_zeros(rows.shape[1], rows.shape[1], dtype=torch.float64)
            self._cross = rows.new_zeros(count, rows.shape[1], dtype=torch.float64)
            self._sum(self.pool)
            self.pool = None
        return self.solution

    def _sum(self, rows: Rows) -> None:
        rows = rows.double()
        codes = rows @ analysis(self.solution.atoms.double()).T
        codes = torch.where(codes.abs() > _DEVIATIONS * self.solution.noise.double(), codes, 0.0)
        self._moment += rows.T @ rows
        self._cross += codes.T @ rows
