"""The tangent kernel against angle, from shallow to deep

For points on a sphere the tangent kernel of an infinitely wide ReLU network depends on their angle alone. Divided
by its value at zero it falls from 1, in deep networks to a plateau of 1/4, and the deeper the network, the smaller
the angle at which it does so: depth decides how near two points may be that the network can still tell apart.
Against depth times angle (right) the curves of deep networks are one curve, $F(s) = ((1+s)^4 - 1) / (4 s (1+s)^3)$
with $s=L\\nu/3\\pi$, drawn dashed.
"""

import math

import altair as alt
import pandas as pd
import torch

from tightframe.ntk import kernel_of_angle

DEPTHS = (5, 25, 125, 625)
angles = torch.logspace(-3.5, math.log10(math.pi), 120, dtype=torch.float64)
at_zero = torch.zeros(1, dtype=torch.float64)

rows = []
for depth in DEPTHS:
    relative = kernel_of_angle(angles, depth) / kernel_of_angle(at_zero, depth)
    half = float(angles[(relative < 0.625).nonzero()[0, 0]])
    print(f"depth {depth:3d}: peak {float(kernel_of_angle(at_zero, depth)):.1f}, half-way down at {half:.4f} radians")
    for angle, value in zip(angles.tolist(), relative.tolist(), strict=True):
        rows.append({"angle": angle, "scaled": depth * angle, "kernel": value, "depth": str(depth)})
data = pd.DataFrame(rows)

color = alt.Color("depth:N", sort=[str(depth) for depth in DEPTHS], title="depth")
value = alt.Y("kernel:Q", title="kernel over its peak", scale=alt.Scale(domain=[0, 1]))
log = alt.Scale(type="log")
left = (
    alt.Chart(data)
    .mark_line(strokeWidth=2)
    .encode(x=alt.X("angle:Q", scale=log, title="angle (radians)", axis=alt.Axis(tickCount=4)), y=value, color=color)
)
s = torch.logspace(-2, 2, 200, dtype=torch.float64)
limit = ((1 + s) ** 4 - 1) / (4 * s * (1 + s) ** 3)
law = pd.DataFrame({"scaled": 3 * math.pi * s, "kernel": limit})
axis = alt.X(
    "scaled:Q",
    scale=alt.Scale(type="log", domain=[0.1, 1000], clamp=True),
    title="depth × angle",
    axis=alt.Axis(tickCount=4),
)
curves = alt.Chart(data[data.scaled.between(0.1, 1000)]).mark_line(strokeWidth=2).encode(x=axis, y=value, color=color)
dashes = (
    alt.Chart(law[law.scaled.between(0.1, 1000)]).mark_line(strokeDash=[5, 4], color="black").encode(x=axis, y=value)
)
chart = left.properties(width=290, height=260) | (curves + dashes).properties(width=290, height=260)
chart.save("kernel_by_depth.png", scale_factor=2)
