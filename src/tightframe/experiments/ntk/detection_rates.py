"""Detection at equal false alarms: thresholds from noise, rates from signals, and intervals for both."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tightframe.core.errors import DegenerateError, InputError

# Exceedances of noise below which a threshold would be that of a few windows.
LEAST_EXCEEDANCES = 10


@dataclass(frozen=True)
class Detection:
    """Share of signals above the threshold, and an interval that holds for threshold and share together.

    Args:
        rate: Share of the signals.
        low: End of the interval.
        high: End of the interval.
    """

    rate: float
    low: float
    high: float

    @property
    def half(self) -> float:
        """The longer side of the interval."""
        return max(self.rate - self.low, self.high - self.rate)


def detection(null: np.ndarray, found: np.ndarray, alarms: float, *, level: float = 0.95) -> Detection:
    r"""Detection rate at the threshold that a share `alarms` of noise windows exceeds.

    The true threshold lies between two of the noise's order statistics, whose ranks are binomial quantiles; at each of
    the two the rate has Clopper and Pearson's interval. Each is given half of 1 - level, so that by the union bound the
    whole holds with probability of at least `level`.

    Args:
        null: (n,), statistic of windows without a signal.
        found: (m,), statistic of windows with one.
        alarms: In (0, 1).
        level: Of the interval.

    Raises:
        InputError: A share outside (0, 1), empty or NaN statistics.
        DegenerateError: Fewer than ten expected exceedances.

    Reference: [clopper1934use].
    """
    from scipy.stats import binom

    for name, values in (("null", null), ("found", found)):
        if not len(values) or np.isnan(values).any():
            raise InputError(f"{name}: numbers", got="NaN, or none", remedy="Check the statistic of every window.")
    if not 0 < alarms < 1:
        raise InputError("alarms in (0, 1)", got=repr(alarms), remedy="Use 1e-2.")
    if alarms * len(null) < LEAST_EXCEEDANCES:
        raise DegenerateError(
            f"at least {LEAST_EXCEEDANCES} expected false alarms",
            got=f"{alarms:g} of {len(null)} windows",
            remedy=f"Draw at least {math.ceil(LEAST_EXCEEDANCES / alarms)} windows of noise.",
        )
    sorted_null, aside = np.sort(null), (1 - level) / 4
    few, many = (int(binom.ppf(share, len(null), alarms)) for share in (aside, 1 - aside))
    counts = [
        int((found > sorted_null[len(null) - 1 - min(count, len(null) - 1)]).sum())
        for count in (few, int(alarms * len(null)), many)
    ]
    low, high = _interval(counts[0], len(found), aside)[0], _interval(counts[2], len(found), aside)[1]
    return Detection(counts[1] / len(found), low, high)


def curve(null: np.ndarray, found: np.ndarray, *, points: int = 25) -> list[tuple[float, float]]:
    """False alarms, evenly spaced by their logarithm down to ten windows, and detection rates."""
    least = min(LEAST_EXCEEDANCES / len(null), 0.5)
    alarms = np.geomspace(least, 0.5, points)
    thresholds = np.quantile(null, 1 - alarms, method="higher")
    return [(float(a), float((found > t).mean())) for a, t in zip(alarms, thresholds, strict=True)]


def _interval(successes: int, trials: int, aside: float) -> tuple[float, float]:
    from scipy.stats import beta

    low = float(beta.ppf(aside, successes, trials - successes + 1)) if successes else 0.0
    high = float(beta.ppf(1 - aside, successes + 1, trials - successes)) if successes < trials else 1.0
    return low, high
