"""`measure` and `Monitor`: what they measure, what they leave untouched, and what they refuse."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import tightframe.collapse.monitor as monitor_module
from definitions import gaussian_classes
from tightframe.collapse.monitor import Monitor, measure
from tightframe.core.errors import InputError
from tightframe.features import cache as cache_module
from tightframe.features.extract import stream
from tightframe.features.moments import ClassMoments

K, D = 4, 6


class Mlp(nn.Module):
    def __init__(self, *, dropout: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Sequential(nn.Linear(D, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(dropout))
        self.second = nn.Sequential(nn.Linear(16, 12), nn.ReLU())
        self.third = nn.Sequential(nn.Linear(12, 10), nn.Tanh())
        self.classifier = nn.Linear(10, K)

    def forward(self, x):
        return self.classifier(self.third(self.second(self.first(x))))


def data(rows: int = 96, seed: int = 1, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    return gaussian_classes([rows // K] * K, D, seed=seed, spread=1.0, dtype=dtype)


def loader(*, batch: int = 10, rows: int = 96, dtype: torch.dtype = torch.float32) -> DataLoader:
    return DataLoader(TensorDataset(*data(rows, dtype=dtype)), batch_size=batch)


def batches(features: Tensor, labels: Tensor, size: int = 10):
    return zip(features.split(size), labels.split(size), strict=True)


def plain(summary) -> dict:
    return {f"{name}/{k}": m.value for name, part in summary.layers.items() for k, m in part.measurements.items()} | {
        name: m.value for name, m in summary.decisions.items()
    }


# --- what is measured -----------------------------------------------------------------------------------------------


def test_measure_is_monitor_on_the_streamed_features():
    model, monitor = Mlp(), Monitor(K)
    for batch in stream(model, loader(), layers="auto"):
        monitor.update(batch.features, batch.labels, logits=batch.logits)
    head = model.classifier
    by_hand = monitor.compute(weight=head.weight, bias=head.bias, split="test")
    summary = measure(model, loader(), layers="auto", split="test")
    assert summary.to_dict() == by_hand.to_dict()
    assert summary.split == "test"
    assert "on test" in str(summary)


def test_auto_measures_every_block_and_fits_the_line():
    summary = measure(Mlp(), loader(), layers="auto")
    assert list(summary.layers) == ["first.2", "second.1", "features"]
    assert [part.features for part in summary.layers.values()] == [16, 12, 10]
    assert summary.separation is not None
    assert all("NC4" in part.measurements for part in summary.layers.values())
    assert "NC3" in summary.last.measurements
    assert "NC3" not in summary.layers["first.2"].measurements
    assert measure(Mlp(), loader()).separation is None


def test_train_and_test_are_told_apart():
    model = Mlp()
    train, test = (measure(model, [data(seed=seed)], split=name) for seed, name in ((1, "train"), (2, "test")))
    assert {row["split"] for row in train.rows()} == {"train"}
    assert test["NC1"] != train["NC1"]


@pytest.mark.parametrize("size", [1, 7, 96])
def test_nc4_accuracy_and_loss_are_their_definitions_with_the_bias(size):
    features, labels = data()
    means = torch.stack([features[labels == k].double().mean(0) for k in range(K)])
    head = nn.Linear(D, K)
    with torch.no_grad():  # decides like the nearest mean, but for a part of its bias
        head.weight.copy_(means)
        head.bias.copy_(torch.tensor([2.0, -1.0, 0.0, 0.5]) - means.square().sum(1) / 2)
    summary = measure(nn.Sequential(head), list(batches(features, labels, size)))
    logits = features @ head.weight.T + head.bias
    assert logits.argmax(1).bincount(minlength=K).min() > 5
    nearest = torch.tensor([int((means - h).norm(dim=1).argmin()) for h in features.double()])
    assert summary["NC4"] == pytest.approx(float((nearest != logits.argmax(1)).double().mean()), abs=1e-12)
    without_bias = (features @ head.weight.T).argmax(1)
    assert summary["NC4"] != pytest.approx(float((nearest != without_bias).double().mean()), abs=1e-3)
    assert summary["accuracy"] == pytest.approx(float((logits.argmax(1) == labels).double().mean()), abs=1e-12)
    assert summary["loss"] == pytest.approx(nn.functional.cross_entropy(logits.double(), labels).item(), rel=1e-6)


@pytest.mark.parametrize(("dtype", "rel"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("memory", [0, 1 << 28])
def test_wide_layers_give_the_same_nc1_by_the_dual_form(monkeypatch, dtype, rel, memory):
    model = Mlp().to(dtype)
    full = measure(model, loader(dtype=dtype), layers="auto")
    monkeypatch.setattr(monitor_module, "WIDE", 11)
    monkeypatch.setattr(cache_module.RowCache.__init__, "__kwdefaults__", {"memory": memory})
    wide = measure(model, loader(dtype=dtype), layers="auto")
    for name in ("first.2", "second.1"):
        assert wide.layers[name].measurements["NC1"].note == "dual form over kept rows"
        assert wide.layers[name]["NC1"] == pytest.approx(full.layers[name]["NC1"], rel=rel)
        assert "VCI" not in wide.layers[name].measurements
    assert wide["NC1"] == full["NC1"]
    shared = {name: value for name, value in plain(wide).items() if not name.endswith("NC1")}
    assert shared == pytest.approx({name: plain(full)[name] for name in shared}, rel=1e-12, abs=1e-15)


def test_without_decisions_nothing_is_put_aside():
    summary = measure(Mlp(), loader(), decisions=False)
    assert "NC4" not in summary.last.measurements
    assert 0 <= summary["accuracy"] <= 1


def test_a_monitor_without_logits_has_no_decisions():
    features, labels = data()
    monitor = Monitor(K)
    monitor.update(features, labels)
    summary = monitor.compute()
    assert summary.decisions == {}
    assert "NC4" not in summary.last.measurements


def test_updates_may_follow_a_computation():
    features, labels = data()
    monitor, once = Monitor(K), Monitor(K)
    for h, y in batches(features, labels):
        monitor.update(h, y, logits=h[:, :K])
        if monitor.moments["features"].total > 40:
            monitor.compute()
    once.update(features, labels, logits=features[:, :K])
    assert plain(monitor.compute()) == pytest.approx(plain(once.compute()), rel=1e-6)


def test_intervals_enclose_the_value():
    summary = measure(Mlp(), loader(rows=400), bootstrap=20)
    measured = summary.last.measurements["NC1"]
    assert measured.interval[0] < measured.value < measured.interval[1]
    assert "95 % interval" in str(summary)


# --- rows that do not count -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", [0, 1 << 28])
@pytest.mark.parametrize("wide", [False, True])
def test_ignored_rows_and_batches_that_are_ignored_whole(monkeypatch, memory, wide):
    monkeypatch.setattr(cache_module.RowCache.__init__, "__kwdefaults__", {"memory": memory})
    monkeypatch.setattr(monitor_module, "WIDE", 3 if wide else 4096)
    features, labels = data(dtype=torch.float64)
    mixed = labels.clone()
    mixed[:20], mixed[53] = -100, -100
    kept = mixed != -100
    logits = torch.randn(96, K, generator=torch.Generator().manual_seed(2))
    monitor, expected = Monitor(K), Monitor(K)
    for part in torch.arange(96).split(10):
        monitor.update(features[part], mixed[part], logits=logits[part])
    expected.update(features[kept], labels[kept], logits=logits[kept])
    assert plain(monitor.compute()) == pytest.approx(plain(expected.compute()), rel=1e-10)


def test_a_class_never_seen():
    features, labels = data()
    keep = labels != 2
    batch = [(features[keep], labels[keep])]
    with pytest.raises(InputError, match=r"samples of all 4 classes; got none of 1 of them \(class 2\)"):
        measure(Mlp(), batch)
    summary = measure(Mlp(), batch, absent="drop")
    assert summary.last.classes == 3
    assert math.isfinite(summary["NC3"])


def test_one_class_and_no_sample():
    features, labels = data()
    with pytest.raises(InputError, match="samples of at least two classes"):
        measure(Mlp(), [(features[labels == 1], labels[labels == 1])], absent="drop")
    for empty in ([], DataLoader(TensorDataset(features[:0], labels[:0]))):
        with pytest.raises(InputError, match="a loader with at least one sample"):
            measure(Mlp(), empty)
    with pytest.raises(InputError, match="at least one sample; got none"):
        measure(Mlp(), [(features, torch.full_like(labels, -100))])
    with pytest.raises(InputError, match="at least one sample"):
        Monitor(K).compute()


# --- degenerate layers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wide", [False, True])
def test_a_dead_layer_is_undefined_and_the_others_are_measured(monkeypatch, wide):
    monkeypatch.setattr(monitor_module, "WIDE", 3 if wide else 4096)
    model = Mlp()
    with torch.no_grad():
        model.second[0].weight.zero_()
        model.second[0].bias.fill_(-1)
    summary = measure(model, loader(), layers="auto")
    dead = summary.layers["second.1"].measurements
    for name in ("NC1", "D", "CDNV", "NC2 features"):
        assert dead[name].value is None
        assert dead[name].note
    assert summary.layers["first.2"]["NC1"] > 0
    assert 0 <= summary["accuracy"] <= 1
    assert summary.separation is None
    assert "undefined" in str(summary)
    assert all(value is None or math.isfinite(value) for value in plain(summary).values())


# --- precision ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_models(dtype):
    model = nn.Sequential(nn.Linear(D, 8), nn.ReLU(), nn.Linear(8, K)).to(dtype)
    features, labels = data(dtype=dtype)
    summary = measure(model, list(batches(features, labels)), bootstrap=2)
    with torch.no_grad():
        rounded = torch.cat([model[1](model[0](h)) for h in features.split(10)])
    moments = ClassMoments(K)
    moments.update(rounded.double(), labels)
    monitor = Monitor(K)
    monitor.update(rounded.double(), labels)
    assert summary["NC1"] == pytest.approx(monitor.compute()["NC1"], rel=1e-6)
    assert math.isfinite(summary["loss"])


def test_integer_features_and_other_types_are_refused():
    labels = torch.arange(8) % K
    with pytest.raises(InputError, match=r"floating-point tensor; got dtype torch\.int64"):
        Monitor(K).update(torch.ones(8, D, dtype=torch.int64), labels)
    with pytest.raises(InputError, match=r"shape \(n, d\)"):
        Monitor(K).update(torch.ones(8), labels)
    with pytest.raises(InputError, match=r"torch\.Tensor"):
        Monitor(K).update([[1.0]], labels)
    with pytest.raises(InputError, match="labels are an integer tensor"):
        Monitor(K).update(torch.ones(8, D), labels.float())
    with pytest.raises(InputError, match="classes is an integer of at least 2"):
        Monitor(1).update(torch.ones(8, D), labels)


# --- batches in error -----------------------------------------------------------------------------------------------


def test_nan_is_named_with_its_batch():
    features, labels = data()
    features[34, 2] = torch.nan
    with pytest.raises(InputError, match="NaN in 1 of 10 rows of batch 3, first in row 4"):
        measure(nn.Sequential(nn.Linear(D, K)), list(batches(features, labels)))


BROKEN = {
    "NaN in the second layer": (lambda a, b, y, z: ({"a": a, "b": b / 0}, y, z), "rows of batch 1"),
    "rows that differ": (lambda a, b, y, z: ({"a": a, "b": b[1:]}, y, z), r"labels have shape \(n,\) = \(47,\)"),
    "width": (lambda a, b, y, z: ({"a": a, "b": b[:, 1:]}, y, z), "features of dimension 3"),
    "no second layer": (lambda a, b, y, z: ({"a": a}, y, z), r"features of the layers \['a', 'b'\]"),
    "another layer": (lambda a, b, y, z: ({"a": a, "c": b}, y, z), r"got \['a', 'c'\]"),
    "another order": (lambda a, b, y, z: ({"b": b, "a": a}, y, z), r"got \['b', 'a'\]"),
    "no logits": (lambda a, b, y, z: ({"a": a, "b": b}, y, None), "logits with every batch or with none"),
    "logits of another shape": (lambda a, b, y, z: ({"a": a, "b": b}, y, z[:, 1:]), r"\(n, k\) = \(48, 4\)"),
    "rows of logits": (lambda a, b, y, z: ({"a": a, "b": b}, y, z[1:]), r"got shape \(47, 4\)"),
    "NaN logits": (lambda a, b, y, z: ({"a": a, "b": b}, y, z * torch.nan), "logits are finite; got a loss of nan"),
    "labels": (lambda a, b, y, z: ({"a": a, "b": b}, y + 1, z), r"labels lie in \[0, 4\)"),
}


DIFFERING = {"no second layer", "another layer", "another order", "no logits", "width"}


@pytest.mark.parametrize(
    ("what", "first"),
    [(what, first) for what in BROKEN for first in (False, True) if not (first and what in DIFFERING)],
)
def test_a_batch_in_error_is_not_counted_in_any_layer(what, first):
    features, labels = data(dtype=torch.float64)
    logits = torch.randn(96, K, generator=torch.Generator().manual_seed(2))
    monitor, expected = Monitor(K, bootstrap=2), Monitor(K, bootstrap=2)
    parts = [
        ({"a": features[rows, :3], "b": features[rows, 3:]}, labels[rows], logits[rows])
        for rows in (slice(0, 48), slice(48, 96))
    ]
    spoil, message = BROKEN[what]

    def refused(part) -> None:
        named, y, z = spoil(part[0]["a"], part[0]["b"], part[1], part[2])
        with pytest.raises(InputError, match=message.replace("batch 1", "batch 0") if first else message):
            monitor.update(named, y, logits=z)

    if first:
        refused(parts[0])
    for i, part in enumerate(parts):
        monitor.update(*part[:2], logits=part[2])
        expected.update(*part[:2], logits=part[2])
        if i == 0 and not first:
            refused(parts[1])
    got, want = monitor.compute(), expected.compute()
    assert got.to_dict() == want.to_dict()
    assert [m.interval for m in got.last.measurements.values()] == [m.interval for m in want.last.measurements.values()]


def test_features_of_no_layer():
    with pytest.raises(InputError, match="features of at least one layer"):
        Monitor(K).update({}, torch.zeros(0, dtype=torch.int64))


# --- nothing is left behind -----------------------------------------------------------------------------------------


def state_of(model: nn.Module) -> tuple:
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    grads = [None if p.grad is None else p.grad.clone().tolist() for p in model.parameters()]
    return (
        [module.training for module in model.modules()],
        hooks,
        grads,
        torch.get_rng_state().tolist(),
        torch.is_grad_enabled(),
        copy.deepcopy({name: value.tolist() for name, value in model.state_dict().items()}),
    )


class Breaking:
    """A loader that draws randomness and fails in the middle."""

    def __init__(self, *, fail: bool) -> None:
        self.fail = fail

    def __iter__(self):
        features, labels = data()
        for i, (h, y) in enumerate(batches(features, labels)):
            if self.fail and i == 5:
                raise RuntimeError("the disk is gone")
            yield h + 0.01 * torch.randn(h.shape), y


@pytest.mark.parametrize("fail", [False, True])
@pytest.mark.parametrize("layers", ["classifier", "auto"])
def test_the_model_is_as_it_was(fail, layers):
    model = Mlp(dropout=0.5)
    model.train()
    model.first[1].eval()
    model(data()[0]).sum().backward()
    before = state_of(model)
    if fail:
        with pytest.raises(RuntimeError, match="the disk is gone"):
            measure(model, Breaking(fail=True), layers=layers)
    else:
        measure(model, Breaking(fail=False), layers=layers)
    assert state_of(model) == before
    assert model(data()[0]).requires_grad


def test_no_graph_is_kept():
    features, labels = data()
    features.requires_grad_()
    monitor = Monitor(K)
    logits = features[:, :K] * 2
    monitor.update(features, labels, logits=logits)
    assert not monitor.moments["features"].mean.requires_grad
    assert monitor.compute(weight=nn.Parameter(torch.randn(K, D)))["NC3"] > 0
    assert features.grad is None


def test_the_generator_of_a_shuffling_loader_is_as_it_was():
    shuffler = torch.Generator().manual_seed(4)
    shuffled = DataLoader(TensorDataset(*data()), batch_size=10, shuffle=True, generator=shuffler)
    before = shuffler.get_state()
    for batch in stream(Mlp(), shuffled):
        assert torch.equal(shuffler.get_state(), before), batch.first
    measure(Mlp(), shuffled)
    assert torch.equal(shuffler.get_state(), before)


class Batches(torch.utils.data.Dataset):
    """A data set that makes its own batches of 32 rows."""

    def __init__(self, number: int) -> None:
        features, labels = data(32 * number)
        self.parts = list(batches(features, labels, 32))

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, index):
        return self.parts[index]


def test_rows_of_batches_made_by_the_data_set_are_all_counted():
    for number in (4, 3):
        made = Batches(number)
        sampler = torch.utils.data.DistributedSampler(made, num_replicas=2, rank=0, shuffle=False)
        shared = DataLoader(made, batch_size=None, sampler=sampler)
        if number == 4:
            assert measure(Mlp(), shared).last.samples == 64
        else:
            with pytest.raises(InputError, match="share evenly; got 3 of them"):
                measure(Mlp(), shared)


def test_updates_inside_and_outside_of_inference_mode_may_be_mixed():
    features, labels = data()
    monitor, expected = Monitor(K, bootstrap=2), Monitor(K, bootstrap=2)
    for i, (h, y) in enumerate(batches(features, labels)):
        with torch.inference_mode(i % 2 == 0):
            monitor.update(h * 1, y * 1, logits=h[:, :K] * 1)
        expected.update(h, y, logits=h[:, :K])
    assert monitor.compute().to_dict() == expected.compute().to_dict()


@pytest.mark.parametrize("wrong", [{"absent": "omit"}, {"bootstrap": 1}, {"bootstrap": -3}])
def test_options_are_checked_before_the_data_are_read(wrong):
    class Once:
        def __iter__(self):
            yield data()
            pytest.fail("read on")

    with pytest.raises(InputError, match=next(iter(wrong))):
        measure(Mlp(), Once(), **wrong)
    with pytest.raises(InputError, match='mode is "auto", "full" or "trace"'):
        Monitor(K, mode="dual")
