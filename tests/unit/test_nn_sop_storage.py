from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tightframe.core.rng import generator
from tightframe.nn.sop.sop_storage import DenseRows, SparseRows, grown

N, K = 12, 9


def visits(steps: int, *, wrong: int, seed: int = 0):
    """Batches in which every sample is taken for its own label or one of `wrong` other classes."""
    random = generator(seed)
    labels = torch.randint(K, (N,), generator=random)
    # Row i lists the classes that sample i may be taken for: its own, then others in random order.
    others = torch.stack([(y + 1 + torch.randperm(K - 1, generator=random)) % K for y in labels])
    choices = torch.cat([labels[:, None], others[:, :wrong]], dim=1)
    for _ in range(steps):
        index = torch.randperm(N, generator=random)[:5]
        pick = torch.randint(wrong + 1, (5, 1), generator=random)
        yield index, labels[index], choices[index].gather(1, pick)[:, 0]
    yield torch.arange(N), labels, labels


def entries(rows, labels: Tensor) -> Tensor:
    """All v (N, K), zero at the labels, where they have no meaning."""
    return rows.read(torch.arange(N)).scatter(1, labels[:, None], 0.0)


@pytest.mark.parametrize("rate", [0.05, 0.3, 2.0])
@pytest.mark.parametrize("init", [1e-8, 0.2])
def test_sparse_is_dense_while_the_slots_suffice(rate, init):
    dense, sparse = DenseRows(N, K, init=init), SparseRows(N, K, init=init, slots=3)
    for index, labels, predicted in visits(200, wrong=3):
        keep = torch.arange(len(index)) == 1
        for rows in (dense, sparse):
            rows.advance(index, labels=labels, predicted=predicted, rate=rate, keep=keep)
    # The same operations on the same numbers.
    assert torch.equal(entries(dense, labels), entries(sparse, labels))
    assert (sparse.slot >= 0).sum(1).max() == 3
    # Sums of the same numbers in another order.
    torch.testing.assert_close(dense.mass(labels), sparse.mass(labels))
    masses = (entries(dense, labels) ** 2).clamp(max=1)
    mass, best = dense.strongest(labels)
    assert torch.equal(mass, masses.amax(1))
    assert torch.equal(masses.gather(1, best[:, None])[:, 0], mass)
    clear = mass > init**2  # elsewhere no wrong class was ever predicted
    assert clear.sum() > N / 2
    mass, best = sparse.strongest(labels)
    assert torch.equal(mass[clear], masses.amax(1)[clear])
    assert torch.equal(masses.gather(1, best[:, None])[clear, 0], mass[clear])  # classes may tie at mass one


def test_a_full_row_gives_up_its_smallest_entry():
    rows = SparseRows(1, K, init=0.1, slots=2)
    zero, no = torch.tensor([0]), torch.tensor([False])
    for predicted in (3, 3, 5, 7):
        rows.advance(zero, labels=zero, predicted=torch.tensor([predicted]), rate=0.1, keep=no)
    assert rows.slot.tolist() == [[3, 7]]
    read = rows.read(zero)[0]
    assert read[5] == read[1] == rows.rest[0]
    assert read[7] > read[1]
    # The entering class grows from the value of those that were never predicted.
    expected, rest = torch.tensor(0.1), torch.tensor(0.1)
    for _ in range(3):
        rest = grown(rest, torch.tensor(0.0), 0.1)
    expected = grown(rest, torch.tensor(1.0), 0.1)
    torch.testing.assert_close(read[7], expected)


@pytest.mark.parametrize("slots", [1, 2])
def test_too_few_slots_keep_what_is_predicted_most(slots):
    """The last class that was predicted is always there, however many there have been."""
    rows = SparseRows(N, K, init=1e-3, slots=slots)
    for index, labels, predicted in visits(300, wrong=6):
        rows.advance(index, labels=labels, predicted=predicted, rate=0.2, keep=torch.zeros_like(index).bool())
        wrong = predicted != labels
        assert (rows.slot[index[wrong]] == predicted[wrong, None]).any(1).all()
        assert not (rows.slot[index] == labels[:, None]).any()
    filled = rows.slot[rows.slot[:, -1] >= 0]
    assert all(len(set(row)) == slots for row in filled.tolist())


def test_one_step_is_gradient_descent_on_the_square():
    random = generator(1)
    v = (1.5 * torch.randn(400, generator=random, dtype=torch.float64)).requires_grad_()
    hit = torch.rand(400, generator=random) < 0.3
    rate = 0.07
    ((hit.double() - (v**2).clamp(0, 1)) ** 2).sum().backward()
    torch.testing.assert_close(
        grown(v.detach(), hit.double(), rate), v.detach() - rate * v.grad, rtol=1e-14, atol=1e-15
    )


@pytest.mark.parametrize(("rate", "stays"), [(0.125, True), (0.13, False)])
def test_up_to_rate_an_eighth_no_entry_steps_past_one(rate, stays):
    v = torch.linspace(0, 1, 10_001, dtype=torch.float64)
    after = grown(v, torch.ones_like(v), rate)
    assert bool((after <= 1).all()) == stays


def test_imagenet_fits_in_a_gibibyte():
    rows = SparseRows(1_281_167, 1000, init=1e-8, slots=4)
    assert sum(b.numel() * b.element_size() for b in rows.buffers()) == 1_281_167 * (4 + 8 * 4)
    assert 1_281_167 * (4 + 8 * 4) < 2**30 / 20
    index = torch.tensor([5, 1_281_166])
    labels, predicted = torch.tensor([0, 999]), torch.tensor([999, 999])
    rows.advance(index, labels=labels, predicted=predicted, rate=1.0, keep=torch.zeros(2, dtype=torch.bool))
    read = rows.read(index)
    assert read.shape == (2, 1000)
    torch.testing.assert_close(read[0, 999], torch.tensor(5e-8))
    assert (read[0, :999] == 1e-8).all()
    assert (read[1] == 1e-8).all()
