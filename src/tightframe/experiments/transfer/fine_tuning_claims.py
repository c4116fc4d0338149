"""T2, T3 and T4: claims of the fine-tuning experiment from its rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import mean

from tightframe.experiments.measured import standard_error
from tightframe.experiments.published import tuned_backbones
from tightframe.experiments.transfer.fine_tuning_runs import Config, Row
from tightframe.experiments.transfer.parameter_shares import share_claims
from tightframe.runs.record import Claim

_TABLE = "L6, table of transfer accuracies (li2022principled)"
_SIZES = "L6, less overfitting compared to full fine-tuning (li2022principled)"
_LAYERS = "L6, layer-wise NC1 of fine-tuning methods (li2022principled)"
# Smallest step up from the linear probe that counts as far, and largest one down from full fine-tuning that is near.
_FAR, _NEAR = 0.05, 0.02


def claims(config: Config, rows: Sequence[Row], layers: Sequence[Row]) -> list[Claim]:
    """All claims: what was measured, the published shares, and the published accuracies that were not run."""
    found = []
    for case in (case.name for case in config.cases):
        found += [*_accuracy(rows, case), *_overfitting(rows, case), *_collapse(config, rows, layers, case)]
    return [*found, *share_claims(tuned_backbones()), *_not_run()]


def sizes(rows: Sequence[Row], case: str) -> list[int]:
    """Samples per class that a case was tuned on, ascending."""
    return sorted({row["shots"] for row in rows if row["case"] == case})


def average(rows: Sequence[Row], column: str, **where: object) -> float:
    """Mean of a column over the rows with these values; NaN where a run has none, or there is no row."""
    cells = [row.get(column) for row in rows if all(row[key] == value for key, value in where.items())]
    return math.nan if not cells or None in cells else mean(cells)


def _accuracy(rows: Sequence[Row], case: str) -> Iterator[Claim]:
    most = sizes(rows, case)[-1]
    bars = (
        ("linear", "SCL", "scl", "the linear probe", "linear", _FAR, ">="),
        ("full", "full fine-tuning", "full", "SCL", "scl", _NEAR, "<="),
        ("layer", "SCL", "scl", "tuning a layer without a skip connection", "layer", 0.0, ">="),
    )
    for key, one, method, other, against, expected, relation in bars:
        difference, note = _difference(rows, "test accuracy", case, most, method, against)
        share = average(rows, "share", case=case, shots=most, method="scl")
        yield Claim(
            id=f"T2.{case}.{key}",
            statement=f"{case}, {most} samples per class: test accuracy of {one} less that of {other}",
            source=_TABLE,
            expected=expected,
            observed=difference,
            relation=relation,
            note=f"{note}; SCL trains {100 * share:.2f} % of the parameters",
        )


def _overfitting(rows: Sequence[Row], case: str) -> Iterator[Claim]:
    for shots in sizes(rows, case)[:-1]:
        for key, column, what, relation in (
            ("gap", "gap", "training less test accuracy", "<="),
            ("accuracy", "test accuracy", "test accuracy", ">="),
        ):
            difference, note = _difference(rows, column, case, shots, "scl", "full")
            yield Claim(
                id=f"T3.{case}.{shots}.{key}",
                statement=f"{case}, {shots} samples per class: {what} of SCL less that of full fine-tuning",
                source=_SIZES,
                expected=0.0,
                observed=difference,
                relation=relation,
                note=note,
            )


def _difference(
    rows: Sequence[Row], column: str, case: str, shots: int, method: str, against: str
) -> tuple[float, str]:
    """Mean over seeds of one method less another, and its standard error in words."""
    found = {
        (row["method"], row["seed"]): row.get(column) for row in rows if (row["case"], row["shots"]) == (case, shots)
    }
    pairs = [(value, found.get((against, seed))) for (name, seed), value in found.items() if name == method]
    if not pairs or any(None in pair for pair in pairs):
        return math.nan, "a run diverged, or there is none"
    differences = [one - other for one, other in pairs]
    one, other = (mean(values) for values in zip(*pairs, strict=True))
    return mean(differences), (
        f"{method} {one:.4f}, {against} {other:.4f}; standard error {standard_error(differences):.4f} "
        f"over {len(pairs)} seeds"
    )


def _collapse(config: Config, rows: Sequence[Row], layers: Sequence[Row], case: str) -> Iterator[Claim]:
    """NC1 of what the head reads, by method, and from layer to layer."""
    most = sizes(rows, case)[-1]
    values = {method: average(rows, "NC1", case=case, shots=most, method=method) for method, _ in config.methods}
    for key, one, other, words in (
        ("linear", "scl", "linear", "after SCL over that of the linear probe"),
        ("layer", "scl", "layer", "after SCL over that after tuning the layer alone"),
        ("full", "full", "scl", "after full fine-tuning over that after SCL"),
    ):
        yield Claim(
            id=f"T4.{case}.{key}",
            statement=f"{case}, {most} samples per class: training NC1 of what the head reads, {words}",
            source=_LAYERS,
            expected=1.0,
            observed=values[one] / values[other] if values[other] else math.nan,
            note="mean over seeds: " + ", ".join(f"{method} {value:.3g}" for method, value in values.items()),
        )
    steps = _steps(layers, case)
    yield Claim(
        id=f"T4.{case}.depth",
        statement=f"{case}: share of steps from layer to layer, after SCL, at which training NC1 falls",
        source=_LAYERS,
        expected=0.5,
        observed=math.nan if not steps else mean(steps),
        relation=">=",
        note=f"{len(steps)} steps",
    )


def _steps(layers: Sequence[Row], case: str) -> list[bool]:
    found = [row for row in layers if (row["case"], row["method"], row["split"]) == (case, "scl", "train")]
    curve = [row["NC1"] for row in sorted(found, key=lambda row: row["depth"])]
    return [] if None in curve else [below < above for above, below in pairwise(curve)]


def _not_run() -> Iterator[Claim]:
    """The source's accuracies: its networks are public ones, which these runs do not have."""
    for row in tuned_backbones():
        below = row["SCL FT, accuracy"] < row["layer FT, accuracy"]
        yield Claim(
            id=f"T2.published.{row['backbone']}.{row['data']}",
            statement=f"Test accuracy in per cent of SCL on {row['data']}, {row['backbone']} pretrained by others",
            source=_TABLE,
            expected=row["SCL FT, accuracy"],
            observed=None,
            relation=">=",
            note="needs public weights; the source's layer fine-tuning has "
            f"{row['layer FT, accuracy']:g}{', which is more,' if below else ''} and full fine-tuning "
            f"{row['full FT, accuracy']:g}",
        )
