"""When rare classes merge

With unequal classes the minimum is no simplex, and where the weight decay is too large for the rare classes their
outputs become one: a network that is trained to the end cannot tell them apart. `ufm.solve_convex` solves the model
for any sizes, with a certificate, and `ufm.merging.merging_decay` says where it happens: at
$\\sqrt{\\lambda_W\\lambda_H} = \\sqrt{n}/N$ for $n$ samples of a rare class among $N$. In the picture the
separation of the rare classes reaches zero at the dashed line of that formula, for each of three imbalances.
"""

import altair as alt
import pandas as pd

from tightframe import ufm
from tightframe.ufm.merging import measured_merging_decay, merging_decay, separation

rows, lines, table = [], [], []
for rare in (50, 10, 2):
    sizes = (100, 100, 100, rare, rare, rare)
    label = f"{rare} of 100"
    threshold = float(merging_decay(ufm.UnconstrainedFeatures(classes=6, features=6, per_class=sizes))[-1])
    lines.append({"samples of a rare class": label, "decay": threshold})
    for step in range(-20, 8):
        decay = threshold * 10 ** (step / 16)
        problem = ufm.UnconstrainedFeatures(classes=6, features=6, per_class=sizes, weight_decay=(decay, decay))
        solution = ufm.solve_convex(problem)
        apart = separation(problem, solution.Z, solution.b)
        rows.append({"samples of a rare class": label, "decay": decay, "separation": max(apart, 0.0)})
    table.append((label, threshold, measured_merging_decay(problem)))
print(pd.DataFrame(table, columns=["rare class", "formula", "bisection"]).to_string(index=False, float_format="%.7f"))

color = alt.Color(
    "samples of a rare class:N",
    sort=[line["samples of a rare class"] for line in lines],
    legend=alt.Legend(orient="top"),
)
ticks = alt.Axis(values=[0.0003, 0.001, 0.003, 0.01, 0.03], format="~g")
curves = (
    alt.Chart(pd.DataFrame(rows))
    .mark_line(strokeWidth=2.5)
    .encode(
        x=alt.X(
            "decay:Q", scale=alt.Scale(type="log", domain=[0.0002, 0.05]), title="weight decay √(λW λH)", axis=ticks
        ),
        y=alt.Y("separation:Q", title="probability that tells rare classes apart"),
        color=color,
    )
)
thresholds = alt.Chart(pd.DataFrame(lines)).mark_rule(strokeDash=[5, 4], strokeWidth=2).encode(x="decay:Q", color=color)
(curves + thresholds).properties(width=480, height=280).save("minority_collapse.png", scale_factor=1.7)
