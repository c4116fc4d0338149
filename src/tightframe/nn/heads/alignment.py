"""A classifier between fixed and learned: the simplex ETF nearest to the class means of the features."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tightframe.core.checks import check_count, check_labels
from tightframe.core.errors import InputError
from tightframe.core.typing import ClassMeans, Labels
from tightframe.geometry.frames import nearest_simplex_etf, simplex_etf
from tightframe.nn.heads.heads import SimplexETFHead


class AlignedETFHead(SimplexETFHead):
    r"""A simplex ETF that follows the features: the one nearest to running means of their classes.

    .. math:: z = s F h + b, \qquad F = \operatorname*{arg\,max}_{F'\ \text{simplex ETF}} \langle F', M\rangle, \qquad
        M_k \leftarrow \beta M_k + (1 - \beta)\, \bar h_k

    with \bar h_k the mean of the features of class k in a batch that has any. While the module trains, forward keeps
    its input, and `update(target)` folds it into M; every `every` updates the frame is set anew, or with `every=None`
    only when `align()` is called, say once per epoch. Until every class has been seen the frame stays as its seed made
    it. Give the optimiser nothing of it but bias and scale; wrap the loss by `aligning` to have `update` called:

        criterion = aligning(nn.CrossEntropyLoss(), head)

    The frame is replaced, not written into, so that `update` may come between the loss and its backward pass. With an
    initialised process group `update` adds up the sums of all ranks: every rank must call it as often. Means and frame
    are in the checkpoint. An update waits for the device, to check labels and features; a new frame takes the SVD of a
    (d, k-1) matrix in float64, seconds for a thousand classes: raise `every` there.

    Args:
        in_features: d, at least K - 1.
        out_features: K, at least 2.
        bias: As for SimplexETFHead.
        seed: Seed of the first frame.
        scale: As for SimplexETFHead.
        learn_scale: As for SimplexETFHead.
        momentum: beta in [0, 1).
        every: Updates from one frame to the next, or None.
        device: As for SimplexETFHead.
        dtype: As for SimplexETFHead.

    Raises:
        InputError: d < K - 1, where no simplex exists; numbers out of range.

    Example:
        >>> head = AlignedETFHead(4, 3, momentum=0.0)
        >>> z = head(torch.eye(4)[:3])
        >>> head.update(torch.arange(3))
        >>> head(torch.eye(4)[:3]).argmax(1).tolist()
        [0, 1, 2]

    Reference: [markou2024guiding], who solve for the nearest frame by Riemannian optimisation; here it is closed-form.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        seed: int = 0,
        scale: float = 1.0,
        learn_scale: bool = False,
        momentum: float = 0.9,
        every: int | None = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if not 0 <= momentum < 1:
            raise InputError("a momentum in [0, 1)", got=repr(momentum), remedy="Use momentum=0.9.")
        options = {"scale": scale, "learn_scale": learn_scale, "device": device, "dtype": dtype}
        super().__init__(in_features, out_features, bias, seed=seed, **options)
        self.momentum: float = momentum
        self.updates = 0
        self.every: int | None = None if every is None else check_count(every, "every")
        self.register_buffer("means", torch.zeros(out_features, in_features, device=device))
        self.register_buffer("seen", torch.zeros(out_features, dtype=torch.bool, device=device))
        self._entered: Tensor | None = None

    @property
    def frame_kind(self) -> str:
        """ "aligned": a simplex, wherever it has been turned."""
        return "aligned"

    @property
    def pending(self) -> int:
        """Number of features that wait for `update`."""
        return 0 if self._entered is None else self._entered.shape[:-1].numel()

    def forward(self, input: Tensor) -> Tensor:
        """Logits (..., k) of features (..., d), which are kept for `update` while the module trains."""
        if self.training:
            self._entered = input.detach()
        return super().forward(input)

    @torch.no_grad()
    def update(self, target: Tensor) -> None:
        """Fold the features of the last forward pass, whose classes are `target`, into the means.

        Args:
            target: Class indices, one per feature; columns (label, index); or soft memberships (..., k).

        Raises:
            InputError: No features since the last update, targets that do not fit them, or NaN among the features;
                the means stay as they were.
        """
        if self._entered is None:
            raise InputError(
                "a forward pass in training mode since the last update",
                got="none",
                remedy="Call update(target) once after each training forward, or wrap the loss by aligning().",
            )
        # Sums of half-precision features are taken in float32.
        rows = self._entered.flatten(0, -2).to(torch.promote_types(self.means.dtype, torch.float32))
        self._entered = None
        shares = self._memberships(target, len(rows)).to(rows)
        sums = torch.cat([shares.T @ rows, shares.sum(0)[:, None]], dim=1)
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(sums)
        if not bool(torch.isfinite(sums).all()):
            raise InputError(
                "features and targets that are finite",
                got="NaN or inf",
                remedy="Lower the learning rate, or look for overflow in half precision; the means are as they were.",
            )
        counts = sums[:, -1:]
        fresh = sums[:, :-1] / counts.clamp_min(torch.finfo(sums.dtype).tiny)
        # A class enters with its first mean; one that is absent from the batch stays.
        kept = torch.where(self.seen[:, None], self.momentum, 0.0)
        present = counts > 0
        means = self.means.to(fresh)
        self.means.copy_(torch.where(present, fresh.lerp(means, kept.to(fresh)), means))
        self.seen.logical_or_(present.squeeze(1))
        self.updates += 1
        if self.every is not None and self.updates % self.every == 0:
            self.align()

    @torch.no_grad()
    def align(self) -> None:
        """Set the frame to the simplex nearest to the means; does nothing until every class has been seen.

        Raises:
            DegenerateError: All class means agree.
        """
        if bool(self.seen.all()):
            self.frame: Tensor = nearest_simplex_etf(self.means).to(self.frame)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """As when new: the frame of the seed, no means."""
        super().reset_parameters()
        self.updates, self._entered = 0, None
        self.means.zero_()
        self.seen.zero_()

    def get_extra_state(self) -> Tensor:
        """Seed, scale and the number of updates."""
        return torch.cat([super().get_extra_state(), torch.tensor([self.updates], dtype=torch.float64)])

    def set_extra_state(self, state: Tensor) -> None:
        """Take over what `get_extra_state` gave; the frame itself is stored."""
        super().set_extra_state(state)
        self.updates: int = int(state[2])

    def _seeded(self) -> ClassMeans:
        return simplex_etf(self.out_features, self.in_features, seed=self.seed)

    def _options(self) -> dict[str, Any]:
        return {**super()._options(), "momentum": self.momentum, "every": self.every}

    def _memberships(self, target: Tensor, rows: int) -> Tensor:
        if not isinstance(target, Tensor) or target.is_floating_point():
            soft = target.detach().flatten(0, -2) if isinstance(target, Tensor) and target.ndim > 1 else target
            if getattr(soft, "shape", None) != (rows, self.out_features):
                raise InputError(
                    f"one target per feature: indices ({rows},) or memberships ({rows}, {self.out_features})",
                    got=str(tuple(target.shape)) if isinstance(target, Tensor) else type(target).__name__,
                    remedy="Pass the targets of the batch that went through the head.",
                )
            return soft
        labels: Labels = target[:, 0] if target.ndim == 2 and target.shape == (rows, 2) else target.flatten()
        return nn.functional.one_hot(check_labels(labels, rows, self.out_features), self.out_features)


class AligningLoss(nn.Module):
    """A loss that calls `head.update(target)` after computing itself, while the head trains; see `aligning`."""

    def __init__(self, criterion: nn.Module, head: AlignedETFHead) -> None:
        super().__init__()
        self.criterion = criterion
        # Not a submodule: the head belongs to the model.
        self._head = (head,)

    @property
    def needs_index(self) -> bool:
        """Whether the loss inside wants sample indices."""
        return getattr(self.criterion, "needs_index", False)

    @property
    def needs_features(self) -> bool:
        """Whether the criterion reads the last features."""
        return getattr(self.criterion, "needs_features", False)

    @property
    def views(self) -> int:
        """How many views of each sample the loss inside wants."""
        return getattr(self.criterion, "views", 1)

    def forward(self, logits: Tensor, target: Tensor, **options: Any) -> Tensor:
        """criterion(logits, target, **options)."""
        loss = self.criterion(logits, target, **options)
        (head,) = self._head
        if head.training:
            # Two views of each sample went through the model in one batch.
            both = options.get("logits2") is not None and head.pending == 2 * len(target)
            head.update(torch.cat([target, target]) if both else target)
        return loss


def aligning(criterion: nn.Module, head: AlignedETFHead) -> AligningLoss:
    """A loss with the signature of `criterion` that keeps an AlignedETFHead aligned in any training loop.

    Args:
        criterion: The loss, called as criterion(logits, target).
        head: The classifier of the model in training.

    Raises:
        InputError: The head does not align.
    """
    if not isinstance(head, AlignedETFHead):
        raise InputError("an AlignedETFHead", got=type(head).__name__, remedy='Use replace_head(model, "aligned").')
    return AligningLoss(criterion, head)
