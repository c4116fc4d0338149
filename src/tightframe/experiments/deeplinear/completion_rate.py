"""P6: a compressed network completes a matrix only if its outer factors learn, at a rate of their own."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from statistics import median

from tightframe.deeplinear.compression import compress
from tightframe.deeplinear.network import DeepLinearNetwork
from tightframe.deeplinear.objective import Completion
from tightframe.experiments.catalog import entry
from tightframe.experiments.deeplinear.completion_runs import (
    KINDS,
    Effort,
    Kind,
    Matrix,
    Row,
    bounded,
    descend,
    thinned,
)
from tightframe.experiments.study import Findings, Study, Sweep
from tightframe.runs.record import Claim, Panel, table_of

_SOURCE = "L6, compressed networks for matrix completion: discrepant learning rates"
_BEYOND = "beyond the source"
_ORIGINAL = "original"
# A completed matrix, a failed one, and the error down to which trajectories are compared.
_COMPLETED, _FAILED, _COMPARED = 1e-3, 1e-2, 1e-2
# What the lecture uses, and what takes about half the steps.
_PUBLISHED, _FASTER = 0.01, 0.1


@dataclass(frozen=True)
class Config:
    """What is completed.

    Args:
        size: d, of a square matrix.
        rank: r, which the compressed networks are told.
        share: Of the entries that are observed.
        kinds: Of matrices; see `Matrix`.
        depth: L.
        scale: epsilon of the orthogonal start.
        gammas: Rates of the outer factors, as multiples of that of the inner layers.
        tolerance: Relative residual of the observed entries at which a descent ends.
        max_steps: At most so many.
        seeds: Of matrices, masks and starts.
    """

    size: int = 60
    rank: int = 3
    share: float = 0.4
    kinds: tuple[Kind, ...] = ("truncated", "factors")
    depth: int = 3
    scale: float = 1e-2
    gammas: tuple[float, ...] = (0.0, 0.01, 0.1, 1.0, 10.0)
    tolerance: float = 1e-5
    max_steps: int = 12_000
    seeds: tuple[int, ...] = (0,)


_GAMMAS = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
_PAPER = Config(1000, 5, 0.2, scale=1e-3, gammas=_GAMMAS, max_steps=40_000)
PRESETS = {
    "smoke": Config(),
    "quick": Config(200, 5, 0.3, gammas=(0.0, 0.003, *_GAMMAS[3:]), max_steps=15_000, seeds=(0, 1)),
    "paper": _PAPER,
}


@dataclass(frozen=True)
class Case:
    """One descent: with this rate of the outer factors, or of the wide network where it is None."""

    config: Config
    kind: Kind
    seed: int
    gamma: float | None


def investigate(config: Config, sweep: Sweep) -> Findings:
    """Descents of the original and of compressed networks of every rate, from one start."""
    gammas = (None, *config.gammas)
    cases = [Case(config, *which) for which in product(config.kinds, config.seeds, gammas)]
    results = sweep(complete, cases)
    rows = [result["outcome"] for result in results]
    paths = [row for result in results for row in result["path"] if result["outcome"]["seed"] == config.seeds[0]]
    limits = _limits(rows, config)
    tables = {"descents": table_of(rows), "trajectories": table_of(paths), "largest rates": table_of(limits)}
    claims = tuple(claim for kind in config.kinds for claim in _claims(kind, rows, config))
    return Findings(claims, _answer(rows, limits), tables, _panels(config))


def complete(case: Case) -> dict[str, object]:
    """Outcome and trajectory of one descent."""
    config = case.config
    problem = Matrix(config.size, config.rank, config.share, case.kind, case.seed).drawn()
    wide = DeepLinearNetwork([config.size] * (config.depth + 1), scale=config.scale, seed=case.seed)
    effort = Effort(config.tolerance, config.max_steps)
    with warnings.catch_warnings():
        # That a rate of zero fails is what is shown here.
        warnings.filterwarnings("ignore", message="gamma = 0", category=UserWarning)
        network = wide
        if case.gamma is not None:
            objective = Completion(problem.matrix, problem.mask)
            sizes = {"depth": config.depth, "rank": config.rank, "scale": config.scale}
            network = compress(objective, gamma=case.gamma, network=wide, **sizes)
    found = descend(network, problem, effort)
    compared = found.first("error", _COMPARED)
    named = {"matrix": KINDS[case.kind], "gamma": _label(case.gamma), "seed": case.seed}
    outcome = named | {
        "rate": case.gamma,
        "error": bounded(found.error),
        "residual": bounded(found.residual),
        "steps": found.steps,
        "CPU (s)": found.seconds,
        "steps to 1e-2": None if compared is None else compared["steps"],
        "sigma_1": problem.top,
    }
    path = [named | {key: row[key] for key in ("steps", "seconds", "error", "residual")} for row in thinned(found.path)]
    return {"outcome": outcome, "path": path}


def _label(gamma: float | None) -> str:
    return _ORIGINAL if gamma is None else f"{gamma:g}"


def _claims(kind: Kind, rows: Sequence[Row], config: Config) -> list[Claim]:
    some = [row for row in rows if row["matrix"] == KINDS[kind]]

    def errors(gamma: float) -> list[float]:
        return [row["error"] for row in some if row["rate"] == gamma]

    def fails(name: str, gamma: float, source: str, said: str) -> Claim:
        statement = f"{said}, {KINDS[kind]}: least relative error of unobserved entries"
        return _claim(f"P6.{name}.{kind}", statement, min(errors(gamma), default=None), _FAILED, gamma, source, ">=")

    def works(name: str, gamma: float, said: str) -> Claim:
        statement = f"{said} completes, {KINDS[kind]}: largest relative error of unobserved entries"
        return _claim(f"P6.{name}.{kind}", statement, max(errors(gamma), default=None), _COMPLETED, gamma, _SOURCE)

    high = max(config.gammas)
    return [
        fails("zero", 0.0, _SOURCE, "gamma = 0 fails"),
        works("published", _PUBLISHED, "gamma = 0.01"),
        works("small", _FASTER, "gamma = 0.1"),
        fails("one", 1.0, _SOURCE, "gamma = 1 fails"),
        fails("large", high, _BEYOND, f"gamma = {high:g} fails"),
        _follows(kind, some, _PUBLISHED, "published"),
        _follows(kind, some, _FASTER, "small"),
    ]


def _claim(
    name: str, statement: str, observed: float | None, bar: float, gamma: float, source: str, relation: str = "<="
) -> Claim:
    note = f"needs gamma = {gamma:g}" if observed is None else ""
    return Claim(
        id=name, statement=statement, source=source, expected=bar, observed=observed, relation=relation, note=note
    )


def _follows(kind: Kind, rows: Sequence[Row], gamma: float, name: str) -> Claim:
    """That the compressed network takes the steps of the original."""
    steps = {(row["rate"], row["seed"]): row["steps to 1e-2"] for row in rows}
    seeds = {seed for rate, seed in steps if rate == gamma}
    pairs = [(steps[gamma, seed], steps[None, seed]) for seed in seeds]
    missing = any(None in pair for pair in pairs)
    observed = median(ours / theirs for ours, theirs in pairs) if pairs and not missing else None
    return Claim(
        id=f"P6.follows.{name}.{kind}",
        statement=f"At gamma = {gamma:g} it takes the steps of the original to an error of 1e-2: ratio, {KINDS[kind]}",
        source=_SOURCE,
        expected=1.0,
        observed=float("inf") if missing and pairs else observed,
        relation="==",
        tolerance=0.25,
        note="the lecture's figure shows about 19 500 steps of both" if pairs else f"needs gamma = {gamma:g}",
    )


def _limits(rows: Sequence[Row], config: Config) -> list[Row]:
    """The rates that complete every matrix of a kind, and the largest times sigma_1^(2/L).

    With the outer factors orthonormal and the product at the target the Hessian is about p (L sigma^(2-2/L) + 2 gamma
    sigma^2) along the top singular vectors, which a step of a share c of 2 / ||Hessian|| of the inner layers alone
    bears up to gamma sigma^(2/L) = L (1 / c - 1) / 2.
    """
    found = []
    for kind in config.kinds:
        some = [row for row in rows if row["matrix"] == KINDS[kind] and row["rate"] is not None]
        rates = sorted({row["rate"] for row in some})
        works = [g for g in rates if max(row["error"] for row in some if row["rate"] == g) <= _COMPLETED]
        above = [g for g in rates if works and g > max(works)]
        lever = median(row["sigma_1"] for row in some) ** (2 / config.depth)
        line: Row = {"matrix": KINDS[kind], "sigma_1^(2/L)": lever}
        line |= {"smallest that works": min(works, default=None), "largest that works": max(works, default=None)}
        line["next, which fails"] = min(above, default=None)
        line["largest times sigma_1^(2/L)"] = max(works) * lever if works else None
        line["stable up to, linearised"] = config.depth * (1 / Effort().step - 1) / 2 / lever
        found.append(line)
    return found


def _answer(rows: Sequence[Row], limits: Sequence[Row]) -> str:
    still = min((row["error"] for row in rows if row["rate"] == 0), default=None)
    parts = [] if still is None else [f"With fixed outer factors the error stays at {still:.2g} or above."]
    for line in limits:
        if line["largest that works"] is None:
            parts.append(f"No rate completed a {line['matrix']}.")
            continue
        span = f"{line['smallest that works']:g} to {line['largest that works']:g}"
        parts.append(
            f"Of a {line['matrix']} (sigma_1^(2/L) = {line['sigma_1^(2/L)']:.3g}) the rates {span} complete it."
        )
    return " ".join(parts)


def _panels(config: Config) -> tuple[Panel, ...]:
    setting = f"d = {config.size}, r = {config.rank}, {config.share:.0%} observed, L = {config.depth}"
    curves = {"kind": "curves", "table": "trajectories", "y": "error", "color": "gamma", "facet": "matrix"}
    return (
        Panel(
            **curves,
            title="Trajectories of compressed networks by the rate of their outer factors",
            caption=f"Relative error of unobserved entries over steps; {setting}; the wide network beside them.",
            x="steps",
            y_scale="log",
        ),
        Panel(
            **curves,
            title="The same over time",
            caption="CPU seconds of the steps.",
            x="seconds",
            x_scale="log",
            y_scale="log",
        ),
        Panel(
            kind="scatter",
            title="Too slow, right, too fast",
            caption="Final error over gamma; 10^6 stands for a descent that left the numbers.",
            table="descents",
            x="rate",
            y="error",
            color="matrix",
            x_scale="log",
            y_scale="log",
            where={"gamma": [_label(gamma) for gamma in config.gammas if gamma > 0]},
        ),
    )


EXPERIMENT = Study(entry("completion-rate"), PRESETS, investigate)
