"""ReduNet against loops written from the formulas, autograd, and shifts that are really made."""

from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.utils.estimator_checks import parametrize_with_checks

from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.nn.rate import redunet_layer
from tightframe.nn.rate.coding import coding_rate, rate_reduction
from tightframe.nn.rate.nearest_subspace import NearestSubspaceClassifier
from tightframe.nn.rate.redunet import ReduNet
from tightframe.nn.rate.redunet_shift import ShiftInvariantReduNet, lifted


@parametrize_with_checks(
    [ReduNet(3), ReduNet(3, rule="softmax")],
    expected_failed_checks=lambda _: {"check_estimators_dtypes": "its data hold a sample of length zero: refused"},
)
def test_scikit_learn_rules(estimator, check):
    check(estimator)


def data(*, n: int = 24, d: int = 6, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    return draw.normal(size=(n, d)), np.concatenate([np.arange(classes), draw.integers(classes, size=n - classes)])


def plain_redunet(Z: np.ndarray, y: np.ndarray, new: np.ndarray, *, layers: int, eps2: float, eta: float, lam: float):
    """The formulas, one class and one sample at a time; columns are samples."""
    Z, new = (some.T / np.linalg.norm(some, axis=1) for some in (Z, new))
    d, n = Z.shape
    rates = []
    for _ in range(layers + 1):
        alpha = d / (n * eps2)
        expand = alpha * np.linalg.inv(np.eye(d) + alpha * Z @ Z.T)
        rate = 0.5 * np.log(np.linalg.det(np.eye(d) + alpha * Z @ Z.T))
        compress, shares = [], []
        for k in np.unique(y):
            Zk = Z[:, y == k]
            size = Zk.shape[1]
            inner = np.eye(d) + d / (size * eps2) * Zk @ Zk.T
            compress.append(d / (size * eps2) * np.linalg.inv(inner))
            shares.append(size / n)
            rate -= size / (2 * n) * np.log(np.linalg.det(inner))
        rates.append(rate)
        if len(rates) > layers:
            return Z.T, new.T, rates, compress
        moved = []
        for some in (Z, new):
            columns = []
            for z in some.T:
                sizes = np.array([np.linalg.norm(C @ z) for C in compress])
                soft = np.exp(-lam * (sizes - sizes.min()))
                soft /= soft.sum()
                step = expand @ z - sum(g * p * C @ z for g, p, C in zip(shares, soft, compress, strict=True))
                columns.append((z + eta * step) / np.linalg.norm(z + eta * step))
            moved.append(np.array(columns).T)
        Z, new = moved
    return None


@pytest.mark.parametrize("lam", [3.0, 500.0])
def test_layers_are_those_of_the_formulas(lam):
    X, y = data()
    new = np.random.default_rng(5).normal(size=(10, 6))
    fitted, moved, rates, compress = plain_redunet(X, y, new, layers=4, eps2=0.2, eta=0.3, lam=lam)
    model = ReduNet(4, 0.2, eta=0.3, softmax=lam).fit(X, y)
    assert np.allclose(model.rates_[:, 2], rates, atol=1e-12)
    # Each layer turns a rounding error e of a norm into lambda e of a membership: 500^4 1e-16 at the very worst, and
    # memberships are near 0 or 1, where the softmax is flat.
    assert np.allclose(model.transform(new), moved, atol=1e-9)
    assert np.allclose(model.transform(X), fitted, atol=1e-9)
    nearest = NearestSubspaceClassifier().fit(fitted, y).predict(moved)
    assert (model.predict(new) == nearest).all()
    by_norm = np.array([[np.linalg.norm(C @ z) for C in compress] for z in moved]).argmin(1)
    assert (ReduNet(4, 0.2, eta=0.3, softmax=lam, rule="softmax").fit(X, y).predict(new) == by_norm).all()


def test_a_step_by_true_labels_is_the_gradient_of_the_rate_reduction():
    X, y = data(n=30, d=5)
    model = ReduNet(1, 0.3).fit(X, y)
    Z = torch.tensor(X / np.linalg.norm(X, axis=1, keepdims=True), requires_grad=True)
    rate_reduction(Z, torch.tensor(y), eps2=0.3).delta.backward()
    layer = model.network_[0]
    ascent = Z.detach() @ layer.expand[0].T
    for k in range(3):
        chosen = torch.tensor(y == k)
        ascent[chosen] -= layer.shares[k] * Z.detach()[chosen] @ layer.compress[k, 0].T
    assert torch.allclose(ascent, Z.grad, atol=1e-12)


def test_rates_are_the_coding_rates_of_the_features_and_grow():
    X, y = data(n=60, d=8)
    X += 4 * np.eye(8)[y]
    model = ReduNet(30, eta=0.1).fit(X, y)
    for layers, Z in ((0, X / np.linalg.norm(X, axis=1, keepdims=True)), (30, model.transform(X))):
        rates = rate_reduction(torch.tensor(Z), torch.tensor(y), eps2=0.1)
        expected = [float(coding_rate(torch.tensor(Z), eps2=0.1)), float(rates.compressed), float(rates.delta)]
        assert model.rates_[layers] == pytest.approx(expected, abs=1e-11)
    assert (np.diff(model.rates_[:, 2]) > 0).all()
    assert model.rates_[-1, 2] > 1.2 * model.rates_[0, 2]


def every_shift(X: np.ndarray) -> np.ndarray:
    """(n, c, ...) to (n P, c P): all circular shifts of every sample, those of one sample together."""
    axes = tuple(range(2, X.ndim))
    shifts = itertools.product(*(range(size) for size in X.shape[2:]))
    moved = np.stack([np.roll(X, shift, axis=axes) for shift in shifts], axis=1)
    return moved.reshape(X.shape[0] * moved.shape[1], -1)


@pytest.mark.parametrize("size", [(5,), (6,), (3, 4), (4, 3), (2, 2), (1, 5)])
def test_the_shift_invariant_network_is_the_plain_one_on_all_shifts(size):
    draw = np.random.default_rng(3)
    X, y = draw.normal(size=(7, 2, *size)), np.array([0, 1, 2, 0, 1, 2, 2])
    positions = int(np.prod(size))
    model = ShiftInvariantReduNet(3, 0.2, channels=0).fit(X, y)
    plain = ReduNet(3, 0.2, rule="softmax").fit(every_shift(X), np.repeat(y, positions))
    # Delta R of all shifts, in dimension c P, is counted per position.
    assert np.allclose(model.rates_ * positions, plain.rates_, rtol=1e-11)
    new = draw.normal(size=(5, 2, *size))
    assert np.allclose(model.transform(new).reshape(5, -1), plain.transform(new.reshape(5, -1)), atol=1e-9)
    assert (model.predict(new) == plain.predict(new.reshape(5, -1))).all()


@pytest.mark.parametrize(("shape", "shift"), [((2, 9), (4,)), ((1, 6, 5), (2, 3))])
def test_shifts_go_through_the_network(shape, shift):
    draw = np.random.default_rng(4)
    X, y = draw.normal(size=(12, *shape)), np.arange(12) % 3
    model = ShiftInvariantReduNet(5, channels=4, kernel_size=3).fit(X, y)
    axes = tuple(range(2, X.ndim))
    moved = np.roll(X, shift, axis=axes)
    assert model.transform(X).shape == (12, 4, *shape[1:])
    assert np.allclose(model.transform(moved), np.roll(model.transform(X), shift, axis=axes), atol=1e-10)
    assert (model.predict(moved) == model.predict(X)).all()
    assert np.allclose(np.square(model.transform(X)).reshape(12, -1).sum(1), 1, atol=1e-12)
    refitted = ShiftInvariantReduNet(5, channels=4, kernel_size=3).fit(moved, y)
    assert np.allclose(refitted.rates_, model.rates_, rtol=1e-10)


def test_lifting_is_a_rectified_circular_convolution():
    x = torch.randn(2, 3, 4, 5, generator=generator(0), dtype=torch.float64)
    kernels = torch.randn(6, 3, 2, 2, generator=generator(1), dtype=torch.float64)
    expected = torch.zeros(2, 6, 4, 5, dtype=torch.float64)
    for n, c, i, j in itertools.product(range(2), range(6), range(4), range(5)):
        for b, s, t in itertools.product(range(3), range(2), range(2)):
            expected[n, c, i, j] += kernels[c, b, s, t] * x[n, b, (i + s) % 4, (j + t) % 5]
    assert torch.allclose(lifted(x, kernels), expected.clamp(min=0), atol=1e-13)
    assert torch.allclose(lifted(x[..., 0], kernels[..., 0]), lifted(x[..., :1], kernels[..., :1])[..., 0])


def test_many_samples_go_through_in_parts(monkeypatch):
    X, y = data(n=50)
    whole = ReduNet(3, rule="softmax").fit(X, y)
    before = whole.transform(X), whole.predict(X)
    monkeypatch.setattr(redunet_layer, "_ENTRIES", 100)
    assert np.allclose(whole.transform(X), before[0], atol=1e-12)
    assert (whole.predict(X) == before[1]).all()


def test_single_precision_stays_and_agrees():
    X, y = data(n=40)
    single = ReduNet(3, 0.5, softmax=5.0).fit(X.astype(np.float32), y)
    assert single.transform(X).dtype == np.float32
    assert {p.dtype for p in single.network_.parameters()} == {torch.float32}
    # Three layers, each with lambda |C| of at most about 10 times the rounding 6e-8 of its input.
    assert np.allclose(single.transform(X), ReduNet(3, 0.5, softmax=5.0).fit(X, y).transform(X), atol=1e-4)
    signals = np.random.default_rng(0).normal(size=(9, 1, 8)).astype(np.float32)
    shift = ShiftInvariantReduNet(2, channels=3).fit(signals, np.arange(9) % 3)
    assert shift.transform(signals).dtype == np.float32
    assert {p.dtype for p in shift.network_.parameters()} == {torch.complex64}
    assert shift.transform(signals.astype(np.float64)).dtype == np.float32


def test_the_network_is_a_module_that_can_be_trained_and_kept():
    X, y = data(n=8, d=4)
    model = ReduNet(2, softmax=5.0).fit(X, y)
    copy = pickle.loads(pickle.dumps(model))
    assert np.array_equal(copy.transform(X), model.transform(X))
    assert not any(p.requires_grad for p in model.network_.parameters())
    network = copy.network_.requires_grad_()
    Z = torch.tensor(X / np.linalg.norm(X, axis=1, keepdims=True))[None]
    assert torch.autograd.gradcheck(network, Z.requires_grad_())
    (-rate_reduction(network(Z)[0], torch.tensor(y), eps2=0.1).delta).backward()
    assert all(float(p.grad.abs().max()) > 0 for p in network.parameters())
    assert "classes=3, frequencies=1, channels=4" in repr(network)


def test_digits_as_measured():
    images, labels = load_digits(return_X_y=True)
    X, new, y, truth = train_test_split(images, labels, test_size=0.3, random_state=0, stratify=labels)
    model = ReduNet(20).fit(X, y)
    deltas = model.rates_[:, 2]
    # An independent prototype, mean of three splits: 33.0 in the end, nearest subspace .985. One split of 540 has a
    # standard deviation of 0.5 % of accuracy, and splits differ by 0.1 in the rates.
    assert deltas[0] == pytest.approx(10.3, abs=0.3)
    assert deltas[-1] == pytest.approx(33.0, abs=0.5)
    assert (np.diff(deltas) > 0).all()
    assert (model.predict(new) == truth).mean() > 0.97
    assert (model.set_params(rule="softmax").predict(new) == truth).mean() > 0.97


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_layers": 0}, "n_layers is an integer of at least 1"),
        ({"eps2": 0.0}, "eps2 is a finite number above 0"),
        ({"eta": float("inf")}, "eta is a finite number above 0"),
        ({"softmax": -1.0}, "softmax is a finite number above 0"),
        ({"rule": "vote"}, "a rule, subspace or softmax"),
    ],
)
def test_constants_out_of_range(options, message):
    X, y = data()
    with pytest.raises(InputError, match=message):
        ReduNet(**options).fit(X, y)
    if "rule" not in options:
        with pytest.raises(InputError, match=message):
            ShiftInvariantReduNet(**options).fit(X[:, None], y)


def test_bad_vectors():
    X, y = data()
    with pytest.raises(InputError, match="got 1 class"):
        ReduNet().fit(X, np.zeros(24))
    with pytest.raises(InputError, match=r"1 of length zero, among \d+, first in row 7"):
        ReduNet().fit(np.where(np.arange(24)[:, None] == 7, 0, X), y)
    with pytest.raises(ValueError, match="NaN"):
        ReduNet(2).fit(X, y).transform(X * np.nan)


def test_bad_signals():
    draw = np.random.default_rng(0)
    X, y = draw.normal(size=(6, 1, 8)), [0, 1] * 3
    model = ShiftInvariantReduNet(2).fit(X, y)
    with pytest.raises(InputError, match=r"samples of the shape \(1, 8\) that was fitted; got \(1, 7\)"):
        model.predict(X[..., :7])
    for broken, message in (
        (X[:, 0], r"signals \(n, channels, length\)"),
        (X * np.nan, "samples are finite"),
        (X * 0, "6 zero samples"),
        (X[..., :2], "kernels no longer than the samples"),
        (X[:5], r"one label for each of 5 samples; got shape \(6,\)"),
    ):
        with pytest.raises(InputError, match=message):
            ShiftInvariantReduNet(2).fit(broken, y)
    with pytest.raises(InputError, match="channels is an integer of at least 0"):
        ShiftInvariantReduNet(2, channels=-1).fit(X, y)
    with pytest.raises(InputError, match="got 1 class"):
        ShiftInvariantReduNet(2).fit(X, [1] * 6)
    integers = (10 * X).astype(int)
    assert ShiftInvariantReduNet(2, channels=4).fit(torch.tensor(integers), y).transform(integers).dtype == np.float64
