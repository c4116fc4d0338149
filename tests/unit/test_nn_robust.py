"""Generalised cross-entropy and early-learning regularisation against their formulas, sample by sample."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
from torch.autograd import gradcheck
from torch.nn.functional import cross_entropy

from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.nn.losses.robust import EarlyLearningLoss, GeneralizedCrossEntropyLoss

N, K = 20, 4


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=generator(seed))


def batches(count, size=6):
    """Batches of different samples, whose labels never change."""
    given = torch.arange(N).remainder(K)
    for step in range(count):
        index = torch.randperm(N, generator=generator(step))[:size]
        yield 4 * normal(size, K, seed=100 + step), given[index], index


class PlainELR:
    """The published algorithm with lists of floats."""

    def __init__(self, momentum, strength):
        self.momentum, self.strength = momentum, strength
        self.t = [[0.0] * K for _ in range(N)]

    def losses(self, logits, labels, index):
        values = []
        for row, y, i in zip(logits.tolist(), labels.tolist(), index.tolist(), strict=True):
            largest = max(row)
            total = math.fsum(math.exp(z - largest) for z in row)
            p = [math.exp(z - largest) / total for z in row]
            bar = [min(max(share, 1e-4), 1 - 1e-4) for share in p]
            mass = sum(bar)
            old = self.t[i]
            self.t[i] = [self.momentum * a + (1 - self.momentum) * b / mass for a, b in zip(old, bar, strict=True)]
            agreement = math.fsum(a * b for a, b in zip(self.t[i], bar, strict=True))
            values.append(-math.log(p[y]) + self.strength * math.log(1 - agreement))
        return values


@pytest.mark.parametrize("q", [0.1, 0.7, 1.0])
def test_gce_by_its_formula(q):
    logits, labels = 3 * normal(8, K), torch.arange(8).remainder(K)
    p = torch.softmax(logits, 1)[torch.arange(8), labels]
    value = GeneralizedCrossEntropyLoss(q=q, reduction="none")(logits, labels)
    torch.testing.assert_close(value, (1 - p**q) / q, rtol=1e-11, atol=1e-14)
    assert bool((value <= 1 / q).all())


def test_gce_gradient_is_that_of_cross_entropy_times_a_power():
    logits, labels = (3 * normal(8, K)).requires_grad_(), torch.arange(8).remainder(K)
    (ours,) = torch.autograd.grad(GeneralizedCrossEntropyLoss(q=0.7, reduction="sum")(logits, labels), logits)
    (plain,) = torch.autograd.grad(cross_entropy(logits, labels, reduction="sum"), logits)
    p = torch.softmax(logits.detach(), 1)[torch.arange(8), labels]
    torch.testing.assert_close(ours, p[:, None] ** 0.7 * plain, rtol=1e-12, atol=1e-15)


def test_gce_is_finite_where_a_probability_is_zero():
    logits = torch.tensor([[-1e4, 0.0]], requires_grad=True)
    value = GeneralizedCrossEntropyLoss(q=0.7)(logits, torch.tensor([0]))
    value.backward()
    assert value.item() == pytest.approx(1 / 0.7, rel=1e-6)
    assert logits.grad.tolist() == [[0, 0]]


@pytest.mark.parametrize(("momentum", "strength"), [(0.7, 3.0), (0.0, 1.0), (0.9, 7.0)])
@pytest.mark.parametrize("paired", [False, True])
def test_elr_by_the_published_algorithm(momentum, strength, paired):
    loss = EarlyLearningLoss(N, K, momentum=momentum, strength=strength, reduction="none").train()
    plain = PlainELR(momentum, strength)
    for logits, labels, index in batches(12):
        logits.requires_grad_()
        value = loss(logits, torch.stack([labels, index], 1)) if paired else loss(logits, labels, index=index)
        # t is float32: 1e-7 each, felt where 1 - <p, t> is small, by at most 1/(1 - <p, t>) < 1e4; measured 2e-5.
        assert value.tolist() == pytest.approx(plain.losses(logits, labels, index), rel=1e-4, abs=1e-4)
    torch.testing.assert_close(loss.t.double(), torch.tensor(plain.t, dtype=torch.float64), rtol=0, atol=1e-6)


def test_elr_gradient_holds_t_fixed():
    loss = EarlyLearningLoss(N, K, strength=5.0)
    for logits, labels, index in batches(5):
        loss(logits.requires_grad_(), labels, index=index)
    logits, labels, index = next(iter(batches(1)))
    logits = (logits / 4).requires_grad_()
    p = torch.softmax(logits, 1)
    after = 0.7 * loss.t[index] + 0.3 * p.detach()
    expected = (5 * (1 - (p * after).sum(1)).log()).mean() + cross_entropy(logits, labels)
    slopes = [torch.autograd.grad(v, logits)[0] for v in (expected, loss(logits, labels, index=index))]
    torch.testing.assert_close(*slopes, rtol=1e-5, atol=1e-6)


def test_elr_gradcheck():
    """With momentum near one the update hardly moves t, so that differences see the loss at a fixed t."""
    loss = EarlyLearningLoss(N, K, momentum=1 - 1e-12)
    loss.t += torch.rand(N, K, generator=generator(1)) / K
    logits, labels, index = next(iter(batches(1)))
    gradcheck(lambda z: loss(z, labels, index=index), ((logits / 4).requires_grad_(),))


def test_elr_reductions():
    each, mean, total = (EarlyLearningLoss(N, K, reduction=r) for r in ("none", "mean", "sum"))
    for logits, labels, index in batches(3):
        logits.requires_grad_()
        values = each(logits, labels, index=index)
        torch.testing.assert_close(mean(logits, labels, index=index), values.mean())
        torch.testing.assert_close(total(logits, labels, index=index), values.sum())


def test_elr_outside_training_is_cross_entropy_and_changes_nothing():
    loss = EarlyLearningLoss(N, K)
    logits, labels, index = next(iter(batches(1)))
    before = copy.deepcopy(loss.state_dict())
    with torch.no_grad():
        assert loss(logits, labels, index=index) == cross_entropy(logits, labels)
    assert loss.eval()(logits.requires_grad_(), labels) == cross_entropy(logits, labels)
    assert loss(logits, torch.stack([labels, index], 1)) == cross_entropy(logits, labels)
    assert all(torch.equal(value, before[name]) for name, value in loss.state_dict().items())


def test_elr_goes_on_from_its_state():
    one, other = EarlyLearningLoss(N, K), EarlyLearningLoss(N, K)
    steps = list(batches(6))
    for logits, labels, index in steps[:3]:
        one(logits.requires_grad_(), labels, index=index)
    other.load_state_dict(pickle.loads(pickle.dumps(one.state_dict())))
    for logits, labels, index in steps[3:]:
        logits.requires_grad_()
        assert torch.equal(one(logits, labels, index=index), other(logits, labels, index=index))


def test_elr_state_stays_in_float32():
    loss = EarlyLearningLoss(N, K).half()
    assert loss.t.dtype == torch.float32
    logits, labels, index = next(iter(batches(1)))
    assert loss(logits.half().requires_grad_(), labels, index=index).dtype == torch.float32


def test_elr_holds_back_memorising():
    """Two samples of class 0, one with label 1: ELR keeps the prediction it had, cross-entropy learns the label."""
    shares = {}
    for strength in (0.0, 10.0):
        loss = EarlyLearningLoss(2, 2, strength=strength)
        logits = torch.tensor([[2.0, 0.0], [2.0, 0.0]], requires_grad=True)
        descent = torch.optim.SGD([logits], lr=0.5)
        for _ in range(100):
            descent.zero_grad()
            loss(logits, torch.tensor([0, 1]), index=torch.tensor([0, 1])).backward()
            descent.step()
        shares[strength] = float(torch.softmax(logits.detach(), 1)[1, 0])
    assert shares[0.0] < 0.1
    assert shares[10.0] > 0.9


def test_elr_bad_batches_are_named_and_change_nothing():
    loss = EarlyLearningLoss(N, K)
    logits, labels, index = next(iter(batches(1)))
    logits.requires_grad_()
    loss(logits, labels, index=index)
    before = copy.deepcopy(loss.state_dict())
    poisoned = logits.detach().clone()
    poisoned[1] = math.nan
    twice = index.clone()
    twice[0] = twice[1]
    cases = [
        ((logits, labels, None), "IndexedDataset"),
        ((logits, labels, index + N), "positions that lie in"),
        ((logits, labels, twice), "name every sample once"),
        ((logits, labels + K, index), "labels that lie in"),
        ((logits, (labels + 1) % K, index), "keep the label"),
        ((logits, labels, index[:-1]), "integer index of shape"),
        ((logits, labels, index.double()), "integer index of shape"),
        ((logits, torch.stack([labels, index], 1), index), "the index once"),
        ((logits, labels.double(), index), "integer tensor"),
        ((poisoned.requires_grad_(), labels, index), "logits without NaN"),
        ((logits[:, :2], labels, index), r"logits of shape \(B, 4\)"),
        ((logits.detach().long(), labels, index), "floating point"),
        ((None, labels, index), "NoneType"),
        ((logits[:0], labels[:0], index[:0]), "at least one sample"),
    ]
    for (z, y, i), message in cases:
        with pytest.raises(InputError, match=message):
            loss(z, y, index=i)
    with pytest.raises(InputError, match="one device"):
        loss(logits.to("meta"), labels, index=index)
    assert all(torch.equal(value, before[name]) for name, value in loss.state_dict().items())


def test_elr_bad_options():
    for options in (
        {"momentum": 1.0},
        {"momentum": -0.1},
        {"strength": -1.0},
        {"strength": math.inf},
        {"reduction": ""},
    ):
        with pytest.raises(InputError):
            EarlyLearningLoss(N, K, **options)
    for sizes in ((0, K), (N, 1)):
        with pytest.raises(InputError):
            EarlyLearningLoss(*sizes)


def test_elr_says_what_it_needs():
    assert EarlyLearningLoss.needs_index
    assert EarlyLearningLoss.views == 1
    assert "momentum=0.7" in repr(EarlyLearningLoss(N, K))
