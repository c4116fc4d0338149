"""Find the wrong labels of a data set

`SOPLoss` gives every training sample a small correction of its own, which takes up the label where the network
keeps disagreeing with it. Training becomes robust, and the corrections say which labels look wrong. Here 30 % of
the labels of the bundled digits were replaced at random. The picture shows the thirty most suspicious samples, most
suspicious first: above each is the label that was given, the label suggested instead, and in red the suggestions
that are not the original label.
"""

import altair as alt
import pandas as pd
import torch
from torch.utils.data import DataLoader

import tightframe
from tightframe.data.labelled.digits import digits
from tightframe.data.labelled.noise import flipped
from tightframe.training.config import TrainConfig
from tightframe.training.loop import fit

data = digits()
images, labels = data.train.gather(range(len(data.train)))
noisy = flipped(labels, "symmetric:0.3", classes=10, seed=0)
config = TrainConfig(epochs=60, lr=0.05, weight_decay=5e-4, schedule="cosine", loss="sop", augment="noise:0.15")

torch.manual_seed(0)
model = tightframe.nn.networks.build("mlp-bn", shape=data.shape, classes=10, width=128, depth=3)
loss = tightframe.nn.SOPLoss(samples=len(labels), classes=10)
fit(model, data.train.relabelled(noisy.labels), config=config, loss_function=loss)

issues = loss.label_issues()
wrong = noisy.labels != noisy.clean
test = tightframe.measure(model, DataLoader(data.test, batch_size=512))["accuracy"]
print(f"{int(wrong.sum())} of {len(labels)} labels are wrong; {len(issues)} are suspected")
print(f"{wrong[issues.index].float().mean():.1%} of the suspected ones are wrong")
print(f"{wrong[issues.index].sum() / wrong.sum():.1%} of the wrong ones are suspected")
print(f"{(loss.corrected_labels() == noisy.clean).float().mean():.1%} of the corrected labels are right")
print(f"test accuracy {test:.1%}")

pixels, notes = [], []
for place, index in enumerate(issues.index[:30].tolist()):
    top, left = 11 * (place // 10), 9 * (place % 10)
    given, suggested = int(issues.given[place]), int(issues.suggested[place])
    right = suggested == int(noisy.clean[index])
    notes.append(
        {"x": left + 4, "y": top - 0.8, "note": f"{given} → {suggested}", "color": "#333333" if right else "#d62728"}
    )
    for row in range(8):
        for column in range(8):
            pixels.append({"x": left + column, "y": top + row, "ink": float(images[index, 0, row, column])})
empty = {"axis": None, "scale": alt.Scale(domain=[-0.5, 89.5], nice=False)}
down = {"axis": None, "scale": alt.Scale(domain=[-2.5, 31], reverse=True, nice=False)}
ink = (
    alt.Chart(pd.DataFrame(pixels))
    .mark_square(size=56, opacity=1)
    .encode(
        x=alt.X("x:Q", **empty),
        y=alt.Y("y:Q", **down),
        color=alt.Color("ink:Q", scale=alt.Scale(scheme="greys"), legend=None),
    )
)
text = (
    alt.Chart(pd.DataFrame(notes))
    .mark_text(fontSize=12, fontWeight="bold", baseline="bottom")
    .encode(x=alt.X("x:Q", **empty), y=alt.Y("y:Q", **down), text="note:N", color=alt.Color("color:N", scale=None))
)
(ink + text).properties(width=630, height=235).configure_view(stroke=None).save("wrong_labels.png", scale_factor=1.5)
