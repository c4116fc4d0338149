"""Multichannel blind deconvolution: exact recovery, its parts by their definitions, and the estimator."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline

from tightframe.core.errors import DegenerateError, InputError
from tightframe.core.rng import generator
from tightframe.data.sparse import sparse_codes
from tightframe.dictionary.blind.deconvolution import MultichannelBlindDeconvolution
from tightframe.dictionary.blind.multichannel import _Channels, deconvolve_channels


def _circular(kernel, codes):
    axes = tuple(range(1, codes.ndim))
    spectra = torch.fft.fftn(codes, dim=axes) * torch.fft.fftn(kernel)
    return torch.fft.ifftn(spectra, dim=axes).real


def _problem(channels, shape, density, seed=0, **options):
    kernel = torch.randn(shape, generator=generator(seed + 100), dtype=torch.float64)
    kernel /= torch.linalg.vector_norm(kernel)
    codes = sparse_codes((channels, *shape), density, seed=seed, **options)
    return kernel, codes, _circular(kernel, codes)


def _error(found, kernel):
    """Least distance over all circular shifts and both signs, by trying them."""
    shifts = np.ndindex(*kernel.shape)
    axes = tuple(range(kernel.ndim))
    moved = torch.stack([found.roll(shift, axes) for shift in shifts]).flatten(1)
    flat = kernel.flatten()
    return float(torch.minimum((moved - flat).norm(dim=1), (moved + flat).norm(dim=1)).min())


@pytest.mark.parametrize(
    ("channels", "shape", "density"),
    [
        (40, (200,), 0.25),
        (50, (200,), 0.1),
        (50, (201,), 0.3),
        (100, (10, 10), 0.2),
        (60, (9, 8), 0.2),
        (60, (4, 5, 6), 0.2),
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_recovery_is_exact(channels, shape, density, seed):
    kernel, codes, signals = _problem(channels, shape, density, seed)
    found = deconvolve_channels(signals, seed=seed)
    assert _error(found.kernel, kernel) < 1e-9
    assert found.status.converged
    assert found.certificate.holds
    # Up to one shift and sign the activations are those that made the signals: as many, and as large.
    sizes = found.activations.abs().flatten().sort().values
    torch.testing.assert_close(sizes, codes.abs().flatten().sort().values, rtol=0, atol=1e-8)
    torch.testing.assert_close(_circular(found.kernel, found.activations), signals, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("loss", "channels"), [("l1", 60), ("l3", 60), ("l4", 200)])
def test_the_other_losses_need_more_channels(loss, channels):
    kernel, _, signals = _problem(channels, (100,), 0.2, 3)
    assert _error(deconvolve_channels(signals, loss=loss).kernel, kernel) < 1e-9


def test_without_rounding_the_bias_of_the_smooth_loss_is_left():
    kernel, _, signals = _problem(60, (100,), 0.2)
    smooth = deconvolve_channels(signals, rounding=0, mu=0.5)
    assert 1e-4 < _error(smooth.kernel, kernel) < 0.5
    assert smooth.certificate is None


def test_signs_of_activations_do_not_need_to_be_gaussian():
    kernel, _, signals = _problem(60, (100,), 0.2, values="rademacher")
    assert _error(deconvolve_channels(signals).kernel, kernel) < 1e-9


def test_canonical_kernel_and_equivariance():
    _, _, signals = _problem(40, (64,), 0.15)
    first = deconvolve_channels(signals)
    assert int(first.kernel.abs().argmax()) == 0
    assert float(first.kernel[0]) > 0
    assert float(first.kernel.norm()) == pytest.approx(1, abs=1e-12)
    moved = deconvolve_channels(-5 * signals.roll(7, 1))
    torch.testing.assert_close(moved.kernel, first.kernel, rtol=0, atol=1e-8)
    torch.testing.assert_close(moved.activations, -5 * first.activations.roll(7, 1), rtol=0, atol=1e-7)


@pytest.mark.parametrize("shape", [(12,), (4, 5)])
def test_products_are_transposes_and_whitening_is_flat(shape):
    _, _, signals = _problem(6, shape, 0.5)
    channels = _Channels(signals, "huber", 0.3)
    q, values = (torch.randn(s, generator=generator(1), dtype=torch.float64) for s in (shape, (6, *shape)))
    assert float((channels.apply(q) * values).sum()) == pytest.approx(float((q * channels.adjoint(values)).sum()))
    q = q / torch.linalg.vector_norm(q)
    assert float(channels.apply(q).square().mean()) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("mu", [0.05, 0.5])
def test_gradient_of_the_huber_loss(mu):
    _, _, signals = _problem(6, (16,), 0.4)
    channels = _Channels(signals, "huber", mu)
    q = torch.randn(16, generator=generator(2), dtype=torch.float64, requires_grad=True)
    values = channels.apply(q)
    level, slope = channels._huber(values)
    # F.huber_loss has a slope of delta in its linear part; ours has one, so it is divided by delta.
    expected = torch.nn.functional.huber_loss(values, torch.zeros_like(values), delta=mu) / mu + mu / 2
    assert float(level.detach()) == pytest.approx(float(expected.detach()), rel=1e-12)
    (wanted,) = torch.autograd.grad(expected, q)
    torch.testing.assert_close(channels.adjoint(slope.detach()) / values.numel(), wanted, rtol=1e-9, atol=1e-12)


def test_noise_moves_the_kernel_little():
    kernel, _, signals = _problem(80, (64,), 0.1)
    noise = torch.randn(signals.shape, generator=generator(9), dtype=torch.float64)
    # 0.2 would be the effect of noise as large as a tenth of the signals, amplified twofold; the sizes agree in order.
    assert _error(deconvolve_channels(signals + 0.01 * signals.std() * noise).kernel, kernel) < 0.2


def test_dense_inputs_warn_with_their_kurtosis():
    _, _, signals = _problem(60, (64,), 1.0)
    with pytest.warns(ConvergenceWarning, match=r"kurtosis [34]\.\d\d, where noise has 3"):
        found = deconvolve_channels(signals, n_starts=1)
    assert found.status.outcome == "stalled"


def test_a_frequency_without_power_is_left_out():
    kernel, _, signals = _problem(60, (64,), 0.1)
    signals = signals - signals.mean(1, keepdim=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = deconvolve_channels(signals)
    assert bool(torch.isfinite(found.kernel).all())
    assert abs(float(found.kernel.sum())) < 1e-9
    flat = kernel - kernel.mean()
    assert _error(found.kernel, flat / flat.norm()) < 0.05


def test_the_estimator_reads_and_returns_what_it_was_given():
    _, codes, signals = _problem(40, (64,), 0.1)
    model = MultichannelBlindDeconvolution().fit(signals.numpy())
    assert isinstance(model.kernel_, np.ndarray)
    assert model.components_.shape == (1, 64)
    np.testing.assert_allclose(model.transform(signals.numpy()), model.activations_, atol=1e-9)
    np.testing.assert_allclose(model.inverse_transform(model.activations_), signals.numpy(), atol=1e-8)
    single = MultichannelBlindDeconvolution().fit(signals.float())
    assert isinstance(single.kernel_, torch.Tensor)
    assert single.kernel_.dtype == torch.float32
    # Rounding in float32 is to about 1e-6 of each entry, times the condition of the kernel.
    np.testing.assert_allclose(single.kernel_.numpy(), model.kernel_, atol=1e-3)
    piped = make_pipeline(clone(model)).fit_transform(signals.numpy())
    np.testing.assert_allclose(piped, model.activations_, atol=1e-9)
    assert clone(model).get_params() == model.get_params()
    assert model.trace_["seconds"] == sorted(model.trace_["seconds"])
    assert int((np.abs(model.activations_) > 1e-6).sum()) == int(codes.count_nonzero())


def test_seeds_repeat():
    _, _, signals = _problem(10, (64,), 0.3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first, second = (deconvolve_channels(signals, seed=4, n_starts=2).kernel for _ in range(2))
    assert torch.equal(first, second)


def test_bad_input():
    signals = torch.randn(3, 16)
    with pytest.raises(InputError, match="ShortAndSparseDeconvolution"):
        deconvolve_channels(signals[:1])
    with pytest.raises(InputError, match="loss is one of"):
        deconvolve_channels(signals, loss="l2")
    with pytest.raises(InputError, match="mu above zero"):
        deconvolve_channels(signals, mu=0.0)
    with pytest.raises(InputError, match="n_starts"):
        deconvolve_channels(signals, n_starts=0)
    with pytest.raises(DegenerateError, match="zeros only"):
        deconvolve_channels(torch.zeros(3, 16))
    with pytest.raises(InputError, match="NaN"):
        MultichannelBlindDeconvolution().fit(torch.full((3, 16), float("nan")))
    _, _, good = _problem(40, (32,), 0.1)
    with pytest.raises(InputError, match="as fitted"):
        MultichannelBlindDeconvolution().fit(good).transform(torch.randn(2, 31))
