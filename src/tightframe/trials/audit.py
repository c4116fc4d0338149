"""Which training labels a trained network believes wrong, and how often it is right."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tightframe.core.typing import Float, Int
from tightframe.features.evaluation import evaluation
from tightframe.trials.labels import LabelledData
from tightframe.trials.shard import Shard


@dataclass(frozen=True)
class LabelAudit:
    """Suspicion of every training label.

    Args:
        scores: (N,), higher is more suspicious.
        given: Labels trained on (N,).
        suggested: Labels in their place (N,).
        by: What the scores are: the loss's own noise estimate, or 1 - p(label) of the network.
        truth: Labels before noise (N,); equal to `given` where none was put on.
    """

    scores: Float[Tensor, " n"]
    given: Int[Tensor, " n"]
    suggested: Int[Tensor, " n"]
    by: str
    truth: Int[Tensor, " n"]

    @property
    def order(self) -> Int[Tensor, " n"]:
        """Sample indices, most suspicious first."""
        return torch.argsort(self.scores, descending=True, stable=True)

    @property
    def wrong(self) -> Tensor:
        """Which given labels are wrong (N,), bool."""
        return self.given != self.truth

    @property
    def flagged(self) -> Tensor:
        """Which labels are believed wrong: those for which another is suggested (N,), bool."""
        return self.given != self.suggested

    def numbers(self) -> dict[str, float | None]:
        """AUC of the scores; precision and recall of the flagged labels; share of right labels before and after.

        None where undefined: no label is wrong, or none is flagged.
        """
        wrong, flagged = self.wrong, self.flagged
        hits = int((wrong & flagged).sum())
        return {
            "noise AUC": _auc(self.scores, wrong),
            "precision": hits / int(flagged.sum()) if flagged.any() else None,
            "recall": hits / int(wrong.sum()) if wrong.any() else None,
            "labels right as given": 1 - float(wrong.double().mean()),
            "labels right as corrected": float((self.suggested == self.truth).double().mean()),
        }


def audit(model: nn.Module, labelled: LabelledData, loss: nn.Module | None = None) -> LabelAudit:
    """Suspicion of the training labels by the loss, where it keeps an estimate of its own, else by the network.

    Args:
        model: The trained network.
        labelled: What it was trained on.
        loss: What it was trained with; `noise_scores` and `corrected_labels` of it are used where it has them.
    """
    given = labelled.data.train.labels
    estimates = _noise_estimates(loss)
    if estimates is not None:
        scores, suggested = estimates.noise_scores().cpu(), estimates.corrected_labels().cpu()
        return LabelAudit(scores.double(), given, suggested, "the loss's noise estimate", labelled.clean)
    device = next(model.parameters()).device
    scores, suggested = [], []
    with evaluation(model):
        for inputs, labels in Shard(labelled.data.train):
            shares = model(inputs.to(device)).double().softmax(1).cpu()
            scores.append(1 - shares.gather(1, labels[:, None])[:, 0])
            suggested.append(shares.argmax(1))
    return LabelAudit(torch.cat(scores), given, torch.cat(suggested), "1 - p(label)", labelled.clean)


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
