"""Windows three times as wide while kernels are sought, and back to their size once they are found."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from tightframe.core.checks import check_count
from tightframe.core.solution import Solution, Trace
from tightframe.dictionary.convolutional.bilinear import bilinear_lasso
from tightframe.dictionary.convolutional.convolution import Boundary, Convolution, moved_maps
from tightframe.dictionary.convolutional.descent import unit_kernels
from tightframe.dictionary.convolutional.starts import data_windows, window_energies

# The wide solve only has to settle which shift of which kernel is found; the refit goes on to the tolerance.
_ROUGH = 1e-3
# Wide solves at most: kernels that drifted to the edge of their window are moved back to its middle between them.
_TURNS = 5
# A kernel nearer to the edge of its wide window than this share of its size may continue beyond it.
_MARGIN = 0.25
# A wide kernel with a larger share of its energy outside a window of its size is likely several copies in one.
_SPREAD = 0.05


def lifted_bilinear_lasso(
    signals: Tensor,
    kernels: Tensor,
    *,
    alpha: float,
    boundary: Boundary = "circular",
    homotopy: bool = True,
    reweightings: int = 0,
    tolerance: float = 1e-4,
    max_iterations: int = 2000,
    **options: Any,
) -> Solution:
    r"""`bilinear_lasso` for kernels of unknown place: solved in windows of 3 p - 2, cropped to p, and solved again.

    A random start is near a shift of a kernel rather than the kernel, and a window of its size would cut that shift
    off; in a window of 3 p - 2 every shift that meets the start fits. Each kernel is then cropped to the window of its
    size with the largest energy, its map is moved the other way and scaled, and both are fitted again.

    Args:
        signals: y (n, channels, *shape).
        kernels: Where to begin (p, channels, *kernel_shape), of the size wanted.
        alpha: lambda.
        boundary: Of the result; with "valid" the wide solve uses "zero", as its windows reach over the border.
        homotopy: Whether lambda falls to `alpha` in the wide solve.
        reweightings: Rounds of reweighting, after the crop.
        tolerance: Of the refit.
        max_iterations: Of both solves together.
        **options: positive, rank_one, bias, momentum and method of `bilinear_lasso`.

    Returns:
        As `bilinear_lasso`; the trace is that of both, "kernel size" telling them apart.

    Reference: [lau2020short], section 3.1; [kuo2019geometry], section 3, for the size of the window.
    """
    check_count(max_iterations, "max_iterations")
    size = kernels.shape[2:]
    wide = lifted(kernels, signals.shape[2:])
    settings = {"dtype": signals.dtype, "device": signals.device}
    wide_boundary: Boundary = "zero" if boundary == "valid" else boundary
    source = Convolution(signals.shape[2:], wide.shape[2:], boundary=wide_boundary, **settings)
    target = Convolution(signals.shape[2:], size, boundary=boundary, **settings)
    solve = partial(bilinear_lasso, signals, alpha=alpha, **options)
    search = partial(solve, boundary=wide_boundary, tolerance=max(_ROUGH, tolerance))
    traces, maps, spent = [], None, 0
    for turn in range(_TURNS):
        most = max(1, max_iterations - spent)
        found = search(wide, maps=maps, homotopy=homotopy and turn == 0, max_iterations=most)
        traces.append(found.trace)
        spent += found.trace["step"][-1]
        if found.status.outcome == "diverged":
            return found
        wide, maps, cut = recentred(found.kernels, found.maps, size, operator=source)
        # What is begun again below need not be settled first.
        if not set(cut) - set(_overflowing(wide, size)) or spent >= max_iterations:
            break
    renewed = renewed_spread(wide, maps, signals, size, operator=source) if spent < max_iterations else None
    if renewed is not None:
        trial = search(renewed[0], maps=renewed[1], max_iterations=max(1, max_iterations - spent))
        traces.append(trial.trace)
        spent += trial.trace["step"][-1]
        if trial.objective < found.objective:
            wide, maps, _ = recentred(trial.kernels, trial.maps, size, operator=source)
    kernels, maps = cropped(wide, maps, source=source, target=target)
    refit = solve(
        kernels,
        maps=maps,
        boundary=boundary,
        reweightings=reweightings,
        tolerance=tolerance,
        max_iterations=max(1, max_iterations - spent),
    )
    trace = _joined([(trace, wide[0, 0].numel()) for trace in traces], (refit.trace, kernels[0, 0].numel()))
    return Solution(refit.status, refit.objective, refit.variables, trace)


def lifted(kernels: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Kernels in the middle of windows of 3 p - 2, or of the signals' shape where that is less."""
    places, sizes = [slice(None), slice(None)], []
    for length, limit in zip(kernels.shape[2:], shape, strict=True):
        wide = min(3 * length - 2, limit)
        places.append(slice((wide - length) // 2, (wide - length) // 2 + length))
        sizes.append(wide)
    wide = kernels.new_zeros((*kernels.shape[:2], *sizes))
    wide[tuple(places)] = kernels
    return wide


def cropped(kernels: Tensor, maps: Tensor, *, source: Convolution, target: Convolution) -> tuple[Tensor, Tensor]:
    """Kernels cropped to their windows of largest energy, and maps of the target that place them where they were."""
    size = target.kernel_shape
    small, moved = [], []
    for place, corner in enumerate(_corners(kernels, size)):
        window = kernels[(place, slice(None), *(slice(i, i + k) for i, k in zip(corner, size, strict=True)))]
        norm = torch.linalg.vector_norm(window)
        small.append(window)
        moved.append(moved_maps(maps[:, place], corner, source=source, target=target) * norm)
    return unit_kernels(torch.stack(small)), torch.stack(moved, 1)


def recentred(
    kernels: Tensor, maps: Tensor, size: tuple[int, ...], *, operator: Convolution
) -> tuple[Tensor, Tensor, list[int]]:
    """Kernels moved so that their windows of largest energy are in the middle, maps moved the other way.

    Returns:
        Kernels, maps, and which kernels lay so near an edge that a part of them may be cut off.
    """
    corners = _corners(kernels, size)
    middle = [(wide - length) // 2 for wide, length in zip(kernels.shape[2:], size, strict=True)]
    kernels, maps, cut = kernels.clone(), maps.clone(), []
    for place, corner in enumerate(corners):
        shift = [there - here for there, here in zip(middle, corner, strict=True)]
        if not any(shift):
            continue
        if any(abs(amount) > there - _MARGIN * k for amount, there, k in zip(shift, middle, size, strict=True)):
            cut.append(place)
        moved = _displaced(kernels[place], shift)
        norm = torch.linalg.vector_norm(moved)
        kernels[place] = moved / norm
        back = [-amount for amount in shift]
        maps[:, place] = moved_maps(maps[:, place], back, source=operator, target=operator) * norm
    return kernels, maps, cut


def renewed_spread(
    kernels: Tensor, maps: Tensor, signals: Tensor, size: tuple[int, ...], *, operator: Convolution
) -> tuple[Tensor, Tensor] | None:
    """Kernels that overflow a window of their size, where most do not, begun again at what those leave of the signals.

    None where there are none, or too many for it to be an accident.
    """
    spread = _overflowing(kernels, size)
    if not spread:
        return None
    kernels, maps = kernels.clone(), maps.clone()
    maps[:, spread] = 0
    left = signals - operator.synthesize(kernels, maps)
    kernels[spread] = lifted(data_windows(left, len(spread), size), signals.shape[2:])
    return kernels, maps


def _overflowing(kernels: Tensor, size: tuple[int, ...]) -> list[int]:
    """Which kernels overflow a window of their size; none if most do."""
    inside = window_energies(kernels.square().sum(1, dtype=torch.float64), size).flatten(1).amax(1)
    spread = (inside < 1 - _SPREAD).nonzero()[:, 0].tolist()
    return spread if len(spread) <= len(kernels) // 2 else []


def _corners(kernels: Tensor, size: tuple[int, ...]) -> list[list[int]]:
    """First index of each kernel's window of largest energy."""
    energies = window_energies(kernels.square().sum(1, dtype=torch.float64), size)
    return torch.stack(torch.unravel_index(energies.flatten(1).argmax(1), energies.shape[1:]), 1).tolist()


def _displaced(values: Tensor, shift: list[int]) -> Tensor:
    """Values moved along their last axes, with zeros behind them."""
    moved, into, out = torch.zeros_like(values), [...], [...]
    for amount, length in zip(shift, values.shape[-len(shift) :], strict=True):
        into.append(slice(max(amount, 0), length + min(amount, 0)))
        out.append(slice(max(-amount, 0), length - max(amount, 0)))
    moved[tuple(into)] = values[tuple(out)]
    return moved


def _joined(first: list[tuple[Trace, int]], last: tuple[Trace, int]) -> Trace:
    joined, step, seconds = Trace(), 0, 0.0
    for trace, size in [*first, last]:
        for row in trace:
            values = {name: value for name, value in row.items() if name != "step"}
            values["seconds"] += seconds
            joined.record(step + int(row["step"]), {**values, "kernel size": size})
        step, seconds = joined["step"][-1], joined["seconds"][-1]
    return joined
