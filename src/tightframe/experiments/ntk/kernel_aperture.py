"""K3: the kernel decays with the angle, faster in deeper networks; and the one curve that this tends to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from tightframe.core.errors import InputError
from tightframe.core.typing import Float, Tensor
from tightframe.experiments.catalog import entry
from tightframe.experiments.ntk.scaling import limit_half_width, limit_kernel
from tightframe.experiments.study import Findings, Study, Sweep
from tightframe.ntk.recursion import kernel_of_angle
from tightframe.runs.record import Cell, Claim, Panel, table_of

_SOURCE = "L4, the kernel against angle for L = 5, 25, 125, 625"
_BEYOND = "beyond the sources: the limit of great depth at L times the angle fixed"
# Up to here the kernels are ordered by depth; nearer to opposite points the one of depth 5 is below that of 25.
_ORDERED = 1.0
# The source's least depth, and the one from which on the limit is meant to hold.
_LEAST, _DEEP = 5, 25

Row = dict[str, Cell]


@dataclass(frozen=True)
class Config:
    """What is evaluated.

    Args:
        depths: L, ascending.
        angles: Angles of the fine grid, half of them even and half geometric.
        drawn: Angles that are drawn.
        cells: Rows of the map of the sphere, half as many as its columns.
    """

    depths: tuple[int, ...] = (5, 25, 125, 625)
    angles: int = 4_000
    drawn: int = 120
    cells: int = 18

    def __post_init__(self) -> None:
        if sum(depth >= _LEAST for depth in self.depths) < 2 or max(self.depths) < _DEEP or self.angles < 100:
            raise InputError(
                f"two depths of at least {_LEAST}, one of at least {_DEEP}, and 100 angles",
                got=f"depths {self.depths}, {self.angles} angles",
                remedy="Use (5, 25, 125, 625).",
            )


PRESETS = {
    "smoke": Config(),
    "quick": Config((1, 2, 5, 10, 25, 50, 125, 250, 625), 20_000, 240, 30),
    "paper": Config((1, 2, 5, 10, 25, 50, 125, 250, 625, 1250, 2500), 100_000, 480, 45),
}


@dataclass(frozen=True)
class Kernel:
    """The kernel of a depth on a grid of this many angles."""

    depth: int
    angles: int


def shape(kernel: Kernel) -> Row:
    """Where the kernel has fallen half of the way, how far it rises again, and how far it is from its limit."""
    grid = angle_grid(kernel.angles)
    values = kernel_of_angle(grid, kernel.depth) / kernel.depth
    rise = values - values.cummin(0).values
    limit = limit_kernel(kernel.depth * grid / (3 * math.pi))
    half = half_width(kernel.depth)
    return {
        "depth": kernel.depth,
        "half width": half,
        "half width times depth": half * kernel.depth,
        "at a right angle": float(kernel_of_angle(torch.tensor(math.pi / 2, dtype=torch.float64), kernel.depth))
        / kernel.depth,
        "at opposite points": float(values[-1]),
        "largest rise": float(rise.amax()),
        "rises from": float(grid[values.argmin()]),
        "distance from limit": float((values - limit).abs().amax()),
    }


def half_width(depth: int) -> float:
    """Angle at which the kernel over L is halfway from 1 to its value for opposite points, to 1e-9 of a right angle."""
    ends = kernel_of_angle(torch.tensor([0.0, math.pi], dtype=torch.float64), depth)
    low, high = 0.0, math.pi / 2
    for _ in range(3):
        grid = torch.linspace(low, high, 1001, dtype=torch.float64)
        place = int((kernel_of_angle(grid, depth) > ends.mean()).sum())
        low, high = float(grid[place - 1]), float(grid[place])
    return (low + high) / 2


def angle_grid(count: int) -> Float[Tensor, " n"]:
    """Angles in [0, pi], ascending: half at equal distances, half at equal ratios from 1e-6 on."""
    even = torch.linspace(0, math.pi, count // 2, dtype=torch.float64)
    fine = torch.logspace(-6, math.log10(math.pi / 2), count - count // 2, dtype=torch.float64)
    return torch.cat((even, fine)).sort().values


def investigate(config: Config, sweep: Sweep) -> Findings:
    """The shape of every kernel, and what is drawn of it."""
    shapes = sweep(shape, [Kernel(depth, config.angles) for depth in config.depths])
    tables = {
        "shapes": table_of(shapes),
        "kernels": table_of([row for depth in config.depths for row in _drawn(depth, config.drawn)]),
        "sphere": table_of([row for depth in config.depths for row in _sphere(depth, config.cells)]),
    }
    claims = (*_decay_claims(shapes, config), *_limit_claims(shapes))
    return Findings(claims, _answer(shapes), tables, _PANELS)


def _drawn(depth: int, count: int) -> list[Row]:
    angles = torch.linspace(0, math.pi, count, dtype=torch.float64)
    scaled = depth * angles / (3 * math.pi)
    columns = (angles, kernel_of_angle(angles, depth) / depth, scaled, limit_kernel(scaled))
    rows = zip(*(column.tolist() for column in columns), strict=True)
    names = ("angle", "kernel over depth", "L angle / 3 pi", "limit")
    return [{"depth": depth} | dict(zip(names, row, strict=True)) for row in rows]


def _sphere(depth: int, cells: int) -> list[Row]:
    """The kernel of e_1 with points of S^2, which longitude 0 and latitude 0 are."""
    step = 180 / cells
    rows: list[Row] = []
    for latitude in (90 - step * (index + 0.5) for index in range(cells)):
        longitudes = torch.arange(2 * cells, dtype=torch.float64) * step + step / 2 - 180
        cosine = math.cos(math.radians(latitude)) * torch.deg2rad(longitudes).cos()
        values = kernel_of_angle(cosine.acos(), depth) / depth
        rows += [
            {"depth": depth, "latitude": round(latitude, 3), "longitude": round(place, 3), "kernel over depth": value}
            for place, value in zip(longitudes.tolist(), values.tolist(), strict=True)
        ]
    return rows


def _decay_claims(shapes: Sequence[Row], config: Config) -> list[Claim]:
    grid = angle_grid(config.angles)
    near = grid[(grid > 0) & (grid <= _ORDERED)]
    depths = [depth for depth in config.depths if depth >= _LEAST]
    kernels = [kernel_of_angle(near, depth) / depth for depth in depths]
    excess = max(float((deeper - shallower).amax()) for shallower, deeper in pairwise(kernels))
    whole = [kernel_of_angle(grid, depth) / depth for depth in depths]
    reversed_from = [float(grid[deeper - shallower > 1e-12][:1].sum()) for shallower, deeper in pairwise(whole)]
    said = ", ".join(
        f"{deep} above {shallow} from {angle:.3g}"
        for (shallow, deep), angle in zip(pairwise(depths), reversed_from, strict=True)
        if angle
    )
    rising = max((row for row in shapes if row["depth"] >= _LEAST), key=lambda row: row["largest rise"])
    slopes = [
        math.log(after["half width"] / before["half width"]) / math.log(after["depth"] / before["depth"])
        for before, after in pairwise(shapes)
        if before["depth"] >= _LEAST
    ]
    return [
        Claim(
            id="K3.decay",
            statement="The kernel decays with the angle: largest rise after a smaller value, over L",
            source=_SOURCE,
            expected=0.0,
            observed=rising["largest rise"],
            # Far below what a figure shows, far above rounding.
            tolerance=1e-6,
            note=f"largest at L = {rising['depth']}, which rises from an angle of {rising['rises from']:.4g} on",
        ),
        Claim(
            id="K3.faster",
            statement="Deeper kernels are smaller at every angle up to 1: largest excess over the depth before",
            source=_SOURCE,
            expected=0.0,
            observed=excess,
            tolerance=1e-12,
            note=f"beyond: {said}" if said else "and at all larger ones",
        ),
        Claim(
            id="K3.width",
            statement="The angle of half decay falls as one over the depth: power of the depth, last two depths",
            source=_SOURCE,
            expected=-1.0,
            observed=slopes[-1] if slopes else None,
            relation="==",
            tolerance=0.05,
            note=", ".join(f"{slope:.3f}" for slope in slopes) or "needs two depths from 5 on",
        ),
    ]


def _limit_claims(shapes: Sequence[Row]) -> list[Claim]:
    last, limit = shapes[-1], limit_half_width()
    shares = [
        row["distance from limit"] * row["depth"] / math.log(row["depth"]) for row in shapes if row["depth"] >= _DEEP
    ]
    return [
        Claim(
            id="K3.limit",
            statement="Kernel over L is ((1+s)^4 - 1) / (4 s (1+s)^3), s = L nu / 3 pi, to log L / L: largest share",
            source=_BEYOND,
            expected=1.0,
            observed=max(shares),
            note=f"{len(shares)} depths from {_DEEP} on; {last['distance from limit']:.2g} at L = {last['depth']}",
        ),
        Claim(
            id="K3.aperture",
            statement=f"The angle of half decay is {limit:.4g} / L: depth times angle over this number, deepest",
            source=_BEYOND,
            expected=1.0,
            observed=last["half width times depth"] / limit,
            relation="==",
            tolerance=3 * math.log(last["depth"]) / last["depth"],
            note=f"L = {last['depth']}",
        ),
        Claim(
            id="K3.plateau",
            statement="For opposite points a quarter of the kernel at angle zero is left: share at the last depth",
            source=_BEYOND,
            expected=0.25,
            observed=last["at opposite points"],
            relation="==",
            tolerance=math.log(last["depth"]) / last["depth"],
            note=f"L = {last['depth']}",
        ),
    ]


def _answer(shapes: Sequence[Row]) -> str:
    said = ", ".join(f"{row['half width']:.3g} at L = {row['depth']}" for row in shapes)
    return (
        f"The kernel falls halfway from its peak to its plateau within these angles: {said}; in the limit "
        f"{limit_half_width():.2f} / L. It does not fall to zero: a quarter of the peak is left for opposite points."
    )


_PANELS = (
    Panel(
        kind="curves",
        title="The kernel against angle",
        caption="Tangent kernel over L for unit vectors at this angle.",
        table="kernels",
        x="angle",
        y="kernel over depth",
        color="depth",
    ),
    Panel(
        kind="curves",
        title="One curve in the limit",
        caption="The same against L times the angle over 3 pi. Dashes: ((1+s)^4 - 1) / (4 s (1+s)^3).",
        table="kernels",
        x="L angle / 3 pi",
        y="kernel over depth",
        color="depth",
        reference="limit",
    ),
    Panel(
        kind="matrix",
        title="The kernel on the sphere",
        caption="Kernel over L of the point at longitude and latitude zero with all points of the sphere, in degrees.",
        table="sphere",
        x="longitude",
        y="latitude",
        value="kernel over depth",
        facet="depth",
    ),
    Panel(
        kind="scatter",
        title="Aperture",
        caption="Angle at which the kernel is halfway from its peak to its value for opposite points.",
        table="shapes",
        x="depth",
        y="half width",
        x_scale="log",
        y_scale="log",
    ),
)

EXPERIMENT = Study(entry("kernel-aperture"), PRESETS, investigate)
