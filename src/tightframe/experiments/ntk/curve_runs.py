"""One network trained to tell two curves apart, and what the kernel at infinite width says of it beforehand."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from tightframe.core.errors import DegenerateError, InputError
from tightframe.data.curves import SphericalCurve, coaxial_circles, torus_knot
from tightframe.ntk.empirical import empirical_ntk
from tightframe.ntk.estimators import TangentKernelRegressor
from tightframe.ntk.finite import gradient_descent, relu_network
from tightframe.ntk.kernel import relu_ntk
from tightframe.runs.record import Cell

Row = dict[str, Cell]
CIRCLES, KNOTS = "coaxial circles", "linked trefoils"
PAIRS = (CIRCLES, KNOTS)
# Steps are this share of the one over the largest rate of the linear system; from two on it would diverge.
_SHARE = 1.0
_LEVELS = ((-math.inf, "below -0.5"), (-0.5, "-0.5 to 0"), (0.0, "0 to 0.5"), (0.5, "above 0.5"))


@dataclass(frozen=True)
class Run:
    """A network and its data.

    Args:
        pair: One of `PAIRS`.
        separation: Angle between the curves.
        depth: L.
        width: n.
        samples: Random points of each curve.
        seed: Of points and weights.
        checks: Numbers of steps, increasing, after which the network is looked at.
        grid: Points of each curve on which it is judged.
    """

    pair: str
    separation: float
    depth: int
    width: int
    samples: int
    seed: int
    checks: tuple[int, ...]
    grid: int

    def __post_init__(self) -> None:
        if self.pair not in PAIRS:
            raise InputError(f"a pair, one of {', '.join(PAIRS)}", got=repr(self.pair), remedy="Choose one.")
        if not self.checks or self.checks[0] < 1 or any(b <= a for a, b in pairwise(self.checks)):
            raise InputError("checks that increase from 1 or more", got=repr(self.checks), remedy="Use (100, 200).")

    @property
    def words(self) -> Row:
        """What tells this run from others."""
        names = ("pair", "depth", "width", "samples", "seed")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, eq=False)
class Told:
    """Both curves on the grid, by a network and by the kernel.

    Args:
        points: (n, d), the first curve's before the second's.
        labels: (n,), 1 and -1.
        network: (n,) after the last step; NaN where training diverged.
        kernel: (n,), of the linear system of infinite width from the same start, for the same number of steps.
        first: Steps at the first check from which on every label is right; None where there is none.
        error: Root mean square error on the samples.
    """

    points: Tensor
    labels: Tensor
    network: Tensor
    kernel: Tensor
    first: int | None
    error: float


def curves_of(pair: str, separation: float) -> tuple[SphericalCurve, SphericalCurve]:
    """Circles at latitudes pi / 4 and below it; trefoils on two tori about one core, which link each other."""
    if pair == CIRCLES:
        return coaxial_circles(separation)
    return tuple(torus_knot(2, 3, angle=math.pi / 4 + sign * separation / 2) for sign in (1, -1))


def train(run: Run) -> Told:
    r"""Gradient descent on half the mean squared error, in float32, by steps of one over the kernel's largest rate.

    The prediction is f_0 plus the flow of the kernel at infinite width on y - f_0, for as many of its own such steps.
    """
    curves = curves_of(run.pair, run.separation)
    drawn = [curve.sample(run.samples, seed=2 * run.seed + side).points for side, curve in enumerate(curves)]
    points, labels = _labelled(drawn)
    grid, truth = _labelled([curve.uniform(run.grid).points for curve in curves])
    model = relu_network(points.shape[1], width=run.width, depth=run.depth, seed=run.seed, dtype=torch.float32)
    kernel = empirical_ntk(model, points.float()).values.double()
    start, known = _values(model, grid), _values(model, points)
    predicted = start + _flow(run, points, labels - known, grid)
    step = _SHARE / _rate(kernel)
    values, first, done = start, None, 0
    error = float((known - labels).square().mean().sqrt())
    try:
        for check in run.checks:
            left = [0, check - done]
            errors = gradient_descent(model, points.float(), labels.float(), step=step, records=left)
            error, done = float(errors[-1].double().square().mean().sqrt()), check
            values = _values(model, grid)
            right = bool((values * truth > 0).all())
            first = (check if first is None else first) if right else None
    except DegenerateError:
        values, first, error = torch.full_like(start, math.nan), None, math.inf
    return Told(grid, truth, values, predicted, first, error)


def measured(run: Run) -> Row:
    """A row: wrong labels on the grid by network and kernel, steps, and how far the two functions are apart."""
    told = train(run)
    # NaN compares false, so that a run that diverged labels nothing rightly.
    wrong, foreseen = (float((~(f * told.labels > 0)).double().mean()) for f in (told.network, told.kernel))
    apart = float((told.network - told.kernel).square().mean().sqrt())
    return run.words | {
        "perfect": wrong == 0,
        "perfect, kernel": foreseen == 0,
        "wrong": wrong,
        "wrong, kernel": foreseen,
        "steps": told.first,
        "training error": told.error if math.isfinite(told.error) else None,
        "distance": apart if math.isfinite(apart) else None,
        "finite": math.isfinite(told.error),
    }


def portrait(run: Run) -> list[Row]:
    """The function along both curves after training, and a plane picture of them."""
    told = train(run)
    places = _plane(told.points)
    return [
        run.words
        | {
            "curve": "label 1" if told.labels[i] > 0 else "label -1",
            "share of length": (i % run.grid) / run.grid,
            "f": value if math.isfinite(value) else None,
            "f, kernel": float(told.kernel[i]),
            "x": float(places[i, 0]),
            "y": float(places[i, 1]),
            "value": next(word for least, word in reversed(_LEVELS) if not value < least),
        }
        for i, value in enumerate(told.network.tolist())
    ]


def _labelled(points: list[Tensor]) -> tuple[Tensor, Tensor]:
    labels = torch.ones(len(points[0]), dtype=torch.float64)
    return torch.cat(points), torch.cat((labels, -labels))


def _values(model: nn.Module, points: Tensor) -> Tensor:
    with torch.no_grad():
        return model(points.float())[:, 0].double()


def _rate(kernel: Tensor) -> float:
    return float(torch.linalg.eigvalsh(kernel)[-1]) / len(kernel)


def _flow(run: Run, points: Tensor, targets: Tensor, grid: Tensor) -> Tensor:
    time = run.checks[-1] * _SHARE / _rate(relu_ntk(points, depth=run.depth))
    flow = TangentKernelRegressor(run.depth, time=time, bias_variance=0.0).fit(points, targets)
    return torch.as_tensor(flow.predict(grid))


def _plane(points: Tensor) -> Tensor:
    """Circles from above; curves on S^3 by stereographic projection, then along one axis."""
    return points[:, :2] if points.shape[1] == 3 else points[:, :2] / (1 - points[:, 3:])
