"""NC1 in every convention, D and the second pass for wide layers, against literal float64 definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from definitions import TwoPass, gaussian_classes, nc1_of
from tightframe.collapse.conventions import OTHERS, VARIABILITY, Convention, convention, variability_convention
from tightframe.collapse.means import CentredMeans
from tightframe.collapse.variability import WideVariability, nc1, nc1_wide, trace_ratio
from tightframe.core.errors import DegenerateError, InputError
from tightframe.features.moments import ClassMoments

BALANCED, IMBALANCED = [25] * 6, [60, 5, 17, 40, 8, 30]
FEW, MANY = [BALANCED, IMBALANCED], [[12] * 20, list(range(3, 23))]
LITERAL = {
    "weighted": {},
    "zhu": {"weights": "uniform"},
    "anchor": {"weights": "uniform", "centre": "class"},
    "lecture6": {"divide": False},
    "papyan-notebook": {"weights": "uniform", "centre": "class", "divide": False},
    "he-su": {"weights": "uniform", "within": "class", "divide": False},
    "he-su-imbalanced": {"divide": False},
}


def moments_of(features, labels, classes=None, **options):
    moments = ClassMoments(classes or int(labels.max()) + 1, **options)
    moments.update(features, labels)
    return moments


def test_every_convention_has_a_literal_definition():
    assert LITERAL.keys() == VARIABILITY.keys()


@pytest.mark.parametrize("name", LITERAL)
@pytest.mark.parametrize(
    ("counts", "dimension"), [(c, 9) for c in FEW] + [(c, 5) for c in FEW] + [(c, 4) for c in MANY]
)
def test_nc1_follows_its_convention(name, counts, dimension):
    # 6 classes in 9 and in exactly K - 1 = 5 dimensions; 20 classes in 4, where S_B has full rank.
    features, labels = gaussian_classes(counts, dimension, seed=1, offset=2.0)
    if name == "he-su" and len(set(counts)) > 1:
        with pytest.raises(InputError, match=r"between \d+ and \d+ samples per class.*he-su-imbalanced"):
            nc1(moments_of(features, labels), name)
        return
    expected = TwoPass(features, labels).nc1(**LITERAL[name])
    assert nc1(moments_of(features, labels), name) == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("name", [n for n in LITERAL if n != "he-su"])
@pytest.mark.parametrize(("counts", "dimension"), [(c, d) for c in FEW for d in (5, 9, 200)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_second_pass_gives_the_same_value(name, counts, dimension, dtype):
    features, labels = gaussian_classes(counts, dimension, seed=2, offset=1.0, dtype=dtype)
    wide = WideVariability(moments_of(features, labels, mode="trace"), name)
    for start in range(0, len(labels), 32):
        wide.update(features[start : start + 32], labels[start : start + 32])
    expected = TwoPass(features, labels).nc1(**LITERAL[name])
    assert wide.compute() == pytest.approx(expected, rel=1e-6 if dtype == torch.float32 else 1e-11)


def test_the_second_pass_in_one_call_and_with_a_large_offset():
    features, labels = gaussian_classes(IMBALANCED, 300, seed=3, spread=1e-3, offset=10.0, dtype=torch.float32)
    assert nc1_wide(features, labels, classes=6) == pytest.approx(TwoPass(features, labels).nc1(), rel=1e-6)


def test_the_second_pass_ignores_autocast():
    features, labels = gaussian_classes(BALANCED, 64, seed=4, dtype=torch.float32)
    plain = nc1_wide(features, labels, classes=6)
    with torch.autocast("cpu", torch.bfloat16):
        assert nc1_wide(features, labels, classes=6) == plain


def test_the_second_pass_must_see_every_row_and_the_same_layer():
    features, labels = gaussian_classes(BALANCED, 12, seed=5)
    wide = WideVariability(moments_of(features, labels))
    wide.update(features[:30], labels[:30])
    wide.update(features[:3], torch.full((3,), -100))
    with pytest.raises(InputError, match="same 150 rows; got 30 rows"):
        wide.compute()
    with pytest.raises(InputError, match="dimension 12, as in the first pass; got dimension 7"):
        wide.update(features[30:, :7], labels[30:])
    spoiled = features[30:].clone()
    spoiled[4, 1] = torch.nan
    with pytest.raises(InputError, match="nothing of this batch was counted"):
        wide.update(spoiled, labels[30:])
    wide.update(features[30:], labels[30:])
    assert wide.compute() == pytest.approx(TwoPass(features, labels).nc1(), rel=1e-11)


@pytest.mark.parametrize(("name", "dimension"), [("weighted", 4), ("he-su", 9)])
def test_the_second_pass_is_refused_where_it_does_not_apply(name, dimension):
    features, labels = gaussian_classes(BALANCED, dimension, seed=6)
    with pytest.raises(InputError, match=f"K=6, d={dimension}, convention '{name}'"):
        WideVariability(moments_of(features, labels), name)


@pytest.mark.parametrize("mode", ["full", "trace"])
@pytest.mark.parametrize(("counts", "dimension"), [(c, d) for c in FEW + MANY for d in (4, 30)])
def test_trace_ratio(mode, counts, dimension):
    features, labels = gaussian_classes(counts, dimension, seed=7, offset=5.0)
    expected = TwoPass(features, labels).trace_ratio()
    assert trace_ratio(moments_of(features, labels, mode=mode)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("classes", [2, 3])
def test_two_classes_on_a_line(classes):
    # By hand: means 0 and 2, S_W = 1/2, S_B = 1 for one line; NC1 = 1/2 / 1 / 2.
    features = torch.tensor([[-1.0], [1.0], [2.0], [2.0]], dtype=torch.float64)
    labels = torch.tensor([0, 0, classes - 1, classes - 1])
    moments = moments_of(features, labels, classes)
    absent = "error" if classes == 2 else "drop"
    assert nc1(moments, absent=absent) == pytest.approx(0.25, rel=1e-14)
    assert trace_ratio(moments, absent=absent) == pytest.approx(0.5, rel=1e-14)


def test_absent_classes_are_an_error_by_default_and_can_be_dropped():
    features, labels = gaussian_classes([20] * 5, 6, seed=8)
    moments = moments_of(features, 2 * labels, 12)
    with pytest.raises(InputError, match=r"none of 7 of them \(class 1, 3, 5, 7, 9, 10, 11\).*absent=\"drop\""):
        nc1(moments)
    reference = TwoPass(features, labels)
    assert nc1(moments, absent="drop") == pytest.approx(reference.nc1(), rel=1e-11)
    assert trace_ratio(moments, absent="drop") == pytest.approx(reference.trace_ratio(), rel=1e-12)
    wide = WideVariability(moments, absent="drop")
    wide.update(features, 2 * labels)
    assert wide.compute() == pytest.approx(reference.nc1(), rel=1e-11)
    with pytest.raises(InputError, match="absent='ignore'"):
        nc1(moments, absent="ignore")


def test_a_long_list_of_absent_classes_is_cut():
    with pytest.raises(InputError, match=r"none of 18 of them \(class 2, 3, 4, 5, 6, 7, 8, 9, \.\.\.\)"):
        nc1(moments_of(torch.eye(2), torch.tensor([0, 1]), 20))


def test_one_class_only():
    with pytest.raises(InputError, match="at least two classes; got samples of 1"):
        nc1(moments_of(torch.eye(3), torch.tensor([1, 1, 1]), 4), absent="drop")


@pytest.mark.parametrize("name", ["weighted", "anchor"])
def test_centred_means_are_taken_in_place_of_moments(name):
    features, labels = gaussian_classes(IMBALANCED, 9, seed=15)
    moments = moments_of(features, 2 * labels, 11)
    for means in (CentredMeans(moments, absent="drop"), CentredMeans(moments, centre="class", absent="drop")):
        assert nc1(means, name) == nc1(moments, name, absent="drop")


def test_no_sample_yet():
    with pytest.raises(InputError, match="none yet"):
        nc1(ClassMoments(3))


def test_trace_mode_has_no_scatter():
    features, labels = gaussian_classes(BALANCED, 4, seed=9)
    with pytest.raises(InputError, match='mode="trace"'):
        nc1(moments_of(features, labels, mode="trace"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("seed", range(5))
def test_two_equal_class_means_are_degenerate_with_few_classes(seed, dtype):
    features, labels = gaussian_classes([20] * 5, 16, seed=seed, dtype=dtype)
    features[labels == 3] = features[labels == 1]
    with pytest.raises(DegenerateError, match="span 4 dimensions; got a span of 3"):
        nc1(moments_of(features, labels))
    with pytest.raises(DegenerateError, match="coincide"):
        WideVariability(moments_of(features, labels))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("kind", ["copy", "sum", "dead"])
def test_dependent_features_are_degenerate_with_many_classes(seed, kind):
    features, labels = gaussian_classes([20] * 20, 5, seed=seed)
    features[:, 3] = {"copy": features[:, 1], "sum": features[:, 1] + features[:, 2], "dead": 0.0}[kind]
    with pytest.raises(DegenerateError, match="span all 5 dimensions"):
        nc1(moments_of(features, labels))


@pytest.mark.parametrize("scales", [(1, 1e-3, 1e3, 1e-6, 1e6)])
def test_features_of_very_different_scale_are_not_degenerate(scales):
    features, labels = gaussian_classes([20] * 20, 5, seed=10)
    scaled = features * torch.tensor(scales, dtype=torch.float64)
    # tr(S_W inv(S_B)) does not feel an invertible map.
    assert nc1(moments_of(scaled, labels)) == pytest.approx(TwoPass(features, labels).nc1(), rel=1e-9)


def test_constant_features_are_degenerate():
    labels = torch.arange(40) % 4
    for features in (torch.ones(40, 8), torch.full((40, 8), 0.1), torch.full((40, 2), 1e8)):
        with pytest.raises(DegenerateError, match="coincide"):
            nc1(moments_of(features, labels))
        with pytest.raises(DegenerateError, match="one common mean"):
            trace_ratio(moments_of(features, labels))


def test_complete_collapse_is_zero():
    features, labels = gaussian_classes(IMBALANCED, 8, seed=11, spread=0.0, offset=4.0)
    moments = moments_of(features, labels)
    assert 0 <= nc1(moments) < 1e-28
    assert 0 <= trace_ratio(moments) < 1e-28


@pytest.mark.parametrize("condition", [1.0, 1e3, 1e6])
def test_digits_are_lost_with_the_condition_of_the_means_not_its_square(condition):
    draw = torch.Generator().manual_seed(12)
    left = torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64, generator=draw)).Q
    means = left * torch.logspace(0, -np.log10(condition), 8, dtype=torch.float64)
    labels = torch.arange(8).repeat_interleave(4)
    noise = torch.randn(32, 8, dtype=torch.float64, generator=draw)
    noise -= noise.reshape(8, 4, 8).mean(1)[labels]
    features = means[labels] + 1e-3 * noise
    # Exact inverse of the K - 1 dimensional part by a basis of the centred means, in long double.
    exact = features.numpy().astype(np.longdouble)
    mean = exact.reshape(8, 4, 8).mean(1)
    residual = (exact.reshape(8, 4, 8) - mean[:, None]).reshape(32, 8)
    centred = mean - mean.mean(0)
    # tr(S_W pinv(C^T C / K)) = K/N |residual pinv(C)|^2
    inverse = np.linalg.pinv(centred.astype(np.float64), rcond=1e-12)
    expected = float(((residual.astype(np.float64) @ inverse) ** 2).sum()) * 8 / 32 / 8
    assert nc1(moments_of(features, labels)) == pytest.approx(expected, rel=1e-15 * condition * 100)


def test_conventions_know_their_formulas_and_list_themselves():
    assert variability_convention("zhu").between == "uniform"
    assert convention("NC1", "zhu") is variability_convention("zhu")
    assert convention("CDNV", "galanti").metric == "CDNV"
    everything = [*VARIABILITY.values(), *OTHERS.values()]
    assert all(isinstance(c, Convention) and c.formula and c.source for c in everything)
    assert len({(c.metric, c.name) for c in everything}) == len(everything)
    with pytest.raises(InputError, match=r"known convention of NC1; got 'papian'.*'weighted'"):
        nc1(moments_of(torch.eye(2), torch.tensor([0, 1])), "papian")
    with pytest.raises(InputError, match=r"known convention of 'NC3'; got 'none'.*'unc3'"):
        convention("NC3", "none")
    with pytest.raises(InputError, match=r"known metric; got 'NC9'.*'VCI'"):
        convention("NC9", "zhu")
    assert not any("riesz" in c.name for c in everything)


def test_class_of_the_global_mean_matters_only_when_imbalanced():
    features, labels = gaussian_classes(IMBALANCED, 4, seed=13)
    moments, reference = moments_of(features, labels), TwoPass(features, labels)
    for kind in ("sample", "class"):
        means = CentredMeans(moments, centre=kind)
        assert torch.allclose(means.origin, torch.from_numpy(reference.centre(kind)), rtol=1e-13)
        assert torch.allclose(means.all, torch.from_numpy(reference.centred(kind)), rtol=0, atol=1e-13)
        assert torch.allclose(means.weights @ means.all, torch.zeros(4, dtype=torch.float64), atol=1e-14)
    gap = np.linalg.norm(reference.centre("sample") - reference.centre("class"))
    assert gap > 0.1 * np.linalg.norm(reference.centre("class"))
    with pytest.raises(InputError, match="centre='median'"):
        CentredMeans(moments, centre="median")


def test_blocks_of_classes_change_nothing(monkeypatch):
    features, labels = gaussian_classes([6] * 30, 5, seed=14)
    moments = moments_of(features, labels)
    whole = nc1(moments), CentredMeans(moments).norms
    monkeypatch.setattr("tightframe.collapse.means._BLOCK", 35)  # 7 classes to a block, the last of two
    assert nc1(moments) == pytest.approx(whole[0], rel=1e-13)
    assert torch.allclose(CentredMeans(moments).norms, whole[1], rtol=1e-14)
    dropped = moments_of(features, 2 * labels, 61)
    assert nc1(dropped, absent="drop") == pytest.approx(whole[0], rel=1e-13)


def test_the_reference_itself_on_a_hand_computed_case():
    # K = 3 means (1,0), (0,1), (-1,-1), S_W = I: S_B = [[2,1],[1,2]]/3, inverse [[2,-1],[-1,2]], trace 4.
    between = np.array([[2.0, 1.0], [1.0, 2.0]]) / 3
    assert nc1_of(np.eye(2), between, 3, divide=False) == pytest.approx(4.0, rel=1e-14)
