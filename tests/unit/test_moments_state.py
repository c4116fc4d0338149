"""ClassMoments: merging, saving, restoring, and every kind of bad input."""

from __future__ import annotations

import io
import itertools

import pytest
import torch

from definitions import TwoPass, gaussian_classes
from streams import assert_moments, measured, relative
from tightframe.collapse.variability import nc1
from tightframe.core.errors import InputError
from tightframe.features.anchored import AnchoredSums
from tightframe.features.moments import ClassMoments


def test_merging_is_associative_and_commutative():
    features, labels = gaussian_classes([70] * 4, 6, seed=19, offset=5.0)
    reference = TwoPass(features, labels)
    pieces = list(zip(features.split(100), labels.split(100), strict=True))

    def part(index):
        return measured(*pieces[index], classes=4, batch=30)

    for a, b, c in itertools.permutations(range(3)):
        assert_moments(part(a).merge(part(b)).merge(part(c)), reference, 1e-12)
        assert_moments(part(a).merge(part(b).merge(part(c))), reference, 1e-12)


def test_merging_parts_whose_means_differ_greatly():
    features, labels = gaussian_classes([60] * 3, 5, seed=20)
    features[90:] += 1e4
    whole = measured(features[:90], labels[:90], classes=3).merge(measured(features[90:], labels[90:], classes=3))
    assert_moments(whole, TwoPass(features, labels), 1e-10)


def test_merging_leaves_the_other_unchanged_and_takes_empty_ones():
    features, labels = gaussian_classes([20] * 3, 4, seed=21)
    full = measured(features, labels, classes=3)
    before = full.state_dict()
    empty = ClassMoments(3)
    assert torch.allclose(empty.merge(full).scatter, full.scatter, rtol=1e-13)
    assert full.merge(ClassMoments(3)) is full
    after = full.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before if isinstance(before[k], torch.Tensor))
    assert ClassMoments(3).merge(ClassMoments(3)).total == 0


def test_merging_with_itself_doubles_every_sum():
    features, labels = gaussian_classes([20] * 3, 4, seed=22)
    once, twice = measured(features, labels, classes=3), measured(features, labels, classes=3)
    twice.merge(twice)
    assert twice.total == 120
    assert torch.allclose(twice.scatter, 2 * once.scatter, rtol=1e-12)


def test_disjoint_classes_merge():
    features, labels = gaussian_classes([20] * 4, 4, seed=23)
    low = labels < 2
    whole = measured(features[low], labels[low], classes=4).merge(measured(features[~low], labels[~low], classes=4))
    assert_moments(whole, TwoPass(features, labels), 1e-12)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (ClassMoments(4), "classes=3"),
        (ClassMoments(3, "trace"), "mode='full'"),
        (measured(torch.zeros(3, 9), torch.arange(3), classes=3), "dimension 4"),
    ],
)
def test_merging_what_does_not_fit_is_refused(other, message):
    moments = measured(*gaussian_classes([5] * 3, 4, seed=24), classes=3)
    before = moments.scatter
    with pytest.raises(InputError, match=message):
        moments.merge(other)
    assert torch.equal(moments.scatter, before)


@pytest.mark.parametrize("mode", ["full", "trace"])
def test_a_restored_state_goes_on_bit_for_bit(mode):
    features, labels = gaussian_classes([100] * 3, 6, seed=25, dtype=torch.float32)
    straight = measured(features, labels, classes=3, batch=30, mode=mode)
    half = measured(features[:150], labels[:150], classes=3, batch=30, mode=mode)
    file = io.BytesIO()
    torch.save(half.state_dict(), file)
    file.seek(0)
    resumed = ClassMoments(3, mode)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    half.update(features[:1], labels[:1])  # the copy must not share memory with the original
    for start in range(150, 300, 30):
        resumed.update(features[start : start + 30], labels[start : start + 30])
    one, two = straight.state_dict(), resumed.state_dict()
    assert one.keys() == two.keys()
    assert all(torch.equal(one[k], two[k]) if isinstance(one[k], torch.Tensor) else one[k] == two[k] for k in one)


def test_the_state_of_no_sample_is_restored_too():
    moments = measured(torch.ones(2, 2), torch.tensor([0, 1]), classes=2)
    moments.load_state_dict(ClassMoments(2).state_dict())
    assert moments.total == 0


def spoiled(**changes):
    state = measured(*gaussian_classes([5] * 3, 4, seed=26), classes=3).state_dict()
    for key, change in changes.items():
        state[key] = change(state[key])
    return state


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (ClassMoments(4).state_dict(), "'classes': 4"),
        (ClassMoments(3, "trace").state_dict(), "'mode': 'trace'"),
        (spoiled(version=lambda v: 99), "'version': 99"),
        ({}, "'version': None"),
        ({k: v for k, v in spoiled().items() if k not in ("gram", "count")}, "without"),
        (spoiled(offset=lambda v: v[:2]), "fit each other"),
        (spoiled(gram=lambda v: v[:, :2]), "fit each other"),
        (spoiled(count=lambda v: v[:, None]), "fit each other"),
    ],
)
def test_a_wrong_state_is_refused_and_changes_nothing(state, message):
    moments = measured(*gaussian_classes([5] * 3, 4, seed=27), classes=3)
    before = moments.scatter
    with pytest.raises(InputError, match=message):
        moments.load_state_dict(state)
    assert torch.equal(moments.scatter, before)


def test_moments_from_known_statistics():
    features, labels = gaussian_classes([20, 30, 10], 4, seed=28)
    once = measured(features, labels, classes=3)
    again = ClassMoments.from_statistics(once.count, once.mean, within=once.within, scatter=once.scatter)
    assert nc1(again) == pytest.approx(nc1(once), rel=1e-12)
    again.update(features, labels)
    once.update(features, labels)
    assert relative(again.scatter, once.scatter) < 1e-12
    assert ClassMoments.from_statistics(once.count, once.mean, within=once.within).mode == "trace"


GOOD = torch.ones(4, 3)
LABELS = torch.tensor([0, 1, 1, 0])


def with_entry(value, row, column=1):
    bad = GOOD.clone()
    bad[row, column] = value
    return bad


@pytest.mark.parametrize(
    ("features", "labels", "fragments"),
    [
        (with_entry(torch.nan, 2), LABELS, ("NaN in 1 of 4 rows", "batch 1", "row 2")),
        (with_entry(torch.inf, 3), LABELS, ("inf in 1 of 4 rows", "batch 1", "row 3")),
        (with_entry(-torch.inf, 0).double(), LABELS, ("inf in 1 of 4 rows", "row 0")),
        (with_entry(7e4, 1).half(), LABELS, ("inf in 1 of 4 rows", "row 1")),
        (GOOD, torch.tensor([0, 1, 2, 0]), ("labels lie in [0, 2)", "values from 0 to 2", "ignore_index")),
        (GOOD, torch.tensor([0, -1, 1, 0]), ("values from -1 to 1",)),
        (GOOD.long(), LABELS, ("floating-point", "torch.int64", ".float()")),
        (GOOD.to(torch.complex64), LABELS, ("floating-point", "torch.complex64")),
        (GOOD.to_sparse(), LABELS, ("dense tensor", "to_dense")),
        (GOOD.numpy(), LABELS, ("torch.Tensor", "ndarray")),
        (GOOD[:, 0], LABELS, ("shape (n, d)", "(4,)")),
        (GOOD[:, :, None], LABELS, ("shape (n, d)", "(4, 3, 1)", "pool")),
        (GOOD[:, :0], LABELS, ("d >= 1", "(4, 0)")),
        (GOOD, LABELS.float(), ("integer tensor", "torch.float32", ".long()")),
        (GOOD, LABELS.bool(), ("integer tensor", "torch.bool")),
        (GOOD, [0, 1, 1, 0], ("integer tensor", "list")),
        (GOOD, LABELS[:3], ("(n,) = (4,)", "(3,)")),
        (GOOD, torch.nn.functional.one_hot(LABELS), ("(n,) = (4,)", "(4, 2)", "one-hot")),
        (GOOD.to("meta"), LABELS, ("one device", "meta and cpu")),
        (GOOD[:, :2], LABELS, ("dimension 3", "dimension 2")),
    ],
)
def test_an_update_that_raises_says_why_and_changes_nothing(features, labels, fragments):
    moments = ClassMoments(2)
    moments.update(torch.arange(12.0).reshape(4, 3), LABELS)
    before = moments.state_dict()
    with pytest.raises(InputError) as caught:
        moments.update(features, labels)
    for fragment in fragments:
        assert fragment in str(caught.value)
    after = moments.state_dict()
    assert all(torch.equal(before[k], after[k]) if isinstance(before[k], torch.Tensor) else True for k in before)
    assert before["batches"] == after["batches"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1,), "classes is an integer of at least 2; got 1"),
        ((2.0,), "got 2.0"),
        ((True,), "got True"),
        ((2, "diagonal"), "'diagonal'"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(InputError, match=message):
        ClassMoments(*arguments)


def test_reading_before_the_first_sample_and_the_scatter_of_trace_mode_are_refused():
    empty = ClassMoments(2)
    for read in ("count", "mean", "scatter", "within", "features", "device"):
        with pytest.raises(InputError, match="none yet"):
            getattr(empty, read)
    assert empty.total == 0
    trace = measured(GOOD, LABELS, classes=2, mode="trace")
    with pytest.raises(InputError, match='mode="trace"'):
        _ = trace.scatter
    with pytest.raises(InputError, match='mode="trace"'):
        trace.scatter_times(torch.ones(3, 1, dtype=torch.float64))


def test_moving_to_a_device_moves_every_array():
    moments = measured(GOOD, LABELS, classes=2).to("meta")
    assert moments.device.type == "meta"
    assert all(v.device.type == "meta" for v in moments.state_dict().values() if isinstance(v, torch.Tensor))


def test_sums_of_no_sample_are_zero():
    sums = AnchoredSums.zeros(3, 2, like=torch.ones(1), dtype=torch.float64, full=True)
    assert sums.within().tolist() == [0, 0, 0]
    assert sums.scatter().abs().max() == 0
    assert sums.mean_rows(0, 3).abs().max() == 0


def test_without_a_process_group_all_reduce_does_nothing():
    moments = measured(GOOD, LABELS, classes=2)
    assert moments.all_reduce() is moments
    assert moments.total == 4


def test_no_graph_is_kept_and_inputs_are_left_alone():
    features, labels = gaussian_classes([10] * 2, 3, seed=17, dtype=torch.float32)
    leaf = features.clone().requires_grad_()
    moments = measured(leaf * 2, labels, classes=2, batch=5)
    state = moments.state_dict()
    assert not any(v.requires_grad for v in state.values() if isinstance(v, torch.Tensor))
    assert torch.equal(leaf.detach(), features)
    assert leaf.grad is None


def test_autocast_and_matmul_precision_change_nothing_and_are_restored(monkeypatch):
    seen, add = set(), AnchoredSums.add

    def watched(self, *batch):
        seen.add((torch.get_float32_matmul_precision(), torch.is_autocast_enabled("cpu")))
        add(self, *batch)

    monkeypatch.setattr(AnchoredSums, "add", watched)
    features, labels = gaussian_classes([200] * 4, 64, seed=18, dtype=torch.float32)
    plain = measured(features, labels, classes=4, batch=128).scatter
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", torch.bfloat16):
            inside = measured(features, labels, classes=4, batch=128).scatter
            assert torch.is_autocast_enabled("cpu")
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
        assert torch.get_float32_matmul_precision() == "medium"
        with pytest.raises(InputError):
            ClassMoments(2).update(torch.full((1, 1), torch.nan), torch.tensor([0]))
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert torch.equal(inside, plain)
    assert seen == {("highest", False)}
