"""The objective of sparse over-parameterisation on a batch, and its derivative in u in closed form."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import cross_entropy

from tightframe.core.checks import check_labels
from tightframe.core.errors import InputError
from tightframe.nn.sop.sample_register import looks_at_once

FLOOR = 1e-4


def objective(
    p: Tensor, labels: Tensor, predicted: Tensor, *, u: Tensor, v: Tensor, balance: float = 0.0
) -> tuple[Tensor, Tensor]:
    r"""The objective of SOPLoss, but for consistency, sample by sample, and the slopes of its sum in u.

    .. math:: l_i = -\log q_{i y_i} + \|h_i + U_i - V_i - Y_i\|^2 - \frac{\lambda}{K} \sum_k \log \bar q_k, \qquad
        \frac{\partial}{\partial u_i} \sum_j l_j = 2 u_i \, [u_i^2 \le 1] \left(
        \frac{\partial}{\partial p_{i y_i}} \sum_j l_j + 2 (h_{i y_i} + U_i - 1) \right)

    with q as in SOPLoss and bar q its mean over the batch: U enters q as p does, so that one derivative serves both. It
    is computed in closed form with the values. Derivatives of second order are not available.

    Args:
        p: (B, K), probabilities; the values are differentiable in them.
        labels: (B,), int64: the labels given.
        predicted: (B,), int64: classes of the largest logits.
        u: (B,): weights of the labels, as they are before the step.
        v: (B, K): weights of the other classes; the entry of the label has no effect.
        balance: lambda.

    Returns:
        Values l (B,), whose mean is the loss, and slopes (B,): B times the derivative of that mean.
    """
    wrong = (predicted != labels).to(p)
    U, V = (u * u).clamp(max=1), (v * v).clamp_(max=1).scatter_(1, labels[:, None], 0.0)
    values, common, pull = _CorrectedEntropy.apply(p, labels[:, None], U[:, None], V, balance)
    # At the label h + U - V - Y is U - [h wrong]; elsewhere it is h - V.
    residual = (U - wrong) ** 2 + (V * V).sum(1) + wrong * (1 - 2 * V.gather(1, predicted[:, None])[:, 0])
    values = values + residual
    if balance:
        values = values + common
    return values, 2 * u * (u * u <= 1) * (pull + 2 * (U - wrong))


class _CorrectedEntropy(torch.autograd.Function):
    r"""-log q_y and the balance term, with their derivatives in p.

    With s = max(p + U - V, epsilon), S = ||s||_1 and a = [p + U - V >= epsilon], the first has the derivative
    a_k (1 / S - [k = y] / s_y) where s_y / S >= epsilon, and none elsewhere; the second has
    (a_k / S) (g_k - sum_j g_j s_j / S) with g_k = -[s_k / S >= epsilon] lambda / (B K bar q_k).
    """

    @staticmethod
    def forward(
        ctx: Any, p: Tensor, own: Tensor, U: Tensor, V: Tensor, balance: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Values (B,), the balance term (), and B times the derivative of their mean in p_y (B,)."""
        s = (p - V).scatter_add_(1, own, U)
        free = s >= FLOOR
        s.clamp_(min=FLOOR)
        total = s.sum(dim=1, keepdim=True)
        s_own = s.gather(1, own)
        share = s_own / total
        counts = (share >= FLOOR).to(p)
        slope = torch.where(free, counts / total, 0.0)
        slope.scatter_add_(1, own, -counts * free.gather(1, own) / s_own)
        common, shift = p.new_zeros(()), p.new_zeros(())
        pull = slope.gather(1, own)[:, 0]
        if balance:
            shares = s / total
            average = shares.clamp(min=FLOOR).mean(dim=0)
            common = -balance * average.log().mean()
            g = (shares >= FLOOR) * (-balance / (average * average.numel() * len(p)))
            shift = torch.where(free, (g - (g * shares).sum(dim=1, keepdim=True)) / total, 0.0)
            pull = pull + len(p) * shift.gather(1, own)[:, 0]
        ctx.save_for_backward(slope, shift)
        ctx.mark_non_differentiable(pull)
        return -share.clamp(min=FLOOR).log()[:, 0], common, pull

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, values: Tensor, common: Tensor, pull: Tensor) -> tuple[Tensor | None, ...]:
        """Derivative in p (B, K)."""
        slope, shift = ctx.saved_tensors
        slope = values[:, None] * slope
        return (slope + common * shift if shift.ndim else slope), None, None, None, None


def checked_logits(logits: Tensor, name: str, *, classes: int, device: torch.device) -> Tensor:
    """Logits (B, classes) on `device` in float32, or in float64 where they are that.

    Raises:
        InputError: They are of another shape or kind, elsewhere, or none at all.
    """
    if not (isinstance(logits, Tensor) and logits.is_floating_point()) or logits.shape[1:] != (classes,):
        got = f"{logits.dtype}, shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError(
            f"{name} of shape (B, {classes}), floating point",
            got=got,
            remedy="Pass the outputs of the classifier, one row per sample and one column per class.",
        )
    if logits.device != device:
        raise InputError(
            f"{name} and the loss on one device",
            got=f"{logits.device} and {device}",
            remedy="Move the loss with .to(device), as the network.",
        )
    if not len(logits):
        raise InputError("at least one sample", got=f"{name} without rows", remedy="Leave empty batches out.")
    return logits if logits.dtype == torch.float64 else logits.float()


def rows_of_numbers(p: Tensor) -> Tensor:
    """Mask (B,) of the rows of probabilities or their logarithms that are not NaN.

    Raises:
        InputError: On the CPU, where looking costs nothing, one is NaN.
    """
    # A softmax is NaN in all its entries or in none.
    fine = ~p[:, 0].isnan()
    if looks_at_once(fine.device) and not bool(fine.all()):
        raise InputError(
            "logits without NaN, with a finite largest entry",
            got=f"{int((~fine).sum())} of {len(fine)} rows that have none",
            remedy="Lower the learning rate; what the loss knows of the samples was left as it is.",
        )
    return fine


def plain_entropy(logits: Tensor, labels: Tensor, *, reduction: str) -> Tensor:
    """Cross-entropy: the value, outside training, of a loss that remembers every sample.

    Raises:
        InputError: On the CPU, labels out of range or NaN.
    """
    if looks_at_once(labels.device):
        check_labels(labels, len(logits), logits.shape[1])
    rows_of_numbers(logits.detach().softmax(1))
    return cross_entropy(logits, labels.to(logits.device), reduction=reduction)


def reduced(values: Tensor, reduction: str) -> Tensor:
    """Values (B,) as they are, their mean or their sum."""
    if reduction == "none":
        return values
    return values.mean() if reduction == "mean" else values.sum()


def activation_epochs(probability: float, *, rate: float = 1.0, init: float = 1e-8) -> float:
    r"""Visits to a sample after which u of SOPLoss reaches one, while the network disagrees with its label.

    $$\frac{\ln(1 / \mathrm{init})}{\ln(1 + 2 r (1/p + 1))}$$

    where p is the `probability` that the network gives the label, r is `rate`, and 1 + 2 r (1/p + 1) is the factor by
    which a small u grows at a visit. The v of the class predicted instead grows by the factor 1 + 4 r, the value at
    p = 1, so `activation_epochs(1.0)` is its time. A network that comes to predict the wrong label within fewer epochs
    has memorised it before the loss acts.

    Args:
        probability: p in (0, 1].
        rate: r > 0.
        init: Value of u at the start, in (0, 1).

    Raises:
        InputError: An argument is out of its range.

    >>> [round(activation_epochs(p, rate=10 / 128), 1) for p in (0.05, 0.5)]
    [12.7, 47.9]
    """
    if not (0 < probability <= 1 and 0 < rate < math.inf and 0 < init < 1):
        raise InputError(
            "a probability in (0, 1], a positive rate and init in (0, 1)",
            got=f"probability={probability}, rate={rate}, init={init}",
            remedy="Give the probability of the label, and the arguments of SOPLoss.",
        )
    return -math.log(init) / math.log1p(2 * rate * (1 / probability + 1))
