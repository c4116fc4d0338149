"""Waveforms that recur in a recording

Three short waveforms recur in a long noisy signal, at unknown times and sizes, overlapping at will.
`ConvolutionalDictionaryLearning` finds waveforms and places together: it begins with windows cut from the data,
learns in windows wider than asked for, so that no waveform is cut off, and trims them in the end. Found kernels
(coloured) are laid on the true ones (grey); `transform` gives the activation maps, here as coloured ticks under the
first second of the signal, with the true events as grey ones.
"""

import altair as alt
import numpy as np
import pandas as pd
import torch

from tightframe.data.sparse import sparse_codes
from tightframe.dictionary import ConvolutionalDictionaryLearning, aligned_kernels, match_kernels

RATE, LENGTH, SIZE, NOISE = 1000, 6000, 40, 0.1
time = torch.arange(SIZE).double()
truth = torch.stack(
    [
        torch.exp(-time / 10) * torch.sin(time / 3),
        torch.exp(-((time - 20) ** 2) / 50) * torch.cos((time - 20) / 1.6),
        torch.exp(-((time - 12) ** 2) / 20) - 0.6 * torch.exp(-((time - 24) ** 2) / 60),
    ]
)
truth = truth / truth.norm(dim=1, keepdim=True)
events = sparse_codes((1, 3, LENGTH), 0.006, values="uniform", seed=0) + 0.0
events = events + events.gt(0)  # sizes from 1 to 2
clean = torch.fft.irfft((torch.fft.rfft(truth, n=LENGTH) * torch.fft.rfft(events)).sum(1), n=LENGTH)
signal = clean + NOISE * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0)).double()

model = ConvolutionalDictionaryLearning(n_components=3, kernel_size=SIZE, seed=0).fit(signal)
match = match_kernels(model.components_, truth)
found = aligned_kernels(model.components_, match, truth)
maps = model.transform(signal)
print("similarity of the kernels:", [round(value, 4) for value in match.similarity.tolist()])

shapes = pd.DataFrame(
    [
        {"ms": 1000 * t / RATE, "true": float(truth[k, t]), "found": float(found[k, t]), "kernel": k + 1}
        for k in range(3)
        for t in range(SIZE)
    ]
)
color = alt.Color("kernel:N", legend=None)
x = alt.X("ms:Q", title="time (ms)", axis=alt.Axis(grid=False))
grey = alt.Chart().mark_line(color="#bbbbbb", strokeWidth=7).encode(x=x, y=alt.Y("true:Q", title=None))
line = alt.Chart().mark_line(strokeWidth=2).encode(x=x, y="found:Q", color=color)
top = (
    alt.layer(grey, line, data=shapes)
    .properties(width=170, height=110)
    .facet(column=alt.Column("kernel:N", title="Kernels"))
)

shown = slice(0, 1000)
seen = pd.DataFrame(
    {"ms": np.arange(1000), "signal": signal[0, shown], "model": model.inverse_transform(maps)[0, shown]}
)
axis = alt.X("ms:Q", title="time (ms)", scale=alt.Scale(domain=[0, 1000]), axis=alt.Axis(grid=False))
raw = alt.Chart(seen).mark_line(color="#bbbbbb", strokeWidth=2).encode(x=axis, y=alt.Y("signal:Q", title="signal"))
fitted = alt.Chart(seen).mark_line(color="#333333", strokeWidth=1).encode(x=axis, y="model:Q")
places = []
for k in range(3):
    source, shift = int(match.order[k]), int(match.shifts[k, 0])
    for what, values, moved in (("true", events[0, k], 0), ("found", match.signs[k] * maps[0, source], shift)):
        places += [
            {"ms": t + moved, "size": float(values[t]), "kernel": k + 1, "what": what}
            for t in range(1000)
            if float(values[t]) > 0.3
        ]
marks = alt.Chart().encode(x=axis, y=alt.Y("kernel:N", title="kernel"))
true = marks.mark_tick(color="#bbbbbb", thickness=6, height=20).transform_filter("datum.what == 'true'")
ticks = marks.mark_tick(thickness=2, height=14).encode(color=color).transform_filter("datum.what == 'found'")
below = alt.layer(true, ticks, data=pd.DataFrame(places)).properties(width=590, height=80)
(top & (raw + fitted).properties(width=590, height=120) & below).save("learn_kernels.png", scale_factor=1.5)
