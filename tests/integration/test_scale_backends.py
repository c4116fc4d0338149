"""Sweeps on other machines: whatever backend joblib is told to use, the same results in the same order."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass

import joblib
import pytest

from tightframe.experiments.sweeps import Sweep
from tightframe.jobs.options import SweepOptions
from tightframe.jobs.sweep import sweep

ITEMS = [(number, "text") for number in range(6)]


@dataclass(frozen=True)
class Root:
    """A result that says where it was computed; a class that JSON cannot hold, so never kept."""

    value: float
    process: int


def root(item):
    return item[0] ** 0.5, {"name": item[1], "at": [item[0]]}


def placed_root(item):
    return Root(item[0] ** 0.5, os.getpid())


def unlucky(item):
    if item[0] == 3:
        raise ValueError("three")
    return item[0]


@pytest.fixture(scope="module")
def dask():
    """A cluster of two processes, the workers of the current client."""
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster):
        yield "dask"


@pytest.fixture
def backend(request):
    """A name that `joblib.parallel_config` knows."""
    return request.getfixturevalue("dask") if request.param == "dask" else request.param


# Threads hand back results one by one, a pool of processes only all at once, as Ray does; Dask is a cluster.
BACKENDS = pytest.mark.parametrize("backend", ["threading", "multiprocessing", "dask"], indirect=True)


@BACKENDS
def test_results_are_those_of_this_process_and_in_order(backend):
    expected = [root(item) for item in ITEMS]
    with joblib.parallel_config(backend=backend):
        assert Sweep(workers=2)(root, ITEMS) == expected


@BACKENDS
def test_results_are_kept_where_every_worker_sees_them(backend, tmp_path):
    with joblib.parallel_config(backend=backend):
        found = Sweep(workers=2, kept=tmp_path)(root, ITEMS)
    files = sorted(tmp_path.glob("*.json"))
    assert len(files) == len(ITEMS)
    # Read back here, not computed: what is read is what the file says.
    changed = json.loads(files[0].read_text(encoding="utf-8"))
    changed["tuple"][0] = -1.0
    files[0].write_text(json.dumps(changed), encoding="utf-8")
    again = Sweep(kept=tmp_path)(root, ITEMS)
    assert sum(one != other for one, other in zip(found, again, strict=True)) == 1
    assert [one[0] for one in again].count(-1.0) == 1


@BACKENDS
def test_an_error_of_a_worker_arrives(backend):
    with joblib.parallel_config(backend=backend), pytest.raises(ValueError, match="three"):
        Sweep(workers=2)(unlucky, ITEMS)


def test_the_cluster_did_the_work(dask):
    distributed = pytest.importorskip("distributed")
    workers = set(distributed.get_client().run(os.getpid).values())
    with joblib.parallel_config(backend=dask):
        found = Sweep(workers=2)(placed_root, ITEMS)
    assert {one.process for one in found} <= workers
    assert os.getpid() not in workers
    assert [one.value for one in found] == [item[0] ** 0.5 for item in ITEMS]


@pytest.mark.slow
def test_a_training_on_a_cluster_is_that_of_this_process(tmp_path):
    distributed = pytest.importorskip("distributed")
    small = {"limit": 200, "epochs": 1, "width": 16, "depth": 1, "observations": 2, "layers": "classifier"}

    def table(name, processes):
        # One training: two at once in one process would draw from the same random state.
        options = SweepOptions(out=tmp_path / name, vary=("seed=1",), processes=processes, quiet=True, **small)
        return {key: column for key, column in sweep(options)[0].tables["comparison"].items() if key != "seconds"}

    here = table("here", 1)
    # Workers are threads of this process, none its main one, so that what training imports is not imported again.
    options = {"processes": False, "n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster):
        with joblib.parallel_config(backend="dask"):
            there = table("there", 2)
        transitions = cluster.scheduler.transition_counter
    assert there == here
    assert transitions > 0
