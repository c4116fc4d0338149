"""`Solution` and what it carries: statuses, traces, certificates; copied, pickled, printed."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle

import pytest
import torch

from tightframe.core.solution import Certificate, Solution, Status, Trace


def trace(rows):
    made = Trace()
    for step, values in rows:
        made.record(step, values)
    return made


@pytest.fixture
def solution() -> Solution:
    return Solution(
        Status("converged", "the gap is 1e-10"),
        0.5,
        {"W": torch.ones(2, 3), "H": torch.zeros(3, 4)},
        trace([(0, {"gap": 1.0}), (5, {"gap": 1e-10})]),
        Certificate("dual gap", 1e-10, 1e-9, {"value": 0.5, "direction": None}),
    )


@pytest.mark.parametrize(
    ("outcome", "converged"), [("converged", True), ("budget spent", False), ("stalled", False), ("diverged", False)]
)
def test_only_a_converged_status_says_so(outcome, converged):
    status = Status(outcome, "because")
    assert status.converged is converged
    assert str(status) == f"{outcome}: because"


@pytest.mark.parametrize(
    ("gap", "holds"),
    [(0.0, True), (1e-9, True), (-1e-15, True), (1.1e-9, False), (math.inf, False), (math.nan, False)],
)
def test_a_certificate_holds_up_to_its_tolerance(gap, holds):
    certificate = Certificate("dual gap", gap, 1e-9)
    assert certificate.holds is holds
    assert ("does not hold" in str(certificate)) is not holds


def test_a_certificate_shows_its_numbers_and_keeps_its_evidence():
    evidence = {"value": 0.25, "direction": torch.ones(3)}
    certificate = Certificate("dual gap", 1e-3, 1e-9, evidence)
    assert str(certificate) == "dual gap 1.000e-03, does not hold at 1.0e-09 (value 0.25)"
    evidence["value"] = 7.0
    assert certificate.evidence["value"] == 0.25
    with pytest.raises(TypeError):
        certificate.evidence["value"] = 7.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        certificate.gap = 0.0


@pytest.mark.parametrize("duplicate", [copy.deepcopy, copy.copy, lambda x: pickle.loads(pickle.dumps(x))])
def test_results_travel_between_processes(solution, duplicate):
    other = duplicate(solution)
    assert other.status == solution.status
    assert torch.equal(other.W, solution.W)
    assert other.trace["gap"] == [1.0, 1e-10]
    assert other.certificate.holds
    assert dict(other.certificate.evidence) == {"value": 0.5, "direction": None}
    with pytest.raises(TypeError):
        other.certificate.evidence["value"] = 7.0


def test_the_variables_of_a_solution_are_its_attributes(solution):
    assert solution.W is solution.variables["W"]
    assert {"W", "H", "objective", "certificate"} <= set(dir(solution))
    assert not hasattr(solution, "b")
    with pytest.raises(AttributeError, match="Solution with W, H has no attribute 'b'"):
        _ = solution.b
    with pytest.raises(AttributeError, match="no variables"):
        _ = Solution(Status("stalled", ""), 0.0, {}, Trace()).W


def test_a_solution_in_print(solution):
    assert str(solution).splitlines() == [
        "objective 0.5",
        "converged: the gap is 1e-10",
        "dual gap 1.000e-10, holds at 1.0e-09 (value 0.5)",
    ]
    assert "None" not in str(dataclasses.replace(solution, certificate=None))


def test_solutions_are_compared_by_identity(solution):
    # Comparing tensors element by element has no single truth value.
    assert solution == solution
    assert solution != copy.copy(solution)


def test_a_trace_keeps_rows_in_order_and_values_by_name():
    made = trace([(0, {"objective": 3.0, "gap": 2.0}), (10, {"objective": 2.0}), (20, {"objective": 1.5, "NC1": 0.1})])
    assert len(made) == 3
    assert made.names == ("step", "objective", "gap", "NC1")
    assert made["step"] == [0, 10, 20]
    assert made["objective"] == [3.0, 2.0, 1.5]
    assert made["gap"] == [2.0]
    assert made["NC1"] == [0.1]
    assert made["absent"] == []
    assert [row["objective"] for row in made] == [3.0, 2.0, 1.5]
    assert repr(made) == "Trace(3 rows of step, objective, gap, NC1)"


def test_a_trace_keeps_what_was_recorded():
    values = {"gap": 1.0}
    made = trace([(0, values)])
    values["gap"] = 5.0
    assert made["gap"] == [1.0]
    assert trace([]).names == ()
    assert len(trace([])) == 0
