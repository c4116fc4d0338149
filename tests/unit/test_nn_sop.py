from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.data.labelled.augment import augment
from tightframe.data.labelled.digits import digits
from tightframe.data.labelled.noise import flipped
from tightframe.nn.losses.robust import EarlyLearningLoss
from tightframe.nn.networks import MLP
from tightframe.nn.sop import sample_register, sop_objective
from tightframe.nn.sop.sop import SOPLoss, activation_epochs

N, K, B = 40, 5, 8
STORAGES = ("dense", "sparse")


def published(logits, labels, u, v, *, balance=0.0, consistency=0.0, logits2=None) -> Tensor:
    """The objective as its formula reads, for autograd to differentiate in u, v and the logits."""
    one_hot = functional.one_hot(labels, logits.shape[1]).to(logits)
    U = torch.clamp(u[:, None] ** 2 * one_hot, 0, 1)
    V = torch.clamp(v**2 * (1 - one_hot), 0, 1)
    p = logits.softmax(1)
    q = (p + U - V.detach()).clamp(min=1e-4)
    q = (q / q.abs().sum(1, keepdim=True)).clamp(1e-4, 1)
    h = functional.one_hot(logits.detach().argmax(1), logits.shape[1]).to(logits)
    value = -(one_hot * q.log()).sum(1).mean() + ((h + U - V - one_hot) ** 2).sum() / len(logits)
    value = value - balance * q.mean(0).log().mean()
    if logits2 is not None:
        fixed = p.detach()
        value = value + consistency * (fixed * (fixed.log() - logits2.log_softmax(1))).sum(1).mean()
    return value


def in_float64(loss: SOPLoss) -> SOPLoss:
    """The loss with u and v in float64."""
    for module in loss.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if buffer.is_floating_point():
                setattr(module, name, buffer.double())
    return loss


def draw(random, *, ties: bool, sure: bool, dtype) -> Tensor:
    # A network that is sure of itself gives many labels less than the floor of 1e-4.
    logits = (9 if sure else 3) * torch.randn(B, K, generator=random, dtype=dtype)
    # Whole numbers, of which several are largest in many rows.
    return (logits.round() if ties else logits).requires_grad_()


def batch(seed=0):
    random = generator(seed)
    labels = torch.randint(K, (B,), generator=random)
    return torch.randn(B, K, generator=random, requires_grad=True), labels, torch.arange(B)


def state(loss: SOPLoss) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in loss.state_dict().items()}


def assert_same_state(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


# The two computations differ in rounding alone. Each of the 20 visits of a row adds a few units of it, 6e-8 or 1e-16,
# of the step; at the larger rates a step is several times what u and v end with.
@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("plus", [False, True])
@pytest.mark.parametrize("rates", [(0.1, 0.06), (1.0, 3.0)])
def test_the_step_in_place_is_autograd_and_sgd(storage, plus, rates, dtype, rounding):
    random, tolerance = generator(3), rounding if rates[0] < 1 else 4 * rounding
    options = {"rate": rates[0], "rate_v": rates[1], "init": 0.01, "storage": storage, "slots": K - 1}
    loss = SOPLoss.plus(N, K, **options) if plus else SOPLoss(N, K, **options)
    loss = in_float64(loss) if dtype == torch.float64 else loss
    u = loss.u.clone().requires_grad_()
    v = loss.rows.read(torch.arange(N)).clone().requires_grad_()
    optimizer = torch.optim.SGD([{"params": [u], "lr": rates[0] * B}, {"params": [v], "lr": rates[1] * B}])
    labels = torch.randint(K, (N,), generator=random)
    other = ~functional.one_hot(labels, K).bool()
    worst = 0.0
    for step in range(100):
        index = torch.randperm(N, generator=random)[:B]
        z = draw(random, ties=step % 3 == 0, sure=step % 4 == 0, dtype=dtype)
        z2 = draw(random, ties=False, sure=False, dtype=dtype) if plus else None
        terms = {"balance": 0.1, "consistency": 0.9, "logits2": z2} if plus else {}
        expected = published(z, labels[index], u[index], v[index], **terms)
        optimizer.zero_grad()
        expected.backward()
        gradients = [x.grad for x in (z, z2) if x is not None]
        z.grad = None
        if plus:
            z2.grad = None
        optimizer.step()
        value = loss(z, labels[index], index=index, logits2=z2)
        value.backward()
        torch.testing.assert_close(value, expected, rtol=10 * tolerance, atol=0)
        for ours, theirs in zip([x.grad for x in (z, z2) if x is not None], gradients, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=10 * tolerance)
        rows = loss.rows.read(torch.arange(N))
        scale_u, scale_v = u.abs().clamp(min=1), v.abs().clamp(min=1)
        worst = max(
            worst, ((loss.u - u).abs() / scale_u).max().item(), ((rows - v) / scale_v)[other].abs().max().item()
        )
    assert worst < tolerance
    beyond = (u.abs() > 1).any() and (v.abs() > 1).any()
    assert beyond or rates[0] < 1  # the second case has been where the clamps have no gradient


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_gradients_in_both_views(reduction):
    loss = in_float64(SOPLoss.plus(N, K, init=0.4, reduction=reduction))
    first, labels, index = batch()
    second = batch(1)[0].detach().double().requires_grad_()
    first = first.detach().double().requires_grad_()
    with loss.paused():
        own = in_float64(SOPLoss(N, K, balance=0.3, init=0.4, reduction=reduction))
        with own.paused():
            assert torch.autograd.gradcheck(lambda z: own(z, labels, index=index), [first])
        # The first view is held fixed in the consistency, as no numerical derivative is.
        assert torch.autograd.gradcheck(lambda z: loss(first.detach(), labels, index=index, logits2=z), [second])


def test_reductions():
    logits, labels, index = batch()
    mean, total, each = (
        SOPLoss(N, K, balance=0.1, reduction=reduction)(logits, labels, index=index)
        for reduction in ("mean", "sum", "none")
    )
    assert each.shape == (B,)
    torch.testing.assert_close(each.mean(), mean)
    torch.testing.assert_close(each.sum(), total)


@pytest.mark.parametrize("storage", STORAGES)
def test_one_epoch_leaves_the_same_rows_whatever_the_batch_size(storage):
    """One rate serves all: with the network held still, 5 batches of 8 are 2 of 20."""
    random = generator(0)
    logits, labels = torch.randn(N, K, generator=random).requires_grad_(), torch.randint(K, (N,), generator=random)
    ends = []
    for size in (1, 8, 20, 40):
        loss = SOPLoss(N, K, init=0.1, storage=storage, slots=K - 1)
        for index in torch.arange(N).split(size):
            loss(logits[index], labels[index], index=index)
        ends.append(state(loss))
    for end in ends[1:]:
        for name in end:
            # Sums over the classes may be taken in another order.
            torch.testing.assert_close(end[name], ends[0][name], rtol=1e-6, atol=0)


def test_on_one_process_there_is_nothing_to_exchange():
    logits, labels, index = batch()
    loss, other = SOPLoss(N, K, init=0.1, sync="manual"), SOPLoss(N, K, init=0.1)
    for each in (loss, other):
        each(logits, labels, index=index)
    loss.synchronize()
    assert_same_state(state(loss), state(other))


def test_renaming_the_classes_changes_nothing():
    logits, labels, index = batch()
    renamed = torch.randperm(K, generator=generator(5))  # old class k is renamed[k]
    first, second = SOPLoss(N, K, init=0.3), SOPLoss(N, K, init=0.3)
    for _ in range(5):
        a = first(logits, labels, index=index)
        b = second(logits[:, renamed.argsort()], renamed[labels], index=index)
        torch.testing.assert_close(a, b)
    torch.testing.assert_close(second.rows.value[:, renamed], first.rows.value)
    assert torch.equal(renamed[first.corrected_labels()[:B]], second.corrected_labels()[:B])


def test_a_target_of_two_columns_carries_the_index():
    logits, labels, index = batch()
    first, second = SOPLoss(N, K), SOPLoss(N, K)
    a, b = first(logits, labels, index=index), second(logits, torch.stack([labels, index], dim=1))
    assert torch.equal(a, b)
    assert_same_state(state(first), state(second))


@pytest.mark.parametrize("two_columns", [True, False])
def test_without_training_it_is_cross_entropy_and_nothing_is_written(two_columns):
    logits, labels, index = batch()
    target = torch.stack([labels, index], dim=1) if two_columns else labels
    loss = SOPLoss.plus(N, K)
    before = state(loss)
    expected = functional.cross_entropy(logits, labels)
    with torch.no_grad():
        assert torch.equal(loss(logits, target), expected)
    loss.eval()
    assert torch.equal(loss(logits, target), expected)
    with pytest.raises(InputError, match=r"labels lie in \[0, 5\)"):
        loss(logits, labels + K)
    assert_same_state(before, state(loss))


def test_paused_reads_but_does_not_write():
    logits, labels, index = batch()
    loss = SOPLoss(N, K, init=0.5)
    before = state(loss)
    with loss.paused():
        first, second = loss(logits, labels, index=index), loss(logits, labels, index=index)
    assert torch.equal(first, second)
    assert_same_state(before, state(loss))
    loss(logits, labels, index=index)
    assert not torch.equal(before["u"], loss.u)


@pytest.mark.parametrize("storage", STORAGES)
def test_a_saved_state_goes_on_bit_for_bit(storage, tmp_path):
    def go_on(loss, seeds):
        for seed in seeds:
            loss(batch(seed)[0], torch.arange(B) % K, index=torch.arange(B))

    loss = SOPLoss(N, K, init=0.1, storage=storage)
    go_on(loss, range(5))
    torch.save(loss.state_dict(), tmp_path / "state.pt")
    fresh = SOPLoss(N, K, storage=storage)
    fresh.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    go_on(loss, range(5, 9))
    go_on(fresh, range(5, 9))
    assert_same_state(state(loss), state(fresh))
    for copied in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert_same_state(state(loss), state(copied))


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        (SOPLoss(N, K, storage="sparse", slots=2), r"a state of dense storage .*; got sparse storage"),
        (SOPLoss(N + 1, K), r"u of shape \(40,\) .*got dense storage with u of shape \(41,\)"),
        (SOPLoss(N, K + 1), r"rows of shape \(40, 5\).*rows of shape \(40, 6\)"),
    ],
)
def test_a_state_of_another_form_is_refused(saved, message):
    loss = SOPLoss(N, K)
    holder, other = nn.Sequential(nn.Linear(2, 2), loss), nn.Sequential(nn.Linear(2, 2), saved)
    with pytest.raises(InputError, match=message):
        holder.load_state_dict(other.state_dict())
    with pytest.raises(InputError, match="dense storage"):
        SOPLoss(N, K, storage="sparse").load_state_dict(loss.state_dict())


def test_a_run_resumed_on_data_in_another_order_is_refused():
    logits, labels, index = batch()
    loss = SOPLoss(N, K)
    loss(logits, labels, index=index)
    resumed = SOPLoss(N, K)
    resumed.load_state_dict(loss.state_dict())
    before = state(resumed)
    resumed(logits, labels, index=index)
    with pytest.raises(InputError, match="keep the label they were first seen with"):
        resumed(logits, labels.roll(1), index=index)
    assert not torch.equal(before["u"], resumed.u)


NAN = torch.full((B, K), torch.nan)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"index": None}, "IndexedDataset"),
        ({"index": torch.arange(B).clamp(min=1)}, "every sample once; got 1 that do not"),
        ({"index": torch.arange(B) - 1}, r"lie in \[0, 40\); got 1 that do not"),
        ({"index": torch.arange(B) + N - 2}, r"lie in \[0, 40\); got 6 that do not"),
        ({"index": torch.arange(B - 1)}, r"an integer index of shape \(8,\)"),
        ({"index": torch.arange(B) / 2}, "an integer index"),
        ({"target": torch.full((B,), K)}, r"labels that lie in \[0, 5\); got 8 that do not"),
        ({"target": -torch.ones(B, dtype=torch.long)}, r"labels that lie in \[0, 5\)"),
        ({"target": torch.eye(K)[torch.zeros(B).long()]}, r"integer tensor of class indices.*argmax\(dim=1\)"),
        ({"target": torch.zeros(B, 3, dtype=torch.long)}, r"\(8, 2\) with the columns \(label, index\)"),
        ({"target": torch.zeros(B, 2, dtype=torch.long)}, "the index once"),
        ({"target": [0] * B}, "integer tensor of class indices"),
        ({"logits": NAN}, "without NaN"),
        ({"logits": NAN[:0], "target": torch.zeros(0).long(), "index": torch.zeros(0).long()}, "at least one sample"),
        ({"logits": torch.zeros(B, K + 1)}, r"logits of shape \(B, 5\)"),
        ({"logits": torch.zeros(B, K, dtype=torch.long)}, "floating point"),
        ({"logits": torch.zeros(B, K, device="meta")}, "on one device"),
        ({"logits2": torch.zeros(B, K)}, "exactly when consistency is above zero"),
    ],
)
def test_a_bad_batch_is_refused_and_changes_nothing(change, message):
    logits, labels, index = batch()
    call = {"logits": logits, "target": labels, "index": index} | change
    loss = SOPLoss(N, K)
    before = state(loss)
    with pytest.raises(InputError, match=message):
        loss(**call)
    assert_same_state(before, state(loss))


@pytest.mark.parametrize("make", [SOPLoss, EarlyLearningLoss])
def test_evaluation_refuses_what_training_refuses(make):
    logits, labels, _ = batch()
    loss = make(N, K).eval()
    poisoned = logits.detach().clone()
    poisoned[3, 2] = torch.nan
    cases = [
        ((poisoned, labels), "without NaN.*1 of 8 rows"),
        ((logits, labels + K), r"lie in \[0, 5\)"),
        ((logits[:0], labels[:0]), "at least one sample"),
    ]
    for call, message in cases:
        with pytest.raises(InputError, match=message):
            loss(*call)


def test_the_repr_names_what_was_chosen():
    shown = repr(SOPLoss.plus(40, 5, rate=2.0, storage="sparse"))
    for part in ("samples=40", "classes=5", "rate=2, rate_v=2", "balance=0.1, consistency=0.9", "storage='sparse'"):
        assert part in shown


def test_the_second_view_must_fit():
    logits, labels, index = batch()
    loss = SOPLoss.plus(N, K)
    assert (loss.views, SOPLoss(N, K, balance=0.1).views) == (2, 1)
    before = state(loss)
    for second, message in ((None, "no logits2"), (logits[1:], "8 and 7 rows"), (logits[:, 1:], "logits2 of shape")):
        with pytest.raises(InputError, match=message):
            loss(logits, labels, index=index, logits2=second)
    assert_same_state(before, state(loss))


@pytest.mark.parametrize(
    "arguments",
    [
        {"samples": 0},
        {"classes": 1},
        {"slots": 0},
        {"rate": -1.0},
        {"rate_v": math.nan},
        {"balance": math.inf},
        {"consistency": -0.1},
        {"init": 0.0},
        {"init": 1.0},
        {"storage": "disk"},
        {"reduction": "max"},
        {"sync": "epoch"},
    ],
)
def test_bad_arguments(arguments):
    with pytest.raises(InputError):
        SOPLoss(**({"samples": N, "classes": K} | arguments))


def test_on_an_accelerator_faults_are_raised_later(monkeypatch):
    """The device is the CPU here, told to behave as one that must not be waited for."""
    for module in (sample_register, sop_objective):
        monkeypatch.setattr(module, "looks_at_once", lambda device: False)
    logits, labels, index = batch()
    loss = SOPLoss(N, K, init=0.1)
    before = state(loss)
    bad_index, bad_labels, bad_logits = index.clone(), labels.clone(), logits.detach().clone()
    bad_index[0], bad_labels[1], bad_logits[2] = N + 7, -3, torch.nan
    value = loss(bad_logits.requires_grad_(), bad_labels, index=bad_index)
    assert value.isnan()
    # Row N - 1 is where the position out of range was held; rows 1 and 2 had no label and no logits.
    untouched = [N - 1, 0, 1, 2]
    assert torch.equal(loss.u[untouched], before["u"][untouched])
    assert (loss.seen.given[untouched] == -1).all()
    assert (loss.u[3:B] != before["u"][3:B]).all()
    with pytest.raises(InputError, match=r"lie in \[0, 40\); got 1 that"):
        loss.state_dict()
    loss.state_dict()  # once raised, a fault is settled
    good = torch.arange(B) + 20
    for _ in range(98):
        loss(logits, labels, index=good)
    with pytest.raises(InputError, match="first seen with"):  # the hundredth batch
        loss(logits, (labels + 1) % K, index=good)


def test_conversion_to_half_precision_leaves_u_and_v():
    loss = nn.Sequential(nn.Linear(2, 2), SOPLoss(N, K)).half()[1]
    assert loss.u.dtype == loss.rows.value.dtype == torch.float32
    assert (loss.u == 1e-8).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_computed_with_in_float32(dtype):
    logits, labels, index = batch()
    logits = logits.detach().to(dtype).requires_grad_()
    first, second = SOPLoss(N, K, init=0.1), SOPLoss(N, K, init=0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = first(logits, labels, index=index)
    assert half.dtype == torch.float32
    assert torch.equal(half, second(logits.float(), labels, index=index))
    assert_same_state(state(first), state(second))


@pytest.mark.parametrize("storage", STORAGES)
def test_what_it_says_about_the_labels(storage):
    loss = SOPLoss(6, 4, storage=storage, slots=3)
    assert loss.noise_scores().tolist() == [0] * 6
    assert loss.corrected_labels().tolist() == [-1] * 6
    given = torch.tensor([0, 1, 2, 3, 0])
    loss.seen.note(given, torch.arange(5), torch.ones(5, dtype=torch.bool))
    u = torch.tensor([1.2, 0.6, 0.9, 1e-8, 0.5, 1e-8])
    v = torch.full((6, 4), 1e-8)
    v[0, 2], v[1, 3], v[2, 0], v[2, 1], v[4, 1] = 0.9, 0.7, 0.3, 0.5, 2.0
    loss.u.copy_(u)
    if storage == "dense":
        loss.rows.value.copy_(v)
    else:
        for row, column in (v > 1e-7).nonzero().tolist():
            free = int((loss.rows.slot[row] >= 0).sum())
            loss.rows.slot[row, free], loss.rows.value[row, free] = column, v[row, column]
    Y = functional.one_hot(given, 4).float()
    U, V = (u[:5, None] ** 2).clamp(max=1) * Y, (v[:5] ** 2).clamp(max=1) * (1 - Y)
    torch.testing.assert_close(loss.noise_scores(), torch.cat([(U + V).sum(1), torch.zeros(1)]))
    assert loss.corrected_labels().tolist() == [*(Y - U + V).argmax(1).tolist(), -1]
    assert loss.corrected_labels().tolist() == [2, 1, 1, 3, 1, -1]
    issues = loss.label_issues()
    assert issues.to_dict() == {
        "index": [0, 4, 2],
        "given": [0, 0, 2],
        "suggested": [2, 1, 1],
        "score": pytest.approx([1.81, 1.25, 1.15]),
    }
    assert len(issues) == 3


@pytest.mark.parametrize(("p", "rate", "init"), [(0.05, 0.078, 1e-8), (0.4, 0.078, 1e-8), (0.2, 0.02, 1e-3)])
def test_activation_epochs_predicts_the_visit_at_which_u_reaches_one(p, rate, init):
    loss = SOPLoss(1, 3, rate=rate, init=init)
    logits = torch.tensor([[p, 0.75 * (1 - p), 0.25 * (1 - p)]]).log().requires_grad_()
    visits = 0
    while loss.u.item() < 0.9:
        loss(logits, torch.tensor([0]), index=torch.tensor([0]))
        visits += 1
    predicted = activation_epochs(p, rate=rate, init=init)
    # Growth slows down only when u^2 is of the order of p, for a handful of visits.
    assert predicted - 1 <= visits <= 1.3 * predicted + 2


@pytest.mark.parametrize("arguments", [(0.0, 1, 0.1), (1.1, 1, 0.1), (0.5, 0, 0.1), (0.5, 1, 1.0)])
def test_activation_epochs_bad_arguments(arguments):
    p, rate, init = arguments
    with pytest.raises(InputError):
        activation_epochs(p, rate=rate, init=init)


def train(labels: Tensor, *, loss: nn.Module, epochs: int, size: int, lr: float, width: int) -> float:
    """Last-epoch test accuracy of a small network on the digits, with labels that are partly wrong."""
    data, random = digits(), generator(0)
    torch.manual_seed(0)
    network = MLP(64, 10, widths=(width, width), batch_norm=True)
    optimizer = torch.optim.SGD(network.parameters(), lr=lr, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    changed = augment("noise:0.15")
    for _ in range(epochs):
        for index in torch.randperm(len(labels), generator=random).split(size):
            if len(index) < 2:
                continue
            logits = network(changed(data.train.images[index], random))
            value = loss(logits, labels[index], index=index) if hasattr(loss, "views") else loss(logits, labels[index])
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        schedule.step()
    network.eval()
    with torch.no_grad():
        return (network(data.test.images).argmax(1) == data.test.labels).double().mean().item()


def noisy_digits(spec: str, seed: int = 0) -> Tensor:
    return flipped(digits().train.labels, spec, classes=10, seed=seed).labels


def test_wrong_labels_of_the_digits_are_survived_and_found():
    labels, clean = noisy_digits("symmetric:0.4"), digits().train.labels
    loss = SOPLoss(len(labels), 10)
    accuracy = train(labels, loss=loss, epochs=40, size=64, lr=0.02, width=128)
    plain = train(labels, loss=nn.CrossEntropyLoss(), epochs=40, size=64, lr=0.02, width=128)
    wrong, scores = labels != clean, loss.noise_scores()
    ranks = scores.argsort().argsort().double()
    auc = (ranks[wrong].mean() - (wrong.sum() - 1) / 2) / (~wrong).sum()
    recovered = (loss.corrected_labels() == clean).double().mean().item()
    assert accuracy > 0.95
    assert accuracy > plain + 0.08
    assert auc > 0.97
    assert recovered > 0.88


@pytest.mark.slow
@pytest.mark.parametrize("size", [32, 128, 512])
@pytest.mark.parametrize("rate", [0.0, 0.2, 0.4, 0.6])
def test_one_rate_serves_batch_sizes_and_noise_levels(size, rate):
    labels = noisy_digits(f"symmetric:{rate}")
    accuracy = train(labels, loss=SOPLoss(len(labels), 10), epochs=100, size=size, lr=0.02, width=256)
    assert accuracy > (0.95 if rate < 0.5 else 0.92)
