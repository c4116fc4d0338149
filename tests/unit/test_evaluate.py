"""`evaluate_layer`: all metrics of a layer at once, and what is said where one is undefined."""

from __future__ import annotations

import math

import pytest
import torch

from definitions import TwoPass, gaussian_classes
from tightframe.collapse import evaluate
from tightframe.collapse.evaluate import evaluate_layer, in_order
from tightframe.collapse.simplex import distance_floor
from tightframe.core.errors import InputError
from tightframe.features.moments import ClassMoments

D = 6
FEATURE_METRICS = {
    "NC1",
    "D",
    "CDNV",
    "VCI",
    "NC2 features",
    "NC2 features OF",
    "equinorm features",
    "equiangularity features",
    "maximal angle features",
    "uniformity",
    "GNC2",
    "effective rank within",
    "effective rank between",
}
CLASSIFIER_METRICS = {
    "NC2 classifier",
    "equinorm classifier",
    "equiangularity classifier",
    "maximal angle classifier",
    "NC3",
    "NC3 OF",
    "NC3 Papyan",
    "NC3 cosine",
    "bias collapse",
}


def moments_of(features, labels, classes, mode="full") -> ClassMoments:
    moments = ClassMoments(classes, mode)
    moments.update(features, labels)
    return moments


def linear(classes: int, features: int = D):
    draws = torch.Generator().manual_seed(4)
    return {"weight": torch.randn(classes, features, generator=draws), "bias": torch.randn(classes, generator=draws)}


@pytest.mark.parametrize("counts", [[30, 30, 30, 30], [5, 60, 20, 11], [9] * 12])
def test_values_are_the_literal_definitions(counts):
    classes = len(counts)
    features, labels = gaussian_classes(counts, D, seed=1)
    layer = evaluate_layer(moments_of(features, labels, classes), layer="x", **linear(classes))
    literal = TwoPass(features, labels)
    assert set(layer.measurements) == FEATURE_METRICS | CLASSIFIER_METRICS
    assert all(math.isfinite(m.value) for m in layer.measurements.values())
    assert (layer.layer, layer.classes, layer.features, layer.samples) == ("x", classes, D, sum(counts))
    assert layer["NC1"] == pytest.approx(literal.nc1(), rel=1e-9)
    head = {name: value.double().numpy() for name, value in linear(classes).items()}
    at_centre = head["bias"] + head["weight"] @ literal.centre()
    assert layer["bias collapse"] == pytest.approx((at_centre**2).sum() ** 0.5, rel=1e-10)
    assert layer["D"] == pytest.approx(literal.within().trace() / literal.between().trace(), rel=1e-10)


def test_floors_are_given_where_the_frame_does_not_fit():
    features, labels = gaussian_classes([9] * 12, D, seed=1)
    layer = evaluate_layer(moments_of(features, labels, 12), **linear(12)).measurements
    for name in ("NC2 features", "NC2 classifier", "NC3"):
        assert layer[name].floor == distance_floor(12, D)
        assert layer[name].value >= layer[name].floor
    assert layer["NC3 OF"].floor == distance_floor(12, D, "of")
    fitting = evaluate_layer(moments_of(*gaussian_classes([9] * 4, D, seed=1), 4)).measurements
    assert {m.floor for m in fitting.values()} == {None}


def test_traces_serve_all_that_needs_no_scatter():
    features, labels = gaussian_classes([20] * 4, D, seed=2)
    traces = evaluate_layer(moments_of(features, labels, 4, "trace"), **linear(4)).measurements
    full = evaluate_layer(moments_of(features, labels, 4), **linear(4)).measurements
    assert set(full) - set(traces) == {"NC1", "VCI", "effective rank within"}
    assert all(m.value == pytest.approx(full[name].value, rel=1e-12) for name, m in traces.items())


def test_pairs_are_left_out_beyond_a_number_of_classes(monkeypatch):
    monkeypatch.setattr(evaluate, "MOST_PAIRED_CLASSES", 3)
    features, labels = gaussian_classes([20] * 4, D, seed=2)
    assert "CDNV" not in evaluate_layer(moments_of(features, labels, 4), **linear(4)).measurements


def test_only_some_metrics():
    features, labels = gaussian_classes([20] * 4, D, seed=2)
    moments = moments_of(features, labels, 4)
    some = evaluate_layer(moments, only=["CDNV", "NC1"])
    assert set(some.measurements) == {"CDNV", "NC1"}
    assert some["CDNV"] == evaluate_layer(moments)["CDNV"]
    with pytest.raises(InputError, match=r"names of metrics of this layer; got 'NC3', 'x'.*'NC1'"):
        evaluate_layer(moments, only=["NC3", "x"])


@pytest.mark.parametrize("case", ["constant", "zero", "two equal means", "one dead class", "collapsed"])
def test_undefined_metrics_have_a_note_and_the_others_a_value(case):
    features, labels = gaussian_classes([10] * 4, D, seed=3)
    if case in ("constant", "zero"):
        features = torch.full_like(features, 0.7 if case == "constant" else 0.0)
    elif case == "two equal means":
        features[labels == 1] = features[labels == 0]
    elif case == "one dead class":  # exactly at the global mean
        features[labels == 0] = features[labels != 0].mean(0)
    else:
        features = torch.eye(4, D, dtype=torch.float64)[labels]
    layer = evaluate_layer(moments_of(features, labels, 4), **linear(4)).measurements
    undefined = {name for name, m in layer.items() if m.value is None}
    assert all(bool(m.note) == (m.value is None) for m in layer.values())
    assert all(math.isfinite(m.value) for m in layer.values() if m.value is not None)
    assert layer["NC2 classifier"].value > 0
    expected = {
        "constant": {"NC1", "D", "CDNV", "NC2 features", "uniformity", "NC3", "NC3 Papyan", "NC3 cosine"},
        "two equal means": {"NC1", "CDNV", "equiangularity features", "uniformity", "GNC2"},
        "collapsed": set(),
    }
    assert undefined >= expected.get(case, set())
    if case == "collapsed":
        assert undefined <= {"effective rank within"}
        assert max(layer[name].value for name in ("NC1", "D", "CDNV", "NC2 features")) < 1e-12
    if case == "zero":
        assert undefined >= FEATURE_METRICS


def test_a_dead_classifier_is_undefined_by_itself():
    features, labels = gaussian_classes([10] * 4, D, seed=3)
    layer = evaluate_layer(moments_of(features, labels, 4), weight=torch.zeros(4, D)).measurements
    undefined = {name for name, m in layer.items() if m.value is None}
    assert undefined == CLASSIFIER_METRICS - {"bias collapse"}


def test_bad_input_is_named():
    features, labels = gaussian_classes([10] * 4, D, seed=3)
    with pytest.raises(InputError, match=r"samples of all 5 classes; got none of 1 of them \(class 4\)"):
        evaluate_layer(moments_of(features, labels, 5))
    dropped = evaluate_layer(moments_of(features, labels, 5), absent="drop", **linear(5))
    assert dropped.classes == 4
    alone = evaluate_layer(moments_of(features, labels, 4), weight=linear(5)["weight"][:4], bias=linear(5)["bias"][:4])
    values = {name: m.value for name, m in dropped.measurements.items()}
    assert values == pytest.approx({name: m.value for name, m in alone.measurements.items()}, rel=1e-12)
    with pytest.raises(InputError, match="at least two classes"):
        evaluate_layer(moments_of(features[labels == 1], labels[labels == 1], 4), absent="drop")
    with pytest.raises(InputError, match=r"shape \(classes, features\) = \(4, 6\); got shape \(4, 5\)"):
        evaluate_layer(moments_of(features, labels, 4), weight=torch.ones(4, 5))
    with pytest.raises(InputError, match="the classifier is finite"):
        evaluate_layer(moments_of(features, labels, 4), weight=torch.full((4, D), torch.nan))


def test_metrics_are_listed_in_the_order_of_the_phenomena():
    features, labels = gaussian_classes([10] * 4, D, seed=3)
    names = list(in_order(evaluate_layer(moments_of(features, labels, 4), **linear(4)).measurements))
    assert names[:4] == ["NC1", "D", "CDNV", "VCI"]
    assert names.index("NC2 features") < names.index("NC3") < names.index("bias collapse") < names.index("uniformity")
