"""The optimum of free features, and descent on its way there

When features are variables of their own, the minimum of the regularised loss is known: with cross-entropy the class
means form a simplex, whose size is a formula. `ufm.optimum` gives it and `ufm.descend` trains the model as a
network is trained. Look at the black line in the picture: it bounds the distance from the global minimum by
duality, without knowing it. The three measures of collapse fall along with it, and after 30,000 steps the objective
is the closed form's to seven digits.
"""

import altair as alt
import pandas as pd

from tightframe import ufm

problem = ufm.UnconstrainedFeatures(
    classes=6, features=12, per_class=20, loss="ce", weight_decay=(5e-3, 5e-3 / 20), bias="free"
)
optimum = ufm.optimum(problem)
descent = ufm.descend(problem, step=1.0, steps=30_000, seed=0)
solved = ufm.solve(problem, seed=0)

print(f"closed form: {optimum.frame}, scale {optimum.scale:.6f}, value {optimum.value:.12f}")
print(f"descent:     {descent.objective:.12f}, at most {descent.certificate.gap:.1e} above the minimum")
print(f"solve:       {solved.objective:.12f}, at most {solved.certificate.gap:.1e} above the minimum")

names = {"gap": "certified gap", "NC1": "NC1", "NC2 features": "NC2", "NC3": "NC3"}
trace = descent.trace
rows = [
    {"step": step, "measure": shown, "value": value}
    for name, shown in names.items()
    for step, value in zip(trace["step"], trace[name], strict=True)
    if step > 0 and value > 1e-13
]
decades = alt.Axis(values=[1, 10, 100, 1000, 10_000], format="~s")
powers = alt.Axis(values=[10.0**power for power in range(-12, 2, 2)], format="~e")
chart = (
    alt.Chart(pd.DataFrame(rows))
    .mark_line(strokeWidth=2.5)
    .encode(
        x=alt.X("step:Q", scale=alt.Scale(type="log"), title="step of gradient descent", axis=decades),
        y=alt.Y("value:Q", scale=alt.Scale(type="log"), title=None, axis=powers),
        color=alt.Color(
            "measure:N",
            title=None,
            sort=list(names.values()),
            scale=alt.Scale(range=["#222222", "#4c78a8", "#f58518", "#54a24b"]),
            legend=alt.Legend(orient="top"),
        ),
    )
    .properties(width=480, height=300)
)
chart.save("optimum_and_descent.png", scale_factor=1.7)
