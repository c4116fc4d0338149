"""Defects in a scanning tunnelling topograph

Electrons scattered at a defect leave standing waves around it, a pattern that recurs at every defect of a kind.
`ShortAndSparseDeconvolution` learns pattern and places from one image, in which patterns overlap, under noise and
the streaks of a tip that jumps; `find_defects` lists the places by how sure they are. Left: the simulated
topograph, with the detections of at least 99 % confidence (boxes) and the true places (crosses). The image wraps
around at its borders. Right: the pattern learned, which is known up to a shift, above the true one. `levelled`
takes out the streaks first. All 26 defects are found, and none is made up.
"""

import altair as alt
import numpy as np
import pandas as pd

from tightframe.data.pictured.levelling import levelled
from tightframe.data.pictured.superpositions import superposition
from tightframe.data.pictured.topographs import ring_kernels
from tightframe.dictionary import ShortAndSparseDeconvolution, find_defects
from tightframe.runs.pictures import picture

SIDE, SIZE = 128, 28
truth = superposition(ring_kernels(1, SIZE), (SIDE, SIDE), density=1.5e-3, noise=0.03, streaks=0.015, seed=3)

image = levelled(truth.image)  # the usual first step: takes out a plane and the streaks
model = ShortAndSparseDeconvolution((SIZE, SIZE), seed=0).fit(image[None])
rest = image - model.reconstruction_[0]
found = find_defects(model.activations_, model.components_, residual=rest, separation=3, confidence=0.99)
centres = (truth.boxes()[:, :2] + SIZE / 2) % SIDE
offsets = (found.places[:, None] - centres + SIDE / 2) % SIDE - SIDE / 2
distances = np.linalg.norm(offsets, axis=2)
print(f"noise: 0.030, estimated: {float(model.noise_[0]):.3f}")
print(f"{len(centres)} defects, {len(found)} detections")
print(f"from a defect to the next detection: at most {distances.min(0).max():.1f} pixels")
print(f"from a detection to the next defect: at most {distances.min(1).max():.1f} pixels")
print(f"the least sure of them stands {found.scores.min():.0f} times above what is left")


def shown(image: np.ndarray, side: int, title: str) -> alt.Chart:
    """A square image under axes in pixels."""
    domain = alt.Scale(domain=[0, len(image)], nice=False)
    limits = tuple(np.quantile(image, [0.002, 0.998]))
    place = pd.DataFrame(
        {"url": [picture(image, limits, least=2 * side)], "x": [len(image) / 2], "y": [len(image) / 2]}
    )
    return (
        alt.Chart(place, title=title)
        .mark_image(width=side, height=side)
        .encode(
            x=alt.X("x:Q", title=None, scale=domain, axis=alt.Axis(grid=False)),
            y=alt.Y("y:Q", title=None, scale=alt.Scale(domain=[len(image), 0], nice=False), axis=alt.Axis(grid=False)),
            url="url",
        )
        .properties(width=side, height=side)
    )


rows, columns = (found.places % SIDE).T
boxes = pd.DataFrame({"x": columns - 7, "x2": columns + 7, "y": rows - 7, "y2": rows + 7})
outlines = (
    alt.Chart(boxes)
    .mark_rect(filled=False, stroke="#ffd92f", strokeWidth=1.5, clip=True)
    .encode(x="x:Q", x2="x2:Q", y="y:Q", y2="y2:Q")
)
marks = (
    alt.Chart(pd.DataFrame(centres, columns=["y", "x"]))
    .mark_point(shape="cross", filled=True, color="#e41a1c", size=40, opacity=1, clip=True)
    .encode(x="x:Q", y="y:Q")
)
scene = shown(truth.image, 384, "Topograph (pixels)") + outlines + marks
kernel = model.components_[0].reshape(SIZE, SIZE)
kernels = shown(kernel, 168, "Pattern learned") & shown(truth.kernels[0], 168, "True pattern")
(scene | kernels).save("locate_defects.png", scale_factor=1.3)
