"""Linear and ReLU chains trained on orthogonal inputs, and how far their features separate layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from tightframe.collapse.separation import fit_separation
from tightframe.deeplinear.descent import recorded_steps
from tightframe.deeplinear.dynamics import simulate
from tightframe.deeplinear.network import DeepLinearNetwork, Init
from tightframe.deeplinear.separation import SeparationLaw, check_separation, layer_separation
from tightframe.deeplinear.stability import stable_step
from tightframe.geometry.frames import haar_columns
from tightframe.runs.record import Cell

Row = dict[str, Cell]
Kind = Literal["linear", "ReLU"]

# Share of the loss at which data count as fitted.
FITTED = 0.01


@dataclass(frozen=True)
class Chain:
    """A network and its training on K classes of n samples, whose inputs are orthonormal: d = K n.

    Args:
        kind: "linear", or "ReLU" between the layers.
        init: Of the start, with the Frobenius norm of an orthogonal one.
        classes: K.
        per_class: n.
        depth: L.
        scale: epsilon.
        step: As a share of 2 / ||Hessian|| at the minimum of the linear network.
        steps: How many.
        seed: Of inputs and start.
    """

    kind: Kind
    init: Init
    classes: int
    per_class: int
    depth: int
    scale: float
    step: float
    steps: int
    seed: int = 0

    @property
    def network(self) -> str:
        """In tables and figures."""
        return f"{self.kind}, {self.init}"


@dataclass(frozen=True, eq=False)
class Course:
    """What was seen of a training.

    Args:
        steps: The recorded ones.
        losses: At these.
        D: D_0, ..., D_{L-1} at these.
        weights: At the end.
    """

    steps: tuple[int, ...]
    losses: tuple[float, ...]
    D: tuple[tuple[float, ...], ...]
    weights: tuple[Tensor, ...]


def separate(chain: Chain) -> tuple[Row, list[Row], list[Row]]:
    """Train a chain: what it comes to, D over its layers at the end, and its course."""
    X, Y = _data(chain)
    seen = _train(chain, X, Y)
    law = SeparationLaw(chain.classes, chain.per_class, chain.depth, chain.scale, len(X))
    last, losses = seen.D[-1], seen.losses
    ratios = [upper / lower for lower, upper in pairwise(last)]
    line = fit_separation(last) if len(last) >= 3 and min(last) > 0 else None
    fitted = next((step for step, loss in zip(seen.steps, losses, strict=True) if loss <= FITTED * losses[0]), None)
    named: Row = {"network": chain.network, "L": chain.depth, "eps": chain.scale}
    row: Row = named | {
        "K": chain.classes,
        "n": chain.per_class,
        "d": len(X),
        "smallest ratio": min(ratios),
        "largest ratio": max(ratios),
        "law": law.ratio,
        "floor": law.floor,
        "lecture": law.lecture,
        "per layer": None if line is None else line.decay_ratio,
        "R^2": None if line is None else line.r_squared * (line.slope < 0),
        "rises": sum(ratio >= 1 for ratio in ratios),
        "fitted after": fitted,
        "loss": losses[-1],
        "loss left": losses[-1] / losses[0],
    }
    if chain.kind == "linear":
        found = check_separation(seen.weights, X, Y, scale=chain.scale, tolerance=2e-2)
        row |= {
            "violated": ", ".join(found.violated) or "nothing",
            "violations": len(found.violated),
            "balance": found.balance,
            "singular values at eps": found.kept,
            "d - 2K": found.expected,
        }
    layers = [
        named | {"layer": f"{place}", "D": value, "law of linear networks": last[0] * law.ratio**place}
        for place, value in enumerate(last)
    ]
    course = [
        # The start belongs on a logarithmic axis too.
        named | {"step": max(step, 0.5), "loss": loss, "D of the last features": D[-1], "separated": D[-1] / D[0]}
        for step, loss, D in zip(seen.steps, losses, seen.D, strict=True)
    ]
    return row, layers, course


def descend_relu(weights: Sequence[Tensor], X: Tensor, Y: Tensor, *, step: float, times: Sequence[int]) -> Course:
    """Gradient descent on |W_L relu(... relu(W_1 X)) - Y|^2 / 2.

    Args:
        weights: The start, left as it is.
        X: Inputs (d, n), samples in columns.
        Y: One-hot outputs (K, n).
        step: Learning rate.
        times: Steps to record, ascending from 0; the last ends the descent.
    """
    weights, labels = [weight.clone() for weight in weights], Y.argmax(0)
    losses: list[float] = []
    separations: list[tuple[float, ...]] = []
    wanted = set(times)
    for taken in range(times[-1] + 1):
        features = [X]
        for weight in weights[:-1]:
            features.append((weight @ features[-1]).relu_())
        back = weights[-1] @ features[-1] - Y
        if taken in wanted:
            losses.append(0.5 * float(back.square().sum()))
            separations.append(tuple(layer_separation(Z, labels) for Z in features))
        if taken < times[-1]:
            _move(weights, features, back, step)
    return Course(tuple(times), tuple(losses), tuple(separations), tuple(weights))


def _move(weights: list[Tensor], features: list[Tensor], back: Tensor, step: float) -> None:
    for index in reversed(range(len(weights))):
        gradient = back @ features[index].T
        if index:
            back = (weights[index].T @ back) * (features[index] > 0)
        weights[index].sub_(gradient, alpha=step)


def _train(chain: Chain, X: Tensor, Y: Tensor) -> Course:
    widths = (*(len(X),) * chain.depth, chain.classes)
    network = DeepLinearNetwork(widths, init=chain.init, scale=chain.scale, seed=chain.seed)
    step = chain.step * stable_step(X, Y, depth=chain.depth)
    times = recorded_steps(chain.steps, None)
    if chain.kind == "ReLU":
        return descend_relu(network.weights, X, Y, step=step, times=times)
    found = simulate(network, X, Y, step=step, steps=chain.steps, record=("separation",), every=times)
    weights = tuple(found.variables[f"W{layer}"] for layer in range(1, chain.depth + 1))
    seen = tuple(tuple(D) for D in found.D.tolist())
    return Course(tuple(map(int, found.trace["step"])), tuple(found.trace["loss"]), seen, weights)


def _data(chain: Chain) -> tuple[Tensor, Tensor]:
    d = chain.classes * chain.per_class
    labels = torch.arange(chain.classes).repeat_interleave(chain.per_class)
    return haar_columns(d, d, seed=chain.seed + 1), torch.nn.functional.one_hot(labels).T.double()
