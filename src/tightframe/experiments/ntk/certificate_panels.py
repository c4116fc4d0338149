"""What is drawn of the certificates."""

from __future__ import annotations

from tightframe.runs.record import Panel

PANELS = (
    Panel(
        kind="curves",
        title="Certificates shrink with depth",
        caption="Norm of g in Theta g = zeta for two coaxial circles at these separations, labels -1 and 1.",
        table="norms",
        x="depth",
        y="norm",
        color="separation",
        x_scale="log",
        y_scale="log",
    ),
    Panel(
        kind="curves",
        title="The depth that is worth its cost",
        caption="Depth times norm, over the length of the curves and times their separation, against depth times "
        "separation. Dashes: what the distances of points to the other class predict in the limit of great depth. "
        "Curves at constant distance share one minimum, at 5.72 in that limit.",
        table="costs",
        x="depth times separation",
        y="cost times separation over length",
        color="separation",
        facet="curves",
        reference="by local distances",
        x_scale="log",
    ),
    Panel(
        kind="curves",
        title="Error over time",
        caption="Error of the linear dynamics in L2, coaxial circles. Dashes: ||g|| / (e t) plus the residual, or the "
        "initial error where that is less.",
        table="errors",
        x="time",
        y="error",
        color="depth",
        facet="separation",
        reference="bound",
        x_scale="log",
    ),
    Panel(
        kind="curves",
        title="The source's rate beside the error",
        caption="Error of the linear dynamics in L2 over L log L / t, whose constant the source leaves open.",
        table="errors",
        x="time",
        y="error over L log L / t",
        color="depth",
        facet="separation",
        x_scale="log",
        y_scale="log",
    ),
    Panel(
        kind="curves",
        title="What curvature costs",
        caption="Norms of two wavy circles with this many waves of one amplitude, at a separation of 0.2.",
        table="wavy circles",
        x="depth",
        y="norm",
        color="waves",
        x_scale="log",
        y_scale="log",
    ),
)
