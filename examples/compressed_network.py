"""A small network follows a wide one, at width 200,000

Each layer of a deep linear network of width 200,000 has 4e10 entries, 320 GB in double precision. Its training from
scaled random orthogonal layers is nevertheless computed here, exactly, in seconds: by the law of parsimony only
blocks of $2r \\times 2r$ numbers move, and one number $\\rho$ describes all the rest. The points are a network of
width 100 that was trained as it is; they lie on the curve computed for that width. All widths learn the three
components of the target one after another at nearly the same steps. The level at which the loss ends is the share
of $\\rho$, that is of the directions that the target does not use.
"""

import altair as alt
import pandas as pd
import torch

from tightframe.deeplinear import DeepLinearNetwork, descend_reduced, haar_frames, simulate, stable_step

DEPTH, SCALE, STEPS = 3, 0.02, 6000
VALUES = torch.tensor([3.0, 2.0, 1.0]).double()


def target(width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Singular vectors of a matrix of rank 3, at random."""
    draws = torch.Generator().manual_seed(width)
    return tuple(torch.linalg.qr(torch.randn(width, 3, generator=draws).double()).Q for _ in range(2))


step = 0.1 * stable_step(torch.diag(VALUES), depth=DEPTH)
curves = []
for width in (100, 5_000, 200_000):
    U, V = target(width)
    small = descend_reduced(
        haar_frames(U, VALUES, V, depth=DEPTH, scale=SCALE, seed=0), step=step, steps=STEPS, every=50
    )
    curves += [
        {"step": at, "loss": loss, "width": f"{width:,}"}
        for at, loss in zip(small.trace["step"], small.trace["loss"], strict=True)
    ]
    product = small.end_to_end(STEPS)
    print(f"width {width:,}: largest singular values {[round(v, 6) for v in product.singular_values()[:4].tolist()]}")

U, V = target(100)
frames = haar_frames(U, VALUES, V, depth=DEPTH, scale=SCALE, seed=0)
wide = DeepLinearNetwork.of([frames.layer(start, SCALE, layer).dense() for layer, start in enumerate(frames.starts, 1)])
trained = simulate(wide, U @ torch.diag(VALUES) @ V.T, step=step, steps=STEPS, every=250, record=())
points = [
    {"step": at, "loss": loss, "width": "100"}
    for at, loss in zip(trained.trace["step"], trained.trace["loss"], strict=True)
]

axes = {
    "x": alt.X("step:Q", title="step of gradient descent", axis=alt.Axis(grid=False)),
    "y": alt.Y("loss:Q", scale=alt.Scale(type="log"), title="loss", axis=alt.Axis(format=".0e")),
    "color": alt.Color("width:N", title="width", sort=["100", "5,000", "200,000"]),
}
lines = alt.Chart(pd.DataFrame(curves)).mark_line(strokeWidth=2).encode(**axes)
marks = alt.Chart(pd.DataFrame(points)).mark_point(size=70, filled=True, opacity=1).encode(**axes)
chart = (lines + marks).properties(
    width=480, height=300, title="Lines: computed. Points: a network of width 100, trained."
)
chart.save("compressed_network.png", scale_factor=2)
