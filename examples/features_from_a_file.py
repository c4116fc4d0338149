"""Features from a file, with intervals

Features that another framework wrote are enough: `read_features` takes npz, safetensors and parquet files, and
refuses whatever would have to execute code. `Monitor` gathers moments in one pass and resamples them, so that 95 %
intervals cost no second look at the data. The picture shows how wide the intervals are for features of the same
kind, with 20 to 2000 samples per class. With 20 samples the interval of CDNV lies below the value that 2000 give:
samples are nearer to the mean of their own few than to the true one, which is a bias that no interval shows.
"""

import altair as alt
import numpy as np
import pandas as pd

from tightframe import Monitor
from tightframe.features.store import read_features, write_features

rng = np.random.default_rng(0)
means = rng.standard_normal((5, 24))
rows = []
for per_class in (20, 60, 200, 600, 2000):
    labels = np.repeat(np.arange(5), per_class)
    features = means[labels] + 0.5 * rng.standard_normal((len(labels), 24))
    path = write_features(f"features_{per_class}.npz", features, labels)

    stored = read_features(path)
    monitor = Monitor(5, bootstrap=200, decisions=False)
    monitor.update(stored.features, stored.labels)
    layer = monitor.compute().last
    for name in ("NC1", "CDNV", "NC2 features"):
        low, high = layer.measurements[name].interval
        rows.append({"samples per class": per_class, "metric": name, "value": layer[name], "low": low, "high": high})

table = pd.DataFrame(rows)
print(table.round(4).to_string(index=False))

base = alt.Chart(table).encode(
    x=alt.X("samples per class:O", axis=alt.Axis(labelAngle=0)), color=alt.Color("metric:N", legend=None)
)
zero = alt.Scale(zero=False)
bars = base.mark_rule(strokeWidth=3).encode(y=alt.Y("low:Q", scale=zero, title="value, 95 % interval"), y2="high:Q")
points = base.mark_point(filled=True, size=80, opacity=1).encode(
    y=alt.Y("value:Q", scale=zero, title="value, 95 % interval")
)
chart = (bars + points).properties(width=210, height=240).facet(alt.Facet("metric:N", title=None), columns=3)
chart.resolve_scale(y="independent").save("features_from_a_file.png", scale_factor=1.5)
