"""D6: one shift of one kernel from a preconditioned sample, all kernels from several; and the landscape on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from statistics import median

from tightframe.core.errors import InputError
from tightframe.experiments.catalog import entry
from tightframe.experiments.dictionary.circulant_runs import examine
from tightframe.experiments.dictionary.circulant_scenes import Cell, Row
from tightframe.experiments.dictionary.convolutional_claims import THREE, claims_of
from tightframe.experiments.study import Findings, Study, Sweep
from tightframe.runs.record import Claim, Panel, table_of

_PATHS = (
    ("gap", "From a sample to a shift of a kernel", "1 - |cosine| with the nearest column of the preconditioned frame"),
    ("depth", "The region is not left", "Depth |A^T q|_4^4 / (mu^(2/3) |A^T q|_3^2) along the paths"),
    ("curvature", "Negative until a column is near", "Least eigenvalue of the Riemannian Hessian over |A^T q|_4^4"),
)


@dataclass(frozen=True)
class Config:
    """Which sets of samples are drawn, and what is tried on them.

    Args:
        lengths: n, of samples and kernels.
        counts: K; three should be among them, as the claims are about three kernels.
        densities: theta, of each kernel's activations.
        sparse: The claims are about densities up to this.
        signals: Samples of a set.
        seeds: Sets of each kind.
        starts: Starts of either kind on each.
        steps: Power iterations.
        searched: Critical points are sought from so many starts of either kind, their second iterates and their ends.
        refined: Samples used by the refinement.
    """

    lengths: tuple[int, ...] = (32, 64)
    counts: tuple[int, ...] = (3,)
    densities: tuple[float, ...] = (0.02, 0.1)
    sparse: float = 0.1
    signals: int = 2000
    seeds: int = 2
    starts: int = 12
    steps: int = 60
    searched: int = 3
    refined: int = 500

    def __post_init__(self) -> None:
        if THREE not in self.counts or min(self.densities) > self.sparse or self.seeds < 1:
            raise InputError(
                "three among the counts, a density up to `sparse`, and a seed",
                got=f"counts={self.counts}, densities={self.densities}, seeds={self.seeds}",
                remedy="Add them: the claims are about such sets.",
            )


_QUICK = Config(lengths=(32, 64, 96), counts=(1, 2, 3, 5), densities=(0.02, 0.1, 0.25), seeds=2, steps=100, searched=4)
PRESETS = {
    "smoke": Config(),
    "quick": _QUICK,
    "paper": replace(
        _QUICK,
        lengths=(64, 128),
        counts=(1, 2, 3, 5, 8),
        densities=(0.02, 0.05, 0.1, 0.15, 0.2, 0.25),
        signals=10_000,
        seeds=10,
        starts=20,
        steps=200,
    ),
}


def investigate(config: Config, sweep: Sweep) -> Findings:
    """Paths from samples and from random points, what they end at, and the critical points around them."""
    found = sweep(examine, _cells(config))
    rows = {name: [row for part in found for row in part[name]] for name in found[0]}
    summary = _summary(rows["starts"])
    tables = {"sets": table_of(summary)} | {name: table_of(part) for name, part in rows.items() if part}
    claimed = {
        name: [row for row in part if row.get("kernels") == THREE and row["density"] <= config.sparse]
        for name, part in rows.items()
    }
    claims = claims_of(claimed)
    panels = tuple(panel for panel in _panels(config) if panel.table in tables)
    return Findings(claims=claims, answer=_answer(claims), tables=tables, panels=panels)


def _cells(config: Config) -> list[Cell]:
    return [
        Cell(
            length,
            count,
            config.signals,
            density,
            seed,
            starts=config.starts,
            steps=config.steps,
            searched=config.searched,
            refined=config.refined,
            drawn=count == THREE and seed == 0,
        )
        for length, count, density, seed in product(
            config.lengths, config.counts, config.densities, range(config.seeds)
        )
    ]


def _summary(starts: Sequence[Row]) -> list[Row]:
    """One row for each kind of set and of start."""
    names = ("length", "kernels", "density", "start")
    kinds = dict.fromkeys(tuple(row[name] for name in names) for row in starts)
    rows = []
    for kind in kinds:
        mine = [row for row in starts if tuple(row[name] for name in names) == kind]
        steps = [row["steps"] for row in mine if row["steps"] is not None]
        rows.append(
            {
                **dict(zip(names, kind, strict=True)),
                "starts": len(mine),
                "share found": sum(row["found"] for row in mine) / len(mine),
                "median steps": float(median(steps)) if steps else None,
                "median depth of starts": median(row["depth"] for row in mine),
                "coherence": max(row["coherence"] for row in mine),
                "deviation from tightness": max(row["tightness"] for row in mine),
            }
        )
    return rows


def _answer(claims: Sequence[Claim]) -> str:
    seen = {claim.id: claim.observed for claim in claims}
    right = {claim.id: claim.verdict == "passed" for claim in claims}
    verdict = "Yes" if all(right[name] for name in ("D6.kernels", "D6.start", "D6.region")) else "Not always"
    return (
        f"{verdict}: {100 * seen['D6.start']:.0f} % of the preconditioned samples led to a shift of a kernel, in "
        f"{seen['D6.start.steps']:.2f} times the iterations that random points need, and no path fell below "
        f"{seen['D6.region']:.2f} times the depth of its start. With deflation all three filters came out with a "
        f"cosine of at least {seen['D6.kernels']:.4f}; the bilinear Lasso from there left errors of at most "
        f"{seen['D6.refined']:.4f}."
    )


def _panels(config: Config) -> tuple[Panel, ...]:
    length = max(config.lengths)
    densities = [density for density in config.densities if density <= config.sparse]
    return (
        Panel(
            kind="curves",
            title="Three random filters, true and found",
            caption=f"Of length {length}, moved and signed as the true ones (dashes), from {config.signals} samples of "
            f"density {densities[-1]:g}.",
            table="filters",
            x="entry",
            y="found",
            color="state",
            facet="kernel",
            reference="true",
            where={"length": length, "density": densities[-1], "seed": 0, "kernels": THREE},
        ),
        *(_path_panel(length, *words) for words in _PATHS),
        Panel(
            kind="curves",
            title="How many starts find a kernel",
            caption=f"Share over the number of kernels, which is also how overcomplete the frame is; length {length}.",
            table="sets",
            x="kernels",
            y="share found",
            color="start",
            facet="density",
            where={"length": length},
        ),
        Panel(
            kind="scatter",
            title="Critical points: columns and strict saddles",
            caption="Found by Newton's method from starts, their second iterates and their ends; curvature as above.",
            table="critical points",
            x="depth",
            y="curvature",
            color="kind",
            facet="start",
        ),
    )


def _path_panel(length: int, column: str, title: str, caption: str) -> Panel:
    return Panel(
        kind="curves",
        title=title,
        caption=f"{caption}; median over starts, three kernels of length {length}.",
        table="paths",
        x="step",
        y=column,
        color="start",
        facet="density",
        y_scale="log" if column == "gap" else "linear",
        where={"length": length},
    )


EXPERIMENT = Study(entry("convolutional-dictionaries"), PRESETS, investigate)
