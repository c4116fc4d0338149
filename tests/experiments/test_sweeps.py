"""Sweeps of studies: results in order, kept as they come, and read back exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch

from tightframe.experiments.base import Place
from tightframe.experiments.entry import Entry
from tightframe.experiments.study import Findings, Study
from tightframe.experiments.sweeps import Sweep
from tightframe.runs.record import table_of

CALLS = []


@dataclass(frozen=True)
class Size:
    number: int = 3


@dataclass(frozen=True)
class Item:
    number: int
    folder: Path = Path("data")


def squared(item):
    CALLS.append(item)
    number = item.number if isinstance(item, Item) else item[0]
    return {"square": number**2, "none": None}, [(number, 0.1 * number), (math.inf, "text")]


def of_sizes(item):
    CALLS.append(item)
    return torch.zeros(2)


def unlucky(item):
    if item.number == 2:
        raise KeyboardInterrupt
    return squared(item)


@pytest.fixture(autouse=True)
def _no_calls():
    CALLS.clear()


@pytest.mark.parametrize("workers", [0, 2])
def test_results_come_in_the_order_of_the_items(workers):
    items = [Item(number) for number in range(5)]
    assert Sweep(workers)(squared, items) == [squared(item) for item in items]


def test_a_killed_sweep_goes_on_where_it_was(tmp_path):
    items = [Item(number) for number in range(4)]
    with pytest.raises(KeyboardInterrupt):
        Sweep(kept=tmp_path)(unlucky, items)
    assert [item.number for item in CALLS] == [0, 1]
    # Of another function nothing is kept.
    whole = Sweep(kept=tmp_path)(squared, items)
    assert [item.number for item in CALLS] == [0, 1, 0, 1, 2, 3]
    again = Sweep(kept=tmp_path)(squared, items)
    assert len(CALLS) == 6
    assert again == whole
    assert isinstance(again[0], tuple)
    assert isinstance(again[1][1][0], tuple)


def test_items_that_differ_in_anything_are_different(tmp_path):
    sweep = Sweep(kept=tmp_path)
    sweep(squared, [Item(1), Item(1, Path("elsewhere")), (1, "x"), (1, "y"), (1, 1.0)])
    assert len(CALLS) == 5
    assert len(list(tmp_path.iterdir())) == 5


def test_items_that_hold_tensors_are_told_apart_by_their_values(tmp_path):
    states = [{"w": torch.tensor(1.5)}, {"w": torch.tensor([1.5])}, {"w": torch.zeros(0)}, {"w": torch.zeros(0, 2)}]
    states += [{"w": torch.ones(2, 3).T[0]}, {"w": torch.tensor([1, 2])}, {"v": torch.tensor([1, 2])}]
    for _ in range(2):
        Sweep(kept=tmp_path)(squared, [(2, state) for state in states])
    assert len(CALLS) == len(states)


@pytest.mark.parametrize("items", [[1, 2], [{1}, {2}]])
def test_what_is_not_plain_is_computed_again(tmp_path, items):
    for _ in range(2):
        assert len(Sweep(kept=tmp_path)(of_sizes, items)) == 2
    assert len(CALLS) == 4
    assert not list(tmp_path.iterdir())


def test_a_function_with_arguments_of_its_own_is_computed_again(tmp_path):
    for power in (2, 3):
        assert Sweep(kept=tmp_path)(partial(pow, power), [2, 3]) == [power**2, power**3]
    assert not list(tmp_path.iterdir())


def test_progress_goes_to_the_error_stream_alone(capsys):
    Sweep(shown=True)(squared, [Item(1)])
    out, err = capsys.readouterr()
    assert out == ""
    assert "squared" in err


def test_a_study_that_was_killed_goes_on_and_leaves_only_its_record(tmp_path):
    tries = []

    def investigate(config, sweep):
        found = sweep(squared, [Item(number) for number in range(config.number)])
        tries.append(sorted((tmp_path / "run").rglob("*.json")))
        if len(tries) == 1:
            raise KeyboardInterrupt
        return Findings((), "done", {"squares": table_of([row for row, _ in found])})

    study = Study(Entry("toy", "Toy", "?", ("X1",), ("smoke",)), {"smoke": Size()}, investigate)
    with pytest.raises(KeyboardInterrupt):
        study.run("smoke", place=Place(out=tmp_path / "run"))
    record = study.run("smoke", place=Place(out=tmp_path / "run", resume=True))
    assert len(CALLS) == 3
    assert record.tables["squares"]["square"] == [0, 1, 4]
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["config.json", "record.json"]
