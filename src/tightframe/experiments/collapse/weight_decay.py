"""N6: collapse under weight decay on all weights, or on the last features and the classifier only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tightframe.experiments.base import Experiment, Outcome, collapse_claims, test_accuracy, test_samples, with_training
from tightframe.experiments.catalog import entry
from tightframe.experiments.collapse.settings import DIGITS, FASHION_RESNET, PAPER
from tightframe.runs.record import Claim
from tightframe.trials.pictures import shown
from tightframe.trials.trial import Trial, TrialConfig

_SOURCE = "Q21 and L4, experiment with different weight decays"
_PUBLISHED = "published: 99.57 % and 99.60 % (MNIST), 77.92 % and 78.42 % (CIFAR-10)"


def _both(everything: TrialConfig, *, feature_decay: float) -> dict[str, TrialConfig]:
    return {
        "all weights": everything,
        "last layer": with_training(everything, decay="last", feature_decay=feature_decay),
    }


PRESETS = {
    "smoke": _both(DIGITS, feature_decay=5e-3),
    "quick": _both(FASHION_RESNET, feature_decay=2e-3),
    "paper": _both(PAPER, feature_decay=1e-5),
    "paper-mnist": _both(replace(PAPER, data="mnist"), feature_decay=1e-5),
}


def judge(trials: Mapping[str, Trial]) -> Outcome:
    """Claims: both collapse; the test accuracies agree within sampling error."""
    claims = [claim for name, trial in trials.items() for claim in collapse_claims(f"N6.{name}", name, trial, _SOURCE)]
    everything, last = (test_accuracy(trial) for trial in trials.values())
    samples = test_samples(next(iter(trials.values())))
    mean = (everything + last) / 2
    claims.append(
        Claim(
            id="N6.accuracy",
            statement="Decaying the last layer alone costs no test accuracy",
            source=_SOURCE,
            expected=0.0,
            observed=last - everything,
            relation=">=",
            tolerance=1.645 * (2 * mean * (1 - mean) / samples) ** 0.5,
            note=f"tolerance: one-sided 95 % bound of two equal accuracies on {samples} samples; {_PUBLISHED}",
        )
    )
    values = "; ".join(
        f"decay of {name}: NC1 {shown(trial.last.train, 'NC1')}, test accuracy {100 * test_accuracy(trial):.2f} %"
        for name, trial in trials.items()
    )
    return Outcome(tuple(claims), f"{values}.")


EXPERIMENT = Experiment(entry("weight-decay"), PRESETS, judge)
