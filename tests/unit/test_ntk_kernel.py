"""The infinite-width kernels against arbitrary precision, Gaussian expectations and the formula written anew."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.ntk.angles import half_angles
from tightframe.ntk.arccos import angle_map, sine_excess
from tightframe.ntk.kernel import relu_nngp, relu_ntk
from tightframe.ntk.operator import KernelOperator
from tightframe.ntk.recursion import Architecture, kernel_of_angle
from tightframe.ntk.tabulated import TOLERANCE, kernel_table, tabulate

CPU = torch.device("cpu")


def psi(angle, depth):
    """(tangent, covariance) in 40 digits, from the product formula as it stands."""
    with mpmath.workdps(40):
        angles = [mpmath.mpf(angle)]
        for _ in range(depth):
            v = angles[-1]
            angles.append(mpmath.acos((1 - v / mpmath.pi) * mpmath.cos(v) + mpmath.sin(v) / mpmath.pi))
        total = mpmath.mpf(0)
        for start in range(depth):
            product = mpmath.cos(angles[start])
            for v in angles[start:depth]:
                product *= 1 - v / mpmath.pi
            total += product
        return float(total), float(mpmath.cos(angles[depth]))


def cloud(n, d, seed=0, dtype=torch.float64):
    return torch.randn(n, d, generator=generator(seed), dtype=torch.float64).to(dtype)


def by_expectations(x, z, depth, w, b):
    """Both kernels of one pair from 2-D Gaussian integrals, by Gauss-Hermite-free polar quadrature."""
    q = {(i, j): w * float(p @ r) + b for i, p in enumerate((x, z)) for j, r in enumerate((x, z))}
    tangent = q[0, 1]
    for layer in range(depth):
        correlation = q[0, 1] / math.sqrt(q[0, 0] * q[1, 1])
        # E f(u) f(v) with u, v of unit variance: angle of the plane's rotation, u = cos t, v = cos(t - nu) radially.
        nu = math.acos(max(-1.0, min(1.0, correlation)))
        both = mpmath.quad(lambda t, nu=nu: mpmath.cos(t) * mpmath.cos(t - nu), [nu - mpmath.pi / 2, mpmath.pi / 2])
        scale = math.sqrt(q[0, 0] * q[1, 1])
        # The radial part of E uv is int r^3 exp(-r^2/2) dr = 2, over 2 pi; that of the steps is 1 over 2 pi.
        cross = scale * float(both) * 2 / (2 * math.pi)
        steps = (math.pi - nu) / (2 * math.pi)
        diagonal = {(0, 0): q[0, 0] / 2, (1, 1): q[1, 1] / 2}
        if layer == depth - 1:
            return cross, tangent * steps
        q = {(0, 0): w * diagonal[0, 0] + b, (1, 1): w * diagonal[1, 1] + b, (0, 1): w * cross + b}
        tangent = q[0, 1] + w * tangent * steps
    raise AssertionError("unreachable")


ANGLES = [0.0, 1e-9, 1e-6, 1e-3, 0.1, 1.0, math.pi / 2, 2.5, math.pi - 1e-3]


@pytest.mark.parametrize("depth", [1, 2, 10, 125])
def test_recursion_keeps_its_digits_at_every_angle(depth):
    angles = torch.tensor(ANGLES, dtype=torch.float64)
    tangent, covariance = kernel_of_angle(angles, depth), kernel_of_angle(angles, depth, kind="covariance")
    expected = [psi(angle, depth) for angle in ANGLES]
    # Rounding of a few units per layer at most; near pi the angle's own rounding counts 1e3 times.
    torch.testing.assert_close(
        tangent, torch.tensor([t for t, _ in expected], dtype=torch.float64), rtol=4e-13, atol=1e-15
    )
    torch.testing.assert_close(
        covariance, torch.tensor([c for _, c in expected], dtype=torch.float64), rtol=1e-13, atol=1e-15
    )


def test_the_arccosine_form_would_lose_half_the_digits():
    angle = torch.tensor(1e-6, dtype=torch.float64)
    naive = torch.acos((1 - angle / math.pi) * angle.cos() + angle.sin() / math.pi)
    with mpmath.workdps(40):
        v = mpmath.mpf(1e-6)
        exact = float(mpmath.acos((1 - v / mpmath.pi) * mpmath.cos(v) + mpmath.sin(v) / mpmath.pi))
    assert abs(float(naive) / exact - 1) > 1e-9
    assert abs(float(angle_map(angle)) / exact - 1) < 1e-15


def test_sine_excess_both_branches():
    angles = torch.tensor([1e-8, 1e-3, 0.5, 0.999999, 1.000001, 2.0, 3.0], dtype=torch.float64)
    with mpmath.workdps(50):
        exact = [float(mpmath.sin(mpmath.mpf(float(v))) - float(v) * mpmath.cos(mpmath.mpf(float(v)))) for v in angles]
    torch.testing.assert_close(sine_excess(angles), torch.tensor(exact, dtype=torch.float64), rtol=1e-15, atol=0)


def test_iterates_follow_the_hyperbola():
    """phi^l(v) / (v / (1 + l v / (3 pi))) tends to 1; the reference gives 1.1 % at l = 1000."""
    angles = torch.linspace(0.01, math.pi, 50, dtype=torch.float64)
    ratio = angle_map(angles, 1000) / (angles / (1 + 1000 * angles / (3 * math.pi)))
    assert float((ratio - 1).abs().max()) < 0.012
    assert float((angle_map(angles, 100) / (angles / (1 + 100 * angles / (3 * math.pi))) - 1).abs().max()) > 0.05


@pytest.mark.parametrize(
    ("depth", "middle", "end"), [(10, 0.2608, 0.2301), (50, 0.2726, 0.2674), (125, 0.2631, 0.2611)]
)
def test_known_values_of_psi_over_depth(depth, middle, end):
    values = kernel_of_angle(torch.tensor([math.pi / 2, math.pi], dtype=torch.float64), depth) / depth
    torch.testing.assert_close(values, torch.tensor([middle, end], dtype=torch.float64), rtol=0, atol=6e-5)


@pytest.mark.parametrize("depth", [1, 3, 10, 125, 625, 2000])
@pytest.mark.parametrize("bias", [0.0, 0.1, 1e-3])
def test_tables_keep_their_stated_error(depth, bias):
    table = kernel_table(Architecture(depth, 2.0, bias), "tangent", 1.0, CPU)
    assert table.error <= TOLERANCE
    if bias == 0:
        # Angles of another spacing than those at which the table measured itself.
        angles = torch.cat((torch.logspace(-9, 0, 400).double(), torch.linspace(0, math.pi, 1001).double()))
        angles = angles.clamp(max=math.pi)
        deviation = (table.at_angles(angles) - kernel_of_angle(angles, depth)).abs().max()
        assert float(deviation) / depth <= TOLERANCE


def test_a_table_reports_what_it_cannot_resolve():
    table = tabulate(lambda angle: (200 * angle).sin(), 8)
    assert table.error > TOLERANCE


@pytest.mark.parametrize("depth", [1, 4])
@pytest.mark.parametrize(("w", "b"), [(2.0, 0.0), (1.3, 0.0), (2.0, 0.3), (1.7, 0.05)])
def test_off_the_sphere_with_variances(depth, w, b):
    points = cloud(6, 4) * torch.linspace(0.2, 3, 6).double()[:, None]
    tangent = relu_ntk(points, depth=depth, weight_variance=w, bias_variance=b)
    covariance = relu_nngp(points, depth=depth, weight_variance=w, bias_variance=b)
    for i, j in ((0, 1), (2, 5), (3, 4), (1, 1)):
        expected = by_expectations(points[i], points[j], depth, w, b)
        # acos in the test's own formula loses half the digits where points coincide.
        tolerance = 1e-7 if i == j else 1e-11
        assert math.isclose(float(covariance[i, j]), expected[0], rel_tol=tolerance)
        assert math.isclose(float(tangent[i, j]), expected[1], rel_tol=tolerance)


def test_covariance_is_that_of_random_networks():
    x = torch.nn.functional.normalize(cloud(2, 3, seed=1))
    width, draws, source = 400, 400, generator(2)
    values = []
    for _ in range(draws):
        hidden = x
        for inputs in (1, width):
            weight = torch.randn(hidden.shape[1], width, generator=source, dtype=torch.float64)
            hidden = torch.relu(hidden @ weight * math.sqrt(2 / inputs))
        values.append(float(hidden[0] @ hidden[1]) / width)
    spread = np.std(values) / math.sqrt(draws)
    # Five standard errors, and a bias of the order of one over the width.
    assert abs(np.mean(values) - float(relu_nngp(x, depth=2)[0, 1])) < 5 * spread + 1 / width


def test_readout_adds_the_covariance():
    points = cloud(5, 3)
    together = relu_ntk(points, depth=3, readout=True)
    torch.testing.assert_close(together, relu_ntk(points, depth=3) + relu_nngp(points, depth=3), rtol=1e-11, atol=1e-11)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 30), st.floats(0.1, 10), st.integers(0, 1000))
def test_scaling_rotation_and_definiteness(depth, scale, seed):
    points = cloud(12, 4, seed)
    kernel = relu_ntk(points, depth=depth)
    torch.testing.assert_close(relu_ntk(points * scale, depth=depth), kernel * scale**2, rtol=1e-9, atol=1e-9)
    turn = torch.linalg.qr(cloud(4, 4, seed + 1)).Q
    torch.testing.assert_close(relu_ntk(points @ turn, depth=depth), kernel, rtol=1e-9, atol=1e-8)
    assert float(torch.linalg.eigvalsh(kernel)[0]) > -1e-9 * float(kernel.diagonal().sum())


def test_blocks_are_the_whole_and_symmetric():
    points = cloud(450, 3)
    whole = relu_ntk(points, depth=5)
    assert torch.equal(whole, whole.T)
    torch.testing.assert_close(relu_ntk(points, points.clone(), depth=5), whole, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(relu_ntk(points, depth=5, exact=True), whole, rtol=0, atol=1e-10 * float(whole.max()))
    torch.testing.assert_close(relu_ntk(points[:3], points[200:], depth=5), whole[:3, 200:], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("bias", [0.0, 0.2])
def test_close_and_opposite_points_keep_their_digits(bias):
    base = torch.nn.functional.normalize(cloud(1, 50, seed=3))
    side = cloud(1, 50, seed=4)
    side = torch.nn.functional.normalize(side - (side @ base.T) * base)
    gaps = torch.tensor([0.0, 1e-10, 1e-7, 1e-4, 0.01, 0.1], dtype=torch.float64)[:, None]
    close = gaps.cos() * base + gaps.sin() * side
    for sign in (1.0, -1.0):
        square, opposite = half_angles(base @ (sign * close).T, base, sign * close)
        assert bool((opposite == (sign < 0)).all())
        # A unit vector is known to 1e-16, so its angle too; gaps of 1e-10 keep 6 digits.
        torch.testing.assert_close(2 * square.sqrt().asin()[0], gaps[:, 0], rtol=1e-9, atol=2e-16)
    table = relu_ntk(base, close, depth=50, bias_variance=bias)
    exact = relu_ntk(base, close, depth=50, bias_variance=bias, exact=True)
    torch.testing.assert_close(table, exact, rtol=0, atol=1e-10 * float(exact.max()))


def test_operator_multiplies_without_the_matrix():
    points = cloud(430, 3)
    weights = torch.rand(430, generator=generator(1), dtype=torch.float64)
    vectors = cloud(430, 2, seed=2)
    kernel = relu_ntk(points, depth=4, bias_variance=0.1)
    roots = weights.sqrt()
    operator = KernelOperator(points, Architecture(4, 2.0, 0.1), weights=weights)
    expected = roots[:, None] * (kernel @ (roots[:, None] * vectors))
    torch.testing.assert_close(operator @ vectors, expected, rtol=1e-11, atol=1e-9)
    torch.testing.assert_close(operator @ vectors[:, 0], expected[:, 0], rtol=1e-11, atol=1e-9)
    with pytest.raises(InputError, match="vectors of shape"):
        operator @ vectors[:5]
    with pytest.raises(InputError, match="weights of at least 0"):
        KernelOperator(points, Architecture(4), weights=-weights)


def test_kinds_and_precisions():
    points = cloud(20, 3)
    array = relu_ntk(points.numpy(), depth=2)
    assert isinstance(array, np.ndarray)
    assert array.dtype == np.float64
    single = relu_ntk(points.float(), depth=125)
    assert single.dtype == torch.float32
    # Computed in float64 from the rounded points, so that float32 rounds only the result.
    exact = relu_ntk(points.float().double(), depth=125)
    torch.testing.assert_close(single.double(), exact, rtol=1e-6, atol=0)
    assert relu_ntk(np.eye(3, dtype=np.float32), depth=2).dtype == np.float32
    assert relu_ntk([[1, 0], [0, 1]], depth=2).dtype == np.float64
    assert relu_ntk(np.eye(3, dtype=np.float16), depth=2).dtype == np.float32
    assert relu_ntk(torch.eye(3).half(), depth=2).dtype == torch.float32
    assert relu_ntk(np.eye(3, dtype=">f8"), depth=2).dtype == np.float64


def test_extreme_norms():
    points = torch.tensor([[3e-200, 4e-200], [3e150, 4e150]], dtype=torch.float64)
    kernel = relu_ntk(points[:1], points[1:], depth=3)
    torch.testing.assert_close(kernel, torch.tensor([[3 * 25e-50]], dtype=torch.float64), rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    ("points", "others", "settings", "message"),
    [
        (torch.tensor([[1.0, 0.0], [0.0, 0.0]]), None, {}, "zero vectors"),
        (torch.ones(3), None, {}, "shape"),
        (torch.full((2, 2), math.nan), None, {}, "finite"),
        (torch.ones(2, 2), torch.ones(2, 3), {}, "as many columns"),
        (torch.ones(2, 2), torch.ones(2, 2).double(), {}, "one kind and precision"),
        (torch.ones(2, 2), np.ones((2, 2), dtype=np.float32), {}, "one kind and precision"),
        (torch.ones(2, 2), None, {"depth": 0}, "depth"),
        (torch.ones(2, 2), None, {"weight_variance": 0.0}, "weight_variance"),
        (torch.ones(2, 2), None, {"bias_variance": -1.0}, "bias_variance"),
        (torch.ones(2, 2), None, {"depth": 500, "weight_variance": 40.0}, "within the range"),
        (np.array([["a", "b"]]), None, {}, "real numbers"),
        ([[1.0, 2.0], [3.0]], None, {}, "one length"),
        (torch.eye(2).to_sparse(), None, {}, "dense"),
        (csr_array(np.eye(2)), None, {}, "toarray"),
        (torch.ones(2, 2), None, {"weight_variance": "2"}, "weight_variance"),
        (torch.ones(2, 2), None, {"bias_variance": None}, "bias_variance"),
        (torch.ones(2, 2, dtype=torch.complex64), None, {}, "real"),
    ],
)
def test_bad_points_are_refused(points, others, settings, message):
    with pytest.raises(InputError, match=message):
        relu_ntk(points, others, **{"depth": 2, **settings})


def test_zero_vectors_are_points_where_there_are_biases():
    points = torch.tensor([[0.0, 0.0], [1.0, 2.0]], dtype=torch.float64)
    kernel = relu_ntk(points, depth=2, bias_variance=0.5)
    limit = relu_ntk(torch.tensor([[1e-12, 0.0], [1.0, 2.0]], dtype=torch.float64), depth=2, bias_variance=0.5)
    torch.testing.assert_close(kernel, limit, rtol=1e-9, atol=0)


def test_bad_angles_are_refused():
    for angle in (torch.tensor([-0.1]), torch.tensor([3.3]), torch.tensor([math.nan]), torch.tensor([1])):
        with pytest.raises(InputError, match="angles"):
            angle_map(angle)
    with pytest.raises(InputError, match="kind"):
        kernel_of_angle(torch.zeros(1), 2, kind="other")
