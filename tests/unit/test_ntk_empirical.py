"""The empirical kernel against plain loops of autograd."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.nn.networks import MLP
from tightframe.ntk.empirical import empirical_ntk
from tightframe.ntk.finite import relu_network


def by_loops(model, X, Z):
    """(n, m, k, k), one backward pass for every point and output."""

    def gradients(points):
        rows = []
        for point in points:
            outputs = model(point[None]).reshape(-1)
            weights = [each for each in model.parameters() if each.requires_grad]
            each = [torch.autograd.grad(value, weights, retain_graph=True, allow_unused=True) for value in outputs]
            rows.append(
                torch.stack(
                    [
                        torch.cat(
                            [
                                (torch.zeros_like(w) if g is None else g).reshape(-1)
                                for g, w in zip(gs, weights, strict=True)
                            ]
                        )
                        for gs in each
                    ]
                )
            )
        return torch.stack(rows)

    return torch.einsum("nkp,mjp->nmkj", gradients(X), gradients(Z))


def points(n, *shape, seed=0):
    return torch.randn(n, *shape, generator=generator(seed), dtype=torch.float64)


def chains():
    torch.manual_seed(0)
    frozen = nn.Sequential(nn.Linear(4, 7), nn.ReLU(inplace=True), nn.Linear(7, 3))
    frozen[0].weight.requires_grad_(False)
    frozen[2].bias.requires_grad_(False)
    return {
        "relu": nn.Sequential(nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 5, bias=False), nn.Tanh(), nn.Linear(5, 3)),
        "ends pointwise": nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 2), nn.Softplus()),
        "frozen": frozen,
        "nested": nn.Sequential(
            nn.Flatten(), nn.Sequential(nn.Linear(4, 5), nn.ELU()), nn.Dropout(0.5), nn.Linear(5, 1)
        ),
        "mlp": MLP(4, 3, widths=(6, 5)),
    }


@pytest.mark.parametrize("name", list(chains()))
@pytest.mark.parametrize("method", ["products", "jacobians"])
def test_chains_by_both_methods(name, method):
    model = chains()[name].double()
    X, Z = points(5, 4), points(3, 4, seed=1)
    model.eval()
    expected = by_loops(model, X, Z)
    model.train()
    # Batches smaller than the data, so that tiles have to fit together.
    full = empirical_ntk(model, X, Z, trace="none", method=method, batch=2)
    torch.testing.assert_close(full.values, expected, rtol=1e-10, atol=1e-12)
    summed = empirical_ntk(model, X, Z, method=method)
    traced = expected.diagonal(dim1=2, dim2=3).sum(-1)
    torch.testing.assert_close(summed.values, traced, rtol=1e-10, atol=1e-12)
    mean = empirical_ntk(model, X, Z, method=method, trace="mean")
    torch.testing.assert_close(mean.values, traced / expected.shape[-1], rtol=1e-10, atol=1e-12)
    assert model.training
    assert empirical_ntk(model, X).method == "products"


def test_other_networks_take_jacobians_and_say_why():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2)).double()
    X = points(4, 1, 4, 4)
    found = empirical_ntk(model, X)
    assert found.method == "jacobians"
    assert "Conv2d" in found.reason
    model.eval()
    expected = by_loops(model, X, X).diagonal(dim1=2, dim2=3).sum(-1)
    torch.testing.assert_close(found.values, expected, rtol=1e-10, atol=1e-12)
    with pytest.raises(InputError, match="chain"):
        empirical_ntk(model, X, method="products")


def test_what_only_looks_like_a_chain_is_not_taken_for_one():
    class Doubling(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    shared = nn.Linear(3, 3)
    hooked = nn.Sequential(nn.Linear(3, 2))
    hooked[0].register_forward_hook(lambda module, inputs, output: 3 * output)
    spectral = nn.Sequential(torch.nn.utils.parametrizations.spectral_norm(nn.Linear(3, 2)))
    tied = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
    tied[2].weight = tied[0].weight
    for model in (Doubling(3, 2), nn.Sequential(shared, nn.ReLU(), shared), tied, hooked, spectral):
        model.double()
        X = points(3, 3)
        found = empirical_ntk(model, X)
        assert found.method == "jacobians", found.reason
        model.eval()
        expected = by_loops(model, X, X).diagonal(dim1=2, dim2=3).sum(-1)
        torch.testing.assert_close(found.values, expected, rtol=1e-9, atol=1e-12)


def test_verbose_says_the_choice(capsys):
    model = relu_network(3, width=4, depth=1)
    empirical_ntk(model, points(2, 3), verbose=True)
    heard = capsys.readouterr()
    assert "products" in heard.err
    assert heard.out == ""
    empirical_ntk(model, points(2, 3))
    assert capsys.readouterr().err == ""


def test_bad_input():
    model = relu_network(3, width=4, depth=1)
    for X, message in (
        (points(2, 3).float(), "precision"),
        (points(3), "tensor"),
        (points(0, 3), "not empty"),
    ):
        with pytest.raises(InputError, match=message):
            empirical_ntk(model, X)
    with pytest.raises(InputError, match="trainable"):
        empirical_ntk(relu_network(3, width=4, depth=1).requires_grad_(False), points(2, 3))
    with pytest.raises(InputError, match="trace"):
        empirical_ntk(model, points(2, 3), trace="all")
    with pytest.raises(InputError, match="method"):
        empirical_ntk(model, points(2, 3), method="fast")
    with pytest.raises(InputError, match="outputs"):
        empirical_ntk(nn.Sequential(nn.Linear(3, 4), nn.Unflatten(1, (2, 2))).double(), points(2, 3))


def test_nothing_of_a_model_in_training_changes():
    """Averages of batch normalisation stay, and one point is no batch to be normalised by."""
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Tanh(), nn.Linear(3, 2)).double().train()
    with torch.no_grad():
        model[1].running_mean.uniform_(-1, 1)
    before = {name: each.clone() for name, each in model.state_dict().items()}
    X = points(4, 4)
    found = empirical_ntk(model, X, trace="mean")
    assert model.training
    assert model[1].training
    for name, each in model.state_dict().items():
        assert torch.equal(each, before[name]), name
    model.eval()
    expected = by_loops(model, X, X).diagonal(dim1=2, dim2=3).mean(-1)
    torch.testing.assert_close(found.values, expected, rtol=1e-10, atol=1e-12)


class Reader(nn.Module):
    """Tokens to logits through one block of attention."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.head = nn.Linear(8, 2)

    def forward(self, tokens):
        return self.head(self.block(self.embedding(tokens)).mean(1))


def test_transformers_of_tokens(recwarn):
    torch.manual_seed(3)
    model = Reader().double().eval()
    tokens = torch.randint(0, 7, (3, 5))
    found = empirical_ntk(model, tokens)
    assert not [each for each in recwarn if "batching rule" in str(each.message)]
    expected = by_loops(model, tokens, tokens).diagonal(dim1=2, dim2=3).sum(-1)
    torch.testing.assert_close(found.values, expected, rtol=1e-9, atol=1e-12)
    with pytest.raises(InputError, match="precision"):
        empirical_ntk(nn.Linear(5, 2).double(), tokens)


def test_outputs_that_are_no_tensor_are_named():
    class Wrapped(nn.Linear):
        def forward(self, x):
            return {"logits": super().forward(x)}

    with pytest.raises(InputError, match="dict"):
        empirical_ntk(Wrapped(3, 2).double(), points(2, 3))


def test_slopes_that_are_trained():
    torch.manual_seed(4)
    model = nn.Sequential(nn.Linear(4, 3), nn.PReLU(), nn.Linear(3, 3), nn.PReLU(3), nn.Linear(3, 2)).double()
    X = points(5, 4)
    found = empirical_ntk(model, X, trace="none")
    torch.testing.assert_close(found.values, by_loops(model, X, X), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("method", ["products", "jacobians"])
def test_tiles_of_one_point_many_times(method):
    """Rows that share their memory are still that many rows."""
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    X = points(1, 4).expand(5, 4)
    found = empirical_ntk(model, X, method=method, trace="none", batch=2).values
    expected = by_loops(model, X[:1], X[:1]).expand(5, 5, 2, 2)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("method", ["products", "jacobians"])
def test_tiles_of_one_set_are_those_of_two(method):
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    X = points(7, 4)
    found = empirical_ntk(model, X, method=method, trace="none", batch=3).values
    torch.testing.assert_close(found, by_loops(model, X, X), rtol=1e-10, atol=1e-12)
    assert torch.equal(found[5, 1], found[1, 5].T)
