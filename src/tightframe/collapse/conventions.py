"""`Convention`: which of the formulas in use a value follows, by name, with the codes that use it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tightframe.core.errors import InputError


@dataclass(frozen=True)
class Convention:
    """The formula behind a value.

    Args:
        metric: Name of the metric.
        name: Name of the convention within the metric.
        formula: The formula in plain text. S_W = (1/N) sum (h - mu_k)(h - mu_k)^T; mu_G is the sample mean.
        source: Paper or code that uses it (key of docs/references.bib).
    """

    metric: str
    name: str
    formula: str
    source: str


@dataclass(frozen=True)
class VariabilityConvention(Convention):
    """A convention of NC1 or D: how classes are weighted and whether the trace is divided by K.

    Args:
        between: Weights of S_B: "count" n_k/N, or "uniform" 1/K.
        centre: mu_G is the "sample" mean or the mean of "class" means.
        within: S_W averages over "sample"s, or averages the class covariances ("class").
        divide: Divide the trace by K.
    """

    between: Literal["count", "uniform"] = "count"
    centre: Literal["sample", "class"] = "sample"
    within: Literal["sample", "class"] = "sample"
    divide: bool = True


_NC1 = "tr(S_W pinv(S_B))"
_COUNT = "S_B = sum_k (n_k/N)(mu_k - mu_G)(mu_k - mu_G)^T"
_UNIFORM = "S_B = (1/K) sum_k (mu_k - mu_G)(mu_k - mu_G)^T"

VARIABILITY: dict[str, VariabilityConvention] = {
    c.name: c
    for c in (
        VariabilityConvention("NC1", "weighted", f"{_NC1} / K, {_COUNT}", "zhu2021geometric, weighted by class counts"),
        VariabilityConvention("NC1", "zhu", f"{_NC1} / K, {_UNIFORM}", "zhu2021geometric", between="uniform"),
        VariabilityConvention(
            "NC1",
            "anchor",
            f"{_NC1} / K, {_UNIFORM}, mu_G the mean of the class means",
            "wu2024linguistic",
            between="uniform",
            centre="class",
        ),
        VariabilityConvention("NC1", "lecture6", f"{_NC1}, {_COUNT}", "qu2023lecture6, weighted", divide=False),
        VariabilityConvention(
            "NC1",
            "papyan-notebook",
            f"{_NC1}, {_UNIFORM}, mu_G the mean of the class means",
            "papyan2020prevalence, notebook",
            between="uniform",
            centre="class",
            divide=False,
        ),
        VariabilityConvention(
            "NC1",
            "he-su",
            f"{_NC1}, {_UNIFORM}, S_W the mean of the class covariances",
            "he2023law, balanced form",
            between="uniform",
            within="class",
            divide=False,
        ),
        VariabilityConvention("NC1", "he-su-imbalanced", f"{_NC1}, {_COUNT}", "he2023law", divide=False),
    )
}

OTHERS: dict[tuple[str, str], Convention] = {
    (c.metric, c.name): c
    for c in (
        Convention("D", "weighted", f"tr(S_W) / tr(S_B), {_COUNT}", "wang2023understanding; tirer2023perturbation"),
        Convention(
            "CDNV",
            "galanti",
            "mean over i != j of (V_i + V_j) / (2 |mu_i - mu_j|^2), V = E|h - mu|^2",
            "galanti2022role",
        ),
        Convention(
            "CDNV", "wu-papyan", "mean over i != j of (V_i + V_j) / (2 |mu_i - mu_j|^4)", "wu2024linguistic, exponent 2"
        ),
        Convention("VCI", "xu-liu", f"1 - tr(pinv(S_W + S_B) S_B) / min(d, K-1), {_COUNT}", "xu2023quantifying"),
        Convention(
            "NC2", "etf", "| G/|G| - (I - J/K)/sqrt(K-1) |, G the Gram matrix of mu_k - mu_G", "tirer2022extended"
        ),
        Convention("NC2", "of", "| G/|G| - I/sqrt(K) |, G the Gram matrix of the uncentred mu_k", "tirer2022extended"),
        Convention("NC2", "zhu", "| G/|G| - (I - J/K)/sqrt(K-1) |, G = W W^T", "zhu2021geometric"),
        Convention("NC2", "nc-loss", "| G/|G| - (I - J/K)/sqrt(K-1) |, G = V V^T, V = W - row mean", "zhou2022all"),
        Convention("equinorm", "papyan", "std_k / mean_k of |mu_k - mu_G|, population std", "papyan2020prevalence"),
        Convention(
            "equinorm",
            "papyan-notebook",
            "std_k / mean_k, standard deviation with K-1",
            "papyan2020prevalence, notebook",
        ),
        Convention(
            "equiangularity", "papyan", "standard deviation over pairs of cos(v_i, v_j)", "papyan2020prevalence"
        ),
        Convention("maximal angle", "papyan", "mean over pairs of |cos(v_i, v_j) + 1/(K-1)|", "papyan2020prevalence"),
        Convention(
            "uniformity",
            "log",
            "mean over i != j of log(1/|u_i - u_j|), u_k = (mu_k - mu_G)/|mu_k - mu_G|",
            "liu2023generalizing",
        ),
        Convention("GNC2", "wu-papyan", "variance over i != j of log(1/|u_i - u_j|)", "wu2024linguistic"),
        Convention("NC3", "zhu", "| G/|G| - (I - J/K)/sqrt(K-1) |, G = W [mu_k - mu_G]", "zhu2021geometric"),
        Convention("NC3", "of", "| G/|G| - I/sqrt(K) |, G = W [mu_k]", "tirer2022extended"),
        Convention("NC3", "papyan", "| W/|W| - C^T/|C| |, C = [mu_k - mu_G]", "papyan2020prevalence"),
        Convention(
            "NC3", "papyan-notebook", "| W/|W| - C^T/|C| |^2, C = [mu_k - mu_G]", "papyan2020prevalence, notebook"
        ),
        Convention("NC3", "tirer-bruna", "| W/|W| - M^T/|M| |, M = [mu_k]", "tirer2022extended, equation 28"),
        Convention("NC3", "gnc3", "mean_k (1 - cos(w_k, mu_k - mu_G))", "liu2023generalizing"),
        Convention("NC3", "unc3", "variance over k of <w_k, mu_k - mu_G>", "wu2024linguistic"),
        Convention(
            "NC4", "papyan", "share of samples where argmax(W h + b) is not the nearest mu_k", "papyan2020prevalence"
        ),
        Convention("bias collapse", "zhu", "|b + W mu_G|", "zhu2021geometric"),
        Convention(
            "effective rank", "entropy", "exp(-sum p log p), p the eigenvalues over their sum", "roy2007effective"
        ),
        Convention("effective rank", "participation", "(sum of eigenvalues)^2 / sum of their squares", "gao2017theory"),
        Convention("accuracy", "top-1", "share of samples where argmax of the logits is the label", "standard"),
        Convention("loss", "cross-entropy", "mean of -log softmax(logits)[label]", "standard"),
    )
}


def variability_convention(name: str) -> VariabilityConvention:
    """The NC1 convention of this name; an InputError that lists them otherwise."""
    if name not in VARIABILITY:
        raise InputError(
            "a known convention of NC1", got=repr(name), remedy=f"Use one of {', '.join(map(repr, VARIABILITY))}."
        )
    return VARIABILITY[name]


def convention(metric: str, name: str) -> Convention:
    """The convention of this metric and name; an InputError that lists them otherwise."""
    if metric == "NC1":
        return variability_convention(name)
    if (metric, name) not in OTHERS:
        known = [known_name for known_metric, known_name in OTHERS if known_metric == metric]
        raise InputError(
            f"a known convention of {metric!r}" if known else "a known metric",
            got=repr(name if known else metric),
            remedy=f"Use one of {known or sorted({m for m, _ in OTHERS} | {'NC1'})}.",
        )
    return OTHERS[metric, name]
