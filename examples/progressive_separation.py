"""Classes separate at one ratio per layer of a deep linear network

In a deep linear network that began as scaled orthogonal layers and fits its labels, the ratio of within-class to
between-class variance falls by one factor from each layer to the next. In theory that factor is
$\\epsilon^2n^{-1/L}$, with $\\epsilon$ the scale of the start, n the samples per class and L the depth. The points
are networks trained here, one per $\\epsilon$; the lines are the law, drawn from the first point on, without a fit.
`SeparationLaw` also knows the lower bound, and `check_separation` measures what the law assumes.
"""

import altair as alt
import pandas as pd
import torch

from tightframe.deeplinear import DeepLinearNetwork, SeparationLaw, check_separation, progressive_separation, simulate

CLASSES, PER_CLASS, DEPTH = 5, 10, 5
width = CLASSES * PER_CLASS

torch.manual_seed(0)
X = torch.linalg.qr(torch.randn(width, width).double()).Q
Y = torch.eye(CLASSES).double().repeat_interleave(PER_CLASS, 1)

rows = []
for scale in (0.5, 0.3, 0.15):
    network = DeepLinearNetwork([*[width] * DEPTH, CLASSES], scale=scale, seed=0)
    trained = simulate(network, X, Y, step=0.02, steps=4000, record=())
    weights = [trained.variables[f"W{layer}"] for layer in range(1, DEPTH + 1)]
    law = SeparationLaw(classes=CLASSES, per_class=PER_CLASS, depth=DEPTH, scale=scale, width=width)
    values = progressive_separation(weights, X, Y)
    for layer, value in enumerate(values.tolist()):
        predicted = float(values[0]) * law.ratio**layer
        rows.append({"layer": layer, "D": value, "law": predicted, "start": f"ε = {scale}"})
    ratios = values[1:] / values[:-1]
    violated = check_separation(weights, X, Y, scale=scale, tolerance=0.05).violated
    print(
        f"scale {scale}: ratios {ratios.min():.5f} to {ratios.max():.5f}, law {law.ratio:.5f}, floor {law.floor:.5f},"
        f" assumptions violated: {', '.join(violated) or 'none'}"
    )

base = alt.Chart(pd.DataFrame(rows)).encode(
    x=alt.X("layer:O", title="layer (0 = inputs)", axis=alt.Axis(labelAngle=0)),
    color=alt.Color("start:N", title="scale of the start"),
)
scale = alt.Scale(type="log")
points = base.mark_point(filled=True, size=80, opacity=1).encode(
    y=alt.Y(
        "D:Q", scale=scale, title="within-class over between-class variance", axis=alt.Axis(format=".0e", tickCount=8)
    )
)
lines = base.mark_line(strokeWidth=1.5).encode(y=alt.Y("law:Q", scale=scale))
chart = (lines + points).properties(width=480, height=300, title="Points: trained networks. Lines: the law.")
chart.save("progressive_separation.png", scale_factor=2)
