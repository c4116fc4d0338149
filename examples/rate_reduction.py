"""Rate reduction spreads classes over subspaces

Maximal coding rate reduction asks for the opposite of collapse: all features together should take as much room as
they can, and those of each class little. Its optimum gives every class a subspace of its own, orthogonal to the
others. Both networks in the picture learn the same five digits in 20 dimensions. Left and middle are the cosines
between features, sorted by digit: five blocks. On the right, cross-entropy leaves one direction per class, and
`nn.MCR2Loss` fills two to four of them alike, orthogonal to those of the other classes. `progress` says how much of
the closed-form maximum is reached: 95 %.
"""

import altair as alt
import pandas as pd
import torch
from torch import nn

import tightframe
from tightframe.data.labelled.digits import digits
from tightframe.geometry.coherence import cosines
from tightframe.geometry.subspaces import entropy_rank

images, labels = digits().train.gather(range(1347))
images, labels = images[labels < 5], labels[labels < 5]
shown = torch.cat([(labels == digit).nonzero()[:7, 0] for digit in range(5)])
criterion = tightframe.nn.MCR2Loss(eps2=0.5)
pictures, spectra = [], []
for name in ("cross-entropy", "rate reduction"):
    torch.manual_seed(0)
    body = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 128), nn.BatchNorm1d(128), nn.ReLU(),
        nn.Linear(128, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 20),
    )  # fmt: skip
    classifier = nn.Linear(20, 5)
    optimizer = torch.optim.Adam([*body.parameters(), *classifier.parameters()], lr=3e-3, weight_decay=1e-4)
    for _ in range(400):
        features = body(images)
        if name == "cross-entropy":
            loss = nn.functional.cross_entropy(classifier(features), labels)
        else:
            loss = criterion(features, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    features = nn.functional.normalize(features.detach())
    ranks = [round(entropy_rank(features[labels == digit]), 1) for digit in range(5)]
    print(f"{name}: ranks of the classes {ranks}, {criterion.progress(features, labels):.1%} of the maximum")

    among = cosines(features[shown])
    rows, columns = torch.meshgrid(torch.arange(len(shown)), torch.arange(len(shown)), indexing="ij")
    cells = pd.DataFrame({"row": rows.flatten(), "column": columns.flatten(), "cosine": among.abs().flatten()})
    empty = alt.Axis(labels=False, ticks=False, title="features, sorted by digit")
    legend = None if name == "cross-entropy" else alt.Legend()
    pictures.append(
        alt.Chart(cells, title=name)
        .mark_rect()
        .encode(
            x=alt.X("column:O", axis=empty),
            y=alt.Y("row:O", axis=empty),
            color=alt.Color(
                "cosine:Q", scale=alt.Scale(scheme="blues", domain=[0, 1]), title="|cosine|", legend=legend
            ),
        )
        .properties(width=alt.Step(4), height=alt.Step(4))
    )
    for digit in range(5):
        energy = torch.linalg.svdvals(features[labels == digit]) ** 2
        spectra += [
            {"loss": name, "digit": digit, "direction": place + 1, "share": float(value / energy.sum())}
            for place, value in enumerate(energy[:10])
        ]

spectrum = (
    alt.Chart(pd.DataFrame(spectra), title="energy of each class")
    .mark_line(strokeWidth=2, opacity=0.8)
    .encode(
        x=alt.X("direction:Q", axis=alt.Axis(values=[1, 4, 7, 10])),
        y=alt.Y("share:Q", axis=alt.Axis(format="%"), title="share of energy"),
        color=alt.Color("loss:N", title=None, legend=alt.Legend(orient="top-right")),
        detail="digit:N",
    )
    .properties(width=170, height=150)
)
((pictures[0] | pictures[1]) | spectrum).resolve_scale(color="independent").save("rate_reduction.png", scale_factor=2)
