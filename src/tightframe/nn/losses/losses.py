"""Losses of logits with the interface of torch.nn.CrossEntropyLoss: focal, smoothed labels, rescaled squared error."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, logsigmoid

from tightframe.core.errors import InputError
from tightframe.nn.losses.classification_loss import ClassificationLoss, Reduction


class FocalLoss(ClassificationLoss):
    r"""Softmax focal loss: cross-entropy that counts samples less the better they are classified.

    .. math:: l(z, c) = -(1 - p_c)^\gamma \log p_c = \sigma(-m)^\gamma \log(1 + e^{-m}),
        \qquad m = z_c - \log \sum_{j \ne c} e^{z_j}

    with p the softmax of z and sigma the logistic function. The second form is the one computed: it loses no digits
    as p_c goes to 1, nor its derivative where gamma < 1.

    Args:
        weight: As in `ClassificationLoss`, with which ignore_index, reduction and label_smoothing are shared.
        gamma: At least 0; 0 is cross-entropy.

    Example:
        >>> round(float(FocalLoss(gamma=1.0)(torch.zeros(1, 2), torch.tensor([0]))), 6) == round(math.log(2) / 2, 6)
        True

    Reference: [lin2017focal]; [zhou2022all] for its collapse.
    """

    def __init__(
        self,
        weight: Tensor | None = None,
        *,
        ignore_index: int = -100,
        reduction: Reduction = "mean",
        label_smoothing: float = 0.0,
        gamma: float = 2.0,
    ) -> None:
        super().__init__(weight, ignore_index=ignore_index, reduction=reduction, label_smoothing=label_smoothing)
        if not 0 <= gamma < math.inf:
            raise InputError("a finite gamma of at least 0", got=repr(gamma), remedy="Use 2, the usual value.")
        self.gamma: float = float(gamma)

    def class_losses(self, logits: Tensor) -> Tensor:
        """l(z, c) for every class c."""
        logs = log_softmax(logits, dim=1)
        if self.gamma == 0:
            return -logs
        # Only the largest p can be near 1: its margin keeps the digits that 1 - p would lose.
        top = logits.argmax(1, keepdim=True)
        margin = _margin(logits, top)
        misses = torch.log1p(-logs.scatter(1, top, -1.0).exp()).scatter(1, top, logsigmoid(-margin))
        return -(self.gamma * misses).exp() * logs.scatter(1, top, logsigmoid(margin))

    def extra_repr(self) -> str:
        """What the module shows of itself."""
        return f"gamma={self.gamma:g}, {super().extra_repr()}"

    def _label_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        if self.gamma == 0:
            return super()._label_losses(logits, labels)
        margin = _margin(logits, labels.unsqueeze(1)).squeeze(1)
        return -(self.gamma * logsigmoid(-margin)).exp() * logsigmoid(margin)


class LabelSmoothingLoss(ClassificationLoss):
    r"""Cross-entropy against smoothed labels, in either of the two conventions.

    .. math:: l = -\sum_c q_c \log p_c, \qquad
        q = (1-\alpha) e_y + \frac{\alpha}{K} \mathbf 1 \quad \text{("torch")}, \qquad
        q = (1-\alpha) e_y + \frac{\alpha}{K-1} (\mathbf 1 - e_y) \quad \text{("source")}

    where alpha is `smoothing` and p the softmax of the logits. The second with alpha is the first with
    alpha K/(K-1). Other arguments as in `ClassificationLoss`, whose average over targets is meant.

    Args:
        weight: One number per class, (k,).
        smoothing: alpha in [0, 1]; in convention "source" at most (K-1)/K, where labels say nothing any more.
        convention: "torch", the whole of alpha spread over K classes, or "source", over the K-1 other ones.

    Reference: [szegedy2016rethinking], section 7; [zhou2022all].
    """

    def __init__(
        self,
        weight: Tensor | None = None,
        *,
        ignore_index: int = -100,
        reduction: Reduction = "mean",
        smoothing: float = 0.1,
        convention: Literal["torch", "source"] = "torch",
    ) -> None:
        super().__init__(weight, ignore_index=ignore_index, reduction=reduction, label_smoothing=smoothing)
        if convention not in ("torch", "source"):
            raise InputError('convention "torch" or "source"', got=repr(convention), remedy='Use "torch".')
        self.convention = convention

    def class_losses(self, logits: Tensor) -> Tensor:
        """-log p_c for every class c."""
        return -log_softmax(logits, dim=1)

    def extra_repr(self) -> str:
        """What the module shows of itself."""
        return f"smoothing={self.label_smoothing:g}, convention={self.convention!r}, reduction={self.reduction!r}"

    def _smoothing(self, classes: int) -> float:
        if self.convention == "torch":
            return self.label_smoothing
        spread = self.label_smoothing * classes / (classes - 1)
        if spread > 1:
            raise InputError(
                f"smoothing of at most {1 - 1 / classes:g} for {classes} classes, beyond which the label is the least "
                "likely class",
                got=repr(self.label_smoothing),
                remedy='Lower it, or use convention="torch".',
            )
        return spread


class RescaledMSELoss(ClassificationLoss):
    r"""Squared error with the right class weighted and its target stretched.

    .. math:: l(z, y) = c \Big[ k (z_y - M)^2 + \sum_{j \ne y} z_j^2 \Big]

    where k is `scale`, M is `target` and c follows from `over_classes`: 1/K for "mean", as in the published comparison
    of losses (k = 1, M = 15, the defaults) and as torch.nn.MSELoss on one-hot targets times M; 1 for "sum"; 1/2 for
    "half", which is tightframe.ufm.SquaredError(scale, target). Hui and Belkin use k = M = 1 for few classes, and for
    many larger ones, such as k = 15, M = 30 for 1000. Learning rates go with 1/c.

    Args:
        weight: As in `ClassificationLoss`, with which ignore_index and reduction are shared; it weighs samples by their
            class, not entries.
        scale: k > 0, weight of the right class.
        target: M > 0, target of the right class.
        over_classes: "mean", "sum" or "half".

    Example:
        >>> float(RescaledMSELoss(target=1.0)(torch.tensor([[1.0, 2.0]]), torch.tensor([0])))
        2.0

    Reference: [hui2021evaluation]; [zhou2022all].
    """

    def __init__(
        self,
        weight: Tensor | None = None,
        *,
        ignore_index: int = -100,
        reduction: Reduction = "mean",
        scale: float = 1.0,
        target: float = 15.0,
        over_classes: Literal["mean", "sum", "half"] = "mean",
    ) -> None:
        super().__init__(weight, ignore_index=ignore_index, reduction=reduction)
        if not (0 < scale < math.inf and 0 < target < math.inf):
            raise InputError(
                "finite scale and target above 0", got=f"scale={scale}, target={target}", remedy="Use 1 and 15."
            )
        if over_classes not in ("mean", "sum", "half"):
            raise InputError('over_classes "mean", "sum" or "half"', got=repr(over_classes), remedy='Use "mean".')
        self.scale: float = float(scale)
        self.target: float = float(target)
        self.over_classes = over_classes

    def class_losses(self, logits: Tensor) -> Tensor:
        """l(z, c) for every class c."""
        squares = logits.square()
        others = squares.sum(1, keepdim=True) - squares
        return self._factor(logits.shape[1]) * (self.scale * (logits - self.target).square() + others)

    def extra_repr(self) -> str:
        """What the module shows of itself."""
        shown = f"scale={self.scale:g}, target={self.target:g}, over_classes={self.over_classes!r}"
        return f"{shown}, reduction={self.reduction!r}"

    def _label_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        right = labels.unsqueeze(1)
        others = logits.scatter(1, right, 0.0).square().sum(1)
        own = (logits.gather(1, right).squeeze(1) - self.target).square()
        return self._factor(logits.shape[1]) * (self.scale * own + others)

    def _factor(self, classes: int) -> float:
        return {"mean": 1 / classes, "sum": 1.0, "half": 0.5}[self.over_classes]


def _margin(logits: Tensor, labels: Tensor) -> Tensor:
    """z_c - log sum_{j != c} exp z_j for one class c per sample, (n, 1, ...) as `labels`."""
    others = logits.scatter(1, labels, -math.inf).logsumexp(1, keepdim=True)
    return logits.gather(1, labels) - others
