"""Choose a backbone before training on it

Which of several networks is the best start for new data? `collapse.transfer_scores` answers from one forward pass:
NC1, H-score, LogME, rate reduction and others. The candidates here are narrow networks that learned two, three or
five of the digits 0 to 4, for 3 or 40 epochs; the new task is to tell 5 to 9 apart. The picture sets three of the
scores beside the accuracy of a linear probe on held-out digits (65 to 74 %, on 224 samples). LogME and the H-score
order these seven networks nearly as the probe does (rank correlation 0.85), TransRate the other way round: look at
more than one score.
"""

import altair as alt
import pandas as pd
import torch

import tightframe
from tightframe.collapse.transfer import transfer_scores
from tightframe.data.labelled.digits import digits
from tightframe.data.labelled.images import ArrayDataset
from tightframe.nn import LinearProbe
from tightframe.training.config import TrainConfig
from tightframe.training.loop import fit

data = digits()
images, labels = data.train.gather(range(len(data.train)))
held_out, truth = data.test.gather(range(len(data.test)))
candidates = {"not trained": (5, 0)} | {
    f"{classes} digits, {epochs} epochs": (classes, epochs) for classes in (2, 3, 5) for epochs in (3, 40)
}

rows = []
for name, (classes, epochs) in candidates.items():
    torch.manual_seed(0)
    model = tightframe.nn.networks.build("mlp-bn", shape=data.shape, classes=classes, width=12, depth=3)
    if epochs:
        config = TrainConfig(epochs=epochs, lr=0.05, weight_decay=2e-3)
        fit(model, ArrayDataset(images[labels < classes], labels[labels < classes]), config=config)
    model.eval()
    with torch.no_grad():
        features, unseen = model.forward_features(images[labels >= 5]), model.forward_features(held_out[truth >= 5])
    scores = transfer_scores(features, labels[labels >= 5] - 5, probe=False)
    probe = LinearProbe(decay=(1e-4, 1e-3, 1e-2), validation=0.2).fit(features, labels[labels >= 5])
    accuracy = probe.score(unseen, truth[truth >= 5])
    rows.append(
        {"backbone": name, "held-out accuracy": accuracy} | {key: score.value for key, score in scores.scores.items()}
    )
table = pd.DataFrame(rows).sort_values("held-out accuracy")
print(table.round(3).T.to_string(header=False))
print(table.corr("spearman", numeric_only=True)["held-out accuracy"].iloc[1:].round(2).to_string())

shown = table.melt(["backbone", "held-out accuracy"], ["LogME", "H-score", "NC1"], "score")
digits_learned = shown["backbone"].str.split(",").str[0]
shown = shown.assign(learned=digits_learned, epochs=shown["backbone"].str.extract(r"(\d+) epochs")[0].fillna("0"))
chart = (
    alt.Chart(shown)
    .mark_point(filled=True, size=130, opacity=1)
    .encode(
        x=alt.X("value:Q", scale=alt.Scale(zero=False, padding=14), axis=alt.Axis(tickCount=4), title=None),
        y=alt.Y("held-out accuracy:Q", scale=alt.Scale(zero=False, padding=14), axis=alt.Axis(format="%")),
        color=alt.Color("learned:N", title="learned"),
        shape=alt.Shape("epochs:N", title="epochs", sort=["0", "3", "40"]),
    )
    .properties(width=190, height=220)
    .facet(alt.Facet("score:N", title=None, sort=["LogME", "H-score", "NC1"]), columns=3)
)
chart.resolve_scale(x="independent").save("choose_a_backbone.png", scale_factor=1.5)
