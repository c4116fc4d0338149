"""Why fourth powers find atoms: the landscape on the sphere

Sparse codes of three orthogonal atoms make up the samples; the colour is the mean fourth power of their projections
on a direction, for all directions of a hemisphere (seen from above, equal areas in true proportion). Its only
maxima, the dark places, are the atoms and their opposites (the one at the top is opposite to the atom at the
bottom). Everything else where the gradient vanishes is a saddle or a minimum: Newton's method finds all kinds from
random starts, and `kinds` says by the curvature which is which: each of the others has a way up. No ascent gets
stuck, so that no clever start is needed.
"""

import altair as alt
import pandas as pd
import torch

from tightframe.dictionary import expected_fourth_power, sphere_critical_points

torch.manual_seed(3)
atoms = torch.linalg.qr(torch.randn(3, 3).double()).Q


def flat(directions: torch.Tensor) -> torch.Tensor:
    """Lambert's projection of the upper hemisphere, which keeps areas."""
    upper = directions * torch.where(directions[:, 2:] < 0, -1.0, 1.0)
    return upper[:, :2] / (1 + upper[:, 2:]).sqrt()


side = torch.linspace(-1, 1, 91).double()
x, y = (grid.flatten() for grid in torch.meshgrid(side, side, indexing="xy"))
inside = x**2 + y**2 <= 1
x, y = x[inside], y[inside]
radius = x**2 + y**2
directions = torch.stack([x * (2 - radius).sqrt(), y * (2 - radius).sqrt(), 1 - radius], 1)
height = expected_fourth_power(atoms, directions, 0.1)
half = 0.56 * float(side[1] - side[0])  # a little overlap, so that no gaps show
ground = pd.DataFrame({"x": x - half, "y": y - half, "x2": x + half, "y2": y + half, "value": height})

starts = torch.nn.functional.normalize(torch.randn(300, 3).double(), dim=1)
found = sphere_critical_points(atoms, starts)
names = {"column": "maximum: an atom", "strict saddle": "saddle or minimum"}
kinds = [names[kind] for kind in found.kinds()]
places = pd.DataFrame(flat(found.points).round(decimals=5).numpy(), columns=["x", "y"]).assign(kind=kinds)
print(places.kind.value_counts().to_string())
atomic = torch.tensor([kind == "column" for kind in found.kinds()])
print(f"largest gradient: {float(found.gradients.max()):.1e}")
print(f"at maxima, 1 - |cosine| with the nearest atom: at most {float(found.gaps[atomic].max()):.1e}")
print(f"elsewhere, curvature of the way up: at least {float(-found.curvatures[~atomic].max()):.2f}")

axis = alt.Axis(labels=False, ticks=False, grid=False, domain=False)
picture = (
    alt.Chart(ground)
    .mark_rect(strokeWidth=0)
    .encode(
        x=alt.X("x:Q", title=None, axis=axis, scale=alt.Scale(domain=[-1.02, 1.02], nice=False)),
        x2="x2:Q",
        y=alt.Y("y:Q", title=None, axis=axis, scale=alt.Scale(domain=[-1.02, 1.02], nice=False)),
        y2="y2:Q",
        color=alt.Color("value:Q", scale=alt.Scale(scheme="blues"), title="fourth power"),
    )
)
marks = (
    alt.Chart(places.drop_duplicates())
    .mark_point(filled=True, size=110, opacity=1, stroke="black", strokeWidth=1)
    .encode(
        x="x:Q",
        y="y:Q",
        shape=alt.Shape("kind:N", legend=None),
        fill=alt.Fill("kind:N", title="found", scale=alt.Scale(scheme="set1")),
    )
)
alt.data_transformers.disable_max_rows()
chart = (picture + marks).resolve_scale(fill="independent").properties(width=420, height=420)
chart.configure_view(stroke=None).save("sphere_landscape.png", scale_factor=1.5)
