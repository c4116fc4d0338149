"""The classifier on spheres: cosines times a temperature, blind to lengths, safe at zero and in half precision."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from tightframe.core.errors import InputError
from tightframe.features.tap import FeatureTap
from tightframe.geometry.frames import simplex_etf
from tightframe.nn.heads.normalized import NormalizedHead


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("learn", [False, True])
def test_logits_are_cosines_times_tau(learn):
    torch.manual_seed(0)
    head = NormalizedHead(6, 4, temperature=3.0, learn_temperature=learn, dtype=torch.float64)
    x = normal(5, 6).double().requires_grad_()
    with torch.no_grad():
        head.directions.mul_(torch.tensor([[0.1], [1.0], [2.0], [30.0]]))
    logits = head(x).detach()
    for i in range(5):
        for k in range(4):
            w, h = head.directions.detach()[k], x.detach()[i]
            assert float(logits[i, k]) == pytest.approx(3 * float(w @ h) / float(w.norm() * h.norm()), abs=1e-12)
    assert torch.autograd.gradcheck(lambda *_: head(x), (x, *head.parameters()))
    assert len(list(head.parameters())) == 1 + learn


def test_lengths_of_features_play_no_part():
    torch.manual_seed(0)
    head, x = NormalizedHead(6, 4, temperature=7.0), normal(5, 6)
    torch.testing.assert_close(head(1e-20 * x), head(x))
    torch.testing.assert_close(head(1e15 * x), head(x))
    assert float(head(head.directions).detach().diagonal().min()) == pytest.approx(7.0, rel=1e-6)


def test_the_least_cross_entropy_is_that_of_a_simplex():
    head = NormalizedHead(8, 4, temperature=5.0, frame=simplex_etf(4, 8), dtype=torch.float64)
    assert not list(head.parameters())
    loss = float(nn.functional.cross_entropy(head(simplex_etf(4, 8)), torch.arange(4)))
    assert loss == pytest.approx(math.log1p(3 * math.exp(-20 / 3)), rel=1e-12)
    assert loss == pytest.approx(0.00381063171, rel=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_zero_features_give_zero_logits_and_finite_gradients(dtype):
    torch.manual_seed(0)
    head = NormalizedHead(6, 4, temperature=2.0, dtype=dtype)
    x = torch.zeros(3, 6, dtype=dtype, requires_grad=True)
    nn.functional.cross_entropy(head(x).float(), torch.tensor([0, 1, 2])).backward()
    assert torch.equal(head(x), torch.zeros(3, 4, dtype=dtype))
    assert float(x.grad.abs().max()) < 10
    assert torch.isfinite(head.directions.grad).all()


def test_half_precision_does_not_overflow():
    torch.manual_seed(0)
    head = NormalizedHead(64, 4, dtype=torch.float16)
    x = torch.full((2, 64), 3e4, dtype=torch.float16)  # squares are above 65504
    expected = NormalizedHead(64, 4, frame=head.directions.detach().float())(x.float())
    torch.testing.assert_close(head(x).float(), expected, atol=0.01, rtol=0)


def test_feature_tap_sees_features_before_normalisation():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), NormalizedHead(6, 3, temperature=2.0))
    tap, x = FeatureTap(model), normal(5, 4)
    taps = tap(x)
    assert tap.classifier_name == "1"
    torch.testing.assert_close(taps.features["features"], model[0](x).detach())
    units = nn.functional.normalize(taps.features["features"])
    torch.testing.assert_close(units @ tap.weight.T, taps.logits)
    torch.testing.assert_close(tap.weight.norm(dim=1), torch.full((3,), 2.0))


@pytest.mark.parametrize("learn", [False, True])
def test_checkpoints_hold_directions_and_temperature(learn):
    saved = NormalizedHead(6, 4, temperature=3.0, learn_temperature=learn)
    other = NormalizedHead(6, 4, temperature=1.0, learn_temperature=learn)
    other.load_state_dict(saved.state_dict())
    x = normal(5, 6)
    assert torch.equal(other(x), saved(x))
    assert "temperature=3" in repr(other)
    assert ("learned" in repr(other)) == learn


def test_resized():
    head = NormalizedHead(6, 4, temperature=3.0, learn_temperature=True)
    assert head.resized(5).directions.shape == (4, 5)
    assert float(head.resized(5).temperature.detach()) == pytest.approx(3.0)
    with pytest.raises(InputError, match="learned directions"):
        NormalizedHead(4, 4, frame=torch.eye(4)).resized(3)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((8, 1), {}, "out_features is an integer of at least 2"),
        ((0, 3), {}, "in_features is an integer of at least 1"),
        ((8, 3), {"temperature": 0}, "finite temperature above zero"),
        ((8, 3), {"temperature": float("inf")}, "finite temperature above zero"),
        ((8, 3), {"frame": torch.eye(3)}, r"= \(3, 8\); got \(3, 3\)"),
        ((3, 3), {"frame": torch.diag(torch.tensor([1.0, 0.0, 1.0]))}, "finite rows other than zero"),
    ],
)
def test_bad_arguments(arguments, options, message):
    with pytest.raises(InputError, match=message):
        NormalizedHead(*arguments, **options)
