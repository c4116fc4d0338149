"""How deep a network should be for one's own manifolds

How close two classes come to each other says how deep a network should be. `recommend` computes certificates of
fast training from the infinite-width tangent kernel at many depths and returns the depth at which depth times the
norm of the certificate, a measure of the cost of training, is least. Here the classes are two wavy circles on the
sphere (left). The curve on the right has its minimum where theory for two parallel curves expects it, near 5.5 over
the separation (dashed), and is flat there: any depth of that order will do, a much smaller one will not.
"""

import altair as alt
import pandas as pd

from tightframe.data.curves import wavy_circle
from tightframe.ntk import recommend

curves = [wavy_circle(0.5, 0.06, 5), wavy_circle(0.62, 0.06, 5)]
samples = [curve.sample(300) for curve in curves]
depths = (5, 8, 12, 18, 25, 32, 40, 50, 63, 80, 100, 125, 160, 200, 250)
advice = recommend(samples, depths=depths)
print(advice)

rows = [
    {"x": x, "y": y, "order": order, "class": f"class {label}"}
    for label, sample in enumerate(samples)
    for order, (x, y, _) in enumerate([*sample.points.tolist(), sample.points[0].tolist()])
]
left = (
    alt.Chart(pd.DataFrame(rows))
    .mark_line(strokeWidth=2)
    .encode(
        x=alt.X("x:Q", title="first coordinate", scale=alt.Scale(domain=[-1, 1])),
        y=alt.Y("y:Q", title="second coordinate", scale=alt.Scale(domain=[-1, 1])),
        order="order:Q",
        color=alt.Color("class:N", title=None, legend=alt.Legend(orient="none", legendX=105, legendY=115)),
    )
    .properties(width=260, height=260, title="Two classes on the sphere, from above")
)

costs = pd.DataFrame(
    {"depth": advice.depths, "cost": [depth * norm for depth, norm in zip(advice.depths, advice.norms, strict=True)]}
)
axis = alt.X(
    "depth:Q",
    scale=alt.Scale(type="log", domain=[4, 300], nice=False),
    title="depth",
    axis=alt.Axis(values=[5, 10, 20, 50, 100, 200]),
)
cost = alt.Y("cost:Q", scale=alt.Scale(zero=False), title="depth times norm of the certificate")
line = alt.Chart(costs).mark_line(point={"size": 50}, strokeWidth=2).encode(x=axis, y=cost)
best = (
    alt.Chart(costs[costs.depth == advice.depth])
    .mark_point(size=220, color="#d62728", strokeWidth=2)
    .encode(x=axis, y=cost)
)
rule = alt.Chart(pd.DataFrame({"depth": [advice.rule]})).mark_rule(strokeDash=[6, 4]).encode(x=axis)
right = (line + best + rule).properties(
    width=330, height=260, title=f"Depth {advice.depth} is best; 5.5 / separation = {advice.rule:.0f}"
)
(left | right).save("choose_depth.png", scale_factor=1.8)
