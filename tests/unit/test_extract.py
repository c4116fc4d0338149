from __future__ import annotations

import random
from collections import Counter, UserDict

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, DistributedSampler, RandomSampler, SequentialSampler, TensorDataset

from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.features.extract import FeatureBatch, own_samples, stream
from tightframe.features.tap import FeatureTap


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(seed))


def integers(high: int, *shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, high, shape, generator=generator(seed))


def perceptron() -> nn.Sequential:
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Dropout(), nn.Linear(5, 3))
    draws = generator(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draws))
    return model


def pairs(n: int = 10) -> TensorDataset:
    return TensorDataset(normal(n, 6), integers(3, n))


def joined(batches: list[FeatureBatch]) -> FeatureBatch:
    return FeatureBatch(
        {name: torch.cat([b.features[name] for b in batches]) for name in batches[0].features},
        torch.cat([b.logits for b in batches]),
        torch.cat([b.labels for b in batches]),
        0,
    )


class TokenModel(nn.Module):
    """Logits (n, t, k) from the embedding of each token and the one before it."""

    def __init__(self, classes: int = 11) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 4)
        self.lm_head = nn.Linear(4, classes)

    def forward(self, input_ids, attention_mask=None):
        h = self.embedding(input_ids)
        return {"logits": self.lm_head(h + h.roll(1, dims=1)), "other": h}


@pytest.mark.parametrize("size", [1, 3, 4, 10, 100])
def test_every_sample_comes_once_in_order_with_its_features(size):
    model, data = perceptron(), pairs()
    batches = list(stream(model, DataLoader(data, batch_size=size), layers="auto"))
    whole = joined(batches)
    model.eval()
    torch.testing.assert_close(whole.logits, model(data.tensors[0]).detach())
    torch.testing.assert_close(whole.features["features"], torch.relu(model[0](data.tensors[0])).detach())
    assert torch.equal(whole.labels, data.tensors[1])
    assert [b.first for b in batches] == list(range(0, 10, size))


def test_a_tap_may_be_passed_instead_of_a_model():
    tap = FeatureTap(perceptron(), ["0"])
    (batch,) = stream(tap, [(normal(4, 6), integers(3, 4))])
    assert list(batch.features) == ["0"]


class Doubled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 3)

    def forward(self, first, second=None):
        return self.fc(first if second is None else first + second)


@pytest.mark.parametrize(
    "batch",
    [
        (normal(4, 6), integers(3, 4)),
        [normal(4, 6), integers(3, 4).int()],
        (normal(4, 6), integers(3, 4)[:, None]),
        (normal(4, 6), integers(3, 4).tolist()),
        (normal(4, 6), integers(3, 4).numpy()),
        (normal(4, 6), integers(3, 4), torch.arange(4)),
        ({"first": normal(4, 6)}, integers(3, 4)),
        ((normal(4, 6), torch.zeros(4, 6)), integers(3, 4)),
        {"first": normal(4, 6), "labels": integers(3, 4), "index": torch.arange(4)},
        {"first": normal(4, 6), "second": torch.zeros(4, 6), "label": integers(3, 4)},
        {"image": normal(4, 6), "label": integers(3, 4)},
        UserDict({"first": normal(4, 6), "labels": integers(3, 4), "text": ["a"] * 4}),
    ],
)
def test_batches_of_many_forms_mean_the_same(batch):
    model = Doubled()
    (out,) = stream(model, [batch])
    assert torch.equal(out.logits, model(normal(4, 6)))
    assert torch.equal(out.labels, integers(3, 4))
    assert out.labels.dtype == torch.int64


def test_labels_under_another_key():
    batch = {"first": normal(4, 6), "fine": integers(3, 4), "label": integers(3, 4, seed=9)}
    (out,) = stream(Doubled(), [batch], labels_key="fine")
    assert torch.equal(out.labels, batch["fine"])


def test_ignored_labels_are_left_out():
    model, x = perceptron().eval(), normal(5, 6)
    labels = torch.tensor([0, -100, 2, -100, 1])
    (out,) = stream(model, [(x, labels)])
    kept = torch.tensor([0, 2, 4])
    assert torch.equal(out.labels, labels[kept])
    torch.testing.assert_close(out.logits, model(x)[kept].detach())
    (out,) = stream(model, [(x, labels)], ignore_index=None)
    assert torch.equal(out.labels, labels)


def test_a_batch_without_rows_still_tells_the_widths():
    data = [(normal(2, 6), torch.tensor([-100, -100])), (normal(1, 6), torch.tensor([1]))]
    first, second = stream(perceptron(), data)
    assert first.features["features"].shape == (0, 5)
    assert first.logits.shape == (0, 3)
    assert second.first == 0


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (normal(4, 6), "got a Tensor. Let the data set return"),
        ((normal(4, 6),), "got a tuple of length 1"),
        (3, "got a int"),
        ({"first": normal(4, 6)}, "have an entry 'labels'; got the entries 'first'. Name the entry"),
        ((normal(4, 6), normal(4)), r"integer class indices.*dtype torch.float32 and shape \(4,\).*\.long\(\)"),
        ((normal(4, 6), torch.ones(4, dtype=torch.bool)), "dtype torch.bool"),
        ((normal(4, 6), ["a", "b", "c", "d"]), "labels are integer class indices; got a list"),
        ((normal(4, 6), integers(3, 3)), r"one label per row of the logits, shape \(4,\); got labels of shape \(3,\)"),
        ((normal(4, 6), integers(2, 4, 3)), r"one-hot labels into indices with \.argmax"),
        ((normal(4, 6), torch.ones(4, 6, dtype=torch.bool)), "a mask of positions comes with input ids"),
        ({"a": normal(4, 6), "b": normal(4, 6), "labels": integers(3, 4)}, r"forward \(first, second\).*'a', 'b'"),
    ],
)
def test_bad_batches_are_named(batch, message):
    with pytest.raises(InputError, match=message):
        list(stream(Doubled(), [batch]))


@pytest.mark.parametrize("loader", [[], DataLoader(TensorDataset(normal(0, 6), integers(3, 0)), batch_size=4)])
def test_an_empty_loader_is_refused(loader):
    with pytest.raises(InputError, match="at least one sample; got an empty one"):
        list(stream(perceptron(), loader))


def test_arguments_are_checked_before_the_first_batch():
    with pytest.raises(InputError, match="matches none"):
        stream(perceptron(), [], layers="nothing")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_features_keep_their_precision(dtype):
    (out,) = stream(perceptron().to(dtype), [(normal(4, 6).to(dtype), integers(3, 4))])
    assert out.features["features"].dtype == out.logits.dtype == dtype


# Tokens


def test_token_labels_are_flattened_and_ignored_positions_dropped():
    model, ids = TokenModel(), integers(11, 3, 5)
    labels = integers(11, 3, 5, seed=2)
    labels[0, 2] = labels[2, 4] = -100
    (out,) = stream(model, [{"input_ids": ids, "labels": labels}])
    kept = labels != -100
    assert torch.equal(out.labels, labels[kept])
    assert torch.equal(out.logits, model(ids)["logits"][kept])
    torch.testing.assert_close(
        nn.functional.linear(out.features["features"], model.lm_head.weight, model.lm_head.bias), out.logits
    )


def test_shift_pairs_each_position_with_the_next_label_under_the_mask():
    model, ids = TokenModel(), integers(11, 3, 5)
    mask = torch.ones(3, 5, dtype=torch.int64)
    mask[0, :2] = 0
    mask[1, 3:] = 0
    batch = {"input_ids": ids, "attention_mask": mask}
    (out,) = stream(model, [batch], labels_key="input_ids", mask_key="attention_mask", shift=True)
    expected = [(n, t) for n in range(3) for t in range(4) if mask[n, t] and mask[n, t + 1]]
    assert out.labels.tolist() == [int(ids[n, t + 1]) for n, t in expected]
    assert torch.equal(out.logits, torch.stack([model(ids)["logits"][n, t] for n, t in expected]))


def test_labels_may_be_a_mask_of_positions():
    model, ids = TokenModel(), integers(11, 3, 5)
    chosen = torch.zeros(3, 5, dtype=torch.bool)
    chosen[0, 0] = chosen[1, 3] = chosen[2, 4] = True
    (out,) = stream(model, [(ids, chosen)])
    assert torch.equal(out.labels, ids[chosen])
    assert torch.equal(out.logits, model(ids)["logits"][chosen])


def test_a_mask_of_positions_with_shift_selects_the_predicted_positions():
    model, ids = TokenModel(), integers(11, 3, 5)
    chosen = torch.zeros(3, 5, dtype=torch.bool)
    chosen[0, 0] = chosen[1, 3] = chosen[2, 4] = True
    (out,) = stream(model, [(ids, chosen)], shift=True)
    assert out.labels.tolist() == [int(ids[1, 3]), int(ids[2, 4])]
    assert torch.equal(out.logits, model(ids)["logits"][[1, 2], [2, 3]])


def test_shift_and_masks_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="shift=True needs labels"):
        list(stream(perceptron(), [(normal(4, 6), integers(3, 4))], shift=True))
    batch = {"input_ids": integers(11, 3, 5), "labels": integers(11, 3, 5), "attention_mask": torch.ones(3, 4)}
    with pytest.raises(InputError, match=r"a mask of the labels' shape \(3, 5\); got shape \(3, 4\)"):
        list(stream(TokenModel(), [batch | {"attention_mask": None, "m": torch.ones(3, 4)}], mask_key="m"))
    with pytest.raises(InputError, match="batches with the mask 'absent'"):
        list(stream(TokenModel(), [batch], mask_key="absent"))


def test_all_tokens_of_a_sequence_classifier_have_no_labels_of_their_own():
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encode = nn.Linear(6, 4)
            self.fc = nn.Linear(4, 3)

        def forward(self, x):
            return self.fc(self.encode(x).mean(1))

    with pytest.raises(InputError, match="one row of features per label, 2; got 10 rows of layer 'encode'"):
        list(stream(Pooled(), [(normal(2, 5, 6), integers(3, 2))], layers="encode", tokens="all"))


# State


def test_state_is_back_between_batches_and_after_an_early_end():
    model = perceptron().train()
    model[2].eval()
    flags = [module.training for module in model.modules()]
    batches = stream(model, DataLoader(pairs(), batch_size=3), layers="auto")
    next(batches)
    assert [module.training for module in model.modules()] == flags
    assert torch.is_grad_enabled()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    batches.close()
    assert [module.training for module in model.modules()] == flags


class Noisy(Dataset):
    """Draws from every global generator, as augmentations do."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index):
        return torch.rand(6) + random.random() + float(np.random.rand()), index % 3


def test_the_callers_randomness_is_untouched():
    def draw():
        return float(torch.rand(())), random.random(), float(np.random.rand())

    def seed():
        torch.manual_seed(4)
        random.seed(4)
        np.random.seed(4)

    model = nn.Linear(6, 3)
    seed()
    expected = [draw(), draw(), draw()]
    seed()
    batches = stream(model, DataLoader(Noisy(), batch_size=4, shuffle=True))
    got = [draw()]
    first = next(batches)
    got.append(draw())
    second = next(batches)
    assert list(batches) == []
    got.append(draw())
    assert got == expected
    assert len(first.labels) == len(second.labels) == 4


def test_batches_do_not_repeat_each_others_randomness():
    whole = joined(list(stream(nn.Linear(6, 3), DataLoader(Noisy(), batch_size=2))))
    assert len(whole.features["features"][:, 0].unique()) == 8


def test_a_failing_loader_leaves_the_generators_alone():
    def broken():
        torch.rand(3)
        yield normal(2, 6), integers(3, 2)
        torch.rand(3)
        raise ZeroDivisionError

    model = perceptron()
    torch.manual_seed(4)
    expected = torch.rand(2)
    torch.manual_seed(4)
    with pytest.raises(ZeroDivisionError):
        list(stream(model, broken()))
    assert torch.equal(torch.rand(2), expected)


# Distributed


@pytest.mark.parametrize("n", [1, 2, 7, 9, 10])
@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("shuffle", [False, True])
def test_sampler_padding_is_counted_once_over_the_ranks(n, size, shuffle):
    data = TensorDataset(torch.arange(n, dtype=torch.float32)[:, None].repeat(1, 6), integers(3, n))
    seen = Counter()
    for rank in range(3):
        sampler = DistributedSampler(data, num_replicas=3, rank=rank, shuffle=shuffle, seed=5)
        loader = DataLoader(data, batch_size=size, sampler=sampler)
        whole = joined(list(stream(nn.Sequential(nn.Flatten(), nn.Linear(6, 3)), loader)))
        seen.update(whole.features["features"][:, 0].long().tolist())
        assert torch.equal(whole.labels, data.tensors[1][whole.features["features"][:, 0].long()])
    assert seen == Counter(range(n))


def test_samplers_that_fabric_inserts_are_seen():
    from lightning.fabric.utilities.distributed import DistributedSamplerWrapper

    data = pairs(7)
    for inner in (RandomSampler(data), SequentialSampler(data)):
        samplers = [DistributedSamplerWrapper(inner, num_replicas=3, rank=rank, shuffle=False) for rank in range(3)]
        loaders = [DataLoader(data, batch_size=2, sampler=sampler) for sampler in samplers]
        assert [own_samples(loader) for loader in loaders] == [3, 2, 2]


def test_loaders_that_repeat_nothing_are_taken_whole():
    data = pairs(7)
    assert own_samples(DataLoader(data, batch_size=2)) is None
    assert own_samples([1, 2]) is None
    sampler = DistributedSampler(data, num_replicas=3, rank=2, drop_last=True)
    loader = DataLoader(data, batch_size=2, sampler=sampler)
    assert len(joined(list(stream(perceptron(), loader))).labels) == 2


def test_samplers_that_repeat_out_of_sight_are_refused():
    class BatchSamplerShard:
        even_batches, num_processes, drop_last, batch_size = True, 2, False, 2

        def __iter__(self):
            return iter([[0, 1], [2, 0]])

        def __len__(self) -> int:
            return 2

    loader = DataLoader(pairs(7), batch_sampler=BatchSamplerShard())
    with pytest.raises(InputError, match=r"even_batches=True over 2 processes\. Use accelerate's"):
        list(stream(perceptron(), loader))
