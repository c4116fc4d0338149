"""`descend`: gradient descent, SGD and Adam on the variables of the model themselves, and what they pass through."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from tightframe.collapse.decision import disagreement
from tightframe.collapse.duality import duality_distance
from tightframe.collapse.evaluate import evaluate_layer
from tightframe.collapse.means import CentredMeans
from tightframe.core.checks import check_count
from tightframe.core.errors import DegenerateError, InputError
from tightframe.core.rng import generator
from tightframe.core.solution import Certificate, Solution, Status, Trace
from tightframe.core.threads import on_few_threads
from tightframe.features.moments import ClassMoments
from tightframe.optimize.first_order import Adam, Momentum, Rule, observed_steps
from tightframe.ufm.certificate import certify_form
from tightframe.ufm.gradient import FreeGradient
from tightframe.ufm.model import Point, UnconstrainedFeatures
from tightframe.ufm.normal_form import NormalForm

Algorithm = Literal["gd", "sgd", "adam"]
Observer = Callable[[int, Point], Mapping[str, float]]

# Steps between two looks at whether the variables are still numbers.
_UNWATCHED = 256
# An objective above this is on its way out of the numbers.
_LARGEST = 1e100


@on_few_threads
def descend(
    problem: UnconstrainedFeatures,
    *,
    algorithm: Algorithm = "gd",
    step: float = 0.1,
    steps: int = 10_000,
    seed: int = 0,
    start: Point | None = None,
    batch_size: int | None = None,
    momentum: float = 0.0,
    every: int | None = None,
    metrics: bool = True,
    observe: Observer | None = None,
    tolerance: float = 1e-9,
) -> Solution:
    r"""Train the model as a network is trained: every feature of every sample moves on its own.

    .. math:: W \leftarrow W - \eta\, \big(\tfrac1N R H^\top + \lambda_W W\big), \qquad
        H \leftarrow H - \eta\, \big(\tfrac1N W^\top R + \lambda_H H\big), \qquad
        b \leftarrow b - \eta\, \big(\tfrac1N R\mathbf 1 + \lambda_b b\big)

    where
        R (k, n) is the gradient of the loss in the logits WH + b1^T, and eta is `step`.

    With a batch S of B samples, in shuffled passes over the data, the sums run over S, 1/N becomes 1/B, and the decay
    of the features in S counts N/B times, so that the expected gradient is that of the objective. `solve` reaches the
    minimum in far fewer steps: this is for what happens on the way.

    Args:
        problem: The model.
        algorithm: "gd" (all samples at every step), "sgd" (a batch), or "adam" (either), as torch.optim has them.
        step: Learning rate, above zero.
        steps: How many; all of them are taken.
        seed: Seed of the start (W, H, b standard normal) and of the batches.
        start: A start of your own, in place of the random one.
        batch_size: Samples per step, at most N; needed by "sgd", all of them by default for "adam".
        momentum: In [0, 1), for "gd" and "sgd".
        every: Observe after so many steps; None for steps spread evenly over the decades, 25 in each.
        metrics: Add `collapse_metrics` to what is observed.
        observe: Called with the number of steps and the point wherever it is observed; what it returns is traced too.
        tolerance: Dual gap up to which the certificate holds.

    Returns:
        Solution with W (k, d), H (d, n), b (k,), a trace of "objective", "gap" and the metrics, and the certificate of
        the last point. Its status is "converged" where the certificate holds, "diverged" where the values left the
        numbers (the point is then the last one observed before), else "budget spent".

    Raises:
        InputError: A step or number of steps that is not above zero, an unknown algorithm, a batch larger than N or
            missing, a momentum outside [0, 1), a start that does not fit the problem, or with NaN.

    Example:
        >>> problem = UnconstrainedFeatures(classes=3, features=3, per_class=5, loss="mse", weight_decay=(5e-2, 1e-2))
        >>> solution = descend(problem, step=0.5, steps=5000, seed=0)
        >>> solution.status.converged, solution.trace["NC1"][-1] < 1e-6
        (True, True)

    Reference: [tirer2022extended], section 6.
    """
    rule = _rule(algorithm, step, momentum)
    check_count(steps, "steps")
    _check_batch(algorithm, batch_size, problem.samples)
    start = problem.start(seed=seed) if start is None else problem.point(start.W, start.H, start.b)
    slopes = FreeGradient(problem, start)
    watch = _Watch(problem, tolerance, metrics, observe)
    batches = None if batch_size is None else _batches(problem.samples, batch_size, generator(seed + 1))
    watch.look(0, slopes.point)
    for before, after in pairwise([0, *observed_steps(steps, every)]):
        watch.sound = watch.sound and _advance(slopes, rule, batches, after - before)
        if not watch.sound:
            break
        watch.look(after, slopes.point)
    return watch.solution(steps)


def collapse_metrics(point: Point, labels: Tensor) -> dict[str, float]:
    """Every metric of neural collapse that is defined at a point, by name.

    Args:
        point: W (k, d), H (d, n), b (k,).
        labels: Class of every column of H (n,).

    Returns:
        The metrics of `tightframe.collapse` ("NC1", "NC2 features", "NC3", ...), "NC3 Tirer-Bruna" (uncentred means)
        and "NC4". One that is undefined there, because class means coincide or are zero, is left out.

    Example:
        >>> problem = UnconstrainedFeatures(classes=3, features=2, per_class=4)
        >>> from tightframe.ufm.optima import optimum
        >>> values = collapse_metrics(optimum(problem).point(), problem.labels)
        >>> values["NC1"] < 1e-12, values["NC2 features"] < 1e-12, values["NC4"]
        (True, True, 0.0)
    """
    rows = point.H.T
    moments = ClassMoments(len(point.W))
    moments.update(rows, labels.to(rows.device))
    layer = evaluate_layer(moments, weight=point.W, bias=point.b)
    means = CentredMeans(moments)
    values = {name: measured.value for name, measured in layer.measurements.items() if measured.value is not None}
    try:
        values["NC3 Tirer-Bruna"] = duality_distance(means, point.W, centred=False)
        values["NC4"] = disagreement(rows, (point.W @ point.H + point.b[:, None]).argmax(0), means)
    except DegenerateError:
        pass
    return values


class _Watch:
    """Looks at points, and remembers the last one at which everything was finite."""

    def __init__(
        self, problem: UnconstrainedFeatures, tolerance: float, metrics: bool, observe: Observer | None
    ) -> None:
        self.problem, self.tolerance, self.metrics, self.observe = problem, tolerance, metrics, observe
        self.trace, self.labels, self.sound = Trace(), problem.labels, True
        self.step, self.objective = 0, math.inf
        self.point: Point | None = None
        self.certificate: Certificate | None = None

    def look(self, step: int, point: Point) -> None:
        """Record this point; `sound` is false where its objective is beyond all bounds."""
        form = NormalForm.of_point(self.problem, point)
        value = float(form.value)
        self.sound = value < _LARGEST
        if not self.sound:
            self.point = self.point or point
            return
        certificate = certify_form(form, tolerance=self.tolerance, direction=False)
        values = {"objective": value, "gap": certificate.gap}
        if self.metrics:
            values |= collapse_metrics(point, self.labels)
        if self.observe is not None:
            values |= self.observe(step, point)
        self.trace.record(step, values)
        self.step, self.objective, self.point, self.certificate = step, value, point, certificate

    def solution(self, steps: int) -> Solution:
        """What is returned."""
        status = self._status(steps)
        if status.outcome == "budget spent":
            self.certificate = certify_form(NormalForm.of_point(self.problem, self.point), tolerance=self.tolerance)
        variables = {"W": self.point.W, "H": self.point.H, "b": self.point.b}
        return Solution(status, self.objective, variables, self.trace, self.certificate)

    def _status(self, steps: int) -> Status:
        if not self.sound:
            where = f"the values overflow after step {self.step}, the last one observed, whose point this is"
            return Status("diverged", f"{where}; make step smaller, or start nearer to zero")
        gap = f"the gap is {self.certificate.gap:.2e} after {steps} steps"
        if self.certificate.holds:
            return Status("converged", f"{gap}: globally optimal, certified")
        risen = self.objective > self.trace["objective"][0]
        cure = "the objective is above that of the start: make step smaller" if risen else "raise steps, or step"
        return Status("budget spent", f"{gap}, asked was {self.tolerance:.1e}; {cure}")


def _advance(slopes: FreeGradient, rule: Rule, batches: Iterator[Tensor] | None, steps: int) -> bool:
    """Take this many steps; False where the variables are no longer numbers."""
    for taken in range(1, steps + 1):
        rule.move(slopes.variables, slopes.everywhere() if batches is None else slopes.at(next(batches)))
        if (taken % _UNWATCHED == 0 or taken == steps) and not math.isfinite(float(slopes.variables.sum())):
            return False
    return True


def _batches(samples: int, size: int, draws: torch.Generator) -> Iterator[Tensor]:
    """Batches of one size from shuffled passes over the samples; what is left of a pass is dropped."""
    while True:
        yield from torch.randperm(samples, generator=draws)[: samples // size * size].split(size)


def _rule(algorithm: str, step: float, momentum: float) -> Rule:
    if algorithm not in ("gd", "sgd", "adam"):
        raise InputError('algorithm is "gd", "sgd" or "adam"', got=repr(algorithm), remedy="Use one of the three.")
    if algorithm != "adam":
        return Momentum(step, momentum)
    if momentum:
        raise InputError("no momentum with Adam", got=repr(momentum), remedy="Adam has its own: leave it out.")
    return Adam(step)


def _check_batch(algorithm: str, size: int | None, samples: int) -> None:
    if algorithm == "gd" and size is not None:
        raise InputError("no batches in gradient descent", got=f"batch_size={size}", remedy='Use algorithm="sgd".')
    if algorithm == "sgd" and size is None:
        raise InputError("a batch_size for SGD", got="None", remedy='Use 32, or algorithm="gd" for all samples.')
    if size is not None and not check_count(size, "batch_size") <= samples:
        raise InputError(f"batch_size is at most N = {samples}", got=f"{size}", remedy="Use a smaller batch.")
