"""`transfer_scores`: how well features suit a task that they were not trained for, by every score in use."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from tightframe.collapse.evidence import logme
from tightframe.collapse.linear_probe import ProbeAccuracy, linear_probes
from tightframe.collapse.means import Absent
from tightframe.collapse.spread import ClassSpread, GroupedSpread, spread_of, spread_of_rows
from tightframe.collapse.transfer_summary import PROBES, SCORES, TransferScore, TransferScores
from tightframe.collapse.transferability import h_score, rate_reduction, rates_of_rows, regularized_h_score, transrate
from tightframe.collapse.variability import nc1
from tightframe.core.checks import check_count, check_features, check_finite, check_labels, check_same_device
from tightframe.core.errors import DegenerateError, InputError
from tightframe.core.rng import generator
from tightframe.core.typing import Features, Labels
from tightframe.features.moments import ClassMoments
from tightframe.features.replicates import GroupedMoments

GROUPS = 16
# Beyond, d x d matrices and their eigenvectors take gigabytes and many minutes.
MOST_FEATURES = 8192
_NORMAL = 1.96


def transfer_scores(
    features: Features,
    labels: Labels,
    *,
    classes: int | None = None,
    probe: bool = True,
    bootstrap: int = 0,
    seed: int = 0,
) -> TransferScores:
    """Score features by how well they suit labels that they were not trained for.

    NC1, both H-scores, LogME, TransRate and the coding rate reduction are functions of the class moments, gathered in
    one pass; the probes fit and test linear classifiers on shares of the rows. All in float64. Scores compare models on
    the same data; they are no accuracies, and TransRate depends on the scale of the features.

    Args:
        features: (n, d), floating point.
        labels: (n,) class indices; every class occurs.
        classes: K; one more than the largest label unless given.
        probe: Fit the linear classifiers too, which takes longer than all the rest.
        bootstrap: Replicates for 95 % intervals of the scores of moments, 0 for none: 16 groups of moments are drawn
            with replacement, the data are not read again. They are about the draw of N samples: LogME, TransRate and
            the regularised H-score change with N itself, so compare models at the same N. Where classes have few
            samples per dimension those of TransRate are too wide. Intervals of the probes are about their test rows.
        seed: Seed of the replicates and of the split of the probes.

    Returns:
        TransferScores; a score that is undefined on this data has value None and a note.

    Raises:
        InputError: Shapes, types or devices that do not fit, NaN or inf, one class, a class without samples.

    Example:
        >>> import torch
        >>> features = torch.tensor([[0.0, 1.0], [0.0, 1.2], [1.0, 0.0], [1.2, 0.0]])
        >>> scores = transfer_scores(features, torch.tensor([0, 0, 1, 1]), probe=False)
        >>> round(scores["H-score"], 3), scores.scores["NC1"].better
        (0.992, 'lower')

    Reference: [you2021logme]; [huang2022frustratingly]; [li2022principled].
    """
    features, labels, classes = _checked(features, labels, classes)
    _check_bootstrap(bootstrap)
    groups = spread_of_rows(features, labels, classes=classes, groups=GROUPS if bootstrap else 1)
    spread = groups.merged()
    found = _of_spread(spread)
    try:
        trans, reduction = rates_of_rows(features, labels, spread)
        found |= {"TransRate": _valued("TransRate", trans), "rate reduction": _valued("rate reduction", reduction)}
    except DegenerateError as error:
        found |= {name: replace(SCORES[name], note=str(error)) for name in ("TransRate", "rate reduction")}
    if bootstrap:
        found = _with_intervals(found, groups, bootstrap, seed)
    return _gathered(found | (_probed(features, labels, classes, seed) if probe else {}), spread)


def transfer_scores_of(
    moments: ClassMoments | GroupedMoments,
    *,
    scatters: Tensor | None = None,
    absent: Absent = "error",
    bootstrap: int = 0,
    seed: int = 0,
) -> TransferScores:
    """Score features of which only the class moments are left.

    Args:
        moments: Class moments in mode "full"; grouped ones allow intervals.
        scatters: Within-class scatter of every class (k, d, d), for TransRate and the coding rate reduction, which the
            pooled one does not determine.
        absent: "error" or "drop" classes without samples.
        bootstrap: Replicates for 95 % intervals, 0 for none; needs GroupedMoments.
        seed: Seed of the replicates.

    Returns:
        TransferScores without probes; the regularised H-score needs fourth moments, which class moments do not keep.

    Raises:
        InputError: Fewer than two classes, a class without samples, scatters of another shape, or bootstrap without
            groups.
    """
    _check_bootstrap(bootstrap)
    if bootstrap and not isinstance(moments, GroupedMoments):
        raise InputError(
            "GroupedMoments to draw replicates from", got="ClassMoments", remedy="Use GroupedMoments, or bootstrap=0."
        )
    groups = spread_of(moments, absent=absent)
    spread = groups.merged()
    if scatters is not None:
        shape = (len(spread.count), spread.mean.shape[1], spread.mean.shape[1])
        if tuple(scatters.shape) != shape:
            raise InputError(
                f"the scatter of every class, {shape}", got=f"shape {tuple(scatters.shape)}", remedy="Pass (k, d, d)."
            )
        spread = replace(spread, scatters=scatters.to(spread.mean))
    found = _of_spread(spread)
    return _gathered(_with_intervals(found, groups, bootstrap, seed) if bootstrap else found, spread)


def _nc1(spread: ClassSpread) -> float:
    if float(spread.count.max()) <= 1:
        raise DegenerateError(
            "two samples of a class, whose spread NC1 measures",
            got="one sample per class",
            remedy="NC1 would be 0 for any features; use more samples.",
        )
    return nc1(spread.moments())


def _rate_of(rate: Callable[[ClassSpread], float]) -> Callable[[ClassSpread], float | None]:
    return lambda spread: None if spread.scatters is None else rate(spread)


_OF_SPREAD: dict[str, Callable[[ClassSpread], float | None]] = {
    "NC1": _nc1,
    "H-score": h_score,
    "H-score regularized": regularized_h_score,
    "TransRate": _rate_of(transrate),
    "rate reduction": _rate_of(rate_reduction),
    "LogME": logme,
}
_NEEDS = {
    "H-score regularized": "needs fourth moments: pass the rows",
    "TransRate": "needs the scatter of every class",
    "rate reduction": "needs the scatter of every class",
}


def _of_spread(spread: ClassSpread) -> dict[str, TransferScore]:
    found = {}
    for name, compute in _OF_SPREAD.items():
        try:
            value = compute(spread)
            found[name] = replace(SCORES[name], note=_NEEDS[name]) if value is None else _valued(name, value)
        except DegenerateError as error:
            found[name] = replace(SCORES[name], note=str(error))
    return found


def _valued(name: str, value: float) -> TransferScore:
    return replace(SCORES[name], value=value)


def _with_intervals(
    found: dict[str, TransferScore], groups: GroupedSpread, replicates: int, seed: int
) -> dict[str, TransferScore]:
    r"""Add v exp(+-1.96 s) to NC1 and v +- 1.96 s to the others, s^2 = G/(G-1) var over replicates (of log NC1)."""
    if not groups.complete:
        note = f"no interval: a class is not in all {groups.groups} groups" if groups.groups > 1 else "no interval"
        return {name: score if score.note else replace(score, note=note) for name, score in found.items()}
    draws, values = generator(seed), {name: [] for name, score in found.items() if score.value is not None}
    for _ in range(replicates):
        drawn = torch.randint(groups.groups, (groups.groups,), generator=draws)
        again = _of_spread(groups.merged(torch.bincount(drawn, minlength=groups.groups)))
        for name, seen in values.items():
            if again[name].value is not None:
                seen.append(again[name].value)
    inflation = math.sqrt(groups.groups / (groups.groups - 1))
    for name, seen in values.items():
        if len(seen) < replicates:
            found[name] = replace(found[name], note="no interval: undefined or too large in replicates")
            continue
        sample, value = torch.tensor(seen, dtype=torch.float64), found[name].value
        if name == "NC1":
            reach = math.exp(_NORMAL * inflation * float(sample.log().std())) if min(seen) > 0 < value else 1.0
            interval = value / reach, value * reach
        else:
            reach = _NORMAL * inflation * float(sample.std())
            interval = value - reach, value + reach
        found[name] = replace(found[name], interval=interval)
    return found


def _probed(features: Features, labels: Labels, classes: int, seed: int) -> dict[str, TransferScore]:
    try:
        probes = linear_probes(features, labels, classes=classes, seed=seed)
    except DegenerateError as error:
        return {name: replace(SCORES[name], note=str(error)) for name in PROBES}
    return {name: _of_probe(name, probe) for name, probe in zip(PROBES, probes, strict=True)}


def _of_probe(name: str, probe: ProbeAccuracy) -> TransferScore:
    note = f"decay {probe.decay:g}, {probe.tested} test rows"
    return replace(SCORES[name], value=probe.accuracy, interval=probe.interval, note=note)


def _gathered(found: dict[str, TransferScore], spread: ClassSpread) -> TransferScores:
    if found["LogME"].value is not None and spread.total < spread.mean.shape[1]:
        note = "N < d: as published, too large for wide features; see logme(complete=True)"
        found["LogME"] = replace(found["LogME"], note="; ".join(filter(None, (note, found["LogME"].note))))
    return TransferScores(len(spread.count), spread.mean.shape[1], int(spread.total), found)


def _check_bootstrap(bootstrap: int) -> None:
    if bootstrap:
        check_count(bootstrap, "bootstrap", least=2)


def _checked(features: Features, labels: Labels, classes: int | None) -> tuple[Features, Labels, int]:
    features = check_features(features)
    if features.device.type == "mps":  # no float64 there
        features, labels = features.cpu(), labels.cpu()
    if classes is None:
        whole = isinstance(labels, Tensor) and labels.numel() and not labels.is_floating_point()
        classes = int(labels.max()) + 1 if whole else 1
    labels = check_labels(labels, len(features), max(check_count(classes, "classes"), 1))
    check_same_device(features, labels, "features and labels")
    count = torch.bincount(labels, minlength=classes)
    missing = (count == 0).nonzero().flatten().tolist()
    if missing or classes < 2:
        shown = ", ".join(map(str, missing[:8])) + (", ..." if len(missing) > 8 else "")
        raise InputError(
            "samples of at least two classes, and of every class",
            got=f"{len(labels)} samples of {classes} classes" + (f", none of class {shown}" if missing else ""),
            remedy="Score on data that has every class, numbered from 0 without gaps.",
        )
    if features.shape[1] > MOST_FEATURES:
        raise InputError(
            f"features of at most {MOST_FEATURES} dimensions",
            got=f"d={features.shape[1]}",
            remedy='Average maps over pixels (pool="mean") or score a narrower layer.',
        )
    check_finite(features, labels, batch=0)
    return features, labels, classes
