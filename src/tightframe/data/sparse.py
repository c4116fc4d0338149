"""Sparse random codes and the signals made of them, with their truth: for tests, experiments and benchmarks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from tightframe.core.errors import InputError
from tightframe.core.rng import generator

Values = Literal["gaussian", "rademacher", "one", "uniform"]


def sparse_codes(
    shape: Sequence[int], density: float, *, values: Values = "gaussian", seed: int | torch.Generator = 0
) -> Tensor:
    r"""Independent entries, each zero except with probability theta.

    .. math:: x_i = b_i\, g_i, \qquad b_i \sim \mathrm{Bernoulli}(\theta)

    Args:
        shape: Of the result.
        density: theta in [0, 1].
        values: Distribution of g: "gaussian" (standard normal: Bernoulli-Gaussian codes), "rademacher" (signs), "one",
            or "uniform" on [0.5, 1.5], amplitudes of events that are all of one sign.
        seed: A seed, or a generator on the CPU.

    Returns:
        float64 of this shape.

    Raises:
        InputError: A density outside [0, 1], or an unknown distribution.

    Example:
        >>> codes = sparse_codes((2, 1000), 0.1, values="rademacher")
        >>> sorted(codes.unique().tolist()), 150 < int(codes.count_nonzero()) < 250
        ([-1.0, 0.0, 1.0], True)

    Reference: [spielman2012exact], definition 1.
    """
    if not (math.isfinite(density) and 0 <= density <= 1):
        raise InputError("a density in [0, 1]", got=repr(density), remedy="Use 0.1.")
    if values not in get_args(Values):
        raise InputError(f"values, one of {', '.join(get_args(Values))}", got=repr(values), remedy="Choose one.")
    source = seed if isinstance(seed, torch.Generator) else generator(seed)
    shape, options = tuple(shape), {"generator": source, "dtype": torch.float64}
    present = torch.rand(shape, **options) < density
    if values == "gaussian":
        amplitudes = torch.randn(shape, **options)
    elif values == "rademacher":
        amplitudes = (torch.rand(shape, **options) < 0.5).double() * 2 - 1
    elif values == "uniform":
        amplitudes = torch.rand(shape, **options) + 0.5
    else:
        amplitudes = torch.ones(shape, dtype=torch.float64)
    return torch.where(present, amplitudes, 0.0)
