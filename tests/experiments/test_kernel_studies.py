"""Concentration, aperture and samples of the kernel as experiments: against the definition, and claims that fail."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from scipy.integrate import quad
from scipy.stats import ks_2samp

from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.data.curves import coaxial_circles
from tightframe.experiments import catalog
from tightframe.experiments.ntk import kernel_aperture, kernel_concentration, kernel_draws, kernel_samples
from tightframe.experiments.ntk.kernel_aperture import Kernel, half_width, shape
from tightframe.experiments.ntk.kernel_concentration import Networks, deviations, exponents
from tightframe.experiments.ntk.sample_runs import Fitting, regress, samples_for
from tightframe.experiments.ntk.scaling import (
    contrast,
    limit_half_width,
    limit_kernel,
    local_norm,
    parallel_optimum,
)
from tightframe.ntk.empirical import empirical_ntk
from tightframe.ntk.estimators import TangentKernelRegressor
from tightframe.ntk.finite import relu_network
from tightframe.ntk.kernel import relu_ntk
from tightframe.ntk.recursion import kernel_of_angle
from tightframe.report import page
from tightframe.runs.record import Record

TINY = {
    "kernel-concentration": kernel_concentration.Config((2, 4), (48, 96), 12, 12, 4, (3, 6, 9), (2, 48)),
    "kernel-aperture": kernel_aperture.Config((5, 25, 125), 400, 20, 6),
    "kernel-samples": kernel_samples.Config(
        depths=(10, 60), samples=(8, 32, 128), separations=(0.8, 0.4), draws=2, hurried=(2, 10), budgets=(20.0,)
    ),
}


@pytest.fixture(scope="module", params=TINY)
def record(request) -> Record:
    return catalog.load(request.param).run(config=TINY[request.param])


def test_claims_belong_to_the_entry_and_the_record_survives_its_file(record):
    claims = {"kernel-concentration": ("K2", 5), "kernel-aperture": ("K3", 6), "kernel-samples": ("K5", 4)}
    name, count = claims[record.name]
    assert {claim.id.split(".")[0] for claim in record.claims} == {name}
    assert len({claim.id for claim in record.claims}) == len(record.claims) == count
    assert all(claim.observed is not None for claim in record.claims)
    assert Record.from_json(record.to_json()) == record
    assert record.answer


def test_every_panel_is_drawn(record):
    section = page._section(record, first=1)
    assert [figure.failure for figure in section["figures"]] == [""] * len(record.panels)
    assert len(record.panels) >= 3


def naive_kernel(angle: float, depth: int) -> float:
    angles = [angle]
    for _ in range(depth):
        v = angles[-1]
        angles.append(math.acos(max(-1.0, min(1.0, (1 - v / math.pi) * math.cos(v) + math.sin(v) / math.pi))))
    return sum(
        math.cos(angles[start]) * math.prod(1 - angles[k] / math.pi for k in range(start, depth))
        for start in range(depth)
    )


def test_half_widths_by_the_definition():
    for depth in (1, 5, 40):
        width = half_width(depth)
        level = (depth + naive_kernel(math.pi, depth)) / 2
        # The naive form keeps half of the digits.
        assert math.isclose(naive_kernel(width, depth), level, rel_tol=1e-7)


def test_the_limit_is_the_one_of_the_integral():
    for s in (0.01, 0.5, 3.0):
        share = quad(lambda x, s=s: ((1 + s * x) / (1 + s)) ** 3, 0, 1)[0]
        assert math.isclose(float(limit_kernel(torch.tensor(s, dtype=torch.float64))), share, rel_tol=1e-12)
    width = limit_half_width() / (3 * math.pi)
    assert math.isclose(float(limit_kernel(torch.tensor(width, dtype=torch.float64))), 5 / 8, rel_tol=1e-12)
    depth = 4000
    angle = torch.tensor(2.0 / depth, dtype=torch.float64)
    # Corrections are log L / L.
    assert math.isclose(
        float(kernel_of_angle(angle, depth)) / depth, float(limit_kernel(depth * angle / (3 * math.pi))), rel_tol=2e-3
    )


def test_contrast_and_its_optimum_by_adaptive_quadrature():
    def plain(u):
        return (4 + 6 * u + 4 * u * u + u**3) / (4 * (1 + u) ** 3)

    def strength(s):
        return 2 * quad(lambda u: plain(u) - plain(math.hypot(u, s)), 0, math.inf, limit=200)[0]

    for s in (0.2, 0.6, 2.0):
        assert math.isclose(float(contrast(torch.tensor(s, dtype=torch.float64))), strength(s), rel_tol=1e-7)
    place, cost = parallel_optimum()
    s = place / (3 * math.pi)
    assert math.isclose(s / strength(s), cost, rel_tol=1e-7)
    assert cost < min(0.98 * s / strength(0.98 * s), 1.02 * s / strength(1.02 * s))
    # A constant gap gives length over 3 pi G.
    gaps, weights = torch.full((7,), 0.1, dtype=torch.float64), torch.full((7,), 2.0, dtype=torch.float64)
    expected = 14.0 / (3 * math.pi * strength(50 * 0.1 / (3 * math.pi)))
    assert math.isclose(local_norm(gaps, weights, 50), expected, rel_tol=1e-7)


def test_shapes_tell_where_a_kernel_rises_again():
    row = shape(Kernel(5, 4000))
    angles = [math.pi * k / 2000 for k in range(2001)]
    values = [naive_kernel(angle, 5) / 5 for angle in angles]
    lowest = min(range(2001), key=values.__getitem__)
    assert math.isclose(row["largest rise"], values[-1] - values[lowest], rel_tol=1e-3)
    assert math.isclose(row["rises from"], angles[lowest], abs_tol=0.005)
    assert math.isclose(row["at a right angle"], naive_kernel(math.pi / 2, 5) / 5, rel_tol=1e-9)


def autograd_kernel(model, points):
    hidden = [layer.weight for layer in model[:-1:2]]
    rows = [torch.cat([g.reshape(-1) for g in torch.autograd.grad(model(x[None]).sum(), hidden)]) for x in points]
    return torch.stack(rows) @ torch.stack(rows).T


@pytest.mark.parametrize(("width", "seed"), [(24, 3), (4, 92)])
def test_drawn_kernels_are_those_of_the_weights_behind_them(width, seed, monkeypatch):
    """Gaussian blocks that a network's weights imply give that network's kernel, to rounding.

    All inputs of these networks' layers have full rank, so that their bases are the same here and there.
    """
    depth, points = 3, torch.cat([curve.uniform(4).points for curve in coaxial_circles(0.4)])
    model = relu_network(3, width=width, depth=depth, seed=seed)
    weights = [layer.weight.detach() for layer in model[::2]]
    entering, blocks, active = points.T, [], []
    for weight in weights[:-1]:
        blocks.append(weight @ torch.linalg.qr(entering).Q * math.sqrt(width / 2))
        active.append(weight @ entering > 0)
        entering = (weight @ entering).clamp(min=0)
    blocks.append(weights[-1].T)
    back = weights[-1].T.expand(width, len(points))
    for weight, mask in zip(reversed(weights[:-1]), reversed(active), strict=True):
        blocks.append(weight.T @ torch.linalg.qr(back * mask).Q * math.sqrt(width / 2))
        back = weight.T @ (back * mask)
    given = iter(blocks)
    monkeypatch.setattr(kernel_draws, "_gaussian", lambda *_: next(given))
    found = kernel_draws.drawn_kernel(points, depth=depth, width=width, source=generator(0))
    assert next(given, None) is None
    torch.testing.assert_close(found * width / 2, autograd_kernel(model, points), rtol=1e-11, atol=1e-11)


def test_drawn_kernels_have_the_law_of_networks():
    """Deviations of 300 drawn kernels and of 300 networks: one distribution, as Kolmogorov and Smirnov judge it."""
    points = torch.cat([curve.uniform(3).points for curve in coaxial_circles(0.4)])
    formula = relu_ntk(points, depth=3)
    source, drawn, explicit = generator(5), [], []
    for seed in range(300):
        kernel = kernel_draws.drawn_kernel(points, depth=3, width=20, source=source)
        drawn.append(float((kernel - formula).abs().amax()))
        model = relu_network(3, width=20, depth=3, seed=seed)
        model[-1].requires_grad_(False)
        explicit.append(float((empirical_ntk(model, points).values / 10 - formula).abs().amax()))
    assert ks_2samp(drawn, explicit).pvalue > 0.01


def test_deviations_by_loops():
    row = deviations(Networks(2, 24, 2, 3))
    points = torch.cat([curve.uniform(3).points for curve in coaxial_circles(0.4)])
    found = []
    for draw in range(2):
        source = generator(100_003 * 2 + 1_009 * 24 + draw)
        kernel = kernel_draws.drawn_kernel(points, depth=2, width=24, source=source)
        apart = [
            [float(kernel[i, j]) - naive_kernel(math.acos(min(1.0, float(points[i] @ points[j]))), 2) for j in range(6)]
            for i in range(6)
        ]
        found.append(max(abs(value) for line in apart for value in line) / 2)
    # The naive form keeps half of the digits.
    assert math.isclose(row["deviation"], math.sqrt(found[0] * found[1]), rel_tol=1e-6)
    assert math.isclose(row["least"], min(found), rel_tol=1e-6)


def test_exponents_of_an_exact_law():
    rows = [
        {"depth": depth, "width": width, "deviation": 3 * depth**0.5 * width**-0.7, "relative error": 0.1 * depth}
        for depth in (1, 2, 4)
        for width in (10, 100)
    ]
    fit = exponents(rows)
    assert math.isclose(fit.depth, 0.5, rel_tol=1e-9)
    assert math.isclose(fit.width, -0.7, rel_tol=1e-9)
    assert fit.depth_error > 0


@pytest.mark.parametrize(("power", "broken"), [((0.5, -0.35), "K2.width"), ((0.7, -0.5), "K2.depth")])
def test_other_exponents_fail(power, broken):
    rows = [
        {
            "depth": depth,
            "width": width,
            "deviation": 3.5 * (depth / 4) ** power[0] * 2 * (width / 100) ** power[1] / 10,
            "relative error": 0.1,
            "deviation over sqrt(L / n)": 3.5,
        }
        for depth in (2, 8)
        for width in (50, 200)
    ]
    claims = kernel_concentration._size_claims(rows, exponents(rows))
    assert [claim.id for claim in claims if claim.verdict == "failed"] == [broken]


def test_regression_is_that_of_the_estimator():
    fitting = Fitting(0.4, 12, 20, 1, (50.0,))
    endless, hurried = regress(fitting)
    curves = coaxial_circles(0.4)
    points = torch.cat([curve.sample(10, seed=side).points for side, curve in enumerate(curves)])
    labels = torch.tensor([-1.0, 1.0]).double().repeat_interleave(10)
    judged = torch.cat([curve.uniform(400).points for curve in curves])
    truth = torch.tensor([-1.0, 1.0]).double().repeat_interleave(400)
    for row, time in ((endless, math.inf), (hurried, 50.0 / 12)):
        model = TangentKernelRegressor(12, time=time, ridge=0.0, bias_variance=0.0).fit(points, labels)
        outputs = model.predict(judged)
        assert math.isclose(row["error"], float((outputs - truth).square().mean().sqrt()), rel_tol=1e-6)
        assert math.isclose(row["wrong"], float((outputs * truth <= 0).double().mean()), abs_tol=1e-12)


def test_samples_are_interpolated_where_the_error_falls_for_good():
    rows = [{"samples": n, "error": e} for n, e in ((8, 0.4), (16, 0.8), (32, 0.4), (64, 0.1))]
    assert math.isclose(samples_for(rows, "error", 0.4), 32.0)
    assert math.isclose(samples_for(rows, "error", 0.2), 32 * math.sqrt(2))
    assert samples_for(rows, "error", 0.05) is None
    assert samples_for(rows[:1], "error", 0.5) is None


def need(samples, depth, aperture, separation=0.4):
    return {"samples": samples, "depth": depth, "aperture": aperture, "separation": separation}


def test_samples_that_do_not_grow_fail():
    flat = [need(20.0, 10, 0.3), need(15.0, 30, 0.1)]
    assert [claim.verdict for claim in kernel_samples._depth_claims(flat)] == ["failed", "failed"]
    grown = [need(20.0, 10, 0.3), need(60.0, 30, 0.1)]
    assert [claim.verdict for claim in kernel_samples._depth_claims(grown)] == ["passed", "passed"]
    none = [need(None, 10, 0.3), need(None, 30, 0.1)]
    assert [claim.verdict for claim in kernel_samples._depth_claims(none)] == ["not run", "not run"]
    apart = [need(20.0, 10, 0.3, 0.4), need(80.0, 20, 0.1, 0.2)]
    assert kernel_samples._geometry_claims(apart)[0].verdict == "failed"


def test_a_budget_won_by_the_least_depth_fails():
    rows = [{"budget": 20.0, "depth": depth, "error": error} for depth, error in ((2, 0.1), (10, 0.2))]
    assert kernel_samples._budget_claim(rows, TINY["kernel-samples"]).verdict == "failed"
    rows[0]["error"] = 0.3
    assert kernel_samples._budget_claim(rows, TINY["kernel-samples"]).verdict == "passed"


def test_bad_configurations_are_refused():
    with pytest.raises(InputError, match="two depths and two widths"):
        replace(TINY["kernel-concentration"], ratio=48)
    with pytest.raises(InputError, match="two depths of at least 5"):
        replace(TINY["kernel-aperture"], depths=(2, 25))
    with pytest.raises(InputError, match="Growth needs"):
        replace(TINY["kernel-samples"], depths=(10,))
