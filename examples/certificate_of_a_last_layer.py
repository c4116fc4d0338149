"""A certificate for the last layer of one's own network

The last layer of a trained network and its features are a point of a model whose minimum can be bounded from below
by duality. `ufm.of_features` makes the point from features, labels, weights and decays, and `ufm.certify` bounds
how far above the global minimum it is: no other features, and no other classifier, could be better by more. In the
picture the two lines close in on each other while the network is trained; the minimum lies between them.
`ufm.decompose` then says what the rest is made of: of the 0.0169 that this network is above the minimum, the dashed
line, 0.0127 are classifier and class means that are not quite aligned, and 0.0038 the spread of the features within
the classes.
"""

import altair as alt
import pandas as pd
import torch

import tightframe
from tightframe import ufm
from tightframe.data.labelled.digits import digits
from tightframe.training.config import TrainConfig
from tightframe.training.loop import fit

data = digits()
images, labels = data.train.gather(range(len(data.train)))
torch.manual_seed(0)
model = tightframe.nn.networks.build("mlp-bn", shape=data.shape, classes=10, width=128, depth=3)
config = TrainConfig(
    epochs=80, lr=0.1, weight_decay=5e-3, decay="last", feature_decay=5e-3, schedule="cosine", classifier="classifier"
)
rows, points = [], {}


def certify(epoch, network):
    if epoch in (1, 2, 3, 5, 8, 12, 20, 30, 45, 60, 80):
        network.eval()
        with torch.no_grad():
            features = network.forward_features(images)
        network.train()
        problem, point = ufm.of_features(
            features,
            labels,
            weight=network.classifier.weight.detach(),
            bias=network.classifier.bias.detach(),
            weight_decay=config.weight_decay,
            feature_decay=config.feature_decay / len(images),
        )
        objective, gap = (
            float(problem.objective(point.W, point.H, point.b)),
            ufm.certify(problem, point.W, point.H, point.b).gap,
        )
        rows.extend([(epoch, "this network", objective), (epoch, "no network is below", objective - gap)])
        points["last"] = problem, point
    return []


fit(model, data.train, config=config, on_epoch=certify)
table = pd.DataFrame(rows, columns=["epoch", "value", "objective"])
print(table.pivot(index="epoch", columns="value", values="objective").round(5).to_string())
excess = ufm.decompose(points["last"][0], points["last"][1].W, points["last"][1].H, points["last"][1].b)
print(f"closed form of the minimum: {excess.minimum.frame}, {excess.minimum.value:.5f}")
print(f"objective {excess.value:.5f}; after all changes before it and this one:")
for change in excess.changes:
    print(f"  {change.name:28} {change.together:.5f}   {change.meaning}")

lines = (
    alt.Chart(table)
    .mark_line(strokeWidth=2.5, point=alt.OverlayMarkDef(size=50))
    .encode(
        x=alt.X("epoch:Q", scale=alt.Scale(type="log"), axis=alt.Axis(values=[1, 2, 5, 10, 20, 40, 80])),
        y=alt.Y("objective:Q", title="regularised loss"),
        color=alt.Color("value:N", title=None, sort=["this network"], legend=alt.Legend(orient="top")),
    )
)
minimum = alt.Chart(pd.DataFrame({"y": [excess.minimum.value]})).mark_rule(strokeDash=[5, 4]).encode(y="y:Q")
(lines + minimum).properties(width=460, height=280).save("certificate_of_a_last_layer.png", scale_factor=1.7)
