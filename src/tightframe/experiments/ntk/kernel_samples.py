"""K5: kernel regression needs more samples as its aperture narrows, which depth sets after the geometry."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from tightframe.core.errors import InputError
from tightframe.experiments.catalog import entry
from tightframe.experiments.ntk.certificate_runs import RULE
from tightframe.experiments.ntk.sample_runs import Fitting, Row, needs, regress
from tightframe.experiments.study import Findings, Study, Sweep
from tightframe.runs.record import Claim, Panel, table_of

_SOURCE = "L4, data as a statistical resource: samples are dictated by the kernel's aperture"
_BEYOND = "beyond the sources"


@dataclass(frozen=True)
class Config:
    """What is fitted.

    Args:
        separation: Of the circles on which the depth is swept.
        depths: Ascending.
        samples: Numbers N of random samples, half on either curve, ascending.
        separations: Of circles whose depth follows the rule of 5.5 over the separation, descending.
        draws: Sets of samples.
        level: Root mean square error that counts as learned.
        hurried: Depths tried where training ends early, at the least separation with the most samples, ascending.
        budgets: Products of depth and time at which it ends there.
    """

    separation: float = 0.4
    depths: tuple[int, ...] = (10, 30, 100, 300)
    samples: tuple[int, ...] = (8, 16, 32, 64, 128, 256, 512)
    separations: tuple[float, ...] = (0.8, 0.4, 0.2, 0.1)
    draws: int = 5
    level: float = 0.5
    hurried: tuple[int, ...] = (2, 5, 15, 50, 150)
    budgets: tuple[float, ...] = (100.0, 300.0, 1000.0)

    def __post_init__(self) -> None:
        if min(len(self.depths), len(self.separations), len(self.samples)) < 2 or min(self.samples) < 6:
            raise InputError(
                "two depths, separations and numbers of samples or more, of 6 samples or more",
                got=f"depths {self.depths}, separations {self.separations}, samples {self.samples}",
                remedy="Growth needs two places.",
            )


PRESETS = {
    "smoke": Config(),
    "quick": Config(
        depths=(3, 10, 30, 100, 300, 1000),
        samples=(8, 16, 32, 64, 128, 256, 512, 1024),
        separations=(0.8, 0.4, 0.2, 0.1, 0.05),
        draws=7,
        hurried=(2, 5, 10, 25, 50, 110, 200, 400),
        budgets=(100.0, 300.0, 1000.0, 3000.0),
    ),
    "paper": Config(
        depths=(3, 10, 30, 50, 100, 300, 1000, 3000),
        samples=(8, 16, 32, 64, 128, 256, 512, 1024, 2048),
        separations=(0.8, 0.4, 0.2, 0.1, 0.05, 0.025),
        draws=15,
        hurried=(2, 5, 10, 25, 50, 110, 220, 400, 800),
        budgets=(100.0, 300.0, 1000.0, 3000.0, 10000.0),
    ),
}


def investigate(config: Config, sweep: Sweep) -> Findings:
    """Errors over samples, for a sweep of the depth and for depths that follow the separation."""
    deep = [
        Fitting(config.separation, depth, count, config.draws, ())
        for depth in config.depths
        for count in config.samples
    ]
    followed = [
        Fitting(apart, round(RULE / apart), count, config.draws, ())
        for apart in config.separations
        for count in config.samples
    ]
    hurried = [
        Fitting(min(config.separations), depth, max(config.samples), config.draws, config.budgets)
        for depth in config.hurried
    ]
    errors, by_rule, within = (
        [row for rows in sweep(regress, some) for row in rows] for some in (deep, followed, hurried)
    )
    by_depth = needs(errors, "depth", config.level)
    by_separation = needs(by_rule, "separation", config.level)
    tables = {
        "errors": table_of(errors),
        "errors by rule": table_of(by_rule),
        "within budgets": table_of([row for row in within if row["budget"] is not None]),
        "needed by depth": table_of(by_depth),
        "needed by separation": table_of(by_separation),
    }
    claims = (*_depth_claims(by_depth), *_geometry_claims(by_separation), _budget_claim(within, config))
    return Findings(claims, _answer(by_depth, by_separation), tables, _PANELS)


def _depth_claims(rows: Sequence[Row]) -> list[Claim]:
    known = [row for row in rows if row["samples"] is not None]
    growth = [after["samples"] / before["samples"] for before, after in pairwise(known)]
    powers = [
        math.log(ratio) / math.log(before["aperture"] / after["aperture"])
        for ratio, (before, after) in zip(growth, pairwise(known), strict=True)
    ]
    said = ", ".join(f"{row['samples']:.0f} at L = {row['depth']}" for row in known)
    return [
        Claim(
            id="K5.depth",
            statement="A narrower aperture needs more samples: least growth from one depth to the next",
            source=_SOURCE,
            expected=1.0,
            observed=min(growth, default=None),
            relation=">=",
            note=said or "needs more samples",
        ),
        Claim(
            id="K5.aperture",
            statement="In the end samples grow as one over the aperture: power, deepest two depths",
            source=_SOURCE,
            expected=1.0,
            observed=powers[-1] if powers else None,
            relation="==",
            tolerance=0.35,
            note=", ".join(f"{power:.2f}" for power in powers) or "needs more samples",
        ),
    ]


def _geometry_claims(rows: Sequence[Row]) -> list[Claim]:
    known = [row for row in rows if row["samples"] is not None]
    steps = list(pairwise(known))
    powers = [
        math.log(after["samples"] / before["samples"]) / math.log(before["separation"] / after["separation"])
        for before, after in steps
    ]
    return [
        Claim(
            id="K5.geometry",
            statement="At the depth that the separation asks for, samples grow as one over the separation: last power",
            source=_SOURCE,
            expected=1.0,
            observed=powers[-1] if powers else None,
            relation="==",
            tolerance=0.35,
            note=", ".join(f"{row['samples']:.0f} at {row['separation']:g}" for row in known) or "needs more samples",
        )
    ]


def _budget_claim(rows: Sequence[Row], config: Config) -> Claim:
    """Where time is limited, depth is what fits."""
    best = [
        min((row for row in rows if row["budget"] == each), key=lambda row: row["error"]) for each in config.budgets
    ]
    said = "; ".join(f"budget {row['budget']:g}: L = {row['depth']}, error {row['error']:.3g}" for row in best)
    return Claim(
        id="K5.budget",
        statement="Within a budget of depth times time the least error is not at the least depth: budgets that it wins",
        source=_BEYOND,
        expected=0.0,
        observed=float(sum(row["depth"] == min(config.hurried) for row in best)),
        note=f"separation {min(config.separations):g}, {max(config.samples)} samples; {said}",
    )


def _answer(by_depth: Sequence[Row], by_separation: Sequence[Row]) -> str:
    said = [
        ", ".join(f"{row['samples']:.0f} at {row[by]:g}" for row in rows if row["samples"] is not None)
        for by, rows in (("depth", by_depth), ("separation", by_separation))
    ]
    return (
        f"Samples for an error of the level asked, at one separation and these depths: {said[0]}; at these separations "
        f"with the depth that each asks for: {said[1]}. Depth buys fitting and costs samples."
    )


_PANELS = (
    Panel(
        kind="curves",
        title="Error against samples, by depth",
        caption="Root mean square error of kernel regression on two coaxial circles; medians over draws.",
        table="errors",
        x="samples",
        y="error",
        color="depth",
        x_scale="log",
        y_scale="log",
    ),
    Panel(
        kind="curves",
        title="Wrong signs against samples, by depth",
        caption="Share of both circles that gets the wrong sign; medians over draws.",
        table="errors",
        x="samples",
        y="wrong",
        color="depth",
        x_scale="log",
    ),
    Panel(
        kind="curves",
        title="Error against samples, where depth follows the separation",
        caption="Depth 5.5 over the separation.",
        table="errors by rule",
        x="samples",
        y="error",
        color="separation",
        x_scale="log",
        y_scale="log",
    ),
    Panel(
        kind="scatter",
        title="Samples needed against aperture",
        caption="Samples at which the error has fallen to the level asked, against the angle of half decay.",
        table="needed by depth",
        x="aperture",
        y="samples",
        x_scale="log",
        y_scale="log",
    ),
    Panel(
        kind="curves",
        title="Error within a budget of depth times time",
        caption="Least separation and most samples of the sweep; training ends at the time budget / L.",
        table="within budgets",
        x="depth",
        y="error",
        color="budget",
        x_scale="log",
    ),
)

EXPERIMENT = Study(entry("kernel-samples"), PRESETS, investigate)
