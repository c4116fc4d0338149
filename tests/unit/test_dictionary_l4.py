"""The estimator: conventions of scikit-learn, recovery of known dictionaries, and bad input."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks

from tightframe.core.errors import DegenerateError, InputError
from tightframe.core.rng import generator
from tightframe.data.sparse import sparse_codes
from tightframe.dictionary.linear.l4 import L4DictionaryLearning
from tightframe.dictionary.linear.recovery import l4_score, recovery
from tightframe.geometry.frames import haar_columns, unit_norm_tight_frame


def normal(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=generator(seed))


def data(samples, size, density=0.1, *, seed=0):
    """Rows that are sparse in a general dictionary, the dictionary and the codes."""
    atoms = normal(size, size, seed=seed + 100)
    atoms = atoms / atoms.norm(dim=1, keepdim=True)
    codes = sparse_codes((samples, size), density, seed=seed)
    return codes @ atoms, atoms, codes


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
@parametrize_with_checks([L4DictionaryLearning(), L4DictionaryLearning(2, method="rgd")])
def test_conventions_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.mark.parametrize("method", ["msp", "rgd", "trust-region"])
@pytest.mark.parametrize("order", [3, 4])
def test_a_general_dictionary_is_recovered_exactly(method, order):
    rows, atoms, _ = data(2000, 15)
    model = L4DictionaryLearning(method=method, order=order).fit(rows)
    assert model.solution_.status.converged
    assert recovery(model.components_, atoms).worst < 1e-8


@pytest.mark.parametrize("seed", range(4))
def test_ten_samples_per_dimension_are_enough_for_an_orthogonal_dictionary(seed):
    frame = haar_columns(50, 50, seed=seed).T
    rows = sparse_codes((600, 50), 0.1, seed=seed) @ frame
    assert l4_score(L4DictionaryLearning().fit(rows).components_, frame) < 1e-10


def test_without_a_finish_the_bias_of_powers_is_left():
    rows, atoms, _ = data(2000, 15)
    rough = L4DictionaryLearning(finish="none", order=4).fit(rows)
    better = L4DictionaryLearning(finish="none", order=3).fit(rows)
    worst = [recovery(model.components_, atoms).worst for model in (rough, better)]
    assert 0.02 < worst[1] < worst[0] < 0.5


def test_codes_come_back_sparse_and_rebuild_the_samples():
    rows, atoms, codes = data(1500, 10, 0.2)
    model = L4DictionaryLearning().fit(rows)
    matched = recovery(model.components_, atoms)
    found = model.transform(rows)[:, matched.assigned] * matched.signs
    assert torch.allclose(found, codes, atol=1e-8)
    assert torch.equal(found.abs() > 1e-7, codes.abs() > 1e-7)
    # What rounding leaves of zeros is set to zero, but for a few.
    assert (found != 0).double().mean() < (codes != 0).double().mean() + 0.02
    assert torch.allclose(model.inverse_transform(model.transform(rows)), rows, atol=1e-8)
    assert -1e-16 < model.score(rows) <= 0
    assert torch.allclose(model.density_, torch.full((10,), 0.2).double(), atol=0.05)
    # 3 / theta = 15 for Gaussian amplitudes, with the wide spread of fourth powers.
    assert model.kurtosis_ == pytest.approx(15, rel=0.3)


def test_arrays_give_arrays_and_tensors_tensors_of_the_same_precision():
    rows, atoms, _ = data(1500, 8)
    for X, kind, dtype in (
        (rows.numpy(), np.ndarray, np.float64),
        (rows.float().numpy(), np.ndarray, np.float32),
        (rows, torch.Tensor, torch.float64),
        (rows.float(), torch.Tensor, torch.float32),
    ):
        model = L4DictionaryLearning().fit(X)
        codes = model.transform(X)
        for value in (model.components_, codes, model.inverse_transform(codes)):
            assert isinstance(value, kind)
            assert value.dtype == dtype
        worst = recovery(torch.as_tensor(model.components_), atoms).worst
        assert worst < (1e-8 if dtype in (np.float64, torch.float64) else 1e-3)


def test_fewer_components_are_those_of_the_principal_directions():
    rows, atoms, _ = data(3000, 6)
    lifted = torch.cat([rows, torch.zeros(3000, 4).double()], 1) @ haar_columns(10, 10, seed=3)
    noisy = lifted + 1e-4 * normal(3000, 10, seed=5)
    model = L4DictionaryLearning(6).fit(noisy)
    truth = torch.cat([atoms, torch.zeros(6, 4).double()], 1) @ haar_columns(10, 10, seed=3)
    assert recovery(model.components_, truth).worst < 0.01
    # Without a number, the span of exact data decides.
    assert L4DictionaryLearning().fit(lifted).components_.shape == (6, 10)


def test_noise_is_measured_and_codes_within_it_are_zero():
    frame = haar_columns(20, 20, seed=0).T
    rows = sparse_codes((5000, 20), 0.1, seed=1) @ frame + 0.05 * normal(5000, 20, seed=2)
    model = L4DictionaryLearning().fit(rows)
    assert torch.allclose(model.noise_, torch.full((20,), 0.055).double(), rtol=0.25)
    # The standard error of a known code's atom is 0.05 (20 / 500)^(1/2) = 0.01.
    assert recovery(model.components_, frame).worst < 0.03
    assert 0.05 < (model.transform(rows) != 0).double().mean() < 0.12


def test_codes_in_an_ill_conditioned_dictionary_do_not_drown_in_amplified_noise():
    atoms = torch.nn.functional.normalize(normal(20, 20, seed=4), dim=1)
    codes = sparse_codes((4000, 20), 0.1, seed=1)
    model = L4DictionaryLearning().fit(codes @ atoms + 0.02 * normal(4000, 20, seed=2))
    cosines = model.components_ @ atoms.T
    place = cosines.abs().argmax(1)
    truth = codes[:, place] * torch.sign(cosines.gather(1, place[:, None]))[:, 0]
    error = float((model.transform(codes @ atoms) - truth).norm() / truth.norm())
    # Least squares on all atoms would multiply the noise by up to |A^-1|, here above 5.
    assert float(torch.linalg.inv(atoms).norm(dim=0).max()) > 5
    assert error < 0.1


def test_batches_recover_what_one_fit_does_and_go_on_improving_with_noise():
    frame = haar_columns(10, 10, seed=0).T
    clean = sparse_codes((8000, 10), 0.1, seed=1) @ frame
    exact = L4DictionaryLearning()
    for batch in clean.split(500):
        exact.partial_fit(batch)
    assert recovery(exact.components_, frame).worst < 1e-8
    noisy = clean + 0.1 * normal(8000, 10, seed=2)
    model, errors = L4DictionaryLearning(), []
    for batch in noisy.split(500):
        errors.append(recovery(model.partial_fit(batch).components_, frame).errors.square().mean().sqrt())
    # From the full pool of 2000 on to 8000 samples: half the error, with some room for the bias of thresholds.
    assert errors[-1] < 0.8 * errors[3]
    assert not hasattr(model.fit(noisy), "_stream")


def test_an_overcomplete_dictionary_is_learned_and_codes_explain_the_samples():
    atoms = unit_norm_tight_frame(24, 16)
    rows = sparse_codes((15_000, 24), 0.08, seed=2) @ atoms
    model = L4DictionaryLearning(24).fit(rows)
    assert model.solution_.status.converged
    assert recovery(model.components_, atoms).worst < 1e-3
    energy = float(rows.square().mean())
    assert -model.score(rows[:500]) < 1e-3 * energy
    assert (model.transform(rows[:500]) != 0).double().mean() < 0.25


def test_seeds_reproduce_and_clones_keep_arguments():
    rows, _, _ = data(800, 8)
    model = L4DictionaryLearning(8, seed=3, order=4)
    again = clone(model)
    assert again.get_params() == model.get_params()
    assert torch.equal(model.fit(rows).components_, again.fit(rows).components_)
    piped = make_pipeline(FunctionTransformer(), L4DictionaryLearning())
    assert piped.fit_transform(rows.numpy()).shape == (800, 8)


def test_progress_goes_to_the_error_stream_and_only_if_asked_for(capsys):
    rows, _, _ = data(300, 5, 0.2)
    L4DictionaryLearning().fit(rows)
    assert capsys.readouterr() == ("", "")
    L4DictionaryLearning(verbose=True).fit(rows)
    out, err = capsys.readouterr()
    assert out == ""
    assert "dictionary" in err


def test_dense_codes_are_warned_of_with_the_measured_kurtosis():
    rows = normal(3000, 5)
    with pytest.warns(ConvergenceWarning, match=r"kurtosis (2\.9|3\.[0-3])"):
        model = L4DictionaryLearning().fit(rows)
    assert "kurtosis" in model.solution_.status.message
    sparse, _, _ = data(1000, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        L4DictionaryLearning().fit(sparse)


@pytest.mark.parametrize(
    ("X", "error", "match"),
    [
        (torch.zeros(20, 3), DegenerateError, "zero"),
        (torch.full((20, 3), float("nan")), InputError, "NaN"),
        (torch.zeros(20, 3, dtype=torch.complex64), InputError, "real"),
        (torch.randn(3), InputError, "shape"),
        (torch.randn(1, 3), InputError, "samples"),
    ],
)
def test_data_that_cannot_be_learned_from_are_refused(X, error, match):
    with pytest.raises(error, match=match):
        L4DictionaryLearning().fit(X)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"n_components": 0}, "n_components"),
        ({"n_components": 400}, "as many samples"),
        ({"method": "newton"}, "method"),
        ({"order": 5}, "order"),
        ({"finish": "exact"}, "finish"),
        ({"max_iter": 0}, "max_iterations"),
        ({"tol": 0.0}, "tolerance"),
    ],
)
def test_arguments_that_are_none_are_refused(options, match):
    rows, _, _ = data(300, 5, 0.2)
    with pytest.raises(InputError, match=match):
        L4DictionaryLearning(**options).fit(rows)


def test_constant_data_integers_and_other_widths():
    with pytest.raises(DegenerateError, match="span"):
        L4DictionaryLearning(3).fit(torch.ones(20, 3))
    integers = (10 * data(1000, 4, 0.3)[0]).round().int()
    assert L4DictionaryLearning().fit(integers).components_.dtype == torch.float32
    model = L4DictionaryLearning().fit(data(500, 5)[0])
    with pytest.raises(InputError, match="features"):
        model.transform(torch.randn(3, 4))
    with pytest.raises(InputError, match="codes"):
        model.inverse_transform(torch.randn(3, 4))
    with pytest.raises(InputError, match="partial_fit"):
        L4DictionaryLearning(8).partial_fit(torch.randn(50, 5))
