"""K2: the tangent kernel of finite networks concentrates about its formula, as width and depth have it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from statistics import fmean, stdev

import torch

from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.data.curves import coaxial_circles
from tightframe.experiments.catalog import entry
from tightframe.experiments.ntk.kernel_draws import drawn_kernel
from tightframe.experiments.study import Findings, Study, Sweep
from tightframe.ntk.kernel import relu_ntk
from tightframe.runs.record import Cell, Claim, Panel, table_of

_SOURCE = "L4, proposition on width: n > L polylog"
_MEASURED = "measured in the reference: 3.5 sqrt(L / n)"
_SEPARATION = 0.4

Row = dict[str, Cell]


@dataclass(frozen=True)
class Config:
    """What is drawn.

    Args:
        depths: L, ascending.
        widths: n, ascending.
        ratio: Least width over depth; narrower networks fluctuate by factors, and sqrt(L / n) is for small deviations.
        draws: Networks of every size.
        points: On either of two circles.
        crowds: Numbers of points on either circle, ascending, for the largest deviation over more and more pairs.
        crowded: (L, n) of those networks.
    """

    depths: tuple[int, ...] = (2, 4, 8)
    widths: tuple[int, ...] = (64, 128, 256)
    ratio: int = 12
    draws: int = 40
    points: int = 12
    crowds: tuple[int, ...] = (3, 10, 30)
    crowded: tuple[int, int] = (4, 128)

    def __post_init__(self) -> None:
        sizes = [pair for pair in product(self.depths, self.widths) if pair[1] >= self.ratio * pair[0]]
        if any(len({pair[axis] for pair in sizes}) < 2 for axis in (0, 1)) or self.draws < 2 or len(self.crowds) < 2:
            raise InputError(
                "two depths and two widths within the ratio, two draws and two crowds",
                got=f"depths {self.depths}, widths {self.widths}, ratio {self.ratio}, draws {self.draws}",
                remedy="Exponents need that many.",
            )


PRESETS = {
    "smoke": Config(),
    "quick": Config((2, 4, 8, 16), (64, 128, 256, 512, 1024), 12, 60, 12, (3, 10, 30, 100), (5, 256)),
    "paper": Config(
        (2, 5, 10, 20, 40), (128, 256, 512, 1024, 2048, 4096), 12, 100, 20, (3, 10, 30, 100, 300), (5, 1024)
    ),
}


@dataclass(frozen=True)
class Networks:
    """Networks of one size, at equally many points on two circles."""

    depth: int
    width: int
    draws: int
    points: int


def deviations(networks: Networks) -> Row:
    """Largest deviations of the kernels from the formula over L, at all pairs; and that of their mean.

    The readout stays fixed: the formula is that of the hidden layers.
    """
    points = torch.cat([curve.uniform(networks.points).points for curve in coaxial_circles(_SEPARATION)])
    formula = relu_ntk(points, depth=networks.depth)
    largest, total, squares = [], torch.zeros_like(formula), torch.zeros_like(formula)
    for draw in range(networks.draws):
        seed = 100_003 * networks.depth + 1_009 * networks.width + draw
        found = drawn_kernel(points, depth=networks.depth, width=networks.width, source=generator(seed))
        apart = (found - formula) / networks.depth
        largest.append(float(apart.abs().amax()))
        total, squares = total + apart, squares + apart.square()
    mean = total / networks.draws
    spread = (squares / networks.draws - mean.square()).clamp(min=0).sqrt() / math.sqrt(networks.draws - 1)
    logs = [math.log(each) for each in largest]
    typical, share = math.exp(fmean(logs)), math.sqrt(networks.depth / networks.width)
    return {
        "depth": networks.depth,
        "width": networks.width,
        "points": len(points),
        "deviation": typical,
        "relative error": stdev(logs) / math.sqrt(networks.draws),
        "least": min(largest),
        "most": max(largest),
        "sqrt(L / n)": share,
        "law": 3.5 * share,
        "deviation over sqrt(L / n)": typical / share,
        "mean over its standard error": float((mean.abs() / spread).amax()),
    }


def investigate(config: Config, sweep: Sweep) -> Findings:
    """Deviations over width and depth, exponents, and the deviation over more and more points."""
    sizes = [pair for pair in product(config.depths, config.widths) if pair[1] >= config.ratio * pair[0]]
    rows = sweep(deviations, [Networks(*pair, config.draws, config.points) for pair in sizes])
    crowds = sweep(deviations, [Networks(*config.crowded, config.draws, points) for points in config.crowds])
    fit = exponents(rows)
    tables = {"deviations": table_of(rows), "crowds": table_of(crowds)}
    return Findings((*_size_claims(rows, fit), *_mean_claims(rows, crowds)), _answer(rows, fit), tables, _PANELS)


@dataclass(frozen=True)
class Fit:
    """log deviation = constant + depth log L + width log n, by least squares, with standard errors of the powers."""

    depth: float
    width: float
    depth_error: float
    width_error: float


def exponents(rows: Sequence[Row]) -> Fit:
    """The powers of depth and width, every row weighted by its relative error."""
    design = torch.tensor([[1.0, math.log(row["depth"]), math.log(row["width"])] for row in rows], dtype=torch.float64)
    logs = torch.tensor([math.log(row["deviation"]) for row in rows], dtype=torch.float64)
    weights = torch.tensor([1 / row["relative error"] for row in rows], dtype=torch.float64)
    covariance = torch.linalg.inv((weights[:, None] * design).T @ (weights[:, None] * design))
    found = covariance @ design.T @ (weights**2 * logs)
    errors = covariance.diagonal().sqrt()
    return Fit(float(found[1]), float(found[2]), float(errors[1]), float(errors[2]))


def _size_claims(rows: Sequence[Row], fit: Fit) -> list[Claim]:
    constants = [row["deviation over sqrt(L / n)"] for row in rows]
    note = f"{len(rows)} sizes; standard error of the power"
    return [
        Claim(
            id="K2.width",
            statement="The largest deviation from the formula falls as n^(-1/2): power of the width",
            source=_SOURCE,
            expected=-0.5,
            observed=fit.width,
            relation="==",
            # The statistical error and what is left of higher orders of L / n at the least ratio.
            tolerance=0.08,
            note=f"{note} {fit.width_error:.2g}",
        ),
        Claim(
            id="K2.depth",
            statement="It grows as L^(1/2), so that n > L suffices up to logarithms: power of the depth",
            source=_SOURCE,
            expected=0.5,
            observed=fit.depth,
            relation="==",
            tolerance=0.08,
            note=f"{note} {fit.depth_error:.2g}",
        ),
        Claim(
            id="K2.constant",
            statement="It is 3.5 sqrt(L / n) of the kernel at angle zero: geometric mean of deviation over sqrt(L / n)",
            source=_MEASURED,
            expected=3.5,
            observed=math.exp(fmean(math.log(each) for each in constants)),
            relation="==",
            tolerance=0.5,
            note=f"from {min(constants):.2f} to {max(constants):.2f}",
        ),
    ]


def _mean_claims(rows: Sequence[Row], crowds: Sequence[Row]) -> list[Claim]:
    furthest = max(row["mean over its standard error"] for row in rows)
    few, many = crowds[-2:]
    power = math.log(many["deviation"] / few["deviation"]) / math.log(many["points"] / few["points"])
    return [
        Claim(
            id="K2.formula",
            statement="The formula is the mean of the kernels: largest distance of any pair in standard errors",
            source=_SOURCE,
            expected=5.0,
            observed=furthest,
            note=f"over {len(rows)} sizes with {rows[0]['points']}^2 pairs each, which depend on each other",
        ),
        Claim(
            id="K2.simultaneous",
            statement="Small for all pairs at once: power of the number of points in the deviation, last two numbers",
            source=_SOURCE,
            # A power that no logarithm of such numbers reaches is no power.
            expected=0.15,
            observed=power,
            note=f"{many['points']} points against {few['points']}, L = {many['depth']}, n = {many['width']}",
        ),
    ]


def _answer(rows: Sequence[Row], fit: Fit) -> str:
    constants = [row["deviation over sqrt(L / n)"] for row in rows]
    return (
        f"The largest deviation goes as L^{fit.depth:.2f} n^{fit.width:.2f} (standard errors {fit.depth_error:.2f} and "
        f"{fit.width_error:.2f}); over sqrt(L / n) it is {min(constants):.2f} to {max(constants):.2f} of the kernel at "
        "angle zero. A width proportional to the depth keeps it constant."
    )


_PANELS = (
    Panel(
        kind="scatter",
        title="Width concentrates the kernel",
        caption="Largest deviation of a network's kernel from the formula over all pairs of points on two circles, "
        "over its value at angle zero; geometric means over networks. Dashes: 3.5 sqrt(L / n).",
        table="deviations",
        x="width",
        y="deviation",
        color="depth",
        reference="law",
        x_scale="log",
        y_scale="log",
    ),
    Panel(
        kind="scatter",
        title="One curve for all sizes",
        caption="The same against sqrt(L / n). Dashes: 3.5 sqrt(L / n).",
        table="deviations",
        x="sqrt(L / n)",
        y="deviation",
        color="depth",
        reference="law",
        x_scale="log",
        y_scale="log",
    ),
    Panel(
        kind="scatter",
        title="All pairs at once",
        caption="Largest deviation over more and more points on the same two circles, at one size of network.",
        table="crowds",
        x="points",
        y="deviation",
        reference="law",
        x_scale="log",
    ),
)

EXPERIMENT = Study(entry("kernel-concentration"), PRESETS, investigate)
