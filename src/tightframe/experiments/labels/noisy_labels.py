"""R1: training to collapse overfits wrong labels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from tightframe.experiments.base import Experiment, Outcome, falls, test_accuracy, with_training
from tightframe.experiments.catalog import entry
from tightframe.runs.record import Claim
from tightframe.runs.series import curves
from tightframe.training.config import TrainConfig
from tightframe.trials.pictures import shown
from tightframe.trials.trial import Trial, TrialConfig

_SOURCE = "L4, overfitting of wrong labels"
_CLEAN, _CE, _SOP = "CE, clean labels", "CE, wrong labels", "SOP, wrong labels"


def _three(clean: TrialConfig, *, noise: str, augment: str) -> dict[str, TrialConfig]:
    """The same training on clean and on wrong labels, and on wrong ones by SOP with its augmentation."""
    wrong = replace(clean, noise=noise)
    return {_CLEAN: clean, _CE: wrong, _SOP: with_training(wrong, loss="sop:rate=1", augment=augment)}


_TRAIN = TrainConfig(epochs=150, lr=0.02, schedule="cosine", weight_decay=1e-3)
_DIGITS = TrialConfig(data="digits", width=256, depth=2, observations=12, train=replace(_TRAIN, epochs=80))
_FASHION = TrialConfig(
    data="fashion-mnist", width=512, depth=2, limit=10_000, observations=12, train=replace(_TRAIN, epochs=60)
)
_PAPER = TrialConfig(data="cifar10", model="resnet34", observations=16, train=replace(_TRAIN, epochs=120))

PRESETS = {
    "smoke": _three(_DIGITS, noise="symmetric:0.4", augment="noise:0.15"),
    "quick": _three(_FASHION, noise="symmetric:0.4", augment="noise:0.15"),
    "paper": _three(_PAPER, noise="symmetric:0.4", augment="crop-flip"),
}


def judge(trials: Mapping[str, Trial]) -> Outcome:
    """Claims: cross-entropy fits the wrong labels, collapses on them, and loses test accuracy on the way."""
    clean, noisy, sop = (trials[name] for name in (_CLEAN, _CE, _SOP))
    curve = list(curves(noisy.rows, "test")["accuracy"].values())
    fitted, right = noisy.last.train["accuracy"], 1 - float(noisy.data.flipped.double().mean())
    claims = (
        Claim(
            id="R1.fit",
            statement="Cross-entropy fits the labels it is given, wrong ones included: training accuracy on them",
            source=_SOURCE,
            expected=0.95,
            observed=fitted,
            relation=">=",
        ),
        falls(
            "R1.collapse",
            noisy,
            "NC1",
            factor=0.5,
            statement="Features collapse by the wrong labels",
            source=_SOURCE,
            note="classes are those of the labels given",
        ),
        Claim(
            id="R1.overfitting",
            statement="Test accuracy falls while the wrong labels are fitted: best epoch less last epoch",
            source=_SOURCE,
            expected=0.1,
            observed=max(curve) - curve[-1],
            relation=">=",
            note=f"best {max(curve):.4f}, last {curve[-1]:.4f}; {test_accuracy(clean):.4f} with clean labels",
        ),
        Claim(
            id="R1.sop",
            statement="SOP fits less of them: training accuracy above the share of right labels, over cross-entropy's",
            source=_SOURCE,
            expected=0.5,
            observed=(sop.last.train["accuracy"] - right) / (fitted - right) if fitted > right else math.nan,
            note=f"{sop.last.train['accuracy']:.4f} and {fitted:.4f}, right {right:.4f}; test {test_accuracy(sop):.4f}",
        ),
    )
    values = "; ".join(
        f"{name}: test accuracy {100 * test_accuracy(trial):.2f} %, NC1 {shown(trial.last.train, 'NC1')}"
        for name, trial in trials.items()
    )
    return Outcome(claims, f"Last epoch: {values}.")


EXPERIMENT = Experiment(entry("noisy-labels"), PRESETS, judge)
