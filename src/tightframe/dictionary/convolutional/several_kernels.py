"""Several kernels of events in noise: dictionaries from several starts, and the one that explains most."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.core.solution import Solution, Status, Trace
from tightframe.dictionary.blind.noise import significant_level, universal_penalty
from tightframe.dictionary.convolutional.convolution import Boundary
from tightframe.dictionary.convolutional.convolutional import ConvolutionalDictionaryLearning

# Penalties of the starts, in units of the final one: a large one keeps the kernels apart while they are sought.
_PENALTIES = (2.0, 1.0, 3.0)
# A residual of less than this, in units of the noise, is explained.
_EXPLAINED = 1.1
# Rounds of reweighting, and iterations of a start.
_ROUNDS, _ITERATIONS = 2, 500


def deconvolve_several(
    signals: Tensor,
    n_kernels: int,
    kernel_size: Sequence[int],
    *,
    alpha: float | None = None,
    positive: bool = False,
    boundary: Boundary = "zero",
    n_starts: int = 6,
    seed: int = 0,
) -> Solution:
    r"""Several kernels and their activations, chosen among starts by what they explain for the activations they need.

    .. math:: M \log(\mathrm{RSS} / M) + s \log M

    where s activations leave RSS of M points: the Bayesian information criterion. Objectives of different starts do
    not tell which kernels are right, as wrong ones in dense maps may have a smaller one. Every start is a search of
    `ConvolutionalDictionaryLearning` from other windows of the signals at one, two or three times the penalty; the
    best is coded again at the penalty itself. The search ends early where the residual is no more than the noise.

    Args:
        signals: (n, *shape), float32 or float64.
        n_kernels: K.
        kernel_size: (*size,).
        alpha: Penalty in the units of the signals; by default `universal_penalty` times the measured noise.
        positive: Whether activations are at least zero.
        boundary: As `ConvolutionalDictionaryLearning`.
        n_starts: Starts at most.
        seed: Of the windows.

    Returns:
        Solution with "kernels" (K, *size), "maps" (n, K, *map_shape), "bias" (n,), "reconstruction" (n, *shape),
        "alpha" and "noise"; its objective is the criterion. The trace has by start "criterion", "residual" in units of
        the noise, "activations", "penalty" and "seconds".

    Raises:
        InputError: A kernel larger than the signals, or a number out of range. DegenerateError: A constant signal.

    Reference: [lau2020short], section 3; [qu2020geometric], section 3.
    """
    check_count(n_starts, "n_starts")
    if alpha is not None and not 0 < alpha < math.inf:
        raise InputError("a penalty above zero", got=repr(alpha), remedy="Leave it out.")
    noise = float(significant_level(signals, list(kernel_size)).median())
    places = check_count(n_kernels, "n_kernels") * signals[0].numel()
    penalty = noise * universal_penalty(places) if alpha is None else float(alpha)
    settings = {"boundary": boundary, "positive": positive, "bias": True, "reweightings": _ROUNDS}
    trace, began = Trace(), time.perf_counter()
    best: tuple[float, ConvolutionalDictionaryLearning] | None = None
    for number in range(n_starts):
        # Two seeds at the first penalty, two at the next, and so on.
        factor = _PENALTIES[number // 2 % len(_PENALTIES)]
        model = ConvolutionalDictionaryLearning(
            n_kernels,
            tuple(kernel_size),
            alpha=factor * penalty,
            max_iter=_ITERATIONS,
            seed=seed + number % 2 + 2 * (number // (2 * len(_PENALTIES))),
            **settings,
        ).fit(signals)
        criterion, residual = _judged(model, signals)
        values = {"criterion": criterion, "residual": residual / noise, "penalty": factor * penalty}
        values["activations"] = int(model.codes_.count_nonzero())
        trace.record(number, {**values, "seconds": time.perf_counter() - began})
        if best is None or criterion < best[0]:
            best = (criterion, model)
        if residual <= _EXPLAINED * noise:
            break
    refined = ConvolutionalDictionaryLearning(
        n_kernels,
        tuple(kernel_size),
        alpha=penalty,
        start=best[1].components_,
        lift=False,
        max_iter=_ITERATIONS,
        **settings,
    ).fit(signals)
    if _judged(refined, signals)[0] < best[0]:
        best = (_judged(refined, signals)[0], refined)
    return _solution(*best, signals, noise, trace)


def _judged(model: ConvolutionalDictionaryLearning, signals: Tensor) -> tuple[float, float]:
    """Criterion, and root mean square of the residual."""
    points = signals.numel()
    energy = max(float((signals - _clean(model, signals)).double().square().sum()), 1e-300)
    criterion = points * math.log(energy / points) + int(model.codes_.count_nonzero()) * math.log(points)
    return criterion, math.sqrt(energy / points)


def _clean(model: ConvolutionalDictionaryLearning, signals: Tensor) -> Tensor:
    return model.inverse_transform(model.codes_) + model.bias_.view(-1, *[1] * (signals.ndim - 1))


def _solution(
    criterion: float, model: ConvolutionalDictionaryLearning, signals: Tensor, noise: float, trace: Trace
) -> Solution:
    clean = _clean(model, signals)
    left = float((signals - clean).double().square().mean().sqrt()) / noise
    told = f"{int(model.codes_.count_nonzero())} activations, residual {left:.2f} of the noise measured"
    if left <= _EXPLAINED:
        status = Status("converged", f"{told}, after {len(trace)} starts")
    else:
        advice = "more or larger kernels, more starts or another alpha may explain what is left"
        status = Status("stalled", f"{told}, after {len(trace)} starts: {advice}")
    variables = {
        "kernels": model.components_,
        "maps": model.codes_,
        "bias": model.bias_.flatten(),
        "reconstruction": clean,
        "alpha": torch.tensor(model.alpha_),
        "noise": torch.tensor(noise),
    }
    return Solution(status, criterion, variables, trace)
