"""Figures of fourth powers on the sphere."""

from __future__ import annotations

from tightframe.runs.record import Panel


def panels(descents: int) -> tuple[Panel, ...]:
    """Of searches on data, of averages, and of critical points; `descents` for each dictionary of the last."""
    return (*_searches(), *_expectations(descents))


def _searches() -> tuple[Panel, ...]:
    logs = {"x_scale": "log", "y_scale": "log"}
    return (
        Panel(
            kind="scatter",
            title="The maximum lies beside the column until samples are many",
            caption="Distance of the ends of random starts from the nearest column, root mean square, orthogonal "
            "dictionary. Dashes: (5 (n - 1) / (3 p))^(1/2) / (1 - theta).",
            table="distances",
            x="p",
            y="distance",
            color="n",
            reference="predicted distance",
            **logs,
        ),
        Panel(
            kind="matrix",
            title="Columns found under noise",
            caption="Matching, stretching and projection of fourth powers: share of the columns of an orthogonal "
            "dictionary within 1 - |cosine| = 1e-2, over the density of codes and the deviation of white noise.",
            table="noise",
            x="deviation of noise",
            y="density",
            value="columns within 1e-2",
        ),
        Panel(
            kind="matrix",
            title="Exact recovery from few samples",
            caption="Share of the draws in which the whole basis is recovered up to rounding after a start by third "
            "or fourth powers and refinement by thresholds.",
            table="exact recovery",
            x="p/n",
            y="setting",
            value="share exact",
            facet="powers",
        ),
    )


def _expectations(descents: int) -> tuple[Panel, ...]:
    return (
        Panel(
            kind="scatter",
            title="An average over samples approaches the closed form",
            caption="Root mean square of the mean fourth power over p samples less its expectation. Dashes: its "
            "standard deviation, from the eighth moment in closed form.",
            table="averages",
            x="p",
            y="error",
            color="A0 and codes",
            reference="predicted",
            x_scale="log",
            y_scale="log",
        ),
        Panel(
            kind="matrix",
            title="Where the landscape stops being benign",
            caption=f"Share of {descents} descents of minus the expected fourth power that end at a minimum away from "
            "all columns. A larger dimension, and less coherence, allow more columns for each dimension.",
            table="elsewhere",
            x="m/n",
            y="columns",
            value="share elsewhere",
            facet="frame",
        ),
        Panel(
            kind="scatter",
            title="All critical points found",
            caption="Least eigenvalue of the Hessian on the sphere, relative to the power, over the distance from the "
            "nearest column. A third kind would be on the right above zero.",
            table="critical points",
            x="gap",
            y="curvature",
            color="m/n",
            facet="frame",
            where={"kind": ["column", "strict saddle", "other"]},
        ),
    )
