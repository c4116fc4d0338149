"""What losses of logits share: class weights, targets of either kind, smoothing, reductions, and errors in words."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn

from tightframe.core.errors import InputError

Reduction = Literal["mean", "sum", "none"]


class ClassificationLoss(nn.Module, ABC):
    r"""A loss l(z, c) of logits z for each possible right class c, averaged over targets and samples.

    .. math:: L = \frac{1}{\sum_i w_{y_i}} \sum_i \Big[ (1-\alpha)\, w_{y_i} l(z_i, y_i)
        + \frac{\alpha}{K} \sum_c w_c\, l(z_i, c) \Big]

    for class indices y (samples with `ignore_index` left out), as torch.nn.CrossEntropyLoss does. For targets that
    are probabilities q it is the expected loss under q' = (1 - alpha) q + alpha/K, sum_i sum_c w_c q'_ic l(z_i, c) / N.

    On the CPU a value that is not finite raises with its cause. On a GPU looking at it would wait for the device in
    every step: labels out of range then make the value NaN, without a device assert, and `check` names the cause.

    Args:
        weight: w, one number per class, (k,), not negative; ones by default.
        ignore_index: Class index of samples to leave out.
        reduction: "mean", "sum" or "none".
        label_smoothing: alpha in [0, 1].
    """

    weight: Tensor | None

    def __init__(
        self,
        weight: Tensor | None = None,
        *,
        ignore_index: int = -100,
        reduction: Reduction = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        if reduction not in ("mean", "sum", "none"):
            raise InputError('reduction "mean", "sum" or "none"', got=repr(reduction), remedy='Use "mean".')
        if not 0 <= label_smoothing <= 1:
            raise InputError("smoothing in [0, 1]", got=repr(label_smoothing), remedy="Use 0.1, or 0 for none.")
        self.register_buffer("weight", _checked_weight(weight))
        self.ignore_index: int = ignore_index
        self.reduction = reduction
        self.label_smoothing: float = label_smoothing

    @abstractmethod
    def class_losses(self, logits: Tensor) -> Tensor:
        """l(z, c) for every class c, in the shape of the logits (n, k) or (n, k, ...)."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss.

        Args:
            logits: (n, k) or (n, k, ...), k >= 2.
            target: Class indices (n,) or (n, ...), integers; or probabilities in the shape of the logits.

        Returns:
            A tensor without axes, or (n,) or (n, ...) with reduction "none"; float32 for logits of half precision.

        Raises:
            InputError: Shapes that do not fit; on the CPU also NaN, labels out of range, all samples ignored.
        """
        check_batch(logits, target, self.weight)
        wide = logits if logits.dtype == torch.float64 else logits.float()
        if target.is_floating_point():
            value = self._expected(wide, target.to(wide.dtype))
        else:
            value = self._labelled(wide, target.long())
        looked_at = value.device.type == "cpu" and not torch.compiler.is_compiling()
        if looked_at and not bool(torch.isfinite(value.detach()).all()):
            self.check(logits, target)
        return value

    def check(self, logits: Tensor, target: Tensor) -> None:
        """Raise the reason why the loss of these is not finite; waits for the device.

        Raises:
            InputError: It is not, for the reason given.
        """
        explain(logits, target, self.weight, self.ignore_index)
        with torch.no_grad():
            values = self.class_losses(logits if logits.dtype == torch.float64 else logits.float())
        if not bool(torch.isfinite(values).all()):
            raise InputError(
                "logits whose loss can be computed in their precision",
                got=f"entries up to {float(logits.detach().abs().amax()):.3g} in {logits.dtype}",
                remedy="Lower the learning rate.",
            )

    def extra_repr(self) -> str:
        """What the module shows of itself."""
        return f"reduction={self.reduction!r}, label_smoothing={self.label_smoothing:g}"

    def _smoothing(self, classes: int) -> float:
        """alpha for so many classes."""
        return self.label_smoothing

    def _label_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """l(z, y) of labels in range, in their shape."""
        return self.class_losses(logits).gather(1, labels.unsqueeze(1)).squeeze(1)

    def _labelled(self, logits: Tensor, labels: Tensor) -> Tensor:
        ignored = labels == self.ignore_index
        inside = (labels >= 0) & (labels < logits.shape[1])
        safe = labels.clamp(0, logits.shape[1] - 1)
        weights = torch.ones_like(safe, dtype=logits.dtype) if self.weight is None else self.weight.to(logits)[safe]
        smoothing = self._smoothing(logits.shape[1])
        if smoothing:
            losses = self.class_losses(logits)
            own = losses.gather(1, safe.unsqueeze(1)).squeeze(1)
            values = (1 - smoothing) * weights * own + smoothing / logits.shape[1] * _over_classes(losses, self.weight)
        else:
            values = weights * self._label_losses(logits, safe)
        values = values.masked_fill(~inside, torch.nan).masked_fill(ignored, 0)
        if self.reduction == "mean":
            return values.sum() / weights.masked_fill(ignored, 0).sum()
        return values if self.reduction == "none" else values.sum()

    def _expected(self, logits: Tensor, shares: Tensor) -> Tensor:
        smoothing = self._smoothing(logits.shape[1])
        shares = (1 - smoothing) * shares + smoothing / logits.shape[1]
        values = _over_classes(shares * self.class_losses(logits), self.weight)
        if self.reduction == "none":
            return values
        return values.sum() / values.numel() if self.reduction == "mean" else values.sum()


def _over_classes(values: Tensor, weight: Tensor | None) -> Tensor:
    """Weighted sum over the classes, axis 1."""
    if weight is None:
        return values.sum(1)
    return (values * weight.to(values.dtype).view(-1, *[1] * (values.ndim - 2))).sum(1)


def _checked_weight(weight: Tensor | None) -> Tensor | None:
    if weight is None:
        return None
    vector = isinstance(weight, Tensor) and weight.ndim == 1 and weight.is_floating_point()
    if not (vector and bool(torch.isfinite(weight).all()) and bool((weight >= 0).all())):
        raise InputError(
            "weight is a tensor with one finite number of at least 0 per class",
            got=repr(weight),
            remedy="Pass torch.tensor([...]) of floats, or leave it out.",
        )
    return weight.detach().clone()


def check_batch(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> None:
    """Logits, target and class weights that fit each other; looks at shapes and types only.

    Raises:
        InputError: They do not.
    """
    if not (isinstance(logits, Tensor) and logits.is_floating_point() and logits.ndim >= 2 and logits.shape[1] >= 2):
        got = f"{logits.dtype}, shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError(
            "floating-point logits (n, k) or (n, k, ...) of k >= 2 classes",
            got=got,
            remedy="Pass one column per class; two classes need two columns.",
        )
    if not logits.numel():
        raise InputError("at least one sample", got=f"shape {tuple(logits.shape)}", remedy="Leave empty batches out.")
    probabilities = isinstance(target, Tensor) and target.is_floating_point()
    wanted = logits.shape if probabilities else logits.shape[:1] + logits.shape[2:]
    whole = isinstance(target, Tensor) and not target.is_complex() and target.dtype != torch.bool
    if not whole or target.shape != wanted:
        got = f"{target.dtype}, shape {tuple(target.shape)}" if isinstance(target, Tensor) else type(target).__name__
        raise InputError(
            f"class indices of shape {tuple(logits.shape[:1] + logits.shape[2:])}, or probabilities of shape "
            f"{tuple(logits.shape)}",
            got=got,
            remedy="Indices are integers; this loss needs no sample positions beside them.",
        )
    if weight is not None and len(weight) != logits.shape[1]:
        raise InputError(
            f"one weight for each of {logits.shape[1]} classes", got=f"{len(weight)}", remedy="Pass as many as logits."
        )
    for name, other in (("target", target), ("weight", weight)):
        if other is not None and other.device != logits.device:
            raise InputError(
                f"logits and {name} on one device", got=f"{logits.device} and {other.device}", remedy="Use .to(device)."
            )


def explain(logits: Tensor, target: Tensor, weight: Tensor | None = None, ignore_index: int = -100) -> None:
    """Raise what is wrong with the entries of a batch, if anything is; waits for the device.

    Raises:
        InputError: NaN or inf, labels out of range, everything ignored, or no weight left.
    """
    bad = ~torch.isfinite(logits.detach())
    if bool(bad.any()):
        row = int(bad.flatten(1).any(1).nonzero()[0])
        raise InputError(
            "finite logits",
            got=f"{int(bad.sum())} entries that are NaN or inf, first in row {row}",
            remedy="Lower the learning rate, or look for overflow in half precision.",
        )
    if target.is_floating_point():
        if not bool(torch.isfinite(target).all()):
            raise InputError("finite probabilities as target", got="NaN or inf", remedy="Look at what made them.")
        return
    kept = target[target != ignore_index]
    if not kept.numel():
        raise InputError(
            "a sample that is not ignored, to take the mean over",
            got=f"only labels {ignore_index}",
            remedy='Leave such batches out, or use reduction="sum".',
        )
    low, high = int(kept.min()), int(kept.max())
    if low < 0 or high >= logits.shape[1]:
        raise InputError(
            f"labels in [0, {logits.shape[1]})",
            got=f"values from {low} to {high}",
            remedy="Number the classes from 0, or pass ignore_index for samples to leave out.",
        )
    if weight is not None and not bool(weight[kept.long()].sum() > 0):
        raise InputError("a class of weight above 0", got="only classes of weight 0", remedy="Change the weights.")
