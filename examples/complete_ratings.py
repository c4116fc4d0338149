"""Complete a table of ratings of unknown rank, with intervals

A hundred people rated some of 60 films each, a third of the table, with noise. `DeepMatrixCompletion(biases=True)`
fits the means of people and films first and a matrix of low rank to the rest; the rank is found, not given. With
`calibrate=True` it also returns intervals that hold the stated share of unseen ratings. Left: error on unseen
ratings, beside that of the means alone. Right: 30 unseen ratings (points), sorted by their prediction, and the 90 %
intervals.
"""

import altair as alt
import numpy as np
import pandas as pd

from tightframe.deeplinear import DeepMatrixCompletion

PEOPLE, FILMS, RANK = 100, 60, 2
draws = np.random.default_rng(0)
taste, style = draws.standard_normal((PEOPLE, RANK)), draws.standard_normal((FILMS, RANK))
offsets = 0.4 * draws.standard_normal((PEOPLE, 1)) + 0.5 * draws.standard_normal(FILMS)
ratings = 3.0 + offsets + 0.5 * taste @ style.T + 0.3 * draws.standard_normal((PEOPLE, FILMS))
seen = draws.random(ratings.shape) < 0.35
rows, columns = np.nonzero(seen)
hidden = np.nonzero(~seen)
truth = ratings[hidden]

model = DeepMatrixCompletion(biases=True, calibrate=True, max_sweeps=50)
model.fit((rows, columns, ratings[seen]), shape=ratings.shape)
predicted = model.predict(*hidden)
low, high = model.predict_interval(*hidden, coverage=0.9)

means = float(model.mean_) + model.row_effects_.numpy()[hidden[0]] + model.column_effects_.numpy()[hidden[1]]
errors = {
    "means": np.sqrt(np.mean((means - truth) ** 2)),
    "completed": np.sqrt(np.mean((predicted - truth) ** 2)),
    "noise alone": 0.3,
}
inside = np.mean((truth >= low) & (truth <= high))
print(f"rank found: {model.rank_} ({model.method_})")
print(", ".join(f"{name}: {error:.3f}" for name, error in errors.items()))
print(f"90 % intervals hold {inside:.1%} of {len(truth):,} unseen ratings")

bars = (
    alt.Chart(pd.DataFrame({"prediction": list(errors), "error": list(errors.values())}))
    .mark_bar(width=34)
    .encode(
        x=alt.X("prediction:N", sort=None, title=None, axis=alt.Axis(labelAngle=0)),
        y=alt.Y("error:Q", title="root mean square error of unseen ratings"),
    )
    .properties(width=220, height=260)
)
some = draws.choice(len(truth), 30, replace=False)
some = some[np.argsort(predicted[some])]
shown = pd.DataFrame(
    {"place": np.arange(30), "rating": truth[some], "low": low[some], "high": high[some], "predicted": predicted[some]}
)
x = alt.X("place:O", title="30 unseen ratings, by prediction", axis=alt.Axis(labels=False, ticks=False))
ranges = alt.Chart(shown).mark_bar(color="#c6d8ea", width=8).encode(x=x, y=alt.Y("low:Q", title="rating"), y2="high:Q")
ticks = alt.Chart(shown).mark_tick(color="#4c78a8", thickness=2, width=8).encode(x=x, y="predicted:Q")
points = alt.Chart(shown).mark_point(color="#d62728", filled=True, opacity=1).encode(x=x, y="rating:Q")
right = (ranges + ticks + points).properties(
    width=400, height=260, title="Intervals, predictions (bars) and truth (points)"
)
(bars | right).save("complete_ratings.png", scale_factor=1.8)
