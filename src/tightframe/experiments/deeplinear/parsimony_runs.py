"""One network trained from an orthogonal start, and how far its layers get from the structure of the law."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tightframe.core.rng import generator
from tightframe.core.solution import Solution
from tightframe.deeplinear.descent import recorded_steps
from tightframe.deeplinear.dynamics import simulate
from tightframe.deeplinear.invariance import Deviation, NetworkFrames, decompose
from tightframe.deeplinear.network import DeepLinearNetwork
from tightframe.deeplinear.objective import LeastSquares
from tightframe.deeplinear.reduced import descend_reduced
from tightframe.deeplinear.stability import stable_step
from tightframe.experiments.deeplinear.singular_paths import SingularPaths, follow
from tightframe.geometry.frames import haar_columns
from tightframe.runs.record import Cell

Row = dict[str, Cell]

# Angle in radians from which a singular vector counts as turned.
_TURNED = 1e-6


@dataclass(frozen=True)
class Training:
    """How a network is trained.

    Args:
        name: In tables and figures.
        weight_decay: lambda.
        momentum: mu of the heavy ball.
        algorithm: "gd" or "adam".
    """

    name: str
    weight_decay: float = 0.0
    momentum: float = 0.0
    algorithm: Literal["gd", "adam"] = "gd"


@dataclass(frozen=True)
class Setting:
    """A network, its data and its training.

    Args:
        case: 1 for r outputs, 2 for d outputs and a target of rank r.
        width: d.
        rank: r.
        depth: L.
        scale: epsilon.
        samples: N, at least d.
        inputs: "whitened"; "Gaussian" of entries 1/15 N(0, 1), as published; or "1.2" and the like, singular values
            evenly from 1 to that number.
        training: How.
        step: As a share of 2 / ||Hessian|| at the minimum, or the step itself.
        steps: How many.
        relative: Which of the two `step` is.
        seed: Of data and start.
    """

    case: int
    width: int
    rank: int
    depth: int
    scale: float
    samples: int
    inputs: str
    training: Training
    step: float
    steps: int
    relative: bool = True
    seed: int = 0

    @property
    def name(self) -> str:
        """In tables and figures."""
        data = "whitened" if self.inputs == "whitened" else f"inputs {self.inputs}"
        network = f"case {self.case}, L = {self.depth}, eps = {self.scale:g}"
        return f"{network}, {data}, {self.training.name}"


@dataclass(frozen=True, eq=False)
class Trained:
    """A setting after training.

    Args:
        objective: What was minimised.
        frames: The invariant frames at the start.
        found: Singular values and vectors of every layer at the recorded steps.
        deviations: From the frames at these steps.
        rho: What the recursion of the law says of rho at these steps; None with Adam, for which there is none.
    """

    objective: LeastSquares
    frames: NetworkFrames
    found: Solution
    deviations: tuple[Deviation, ...]
    rho: tuple[float, ...] | None

    @property
    def steps(self) -> list[int]:
        """The recorded ones."""
        return [int(step) for step in self.found.trace["step"]]

    def weights(self, row: int) -> tuple[Tensor, ...]:
        """All layers at a recorded step."""
        return _weights(self.found, self.frames.depth, row)

    def paths(self) -> SingularPaths:
        """Singular triples of the first layer."""
        return follow(self.found.S1, self.found.U1, self.found.V1)


def train(setting: Setting) -> Trained:
    """Train a network as the setting says, and compare it with the frames of its start."""
    objective = _objective(setting)
    outputs = setting.rank if setting.case == 1 else setting.width
    widths = (*(setting.width,) * setting.depth, outputs)
    network = DeepLinearNetwork(widths, scale=setting.scale, seed=setting.seed)
    frames = decompose(network, objective, rank=setting.rank)
    how = setting.training
    step = setting.step * (stable_step(objective, depth=setting.depth) if setting.relative else 1.0)
    rule = {"step": step, "steps": setting.steps, "momentum": how.momentum, "weight_decay": how.weight_decay}
    times = recorded_steps(setting.steps, None)
    found = simulate(network, objective, algorithm=how.algorithm, record=("vectors",), every=times, **rule)
    seen = range(len(found.trace["step"]))
    deviations = tuple(frames.deviation(_weights(found, setting.depth, row)) for row in seen)
    rho = None
    if how.algorithm == "gd":
        rho = tuple(descend_reduced(frames, every=times, **rule).trace["rho"])
    return Trained(objective, frames, found, deviations, rho)


def measure(setting: Setting) -> tuple[Row, list[Row]]:
    """The worst deviations of a run, and their course."""
    trained = train(setting)
    found, last = trained.found, len(trained.steps) - 1
    free = setting.depth if setting.case == 2 else setting.depth - 1
    off = torch.stack([seen.off_diagonal for seen in trained.deviations])
    spread = torch.stack([seen.spread for seen in trained.deviations])
    rho = torch.stack([seen.rho for seen in trained.deviations])[:, :free]
    relative = torch.stack([seen.relative for seen in trained.deviations])
    start, end = trained.weights(0), trained.weights(last)
    moved = torch.stack([torch.linalg.matrix_norm(after - before) for before, after in zip(start, end, strict=True)])
    least = trained.objective.value(trained.objective.minimizer())
    losses = found.trace["loss"]
    recursion = None
    if trained.rho is not None and len(trained.rho) == len(rho):
        recursion = float((rho - torch.tensor(trained.rho, dtype=torch.float64)[:, None]).abs().max())
    paths = trained.paths()
    turned = max(int((paths.turned(side) > _TURNED).any(0).sum()) for side in ("left", "right"))
    bundle = max(_bundle(found.variables[f"S{layer}"], trained.frames.complement) for layer in range(1, free + 1))
    row: Row = {
        "case": setting.case,
        "L": setting.depth,
        "eps": setting.scale,
        "inputs": setting.inputs,
        "training": setting.training.name,
        "off-diagonal": float(off.max()),
        "off rho I": float(spread.max()),
        "rho off its recursion": recursion,
        "apart": bundle,
        "turned vectors": turned,
        "2r": trained.frames.right.shape[1],
        "relative deviation": float(relative.max()),
        "share of the update": float((torch.hypot(off[-1], spread[-1]) / moved).max()),
        "loss left": max(0.0, (losses[-1] - least) / (losses[0] - least)),
        "status": found.status.outcome,
    }
    course = [
        {
            "run": setting.name,
            "inputs": setting.inputs,
            "training": setting.training.name,
            # The start belongs on a logarithmic axis too.
            "step": max(step, 0.5),
            "deviation": float(torch.hypot(off[i], spread[i]).max()),
            "relative deviation": max(float(relative[i].max()), 1e-17),
        }
        for i, step in enumerate(trained.steps)
    ]
    return row, course


def _objective(setting: Setting) -> LeastSquares:
    draws = generator(setting.seed)
    d, r, n = setting.width, setting.rank, setting.samples
    if setting.case == 2:
        U, S, Vh = torch.linalg.svd(torch.randn(d, d, generator=draws, dtype=torch.float64))
        teacher = U[:, :r] * S[:r] @ Vh[:r]
    else:
        teacher = torch.randn(r, d, generator=draws, dtype=torch.float64)
    if setting.inputs == "Gaussian":
        X = torch.randn(d, n, generator=draws, dtype=torch.float64) / 15
        if setting.case == 1:
            # As published, outputs have nothing to do with inputs.
            return LeastSquares(X, torch.randn(r, n, generator=draws, dtype=torch.float64))
        return LeastSquares(X, teacher @ X)
    X = haar_columns(n, d, seed=setting.seed + 1).T.contiguous()
    if setting.inputs != "whitened":
        turn = haar_columns(d, d, seed=setting.seed + 2)
        X = turn @ (torch.linspace(1, float(setting.inputs), d, dtype=torch.float64)[:, None] * X)
    return LeastSquares(X, teacher @ X)


def _weights(found: Solution, depth: int, row: int) -> tuple[Tensor, ...]:
    return tuple(
        found.variables[f"U{layer}"][row] * found.variables[f"S{layer}"][row] @ found.variables[f"V{layer}"][row].T
        for layer in range(1, depth + 1)
    )


def _bundle(S: Tensor, size: int) -> float:
    """How far apart the `size` values are that lie closest together, at the time when it is worst."""
    ordered = S.sort(dim=1).values
    return float((ordered[:, size - 1 :] - ordered[:, : S.shape[1] - size + 1]).min(1).values.max())
