"""Progressive separation: descent of ReLU chains, and that the claims on bound, law and starts can fail."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tightframe.core.errors import InputError
from tightframe.deeplinear.network import DeepLinearNetwork
from tightframe.experiments.deeplinear import deep_separation, separation_runs
from tightframe.geometry.frames import haar_columns
from tightframe.report import page
from tightframe.runs.record import Record

TINY = deep_separation.Config(
    classes=2, per_class=5, linear=((3, (0.4, 0.2), 800),), inits=("uniform",), relu=("orthogonal",), relu_steps=1500
)


@pytest.fixture(scope="module")
def record() -> Record:
    return deep_separation.EXPERIMENT.run(config=TINY)


def test_the_claims_on_linear_networks_hold_and_every_panel_is_drawn(record):
    assert Record.from_json(record.to_json()) == record
    verdicts = {claim.id: claim.verdict for claim in record.claims}
    assert len(verdicts) == len(record.claims) == 2 * 3 + 2 * 3 + 2 + 2
    assert {name.split(".")[0] for name in verdicts} == {"P3", "P4"}
    linear = {name: verdict for name, verdict in verdicts.items() if "ReLU" not in name and "relu" not in name}
    assert set(linear.values()) == {"passed"}, linear
    assert "not run" not in verdicts.values()
    section = page._section(record, first=1)
    assert [figure.failure for figure in section["figures"]] == [""] * 4


def test_d_is_that_of_the_definition(record):
    chain = deep_separation._chains(TINY)[0]
    X, Y = separation_runs._data(chain)
    seen = separation_runs._train(chain, X, Y)
    features, expected = X, []
    for weight in seen.weights:
        means = torch.stack([features[:, k * 5 : k * 5 + 5].mean(1) for k in range(2)], dim=1)
        within = (features - means.repeat_interleave(5, dim=1)).square().sum() / 10
        between = (means - means.mean(1, keepdim=True)).square().sum() / 2
        expected.append(float(within / between))
        features = weight @ features
    assert list(seen.D[-1]) == pytest.approx(expected, rel=1e-10)
    layers = record.tables["layers"]
    drawn = [
        value
        for value, network, eps in zip(layers["D"], layers["network"], layers["eps"], strict=True)
        if (network, eps) == ("linear, orthogonal", 0.4)
    ]
    assert drawn == pytest.approx(expected, rel=1e-10)


def test_a_relu_chain_descends_as_autograd_says():
    network = DeepLinearNetwork([6, 6, 6, 2], init="normal", scale=0.8, seed=3)
    X = haar_columns(6, 6, seed=0)
    Y = torch.eye(2).double().repeat_interleave(3, dim=1)
    found = separation_runs.descend_relu(network.weights, X, Y, step=0.05, times=(0, 7, 40))
    weights, losses = [weight.clone().requires_grad_() for weight in network.weights], []
    for _ in range(41):
        features = X
        for weight in weights[:-1]:
            features = torch.relu(weight @ features)
        loss = 0.5 * (weights[-1] @ features - Y).square().sum()
        losses.append(float(loss.detach()))
        with torch.no_grad():
            before = [weight.clone() for weight in weights]
            for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
                weight -= 0.05 * gradient
    assert found.losses == pytest.approx([losses[step] for step in (0, 7, 40)], rel=1e-12)
    for weight, expected in zip(found.weights, before, strict=True):
        torch.testing.assert_close(weight, expected, rtol=1e-12, atol=1e-13)
    assert len(found.D) == 3
    # Features before any weight are the inputs: two classes of three orthonormal vectors.
    assert found.D[0][0] == pytest.approx((6 - 2) / 6 / (2 * (1 / 3 / 2) / 2), rel=1e-12)
    assert torch.equal(network.weights[0], DeepLinearNetwork([6, 6, 6, 2], init="normal", scale=0.8, seed=3).weights[0])


ROW = {
    "network": "linear, orthogonal",
    "L": 4,
    "eps": 0.1,
    "smallest ratio": 0.0049,
    "largest ratio": 0.005,
    "law": 0.005,
    "floor": 0.0049,
    "lecture": 0.06,
    "per layer": 0.005,
    "R^2": 1.0,
    "fitted after": 100,
    "loss": 1e-20,
    "loss left": 1e-21,
    "violated": "nothing",
    "violations": 0,
    "singular values at eps": 40,
    "d - 2K": 40,
}


@pytest.mark.parametrize(
    ("changes", "failed"),
    [
        ({}, []),
        ({"lecture": 0.0049}, ["P3.bound"]),
        # Terms of order eps^2 are 1 in 100 here.
        ({"largest ratio": 0.00504}, []),
        ({"largest ratio": 0.00506}, ["P3.law"]),
        ({"smallest ratio": 0.0048}, ["P3.law"]),
        ({"violations": 1, "violated": "balance"}, ["P3.assumptions"]),
    ],
)
def test_ratios_are_judged_by_bound_and_law(changes, failed):
    claims = deep_separation._bounds([ROW | changes])
    assert [claim.id for claim in claims if claim.verdict != "passed"] == [f"{name}.L=4,eps=0.1" for name in failed]


def test_a_bound_that_says_nothing_is_called_that():
    notes = [deep_separation._bounds([ROW | {"lecture": bound}])[0].note for bound in (0.99, 1.0)]
    assert ["says nothing" in note for note in notes] == [False, True]


def test_networks_that_fit_nothing_are_not_judged():
    bound, law, _ = deep_separation._bounds([ROW | {"loss left": 0.02}])
    assert bound.verdict == law.verdict == "not run"
    config = replace(TINY, linear=((4, (0.1,), 10),))
    rows = [ROW, ROW | {"network": "linear, uniform", "loss left": 0.02}]
    assert {claim.verdict for claim in deep_separation._starts(rows, config)} == {"not run"}
    assert {claim.verdict for claim in deep_separation._trade(rows, config)} == {"not run"}
    assert deep_separation._answer([ROW | {"loss left": 0.5}]) == "No network fitted its data."


def test_scales_are_compared_with_their_neighbours():
    scales = [(0.4, 100, 0.08), (0.2, 400, 0.02), (0.1, 1600, 0.005)]
    rows = [ROW | {"eps": eps, "fitted after": steps, "per layer": factor} for eps, steps, factor in scales]
    rows += [row | {"network": "ReLU, orthogonal"} for row in rows]
    config = replace(TINY, linear=((4, (0.4, 0.2, 0.1), 10),))
    claims = {claim.id: claim for claim in deep_separation._trade(rows, config)}
    assert {claim.verdict for claim in claims.values()} == {"passed"}
    assert claims["P4.power.linear"].observed == pytest.approx(2.0, abs=1e-12)
    rows[1] = rows[1] | {"fitted after": 2000, "per layer": 0.09}
    failed = [claim.id for claim in deep_separation._trade(rows, config) if claim.verdict == "failed"]
    assert failed == ["P4.speed.linear", "P4.decay.linear"]


@pytest.mark.parametrize(
    ("changes", "failed"),
    [
        ({}, []),
        ({"per layer": 0.011}, ["P4.uniform.factor"]),
        ({"per layer": 0.0024}, ["P4.uniform.factor"]),
        ({"R^2": 0.89}, ["P4.uniform.line"]),
    ],
)
def test_other_starts_are_compared_with_the_orthogonal_one(changes, failed):
    config = replace(TINY, linear=((4, (0.1,), 10),))
    claims = deep_separation._starts([ROW, ROW | {"network": "linear, uniform"} | changes], config)
    assert [claim.id for claim in claims if claim.verdict != "passed"] == failed


@pytest.mark.parametrize(("value", "verdict"), [(0.91, "passed"), (0.0, "failed"), (None, "not run")])
def test_relu_networks_are_judged_by_their_line(value, verdict):
    (claim,) = deep_separation._nonlinear([ROW, ROW | {"network": "ReLU, normal", "R^2": value}])
    assert (claim.id, claim.verdict) == ("P4.relu.normal,eps=0.1", verdict)


@pytest.mark.parametrize("changes", [{"linear": ()}, {"linear": ((2, (0.5,), 10),)}, {"per_class": 1}])
def test_networks_without_a_line_are_refused(changes):
    with pytest.raises(InputError, match="at least 3 layers"):
        replace(TINY, **changes)
