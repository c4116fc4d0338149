"""A wide network and its compressed forms, taken through the same steps side by side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Tensor

from tightframe.core.rng import generator
from tightframe.core.threads import threads_for
from tightframe.deeplinear.compression import compress
from tightframe.deeplinear.descent import ChainDescent, Settings
from tightframe.deeplinear.invariance import decompose
from tightframe.deeplinear.network import DeepLinearNetwork
from tightframe.deeplinear.objective import Factorization
from tightframe.deeplinear.stability import stable_step
from tightframe.runs.record import Cell

Row = dict[str, Cell]

ORIGINAL, COMPRESSED, LARGER = "original", "compressed", "compressed, rank 2r"
DRAWN, REDUCED = "compressed, no original", "reduced to 2r x 2r"

# Components of the target along which trajectories are drawn.
_AXES = 3


@dataclass(frozen=True)
class Size:
    """A factorisation.

    Args:
        width: d of the target and of all layers.
        rank: r of the target, the product of two Gaussian factors over r; at most d / 4.
        depth: L.
        scale: epsilon.
        steps: At most so many.
        step: As a share of 2 / ||Hessian|| at the minimum.
        every: Steps between two looks.
        tolerance: Of half the mean squared error, at which to stop.
        faster: How many times as fast as the original the compressed network is claimed to be.
        seed: Of target and start.
    """

    width: int
    rank: int
    depth: int
    scale: float
    steps: int
    step: float = 0.5
    every: int = 10
    tolerance: float = 1e-10
    faster: float = 1.0
    seed: int = 0

    @property
    def name(self) -> str:
        """In tables and figures."""
        return f"d = {self.width}, r = {self.rank}, L = {self.depth}, eps = {self.scale:g}"


class Racer:
    """A descent on its way, and the time it takes.

    Args:
        name: In tables and figures.
        chain: The descent.
        lift: From the product of its layers to the matrix (d, d) that it stands for.
        multiplications: Of its largest product.
    """

    def __init__(self, name: str, chain: ChainDescent, lift: Callable[[Tensor], Tensor], multiplications: int) -> None:
        self.name: str = name
        self._chain, self._lift, self._size = chain, lift, multiplications
        self.seconds: float = 0.0
        self.finished: int = 0

    def advance(self, steps: int) -> None:
        """Take so many steps; the clock stands still once it has finished."""
        began = perf_counter()
        with threads_for(self._size), torch.no_grad():
            self._chain.advance(steps)
        if not self.finished:
            self.seconds += perf_counter() - began

    def product(self) -> Tensor:
        """The end-to-end matrix (d, d)."""
        return self._lift(self._chain.products()[-1])

    @property
    def parameters(self) -> int:
        """Numbers that move or stay in its layers."""
        return sum(weight.numel() for weight in self._chain.weights)


def race(size: Size) -> tuple[list[Row], list[Row]]:
    """Train all networks to the tolerance: what each took, and the course of each beside the original."""
    target = _target(size)
    objective = Factorization(target)
    racers = _racers(size, objective)
    U, S, Vh = torch.linalg.svd(target)
    norm = float(torch.linalg.vector_norm(S))
    entries, rho, course = size.width**2, size.scale, []
    farthest, off_law = ({racer.name: 0.0 for racer in racers if racer.name != DRAWN} for _ in range(2))
    step = size.step * stable_step(objective, depth=size.depth)
    for taken in range(0, size.steps + 1, size.every):
        if taken:
            for racer in racers:
                racer.advance(size.every)
            for _ in range(size.every):
                rho -= step * rho ** (2 * size.depth - 1)
        products = {racer.name: racer.product() for racer in racers}
        for racer in racers:
            W = products[racer.name]
            loss = objective.value(W) / entries
            apart = float(torch.linalg.matrix_norm(W - products[ORIGINAL]))
            law = _tail(size, rho, racer.name)
            if racer.name in farthest:
                farthest[racer.name] = max(farthest[racer.name], apart)
                off_law[racer.name] = max(off_law[racer.name], abs(apart - law) / norm)
            if loss <= size.tolerance and not racer.finished:
                racer.finished = taken
            along = torch.einsum("ia,ij,aj->a", U[:, :_AXES], W, Vh[:_AXES]) / S[0]
            course.append(
                {
                    "size": size.name,
                    "network": racer.name,
                    "step": taken,
                    "loss": loss,
                    "seconds": racer.seconds,
                    "running": 0 < taken <= (racer.finished or taken),
                    "distance": apart if racer.name in (COMPRESSED, LARGER, REDUCED) else None,
                    "law": law if racer.name in (COMPRESSED, LARGER, REDUCED) else None,
                    **{f"component {i + 1}": float(along[i]) for i in range(len(along))},
                }
            )
        if all(racer.finished for racer in racers):
            break
    rows = [
        {
            "size": size.name,
            "network": racer.name,
            "parameters": racer.parameters,
            "iterations": racer.finished or None,
            "seconds": racer.seconds if racer.finished else None,
            "bound, relative": _tail(size, size.scale, racer.name) / norm,
            "farthest, relative": farthest[racer.name] / norm if racer.name in farthest else None,
            "off the law, relative": off_law.get(racer.name),
        }
        for racer in racers
    ]
    return rows, course


def _tail(size: Size, rho: float, name: str) -> float:
    """rho^L times the norm of the isometry that the network leaves out."""
    inside = {ORIGINAL: size.width, LARGER: 4 * size.rank}.get(name, 2 * size.rank)
    return rho**size.depth * (size.width - inside) ** 0.5


def _racers(size: Size, objective: Factorization) -> list[Racer]:
    d, depth = size.width, size.depth
    settings = Settings(size.step * stable_step(objective, depth=depth))
    network = DeepLinearNetwork((d,) * (depth + 1), scale=size.scale, seed=size.seed)
    kept = {"depth": depth, "scale": size.scale, "gamma": 0.0}
    compressed = {
        COMPRESSED: compress(objective, rank=size.rank, network=network, **kept),
        LARGER: compress(objective, rank=2 * size.rank, network=network, **kept),
        DRAWN: compress(objective, rank=size.rank, seed=size.seed + 1, **kept),
    }
    racers = [Racer(ORIGINAL, ChainDescent(network.weights, objective, settings, network.rates), _same, d**3)]
    for name, small in compressed.items():
        chain = ChainDescent(small.weights, objective, settings, small.rates)
        racers.append(Racer(name, chain, _same, d * d * small.widths[1]))
    frames = decompose(network, objective, rank=size.rank)
    chain = ChainDescent(frames.starts, Factorization(frames.target), settings, [1.0] * depth)
    racers.append(Racer(REDUCED, chain, lambda inner: frames.left @ inner @ frames.right.T, (2 * size.rank) ** 3))
    return racers


def _same(product: Tensor) -> Tensor:
    return product


def _target(size: Size) -> Tensor:
    draws = generator(size.seed)
    left, right = (torch.randn(size.width, size.rank, generator=draws, dtype=torch.float64) for _ in range(2))
    return left @ right.T / size.rank
