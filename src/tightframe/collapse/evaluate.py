"""From the class moments of a layer to all of its metrics."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from tightframe.collapse import decision, duality, pairs, simplex, spectrum, variability
from tightframe.collapse.conventions import convention
from tightframe.collapse.means import Absent, CentredMeans
from tightframe.collapse.summary import LayerCollapse, Measurement
from tightframe.core.checks import check_classifier
from tightframe.core.errors import DegenerateError, InputError
from tightframe.core.rng import generator
from tightframe.features.moments import ClassMoments
from tightframe.features.replicates import GroupedMoments

# Pairs take time K^2 d; beyond this many classes they are left to a call of `pairs.class_pairs`.
MOST_PAIRED_CLASSES = 20_000

Metric = tuple[str, tuple[str, str], Callable[[], float]]


def evaluate_layer(
    moments: ClassMoments,
    *,
    layer: str = "features",
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    absent: Absent = "error",
    only: Collection[str] | None = None,
) -> LayerCollapse:
    """All metrics that follow from class moments, and from the classifier that reads this layer if there is one.

    A metric that is undefined on this data (class means that coincide, features that do not vary) has value None and a
    note that says why; the others are given all the same.

    Args:
        moments: Class moments of the layer.
        layer: Name of the layer.
        weight: Classifier W (k, d).
        bias: Classifier bias b (k,), or None.
        absent: "error" or "drop" classes without samples.
        only: Names of the metrics to compute; None for all.

    Raises:
        InputError: A class without samples (with absent="error"), fewer than two classes, a classifier that does not
            fit, or a name in `only` that is none of these metrics.
    """
    means = CentredMeans(moments, absent=absent)
    metrics = list(_feature_metrics(means))
    if weight is not None:
        weight, bias = check_classifier(weight, bias, moments.classes, moments.features)
        device = means.origin.device
        metrics += _classifier_metrics(means, weight.to(device)[means.index], bias.to(device)[means.index])
    if only is not None:
        metrics = _chosen(metrics, only)
    floors = {
        "NC2 features": simplex.distance_floor(means.classes, means.features),
        "NC2 features OF": simplex.distance_floor(means.classes, means.features, "of"),
        "NC2 classifier": simplex.distance_floor(means.classes, means.features),
        "NC3": simplex.distance_floor(means.classes, means.features),
        "NC3 OF": simplex.distance_floor(means.classes, means.features, "of"),
    }
    measured = {
        name: _measured(convention(*formula), value, floors.get(name) or None) for name, formula, value in metrics
    }
    return LayerCollapse(layer, means.classes, means.features, int(means.total), measured)


def with_intervals(
    layer: LayerCollapse,
    groups: GroupedMoments,
    *,
    replicates: int,
    seed: int = 0,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    absent: Absent = "error",
) -> LayerCollapse:
    r"""Add 95 % bootstrap intervals from resampled groups of moments, without a second pass over the data.

    .. math:: v \, \exp(\pm 1.96\, s), \qquad s^2 = \tfrac{G}{G-1} \operatorname{var}_b \log v_b

    over replicates b of G groups drawn with replacement; the logarithm suits values that are positive and spread over
    decades. The interval is about the sampling of data, not about training. Where a class has fewer rows than there are
    groups, replicates would miss it: no interval is given, and a note says so.
    """
    if not groups.complete:
        note = f"no interval: a class is not in all {len(groups.groups)} groups"
        noted = {name: m if m.note else replace(m, note=note) for name, m in layer.measurements.items()}
        return replace(layer, measurements=noted)
    draws = generator(seed)
    logs: dict[str, list[float]] = {name: [] for name, m in layer.measurements.items() if m.value}
    for _ in range(replicates):
        again = evaluate_layer(groups.resample(draws), weight=weight, bias=bias, absent=absent)
        for name, values in logs.items():
            value = again.measurements[name].value
            if value and value > 0:
                values.append(math.log(value))
    inflation = (len(groups.groups) / (len(groups.groups) - 1)) ** 0.5
    measurements = dict(layer.measurements)
    for name, values in logs.items():
        value = measurements[name].value
        spread = 1.96 * inflation * float(torch.tensor(values, dtype=torch.float64).std()) if len(values) > 1 else 0.0
        if len(values) == replicates and value > 0 and spread > 1e-12:  # the classifier itself does not vary
            interval = (value * math.exp(-spread), value * math.exp(spread))
            measurements[name] = replace(measurements[name], interval=interval)
    return replace(layer, measurements=measurements)


def _feature_metrics(means: CentredMeans) -> Iterator[Metric]:
    swept = _Once(lambda: pairs.class_pairs(means))
    if means.moments.mode == "full":
        yield "NC1", ("NC1", "weighted"), lambda: variability.nc1(means)
        yield "VCI", ("VCI", "xu-liu"), lambda: spectrum.variability_index(means)
        yield (
            "effective rank within",
            ("effective rank", "participation"),
            lambda: spectrum.participation_ratio(means),
        )
    yield "D", ("D", "weighted"), lambda: variability.trace_ratio(means)
    yield "NC2 features", ("NC2", "etf"), lambda: simplex.feature_distance(means)
    yield "NC2 features OF", ("NC2", "of"), lambda: simplex.feature_distance(means, "of")
    yield "equinorm features", ("equinorm", "papyan"), lambda: simplex.equinorm(means.norms)
    if means.classes <= MOST_PAIRED_CLASSES:
        yield "CDNV", ("CDNV", "galanti"), lambda: swept().cdnv
        yield "equiangularity features", ("equiangularity", "papyan"), lambda: swept().cosine_std
        yield "maximal angle features", ("maximal angle", "papyan"), lambda: swept().angle_error
        yield "uniformity", ("uniformity", "log"), lambda: swept().log_mean
        yield "GNC2", ("GNC2", "wu-papyan"), lambda: swept().log_variance
        yield (
            "effective rank between",
            ("effective rank", "entropy"),
            lambda: spectrum.effective_rank(spectrum.between_spectrum(means)),
        )


def _classifier_metrics(means: CentredMeans, weight: Tensor, bias: Tensor) -> Iterator[Metric]:
    swept = _Once(lambda: pairs.row_pairs(weight))
    yield "NC2 classifier", ("NC2", "zhu"), lambda: simplex.classifier_distance(weight)
    norms = torch.linalg.vector_norm(weight, dim=1)
    yield "equinorm classifier", ("equinorm", "papyan"), lambda: simplex.equinorm(norms)
    if means.classes <= MOST_PAIRED_CLASSES:
        yield "equiangularity classifier", ("equiangularity", "papyan"), lambda: swept().cosine_std
        yield "maximal angle classifier", ("maximal angle", "papyan"), lambda: swept().angle_error
    yield "NC3", ("NC3", "zhu"), lambda: duality.duality_gram(means, weight)
    yield "NC3 OF", ("NC3", "of"), lambda: duality.duality_gram(means, weight, "of")
    yield "NC3 Papyan", ("NC3", "papyan"), lambda: duality.duality_distance(means, weight)
    yield "NC3 cosine", ("NC3", "gnc3"), lambda: 1 - float(duality.class_cosines(means, weight).mean())
    yield "bias collapse", ("bias collapse", "zhu"), lambda: decision.bias_collapse(means, weight, bias)


def in_order(measurements: Mapping[str, Measurement]) -> dict[str, Measurement]:
    """NC1 and its kin first, then NC2, NC3, NC4, then the rest."""
    rank = {"NC1": 0, "D": 1, "CDNV": 2, "VCI": 3, "NC2": 4, "NC3": 5, "NC4": 6, "bias collapse": 7}
    return dict(sorted(measurements.items(), key=lambda item: rank.get(item[1].convention.metric, len(rank))))


class _Once:
    """A value computed on first use; an error is raised anew on each use."""

    def __init__(self, compute: Callable[[], pairs.PairStatistics]) -> None:
        self._compute, self._value = compute, None

    def __call__(self) -> pairs.PairStatistics:
        if self._value is None:
            self._value = self._compute()
        return self._value


def _chosen(metrics: list[Metric], only: Collection[str]) -> list[Metric]:
    known = [name for name, _, _ in metrics]
    unknown = [name for name in only if name not in known]
    if unknown:
        raise InputError(
            "names of metrics of this layer",
            got=", ".join(map(repr, unknown)),
            remedy=f"Use some of {', '.join(map(repr, known))}.",
        )
    return [metric for metric in metrics if metric[0] in only]


def _measured(formula, value: Callable[[], float], floor: float | None) -> Measurement:
    try:
        number = value()
    except DegenerateError as error:
        return Measurement(None, formula, floor=floor, note=str(error))
    if math.isinf(number):
        return Measurement(None, formula, floor=floor, note="infinite: two class directions coincide")
    return Measurement(number, formula, floor=floor)
