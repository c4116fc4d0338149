"""P6: zero and too large a rate fail, small ones complete, and every verdict follows from what was measured."""

from __future__ import annotations

import pytest

from tightframe.deeplinear.compression import compress
from tightframe.deeplinear.network import DeepLinearNetwork
from tightframe.deeplinear.objective import Completion
from tightframe.experiments import catalog
from tightframe.experiments.deeplinear import completion_rate
from tightframe.experiments.deeplinear.completion_rate import Case, Config, complete
from tightframe.experiments.deeplinear.completion_runs import Effort, Matrix, descend
from tightframe.report import page
from tightframe.runs.record import Record

TINY = Config(40, 2, 0.5, gammas=(0.0, 0.01, 0.1, 1.0, 10.0), scale=3e-2, max_steps=4000, tolerance=1e-4)


@pytest.fixture(scope="module")
def record() -> Record:
    return catalog.load("completion-rate").run(config=TINY)


def test_the_record_survives_its_file_and_is_drawn(record):
    assert Record.from_json(record.to_json()) == record
    section = page._section(record, first=1)
    assert [figure.failure for figure in section["figures"]] == [""] * 3
    assert {claim.id.split(".")[0] for claim in record.claims} == {"P6"}
    assert len({claim.id for claim in record.claims}) == len(record.claims) == 2 * 7


def test_a_rate_of_zero_and_one_too_large_fail_and_small_ones_complete(record):
    verdicts = {claim.id: claim.verdict for claim in record.claims}
    for kind in TINY.kinds:
        for name in ("zero", "large", "published", "small", "follows.small"):
            assert verdicts[f"P6.{name}.{kind}"] == "passed"
    # A rate of 1 is too large only for the matrix of the larger norm.
    assert (verdicts["P6.one.truncated"], verdicts["P6.one.factors"]) == ("failed", "passed")
    limits = record.tables["largest rates"]
    assert limits["smallest that works"] == [0.01, 0.01]
    assert limits["largest that works"] == [1.0, 0.1]
    assert limits["sigma_1^(2/L)"][0] < limits["sigma_1^(2/L)"][1]


def test_an_outcome_is_that_of_the_network_of_this_rate():
    config = Config(30, 2, 0.5, scale=3e-2, max_steps=500)
    row = complete(Case(config, "truncated", 1, 0.3))["outcome"]
    problem = Matrix(30, 2, 0.5, "truncated", 1).drawn()
    wide = DeepLinearNetwork([30] * 4, scale=3e-2, seed=1)
    objective = Completion(problem.matrix, problem.mask)
    network = compress(objective, depth=3, rank=2, scale=3e-2, gamma=0.3, network=wide)
    found = descend(network, problem, Effort(1e-5, 500))
    assert (row["error"], row["steps"]) == (found.error, found.steps)
    assert complete(Case(config, "truncated", 1, None))["outcome"]["error"] != found.error


def rows(**errors):
    errors = {"original": 1e-5} | errors
    named = {"zero": 0.0, "published": 0.01, "small": 0.1, "one": 1.0, "original": None}
    return [
        {"matrix": completion_rate.KINDS["truncated"], "rate": named[name], "seed": 0, "error": error}
        | {"steps to 1e-2": 1000 if error < 1e-2 else None, "sigma_1": 8.0}
        for name, error in errors.items()
    ]


@pytest.mark.parametrize(
    ("errors", "claim", "verdict"),
    [
        ({"zero": 0.5}, "P6.zero.truncated", "passed"),
        ({"zero": 1e-5}, "P6.zero.truncated", "failed"),
        ({"small": 1e-5}, "P6.small.truncated", "passed"),
        ({"small": 0.5}, "P6.small.truncated", "failed"),
        ({"one": 1e-5}, "P6.one.truncated", "failed"),
        ({"one": 0.5}, "P6.one.truncated", "passed"),
        ({"zero": 0.5}, "P6.published.truncated", "not run"),
        ({"small": 1e-5}, "P6.follows.small.truncated", "passed"),
        ({"small": 0.5}, "P6.follows.small.truncated", "failed"),
        ({"zero": 0.5}, "P6.follows.small.truncated", "not run"),
    ],
)
def test_verdicts_follow_from_errors(errors, claim, verdict):
    claims = {found.id: found for found in completion_rate._claims("truncated", rows(**errors), Config())}
    assert claims[claim].verdict == verdict


def test_limits_are_the_rates_that_complete_every_matrix():
    config = Config(kinds=("truncated",))
    (line,) = completion_rate._limits(rows(zero=0.5, published=1e-5, small=1e-5, one=0.4), config)
    assert (line["smallest that works"], line["largest that works"], line["next, which fails"]) == (0.01, 0.1, 1.0)
    assert line["sigma_1^(2/L)"] == pytest.approx(4.0)
    # L (1/c - 1) / 2 over sigma_1^(2/L), at L = 3 and c = 1/4.
    assert line["stable up to, linearised"] == pytest.approx(4.5 / 4)
