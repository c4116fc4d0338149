"""D4 and D5: whole overcomplete dictionaries by repeated trials, and preconditioning to a tight frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from tightframe.experiments.catalog import entry
from tightframe.experiments.dictionary.dictionary_claims import claims_of
from tightframe.experiments.dictionary.dictionary_panels import panels
from tightframe.experiments.dictionary.l4_landscapes import Row, Sparse
from tightframe.experiments.dictionary.l4_phases import expected_trials, sampled_trials, tightness
from tightframe.experiments.dictionary.power_laws import half_crossing, log_slope, root_mean_square
from tightframe.experiments.study import Findings, Study, Sweep
from tightframe.runs.record import table_of

# Grids of m go up by this factor, to n^2.
_STEP = 2**0.5


@dataclass(frozen=True)
class Config:
    """What is drawn.

    Args:
        growth: n of the growth of m with infinitely many samples.
        trials: Starts for each dictionary there.
        draws: Dictionaries of every cell.
        phase: n of the phase transition over (n, m).
        ratios: m / n there, ascending.
        samples: p there.
        claimed: m / n up to which claims are made, at the largest n.
        density: theta there and of D5.
        plane: (n, m) of the phase transition over (theta, p).
        densities: theta there.
        counts: p there, ascending.
        conditioned: Pairs (n, m) of D5, dictionaries of independent Gaussian entries.
        tightened: p of D5.
        averages: Draws of every cell of D5.
    """

    growth: tuple[int, ...] = (8, 12, 16, 24, 32)
    trials: int = 100
    draws: int = 2
    phase: tuple[int, ...] = (8, 16)
    ratios: tuple[float, ...] = (1.0, 1.5, 2.0, 3.0)
    samples: int = 10_000
    claimed: float = 1.5
    density: float = 0.1
    plane: tuple[int, int] = (16, 20)
    densities: tuple[float, ...] = (0.05, 0.1, 0.3, 0.5, 0.8)
    counts: tuple[int, ...] = (125, 500, 2_000, 8_000)
    conditioned: tuple[tuple[int, int], ...] = ((10, 10), (10, 15), (10, 40))
    tightened: tuple[int, ...] = (2_000, 16_000, 64_000)
    averages: int = 20


PRESETS = {
    "smoke": Config(),
    "quick": Config(
        growth=(8, 12, 16, 24, 32, 48, 64),
        phase=(8, 16, 32),
        ratios=(1.0, 1.5, 2.0, 3.0, 4.0),
        samples=20_000,
        claimed=2.0,
        densities=(0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9),
        counts=(125, 250, 500, 1_000, 2_000, 4_000, 8_000, 16_000),
        tightened=(2_000, 8_000, 32_000, 128_000),
        averages=30,
    ),
    "paper": Config(
        growth=(8, 12, 16, 24, 32, 48, 64, 96, 128),
        trials=400,
        draws=10,
        phase=(8, 16, 32, 64, 128),
        ratios=(1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0),
        samples=200_000,
        claimed=3.0,
        plane=(50, 75),
        densities=tuple(round(0.05 * step, 2) for step in range(1, 13)),
        counts=(1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000),
        conditioned=((10, 10), (50, 50), (50, 100), (50, 400)),
        tightened=(5_000, 50_000, 500_000),
        averages=100,
    ),
}


def investigate(config: Config, sweep: Sweep) -> Findings:
    """How m may grow with n; all columns over (n, m) and over (theta, p); tightness over p."""
    unlimited = _means(sweep(expected_trials, _growth(config)), ("samples", "n", "m"))
    phase = sweep(sampled_trials, _phase(config))
    plane = sweep(sampled_trials, _plane(config))
    tight = sweep(tightness, _tightness(config))
    limits = _limits(unlimited)
    shares = _means(phase, ("samples", "n", "m"))
    tables = {
        "growth": table_of(unlimited),
        "limits": table_of([*limits, *_limits(shares)]),
        "trials": table_of([*phase, *plane]),
        "phase": table_of([_labelled(row) for row in shares]),
        "plane": table_of([_labelled(row) for row in _means(plane, ("theta", "p"))]),
        "tightness": table_of(_tightened(tight)),
    }
    largest = [row for row in phase if row["n"] == max(config.phase)]
    claims = claims_of(limits, [row for row in largest if row["m/n"] <= config.claimed], plane, tight)
    return Findings(tuple(claims), _answer(config, limits, phase, tight), tables, panels(config.plane))


def _growth(config: Config) -> list[tuple[Sparse, int]]:
    cells = []
    for n in config.growth:
        # An orthogonal dictionary has no maxima but columns: the grid begins with it.
        sizes = [float(n)]
        while sizes[-1] < n**2:
            sizes.append(sizes[-1] * _STEP)
        cells += [
            (Sparse(n, round(m), seed=1000 * seed), config.trials) for m, seed in product(sizes, range(config.draws))
        ]
    return cells


def _phase(config: Config) -> list[Sparse]:
    cells = product(config.phase, config.ratios, range(config.draws))
    return [Sparse(n, round(ratio * n), config.samples, config.density, 1000 * seed) for n, ratio, seed in cells]


def _plane(config: Config) -> list[Sparse]:
    cells = product(config.densities, config.counts, range(config.draws))
    return [Sparse(*config.plane, p, theta, 1000 * seed) for theta, p, seed in cells]


def _tightness(config: Config) -> list[Sparse]:
    cells = product(config.conditioned, config.tightened, range(config.averages))
    return [Sparse(*size, p, config.density, 1000 * seed, frame="gaussian") for size, p, seed in cells]


def _means(rows: Sequence[Row], keys: tuple[str, ...]) -> list[Row]:
    """Means over draws by the values of `keys`, and the ratio m / n."""
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    measured = ("share", "found by trials", "found with deflation")
    return [
        dict(zip(keys, place, strict=True))
        | {"m/n": some[0]["m/n"], "draws": len(some)}
        | {name: sum(row[name] for row in some) / len(some) for name in measured if name in some[0]}
        for place, some in groups.items()
    ]


def _limits(shares: Sequence[Row]) -> list[Row]:
    """The m up to which half of the trials succeed, for every n for which it is within the grid."""
    found = []
    for samples, n in dict.fromkeys((row["samples"], row["n"]) for row in shares):
        some = sorted((row["m"], row["share"]) for row in shares if (row["samples"], row["n"]) == (samples, n))
        m = half_crossing([m for m, _ in some], [share for _, share in some])
        if m is not None:
            found.append({"samples": samples, "n": n, "m": m, "m/n": m / n, "m/n^2": m / n**2, "n^2": n**2})
    return found


def _labelled(row: Row) -> Row:
    """With words for the axes of a matrix."""
    words = {"columns per dimension": f"{row['m/n']:.3g}"}
    words |= {"dimension": f"n = {row['n']}"} if "n" in row else {}
    return row | words | ({"density": f"{row['theta']:g}", "samples": f"{row['p']}"} if "p" in row else {})


def _tightened(tight: Sequence[Row]) -> list[Row]:
    groups: dict[tuple, list[Row]] = {}
    for row in tight:
        groups.setdefault((row["n"], row["m"], row["p"]), []).append(row)
    names = ("before", "deviation", "deviation, Frobenius", "predicted")
    return [
        {"A0": f"{m} columns in {n}", "p": p} | {name: root_mean_square([row[name] for row in some]) for name in names}
        for (n, m, p), some in groups.items()
    ]


def _answer(config: Config, limits: Sequence[Row], phase: Sequence[Row], tight: Sequence[Row]) -> str:
    if len(limits) > 1:
        power = log_slope([row["n"] for row in limits], [row["m"] for row in limits])
        grows = (
            f"With infinitely many samples half of the trials succeed up to an m that grows as n^{power:.2f}, "
            f"{limits[-1]['m/n^2']:.2f} n^2 at n = {limits[-1]['n']}."
        )
    else:
        grows = "The grid does not hold the m up to which half of the trials succeed."
    whole = [sum(row[name] == 1 for row in phase) for name in ("found by trials", "found with deflation")]
    fall = log_slope([row["p"] for row in tight], [row["deviation"] for row in tight])
    return (
        f"{grows} From {config.samples} samples, m (log m + 3) independent trials find all columns in {whole[0]} of "
        f"{len(phase)} dictionaries, rounds with deflation in {whole[1]}. The deviation of P A0 from a tight frame "
        f"falls as p^{fall:.2f}."
    )


EXPERIMENT = Study(entry("l4-dictionaries"), PRESETS, investigate)
