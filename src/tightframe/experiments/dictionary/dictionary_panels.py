"""Figures of whole overcomplete dictionaries and of preconditioning."""

from __future__ import annotations

from tightframe.runs.record import Panel


def panels(plane: tuple[int, int]) -> tuple[Panel, ...]:
    """Growth, two phase transitions, and tightness; `plane` is the (n, m) of the one over density and samples."""
    return (*_growth(), *_transitions(plane), _tightness())


def _growth() -> tuple[Panel, ...]:
    return (
        Panel(
            kind="curves",
            title="Trials that succeed as columns become many",
            caption="Share of random starts on the expected fourth power that lead to a column, over m, one curve for "
            "each n: infinitely many samples.",
            table="growth",
            x="m",
            y="share",
            color="n",
            x_scale="log",
        ),
        Panel(
            kind="scatter",
            title="How many columns a dimension allows",
            caption="The m at which half of the trials succeed. Dashes: n^2.",
            table="limits",
            x="n",
            y="m",
            color="samples",
            reference="n^2",
            x_scale="log",
            y_scale="log",
        ),
    )


def _transitions(plane: tuple[int, int]) -> tuple[Panel, ...]:
    n, m = plane
    whole = {"table": "phase", "x": "columns per dimension", "y": "dimension"}
    return (
        Panel(
            kind="matrix",
            title="Columns found by independent trials",
            caption="Share of all columns found by m (log m + 3) trials, unit norm tight frames.",
            value="found by trials",
            **whole,
        ),
        Panel(
            kind="matrix",
            title="Columns found with deflation",
            caption="The same data; rounds of trials, each without the columns found before.",
            value="found with deflation",
            **whole,
        ),
        Panel(
            kind="matrix",
            title="Density of codes and number of samples",
            caption=f"Share of trials that succeed, n = {n}, m = {m}.",
            table="plane",
            x="samples",
            y="density",
            value="share",
        ),
    )


def _tightness() -> Panel:
    return Panel(
        kind="scatter",
        title="Preconditioning makes a tight frame, up to the error of the sample",
        caption="Deviation of P A0 from a tight frame in the Frobenius norm. Dashes: its root mean square to first "
        "order, in closed form.",
        table="tightness",
        x="p",
        y="deviation, Frobenius",
        color="A0",
        reference="predicted",
        x_scale="log",
        y_scale="log",
    )
