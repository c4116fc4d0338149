"""Gradient descent on a chain of matrices, exactly and with as few products as it takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.core.solution import Status, Trace
from tightframe.deeplinear.objective import Objective
from tightframe.deeplinear.stability import check_descent
from tightframe.optimize.first_order import Adam, observed_steps

Algorithm = Literal["gd", "adam"]

# Steps between two looks at whether the weights are still numbers, each of which waits for the device.
_UNWATCHED = 256


@dataclass(frozen=True)
class Settings:
    """How a chain is trained.

    Args:
        step: eta, above zero.
        momentum: mu in [0, 1) of the heavy ball; none with Adam.
        weight_decay: lambda, at least 0.
        algorithm: "gd" or "adam".

    Raises:
        InputError: Something else.
    """

    step: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    algorithm: Algorithm = "gd"

    def __post_init__(self) -> None:
        check_descent(momentum=self.momentum, weight_decay=self.weight_decay)
        if not 0 < self.step < math.inf:
            raise InputError("a step above zero", got=repr(self.step), remedy="Use a share of stable_step(...).")
        if self.algorithm not in get_args(Algorithm):
            raise InputError('algorithm "gd" or "adam"', got=repr(self.algorithm), remedy="Use one of the two.")
        if self.algorithm == "adam" and self.momentum:
            raise InputError("no momentum with Adam", got=repr(self.momentum), remedy="Adam has its own: leave it out.")


class ChainDescent:
    r"""The state of a descent on W_1, ..., W_L.

    .. math:: \nabla_l = (W_L \cdots W_{l+1})^\top\, \nabla f(W_L \cdots W_1)\, (W_{l-1} \cdots W_1)^\top + \lambda W_l

    All layers move at once, from gradients at the same point. That takes 3 (L - 1) products of matrices per step, into
    memory that is kept; those that end in a gradient are added to the weight (or its velocity) as they are computed.

    Args:
        weights: The start, W_1 to W_L, which is copied.
        objective: f.
        settings: How to move.
        rates: Multiple of the step by layer; a layer of rate 0 stays.
    """

    def __init__(
        self, weights: Sequence[Tensor], objective: Objective, settings: Settings, rates: Sequence[float]
    ) -> None:
        self.weights: list[Tensor] = [
            weight.detach().clone(memory_format=torch.contiguous_format) for weight in weights
        ]
        self.objective: Objective = objective
        self.settings: Settings = settings
        self._steps = [settings.step * rate for rate in rates]
        self._lowest = next((index for index, step in enumerate(self._steps) if step), len(self._steps))
        d = self.weights[0].shape[1]
        self._products = [self.weights[0], *(weight.new_empty(len(weight), d) for weight in self.weights[1:])]
        self._backs = [weight.new_empty(weight.shape[1], d) for weight in self.weights[1:]]
        # Views follow what is written in place, and making them anew takes as long as a small product.
        self._across, self._below = ([matrix.T for matrix in made] for made in (self.weights, self._products))
        self._velocities = [torch.zeros_like(weight) if settings.momentum else None for weight in self.weights]
        self._adam = [Adam(step) if settings.algorithm == "adam" and step else None for step in self._steps]

    def advance(self, steps: int) -> bool:
        """Take this many steps; False where the weights are no longer numbers."""
        for taken in range(1, steps + 1):
            self._move()
            if (taken % _UNWATCHED == 0 or taken == steps) and not self._finite():
                return False
        return True

    def products(self) -> list[Tensor]:
        """W_1, W_2 W_1, ..., W_L ... W_1, in memory that the next step writes to."""
        for index in range(1, len(self.weights)):
            torch.mm(self.weights[index], self._products[index - 1], out=self._products[index])
        return self._products

    def decay(self) -> float:
        """lambda / 2 times the sum of squares of all weights."""
        if not self.settings.weight_decay:
            return 0.0
        return 0.5 * self.settings.weight_decay * sum(float(weight.square().sum()) for weight in self.weights)

    def _move(self) -> None:
        back = self.objective.slope(self.products()[-1])
        for index in reversed(range(self._lowest, len(self.weights))):
            above = back
            if index > self._lowest:
                back = torch.mm(self._across[index], above, out=self._backs[index - 1])
            if self._steps[index]:
                self._add(index, above)

    def _add(self, index: int, above: Tensor) -> None:
        """Move one layer along its gradient, the product of `above` with what lies below."""
        weight, step, decay = self.weights[index], self._steps[index], self.settings.weight_decay
        adam, velocity = self._adam[index], self._velocities[index]
        if adam is not None:
            gradient = above @ self._below[index - 1] if index else above
            adam.move(weight, gradient.add(weight, alpha=decay))
        elif velocity is not None:
            self._accumulate(velocity, self.settings.momentum, above, 1.0, index)
            if decay:
                velocity.add_(weight, alpha=decay)
            weight.sub_(velocity, alpha=step)
        else:
            self._accumulate(weight, 1 - step * decay, above, -step, index)

    def _accumulate(self, total: Tensor, kept: float, above: Tensor, share: float, index: int) -> None:
        if index:
            total.addmm_(above, self._below[index - 1], beta=kept, alpha=share)
            return
        if kept != 1:
            total.mul_(kept)
        total.add_(above, alpha=share)

    def _finite(self) -> bool:
        return math.isfinite(sum(float(weight.sum()) for weight in self.weights))


def recorded_steps(steps: int, every: int | Sequence[int] | None) -> list[int]:
    """Steps to record, the start and the last one always.

    Args:
        steps: How many there are.
        every: Record after so many, or these; None for 25 in every decade, evenly in log(step).

    Raises:
        InputError: No steps, or one to record beyond the last.

    Example:
        >>> recorded_steps(10, 4), recorded_steps(10, [3, 7])
        ([0, 4, 8, 10], [0, 3, 7, 10])
    """
    check_count(steps, "steps")
    if every is None or isinstance(every, int):
        return [0, *observed_steps(steps, every)]
    chosen = {0, steps, *(check_count(step, "a step to record", least=0) for step in every)}
    if max(chosen) > steps:
        raise InputError(f"steps to record up to {steps}", got=f"{max(chosen)}", remedy="Raise steps, or leave it out.")
    return sorted(chosen)


def diverged(trace: Trace, bound: float) -> Status:
    """The status of a descent that left the numbers, with the step size that the minimum allows."""
    where = f"values overflow after step {trace['step'][-1]}, the last one recorded, whose point this is"
    cure = f"the minimum is stable only for steps below 2/||Hessian|| = {bound:.3g} (1 + momentum times that)"
    return Status("diverged", f"{where}; make step smaller: {cure}, and large starts need smaller ones")


def overflows(value: float) -> bool:
    """Whether an objective is on its way out of the numbers."""
    return not value < 1e100
