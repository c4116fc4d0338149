"""Losses of logits against torch's cross-entropy, their formulas and the losses of unconstrained features."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck
from torch.nn.functional import cross_entropy, mse_loss, one_hot, softmax

from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.nn.losses.losses import FocalLoss, LabelSmoothingLoss, RescaledMSELoss
from tightframe.nn.losses.robust import GeneralizedCrossEntropyLoss
from tightframe.ufm.losses import CrossEntropy, Focal, SquaredError

K = 4
WEIGHT = torch.tensor([0.5, 2.0, 0.0, 1.0], dtype=torch.float64)
PLAIN = [
    lambda **options: FocalLoss(gamma=0.0, **options),
    lambda **options: LabelSmoothingLoss(smoothing=options.pop("label_smoothing", 0.0), **options),
    lambda **options: GeneralizedCrossEntropyLoss(q=0.0, **options),
]
LOSSES = [
    lambda **options: FocalLoss(gamma=0.5, **options),
    lambda **options: FocalLoss(**options),
    lambda **options: LabelSmoothingLoss(**options),
    lambda **options: LabelSmoothingLoss(convention="source", **options),
    lambda **options: RescaledMSELoss(scale=2.0, target=3.0, **options),
    lambda **options: GeneralizedCrossEntropyLoss(**options),
]


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=generator(seed))


def batch(*shape, seed=0):
    """Logits (n, K, ...), labels with an ignored one, probabilities."""
    logits = 3 * normal(shape[0], K, *shape[1:], seed=seed)
    labels = torch.randint(K, shape, generator=generator(seed + 1))
    labels.view(-1)[1] = -100
    return logits, labels, softmax(normal(*logits.shape, seed=seed + 2), 1)


@pytest.mark.parametrize("make", PLAIN)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("shape", [(6,), (5, 3, 2)], ids=str)
def test_special_cases_are_cross_entropy(make, reduction, weight, smoothing, shape):
    logits, labels, shares = batch(*shape)
    loss = make(weight=weight, reduction=reduction, label_smoothing=smoothing)
    for target in (labels, shares):
        expected = cross_entropy(logits, target, weight, reduction=reduction, label_smoothing=smoothing)
        torch.testing.assert_close(loss(logits, target), expected, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("make", LOSSES)
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
def test_reductions_weights_and_targets_agree(make, weight):
    """One-hot probabilities are labels; a mean is a weighted sum; an ignored sample is one that is not there."""
    logits, labels, shares = batch(7)
    each = make(weight=weight, reduction="none")
    kept = labels != -100
    hard = one_hot(labels.clamp(min=0), K).double()
    values = each(logits, labels)
    torch.testing.assert_close(each(logits, hard)[kept], values[kept], rtol=1e-12, atol=1e-13)
    assert values[1] == 0
    torch.testing.assert_close(make(weight=weight, reduction="sum")(logits, labels), values.sum())
    weights = torch.ones(K, dtype=torch.float64) if weight is None else weight
    mean = values.sum() / weights[labels[kept]].sum()
    torch.testing.assert_close(make(weight=weight)(logits, labels), mean)
    torch.testing.assert_close(make(weight=weight)(logits[kept], labels[kept]), mean)
    moved = labels.masked_fill(~kept, 3)
    torch.testing.assert_close(
        make(weight=weight, ignore_index=3)(logits[moved != 3], moved[moved != 3]),
        make(weight=weight, ignore_index=3)(logits, moved),
    )
    torch.testing.assert_close(make(weight=weight)(logits, shares), each(logits, shares).mean())
    # Expected loss: linear in the probabilities.
    single = [each(logits, torch.full((7,), c)) for c in range(K)]
    torch.testing.assert_close(each(logits, shares), sum(shares[:, c] * single[c] for c in range(K)))


@pytest.mark.parametrize("make", LOSSES)
def test_positions_are_samples(make):
    logits, labels, _ = batch(3, 2, 2)
    flat = logits.movedim(1, -1).reshape(-1, K)
    torch.testing.assert_close(make()(logits, labels), make()(flat, labels.reshape(-1)))


@pytest.mark.parametrize("make", LOSSES)
def test_gradcheck(make):
    logits, labels, shares = batch(5)
    gradcheck(lambda z: make()(z, labels), (logits.requires_grad_(),))
    gradcheck(make(), (logits, shares.requires_grad_()))


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 3.0])
def test_focal_by_its_formula(gamma):
    logits, labels, _ = batch(50)
    labels = labels.clamp(min=0)
    p = softmax(logits, 1)[torch.arange(50), labels]
    expected = -((1 - p) ** gamma) * p.log()
    # 1 - p loses digits where p is near 1, which is why the loss is not computed so.
    torch.testing.assert_close(FocalLoss(gamma=gamma, reduction="none")(logits, labels), expected, rtol=1e-9, atol=0)
    smooth = FocalLoss(gamma=gamma, label_smoothing=0.2)(logits, labels)
    q = 0.8 * one_hot(labels, K).double() + 0.05
    every = -((1 - softmax(logits, 1)) ** gamma) * softmax(logits, 1).log()
    torch.testing.assert_close(smooth, (q * every).sum(1).mean(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("gamma", [0.3, 2.0])
@pytest.mark.parametrize("margin", [-700.0, -40.0, -1.0, 0.0, 1.0, 20.0, 40.0, 60.0])
@pytest.mark.parametrize("soft", [False, True])
def test_focal_keeps_its_digits_at_any_margin(gamma, margin, soft):
    """Against the closed form in the margin; two classes with logits m and 0 have p = sigmoid(m)."""
    logits = torch.tensor([[margin, 0.0]], dtype=torch.float64, requires_grad=True)
    target = torch.tensor([[1.0, 0.0]], dtype=torch.float64) if soft else torch.tensor([0])
    value = FocalLoss(gamma=gamma)(logits, target)
    (slope,) = torch.autograd.grad(value, logits)
    # log(1 + e^-m) and 1 - p = e^-m/(1 + e^-m), without cancellation on either side.
    log = math.log1p(math.exp(-margin)) if margin > 0 else -margin + math.log1p(math.exp(margin))
    miss = math.exp(-margin) / (1 + math.exp(-margin)) if margin > 0 else 1 / (1 + math.exp(margin))
    assert value.item() == pytest.approx(miss**gamma * log, rel=1e-13)
    expected = -(miss**gamma) * (gamma * (1 - miss) * log + miss)
    assert slope[0].tolist() == pytest.approx([expected, -expected], rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_focal_in_lower_precision(dtype):
    logits = torch.tensor([[18.0, 0.0, 0.0], [-30.0, 0.0, 5.0]], dtype=dtype, requires_grad=True)
    value = FocalLoss(gamma=0.5, reduction="none")(logits, torch.tensor([0, 0]))
    exact = FocalLoss(gamma=0.5, reduction="none")(logits.double(), torch.tensor([0, 0]))
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), exact, rtol=1e-6, atol=0)
    value.sum().backward()
    assert bool(torch.isfinite(logits.grad).all())


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (FocalLoss(gamma=2.0, reduction="none"), Focal(2.0)),
        (FocalLoss(gamma=3.0, reduction="none"), Focal(3.0)),
        (LabelSmoothingLoss(smoothing=0.2, reduction="none"), CrossEntropy(0.2)),
        (LabelSmoothingLoss(smoothing=0.15, convention="source", reduction="none"), CrossEntropy(0.2)),
        (RescaledMSELoss(scale=2.0, target=3.0, over_classes="half", reduction="none"), SquaredError(2.0, 3.0)),
    ],
)
def test_values_and_gradients_are_those_of_unconstrained_features(ours, theirs):
    """The same losses, written there for columns and with hand-made gradients."""
    logits, labels, _ = batch(6)
    labels = labels.clamp(min=0)
    value = ours(logits.requires_grad_(), labels)
    torch.testing.assert_close(value, theirs.value(logits.detach().T, labels), rtol=1e-12, atol=1e-13)
    (slopes,) = torch.autograd.grad(value.sum(), logits)
    torch.testing.assert_close(slopes, theirs.gradient(logits.detach().T, labels).T, rtol=1e-11, atol=1e-13)


def test_smoothing_spreads_over_all_or_over_the_others():
    logits, labels, shares = batch(6)
    labels, alpha = labels.clamp(min=0), 0.3
    logs, hard = logits.log_softmax(1), one_hot(labels, K).double()
    over_all = (1 - alpha) * hard + alpha / K
    over_others = (1 - alpha) * hard + alpha / (K - 1) * (1 - hard)
    for convention, q in (("torch", over_all), ("source", over_others)):
        value = LabelSmoothingLoss(smoothing=alpha, convention=convention)(logits, labels)
        torch.testing.assert_close(value, -(q * logs).sum(1).mean(), rtol=1e-13, atol=0)
    mixed = (1 - alpha) * shares + alpha / (K - 1) * (1 - shares)
    value = LabelSmoothingLoss(smoothing=alpha, convention="source")(logits, shares)
    torch.testing.assert_close(value, -(mixed * logs).sum(1).mean(), rtol=1e-13, atol=0)
    assert Fraction(3, 10) * K / (K - 1) == Fraction(4, 10)
    torch.testing.assert_close(
        LabelSmoothingLoss(smoothing=0.3, convention="source")(logits, labels),
        nn.CrossEntropyLoss(label_smoothing=0.4)(logits, labels),
        rtol=1e-13,
        atol=0,
    )


def test_squared_error_in_every_normalisation():
    logits, labels, _ = batch(6)
    labels = labels.clamp(min=0)
    plain = []
    for row, y in zip(logits.tolist(), labels.tolist(), strict=True):
        plain.append(2.5 * (row[y] - 4) ** 2 + sum(z * z for j, z in enumerate(row) if j != y))
    plain = torch.tensor(plain, dtype=torch.float64)
    for over, factor in (("sum", 1), ("mean", 1 / K), ("half", 0.5)):
        loss = RescaledMSELoss(scale=2.5, target=4.0, over_classes=over, reduction="none")
        torch.testing.assert_close(loss(logits, labels), factor * plain, rtol=1e-13, atol=0)
    published = mse_loss(logits, 15 * one_hot(labels, K).double())
    torch.testing.assert_close(RescaledMSELoss()(logits, labels), published, rtol=1e-13, atol=0)


@pytest.mark.parametrize("make", [*PLAIN, *LOSSES])
def test_bad_batches_are_named(make):
    logits, labels = normal(3, K), torch.tensor([0, 1, 2])
    poisoned = logits.clone()
    poisoned[2, 0] = math.nan
    cases = [
        (poisoned, labels, "1 entries that are NaN or inf, first in row 2"),
        (logits, torch.tensor([0, K, 1]), f"labels in .0, {K}.; got values from 0 to {K}"),
        (logits, torch.tensor([0, -1, 1]), "values from -1 to 1"),
        (logits, torch.full((3,), -100), "not ignored"),
        (logits, torch.full((3, K), math.nan), "finite probabilities"),
        (logits[:, :1], torch.zeros(3, dtype=torch.long), "k >= 2 classes"),
        (logits[0], labels[0], "k >= 2 classes"),
        (logits.long(), labels, "floating-point logits"),
        (logits[:0], labels[:0], "at least one sample"),
        (logits, labels[:2], "class indices of shape"),
        (logits, torch.stack([labels, labels], 1), "no sample positions"),
        (logits, labels > 0, "class indices of shape"),
        (logits, [0, 1, 2], "class indices of shape"),
    ]
    for z, target, message in cases:
        with pytest.raises(InputError, match=message):
            make()(z, target)
    with pytest.raises(InputError, match="weight above 0"):
        make(weight=torch.zeros(K))(logits, labels)
    with pytest.raises(InputError, match="one weight for each of 4 classes"):
        make(weight=torch.ones(3))(logits, labels)
    with pytest.raises(InputError, match="one device"):
        make()(logits, labels.to("meta"))
    assert make()(logits, labels).isfinite()
    make().check(logits, labels)


def test_overflow_is_named():
    with pytest.raises(InputError, match="computed in their precision"):
        RescaledMSELoss()(torch.full((2, 3), 1e30), torch.tensor([0, 1]))


def test_bad_options():
    for make in (
        lambda: FocalLoss(gamma=-1.0),
        lambda: FocalLoss(gamma=math.inf),
        lambda: FocalLoss(reduction="median"),
        lambda: FocalLoss(label_smoothing=1.5),
        lambda: FocalLoss(torch.tensor([1.0, -1.0])),
        lambda: FocalLoss(torch.tensor([1.0, math.nan])),
        lambda: FocalLoss([1.0, 2.0]),
        lambda: LabelSmoothingLoss(smoothing=-0.1),
        lambda: LabelSmoothingLoss(convention="timm"),
        lambda: LabelSmoothingLoss(smoothing=0.8, convention="source")(torch.zeros(1, K), torch.tensor([0])),
        lambda: RescaledMSELoss(scale=0.0),
        lambda: RescaledMSELoss(target=math.inf),
        lambda: RescaledMSELoss(over_classes="third"),
        lambda: GeneralizedCrossEntropyLoss(q=1.5),
    ):
        with pytest.raises(InputError):
            make()


def test_weights_travel_with_the_module():
    loss = FocalLoss(WEIGHT.float())
    assert dict(loss.named_buffers()).keys() == {"weight"}
    fresh = FocalLoss(torch.ones(K))
    fresh.load_state_dict(loss.state_dict())
    assert torch.equal(fresh.weight, WEIGHT.float())


def test_autocast_leaves_the_loss_in_float32():
    logits, labels, _ = batch(6)
    logits = logits.float()
    plain = FocalLoss()(logits, labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(FocalLoss()(logits, labels), plain)
        assert FocalLoss()(logits.bfloat16(), labels).dtype == torch.float32
