"""`DeepMatrixCompletion`: ranks found, errors at the bars, noise, intervals, recommendations and bad input."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from tightframe.core.errors import DegenerateError, InputError
from tightframe.core.rng import generator
from tightframe.deeplinear.alternating import alternating_least_squares
from tightframe.deeplinear.completion import DeepMatrixCompletion
from tightframe.deeplinear.held_out import choose_by_held_out
from tightframe.deeplinear.observations import observe
from tightframe.deeplinear.path import balanced, descend_observed, leading_components, spectral_network
from tightframe.deeplinear.recipe import Recipe


def low_rank(m, n, rank, share, seed=0):
    draws = generator(seed)
    A, B = (torch.randn(size, rank, dtype=torch.float64, generator=draws) for size in (m, n))
    return A @ B.T, torch.rand(m, n, generator=draws) < share


def masked(matrix, mask):
    return torch.where(mask, matrix, torch.nan)


def unseen_error(model, matrix, mask):
    return float((model.complete() - matrix)[~mask].norm() / matrix[~mask].norm())


@pytest.mark.parametrize("rank", ["auto", 5, 10, 20])
@pytest.mark.parametrize("share", [0.12, 0.3])
def test_the_rank_is_found_and_the_error_below_the_bar(rank, share):
    """Over-estimated up to four times or not given at all."""
    matrix, mask = low_rank(200, 200, 5, share)
    model = DeepMatrixCompletion(rank).fit(masked(matrix, mask))
    assert model.rank_ == 5
    assert model.method_ == "exact rank"
    assert unseen_error(model, matrix, mask) < 1e-6
    assert model.solution_.status.converged
    assert model.held_out_ == {}
    assert model.trace_["residual"][-1] <= 1e-8
    assert np.all(np.diff(model.trace_["step"]) > 0)
    assert np.all(np.diff(model.trace_["seconds"]) >= 0)


def test_few_entries_suffice_where_every_row_has_as_many_as_the_rank():
    """0.65 degrees of freedom per observation: rows with fewer entries than the rank leave their factor open."""
    recovered = 0
    for seed in range(6):
        matrix, mask = low_rank(100, 100, 5, 0.15, seed=100 + seed)
        model = DeepMatrixCompletion(10, validation=0.0).fit(masked(matrix, mask))
        assert model.rank_ == 5
        assert model.trace_["residual"][-1] <= 1e-8
        determined = (mask.sum(1) >= 5)[:, None] & (mask.sum(0) >= 5)
        errors = (model.complete() - matrix)[determined & ~mask]
        recovered += float(errors.norm() / matrix[determined & ~mask].norm()) < 1e-5
    assert recovered == 6


def test_a_component_too_many_is_dropped_where_the_entries_are_fitted_without():
    # From a fifth of the entries the gap shows three components. With them the fit is exact too and the matrix wrong by
    # a hundredth; the third is 67 times smaller than the second, and least squares told the rank are caught in a swamp.
    matrix, mask = low_rank(50, 50, 2, 0.2)
    model = DeepMatrixCompletion().fit(masked(matrix, mask))
    assert model.rank_ == 2
    assert unseen_error(model, matrix, mask) < 1e-5


def test_rectangles_sparse_matrices_and_triples_agree():
    matrix, mask = low_rank(80, 40, 2, 0.4)
    rows, columns = (index.numpy() for index in mask.nonzero(as_tuple=True))
    values = matrix[mask].numpy()
    sparse = scipy.sparse.csr_array((values, (rows, columns)), shape=(80, 40))
    whole = DeepMatrixCompletion().fit(masked(matrix, mask))
    for given, options in ((sparse, {}), ((rows, columns, values), {"shape": (80, 40)})):
        other = DeepMatrixCompletion().fit(given, **options)
        assert torch.equal(other.left_, whole.left_)
        assert torch.equal(other.right_, whole.right_)
    transposed = DeepMatrixCompletion().fit(masked(matrix, mask).T)
    assert unseen_error(transposed, matrix.T, mask.T) < 1e-6


def test_factors_are_balanced_and_named():
    matrix, mask = low_rank(50, 60, 3, 0.5)
    model = DeepMatrixCompletion().fit(masked(matrix, mask))
    S = torch.diag(model.singular_values_)
    for factor in (model.left_, model.right_):
        torch.testing.assert_close(factor.T @ factor, S, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(model.singular_values_, torch.linalg.svdvals(matrix)[:3], rtol=1e-6, atol=0)


def test_side_terms_cost_two_ranks_and_no_accuracy():
    matrix, mask = low_rank(90, 70, 2, 0.4)
    draws = generator(9)
    effects = [3 * torch.randn(size, dtype=torch.float64, generator=draws) for size in matrix.shape]
    shifted = 10 + matrix + effects[0][:, None] + effects[1]
    model = DeepMatrixCompletion(biases=True).fit(masked(shifted, mask))
    assert model.rank_ <= 4
    assert unseen_error(model, shifted, mask) < 1e-6


@pytest.mark.parametrize("biases", [False, True])
def test_a_constant_matrix(biases):
    mask = torch.rand(20, 30, generator=generator(0)) < 0.5
    matrix = torch.full((20, 30), 4.0, dtype=torch.float64)
    model = DeepMatrixCompletion(biases=biases).fit(masked(matrix, mask))
    assert model.rank_ == (0 if biases else 1)
    torch.testing.assert_close(model.complete(), matrix, rtol=1e-6, atol=0)


def test_noise_is_met_by_the_rank_that_held_out_entries_choose():
    """Within 1.2 of sigma sqrt(dof / samples), what least squares with the true rank could reach."""
    matrix, mask = low_rank(100, 80, 2, 0.4, seed=1)
    matrix /= matrix.square().mean().sqrt()
    noisy = matrix + 0.1 * torch.randn(matrix.shape, dtype=torch.float64, generator=generator(2))
    model = DeepMatrixCompletion(4).fit(masked(noisy, mask))
    oracle = 0.1 * (2 * 178 / int(mask.sum())) ** 0.5
    assert model.rank_ == 2
    assert "rank 2" in model.method_
    product = model.left_ @ model.right_.T
    assert float((product - matrix)[~mask].norm() / matrix[~mask].norm()) < 1.2 * oracle
    assert model.held_out_["rank 2"] < min(model.held_out_["rank 1"], model.held_out_["rank 3"])


def test_without_a_gap_it_is_no_worse_than_its_families():
    """A power law: fixed rank, nuclear norm and deep descent, each at its best ridge, rank or number of steps."""
    draws = generator(0)
    U, V = (torch.linalg.qr(torch.randn(50, 20, dtype=torch.float64, generator=draws)).Q for _ in range(2))
    matrix = U * torch.arange(1, 21).double() ** -1.5 @ V.T
    mask = torch.rand(50, 50, generator=draws) < 0.6
    model = DeepMatrixCompletion(8).fit(masked(matrix, mask))
    found = observe(masked(matrix, mask))

    def error(A, B):
        return float((A @ B.T - matrix)[~mask].norm() / matrix[~mask].norm())

    rivals = []
    components = leading_components(found, 16)
    for rank in (2, 4, 6, 8):
        fit = alternating_least_squares(found, *balanced(*components, rank), max_sweeps=200)
        rivals.append(error(fit.A, fit.B))
    left, right = balanced(*components, 16)
    for power in range(3, 11):
        ridge = float(components[1][0]) * found.share * 0.5**power
        fit = alternating_least_squares(found, left, right, ridge=ridge, tolerance=0.0, progress=1e-5)
        left, right = fit.A, fit.B
        rivals.append(error(left, right))
    network, top = spectral_network(found, 16, scale=0.03)
    for steps in (200, 600):
        fit = descend_observed(found, network, top, residual=0.0, max_steps=steps)
        rivals.append(error(fit.A, fit.B))
    # Oracles choose by the very entries that the error is measured on.
    assert unseen_error(model, matrix, mask) <= 1.05 * min(rivals)


def test_weights_of_a_mixture_are_not_negative_and_errors_are_of_held_out_entries():
    matrix, mask = low_rank(50, 50, 4, 0.5)
    noisy = matrix + torch.randn(matrix.shape, dtype=torch.float64, generator=generator(5))
    found = observe(masked(noisy, mask))
    chosen = choose_by_held_out(found, width=10, limit=5, depth=3, share=0.2, seed=0, steps=200)
    assert all(weight > 0 for weight in chosen.weights.values())
    assert {"rank 1", "rank 5", "mixture"} <= set(chosen.errors)
    assert chosen.errors["mixture"] <= min(error for name, error in chosen.errors.items() if name != "mixture") + 1e-12


def test_intervals_hold_what_they_say():
    """Of n held-out residuals the coverage is within four standard errors of the nominal one."""
    matrix, mask = low_rank(80, 60, 2, 0.4, seed=3)
    noisy = matrix + 0.5 * torch.randn(matrix.shape, dtype=torch.float64, generator=generator(4))
    model = DeepMatrixCompletion(2, calibrate=True).fit(masked(noisy, mask))
    rows, columns = (~mask).nonzero(as_tuple=True)
    low, high = model.predict_interval(rows, columns, coverage=0.8)
    truth = noisy[~mask]
    covered = float(((low <= truth) & (truth <= high)).double().mean())
    assert abs(covered - 0.8) < 4 * (0.16 / len(model.residuals_)) ** 0.5 + 0.03
    with pytest.raises(InputError, match="a coverage that"):
        model.predict_interval([0], [0], coverage=0.9999)
    with pytest.raises(InputError, match="calibrate"):
        clone(model).set_params(calibrate=False).fit(masked(noisy, mask)).predict_interval([0], [0])


def test_recommendations_are_the_largest_new_entries():
    matrix, mask = low_rank(30, 25, 2, 0.5)
    model = DeepMatrixCompletion().fit(masked(matrix, mask))
    predicted = model.predict(np.repeat(np.arange(30), 25), np.tile(np.arange(25), 30)).reshape(30, 25)
    columns, scores = model.recommend([4, 17, 4], top=5)
    for place, row in enumerate([4, 17, 4]):
        fresh = np.where(mask[row].numpy(), -np.inf, predicted[row])
        assert columns[place].tolist() == np.argsort(-fresh)[:5].tolist()
        assert np.allclose(scores[place], np.sort(fresh)[::-1][:5])
    columns, _ = model.recommend([0], top=25)
    fewer = int((~mask[0]).sum())
    assert (columns[0, fewer:] == -1).all()
    assert (columns[0, :fewer] >= 0).all()
    columns, _ = model.recommend([0], top=25, seen=True)
    assert sorted(columns[0].tolist()) == list(range(25))


def test_rows_and_columns_without_entries_fall_back_and_say_so():
    matrix, mask = low_rank(30, 30, 2, 0.6)
    mask[3], mask[:, 7] = False, False
    model = DeepMatrixCompletion().fit(masked(matrix, mask))
    assert not bool(model.covered_rows_[3])
    assert int((~model.covered_columns_).sum()) == 1
    with pytest.warns(UserWarning, match="3 of 4 places"):
        values = model.predict([3, 3, 5, 5], [7, 2, 7, 2])
    assert values[0] == pytest.approx(float(matrix[mask].mean()))
    assert values[1] == pytest.approx(float(matrix[mask[:, 2], 2].mean()))
    assert values[2] == pytest.approx(float(matrix[5, mask[5]].mean()))
    assert values[3] == pytest.approx(float(matrix[5, 2]), rel=1e-5)


def test_kinds_and_precision_follow_what_comes_in():
    """The default tolerance is beyond single precision: it stands for what that precision can reach."""
    matrix, mask = low_rank(30, 30, 2, 0.6)
    model = DeepMatrixCompletion().fit(masked(matrix, mask).float())
    assert model.method_ == "exact rank"
    assert model.trace_["residual"][-1] <= 16 * torch.finfo(torch.float32).eps
    assert model.left_.dtype == torch.float32
    assert isinstance(model.predict(torch.tensor([0]), torch.tensor([1])), torch.Tensor)
    assert isinstance(model.predict([0], [1]), np.ndarray)
    assert unseen_error(model, matrix, mask) < 1e-5


def test_sweeps_that_end_early_leave_the_rank_at_the_gap_and_ask_no_held_out_entries():
    matrix, mask = low_rank(60, 50, 3, 0.4)
    short, long = (DeepMatrixCompletion(max_sweeps=sweeps).fit(masked(matrix, mask)) for sweeps in (3, 500))
    assert (short.method_, short.rank_, short.held_out_) == ("rank at the gap", 3, {})
    assert short.solution_.status.outcome == "budget spent"
    assert "raise max_sweeps" in str(short.solution_.status)
    assert long.method_ == "exact rank"
    assert unseen_error(long, matrix, mask) < unseen_error(short, matrix, mask) < 0.05


def test_conventions_of_estimators():
    model = DeepMatrixCompletion(rank=4, biases=True, seed=3)
    assert clone(model).get_params() == model.get_params()
    with pytest.raises(NotFittedError):
        model.predict([0], [0])
    matrix, mask = low_rank(40, 30, 2, 0.5)
    fitted = model.fit(masked(matrix, mask))
    rows, columns = (~mask).nonzero(as_tuple=True)
    assert fitted.score((rows, columns, matrix[~mask])) == pytest.approx(1.0, abs=1e-9)
    again = clone(model).fit(masked(matrix, mask))
    assert torch.equal(again.left_, fitted.left_)


def test_a_report_to_stderr_only_where_asked(capsys):
    matrix, mask = low_rank(40, 30, 2, 0.5)
    DeepMatrixCompletion().fit(masked(matrix, mask))
    assert capsys.readouterr() == ("", "")
    DeepMatrixCompletion(verbose=True).fit(masked(matrix, mask))
    out, err = capsys.readouterr()
    assert out == ""
    assert "gap at rank 2" in err


def test_a_step_beyond_stability_warns_with_the_bound():
    matrix, mask = low_rank(40, 30, 2, 0.5)
    with pytest.warns(UserWarning, match=r"2/\|\|Hessian\|\|"):
        model = DeepMatrixCompletion(step=10.0, validation=0.0).fit(masked(matrix, mask))
    assert model.solution_.status.outcome == "diverged"
    assert bool(torch.isfinite(model.complete()).all())


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"rank": 31}, "rank at most 30"),
        ({"width": 31}, "width at most 30"),
        ({"rank": 0}, "rank"),
        ({"rank": "best"}, "rank is"),
        ({"depth": 1}, "depth"),
        ({"scale": 0.0}, "scale"),
        ({"step": -1.0}, "step"),
        ({"validation": 1.0}, "share"),
        ({"gamma": -1.0}, "gamma"),
        ({"max_sweeps": 0}, "max_sweeps"),
        ({"max_steps": 0}, "max_steps"),
        ({"max_steps": 2.5}, "max_steps"),
    ],
)
def test_bad_parameters_are_refused(parameters, text):
    matrix, mask = low_rank(40, 30, 2, 0.5)
    with pytest.raises(InputError, match=text):
        DeepMatrixCompletion(**parameters).fit(masked(matrix, mask))


def test_bad_data_are_refused():
    matrix, mask = low_rank(40, 30, 2, 0.5)
    with pytest.raises(DegenerateError):
        DeepMatrixCompletion().fit(masked(0 * matrix, mask))
    with pytest.raises(InputError, match="finite values"):
        DeepMatrixCompletion().fit(([0, 1], [0, 1], [1.0, float("nan")]))
    model = DeepMatrixCompletion().fit(masked(matrix, mask))
    for wrong in (([40], [0]), ([0], [-1]), ([0, 1], [0]), ([0.5], [0])):
        with pytest.raises(InputError):
            model.predict(*wrong)
    with pytest.raises(InputError, match="top at most"):
        model.recommend([0], top=31)
    with pytest.raises(DegenerateError):
        model.score(([0, 1], [0, 1], [1.0, 1.0]))
    with pytest.warns(UserWarning, match="gamma = 0"):
        DeepMatrixCompletion(gamma=0.0, max_steps=5, validation=0.0).fit(masked(matrix, mask))


def test_sizes_of_the_recipe():
    found = observe(masked(*low_rank(100, 50, 2, 0.3)))
    assert Recipe(rank=4).sizes(found) == (4, 8)
    assert Recipe(rank=40).sizes(found) == (40, 50)
    assert Recipe(rank=4, width=6).sizes(found) == (4, 6)
    limit, width = Recipe().sizes(found)
    assert limit * (150 - limit) <= len(found)
    assert width == min(2 * limit, 40)
