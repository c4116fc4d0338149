"""Dictionary learning by fourth powers on spheres and over orthogonal matrices, as a scikit-learn estimator."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.core.solution import Solution, Status, Trace
from tightframe.dictionary.arrays import Kind, read_rows
from tightframe.dictionary.linear.coding import debiased_codes, lasso_codes
from tightframe.dictionary.linear.learning import (
    Finish,
    Method,
    Options,
    analysis,
    complete_dictionary,
    overcomplete_dictionary,
)
from tightframe.dictionary.linear.streaming import Stream
from tightframe.runs.console import progress

# Kurtosis of codes below which they are hardly sparser than Gaussian ones (3), and density from which none is told.
_LEAST_KURTOSIS, _MOST_DENSE = 3.5, 0.5
# Share of the density 3 / kurtosis of sparse codes below which those seen above the noise are too few to be all; and
# samples that kurtosis is measured on.
_FEW, _LOOKED_AT = 0.02, 20_000
# Codes within so many deviations of the noise count as zero, those of least squares on a support within fewer; the
# penalty of an exact dictionary's codes, relative to the largest correlation.
_DEVIATIONS, _KEPT, _EXACT = 3.5, 2.5, 1e-3
# Least squares on all atoms is left for the Lasso where it multiplies noise by more than this.
_AMPLIFIES = 2.0


class L4DictionaryLearning(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    r"""A dictionary in which samples are sparse, found from any start by powers of projections, and then made exact.

    .. math:: \max_{Q Q^\top = I} \frac1n \sum_{ij} |z_j^\top q_i|^r, \qquad z = P y, \qquad
        y_j = \sum_k x_{jk} a_k

    where
        y_j (d,) are the rows of X (n, d), P whitens them, x_jk are sparse codes, most of them zero, and a_k (d,) the
        atoms, rows of `components_` (K, d).

    Up to K = d: `complete_dictionary`, exact for exact data from about n = 10 d samples on. For K < d the samples are
    reduced to their K principal directions first. For K > d: `overcomplete_dictionary`, atom by atom over the sphere,
    by the fourth cumulant (r = 4). Use scikit-learn's DictionaryLearning where codes are not sparse in the sense of
    independent rare events, or samples fewer than a few times K. Samples are not moved to their mean: codes of either
    sign have none, and a common offset is an atom that is always active.

    Args:
        n_components: K; None for the dimension of the samples' span, at most d.
        method: "msp" (matching, stretching, projection; beyond K = d the power iteration), "rgd" (Riemannian gradient
            ascent) or "trust-region" (second order; one direction at a time also for K <= d).
        order: r, 3 or 4. With 3 fewer samples are enough; the theory is for 4.
        finish: "threshold" and "coding" refine in one way, "none" leaves the bias that powers have, "auto" chooses.
        noise: Standard deviation of white noise in the entries of X; None to estimate it.
        penalty: Of the Lasso that gives codes for K > d; None for two deviations of the noise, or for exact data a
            thousandth of the largest correlation.
        max_iter: Steps of the search at most.
        tol: Largest change of an atom at which refinement ends; None for 1e-10 in float64, 1e-5 in float32.
        seed: Seed of the starts.
        verbose: Show progress on the error stream.

    Attributes:
        components_: Atoms (K, d) of unit norm, in the order of the energy of their codes; signs make the largest entry
            positive.
        noise_: Deviation of the noise in every code (K,).
        density_: Share of codes above the noise (K,); NaN for K > d.
        kurtosis_: Mean of E x^4 / (E x^2)^2 over the codes; 3 / theta for Bernoulli-Gaussian ones of density theta.
        solution_: The `Solution`, with status and trace.
        trace_: Its trace: "objective" and "seconds" after each stage.
        n_iter_: Rows of the trace.
        n_features_in_: d.

    Example:
        >>> from tightframe.data.sparse import sparse_codes
        >>> codes = sparse_codes((2000, 10), 0.2)
        >>> mixing = torch.randn(10, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        >>> model = L4DictionaryLearning().fit(codes @ mixing)
        >>> cosines = (model.components_ @ torch.nn.functional.normalize(mixing, dim=1).T).abs().amax(0)
        >>> bool((cosines > 1 - 1e-12).all())
        True

    Reference: [zhai2020complete], algorithm 1; [qu2020geometric]; [sun2017complete].
    """

    def __init__(
        self,
        n_components: int | None = None,
        *,
        method: Method = "msp",
        order: int = 3,
        finish: Finish = "auto",
        noise: float | None = None,
        penalty: float | None = None,
        max_iter: int = 500,
        tol: float | None = None,
        seed: int = 0,
        verbose: bool = False,
    ) -> None:
        self.n_components = n_components
        self.method = method
        self.order = order
        self.finish = finish
        self.noise = noise
        self.penalty = penalty
        self.max_iter = max_iter
        self.tol = tol
        self.seed = seed
        self.verbose = verbose

    def fit(self, X: ArrayLike | Tensor, y: object = None) -> L4DictionaryLearning:
        """Learn the atoms from samples (n, d); `y` is not used.

        Raises:
            InputError: NaN, complex numbers, more components than samples, an argument that is none.
            DegenerateError: All zero, or of a span smaller than n_components.
        """
        options, count = self._options(), self._count()
        rows, kind = read_rows(self, X, reset=True)
        self._check_samples(rows, count)
        with progress(1, "learning a dictionary", enabled=self.verbose) as meter:
            if count is None or count <= rows.shape[1]:
                solution = complete_dictionary(rows, count, options=options)
            else:
                solution = overcomplete_dictionary(rows, count, options=options)
            meter.advance(outcome=solution.status.outcome)
        self.__dict__.pop("_stream", None)
        self._keep(solution, rows, kind, whole=True)
        return self

    def partial_fit(self, X: ArrayLike | Tensor, y: object = None) -> L4DictionaryLearning:
        """Learn from one more batch (n, d) of data that need not fit in memory; `y` is not used.

        The first batches are pooled, 100 samples per atom and 2000 at least, and the dictionary learned from the pool;
        later ones refine it by sums over all samples, as `Stream` says. Only for K <= d.

        Raises:
            InputError: As `fit`, for a first batch with fewer samples than components, or for K > d.
        """
        first = not hasattr(self, "_stream")
        options, count = self._options(), self._count()
        rows, kind = read_rows(self, X, reset=first)
        if first:
            self._check_samples(rows, count)
            if count is not None and count > rows.shape[1]:
                raise InputError(
                    f"at most d = {rows.shape[1]} components for partial_fit",
                    got=f"{count}",
                    remedy="Use fit on as many samples as memory holds.",
                )
            self._stream = Stream(count, options)
        self._keep(self._stream.add(rows), rows, kind, whole=self._stream.full)
        return self

    def transform(self, X: ArrayLike | Tensor) -> Any:
        """Codes (n, K) of samples (n, d).

        For K <= d those of least squares, zero where they are within 3.5 deviations of the noise
        or of rounding (the root of the precision, relative to the largest of a sample); for K > d, and where
        the inverse of the dictionary would amplify noise, those of the Lasso, then of least squares on their support.
        """
        check_is_fitted(self)
        rows, kind = read_rows(self, X, reset=False)
        return kind.returned(self._codes(rows))

    def inverse_transform(self, codes: ArrayLike | Tensor) -> Any:
        """Samples (n, d) from codes (n, K): their products with the atoms."""
        check_is_fitted(self)
        tensor = codes if isinstance(codes, Tensor) else torch.as_tensor(codes)
        if tensor.ndim != 2 or tensor.shape[1] != len(self._atoms) or tensor.is_complex():
            got = f"shape {tuple(tensor.shape)}, {tensor.dtype}"
            raise InputError(f"real codes (n, {len(self._atoms)})", got=got, remedy="Pass what transform gives.")
        floating = tensor if tensor.is_floating_point() else tensor.to(self._atoms.dtype)
        made = floating @ self._atoms.to(floating)
        return made if isinstance(codes, Tensor) else made.numpy()

    def score(self, X: ArrayLike | Tensor, y: object = None) -> float:
        """Minus the mean squared error of an entry when samples are rebuilt from their codes; higher is better."""
        check_is_fitted(self)
        rows, _ = read_rows(self, X, reset=False)
        rebuilt = self._codes(rows) @ self._atoms.to(rows)
        return -float((rows - rebuilt).double().square().mean())

    @property
    def _n_features_out(self) -> int:
        return len(self._atoms)

    def __sklearn_tags__(self) -> Any:
        """Tags of scikit-learn: float32 stays float32."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _codes(self, rows: Tensor) -> Tensor:
        atoms, noise = self._atoms.to(rows), self._noise.to(rows)
        if len(atoms) <= atoms.shape[1]:
            inverse = analysis(atoms)
            amplified = torch.linalg.vector_norm(inverse, dim=1)
            noise_of_data = (noise / amplified).median()
            if float(amplified.amax()) <= _AMPLIFIES or float(noise_of_data) <= self._rounding(rows):
                codes = rows @ inverse.T
                floor = torch.finfo(rows.dtype).eps ** 0.5 * codes.abs().amax(1, keepdim=True)
                return torch.where(codes.abs() > torch.maximum(_DEVIATIONS * noise, floor), codes, 0.0)
            return self._lasso(rows, atoms, float(noise_of_data))
        return self._lasso(rows, atoms, float(noise.max()))

    def _lasso(self, rows: Tensor, atoms: Tensor, noise: float) -> Tensor:
        along = (rows @ atoms.T).abs().amax(1, keepdim=True)
        least = _EXACT * along.clamp_min(torch.finfo(rows.dtype).tiny)
        penalty = self.penalty if self.penalty is not None else torch.maximum(least, along.new_tensor(2 * noise))
        codes = debiased_codes(rows, atoms, lasso_codes(rows, atoms, penalty, max_iterations=1000), iterations=20)
        kept = torch.where(codes.abs() > _KEPT * noise, codes, 0.0)
        return debiased_codes(rows, atoms, kept, iterations=20)

    def _rounding(self, rows: Tensor) -> float:
        return torch.finfo(rows.dtype).eps ** 0.5 * float(rows.abs().amax())

    def _options(self) -> Options:
        return Options(self.method, self.order, self.finish, self.noise, self.tol, self.max_iter, self.seed)

    def _count(self) -> int | None:
        return None if self.n_components is None else check_count(self.n_components, "n_components")

    def _check_samples(self, rows: Tensor, count: int | None) -> None:
        if len(rows) < max(2, count or 0):
            wanted = f"{count} components" if count else "a dictionary"
            raise InputError(
                f"at least as many samples as components, and 2, for {wanted}",
                got=f"n_samples = {len(rows)}",
                remedy="Pass more samples, or ask for fewer components.",
            )

    def _doubt(self, density: float) -> str | None:
        """What speaks against the codes; their density is NaN where it is not known."""
        codes = f"codes of kurtosis {self.kurtosis_:.2f}" + (f" and density {density:.2f}" if density >= 0 else "")
        if self.kurtosis_ < _LEAST_KURTOSIS or density > _MOST_DENSE:
            gaussian = "those of Gaussian data have 3, and from a density of about 0.5 on"
            return f"{codes}: {gaussian} no dictionary is told from another"
        if density * self.kurtosis_ < 3 * _FEW:
            return f"{codes}: hardly one stands out from the others, and the atoms are only as exact as powers are"
        return None

    def _keep(self, solution: Solution, rows: Tensor, kind: Kind, *, whole: bool) -> None:
        """Set what a fit leaves; `whole` unless there are too few batches yet to expect an end."""
        self._atoms, self._noise = solution.atoms, solution.noise
        few = rows[:_LOOKED_AT]
        codes = few @ (analysis(self._atoms) if len(self._atoms) <= rows.shape[1] else self._atoms).to(few).T
        squares = codes.double().square()
        kurtosis = squares.square().mean(0) / squares.mean(0).square().clamp_min(torch.finfo(torch.float64).tiny)
        self.kurtosis_: float = float(kurtosis.mean())
        said = self._doubt(float(solution.density.double().mean()))
        message = solution.status.message + (f"; {said}" if said else "")
        status = Status(solution.status.outcome, message)
        if said or (whole and not status.converged):
            told = f"{status}" if said else f"{status}; codes have kurtosis {self.kurtosis_:.2f}"
            warnings.warn(f"{told}. Take data with sparser codes, or more.", ConvergenceWarning, stacklevel=3)
        self.solution_: Solution = Solution(status, solution.objective, solution.variables, solution.trace)
        self.components_: Any = kind.returned(self._atoms)
        self.noise_: Any = kind.returned(self._noise)
        self.density_: Any = kind.returned(solution.density)
        self.trace_: Trace = solution.trace
        self.n_iter_: int = max(1, len(solution.trace))
