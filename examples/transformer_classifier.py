"""Inside a transformer's classifier, token by token

A model of `transformers` is measured as it is: `measure` finds its classifier and its blocks, and `tokens` says
what a sequence stands for, the class token or the mean over all positions. This small vision transformer was made
from a configuration and trained for some seconds on the bundled digits. The picture shows NC4 layer by layer: the
share of training digits that the nearest class mean of that layer would decide otherwise than the network does. The
class token, which the classifier reads, gets there block by block (from 28 % to 2 %); the mean of all tokens stays
behind. After so short a training $D$, the spread within the classes over that between them, has not yet begun to
fall from block to block.
"""

import altair as alt
import pandas as pd
import torch
from torch.utils.data import DataLoader
from transformers import ViTConfig, ViTForImageClassification

import tightframe
from tightframe.data.labelled.digits import digits

data = digits()
torch.manual_seed(0)
config = ViTConfig(
    image_size=8, patch_size=2, num_channels=1, hidden_size=48, num_hidden_layers=4, num_attention_heads=4,
    intermediate_size=96, num_labels=10, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
)  # fmt: skip
model = ViTForImageClassification(config)
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.1)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 25)
for _ in range(25):
    for images, labels in DataLoader(data.train, batch_size=128, shuffle=True):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images).logits, labels).backward()
        optimizer.step()
    schedule.step()

loader = DataLoader(data.train, batch_size=256)
rows = []
for tokens, shown in (("class", "class token"), ("mean", "mean of all tokens")):
    summary = tightframe.measure(model, loader, layers="auto", tokens=tokens)
    for depth, layer in enumerate(summary.layers.values(), start=1):
        rows.append({"block": depth, "layer": layer.layer, "tokens": shown, "D": layer["D"], "NC4": layer["NC4"]})
table = pd.DataFrame(rows)
print(table.round(4).to_string(index=False))
accuracy = tightframe.measure(model, DataLoader(data.test, batch_size=512))["accuracy"]
print(f"training accuracy {summary['accuracy']:.4f}, test accuracy {accuracy:.4f}")

chart = (
    alt.Chart(table[table["layer"] != "features"])
    .mark_line(strokeWidth=2.5, point=alt.OverlayMarkDef(size=70))
    .encode(
        x=alt.X("block:O", title="transformer block", axis=alt.Axis(labelAngle=0)),
        y=alt.Y("NC4:Q", title="decided otherwise by the nearest class mean", axis=alt.Axis(format="%")),
        color=alt.Color("tokens:N", title=None, legend=alt.Legend(orient="top", labelLimit=250)),
    )
    .properties(width=440, height=260)
)
chart.save("transformer_classifier.png", scale_factor=1.7)
