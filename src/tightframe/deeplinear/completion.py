"""`DeepMatrixCompletion`: a matrix from some of its entries, as a scikit-learn estimator."""

from __future__ import annotations

import math
import sys
import warnings
from typing import Any, Literal

import torch
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from tightframe.core.checks import check_count
from tightframe.core.errors import DegenerateError, InputError
from tightframe.core.solution import Status, Trace
from tightframe.deeplinear.completed import CompletedMatrix
from tightframe.deeplinear.observations import Duplicates, Observations, observe
from tightframe.deeplinear.recipe import CompletionSolution, Recipe, complete_low_rank
from tightframe.deeplinear.side_terms import no_side_terms, side_terms

# Below this share of their norm residuals of the side terms are rounding: nothing is left to complete.
_NOTHING = 1e-12


class DeepMatrixCompletion(BaseEstimator):
    r"""Matrix completion of unknown rank by a compressed deep linear network, made precise by least squares.

    .. math:: \hat x_{ij} = \mu + b_i + c_j + a_i^\top b_j

    A deep network of too many columns descends from a small start until the rank shows as a gap of its singular values;
    least squares from the components above the gap do the rest. A rank counts as exact where the observed entries are
    fitted and a few that were put aside are met. Where none is, entries held out choose among, or mix, fits of fixed
    rank, of the nuclear norm and of deep descent stopped early. See `complete_low_rank`.

    When to take which: this, where the rank is unknown, or where few entries are observed (at 0.65 degrees of freedom
    per observation it recovers matrices that least squares given the true rank mostly does not). Where the rank is
    known and entries are many, `alternating_least_squares` alone takes half the time or less. Where the spectrum has no
    gap or there is noise, expect what the best of the three families gives, in seconds rather than hundredths. For
    implicit feedback (clicks, where what is not observed means something) take a method for that, such as that of the
    package implicit. For entries that are missing because of their values, none of these is right.

    Args:
        rank: Largest fixed rank; "auto" for the largest whose degrees of freedom the observations can bear, up to 32.
            An over-estimate of two to four times does no harm. The nuclear norm is not bound by it.
        depth: Layers of the network, the two thin factors counted, at least 2.
        width: Columns of the network; "compressed" for twice the largest rank, as the invariant subspace has.
        biases: Whether to fit mean, row and column effects first; for ratings.
        gamma: Rate of the outer factors over that of the inner layers; 0 fixes them, which completes nothing.
        scale: Size of the start, as a share of the scale at which the network would be the spectral estimate.
        step: Of the inner layers; None for a quarter of 2 / ||Hessian||, halved where the loss grows.
        tolerance: Relative residual at which the observed entries count as fitted exactly; 2e-6 for float32, if less.
        validation: Share of the entries held out where no rank fits exactly; 0 keeps the rank at the gap, and puts no
            entries aside to check it.
        calibrate: Whether to fit once more without a held-out share, whose residuals give `predict_interval`.
        duplicates: Entries observed more than once: "error", or "mean".
        max_steps: Of the descent.
        max_sweeps: Of least squares; where they end before a fit has settled, the rank at the gap is taken as it is.
        seed: Of the start and of what is held out.
        verbose: Report to stderr.

    Attributes:
        left_: A (m, rank_), times the root of the singular values.
        right_: B (n, rank_), likewise.
        singular_values_: Of the completed matrix without the side terms (rank_,).
        rank_: Columns of the factors; 0 where the side terms leave nothing.
        spectrum_: Singular values of the deep network when the gap was read.
        method_: What made the fit.
        held_out_: Root mean square error of held-out entries by fit tried, over all splits, empty where none was made.
        mean_, row_effects_, column_effects_: mu, b and c; zero without `biases`.
        covered_rows_, covered_columns_: Whether they have entries; the others are predicted by averages.
        residuals_: Sorted moduli of the held-out residuals, with `calibrate`.
        solution_: The `CompletionSolution`; `trace_` its trace.
        n_observed_: |Omega|.

    Attributes are tensors, on the device and in the precision of the entries.

    Example:
        >>> a, b = torch.arange(1.0, 9.0).double(), torch.arange(2.0, 8.0).double()
        >>> matrix = torch.outer(a, b)
        >>> matrix[0, 1] = matrix[5, 2] = torch.nan
        >>> model = DeepMatrixCompletion().fit(matrix)
        >>> model.rank_, model.predict([0, 5], [1, 2]).round(6).tolist()
        (1, [3.0, 24.0])

    Reference: [kwon2024efficient]; [hastie2015matrix]; [vovk2005algorithmic] for the intervals.
    """

    left_: Tensor
    right_: Tensor
    singular_values_: Tensor

    def __init__(
        self,
        rank: int | Literal["auto"] = "auto",
        depth: int = 3,
        width: int | Literal["compressed"] = "compressed",
        biases: bool = False,
        gamma: float = 5.0,
        scale: float = 0.1,
        step: float | None = None,
        tolerance: float = 1e-8,
        validation: float = 0.1,
        calibrate: bool = False,
        duplicates: Duplicates = "error",
        max_steps: int = 1000,
        max_sweeps: int = 500,
        seed: int = 0,
        verbose: bool = False,
    ) -> None:
        self.rank = rank
        self.depth = depth
        self.width = width
        self.biases = biases
        self.gamma = gamma
        self.scale = scale
        self.step = step
        self.tolerance = tolerance
        self.validation = validation
        self.calibrate = calibrate
        self.duplicates = duplicates
        self.max_steps = max_steps
        self.max_sweeps = max_sweeps
        self.seed = seed
        self.verbose = verbose

    def fit(self, X: Any, y: None = None, *, shape: tuple[int, int] | None = None) -> DeepMatrixCompletion:
        """Complete a matrix.

        Args:
            X: As for `observe`: scipy.sparse, a sparse tensor, a triple (rows, columns, values), or a matrix with NaN.
            y: Ignored.
            shape: (m, n) of the matrix of a triple.

        Raises:
            InputError: As for `observe` and `complete_low_rank`. DegenerateError: Observed entries that are all zero.

        Warns:
            UserWarning: gamma = 0, or a descent that diverged.
        """
        recipe = self._recipe()
        observed = observe(X, shape=shape, duplicates=self.duplicates)
        recipe.sizes(observed)
        self.n_observed_: int = len(observed)
        self.covered_rows_: Tensor = observed.row_counts > 0
        self.covered_columns_: Tensor = observed.column_counts > 0
        terms = side_terms(observed) if self.biases else no_side_terms(observed)
        self.mean_: Tensor = terms.mean
        self.row_effects_: Tensor = terms.rows
        self.column_effects_: Tensor = terms.columns
        rest = observed.with_values(observed.values - terms.at(observed.rows, observed.columns))
        self.solution_: CompletionSolution = self._completed(rest, observed, recipe)
        self.trace_: Trace = self.solution_.trace
        self.rank_: int = self.solution_.rank
        self.method_: str = self.solution_.method
        self.left_, self.right_, self.singular_values_ = (self.solution_.variables[name] for name in "ABS")
        self.spectrum_: Tensor = self.solution_.spectrum
        self.held_out_: dict[str, float] = dict(self.solution_.held_out)
        self._matrix = CompletedMatrix.of(observed, self.left_, self.right_, terms)
        if self.solution_.status.outcome == "diverged":
            warnings.warn(str(self.solution_.status), UserWarning, stacklevel=2)
        if self.calibrate:
            self.residuals_: Tensor = self._calibrated(observed)
        return self

    def predict(self, rows: Any, columns: Any) -> Any:
        """Entries (t,) at these rows and columns; tensors for tensors, arrays otherwise.

        Raises:
            InputError: Indices outside the matrix, or of different numbers.

        Warns:
            UserWarning: Rows or columns without observations, for which averages stand.
        """
        check_is_fitted(self)
        at = self._matrix.index(rows, 0), self._matrix.index(columns, 1)
        if len(at[0]) != len(at[1]):
            raise InputError("one column per row", got=f"{len(at[0])} and {len(at[1])}", remedy="Pass pairs.")
        known = self._matrix.known(*at)
        if not bool(known.all()):
            warnings.warn(
                f"{int((~known).sum())} of {len(known)} places lie in rows or columns without observations;"
                " averages stand there",
                UserWarning,
                stacklevel=2,
            )
        return self._returned(self._matrix.at(*at), rows, columns)

    def predict_interval(self, rows: Any, columns: Any, *, coverage: float = 0.9) -> tuple[Any, Any]:
        """Lower and upper ends (t,) of intervals that hold entries drawn like the observed ones this often.

        Split-conformal: the half-width is a quantile of the residuals of entries held out from a fit of the others, so
        that the coverage holds on average over places drawn like the observed ones, whatever the matrix.

        Raises:
            InputError: Fitted without `calibrate=True`, a coverage outside (0, 1), or too few held-out entries for it.
        """
        check_is_fitted(self)
        if not hasattr(self, "residuals_"):
            raise InputError("held-out residuals", got="calibrate=False", remedy="Fit with calibrate=True.")
        count = len(self.residuals_)
        place = math.ceil((count + 1) * coverage) if 0 < coverage < 1 else count + 1
        if place > count:
            expected = f"a coverage that {count} held-out residuals can give, at most {count / (count + 1):.3f}"
            raise InputError(expected, got=repr(coverage), remedy="Lower it, or raise `validation`.")
        centre = torch.as_tensor(self.predict(rows, columns))
        half = self.residuals_[place - 1].to(centre)
        return self._returned(centre - half, rows, columns), self._returned(centre + half, rows, columns)

    def recommend(self, rows: Any, *, top: int = 10, seen: bool = False) -> tuple[Any, Any]:
        """The columns of the largest predicted entries of some rows, the best first.

        Args:
            rows: Rows (q,).
            top: How many columns.
            seen: Whether observed entries may be among them.

        Returns:
            Columns (q, top) and their predicted entries (q, top); -1 and -inf where fewer than `top` are left.

        Raises:
            InputError: Rows outside the matrix, more columns than there are.
        """
        check_is_fitted(self)
        n = self._matrix.observed.shape[1]
        index = self._matrix.index(rows, 0)
        if check_count(top, "top") > n:
            raise InputError(f"top at most {n}, the number of columns", got=str(top), remedy="Ask for fewer.")
        columns, scores = self._matrix.largest(index, top, seen=seen)
        return self._returned(columns, rows), self._returned(scores, rows)

    def complete(self) -> Tensor:
        """The whole completed matrix (m, n), observed entries as they were; for matrices that fit in memory."""
        check_is_fitted(self)
        observed = self._matrix.observed
        whole = self._matrix.whole_rows(torch.arange(observed.shape[0], device=self.left_.device))
        whole[observed.rows, observed.columns] = observed.values
        return whole

    def errors(self, given: Observations) -> Tensor:
        """Predicted minus observed entries (t,)."""
        check_is_fitted(self)
        return self._matrix.at(given.rows, given.columns) - given.values

    def score(self, X: Any, y: None = None) -> float:
        """R^2 of the entries in X, which is read as in `fit`: 1 - sum of squared errors / sum of squared deviations."""
        check_is_fitted(self)
        shape = self._matrix.observed.shape
        given = observe(X, shape=shape if isinstance(X, tuple) else None, duplicates=self.duplicates)
        if given.shape != shape:
            raise InputError(f"entries of a matrix of shape {shape}", got=f"{given.shape}", remedy="Pass a triple.")
        errors = float(self.errors(given).square().sum())
        spread = float((given.values - given.values.mean()).square().sum())
        if spread == 0:
            raise DegenerateError("entries that differ", got="equal ones", remedy="R^2 needs variation: score more.")
        return 1 - errors / spread

    def _recipe(self) -> Recipe:
        for value, name, word in ((self.rank, "rank", "auto"), (self.width, "width", "compressed")):
            if isinstance(value, str) and value != word:
                raise InputError(f'{name} is "{word}" or an integer', got=repr(value), remedy=f'Use "{word}".')
        return Recipe(
            rank=None if self.rank == "auto" else self.rank,
            depth=self.depth,
            width=None if self.width == "compressed" else self.width,
            gamma=self.gamma,
            scale=self.scale,
            step=self.step,
            tolerance=self.tolerance,
            validation=self.validation,
            max_steps=self.max_steps,
            max_sweeps=self.max_sweeps,
            seed=self.seed,
        )

    def _completed(self, rest: Observations, observed: Observations, recipe: Recipe) -> CompletionSolution:
        if self.biases and float(rest.values.norm()) <= _NOTHING * float(observed.values.norm()):
            A, B = (rest.values.new_zeros(size, 0) for size in rest.shape)
            status = Status("converged", "the side terms fit the observed entries exactly")
            variables = {"A": A, "B": B, "S": rest.values.new_zeros(0)}
            return CompletionSolution(status, 0.0, variables, Trace(), rank=0, method="side terms alone")
        return complete_low_rank(rest, recipe, tell=self._tell)

    def _tell(self, line: str) -> None:
        if self.verbose:
            sys.stderr.write(f"{type(self).__name__}: {line}\n")

    def _calibrated(self, observed: Observations) -> Tensor:
        train, held = observed.split(self.validation or 0.1, seed=self.seed + 1)
        other = clone(self).set_params(calibrate=False).fit(train)
        return other.errors(held).abs().sort().values

    def _returned(self, values: Tensor, *given: Any) -> Any:
        tensor = any(isinstance(one, Tensor) for one in given)
        return values if tensor else values.cpu().numpy()
