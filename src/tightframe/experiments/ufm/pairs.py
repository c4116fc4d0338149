"""Classes as pairs of vertices: points of ReLU chains in closed form, of lower rank than collapse."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from tightframe.core.errors import DegenerateError, InputError
from tightframe.runs.record import Claim, Panel
from tightframe.ufm.chain_certificate import nuclear_norms
from tightframe.ufm.chains import deep_optimum
from tightframe.ufm.extended import DeepPoint, DeepUnconstrainedFeatures
from tightframe.ufm.subsets import cost_ratio, fewest_vertices, subset_point

MARGIN = 1e-4  # of the objective, below collapse: searches end within 1e-6 of a minimum
_DECAY = 5e-4
_PAPER = "sukenik2024neural"
# (K, factors, reach) of points in closed form: pairs of 6, 5, 5 and 4 vertices.
_EXPLICIT = ((15, 3, 3), (10, 4, 3), (8, 4, 3), (6, 5, 2))

Row = Mapping[str, float | int | str | bool | None]

PAIRS = Panel(
    kind="curves",
    title="Classes as pairs of vertices: cost in closed form",
    caption="Features in v dimensions for K = v(v-1)/2 classes: their decay term over that of collapse, at equal "
    "logits. Below the dashed line collapse is not optimal. For three factors an even v is better.",
    table="pairs",
    x="classes",
    y="ratio",
    color="factors",
    reference="one",
)


def relu_chain(factors: int, classes: int) -> DeepUnconstrainedFeatures:
    """Squared error with ReLU, one sample per class, and twice as wide as there are classes."""
    return DeepUnconstrainedFeatures(
        classes=classes, widths=(2 * classes,) * (factors - 1), decays=(_DECAY,) * factors, activation="relu"
    )


def pair_points(problem: DeepUnconstrainedFeatures) -> list[DeepPoint]:
    """The two best points of pairs in closed form that there are for this number of classes and these widths."""
    points = []
    for reach in range(2, max(3, fewest_vertices(problem.classes) - 1)):
        with suppress(DegenerateError, InputError):
            points.append(subset_point(problem, reach=reach))
    return sorted(points, key=problem.objective)[:2]


def pair_curve(factors: int, largest: int) -> list[Row]:
    """Cost of pairs with the best reach over that of collapse, to the power at which it enters the objective."""
    rows = []
    for vertices in range(4, largest + 1):
        classes = vertices * (vertices - 1) // 2
        ratio, reach = min((cost_ratio(classes, factors, reach=r), r) for r in range(2, vertices - 1))
        found = {"factors": f"{factors} factors", "classes": classes, "vertices": vertices, "reach": reach}
        rows.append(found | {"ratio": ratio ** (1 / factors), "one": 1.0})
    return rows


def pair_claims() -> list[Claim]:
    """That the points are below collapse, and that one of them violates the condition of theorem 4.2."""
    claims = []
    for classes, factors, reach in _EXPLICIT:
        problem = relu_chain(factors, classes)
        point, collapsed = subset_point(problem, reach=reach), deep_optimum(problem).value
        value = problem.objective(point)
        claims.append(
            Claim(
                id=f"X1.pairs.L{factors}.K{classes}",
                statement=f"{factors} factors, {classes} classes as pairs: objective over the collapsed one",
                source=_PAPER if factors > 3 else "closed form, this library",
                expected=1 - MARGIN,
                observed=value / collapsed,
                note=f"{value:.8g} against {collapsed:.8g}: collapse is not optimal, by a point that is written down",
            )
        )
        if factors == 3:
            norms = nuclear_norms(problem, point)
            claims.append(
                Claim(
                    id=f"X1.condition.K{classes}",
                    statement=f"Nuclear norm condition at a point below collapse, K = {classes}: |H2|_* / |W1 H1|_*",
                    source="TB, theorem 4.2, conjectured in appendix E to hold at every minimum",
                    expected=1.0,
                    observed=norms["nuclear norm after"] / norms["nuclear norm before"],
                    relation="==",
                    tolerance=1e-6,
                    note="were it to hold at a minimum, no objective could be below the collapsed one",
                )
            )
    return claims
