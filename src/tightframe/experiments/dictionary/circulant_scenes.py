"""Samples of random kernels, preconditioned over all shifts, and the landscape of fourth powers around points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tightframe.core.errors import DegenerateError, InputError
from tightframe.core.linalg import unit_rows
from tightframe.core.rng import generator
from tightframe.data.sparse import sparse_codes
from tightframe.dictionary.convolutional.starts import random_kernels
from tightframe.dictionary.linear.precondition import tightness_deviation
from tightframe.runs.record import Cell as Value

Row = dict[str, Value]

SAME = 0.9
"""Cosine at some shift from which on two directions count as one kernel."""
# A path whose direction changes by less stands still.
_SETTLED = 1e-9


@dataclass(frozen=True)
class Cell:
    """One set of samples, and the starts that are tried on it.

    Args:
        length: n, of samples and kernels alike, circular.
        kernels: K.
        signals: Samples.
        density: theta, of the activations of each kernel.
        seed: Of everything random.
        starts: Starts of either kind.
        steps: Power iterations from each.
        searched: Critical points sought from the first starts of either kind.
        refined: Samples used by the refinement.
        drawn: Whether kernels and paths are kept, for figures.
    """

    length: int
    kernels: int
    signals: int
    density: float
    seed: int
    starts: int
    steps: int
    searched: int
    refined: int
    drawn: bool = False

    def __post_init__(self) -> None:
        if min(self.length, self.kernels, self.signals, self.starts, self.steps) < 1:
            raise InputError("sizes of at least one", got=repr(self), remedy="Raise them.")

    @property
    def plain(self) -> Row:
        """What tells cells apart, for tables."""
        return {"length": self.length, "kernels": self.kernels, "density": self.density, "seed": self.seed}


class Scene:
    r"""Samples of random kernels, preconditioned, and the frame that the preconditioner makes of all their shifts.

    .. math:: y_i = \sum_k a_k \circledast x_{ik}, \qquad
        P = \Big(\frac{1}{\theta n p K} \sum_i C_{y_i} C_{y_i}^\top\Big)^{-1/2}, \qquad
        A = P\,[C_{a_1}, \dots, C_{a_K}]

    where C_y holds all shifts of y; P is circulant, so that it is a filter. Rows of `atoms` (nK, n) are columns of A.

    Reference: [qu2020geometric], section 3.
    """

    def __init__(self, cell: Cell) -> None:
        n, source = cell.length, generator(cell.seed)
        self.cell: Cell = cell
        self.kernels: Tensor = random_kernels(cell.kernels, 1, (n,), seed=cell.seed)[:, 0]
        codes = sparse_codes((cell.signals, cell.kernels, n), cell.density, seed=source)
        self.signals: Tensor = _filtered(torch.fft.rfft(self.kernels), codes).sum(1)
        spectra = torch.fft.rfft(self.signals)
        power = spectra.abs().square().mean(0) / (cell.density * n * cell.kernels)
        if not float(power.min()) > 0:
            raise DegenerateError(
                "samples with every frequency", got="silence at some", remedy="Raise signals or density."
            )
        self.filter: Tensor = power.rsqrt()
        self.spectra: Tensor = spectra * self.filter
        moved = _filtered(self.filter, self.kernels)
        self.atoms: Tensor = torch.cat([torch.stack([row.roll(shift) for shift in range(n)]) for row in moved])
        cosines = unit_rows(self.atoms) @ unit_rows(self.atoms).T
        self.coherence: float = float(cosines.fill_diagonal_(0).abs().max())
        self.tightness: float = tightness_deviation(self.atoms)

    def starts(self, kind: str) -> Tensor:
        """Unit vectors (starts, n): preconditioned samples that are not silent ("data"), or uniform ("random")."""
        cell = self.cell
        if kind == "random":
            return random_kernels(cell.starts, 1, (cell.length,), seed=cell.seed + 1)[:, 0]
        heard = torch.fft.irfft(self.spectra, n=cell.length)
        heard = heard[heard.square().sum(1) > 0]
        if len(heard) < cell.starts:
            raise DegenerateError(
                f"{cell.starts} samples that are not silent", got=f"{len(heard)}", remedy="Raise signals or density."
            )
        return unit_rows(heard[: cell.starts])

    def gradient(self, directions: Tensor) -> Tensor:
        """Of a quarter of the mean fourth power of all shifts' products with q (b, n), for preconditioned samples."""
        n, slopes = self.cell.length, []
        for spectrum in torch.fft.rfft(directions):
            cubes = torch.fft.irfft(self.spectra * spectrum.conj(), n=n).pow(3)
            total = (self.spectra * torch.fft.rfft(cubes).conj()).sum(0)
            slopes.append(torch.fft.irfft(total, n=n))
        return torch.stack(slopes) / self.signals.numel()

    def deflated_gradient(self, found: Tensor) -> Callable[[Tensor], Tensor]:
        r"""The same less what Gaussian data of this covariance give, and less all shifts of the directions found.

        .. math:: g(q) - 3 c^2 q - \sum_k \kappa_k \sum_s \langle f_{ks}, q\rangle^3 f_{ks}

        where f_ks (n,) is f_k moved by s, c the variance of preconditioned entries and kappa_k the cumulant along f_k.
        """
        gaussian = 3 * float(torch.fft.irfft(self.spectra, n=self.cell.length).square().mean()) ** 2
        weights = (self.gradient(found) * found).sum(1) - gaussian
        moved = torch.cat([torch.stack([row.roll(s) for s in range(len(row))]) for row in found])
        each = weights.repeat_interleave(found.shape[1])

        def slopes(q: Tensor) -> Tensor:
            return self.gradient(q) - gaussian * q - ((q @ moved.T).pow(3) * each) @ moved

        return slopes

    def paths(self, starts: Tensor, gradient: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Power iterations (steps + 1, b, n); those that have settled stand still."""
        gradient = gradient or self.gradient
        points, moving = [starts], torch.ones(len(starts), dtype=torch.bool)
        for _ in range(self.cell.steps):
            before, after = points[-1], points[-1].clone()
            if bool(moving.any()):
                after[moving] = unit_rows(gradient(before[moving]))
            moving = moving & (torch.linalg.vector_norm(after - before, dim=1) > _SETTLED)
            points.append(after)
        return torch.stack(points)

    def kernels_of(self, directions: Tensor) -> Tensor:
        """Unit kernels (b, n) whose preconditioned images the directions are."""
        return unit_rows(_filtered(1 / self.filter, directions))


def landscape_of(atoms: Tensor, points: Tensor, coherence: float) -> dict[str, Tensor]:
    r"""Where points are in the landscape of -|A^T q|_4^4 / 4, which is what the samples' objective expects.

    .. math:: \xi(q) = \frac{\|A^\top q\|_4^4}{\mu^{2/3} \|A^\top q\|_3^2}

    is the depth in the regions {xi(q) >= xi} of the theory; all columns with cosines near 1 are deep.

    Args:
        atoms: Columns of A, one per row (m, n).
        points: Unit vectors (b, n).
        coherence: mu.

    Returns:
        By point: "depth" xi; "gap" 1 - |cosine| with the nearest column; "column", its index; "curvature", least
        eigenvalue of the Riemannian Hessian over |A^T q|_4^4; "slope", norm of the Riemannian gradient over the same.

    Reference: [qu2020geometric], section 3, for the regions.
    """
    inner = points @ atoms.T
    fourth = inner.pow(4).sum(1)
    depth = fourth / (coherence ** (2 / 3) * inner.abs().pow(3).sum(1).pow(2 / 3))
    cosines = (points @ unit_rows(atoms).T).abs()
    best, column = cosines.max(1)
    slopes = inner.pow(3) @ atoms - fourth[:, None] * points
    hessians = fourth[:, None, None] * torch.eye(atoms.shape[1]).to(atoms)
    hessians = hessians - 3 * torch.einsum("bm,mi,mj->bij", inner.square(), atoms, atoms)
    tangent = torch.eye(atoms.shape[1]).to(atoms) - points[:, :, None] * points[:, None]
    # The radial direction is no direction on the sphere: it gets an eigenvalue above the others.
    bound = hessians.abs().sum(2).amax(1)[:, None, None]
    hessians = tangent @ hessians @ tangent + bound * points[:, :, None] * points[:, None]
    curvature = torch.linalg.eigvalsh(hessians)[:, 0] / fourth
    slope = torch.linalg.vector_norm(slopes, dim=1) / fourth
    return {"depth": depth, "gap": (1 - best).clamp(min=0), "column": column, "curvature": curvature, "slope": slope}


def circular_similarity(found: Tensor, truth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r"""Largest |cosine| (p, q) of vectors over circular shifts, the shift that moves the true one there, and the sign.

    Args:
        found: (p, n).
        truth: (q, n).
    """
    spectra = torch.fft.rfft(unit_rows(found))[:, None] * torch.fft.rfft(unit_rows(truth)).conj()
    inner = torch.fft.irfft(spectra, n=found.shape[1])
    best, shift = inner.abs().max(2)
    return best.clamp(max=1), shift, inner.gather(2, shift[:, :, None])[:, :, 0].sign()


def distinct_shifts(directions: Tensor, values: Tensor, count: int) -> Tensor:
    """Indices of at most `count` directions that are no shifts of each other, those of the largest values first."""
    chosen: list[int] = []
    for place in values.argsort(descending=True).tolist():
        candidate = directions[place : place + 1]
        if len(chosen) < count and (
            not chosen or float(circular_similarity(candidate, directions[chosen])[0].max()) < SAME
        ):
            chosen.append(place)
    return torch.tensor(chosen)


def _filtered(response: Tensor, values: Tensor) -> Tensor:
    return torch.fft.irfft(torch.fft.rfft(values) * response, n=values.shape[-1])
