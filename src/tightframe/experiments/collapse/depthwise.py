"""N16: variability falls layer by layer, log D about linearly with depth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

from tightframe.experiments.base import Experiment, Outcome
from tightframe.experiments.catalog import entry
from tightframe.experiments.collapse.settings import DIGITS, FASHION_MLP, FASHION_RESNET, PAPER
from tightframe.runs.record import Claim
from tightframe.trials.trial import Trial

_SOURCE = "L6, progressive separation; TB, figures 6 to 8"
_STRAIGHT = 0.9
_DIGITS, _FASHION = (replace(setting, depth=6) for setting in (DIGITS, FASHION_MLP))

PRESETS = {
    "smoke": {"normalised": _DIGITS, "plain": replace(_DIGITS, model="mlp")},
    "quick": {"normalised": _FASHION, "plain": replace(_FASHION, model="mlp"), "ResNet18": FASHION_RESNET},
    "paper": {"ResNet18": PAPER},
    "paper-mnist": {"ResNet18": replace(PAPER, data="mnist")},
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
    return Outcome(tuple(claims), f"{lines}.{remark}")


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
