"""Spectra, effective ranks and the variability collapse index against dense eigenproblems."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from definitions import TwoPass, gaussian_classes
from tightframe.collapse.means import CentredMeans
from tightframe.collapse.spectrum import (
    between_spectrum,
    effective_rank,
    participation_ratio,
    variability_index,
    within_spectrum,
)
from tightframe.core.errors import DegenerateError, InputError
from tightframe.features.moments import ClassMoments


def moments_of(features, labels, **options):
    moments = ClassMoments(int(labels.max()) + 1, **options)
    moments.update(features, labels)
    return moments


@pytest.mark.parametrize("counts", [[20] * 6, [40, 7, 12, 5, 30, 9]])
@pytest.mark.parametrize("dimension", [3, 5, 6, 20])
def test_spectra_are_those_of_the_dense_covariances(counts, dimension):
    features, labels = gaussian_classes(counts, dimension, seed=1, offset=2.0)
    moments, reference = moments_of(features, labels), TwoPass(features, labels)
    rank = min(5, dimension)
    between = np.linalg.eigvalsh(reference.between())[::-1][:rank]
    found = between_spectrum(CentredMeans(moments))
    assert found.shape == (rank,)
    assert np.allclose(found, between, rtol=1e-10, atol=1e-13)
    within = np.linalg.eigvalsh(reference.within())[::-1]
    assert np.allclose(within_spectrum(moments), within, rtol=1e-10)
    assert participation_ratio(CentredMeans(moments)) == pytest.approx(within.sum() ** 2 / (within**2).sum(), rel=1e-11)


def test_spectra_are_never_negative():
    # 4 classes of 2 samples in 30 dimensions: 26 within eigenvalues are zero up to rounding.
    moments = moments_of(*gaussian_classes([2] * 4, 30, seed=2))
    assert float(within_spectrum(moments).min()) == 0
    assert int((within_spectrum(moments) > 1e-12).sum()) == 4
    assert float(between_spectrum(CentredMeans(moments)).min()) > 0


@pytest.mark.parametrize("counts", [[20] * 6, [40, 7, 12, 5, 30, 9], [6] * 25])
@pytest.mark.parametrize("dimension", [4, 12])
def test_variability_index(counts, dimension):
    features, labels = gaussian_classes(counts, dimension, seed=3)
    expected = TwoPass(features, labels).vci()
    assert variability_index(CentredMeans(moments_of(features, labels))) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("seed", range(6))
def test_variability_index_where_the_total_covariance_is_singular(seed):
    # 6 classes of 3 samples in 40 dimensions, and dead and duplicated units.
    features, labels = gaussian_classes([3] * 6, 40, seed=seed, spread=1.0)
    features[:, 5] = 0.0
    features[:, 6] = features[:, 7]
    found = variability_index(CentredMeans(moments_of(features, labels)))
    # 18 samples span 17 dimensions, in which classes separate completely: S_T has rank 17, S_B 5 of them.
    assert found == pytest.approx(TwoPass(features, labels).vci(), abs=1e-9)


def test_variability_index_is_zero_at_collapse_and_near_one_without_separation():
    features, labels = gaussian_classes([50] * 4, 6, seed=4, spread=0.0)
    assert variability_index(CentredMeans(moments_of(features, labels))) < 1e-9
    noise = torch.randn(4000, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    assert variability_index(CentredMeans(moments_of(noise, torch.arange(4000) % 4))) > 0.99


def test_effective_rank():
    assert effective_rank(torch.ones(7)) == pytest.approx(7, rel=1e-12)
    assert effective_rank(torch.tensor([3.0, 0.0, 0.0])) == pytest.approx(1, rel=1e-12)
    share = np.array([0.5, 0.3, 0.2])
    assert effective_rank(torch.from_numpy(9 * share)) == pytest.approx(math.exp(-(share * np.log(share)).sum()))


def test_what_has_no_rank():
    with pytest.raises(InputError, match=r"non-negative eigenvalues; got -1.0"):
        effective_rank(torch.tensor([1.0, -1.0]))
    for wrong in (torch.zeros(3), torch.tensor([1.0, torch.inf]), torch.tensor([1.0, torch.nan]), torch.ones(0)):
        with pytest.raises(DegenerateError, match="finite covariance above zero"):
            effective_rank(wrong)


def test_features_that_do_not_vary():
    collapsed = moments_of(torch.eye(3, dtype=torch.float64), torch.arange(3))
    with pytest.raises(DegenerateError, match="vary within classes"):
        participation_ratio(CentredMeans(collapsed))
    with pytest.raises(DegenerateError, match="features that vary; got a constant"):
        variability_index(CentredMeans(moments_of(torch.ones(6, 2), torch.arange(6) % 3)))


@pytest.mark.parametrize(
    "measure", [within_spectrum, participation_ratio, lambda m: variability_index(CentredMeans(m))]
)
def test_trace_mode_has_no_spectrum(measure):
    with pytest.raises(InputError, match='mode="trace"'):
        measure(moments_of(*gaussian_classes([5] * 3, 4, seed=6), mode="trace"))


@pytest.mark.parametrize("value", [0.0, 0.7, 1e6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_features_that_do_not_vary_have_neither_rank_nor_index(value, dtype):
    moments = ClassMoments(3)
    for rows in (7, 64, 19):
        moments.update(torch.full((rows, 5), value, dtype=dtype), torch.arange(rows) % 3)
    with pytest.raises(DegenerateError, match="vary"):
        participation_ratio(CentredMeans(moments))
    with pytest.raises(DegenerateError, match="vary"):
        variability_index(CentredMeans(moments))
