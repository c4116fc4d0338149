"""Every convention against the published code it is named after.

The golden numbers were computed once by running the public codes themselves (repository and commit below) in float64
on the data of `features_of`; where their code fixes CPU or GPU, data set sizes or a model, these were replaced by this
data. Relative agreement is asked to 1e-9; what is left is their summation order.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from definitions import TwoPass, etf_target, gram_error
from tightframe.collapse.conventions import OTHERS, VARIABILITY
from tightframe.collapse.decision import bias_collapse, disagreement
from tightframe.collapse.duality import class_cosines, class_products, duality_distance, duality_gram
from tightframe.collapse.means import CentredMeans
from tightframe.collapse.pairs import class_pairs, row_pairs
from tightframe.collapse.simplex import classifier_distance, equinorm, feature_distance
from tightframe.collapse.spectrum import variability_index
from tightframe.collapse.variability import nc1, trace_ratio
from tightframe.core.errors import InputError
from tightframe.features.moments import ClassMoments

COUNTS = {"balanced": [6] * 5, "imbalanced": [9, 3, 6, 4, 8]}
FEATURES = 7

# (source, quantity): (balanced, imbalanced)
TDING1 = {  # tding1/Neural-Collapse 04ef5860d4a8dd54aa159d2c800dce83f30490e6
    "nc1": (0.08159138562790315, 0.07739045281760878),
    "etf of W": (0.9111231751547041, 0.9111231751547041),
    "W H": (0.7399428732305304, 0.7519322640247842),
    "W h_G + b": (5.44800323797808, 5.126529972702836),
}
NC_LOSS = {"etf of W": (0.7225166786439049, 0.7225166786439049)}  # jinxinzhou/nc_loss a294e2a57e852bb3a577ab3eb09a585
NOTEBOOK = {  # neuralcollapse/neuralcollapse 7f12011df9144dd0e0a6073339b10e70e2b53666
    "Sw_invSb": (0.4079569281395155, 0.4014051405102765),
    "norm_M_CoV": (0.10867160682124824, 0.09635570498094208),
    "norm_W_CoV": (0.1307314991432786, 0.1307314991432786),
    "cos_M": (0.37976492045859983, 0.38243013516380187),
    "cos_W": (0.408750482950247, 0.408750482950247),
    "W_M_dist": (0.4778783120846645, 0.4778478921441832),
    "NCC_mismatch": (0.06666666666666665, 0.06666666666666665),
}
ANCHOR = {  # rhubarbwu/neural-collapse c05a0b80d6bc6e8e2e102f2180f1f33b2c9605fd
    "pinv": (0.0815913856279031, 0.08028102810205533),
    "quotient": (0.059165730361739555, 0.05753683809760146),
    "cdnv": (0.03796115188752227, 0.03631359423085412),
    "cdnv, dist_exp=2": (0.005136484386532144, 0.00480428503215726),
    "simplex_etf_error": (0.6821654424829148, 0.6885747784179949),
    "self_duality_error": (0.7399428732305304, 0.7459117360981264),
    "log kernel mean": (-0.3791623008465751, -0.377411155927772),
    "log kernel variance": (0.1074701967604075, 0.11078888870562524),
    "mean cosine": (0.7787338856115127, 0.7766286342747784),
    "variance of products": (0.0654906266350664, 0.09257043599805195),
}
HE_SU = {  # HornHehhf/Equi-Separation 7544a6b33ac54faa69a3164d1a09de683958a949
    "get_variation": (0.40795692813951595, None),
    "get_variation_imbalance": (0.4079569281395159, 0.5186872668214316),
}
GNN = {  # kvignesh1420/gnn_collapse b87668664cc708861cd07727b186500427607796
    "nc1": (0.0815913856279031, 0.08028102810205529),
    "of of means": (0.6557306403760537, 0.6546647700583743),
    "W H, OF": (0.6703601106334203, 0.6739733736032169),
    "alignment": (0.448596343378448, 0.44588136083633007),
}
GUIDING = {  # evanmarkou/Guiding-Neural-Collapse 00cdf2940aee354f735f370f7841913cd580e06f
    "vci": (0.08708569740898064, None),  # weighs all classes alike, as ours does not where they are imbalanced
    "equinorm of W": (0.1307314991432786, 0.1307314991432786),
}


def features_of(kind):
    """Features (30, 7), labels, W (5, 7) and b (5,) from sines; nothing random."""
    counts = COUNTS[kind]
    labels = np.repeat(np.arange(len(counts)), counts)
    i, j, k = np.arange(len(labels))[:, None], np.arange(FEATURES)[None, :], labels[:, None]
    features = (
        2 * np.cos(1.7 * (k + 1) + 0.9 * (j + 1) * (k + 1)) + 0.5 + 0.4 * np.sin(2.3 * i + 1.1 * j + 0.37 * i * j)
    )
    c = np.arange(len(counts))[:, None]
    weight = np.cos(1.7 * (c + 1) + 0.9 * (j + 1) * (c + 1)) + 0.3 * np.sin(1.0 + c * 5.1 + j * 0.7)
    bias = 0.2 * np.cos(np.arange(len(counts)) * 1.3)
    order = np.argsort(np.sin(12.9 * np.arange(len(labels))), kind="stable")
    return tuple(torch.from_numpy(a) for a in (features[order], labels[order], weight, bias))


class Setting:
    def __init__(self, kind):
        self.features, self.labels, self.weight, self.bias = features_of(kind)
        self.moments = ClassMoments(5)
        for start in range(0, 30, 8):
            self.moments.update(self.features[start : start + 8], self.labels[start : start + 8])
        self.means = CentredMeans(self.moments)
        self.alike = CentredMeans(self.moments, centre="class")
        self.reference = TwoPass(self.features, self.labels)


OURS = {
    ("NC1", "zhu"): [(TDING1["nc1"], lambda s: nc1(s.moments, "zhu"))],
    ("NC1", "anchor"): [
        (ANCHOR["pinv"], lambda s: nc1(s.moments, "anchor")),
        (GNN["nc1"], lambda s: nc1(s.moments, "anchor")),
    ],
    ("NC1", "papyan-notebook"): [(NOTEBOOK["Sw_invSb"], lambda s: nc1(s.moments, "papyan-notebook"))],
    ("NC1", "he-su"): [(HE_SU["get_variation"], lambda s: nc1(s.moments, "he-su"))],
    ("NC1", "he-su-imbalanced"): [(HE_SU["get_variation_imbalance"], lambda s: nc1(s.moments, "he-su-imbalanced"))],
    # Lecture 6 and the weighted form have no public code; both are He and Su's imbalanced trace, one of them over K.
    ("NC1", "lecture6"): [(HE_SU["get_variation_imbalance"], lambda s: nc1(s.moments, "lecture6"))],
    ("NC1", "weighted"): [(HE_SU["get_variation_imbalance"], lambda s: 5 * nc1(s.moments))],
    ("D", "weighted"): [((ANCHOR["quotient"][0], None), lambda s: trace_ratio(s.moments))],
    ("CDNV", "galanti"): [(ANCHOR["cdnv"], lambda s: class_pairs(s.means).cdnv)],
    ("CDNV", "wu-papyan"): [(ANCHOR["cdnv, dist_exp=2"], lambda s: class_pairs(s.means, exponent=2).cdnv)],
    ("VCI", "xu-liu"): [(GUIDING["vci"], lambda s: variability_index(s.means))],
    ("NC2", "etf"): [(ANCHOR["simplex_etf_error"], lambda s: feature_distance(s.alike))],
    ("NC2", "of"): [(GNN["of of means"], lambda s: feature_distance(s.means, "of"))],
    ("NC2", "zhu"): [(TDING1["etf of W"], lambda s: classifier_distance(s.weight))],
    ("NC2", "nc-loss"): [(NC_LOSS["etf of W"], lambda s: classifier_distance(s.weight, centre=True))],
    ("equinorm", "papyan-notebook"): [
        (NOTEBOOK["norm_M_CoV"], lambda s: equinorm(s.alike.norms, unbiased=True)),
        (NOTEBOOK["norm_W_CoV"], lambda s: equinorm(s.weight.norm(dim=1), unbiased=True)),
        (GUIDING["equinorm of W"], lambda s: equinorm(s.weight.norm(dim=1), unbiased=True)),
    ],
    ("maximal angle", "papyan"): [
        (NOTEBOOK["cos_M"], lambda s: class_pairs(s.alike).angle_error),
        (NOTEBOOK["cos_W"], lambda s: row_pairs(s.weight).angle_error),
    ],
    ("uniformity", "log"): [(ANCHOR["log kernel mean"], lambda s: class_pairs(s.alike).log_mean)],
    ("GNC2", "wu-papyan"): [(ANCHOR["log kernel variance"], lambda s: class_pairs(s.alike).log_variance)],
    ("NC3", "zhu"): [
        (TDING1["W H"], lambda s: duality_gram(s.means, s.weight)),
        (ANCHOR["self_duality_error"], lambda s: duality_gram(s.alike, s.weight)),
    ],
    ("NC3", "of"): [(GNN["W H, OF"], lambda s: duality_gram(s.means, s.weight, "of"))],
    ("NC3", "papyan-notebook"): [(NOTEBOOK["W_M_dist"], lambda s: duality_distance(s.alike, s.weight) ** 2)],
    ("NC3", "tirer-bruna"): [(GNN["alignment"], lambda s: duality_distance(s.means, s.weight, centred=False))],
    ("NC3", "gnc3"): [(ANCHOR["mean cosine"], lambda s: float(class_cosines(s.alike, s.weight).mean()))],
    ("NC3", "unc3"): [
        (ANCHOR["variance of products"], lambda s: float(class_products(s.alike, s.weight).var(correction=0)))
    ],
    ("NC4", "papyan"): [
        (
            NOTEBOOK["NCC_mismatch"],
            lambda s: disagreement(s.features, (s.features @ s.weight.T + s.bias).argmax(1), s.means),
        )
    ],
    ("bias collapse", "zhu"): [(TDING1["W h_G + b"], lambda s: bias_collapse(s.means, s.weight, s.bias))],
}
# The paper's forms of what the notebook codes, and textbook quantities: tested against definitions in the unit tests.
NO_CODE = {
    ("equinorm", "papyan"),
    ("equiangularity", "papyan"),
    ("NC3", "papyan"),
    ("effective rank", "entropy"),
    ("effective rank", "participation"),
    ("accuracy", "top-1"),
    ("loss", "cross-entropy"),
}


def test_every_convention_is_compared_with_a_code_or_known_to_have_none():
    assert OURS.keys() | NO_CODE == OTHERS.keys() | {("NC1", name) for name in VARIABILITY}


@pytest.mark.parametrize(("side", "kind"), list(enumerate(COUNTS)))
@pytest.mark.parametrize("key", OURS, ids=" ".join)
def test_agreement_with_the_published_code(key, side, kind):
    setting = Setting(kind)
    for golden, ours in OURS[key]:
        if golden[side] is not None:
            assert ours(setting) == pytest.approx(golden[side], rel=1e-9)


def test_the_balanced_form_of_he_and_su_is_refused_where_it_does_not_apply():
    with pytest.raises(InputError, match="he-su-imbalanced"):
        nc1(Setting("imbalanced").moments, "he-su")


@pytest.mark.parametrize("kind", COUNTS)
def test_the_golden_numbers_follow_from_the_literal_definitions(kind):
    side, s = list(COUNTS).index(kind), Setting(kind)
    r, weight = s.reference, s.weight.numpy()
    centred, alike = r.centred(), r.centred("class")
    near = pytest.approx
    assert r.nc1(weights="uniform") == near(TDING1["nc1"][side], rel=1e-9)
    assert r.nc1(weights="uniform", centre="class", divide=False) == near(NOTEBOOK["Sw_invSb"][side], rel=1e-9)
    assert r.nc1(divide=False) == near(HE_SU["get_variation_imbalance"][side], rel=1e-9)
    assert gram_error(weight @ weight.T, etf_target(5)) == near(TDING1["etf of W"][side], rel=1e-9)
    assert gram_error(weight @ centred.T, etf_target(5)) == near(TDING1["W H"][side], rel=1e-9)
    assert gram_error(alike @ alike.T, etf_target(5)) == near(ANCHOR["simplex_etf_error"][side], rel=1e-9)
    assert gram_error(r.mean @ r.mean.T, np.eye(5) / math.sqrt(5)) == near(GNN["of of means"][side], rel=1e-9)
    assert r.cdnv() == near(ANCHOR["cdnv"][side], rel=1e-9)
