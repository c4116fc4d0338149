"""Every layer moves in a small space only

A deep linear network of width 60 learns a matrix of rank 3 from scaled orthogonal layers. Of the 60 singular values
of each of its layers 54 remain one and the same number, which the target does not enter (all lie under the orange
line), and only 2 x 3 = 6 go their own way: the law of parsimony. Three of these learn the target, the other three
go down. `decompose` gives the subspaces in which this happens before training starts. After 4000 steps of plain
gradient descent the weights are within rounding of them.
"""

import altair as alt
import pandas as pd
import torch

from tightframe.deeplinear import DeepLinearNetwork, simulate, stable_step

WIDTH, RANK, DEPTH = 60, 3, 3
KINDS = ["3 that learn the target", "54 that are one number", "3 that go down"]

torch.manual_seed(1)
left, right = (torch.linalg.qr(torch.randn(WIDTH, RANK).double()).Q for _ in range(2))
target = left @ torch.diag(torch.tensor([4.0, 2.5, 1.5]).double()) @ right.T

network = DeepLinearNetwork([WIDTH] * (DEPTH + 1), init="orthogonal", scale=0.3, seed=0)
found = simulate(
    network,
    target,
    step=0.1 * stable_step(target, depth=DEPTH),
    steps=4000,
    record=("values", "invariance"),
    rank=RANK,
)

rows = []
for layer in range(1, DEPTH + 1):
    values = found.variables[f"S{layer}"]
    for step, spectrum in zip(found.trace["step"], values.tolist(), strict=True):
        for index, value in enumerate(spectrum):
            kind = KINDS[0 if index < RANK else 2 if index >= WIDTH - RANK else 1]
            rows.append({"step": max(step, 1), "value": value, "index": index, "kind": kind, "layer": f"layer {layer}"})
    common = values[-1, WIDTH // 2]
    print(f"layer {layer}: {int((values[-1] - common).abs().lt(1e-9).sum())} singular values are {common:.9f}")
print(f"deviation from the subspaces of the theory: {found.trace['deviation'][-1]:.1e}")
print(f"loss {found.trace['loss'][0]:.2f} -> {found.trace['loss'][-1]:.1e}")

alt.data_transformers.disable_max_rows()
chart = (
    alt.Chart(pd.DataFrame(rows))
    .mark_line(strokeWidth=2)
    .encode(
        x=alt.X(
            "step:Q",
            scale=alt.Scale(type="log", domain=[1, 4000], nice=False),
            title="step of gradient descent",
            axis=alt.Axis(values=[1, 10, 100, 1000], grid=False),
        ),
        y=alt.Y("value:Q", title="singular value"),
        color=alt.Color("kind:N", title=None, sort=KINDS, legend=alt.Legend(orient="bottom", labelLimit=300)),
        detail="index:N",
    )
    .properties(width=190, height=240)
    .facet(column=alt.Column("layer:N", title="All 60 singular values of each layer"))
)
chart.save("law_of_parsimony.png", scale_factor=2)
