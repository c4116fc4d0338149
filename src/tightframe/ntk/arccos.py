"""How one ReLU layer turns the angle between two inputs, in forms that keep their digits at both ends."""

from __future__ import annotations

import math

import torch

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.core.typing import Float, Tensor

# Below this angle sin v - v cos v is summed as a series; above it the difference loses less than two bits.
_SERIES_BELOW = 1.0
# Terms 2 k v^(2k+1) / (2k+1)!: the first one left out, k = 10, is below 4e-19 times v^21 and the sum at least v^3 / 4.
_TERMS = tuple((1 if k % 2 else -1) * 2 * k / math.factorial(2 * k + 1) for k in range(1, 10))

Angles = Float[Tensor, "..."]


def sine_excess(angle: Angles) -> Angles:
    r"""sin v - v cos v for v in [0, pi], to a relative accuracy of a few units in the last place.

    The difference itself is v^3 / 3 to first order, while its terms are v: it loses all digits at v = 1e-5 in
    float64.
    """
    square = angle * angle
    series = torch.full_like(angle, _TERMS[-1])
    for term in reversed(_TERMS[:-1]):
        series = series * square + term
    return torch.where(angle < _SERIES_BELOW, series * square * angle, angle.sin() - angle * angle.cos())


def versine_after(angle: Angles) -> Angles:
    r"""One minus the cosine of the angle after a layer.

    .. math:: 1 - \cos\varphi(\nu) = 2 \sin^2(\nu/2) - \frac{\sin\nu - \nu\cos\nu}{\pi}
    """
    return 2 * (angle / 2).sin().square() - sine_excess(angle) / math.pi


def angle_map(angle: Angles, times: int = 1) -> Angles:
    r"""The angle between two inputs after infinitely wide ReLU layers.

    .. math:: \varphi(\nu) = \arccos\bigl((1 - \nu/\pi) \cos\nu + \sin\nu / \pi\bigr)

    where
        nu is `angle`, of any shape, in [0, pi]; the value is computed in the half-angle form
        2 arcsin (((1 - cos phi) / 2)^(1/2)), which keeps the digits that the arccosine loses near zero.

    Args:
        angle: Angles in radians, floating point.
        times: Number of layers; 0 returns the angles.

    Raises:
        InputError: Angles outside [0, pi] or not finite, a negative number of layers.

    Example:
        >>> angle_map(torch.tensor([0.0, math.pi])).tolist() == [0.0, math.pi / 2]
        False
        >>> [round(value, 6) for value in angle_map(torch.tensor([0.0, math.pi], dtype=torch.float64)).tolist()]
        [0.0, 1.570796]

    Reference: [cho2009kernel], equation 6; [buchanan2021deep], section 2.
    """
    check_count(times, "times", least=0)
    angle = check_angles(angle)
    for _ in range(times):
        angle = 2 * (versine_after(angle) / 2).sqrt().asin()
    return angle


def check_angles(angle: Tensor) -> Tensor:
    """Floating-point angles in [0, pi], up to rounding of pi in their precision."""
    if not isinstance(angle, Tensor) or not angle.is_floating_point():
        got = f"dtype {angle.dtype}" if isinstance(angle, Tensor) else type(angle).__name__
        raise InputError("angles are a floating-point tensor", got=got, remedy="Convert them with torch.as_tensor.")
    limit = math.pi + 4 * torch.finfo(angle.dtype).eps
    if not bool(((angle >= 0) & (angle <= limit)).all()):
        raise InputError(
            "angles in [0, pi]",
            got="others, or values that are not numbers",
            remedy="Pass angles in radians.",
        )
    return angle.clamp(max=math.pi)
