"""Deep linear networks: starts of one size, products, copies."""

from __future__ import annotations

import copy

import pytest
import torch

from tightframe.core.errors import InputError
from tightframe.deeplinear.network import DeepLinearNetwork

INITS = ("orthogonal", "normal", "uniform")


@pytest.mark.parametrize("init", INITS)
def test_all_starts_have_the_frobenius_norm_of_an_orthogonal_one(init):
    network = DeepLinearNetwork([7, 12, 12, 3], init=init, scale=0.3, seed=4)
    for weight, narrow in zip(network.weights, (7, 12, 3), strict=True):
        assert weight.dtype == torch.float64
        assert float(torch.linalg.matrix_norm(weight)) == pytest.approx(0.3 * narrow**0.5, rel=1e-14)


def test_an_orthogonal_start_has_one_singular_value():
    for weight in DeepLinearNetwork([7, 12, 12, 3], scale=0.3).weights:
        torch.testing.assert_close(
            torch.linalg.svdvals(weight), torch.full((min(weight.shape),), 0.3, dtype=torch.float64), atol=1e-14, rtol=0
        )


def test_entries_have_the_distribution_that_was_asked_for():
    """The ratio E|x|^4 / (E|x|^2)^2 is 3 for normal and 9/5 for uniform entries; n = 40000 knows it to about 0.05."""
    for init, expected in (("normal", 3.0), ("uniform", 1.8)):
        entries = DeepLinearNetwork([200, 200], init=init, seed=1).weights[0]
        assert float(entries.pow(4).mean() / entries.square().mean() ** 2) == pytest.approx(expected, abs=0.2)
        # The mean of 40000 entries of standard deviation s is within 5 s / 200 of zero.
        assert abs(float(entries.mean())) < 5 * float(entries.std()) / 200


@pytest.mark.parametrize("init", INITS)
def test_the_seed_decides_and_layers_differ(init):
    one, same, other = (DeepLinearNetwork([5, 5, 5], init=init, seed=seed) for seed in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(one.weights, same.weights, strict=True))
    assert not torch.allclose(one.weights[0], other.weights[0])
    assert not torch.allclose(one.weights[0], one.weights[1])


def test_the_product_is_what_the_network_does_to_rows():
    network = DeepLinearNetwork([4, 6, 5, 3], init="normal", scale=1.0)
    rows = torch.randn(8, 4, dtype=torch.float64)
    expected = rows @ (network.layers[2].weight @ network.layers[1].weight @ network.layers[0].weight).T
    torch.testing.assert_close(network(rows), expected)
    torch.testing.assert_close(network(rows), rows @ network.end_to_end().T)
    assert network.widths == (4, 6, 5, 3)
    assert network.depth == 3


def test_it_trains_and_saves_as_any_module():
    network = DeepLinearNetwork([3, 3, 2], init="normal")
    network.end_to_end().sum().backward()
    assert all(layer.weight.grad is not None for layer in network.layers)
    twin = DeepLinearNetwork([3, 3, 2], seed=9)
    twin.load_state_dict(network.state_dict())
    torch.testing.assert_close(twin.end_to_end(), network.end_to_end())
    clone = copy.deepcopy(network).float()
    assert clone.end_to_end().dtype == torch.float32


def test_weights_are_copied():
    start = [torch.ones(2, 3), torch.ones(4, 2)]
    network = DeepLinearNetwork.of(start)
    start[0].zero_()
    assert network.end_to_end().sum().item() == 24.0
    assert network.weights[0].dtype == torch.float32


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([5],), "two widths"),
        ((5,), "two widths"),
        (([5, 0],), "at least 1"),
        (([5, 2.0],), "integer"),
    ],
)
def test_bad_widths(arguments, words):
    with pytest.raises(InputError, match=words):
        DeepLinearNetwork(*arguments)


@pytest.mark.parametrize("options", [{"init": "zero"}, {"scale": 0.0}, {"scale": float("nan")}, {"scale": -1.0}])
def test_bad_starts(options):
    with pytest.raises(InputError):
        DeepLinearNetwork([3, 3], **options)


@pytest.mark.parametrize(
    "weights",
    [
        [],
        [torch.ones(2, 3), torch.ones(2, 3)],
        [torch.ones(3)],
        [torch.ones(2, 2), torch.ones(2, 2).double()],
        [torch.tensor([[float("nan")]])],
        [torch.ones(2, 2, dtype=torch.int64)],
        ["W"],
    ],
)
def test_bad_weights(weights):
    with pytest.raises(InputError):
        DeepLinearNetwork.of(weights)
