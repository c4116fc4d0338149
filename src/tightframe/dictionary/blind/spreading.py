"""Activations shared out among the places between which the noise does not let one decide."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from tightframe.dictionary.blind.continuation import SIGNIFICANT, Descent
from tightframe.dictionary.blind.scaled_signals import ScaledSignals

# Share of the penalty, and iterations, that spread significant activations over the places they may have come from;
# so many at a time, after which what was not observed is predicted anew.
_LIGHT, _SPREAD, _ITERATIONS = 0.25, 60, 10


def spread(problem: ScaledSignals, descent: Descent) -> None:
    r"""Share significant activations out among the places between which the noise does not let one decide.

    .. math:: x_i \sqrt{2 (1 - \rho_s)} < 2 \lambda, \qquad \rho_s = \langle a, S_s a \rangle

    where the left side is what moving the activation x_i by s changes in the signal. The sum over neighbours is then
    what the data tell, and no place is taken as certain; rough kernels and loud events stay as they are.
    """
    state, level = descent.state, SIGNIFICANT * descent.level * problem.factor
    sizes, present = state.maps.abs(), state.maps != 0
    apart = _distances(state.kernel)
    least = float(torch.where(present, sizes / level, math.inf).amin())
    near, axes = present, tuple(range(1, state.maps.ndim))
    for move in itertools.product(*[range(1 - side, side) for side in problem.size]):
        distance = float(apart[move])
        if any(move) and distance * least < 1:
            near = near | (present & (sizes * distance < level)).roll(move, axes)
    if bool((near == present).all()):
        return
    # The splitting still pushes against what was dropped, and would not notice for a while that it no longer should.
    state.dual = torch.zeros_like(state.dual)
    penalty = torch.where(near, _LIGHT * descent.level * problem.factor, math.inf)
    for _ in range(_SPREAD // _ITERATIONS):
        state.code(penalty, _ITERATIONS)
        if problem.observed is not None:
            state.refresh()


def _distances(kernel: Tensor) -> Tensor:
    """Norm of the difference between a kernel and itself moved, at moves modulo twice its size."""
    shape, axes = [2 * side for side in kernel.shape], tuple(range(kernel.ndim))
    power = torch.fft.fftn(kernel.double().cpu(), s=shape, dim=axes).abs().square()
    return (2 - 2 * torch.fft.ifftn(power, dim=axes).real).clamp(min=0).sqrt()
