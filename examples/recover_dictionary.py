"""A complete dictionary, found exactly

Samples are sparse mixtures of 20 unknown atoms. From 7.5 samples per dimension on `L4DictionaryLearning` finds all
atoms up to rounding: matching, stretching and projection come near them from any start, and thresholding takes away
what sampling error is left. Independent component analysis, here scikit-learn's FastICA with both of its usual
contrasts, finds the same atoms too but keeps that error, which falls only as the root of the number of samples.
Shown is the worst of the 20 atoms, sign and order left out, median of five data sets; up to 10 samples per
dimension single atoms are still missed in some of them.
"""

import warnings

import altair as alt
import pandas as pd
import torch
from sklearn.decomposition import FastICA

from tightframe.data.sparse import sparse_codes
from tightframe.dictionary import L4DictionaryLearning
from tightframe.dictionary.linear.recovery import recovery

ATOMS, DENSITY = 20, 0.2
warnings.filterwarnings("ignore", message="FastICA did not converge")


def with_ica(samples: torch.Tensor, contrast: str) -> torch.Tensor:
    """Unit atoms by FastICA."""
    model = FastICA(whiten="unit-variance", fun=contrast, max_iter=500, random_state=0).fit(samples.numpy())
    return torch.nn.functional.normalize(torch.from_numpy(model.mixing_.T.copy()), dim=1)


rows = []
for count in (100, 150, 200, 300, 400, 800, 1600, 3200, 6400):
    for draw in range(5):
        codes = sparse_codes((count, ATOMS), DENSITY, seed=100 * count + draw)
        source = torch.Generator().manual_seed(100 * count + draw)
        atoms = torch.nn.functional.normalize(torch.randn(ATOMS, ATOMS, generator=source).double(), dim=1)
        samples = codes @ atoms
        found = {
            "L4DictionaryLearning": L4DictionaryLearning().fit(samples).components_,
            "FastICA, fourth powers": with_ica(samples, "cube"),
            "FastICA, log cosh": with_ica(samples, "logcosh"),
        }
        for method, estimate in found.items():
            worst = float(recovery(estimate, atoms).errors.max())
            rows.append({"samples per dimension": count / ATOMS, "error": max(worst, 1e-16), "method": method})

data = pd.DataFrame(rows).groupby(["samples per dimension", "method"], as_index=False).median()
print(
    data.pivot(index="samples per dimension", columns="method", values="error").to_string(float_format="{:.1e}".format)
)

chart = (
    alt.Chart(data)
    .mark_line(point=True, strokeWidth=2)
    .encode(
        x=alt.X(
            "samples per dimension:Q",
            scale=alt.Scale(type="log", domain=[5, 320], nice=False),
            axis=alt.Axis(grid=False),
        ),
        y=alt.Y(
            "error:Q",
            scale=alt.Scale(type="log"),
            title="error of the worst atom",
            axis=alt.Axis(format=".0e", tickCount=8),
        ),
        color=alt.Color(
            "method:N", sort=["L4DictionaryLearning"], title=None, legend=alt.Legend(orient="top", labelLimit=300)
        ),
    )
    .properties(width=520, height=300)
)
chart.save("recover_dictionary.png", scale_factor=2)
