"""A trained network beside the prediction of its kernel

Very wide networks train as regression with their tangent kernel does. `compare_with_kernel` trains a ReLU network
by gradient descent and gives beside the measured error the two linear predictions: by the kernel of this very
network at its start, and by the formula for infinite width. At width 64 the network leaves both predictions, as its
kernel moves by 47 % while it trains; at width 576 it moves by 10 %, and the network follows its kernel. The task is
to tell two circles on a sphere apart.
"""

import altair as alt
import pandas as pd
import torch

from tightframe.data.curves import coaxial_circles
from tightframe.ntk import compare_with_kernel, relu_network

DEPTH, STEPS = 3, 300
curves = [curve.sample(16) for curve in coaxial_circles(0.4)]
points = torch.cat([curve.points for curve in curves])
targets = torch.cat([torch.ones(16), -torch.ones(16)]).double()

rows = []
records = [0, *sorted({round(STEPS ** (power / 30)) for power in range(31)})]
for width in (64, 192, 576):
    network = relu_network(3, depth=DEPTH, width=width, seed=0)
    found = compare_with_kernel(network, points, targets, depth=DEPTH, width=width, step=0.5 / width, records=records)
    kinds = {
        "the network": found.measured,
        "its kernel at the start": found.empirical,
        "infinite width": found.infinite,
    }
    for kind, errors in kinds.items():
        for step, error in zip(found.steps[1:].tolist(), errors[1:].tolist(), strict=True):
            rows.append({"step": step, "error": error, "kind": kind, "width": f"width {width}"})
    print(
        f"width {width:4d}: error {found.measured[-1]:.4f} after {STEPS} steps, its kernel says"
        f" {found.empirical[-1]:.4f}, infinite width {found.infinite[-1]:.4f}; the kernel moved by {found.drift:.1%}"
    )

chart = (
    alt.Chart(pd.DataFrame(rows))
    .mark_line(strokeWidth=2)
    .encode(
        x=alt.X(
            "step:Q",
            scale=alt.Scale(type="log", domain=[1, STEPS], nice=False),
            title="step of gradient descent",
            axis=alt.Axis(values=[1, 10, 100]),
        ),
        y=alt.Y("error:Q", title="root mean square error"),
        color=alt.Color("kind:N", title=None, sort=list(kinds), legend=alt.Legend(orient="top", labelLimit=300)),
    )
    .properties(width=200, height=240)
    .facet(column=alt.Column("width:N", title=None, sort=["width 64", "width 192", "width 576"]))
)
chart.save("network_beside_kernel.png", scale_factor=2)
