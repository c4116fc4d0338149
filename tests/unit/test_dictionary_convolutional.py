"""The estimator: conventions, recovery, the online mode, and its statistics against dense least squares."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator

from tightframe.core.errors import DegenerateError, InputError
from tightframe.core.rng import generator
from tightframe.data.sparse import sparse_codes
from tightframe.dictionary.convolutional.convolution import Convolution
from tightframe.dictionary.convolutional.convolutional import ConvolutionalDictionaryLearning
from tightframe.dictionary.convolutional.descent import unit_kernels
from tightframe.dictionary.convolutional.online import KernelStatistics, lag_correlations, pieces
from tightframe.dictionary.convolutional.shifts import match_kernels
from tightframe.dictionary.convolutional.starts import data_windows, first_kernels, window_energies

BORDERS = ["circular", "zero", "valid"]


def draw(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=generator(seed))


def made(shape, size, *, count=2, channels=1, samples=1, density=0.02, noise=0.01, boundary="circular", seed=0):
    kernels = unit_kernels(draw(count, channels, *size, seed=100 + seed))
    operator = Convolution(shape, size, boundary=boundary, dtype=torch.float64)
    maps = sparse_codes((samples, count, *operator.map_shape), density, seed=200 + seed)
    signals = operator.synthesize(kernels, maps)
    return signals + noise * draw(*signals.shape, seed=300 + seed), kernels


def least_similarity(components, kernels):
    components = torch.as_tensor(components).double()
    components = components if components.ndim == kernels.ndim else components.unsqueeze(1)
    return float(match_kernels(components, kernels).similarity.min())


@pytest.mark.parametrize("boundary", BORDERS)
@pytest.mark.parametrize("lift", [True, False])
def test_codes_of_the_fit_are_those_of_transform(boundary, lift):
    """The refit ends where the maps are optimal for the kernels: the convex problem has the same objective."""
    signals, kernels = made((300,), (12,), boundary=boundary)
    model = ConvolutionalDictionaryLearning(
        2, 12, boundary=boundary, lift=lift, tolerance=1e-6, coding_tolerance=1e-7, max_iter=3000
    )
    codes = model.fit(signals[:, 0]).transform(signals[:, 0])
    assert codes.shape == model.codes_.shape == (1, 2, *Convolution((300,), (12,), boundary=boundary).map_shape)
    assert model.encode(signals).objective == pytest.approx(model.solution_.objective, rel=1e-4)
    back = model.inverse_transform(codes)
    assert back.shape == (1, 300)
    assert (back - signals[:, 0]).norm() < 0.2 * signals.norm()
    if lift:
        assert least_similarity(model.components_, kernels) > 0.99


def test_arrays_give_arrays_and_tensors_tensors():
    signals, _ = made((120,), (6,))
    rows = signals[:, 0]
    options = {"n_components": 2, "kernel_size": 6, "max_iter": 50}
    for given, kind, dtype in (
        (rows, torch.Tensor, torch.float64),
        (rows.float(), torch.Tensor, torch.float32),
        (rows.numpy(), np.ndarray, np.float64),
        (rows.float().numpy(), np.ndarray, np.float32),
        ((1000 * rows).to(torch.int16).numpy(), np.ndarray, np.float32),
    ):
        model = ConvolutionalDictionaryLearning(**options).fit(given)
        for value in (model.components_, model.codes_, model.bias_, model.transform(given)):
            assert isinstance(value, kind)
            assert value.dtype == dtype
        assert isinstance(model.inverse_transform(model.codes_), kind)
    assert model.transform(rows).dtype == torch.float64  # the kind of what is transformed


def test_estimator_conventions():
    model = ConvolutionalDictionaryLearning(3, (4, 5), alpha=0.1, seed=7)
    assert clone(model).get_params() == model.get_params()
    signals, _ = made((20, 24), (4, 5), count=3)
    model.max_iter = 30
    fitted = make_pipeline(FunctionTransformer(lambda X: X - X.mean()), model).fit(signals[:, 0].numpy())
    assert fitted.transform(signals[:, 0].numpy()).shape == (1, 3, 20, 24)
    again = clone(model).fit(signals[:, 0].numpy() - signals[:, 0].numpy().mean())
    assert np.array_equal(again.components_, model.components_)
    assert model.alpha_ == 0.1


def test_scikit_learn_checks():
    """Rows are signals of one axis. Lengths may differ from call to call: there is no number of features; errors have
    this library's words; and sparse matrices are no signals."""
    reasons = {
        "check_n_features_in": "signals of any length can be transformed",
        "check_n_features_in_after_fitting": "signals of any length can be transformed",
        "check_transformer_general": "signals of any length can be transformed",
        "check_estimator_sparse_tag": "sparse matrices are no signals",
        "check_estimator_sparse_array": "sparse matrices are no signals",
        "check_estimator_sparse_matrix": "sparse matrices are no signals",
        "check_complex_data": "the message has this library's words",
        "check_dtype_object": "the message has this library's words",
        "check_estimators_empty_data_messages": "the message has this library's words",
        "check_fit2d_predict1d": "the message has this library's words",
        "check_fit2d_1feature": "a signal of one point does not vary",
        "check_readonly_memmap_input": "torch warns of memory that it must not write to, and nothing writes to it",
    }
    results = check_estimator(
        ConvolutionalDictionaryLearning(1, 1, max_iter=10), expected_failed_checks=reasons, on_fail=None, on_skip=None
    )
    failed = {result["check_name"]: result["exception"] for result in results if result["status"] == "failed"}
    assert not failed
    assert sum(result["status"] == "passed" for result in results) >= 30


@pytest.mark.parametrize("seed", range(3))
def test_defaults_recover_kernels_in_images(seed):
    signals, kernels = made((72, 72), (7, 7), count=4, density=0.004, seed=seed)
    model = ConvolutionalDictionaryLearning(4, (7, 7), seed=seed).fit(signals.float()[:, 0])
    assert model.solution_.status.converged
    assert least_similarity(model.components_, kernels) > 0.99
    assert 0 < model.alpha_ < float(signals.abs().max())


def test_channels_and_rank_one():
    left, right = unit_kernels(draw(2, 3, 1)), unit_kernels(draw(2, 1, 10, seed=1))
    operator = Convolution((500,), (10,), dtype=torch.float64)
    signals = operator.synthesize(left * right, sparse_codes((2, 2, 500), 0.02, seed=2))
    model = ConvolutionalDictionaryLearning(2, 10, rank1=True, bias=True).fit(signals + 3)
    assert model.components_.shape == (2, 3, 10)
    assert bool((torch.linalg.svdvals(model.components_)[:, 1:] < 1e-12).all())
    assert least_similarity(model.components_, left * right) > 0.99
    assert torch.allclose(model.bias_, torch.full((2, 3), 3.0, dtype=torch.float64), atol=0.05)
    assert model.inverse_transform(model.codes_).shape == (2, 3, 500)
    with pytest.raises(InputError, match="3 channels"):
        model.transform(signals[:, :2])


def test_positive_codes():
    signals, _ = made((300,), (8,), count=1)
    model = ConvolutionalDictionaryLearning(1, 8, positive=True).fit(signals)
    assert bool((model.codes_ >= 0).all())
    assert bool((model.transform(signals) >= 0).all())
    assert model.codes_.any()


def test_batches_learn_what_all_at_once_does():
    signals, kernels = made((40, 40), (6, 6), samples=8, density=0.006, count=3, boundary="zero")
    options = {"n_components": 3, "kernel_size": (6, 6), "boundary": "zero", "alpha": 0.05}
    online = ConvolutionalDictionaryLearning(batch_size=2, **options).fit(signals.float()[:, 0])
    assert not hasattr(online, "codes_")
    assert least_similarity(online.components_, kernels) > 0.995
    first = ConvolutionalDictionaryLearning(**options).fit(signals[:2].float())
    assert least_similarity(online.components_, kernels) > least_similarity(first.components_, kernels)
    parts = ConvolutionalDictionaryLearning(**options)
    for batch in signals.float()[:, 0].split(2):
        parts.partial_fit(batch)
    assert least_similarity(parts.components_, kernels) > 0.995


def test_partial_fit_goes_on_from_a_fit():
    signals, _ = made((200,), (8,), samples=2)
    model = ConvolutionalDictionaryLearning(2, 8, alpha=0.05).fit(signals[:1])
    before = model.components_.clone()
    model.partial_fit(signals[1:])
    assert torch.allclose(model.components_, before, atol=0.05)
    assert not torch.equal(model.components_, before)


def test_long_recordings_are_cut_into_pieces():
    signals, kernels = made((6000,), (15,), density=0.01)
    model = ConvolutionalDictionaryLearning(2, 15, batch_size=4, chunk_size=500, alpha=0.05).fit(signals[:, 0])
    assert least_similarity(model.components_, kernels) > 0.99
    assert model.transform(signals[:, 0]).shape == (1, 2, 6000)


def test_pieces_cover_the_signal():
    signals = torch.arange(2 * 11 * 7.0).view(1, 2, 11, 7)
    cut = pieces(signals, (4, 5), (2, 2))
    assert cut.shape == (6, 2, 4, 5)
    assert set(cut[:, 0].flatten().tolist()) == set(signals[:, 0].flatten().tolist())
    assert torch.equal(pieces(signals, 50, (2, 2)), signals)
    with pytest.raises(InputError, match="chunk_size"):
        pieces(signals, 1, (2, 2))


# -- statistics of the online mode -------------------------------------------------------------------------------------


@pytest.mark.parametrize("boundary", BORDERS)
@pytest.mark.parametrize(("shape", "size"), [((9,), (4,)), ((5,), (4,)), ((12, 11), (3, 4))])
def test_statistics_are_the_quadratic_of_the_batch(shape, size, boundary):
    """For borders that keep whole events, the data term as a function of the kernels, up to its constant; where the
    border cuts events, an upper bound that touches it at the kernels of the time."""
    operator = Convolution(shape, size, boundary=boundary, dtype=torch.float64)
    kernels, maps = unit_kernels(draw(2, 3, *size)), draw(2, 2, *operator.map_shape, seed=1)
    signals, bias = draw(2, 3, *shape, seed=2), draw(2, 3, seed=3)
    statistics = KernelStatistics(kernels)
    statistics.improve = lambda: None
    statistics.add(operator, signals, maps, bias)

    def data(a):
        model = operator.synthesize(a, maps) + bias.view(*bias.shape, *[1] * len(shape))
        return 0.5 * float((signals - model).square().sum())

    def quadratic(a):
        return statistics._value(a)

    offset = data(kernels) - quadratic(kernels)
    for seed in range(5):
        other = kernels + 0.3 * draw(*kernels.shape, seed=10 + seed)
        excess = quadratic(other) + offset - data(other)
        assert excess > -1e-9
        assert boundary == "zero" or excess < 1e-9
    # Touching means that slopes agree too.
    way, h = draw(*kernels.shape, seed=20), 1e-5
    slopes = [(f(kernels + h * way) - f(kernels - h * way)) / (2 * h) for f in (data, quadratic)]
    assert slopes[0] == pytest.approx(slopes[1], rel=1e-6)


def test_lags_are_their_definition():
    maps = draw(2, 2, 7)
    found = lag_correlations(maps, (3,), wrapped=False)
    for j in range(-2, 3):
        for k in range(2):
            for other in range(2):
                total = sum(
                    float(maps[n, k, i] * maps[n, other, i + j]) for n in range(2) for i in range(7) if 0 <= i + j < 7
                )
                assert float(found[k, other, j + 2]) == pytest.approx(total, abs=1e-12)


def test_improvement_descends_and_forgetting_weighs():
    operator = Convolution((50,), (6,), dtype=torch.float64)
    kernels, truth = unit_kernels(draw(2, 1, 6)), unit_kernels(draw(2, 1, 6, seed=1))
    maps = sparse_codes((3, 2, 50), 0.2, seed=2)
    signals, bias = operator.synthesize(truth, maps), torch.zeros(3, 1, dtype=torch.float64)
    statistics = KernelStatistics(kernels)
    statistics.add(operator, signals, maps, bias)
    for _ in range(30):
        before = statistics._value(statistics.kernels)
        statistics.improve()
        assert statistics._value(statistics.kernels) <= before
    assert torch.allclose(statistics.kernels, truth, atol=1e-6)
    light = KernelStatistics(kernels, forgetting=0.5)
    light.add(operator, signals, maps, bias)
    once = light.correlations.clone()
    light.add(operator, 0 * signals, 0 * maps, bias)
    assert torch.allclose(light.correlations, 0.5 * once)


# -- starts ------------------------------------------------------------------------------------------------------------


def test_windows_are_of_the_data_where_there_is_something():
    signals = torch.zeros(2, 1, 200, dtype=torch.float64)
    signals[1, 0, 90:96] = draw(6) + 2
    kernels = data_windows(signals, 20, (6,), seed=3)
    assert torch.allclose(kernels.flatten(1).norm(dim=1), torch.ones(20, dtype=torch.float64))
    centered = signals - signals.mean(2, keepdim=True)
    windows = centered.unfold(2, 6, 1).reshape(-1, 6)
    windows = windows / windows.norm(dim=1, keepdim=True)
    nearest = (kernels.flatten(1) @ windows[195:].T).max(1)
    assert bool((nearest.values > 1 - 1e-12).all())
    assert bool(((nearest.indices > 84) & (nearest.indices < 96)).all())
    assert torch.equal(kernels, data_windows(signals, 20, (6,), seed=3))
    assert not torch.equal(kernels, data_windows(signals, 20, (6,), seed=4))


def test_window_energies_are_sums():
    values = draw(2, 6, 7)
    expected = values.unfold(1, 3, 1).unfold(2, 2, 1).sum((-1, -2))
    assert torch.allclose(window_energies(values, (3, 2)), expected, atol=1e-13)


def test_starts_may_be_given():
    signals, kernels = made((100,), (6,))
    options = {"count": 2, "size": (6,)}
    assert torch.equal(first_kernels(kernels.numpy(), signals, **options), kernels)
    assert torch.equal(first_kernels(kernels[:, 0], signals, **options), kernels)
    model = ConvolutionalDictionaryLearning(2, 6, start=kernels.numpy(), alpha=0.05, lift=False).fit(signals)
    assert least_similarity(model.components_, kernels) > 0.999
    noise = first_kernels("random", signals, **options)
    assert torch.allclose(noise.flatten(1).norm(dim=1), torch.ones(2, dtype=torch.float64))
    with pytest.raises(InputError, match="start of shape"):
        first_kernels(kernels[:1], signals, **options)
    with pytest.raises(InputError, match="'windows', 'random'"):
        first_kernels("zeros", signals, **options)


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("signals", "change", "message"),
    [
        (torch.full((1, 30), torch.nan), {}, "finite"),
        (torch.zeros(1, 30, dtype=torch.complex64), {}, "real values"),
        (torch.zeros(30), {}, "signals of shape"),
        (np.array([["a", "b"]]), {}, "array of numbers"),
        (draw(1, 4), {}, "no longer than the signals"),
        (draw(1, 30), {"kernel_size": 0}, "kernel_size"),
        (draw(1, 30), {"n_components": 0}, "n_components"),
        (draw(1, 30), {"alpha": -1.0}, "penalty above zero"),
        (draw(1, 30), {"alpha_ratio": 1.5}, "alpha_ratio"),
        (draw(1, 30), {"boundary": "mirror"}, "circular, zero, valid"),
        (draw(1, 30), {"batch_size": 0}, "batch_size"),
        (draw(1, 30), {"batch_size": 1, "forgetting": 0.0}, "forgetting"),
    ],
)
def test_bad_input_is_refused(signals, change, message):
    with pytest.raises(InputError, match=message):
        ConvolutionalDictionaryLearning(**{"n_components": 1, "kernel_size": 5, **change}).fit(signals)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e6])
def test_constant_data_are_refused(constant):
    with pytest.raises(DegenerateError, match="vary"):
        ConvolutionalDictionaryLearning(1, 5).fit(torch.full((2, 101), constant))


def test_maps_of_other_kernels_are_refused():
    signals, _ = made((60,), (5,))
    model = ConvolutionalDictionaryLearning(2, 5, max_iter=5).fit(signals)
    with pytest.raises(InputError, match="maps of 2 kernels"):
        model.inverse_transform(torch.zeros(1, 3, 60))


def test_progress_goes_to_stderr_only_when_asked(capsys):
    signals, _ = made((60,), (5,))
    ConvolutionalDictionaryLearning(1, 5, max_iter=5).fit(signals)
    assert capsys.readouterr().err == ""
    ConvolutionalDictionaryLearning(1, 5, max_iter=5, verbose=True).fit(signals)
    captured = capsys.readouterr()
    assert "budget spent" in captured.err
    assert captured.out == ""
