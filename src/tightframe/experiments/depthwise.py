"""N16: variability falls layer by layer, log D about linearly with depth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

from tightframe.experiments.base import Experiment, Outcome
from tightframe.experiments.catalog import entry
from tightframe.runs.record import Claim
from tightframe.training.config import TrainConfig
from tightframe.trials.trial import Trial, TrialConfig

_SOURCE = "L6, progressive separation; TB, figures 6 to 8"
_STRAIGHT = 0.9

_SMOKE = TrialConfig(
    data="digits", width=128, depth=6, train=TrainConfig(epochs=150, lr=0.05, weight_decay=5e-3, milestones=(75, 115))
)
_QUICK = TrialConfig(
    data="fashion-mnist",
    width=256,
    depth=6,
    limit=10_000,
    observations=16,
    train=TrainConfig(epochs=60, lr=0.05, weight_decay=2e-3, milestones=(30, 45)),
)
_QUICK_RESNET = replace(
    _QUICK,
    model="resnet18",
    width=16,
    limit=3000,
    observations=12,
    train=TrainConfig(epochs=24, lr=0.05, weight_decay=2e-3, milestones=(14, 20)),
)
_PAPER = TrialConfig(
    data="cifar10",
    model="resnet18",
    observations=32,
    train=TrainConfig(epochs=200, lr=0.05, weight_decay=5e-4, milestones=(40, 80, 120, 160)),
)

PRESETS = {
    "smoke": {"normalised": _SMOKE, "plain": replace(_SMOKE, model="mlp")},
    "quick": {"normalised": _QUICK, "plain": replace(_QUICK, model="mlp"), "ResNet18": _QUICK_RESNET},
    "paper": {"ResNet18": _PAPER},
    "paper-mnist": {"ResNet18": replace(_PAPER, data="mnist")},
}


def judge(trials: Mapping[str, Trial]) -> Outcome:
    """Claims for every network: D falls from each layer to the next, and log D is about a straight line."""
    claims = [claim for name, trial in trials.items() for claim in _depth_claims(name, trial)]
    fits = {name: trial.last.train.separation for name, trial in trials.items()}
    lines = "; ".join(
        f"{name}: a factor {fit.decay_ratio:.2g} per layer, R^2 = {fit.r_squared:.3f}"
        for name, fit in fits.items()
        if fit is not None
    )
    verdicts = {claim.id: claim.verdict for claim in claims}
    remark = (
        " Here the law needs normalised networks, a condition that the lecture does not state: without batch "
        "normalisation log D leaves the line (the authors of the law say so of their own experiments [he2023law])."
        if (verdicts.get("N16.normalised.linear"), verdicts.get("N16.plain.linear")) == ("passed", "failed")
        else ""
    )
    lines = lines or "No network has three layers with D above zero"
    return Outcome(trials, tuple(claims), f"{lines}.{remark}")


def _depth_claims(name: str, trial: Trial) -> list[Claim]:
    layers = list(trial.last.train.layers.values())
    ratios = [layer.measurements["D"].value for layer in layers]
    usable = len(ratios) >= 3 and all(ratios)
    fit = trial.last.train.separation
    values = ", ".join("undefined" if value is None else f"{value:.3g}" for value in ratios)
    accuracy = trial.last.train.decisions.get("accuracy", "undefined")
    where = f"D on the training set from layer to layer: {values}; training accuracy {accuracy}"
    rises = sum(later >= earlier for earlier, later in pairwise(ratios)) if usable else None
    return [
        Claim(
            id=f"N16.{name}.monotone",
            statement=f"Variability falls monotonically with depth, {name}: layers at which D does not fall",
            source=_SOURCE,
            expected=0,
            observed=rises,
            note=where,
        ),
        Claim(
            id=f"N16.{name}.linear",
            statement=f"log D falls about linearly with depth, {name}: R^2 of the line, 0 where it does not fall",
            source=_SOURCE,
            expected=_STRAIGHT,
            observed=None if fit is None else fit.r_squared * (fit.slope < 0),
            relation=">=",
            note=where if fit is not None else "needs at least three layers with D above zero",
        ),
    ]


EXPERIMENT = Experiment(entry("depthwise"), PRESETS, judge)
