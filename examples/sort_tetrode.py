"""Sort the spikes of a tetrode, overlapping ones too

Four neurons near four wires fire at random; three spikes in ten lie within 1.5 ms of another neuron's, so that
their waveforms add up. `sort_spikes` whitens the recording, finds the number of units, their waveforms and their
spikes, and takes overlapping spikes apart by explaining the recording as a sum. Left: the waveforms found on the
four wires (coloured) on the true ones (grey). Right: the busiest 60 ms of the recording, with the spikes found
(coloured) and the true ones (grey) below it. The waveforms found lack what is below 300 Hz. Recordings from files
are sorted by `tightframe sort`.
"""

import altair as alt
import numpy as np
import pandas as pd

from tightframe.data.recorded.spike_trains import spike_recording
from tightframe.data.recorded.waveforms import analytic_templates
from tightframe.dictionary import match_spikes, sort_spikes

RATE, UNITS = 24_000.0, 4
templates = analytic_templates(UNITS, RATE, channels=4)
truth = spike_recording(templates, RATE, seconds=12.0, firing_rates=15.0, noise=0.15, overlaps=0.3, seed=0)

sorting = sort_spikes(truth.recording)
scores = match_spikes(sorting.spikes, truth.spikes)
print(f"units found: {len(sorting.templates)} of {UNITS}")
for name in ("isolated", "overlapping", "overall"):
    counts = getattr(scores, name)
    print(f"{name} spikes: recall {counts.recall:.1%} of {counts.hits + counts.misses}")
print(f"precision {scores.overall.precision:.1%}")

rows = []
names = {score.unit: score.found for score in scores.units}
for unit, wave in enumerate(truth.templates):
    peak = int(np.abs(wave).max(axis=0).argmax())
    for what, values, origin in (("true", wave, peak), ("found", sorting.templates[names[unit]], sorting.before)):
        for wire, line in enumerate(values):
            rows += [
                {"ms": 1000 * (at - origin) / RATE, "volts": value, "wire": wire + 1, "unit": unit + 1, "what": what}
                for at, value in enumerate(line)
                if abs(at - origin) < 0.0011 * RATE
            ]
color = alt.Color("unit:N", legend=None)
x = alt.X("ms:Q", title=None, axis=alt.Axis(grid=False, values=[-1, 0, 1]))
y = alt.Y("volts:Q", title=None, axis=alt.Axis(values=[-1, 0]), scale=alt.Scale(domain=[-1.2, 0.9]))
base = alt.Chart().encode(x=x, y=y)
grey = base.mark_line(color="#bbbbbb", strokeWidth=5).transform_filter("datum.what == 'true'")
line = base.mark_line(strokeWidth=1.5).encode(color=color).transform_filter("datum.what == 'found'")
waves = alt.layer(grey, line, data=pd.DataFrame(rows)).properties(width=62, height=70)
left = waves.facet(row=alt.Row("unit:N", title="unit"), column=alt.Column("wire:N", title="wire (time in ms)"))

within = [np.sum((truth.spikes.times > start) & (truth.spikes.times < start + 0.06)) for start in truth.spikes.times]
START = float(truth.spikes.times[int(np.argmax(within))]) - 0.002
STOP = START + 0.06
part = truth.recording.excerpt(START, STOP)
times = 1000 * np.arange(part.values.shape[1]) / RATE
signal = (
    pd.DataFrame(part.values.T + 2.2 * np.arange(4)[::-1], columns=[1, 2, 3, 4])
    .assign(ms=times)
    .melt("ms", var_name="wire")
)
axis = alt.X("ms:Q", title="time (ms)", axis=alt.Axis(grid=False), scale=alt.Scale(domain=[0, 60]))
above = (
    alt.Chart(signal)
    .mark_line(strokeWidth=0.8, color="#444444")
    .encode(
        x=axis,
        y=alt.Y("value:Q", title="four wires", axis=alt.Axis(labels=False, ticks=False, grid=False)),
        detail="wire:N",
    )
    .properties(width=430, height=260)
)
ticks = [
    {"ms": 1000 * (time - START), "unit": unit + 1, "what": what}
    for what, spikes, label in (("true", truth.spikes, lambda u: u), ("found", sorting.spikes, names.get))
    for unit in range(UNITS)
    for time in spikes.of(label(unit))
    if START < time < STOP
]
marks = alt.Chart().encode(x=axis, y=alt.Y("unit:N", title="unit"))
true = marks.mark_tick(color="#bbbbbb", thickness=6, height=20).transform_filter("datum.what == 'true'")
found = marks.mark_tick(thickness=2, height=14).encode(color=color).transform_filter("datum.what == 'found'")
below = alt.layer(true, found, data=pd.DataFrame(ticks)).properties(width=430, height=100)
(left | (above & below)).save("sort_tetrode.png", scale_factor=1.15)
