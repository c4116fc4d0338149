"""First-order rules that move a vector along its gradient: gradient descent with momentum, and Adam."""

from __future__ import annotations

import math
from typing import Protocol

import torch

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.core.typing import Float, Tensor

Vector = Float[Tensor, " n"]

_PER_DECADE = 25


class Rule(Protocol):
    """One step of an algorithm."""

    def move(self, point: Vector, gradient: Vector) -> None:
        """Change the point in place."""


class Momentum:
    r"""Gradient descent with heavy-ball momentum.

    .. math:: v \leftarrow \mu v + g, \qquad x \leftarrow x - \eta v

    Args:
        step: eta, above zero.
        momentum: mu in [0, 1); 0 is plain gradient descent.

    Raises:
        InputError: A step that is not above zero, a momentum outside [0, 1).

    Example:
        >>> point = torch.ones(1)
        >>> Momentum(0.5).move(point, point.clone())
        >>> point.tolist()
        [0.5]
    """

    def __init__(self, step: float, momentum: float = 0.0) -> None:
        _check_step(step)
        if not 0 <= momentum < 1:
            raise InputError("momentum in [0, 1)", got=repr(momentum), remedy="Use 0, or 0.9.")
        self.step: float = step
        self.momentum: float = momentum
        self._velocity: Vector | None = None

    def move(self, point: Vector, gradient: Vector) -> None:
        """Change the point in place."""
        if self.momentum:
            self._velocity = torch.zeros_like(point) if self._velocity is None else self._velocity
            gradient = self._velocity.mul_(self.momentum).add_(gradient)
        point.sub_(gradient, alpha=self.step)


class Adam:
    r"""Adam.

    .. math:: m \leftarrow \beta_1 m + (1-\beta_1) g, \quad v \leftarrow \beta_2 v + (1-\beta_2) g^2, \quad
        x \leftarrow x - \eta\, \frac{m/(1-\beta_1^t)}{\sqrt{v/(1-\beta_2^t)} + \epsilon}

    Args:
        step: eta, above zero.
        betas: beta_1 and beta_2 in [0, 1).
        epsilon: Above zero.

    Raises:
        InputError: A step or epsilon that is not above zero, betas outside [0, 1).

    Example:
        >>> point = torch.ones(1)
        >>> Adam(0.5).move(point, 7 * point)
        >>> round(float(point), 6)
        0.5

    Reference: [kingma2015adam], algorithm 1.
    """

    def __init__(self, step: float, *, betas: tuple[float, float] = (0.9, 0.999), epsilon: float = 1e-8) -> None:
        _check_step(step)
        if not (all(0 <= beta < 1 for beta in betas) and epsilon > 0):
            raise InputError(
                "betas in [0, 1) and epsilon above zero",
                got=f"betas={betas}, epsilon={epsilon}",
                remedy="Use (0.9, 0.999) and 1e-8.",
            )
        self.step: float = step
        self.betas: tuple[float, float] = betas
        self.epsilon: float = epsilon
        self._taken = 0
        self._mean: Vector | None = None
        self._square: Vector | None = None

    def move(self, point: Vector, gradient: Vector) -> None:
        """Change the point in place."""
        if self._mean is None:
            self._mean, self._square = torch.zeros_like(point), torch.zeros_like(point)
        first, second = self.betas
        self._taken += 1
        self._mean.lerp_(gradient, 1 - first)
        self._square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        size = self._square.sqrt().div_((1 - second**self._taken) ** 0.5).add_(self.epsilon)
        point.addcdiv_(self._mean, size, value=-self.step / (1 - first**self._taken))


def _check_step(step: float) -> None:
    if not 0 < step < float("inf"):
        raise InputError("a step above zero", got=repr(step), remedy="Use 0.1, or 1e-3 for Adam.")


def observed_steps(steps: int, every: int | None) -> list[int]:
    """Steps of a descent at which to look, the last one always.

    Args:
        steps: How many there are.
        every: Look after so many; None for 25 in every decade, evenly in log(step).

    Example:
        >>> observed_steps(10, 4)
        [4, 8, 10]
    """
    if every is not None:
        check_count(every, "every")
        return sorted({*range(every, steps, every), steps})
    count = math.ceil(math.log10(steps) * _PER_DECADE)
    return sorted({round(steps ** (i / count)) for i in range(count)} | {steps}) if count else [steps]
