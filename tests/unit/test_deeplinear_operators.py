"""Orthogonal maps and layers held as thin matrices, beside their dense forms."""

from __future__ import annotations

import pytest
import torch

from tightframe.deeplinear.operators import LayerOperator, Turn
from tightframe.geometry.frames import haar_columns


@pytest.mark.parametrize(("d", "q"), [(20, 3), (7, 4), (4, 4)])
def test_a_turn_is_orthogonal_and_takes_one_frame_to_the_other(d, q):
    source, image = haar_columns(d, q, seed=1), haar_columns(d, q, seed=2)
    turn = Turn.between(source, image)
    dense = turn @ torch.eye(d, dtype=torch.float64)
    torch.testing.assert_close(dense.T @ dense, torch.eye(d, dtype=torch.float64), atol=1e-13, rtol=0)
    torch.testing.assert_close(dense @ source, image, atol=1e-13, rtol=0)
    x = haar_columns(d, 1, seed=3)[:, 0]
    torch.testing.assert_close(turn @ x, dense @ x, atol=1e-13, rtol=0)


def test_a_turn_moves_only_what_the_frames_span():
    source, image = haar_columns(20, 3, seed=1), haar_columns(20, 3, seed=2)
    x = torch.randn(20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    both = torch.linalg.qr(torch.cat([source, image], dim=1)).Q
    beyond = x - both @ (both.T @ x)
    torch.testing.assert_close(Turn.between(source, image) @ beyond, beyond, atol=1e-14, rtol=0)
    torch.testing.assert_close(Turn.between(source, source) @ x, x, atol=1e-14, rtol=0)


def test_a_layer_multiplies_as_its_matrix():
    V, U, inner = haar_columns(9, 4, seed=1), haar_columns(9, 4, seed=2), torch.randn(4, 4, dtype=torch.float64)
    turn = Turn.between(V, U)
    layer = LayerOperator(inner, torch.eye(4, dtype=torch.float64), 0.3, U, V, (turn,))
    Q = turn @ torch.eye(9, dtype=torch.float64)
    expected = U @ inner @ V.T + 0.3 * (Q - U @ V.T)
    torch.testing.assert_close(layer.dense(), expected, atol=1e-14, rtol=0)
    torch.testing.assert_close(layer.singular_values(), torch.linalg.svdvals(expected), atol=1e-14, rtol=0)
    P, S, R = layer.thin_svd()
    torch.testing.assert_close((P * S) @ R.T, U @ inner @ V.T, atol=1e-14, rtol=0)
    assert layer.shape == (9, 9)


def test_a_layer_without_a_second_term():
    V, inner = haar_columns(9, 4, seed=1), torch.randn(2, 4, dtype=torch.float64)
    layer = LayerOperator(inner, inner, 0.0, torch.eye(2, dtype=torch.float64), V, ())
    torch.testing.assert_close(layer.dense(), inner @ V.T)
    torch.testing.assert_close(layer.singular_values(), torch.linalg.svdvals(inner))
