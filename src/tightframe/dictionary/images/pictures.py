"""One image in, and results in its kind out; and what restoring an image returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from tightframe.core.solution import Solution, Status, Trace
from tightframe.dictionary.arrays import Kind, read_signals


@dataclass(frozen=True, eq=False)
class Picture:
    """An image as the computations know it.

    Args:
        values: (1, channels, height, width), float32 or float64.
        kind: What the caller passed.
        grey: Whether the caller's image has no axis of channels.
    """

    values: Tensor
    kind: Kind
    grey: bool

    @classmethod
    def of(cls, image: ArrayLike | Tensor) -> Picture:
        """Read (height, width) or (channels, height, width).

        Raises:
            InputError: Another shape, or values that are not finite real numbers.
        """
        values = image if isinstance(image, Tensor) else np.asarray(image)
        signals, kind = read_signals(values[None], 2)
        return cls(signals, kind, values.ndim == 2)

    def returned(self, values: Tensor) -> Any:
        """Values (channels, height, width) as an image like the caller's."""
        return self.kind.returned(values[0] if self.grey else values)


@dataclass(frozen=True, eq=False)
class Restored:
    """An image restored with a dictionary.

    Args:
        image: The result, of the kind, shape and precision of the image given.
        pilot: The first estimate, from which it was refined.
        bases: The dictionary (k, d, channels, size, size): k orthonormal bases of d atoms each.
        noise: Standard deviation of the noise, given or estimated.
        solution: How the dictionary was learned; no steps for a fixed one.
    """

    image: Any
    pilot: Any
    bases: Any
    noise: float
    solution: Solution


def unlearned(basis: Tensor) -> Solution:
    """What learning would return had it kept this basis (d, d)."""
    status = Status("converged", "a fixed basis; dictionary='learned' fits one to the image.")
    return Solution(status, float("nan"), {"bases": basis[None]}, Trace())
