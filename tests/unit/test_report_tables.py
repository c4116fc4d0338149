"""Numbers as text, and the rows of the tables of claims, settings, environments and last values."""

from __future__ import annotations

import doctest
import math

import pytest

from tightframe.report import drawing, figures, tables
from tightframe.runs.record import Claim, Record, series_table


def claim(**fields) -> Claim:
    given = {"id": "N1", "statement": "It holds.", "source": "S, Theorem 1", "expected": 0.1, "observed": 0.05} | fields
    return Claim(**given)


def record(name="r", **fields) -> Record:
    return Record(name=name, title=name.upper(), question="?", **fields)


@pytest.mark.parametrize("module", [tables, drawing, figures])
def test_examples_in_the_docstrings(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (1.0, "1"),
        (0.99996, "1"),
        (12345.678, "12346"),
        (12340.4, "12340"),
        (999999.5, "1 × 10⁶"),
        (0.00012345, "0.0001234"),
        (0.000012345, "1.234 × 10⁻⁵"),
        (-2.5e17, "−2.5 × 10¹⁷"),
        (math.inf, "∞"),
        (math.nan, "not a number"),
        (True, "yes"),
        (10**7, "10000000"),
    ],
)
def test_numbers_read_well(value, text):
    assert tables.number(value) == text


def test_what_is_expected_states_relation_and_tolerance():
    assert tables.expected(claim()) == "≤ 0.1"
    assert tables.expected(claim(relation=">=", tolerance=0.02)) == "≥ 0.1, within 0.02"
    assert tables.expected(claim(relation="==", tolerance=1e-9)) == "= 0.1 ± 1 × 10⁻⁹"


def test_an_observed_value_never_reads_like_the_expected_value_it_misses():
    missed = claim(observed=0.1000004)
    assert missed.verdict == "failed"
    assert tables.observed(missed) == "0.1000004"
    assert tables.observed(claim(observed=0.1)) == "0.1"
    assert tables.observed(claim(observed=math.nan)) == "not a number"
    assert tables.observed(claim(observed=None, note="no GPU")) == "–"


def test_counts_keep_the_three_verdicts_apart():
    held = [
        record(claims=[claim(), claim(observed=None)]),
        record(claims=[claim(observed=1.0), claim(observed=math.inf)]),
    ]
    assert tables.counts(held) == {"passed": 1, "failed": 2, "not run": 1}
    rows = tables.claims(held)
    assert [(row.section, row.verdict) for row in rows] == [(1, "passed"), (1, "not run"), (2, "failed"), (2, "failed")]


def test_configuration_is_the_difference_from_the_preset():
    held = record(
        config={"lr": 0.1, "model": {"name": "mlp", "width": 64}, "extra": None},
        preset="quick",
        preset_config={"lr": 0.1, "model": {"name": "mlp", "width": 32}, "seed": 0},
    )
    assert [(row.key, row.preset, row.used) for row in tables.configuration(held)] == [
        ("model.width", "32", "64"),
        ("extra", "not set", "none"),
        ("seed", "0", "not set"),
    ]


def test_configuration_without_a_preset_is_whole_and_as_preset_is_empty():
    assert [row.key for row in tables.configuration(record(config={"a": 1, "b": {}}))] == ["a", "b"]
    assert tables.configuration(record(config={"a": 1}, preset="p", preset_config={"a": 1})) == []


def test_environments_are_joined_and_differences_name_their_records():
    held = [
        record("one", environment={"torch": "2.5", "os": "x"}),
        record("two", environment={"torch": "2.6", "os": "x"}),
    ]
    assert tables.environment(held) == [("torch", "2.5 (one); 2.6 (two)"), ("os", "x")]


def test_last_values_are_those_of_the_last_epoch_whatever_the_order_of_the_rows():
    rows = [
        {"run": "", "epoch": e, "split": s, "layer": "", "metric": "nc1", "value": e + (0.5 if s == "test" else 0)}
        for e in (3, 10, 2)
        for s in ("train", "test")
    ]
    assert tables.last_values(record(series=series_table(rows))) == {
        "metric": ["nc1", "nc1"],
        "split": ["train", "test"],
        "epoch": [10, 10],
        "value": [10, 10.5],
    }


def test_text_table_is_aligned_and_inert():
    held = record(
        claims=[
            claim(id="N1.long", statement="red \x1b[31m and\r\nbell \x07"),
            claim(id="N2", observed=None),
        ]
    )
    head, first, second, _, total = tables.text_claims([held]).split("\n")
    assert head.split() == ["verdict", "claim", "expected", "observed", "statement"]
    for name in ("claim", "expected", "observed", "statement"):
        at = head.index(name)
        assert all(line[at - 1] == " " and line[at] != " " for line in (first, second))
    assert first.endswith("red �[31m and��bell �")
    assert second.startswith("NOT RUN")
    assert total == "1 passed, 0 failed, 1 not run"
    assert tables.text_claims([record()]) == "no claims (0 passed, 0 failed, 0 not run)"
