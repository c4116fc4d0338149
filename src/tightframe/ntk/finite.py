"""Finite ReLU networks as the theory takes them, trained by gradient descent, beside what the kernel predicts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import index

import torch
from torch import nn

from tightframe.core.checks import check_count
from tightframe.core.errors import DegenerateError, InputError
from tightframe.core.rng import generator
from tightframe.core.typing import Float, Tensor
from tightframe.ntk.dynamics import LinearDynamics
from tightframe.ntk.empirical import empirical_ntk
from tightframe.ntk.kernel import relu_nngp, relu_ntk


@dataclass(frozen=True, eq=False)
class Comparison:
    """Errors of a trained network and of two linear systems from the same start, in L2 of the sample.

    Args:
        steps: (t,), numbers of steps of gradient descent.
        measured: (t,), norms of the network's error.
        empirical: (t,), by the kernel of the network at its start.
        infinite: (t,), by the kernel at infinite width, n / 2 times `relu_ntk` and the readout's share.
        drift: Change of the network's kernel over training, relative to it, in the Frobenius norm.
        outputs: (n,), the network's predictions at the end.
    """

    steps: Float[Tensor, " t"]
    measured: Float[Tensor, " t"]
    empirical: Float[Tensor, " t"]
    infinite: Float[Tensor, " t"]
    drift: float
    outputs: Float[Tensor, " n"]


def relu_network(
    in_features: int,
    *,
    width: int,
    depth: int,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> nn.Sequential:
    r"""Fully connected ReLU network of L hidden layers without biases, with Gaussian weights.

    Hidden weights have variance 2 / n, the readout's variance 1: of unit vectors, outputs have variance one, and the
    tangent kernel is near (n / 2) `relu_ntk` where n exceeds L enough.

    Args:
        in_features: d.
        width: n.
        depth: L.
        seed: Of the weights.
        dtype: Of the weights.
        device: Of the weights.

    Raises:
        InputError: A size below 1.

    Reference: [buchanan2021deep], section 2.
    """
    for name, value in (("in_features", in_features), ("width", width), ("depth", depth)):
        check_count(value, name)
    source = generator(seed)
    layers: list[nn.Module] = []
    for level in range(depth):
        layers += [nn.Linear(in_features if level == 0 else width, width, bias=False), nn.ReLU()]
    layers.append(nn.Linear(width, 1, bias=False))
    model = nn.Sequential(*layers)
    with torch.no_grad():
        for layer in model[:-1:2]:
            drawn = torch.randn(layer.weight.shape, generator=source, dtype=torch.float64)
            layer.weight.copy_(drawn * math.sqrt(2 / width))
        model[-1].weight.copy_(torch.randn((1, width), generator=source, dtype=torch.float64))
    return model.to(device=device, dtype=dtype)


def gradient_descent(
    model: nn.Module, points: Tensor, targets: Tensor, *, step: float, records: Sequence[int]
) -> Float[Tensor, "t n"]:
    r"""Errors along full gradient descent on (1 / 2n) sum_i (f(x_i) - y_i)^2; the model is trained in place.

    Args:
        model: Maps (n, d) to (n, 1) or (n,).
        points: (n, d).
        targets: (n,).
        step: Above zero.
        records: Numbers of steps, increasing, after which the error is kept.

    Returns:
        (t, n), predictions minus targets.

    Raises:
        InputError: A step not above zero, records that do not increase, targets that are not (n,), points of
            another precision or device than the weights, values that are not finite, a model without trainable weights.
        DegenerateError: The error grows beyond all numbers.
    """
    if not (math.isfinite(step) and step > 0):
        raise InputError("a step above 0", got=repr(step), remedy="Take less than 2 over the kernel's largest rate.")
    wanted = [index(each) for each in records]
    if not wanted or wanted[0] < 0 or any(b <= a for a, b in pairwise(wanted)):
        raise InputError("increasing numbers of steps of at least 0", got=repr(wanted), remedy="Use [0, 10, 100].")
    weights = [each for each in model.parameters() if each.requires_grad]
    _check_task(weights, points, targets)
    kept = []
    for done in range(wanted[-1] + 1):
        errors = model(points).reshape(-1) - targets
        if done == wanted[len(kept)]:
            kept.append(errors.detach())
        if done < wanted[-1]:
            gradients = torch.autograd.grad(errors.square().sum() / (2 * len(points)), weights)
            with torch.no_grad():
                torch._foreach_add_(weights, gradients, alpha=-step)
    found = torch.stack(kept)
    if not bool(torch.isfinite(found).all()):
        raise DegenerateError("training that stays finite", got="NaN or inf", remedy="Take a smaller step.")
    return found


def compare_with_kernel(
    model: nn.Sequential,
    points: Float[Tensor, "n d"],
    targets: Float[Tensor, " n"],
    *,
    depth: int,
    width: int,
    step: float,
    records: Sequence[int],
) -> Comparison:
    """Train a network of `relu_network` and put its errors beside those of its linear systems.

    Both systems take the same steps of the same size from the network's own initial error.

    Args:
        model: The network; trained in place.
        points: (n, d), in its precision.
        targets: (n,).
        depth: L of the network.
        width: n of the network.
        step: Of gradient descent.
        records: Numbers of steps.

    Returns:
        The comparison.

    Raises:
        InputError: A network of another depth or width, a step at which one of the systems diverges, and what
            `gradient_descent` refuses.
    """
    records = [index(each) for each in records]
    if not records or records[0] != 0:
        raise InputError("records that begin with 0", got=repr(records), remedy="Put 0 first.")
    shapes = [layer.weight.shape for layer in model if isinstance(layer, nn.Linear)]
    wanted = [(width, points.shape[-1]), *[(width, width)] * (depth - 1), (1, width)]
    if shapes != wanted:
        raise InputError(
            f"a network of depth {depth} and width {width}, as relu_network makes it",
            got=f"matrices of shapes {[tuple(shape) for shape in shapes]}",
            remedy="Pass the depth and the width that it was made with.",
        )
    before = empirical_ntk(model, points).values
    infinite = relu_ntk(points, depth=depth) * (width / 2) + relu_nngp(points, depth=depth)
    errors = gradient_descent(model, points, targets, step=step, records=records)
    after = empirical_ntk(model, points).values
    steps = torch.as_tensor(list(records), dtype=torch.float64)
    scale = math.sqrt(len(points))
    norms = [
        torch.linalg.vector_norm(LinearDynamics(kernel).after_steps(errors[0], step, records), dim=1) / scale
        for kernel in (before, infinite)
    ]
    drift = float(torch.linalg.matrix_norm(after - before) / torch.linalg.matrix_norm(before))
    measured = torch.linalg.vector_norm(errors.double(), dim=1) / scale
    return Comparison(steps, measured, norms[0], norms[1], drift, errors[-1] + targets)


def _check_task(weights: list[nn.Parameter], points: Tensor, targets: Tensor) -> None:
    if not weights:
        raise InputError("a model with trainable weights", got="none", remedy="Call model.requires_grad_(True).")
    if not isinstance(targets, Tensor) or targets.shape != points.shape[:1]:
        got = f"shape {tuple(targets.shape)}" if isinstance(targets, Tensor) else type(targets).__name__
        raise InputError(f"targets are a tensor ({len(points)},)", got=got, remedy="Flatten targets (n, 1).")
    if points.dtype != weights[0].dtype or any(each.device != weights[0].device for each in (points, targets)):
        raise InputError(
            f"points in the precision of the weights, {weights[0].dtype}, and all on {weights[0].device}",
            got=f"{points.dtype} on {points.device}, targets on {targets.device}",
            remedy="Convert them with .to(weight).",
        )
    if not bool(torch.isfinite(points).all() & torch.isfinite(targets).all()):
        raise InputError("finite points and targets", got="NaN or inf", remedy="Remove such rows first.")
