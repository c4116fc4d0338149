"""What must hold for every unconstrained-features model and every point: bounds, and what changes nothing."""

from __future__ import annotations

import dataclasses

import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tightframe.core.rng import generator
from tightframe.ufm.certificate import certify
from tightframe.ufm.losses import CrossEntropy, Focal, SquaredError
from tightframe.ufm.model import Point, UnconstrainedFeatures
from tightframe.ufm.optima import optimum

settings.register_profile("ufm", max_examples=40, deadline=None, derandomize=True)
settings.load_profile("ufm")

losses = st.one_of(
    st.sampled_from(["ce", "ls", "focal", "mse"]),
    st.builds(CrossEntropy, st.floats(0, 0.9)),
    st.builds(Focal, st.floats(0, 6)),
    st.builds(SquaredError, st.floats(0.1, 10), st.floats(0.1, 10)),
)
biases = st.one_of(st.sampled_from(["none", "free"]), st.floats(1e-4, 10))
decays = st.floats(-4, 0).map(lambda exponent: 10**exponent)


@st.composite
def problems(draw, balanced=None, most=5):
    classes = draw(st.integers(2, most))
    equal = draw(st.booleans()) if balanced is None else balanced
    counts = draw(st.integers(1, 4)) if equal else draw(st.lists(st.integers(1, 6), min_size=classes, max_size=classes))
    return UnconstrainedFeatures(
        classes=classes,
        features=draw(st.integers(1, 7)),
        per_class=counts,
        loss=draw(losses),
        weight_decay=(draw(decays), draw(decays)),
        bias=draw(biases),
    )


@st.composite
def cases(draw, **options):
    """A problem, a point of it (spread, collapsed, of low rank, or zero), and a seed."""
    problem, seed = draw(problems(**options)), draw(st.integers(0, 2**31))
    start = problem.start(seed=seed, scale=draw(st.sampled_from([0.0, 0.01, 1.0, 10.0])))
    kind = draw(st.sampled_from(["spread", "collapsed", "rank one"]))
    H = start.H
    if kind == "collapsed":
        first = torch.tensor(problem.counts).cumsum(0) - torch.tensor(problem.counts)
        H = H[:, first][:, problem.labels]
    if kind == "rank one":
        H = torch.outer(H[:, 0], H[0])
    return problem, Point(start.W, H, start.b), seed


def gap_and_value(problem, point, **options):
    certificate = certify(problem, point.W, point.H, point.b, **options)
    return certificate.gap, certificate.evidence["value"]


def assert_same(one, two, problem):
    # Gap and value are sums of terms of the size of the value; a free bias multiplies rounding by |Z| <= f/lambda.
    size = 1 + abs(one[1])
    tolerance = 1e-11 * size * (1 + (size / problem.nuclear_decay if problem.bias == "free" else 0.0))
    assert abs(one[1] - two[1]) <= 1e-11 * size
    assert abs(one[0] - two[0]) <= tolerance


@settings(max_examples=150)
@given(cases())
def test_the_gap_is_never_negative_and_the_bound_below_every_point(case):
    problem, point, seed = case
    certificate = certify(problem, point.W, point.H, point.b)
    value, bound = certificate.evidence["value"], certificate.evidence["bound"]
    rounding = 1e-13 * (1 + abs(value))
    assert certificate.gap >= -rounding
    others = [problem.start(seed=seed + 1, scale=scale) for scale in (0.0, 0.1, 1.0)]
    known = optimum(problem)
    others += [known.point(seed=seed)] if known.known else []
    for other in others:
        assert problem.objective(other.W, other.H, other.b) >= bound - rounding


@given(problems(balanced=True))
def test_an_optimum_is_below_its_neighbours_and_certified(problem):
    known = optimum(problem)
    assume(known.known)
    point = known.point()
    certificate = certify(problem, point.W, point.H, point.b, tolerance=1e-8)
    assert certificate.holds
    for seed in range(4):
        for scale in (1e-4, 1e-2, 1.0):
            step = problem.start(seed=seed, scale=scale)
            moved = problem.objective(point.W + step.W, point.H + step.H, point.b + step.b)
            assert moved >= known.value - 1e-13 * (1 + known.value)


@given(problems(), st.integers(0, 1000))
def test_the_way_down_goes_down(problem, seed):
    point = problem.start(seed=seed)
    certificate = certify(problem, point.W, point.H, point.b)
    direction = certificate.evidence["direction"]
    assert direction.kind == "gradient"
    assert direction.slope < 0
    # Half the minimiser of the quadratic model bounded by the size of the point.
    for length in (1e-3, 1e-5, 1e-7):
        moved = problem.objective(
            point.W + length * direction.W, point.H + length * direction.H, point.b + length * direction.b
        )
        if moved < certificate.evidence["value"]:
            return
    raise AssertionError("no step along the direction lowers the objective")


@given(cases())
def test_rotating_the_feature_space(case):
    problem, point, seed = case
    normal = torch.randn(problem.features, problem.features, dtype=torch.float64, generator=generator(seed))
    Q = torch.linalg.qr(normal).Q
    turned = Point(point.W @ Q, Q.T @ point.H, point.b)
    assert_same(gap_and_value(problem, point), gap_and_value(problem, turned), problem)


@given(cases())
def test_the_order_of_samples(case):
    problem, point, seed = case
    order = torch.randperm(problem.samples, generator=generator(seed))
    shuffled = Point(point.W, point.H[:, order], point.b)
    found = gap_and_value(problem, shuffled, labels=problem.labels[order])
    assert_same(gap_and_value(problem, point), found, problem)


@given(cases())
def test_the_numbers_of_classes(case):
    problem, point, seed = case
    order = torch.randperm(problem.classes, generator=generator(seed))
    counts = [problem.counts[k] for k in order]
    renamed = dataclasses.replace(problem, per_class=counts)
    columns = torch.cat([point.H[:, problem.labels == k] for k in order], dim=1)
    found = gap_and_value(renamed, Point(point.W[order], columns, point.b[order]))
    assert_same(gap_and_value(problem, point), found, problem)


@given(cases(), st.floats(-2, 2))
def test_moving_weight_between_the_two_decays(case, exponent):
    problem, point, _ = case
    scale, (lam_w, lam_h) = 10**exponent, problem.weight_decay
    other = dataclasses.replace(problem, weight_decay=(lam_w / scale**2, lam_h * scale**2))
    moved = Point(scale * point.W, point.H / scale, point.b)
    assert_same(gap_and_value(problem, point), gap_and_value(other, moved), problem)


@given(cases(), st.integers(1, 4))
def test_dimensions_that_are_not_used(case, extra):
    problem, point, _ = case
    assume(problem.features >= problem.classes)  # below, the closed form may take the place of the dual bound
    wider = dataclasses.replace(problem, features=problem.features + extra)
    W = torch.cat([point.W, point.W.new_zeros(problem.classes, extra)], dim=1)
    H = torch.cat([point.H, point.H.new_zeros(extra, problem.samples)])
    assert_same(gap_and_value(problem, point), gap_and_value(wider, Point(W, H, point.b)), problem)


@given(cases(), st.integers(2, 4))
def test_samples_in_several_copies(case, copies):
    # Copies share the decay of their feature: n times as many, lambda_H/n each.
    problem, point, _ = case
    lam_w, lam_h = problem.weight_decay
    more = dataclasses.replace(
        problem, per_class=[copies * n for n in problem.counts], weight_decay=(lam_w, lam_h / copies)
    )
    repeated = Point(point.W, point.H.repeat_interleave(copies, dim=1), point.b)
    assert_same(gap_and_value(problem, point), gap_and_value(more, repeated), problem)


@given(cases(), st.floats(-100, 100))
def test_a_shift_of_a_free_bias(case, shift):
    problem, point, _ = case
    problem = dataclasses.replace(problem, bias="free")
    assume(problem.loss.shift_invariant)
    shifted = Point(point.W, point.H, point.b + shift)
    assert_same(gap_and_value(problem, point), gap_and_value(problem, shifted), problem)


@given(cases(), st.integers(0, 3))
def test_a_gap_does_not_see_the_bias_it_was_asked_at(case, seed):
    # The bound is taken at the best bias for W and H: gap less value is the same for every bias.
    # Not with a free bias, whose bound on |b| grows with the value, nor without convexity: several may be best.
    problem, point, _ = case
    assume(isinstance(problem.bias, float) and problem.loss.convex)
    other = Point(point.W, point.H, problem.start(seed=seed).b)
    one, two = (gap_and_value(problem, p) for p in (point, other))
    assert abs((one[0] - one[1]) - (two[0] - two[1])) <= 1e-7 * (1 + abs(one[1]))
