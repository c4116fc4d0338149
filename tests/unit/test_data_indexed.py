from __future__ import annotations

import pickle

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.data.labelled.images import ArrayDataset
from tightframe.data.labelled.indexed import IndexedDataset

N = 23


def array():
    return ArrayDataset(torch.arange(N).float().view(N, 1, 1, 1), torch.arange(N) % 5)


def pairs():
    return TensorDataset(torch.arange(N).float(), torch.arange(N) % 5)


class Rows:
    """Rows that are mappings, as those of a Hugging Face data set, with label column `key`."""

    def __init__(self, key="labels"):
        self.key = key

    def __len__(self):
        return N

    def __getitem__(self, i):
        return {"values": [float(i), 1.0], self.key: i % 5}


def loaded(dataset, **options):
    return list(DataLoader(dataset, batch_size=4, shuffle=True, generator=generator(0), **options))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("inner", [array, pairs])
def test_every_sample_comes_with_its_position_whatever_the_order(inner, workers):
    seen = []
    for x, y, index in loaded(IndexedDataset(inner()), num_workers=workers):
        assert torch.equal(x.flatten().long(), index)
        assert torch.equal(y, index % 5)
        seen += index.tolist()
    assert seen != sorted(seen)
    assert sorted(seen) == list(range(N))


@pytest.mark.parametrize("inner", [array, pairs])
def test_targets_of_two_columns(inner):
    for x, target in loaded(IndexedDataset(inner(), layout="target")):
        assert target.dtype == torch.int64
        assert torch.equal(target, torch.stack([x.flatten().long() % 5, x.flatten().long()], dim=1))


@pytest.mark.parametrize("key", ["labels", "label"])
def test_mappings_through_two_collators(key):
    from transformers import default_data_collator

    data = IndexedDataset(Rows(key), layout="mapping")
    assert data[3].keys() == {"values", "labels"}
    for options in ({}, {"collate_fn": default_data_collator}):
        for rows in loaded(data, **options):
            index = rows["labels"][:, 1]
            values = rows["values"] if isinstance(rows["values"], torch.Tensor) else torch.stack(rows["values"], dim=1)
            assert torch.equal(values[:, 0].long(), index)
            assert torch.equal(rows["labels"][:, 0], index % 5)


def test_a_hugging_face_data_set():
    import datasets

    data = datasets.Dataset.from_dict({"x": [[float(i)] for i in range(N)], "label": [i % 5 for i in range(N)]})
    indexed = IndexedDataset(data.shuffle(seed=1).with_format("torch"), layout="mapping")
    for rows in loaded(indexed):
        assert torch.equal(rows["labels"][:, 0], rows["x"][:, 0].long() % 5)
        assert torch.equal(torch.stack([indexed[i]["x"] for i in rows["labels"][:, 1].tolist()]), rows["x"])


def test_gather_is_there_only_where_the_data_set_has_it():
    chosen = torch.tensor([7, 2, 19])
    images, labels, index = IndexedDataset(array()).gather(chosen)
    assert torch.equal(images.flatten().long(), chosen)
    assert torch.equal(labels, chosen % 5)
    assert torch.equal(index, chosen)
    images, target = IndexedDataset(array(), layout="target").gather([7, 2, 19])
    assert torch.equal(target, torch.stack([chosen % 5, chosen], dim=1))
    assert not hasattr(IndexedDataset(pairs()), "gather")
    assert not hasattr(IndexedDataset(array(), layout="mapping"), "gather")


@pytest.mark.parametrize("layout", ["triple", "target"])
def test_length_pickling_and_positions_from_the_end(layout):
    data = IndexedDataset(array(), layout=layout)
    copied = pickle.loads(pickle.dumps(data))
    assert len(data) == len(copied) == N
    for one, other, last in zip(data[N - 1], copied[N - 1], data[-1], strict=True):
        assert torch.equal(torch.as_tensor(one), torch.as_tensor(other))
        assert torch.equal(torch.as_tensor(one), torch.as_tensor(last))
    with pytest.raises(IndexError):
        data[N]


class Stream(IterableDataset):
    def __iter__(self):
        yield torch.zeros(1), 0


def test_bad_input():
    with pytest.raises(InputError, match="a layout, one of triple, target, mapping"):
        IndexedDataset(array(), layout="dict")
    with pytest.raises(InputError, match="map-style"):
        IndexedDataset(Stream())
    with pytest.raises(InputError, match='layout="mapping"'):
        IndexedDataset(Rows())[0]
    with pytest.raises(InputError, match="the entries 'values', 'target'"):
        IndexedDataset(Rows("target"), layout="mapping")[0]
    with pytest.raises(InputError, match="got tuple"):
        IndexedDataset(pairs(), layout="mapping")[0]
    with pytest.raises(InputError, match="one class index per sample"):
        IndexedDataset(TensorDataset(torch.zeros(2, 1), torch.eye(2)), layout="target")[0]
    with pytest.raises(InputError, match=r"one class index per sample; got .cat.\. Number"):
        IndexedDataset([(torch.zeros(1), "cat")], layout="target")[0]
