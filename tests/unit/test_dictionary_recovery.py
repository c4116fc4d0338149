"""Recovery metrics against a search through all assignments, and the expected fourth power against samples."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch

from tightframe.core.errors import DegenerateError, InputError
from tightframe.core.rng import generator
from tightframe.data.sparse import sparse_codes
from tightframe.dictionary.linear.landscape import expected_fourth_power, power_constants, sphere_critical_points
from tightframe.dictionary.linear.recovery import l4_score, nearest_atom_gaps, recovery
from tightframe.geometry.frames import haar_columns, unit_norm_tight_frame


def unit(*shape, seed=0):
    draw = torch.randn(shape, dtype=torch.float64, generator=generator(seed))
    return draw / draw.norm(dim=1, keepdim=True)


def test_the_assignment_is_the_best_of_all():
    truth, estimated = unit(4, 5), unit(4, 5, seed=1)
    cosines = (truth @ estimated.T).abs()
    best = max(permutations(range(4)), key=lambda order: sum(cosines[i, j] for i, j in enumerate(order)))
    found = recovery(3 * estimated, truth)
    assert found.assigned.tolist() == list(best)
    for i, j in enumerate(best):
        direct = min((truth[i] - sign * estimated[j]).norm() for sign in (1, -1))
        assert abs(found.errors[i] - direct) < 1e-14
        assert abs(found.cosines[i] - cosines[i, j]) < 1e-14
    assert found.worst == float(found.errors.max())


def test_order_and_sign_do_not_count_and_missing_atoms_do():
    truth = unit(5, 4)
    signs = torch.tensor([1.0, -1, 1, -1, 1], dtype=torch.float64)[:, None]
    shuffled = (signs * truth)[[3, 1, 0, 4, 2]]
    assert recovery(shuffled, truth).worst < 1e-15
    missing = recovery(shuffled[:3], truth)
    assert sorted(missing.assigned.tolist()) == [-1, -1, 0, 1, 2]
    assert missing.share() == 3 / 5
    assert missing.worst == pytest.approx(2**0.5)


def test_an_error_of_rounding_size_is_told_from_none():
    truth = torch.eye(3, dtype=torch.float64)
    moved = truth.clone()
    moved[0, 1] = 1e-11
    assert recovery(moved, truth).worst == pytest.approx(1e-11, rel=1e-3)


def test_the_l4_score_is_zero_for_signed_permutations_only():
    frame = haar_columns(6, 6, seed=1).T
    turned = -frame[[2, 0, 1, 5, 4, 3]]
    assert abs(l4_score(turned, frame)) < 1e-14
    # Two atoms turned by an angle a within their plane lose (2 - 2 cos^4 a - 2 sin^4 a) / 6.
    angle = torch.tensor(0.3, dtype=torch.float64)
    mixed = frame.clone()
    mixed[0] = angle.cos() * frame[0] + angle.sin() * frame[1]
    mixed[1] = angle.cos() * frame[1] - angle.sin() * frame[0]
    expected = (2 - 2 * angle.cos() ** 4 - 2 * angle.sin() ** 4) / 6
    assert l4_score(mixed, frame) == pytest.approx(float(expected), rel=1e-12)


def test_gaps_to_the_nearest_atom():
    atoms = torch.eye(2, dtype=torch.float64)
    gaps = nearest_atom_gaps(torch.tensor([[-3.0, 0.0], [1.0, 1.0]]), atoms)
    assert gaps.tolist() == pytest.approx([0.0, 1 - 0.5**0.5])


@pytest.mark.parametrize("values", ["gaussian", "rademacher"])
def test_the_expected_fourth_power_is_that_of_many_samples(values):
    atoms, directions = unit_norm_tight_frame(8, 4), unit(6, 4, seed=3)
    codes = sparse_codes((400_000, 8), 0.2, values=values, seed=5)
    powers = (codes @ atoms @ directions.T).pow(4)
    expected = expected_fourth_power(atoms, directions, 0.2, values=values)
    deviations = (powers.mean(0) - expected) / (powers.std(0) / 400_000**0.5)
    # Six standard normal numbers: beyond 4.5 with probability 4e-5.
    assert deviations.abs().max() < 4.5
    # The second constant is no rounding: without it most would be off by many deviations.
    first, second = power_constants(0.2, values=values)
    assert second * (8 / 4) ** 2 / (powers.std(0) / 400_000**0.5).max() > 10
    assert first > 0


def test_powers_of_dense_gaussian_codes_know_no_direction():
    assert power_constants(1.0)[0] == pytest.approx(0, abs=1e-15)
    found = expected_fourth_power(haar_columns(5, 5, seed=0).T, unit(20, 5), 1.0)
    assert torch.allclose(found, torch.full((20,), 3.0).double(), atol=1e-12)


def test_critical_points_of_an_orthogonal_dictionary_are_those_of_the_closed_form():
    # Of -|q|_4^4 / 4 they are the vectors with k entries of +-k^(-1/2); curvature 1 at k = 1, else -2, by |q|_4^4.
    starts = torch.randn(60, 5, dtype=torch.float64, generator=generator(2))
    starts = torch.cat([starts, torch.eye(5).double() + 0.05])
    found = sphere_critical_points(torch.eye(5, dtype=torch.float64), starts)
    kinds = found.kinds()
    assert set(kinds) == {"column", "strict saddle"}
    for point, bend, value, kind in zip(found.points, found.curvatures, found.values, kinds, strict=True):
        active = point[point.abs() > 1e-6]
        assert torch.allclose(active.abs(), torch.full_like(active, len(active) ** -0.5), atol=1e-9)
        assert float(value) == pytest.approx(-1 / (4 * len(active)), abs=1e-9)
        assert float(bend) == pytest.approx(1.0 if kind == "column" else -2.0, abs=1e-6)
    assert found.gradients.max() < 1e-9


def test_bad_input_is_refused():
    with pytest.raises(InputError, match="one d"):
        recovery(torch.eye(2), torch.eye(3))
    with pytest.raises(InputError, match="finite"):
        recovery(torch.full((2, 2), float("nan")), torch.eye(2))
    with pytest.raises(DegenerateError, match="length"):
        recovery(torch.eye(2), torch.zeros(2, 2))
    with pytest.raises(InputError, match="as many"):
        l4_score(torch.eye(3)[:2], torch.eye(3))
    with pytest.raises(InputError, match="density"):
        power_constants(1.5)
    with pytest.raises(InputError, match="values"):
        power_constants(0.5, values="one")
    with pytest.raises(InputError, match="one dimension"):
        expected_fourth_power(torch.eye(2), torch.eye(3), 0.1)
    with pytest.raises(InputError, match="at least d"):
        unit_norm_tight_frame(2, 3)
    with pytest.raises(DegenerateError, match="rounds"):
        unit_norm_tight_frame(7, 3, max_iterations=1)
