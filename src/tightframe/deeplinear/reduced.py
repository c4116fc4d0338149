"""`descend_reduced`: the training of a deep linear network of any width, followed in a small network and one number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from time import perf_counter

import torch
from torch import Tensor

from tightframe.core.errors import InputError
from tightframe.core.solution import Solution, Status, Trace
from tightframe.core.threads import threads_for
from tightframe.deeplinear.descent import ChainDescent, Settings, diverged, overflows, recorded_steps
from tightframe.deeplinear.frames import InvariantFrames, check_layer
from tightframe.deeplinear.objective import Factorization
from tightframe.deeplinear.operators import LayerOperator
from tightframe.deeplinear.stability import stable_step


@dataclass(frozen=True, eq=False)
class ReducedSolution(Solution):
    """A descent of the whole network, held as that of the small one; its layers are made when asked for.

    Args:
        frames: Where the small network lies in the whole one.
        history: Small layers at the steps of the trace, by layer: (t, q, q) each, (t, d_y, q) the last in case 1.
    """

    frames: InvariantFrames = field(kw_only=True)
    history: tuple[Tensor, ...] = field(kw_only=True)

    def layer(self, step: int, number: int) -> LayerOperator:
        """W_l after a recorded step, l = `number` from 1 to L.

        Raises:
            InputError: A step that was not recorded, a layer that does not exist.
        """
        row = self._row(step)
        check_layer(number, len(self.history))
        return self.frames.layer(self.history[number - 1][row], self.trace["rho"][row], number)

    def end_to_end(self, step: int) -> LayerOperator:
        """W_L ... W_1 after a recorded step.

        Raises:
            InputError: A step that was not recorded.
        """
        row = self._row(step)
        product = self.history[0][row]
        for layers in self.history[1:]:
            product = layers[row] @ product
        return self.frames.end_to_end(product, self.trace["rho"][row])

    def _row(self, step: int) -> int:
        steps = self.trace["step"]
        if step not in steps:
            nearest = min(steps, key=lambda seen: abs(seen - step))
            raise InputError(
                "a step that was recorded", got=f"{step}; the nearest is {nearest}", remedy="Pass every=, or that one."
            )
        return steps.index(step)


def descend_reduced(
    frames: InvariantFrames,
    *,
    step: float,
    steps: int,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    every: int | Sequence[int] | None = None,
) -> ReducedSolution:
    r"""Gradient descent on a deep linear network from a scaled orthogonal start, without the network.

    .. math:: \min_{\widetilde W_1, \dots, \widetilde W_L}
        \tfrac12 \|\widetilde W_L \cdots \widetilde W_1 - U_L^\top \Phi V_1\|_F^2
        + \tfrac\lambda2 \sum_l \|\widetilde W_l\|_F^2, \qquad
        v \leftarrow \mu v + \rho^{2L-1} + \lambda\rho, \quad \rho \leftarrow \rho - \eta v

    from W_l(0) = epsilon I and rho(0) = epsilon, both with step eta and momentum mu. With d outputs rho follows this
    recursion; with fewer the last layer vanishes outside the frames, and the power of rho drops out of it. The
    objective is that of the whole network:

    .. math:: \tfrac12 \|W_{L:1} - \Phi\|_F^2
        = \tfrac12 \|\widetilde W_{L:1} - U_L^\top \Phi V_1\|_F^2 + \tfrac m2 \rho^{2L}

    (the last term with d outputs only), m = d - q, plus the decay. This is exact for whitened inputs or a whole
    matrix, plain descent and the heavy ball. For other inputs, Adam or observed entries use `simulate`.

    Args:
        frames: From `haar_frames` (a random network of any width) or `decompose` (a network at hand).
        step: eta, above zero; see `stable_step`.
        steps: How many.
        momentum: mu in [0, 1).
        weight_decay: lambda, at least 0.
        every: Record after so many steps, or after these; None for steps spread evenly over the decades, 25 in each.

    Returns:
        ReducedSolution with the small layers "W1", ..., "WL" and a trace of "objective", "loss", "rho" and "seconds".
        Its status is "budget spent", or "diverged" where values left the numbers (the point is the last one recorded).

    Raises:
        InputError: Parameters out of range.

    Example:
        >>> from tightframe.deeplinear.frames import haar_frames
        >>> U, V = torch.eye(1000, 2).double(), torch.eye(1000).double()[:, 2:4]
        >>> frames = haar_frames(U, torch.tensor([3.0, 2.0]).double(), V, depth=3, scale=0.3)
        >>> found = descend_reduced(frames, step=0.02, steps=3000)
        >>> [round(value, 3) for value in found.end_to_end(3000).singular_values()[:2].tolist()]
        [3.0, 2.0]

    Reference: [yaras2023law], the theorem on invariant subspaces; [yaras2024compressible].
    """
    settings = Settings(step, momentum, weight_decay)
    times = recorded_steps(steps, every)
    objective = Factorization(frames.target)
    bound = stable_step(objective, depth=frames.depth, weight_decay=weight_decay)
    run = _Run(ChainDescent(frames.starts, objective, settings, [1.0] * frames.depth), frames)
    with threads_for(frames.target.shape[-1] ** 3), torch.no_grad():
        run.record(0)
        for before, after in pairwise(times):
            sound = run.chain.advance(after - before)
            run.advance(after - before)
            if not (sound and run.record(after)):
                return run.solution(diverged(run.trace, bound))
    status = Status("budget spent", f"all {steps} steps taken; the loss is {run.trace['loss'][-1]:.3e}")
    return run.solution(status)


class _Run:
    """The small network, rho, and what was recorded of them."""

    def __init__(self, chain: ChainDescent, frames: InvariantFrames) -> None:
        self.chain, self.frames, self.rho, self.velocity = chain, frames, frames.scale, 0.0
        self.trace, self.history, self.began = Trace(), [[] for _ in chain.weights], perf_counter()

    def advance(self, steps: int) -> None:
        """Take this many steps of the recursion of rho."""
        power, data, settings = 2 * self.frames.depth - 1, self.frames.case == 2, self.chain.settings
        step, momentum, decay = settings.step, settings.momentum, settings.weight_decay
        rho, velocity, ceiling = self.rho, self.velocity, 10 ** (100 / power)
        for _ in range(steps):
            slope = (rho**power if data else 0.0) + decay * rho
            velocity = momentum * velocity + slope
            # Its power would raise an error; `record` finds that it is no number.
            rho = rho - step * velocity if abs(rho - step * velocity) < ceiling else math.nan
        self.rho, self.velocity = rho, velocity

    def record(self, step: int) -> bool:
        """Add a row; False, and no row, where values have left the numbers."""
        m, depth = self.frames.complement, self.frames.depth
        loss = self.chain.objective.value(self.chain.products()[-1])
        free = depth if self.frames.case == 2 else depth - 1
        loss += 0.5 * m * self.rho ** (2 * depth) if self.frames.case == 2 else 0.0
        objective = loss + self.chain.decay() + 0.5 * self.chain.settings.weight_decay * free * m * self.rho**2
        if overflows(objective):
            return False
        seconds = perf_counter() - self.began
        self.trace.record(step, {"objective": objective, "loss": loss, "rho": self.rho, "seconds": seconds})
        for kept, weight in zip(self.history, self.chain.weights, strict=True):
            kept.append(weight.clone())
        return True

    def solution(self, status: Status) -> ReducedSolution:
        """What is returned."""
        history = tuple(torch.stack(kept) for kept in self.history)
        variables = {f"W{number}": kept[-1] for number, kept in enumerate(history, start=1)}
        return ReducedSolution(
            status, self.trace["objective"][-1], variables, self.trace, frames=self.frames, history=history
        )
