"""all_reduce over three processes and over a group of two: uneven shards, an empty rank, mismatches; equal to one."""

from __future__ import annotations

from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from definitions import TwoPass, gaussian_classes
from tightframe.collapse.means import CentredMeans
from tightframe.collapse.pairs import class_pairs
from tightframe.collapse.simplex import feature_distance
from tightframe.collapse.variability import WideVariability, nc1, trace_ratio
from tightframe.core.errors import InputError
from tightframe.features.moments import ClassMoments

CLASSES, DIMENSION = 5, 12
# Share of the rows that each of the ranks gets; in "empty" the first rank has none.
SHARES = {
    2: {"even": [0.5, 0.5], "uneven": [0.9, 0.1], "empty": [0.0, 1.0]},
    3: {"even": [0.34, 0.33, 0.33], "uneven": [0.02, 0.9, 0.08], "empty": [0.0, 0.6, 0.4]},
}
MISMATCHES = {
    "classes": lambda rank: ClassMoments(CLASSES + (rank == 1)),
    "mode": lambda rank: ClassMoments(CLASSES, "trace" if rank == 1 else "full"),
    "dimension": lambda rank: ClassMoments(CLASSES),
}


def rows_of(order):
    features, labels = gaussian_classes([60, 15, 40, 9, 76], DIMENSION, seed=1, offset=10.0)
    if order == "sorted":  # whole classes live on one rank only
        index = labels.argsort(stable=True)
        features, labels = features[index], labels[index]
    return features, labels


def shard(features, labels, shares, rank):
    edges = [round(sum(shares[:r]) * len(labels)) for r in range(len(shares))] + [len(labels)]
    return features[edges[rank] : edges[rank + 1]], labels[edges[rank] : edges[rank + 1]]


def metrics(moments):
    means = CentredMeans(moments)
    found = {
        "count": moments.count,
        "mean": moments.mean,
        "within": moments.within,
        "D": trace_ratio(moments),
        "NC2": feature_distance(means),
        "CDNV": class_pairs(means).cdnv,
    }
    if moments.mode == "full":
        found |= {"scatter": moments.scatter, "NC1": nc1(moments)}
    return found


def filled(features, labels, **options):
    moments = ClassMoments(CLASSES, **options)
    for start in range(0, len(labels), 16):
        moments.update(features[start : start + 16], labels[start : start + 16])
    return moments


def measure_in_group(rank, size, group):
    """Everything that ranks 0 .. size-1 find together."""
    found = {}
    for order in ("shuffled", "sorted"):
        features, labels = rows_of(order)
        for name, shares in SHARES[size].items():
            for mode in ("full", "trace"):
                part = filled(*shard(features, labels, shares, rank), mode=mode)
                found[order, name, mode] = metrics(part.all_reduce(group))
    single = shard(*rows_of("shuffled"), SHARES[size]["empty"], rank)
    found["float32"] = metrics(filled(single[0].float(), single[1]).all_reduce(group))
    wide = WideVariability(filled(*single, mode="trace").all_reduce(group))
    wide.update(*single)
    found["wide"] = wide.all_reduce(group).compute()
    found["nobody"] = ClassMoments(CLASSES).all_reduce(group).total
    again = filled(*single).all_reduce(group)
    again.update(*rows_of("shuffled"))  # the result is an ordinary state that goes on
    found["goes on"] = again.total
    for kind, build in MISMATCHES.items():
        moments = build(rank)
        moments.update(torch.ones(4, DIMENSION + (kind == "dimension" and rank == 1)), torch.arange(4))
        with pytest.raises(InputError, match="same classes, mode and dimension on every rank") as caught:
            moments.all_reduce(group)
        found[kind] = str(caught.value)
        found[kind, "kept"] = moments.total
    return found


def work(rank, folder):
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=3, timeout=timedelta(seconds=60))
    pair = dist.new_group([0, 1])
    found = {3: measure_in_group(rank, 3, None)}
    if rank < 2:
        found[2] = measure_in_group(rank, 2, pair)
    torch.save(found, f"{folder}/rank{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(work, args=(str(folder),), nprocs=3)
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(3)]


@pytest.fixture(params=[2, 3])
def ranks(request, everything):
    return [everything[rank][request.param] for rank in range(request.param)]


def assert_close(found, expected, tolerance):
    for name, value in expected.items():
        value, got = torch.as_tensor(value).double(), torch.as_tensor(found[name]).double()
        assert float((got - value).abs().max()) <= tolerance * float(value.abs().max()), name


@pytest.mark.parametrize("order", ["shuffled", "sorted"])
@pytest.mark.parametrize("shares", ["even", "uneven", "empty"])
@pytest.mark.parametrize("mode", ["full", "trace"])
def test_any_sharding_equals_one_process(ranks, order, shares, mode):
    expected = metrics(filled(*rows_of(order), mode=mode))
    for rank in ranks:
        assert_close(rank[order, shares, mode], expected, 1e-10)


def test_all_ranks_hold_the_same_bits(ranks):
    first, *others = ranks
    for key, values in first.items():
        for other in others:
            if isinstance(values, dict):
                for name, value in values.items():
                    assert torch.equal(torch.as_tensor(value), torch.as_tensor(other[key][name])), (key, name)


def test_float32_features_keep_their_accuracy(ranks):
    features, labels = rows_of("shuffled")
    expected = TwoPass(features.float(), labels)
    assert ranks[0]["float32"]["NC1"] == pytest.approx(expected.nc1(), rel=1e-6)


def test_the_second_pass_adds_over_ranks(ranks):
    expected = TwoPass(*rows_of("shuffled")).nc1()
    for rank in ranks:
        assert rank["wide"] == pytest.approx(expected, rel=1e-10)


def test_no_samples_anywhere_and_going_on_afterwards(ranks):
    for rank in ranks:
        assert rank["nobody"] == 0
        assert rank["goes on"] == 400


@pytest.mark.parametrize("kind", MISMATCHES)
def test_a_mismatch_is_an_error_on_every_rank_and_loses_nothing(ranks, kind):
    for rank in ranks:
        assert "Build ClassMoments with the same arguments" in rank[kind]
        assert rank[kind, "kept"] == 4
