"""Features and classifiers on spheres

Many classifiers use cosines: features and weights are divided by their norms, and a temperature multiplies the
cosine. `ufm.NormalizedFeatures` is that model with free features, `ufm.descend_normalized` descends on the spheres,
and `ufm.normalized_optimum` knows the minimum. On the left, forty features of four classes travel from random
places (small dots) on a sphere to the corners of a tetrahedron (large dots), of which the picture is a projection.
On the right, the temperature decides how fast: at 2 the features of a class agree to rounding after a thousand
steps, and the objective is the minimum to all digits; at 16 the loss is nearly flat after the first few steps, and
NC1 hardly falls from there on.
"""

import altair as alt
import pandas as pd

from tightframe import ufm

COLOR = alt.Color("class:N", legend=None)
places, rows = [], []


def keep(step, point):
    for sample, (x, y, z) in enumerate(point.H.T.tolist()):
        places.append({"step": step, "sample": sample, "class": sample // 10, "x": x + 0.4 * z, "y": y + 0.25 * z})
    return {}


for temperature in (2.0, 4.0, 8.0, 16.0):
    problem = ufm.NormalizedFeatures(classes=4, features=3, per_class=10, temperature=temperature)
    observe = keep if temperature == 4 else None
    solution = ufm.descend_normalized(problem, step=1.0, steps=1000, every=5, seed=2, observe=observe)
    optimum = ufm.normalized_optimum(problem)
    print(f"temperature {temperature:4}: {solution.objective:.8f}, minimum {optimum.value:.8f}")
    print(f"    {solution.certificate}")
    for step, value in zip(solution.trace["step"], solution.trace["NC1"], strict=True):
        rows.append({"step": step, "NC1": max(value, 1e-16), "temperature": f"{temperature:g}"})

paths = pd.DataFrame(places)
empty = alt.Axis(labels=False, ticks=False, grid=False, domain=False, title=None)
x, y = alt.X("x:Q", axis=empty), alt.Y("y:Q", axis=empty)
lines = (
    alt.Chart(paths)
    .mark_line(strokeWidth=1, opacity=0.5)
    .encode(x=x, y=y, color=COLOR, detail="sample:N", order="step:Q")
)
starts = alt.Chart(paths[paths["step"] == 0]).mark_circle(size=25, opacity=1).encode(x=x, y=y, color=COLOR)
ends = (
    alt.Chart(paths[paths["step"] == paths["step"].max()])
    .mark_circle(size=220, opacity=1)
    .encode(x=x, y=y, color=COLOR)
)
left = (lines + starts + ends).properties(width=280, height=280, title="temperature 4")
right = (
    alt.Chart(pd.DataFrame(rows))
    .mark_line(strokeWidth=2.5)
    .encode(
        x=alt.X("step:Q", title="step of gradient descent"),
        y=alt.Y(
            "NC1:Q", scale=alt.Scale(type="log"), axis=alt.Axis(values=[10.0**p for p in range(-16, 3, 3)], format="~e")
        ),
        color=alt.Color("temperature:N", sort=["2", "4", "8", "16"], scale=alt.Scale(scheme="viridis")),
    )
    .properties(width=300, height=280)
)
(left | right).resolve_scale(color="independent").save("features_on_spheres.png", scale_factor=1.5)
