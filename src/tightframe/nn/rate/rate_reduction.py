"""Maximal coding rate reduction as a loss: every class spread over a subspace, subspaces orthogonal."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tightframe.core.errors import InputError
from tightframe.core.linalg import unit_rows
from tightframe.core.typing import Features, Float, Int
from tightframe.nn.rate.coding import RateReduction, check_precision, coding_rate, rate_reduction
from tightframe.nn.rate.rate_optimum import maximal_rate_reduction

_FINE = 1 << 30


class MCR2Loss(nn.Module):
    r"""Rate of the classes less rate of all features, to be minimised.

    .. math:: L(Z) = -\gamma_2\, \tfrac12 \log\det\Big(I + \gamma_1\frac{d}{n\epsilon^2} Z^\top Z\Big)
        + \sum_j \frac{n_j}{2n} \log\det\Big(I + \frac{d}{n_j\epsilon^2} Z^\top \Pi_j Z\Big)

    where Z holds the features (n, d), each row divided by its length, and Pi_j and n_j are the memberships in class j
    and their sum, as in `rate_reduction`. With gamma_1 = gamma_2 = 1 it is -Delta R: negative values are normal, and
    small ones are good. The loss is on the features, not on logits; classify by nearest subspace afterwards. Batches
    need several samples of every class (1000 for 10 classes is usual), since the subspaces are those of the batch.
    A row of zeros, a sample that a last ReLU has silenced, has no direction: it adds to no rate and moves nothing.

    Args:
        eps2: Square of the precision; 0.5 is usual. Codes that pass "eps" may mean its square or not.
        gamma1: Factor within the first determinant, above 0; 20 for self-supervision.
        gamma2: Factor of the first rate, above 0; 0.05 for self-supervision.
        normalize: Whether rows are divided by their lengths. Without it the loss has no minimum: longer is better.
        dtype: Precision of the determinants, by default that of the features, float32 for half precision.

    Reference: [yu2020learning], section 2; [qu2021shallow].
    """

    def __init__(
        self,
        *,
        eps2: float = 0.5,
        gamma1: float = 1.0,
        gamma2: float = 1.0,
        normalize: bool = True,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.eps2: float = check_precision(eps2)
        if not (0 < gamma1 < math.inf and 0 < gamma2 < math.inf):
            raise InputError(
                "finite gamma1 and gamma2 above 0", got=f"gamma1={gamma1}, gamma2={gamma2}", remedy="Use 1 for both."
            )
        self.gamma1: float = float(gamma1)
        self.gamma2: float = float(gamma2)
        self.normalize: bool = normalize
        self.dtype: torch.dtype | None = dtype

    def forward(self, features: Features, target: Int[Tensor, " n"] | Float[Tensor, "n k"]) -> Float[Tensor, ""]:
        """The loss of a batch.

        Args:
            features: (n, d).
            target: Labels (n,), or soft memberships (n, k) with rows of sum 1.

        Raises:
            InputError: As `rate_reduction`; a batch with features of one class only, whose Delta R is always zero.
        """
        rows, rates = self._rates(features, target)
        total = rates.total if self.gamma1 == 1 else coding_rate(rows, self.eps2 / self.gamma1, dtype=self.dtype)
        return rates.compressed - self.gamma2 * total

    @torch.no_grad()
    def progress(self, features: Features, target: Int[Tensor, " n"] | Float[Tensor, "n k"]) -> float:
        r"""How far Delta R has come, Delta R / Delta R^*, with the optimum for the class sizes of this batch.

        Delta R* is `maximal_rate_reduction`, so that 1 is never exceeded but for rounding. A class of n_j labelled
        samples spans at most n_j dimensions, which the optimum heeds; a class of soft memberships may span all.

        Args:
            features: (n, d).
            target: Labels (n,) or memberships (n, k).
        """
        if not self.normalize:
            raise InputError(
                "rows of length one, for which there is an optimum", got="normalize=False", remedy="Leave it True."
            )
        _, rates = self._rates(features, target)
        if target.is_floating_point():
            # Only shares of the whole count then: large numbers limit no rank.
            counts = [round(size * _FINE) for size in target.double().sum(0).clamp(min=0).tolist()]
        else:
            counts = torch.bincount(target).tolist()
        best = maximal_rate_reduction(features.shape[1], len(counts), eps2=self.eps2, counts=counts)
        return float(rates.delta) / best

    def extra_repr(self) -> str:
        """What the module shows of itself."""
        return f"eps2={self.eps2:g}, gamma1={self.gamma1:g}, gamma2={self.gamma2:g}, normalize={self.normalize}"

    def _rates(self, features: Tensor, target: Tensor) -> tuple[Features, RateReduction]:
        rows = unit_features(features, dtype=self.dtype) if self.normalize else features
        rates = rate_reduction(rows, target, eps2=self.eps2, dtype=self.dtype)
        # R_c of a class alone is R, whatever the features: nothing would be learned, silently.
        if int((rates.shares.detach() > 0).sum()) < 2:
            raise InputError(
                "samples of at least two classes in every batch, with features other than zero",
                got=f"{len(features)} samples, {int((rows.detach() == 0).all(1).sum())} of them with features of zeros",
                remedy="Shuffle, raise the batch size, or drop the last batch; a last ReLU may have silenced samples.",
            )
        return rows, rates


def unit_features(features: Features, *, dtype: torch.dtype | None = None) -> Features:
    """Rows divided by their lengths, differentiable; entries of 1e-30 or 1e30 neither vanish nor overflow.

    A row of zeros stays one.

    Args:
        features: (n, d).
        dtype: torch.float32 or torch.float64; by default that of the features, float32 for half precision.

    Raises:
        InputError: A row with NaN or inf.
    """
    if not isinstance(features, Tensor) or features.ndim != 2 or not features.is_floating_point() or not len(features):
        got = f"shape {tuple(features.shape)}, {features.dtype}" if isinstance(features, Tensor) else repr(features)
        raise InputError("features are a floating-point tensor (n, d)", got=got, remedy="Pass one row per sample.")
    single = torch.float32 if features.dtype in (torch.float16, torch.bfloat16) else features.dtype
    rows = features.to(dtype or single)
    lost = ~torch.isfinite(rows.detach()).all(1)
    if bool(lost.any()):
        raise InputError(
            "finite features",
            got=f"{int(lost.sum())} rows with NaN or inf, first in row {int(lost.nonzero()[0])}",
            remedy="Lower the learning rate, or look for overflow in half precision.",
        )
    return unit_rows(rows)
