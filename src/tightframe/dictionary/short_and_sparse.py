"""Short-and-sparse deconvolution: an unknown short kernel that recurs at unknown, sparse places and sizes."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.core.solution import Solution, Status, Trace
from tightframe.core.typing import Float
from tightframe.dictionary.half_steps import HalfSteps
from tightframe.dictionary.restarts import Evidence, evidence, starting_kernels
from tightframe.dictionary.scaled_signals import Border, ScaledSignals, kernel_shape

# Continuation: the penalty starts at this share of the largest useful one and falls by this factor.
_BEGIN, _FALL = 0.5, 0.7
# It ends at this multiple of the final penalty, where the kernel settles in so many alternations.
_COARSE, _SETTLE = 5.0, 6
# Then it falls by this factor in every round; there are at most so many rounds.
_EASE, _MOST = 0.8, 60
# Share of the noise first measured below which a residual is rounding.
_LEAST = 1e-3
# Standard errors, and share of the peak, above which a tap of the kernel belongs to it.
_RISEN, _RISEN_SHARE = 4.0, 0.02
# Alternations per round of reweighting, and iterations of splitting per alternation.
_PER_ROUND, _ITERATIONS = 2, 10
# Activations of this multiple of the final penalty keep half of it in the next round.
_SOFT = 4.0
# Activations below this multiple of it, the universal penalty, are dropped at the end.
_SIGNIFICANT = 2.0


def deconvolve_short(
    signals: Float[Tensor, "n *shape"],
    kernel_size: int | Sequence[int],
    *,
    alpha: float | Literal["auto"] = "auto",
    positive: bool = False,
    boundary: Border = "circular",
    bias: bool = True,
    reweightings: int = 6,
    n_starts: int = 6,
    seed: int = 0,
) -> Solution:
    r"""One short kernel and the sparse activations whose convolutions with it make up the signals.

    .. math:: \min_{\|a\| = 1,\, x,\, b}\ \sum_i \frac{1}{\sigma_i^2} \Big(\tfrac12 \|y_i - b_i - a * x_i\|^2
        + \lambda_i \|w_i \odot x_i\|_1\Big), \qquad w = \frac{\epsilon}{\epsilon + |x|}

    where
        y_i (*shape,) are `signals`, a (*kernel_size,) is the kernel, and lambda `alpha`; by default
        lambda_i = sigma_i sqrt(2 log m) / 2, half of `universal_penalty`, with the noise sigma_i of each signal
        measured by `noise_level`, and measured again in the residual where that is less.

    Each start begins with the kernel on a window of three kernel lengths, which is recentred as it drifts; the penalty
    falls from where there is hardly any activation to 5 lambda; the kernel is cut to size; then the penalty falls to
    lambda in rounds of reweighting, which undo the shrinkage of large activations; those below 2 lambda, which noise
    alone may cause, are dropped at the end. The starts are of spectral and
    random origin (`starting_kernels`). Objectives of different starts are not comparable, as each has its weights: the
    start of least information criterion wins, and the search ends where a residual is as white as noise.

    Args:
        signals: (n, *shape), float32 or float64, all of the same kernel.
        kernel_size: Of the kernel, by axis; an int is the length in time.
        alpha: lambda in the units of the signals, for a kernel of unit norm; or "auto".
        positive: x >= 0.
        boundary: "circular", or "valid" where the signals are cut from longer ones: what is beyond their ends is then
            unknown, and activations up to a kernel length before them are sought too.
        bias: Whether every signal has an unknown constant.
        reweightings: Rounds of reweighting at the last penalty; 0 leaves the bias of the l1 norm.
        n_starts: Starts at most.
        seed: Seed of the random starts.

    Returns:
        Solution with "kernel" (*kernel_size,), of unit norm, its largest entry positive unless x is; "activations"
        (n, *shape), at the places where the kernel begins; "bias" and "noise" (n,); "reconstruction" (n, *shape); and
        "penalty" (n,), the lambda of each signal. Its objective is the information criterion. The trace has, by start,
        "criterion", "residual" (in units of the noise first measured), "activations", "whiteness" and "seconds".

    Raises:
        InputError: A kernel longer than the signals, or a number out of range.
        DegenerateError: A constant signal.

    Reference: [lau2020short], algorithms 1 and 2; [kuo2020geometry]; [candes2008enhancing] for the weights.
    """
    size = kernel_shape(kernel_size, signals)
    _check(alpha, reweightings)
    check_count(n_starts, "n_starts")
    problem = ScaledSignals.of(signals, size, alpha, positive, boundary, bias)
    trace, began = Trace(), time.perf_counter()
    best: tuple[Evidence, HalfSteps, float] | None = None
    centred = problem.scaled - problem.scaled.mean(problem.axes, keepdim=True)
    for number, kernel in enumerate(starting_kernels(centred, size, count=n_starts, noise=1.0, seed=seed)):
        state, level = _descended(problem, kernel, reweightings)
        residual = state.refresh()
        found = evidence(residual, state.maps, size, observed=problem.points)
        trace.record(number, {**found.__dict__, "seconds": time.perf_counter() - began})
        if best is None or found.criterion < best[0].criterion:
            best = (found, state, level)
        if found.explained:
            break
    return _solution(problem, *best, trace)


def code_short(
    signals: Float[Tensor, "n *shape"],
    kernel: Float[Tensor, "*kernel"],
    *,
    alpha: float | Literal["auto"] = "auto",
    positive: bool = False,
    boundary: Border = "circular",
    bias: bool = True,
    reweightings: int = 6,
) -> Solution:
    """Activations of signals whose kernel is known, by the same penalties and rounds; returns as `deconvolve_short`."""
    _check(alpha, reweightings)
    kernel = kernel / torch.linalg.vector_norm(kernel)
    problem = ScaledSignals.of(signals, kernel_shape(kernel.shape, signals), alpha, positive, boundary, bias)
    state = problem.state(kernel)
    level = _coded(problem, state, reweightings)
    found = evidence(state.refresh(), state.maps, kernel.shape, observed=problem.points)
    return _solution(problem, found, state, level, Trace(), oriented=False)


def _descended(problem: ScaledSignals, kernel: Tensor, rounds: int) -> tuple[HalfSteps, float]:
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
    level = _reweighted(problem, state, rounds, fit=True)
    if len(problem.size) == 1:
        _onset(state)
    return state, level


def _onset(state: HalfSteps) -> None:
    """Let a transient begin where it leaves the noise, so that activations are when events happen.

    The energy of a window does not tell: that of a silent stretch before the rise is the same as after the decay. Least
    squares leave an error of standard deviation 1 / |x| in every tap, in units of the noise.
    """
    error = 1 / torch.linalg.vector_norm(state.maps).clamp(min=torch.finfo(state.maps.dtype).tiny)
    size = state.kernel.abs()
    risen = size > torch.maximum(_RISEN * error, _RISEN_SHARE * size.amax())
    first = int(risen.to(torch.uint8).argmax())
    if first:
        state.shift([first])
        state.fit_kernel()


def _coded(problem: ScaledSignals, state: HalfSteps, rounds: int) -> float:
    for _ in range(_SETTLE):
        state.code(_COARSE * problem.penalty * problem.factor, 2 * _ITERATIONS)
        if problem.observed is not None:
            state.refresh()
    return _reweighted(problem, state, rounds, fit=False)


def _reweighted(problem: ScaledSignals, state: HalfSteps, rounds: int, *, fit: bool) -> float:
    """Rounds with weights from the last, while the penalty falls to its end and `rounds` more; returns that end.

    They end under half of the universal penalty, as a bias of the activations is one of the kernel, and pairs of close
    events would become one; which activations are significant is settled afterwards.
    """
    if not rounds:
        return _COARSE * problem.penalty
    noise, penalty, left = 1.0, _COARSE * problem.penalty, rounds
    for number in range(_MOST):
        residual = state.refresh()
        if problem.adaptive:
            noise = min(noise, max(float(residual.square().sum() / problem.points) ** 0.5, _LEAST))
        final = problem.penalty * noise
        left -= penalty <= final * (1 + 1e-3)
        if left <= 0 or number == _MOST - 1:
            break
        penalty = max(_EASE * penalty, final)
        if fit and left == rounds - 1:
            _realigned(problem, state, penalty, noise)
        _weighted_round(problem, state, penalty, noise, fit=fit)
    # Noise alone seldom exceeds the universal penalty; what does not is dropped, and the others are as they were.
    state.maps = state.maps * (state.maps.abs() >= _SIGNIFICANT * problem.penalty * noise * problem.factor)
    return problem.penalty * noise


def _realigned(problem: ScaledSignals, state: HalfSteps, penalty: float, noise: float) -> None:
    """Cut the kernel anew: where it was cut first its tails were still biased, and a point of a sharp rise is much."""
    lengths = problem.scaled.shape[1:]
    margin = [min(side // 4 + 1, (length - side) // 2) for side, length in zip(problem.size, lengths, strict=True)]
    state.lift(margin)
    _weighted_round(problem, state, penalty, noise, fit=True)
    state.recentre(problem.size, crop=True)


def _weighted_round(problem: ScaledSignals, state: HalfSteps, penalty: float, noise: float, *, fit: bool) -> None:
    soft = _SOFT * problem.penalty * noise * problem.factor
    weights = soft / (state.maps.abs() + soft)
    for _ in range(_PER_ROUND):
        state.code(penalty * problem.factor * weights, _ITERATIONS)
        if fit:
            state.fit_kernel()


def _solution(
    problem: ScaledSignals, found: Evidence, state: HalfSteps, level: float, trace: Trace, *, oriented: bool = True
) -> Solution:
    """What was found, in the units of the signals."""
    rows, shape = (-1, *[1] * len(problem.size)), problem.signals.shape[1:]
    residual = state.refresh()
    sign = 1.0
    if oriented and not problem.positive:
        flat = state.kernel.flatten()
        sign = 1.0 if float(flat[flat.abs().argmax()]) >= 0 else -1.0
    frame = tuple(slice(start, start + length) for start, length in zip(problem.before, shape, strict=True))
    sigma = problem.sigma.view(rows)
    inside = (slice(None), *frame)
    reconstruction = problem.signals - residual[inside] * sigma
    model = state.prediction()[inside] * sigma
    bias = (reconstruction - model).mean(problem.axes)
    variables = {
        "kernel": sign * state.kernel,
        "activations": sign * state.maps[inside] * sigma,
        "bias": bias,
        "noise": problem.sigma * (min(found.residual, 1.0) if problem.adaptive else 1.0),
        "reconstruction": reconstruction,
        "penalty": (level * problem.factor).flatten() * problem.sigma,
    }
    return Solution(_status(found, problem.adaptive), found.criterion, variables, trace)


def _status(found: Evidence, adaptive: bool) -> Status:
    told = f"{found.activations} activations, residual {found.residual:.2f} of the noise first measured"
    if found.explained:
        return Status("converged", f"{told}, as white as noise")
    advice = "a longer kernel, another alpha or more starts may explain it" if adaptive else "lower alpha or try auto"
    return Status("stalled", f"{told}, with structure left ({found.whiteness:.1f} deviations from white): {advice}")


def _check(alpha: float | str, reweightings: int) -> None:
    check_count(reweightings, "reweightings", least=0)
    if alpha != "auto" and not (isinstance(alpha, int | float) and 0 < alpha < math.inf):
        raise InputError("a penalty above zero, or auto", got=f"alpha={alpha!r}", remedy='Use alpha="auto".')
