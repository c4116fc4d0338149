"""How far each layer has separated the classes

`measure(..., layers="auto")` reads every block of a network in one pass. $D$ is the spread of the features within
the classes, divided by the spread between their means. In the picture a trained network lowers it by about the same
factor from layer to layer, so that its logarithm falls along a straight line; the same network before training does
not lower it. Bars are 95 % bootstrap intervals from the same pass. The line is fitted by the library: its slope and
$R^2$ are part of the summary.
"""

import altair as alt
import pandas as pd
import torch
from torch.utils.data import DataLoader

import tightframe
from tightframe.data.labelled.digits import digits
from tightframe.training.config import TrainConfig
from tightframe.training.loop import fit

data = digits()
torch.manual_seed(0)
model = tightframe.nn.networks.build("mlp-bn", shape=data.shape, classes=10, width=100, depth=7)
loader = DataLoader(data.train, batch_size=256)

summaries = {"before training": tightframe.measure(model, loader, layers="auto", bootstrap=50)}
fit(model, data.train, config=TrainConfig(epochs=60, lr=0.05, weight_decay=5e-3, milestones=(40,)))
summaries["after training"] = tightframe.measure(model, loader, layers="auto", bootstrap=50, split="train")

after = summaries["after training"]
print(after)

rows = []
for when, summary in summaries.items():
    for depth, layer in enumerate(summary.layers.values()):
        low, high = layer.measurements["D"].interval
        line = summary.separation.at(depth)
        rows.append({"network": when, "layer": depth + 1, "D": layer["D"], "low": low, "high": high, "line": line})
base = alt.Chart(pd.DataFrame(rows)).encode(
    x=alt.X("layer:O", title="layer", axis=alt.Axis(labelAngle=0)),
    color=alt.Color("network:N", title=None, sort=list(summaries), legend=alt.Legend(orient="top")),
)
values = alt.Axis(values=[0.003, 0.01, 0.03, 0.1, 0.3, 1, 3], format="~g", title="D = spread within / between classes")
scale = alt.Scale(type="log", domain=[0.002, 5])
points = base.mark_point(filled=True, size=70).encode(y=alt.Y("D:Q", scale=scale, axis=values))
bars = base.mark_rule(strokeWidth=2).encode(y=alt.Y("low:Q", scale=scale, axis=values), y2="high:Q")
line = base.mark_line(strokeDash=[5, 4]).encode(y=alt.Y("line:Q", scale=scale, axis=values))
chart = (line + bars + points).properties(
    width=480,
    height=300,
    title=f"A factor {after.separation.decay_ratio:.2f} per layer, R² = {after.separation.r_squared:.3f}",
)
chart.save("layer_by_layer.png", scale_factor=1.7)
