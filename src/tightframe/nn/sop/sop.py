"""Sparse over-parameterisation: a cross-entropy that finds the wrong labels while it trains."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div, log_softmax

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.nn.sop.label_issues import LabelIssues
from tightframe.nn.sop.sample_register import UNSEEN, SampleRegister, split_target
from tightframe.nn.sop.sop_objective import (
    activation_epochs,
    checked_logits,
    objective,
    plain_entropy,
    reduced,
    rows_of_numbers,
)
from tightframe.nn.sop.sop_storage import DenseRows, SparseRows, exchange_rows, several_processes

__all__ = ["SOPLoss", "activation_epochs"]

_STORAGES = ("dense", "sparse")
_REDUCTIONS = ("mean", "sum", "none")
_SYNCS = ("step", "manual")


class SOPLoss(nn.Module):
    r"""Cross-entropy with a sparse correction per training sample, learned beside the network (SOP, SOP+).

    .. math:: L = \frac1B \sum_i \left[ -\log q_{i y_i} + \|h_i + U_i - V_i - Y_i\|^2 \right]
        + \lambda_B \Bigl( -\frac1K \sum_k \log \tfrac1B \sum_i q_{ik} \Bigr)
        + \frac{\lambda_C}{B} \sum_i \mathrm{KL}(p_i \,\|\, p_i'), \qquad
        q_i = \frac{\max(p_i + U_i - V_i, \epsilon)}{\|\max(p_i + U_i - V_i, \epsilon)\|_1}

    where p is the softmax of `logits` (B, K), p' that of `logits2` (p is held fixed against it), Y the one-hot label,
    h the one-hot prediction, epsilon = 1e-4, and U = min(u^2, 1) Y, V = min(v^2, 1) (1 - Y) for one number u per sample
    and one number v per sample and class. U takes mass off a wrong label, V puts it on the right one, so that the
    network no longer has to. This is the released form: u follows both terms in the first sum, v the squared error
    alone.

    u and v are no parameters. Their gradients have a closed form, and every evaluation in training mode with gradients
    enabled takes one step of descent of size `rate` on the sample's own share of the sum, for the rows of the batch, in
    place. That equals SGD on u and v at learning rate `rate` times B, and one default serves any batch size. So any
    optimiser, loop, Lightning's automatic optimisation and the Hugging Face Trainer work as they are. In evaluation
    mode or without gradients the value is the plain cross-entropy, nothing is updated and no index is needed.

    Warm-up: u and v start at `init` and are multiplied by a factor at every visit, a large one while the network
    disagrees with the label, so that nothing happens for the first few epochs: `activation_epochs` says how many. A
    network that has learned the wrong labels by then never disagrees with them again, and the loss does nothing: raise
    `rate` or `init`, lower the learning rate, or augment the data. Above rate 1/8 a v near one may step past it, where
    the clamp has no gradient: such a row is decided for good, rightly or not.

    Several evaluations in one optimiser step (L-BFGS) are as many steps of u and v, unless made under `paused()`.
    Accumulated micro-batches step their own rows, as the one large batch would; the balance term sees a micro-batch.
    Half-precision logits are computed with in float32, and u and v remain float32 when a module that holds the loss is
    converted. Under torch.distributed the rows of a step are exchanged at once; with `sync="manual"` they are only when
    `synchronize()` is called, for example after every epoch.

    Args:
        samples: Number of training samples N.
        classes: Number of classes K.
        rate: r, step size of u per sample: the published learning rate divided by the batch size.
        rate_v: Step size of v; `rate` when absent.
        balance: lambda_B; 0.1 in SOP+.
        consistency: lambda_C; 0.9 in SOP+. Above zero a second view of every sample is needed: see `views`.
        init: Value of u and v at the start. (The released code draws it from a normal distribution of that deviation.)
        storage: "dense" keeps N K numbers; "sparse" the classes that were ever predicted for a sample, in a few
            `slots`: the same loss until a sample has been taken for more wrong classes than that.
        slots: Classes per sample of the sparse storage.
        reduction: "mean", "sum" or "none", as in nn.CrossEntropyLoss.
        sync: "step" or "manual", for training on several processes.

    Attributes:
        needs_index: True: the loss is called with the positions of the samples in the training set.
        views: Views of each sample that a call takes: 2 where `consistency` > 0, else 1.

    Raises:
        InputError: An argument is out of range.

    >>> loss = SOPLoss(samples=100, classes=3)
    >>> logits = torch.zeros(2, 3, requires_grad=True)
    >>> round(loss(logits, torch.tensor([0, 2]), index=torch.tensor([7, 41])).item(), 4)
    2.0986

    Reference: [liu2022robust], algorithm 1, in the form of the released code; [qu2022lecture4].
    """

    needs_index = True

    def __init__(
        self,
        samples: int,
        classes: int,
        *,
        rate: float = 1.0,
        rate_v: float | None = None,
        balance: float = 0.0,
        consistency: float = 0.0,
        init: float = 1e-8,
        storage: Literal["dense", "sparse"] = "dense",
        slots: int = 4,
        reduction: Literal["mean", "sum", "none"] = "mean",
        sync: Literal["step", "manual"] = "step",
    ) -> None:
        super().__init__()
        check_count(samples, "samples")
        check_count(classes, "classes", least=2)
        check_count(slots, "slots")
        rate_v = rate if rate_v is None else rate_v
        for name, value in (("rate", rate), ("rate_v", rate_v), ("balance", balance), ("consistency", consistency)):
            if not 0 <= value < math.inf:
                raise InputError(f"{name} is finite and at least 0", got=repr(value), remedy=f"Change {name}.")
        if not 0 < init < 1:
            raise InputError("init between 0 and 1", got=repr(init), remedy="Use 1e-8; zero would never grow.")
        choices = {"storage": (storage, _STORAGES), "reduction": (reduction, _REDUCTIONS), "sync": (sync, _SYNCS)}
        for name, (value, allowed) in choices.items():
            if value not in allowed:
                raise InputError(f"{name}, one of {', '.join(allowed)}", got=repr(value), remedy="Choose one of these.")
        self.rate: float = rate
        self.rate_v: float = rate_v
        self.balance: float = balance
        self.consistency: float = consistency
        self.reduction, self.sync, self._paused = reduction, sync, False
        self.views = 2 if consistency > 0 else 1
        self.seen: SampleRegister = SampleRegister(samples, classes)
        self.register_buffer("u", torch.full((samples,), init))
        self.register_buffer("unsent", torch.zeros(samples, dtype=torch.bool), persistent=False)
        sparse = storage == "sparse"
        self.rows: SparseRows | DenseRows = (
            SparseRows(samples, classes, init=init, slots=min(slots, classes - 1))
            if sparse
            else DenseRows(samples, classes, init=init)
        )
        self.register_load_state_dict_pre_hook(_check_before_loading)

    @classmethod
    def plus(cls, samples: int, classes: int, **options: Any) -> SOPLoss:
        """SOP+: the loss with the published weights of class balance (0.1) and consistency (0.9).

        Args:
            samples: Number of training samples N.
            classes: Number of classes K.
            **options: The other arguments of SOPLoss.
        """
        return cls(samples, classes, **({"balance": 0.1, "consistency": 0.9} | options))

    def forward(
        self, logits: Tensor, target: Tensor, index: Tensor | None = None, logits2: Tensor | None = None
    ) -> Tensor:
        """Loss of a batch; in training mode with gradients enabled also one step of u and v for its samples.

        Args:
            logits: (B, K).
            target: (B,), the labels; or (B, 2), integer, with the columns (label, index).
            index: (B,), positions of the samples in the training set, unless the target has them.
            logits2: (B, K), logits of a second view of the same samples, where `views` is 2.

        Returns:
            The loss in float32 (float64 for float64 logits), reduced; with reduction "none" one value per sample,
            to each of which the balance term of the batch is added.

        Raises:
            InputError: Logits, target or index do not fit the loss or each other, a sample comes twice, its label
                differs from the one it had before, or logits are NaN; nothing is changed then. On an accelerator
                some of these are found later: see SampleRegister.
        """
        logits = self._checked(logits, "logits")
        labels, index = split_target(target, index, rows=len(logits))
        if not (self.training and torch.is_grad_enabled()):
            return plain_entropy(logits, labels, reduction=self.reduction)
        labels, index, right = self.seen.admit(labels, index)
        p = torch.softmax(logits, dim=1)
        right = right & rows_of_numbers(p)
        u, v = self.u[index], self.rows.read(index)
        predicted = logits.argmax(dim=1)
        values, slopes = objective(p, labels, predicted, u=u.to(p), v=v.to(p), balance=self.balance)
        values = values + self._inconsistency(p, logits2)
        if not self._paused:
            with torch.no_grad():
                self.u.index_copy_(0, index, torch.where(right, u - self.rate * slopes.to(u), u))
                self.rows.advance(index, labels=labels, predicted=predicted, rate=self.rate_v, keep=~right)
                self.seen.note(labels, index, right)
                self._share(index)
        return reduced(values, self.reduction)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Within the block u and v act but do not change, as in the line search of an optimiser."""
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before

    def synchronize(self) -> None:
        """Exchange the rows that changed since the last call among all processes; each calls it.

        Only with `sync="manual"` is there anything to exchange. Without torch.distributed nothing happens.
        """
        if several_processes():
            exchange_rows(self._tables(), self.unsent.nonzero()[:, 0])
        self.unsent.zero_()

    def noise_scores(self) -> Tensor:
        """How wrong each label looks: U + sum of V, the mass that was moved, in [0, K]: (N,); 0 before a visit."""
        self.seen.check()
        given = self.seen.given.long()
        return ((self.u**2).clamp(max=1) + self.rows.mass(given.clamp(min=0))).masked_fill(given == UNSEEN, 0)

    def corrected_labels(self) -> Tensor:
        """The labels believed right, argmax of Y - U + V: (N,), int64; -1 for samples not seen yet."""
        self.seen.check()
        given = self.seen.given.long()
        mass, other = self.rows.strongest(given.clamp(min=0))
        remaining = 1 - (self.u**2).clamp(max=1)
        return torch.where((mass > remaining) & (given != UNSEEN), other, given)

    def label_issues(self) -> LabelIssues:
        """The samples whose label is believed wrong, by descending noise score.

        Returns:
            Columns on the CPU; `to_dict()` of them goes into pandas.DataFrame.
        """
        scores, suggested = self.noise_scores().cpu(), self.corrected_labels().cpu()
        given = self.seen.given.long().cpu()
        index = (suggested != given).nonzero()[:, 0]
        index = index[scores[index].argsort(descending=True, stable=True)]
        return LabelIssues(index, given[index], suggested[index], scores[index])

    def extra_repr(self) -> str:
        """What the module shows of itself."""
        sizes = f"samples={self.seen.samples}, classes={self.seen.classes}, rate={self.rate:g}, rate_v={self.rate_v:g}"
        return f"{sizes}, balance={self.balance:g}, consistency={self.consistency:g}, storage={self.rows.kind!r}"

    def _checked(self, logits: Tensor, name: str) -> Tensor:
        return checked_logits(logits, name, classes=self.seen.classes, device=self.u.device)

    def _inconsistency(self, p: Tensor, logits2: Tensor | None) -> Tensor:
        if (logits2 is None) == (self.views == 2):
            raise InputError(
                "logits of a second view exactly when consistency is above zero",
                got=f"consistency={self.consistency:g} and {'no' if logits2 is None else 'a'} logits2",
                remedy="Pass logits2=network(second_view), or consistency=0.",
            )
        if logits2 is None:
            return p.new_zeros(())
        logits2 = self._checked(logits2, "logits2")
        if logits2.shape != p.shape:
            raise InputError(
                "two views of the same samples",
                got=f"{len(p)} and {len(logits2)} rows",
                remedy="Give both views of a batch in the same order.",
            )
        return self.consistency * kl_div(log_softmax(logits2, dim=1), p.detach(), reduction="none").sum(1)

    def _share(self, index: Tensor) -> None:
        if not several_processes():
            return
        if self.sync == "step":
            exchange_rows(self._tables(), index)
        else:
            self.unsent.index_fill_(0, index, True)

    def _tables(self) -> list[Tensor]:
        return [self.u, self.seen.given, *self.rows.buffers()]

    def _apply(self, fn: Any, recurse: bool = True) -> SOPLoss:
        # Half precision rounds the initial 1e-8 to zero, which never grows: a conversion moves u and v, no more.
        def move(tensor: Tensor) -> Tensor:
            return tensor.to(fn(tensor[:0]).device)

        return super()._apply(move, recurse)


def _check_before_loading(module: SOPLoss, state: dict[str, Any], prefix: str, *_: Any) -> None:
    own = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    saved = {name.removeprefix(prefix): tuple(v.shape) for name, v in state.items() if name.startswith(prefix)}
    if saved and saved != own:
        raise InputError(
            f"a state of {module.rows.kind} storage with u of shape {own['u']} and rows of shape {own['rows.value']}",
            got=f"{'sparse' if 'rows.slot' in saved else 'dense'} storage with u of shape {saved.get('u')} and rows of "
            f"shape {saved.get('rows.value')}",
            remedy="Build SOPLoss with the samples, classes, storage and slots that the state was saved with.",
        )
