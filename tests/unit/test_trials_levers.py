"""Names of losses and heads, and what they build."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from tightframe.core.errors import InputError
from tightframe.nn.heads.alignment import AlignedETFHead, AligningLoss
from tightframe.nn.losses.losses import FocalLoss
from tightframe.nn.networks import build
from tightframe.nn.sop.sop import SOPLoss
from tightframe.trials.levers import HEADS, LOSSES, build_head, build_loss, parse_loss


def network(head: str = "linear", **options) -> nn.Module:
    torch.manual_seed(0)
    return build_head(build("mlp", shape=(1, 4, 4), classes=3, width=8, depth=2), head, **options)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("ce", ("ce", {})),
        ("focal:gamma=3", ("focal", {"gamma": 3})),
        ("sop:rate=0.5,balance=1e-1", ("sop", {"rate": 0.5, "balance": 0.1})),
        ("sop:storage=sparse,slots=2", ("sop", {"storage": "sparse", "slots": 2})),
        ("ls:smoothing=0.05", ("ls", {"smoothing": 0.05})),
    ],
)
def test_a_loss_is_a_name_and_options(spec, expected):
    assert parse_loss(spec) == expected


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("hinge", "a loss, one of ce, ls, focal"),
        ("focal:alpha=1", "an option of the loss 'focal'"),
        ("focal:gamma=", "a number for gamma"),
        ("mse:scale=1;2", "a number for scale"),
        ("sop:rate=fast", "a number for rate of the loss 'sop'; got 'fast'"),
        ("sop:storage=", "a number for storage"),
        ("sop:reduction=sum", "an option of the loss 'sop', one of rate, rate_v"),
    ],
)
def test_a_loss_that_cannot_be_read_is_refused(spec, words):
    with pytest.raises(InputError, match=words):
        parse_loss(spec)


@pytest.mark.parametrize(("spec", "words"), [("sop:rate=nan", "rate is finite"), ("focal:gamma=inf", "a finite gamma")])
def test_numbers_that_are_none_reach_the_loss_and_are_refused_there(spec, words):
    with pytest.raises(InputError, match=words):
        build_loss(spec, samples=4, model=network())


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("head", HEADS)
def test_every_loss_trains_every_head(name, head):
    model, samples = network(head), 12
    loss = build_loss(name, samples=samples, model=model)
    x, target = torch.randn(samples, 1, 4, 4, generator=torch.Generator().manual_seed(1)), torch.arange(samples) % 3
    features = model.forward_features(x)
    options = {}
    if getattr(loss, "needs_index", False):
        options["index"] = torch.arange(samples)
    if getattr(loss, "views", 1) == 2:
        options["logits2"] = model(x)
    if getattr(loss, "needs_features", False):
        options["features"] = features
    value = loss(model.classifier(features), target, **options)
    value.backward()
    assert torch.isfinite(value)
    assert float(model.blocks[0].linear.weight.grad.abs().sum()) > 0
    if head == "etf":
        assert {name for name, _ in model.classifier.named_parameters()} <= {"bias"}


def test_options_reach_the_loss_and_sop_plus_has_its_own():
    model = network()
    assert build_loss("focal:gamma=3", samples=5, model=model).gamma == 3
    assert isinstance(build_loss("focal", samples=5, model=model), FocalLoss)
    plus = build_loss("sop+:balance=0.5", samples=5, model=model)
    assert isinstance(plus, SOPLoss)
    assert (plus.balance, plus.consistency, plus.views) == (0.5, 0.9, 2)


def test_an_aligned_head_is_told_the_labels():
    model = network("aligned")
    loss = build_loss("sop", samples=6, model=model)
    assert isinstance(model.classifier, AlignedETFHead)
    assert isinstance(loss, AligningLoss)
    assert loss.needs_index


def test_rate_reduction_moves_the_features_and_cross_entropy_the_classifier_alone():
    model = network()
    loss = build_loss("mcr2:eps2=0.5", samples=9, model=model)
    x, target = torch.randn(9, 1, 4, 4, generator=torch.Generator().manual_seed(1)), torch.arange(9) % 3
    features = model.forward_features(x)
    value = loss(model.classifier(features), target, features=features)
    read = functional.cross_entropy(model.classifier(features.detach()), target)
    rates = loss.rates(features, target)
    assert value.item() == pytest.approx((read + rates).item(), rel=1e-6)
    whole = torch.autograd.grad(value, model.blocks[0].linear.weight, retain_graph=True)[0]
    alone = torch.autograd.grad(rates, model.blocks[0].linear.weight, retain_graph=True)[0]
    torch.testing.assert_close(whole, alone)
    value.backward()
    assert float(model.classifier.weight.grad.abs().sum()) > 0
    # The classifier belongs to the network: neither a parameter nor a state of the loss.
    assert not list(loss.parameters())
    assert not loss.state_dict()


def test_features_are_reduced_and_the_frame_fits():
    model = network("etf", feature_dim=2)
    assert model.classifier.in_features == 2
    gram = model.classifier.frame.double() @ model.classifier.frame.double().T
    torch.testing.assert_close(gram, torch.full((3, 3), -0.5).double().fill_diagonal_(1), atol=1e-6, rtol=0)
    with pytest.raises(InputError, match="a head, one of linear"):
        network("square")
