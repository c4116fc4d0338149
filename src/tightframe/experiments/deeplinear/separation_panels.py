"""Figures of progressive separation."""

from __future__ import annotations

from tightframe.runs.record import Panel


def pictures(depth: int) -> tuple[Panel, ...]:
    """The figures of the experiment.

    Args:
        depth: L of the networks that are drawn.
    """
    drawn = {"where": {"L": depth}, "color": "eps", "facet": "network"}
    return (
        Panel(
            kind="layers",
            title="Classes separate at one ratio per layer",
            caption="D_l, within-class over between-class variability of the features, after training. Dashes: the law "
            "eps^2 n^(-1/L) of linear networks from orthogonal starts, beside other starts and ReLU too.",
            table="layers",
            x="layer",
            y="D",
            reference="law of linear networks",
            y_scale="log",
            **drawn,
        ),
        Panel(
            kind="curves",
            title="The bound of the lecture, and what happens",
            caption="Linear networks, orthogonal starts: largest and smallest D_(l+1)/D_l over the layers. A bound "
            "of 1 or more says nothing.",
            table="ratios",
            x="eps",
            y="D_{l+1}/D_l",
            color="of",
            facet="L",
            x_scale="log",
            y_scale="log",
        ),
        Panel(
            kind="curves",
            title="A smaller start learns later",
            caption="Loss along training, the start drawn at half a step.",
            table="training",
            x="step",
            y="loss",
            x_scale="log",
            **drawn,
        ),
        Panel(
            kind="curves",
            title="A smaller start separates more",
            caption="D of the last features over that of the inputs along training, the start drawn at half a step.",
            table="training",
            x="step",
            y="separated",
            x_scale="log",
            y_scale="log",
            **drawn,
        ),
    )
