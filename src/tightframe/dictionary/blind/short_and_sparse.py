"""Short-and-sparse deconvolution: an unknown short kernel that recurs at unknown, sparse places and sizes."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from itertools import product
from operator import add
from typing import Literal

import torch
from torch import Tensor

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.core.solution import Solution, Status, Trace
from tightframe.core.typing import Float
from tightframe.dictionary.blind.continuation import Descent, coded, deepened, descended
from tightframe.dictionary.blind.restarts import Evidence, starting_kernels
from tightframe.dictionary.blind.scaled_signals import Border, ScaledSignals, kernel_shape
from tightframe.dictionary.blind.spreading import spread
from tightframe.dictionary.blind.transients import transient_kernel

# Distance of kernels from two starts under which they are the same.
_AGREED = 0.05
# Samples on which the starts compete.
_LEARNED = 2**18


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
    lambda in rounds of reweighting, which undo the shrinkage of large activations. A kernel of one axis that the
    evidence calls smooth (`smooth_kernel`) is then estimated as such, and its activations anew from nothing. The starts
    are two exponentials fitted to the spectrum where they fit it (`transient_kernel`, which needs no wider window),
    and others of spectral and random origin (`starting_kernels`). Objectives of different starts are not comparable, as
    each has its weights: the start of least information criterion wins, and the search ends where a residual is as
    white as noise, or where a start leads to the kernel of the best before it; a smooth kernel that leaves structure
    is then followed further.

    Activations below 2 lambda, which noise alone may cause, are dropped. Those left are shared out among neighbouring
    places where the noise does not let one tell which it was (smooth kernels, weak events): sums over neighbours are
    then what the data say. Rough kernels and strong events keep single places.

    Of signals of more than a quarter of a million samples, the starts compete on the part of that size where most
    happens; the kernel of the best then goes on with the whole.

    Args:
        signals: (n, *shape), float32 or float64, all of the same kernel.
        kernel_size: Of the kernel, by axis; an int is the length in time.
        alpha: lambda in the units of the signals, for a kernel of unit norm; or "auto".
        positive: x >= 0.
        boundary: "circular", or "valid" where the signals are cut from longer ones: what is beyond their ends is then
            unknown, and activations up to a kernel length before them are sought too.
        bias: Whether every signal has an unknown constant.
        reweightings: Rounds of reweighting at the last penalty; 0 leaves the bias of the l1 norm, and skips what
            comes after it.
        n_starts: Starts at most.
        seed: Seed of the random starts.

    Returns:
        Solution with "kernel" (*kernel_size,), of unit norm, its largest entry positive unless x is; "activations"
        (n, *shape), at the places where the kernel begins; "bias" and "noise" (n,); "reconstruction" (n, *shape); and
        "penalty" (n,), the lambda of each signal. Its objective is the information criterion. The trace has, by start,
        "criterion", "residual" (in units of the noise first measured), "activations", "whiteness", "structure" and
        "seconds".

    Raises:
        InputError: A kernel longer than the signals, or a number out of range.
        DegenerateError: A constant signal.

    Reference: [lau2020short], algorithms 1 and 2; [kuo2020geometry]; [candes2008enhancing] for the weights;
    [pnevmatikakis2016simultaneous] for transients.
    """
    size = kernel_shape(kernel_size, signals)
    _check(alpha, reweightings)
    check_count(n_starts, "n_starts")
    problem = ScaledSignals.of(signals, size, alpha, positive, boundary, bias)
    trace, began = Trace(), time.perf_counter()
    best: Descent | None = None
    part, starts = _part(signals, size), _starts(problem, n_starts, seed)
    if part is not None:
        settings = {"alpha": alpha, "positive": positive, "boundary": boundary, "bias": bias}
        learned = deconvolve_short(
            part, kernel_size, reweightings=reweightings, n_starts=n_starts, seed=seed, **settings
        )
        starts = iter([(learned.kernel, True)])
    for number, (kernel, whole) in enumerate(starts):
        found = descended(problem, kernel, reweightings, whole=whole)
        trace.record(number, {**found.found.__dict__, "seconds": time.perf_counter() - began})
        agreed = best is not None and _apart(best.state.kernel, found.state.kernel) < _AGREED
        if best is None or found.found.criterion < best.found.criterion:
            best = found
        if found.found.explained or agreed:
            break
    if reweightings:
        best = best if best.found.explained else deepened(problem, best)
        spread(problem, best)
    return _solution(problem, best, trace)


def _part(signals: Tensor, size: tuple[int, ...]) -> Tensor | None:
    """About `_LEARNED` samples of the signals that vary most, whole or cut; None where there are no more."""
    total = signals.numel()
    if total <= 1.25 * _LEARNED:
        return None
    most = max(1, _LEARNED // signals[0].numel())
    if most < len(signals):
        signals = signals[signals.flatten(1).var(1).topk(most).indices]
    shape = signals.shape[1:]
    share = (_LEARNED / signals.numel()) ** (1 / len(shape))
    lengths = [min(side, max(4 * k, round(share * side))) for k, side in zip(size, shape, strict=True)]
    places = product(*({0, (side - n) // 2, side - n} for side, n in zip(shape, lengths, strict=True)))
    cuts = [(slice(None), *map(slice, at, map(add, at, lengths))) for at in places]
    part = max((signals[cut] for cut in cuts), key=lambda cut: float(cut.var()))
    # Kernels nearly as long as the signals leave nothing to cut.
    return part if part.numel() < total else None


def _starts(problem: ScaledSignals, count: int, seed: int) -> Iterator[tuple[Tensor, bool]]:
    """Kernels to begin with, and whether they are whole: those fitted to the spectrum need no room to move in."""
    centred = problem.scaled - problem.scaled.mean(problem.axes, keepdim=True)
    transient = transient_kernel(centred, problem.size[0]) if len(problem.size) == 1 else None
    if transient is not None:
        yield transient, True
        count -= 1
    for kernel in starting_kernels(centred, problem.size, count=count, noise=1.0, seed=seed):
        yield kernel, False


def _apart(first: Tensor, second: Tensor) -> float:
    """Least distance of unit kernels over shifts and signs."""
    shape, axes = [2 * side for side in first.shape], tuple(range(first.ndim))
    spectra = [torch.fft.fftn(kernel, s=shape, dim=axes) for kernel in (first, second)]
    correlation = torch.fft.ifftn(spectra[0] * spectra[1].conj(), dim=axes).real
    return math.sqrt(max(0.0, 2 - 2 * float(correlation.abs().amax())))


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
    """Activations of signals whose kernel is known, by the same penalty and weights; returns as `deconvolve_short`."""
    _check(alpha, reweightings)
    kernel = kernel / torch.linalg.vector_norm(kernel)
    problem = ScaledSignals.of(signals, kernel_shape(kernel.shape, signals), alpha, positive, boundary, bias)
    found = coded(problem, kernel, reweightings)
    if reweightings:
        spread(problem, found)
    return _solution(problem, found, Trace(), oriented=False)


def _solution(problem: ScaledSignals, descent: Descent, trace: Trace, *, oriented: bool = True) -> Solution:
    """What was found, in the units of the signals."""
    found, state, level = descent.found, descent.state, descent.level
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
    told = f"{found.activations} significant activations, residual {found.residual:.2f} of the noise first measured"
    if found.explained:
        return Status("converged", f"{told}, as white as noise")
    advice = "a longer kernel, another alpha or more starts may explain it" if adaptive else "lower alpha or try auto"
    return Status("stalled", f"{told}, with structure left ({found.whiteness:.1f} deviations from white): {advice}")


def _check(alpha: float | str, reweightings: int) -> None:
    check_count(reweightings, "reweightings", least=0)
    if alpha != "auto" and not (isinstance(alpha, int | float) and 0 < alpha < math.inf):
        raise InputError("a penalty above zero, or auto", got=f"alpha={alpha!r}", remedy='Use alpha="auto".')
