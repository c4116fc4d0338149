"""N3: the factored and the nuclear-norm program have the same solutions; and when small classes merge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

from tightframe.core.errors import InputError
from tightframe.experiments.catalog import entry
from tightframe.experiments.study import Findings, Study, Sweep
from tightframe.experiments.ufm.programs import NAMES, Cell, Row, bisect_decay, compare, follow, logits_of, spectrum
from tightframe.runs.record import Claim, Panel, table_of

_SOURCE = "L4, (NVX) and (CVX)"
_BEYOND = "beyond the sources: minority collapse, Fang et al. 2021, Hong and Ling 2023"
# What the ledger asks of objectives and logits.
_AGREE = 1e-8
# Outputs of factored solutions that differ by less count as merged. Decays relatively nearer to the threshold than the
# other number are left out there: the difference is too small to tell.
_MERGED, _NEAR = 1e-6, 1e-4


@dataclass(frozen=True)
class Config:
    """What is solved.

    Args:
        classes: K of the comparison of the two programs.
        features: d, at least K, of everything.
        largest: Samples of the largest class of the comparison.
        ratios: Of its largest to its smallest class, the others in geometric progression; 1 is balanced.
        weight_decay: (lambda_W, lambda_H) of it.
        losses: "ce", "ls", "mse".
        biases: "none", "free", or coefficients.
        groups: Pairs (number of large classes, number of small ones) whose merging is studied.
        majority: Samples of a large class there.
        minorities: Samples of a small class there, descending from the size of a large one; followed at `decays`.
        decays: sqrt(lambda_W lambda_H) there, ascending.
        bisected: The sizes of a small class for which the decay of merging is bisected.
        precision: Relative width at which the bisection ends.
    """

    classes: int = 4
    features: int = 6
    largest: int = 100
    ratios: tuple[float, ...] = (1.0, 20.0)
    weight_decay: tuple[float, float] = (5e-3, 5e-4)
    losses: tuple[str, ...] = ("ce", "ls", "mse")
    biases: tuple[str | float, ...] = ("none", "free", 0.01)
    groups: tuple[tuple[int, int], ...] = ((2, 2),)
    majority: int = 100
    minorities: tuple[int, ...] = (100, 50, 30, 12, 6, 3, 1)
    decays: tuple[float, ...] = (5e-3, 1e-2, 2e-2)
    bisected: tuple[int, ...] = (5,)
    precision: float = 1e-4

    def __post_init__(self) -> None:
        largest = max(self.classes, *(sum(pair) for pair in self.groups))
        if min(min(pair) for pair in self.groups) < 2 or self.features < largest:
            raise InputError(
                "two or more large and small classes each, and d at least the number of classes",
                got=f"groups {self.groups}, d = {self.features} for {largest} classes",
                remedy="One class has nothing to merge with, and below d = K the two programs differ.",
            )


# The last sizes before and the first after merging, of (5, 5) at the decays 2e-4, 5e-4 and 1e-3 without and with
# smoothing 0.1, are among them, so that the curves break where they should.
_SIZES = (
    *(5000, 3500, 2500, 1700, 1179, 1178, 980, 858, 857, 600, 400, 280, 210, 209, 167),
    *(166, 125, 90, 62, 44, 32, 31, 26, 25, 17, 11, 7, 4, 2, 1),
)
_QUICK = Config(
    classes=6,
    features=12,
    largest=500,
    ratios=(1.0, 10.0, 100.0),
    groups=((5, 5), (3, 7)),
    majority=5000,
    minorities=_SIZES,
    decays=(2e-4, 5e-4, 1e-3),
    bisected=(1250, 250, 50, 10, 2),
    precision=1e-6,
)
_LARGE = {"classes": 10, "largest": 5000, "ratios": (1.0, 10.0, 100.0, 1000.0), "weight_decay": (5e-4, 5e-4)}
PRESETS = {
    "smoke": Config(),
    "quick": _QUICK,
    "paper": replace(_QUICK, **_LARGE, groups=((5, 5), (3, 7), (7, 3)), precision=1e-7),
}


def investigate(config: Config, sweep: Sweep) -> Findings:
    """Both programs beside each other; then the decay and the ratio at which small classes merge."""
    agreement = sweep(compare, _comparisons(config))
    thresholds = sweep(bisect_decay, _bisections(config))
    followed = _followed(config)
    merging = sweep(follow, followed)
    spectra = sweep(spectrum, [cell for cell in followed if cell.loss == config.losses[0]])
    pictures = sweep(logits_of, _pictured(config, merging))
    tables = {
        "agreement": table_of(agreement),
        "thresholds": table_of(thresholds),
        "merging": table_of(merging),
        "singular values": table_of([row for rows in spectra for row in rows]),
        "logits": table_of([row for rows in pictures for row in rows]),
    }
    claims = (*_agreement_claims(agreement), *_merging_claims(thresholds, merging, config))
    panels = (*_minority_panels(config), *_solution_panels(NAMES[config.losses[0]]))
    return Findings(claims, _answer(agreement, thresholds), tables, panels)


def _comparisons(config: Config) -> list[Cell]:
    shapes = []
    for ratio in config.ratios:
        power = -1 / (config.classes - 1)
        shapes.append(tuple(max(1, round(config.largest * ratio ** (k * power))) for k in range(config.classes)))
    kinds = product(config.losses, config.biases, shapes)
    return [Cell(*kind, config.weight_decay, config.features) for kind in kinds]


def _bisections(config: Config) -> list[Cell]:
    kinds = product(config.losses, config.biases, config.groups, config.bisected)
    return [_two_sizes(config, loss, bias, pair, size, 1.0) for loss, bias, pair, size in kinds]


def _followed(config: Config) -> list[Cell]:
    kinds = product(config.losses, config.decays, config.minorities)
    return [_two_sizes(config, loss, "none", config.groups[0], size, decay) for loss, decay, size in kinds]


def _two_sizes(config: Config, loss: str, bias: str | float, pair: tuple[int, int], size: int, decay: float) -> Cell:
    counts = (config.majority,) * pair[0] + (size,) * pair[1]
    return Cell(loss, bias, counts, (decay, decay), config.features, pair[1], config.precision)


def _pictured(config: Config, merging: Sequence[Row]) -> list[Cell]:
    """Equal sizes, a size on the way to merging, and the first at which the small classes have merged."""
    found = zip(_followed(config), merging, strict=True)
    middle = config.decays[len(config.decays) // 2]
    drawn = [(cell, row) for cell, row in found if (cell.loss, row["decay"]) == (config.losses[0], middle)]
    apart = [cell for cell, row in drawn if row["law"] > 0]
    merged = [cell for cell, row in drawn if row["law"] == 0]
    return list(dict.fromkeys([drawn[0][0], *apart[len(apart) // 2 :][:1], *merged[:1]]))


def _agreement_claims(rows: Sequence[Row]) -> list[Claim]:
    sizes = {
        "equal": [row for row in rows if row["ratio of sizes"] == 1],
        "unequal": [row for row in rows if row["ratio of sizes"] != 1],
    }
    same = "(NVX) and (CVX) have the same {}, {} classes: largest difference"
    asked = [
        (f"N3.{what}.{name}", same.format(what, name), f"{what} difference", some)
        for what, (name, some) in product(("objective", "logits"), sizes.items())
    ]
    lost = "Balanced factors of a convex solution attain its minimum in the factored model: largest loss"
    return [
        _nothing(
            name,
            statement,
            (max((row[column] for row in some), default=None), _AGREE),
            f"{len(some)} models: every loss with every bias" if some else "needs such a ratio of sizes",
            _SOURCE,
        )
        for name, statement, column, some in [*asked, ("N3.factors", lost, "lost in factoring", rows)]
    ]


def _merging_claims(thresholds: Sequence[Row], merging: Sequence[Row], config: Config) -> list[Claim]:
    claims = []
    for loss in config.losses:
        found = [row for row in thresholds if row["loss"] == NAMES[loss]]
        rows = [row for row in merging if row["loss"] == NAMES[loss]]
        clear = [row for row in rows if abs(row["decay"] / row["merges at decay"] - 1) > _NEAR]
        wrong = sum((row["separation"] <= _MERGED) != (row["law"] == 0) for row in clear)
        where = "pairs of decay and ratio of sizes, no bias"
        claims += [
            _nothing(
                f"N3.threshold.{loss}",
                f"Small classes merge from the decay mu sqrt(n_B)/N on: largest relative difference, {NAMES[loss]}",
                (max(abs(row["relative difference"]) for row in found), config.precision),
                f"bisection to {config.precision:g} over {len(found)} models, every bias",
            ),
            _nothing(
                f"N3.separation.{loss}",
                f"Outputs of small classes differ by mu - decay N/sqrt(n_B): largest deviation, {NAMES[loss]}",
                (max(abs(row["separation, convex"] - row["law"]) for row in rows), _AGREE),
                f"convex program, {len(rows)} {where}",
            ),
            _nothing(
                f"N3.minority.{loss}",
                f"Factored solutions merge small classes exactly where predicted: exceptions, {NAMES[loss]}",
                (wrong, 0),
                f"from a random start, {len(clear)} {where}; merged is a difference of at most {_MERGED:g}",
            ),
        ]
    return claims


def _nothing(name: str, statement: str, found: tuple[float | None, float], note: str, source: str = _BEYOND) -> Claim:
    """A claim that something is zero; `found` is what was observed, and the tolerance."""
    observed, slack = found
    return Claim(
        id=name, statement=statement, source=source, expected=0.0, observed=observed, tolerance=slack, note=note
    )


def _answer(agreement: Sequence[Row], thresholds: Sequence[Row]) -> str:
    objective, logits = (max(row[f"{what} difference"] for row in agreement) for what in ("objective", "logits"))
    worst = max(abs(row["relative difference"]) for row in thresholds)
    verdict = "Yes" if max(objective, logits) <= _AGREE else "Not to the accuracy asked"
    return (
        f"{verdict}: over {len(agreement)} models the two programs differ by at most {objective:.1e} in the objective "
        f"and {logits:.1e} in the logits. The decay from which classes of n_B samples merge was measured over "
        f"{len(thresholds)} models; it differs from mu sqrt(n_B)/N, mu = 1 or 1 - alpha with label smoothing, whatever "
        f"the bias and the other classes, by at most {worst:.1e} of that."
    )


def _minority_panels(config: Config) -> tuple[Panel, ...]:
    large, small = config.groups[0]
    where = f"{large} large classes of {config.majority} samples, {small} small ones, no bias"
    probabilities = [NAMES[loss] for loss in config.losses if loss != "mse"] or [NAMES["mse"]]
    return (
        Panel(
            kind="scatter",
            title="Minority collapse: the classifiers of small classes become one",
            caption=f"Mean cosine between the rows of W of small classes, over the ratio of sizes: {where}. Points: "
            "factored model from a random start. Dashes: convex program. At 1 the classes have merged.",
            table="merging",
            x="ratio of sizes",
            y="cosine",
            color="decay",
            facet="loss",
            reference="cosine, convex",
            x_scale="log",
            where={"loss": probabilities},
        ),
        Panel(
            kind="scatter",
            title="One law for the difference that is left",
            caption="Own output less that of another small class, at a sample of a small class (probabilities; logits "
            "for squared error). Points: factored model. Dashes: mu - decay N/sqrt(n_B), zero from the threshold on.",
            table="merging",
            x="ratio of sizes",
            y="separation",
            color="decay",
            facet="loss",
            reference="law",
            x_scale="log",
        ),
    )


def _solution_panels(first: str) -> tuple[Panel, ...]:
    return (
        Panel(
            kind="curves",
            title="Singular values of the logits",
            caption="Of Z diag(sqrt n_k) over the ratio of sizes, by the classes that they tell apart, "
            f"{first}. Those of small classes are zero where these have merged; at a larger ratio or "
            "decay, so are those that tell large from small ones.",
            table="singular values",
            x="ratio of sizes",
            y="singular value",
            color="tells apart",
            facet="decay",
            x_scale="log",
        ),
        Panel(
            kind="scatter",
            title="The decay at which small classes merge",
            caption="Found by bisection over solutions of the convex program; every bias has its point, and they "
            "coincide. Dashes: mu sqrt(n_B)/N. Cross-entropy and squared error have the same threshold.",
            table="thresholds",
            x="smallest class",
            y="measured decay",
            color="loss",
            facet="classes",
            reference="predicted decay",
            x_scale="log",
            y_scale="log",
        ),
        Panel(
            kind="matrix",
            title="Logits of every class before and after small classes merge",
            caption=f"Convex program, {first}, at the middle decay; n_A : n_B above each.",
            table="logits",
            x="class",
            y="output",
            value="logit",
            facet="sizes",
        ),
    )


EXPERIMENT = Study(entry("ufm-convex"), PRESETS, investigate)
