"""Feeding `ClassMoments` from whole arrays, and comparing them with two passes."""

from __future__ import annotations

import numpy as np

from tightframe.features.moments import ClassMoments


def measured(features, labels, *, classes, batch=None, **options):
    moments = ClassMoments(classes, **options)
    step = batch or len(labels)
    for start in range(0, len(labels), step):
        moments.update(features[start : start + step], labels[start : start + step])
    return moments


def relative(found, expected):
    found, expected = np.asarray(found, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def assert_moments(moments, reference, tolerance):
    assert moments.count.tolist() == reference.count.tolist()
    assert relative(moments.mean, reference.mean) <= tolerance
    assert relative(moments.within, reference.trace) <= tolerance
    if moments.mode == "full":
        assert relative(moments.scatter, reference.scatter) <= tolerance
