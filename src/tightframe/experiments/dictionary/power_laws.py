"""Powers of one quantity in another, fitted over a grid, and where a share falls through a half."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tightframe.core.errors import DegenerateError


def log_slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Least-squares slope of log y over log x.

    Raises:
        DegenerateError: Fewer than two different x, or a number that is not above zero.

    Example:
        >>> round(log_slope([1, 2, 4], [3, 12, 48]), 12)
        2.0
    """
    if len(set(x)) < 2 or min(*x, *y) <= 0:
        raise DegenerateError(
            "two or more different positive numbers",
            got=f"x = {list(x)}, y = {list(y)}",
            remedy="Measure at more places.",
        )
    along, across = [math.log(number) for number in x], [math.log(number) for number in y]
    middle, level = math.fsum(along) / len(along), math.fsum(across) / len(across)
    spread = math.fsum((number - middle) ** 2 for number in along)
    return math.fsum((a - middle) * (b - level) for a, b in zip(along, across, strict=True)) / spread


def half_crossing(x: Sequence[float], shares: Sequence[float]) -> float | None:
    """The x at which a share falls below a half for the first time, between neighbours linear in log x.

    Args:
        x: Ascending, positive.
        shares: As many, in [0, 1].

    Returns:
        None where the share is below a half from the start, or never is.

    Example:
        >>> half_crossing([1, 4], [1.0, 0.0]), half_crossing([1, 4], [1.0, 0.9])
        (2.0, None)
    """
    for i in range(1, len(x)):
        if shares[i - 1] >= 0.5 > shares[i]:
            part = (shares[i - 1] - 0.5) / (shares[i - 1] - shares[i])
            return x[i - 1] * (x[i] / x[i - 1]) ** part
    return None


def root_mean_square(numbers: Sequence[float]) -> float:
    """Root of the mean of squares.

    Example:
        >>> root_mean_square([1.0, -7.0])
        5.0
    """
    return math.sqrt(math.fsum(number * number for number in numbers) / len(numbers))
