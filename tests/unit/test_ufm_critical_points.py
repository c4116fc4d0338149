"""Critical points by construction and by Newton's method: the gradient of the whole model must vanish there."""

from __future__ import annotations

import pytest
import torch

from tightframe.core.errors import InputError
from tightframe.ufm import UnconstrainedFeatures, optimum
from tightframe.ufm.critical_points import ends, newton_point, reductions, survey, symmetric_point
from tightframe.ufm.landscape import Landscape, classify
from tightframe.ufm.model import Point
from tightframe.ufm.normal_form import NormalForm

LOSSES = ("ce", "ls", "focal", "mse")
BIASES = ("none", "free", 0.02)


def model(**changes) -> UnconstrainedFeatures:
    given = {"classes": 4, "features": 5, "per_class": 6, "weight_decay": (5e-3, 2e-3)}
    return UnconstrainedFeatures(**given | changes)


def autograd_norm(problem: UnconstrainedFeatures, point: Point) -> float:
    """Norm of the gradient in W, H and b of the model, with its loss differentiated by torch."""
    leaves = [part.clone().requires_grad_() for part in (point.W, point.H, point.b)]
    W, H, b = leaves
    logits = W @ H + b[:, None]
    lW, lH = problem.weight_decay
    value = problem.loss.value(logits, problem.labels).mean() + lW / 2 * W.square().sum() + lH / 2 * H.square().sum()
    free = problem.bias != "none"
    if free:
        value = value + problem.bias_decay / 2 * b.square().sum()
    grads = torch.autograd.grad(value, leaves if free else leaves[:2])
    return float(torch.cat([grad.flatten() for grad in grads]).norm())


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize("counts", [6, (12, 6, 6, 3)])
@pytest.mark.parametrize("built", [{"rank": 0}, {"rank": 1}, {"rank": 2}, {"groups": [(1, 2)]}])
def test_the_gradient_of_the_whole_model_vanishes(loss: str, bias, counts, built: dict) -> None:
    problem = model(loss=loss, bias=bias, per_class=counts)
    found = symmetric_point(problem, **built, seed=1)
    assert found.kind == "strict saddle"
    # The polished gradient is rounding, a few eps times the largest factor (about 10).
    assert autograd_norm(problem, found.point) < 1e-12
    assert found.gradient_norm < 1e-12


@pytest.mark.parametrize("rank", [0, 1, 2, 3])
def test_the_rank_is_the_one_asked_for(rank: int) -> None:
    point = symmetric_point(model(), rank=rank, seed=2).point
    values = torch.linalg.svdvals(point.W)
    assert int((values > 1e-6).sum()) == rank
    assert float(values[rank:].sum()) < 1e-12
    # Features lie in the row space of W: at a critical point both have the same range.
    assert torch.linalg.matrix_rank(torch.cat([point.W, point.H.T]), rtol=1e-9) == rank


def test_a_low_rank_point_is_a_minimum_of_the_model_with_fewer_dimensions() -> None:
    # Squared error: the best of rank 2 keeps two singular values of the target, Eckart and Young.
    for counts in (6, (12, 6, 6, 3)):
        best = optimum(model(loss="mse", features=2, per_class=counts))
        found = symmetric_point(model(loss="mse", per_class=counts), rank=2, seed=0)
        # Rank 2 can also stop at a saddle of the small model; from this start it does not.
        assert found.value == pytest.approx(best.value, abs=1e-12)


def test_merged_classes_share_classifier_features_and_bias() -> None:
    problem = model(loss="ls", bias="free")
    point = symmetric_point(problem, groups=[(0, 3), (1, 2)], seed=1).point
    means = point.H.view(5, 4, 6)
    for first, second in ((0, 3), (1, 2)):
        torch.testing.assert_close(point.W[first], point.W[second], rtol=0, atol=1e-13)
        torch.testing.assert_close(means[:, first], means[:, second], rtol=0, atol=1e-13)
        assert float(point.b[first]) == pytest.approx(float(point.b[second]), abs=1e-13)
    assert float((point.W[0] - point.W[1]).norm()) > 0.1


def test_merged_groups_have_the_value_of_the_model_of_their_sums() -> None:
    # Squared error, all classes merged: W H = c J by symmetry, one scalar. With N = 24 the value of the rank-one model
    # is 1/2 - (s - N lambda)^2/(2N) at the singular value s = sqrt(n) of the target along the ones.
    problem = model(loss="mse")
    found = symmetric_point(problem, groups=[(0, 1, 2, 3)])
    s, lam = 6**0.5, problem.nuclear_decay
    assert found.value == pytest.approx(0.5 - (s - 24 * lam) ** 2 / 48, abs=1e-12)


def test_all_classes_merged_is_the_origin_for_cross_entropy() -> None:
    found = symmetric_point(model(), groups=[(0, 1, 2, 3)])
    assert found.kind == "strict saddle"
    assert float(found.point.W.norm()) < 1e-9


def test_the_origin_has_the_best_bias() -> None:
    # With a free bias cross-entropy at W = H = 0 is the entropy of the class shares.
    counts = torch.tensor([12, 6, 6, 3], dtype=torch.float64)
    found = symmetric_point(model(bias="free", per_class=(12, 6, 6, 3)), rank=0)
    shares = counts / counts.sum()
    assert found.value == pytest.approx(float(-(shares * shares.log()).sum()), abs=1e-13)
    assert found.kind == "strict saddle"


@pytest.mark.parametrize("loss", LOSSES)
def test_the_origin_is_global_where_the_decay_is_above_the_threshold(loss: str) -> None:
    assert symmetric_point(model(loss=loss, weight_decay=(0.5, 0.5)), rank=0).kind == "global"


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("bias", BIASES)
def test_newton_ends_at_critical_points(loss: str, bias) -> None:
    problem = model(loss=loss, bias=bias, per_class=2, features=4)
    kinds = []
    for seed in range(6):
        found = newton_point(problem, seed=seed)
        kinds.append(found.kind)
        if found.kind != "not critical":
            assert autograd_norm(problem, found.point) < 1e-9
    assert kinds.count("not critical") <= 2
    assert "other" not in kinds


def test_newton_stays_at_the_saddle_it_starts_from_and_returns_to_it() -> None:
    problem = model(per_class=2)
    saddle = symmetric_point(problem, rank=1)
    again = newton_point(problem, start=saddle.point)
    assert again.kind == "strict saddle"
    assert again.value == pytest.approx(saddle.value, abs=1e-13)
    near = Point(saddle.point.W + 1e-3, saddle.point.H - 1e-3, saddle.point.b)
    assert newton_point(problem, start=near).value == pytest.approx(saddle.value, abs=1e-12)


def test_newton_moves_every_column_of_a_loss_that_is_not_convex() -> None:
    problem = UnconstrainedFeatures(classes=3, features=3, per_class=2, loss="focal", weight_decay=(5e-3, 5e-3))
    changed = 0
    for seed in range(8):
        start = problem.start(seed=seed, scale=3.0)
        means = start.H.view(3, 3, 2).mean(2, keepdim=True).expand(-1, -1, 2).reshape(3, 6)
        found = newton_point(problem, start=start)
        changed += abs(found.value - newton_point(problem, start=Point(start.W, means, start.b)).value) > 1e-3
        if found.kind != "not critical":
            assert autograd_norm(problem, found.point) < 1e-9
            # All that were found are collapsed, which theory says of global minima only.
            columns = found.point.H.view(3, 3, 2)
            torch.testing.assert_close(columns[..., 0], columns[..., 1], rtol=0, atol=1e-9)
    assert changed >= 2


def test_the_reductions_of_a_model_are_different_critical_points() -> None:
    problem = model()
    found = {name: symmetric_point(problem, **options) for name, options in reductions(problem).items()}
    assert list(found)[:3] == ["origin", "rank 1", "rank 2"]
    assert {point.kind for point in found.values()} == {"strict saddle"}
    assert len({round(point.value, 9) for point in found.values()}) == len(found)
    # Unequal classes: only those of one size are merged; none where all sizes differ.
    assert reductions(model(per_class=(12, 6, 6, 3)))["two classes merged"] == {"groups": [[1, 2]]}
    assert "two classes merged" not in reductions(model(per_class=(12, 6, 5, 3)))
    assert list(reductions(UnconstrainedFeatures(classes=2, features=1))) == ["origin", "two classes merged"]


def test_a_survey_says_how_each_point_was_found() -> None:
    problem = model(per_class=2, weight_decay=(5e-3, 5e-3))
    found = survey(problem, 5)
    assert [how for how, _ in found] == ["descent"] + ["construction"] * 6 + ["Newton"] * 5
    kinds = [point.kind for _, point in found]
    assert kinds[0] == "global"
    assert kinds[1:7] == ["strict saddle"] * 6
    assert "other" not in kinds


@pytest.mark.parametrize("loss", ["ce", "ls", "focal"])
def test_in_two_dimensions_fewer_than_classes_descents_end_at_different_local_minima(loss: str) -> None:
    problem = model(features=2, per_class=(20, 10, 10, 5), loss=loss, weight_decay=(5e-3, 5e-4))
    found = ends(problem, 12)
    assert len(found) == 2
    assert sum(end.starts for end in found) == 12
    assert found[1].point.value - found[0].point.value > 1e-5
    for end in found:
        assert end.isolated
        assert end.point.kind == "other"
        # Beside the one rotation, whose eigenvalue is zero, the Hessian is positive: its second eigenvalue.
        landscape = Landscape(NormalForm.of_point(problem, end.point.point))
        x = landscape.vector
        hessian = torch.stack([landscape.product(x, e) for e in torch.eye(len(x), dtype=torch.float64)])
        values = torch.linalg.eigvalsh(hessian)
        assert abs(float(values[0])) < 1e-8
        assert end.stiffness == pytest.approx(float(values[1]), rel=1e-9)
        assert end.stiffness > 1e-4


def test_from_the_dimension_of_the_simplex_on_all_descents_have_one_end() -> None:
    for features in (3, 4, 6):
        (end,) = ends(model(features=features), 6)
        assert (end.starts, end.point.kind) == (6, "global")
        # Up to rotations the simplex is a minimum that stands alone: the next eigenvalue is lambda.
        assert end.isolated
        assert end.stiffness == pytest.approx(model().nuclear_decay, rel=1e-6)
    with pytest.raises(InputError, match="starts"):
        ends(model(), 0)


def test_a_flat_direction_beside_the_rotations_is_not_isolated() -> None:
    # Squared error in d = 3 < K = 4 with equal classes: which part of the frame is kept is free.
    (end,) = ends(model(loss="mse", features=3), 4)
    assert end.point.kind == "global"
    assert not end.isolated
    assert abs(end.stiffness) < 1e-9


def test_the_numbers_of_a_point_fit_a_table() -> None:
    problem = model()
    saddle, best = symmetric_point(problem, rank=2), classify(problem, optimum(problem).point())
    row = saddle.numbers()
    assert row == row | {
        "kind": "strict saddle",
        "rank": 2,
        "steepness": -saddle.smallest,
        "|G| - lambda": saddle.excess,
    }
    assert row["predicted curvature"] == saddle.direction.predicted
    assert saddle.certified
    assert not best.certified
    assert best.numbers()["steepness"] is None
    assert best.rank == 3


def test_seeds_fix_the_result_and_change_it() -> None:
    problem = model()
    first, second, other = (symmetric_point(problem, rank=2, seed=seed).point.W for seed in (3, 3, 4))
    assert torch.equal(first, second)
    assert not torch.allclose(first, other)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rank": -1}, "rank is an integer of at least 0"),
        ({"rank": 6}, "rank from 0 to d = 5"),
        ({"rank": 1.5}, "rank is an integer of at least 0"),
        ({"groups": [(0, 4)]}, "groups of different classes"),
        ({"groups": [(0, 1), (1, 2)]}, "groups of different classes"),
        ({"groups": [(0, 0)]}, "groups of different classes"),
        ({"groups": [()]}, "groups of different classes"),
        ({"groups": [(0, 1.0)]}, "groups of different classes"),
    ],
)
def test_bad_input(arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        symmetric_point(model(), **arguments)


def test_classes_of_unequal_sizes_cannot_be_merged() -> None:
    with pytest.raises(InputError, match="merged classes of equal sizes"):
        symmetric_point(model(per_class=(12, 6, 6, 3)), groups=[(0, 1)])
