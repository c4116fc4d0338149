"""P8: depth lowers the entries that completion needs and its overfitting, width the steps that it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from statistics import median

from tightframe.deeplinear.network import DeepLinearNetwork
from tightframe.experiments.catalog import entry
from tightframe.experiments.deeplinear.completion_runs import Effort, Kind, Matrix, Row, bounded, descend
from tightframe.experiments.study import Findings, Study, Sweep
from tightframe.runs.record import Claim, Panel, table_of

_SOURCE = "L6, benefits of depth and width in matrix completion"
# Relative error of the unobserved entries of a recovered matrix.
_RECOVERED = 1e-2
_MOMENTUM = 0.9


@dataclass(frozen=True)
class Config:
    """What is completed.

    Args:
        size: d of the study of depth, whose networks are square.
        rank: r of its matrices.
        shares: Of the entries that are observed, ascending.
        depths: L, ascending.
        start: ||W(0)|| over sigma_1, the same at every depth.
        depth_steps: Of these descents at most, with momentum 0.9.
        width_size: d of the study of width.
        width_rank: r there.
        width_share: Of the observed entries there.
        width_kind: Of matrix there.
        widths: Of the hidden layers, ascending.
        scale: epsilon of the start there.
        width_steps: Of these descents at most, without momentum.
        tolerance: Relative residual of the observed entries at which a descent ends.
        seeds: Of matrices, masks and starts.
    """

    size: int = 40
    rank: int = 2
    shares: tuple[float, ...] = (0.2, 0.3, 0.4)
    depths: tuple[int, ...] = (2, 3, 4)
    start: float = 1e-5
    depth_steps: int = 4000
    width_size: int = 40
    width_rank: int = 2
    width_share: float = 0.4
    width_kind: Kind = "truncated"
    widths: tuple[int, ...] = (4, 12, 40)
    scale: float = 1e-2
    width_steps: int = 8000
    tolerance: float = 1e-5
    seeds: tuple[int, ...] = (0, 1)


PRESETS = {
    "smoke": Config(),
    "quick": Config(
        size=60,
        rank=3,
        shares=(0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5),
        depth_steps=8000,
        width_size=100,
        width_rank=5,
        width_share=0.3,
        widths=(10, 20, 40, 70, 100),
        width_steps=12_000,
        seeds=(0, 1, 2),
    ),
    "paper": Config(
        size=100,
        rank=5,
        shares=(0.12, 0.15, 0.18, 0.2, 0.22, 0.25, 0.3, 0.35, 0.4, 0.5),
        depth_steps=30_000,
        width_size=100,
        width_rank=10,
        width_share=0.3,
        widths=tuple(range(10, 101, 10)),
        scale=1e-3,
        width_steps=120_000,
        seeds=(0, 1, 2, 3, 4),
    ),
}


@dataclass(frozen=True)
class Case:
    """One descent of depth L: at a share, or at a width where that is given."""

    config: Config
    depth: int
    seed: int
    share: float = 0.0
    width: int | None = None


def investigate(config: Config, sweep: Sweep) -> Findings:
    """Error over the share observed by depth; error and steps over the width by depth."""
    rows = sweep(at_share, [Case(config, *which) for which in product(config.depths, config.seeds, config.shares)])
    needed = _needed(rows, config)
    shallow_and_deep = [depth for depth in (2, 3) if depth in config.depths]
    kinds = product(shallow_and_deep, config.seeds, config.widths)
    wide = sweep(at_width, [Case(config, depth, seed, width=width) for depth, seed, width in kinds])
    by_width = _medians(wide)
    tables = {
        "shares": table_of(rows),
        "shares, medians": table_of(_by_share(rows)),
        "entries needed": table_of(needed),
        "widths": table_of(wide),
        "widths, medians": table_of(by_width),
    }
    claims = (*_depth_claims(rows, needed), *_width_claims(by_width))
    return Findings(claims, _answer(needed, by_width), tables, _panels(config))


def at_share(case: Case) -> Row:
    """Error of a square network of this depth, from a start of one end-to-end size."""
    config = case.config
    problem = Matrix(config.size, config.rank, case.share, "factors", case.seed).drawn()
    scale = (config.start * problem.top) ** (1 / case.depth)
    network = DeepLinearNetwork([config.size] * (case.depth + 1), scale=scale, seed=case.seed)
    found = descend(network, problem, Effort(config.tolerance, config.depth_steps, momentum=_MOMENTUM))
    freedom = config.rank * (2 * config.size - config.rank) / (case.share * config.size**2)
    row = {"L": f"{case.depth}", "share": case.share, "seed": case.seed, "freedom per entry": freedom}
    return row | {"error": bounded(found.error), "residual": bounded(found.residual), "steps": found.steps}


def at_width(case: Case) -> Row:
    """Error and steps of a network of this depth and width."""
    config = case.config
    matrix = Matrix(config.width_size, config.width_rank, config.width_share, config.width_kind, case.seed)
    inner = [case.width] * (case.depth - 1)
    network = DeepLinearNetwork([config.width_size, *inner, config.width_size], scale=config.scale, seed=case.seed)
    found = descend(network, matrix.drawn(), Effort(config.tolerance, config.width_steps))
    ended = found.residual <= config.tolerance
    row = {"L": f"{case.depth}", "width": case.width, "seed": case.seed, "error": bounded(found.error)}
    return row | {"steps": found.steps, "converged": ended, "CPU (s)": found.seconds}


def _by_share(rows: Sequence[Row]) -> list[Row]:
    found = []
    for depth, share in dict.fromkeys((row["L"], row["share"]) for row in rows):
        errors = [row["error"] for row in rows if (row["L"], row["share"]) == (depth, share)]
        row = {"L": depth, "share": share, "median error": median(errors)}
        found.append(row | {"recovered": sum(error < _RECOVERED for error in errors) / len(errors)})
    return found


def _needed(rows: Sequence[Row], config: Config) -> list[Row]:
    """By depth, the least share from which on the median error is that of a recovered matrix."""
    medians = {(row["L"], row["share"]): row["median error"] for row in _by_share(rows)}
    found = []
    for depth in config.depths:
        enough = None
        for share in reversed(config.shares):
            if medians[f"{depth}", share] >= _RECOVERED:
                break
            enough = share
        count = sum(row["error"] < _RECOVERED for row in rows if row["L"] == f"{depth}")
        found.append({"L": f"{depth}", "least share": enough, "recovered matrices": count})
    return found


def _medians(rows: Sequence[Row]) -> list[Row]:
    found = []
    for depth, width in dict.fromkeys((row["L"], row["width"]) for row in rows):
        some = [row for row in rows if (row["L"], row["width"]) == (depth, width)]
        row = {"L": depth, "width": width, "error": median(row["error"] for row in some)}
        row |= {"steps": median(row["steps"] for row in some), "converged": sum(row["converged"] for row in some)}
        found.append(row | {"descents": len(some)})
    return found


def _depth_claims(rows: Sequence[Row], needed: Sequence[Row]) -> list[Claim]:
    claims = []
    errors = {(row["L"], row["share"], row["seed"]): row["error"] for row in rows}
    for shallow, deep in pairwise(needed):
        pair = f"L = {deep['L']} and {shallow['L']}"
        shares = (deep["least share"], shallow["least share"])
        # From all its entries every depth recovers a matrix.
        difference = None if shares == (None, None) else (shares[0] or 1.0) - (shares[1] or 1.0)
        claims.append(
            Claim(
                id=f"P8.samples.L={deep['L']}",
                statement=f"The deeper network recovers from no more entries: difference of the least shares, {pair}",
                source=_SOURCE,
                expected=0.0,
                observed=difference,
                note=f"least shares {shares[0]} and {shares[1]}" if any(shares) else "needs shares that one recovers",
            )
        )
        ratios = [
            errors[deep["L"], share, seed] / max(error, 1e-300)
            for (depth, share, seed), error in errors.items()
            if depth == shallow["L"] and error >= _RECOVERED
        ]
        claims.append(
            Claim(
                id=f"P8.error.L={deep['L']}",
                statement=f"Where the shallower one does not recover, the deeper one errs less: median ratio, {pair}",
                source=_SOURCE,
                expected=1.0,
                observed=median(ratios) if ratios else None,
                note=f"{len(ratios)} matrices" if ratios else "needs matrices that the shallower one does not recover",
            )
        )
    return claims


def _width_claims(rows: Sequence[Row]) -> list[Claim]:
    ends = {depth: [row for row in rows if row["L"] == depth] for depth in ("2", "3")}
    if not all(ends.values()):
        return []
    shallow, deep = ends["2"], ends["3"]
    span = f"width {deep[0]['width']} to {deep[-1]['width']}"
    return [
        Claim(
            id="P8.overfits.L=2",
            statement=f"Two layers overfit more as they widen, {span}: ratio of errors",
            source=_SOURCE,
            expected=1.0,
            observed=shallow[-1]["error"] / max(shallow[0]["error"], 1e-300),
            relation=">=",
            note="error 1.1e-3 at width 100 in the lecture's figure, near zero at width 10",
        ),
        Claim(
            id="P8.overfits.L=3",
            statement=f"Three layers do not: largest error over those of two layers at the same width, {span}",
            source=_SOURCE,
            expected=0.1,
            observed=max(three["error"] / max(two["error"], 1e-300) for two, three in zip(shallow, deep, strict=True)),
            note="near zero at every width in the lecture's figure",
        ),
        Claim(
            id="P8.width",
            statement=f"Wider networks of three layers converge in fewer steps, {span}: ratio of steps",
            source=_SOURCE,
            expected=0.75,
            observed=deep[-1]["steps"] / deep[0]["steps"] if deep[-1]["converged"] else float("nan"),
            note="42 000 to 11 000 in the lecture's figure, a ratio of 0.26",
        ),
    ]


def _answer(needed: Sequence[Row], by_width: Sequence[Row]) -> str:
    shares = ", ".join(f"{row['least share'] or 'more than any'} at L = {row['L']}" for row in needed)
    text = f"Least share of entries from which matrices are recovered: {shares}."
    for depth in dict.fromkeys(row["L"] for row in by_width):
        some = [row for row in by_width if row["L"] == depth]
        span = f"width {some[0]['width']} to {some[-1]['width']}"
        text += f" With L = {depth} the error goes from {some[0]['error']:.1e} to {some[-1]['error']:.1e} and the steps"
        text += f" from {some[0]['steps']:,.0f} to {some[-1]['steps']:,.0f} over {span}."
    return text


def _panels(config: Config) -> tuple[Panel, ...]:
    setting = f"d = {config.width_size}, r = {config.width_rank}, {config.width_share:.0%} observed"
    return (
        Panel(
            kind="curves",
            title="Error over the share of entries observed, by depth",
            caption=f"Median over seeds, relative, of unobserved entries; square networks of d = {config.size}, "
            f"r = {config.rank}, end-to-end start {config.start:g} sigma_1.",
            table="shares, medians",
            x="share",
            y="median error",
            color="L",
            y_scale="log",
        ),
        Panel(
            kind="curves",
            title="Error over width, by depth",
            caption=f"Median over seeds; {setting}. Two layers fit what is observed with more than the matrix.",
            table="widths, medians",
            x="width",
            y="error",
            color="L",
            y_scale="log",
        ),
        Panel(
            kind="curves",
            title="Steps over width, by depth",
            caption=f"Until observed entries are fitted to {config.tolerance:g}, or {config.width_steps:,} at most.",
            table="widths, medians",
            x="width",
            y="steps",
            color="L",
        ),
    )


EXPERIMENT = Study(entry("completion-depth"), PRESETS, investigate)
