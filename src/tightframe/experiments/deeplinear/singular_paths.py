"""Singular values and vectors as curves in time, followed through crossings and out of coincidence."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from tightframe.core.typing import Float

# Neighbours within this share of the largest singular value coincide: their vectors are any basis of one space.
_COINCIDE = 1e-7


@dataclass(frozen=True, eq=False)
class SingularPaths:
    """Singular triples of a matrix on its way, one column per triple, in the order of the last singular values.

    Args:
        S: Singular values (t, q), signed.
        U: Left vectors (t, d_out, q).
        V: Right vectors (t, d_in, q).
    """

    S: Float[Tensor, "t q"]
    U: Float[Tensor, "t d q"]
    V: Float[Tensor, "t e q"]

    def turned(self, side: str) -> Float[Tensor, "t q"]:
        """Angle of every vector ("left" or "right") with where it started, in radians, from 0 to a right angle."""
        vectors = self.U if side == "left" else self.V
        # From chords: an arc cosine loses half of the digits of a small angle.
        chords = torch.minimum(*(torch.linalg.vector_norm(vectors + sign * vectors[0], dim=1) for sign in (-1, 1)))
        return 2 * torch.asin((chords / 2).clamp(max=1))


def follow(S: Float[Tensor, "t q"], U: Float[Tensor, "t d q"], V: Float[Tensor, "t e q"]) -> SingularPaths:
    """Follow singular triples backwards from the end, where they are furthest apart.

    Triples whose values coincide are rotated together into the ones that came after: at an orthogonal start, where all
    values do, this chooses the one basis that descent moves on smoothly. Elsewhere triples are matched by the overlap
    of their vectors, so that values may cross. A value that passes through zero goes on below it, where a singular
    value decomposition would turn one of its vectors round; it is not negative at the start.

    Args:
        S: Singular values, descending at every time.
        U: Left vectors.
        V: Right vectors.
    """
    paths = [(S[-1], U[-1], V[-1])]
    for values, left, right in reversed(list(zip(S[:-1], U[:-1], V[:-1], strict=True))):
        paths.append(_continued(values, left, right, *paths[-1][1:]))
    values, left, right = (torch.stack(part[::-1]) for part in zip(*paths, strict=True))
    signs = torch.where(values[0] < 0, -1.0, 1.0).to(values)
    return SingularPaths(values * signs, left, right * signs)


def _continued(S: Tensor, U: Tensor, V: Tensor, U_after: Tensor, V_after: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    lefts, rights = U.T @ U_after, V.T @ V_after
    groups = _coinciding(S)
    score = torch.zeros_like(lefts)
    for group in groups:
        score[group] = lefts[group].square().sum(0) + rights[group].square().sum(0)
    rows, columns = linear_sum_assignment(score.numpy(), maximize=True)
    place = torch.empty(len(S), dtype=torch.long)
    place[torch.from_numpy(rows)] = torch.from_numpy(columns)
    values, left, right = torch.empty_like(S), torch.empty_like(U), torch.empty_like(V)
    for group in groups:
        chosen = place[group]
        across = lefts[group][:, chosen], rights[group][:, chosen]
        signs = torch.where((across[0] * across[1]).sum(0) < 0, -1.0, 1.0).to(S)
        P, _, Qh = torch.linalg.svd(across[0] + signs * across[1])
        turn = P @ Qh
        values[chosen] = signs * (turn.square().T @ S[group])
        left[:, chosen], right[:, chosen] = U[:, group] @ turn, signs * (V[:, group] @ turn)
    return values, left, right


def _coinciding(S: Tensor) -> list[Tensor]:
    """Indices of values that coincide with their neighbours, group by group."""
    breaks = torch.nonzero(S[:-1] - S[1:] > _COINCIDE * S[0]).flatten() + 1
    return list(torch.tensor_split(torch.arange(len(S)), breaks.tolist()))
