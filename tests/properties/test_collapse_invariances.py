"""What must not matter, for any data: order, splitting, numbering, rotation, translation, scale."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tightframe.collapse.means import CentredMeans
from tightframe.collapse.pairs import class_pairs
from tightframe.collapse.simplex import feature_distance
from tightframe.collapse.spectrum import variability_index
from tightframe.collapse.variability import nc1, nc1_wide, trace_ratio
from tightframe.features.moments import ClassMoments

settings.register_profile("invariances", max_examples=30, deadline=None, derandomize=True)
settings.load_profile("invariances")


@st.composite
def data(draw, most_classes=7, dimensions=(2, 9)):
    """Features (n, d) and labels of two or more samples per class, from a drawn seed."""
    seed = draw(st.integers(0, 2**31))
    counts = draw(st.lists(st.integers(2, 12), min_size=3, max_size=most_classes))
    dimension = draw(st.integers(*dimensions))
    source = torch.Generator().manual_seed(seed)
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    means = torch.randn(len(counts), dimension, dtype=torch.float64, generator=source)
    noise = torch.randn(len(labels), dimension, dtype=torch.float64, generator=source)
    return means[labels] + draw(st.sampled_from([0.01, 0.3, 2.0])) * noise, labels, source


def moments_of(features, labels, **options):
    moments = ClassMoments(int(labels.max()) + 1, **options)
    moments.update(features, labels)
    return moments


def measured(features, labels):
    moments = moments_of(features, labels)
    means = CentredMeans(moments)
    pairs = class_pairs(means)
    return {
        "NC1": nc1(moments),
        "NC1 anchor": nc1(moments, "anchor"),
        "D": trace_ratio(moments),
        "CDNV": pairs.cdnv,
        "uniformity": pairs.log_mean,
        "NC2": feature_distance(means),
        "VCI": variability_index(means),
    }


def assert_same(one, two, tolerance=1e-7):
    # NC1 and CDNV feel the condition of the random means, squared where K - 1 > d; 1e-7 leaves room for 1e4.
    for name, value in one.items():
        assert abs(two[name] - value) <= tolerance * max(abs(value), 1e-3), name


def rotation(dimension, source):
    return torch.linalg.qr(torch.randn(dimension, dimension, dtype=torch.float64, generator=source)).Q


def invertible(dimension, source):
    """A map of condition number 10."""
    stretch = torch.logspace(-0.5, 0.5, dimension, dtype=torch.float64)
    return rotation(dimension, source) * stretch @ rotation(dimension, source)


@given(data())
def test_rotation(sample):
    features, labels, source = sample
    assert_same(measured(features, labels), measured(features @ rotation(features.shape[1], source), labels))


@given(data(), st.floats(-1e3, 1e3))
def test_translation(sample, offset):
    features, labels, source = sample
    shift = offset * torch.randn(features.shape[1], dtype=torch.float64, generator=source)
    assert_same(measured(features, labels), measured(features + shift, labels))


@given(data(), st.floats(-6, 6))
def test_scaling(sample, exponent):
    features, labels, _ = sample
    assert_same(measured(features, labels), measured(10**exponent * features, labels))


@given(data(), st.floats(0.1, 10))
def test_the_second_power_of_cdnv_scales_with_the_inverse_square(sample, scale):
    features, labels, _ = sample
    one, two = (class_pairs(CentredMeans(moments_of(s * features, labels)), exponent=2).cdnv for s in (1, scale))
    assert abs(two * scale**2 - one) <= 1e-7 * one


@given(data())
def test_reflection_of_the_orthogonal_frame_distance(sample):
    # The orthogonal-frame distance keeps the origin: it is invariant under rotation and scaling only.
    features, labels, source = sample
    one = feature_distance(CentredMeans(moments_of(features, labels)), "of")
    turned = -3 * features @ rotation(features.shape[1], source)
    assert abs(feature_distance(CentredMeans(moments_of(turned, labels)), "of") - one) < 1e-10


@given(data())
def test_order_of_samples(sample):
    features, labels, source = sample
    order = torch.randperm(len(labels), generator=source)
    assert_same(measured(features, labels), measured(features[order], labels[order]))


@given(data())
def test_numbers_of_classes(sample):
    features, labels, source = sample
    names = torch.randperm(int(labels.max()) + 1, generator=source)
    assert_same(measured(features, labels), measured(features, names[labels]))


@given(data(dimensions=(2, 5)))
def test_vci_is_invariant_under_invertible_maps(sample):
    features, labels, source = sample
    mapped = features @ invertible(features.shape[1], source)
    one, two = (variability_index(CentredMeans(moments_of(f, labels))) for f in (features, mapped))
    assert abs(one - two) < 1e-8


@given(data(dimensions=(2, 2)))
def test_nc1_is_invariant_under_invertible_maps_where_classes_fill_the_space(sample):
    # Three or more classes in two dimensions: S_B is invertible, and tr(S_W inv(S_B)) is a trace of a similarity.
    features, labels, source = sample
    one, two = nc1(moments_of(features, labels)), nc1(moments_of(features @ invertible(2, source), labels))
    assert abs(one - two) <= 1e-7 * one


def test_nc1_is_not_invariant_under_invertible_maps_where_classes_do_not_fill_the_space():
    # Two classes on the first axis, noise along both at once: a shear takes the noise out of the line of the means.
    features = torch.tensor([[-1.0, -1.0], [1.0, 1.0], [9.0, -1.0], [11.0, 1.0]], dtype=torch.float64)
    labels = torch.tensor([0, 0, 1, 1])
    shear = torch.tensor([[1.0, 0.0], [-1.0, 1.0]], dtype=torch.float64)
    assert nc1(moments_of(features, labels)) > 0.01
    assert nc1(moments_of(features @ shear, labels)) < 1e-20


@given(data(), st.data())
def test_any_split_into_batches_and_workers_gives_the_same_moments(sample, choices):
    features, labels, _ = sample
    classes, whole = int(labels.max()) + 1, moments_of(features, labels)
    cuts = sorted(choices.draw(st.lists(st.integers(0, len(labels)), max_size=6)))
    parts = [ClassMoments(classes) for _ in range(choices.draw(st.integers(1, 4)))]
    for index, (start, stop) in enumerate(zip([0, *cuts], [*cuts, len(labels)], strict=True)):
        parts[index % len(parts)].update(features[start:stop], labels[start:stop])
    merged = parts[0]
    for part in parts[1:]:
        merged.merge(part)
    assert_moments(merged, whole)


@given(data(), st.integers(0, 30), st.integers(0, 30))
def test_merging_is_associative_and_commutative(sample, first, second):
    features, labels, _ = sample
    classes = int(labels.max()) + 1
    low, high = sorted((min(first, len(labels)), min(second, len(labels))))

    def part(start, stop):
        moments = ClassMoments(classes)
        moments.update(features[start:stop], labels[start:stop])
        return moments

    bounds = [(0, low), (low, high), (high, len(labels))]
    left = part(*bounds[0]).merge(part(*bounds[1])).merge(part(*bounds[2]))
    right = part(*bounds[0]).merge(part(*bounds[1]).merge(part(*bounds[2])))
    turned = part(*bounds[2]).merge(part(*bounds[0])).merge(part(*bounds[1]))
    assert_moments(left, right)
    assert_moments(left, turned)


@given(data(dimensions=(8, 20)))
def test_the_second_pass_agrees_with_the_first(sample):
    features, labels, _ = sample
    one, two = nc1(moments_of(features, labels)), nc1_wide(features, labels, classes=int(labels.max()) + 1)
    assert abs(one - two) <= 1e-10 * one


def assert_moments(one, two):
    assert torch.equal(one.count, two.count)
    assert torch.allclose(one.mean, two.mean, rtol=1e-12, atol=1e-13)
    assert torch.allclose(one.within, two.within, rtol=1e-11)
    assert torch.allclose(one.scatter, two.scatter, rtol=1e-11, atol=1e-11 * float(one.scatter.trace()))
