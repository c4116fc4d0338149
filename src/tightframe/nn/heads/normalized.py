"""The classifier on spheres: features and class directions of length one, and a temperature."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.core.linalg import unit_rows
from tightframe.core.typing import Features, Float, Weights
from tightframe.nn.heads.heads import check_frame, check_positive


class NormalizedHead(nn.Module):
    r"""Cosines between features and class directions, times a temperature.

    .. math:: z_k = \tau \left\langle \frac{w_k}{\|w_k\|}, \frac{h}{\|h\|} \right\rangle

    Logits lie in [-tau, tau], so that the cross-entropy of K balanced classes cannot fall below
    log(1 + (K-1) exp(-K tau/(K-1))), the value at a simplex ETF (d >= K - 1). For balanced classes, d > K and

    .. math:: 0 < \tau < \frac{2(d-2)}{1 + (K \bmod 2)/K}

    every critical point of the unconstrained-features model is a global minimiser or a strict saddle: between one and
    d - 2 times two, far beyond the temperatures in use. The same has been found at every temperature, also for
    unbalanced classes and d = K (`tightframe.ufm`). What tau changes in practice is speed and spread: with tau = 1 (the
    default, as in the released code of the source) features of a class keep being pulled together, and collapse goes
    furthest; with tau = 10 to 30 the loss can come near zero, and stops pulling earlier.

    What enters the head is h before its normalisation, and `FeatureTap` records that; its metrics then see lengths to
    which this head is blind. A feature of length zero has no direction and gives logits of zero.

    Args:
        in_features: d.
        out_features: K, at least 2.
        temperature: tau > 0, or its first value if it is learned.
        learn_temperature: Learn tau by its logarithm.
        frame: Fixed class directions (k, d) instead of learned ones, for example a simplex ETF; stored in checkpoints.
        device: Where the parameters are.
        dtype: Their type. Norms of half-precision features are taken in float32.

    Raises:
        InputError: Sizes or temperature out of range; a frame of another shape, not finite, or with a row of
            zeros.

    Example:
        >>> head = NormalizedHead(8, 3, temperature=5.0)
        >>> bool(head(100 * torch.eye(8)).abs().max() <= 5)
        True

    Reference: [yaras2022neural], equation 6 and theorem 3.2.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        temperature: float = 1.0,
        learn_temperature: bool = False,
        frame: Weights | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.in_features: int = check_count(in_features, "in_features")
        self.out_features: int = check_count(out_features, "out_features", least=2)
        self.first_temperature: float = check_positive(temperature, "temperature")
        like = torch.empty(0, device=device, dtype=dtype)
        if learn_temperature:
            self.log_temperature: Tensor = nn.Parameter(like.new_empty(()))
        else:
            self.register_buffer("log_temperature", like.new_empty(()))
        if frame is None:
            self.directions: Tensor = nn.Parameter(like.new_empty(out_features, in_features))
        else:
            self.register_buffer("directions", check_frame(frame, out_features, in_features).to(like))
        self.reset_parameters()

    @property
    def temperature(self) -> Float[Tensor, ""]:
        """tau, a tensor without axes."""
        return self.log_temperature.exp()

    @property
    def weight(self) -> Weights:
        """tau times the unit class directions (k, d)."""
        return self.temperature * unit_rows(self.directions)

    def forward(self, input: Features) -> Float[Tensor, "n k"]:
        """Logits (..., k) of features (..., d), whatever their lengths."""
        return functional.linear(unit_rows(input), self.weight)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Learned directions uniform on the sphere (from torch's global random state); the first temperature."""
        self.log_temperature.fill_(self.first_temperature).log_()
        if isinstance(self.directions, nn.Parameter):
            self.directions.normal_()
            self.directions.copy_(unit_rows(self.directions))

    def extra_repr(self) -> str:
        """Sizes, temperature, and whether the directions are fixed."""
        learned = " (learned)" if isinstance(self.log_temperature, nn.Parameter) else ""
        fixed = "" if isinstance(self.directions, nn.Parameter) else ", fixed directions"
        tau = float(self.temperature.detach())
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, temperature={tau:.4g}{learned}{fixed}"
        )

    def resized(self, in_features: int) -> NormalizedHead:
        """A head like this one for another width, as it was when new.

        Raises:
            InputError: The directions were given, and have no counterpart in another dimension.
        """
        if not isinstance(self.directions, nn.Parameter):
            raise InputError("learned directions", got="ones that were given", remedy="Build the head anew.")
        return type(self)(
            in_features,
            self.out_features,
            temperature=self.first_temperature,
            learn_temperature=isinstance(self.log_temperature, nn.Parameter),
            device=self.directions.device,
            dtype=self.directions.dtype,
        )
