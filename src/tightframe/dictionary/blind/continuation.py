"""One start of a deconvolution: continuation in the penalty, rounds of reweighting, and what is kept at the end."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tightframe.dictionary.blind.half_steps import HalfSteps
from tightframe.dictionary.blind.restarts import Evidence, evidence
from tightframe.dictionary.blind.scaled_signals import ScaledSignals
from tightframe.dictionary.blind.smooth_kernels import LONGEST

# Continuation: the penalty starts at this share of the largest useful one and falls by this factor.
_BEGIN, _FALL = 0.5, 0.7
# It ends at this multiple of the final penalty, where the kernel settles in so many alternations.
_COARSE, _SETTLE = 5.0, 6
# Then it falls by this factor in every round, or by the next where that moves the kernel by less than the third number;
# by less than the fourth, and it has settled; there are at most so many rounds.
_EASE, _RUSH, _QUIET, _SETTLED, _MOST = 0.8, 0.4, 1e-3, 1e-5, 60
# Share of the noise first measured below which a residual is rounding.
_LEAST = 1e-3
# Standard errors, and share of the peak, above which a tap of the kernel belongs to it.
_RISEN, _RISEN_SHARE = 4.0, 0.02
# Alternations per round of reweighting, and iterations of splitting per alternation.
_PER_ROUND, _ITERATIONS = 1, 10
# Activations of this multiple of the final penalty keep half of it in the next round.
_SOFT = 4.0
SIGNIFICANT = 2.0
"""Activations below this multiple of the last penalty, the universal one, are dropped at the end."""
# Passes that begin without activations, at a kernel that is known but for its smoothness: iterations without weights,
# iterations per round with them, rounds. The thorough ones are repeated, so often at most, while the criterion falls.
_QUICK, _THOROUGH, _PASSES = (100, 20, 8), (400, 40, 16), 5
# How far ahead a pass begins, in units of what the one before moved the kernel; less by a factor where that is too far.
_LEAP, _SHORTER = 4.0, 4.0
# Rounds at the end of a pass in which the kernel is where the data put it, and not thrown ahead.
_CALM = 3
# Iterations of splitting after which what was not observed is predicted anew.
_CHUNK = 20


@dataclass(frozen=True, eq=False)
class Descent:
    """Where a start led.

    Args:
        state: The kernel and its activations.
        level: The last penalty, in units of the noise first measured.
        noise: What the penalty took the noise to be, in the same units.
        found: What speaks for it.
    """

    state: HalfSteps
    level: float
    noise: float
    found: Evidence

    @classmethod
    def of(cls, problem: ScaledSignals, state: HalfSteps, level: float, noise: float) -> Descent:
        """Weigh a state."""
        found = evidence(state.refresh(), state.maps, problem.size, observed=problem.points)
        return cls(state, level, noise, found)


def descended(problem: ScaledSignals, kernel: Tensor, rounds: int, *, whole: bool = False) -> Descent:
    """From a start to a kernel; `whole` if it is right but for details, beginning with its first point."""
    if whole and rounds:
        found = _smoothed(problem, kernel) if _bending(problem) else _settled(problem, kernel, rounds)
        if found is not None:
            return found
    bare, level, noise = _continued(problem, kernel, rounds)
    state = copy.copy(bare)
    if len(problem.size) == 1 and _onset(state):
        state.fit_kernel()
    if not rounds or not _bending(problem):
        return Descent.of(problem, state, level, noise)
    trial = copy.copy(state)
    kind = trial.fit_smooth_kernel(max(_spread_of(problem, trial.refresh()), _LEAST))
    if kind == "even":
        # A bump has no beginning: where it leaves the noise says how much noise there is.
        state, trial = bare, copy.copy(bare)
        trial.fit_smooth_kernel(max(_spread_of(problem, trial.refresh()), _LEAST))
    found = Descent.of(problem, state, level, noise)
    other = None if kind == "rough" else _smoothed(problem, trial.kernel)
    return found if other is None or found.found.criterion <= other.found.criterion else other


def deepened(problem: ScaledSignals, descent: Descent) -> Descent:
    """The same with more patience, for smooth kernels that leave structure in the residual.

    A little more width of the kernel and a little less spread of the activations are nearly the same signal, so that
    the alternation creeps: the kernel is thrown ahead by its last step, and what was found is left and found anew; so
    is it from pass to pass, by more for as long as the criterion falls.
    """
    if not _bending(problem):
        return descent
    best, before, leap = descent, descent.state.kernel, 0.0
    for _ in range(_PASSES):
        start = best.state.kernel + leap * (best.state.kernel - before)
        found = _smoothed(problem, start / torch.linalg.vector_norm(start), _THOROUGH)
        if found is not None and found.found.criterion < best.found.criterion:
            best, before, leap = found, best.state.kernel, max(_LEAP, 2 * leap)
        elif leap > 1:
            leap /= _SHORTER
        else:
            break
        if best.found.explained:
            break
    return best


def coded(problem: ScaledSignals, kernel: Tensor, rounds: int) -> Descent:
    """The activations of a known kernel."""
    state, noise = problem.state(kernel), 1.0
    if not rounds:
        for _ in range(_SETTLE):
            state.code(_COARSE * problem.penalty * problem.factor, _CHUNK)
            state.refresh()
        return Descent.of(problem, state, _COARSE * problem.penalty, noise)
    _plain(problem, state, _QUICK[0])
    for _ in range(rounds):
        noise = _noise(problem, state.refresh(), noise)
        _weighted_round(problem, state, problem.penalty * noise, noise, fit=False)
    _drop(problem, state, noise)
    return Descent.of(problem, state, problem.penalty * noise, noise)


def _smoothed(problem: ScaledSignals, kernel: Tensor, effort: tuple[int, int, int] = _QUICK) -> Descent | None:
    """Activations from nothing for a kernel that is nearly right, in turn with smooth kernels; None for rough ones.

    Activations that were found with another kernel are not at the places where this one puts them, and rounds of
    reweighting would keep them there.
    """
    if not _bending(problem):
        return None
    plain, iterations, rounds = effort
    state, noise, before = problem.state(kernel), 1.0, None
    _plain(problem, state, plain)
    for number in range(rounds):
        _weighted(problem, state, noise, iterations)
        residual = state.refresh()
        kind = state.fit_smooth_kernel(max(_spread_of(problem, residual), _LEAST))
        if kind == "rough":
            return None
        if kind == "slowing":
            _onset(state)
        noise = _noise(problem, state.refresh(), noise)
        last, before = before, state.kernel
        if effort is _THOROUGH and last is not None and number < rounds - _CALM:
            ahead = 2 * before - last
            state.kernel = ahead / torch.linalg.vector_norm(ahead)
    _weighted(problem, state, noise, iterations)
    _drop(problem, state, noise)
    return Descent.of(problem, state, problem.penalty * noise, noise)


def _bending(problem: ScaledSignals) -> bool:
    """Whether the kernel may be estimated as a smooth one."""
    return len(problem.size) == 1 and problem.size[0] <= LONGEST


def _settled(problem: ScaledSignals, kernel: Tensor, rounds: int) -> Descent:
    """A kernel that is known but for details needs no wider window: activations, then the rounds of reweighting."""
    state = problem.state(kernel)
    for _ in range(_SETTLE):
        state.code(_COARSE * problem.penalty * problem.factor, _ITERATIONS)
        if problem.observed is not None:
            state.refresh()
    level, noise = _reweighted(problem, state, rounds)
    return Descent.of(problem, state, level, noise)


def _plain(problem: ScaledSignals, state: HalfSteps, iterations: int) -> None:
    for _ in range(iterations // _CHUNK):
        state.code(problem.penalty * problem.factor, _CHUNK)
        if problem.observed is not None:
            state.refresh()


def _weighted(problem: ScaledSignals, state: HalfSteps, noise: float, iterations: int) -> None:
    state.code(problem.penalty * noise * problem.factor * _weights(problem, state, noise), iterations)


def _continued(problem: ScaledSignals, kernel: Tensor, rounds: int) -> tuple[HalfSteps, float, float]:
    """Continuation on the lifted window, then the kernel cut to size and the rounds of reweighting."""
    state = problem.state(problem.lifted(kernel))
    coarse, penalty, settled = _COARSE * problem.penalty, math.inf, 0
    while settled < _SETTLE:
        penalty = max(min(_FALL * penalty, _BEGIN * state.largest_correlation() / float(problem.factor.amax())), coarse)
        state.code(penalty * problem.factor, _ITERATIONS)
        state.fit_kernel()
        state.recentre(problem.size)
        if problem.observed is not None:
            state.refresh()
        settled += penalty <= coarse
    state.recentre(problem.size, crop=True)
    level, noise = _reweighted(problem, state, rounds)
    return state, level, noise


def _onset(state: HalfSteps) -> bool:
    """Let a transient begin where it leaves the noise, so that activations are when events happen; whether it moved.

    The energy of a window does not tell: that of a silent stretch before the rise is the same as after the decay. Least
    squares leave an error of standard deviation 1 / |x| in every tap, in units of the noise.
    """
    error = 1 / torch.linalg.vector_norm(state.maps).clamp(min=torch.finfo(state.maps.dtype).tiny)
    size = state.kernel.abs()
    risen = size > torch.maximum(_RISEN * error, _RISEN_SHARE * size.amax())
    first = int(risen.to(torch.uint8).argmax())
    if first:
        state.shift([first])
    return first > 0


def _reweighted(problem: ScaledSignals, state: HalfSteps, rounds: int) -> tuple[float, float]:
    """Rounds with weights from the last, while the penalty falls to its end and `rounds` more; that end, and the noise.

    They end under half of the universal penalty, as a bias of the activations is one of the kernel, and pairs of close
    events would become one; which activations are significant is settled afterwards.
    """
    if not rounds:
        return _COARSE * problem.penalty, 1.0
    noise, penalty, left, moved = 1.0, _COARSE * problem.penalty, rounds, math.inf
    for number in range(_MOST):
        noise = _noise(problem, state.refresh(), noise)
        final = problem.penalty * noise
        left -= penalty <= final * (1 + 1e-3)
        if left <= 0 or number == _MOST - 1 or (left < rounds - 1 and moved < _SETTLED):
            break
        penalty = max((_EASE if moved > _QUIET else _RUSH) * penalty, final)
        if left == rounds - 1:
            _realigned(problem, state, penalty, noise)
        before = state.kernel
        _weighted_round(problem, state, penalty, noise, fit=True)
        moved = float(torch.linalg.vector_norm(state.kernel - before))
    _drop(problem, state, noise)
    return problem.penalty * noise, noise


def _drop(problem: ScaledSignals, state: HalfSteps, noise: float) -> None:
    """Noise alone seldom exceeds the universal penalty; what does not is dropped, and the others are as they were."""
    state.maps = state.maps * (state.maps.abs() >= SIGNIFICANT * problem.penalty * noise * problem.factor)


def _noise(problem: ScaledSignals, residual: Tensor, before: float) -> float:
    """What the penalty takes the noise to be: that of the residual where it is less than before."""
    return min(before, max(_spread_of(problem, residual), _LEAST)) if problem.adaptive else before


def _spread_of(problem: ScaledSignals, residual: Tensor) -> float:
    return float(residual.square().sum() / problem.points) ** 0.5


def _weights(problem: ScaledSignals, state: HalfSteps, noise: float) -> Tensor:
    soft = _SOFT * problem.penalty * noise * problem.factor
    return soft / (state.maps.abs() + soft)


def _realigned(problem: ScaledSignals, state: HalfSteps, penalty: float, noise: float) -> None:
    """Cut the kernel anew: where it was cut first its tails were still biased, and a point of a sharp rise is much."""
    lengths = problem.scaled.shape[1:]
    margin = [min(side // 4 + 1, (length - side) // 2) for side, length in zip(problem.size, lengths, strict=True)]
    state.lift(margin)
    _weighted_round(problem, state, penalty, noise, fit=True)
    state.recentre(problem.size, crop=True)


def _weighted_round(problem: ScaledSignals, state: HalfSteps, penalty: float, noise: float, *, fit: bool) -> None:
    weights = _weights(problem, state, noise)
    for _ in range(_PER_ROUND):
        state.code(penalty * problem.factor * weights, _ITERATIONS)
        if fit:
            state.fit_kernel()
