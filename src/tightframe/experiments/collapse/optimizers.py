"""N4: collapse whatever the training algorithm; generalisation depends on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tightframe.experiments.base import Experiment, Outcome, collapse_claims, test_accuracy, test_samples, with_training
from tightframe.experiments.catalog import entry
from tightframe.experiments.collapse.settings import DIGITS, FASHION_MLP, PAPER
from tightframe.runs.record import Claim
from tightframe.trials.pictures import shown
from tightframe.trials.trial import Trial, TrialConfig

_SOURCE = "Q21 and L4, experiments with SGD, Adam and L-BFGS"
# 95 % point of the studentised range of three values: the spread of three equal accuracies stays below this times
# the standard error of one.
_STUDENTIZED_RANGE = 3.314
# Fewer test samples cannot tell accuracies apart that differ by a point.
_LEAST_TEST_SAMPLES = 1000


def _three(
    sgd: TrialConfig, *, adam_lr: float, adam_decay: float, lbfgs: Mapping[str, object]
) -> dict[str, TrialConfig]:
    return {
        "SGD": sgd,
        "Adam": with_training(sgd, optimizer="adam", lr=adam_lr, weight_decay=adam_decay),
        "L-BFGS": with_training(sgd, **{"optimizer": "lbfgs", "milestones": (), **lbfgs}),
    }


_PAPER_ADAM = {"adam_lr": 1e-3, "adam_decay": 5e-4}
_PAPER_LBFGS = {"lr": 0.1, "batch_size": 1000}

PRESETS = {
    "smoke": _three(DIGITS, adam_lr=1e-3, adam_decay=1e-3, lbfgs={"lr": 1.0, "batch_size": 2048, "epochs": 40}),
    "quick": _three(FASHION_MLP, adam_lr=1e-3, adam_decay=1e-3, lbfgs={"lr": 1.0, "batch_size": 10_000, "epochs": 30}),
    "paper": _three(PAPER, **_PAPER_ADAM, lbfgs=_PAPER_LBFGS),
    "paper-mnist": _three(replace(PAPER, data="mnist"), **_PAPER_ADAM, lbfgs=_PAPER_LBFGS),
}


def judge(trials: Mapping[str, Trial]) -> Outcome:
    """Claims: every algorithm collapses; the test accuracies differ by more than sampling explains."""
    claims = [claim for name, trial in trials.items() for claim in collapse_claims(f"N4.{name}", name, trial, _SOURCE)]
    claims.append(_generalisation(trials))
    values = "; ".join(
        f"{name}: NC1 {shown(trial.last.train, 'NC1')}, test accuracy {100 * test_accuracy(trial):.2f} %"
        for name, trial in trials.items()
    )
    collapsed = sum(claim.verdict == "passed" for claim in claims[:-1])
    return Outcome(tuple(claims), f"{collapsed} of {len(claims) - 1} signs of collapse hold. {values}.")


def _generalisation(trials: Mapping[str, Trial]) -> Claim:
    accuracies = [test_accuracy(trial) for trial in trials.values()]
    samples = test_samples(next(iter(trials.values())))
    mean = sum(accuracies) / len(accuracies)
    resolution = _STUDENTIZED_RANGE * (mean * (1 - mean) / samples) ** 0.5
    enough = samples >= _LEAST_TEST_SAMPLES
    note = f"one run each; the bound is the 95 % range of three equal accuracies on {samples} test samples"
    return Claim(
        id="N4.generalisation",
        statement="Generalisation depends on the algorithm: the test accuracies differ by more than sampling explains",
        source=_SOURCE,
        expected=resolution,
        observed=max(accuracies) - min(accuracies) if enough else None,
        relation=">=",
        note=note if enough else f"needs {_LEAST_TEST_SAMPLES} test samples, this set has {samples}: use preset quick",
    )


EXPERIMENT = Experiment(entry("optimizers"), PRESETS, judge)
