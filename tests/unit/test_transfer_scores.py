"""Transferability scores against the published definitions, written out here on the rows, and against each other."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.covariance import LedoitWolf
from sklearn.linear_model import LogisticRegression, Ridge

from tightframe.collapse import transfer, transferability
from tightframe.collapse.evidence import logme
from tightframe.collapse.linear_probe import (
    ProbeAccuracy,
    _parts,
    linear_probes,
    ridge_classifier,
)
from tightframe.collapse.spread import GroupedSpread, spread_of_rows
from tightframe.collapse.transfer import transfer_scores, transfer_scores_of
from tightframe.collapse.transfer_summary import SCORES
from tightframe.collapse.variability import nc1
from tightframe.core.errors import DegenerateError, InputError
from tightframe.core.rng import generator
from tightframe.features.moments import ClassMoments
from tightframe.features.replicates import GroupedMoments
from tightframe.nn.rate.coding import rate_reduction

# Formulas on rows and on moments round differently: d eps times a condition number below 1e4 is far below this.
CLOSE = 1e-6


def task(n: int = 240, d: int = 12, k: int = 4, *, seed: int = 0, offset: float = 1.0, spread: float = 1.0):
    """Unbalanced Gaussian classes about means of a common offset; every class occurs."""
    draws = generator(seed)
    weights = torch.arange(1, k + 1, dtype=torch.float64)
    labels = torch.cat([torch.arange(k), torch.multinomial(weights, n - k, replacement=True, generator=draws)])
    means = torch.randn(k, d, generator=draws, dtype=torch.float64) + offset
    scale = torch.linspace(0.3, 1.5, d, dtype=torch.float64)
    return means[labels] + spread * scale * torch.randn(n, d, generator=draws, dtype=torch.float64), labels


def published_h_score(f: np.ndarray, y: np.ndarray) -> float:
    g = np.stack([f[y == label].mean(0) for label in y])
    return np.trace(np.linalg.pinv(np.cov(f, rowvar=False), rcond=1e-15) @ np.cov(g, rowvar=False))


def published_regularized_h_score(f: np.ndarray, y: np.ndarray) -> float:
    f = f - f.mean(0)
    g = np.stack([f[y == label].mean(0) for label in y])
    fit = LedoitWolf().fit(f)
    return (1 - fit.shrinkage_) * np.trace(np.linalg.pinv(fit.covariance_) @ np.cov(g, rowvar=False))


def published_transrate(f: np.ndarray, y: np.ndarray, eps: float = 1e-4) -> float:
    def rate(z: np.ndarray) -> float:
        return np.linalg.slogdet(np.eye(z.shape[1]) + z.T @ z / (len(z) * eps))[1] / 2

    f = f - f.mean(0)
    return rate(f) - np.mean([rate(f[y == label]) for label in np.unique(y)])


def published_logme(f: np.ndarray, y: np.ndarray) -> float:
    """The fixed point on the thin singular value decomposition of the rows."""
    (n, d), evidences = f.shape, []
    u, s, _ = np.linalg.svd(f, full_matrices=False)
    for label in np.unique(y):
        target = (y == label).astype(float)
        x2, sigma = (u.T @ target) ** 2, s**2
        rest, a, b = target @ target - x2.sum(), 1.0, 1.0
        for _ in range(11):
            t = a / b
            gamma = (sigma / (sigma + t)).sum()
            m2, res = (sigma * x2 / (t + sigma) ** 2).sum(), (x2 / (1 + sigma / t) ** 2).sum() + rest
            a, b = gamma / (m2 + 1e-5), (n - gamma) / (res + 1e-5)
            if abs(a / b - t) / t <= 1e-3:
                break
        value = d / 2 * np.log(a) + n / 2 * np.log(b) - np.log(a + b * sigma).sum() / 2
        evidences.append((value - b / 2 * res - a / 2 * m2 - n / 2 * np.log(2 * np.pi)) / n)
    return float(np.mean(evidences))


PUBLISHED = {
    "H-score": published_h_score,
    "H-score regularized": published_regularized_h_score,
    "TransRate": published_transrate,
    "LogME": published_logme,
}


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize(("n", "d", "k"), [(240, 12, 4), (400, 3, 7), (60, 30, 2)])
def test_scores_of_moments_are_the_published_ones(name, n, d, k):
    features, labels = task(n, d, k, seed=n)
    value = transfer_scores(features, labels, probe=False)[name]
    assert value == pytest.approx(PUBLISHED[name](features.numpy(), labels.numpy()), rel=CLOSE)


@pytest.mark.parametrize("name", ["TransRate", "LogME", "H-score regularized"])
def test_fewer_samples_than_features(name):
    features, labels = task(30, 50, 3)
    value = transfer_scores(features, labels, probe=False)[name]
    assert value == pytest.approx(PUBLISHED[name](features.numpy(), labels.numpy()), rel=CLOSE)


def test_h_score_is_k_minus_1_where_samples_are_fewer_than_features():
    features, labels = task(30, 50, 3)
    assert transfer_scores(features, labels, probe=False)["H-score"] == pytest.approx(2, abs=1e-9)


def test_scores_do_not_see_dead_units():
    features, labels = task()
    padded = torch.cat([features, torch.zeros(len(features), 5, dtype=torch.float64)], dim=1)
    live, dead = (transfer_scores(rows, labels, probe=False) for rows in (features, padded))
    for name in ("NC1", "H-score", "TransRate", "LogME"):
        assert dead[name] == pytest.approx(live[name], rel=1e-9), name


def test_h_score_does_not_see_linear_maps_or_doubled_features():
    features, labels = task()
    map_ = torch.randn(12, 20, generator=generator(3), dtype=torch.float64)
    value = transfer_scores(features, labels, probe=False)["H-score"]
    assert transfer_scores(features @ map_, labels, probe=False)["H-score"] == pytest.approx(value, rel=1e-8)


def test_the_evidence_says_where_it_is_too_large():
    features, labels = task(30, 50, 3)
    assert "N < d" in transfer_scores(features, labels, probe=False).scores["LogME"].note


def test_nc1_is_that_of_the_class_moments():
    features, labels = task()
    moments = ClassMoments(4)
    moments.update(features, labels)
    assert transfer_scores(features, labels, probe=False)["NC1"] == pytest.approx(nc1(moments), rel=1e-10)


@pytest.mark.parametrize(("n", "d"), [(240, 12), (40, 60)])
def test_rate_reduction_is_that_of_rows_of_mean_square_length_one(n, d):
    features, labels = task(n, d)
    scaled = features / features.square().sum(1).mean().sqrt()
    expected = float(rate_reduction(scaled, labels, eps2=0.5).delta)
    assert transfer_scores(1e3 * features, labels, probe=False)["rate reduction"] == pytest.approx(expected, rel=CLOSE)


def test_a_common_offset_costs_no_digits():
    features, labels = task(spread=1e-3, offset=0.0)
    here, there = (transfer_scores(features + shift, labels, probe=False) for shift in (0.0, 1e3))
    # The offset rounds the features themselves by eps 1e3 / 1e-3 = 2e-10 of their spread.
    for name in ("NC1", "H-score", "TransRate", "H-score regularized"):
        assert there[name] == pytest.approx(here[name], rel=1e-7)


def test_complete_evidence_is_the_log_density_of_the_labels():
    """At the fixed point alpha, beta the evidence is the Gaussian density of y with covariance I/beta + F F^T/alpha."""
    features, labels = task(20, 30, 2)
    spread = spread_of_rows(features, labels, classes=2).merged()
    f, found = features.numpy(), []
    for label in range(2):
        y = (labels.numpy() == label).astype(float)
        u, s, _ = np.linalg.svd(f, full_matrices=False)
        x2, sigma, a, b = (u.T @ y) ** 2, s**2, 1.0, 1.0
        for _ in range(11):
            t = a / b
            gamma, m2 = (sigma / (sigma + t)).sum(), (sigma * x2 / (t + sigma) ** 2).sum()
            res = (x2 / (1 + sigma / t) ** 2).sum() + y @ y - x2.sum()
            a, b = gamma / (m2 + 1e-5), (20 - gamma) / (res + 1e-5)
            if abs(a / b - t) / t <= 1e-3:
                break
        # m minimises b |F m - y|^2 + a |m|^2 at the ratio t, of which a / b differs by 1e-3 of itself.
        m = np.linalg.solve(f.T @ f + t * np.eye(30), f.T @ y)
        misfit = b / 2 * np.sum((f @ m - y) ** 2) + a / 2 * m @ m
        hessian = np.linalg.slogdet(a * np.eye(30) + b * f.T @ f)[1]
        found.append((15 * np.log(a) + 10 * np.log(b) - hessian / 2 - misfit - 10 * np.log(2 * np.pi)) / 20)
    assert logme(spread, complete=True) == pytest.approx(np.mean(found), rel=1e-8)
    assert logme(spread) != pytest.approx(np.mean(found), rel=1e-3)


def test_shrinkage_and_quartic_after_a_shift_of_the_pivot():
    features, labels = task(offset=3.0)
    groups = spread_of_rows(features, labels, classes=4, groups=3)
    times = torch.tensor([2, 0, 1])
    share = np.concatenate([np.flatnonzero(_share(labels, 3) == g) for g, t in enumerate([2, 0, 1]) for _ in range(t)])
    rows = features[share]
    expected = (rows - rows.mean(0)).square().sum(1).square().sum()
    spread = groups.merged(times)
    assert spread.quartic == pytest.approx(float(expected), rel=1e-10)
    fit = LedoitWolf().fit(rows.numpy())
    assert transferability.ledoit_wolf(spread) == pytest.approx(fit.shrinkage_, rel=1e-9)


def _share(labels: torch.Tensor, groups: int) -> np.ndarray:
    """Row j of class k is in group (j + k) mod G."""
    seen, share = dict.fromkeys(labels.tolist(), 0), []
    for label in labels.tolist():
        share.append((seen[label] + label) % groups)
        seen[label] += 1
    return np.array(share)


@pytest.mark.parametrize("name", [*PUBLISHED, "NC1", "rate reduction"])
def test_a_replicate_scores_as_the_rows_it_stands_for(name):
    features, labels = task(d=6)
    times = torch.tensor([1, 3, 0, 1, 2])
    share = torch.as_tensor(_share(labels, 5))
    rows = torch.cat([torch.nonzero(share == g).flatten().repeat(int(t)) for g, t in enumerate(times)])
    spread = spread_of_rows(features, labels, classes=4, groups=5).merged(times)
    expected = transfer_scores(features[rows], labels[rows], probe=False)[name]
    assert transfer._OF_SPREAD[name](spread) == pytest.approx(expected, rel=1e-8)


def test_moments_alone_give_the_same_and_say_what_they_lack():
    features, labels = task()
    moments, grouped = ClassMoments(4), GroupedMoments(4, groups=16)
    moments.update(features, labels)
    grouped.update(features, labels)
    scatters = torch.stack([torch.cov(features[labels == k].T, correction=0) * (labels == k).sum() for k in range(4)])
    rows = transfer_scores(features, labels, probe=False)
    found = transfer_scores_of(moments, scatters=scatters)
    for name in ("NC1", "H-score", "LogME", "TransRate", "rate reduction"):
        assert found[name] == pytest.approx(rows[name], rel=1e-9)
    assert "fourth moments" in found.scores["H-score regularized"].note
    assert "every class" in transfer_scores_of(moments).scores["TransRate"].note
    drawn = transfer_scores_of(grouped, bootstrap=20)
    again = transfer_scores(features, labels, probe=False, bootstrap=20)
    for name in ("NC1", "H-score", "LogME"):
        assert drawn.scores[name].interval == pytest.approx(again.scores[name].interval, rel=1e-6)


def test_intervals_cover_the_mean_over_such_samples():
    """Twenty samples of 320 rows. At a coverage of 0.9, which 16 groups and 1.96 s come to, six or more misses of one
    score have probability 0.01; intervals half as wide as they should be would miss about seven times."""
    features, labels = task(6400, 5, 3)
    parts = [slice(part, None, 20) for part in range(20)]
    found = [transfer_scores(features[rows], labels[rows], probe=False, bootstrap=60) for rows in parts]
    for name in transfer._OF_SPREAD:
        mean = np.mean([scores[name] for scores in found])
        intervals = [scores.scores[name].interval for scores in found]
        assert sum(not low <= mean <= high for low, high in intervals) < 6, name
        widths = [(high - low) / 2 for low, high in intervals]
        # No interval covers by being wide: half a width is 1.96 standard deviations, TransRate's at most thrice that.
        assert np.median(widths) < 3 * 1.96 * np.std([scores[name] for scores in found]), name


def test_intervals_of_rates_are_left_out_where_class_moments_are_too_large(monkeypatch):
    monkeypatch.setattr("tightframe.collapse.spread.MOST_KEPT", 100)
    features, labels = task()
    found = transfer_scores(features, labels, probe=False, bootstrap=5)
    assert found["TransRate"] == pytest.approx(published_transrate(features.numpy(), labels.numpy()), rel=CLOSE)
    assert found.scores["TransRate"].interval is None
    assert "too large" in found.scores["TransRate"].note
    assert found.scores["LogME"].interval is not None


def test_classes_smaller_than_the_groups_have_no_interval():
    features, labels = task(30, 5, 3)
    found = transfer_scores(features, labels, probe=False, bootstrap=5).scores["H-score"]
    assert found.interval is None
    assert found.note == "no interval: a class is not in all 16 groups"


def test_float32_follows_float64():
    features, labels = task()
    single = transfer_scores(features.float(), labels, probe=False)
    double = transfer_scores(features.float().double(), labels, probe=False)
    assert {n: s.value for n, s in single.scores.items()} == {n: s.value for n, s in double.scores.items()}


def test_ridge_classifier_is_that_of_scikit_learn():
    features, labels = task()
    weight, bias = ridge_classifier(spread_of_rows(features, labels, classes=4).merged(), decay=0.1)
    targets = torch.nn.functional.one_hot(labels, 4).numpy()
    other = Ridge(alpha=0.1 * len(labels), tol=1e-12).fit(features.numpy(), targets)
    assert np.allclose(weight.numpy(), other.coef_, atol=1e-10)
    assert np.allclose(bias.numpy(), other.intercept_, atol=1e-10)


def test_probes_decide_where_classes_are_apart_and_guess_where_there_is_nothing():
    features, labels = task(n=300, spread=0.05)
    assert [probe.accuracy for probe in linear_probes(features, labels, classes=4)] == [1.0, 1.0]
    noise = torch.randn(400, 3, generator=generator(1), dtype=torch.float64)
    logistic, ridge = linear_probes(noise, torch.arange(400) % 2, classes=2)
    # 80 test rows at a probability of 1/2: four standard deviations.
    assert abs(logistic.accuracy - 0.5) < 4 * 0.5 / math.sqrt(80) > abs(ridge.accuracy - 0.5)
    assert logistic.tested == 80
    assert 0 <= logistic.gap < 1e-6


def test_probes_are_fitted_again_on_all_but_the_test_rows():
    features, labels = task(n=150, d=20, k=3, spread=3.0)
    part = _parts(labels, 3, seed=0)
    assert [int((part == kind).sum()) for kind in range(3)] == [30, 30, 90]
    rows = features - features[part == 2].mean(0)
    rows = (rows / rows[part == 2].square().mean().sqrt()).numpy()
    kept, test, targets = (part > 0).numpy(), (part == 0).numpy(), labels.numpy()
    other = LogisticRegression(C=1 / (1e-3 * kept.sum()), tol=1e-9, max_iter=5000).fit(rows[kept], targets[kept])
    ridge = Ridge(alpha=1e-3 * kept.sum()).fit(rows[kept], np.eye(3)[targets[kept]])
    found = linear_probes(features, labels, classes=3, decays=[1e-3])
    assert found[0].accuracy == np.mean(other.predict(rows[test]) == targets[test])
    assert found[1].accuracy == np.mean(ridge.predict(rows[test]).argmax(1) == targets[test])
    assert found[0].decay == 1e-3


def test_wilson_interval_solves_its_equation():
    probe = ProbeAccuracy(0.9, 50, 1.0)
    for bound in probe.interval:
        assert abs(bound - 0.9) == pytest.approx(1.96 * math.sqrt(bound * (1 - bound) / 50), rel=1e-9)


def test_result_reads_well():
    features, labels = task()
    scores = transfer_scores(features, labels, bootstrap=3)
    text = str(scores).splitlines()
    assert text[0] == "Transferability: K = 4 classes, d = 12, N = 240 samples"
    assert [line.split("  ")[0] for line in text[4:]] == list(SCORES)
    plain = scores.to_dict()
    assert plain["scores"]["NC1"]["better"] == "lower"
    assert plain["scores"]["LogME"]["low"] < plain["scores"]["LogME"]["value"] < plain["scores"]["LogME"]["high"]
    with pytest.raises(InputError, match="no such score"):
        scores["accuracy"]


def test_one_sample_per_class_has_no_nc1_and_no_probe():
    scores = transfer_scores(torch.eye(4, dtype=torch.float64), torch.arange(4))
    assert scores.scores["NC1"].value is None
    assert "one sample per class" in scores.scores["NC1"].note
    assert "three samples of every class" in scores.scores["logistic probe"].note
    with pytest.raises(InputError, match="one sample per class"):
        scores["NC1"]


def test_features_that_do_not_vary():
    labels = torch.arange(12) % 2
    zeros = transfer_scores(torch.zeros(12, 3), labels)
    assert all(score.value is None and score.note for score in zeros.scores.values() if score.name != "TransRate")
    with pytest.raises(DegenerateError):
        linear_probes(torch.ones(12, 3), labels, classes=2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f, y: (f, torch.zeros_like(y)), "at least two classes"),
        (lambda f, y: (f, y * 2), "none of class 1, 3"),
        (lambda f, y: (f[:2], torch.tensor([0, 3])), "of every class, numbered|none of class 1, 2"),
        (lambda f, y: (f.index_fill(0, torch.tensor([5]), math.nan), y), "NaN in 1 of 240 rows"),
        (lambda f, y: (f, y[:-1]), "one per row"),
        (lambda f, y: (f, y.double()), "integer tensor"),
        (lambda f, y: (f[None], y), "shape"),
        (lambda f, y: (f, y - 1), "labels lie in"),
        (lambda f, y: (f[:, :1].expand(-1, 9000), y), "at most 8192 dimensions"),
    ],
)
def test_input_that_does_not_fit(change, message):
    features, labels = task()
    with pytest.raises(InputError, match=message):
        transfer_scores(*change(features, labels), classes=None)


def test_arguments_that_do_not_fit():
    features, labels = task()
    moments = ClassMoments(4)
    moments.update(features, labels)
    with pytest.raises(InputError, match="none of class 4"):
        transfer_scores(features, labels, classes=5)
    with pytest.raises(InputError, match="bootstrap"):
        transfer_scores(features, labels, bootstrap=1)
    with pytest.raises(InputError, match="GroupedMoments"):
        transfer_scores_of(moments, bootstrap=10)
    with pytest.raises(InputError, match="scatter of every class"):
        transfer_scores_of(moments, scatters=torch.zeros(4, 3, 3))
    with pytest.raises(InputError, match="decay above 0"):
        ridge_classifier(spread_of_rows(features, labels, classes=4).merged(), decay=0.0)
    assert isinstance(spread_of_rows(features, labels, classes=4), GroupedSpread)
