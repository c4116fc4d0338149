"""The straight line of log D over depth against numpy.polyfit."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tightframe.collapse.separation import fit_separation
from tightframe.core.errors import InputError


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("layers", [3, 4, 9, 40])
def test_the_line_is_that_of_polyfit(seed, layers):
    values = np.exp(np.random.default_rng(seed).normal(size=layers) - 0.3 * np.arange(layers))
    fit = fit_separation(values.tolist())
    slope, intercept = np.polyfit(np.arange(layers), np.log(values), 1)
    assert fit.slope == pytest.approx(slope, rel=1e-10, abs=1e-12)
    assert fit.intercept == pytest.approx(intercept, rel=1e-10, abs=1e-12)
    assert fit.r_squared == pytest.approx(np.corrcoef(np.arange(layers), np.log(values))[0, 1] ** 2, abs=1e-12)


def test_an_exact_law_is_recovered():
    fit = fit_separation([5.0 * 0.4**layer for layer in range(7)])
    assert fit.decay_ratio == pytest.approx(0.4, rel=1e-13)
    assert math.exp(fit.intercept) == pytest.approx(5, rel=1e-13)
    assert fit.r_squared == pytest.approx(1, abs=1e-13)
    assert fit.at(3) == pytest.approx(5 * 0.4**3, rel=1e-13)


@pytest.mark.parametrize("value", [0.1, 0.3, 0.7, 1.0, 1e-9])
@pytest.mark.parametrize("layers", [3, 5, 7, 11])
def test_equal_layers_lie_on_a_flat_line(value, layers):
    fit = fit_separation([value] * layers)
    assert fit.slope == pytest.approx(0, abs=1e-14)
    assert fit.r_squared == 1


@pytest.mark.parametrize(
    "values", [[], [1.0], [1.0, 2.0], [1.0, 0.0, 2.0], [1.0, -1.0, 2.0], [1.0, math.nan, 2.0], [1.0, math.inf, 2.0]]
)
def test_what_no_line_goes_through_is_refused(values):
    with pytest.raises(InputError, match="positive values of at least three layers"):
        fit_separation(values)
