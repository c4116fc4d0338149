"""More atoms than dimensions

Thirty unknown atoms in twenty dimensions, two or three of them in each sample. No basis change separates them, but
each is a peak of the fourth cumulant of the data: `L4DictionaryLearning(n_components=30)` finds them one by one,
takes out those that it has, and refines all together. The matrix of cosines between the atoms found and the true
ones, in the order of the match, has ones on its diagonal; what is off it are the angles that 30 atoms in 20
dimensions cannot avoid. Cluster centres of the same samples miss most of them. Atoms that come nearer to each other
than those of this tight frame are harder: of 30 random ones, in four of eight draws one or two are missed.
"""

import altair as alt
import pandas as pd
import torch
from sklearn.cluster import KMeans

from tightframe.data.sparse import sparse_codes
from tightframe.dictionary import L4DictionaryLearning
from tightframe.dictionary.linear.recovery import recovery
from tightframe.geometry.frames import unit_norm_tight_frame

ATOMS, WIDTH, SAMPLES = 30, 20, 20_000

atoms = unit_norm_tight_frame(ATOMS, WIDTH, seed=0)
samples = sparse_codes((SAMPLES, ATOMS), 0.08, seed=0) @ atoms

model = L4DictionaryLearning(n_components=ATOMS, seed=0).fit(samples)
lines = torch.nn.functional.normalize(samples[samples.norm(dim=1) > 0.5], dim=1)
clusters = KMeans(ATOMS, n_init=1, random_state=0).fit(lines.numpy()).cluster_centers_
guesses = torch.nn.functional.normalize(torch.from_numpy(clusters), dim=1)

rows = []
for name, estimate in {"L4DictionaryLearning": model.components_, "k-means": guesses}.items():
    match = recovery(estimate, atoms)
    share = match.share()
    print(f"{name}: {share:.0%} of the atoms within a cosine of 0.99 of the truth; worst error {match.worst:.1e}")
    cosines = (estimate[match.assigned] @ atoms.T).abs()
    rows += [
        {"found": i, "true": j, "cosine": float(cosines[i, j]), "method": name}
        for i in range(ATOMS)
        for j in range(ATOMS)
    ]

chart = (
    alt.Chart(pd.DataFrame(rows))
    .mark_rect()
    .encode(
        x=alt.X("true:O", title="true atom", axis=alt.Axis(values=[0, 10, 20, 29], labelAngle=0)),
        y=alt.Y("found:O", title="atom found for it", axis=alt.Axis(values=[0, 10, 20, 29])),
        color=alt.Color("cosine:Q", scale=alt.Scale(scheme="viridis", domain=[0, 1]), title="|cosine|"),
    )
    .properties(width=alt.Step(10), height=alt.Step(10))
    .facet(column=alt.Column("method:N", title=None, sort=["L4DictionaryLearning"]))
)
alt.data_transformers.disable_max_rows()
chart.save("overcomplete_dictionary.png", scale_factor=2)
