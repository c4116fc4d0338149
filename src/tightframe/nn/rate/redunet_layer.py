"""One layer of a ReduNet, and the construction of many: gradient ascent of the rate reduction of the training set.

Features are held per frequency, (f, n, c): a vector is one frequency with c = d channels, a signal has one per Fourier
coefficient. The operators then act on every frequency alone, and one code serves vectors, signals and images.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.core.typing import Float

# Entries of the largest intermediate of a layer, (k, f, n, c); more samples than fit go through in parts.
_ENTRIES = 2**23


@dataclass(frozen=True)
class Ascent:
    """How every layer is made.

    Args:
        n_layers: Number of layers.
        eps2: Square of the distortion epsilon.
        eta: Step size.
        softmax: Factor lambda of the estimated memberships.
    """

    n_layers: int
    eps2: float
    eta: float
    softmax: float

    def __post_init__(self) -> None:
        check_count(self.n_layers, "n_layers")
        for name in ("eps2", "eta", "softmax"):
            value = getattr(self, name)
            if not (isinstance(value, int | float) and 0 < value < float("inf")):
                raise InputError(f"{name} is a finite number above 0", got=f"{value!r}", remedy="Keep its default.")


class RateReductionLayer(nn.Module):
    r"""A step along the gradient of the rate reduction, with memberships estimated from the features.

    .. math:: z \leftarrow \frac{z'}{\|z'\|}, \qquad
        z' = z + \eta \Bigl( E z - \sum_k \gamma_k \hat\pi_k(z)\, C_k z \Bigr), \qquad
        \hat\pi_k(z) = \frac{e^{-\lambda \|C_k z\|}}{\sum_j e^{-\lambda \|C_j z\|}}

    where
        E is `expand` (f, c, c), C_k are `compress` (k, f, c, c), gamma_k are `shares` (k,), eta is `step` and lambda is
        `softmax`. Frequency p stands for `multiplicity` (f,) many, 2 where the spectrum of a real signal leaves out the
        conjugate one, and norms count it so often.

    E and C_k are parameters that ask for no gradient: construction has set them. `requires_grad_()` makes the network
    trainable from there.

    Reference: [chan2022redunet], section 3.
    """

    def __init__(
        self, expand: Tensor, compress: Tensor, *, shares: Tensor, multiplicity: Tensor, step: float, softmax: float
    ) -> None:
        super().__init__()
        self.expand: nn.Parameter = nn.Parameter(expand, requires_grad=False)
        self.compress: nn.Parameter = nn.Parameter(compress, requires_grad=False)
        self.register_buffer("shares", shares)
        self.register_buffer("multiplicity", multiplicity)
        self.step: float = step
        self.softmax: float = softmax

    def forward(self, features: Tensor) -> Tensor:
        """Features (f, n, c) of unit norm to features of the same shape and norm."""
        pieces = features.split(max(1, _ENTRIES // (self.compress[..., 0].numel())), dim=1)
        return torch.cat([self._advance(piece) for piece in pieces], dim=1)

    def residual_norms(self, features: Tensor) -> Float[Tensor, "k n"]:
        """|C_k z|: small for the class in whose principal directions z lies."""
        return torch.stack([norms(some, self.multiplicity) for some in self._compressed(features)])

    def extra_repr(self) -> str:
        """Sizes and constants."""
        classes, frequencies, channels, _ = self.compress.shape
        sizes = f"classes={classes}, frequencies={frequencies}, channels={channels}"
        return f"{sizes}, step={self.step}, softmax={self.softmax}"

    def _advance(self, features: Tensor) -> Tensor:
        compressed = self._compressed(features)
        lengths = torch.stack([norms(some, self.multiplicity) for some in compressed])
        weights = torch.softmax(-self.softmax * lengths, dim=0) * self.shares[:, None]
        # Class by class in place: sums over a stack of all classes take several times as long.
        moved = features + self.step * (features @ self.expand.mT)
        for weight, some in zip(weights, compressed, strict=True):
            moved = moved.addcmul_(weight[:, None].to(some.dtype), some, value=-self.step)
        return moved / norms(moved, self.multiplicity)[:, None]

    def _compressed(self, features: Tensor) -> list[Tensor]:
        """C_k z, class by class."""
        return [features @ operator.mT for operator in self.compress]


@dataclass(frozen=True, eq=False)
class Construction:
    """A network built from data.

    Args:
        network: The layers.
        rates: (l + 1, 3), float64: R, R_c and Delta R of the training features before the first layer and after each.
        features: (f, n, c) training features after the last layer.
        readout: The layer that would come next, whose residual norms classify.
    """

    network: nn.Sequential
    rates: Float[Tensor, "l 3"]
    features: Tensor
    readout: RateReductionLayer


def construct(features: Tensor, labels: Tensor, *, classes: int, multiplicity: Tensor, ascent: Ascent) -> Construction:
    r"""Layers, one after the other, each from the training features that the last one returned.

    .. math:: E = \alpha (I + \alpha P Z Z^\ast)^{-1}, \quad \alpha = \tfrac{c}{n \epsilon^2}, \qquad
        C_k = \alpha_k (I + \alpha_k P Z_k Z_k^\ast)^{-1}, \quad \alpha_k = \tfrac{c}{n_k \epsilon^2}, \qquad
        \gamma_k = \tfrac{n_k}{n}

    at each frequency, with c channels and P frequencies in all. Coefficients are those of the unitary transform, so
    that P Z Z^* is the block of the scatter of all shifts; vectors have P = 1 and c = d. The Cholesky factors of all
    classes and frequencies, made in one call, also give the rates. Labels enter the operators alone: the training
    features pass on by estimated memberships, as samples without a label will.

    Args:
        features: (f, n, c) real or complex, of unit norm.
        labels: (n,) class indices, every class present.
        classes: K.
        multiplicity: (f,) how many frequencies each stands for.
        ascent: Number of layers and constants.

    Reference: [chan2022redunet], algorithm 1.
    """
    order = labels.argsort(stable=True)
    back, counts = order.argsort(), torch.bincount(labels, minlength=classes)
    features = features[:, order]
    layers, rates = [], []
    for _ in range(ascent.n_layers):
        layer, rate = _layer(features, counts, multiplicity, ascent)
        features = layer(features)
        layers.append(layer)
        rates.append(rate)
    readout, rate = _layer(features, counts, multiplicity, ascent)
    return Construction(nn.Sequential(*layers), torch.stack([*rates, rate]), features[:, back], readout)


def _layer(features: Tensor, counts: Tensor, multiplicity: Tensor, ascent: Ascent) -> tuple[RateReductionLayer, Tensor]:
    """The layer made from features sorted by class, and (R, R_c, Delta R) of these."""
    wide = features.to(torch.promote_types(features.dtype, torch.float64))
    weights = multiplicity.double()
    positions, channels = weights.sum(), features.shape[-1]
    grams = torch.stack([rows.mT @ rows.conj() for rows in wide.split(counts.tolist(), dim=1)])
    sizes = torch.cat([counts, counts.sum(0, keepdim=True)]).double()
    alphas = (channels / (sizes * ascent.eps2))[:, None, None, None]
    scatters = positions * torch.cat([grams, grams.sum(0, keepdim=True)])
    lower = torch.linalg.cholesky(torch.eye(channels, dtype=wide.dtype, device=wide.device) + alphas * scatters)
    operators = (alphas * torch.cholesky_inverse(lower)).to(features.dtype)
    half_logdets = lower.diagonal(dim1=-2, dim2=-1).real.log().sum(-1) @ weights / positions
    shares = counts.double() / counts.sum()
    total, compressed = half_logdets[-1], half_logdets[:-1] @ shares
    layer = RateReductionLayer(
        operators[-1],
        operators[:-1],
        shares=shares.to(multiplicity),
        multiplicity=multiplicity,
        step=ascent.eta,
        softmax=ascent.softmax,
    )
    return layer, torch.stack([total, compressed, total - compressed])


def norms(features: Tensor, multiplicity: Tensor) -> Float[Tensor, " n"]:
    """Norm of every sample of (f, n, c)."""
    # Real and imaginary parts side by side: the modulus of a complex number would take a root first.
    parts = torch.view_as_real(features).flatten(-2) if features.is_complex() else features
    return torch.einsum("f,fn->n", multiplicity, torch.linalg.vector_norm(parts, dim=-1).square()).sqrt()


def classified(readout: RateReductionLayer, features: Tensor) -> Tensor:
    """Class index (n,) of the largest estimated membership."""
    pieces = features.split(max(1, _ENTRIES // readout.compress[..., 0].numel()), dim=1)
    return torch.cat([readout.residual_norms(piece).argmin(0) for piece in pieces])
