"""The head that follows its class means: means against a plain loop, the frame against Procrustes, training loops."""

from __future__ import annotations

import copy
import math
import threading

import pytest
import torch
from torch import nn

from tightframe.core.errors import InputError
from tightframe.geometry.frames import ideal_gram, nearest_simplex_etf, simplex_etf
from tightframe.nn.heads import alignment
from tightframe.nn.heads.alignment import AlignedETFHead, aligning


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def stream(batches: int, seed: int = 0):
    """Batches in which the classes come in by and by."""
    for step in range(batches):
        generator = torch.Generator().manual_seed(seed + step)
        yield torch.randn(12, 6, generator=generator), torch.randint(0, min(4, step + 2), (12,), generator=generator)


def reference_means(batches, momentum: float, classes: int = 4) -> list[torch.Tensor | None]:
    means: list[torch.Tensor | None] = [None] * classes
    for x, y in batches:
        for k in range(classes):
            if bool((y == k).any()):
                fresh = x[y == k].double().mean(0)
                means[k] = fresh if means[k] is None else momentum * means[k] + (1 - momentum) * fresh
    return means


@pytest.mark.parametrize("momentum", [0.0, 0.7])
@pytest.mark.parametrize("form", ["indices", "columns", "soft"])
def test_means_and_frame(momentum, form):
    head = AlignedETFHead(6, 4, momentum=momentum)
    start = head.frame.clone()
    for step, (x, y) in enumerate(stream(5)):
        head(x)
        target = {
            "indices": y,
            "columns": torch.stack([y, torch.arange(12)], dim=1),
            "soft": nn.functional.one_hot(y, 4).float(),
        }[form]
        head.update(target)
        if not bool(head.seen.all()):
            assert step < 4
            assert torch.equal(head.frame, start)
    means = torch.stack(reference_means(stream(5), momentum))
    torch.testing.assert_close(head.means.double(), means, atol=1e-6, rtol=0)
    torch.testing.assert_close(head.frame.double(), nearest_simplex_etf(means), atol=1e-5, rtol=0)
    torch.testing.assert_close(head.frame @ head.frame.T, ideal_gram(4).float(), atol=1e-5, rtol=0)


def test_the_frame_changes_every_so_many_updates_or_when_told():
    for every, changes in ((1, {0, 1, 2, 3, 4, 5}), (3, {2, 5}), (None, set())):
        head = AlignedETFHead(6, 4, every=every)
        changed = set()
        for step in range(6):
            before = head.frame
            head(normal(20, 6, seed=step))
            head.update(torch.arange(20) % 4)
            if head.frame is not before:
                changed.add(step)
        assert changed == changes
        if every is None:
            head.align()
            torch.testing.assert_close(head.frame, nearest_simplex_etf(head.means))


def test_update_between_loss_and_backward():
    """The gradient is that of the frame the logits were computed with."""
    head = AlignedETFHead(6, 4, learn_scale=True)
    x, y = normal(20, 6).requires_grad_(), torch.arange(20) % 4
    old = head.frame.clone()
    loss = aligning(nn.CrossEntropyLoss(), head)(head(x), y)
    assert not torch.allclose(head.frame, old)
    loss.backward()
    again = x.detach().requires_grad_()
    nn.functional.cross_entropy(again @ old.T, y).backward()
    torch.testing.assert_close(x.grad, again.grad)


def test_training_with_it_separates_the_classes():
    torch.manual_seed(0)
    centres = 2 * simplex_etf(4, 5, seed=1).float()
    x = centres.repeat(20, 1) + 0.1 * normal(80, 5)
    y = torch.arange(4).repeat(20)
    model = nn.Sequential(nn.Linear(5, 6), AlignedETFHead(6, 4, momentum=0.5))
    criterion = aligning(nn.CrossEntropyLoss(), model[1])
    assert set(criterion.state_dict()) == set()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.5)
    first = None
    for _ in range(60):
        optimiser.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimiser.step()
        first = first or float(loss.detach())
    assert float(loss.detach()) < 0.2 * first
    model.eval()
    frame = model[1].frame
    assert float((model(x).argmax(1) == y).float().mean()) == 1
    criterion(model(x), y)  # validation changes nothing
    assert model[1].frame is frame


def test_two_views_in_one_batch():
    class TwoViews(nn.Module):
        needs_index, views = True, 2

        def forward(self, logits, target, *, index, logits2):
            return nn.functional.cross_entropy(logits, target)

    head = AlignedETFHead(6, 4, momentum=0.0)
    criterion = aligning(TwoViews(), head)
    assert (criterion.needs_index, criterion.views) == (True, 2)
    assert (aligning(nn.CrossEntropyLoss(), head).needs_index, aligning(nn.CrossEntropyLoss(), head).views) == (
        False,
        1,
    )
    x, y = normal(16, 6), torch.arange(8) % 4
    first, second = head(x).chunk(2)
    criterion(first, y, index=torch.arange(8), logits2=second)
    expected = torch.stack([x[torch.cat([y, y]) == k].mean(0) for k in range(4)])
    torch.testing.assert_close(head.means, expected)


def test_a_checkpoint_goes_on_where_it_was():
    batches = list(stream(9))
    head = AlignedETFHead(6, 4, every=2, seed=3, scale=2.0)
    for x, y in batches[:5]:
        head(x)
        head.update(y)
    other = AlignedETFHead(6, 4, every=2, seed=8)
    other.load_state_dict(copy.deepcopy(head.state_dict()))
    for x, y in batches[5:]:
        for one in (head, other):
            one(x)
            one.update(y)
    assert torch.equal(other.frame, head.frame)
    assert torch.equal(other.weight, head.weight)
    assert other.updates == head.updates == 9
    other.reset_parameters()
    assert torch.equal(other.frame, AlignedETFHead(6, 4, seed=3).frame)
    assert not bool(other.seen.any())


def test_half_precision_sums_are_taken_in_single():
    head = AlignedETFHead(6, 4, dtype=torch.bfloat16, momentum=0.0).bfloat16()
    x = normal(4000, 6).bfloat16()
    y = torch.arange(4000) % 4
    head(x)
    head.update(y)
    expected = torch.stack([x[y == k].double().mean(0) for k in range(4)])
    torch.testing.assert_close(head.means.double(), expected, atol=1e-3, rtol=0.01)
    assert head.frame.dtype == torch.bfloat16


def test_ranks_together_do_what_one_process_does(monkeypatch):
    """Two threads stand for two processes; all_reduce waits for both, as a process group does."""
    meeting, tensors, ranks = threading.Barrier(2, timeout=30), {}, threading.local()

    def all_reduce(tensor: torch.Tensor) -> None:
        tensors[ranks.own] = tensor.clone()
        meeting.wait()
        total = tensors[0] + tensors[1]
        meeting.wait()
        tensor.copy_(total)

    def train(rank: int, head: AlignedETFHead) -> None:
        ranks.own = rank
        for step in range(3):
            x, y = normal(24, 6, seed=step), torch.arange(24) % 4
            head(x[rank::2])
            head.update(y[rank::2])  # rank 0 has the even classes, rank 1 the odd ones

    alone = AlignedETFHead(6, 4)
    for step in range(3):
        alone(normal(24, 6, seed=step))
        alone.update(torch.arange(24) % 4)
    monkeypatch.setattr(alignment.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(alignment.dist, "all_reduce", all_reduce)
    heads = [AlignedETFHead(6, 4), AlignedETFHead(6, 4)]
    threads = [threading.Thread(target=train, args=(rank, head)) for rank, head in enumerate(heads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for head in heads:
        torch.testing.assert_close(head.means, alone.means, atol=1e-6, rtol=0)
        torch.testing.assert_close(head.frame, alone.frame, atol=1e-5, rtol=0)


def test_features_that_are_no_numbers_leave_the_means_as_they_were():
    head = AlignedETFHead(4, 3)
    head(torch.eye(4)[:3])
    head.update(torch.arange(3))
    before = {name: value.clone() for name, value in head.state_dict().items()}
    head(torch.eye(4)[:3] * torch.tensor([1.0, math.nan, 1.0])[:, None])
    with pytest.raises(InputError, match="finite"):
        head.update(torch.arange(3))
    assert all(torch.equal(before[name], value) for name, value in head.state_dict().items())


def test_options_and_copies():
    head = AlignedETFHead(8, 4, bias=False, momentum=0.3, every=5)
    smaller = head.resized(6)
    assert (smaller.momentum, smaller.every, smaller.bias) == (0.3, 5, None)
    head(normal(3, 8))
    assert copy.deepcopy(head).pending == 3
    assert "aligned frame" in repr(head)


def trained(target: object) -> None:
    head = AlignedETFHead(6, 4)
    head(normal(5, 6))
    head.update(target)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: AlignedETFHead(6, 8), "at least K - 1 = 7 dimensions"),
        (lambda: AlignedETFHead(6, 4, momentum=1.0), r"momentum in \[0, 1\)"),
        (lambda: AlignedETFHead(6, 4, every=0), "every is an integer of at least 1"),
        (lambda: AlignedETFHead(6, 4).update(torch.zeros(3)), "forward pass in training mode"),
        (lambda: trained(torch.tensor([0, 1, 2, 3, 4])), r"labels lie in \[0, 4\)"),
        (lambda: trained(torch.tensor([0, 1])), "labels have shape"),
        (lambda: trained(torch.zeros(5, 3)), r"memberships \(5, 4\)"),
        (lambda: trained(torch.zeros(5)), r"memberships \(5, 4\)"),
        (lambda: trained([0, 1, 2, 3, 0]), "got list"),
        (lambda: aligning(nn.CrossEntropyLoss(), nn.Linear(3, 2)), "an AlignedETFHead; got Linear"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InputError, match=message):
        call()
