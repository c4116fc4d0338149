"""A fixed simplex in place of the last layer

A collapsed classifier is a simplex equiangular tight frame, so it need not be learned. `replace_head` puts a frame
into the network that stays as it is, and only the features are trained; `reduce_features` gives the last block no
more features than there are classes. The pictures show the cosines between the ten rows of each classifier after
training (the diagonal is one). All three end within a point of test accuracy of each other on the bundled digits,
and the learned one has turned itself into nearly the frame that the other two were given.
"""

import altair as alt
import pandas as pd
import torch
from torch.utils.data import DataLoader

import tightframe
from tightframe.data.labelled.digits import digits
from tightframe.geometry.coherence import cosines
from tightframe.training.config import TrainConfig
from tightframe.training.loop import fit

data = digits()
config = TrainConfig(epochs=40, lr=0.05, weight_decay=5e-3, milestones=(30,))
cells, table = [], []
for name in ("learned", "fixed simplex", "fixed simplex, 10 features"):
    torch.manual_seed(0)
    model = tightframe.nn.networks.build("mlp-bn", shape=data.shape, classes=10, width=256, depth=3)
    if name != "learned":
        print(tightframe.nn.replace_head(model, "etf", seed=0))
    if name.endswith("features"):
        print(tightframe.nn.reduce_features(model, 10))
    fit(model, data.train, config=config)
    summary = tightframe.measure(model, DataLoader(data.train, batch_size=512))
    test = tightframe.measure(model, DataLoader(data.test, batch_size=512))
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    table.append(
        {
            "classifier": name,
            "trained parameters": trained,
            "test accuracy": test["accuracy"],
            "NC1": summary["NC1"],
            "NC2 classifier": summary["NC2 classifier"],
            "NC3": summary["NC3"],
        }
    )
    rows = cosines(model.classifier.weight.detach())
    cells += [
        {
            "classifier": f"{name}: test accuracy {test['accuracy']:.1%}",
            "row": i,
            "column": j,
            "cosine": float(rows[i, j]),
        }
        for i in range(10)
        for j in range(10)
    ]
print(pd.DataFrame(table).round(4).to_string(index=False))

order = list(dict.fromkeys(cell["classifier"] for cell in cells))
chart = (
    alt.Chart(pd.DataFrame(cells))
    .mark_rect()
    .encode(
        x=alt.X("column:O", title="class", axis=alt.Axis(labelAngle=0)),
        y=alt.Y("row:O", title="class"),
        color=alt.Color(
            "cosine:Q", scale=alt.Scale(scheme="blueorange", domain=[-0.5, 0.5], clamp=True), title="cosine"
        ),
    )
    .properties(width=190, height=190)
    .facet(alt.Facet("classifier:N", title=None, sort=order), columns=3)
)
chart.save("fixed_simplex_head.png", scale_factor=1.7)
