"""P1 and P2: every weight moves in a small invariant space, exactly for whitened inputs, roughly for others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from tightframe.core.errors import InputError
from tightframe.experiments.catalog import entry
from tightframe.experiments.deeplinear.parsimony_panels import pictures, portray
from tightframe.experiments.deeplinear.parsimony_runs import Row, Setting, Training, measure
from tightframe.experiments.study import Findings, Study, Sweep
from tightframe.runs.record import Claim, table_of

_SOURCE = "L6, law of parsimony: the theorem on invariant subspaces, cases 1 and 2"
_ROUGHLY = "L6, law of parsimony without whitening and with momentum"
_BEYOND = "beyond the sources: other inputs and ways of training"
# What the ledger asks of the structure, and the share of a weight that counts as nearly none.
_EXACT, _NEARLY = 1e-8, 0.1
# Up to this share of the loss left, a network counts as trained: one that has not moved has kept any structure.
_TRAINED = 0.05

_PLAIN = Training("gradient descent")
_DECAY = Training("weight decay", weight_decay=1e-3)
_BALL = Training("heavy ball", momentum=0.9)
_ADAM = Training("Adam", algorithm="adam")


@dataclass(frozen=True)
class Config:
    """What is trained.

    Args:
        width: d, above 2 r.
        rank: r; in case 1 the number of outputs too.
        cases: 1 for r outputs, 2 for d outputs and a target of rank r.
        depths: L; the middle one is drawn, and serves inputs that are not whitened.
        scales: epsilon.
        decay: lambda of the runs with weight decay.
        momentum: mu of those with the heavy ball.
        steps: How many.
        step: As a share of 2 / ||Hessian|| at the minimum; with the heavy ball half of it.
        inputs: Those that are not whitened: "Gaussian", or the largest singular value where the least is 1.
        samples: N of these.
        adam: Step of Adam.
        published: (step, steps) of the published run without whitening, of Gaussian inputs.
        seed: Of data and starts.
    """

    width: int = 12
    rank: int = 2
    cases: tuple[int, ...] = (1, 2)
    depths: tuple[int, ...] = (2, 3, 5)
    scales: tuple[float, ...] = (1.0, 0.3)
    decay: float = 1e-3
    momentum: float = 0.9
    steps: int = 3000
    step: float = 0.25
    inputs: tuple[str, ...] = ("1.2", "2", "Gaussian")
    samples: int = 100
    adam: float = 1e-3
    published: tuple[float, int] = (1 / 200, 50)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.width <= 2 * self.rank or self.samples < self.width:
            raise InputError(
                "a width above twice the rank, and at least as many samples",
                got=f"width {self.width}, rank {self.rank}, {self.samples} samples",
                remedy="A network this narrow has no part that the data leave alone.",
            )


# The published runs have d = 30, r = 3, N = 300, L = 3, epsilon = 1, and a mean over 3 * 300 entries in the loss.
_PUBLISHED = {"width": 30, "rank": 3, "samples": 300, "published": (1 / 900, 50)}
PRESETS = {
    "smoke": Config(),
    "quick": Config(**_PUBLISHED),
    "paper": Config(**_PUBLISHED, depths=(2, 3, 4, 5), scales=(1.0, 0.3, 0.1), steps=12_000),
}


def investigate(config: Config, sweep: Sweep) -> Findings:
    """Exact runs, runs that the theorem does not cover, and a picture of one of each kind."""
    exact, rough = _exact(config), _rough(config)
    found = sweep(measure, [*exact, *rough])
    rows, courses = zip(*found, strict=True)
    drawn = _drawn(config)
    shown = sweep(portray, drawn)
    tables = {
        "runs": table_of(rows),
        "deviation": table_of([line for course in courses for line in course]),
        **{name: table_of([line for seen in shown for line in seen[name]]) for name in shown[0]},
    }
    claims = (*_exact_claims(rows[: len(exact)]), *_rough_claims(rows[len(exact) :]))
    return Findings(claims, _answer(rows[: len(exact)], rows[len(exact) :]), tables, pictures(config.rank))


def _exact(config: Config) -> list[Setting]:
    """Whitened inputs: every case, depth and scale, by descent, with decay, and with the heavy ball."""
    trainings = _trainings(config)
    cells = product(config.cases, config.depths, config.scales, trainings)
    return [_setting(config, case, depth, scale, "whitened", how) for case, depth, scale, how in cells]


def _rough(config: Config) -> list[Setting]:
    """What the theorem does not cover: other inputs, Adam, and the published run."""
    depth, scale = _middle(config), config.scales[0]
    cells = list(product(config.inputs, (_PLAIN, _trainings(config)[-1])))
    cells += [("whitened", _ADAM), *((inputs, _ADAM) for inputs in config.inputs)]
    settings = [_setting(config, 1, depth, scale, inputs, how) for inputs, how in cells]
    step, steps = config.published
    published = Training(f"published, {steps} steps")
    basis = (1, config.width, config.rank, depth, scale, config.samples, "Gaussian", published, step, steps)
    return [*settings, Setting(*basis, relative=False, seed=config.seed)]


def _drawn(config: Config) -> list[Setting]:
    depth, scale = _middle(config), config.scales[-1]
    return [
        _setting(config, 2, depth, scale, "whitened", _PLAIN),
        _setting(config, 2, depth, scale, "whitened", _trainings(config)[-1]),
        *(_setting(config, 2, depth, scale, inputs, _PLAIN) for inputs in config.inputs[:1]),
        _setting(config, 2, depth, scale, "whitened", _ADAM),
    ]


def _trainings(config: Config) -> tuple[Training, Training, Training]:
    return (
        _PLAIN,
        Training(_DECAY.name, weight_decay=config.decay),
        Training(_BALL.name, momentum=config.momentum),
    )


def _middle(config: Config) -> int:
    return config.depths[len(config.depths) // 2]


def _setting(config: Config, case: int, depth: int, scale: float, inputs: str, how: Training) -> Setting:
    samples = config.width if inputs == "whitened" else config.samples
    relative = how.algorithm == "gd"
    step = config.step * (0.5 if how.momentum else 1.0) if relative else config.adam
    network = (case, config.width, config.rank, depth, scale, samples, inputs)
    return Setting(*network, how, step, config.steps, relative=relative, seed=config.seed)


def _exact_claims(rows: Sequence[Row]) -> list[Claim]:
    claims = []
    for case in sorted({row["case"] for row in rows}):
        mine = [row for row in rows if row["case"] == case]
        plain = [row for row in mine if row["training"] != _BALL.name]
        depths = ", ".join(map(str, sorted({row["L"] for row in mine})))
        note = f"{len(plain)} runs, descent with and without weight decay, L = {depths}; the worst layer and step"
        claims += [
            _at_most(
                f"P1.blocks.case{case}",
                f"Case {case}: blocks off the diagonal of every layer stay zero",
                _worst(plain, "off-diagonal"),
                _EXACT,
                note,
            ),
            _at_most(
                f"P1.identity.case{case}",
                f"Case {case}: the second block of every layer stays rho(t) times the identity",
                _worst(plain, "off rho I"),
                _EXACT,
                note,
            ),
            _at_most(
                f"P1.recursion.case{case}",
                f"Case {case}: rho(t) follows its scalar recursion",
                _worst(plain, "rho off its recursion"),
                _EXACT,
                note,
            ),
        ]
    momentum = [row for row in rows if row["training"] == _BALL.name]
    structure = [max(row[name] for name in ("off-diagonal", "off rho I", "rho off its recursion")) for row in momentum]
    every = f"{len(rows)} runs, the worst"
    return [
        *claims,
        _at_most("P1.values", "All but 2r singular values of a layer coincide", _worst(rows, "apart"), _EXACT, every),
        _at_most(
            "P1.vectors",
            "All but 2r singular vectors of the first layer stay where they are: vectors beyond 2r that turn",
            max(row["turned vectors"] - row["2r"] for row in rows),
            0,
            f"{every}; turned by more than 1e-6 at any time",
        ),
        _at_most(
            "P1.trained",
            "The structure is kept by networks that learn: largest share of the loss left",
            _worst(rows, "loss left"),
            _TRAINED,
            every,
        ),
        _at_most(
            "P2.momentum",
            "With the heavy ball the structure is exact too, rho with a velocity: worst of the three deviations",
            max(structure, default=None),
            _EXACT,
            f"{len(momentum)} runs",
            _ROUGHLY,
        ),
    ]


def _rough_claims(rows: Sequence[Row]) -> list[Claim]:
    claims = []
    for inputs in dict.fromkeys(row["inputs"] for row in rows if row["inputs"] != "whitened"):
        mine = [row for row in rows if row["inputs"] == inputs and row["training"] != _ADAM.name]
        for row in mine:
            key = "published" if row["training"].startswith("published") else row["training"].replace(" ", "-")
            where = f"{inputs} inputs, {row['training']}"
            source = _ROUGHLY if inputs == "Gaussian" and row["training"] != _BALL.name else _BEYOND
            note = f"L = {row['L']}, eps = {row['eps']:g}; loss left {row['loss left']:.1e}; worst layer and step"
            claims += [
                _at_most(
                    f"P2.inputs={inputs}.{key}.values",
                    f"All but 2r singular values nearly coincide: how far apart over eps, {where}",
                    row["apart"] / row["eps"],
                    _NEARLY,
                    note,
                    source,
                ),
                _at_most(
                    f"P2.inputs={inputs}.{key}.blocks",
                    f"Weights nearly keep the block structure: deviation over |W|, {where}",
                    row["relative deviation"],
                    _NEARLY,
                    note,
                    source,
                ),
            ]
    adam = [row for row in rows if row["training"] == _ADAM.name and row["inputs"] == "whitened"]
    claims.append(
        Claim(
            id="P2.adam",
            statement="Adam leaves the frames even with whitened inputs: share of the update outside",
            source=_BEYOND,
            expected=_NEARLY,
            observed=_worst(adam, "share of the update"),
            relation=">=",
            note="worst layer, end of training",
        )
    )
    return claims


def _at_most(
    name: str, statement: str, observed: float | None, bound: float, note: str, source: str = _SOURCE
) -> Claim:
    return Claim(id=name, statement=statement, source=source, expected=bound, observed=observed, note=note)


def _worst(rows: Sequence[Row], column: str) -> float | None:
    """The largest; None where a run lacks it."""
    cells = [row[column] for row in rows]
    return None if None in cells else max(cells, default=None)


def _answer(exact: Sequence[Row], rough: Sequence[Row]) -> str:
    worst = max(max(row["off-diagonal"], row["off rho I"]) for row in exact)
    descent = [row for row in rough if row["training"] != _ADAM.name]
    parts = (min(row["relative deviation"] for row in descent), max(row["relative deviation"] for row in descent))
    values = max(row["apart"] / row["eps"] for row in descent)
    adam = _worst([row for row in rough if row["training"] == _ADAM.name], "relative deviation")
    verdict = "Yes" if worst <= _EXACT else "Not to the accuracy asked"
    return (
        f"{verdict}: over {len(exact)} runs with whitened inputs, the heavy ball among them, layers deviate from the "
        f"structure by at most {worst:.1e}. With other inputs between {parts[0]:.1%} and {parts[1]:.1%} of a weight "
        f"leave the frames, while the singular values that should coincide are at most {values:.1%} of epsilon apart; "
        f"with Adam {adam:.0%} leave them."
    )


EXPERIMENT = Study(entry("parsimony"), PRESETS, investigate)
