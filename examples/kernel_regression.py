"""Regression with an infinitely wide network, in scikit-learn

`ReLUKernel` is the tangent kernel of an infinitely wide ReLU network as a kernel of scikit-learn: it serves ridge
regression, support vector machines and Gaussian processes, and adds to and multiplies with other kernels.
`TangentKernelRegressor` is what gradient flow on that network predicts at a chosen time. Stopping early is
regularisation: on noisy samples (points) the fit of time 30 passes near the truth, and that of infinite time runs
through the noise. On handwritten digits the kernel stands beside scikit-learn's radial basis functions.
"""

import altair as alt
import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.gaussian_process.kernels import RBF
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC

from tightframe.ntk import ReLUKernel, TangentKernelRegressor

draws = np.random.default_rng(0)
x = np.sort(draws.uniform(-2, 2, 40))
y = np.sin(3 * x) * np.exp(-(x**2) / 4) + 0.25 * draws.standard_normal(40)
grid = np.linspace(-2, 2, 500)
truth = np.sin(3 * grid) * np.exp(-(grid**2) / 4)

rows = []
for time, name in ((3, "time 3"), (30, "time 30"), (np.inf, "time ∞")):
    fit = TangentKernelRegressor(depth=8, time=time, bias_variance=0.3).fit(x[:, None], y).predict(grid[:, None])
    rows += [{"x": at, "y": value, "fit": name} for at, value in zip(grid, fit, strict=True)]
    print(f"{name}: error against the truth {np.sqrt(np.mean((fit - truth) ** 2)):.3f}")

X, labels = load_digits(return_X_y=True)
train, test, known, hidden = train_test_split(X / 16, labels, test_size=0.5, random_state=0)
for name, kernel in (("tangent kernel, depth 3", ReLUKernel(3)), ("radial basis functions", RBF(2.0))):
    accuracy = SVC(kernel=kernel, C=10).fit(train, known).score(test, hidden)
    print(f"{name}: {accuracy:.2%} of {len(hidden)} held-out digits")

axes = {
    "x": alt.X("x:Q", title="x", scale=alt.Scale(domain=[-2, 2]), axis=alt.Axis(grid=False)),
    "y": alt.Y("y:Q", title="y"),
}
color = alt.Color("fit:N", title="stopped at", sort=["time 3", "time 30", "time ∞"])
wanted = alt.Chart(pd.DataFrame({"x": grid, "y": truth})).mark_line(strokeWidth=7, color="#cccccc").encode(**axes)
lines = alt.Chart(pd.DataFrame(rows)).mark_line().encode(**axes, color=color)
points = (
    alt.Chart(pd.DataFrame({"x": x, "y": y})).mark_point(filled=True, color="black", size=35, opacity=1).encode(**axes)
)
chart = (wanted + lines + points).properties(width=520, height=300, title="Depth 8, infinite width. Grey: the truth.")
chart.save("kernel_regression.png", scale_factor=1.7)
