"""The MCR2 loss against a plain formulation, its invariances, gradients and optimum; bad input."""

from __future__ import annotations

import math

import pytest
import torch
from torch.autograd import gradcheck
from torch.nn.functional import normalize, one_hot

from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.nn.rate.rate_reduction import MCR2Loss, unit_features


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=generator(seed))


def batch(n, d, k, seed=0):
    return 5 * normal(n, d, seed=seed), torch.arange(n).remainder(k)


def published(features, shares, *, eps2=0.5, gamma1=1.0, gamma2=1.0, unit=True):
    """Dense Pi and one class after the other, on columns."""
    W = (normalize(features, dim=1) if unit else features).T
    d, n = W.shape
    total = torch.logdet(torch.eye(d, dtype=W.dtype) + gamma1 * d / (n * eps2) * W @ W.T) / 2
    parts = 0.0
    for column in shares.to(W.dtype).T:
        size = column.sum() + 1e-300
        inside = torch.eye(d, dtype=W.dtype) + d / (size * eps2) * W @ torch.diag(column) @ W.T
        parts = parts + size / (2 * n) * torch.logdet(inside)
    return parts - gamma2 * total


@pytest.mark.parametrize(("n", "d", "k"), [(30, 6, 3), (30, 40, 5), (12, 8, 4)])
@pytest.mark.parametrize(
    "options", [{}, {"eps2": 0.1}, {"gamma1": 20.0, "gamma2": 0.05}, {"gamma2": 2.0, "normalize": False}], ids=str
)
def test_value_and_gradient_are_the_published_ones(n, d, k, options):
    features, labels = batch(n, d, k)
    plain = {("unit" if key == "normalize" else key): value for key, value in options.items()}
    soft = torch.softmax(normal(n, k, seed=5), 1)
    for target, shares in ((labels, one_hot(labels, k)), (soft, soft)):
        z = features.clone().requires_grad_()
        ours, theirs = MCR2Loss(**options)(z, target), published(z, shares, **plain)
        assert float(ours.detach()) == pytest.approx(float(theirs.detach()), rel=1e-11)
        slopes = [torch.autograd.grad(value, z)[0] for value in (ours, theirs)]
        torch.testing.assert_close(*slopes, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("d", [4, 12])
@pytest.mark.parametrize("options", [{}, {"gamma1": 2.0, "gamma2": 0.5}, {"normalize": False}], ids=str)
def test_gradcheck(d, options):
    features, labels = batch(9, d, 3)
    loss, soft = MCR2Loss(**options), torch.softmax(normal(9, 3, seed=5), 1)
    gradcheck(lambda z: loss(z, labels), (features.requires_grad_(),))
    gradcheck(loss, (features, soft.requires_grad_()))


def test_lengths_rotations_and_the_order_change_nothing():
    features, labels = batch(20, 6, 4)
    value = float(MCR2Loss()(features, labels))
    lengths = torch.logspace(-200, 200, 20, dtype=torch.float64)[:, None]
    turned = torch.linalg.qr(normal(6, 6, seed=2)).Q
    order = torch.randperm(20, generator=generator(3))
    names = torch.tensor([2, 0, 3, 1])
    for other in ((features * lengths, labels), (features @ turned, labels), (features, names[labels])):
        assert float(MCR2Loss()(*other)) == pytest.approx(value, rel=1e-12)
    assert float(MCR2Loss()(features[order], labels[order])) == pytest.approx(value, rel=1e-12)


def test_descent_reaches_the_optimum():
    """Three classes in nine dimensions: three orthogonal subspaces of rank three, Delta R within 0.1 % of the bound."""
    loss, labels = MCR2Loss(), torch.arange(60).remainder(3)
    features = normal(60, 9).requires_grad_()
    descent = torch.optim.Adam([features], lr=0.05)
    before = loss.progress(features, labels)
    for _ in range(300):
        descent.zero_grad()
        loss(features, labels).backward()
        descent.step()
    assert before < 0.7
    assert 0.999 < loss.progress(features, labels) <= 1 + 1e-12
    rows = unit_features(features.detach())
    across = [rows[labels == i] @ rows[labels == j].T for i, j in ((0, 1), (0, 2), (1, 2))]
    assert max(float(block.abs().max()) for block in across) < 0.05
    spectra = [torch.linalg.svdvals(rows[labels == j]) for j in range(3)]
    # Equal singular values sqrt(20/3), the rest near zero.
    assert all(torch.allclose(s[:3], torch.full_like(s[:3], (20 / 3) ** 0.5), rtol=0.05) for s in spectra)
    assert all(float(s[3:].max()) < 0.3 for s in spectra)


def test_progress_is_one_at_orthonormal_blocks():
    blocks = torch.linalg.qr(normal(8, 8)).Q
    labels = torch.repeat_interleave(torch.arange(4), 2)
    assert MCR2Loss().progress(blocks, labels) == pytest.approx(1, abs=1e-12)
    assert MCR2Loss().progress(blocks, one_hot(labels, 4).double()) == pytest.approx(1, abs=1e-8)
    assert MCR2Loss().progress(3 * blocks, labels) == pytest.approx(1, abs=1e-12)


def test_progress_takes_the_counts_of_the_batch():
    """Two samples of a class span two of its eight dimensions at most: the bound knows."""
    rows, labels = torch.eye(16, dtype=torch.float64)[:4], torch.tensor([0, 0, 1, 1])
    assert MCR2Loss().progress(rows, labels) == pytest.approx(1, abs=1e-12)


def test_training_in_half_precision_computes_in_float32():
    features, labels = batch(20, 6, 4)
    for dtype in (torch.float16, torch.bfloat16):
        z = features.to(dtype).requires_grad_()
        value = MCR2Loss()(z, labels)
        value.backward()
        assert value.dtype == torch.float32
        assert z.grad.dtype == dtype
        assert float(value.detach()) == pytest.approx(float(MCR2Loss()(z.detach().double(), labels)), rel=1e-5)
    assert MCR2Loss(dtype=torch.float64)(features.float(), labels).dtype == torch.float64


def test_a_silenced_sample_adds_to_no_rate_and_moves_nothing():
    """By the formula: a row of zeros leaves Z^T Z as it is, and counts in n and n_j alone."""
    features, labels = batch(12, 5, 3)
    features = features.clone()
    features[2] = 0
    z = features.requires_grad_()
    value = MCR2Loss(eps2=0.5)(z, labels)
    value.backward()
    unit = z.detach() / z.detach().norm(dim=1, keepdim=True).clamp(min=1e-300)

    def rate(rows):
        return torch.logdet(torch.eye(5, dtype=torch.float64) + 5 / (0.5 * len(rows)) * rows.T @ rows)

    classes = sum(int((labels == j).sum()) * rate(unit[labels == j]) for j in range(3)) / 24
    assert float(value.detach()) == pytest.approx(float(classes - rate(unit) / 2), abs=1e-12)
    assert torch.equal(z.grad[2], torch.zeros(5, dtype=torch.float64))
    assert bool((z.grad[3] != 0).any())
    assert bool(torch.isfinite(z.grad).all())


def test_bad_input():
    features, labels = batch(6, 4, 3)
    loss = MCR2Loss()
    bad = features.clone()
    bad[1, 1] = math.nan
    cases = [
        (torch.zeros_like(features), labels, "6 of them with features of zeros"),
        (bad, labels, "1 rows with NaN"),
        (features, torch.zeros_like(labels), "at least two classes"),
        (features, torch.eye(3, dtype=torch.float64)[torch.zeros_like(labels)], "at least two classes"),
        (features, labels[:5], "one per row"),
        (features, labels - 1, "labels lie in"),
        (features.long(), labels, "floating-point"),
        (features[0], labels, "floating-point tensor"),
        (features[:0], labels[:0], "floating-point tensor"),
    ]
    for rows, target, message in cases:
        with pytest.raises(InputError, match=message):
            loss(rows, target)
    with pytest.raises(InputError, match="length one"):
        MCR2Loss(normalize=False).progress(features, labels)
    for options in ({"eps2": 0}, {"gamma1": 0}, {"gamma2": math.inf}):
        with pytest.raises(InputError):
            MCR2Loss(**options)


def test_repr_names_the_settings():
    assert repr(MCR2Loss(eps2=0.25)) == "MCR2Loss(eps2=0.25, gamma1=1, gamma2=1, normalize=True)"
