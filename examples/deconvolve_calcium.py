"""Spikes from a calcium trace, the response unknown

A fluorescent indicator answers every spike by a transient that rises within a frame or two and decays for a second,
so that transients pile up. `ShortAndSparseDeconvolution(positive=True)` takes the trace alone, without the time
constants, and finds both: the response (right; grey is the true one) and the spikes (left, below the trace; true
spikes in grey). The noise level and with it the penalty are read off the trace. `code` applies a response that was
once learned to other traces of the same indicator.
"""

import altair as alt
import numpy as np
import pandas as pd

from tightframe.data.recorded.calcium import calcium_response, calcium_trace
from tightframe.dictionary import ShortAndSparseDeconvolution, binned_correlation

RATE, FRAMES, SHOWN = 30.0, 1500, 900
trace = calcium_trace(FRAMES, rate=RATE, noise=0.15, events=0.7, seed=2)

model = ShortAndSparseDeconvolution(kernel_size=90, positive=True).fit(trace.fluorescence[None])
size = np.abs(model.kernel_).max()
spikes, response = model.activations_[0] * size, model.kernel_ / size
truth = calcium_response(RATE, seconds=3.0)

print(f"noise: 0.15, estimated {model.noise_[0]:.3f}")
print(f"correlation of the response with the true one: {np.corrcoef(response, truth)[0, 1]:.4f}")
binned = binned_correlation(spikes, trace.spikes, rate=RATE, bins=10.0)
print(f"correlation of the spikes with the true ones in bins of 0.1 s: {binned:.3f}")
print(f"spikes in all: {trace.spikes.sum():.0f}, found {spikes.sum():.1f}")

seconds = np.arange(SHOWN) / RATE
shown = pd.DataFrame(
    {
        "seconds": seconds,
        "trace": trace.fluorescence[:SHOWN],
        "fit": model.reconstruction_[0, :SHOWN],
        "true": trace.spikes[:SHOWN],
        "found": spikes[:SHOWN],
    }
)
x = alt.X(
    "seconds:Q", title="time (s)", scale=alt.Scale(domain=[0, SHOWN / RATE], nice=False), axis=alt.Axis(grid=False)
)
wide = {"width": 400, "height": 150}
raw = alt.Chart(shown).mark_line(color="#bbbbbb", strokeWidth=1).encode(x=x, y=alt.Y("trace:Q", title="fluorescence"))
fit = alt.Chart(shown).mark_line(color="#d62728", strokeWidth=1.5).encode(x=x, y="fit:Q")
true = (
    alt.Chart(shown[shown.true > 0]).mark_bar(color="#bbbbbb", width=6).encode(x=x, y=alt.Y("true:Q", title="spikes"))
)
bars = alt.Chart(shown[shown.found > 0.05]).mark_bar(color="#d62728", width=2).encode(x=x, y="found:Q")
left = (raw + fit).properties(**wide) & (true + bars).properties(width=400, height=90)

lag = np.arange(len(truth)) / RATE
after = alt.X("seconds:Q", title="time after a spike (s)", axis=alt.Axis(grid=False))
responses = alt.Chart(pd.DataFrame({"seconds": lag, "true": truth, "found": response}))
right = responses.mark_line(color="#bbbbbb", strokeWidth=7).encode(
    x=after, y=alt.Y("true:Q", title="response")
) + responses.mark_line(color="#d62728", strokeWidth=1.5).encode(x=after, y="found:Q")
(left | right.properties(width=220, height=290)).save("deconvolve_calcium.png", scale_factor=1.6)
