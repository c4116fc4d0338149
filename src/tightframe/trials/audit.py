"""Which training labels a trained network believes wrong, and how often it is right."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tightframe.core.typing import Float, Int
from tightframe.features.evaluation import evaluation
from tightframe.trials.labels import LabelledData
from tightframe.trials.shard import Shard

_NUMBERS = ("noise AUC", "precision", "recall", "labels right as given", "labels right as corrected")


@dataclass(frozen=True)
class LabelAudit:
    """Suspicion of every training label.

    Args:
        scores: (N,), higher is more suspicious.
        given: Labels trained on (N,).
        suggested: Labels in their place (N,).
        by: What the scores are: the loss's own noise estimate, or 1 - p(label) of the network.
        truth: Labels before noise (N,); None where none was put on, so that nobody knows which ones are right.
    """

    scores: Float[Tensor, " n"]
    given: Int[Tensor, " n"]
    suggested: Int[Tensor, " n"]
    by: str
    truth: Int[Tensor, " n"] | None

    @property
    def order(self) -> Int[Tensor, " n"]:
        """Sample indices, most suspicious first."""
        return torch.argsort(self.scores, descending=True, stable=True)

    @property
    def flagged(self) -> Tensor:
        """Which labels are believed wrong: those for which another is suggested (N,), bool."""
        return self.given != self.suggested

    def numbers(self) -> dict[str, float | None]:
        """AUC of the scores; precision and recall of the flagged labels; share of right labels before and after.

        None where undefined: no label is wrong, none is flagged, or nobody knows which ones are wrong.
        """
        if self.truth is None:
            return dict.fromkeys(_NUMBERS)
        wrong, flagged = self.given != self.truth, self.flagged
        hits = int((wrong & flagged).sum())
        values = (
            _auc(self.scores, wrong),
            hits / int(flagged.sum()) if flagged.any() else None,
            hits / int(wrong.sum()) if wrong.any() else None,
            1 - float(wrong.double().mean()),
            float((self.suggested == self.truth).double().mean()),
        )
        return dict(zip(_NUMBERS, values, strict=True))


def audit(model: nn.Module, labelled: LabelledData, loss: nn.Module | None = None) -> LabelAudit:
    """Suspicion of the training labels by the loss, where it keeps an estimate of its own, else by the network.

    Args:
        model: The trained network.
        labelled: What it was trained on.
        loss: What it was trained with; `noise_scores` and `corrected_labels` of it are used where it has them.
    """
    given = labelled.data.train.labels
    truth = labelled.clean if labelled.noisy else None
    estimates = _noise_estimates(loss)
    if estimates is not None:
        scores, suggested = estimates.noise_scores().cpu(), estimates.corrected_labels().cpu()
        return LabelAudit(scores.double(), given, suggested, "the loss's noise estimate", truth)
    like = next(model.parameters())
    scores, suggested = [], []
    with evaluation(model):
        for inputs, labels in Shard(labelled.data.train, dtype=like.dtype):
            shares = model(inputs.to(like.device)).double().softmax(1).cpu()
            scores.append(1 - shares.gather(1, labels[:, None])[:, 0])
            suggested.append(shares.argmax(1))
    return LabelAudit(torch.cat(scores), given, torch.cat(suggested), "1 - p(label)", truth)


def estimates_noise(loss: nn.Module) -> bool:
    """Whether the loss, or a part of it, keeps an estimate of which labels are wrong."""
    return _noise_estimates(loss) is not None


def _noise_estimates(loss: nn.Module | None) -> nn.Module | None:
    modules = [] if loss is None else loss.modules()
    return next((module for module in modules if hasattr(module, "noise_scores")), None)


def _auc(scores: Tensor, wrong: Tensor) -> float | None:
    """Probability that a wrong label scores above a right one, ties counted half."""
    positives, negatives = int(wrong.sum()), int((~wrong).sum())
    if not positives or not negatives:
        return None
    from scipy.stats import rankdata

    ranks = torch.from_numpy(rankdata(scores.numpy()))
    return float((ranks[wrong].sum() - positives * (positives + 1) / 2) / (positives * negatives))
