"""What ranks exchange to share class moments: bytes of the buffers, and what a ring moves of them."""

from __future__ import annotations

# Of a float64 number, and of the seven int64 by which the ranks agree on shapes first.
WIDE = 8
AGREEMENT = 7 * WIDE


def slots(world: int, classes: int, features: int) -> int:
    r"""Bytes of one sum in which each of `world` ranks has a slot for its own counts and means.

    .. math:: 8\,[\,p K (d + 1) + K + d (d + 1) / 2\,] + 56
    """
    triangle = features * (features + 1) // 2
    return WIDE * (world * classes * (features + 1) + classes + triangle) + AGREEMENT


def two_sums(classes: int, features: int) -> int:
    r"""Bytes of two sums: the first makes the means of all known to every rank, the second is of sums about them.

    .. math:: 8\,[\,2 K (d + 1) + d (d + 1) / 2\,] + 56
    """
    return WIDE * (2 * classes * (features + 1) + features * (features + 1) // 2) + AGREEMENT


def ring(buffer: float, world: int) -> float:
    """Bytes that each rank sends in a ring all-reduce: every piece goes round twice, less the own."""
    return 2 * (world - 1) / world * buffer


def ring_seconds(buffer: float, world: int, *, bandwidth: float, latency: float) -> float:
    """Seconds of a ring all-reduce: bytes sent over bytes per second, and a latency for each of 2 (p - 1) steps."""
    return ring(buffer, world) / bandwidth + 2 * (world - 1) * latency
