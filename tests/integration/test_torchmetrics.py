"""`NeuralCollapse` under torchmetrics' own machinery: forward, merging, processes, collections, persistence."""

from __future__ import annotations

import copy
import io
import pickle
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

pytest.importorskip("torchmetrics", reason="torchmetrics is not installed")
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from tightframe.collapse.evaluate import evaluate_layer
from tightframe.core.errors import DegenerateError, InputError
from tightframe.features.moments import ClassMoments
from tightframe.integrations.torchmetrics import NeuralCollapse

K, D = 4, 6
ALL = ("NC1", "D", "CDNV", "NC2 features", "VCI", "equinorm features")


def samples(rows: int = 120, seed: int = 0, dtype: torch.dtype = torch.float64):
    draws = torch.Generator().manual_seed(seed)
    labels = torch.arange(rows) % K
    means = torch.randn(K, D, generator=torch.Generator().manual_seed(99), dtype=torch.float64)
    noise = torch.randn(rows, D, generator=draws, dtype=torch.float64)
    return (5 + means[labels] + 0.3 * noise).to(dtype), labels


def expected(features, labels, **options) -> dict[str, float]:
    moments = ClassMoments(K)
    moments.update(features, labels)
    layer = evaluate_layer(moments, **options)
    return {name: m.value for name, m in layer.measurements.items()}


def assert_values(got: dict[str, torch.Tensor], want: dict[str, float], names=ALL, rel: float = 1e-10) -> None:
    assert list(got) == list(names)
    assert all(value.shape == () and value.dtype == torch.float64 for value in got.values())
    assert {name: float(value) for name, value in got.items()} == pytest.approx(
        {name: want[name] for name in names}, rel=rel
    )


def test_batches_add_up_to_the_metrics_of_all_samples():
    features, labels = samples()
    metric = NeuralCollapse(K, features=D, metrics=ALL)
    for part in torch.arange(120).split(31):
        metric.update(features[part], labels[part])
    assert_values(metric.compute(), expected(features, labels))


def test_forward_returns_the_values_of_the_batch_and_accumulates():
    features, labels = samples()
    metric, updated = NeuralCollapse(K, features=D, metrics=ALL), NeuralCollapse(K, features=D, metrics=ALL)
    for part in torch.arange(120).split(40):
        assert_values(metric(features[part], labels[part]), expected(features[part], labels[part]))
        updated.update(features[part], labels[part])
    assert_values(metric.compute(), expected(features, labels))
    assert_values(updated.compute(), expected(features, labels))


def test_the_value_of_a_batch_leaves_out_what_the_batch_does_not_define():
    features, labels = samples(8)
    metric = NeuralCollapse(K, features=D, metrics=ALL)
    two = labels < 2
    assert float(metric(features[two], labels[two])["D"]) > 0
    assert metric(features[labels == 2], labels[labels == 2]) == {}
    metric(features[labels == 3], labels[labels == 3])
    assert_values(metric.compute(), expected(features, labels))


@pytest.mark.parametrize("forward", [False, True])
def test_a_batch_in_error_loses_nothing(forward):
    features, labels = samples()
    metric = NeuralCollapse(K, features=D, metrics=ALL)
    feed = metric if forward else metric.update
    feed(features[:60], labels[:60])
    broken = features[60:].clone()
    broken[7, 1] = torch.nan
    with pytest.raises(InputError, match=r"NaN in 1 of 60 rows of batch \d, first in row 7"):
        feed(broken, labels[60:])
    with pytest.raises(InputError, match="labels lie in"):
        feed(features[60:], labels[60:] + 1)
    with pytest.raises(InputError, match="features of dimension 6; got dimension 5"):
        feed(features[60:, 1:], labels[60:])
    feed(features[60:], labels[60:])
    assert_values(metric.compute(), expected(features, labels))


@pytest.mark.parametrize("forward", [False, True])
def test_validation_in_inference_mode_may_be_followed_by_more(forward):
    features, labels = samples()
    metric, other = NeuralCollapse(K, features=D, metrics=ALL), NeuralCollapse(K, features=D, metrics=ALL)
    feed = metric if forward else metric.update
    other.update(features[:20], labels[:20])
    with torch.inference_mode():
        feed(features[20:60] * 1, labels[20:60] * 1)
        metric.compute()
        metric.merge_state(other)
    feed(features[60:], labels[60:])
    assert_values(metric.compute(), expected(features, labels))


@pytest.mark.parametrize("as_state", [False, True])
def test_merge_state_is_the_union(as_state):
    features, labels = samples()
    first, second = NeuralCollapse(K, features=D, metrics=ALL), NeuralCollapse(K, features=D, metrics=ALL)
    first.update(features[:50], labels[:50])
    second.update(features[50:], labels[50:])
    first.compute()  # a cached value must not survive the merge
    first.merge_state(second.metric_state if as_state else second)
    assert_values(first.compute(), expected(features, labels))
    assert_values(second.compute(), expected(features[50:], labels[50:]))


def test_merging_with_a_metric_without_samples_changes_nothing():
    features, labels = samples()
    full, empty = NeuralCollapse(K, features=D, metrics=ALL), NeuralCollapse(K, features=D, metrics=ALL)
    full.update(features, labels)
    full.merge_state(empty)
    empty.update(features[:4], labels[:4])
    empty.reset()
    empty.merge_state(full)
    for metric in (full, empty):
        assert metric.metric_state["statistics"][:K].tolist() == [30] * K
    assert_values(full.compute(), expected(features, labels))


def test_reset_forgets():
    features, labels = samples()
    metric = NeuralCollapse(K, features=D, metrics=ALL)
    metric.update(features * 100, labels)
    metric.reset()
    assert not metric.metric_state["statistics"].any()
    metric.update(features, labels)
    assert_values(metric.compute(), expected(features, labels))


def test_pickle_clone_and_deepcopy_go_on_independently():
    features, labels = samples()
    metric = NeuralCollapse(K, features=D, metrics=ALL)
    metric.update(features[:60], labels[:60])
    for other in (pickle.loads(pickle.dumps(metric)), metric.clone(), copy.deepcopy(metric)):
        other.update(features[60:], labels[60:])
        assert_values(other.compute(), expected(features, labels))
    assert_values(metric.compute(), expected(features[:60], labels[:60]))


def test_state_dict_round_trip_reads_without_pickle():
    features, labels = samples()
    metric = NeuralCollapse(K, features=D, metrics=ALL)
    assert metric.state_dict() == {}  # as torchmetrics has it: not persistent unless asked for
    metric.persistent(True)
    metric.update(features[:60], labels[:60])
    file = io.BytesIO()
    torch.save(metric.state_dict(), file)
    file.seek(0)
    other = NeuralCollapse(K, features=D, metrics=ALL)
    other.persistent(True)
    other.load_state_dict(torch.load(file, weights_only=True))
    other.update(features[60:], labels[60:])
    assert_values(other.compute(), expected(features, labels))


def test_a_state_of_another_shape_is_refused():
    metric = NeuralCollapse(K, features=D)
    with pytest.raises(InputError, match=r"a state of 68 numbers.*got shape \(3,\)"):
        metric.statistics = torch.zeros(3)


def test_beside_accuracy_in_a_collection_by_keywords():
    features, labels = samples()
    logits = torch.randn(120, K, generator=torch.Generator().manual_seed(1))
    collection = MetricCollection(
        {
            "accuracy": MulticlassAccuracy(K, average="micro"),
            "collapse": NeuralCollapse(K, features=D, metrics=("NC1", "D")),
            "more": NeuralCollapse(K, features=D, metrics=("CDNV",)),
        },
        prefix="val/",
    )
    batch = {}
    for part in torch.arange(120).split(40):
        batch = collection(features=features[part], preds=logits[part], target=labels[part])
    assert {"val/NC1", "val/D", "val/CDNV", "val/accuracy"} == set(batch)
    collection.reset()
    for part in torch.arange(120).split(40):  # compute groups share the state of the two collapse metrics
        collection.update(features=features[part], preds=logits[part], target=labels[part])
    got, want = collection.compute(), expected(features, labels)
    assert float(got["val/accuracy"]) == pytest.approx(float((logits.argmax(1) == labels).double().mean()))
    for name in ("NC1", "D", "CDNV"):
        assert float(got[f"val/{name}"]) == pytest.approx(want[name], rel=1e-10)


def test_the_classifier_is_read_at_compute_and_shared_with_clones():
    features, labels = samples()
    torch.manual_seed(0)
    head = nn.Linear(D, K).double()
    names = ("NC1", "NC2 classifier", "NC3", "bias collapse")
    metric = NeuralCollapse(K, features=D, metrics=names, classifier=head)
    assert not list(metric.parameters())
    clone = metric.clone()
    with torch.no_grad():
        head.weight.mul_(2).add_(1)
    for one in (metric, clone):
        one.update(features, labels)
        assert_values(one.compute(), expected(features, labels, weight=head.weight, bias=head.bias), names)


def test_a_copy_of_the_whole_model_reads_its_own_classifier():
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(D, K)
            self.collapse = NeuralCollapse(K, features=D, metrics=("NC3",), classifier=self.head)

    model = Model()
    twin = copy.deepcopy(model)
    assert twin.collapse._head.module is twin.head
    assert model.collapse._head.module is model.head


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_features_give_the_values_of_the_rounded_data(dtype):
    features, labels = samples(dtype=dtype)
    metric = NeuralCollapse(K, features=D, metrics=ALL)
    metric.update(features, labels)
    assert_values(metric.compute(), expected(features.double(), labels), rel=1e-5)


def test_ignored_rows_absent_classes_and_undefined_metrics():
    features, labels = samples()
    metric = NeuralCollapse(K, features=D, metrics=ALL, ignore_index=2)
    metric.update(features, labels)
    with pytest.raises(InputError, match="samples of all 4 classes"):
        metric.compute()
    dropping = NeuralCollapse(K, features=D, metrics=("D",), ignore_index=2, absent="drop")
    dropping.update(features, labels)
    kept = labels != 2
    assert float(dropping.compute()["D"]) == pytest.approx(
        expected(features[kept], labels[kept], absent="drop")["D"], rel=1e-10
    )
    constant = torch.ones(8, D)
    strict = NeuralCollapse(K, features=D, metrics=("NC1", "D"))
    strict.update(constant, labels[:8])
    with pytest.raises(DegenerateError, match="data on which NC1, D is defined"):
        strict.compute()
    lenient = NeuralCollapse(K, features=D, metrics=("NC1", "D"), undefined="omit")
    lenient.update(constant, labels[:8])
    assert lenient.compute() == {}


def test_wide_features_in_trace_mode():
    features, labels = samples()
    metric = NeuralCollapse(K, features=D, metrics=("D", "CDNV"), mode="trace")
    metric(features, labels)
    assert_values(metric.compute(), expected(features, labels), ("D", "CDNV"))
    with pytest.raises(InputError, match="'NC1'"):
        NeuralCollapse(K, features=D, metrics=("NC1",), mode="trace")


def test_names_of_metrics_are_checked_when_the_metric_is_built():
    with pytest.raises(InputError, match=r"names of metrics of this layer; got 'nc1'.*'NC1'"):
        NeuralCollapse(K, features=D, metrics=("nc1",))
    with pytest.raises(InputError, match="'NC3'"):
        NeuralCollapse(K, features=D, metrics=("NC3",))
    with pytest.raises(InputError, match="at least 2"):
        NeuralCollapse(1, features=D)
    with pytest.raises(InputError, match="features is an integer"):
        NeuralCollapse(K, features=0)
    with pytest.raises(InputError, match='undefined is "error" or "omit"'):
        NeuralCollapse(K, features=D, undefined="drop")
    with pytest.raises(InputError, match='absent is "error" or "drop"'):
        NeuralCollapse(K, features=D, absent="omit")
    with pytest.raises(InputError, match='mode is "full" or "trace"'):
        NeuralCollapse(K, features=D, mode="auto")


def test_compute_without_samples_is_refused():
    with (
        pytest.warns(UserWarning, match="before the ``update`` method"),
        pytest.raises(InputError, match="at least one sample"),
    ):
        NeuralCollapse(K, features=D).compute()


def test_moving_the_metric_keeps_its_state():
    features, labels = samples()
    metric = NeuralCollapse(K, features=D, metrics=ALL)
    metric.update(features, labels)
    metric = metric.to("cpu").half()  # precision of states is guarded by torchmetrics
    assert_values(metric.compute(), expected(features, labels))


def on_rank(rank: int, directory: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{directory}/store", rank=rank, world_size=2)
    features, labels = samples()
    part = slice(0, 35) if rank == 0 else slice(35, 120)
    metric = NeuralCollapse(K, features=D, metrics=ALL)
    idle = NeuralCollapse(K, features=D, metrics=ALL)
    metric.update(features[part], labels[part])
    if rank == 0:
        idle.update(features, labels)
    whole, alone = metric.compute(), idle.compute()
    local = metric.metric_state["statistics"][:K].sum()
    torch.save({"whole": whole, "one idle": alone, "local": local}, f"{directory}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_agree_with_one(tmp_path: Path):
    mp.spawn(on_rank, args=(str(tmp_path),), nprocs=2)
    want = expected(*samples())
    for rank, rows in ((0, 35), (1, 85)):
        got = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert_values(got["whole"], want)
        assert_values(got["one idle"], want)
        assert int(got["local"]) == rows  # the own samples go on accumulating after the synchronised compute
