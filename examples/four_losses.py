"""Four losses, one geometry

Cross-entropy, label smoothing, focal loss and squared error lead to the same geometry: classes shrink to points
(NC1), the class means form a simplex (NC2) and the classifier lines up with them (NC3). The losses are those of
`tightframe.nn` and take logits and labels as torch's do. In the picture four equal networks are trained on the
bundled digits with one learning rate for all. Every measure falls for every loss, but not equally fast: after fifty
epochs label smoothing has the smallest NC1, and squared error the largest NC1 and the smallest NC3.
"""

import altair as alt
import pandas as pd
import torch
from torch.utils.data import DataLoader

import tightframe
from tightframe import nn
from tightframe.data.labelled.digits import digits
from tightframe.training.config import TrainConfig
from tightframe.training.loop import fit

data = digits()
loader = DataLoader(data.train, batch_size=512)
losses = {
    "cross-entropy": torch.nn.CrossEntropyLoss(),
    "label smoothing 0.1": nn.LabelSmoothingLoss(smoothing=0.1),
    "focal, γ = 2": nn.FocalLoss(gamma=2.0),
    "squared error": nn.RescaledMSELoss(scale=1.0, target=1.0),
}
shown = {"NC1": "NC1, within classes", "NC2 features": "NC2, from a simplex", "NC3": "NC3, classifier"}
rows, table = [], []
for name, loss in losses.items():
    torch.manual_seed(0)
    model = tightframe.nn.networks.build("mlp-bn", shape=data.shape, classes=10, width=128, depth=3)

    def watch(epoch, network, name=name):
        if epoch in (1, 2, 3, 5, 8, 12, 20, 30, 40, 50):
            summary = tightframe.measure(network, loader, decisions=False)
            rows.extend({"loss": name, "epoch": epoch, "measure": shown[key], "value": summary[key]} for key in shown)
        return []

    config = TrainConfig(epochs=50, lr=0.05, weight_decay=2e-3, schedule="cosine", loss=name)
    fit(model, data.train, config=config, loss_function=loss, on_epoch=watch)
    train, test = (tightframe.measure(model, DataLoader(part, batch_size=512)) for part in (data.train, data.test))
    table.append(
        {"loss": name, "test accuracy": test["accuracy"]}
        | {key: train[key] for key in ("NC1", "NC2 features", "NC3", "NC4")}
    )
print(pd.DataFrame(table).round(4).to_string(index=False))

values = alt.Axis(values=[0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1], format="~g", title=None)
chart = (
    alt.Chart(pd.DataFrame(rows))
    .mark_line(strokeWidth=2.5)
    .encode(
        x=alt.X("epoch:Q", scale=alt.Scale(type="log", domain=[1, 50]), axis=alt.Axis(values=[1, 2, 5, 10, 20, 50])),
        y=alt.Y("value:Q", scale=alt.Scale(type="log"), axis=values),
        color=alt.Color("loss:N", title=None, sort=list(losses), legend=alt.Legend(orient="top")),
    )
    .properties(width=210, height=230)
    .facet(alt.Facet("measure:N", title=None), columns=3)
)
chart.resolve_scale(y="independent").save("four_losses.png", scale_factor=1.5)
