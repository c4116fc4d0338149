"""What every solver returns: a `Solution` with its `Status`, `Trace` and `Certificate`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from torch import Tensor

Outcome = Literal["converged", "budget spent", "stalled", "diverged"]


@dataclass(frozen=True)
class Status:
    """How a solver ended.

    Args:
        outcome: "converged" where its stopping rule holds, "budget spent" where it ran out of iterations, "stalled"
            where no step improves any more though the rule does not hold, "diverged" where values left the numbers.
        message: What happened, the likely cause, and the argument to change.
    """

    outcome: Outcome
    message: str

    @property
    def converged(self) -> bool:
        """Whether the stopping rule holds."""
        return self.outcome == "converged"

    def __str__(self) -> str:
        return f"{self.outcome}: {self.message}"


@dataclass(frozen=True)
class Certificate:
    """Evidence about a point, computed from the point alone: it does not matter how it was found.

    Args:
        kind: What kind of evidence ("dual gap").
        gap: Upper bound on how far the objective is above its global minimum.
        tolerance: The gap up to which the point counts as optimal.
        evidence: The numbers and directions behind it, by name.
    """

    kind: str
    gap: float
    tolerance: float
    evidence: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        object.__setattr__(self, "evidence", MappingProxyType(dict(self.evidence)))

    def __reduce__(self) -> tuple[Any, ...]:
        # A mapping proxy cannot be pickled, and certificates travel between processes.
        return Certificate, (self.kind, self.gap, self.tolerance, dict(self.evidence))

    @property
    def holds(self) -> bool:
        """Whether the gap is within the tolerance; a gap that is not a number never is."""
        return self.gap <= self.tolerance

    def __str__(self) -> str:
        numbers = ", ".join(f"{name} {value:.6g}" for name, value in self.evidence.items() if isinstance(value, float))
        verdict = "holds" if self.holds else "does not hold"
        return f"{self.kind} {self.gap:.3e}, {verdict} at {self.tolerance:.1e} ({numbers})"


class Trace:
    """Values recorded along the way, one row per recorded step."""

    def __init__(self) -> None:
        self._rows: list[dict[str, float]] = []

    def record(self, step: int, values: Mapping[str, float]) -> None:
        """Add the values of a step."""
        self._rows.append({"step": step, **values})

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Mapping[str, float]]:
        return iter(self._rows)

    def __getitem__(self, name: str) -> list[float]:
        """Values of this name, in order, over the steps that have one ("step" for the steps themselves)."""
        return [row[name] for row in self._rows if name in row]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of everything recorded."""
        return tuple(dict.fromkeys(name for row in self._rows for name in row))

    def __repr__(self) -> str:
        return f"Trace({len(self)} rows of {', '.join(self.names)})"


@dataclass(frozen=True, eq=False)
class Solution:
    """A point, how it was reached, and what is known about it.

    Args:
        status: How the solver ended.
        objective: Objective at the point.
        variables: The point, by name; `solution.W` is `solution.variables["W"]`.
        trace: Values along the way.
        certificate: Evidence about the point, or None where the problem has none.
    """

    status: Status
    objective: float
    # A page of numbers says less in a session than the status beside it.
    variables: Mapping[str, Tensor] = field(repr=False)
    trace: Trace
    certificate: Certificate | None = None

    def __getattr__(self, name: str) -> Tensor:
        variables = self.__dict__.get("variables", {})
        if name in variables:
            return variables[name]
        raise AttributeError(f"a Solution with {', '.join(variables) or 'no variables'} has no attribute {name!r}")

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self.variables]

    def __str__(self) -> str:
        lines = [f"objective {self.objective:.12g}", str(self.status)]
        return "\n".join([*lines, str(self.certificate)] if self.certificate else lines)
