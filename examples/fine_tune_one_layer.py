"""Tune one layer, or all, or none

A network that learned the upright digits is moved to digits that lie on their side, with ten labelled samples per
class. `transfer` tunes the head alone (a linear probe, solved to its optimum), one block with the head ("layer"),
one block that is joined to the head by a skip connection ("scl"), or everything, and says how much was trained.
With so few samples the whole network is not the best choice: in the picture the first block with a skip connection,
a sixth of the parameters, reaches 81 %, all weights 74 %, and the head alone 70 %. There are 450 test digits, so
that a difference below 4 points may be chance.
"""

import copy

import altair as alt
import pandas as pd
import torch

import tightframe
from tightframe.data.labelled.digits import digits
from tightframe.data.labelled.images import ArrayDataset, ImageData, balanced_indices
from tightframe.training.config import TrainConfig
from tightframe.training.loop import fit
from tightframe.trials.transfer import TransferConfig, transfer

upright = digits()
torch.manual_seed(0)
model = tightframe.nn.networks.build("mlp-bn", shape=upright.shape, classes=10, width=128, depth=4)
fit(model, upright.train, config=TrainConfig(epochs=30, lr=0.05, weight_decay=2e-3, schedule="cosine"))


def lying(dataset, indices):
    images, labels = dataset.gather(indices)
    return ArrayDataset(torch.rot90(images, dims=(2, 3)).contiguous(), labels)


few = balanced_indices(upright.train.gather(range(len(upright.train)))[1], 100)
task = ImageData(
    train=lying(upright.train, few),
    test=lying(upright.test, range(len(upright.test))),
    classes=upright.classes,
    shape=upright.shape,
    name="lying digits",
)
choices = {"head alone": ("linear", None), "all weights": ("full", None)}
choices |= {f"block {place}": ("layer", f"blocks.{place}") for place in range(3)}
choices |= {f"block {place}, skip": ("scl", f"blocks.{place}") for place in range(3)}
rows = []
for name, (method, layer) in choices.items():
    found = transfer(copy.deepcopy(model), task, TransferConfig(method=method, layer=layer, epochs=60, batch_size=50))
    rows.append(
        {
            "tuned": name,
            "parameters": found.share.trainable,
            "share": found.share.share,
            "test accuracy": found.test_accuracy,
            "NC1": found.nc1(),
        }
    )
table = pd.DataFrame(rows).sort_values("test accuracy")
print(table.round(4).to_string(index=False))

table["share"] = table["share"].map("{:.0%} of the parameters".format)
bars = (
    alt.Chart(table)
    .mark_bar(color="#4c78a8")
    .encode(
        x=alt.X("test accuracy:Q", axis=alt.Axis(format="%"), scale=alt.Scale(domain=[0, 1])),
        y=alt.Y("tuned:N", sort="x", title=None),
    )
)
notes = bars.mark_text(align="left", dx=5).encode(text="share:N")
(bars + notes).properties(width=480, height=240).save("fine_tune_one_layer.png", scale_factor=1.7)
