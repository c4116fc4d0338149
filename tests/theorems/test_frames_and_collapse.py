"""What the theory says of exact frames: zeros, closed forms, and a floor that nothing undercuts."""

from __future__ import annotations

import math

import pytest
import torch

from tightframe.collapse.decision import bias_collapse, disagreement
from tightframe.collapse.duality import class_cosines, class_products, duality_distance, duality_gram
from tightframe.collapse.means import CentredMeans
from tightframe.collapse.pairs import class_pairs, row_pairs
from tightframe.collapse.separation import fit_separation
from tightframe.collapse.simplex import classifier_distance, distance_floor, equinorm, feature_distance
from tightframe.collapse.spectrum import between_spectrum, effective_rank, variability_index
from tightframe.collapse.variability import nc1, nc1_wide, trace_ratio
from tightframe.features.moments import ClassMoments
from tightframe.geometry.frames import orthogonal_frame, simplex_etf

SIZES = [(3, 2), (4, 10), (10, 9), (10, 40)]


def moments_of(means, *, spread=0.0, repeats=1, offset=0.0):
    """Classes at `means`, each with samples at +-spread along every axis: S_W = spread^2/d I exactly."""
    classes, dimension = means.shape
    axes = torch.eye(dimension, dtype=torch.float64) * spread
    cloud = torch.cat([axes, -axes]) if spread else torch.zeros(repeats, dimension, dtype=torch.float64)
    features = (means[:, None] + cloud + offset).reshape(-1, dimension)
    labels = torch.arange(classes).repeat_interleave(len(cloud))
    moments = ClassMoments(classes)
    moments.update(features, labels)
    return moments, features, labels


@pytest.mark.parametrize(("classes", "dimension"), SIZES)
@pytest.mark.parametrize("offset", [0.0, 5.0])
@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e4])
def test_complete_collapse_onto_a_simplex_gives_zeros(classes, dimension, offset, scale):
    frame = scale * simplex_etf(classes, dimension, seed=1)
    moments, features, _ = moments_of(frame, repeats=5, offset=offset)
    means, weight = CentredMeans(moments), 2 * frame
    # Means near 5 carry 1e-15; relative to a frame of size `scale` that is 1e-15 * offset / scale.
    tiny = 1e-12 * (1 + offset / scale)
    assert nc1(moments) < tiny**2
    assert trace_ratio(moments) < tiny**2
    assert variability_index(means) < 1e-11
    assert feature_distance(means) < tiny
    assert classifier_distance(weight) < 1e-12
    assert duality_gram(means, weight) < tiny
    assert duality_distance(means, weight) < tiny
    assert float((class_cosines(means, weight) - 1).abs().max()) < tiny
    assert float(class_products(means, weight).std()) < tiny * scale**2
    assert equinorm(means.norms) < tiny
    assert bias_collapse(means, weight, -weight @ means.origin) < 1e-12 * scale * (1 + offset)
    bias = -weight @ means.origin
    assert disagreement(features, (features @ weight.T + bias).argmax(1), means) == 0
    for pairs in (class_pairs(means), row_pairs(weight)):
        assert pairs.cosine_std < tiny
        assert pairs.angle_error < tiny
        assert pairs.log_mean == pytest.approx(-0.5 * math.log(2 * classes / (classes - 1)), abs=tiny)
        assert pairs.log_variance < tiny
    assert class_pairs(means).cdnv < tiny**2


@pytest.mark.parametrize(("classes", "dimension"), SIZES)
@pytest.mark.parametrize("spread", [0.01, 0.5])
def test_a_simplex_with_isotropic_spread_has_closed_forms(classes, dimension, spread):
    # S_W = s^2/d I; S_B has K - 1 eigenvalues 1/(K-1); |mu_i - mu_j|^2 = 2K/(K-1); V = s^2.
    moments, features, labels = moments_of(simplex_etf(classes, dimension), spread=spread)
    means = CentredMeans(moments)
    s2, k = spread**2, classes
    assert nc1(moments, "lecture6") == pytest.approx((k - 1) ** 2 * s2 / dimension, rel=1e-11)
    assert nc1(moments) == pytest.approx((k - 1) ** 2 * s2 / dimension / k, rel=1e-11)
    assert nc1_wide(features, labels, classes=k) == pytest.approx((k - 1) ** 2 * s2 / dimension / k, rel=1e-11)
    assert trace_ratio(moments) == pytest.approx(s2, rel=1e-11)
    assert class_pairs(means).cdnv == pytest.approx(s2 * (k - 1) / (2 * k), rel=1e-11)
    assert class_pairs(means, exponent=2).cdnv == pytest.approx(s2 * ((k - 1) / (2 * k)) ** 2, rel=1e-11)
    noise = s2 / dimension * (k - 1)
    assert variability_index(means) == pytest.approx(noise / (1 + noise), abs=1e-11)
    assert effective_rank(between_spectrum(means)) == pytest.approx(k - 1, rel=1e-11)


@pytest.mark.parametrize(("classes", "dimension"), [(3, 3), (5, 8), (12, 40)])
def test_an_orthogonal_frame_is_a_simplex_about_its_mean(classes, dimension):
    frame, k = orthogonal_frame(classes, dimension, seed=2), classes
    means = CentredMeans(moments_of(frame, spread=0.1)[0])
    assert feature_distance(means, "of") < 1e-12
    assert feature_distance(means, "etf") < 1e-12
    assert torch.allclose(means.norms, torch.full((k,), math.sqrt((k - 1) / k), dtype=torch.float64), rtol=1e-12)
    assert class_pairs(means).cdnv == pytest.approx(0.01 / 2, rel=1e-11)
    assert duality_gram(means, frame, "of") < 1e-12
    assert duality_distance(means, frame, centred=False) < 1e-12
    # W W^T = I against (I - J/K)/sqrt(K-1): <I/sqrt(K), T> = sqrt((K-1)/K).
    assert classifier_distance(frame) == pytest.approx(math.sqrt(2 - 2 * math.sqrt((k - 1) / k)), rel=1e-10)
    assert classifier_distance(frame, centre=True) < 1e-12
    # A simplex about the origin is as far from orthogonal: <G, I> = K, |G| = K/sqrt(K-1).
    simplex = CentredMeans(moments_of(simplex_etf(classes, dimension))[0])
    assert feature_distance(simplex, "of") == pytest.approx(math.sqrt(2 - 2 * math.sqrt((k - 1) / k)), rel=1e-10)


def harmonic_frame(classes, dimension):
    """A unit-norm tight frame whose rows sum to zero: cosines and sines of frequencies 1 .. d/2 at K points."""
    angle = 2 * math.pi * torch.arange(classes, dtype=torch.float64)[:, None] / classes
    frequencies = torch.arange(1, dimension // 2 + 1, dtype=torch.float64)
    return torch.cat([(angle * frequencies).cos(), (angle * frequencies).sin()], dim=1) / math.sqrt(dimension // 2)


@pytest.mark.parametrize(("classes", "dimension"), [(4, 2), (7, 2), (9, 4), (30, 6), (101, 20)])
def test_tight_frames_attain_the_floor(classes, dimension):
    frame = harmonic_frame(classes, dimension)
    assert torch.allclose(frame.T @ frame, classes / dimension * torch.eye(dimension, dtype=torch.float64), atol=1e-11)
    means = CentredMeans(moments_of(frame)[0])
    floor = distance_floor(classes, dimension)
    assert floor > 0
    assert feature_distance(means) == pytest.approx(floor, rel=1e-11)
    assert classifier_distance(frame) == pytest.approx(floor, rel=1e-11)
    assert duality_gram(means, frame) == pytest.approx(floor, rel=1e-11)
    assert feature_distance(means, "of") == pytest.approx(distance_floor(classes, dimension, "of"), rel=1e-11)


@pytest.mark.parametrize(("classes", "dimension"), [(4, 2), (9, 4), (30, 6)])
def test_no_frame_undercuts_the_floor(classes, dimension):
    # Random frames, and small turns away from the frame that attains it.
    draw = torch.Generator().manual_seed(3)
    for trial in range(60):
        noise = torch.randn(classes, dimension, dtype=torch.float64, generator=draw)
        rows = noise if trial % 2 else harmonic_frame(classes, dimension) + 10 ** (-trial / 12) * noise
        means = CentredMeans(moments_of(rows)[0])
        weight = torch.randn(classes, dimension, dtype=torch.float64, generator=draw)
        for target in ("etf", "of"):
            floor = distance_floor(classes, dimension, target) - 1e-12
            assert feature_distance(means, target) >= floor
            assert duality_gram(means, weight, target) >= floor
        assert classifier_distance(weight) >= distance_floor(classes, dimension) - 1e-12


def test_the_floor_vanishes_exactly_where_the_simplex_fits():
    for dimension in range(1, 12):
        assert distance_floor(dimension + 1, dimension) == 0
        assert distance_floor(dimension + 2, dimension) > 0
        assert distance_floor(dimension, dimension, "of") == 0 if dimension > 1 else True
        assert distance_floor(dimension + 1, dimension, "of") > 0


@pytest.mark.parametrize(("rho", "layers"), [(0.5, 6), (0.9, 20)])
def test_shrinking_the_spread_layer_by_layer_is_a_straight_line(rho, layers):
    frame = simplex_etf(5, 8)
    values = [trace_ratio(moments_of(frame, spread=rho ** (depth / 2))[0]) for depth in range(layers)]
    fit = fit_separation(values)
    assert fit.decay_ratio == pytest.approx(rho, rel=1e-10)
    assert fit.r_squared == pytest.approx(1, abs=1e-12)
