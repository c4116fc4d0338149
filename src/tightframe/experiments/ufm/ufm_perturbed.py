"""N12: the classifier of fixed features around a collapsed frame keeps its direction, attenuated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, product

import torch
from torch import Tensor

from tightframe.core.errors import InputError
from tightframe.experiments.catalog import entry
from tightframe.experiments.study import Findings, Study, Sweep
from tightframe.runs.record import Claim, Panel, table_of
from tightframe.ufm.model import UnconstrainedFeatures
from tightframe.ufm.perturbed import attenuation, expected_error, perturbed_features, ridge_classifier

_SOURCE = "TB, theorem 5.1"
_BEYOND = "TB, proof of theorem 5.1, to the next order"
_GRID = tuple(10 ** (i / 6 - 4 / 3) for i in range(13))  # noises of the figure of the factor

# The law of large numbers has set in where there are this many samples per dimension.
_SETTLED = 10

Row = Mapping[str, float | int | str]


@dataclass(frozen=True)
class Config:
    """What is solved.

    Args:
        classes: K.
        dimensions: d, each tried with every noise.
        noises: Standard deviations of the entries of the noise.
        samples: Samples per class n, ascending.
        decay: lambda_W.
        feature_decay: n lambda_H, held fixed while n grows, as the theorem asks.
        distributions: Of the noise, beside the normal one at the first dimension and the middle noise.
        seeds: Draws per cell.
    """

    classes: int = 4
    dimensions: tuple[int, ...] = (20,)
    noises: tuple[float, ...] = (0.1, 0.5, 2.0)
    samples: tuple[int, ...] = (10, 32, 100, 316, 1000)
    decay: float = 5e-3
    feature_decay: float = 2.5e-3
    distributions: tuple[str, ...] = ("uniform", "laplace")
    seeds: int = 10

    def __post_init__(self) -> None:
        settled = sum(self.classes * n >= _SETTLED * max(self.dimensions) for n in self.samples)
        if settled < 2 or min(self.noises) <= 0:
            raise InputError(
                f"noises above zero, and two numbers of samples n with K n >= {_SETTLED} d, to draw a line through",
                got=f"noises {self.noises}, samples {self.samples} for d = {max(self.dimensions)}",
                remedy="Raise the samples.",
            )


PRESETS = {
    "smoke": Config(),
    "quick": Config(dimensions=(4, 20, 100), samples=(10, 32, 100, 316, 1000, 3162, 10_000), seeds=20),
    "paper": Config(dimensions=(4, 20, 100), samples=(10, 32, 100, 316, 1000, 3162, 10_000, 31_623), seeds=50),
}


@dataclass(frozen=True)
class Cell:
    """One dimension, bias, noise and its distribution, and number of samples; with what is drawn there."""

    dimension: int
    noise: float
    distribution: str
    bias: str
    samples: int
    config: Config

    @property
    def problem(self) -> UnconstrainedFeatures:
        """Squared error, with lambda_H such that n lambda_H is what the configuration says."""
        return UnconstrainedFeatures(
            classes=self.config.classes,
            features=self.dimension,
            per_class=self.samples,
            loss="mse",
            weight_decay=(self.config.decay, self.config.feature_decay / self.samples),
            bias=self.bias,
        )


def investigate(config: Config, sweep: Sweep) -> Findings:
    """Error of the ridge classifier against n, its factor and its direction against the closed form."""
    kinds = [
        *product(config.dimensions, config.noises, ["normal"], ["none", "free"]),
        *product(config.dimensions[:1], [_middle(config.noises)], config.distributions, ["none"]),
    ]
    rows = sweep(measure, [Cell(*kind, n, config) for kind in kinds for n in config.samples])
    curves = [list(curve) for _, curve in groupby(rows, key=lambda row: row["model"])]
    last = [curve[-1] for curve in curves]
    claims = (*_source_claims(last, curves, config), *_constant_claims(last, config.classes))
    slopes = [_slope(curve, config.classes)[0] for curve in curves]
    answer = (
        f"Yes: the error falls as n to the power {min(slopes):.3f} to {max(slopes):.3f}, and from n = {last[0]['n']} "
        f"samples per class the factor is that of the theory up to {max(_off(row) for row in last):.1e}."
    )
    shown = dict.fromkeys((config.samples[0], config.samples[len(config.samples) // 2], config.samples[-1]))
    middle = config.dimensions[len(config.dimensions) // 2]
    factors = sweep(measure, [Cell(middle, s, "normal", "none", n, config) for n in shown for s in _GRID])
    products = _products(middle, config)
    tables = {"errors": table_of(rows), "factors": table_of(factors), "products": table_of(products)}
    return Findings(claims, answer, tables, _panels())


def measure(cell: Cell) -> Row:
    """Ridge classifiers of several draws of the noise, against a W."""
    problem = cell.problem
    a, squares, factors, cosines, size = attenuation(problem, cell.noise), [], [], [], 0.0
    for draw in range(cell.config.seeds):
        # Of its own for every n, so that the points of a curve err independently.
        seed = cell.samples * cell.config.seeds + draw
        point = perturbed_features(problem, cell.noise, seed=seed, distribution=cell.distribution)
        found = ridge_classifier(problem, point.H).W
        size, overlap = float(point.W.norm()), float((found * point.W).sum())
        squares.append(float((found - a * point.W).square().sum()))
        factors.append(overlap / size**2)
        cosines.append(overlap / (size * float(found.norm())))
    squared = torch.tensor(squares, dtype=torch.float64)
    error = float(squared.mean()) ** 0.5
    extra = "" if cell.distribution == "normal" else f", {cell.distribution}"
    return {
        "model": f"d = {cell.dimension}, s = {cell.noise:g}, bias {cell.bias}{extra}",
        "d": cell.dimension,
        "noise": cell.noise,
        "distribution": cell.distribution,
        "bias": cell.bias,
        "n": cell.samples,
        "error": error,
        "predicted error": expected_error(problem, cell.noise),
        "relative error of it": float(squared.std() / squared.mean()) / cell.config.seeds**0.5 / 2,
        "factor": sum(factors) / len(factors),
        "predicted factor": a,
        "cosine": sum(cosines) / len(cosines),
        "size": size,
    }


def _source_claims(last: Sequence[Row], curves: Sequence[Sequence[Row]], config: Config) -> list[Claim]:
    """What the theorem states: the limit, and with it factor and direction; and the rate at which it is approached."""
    slopes = {curve[0]["model"]: _slope(curve, config.classes) for curve in curves}
    farthest = max(slopes, key=lambda name: abs(slopes[name][0] + 0.5) / slopes[name][1])
    slope, spread = slopes[farthest]
    worst = max(last, key=lambda row: _off(row) / _reach(row))
    turned = max(last, key=lambda row: (1 - row["cosine"]) / _reach(row, relative=True) ** 2)
    return [
        Claim(
            id="N12.limit",
            statement=f"The distance of the ridge classifier from a W falls as n^(-1/2): power, {farthest}",
            source=_SOURCE,
            expected=-0.5,
            observed=slope,
            relation="==",
            tolerance=0.02 + 4 * spread,
            note=f"the farthest of {len(curves)} models, {config.seeds} seeds, n to {config.samples[-1]} with K n >= "
            f"{_SETTLED} d; the tolerance is four standard errors of the slope, and 0.02 for the next order",
        ),
        Claim(
            id="N12.factor",
            statement=f"The classifier is attenuated by the factor of the theorem: <What, W>/|W|^2, {worst['model']}",
            source=_SOURCE,
            expected=worst["predicted factor"],
            observed=worst["factor"],
            relation="==",
            tolerance=_reach(worst),
            note="largest n; the tolerance is the expected distance of What from a W, relative to W",
        ),
        Claim(
            id="N12.direction",
            statement=f"The classifier keeps its direction: cosine of What and W, {turned['model']}",
            source=_SOURCE,
            expected=1.0,
            observed=turned["cosine"],
            relation="==",
            tolerance=_reach(turned, relative=True) ** 2,
            note="largest n; 1 - cos is at most half the squared relative distance",
        ),
    ]


def _constant_claims(last: Sequence[Row], classes: int) -> list[Claim]:
    """The constant of the rate, which the source does not give."""
    normal = [row for row in last if row["distribution"] == "normal"]
    farthest = max(normal, key=lambda row: abs(_ratio(row) - 1) / row["relative error of it"])
    return [
        Claim(
            id="N12.constant",
            statement=f"The error is v/sqrt(N) with v in closed form: measured over predicted, {farthest['model']}",
            source=_BEYOND,
            expected=1.0,
            observed=_ratio(farthest),
            relation="==",
            tolerance=4 * farthest["relative error of it"] + 2 * farthest["d"] / (classes * farthest["n"]),
            note=f"largest n, farthest of {len(normal)} models; tolerance of four standard errors, and 2d/N beyond",
        )
    ]


def _products(dimension: int, config: Config) -> list[Row]:
    """<What_j, W_k>/|w|^2 for few and for many samples: a multiple of the identity in the limit."""
    noise, rows = _middle(config.noises), []
    for samples in (config.samples[0], config.samples[-1]):
        problem = Cell(dimension, noise, "normal", "none", samples, config).problem
        point = perturbed_features(problem, noise, seed=0)
        found = ridge_classifier(problem, point.H).W
        rows += _entries(f"n = {samples}", found @ point.W.T / point.W[0].square().sum())
    limit = attenuation(problem, noise) * torch.eye(config.classes)
    return rows + _entries("limit", limit)


def _entries(name: str, matrix: Tensor) -> list[Row]:
    return [
        {"of": name, "row": f"class {j}", "column": f"class {k}", "product": value}
        for j, line in enumerate(matrix.tolist())
        for k, value in enumerate(line)
    ]


def _panels() -> tuple[Panel, ...]:
    return (
        Panel(
            kind="scatter",
            title="The classifier of noisy features approaches a W",
            caption="Root mean square of |What - aW| over the seeds against samples per class n, no bias; the line is "
            "v/sqrt(N), whose constant v follows from the same closed form.",
            table="errors",
            x="n",
            y="error",
            color="noise",
            facet="d",
            reference="predicted error",
            x_scale="log",
            y_scale="log",
            where={"bias": "none", "distribution": "normal"},
        ),
        Panel(
            kind="scatter",
            title="Attenuation",
            caption="<What, W>/|W|^2, mean over the seeds, against the standard deviation s of the noise, for several "
            "n; the line is its limit, (rho/K + lambda_W)/(rho/K + lambda_W + s^2).",
            table="factors",
            x="noise",
            y="factor",
            color="n",
            reference="predicted factor",
            x_scale="log",
        ),
        Panel(
            kind="matrix",
            title="Direction kept, length lost",
            caption="Inner products of the rows of the ridge classifier with those of the optimal W, in units of their "
            "squared length: for few samples, for many, and in the limit.",
            table="products",
            x="column",
            y="row",
            value="product",
            facet="of",
        ),
    )


def _slope(curve: Sequence[Row], classes: int) -> tuple[float, float]:
    """Power of n in the error, by least squares over log n, and its standard error."""
    settled = [row for row in curve if classes * row["n"] >= _SETTLED * row["d"]]
    columns = ("n", "error", "relative error of it")
    n, error, spread = (torch.tensor([row[name] for row in settled], dtype=torch.float64) for name in columns)
    n = n.log() - n.log().mean()
    weights = n / n.square().sum()
    return float(weights @ error.log()), float((weights * spread).square().sum().sqrt())


def _off(row: Row) -> float:
    return abs(row["factor"] - row["predicted factor"])


def _reach(row: Row, *, relative: bool = False) -> float:
    """Expected distance of What from a W in units of |W|, or of |aW|."""
    return row["predicted error"] / row["size"] / (row["predicted factor"] if relative else 1.0)


def _ratio(row: Row) -> float:
    return row["error"] / row["predicted error"]


def _middle(noises: Sequence[float]) -> float:
    return noises[len(noises) // 2]


EXPERIMENT = Study(entry("ufm-perturbed"), PRESETS, investigate)
