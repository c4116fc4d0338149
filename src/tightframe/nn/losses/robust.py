"""Losses that resist wrong labels by other means than sparse over-parameterisation, as baselines of equal standing."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.nn.losses.classification_loss import ClassificationLoss, Reduction
from tightframe.nn.sop.sample_register import SampleRegister, split_target
from tightframe.nn.sop.sop_objective import checked_logits, plain_entropy, reduced, rows_of_numbers
from tightframe.nn.sop.sop_storage import exchange_rows, several_processes

# Bound of the probabilities from below, and of their distance to one, as released.
_CLAMP = 1e-4


class GeneralizedCrossEntropyLoss(ClassificationLoss):
    r"""Between cross-entropy (q to 0) and mean absolute error (q = 1, up to a factor 2).

    .. math:: l(z, c) = \frac{1 - p_c^q}{q}

    with p the softmax of z. Its gradient is p_c^q times that of cross-entropy, so that samples the network contradicts,
    wrong labels above all, pull less. Values lie in [0, 1/q]. Other arguments as in `ClassificationLoss`.

    Args:
        weight: One number per class, (k,).
        q: In [0, 1]; 0 is cross-entropy, 0.7 usual. Large q learns slowly from a random start.

    Example:
        >>> round(float(GeneralizedCrossEntropyLoss(q=0.5)(torch.zeros(1, 4), torch.tensor([2]))), 6)
        1.0

    Reference: [zhang2018generalized], section 3.2.
    """

    def __init__(
        self,
        weight: Tensor | None = None,
        *,
        ignore_index: int = -100,
        reduction: Reduction = "mean",
        label_smoothing: float = 0.0,
        q: float = 0.7,
    ) -> None:
        super().__init__(weight, ignore_index=ignore_index, reduction=reduction, label_smoothing=label_smoothing)
        if not 0 <= q <= 1:
            raise InputError("q in [0, 1]", got=repr(q), remedy="Use 0.7, the usual value.")
        self.q: float = float(q)

    def class_losses(self, logits: Tensor) -> Tensor:
        """l(z, c) for every class c."""
        logs = log_softmax(logits, dim=1)
        return -torch.expm1(self.q * logs) / self.q if self.q else -logs

    def extra_repr(self) -> str:
        """What the module shows of itself."""
        return f"q={self.q:g}, {super().extra_repr()}"


class EarlyLearningLoss(nn.Module):
    r"""Cross-entropy drawn towards what the network predicted earlier (early-learning regularisation, ELR).

    .. math:: L = \frac1B \sum_i \big[ -\log p_{i y_i} + \lambda \log(1 - \langle \bar p_i, t_i\rangle) \big], \qquad
        t_i \leftarrow \beta t_i + (1-\beta) \frac{\bar p_i}{\|\bar p_i\|_1}

    where p is the softmax of `logits` (B, K), \bar p = min(max(p, 1e-4), 1 - 1e-4), beta is `momentum`, lambda is
    `strength`, and t_i, one row per training sample, starts at zero and is updated before it is used, without gradient.
    The second term is negative, and lowest where the prediction agrees with t: memorising a wrong label later on costs.

    t is state, saved with the module: N K numbers in float32. Every evaluation in training mode with gradients enabled
    updates the rows of its batch, once each. In evaluation mode or without gradients the value is the plain
    cross-entropy, nothing is updated and no index is needed. Under torch.distributed the rows of a step are exchanged
    at once, so that all processes hold the same.

    Args:
        samples: Number of training samples N.
        classes: Number of classes K.
        momentum: beta in [0, 1).
        strength: lambda, at least 0; the optimum depends on the number of classes and the noise (1 to 10).
        reduction: "mean", "sum" or "none".

    Attributes:
        needs_index: True: the loss is called with the positions of the samples in the training set.
        views: 1, the views of each sample that a call takes.

    Example:
        >>> loss = EarlyLearningLoss(100, 2)
        >>> logits = torch.zeros(1, 2, requires_grad=True)
        >>> round(loss(logits, torch.tensor([0]), index=torch.tensor([7])).item(), 4)  # log 2 + 3 log(1 - 0.15)
        0.2056

    Reference: [liu2020early], section 4.
    """

    needs_index = True
    views = 1

    def __init__(
        self,
        samples: int,
        classes: int,
        *,
        momentum: float = 0.7,
        strength: float = 3.0,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        check_count(samples, "samples")
        check_count(classes, "classes", least=2)
        if not 0 <= momentum < 1:
            raise InputError("momentum in [0, 1)", got=repr(momentum), remedy="Use 0.7.")
        if not 0 <= strength < math.inf:
            raise InputError("a finite strength of at least 0", got=repr(strength), remedy="Use 3.")
        if reduction not in ("mean", "sum", "none"):
            raise InputError('reduction "mean", "sum" or "none"', got=repr(reduction), remedy='Use "mean".')
        self.momentum: float = momentum
        self.strength: float = strength
        self.reduction = reduction
        self.seen: SampleRegister = SampleRegister(samples, classes)
        self.register_buffer("t", torch.zeros(samples, classes))

    def forward(self, logits: Tensor, target: Tensor, index: Tensor | None = None) -> Tensor:
        """Loss of a batch; in training mode with gradients enabled also one update of t for its samples.

        Args:
            logits: (B, K).
            target: (B,), the labels; or (B, 2), integer, with the columns (label, index).
            index: (B,), positions of the samples in the training set, unless the target has them.

        Returns:
            The loss in float32 (float64 for float64 logits), reduced; (B,) with reduction "none".

        Raises:
            InputError: Logits, target or index do not fit the loss or each other, a sample comes twice, its label
                differs from the one it had before, or logits are NaN; nothing is changed then. On an accelerator
                some of these are found later: see SampleRegister.
        """
        logits = checked_logits(logits, "logits", classes=self.seen.classes, device=self.t.device)
        labels, index = split_target(target, index, rows=len(logits))
        if not (self.training and torch.is_grad_enabled()):
            return plain_entropy(logits, labels, reduction=self.reduction)
        labels, index, right = self.seen.admit(labels, index)
        logs = log_softmax(logits, dim=1)
        fine = rows_of_numbers(logs)
        clamped = logs.exp().clamp(_CLAMP, 1 - _CLAMP)
        t = self._update(clamped.detach(), index, right & fine)
        self.seen.note(labels, index, right & fine)
        if several_processes():
            exchange_rows([self.t, self.seen.given], index)
        agreement = (clamped * t.to(clamped.dtype)).sum(1)
        values = self.strength * torch.log1p(-agreement) - logs.gather(1, labels[:, None])[:, 0]
        # A label out of range was replaced to be safe to index with; its loss is not that of any label.
        values = values.masked_fill(~right, torch.nan)
        return reduced(values, self.reduction)

    def extra_repr(self) -> str:
        """What the module shows of itself."""
        samples, classes = self.t.shape
        return f"samples={samples}, classes={classes}, momentum={self.momentum:g}, strength={self.strength:g}"

    @torch.no_grad()
    def _update(self, clamped: Tensor, index: Tensor, right: Tensor) -> Tensor:
        """New rows of t, kept where the batch is right."""
        before = self.t[index]
        shares = (clamped / clamped.sum(1, keepdim=True)).to(before.dtype)
        after = torch.where(right[:, None], torch.lerp(shares, before, self.momentum), before)
        self.t.index_copy_(0, index, after)
        return after

    def _apply(self, fn: Any, recurse: bool = True) -> EarlyLearningLoss:
        # In half precision rows of t may have a sum above one, and the logarithm no value: a conversion moves t only.
        return super()._apply(lambda tensor: tensor.to(fn(tensor[:0]).device), recurse)
