"""Deep descent on observed entries from a small spectral start: components come one after another."""

from __future__ import annotations

import math
import warnings
from time import perf_counter

import torch
from torch import Tensor

from tightframe.core.checks import check_count
from tightframe.core.errors import DegenerateError, InputError
from tightframe.core.rng import generator
from tightframe.core.solution import Solution, Status, Trace
from tightframe.core.typing import Float
from tightframe.deeplinear.compression import CompressedNetwork
from tightframe.deeplinear.observations import Observations
from tightframe.deeplinear.stability import check_descent

# Columns and power iterations beyond those asked for, in the randomised decomposition.
_MORE, _ITERATIONS = 5, 3
# The step as a share of 1 / ||Hessian||, and steps between two looks at the residual, which wait for the device.
_CAREFUL, _WATCHED = 0.5, 5
# A loss this much above its least halves a step that nobody chose, at most so often, or counts as divergence.
_GROWN, _HALVINGS, _DIVERGED = 1.1, 20, 4.0


def leading_components(
    observed: Observations, width: int, *, seed: int = 0
) -> tuple[Float[Tensor, "m k"], Float[Tensor, " k"], Float[Tensor, "n k"]]:
    """Leading singular vectors and values of the observed entries over their share, with zeros elsewhere.

    By randomised subspace iteration, O(|Omega| k + (m + n) k^2).

    Raises:
        InputError: A width above the smaller dimension.
        DegenerateError: Observed entries that are all zero.
    """
    if check_count(width, "width") > min(observed.shape):
        raise InputError(
            f"a width of at most {min(observed.shape)}, the smaller dimension", got=str(width), remedy="Lower it."
        )
    size, values = min(width + _MORE, *observed.shape), observed.values / observed.share
    drawn = torch.randn(observed.shape[1], size, generator=generator(seed), dtype=torch.float64).to(values)
    basis = torch.linalg.qr(observed.times(values, drawn)).Q
    for _ in range(_ITERATIONS):
        across = torch.linalg.qr(observed.times_transposed(values, basis)).Q
        basis = torch.linalg.qr(observed.times(values, across)).Q
    V, S, Uh = torch.linalg.svd(observed.times_transposed(values, basis), full_matrices=False)
    if not float(S[0]) > 0:
        raise DegenerateError("observed entries that are not all zero", got="zeros", remedy="There is nothing to fit.")
    return basis @ Uh[:width].T, S[:width], V[:, :width]


def spectral_network(
    observed: Observations, width: int, *, depth: int = 3, scale: float = 0.1, gamma: float = 5.0, seed: int = 0
) -> tuple[CompressedNetwork, float]:
    r"""A compressed network between the leading singular vectors of the observed entries, all layers of one size.

    .. math:: W(0) = \epsilon^L\, U_k V_k^\top, \qquad \epsilon = c\, \sigma_1^{1/L}

    where k is `width`, L `depth` (the two outer factors count), c is `scale`, and sigma_1 the largest singular value of
    the observed entries over their share.

    Returns:
        The network, and sigma_1.

    Raises:
        InputError: Depth below 2, a scale not above zero, or as for `leading_components`.

    Warns:
        UserWarning: gamma = 0.

    Reference: [kwon2024efficient] for the outer factors from the observed entries.
    """
    check_count(depth, "depth", least=2)
    if not 0 < scale < math.inf:
        raise InputError("a scale above zero", got=repr(scale), remedy="Use 0.1; a larger one overfits.")
    if gamma == 0:
        warnings.warn(
            "gamma = 0 fixes the outer factors at what the observed entries show at the start, which completes nothing;"
            " use gamma=5",
            UserWarning,
            stacklevel=2,
        )
    U, S, V = leading_components(observed, width, seed=seed)
    top = float(S[0])
    size = scale * top ** (1 / depth)
    inner = [size * torch.eye(S.shape[0]).to(S)] * (depth - 2)
    return CompressedNetwork(size * U, inner, size * V, gamma=gamma), top


def largest_step(observed: Observations, top: float, depth: int) -> float:
    r"""The step 2 / ||Hessian|| above which descent leaves a balanced minimum; see `stable_step`.

    .. math:: \eta_{\max} = \frac{2}{L\, p\, \sigma_1^{2-2/L}}

    where p is the share of observed entries.
    """
    return 2 / (depth * observed.share * top ** (2 - 2 / depth))


class ObservedDescent:
    r"""Gradient descent of a compressed network on observed entries.

    .. math:: \tfrac12 \sum_{(i,j) \in \Omega} \big((U W_{L-1} \cdots W_2 V^\top)_{ij} - x_{ij}\big)^2

    A step costs O(|Omega| k + (m + n) k^2); no matrix of size m x n is formed.

    Args:
        observed: Omega and x.
        network: The start, which is copied.
        step: Of the inner layers; the outer factors take gamma times it.
        momentum: mu in [0, 1) of the heavy ball.
    """

    def __init__(
        self, observed: Observations, network: CompressedNetwork, *, step: float, momentum: float = 0.0
    ) -> None:
        check_descent(momentum=momentum, weight_decay=0.0)
        right, *inner, left = network.weights
        self.observed: Observations = observed
        self.step: float = step
        self.outer: float = network.gamma * step
        self.left: Tensor = left.clone()
        self.right: Tensor = right.T.clone()
        self.inner: list[Tensor] = [weight.clone() for weight in inner]
        self._momentum = momentum
        self._velocities = [torch.zeros_like(weight) for weight in self._weights] if momentum else []

    def halve(self) -> None:
        """Take steps of half the size."""
        self.step, self.outer = self.step / 2, self.outer / 2

    def return_to(self, weights: list[Tensor]) -> None:
        """Go back to these weights, at rest."""
        for weight, before in zip(self._weights, weights, strict=True):
            weight.copy_(before)
        for velocity in self._velocities:
            velocity.zero_()

    def weights(self) -> list[Tensor]:
        """Copies of the outer factors and the inner layers, for `return_to`."""
        return [weight.clone() for weight in self._weights]

    @property
    def _weights(self) -> tuple[Tensor, ...]:
        return self.left, self.right, *self.inner

    def factors(self) -> tuple[Tensor, Tensor]:
        """A and B of the product A B^T."""
        return self.left @ self._product(), self.right

    def components(self) -> tuple[Tensor, Tensor, Tensor]:
        """The thin singular value decomposition of the product."""
        return thin_svd(*self.factors())

    def move(self) -> Tensor:
        """Take a step; returns the residual (|Omega|,) before it."""
        whole = self._product()
        across = self.left @ whole
        residual = self.observed.entries(across, self.right) - self.observed.values
        back = self.observed.times(residual, self.right)
        down = self.observed.times_transposed(residual, across)
        slopes = self._inner_slopes(self.left.T @ back)
        self._take([back @ whole.T, down, *slopes])
        return residual

    def _take(self, slopes: list[Tensor]) -> None:
        for velocity, slope in zip(self._velocities, slopes, strict=bool(self._velocities)):
            slope += self._momentum * velocity
            velocity.copy_(slope)
        for number, (weight, slope) in enumerate(zip(self._weights, slopes, strict=True)):
            weight.sub_(slope, alpha=self.outer if number < 2 else self.step)

    def _product(self) -> Tensor:
        whole = torch.eye(self.right.shape[1]).to(self.right)
        for weight in self.inner:
            whole = weight @ whole
        return whole

    def _inner_slopes(self, slope: Tensor) -> list[Tensor]:
        """Gradients of the inner layers from that of their product."""
        found = []
        for index in range(len(self.inner)):
            gradient = slope
            for weight in reversed(self.inner[index + 1 :]):
                gradient = weight.T @ gradient
            for weight in self.inner[:index]:
                gradient = gradient @ weight.T
            found.append(gradient.clone() if gradient is slope else gradient)
        return found


def descend_observed(
    observed: Observations,
    network: CompressedNetwork,
    top: float,
    *,
    step: float | None = None,
    momentum: float = 0.0,
    residual: float = 0.05,
    max_steps: int = 1000,
    held_out: Observations | None = None,
    patience: int = 100,
) -> Solution:
    """Descend until the observed entries are fitted this far, or until held-out ones are fitted no better.

    Args:
        observed: Omega and x.
        network: The start, from `spectral_network`.
        top: sigma_1 of the start.
        step: eta; None for a quarter of 2 / ||Hessian||, an eighth with momentum, halved where the loss grows: the
            Hessian may be larger where most entries are observed or few are large.
        momentum: mu in [0, 1) of the heavy ball; 0.9 takes a tenth of the steps to the end of a long descent.
        residual: Relative residual at which to stop. Small starts fit one component after another: at 0.05 those of
            noise are still near zero, and the rank can be read off the singular values.
        max_steps: At most so many.
        held_out: Entries to stop by; the factors returned are those that fit them best.
        patience: Steps without a better fit of these before stopping.

    Returns:
        Solution with A (m, k) and B (n, k) of the product A B^T; "diverged" names the bound on the step, and its
        factors are those of the least loss. `best` of the trace is the step that they belong to.

    Raises:
        InputError: A step that is not above zero.
    """
    depth = network.depth
    bound = largest_step(observed, top, depth)
    careful = _CAREFUL / 2 if momentum == 0 else _CAREFUL / 4
    chosen = careful * bound if step is None else step
    if not 0 < chosen < math.inf:
        raise InputError("a step above zero", got=repr(step), remedy=f"Stay below 2/||Hessian|| = {bound:.3g}.")
    descent, trace, began = ObservedDescent(observed, network, step=chosen, momentum=momentum), Trace(), perf_counter()
    norm, growth = float(observed.values.norm()), _GROWN if step is None else _DIVERGED
    best, kept, least, halvings = _Best(held_out), descent.weights(), math.inf, 0
    status = Status("budget spent", f"all {max_steps} steps taken; raise max_steps")
    for number in range(1, max_steps + 1):
        if (number - 1) % _WATCHED:
            descent.move()
            continue
        before, left_over = descent.weights(), descent.move()
        objective = 0.5 * float(left_over.square().sum())
        relative = math.sqrt(2 * objective) / norm
        if not objective <= growth * least:
            descent.return_to(kept)
            halvings += 1
            if step is None and halvings <= _HALVINGS:
                descent.halve()
                continue
            text = f"the loss has grown to {relative:.1e} times the data's norm; stay below 2/||Hessian|| = {bound:.3g}"
            status = Status("diverged", f"{text} with `step` ({descent.step:.3g} now)")
            break
        if objective <= least:
            kept, least = before, objective
        row = {"objective": objective, "residual": relative, "seconds": perf_counter() - began}
        trace.record(number, row | best.look(number, descent))
        if number - best.step >= patience:
            status = Status("converged", f"held-out entries have not been fitted better since step {best.step}")
        elif relative <= residual:
            status = Status("converged", f"observed entries are fitted to {relative:.1e}")
        if status.converged:
            break
    A, B = best.factors or descent.factors()
    return Solution(status, trace["objective"][-1] if len(trace) else math.nan, {"A": A, "B": B}, trace)


class _Best:
    """The step and the factors that fit held-out entries best; the last step where there are none."""

    def __init__(self, held_out: Observations | None) -> None:
        self.held_out, self.error, self.step = held_out, math.inf, 0
        self.factors: tuple[Tensor, Tensor] | None = None

    def look(self, number: int, descent: ObservedDescent) -> dict[str, float]:
        """What the trace is to hold of them."""
        if self.held_out is None:
            self.step = number
            return {"best": number}
        A, B = descent.factors()
        error = float((self.held_out.entries(A, B) - self.held_out.values).norm())
        if error < self.error:
            self.error, self.step, self.factors = error, number, (A, B.clone())
        return {"held out": error, "best": self.step}


def thin_svd(left: Float[Tensor, "m k"], right: Float[Tensor, "n k"]) -> tuple[Tensor, Tensor, Tensor]:
    """U (m, k), S (k,) and V (n, k) of left right^T, in O((m + n) k^2)."""
    Q, P = torch.linalg.qr(left), torch.linalg.qr(right)
    U, S, Vh = torch.linalg.svd(Q.R @ P.R.T)
    return Q.Q @ U, S, P.Q @ Vh.T


def balanced(U: Tensor, S: Tensor, V: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Factors A and B with A^T A = B^T B of the leading components."""
    root = S[:rank].sqrt()
    return U[:, :rank] * root, V[:, :rank] * root
