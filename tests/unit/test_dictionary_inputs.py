"""What people pass to the estimators: numbers of NumPy, nested lists, small batches, wrong units, hopeless data."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning

from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.data.sparse import sparse_codes
from tightframe.dictionary import (
    ConvolutionalDictionaryLearning,
    L4DictionaryLearning,
    MultichannelBlindDeconvolution,
    ShortAndSparseDeconvolution,
    denoise,
)
from tightframe.dictionary.arrays import axis_sizes, read_signals
from tightframe.dictionary.linear.learning import overcomplete_dictionary
from tightframe.dictionary.linear.recovery import recovery


def _unit_rows(count, dimension, seed=0):
    atoms = torch.randn(count, dimension, generator=generator(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(atoms, dim=1)


def _trace(length=600):
    """Non-negative events through a rough kernel, with noise."""
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal(12)
    kernel /= np.linalg.norm(kernel)
    events = rng.random((1, length)) * (rng.random((1, length)) < 0.03)
    signal = np.fft.irfft(np.fft.rfft(kernel, n=length) * np.fft.rfft(events), n=length)
    return signal + 0.01 * rng.standard_normal((1, length)), kernel


def _motifs():
    maps = sparse_codes((2, 2, 200), 0.03, seed=1).numpy()
    shapes = np.random.default_rng(0).standard_normal((2, 7))
    return np.fft.irfft((np.fft.rfft(shapes, n=200) * np.fft.rfft(maps)).sum(1), n=200)


def test_a_kernel_that_is_no_transient_is_found_all_the_same():
    # The likelihood of two exponentials was looked for where their logarithms overflow.
    signal, kernel = _trace()
    for scale in (1.0, 1e-100, 1e100):
        model = ShortAndSparseDeconvolution(12).fit(scale * signal)
        padded = np.pad(model.kernel_, 11)
        assert max(abs(np.correlate(padded, kernel, "valid"))) > 0.999
        assert model.noise_[0] / scale == pytest.approx(0.01, rel=0.1)


def test_sizes_may_be_numbers_and_arrays_of_numpy():
    assert (
        axis_sizes(3) == axis_sizes(np.int64(3)) == axis_sizes(np.array([3])) == axis_sizes(torch.tensor([3])) == (3,)
    )
    assert axis_sizes((3, np.int32(4))) == axis_sizes([3, 4]) == (3, 4)
    signal, _ = _trace(200)
    first, second = (ShortAndSparseDeconvolution(size, n_starts=1).fit(signal) for size in (12, np.int64(12)))
    assert np.array_equal(first.kernel_, second.kernel_)
    models = [ConvolutionalDictionaryLearning(2, size, max_iter=20).fit(_motifs()) for size in (7, np.int64(7))]
    assert np.array_equal(models[0].components_, models[1].components_)


@pytest.mark.parametrize("size", [0, -1, 2.5, "a", True, None, (), (3, 0), np.zeros((2, 2), int)])
def test_sizes_that_are_none_are_refused_in_words(size):
    for model in (ShortAndSparseDeconvolution(size), ConvolutionalDictionaryLearning(2, size)):
        with pytest.raises(InputError, match="kernel_size, a positive integer"):
            model.fit(_motifs())


def test_nested_lists_with_channels_keep_them():
    signals = np.stack([_motifs(), 0.5 * _motifs()], axis=1)
    model = ConvolutionalDictionaryLearning(2, 7, max_iter=20).fit(signals.tolist())
    assert model.components_.shape == (2, 2, 7)
    assert np.allclose(model.components_, ConvolutionalDictionaryLearning(2, 7, max_iter=20).fit(signals).components_)
    rebuilt = model.inverse_transform(model.transform(signals.tolist()).tolist())
    assert rebuilt.shape == signals.shape


def test_values_whose_squares_overflow_are_refused_in_words():
    signal, _ = _trace(200)
    for model, data in (
        (L4DictionaryLearning(), 1e200 * np.random.default_rng(0).standard_normal((50, 4))),
        (ShortAndSparseDeconvolution(12), 1e200 * signal),
        (ConvolutionalDictionaryLearning(1, 5), (1e25 * signal).astype(np.float32)),
        (MultichannelBlindDeconvolution(), (1e25 * _motifs()).astype(np.float32)),
    ):
        with pytest.raises(InputError, match="sums of squares do not overflow"):
            model.fit(data)
    # Movies of sixteen bits are far from it.
    assert read_signals(np.full((100, 64, 64), 65535, np.uint16), 2)[0].dtype == torch.float32


def test_more_kernels_than_samples_dead_starts_and_no_iterations_are_refused():
    signals = _motifs()
    for options, words in (
        ({"n_components": 401}, "at most n_components = 400"),
        ({"start": np.zeros((2, 7))}, "kernels that are not zero"),
        ({"start": np.full((2, 7), np.nan)}, "finite kernels"),
        ({"max_iter": 0}, "max_iterations is an integer of at least 1"),
    ):
        with pytest.raises(InputError, match=words):
            ConvolutionalDictionaryLearning(**{"n_components": 2, "kernel_size": 7, **options}).fit(signals)


def test_small_batches_whose_first_does_not_span_the_space():
    atoms = _unit_rows(8, 8)
    rows = (sparse_codes((600, 8), 0.2, seed=1) @ atoms).numpy()
    model = L4DictionaryLearning()
    assert np.linalg.matrix_rank(rows[:6]) < 8
    for first in range(0, 600, 60):
        batch = rows[first : first + 60] if first else rows[:6]
        model.partial_fit(batch)
    assert recovery(torch.from_numpy(model.components_), atoms).worst < 1e-8


def test_columns_have_names():
    model = L4DictionaryLearning().fit((sparse_codes((300, 4), 0.2, seed=0) @ _unit_rows(4, 4)).numpy())
    names = [f"l4dictionarylearning{i}" for i in range(4)]
    assert list(model.get_feature_names_out()) == names
    table = model.set_output(transform="pandas").transform(np.eye(4))
    assert list(table.columns) == names


def test_codes_too_dense_are_called_so_with_their_kurtosis_whatever_the_outcome():
    def fitted(theta):
        rows = sparse_codes((3000, 8), theta, seed=3) @ _unit_rows(8, 8)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model = L4DictionaryLearning().fit(rows)
        told = [str(warning.message) for warning in caught if warning.category is ConvergenceWarning]
        return recovery(model.components_, _unit_rows(8, 8)).worst, model, told

    worst, _, told = fitted(0.2)
    assert worst < 1e-8
    assert told == []
    for theta in (0.6, 0.9):
        worst, model, told = fitted(theta)
        assert worst > 1e-3
        assert len(told) == 1
        assert f"kurtosis {model.kurtosis_:.2f}" in told[0]


def test_a_noise_below_zero_is_refused():
    for noise in (-1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="a noise of at least zero"):
            L4DictionaryLearning(noise=noise).fit(np.random.default_rng(0).standard_normal((50, 4)))


def test_more_atoms_than_dimensions_from_samples_of_which_most_are_empty():
    atoms = _unit_rows(12, 8)
    codes = sparse_codes((20_000, 12), 0.03, seed=1)
    rows = codes @ atoms
    assert (rows.abs().amax(1) == 0).double().mean() > 0.6
    found = overcomplete_dictionary(rows, 12)
    # As with the empty samples left out by hand.
    kept = overcomplete_dictionary(rows[rows.abs().amax(1) > 0], 12)
    assert found.status.outcome == kept.status.outcome
    # Among atoms this coherent the l1 norm takes one for another now and then; the others are exact.
    errors = recovery(found.atoms, atoms).errors
    assert errors.median() < 1e-6
    assert errors.max() < 0.01


def test_an_image_of_a_single_patch_is_denoised_and_no_samples_are_refused():
    noisy = 0.5 + 0.1 * torch.randn(8, 8, generator=generator(0))
    restored = denoise(noisy, noise=0.1)
    assert restored.image.shape == (8, 8)
    assert restored.image.std() < noisy.std()
    with pytest.raises(InputError, match="samples is an integer of at least 1"):
        denoise(noisy, noise=0.1, samples=0)
