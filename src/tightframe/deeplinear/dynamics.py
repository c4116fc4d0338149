"""`simulate`: gradient descent on a deep linear network as it is, and what its layers pass through."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from time import perf_counter
from typing import Literal, get_args

import torch
from torch import Tensor

from tightframe.core.errors import InputError
from tightframe.core.solution import Solution, Status, Trace
from tightframe.core.threads import threads_for
from tightframe.deeplinear.descent import Algorithm, ChainDescent, Settings, diverged, overflows, recorded_steps
from tightframe.deeplinear.invariance import NetworkFrames, decompose
from tightframe.deeplinear.network import DeepLinearNetwork
from tightframe.deeplinear.objective import LeastSquares, Objective, as_objective
from tightframe.deeplinear.separation import layer_separation, one_hot_labels
from tightframe.deeplinear.stability import stable_step

Recorded = Literal["values", "vectors", "separation", "invariance"]


def simulate(
    network: DeepLinearNetwork | Sequence[Tensor],
    X: Tensor | Objective,
    Y: Tensor | None = None,
    *,
    step: float,
    steps: int,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    algorithm: Algorithm = "gd",
    record: Sequence[Recorded] = ("values",),
    every: int | Sequence[int] | None = None,
    rank: int | None = None,
) -> Solution:
    r"""Train every layer of a network at once, exactly, and record what becomes of it.

    .. math:: \min\; f(W_L \cdots W_1) + \tfrac\lambda2 \sum_l \|W_l\|_F^2, \qquad
        v_l \leftarrow \mu v_l + \nabla_l, \quad W_l \leftarrow W_l - \eta v_l

    with f(W) = |WX - Y|^2 / 2, or that of a matrix or an objective alone. The loss is a sum over samples or entries:
    where a source divides it by their number, divide its step by that. Layers whose rate (`network.rates`) is not 1
    move with that multiple of eta, which is how a compressed network of `compress` is trained. `descend_reduced` gives
    the same for orthogonal starts and whitened inputs, hundreds of times faster.

    Args:
        network: The start, left as it is; or its weights W_1, ..., W_L.
        X: Inputs (d_x, n), samples in columns; or the matrix Phi alone; or an objective alone.
        Y: Outputs (d_y, n).
        step: eta, above zero; see `stable_step`.
        steps: How many.
        momentum: mu in [0, 1) of the heavy ball.
        weight_decay: lambda, at least 0.
        algorithm: "gd", or "adam", for which lambda W is part of the gradient.
        record: Any of "values" (singular values of every layer), "vectors" (these and the singular vectors),
            "separation" (D of every layer; needs X and one-hot Y), "invariance" (deviation from the frames of
            `decompose`, which needs an orthogonal start).
        every: Record after so many steps, or after these; None for steps spread evenly over the decades, 25 in each.
        rank: Of the target, for "invariance".

    Returns:
        Solution with the weights "W1", ..., "WL", and per recorded step the singular values "S1" (t, q) and vectors
        "U1" (t, d_out, q), "V1" (t, d_in, q) and so on, signs following the step before; "D" (t, l), of the inputs and
        all layers below the last; "rho", "off_diagonal" and "spread" (t, l) of `Deviation`. The trace has "objective",
        "loss", "seconds", and "deviation" and "rho" of the first layer with "invariance". Its status is "budget
        spent", or "diverged" where values left the numbers (the point is the last one recorded).

    Raises:
        InputError: Parameters out of range, data that do not fit the network, a record that cannot be made of them.

    Example:
        >>> network = DeepLinearNetwork([4, 4, 4], scale=0.1)
        >>> found = simulate(network, torch.diag(torch.tensor([2.0, 1.0, 0.0, 0.0]).double()), step=0.1, steps=400)
        >>> [round(value, 3) for value in found.S1[-1, :2].square().tolist()]
        [2.0, 1.0]

    Reference: [yaras2023law]; [qu2023lecture6].
    """
    network = network if isinstance(network, DeepLinearNetwork) else DeepLinearNetwork.of(network)
    objective = as_objective(X, Y)
    _check_fit(network, objective)
    settings = Settings(step, momentum, weight_decay, algorithm)
    times = recorded_steps(steps, every)
    watch = _Watch(network, objective, record, rank)
    chain = ChainDescent(network.weights, objective, settings, network.rates)
    with threads_for(network.widths[0] * max(network.widths[1:]) * network.widths[-1]), torch.no_grad():
        if not watch.look(0, chain):
            raise InputError("a start with a finite loss", got="one beyond 1e100", remedy="Start nearer to zero.")
        for before, after in pairwise(times):
            if not (chain.advance(after - before) and watch.look(after, chain)):
                bound = stable_step(objective, depth=network.depth, weight_decay=weight_decay)
                return watch.solution(diverged(watch.trace, bound))
    status = Status("budget spent", f"all {steps} steps taken; the loss is {watch.trace['loss'][-1]:.3e}")
    return watch.solution(status)


class _Watch:
    """Looks at a descent, and keeps what was asked for."""

    def __init__(
        self, network: DeepLinearNetwork, objective: Objective, record: Sequence[str], rank: int | None
    ) -> None:
        unknown = [name for name in record if name not in get_args(Recorded)]
        if isinstance(record, str) or unknown:
            got = repr(record) if isinstance(record, str) else f"{unknown}"
            raise InputError(f"record from {get_args(Recorded)}", got=got, remedy="Pass a tuple of these names.")
        self.objective, self.record = objective, record
        self.frames: NetworkFrames | None = None
        if "invariance" in record:
            self.frames = decompose(network, objective, rank=rank)
        if "separation" in record:
            if not isinstance(objective, LeastSquares):
                raise InputError(
                    "samples X and one-hot Y to measure separation on",
                    got=type(objective).__name__,
                    remedy='Pass X and Y, or leave "separation" out of record.',
                )
            self.labels = one_hot_labels(objective.Y)
        self.trace, self.kept, self.began = Trace(), {}, perf_counter()
        self.sound: list[Tensor] = []

    def look(self, step: int, chain: ChainDescent) -> bool:
        """Add a row; False, and no row, where values have left the numbers."""
        products = chain.products()
        loss = self.objective.value(products[-1])
        row = {"objective": loss + chain.decay(), "loss": loss, "seconds": perf_counter() - self.began}
        if overflows(row["objective"]):
            return False
        self.sound = [weight.clone() for weight in chain.weights]
        if {"values", "vectors"} & set(self.record):
            self._spectra()
        if "separation" in self.record:
            features = [self.objective.X, *(product @ self.objective.X for product in products[:-1])]
            self._keep("D", torch.tensor([layer_separation(Z, self.labels) for Z in features], dtype=torch.float64))
        if self.frames is not None:
            found = self.frames.deviation(self.sound)
            self._keep("rho", found.rho)
            self._keep("off_diagonal", found.off_diagonal)
            self._keep("spread", found.spread)
            row |= {"deviation": found.largest, "rho": float(found.rho[0])}
        self.trace.record(step, row)
        return True

    def solution(self, status: Status) -> Solution:
        """What is returned."""
        variables = {f"W{number}": weight for number, weight in enumerate(self.sound, start=1)}
        variables |= {name: torch.stack(values) for name, values in self.kept.items()}
        return Solution(status, self.trace["objective"][-1], variables, self.trace)

    def _spectra(self) -> None:
        for number, weight in enumerate(self.sound, start=1):
            if "vectors" not in self.record:
                self._keep(f"S{number}", torch.linalg.svdvals(weight))
                continue
            U, S, Vh = torch.linalg.svd(weight, full_matrices=False)
            if f"U{number}" in self.kept:
                before = self.kept[f"U{number}"][-1]
                signs = torch.where((before * U).sum(0) < 0, -1.0, 1.0).to(U)
                U, Vh = U * signs, Vh * signs[:, None]
            for name, values in ((f"S{number}", S), (f"U{number}", U), (f"V{number}", Vh.T)):
                self._keep(name, values)

    def _keep(self, name: str, values: Tensor) -> None:
        self.kept.setdefault(name, []).append(values)


def _check_fit(network: DeepLinearNetwork, objective: Objective) -> None:
    target, weight = objective.target, network.weights[0]
    shape = (network.widths[-1], network.widths[0])
    if tuple(target.shape) != shape or target.dtype != weight.dtype or target.device != weight.device:
        raise InputError(
            f"data for an end-to-end matrix (d_y, d_x) = {shape}, {weight.dtype} on {weight.device}",
            got=f"{tuple(target.shape)}, {target.dtype} on {target.device}",
            remedy="Pass samples in columns, and convert the data or the network with .to.",
        )
