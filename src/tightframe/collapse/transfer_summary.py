"""`TransferScores`: the scores of one model's features, each with how to read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tightframe.collapse.rendering import aligned_text
from tightframe.core.errors import InputError


@dataclass(frozen=True)
class TransferScore:
    """One score and how to read it.

    Args:
        name: As in SCORES.
        value: The number, or None where it is undefined or cannot be had from what was given; `note` says why.
        better: Whether higher or lower values promise better transfer.
        formula: What is computed.
        source: Key of docs/references.bib.
        interval: 95 % interval, if asked for.
        note: Why there is no value or no interval, or how it was obtained.
    """

    name: str
    value: float | None
    better: Literal["higher", "lower"]
    formula: str
    source: str
    interval: tuple[float, float] | None = None
    note: str = ""

    def __str__(self) -> str:
        return "undefined" if self.value is None else f"{self.value:.5g}"


# Name, which direction is better, formula and source of each score, in the order in which they are shown.
SCORES: dict[str, TransferScore] = {
    name: TransferScore(name, None, better, formula, source)
    for name, better, formula, source in (
        ("NC1", "lower", "tr(S_W pinv(S_B)) / K", "zhu2021geometric"),
        ("H-score", "higher", "tr(pinv(cov f) cov E[f|y])", "bao2019information"),
        ("H-score regularized", "higher", "the same, cov f shrunk as Ledoit and Wolf", "ibrahim2022newer"),
        ("TransRate", "higher", "R(f) - mean_k R(f_k), eps = 1e-4", "huang2022frustratingly"),
        ("rate reduction", "higher", "R - R_c at eps^2 = 0.5, mean |f|^2 = 1", "yu2020learning"),
        ("LogME", "higher", "log evidence of a linear model, per sample", "you2022ranking"),
        ("logistic probe", "higher", "test accuracy, decay chosen on validation", "standard"),
        ("ridge probe", "higher", "test accuracy, decay chosen on validation", "hoerl1970ridge"),
    )
}
PROBES = ("logistic probe", "ridge probe")


@dataclass(frozen=True)
class TransferScores:
    """Scores of one model's features on one data set; print it for a table.

    Args:
        classes: K.
        features: d.
        samples: N.
        scores: By name, those of SCORES.
    """

    classes: int
    features: int
    samples: int
    scores: Mapping[str, TransferScore]

    def __getitem__(self, name: str) -> float:
        score = self.scores.get(name)
        if score is None or score.value is None:
            raise InputError(
                f"a score {name!r} with a value",
                got="no such score" if score is None else f"none: {score.note}",
                remedy=f"Use one of {', '.join(n for n, s in self.scores.items() if s.value is not None)}.",
            )
        return score.value

    def to_dict(self) -> dict[str, Any]:
        """Plain values: {"classes": K, ..., "scores": {name: {"value", "better", "low", "high", "note"}}}."""
        plain = {
            name: {
                "value": score.value,
                "better": score.better,
                "low": None if score.interval is None else score.interval[0],
                "high": None if score.interval is None else score.interval[1],
                "note": score.note,
            }
            for name, score in self.scores.items()
        }
        return {"classes": self.classes, "features": self.features, "samples": self.samples, "scores": plain}

    def __str__(self) -> str:
        head = f"Transferability: K = {self.classes} classes, d = {self.features}, N = {self.samples} samples"
        rows = [("score", "value", "95 % interval", "better", "formula")]
        for name, score in self.scores.items():
            interval = "" if score.interval is None else f"[{score.interval[0]:.4g}, {score.interval[1]:.4g}]"
            formula = score.formula + (f" ({score.note})" if score.note else "")
            rows.append((name, str(score), interval, score.better, formula))
        return f"{head}\n\n{aligned_text(rows, left=(0, 3, 4))}"
