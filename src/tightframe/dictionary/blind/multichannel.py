"""Multichannel blind deconvolution: one kernel, invertible and as long as the signals, under many sparse inputs."""

from __future__ import annotations

import math
import time
import warnings
from typing import Literal, get_args

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from tightframe.core.checks import check_count
from tightframe.core.errors import DegenerateError, InputError
from tightframe.core.rng import generator
from tightframe.core.solution import Certificate, Solution, Status, Trace
from tightframe.core.typing import Float
from tightframe.dictionary.blind.rounding import l1_certificate, l1_rounding

Loss = Literal["huber", "l1", "l3", "l4"]
Signals = Float[Tensor, "p *shape"]

# Frequencies of less than this share of the mean power carry no kernel: they are left out, not amplified.
_SILENT = 1e-12
# Recovery counts as exact where the activations have this many times the zeros that any vertex of the polytope has.
_ZEROS = 2.0
# Kurtosis below which activations that are not exact are hardly sparser than Gaussian noise, which has 3; recoveries
# of half-full Gaussian activations have 6, and failures with many channels about 4.
_DENSE = 4.5


def deconvolve_channels(
    signals: Signals,
    *,
    loss: Loss = "huber",
    mu: float = 0.3,
    n_starts: int = 5,
    max_iterations: int = 100,
    rounding: int = 300,
    seed: int = 0,
) -> Solution:
    r"""The kernel common to many signals and their sparse activations, by descent on the sphere and l1 rounding.

    .. math:: y_i = a \circledast x_i, \qquad
        \min_{\|q\| = 1} \frac{1}{np} \sum_{i=1}^{p} \sum_j h_\mu\big((y_i \circledast v \circledast q)_j\big),
        \qquad \hat v = \Big(\frac{1}{np} \sum_i |\hat y_i|^2\Big)^{-1/2}

    where
        y_i (*shape,) are the `signals` (p, *shape), of n points each, circular; v whitens them, after which a shift of
        the inverse of the kernel minimises the loss: h is the Huber function (`loss="huber"`), the modulus ("l1"), or
        -|z|^3 and -z^4, which are minimised by power iterations.

    Descent ends near the solution, by a distance of the order of mu (and much further for l3 and l4); `l1_rounding`
    then goes to it exactly. Starts are tried until the activations have more zeros than chance gives them, and where
    none does (noise) the lowest l1 norm wins. For kernels much shorter than the signal, or a single signal, use
    `ShortAndSparseDeconvolution`.

    Args:
        signals: (p, *shape), p >= 2, float32 or float64, any number of axes.
        loss: "huber" needs the fewest channels, l4 the most.
        mu: Where the Huber function turns from square to modulus, in units of the root mean square of whitened data.
        n_starts: Starts at most.
        max_iterations: Steps of descent per start; twice as many for "l1".
        rounding: Steps of rounding per start; 0 leaves it out.
        seed: Seed of the starts.

    Returns:
        Solution with "kernel" (*shape,) of unit norm, its largest entry first and positive; "activations" (p, *shape);
        and "inverse" (*shape,), the filter that turns signals into activations. The trace has "objective" (mean l1 norm
        of whitened activations) of each "start", "seconds", "zeros" and "kurtosis". Its certificate is that of the
        rounding.

    Raises:
        InputError: One signal, an unknown loss, mu not above zero.
        DegenerateError: Signals that are all zero.

    Reference: [qu2019nonconvex], algorithm 1 and section 3; the norm l3: [shen2020complete].
    """
    _check(signals, loss, mu)
    run = _Channels(signals, loss, mu)
    trace, began, best = Trace(), time.perf_counter(), None
    source = generator(seed)
    for number in range(check_count(n_starts, "n_starts")):
        q = run.descended(run.start(source), max_iterations)
        if rounding:
            found = l1_rounding(run.apply, run.adjoint, q, max_iterations=rounding)
            candidate = (found.objective, q, found.q / torch.linalg.vector_norm(found.q), found.status)
        else:
            candidate = (0.0, q, q, Status("converged", "descent without rounding"))
        row = run.measured(candidate[2])
        trace.record(number, row | {"seconds": time.perf_counter() - began})
        if best is None or row["objective"] < best[0]:
            best = (row["objective"], row, *candidate[1:])
        if rounding and row["zeros"] * len(signals) > _ZEROS:
            break
    _, row, reference, q, status = best
    certificate = l1_certificate(run.apply, run.adjoint, reference, q) if rounding else None
    return run.solution(q, row, status, trace, certificate)


class _Channels:
    """Whitened signals in Fourier space, and the loss of a filter on them."""

    def __init__(self, signals: Signals, loss: Loss, mu: float) -> None:
        self.signals, self.loss, self.mu = signals, loss, mu
        self.shape, self.axes = signals.shape[1:], tuple(range(1, signals.ndim))
        spectra = torch.fft.rfftn(signals, dim=self.axes)
        power = spectra.abs().square().mean(0) / math.prod(self.shape)
        loudest = power.amax()
        if not float(loudest) > 0:
            raise DegenerateError("signals that are not all zero", got="zeros only", remedy="Check how they were read.")
        heard = power > _SILENT * power.mean()
        self.whitener = torch.where(heard, power, 1.0).rsqrt() * heard
        self.spectra = spectra * self.whitener

    def start(self, source: torch.Generator) -> Tensor:
        drawn = torch.randn(self.shape, generator=source, dtype=torch.float64).to(self.signals)
        # Without the silent frequencies, which no signal would correct.
        axes = tuple(range(drawn.ndim))
        spectrum = torch.fft.rfftn(drawn, dim=axes) * (self.whitener > 0)
        return _unit(torch.fft.irfftn(spectrum, s=self.shape, dim=axes))

    def apply(self, q: Tensor) -> Tensor:
        """Whitened signals convolved with q, (p, *shape)."""
        spectrum = torch.fft.rfftn(q, dim=tuple(range(q.ndim)))
        return torch.fft.irfftn(self.spectra * spectrum, s=self.shape, dim=self.axes)

    def adjoint(self, values: Tensor) -> Tensor:
        """Transpose of `apply`, (*shape,)."""
        spectra = torch.fft.rfftn(values, dim=self.axes)
        total = (self.spectra.conj() * spectra).sum(0)
        return torch.fft.irfftn(total, s=self.shape, dim=tuple(range(total.ndim)))

    def descended(self, q: Tensor, iterations: int) -> Tensor:
        check_count(iterations, "max_iterations")
        if self.loss in ("l3", "l4"):
            return self._powered(q, iterations)
        return self._descended(q, iterations * (2 if self.loss == "l1" else 1))

    def _powered(self, q: Tensor, iterations: int) -> Tensor:
        """Power iterations for the norms that are maximised: q becomes the normalised gradient."""
        for number in range(iterations):
            values = self.apply(q)
            powers = values * values.abs() if self.loss == "l3" else values**3
            before, q = q, _unit(self.adjoint(powers))
            # The test waits for the device, so it is made now and then.
            if number % 10 == 9 and float((q - before).abs().amax()) < 1e-6:
                break
        return q

    def _descended(self, q: Tensor, iterations: int) -> Tensor:
        """Riemannian gradient descent; the step doubles where it lowered the loss enough, and is halved where not."""
        step, count = torch.ones((), dtype=q.dtype, device=q.device), self.spectra.shape[0] * q.numel()
        values = self.apply(q)
        level, slope = self._huber(values)
        gradient = _tangent(q, self.adjoint(slope) / count)
        for number in range(iterations):
            energy = gradient.square().sum()
            candidate = _unit(q - step * gradient)
            values = self.apply(candidate)
            reached, slope = self._huber(values)
            accepted = reached <= level - 1e-3 * step * energy
            onward = _tangent(candidate, self.adjoint(slope) / count)
            q, gradient = torch.where(accepted, candidate, q), torch.where(accepted, onward, gradient)
            level = torch.where(accepted, reached, level)
            step = torch.where(accepted, 2 * step, 0.5 * step)
            if number % 10 == 9 and float(step * energy.sqrt()) < 1e-6:
                break
        return q

    def _huber(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Mean loss and its derivative by the values."""
        if self.loss == "l1":
            return values.abs().mean(), values.sign()
        slope = (values / self.mu).clamp(-1, 1)
        size = values.abs()
        loss = torch.where(size >= self.mu, size, 0.5 * self.mu + values.square() / (2 * self.mu))
        return loss.mean(), slope

    def measured(self, q: Tensor) -> dict[str, float]:
        """What tells a good filter from a bad one, of its activations in units of their root mean square."""
        values = self.apply(q)
        values = values / values.square().mean().sqrt()
        limit = 1e-3 if values.dtype == torch.float32 else 1e-7
        return {
            "objective": float(values.abs().mean()),
            "zeros": float((values.abs() <= limit).double().mean()),
            "kurtosis": float(values.double().pow(4).mean()),
        }

    def solution(
        self, q: Tensor, row: dict[str, float], status: Status, trace: Trace, certificate: Certificate | None
    ) -> Solution:
        axes = tuple(range(q.ndim))
        response = self.whitener * torch.fft.rfftn(q, dim=axes)
        heard = response.abs() > 0
        spectrum = torch.where(heard, 1 / torch.where(heard, response, 1.0), 0.0)
        kernel = torch.fft.irfftn(spectrum, s=self.shape, dim=axes)
        norm = torch.linalg.vector_norm(kernel)
        first = int(kernel.abs().argmax())
        moves = [-int(i) for i in np.unravel_index(first, tuple(kernel.shape))]
        scale = norm * kernel.flatten()[first].sign()
        inverse = torch.fft.irfftn(response, s=self.shape, dim=axes) * scale
        kernel, inverse = (kernel / scale).roll(moves, axes), inverse.roll([-m for m in moves], axes)
        found = {"kernel": kernel, "inverse": inverse, "activations": convolved(self.signals, inverse)}
        exact = row["zeros"] * len(self.signals) > _ZEROS
        return Solution(_judged(status, row, exact), row["objective"], found, trace, certificate)


def _judged(status: Status, row: dict[str, float], exact: bool) -> Status:
    """The status of the rounding, unless the activations are not sparse, of which it knows nothing."""
    if row["kurtosis"] >= _DENSE or exact:
        return status
    message = (
        f"activations are not sparse: kurtosis {row['kurtosis']:.2f}, where noise has 3; more channels or sparser "
        "inputs are needed, or raise n_starts"
    )
    warnings.warn(message, ConvergenceWarning, stacklevel=4)
    return Status("stalled", message)


def _check(signals: Tensor, loss: str, mu: float) -> None:
    if loss not in get_args(Loss):
        raise InputError(f"loss is one of {', '.join(get_args(Loss))}", got=repr(loss), remedy="Choose one.")
    if not 0 < mu < math.inf:
        raise InputError("mu above zero", got=repr(mu), remedy="Use 0.3.")
    if signals.ndim < 2 or len(signals) < 2:
        raise InputError(
            "at least two signals of one kernel",
            got=f"shape {tuple(signals.shape)}, which is one sample",
            remedy="For a single signal and a short kernel use ShortAndSparseDeconvolution.",
        )


def convolved(signals: Tensor, kernel: Tensor) -> Tensor:
    """Circular convolution of every signal with a kernel as long as it."""
    axes = tuple(range(1, signals.ndim))
    spectra = torch.fft.rfftn(signals, dim=axes) * torch.fft.rfftn(kernel, dim=tuple(range(kernel.ndim)))
    return torch.fft.irfftn(spectra, s=signals.shape[1:], dim=axes)


def _unit(q: Tensor) -> Tensor:
    return q / torch.linalg.vector_norm(q)


def _tangent(q: Tensor, vector: Tensor) -> Tensor:
    return vector - q * (q * vector).sum()
