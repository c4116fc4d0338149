"""Next words: many classes in few dimensions

A language model classifies contexts by their next word. This one, a small recurrent network, learns the 300 most
frequent words of Python's own documentation in 32 dimensions. There is no simplex of 300 classes in 32 dimensions:
what NC2 can be at best is its floor of 1.16, the dashed line, and the measures of generalised collapse take its
place. In the picture the spread within the classes (CDNV) falls after a first rise and the classifier turns towards
the class means (NC3 cosine, from 1.02 to 0.20), while NC2 stays near 1.33. The printed lines compare the uniformity
of the class means with that of a frame made for few dimensions.
"""

import re
from collections import Counter
from pydoc_data.topics import topics

import altair as alt
import pandas as pd
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import tightframe
from tightframe.collapse.pairs import row_pairs
from tightframe.geometry.incoherent import class_frame

CLASSES, WIDTH, CONTEXT = 300, 32, 24
words = re.findall(r"[a-z]+|[^\sa-z]", " ".join(topics.values()).lower())[:60_000]
frequent = {word: place for place, (word, _) in enumerate(Counter(words).most_common(CLASSES))}
numbers = torch.tensor([frequent.get(word, CLASSES) for word in words])
numbers = numbers[: (len(numbers) - 1) // CONTEXT * CONTEXT + 1]
inputs = numbers[:-1].view(-1, CONTEXT)
targets = numbers[1:].view(-1, CONTEXT).clone()
targets[targets == CLASSES] = -100  # a rare word is no class
print(f"{len(words):,} words, of which {(targets >= 0).float().mean():.0%} are among the {CLASSES} most frequent")


class NextWord(nn.Module):
    """Contexts of words to logits of the next one."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(CLASSES + 1, WIDTH)
        self.recurrent = nn.GRU(WIDTH, 2 * WIDTH, batch_first=True)
        self.features = nn.Linear(2 * WIDTH, WIDTH)
        self.classifier = nn.Linear(WIDTH, CLASSES, bias=False)

    def forward(self, contexts):
        return self.classifier(torch.tanh(self.features(self.recurrent(self.embedding(contexts))[0])))


torch.manual_seed(0)
model = NextWord()
data = TensorDataset(inputs, targets)
loader = DataLoader(data, batch_size=64, shuffle=True)
optimizer = torch.optim.AdamW(model.parameters(), lr=6e-3, weight_decay=0.02)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 12)
names = ("CDNV", "NC2 features", "NC3 cosine", "GNC2", "uniformity")
rows, table = [], []
for epoch in range(13):
    if epoch in (0, 1, 2, 4, 8, 12):
        summary = tightframe.measure(
            model, DataLoader(data, batch_size=512), tokens="all", absent="drop", decisions=False
        )
        found = summary.last.measurements
        table.append({"epoch": epoch, "accuracy": summary["accuracy"]} | {name: found[name].value for name in names})
        rows += [
            {"epoch": epoch, "measure": name, "value": found[name].value, "floor": found[name].floor} for name in names
        ]
    for contexts, following in loader:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(contexts).flatten(0, 1), following.flatten()).backward()
        optimizer.step()
    schedule.step()
print(pd.DataFrame(table).round(4).to_string(index=False))
print(f"least NC2 possible: {found['NC2 features'].floor:.4f}")
frame = row_pairs(class_frame(CLASSES, WIDTH).T)
print(f"a frame of small coherence: uniformity {frame.log_mean:.4f}, GNC2 {frame.log_variance:.4f}")

shown = pd.DataFrame([row for row in rows if row["measure"] in names[:3]])
x = alt.X("epoch:Q", axis=alt.Axis(values=[0, 4, 8, 12]))
values = (
    alt.Chart(shown)
    .mark_line(strokeWidth=2.5, point=alt.OverlayMarkDef(size=60))
    .encode(x=x, y=alt.Y("value:Q", title=None))
)
floors = alt.Chart(shown).mark_line(strokeDash=[5, 4], color="#e45756", strokeWidth=2).encode(x=x, y="floor:Q")
chart = (
    (values + floors)
    .properties(width=210, height=230)
    .facet(alt.Facet("measure:N", title=None, sort=list(names[:3])), columns=3)
)
chart.resolve_scale(y="independent").save("next_token_collapse.png", scale_factor=1.5)
