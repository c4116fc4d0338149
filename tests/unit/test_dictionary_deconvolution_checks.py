"""Blind deconvolution under the checks of scikit-learn, with what does not apply to signals and why."""

from __future__ import annotations

import pytest
from sklearn.utils.estimator_checks import check_estimator

from tightframe.dictionary.blind.deconvolution import MultichannelBlindDeconvolution, ShortAndSparseDeconvolution

_WORDS = "the message has this library's words"
_REASONS = {
    "check_dtype_object": _WORDS,
    "check_estimators_empty_data_messages": _WORDS,
    "check_n_features_in_after_fitting": "signals of any length can be transformed, or " + _WORDS,
}
_SHORT = {
    "check_transformer_general": "signals of any length can be transformed",
    "check_estimators_dtypes": "its data hold a constant signal when they become integers: refused",
    "check_methods_subset_invariance": "the noise is measured in all signals that are given",
    "check_fit2d_1feature": "a signal of one point is shorter than the kernel: refused in other words",
}


@pytest.mark.parametrize(
    ("model", "reasons"),
    [
        (ShortAndSparseDeconvolution(2, n_starts=1), _REASONS | _SHORT),
        (MultichannelBlindDeconvolution(n_starts=1, max_iter=5, rounding=5), _REASONS),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_scikit_learn_checks(model, reasons):
    results = check_estimator(model, expected_failed_checks=reasons, on_fail=None, on_skip=None)
    assert not [(result["check_name"], result["exception"]) for result in results if result["status"] == "failed"]
    assert sum(result["status"] == "passed" for result in results) >= 35
