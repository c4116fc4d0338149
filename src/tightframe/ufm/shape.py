"""Which frame a matrix of logits is, judged from the matrix alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tightframe.core.checks import check_features
from tightframe.core.errors import InputError
from tightframe.core.typing import Float, Tensor


@dataclass(frozen=True)
class Shape:
    """The frame behind W Hbar, in the words of `Optimum.frame`.

    Args:
        frame: "simplex ETF", "orthogonal frame", "between", "projection", "zero", or "other".
        across: a of a (I - J/K) + m J/K, its eigenvalue on vectors that sum to zero; None for "projection" and "other".
        along: m, its eigenvalue on the ones.
    """

    frame: str
    across: float | None
    along: float | None


def shape_of(logits: Float[Tensor, "k k"], *, tolerance: float = 1e-6) -> Shape:
    r"""Name the frame whose logits these are.

    .. math:: W\bar H = a\,(I - \tfrac1K J) + m\,\tfrac1K J

    up to `tolerance`, relative to the norm, is a simplex ETF for m = 0, an orthogonal frame for m = a, and something
    between them otherwise. Logits of another form are called a projection where they are a multiple of one, as squared
    error leaves it in too few dimensions.

    Args:
        logits: W Hbar (k, k), Hbar the class means, without the bias.
        tolerance: Relative to the Frobenius norm; logits smaller than it, in absolute terms, are zero.

    Raises:
        InputError: Not a square matrix of at least two rows.

    Example:
        >>> shape_of(3 * torch.eye(4)).frame, shape_of(torch.eye(4) - 0.25).frame
        ('orthogonal frame', 'simplex ETF')

    Reference: [tirer2022extended], theorems 3.1 and 3.2, for the two ends.
    """
    square = check_features(logits, "logits").double()
    classes = len(square)
    if square.shape != (classes, classes) or classes < 2:
        raise InputError(
            "a square matrix with a row per class", got=f"shape {tuple(square.shape)}", remedy="Pass W @ class_means."
        )
    size = float(torch.linalg.matrix_norm(square))
    if size < tolerance:
        return Shape("zero", 0.0, 0.0)
    along = float(square.sum()) / classes
    across = (float(square.trace()) - along) / (classes - 1)
    ones = torch.full_like(square, 1 / classes)
    model = across * (torch.eye(classes).to(square) - ones) + along * ones
    if float(torch.linalg.matrix_norm(square - model)) < tolerance * size:
        simplex, orthogonal = abs(along) < tolerance * size, abs(along - across) < tolerance * size
        return Shape("simplex ETF" if simplex else "orthogonal frame" if orthogonal else "between", across, along)
    largest = torch.linalg.matrix_norm(square, ord=2)
    multiple = torch.linalg.matrix_norm(square @ square - largest * square) < tolerance * size * largest
    symmetric = torch.linalg.matrix_norm(square - square.T) < tolerance * size
    return Shape("projection" if bool(multiple & symmetric) else "other", None, None)
