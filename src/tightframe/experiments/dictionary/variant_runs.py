"""One signal of one kernel, or several: the bilinear Lasso with and without each of its caveats, step by step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.core.solution import Solution
from tightframe.data.sparse import Values, sparse_codes
from tightframe.dictionary.convolutional.bilinear import bilinear_lasso
from tightframe.dictionary.convolutional.convolution import Convolution
from tightframe.dictionary.convolutional.descent import unit_kernels
from tightframe.dictionary.convolutional.lifting import lifted, lifted_bilinear_lasso
from tightframe.dictionary.convolutional.shifts import match_kernels
from tightframe.dictionary.convolutional.starts import data_windows, random_kernels
from tightframe.runs.record import Cell as Value

Row = dict[str, Value]

_MOMENTUM, _ROUNDS = 0.97, 5
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "plain": {"momentum": 0.0},
    "inertial": {"momentum": _MOMENTUM},
    "homotopy": {"momentum": 0.0, "homotopy": True},
    "inertial homotopy": {"momentum": _MOMENTUM, "homotopy": True},
    "reweighting": {"momentum": 0.0, "reweightings": _ROUNDS},
    "all": {"momentum": _MOMENTUM, "homotopy": True, "reweightings": _ROUNDS},
    "all, no lift": {"momentum": _MOMENTUM, "homotopy": True, "reweightings": _ROUNDS},
}
"""Arguments of `bilinear_lasso` by the name of the variant."""
ALL_PASS, LOW_PASS = ("random",), ("AR(2)", "gaussian")
SUCCESS = 0.99
"""Correlation with a shift of the kernel from which on it counts as found, as in the source's phase transitions."""
# Poles of the autoregression, and standard deviation of the Gaussian, for kernels of 100 entries.
_POLES, _WIDTH = (0.95, 0.8), 10.0


@dataclass(frozen=True)
class Cell:
    """One signal and how it is deconvolved.

    Args:
        kernel: "random", "AR(2)" or "gaussian".
        count: Kernels; several only for random ones.
        length: n, of a kernel.
        size: m, of the signal.
        density: theta, of each kernel's activations.
        values: Distribution of the activations.
        noise: Standard deviation of the noise.
        alpha: lambda.
        precision: The objective counts as reached within this share of the least one.
        tolerance: Relative change of an iteration at which a solve ends.
        budget: Iterations at most.
        seed: Of everything random.
        drawn: Whether errors along the way are kept, for figures; doubles the time.
    """

    kernel: str
    count: int
    length: int
    size: int
    density: float
    values: Values
    noise: float
    alpha: float
    precision: float
    tolerance: float
    budget: int
    seed: int
    drawn: bool = False

    @property
    def plain(self) -> Row:
        """What tells cells apart, for tables."""
        return {"kernel": self.kernel, "seed": self.seed}


def true_kernels(name: str, count: int, length: int, *, seed: int = 0) -> Tensor:
    r"""Unit kernels (p, 1, n): independent and uniform on the sphere, a smooth transient, or a bell.

    .. math:: a_t \propto \rho_1^{t + 1} - \rho_2^{t + 1}, \qquad a_t \propto e^{-(t - (n - 1) / 2)^2 / (2 w^2)}

    Poles rho and width w are those of 100 entries, stretched to n.

    Raises:
        InputError: Another name, or several kernels that are not random.
    """
    if name not in (*ALL_PASS, *LOW_PASS) or (count != 1 and name not in ALL_PASS):
        raise InputError(
            f"one kernel of {', '.join((*ALL_PASS, *LOW_PASS))}, or several random ones",
            got=f"{count} of kind {name!r}",
            remedy="Choose one.",
        )
    if name == "random":
        return random_kernels(count, 1, (length,), seed=seed)
    time = torch.arange(length, dtype=torch.float64)
    if name == "AR(2)":
        slow, fast = (pole ** (100 / length) for pole in _POLES)
        kernel = slow ** (time + 1) - fast ** (time + 1)
    else:
        kernel = torch.exp(-0.5 * ((time - (length - 1) / 2) / (_WIDTH * length / 100)).square())
    return unit_kernels(kernel.view(1, 1, -1))


def spectral_flatness(kernel: Tensor, size: int) -> float:
    """Geometric over arithmetic mean of the kernel's power spectrum at the frequencies of a signal of this size."""
    power = torch.fft.rfft(kernel.flatten(), n=size).abs().square().clamp(min=torch.finfo(kernel.dtype).tiny)
    return float(power.log().mean().exp() / power.mean())


def observed(cell: Cell) -> tuple[Tensor, Tensor]:
    """Signal (1, 1, m) and true kernels (p, 1, n)."""
    source = generator(cell.seed)
    truth = true_kernels(cell.kernel, cell.count, cell.length, seed=cell.seed)
    codes = sparse_codes((1, cell.count, cell.size), cell.density, values=cell.values, seed=source)
    operator = Convolution((cell.size,), (cell.length,), dtype=torch.float64)
    signal = operator.synthesize(truth, codes)
    return signal + cell.noise * torch.randn(signal.shape, generator=source, dtype=torch.float64), truth


def compare(cell: Cell) -> dict[str, list[Row]]:
    """Rows of the tables "runs" and "convergence": every variant on one signal of one kernel."""
    signal, truth = observed(cell)
    flatness = spectral_flatness(truth, cell.size)
    found = {name: _solved(cell, signal, name) for name in VARIANTS}
    comparable = [name for name, options in VARIANTS.items() if "reweightings" not in options]
    target = (1 + cell.precision) * min(found[name].objective for name in comparable)
    runs, curves = [], []
    for name, solution in found.items():
        step, seconds = _reached(solution, cell.alpha, target) if name in comparable else (None, None)
        error = _error(solution, truth)
        runs.append(
            {
                **cell.plain,
                "variant": name,
                "flatness": flatness,
                "error": error,
                "found": error <= (2 - 2 * SUCCESS) ** 0.5,
                "objective": solution.objective if name in comparable else None,
                "steps": solution.trace["step"][-1],
                "seconds": solution.trace["seconds"][-1],
                "steps to target": step,
                "seconds to target": seconds,
                "outcome": solution.status.outcome,
            }
        )
        curves += [] if not cell.drawn else _curve(cell, signal, truth, name, solution)
    return {"runs": runs, "convergence": curves}


def recover(cell: Cell) -> Row:
    """Several kernels at once, by the lifted solve with all its caveats."""
    signal, truth = observed(cell)
    found = lifted_bilinear_lasso(
        signal,
        data_windows(signal, cell.count, (cell.length,), seed=cell.seed),
        alpha=cell.alpha,
        reweightings=_ROUNDS,
        positive=_positive(cell),
        tolerance=cell.tolerance,
        max_iterations=2 * cell.budget,
    )
    similarity = match_kernels(found.kernels, truth).similarity
    return {
        "seed": cell.seed,
        "kernels": cell.count,
        "density": cell.density,
        "activations in a window": cell.density * cell.length * cell.count,
        "least similarity": float(similarity.min()),
        "share found": float((similarity >= SUCCESS).double().mean()),
        "steps": found.trace["step"][-1],
        "seconds": found.trace["seconds"][-1],
        "outcome": found.status.outcome,
    }


def _solved(cell: Cell, signal: Tensor, name: str, budget: int | None = None) -> Solution:
    start = data_windows(signal, 1, (cell.length,), seed=cell.seed)
    return bilinear_lasso(
        signal,
        start if "no lift" in name else lifted(start, (cell.size,)),
        alpha=cell.alpha,
        positive=_positive(cell),
        tolerance=cell.tolerance,
        max_iterations=budget or cell.budget,
        **VARIANTS[name],
    )


def _positive(cell: Cell) -> bool:
    return cell.values in ("one", "uniform")


def _error(solution: Solution, truth: Tensor) -> float:
    # Above zero, so that it can be drawn on a logarithmic axis.
    return max(float(match_kernels(solution.kernels, truth).errors.max()), 1e-12)


def _reached(solution: Solution, alpha: float, target: float) -> tuple[int | None, float | None]:
    """First step, and seconds, at which the objective of the final penalty is at most the target."""
    for row in solution.trace:
        if row["alpha"] == alpha and row["objective"] <= target:
            return int(row["step"]), row["seconds"]
    return None, None


def _curve(cell: Cell, signal: Tensor, truth: Tensor, name: str, solution: Solution) -> list[Row]:
    """The error at growing numbers of steps; a solve is deterministic, so that a shorter one ends on the longer's path.

    Times are those of the whole solve.
    """
    last = int(solution.trace["step"][-1])
    seconds = dict(zip(solution.trace["step"], solution.trace["seconds"], strict=True))
    rows, step = [], 1
    while step < last:
        shorter = _solved(cell, signal, name, step)
        rows.append({"step": step, "error": _error(shorter, truth)})
        step *= 2
    rows.append({"step": last, "error": _error(solution, truth)})
    return [{**cell.plain, "variant": name, **row, "seconds": seconds[row["step"]]} for row in rows]
