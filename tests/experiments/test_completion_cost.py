"""P7: exponents of known laws, numbers of networks, and a race whose verdicts follow from its rows."""

from __future__ import annotations

import math

import pytest
import torch

from tightframe.experiments import catalog
from tightframe.experiments.deeplinear import completion_cost
from tightframe.experiments.deeplinear.completion_cost import Config, Racer, run, thin_step, wide_step
from tightframe.report import page
from tightframe.runs.record import Record

TINY = Config(
    wide_sizes=(32, 64, 128),
    thin_sizes=(500, 1000),
    per_row=20,
    columns=6,
    timed=3,
    size=40,
    rank=2,
    share=0.5,
    ranks=(2,),
    scale=3e-2,
    max_steps=5000,
)


@pytest.fixture(scope="module")
def record() -> Record:
    return catalog.load("completion-cost").run(config=TINY)


def test_the_record_survives_its_file_and_is_drawn(record):
    assert Record.from_json(record.to_json()) == record
    section = page._section(record, first=1)
    assert [figure.failure for figure in section["figures"]] == [""] * 4
    assert {claim.id.split(".")[0] for claim in record.claims} == {"P7"}
    verdicts = {claim.id: claim.verdict for claim in record.claims}
    assert verdicts["P7.numbers.original"] == "passed"
    observed = {claim.id: claim.observed for claim in record.claims}
    numbers = [2 * size * 6 + 3 * 36 for size in (500, 1000)]
    assert observed["P7.numbers.compressed"] == pytest.approx(math.log2(numbers[1] / numbers[0]))
    assert verdicts["P7.narrow.steps"] == "passed"


def test_numbers_are_those_of_the_layers():
    assert wide_step(TINY, 32)["trained numbers"] == 3 * 32 * 32
    assert thin_step(TINY, 500)["trained numbers"] == 2 * 500 * 6 + 3 * 36


@pytest.mark.parametrize("power", [1.0, 2.0, 2.7])
def test_exponents_are_those_of_a_power_law(power):
    sizes = [100, 200, 400, 900]
    assert completion_cost._slope(sizes, [3e-4 * size**power for size in sizes]) == pytest.approx(power)


def test_scattered_entries_are_as_many_in_every_row_and_of_low_rank():
    found = completion_cost._scattered(60, 15, 2)
    assert found.row_counts.tolist() == [15] * 60
    keys = found.rows * 60 + found.columns
    assert bool((keys.diff() > 0).all())
    again = completion_cost._scattered(60, 15, 2)
    assert torch.equal(found.values, again.values)


def test_both_racers_complete_the_same_matrix():
    pair = [run(Racer(TINY, 2, 0, name)) for name in (completion_cost._COMPRESSED, completion_cost._NARROW)]
    assert [row["completed"] for row in pair] == [True, True]
    assert [row["width"] for row in pair] == [4, 4]
    assert pair[0]["steps"] != pair[1]["steps"]


def medians(steps: float, seconds: float, completed: int = 1):
    named = {f"{completion_cost._COMPRESSED}: completed": completed, "width": 4}
    return [named | {"ratio of steps": steps, "ratio of CPU (s)": seconds}]


def test_a_faster_narrow_network_fails_the_claim():
    verdicts = [claim.verdict for claim in completion_cost._race_claims(medians(3.0, 0.9))]
    assert verdicts == ["passed", "failed"]
    verdicts = [claim.verdict for claim in completion_cost._race_claims(medians(3.0, 2.0, completed=0))]
    assert verdicts == ["failed", "failed"]


@pytest.mark.parametrize(
    ("wide", "thin", "expected"), [(2.9, 1.1, ["passed"] * 2), (1.5, 2.0, ["failed"] * 2), (2.0, 0.9, ["passed"] * 2)]
)
def test_verdicts_follow_from_exponents(wide, thin, expected):
    rows = [
        {"network": completion_cost._ORIGINAL, "exponent of CPU (ms)": wide, "exponent of trained numbers": 2.0},
        {"network": completion_cost._COMPRESSED, "exponent of CPU (ms)": thin, "exponent of trained numbers": 1.0},
    ]
    claims = {claim.id: claim.verdict for claim in completion_cost._growth_claims(rows)}
    assert [claims["P7.time.original"], claims["P7.time.compressed"]] == expected


def test_medians_compare_the_networks_of_one_width():
    race = [
        {"network": name, "width": 6, "seed": seed, "steps": steps, "CPU (s)": steps / 100, "completed": True}
        for name, counts in ((completion_cost._COMPRESSED, (10, 20, 90)), (completion_cost._NARROW, (30, 60, 10)))
        for seed, steps in enumerate(counts)
    ]
    (line,) = completion_cost._medians(race)
    assert line["ratio of steps"] == pytest.approx(30 / 20)
    assert line["ratio of CPU (s)"] == pytest.approx(0.3 / 0.2)
