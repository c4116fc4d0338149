"""Extreme eigenpairs beside a dense eigendecomposition, with repeated and zero eigenvalues."""

from __future__ import annotations

import pytest
import torch

from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.optimize.curvature import dense_matrix, extreme_eigenpairs

SIZE = 260  # above the size up to which the matrix is built


def symmetric(values: torch.Tensor, *, seed: int) -> torch.Tensor:
    normal = torch.randn(len(values), len(values), dtype=torch.float64, generator=generator(seed))
    Q = torch.linalg.qr(normal).Q
    matrix = (Q * values) @ Q.T
    return (matrix + matrix.T) / 2


def spectra() -> dict[str, torch.Tensor]:
    spread = torch.linspace(-1.0, 3.0, SIZE, dtype=torch.float64)
    repeated = spread.clone()
    repeated[:4], repeated[-3:] = -1.0, 3.0
    zeros = torch.cat([torch.zeros(40, dtype=torch.float64), torch.logspace(-4, 0, SIZE - 40, dtype=torch.float64)])
    return {
        "spread": spread,
        "repeated ends": repeated,
        "zero 40 times": zeros,
        "tiny": 1e-9 * spread,
        "huge": 1e9 * spread,
        "negative": spread - 10,
        "one": torch.full((SIZE,), -2.0, dtype=torch.float64),
        "nothing": torch.zeros(SIZE, dtype=torch.float64),
    }


@pytest.mark.parametrize("which", ["smallest", "largest"])
@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("name", spectra())
@pytest.mark.parametrize("dense_below", [0, SIZE])
def test_agrees_with_a_dense_eigendecomposition(name: str, count: int, which: str, dense_below: int) -> None:
    values = spectra()[name]
    matrix, norm = symmetric(values, seed=1), float(values.abs().max())
    found = extreme_eigenpairs(lambda v: matrix @ v, SIZE, count=count, which=which, dense_below=dense_below)
    expected = torch.linalg.eigvalsh(matrix)
    expected = expected[:count] if which == "smallest" else expected.flip(0)[:count]
    assert found.status.converged
    # An eigenvalue errs by at most its residual, 1e-10 |A|; the square of it, for one far from all others.
    torch.testing.assert_close(found.values, expected, rtol=0, atol=1e-10 * norm)
    assert found.vectors.shape == (SIZE, count)
    torch.testing.assert_close(
        found.vectors.T @ found.vectors, torch.eye(count, dtype=torch.float64), rtol=0, atol=1e-12
    )
    errors = torch.linalg.vector_norm(matrix @ found.vectors - found.values * found.vectors, dim=0)
    torch.testing.assert_close(errors, found.residuals, rtol=0, atol=1e-12 * norm)
    assert float(found.residuals.max()) <= 1e-10 * norm


def test_a_vector_that_a_start_does_not_contain_is_found_by_the_search_in_the_complement(monkeypatch) -> None:
    # Products with a diagonal matrix keep a zero, so that the first search cannot see the lowest eigenvalue.
    draw, starts = torch.randn, []

    def blind(*shape, **options) -> torch.Tensor:
        starts.append(draw(*shape, **options))
        starts[-1][0] *= len(starts) > 1
        return starts[-1]

    monkeypatch.setattr(torch, "randn", blind)
    values = torch.linspace(0.0, 1.0, SIZE, dtype=torch.float64)
    values[0] = -1e-3
    found = extreme_eigenpairs(lambda v: values * v, SIZE)
    assert len(starts) >= 2
    assert abs(float(found.values[0]) + 1e-3) < 1e-12
    assert abs(float(found.vectors[0, 0])) > 1 - 1e-9


def test_a_seed_fixes_the_result() -> None:
    matrix = symmetric(spectra()["repeated ends"], seed=2)
    first, second, other = (extreme_eigenpairs(lambda v: matrix @ v, SIZE, seed=seed).vectors for seed in (0, 0, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_a_spent_budget_is_said() -> None:
    values = torch.logspace(-4, 0, 400, dtype=torch.float64)
    found = extreme_eigenpairs(lambda v: values * v, 400, count=3, max_products=50)
    assert found.status.outcome == "budget spent"
    assert "max_products" in found.status.message
    assert len(found.values) < 3
    assert found.vectors.shape == (400, len(found.values))
    whole = extreme_eigenpairs(lambda v: values * v, 400, count=3)
    assert whole.status.converged
    assert whole.products > found.products
    torch.testing.assert_close(whole.values, values[:3], rtol=0, atol=3e-10)


def test_an_estimate_comes_with_its_residual() -> None:
    # Values closer together than the tolerance resolves: no single vector converges, but the value does.
    values = torch.logspace(-8, 0, 2000, dtype=torch.float64)
    found = extreme_eigenpairs(lambda v: values * v, 2000, max_products=1000)
    assert found.status.outcome == "budget spent"
    assert len(found.values) == 1
    assert 1e-10 < float(found.residuals[0]) < 1e-4
    assert abs(float(found.values[0]) - 1e-8) <= float(found.residuals[0])


def test_all_eigenvalues_of_a_small_matrix() -> None:
    matrix = symmetric(torch.tensor([3.0, -1.0, 2.0], dtype=torch.float64), seed=0)
    found = extreme_eigenpairs(lambda v: matrix @ v, 3, count=3, which="largest")
    torch.testing.assert_close(found.values, torch.tensor([3.0, 2.0, -1.0], dtype=torch.float64))
    torch.testing.assert_close(dense_matrix(lambda v: matrix @ v, 3), matrix)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0}, "count is an integer of at least 1"),
        ({"count": 4}, "at most 3 eigenpairs"),
        ({"which": "middle"}, "smallest"),
        ({"tolerance": 0.0}, "tolerance above zero"),
        ({"tolerance": float("nan")}, "tolerance above zero"),
        ({"max_products": 0}, "max_products"),
    ],
)
def test_bad_input(arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        extreme_eigenpairs(lambda v: v, 3, **arguments)
