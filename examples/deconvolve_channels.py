"""One unknown signal, seen through many sparse inputs

Forty channels record the same unknown waveform, each circularly convolved with another unknown sparse input:
echoes, or responses to events at unknown times. `MultichannelBlindDeconvolution` recovers waveform and inputs
together, up to a shift and a sign that no data can tell apart. Descent on a smooth measure of sparsity comes near,
and a linear program rounds to the exact answer, with a certificate that it is optimal. The inputs recovered
(points, right) lie on the true ones (bars), and the waveform (middle, thin) on the true one (grey), both within
rounding.
"""

import altair as alt
import pandas as pd
import torch

from tightframe.data.sparse import sparse_codes
from tightframe.dictionary import MultichannelBlindDeconvolution

CHANNELS, LENGTH, SHOWN = 40, 120, 3
time = torch.arange(LENGTH).double()
waveform = torch.exp(-time / 15) * torch.sin(time / 3) + 0.6 * torch.exp(-((time - 70) ** 2) / 40)
inputs = sparse_codes((CHANNELS, LENGTH), 0.08, seed=1)
recorded = torch.fft.irfft(torch.fft.rfft(waveform) * torch.fft.rfft(inputs), n=LENGTH)

model = MultichannelBlindDeconvolution().fit(recorded)
print(model.solution_.certificate)

# Shift, sign and scale cannot be known from the data: take those of the truth.
agreement = torch.fft.irfft(torch.fft.rfft(model.kernel_).conj() * torch.fft.rfft(waveform), n=LENGTH)
shift = int(agreement.abs().argmax())
factor = float(agreement[shift].sign() * waveform.norm())
kernel = model.kernel_.roll(shift) * factor
events = model.activations_.roll(-shift, 1) / factor
first, second = (kernel - waveform).abs().max(), (events - inputs).abs().max()
print(f"largest error of the waveform {first:.1e}, of the inputs {second:.1e}")

rows = [
    {"time": t, "value": float(values[channel, t]), "channel": f"channel {channel + 1}", "what": what}
    for what, values in (("recorded", recorded), ("true", inputs), ("found", events))
    for channel in range(SHOWN)
    for t in range(LENGTH)
    if what == "recorded" or values[channel, t].abs() > 1e-6
]
data = pd.DataFrame(rows)
x = alt.X("time:Q", title="time (samples)", axis=alt.Axis(grid=False), scale=alt.Scale(domain=[0, LENGTH]))
y = alt.Y("value:Q", title=None)
row = alt.Row("channel:N", title=None)
size = {"width": 230, "height": 90}
seen = alt.Chart(data[data.what == "recorded"]).mark_line(color="#666666").encode(x=x, y=y).properties(**size)
seen = seen.facet(row=row, title="Recorded")
bars = alt.Chart().mark_bar(color="#bbbbbb", width=4).encode(x=x, y=y).transform_filter("datum.what == 'true'")
points = alt.Chart().mark_point(filled=True, color="#d62728", opacity=1).encode(x=x, y=y)
points = points.transform_filter("datum.what == 'found'")
inner = alt.layer(bars, points, data=data[data.what != "recorded"]).properties(**size).facet(row=row, title="Inputs")

waves = pd.DataFrame({"time": time, "true": waveform, "found": kernel})
true = alt.Chart(waves).mark_line(color="#bbbbbb", strokeWidth=7).encode(x=x, y=alt.Y("true:Q", title=None))
found = alt.Chart(waves).mark_line(color="#d62728", strokeWidth=1.5).encode(x=x, y=alt.Y("found:Q", title=None))
middle = (true + found).properties(width=230, height=300, title="Waveform, the same in all channels")
(seen | middle | inner).save("deconvolve_channels.png", scale_factor=1.5)
