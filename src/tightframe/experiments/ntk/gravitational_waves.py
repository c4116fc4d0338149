"""K6, the vignette: chirps of black holes in noise, detected by networks and by matched filtering."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import mean

from tightframe.core.errors import InputError
from tightframe.experiments.catalog import entry
from tightframe.experiments.ntk.chirp_scenes import CONDITIONS, KNOWN
from tightframe.experiments.ntk.detection_rates import LEAST_EXCEEDANCES
from tightframe.experiments.ntk.wave_runs import BEGUN, FILTER, NETWORK, OPTIMAL, TOLD, Row, Scene, scored
from tightframe.experiments.study import Findings, Study, Sweep
from tightframe.runs.record import Claim, Panel, table_of

_SOURCE = "L4, vignette: gravitational-wave astronomy as parametric detection"
_PARTS = ("rates", "strengths", "curves", "banks", "training")


@dataclass(frozen=True)
class Config:
    """Detectors and scenes.

    Args:
        conditions: Names of kinds of noise; the first is the one that the bank knows.
        masses: Limits of both, in solar masses.
        strengths: Limits of the signal-to-noise ratio.
        per_axis: Masses per axis of the bank.
        begun_per_axis: Of the bank at which the second network starts.
        pool: Chirps from which training draws.
        null: Windows of noise that set the thresholds.
        found: Windows with a chirp.
        alarms: False-alarm rates, the largest first.
        steps: Of training the network from random weights.
        begun_steps: Of training the one that starts at the bank.
        seeds: Of scenes and weights.
    """

    conditions: tuple[str, ...] = (KNOWN.name, "glitches")
    masses: tuple[float, float] = (10.0, 30.0)
    strengths: tuple[float, float] = (4.0, 8.0)
    per_axis: int = 5
    begun_per_axis: int = 4
    pool: int = 500
    null: int = 1500
    found: int = 300
    alarms: tuple[float, ...] = (1e-2,)
    steps: int = 60
    begun_steps: int = 30
    seeds: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        if not self.conditions or self.conditions[0] != KNOWN.name or not set(self.conditions) <= set(CONDITIONS):
            raise InputError(
                f"conditions among {', '.join(CONDITIONS)}, beginning with {KNOWN.name!r}",
                got=", ".join(self.conditions) or "none",
                remedy="The others are judged beside it.",
            )
        if not self.alarms or min(self.alarms) * self.null < LEAST_EXCEEDANCES:
            raise InputError(
                f"null of at least {LEAST_EXCEEDANCES} over the least false-alarm rate",
                got=f"null={self.null}, alarms={self.alarms}",
                remedy="Draw more windows, or ask for more false alarms.",
            )


_QUICK = Config(
    conditions=tuple(CONDITIONS),
    per_axis=8,
    begun_per_axis=5,
    pool=4000,
    null=10_000,
    found=2000,
    alarms=(1e-2, 1e-3),
    steps=700,
    begun_steps=250,
)
PRESETS = {
    "smoke": Config(),
    "quick": _QUICK,
    "paper": replace(
        _QUICK,
        per_axis=14,
        begun_per_axis=8,
        pool=50_000,
        null=200_000,
        found=20_000,
        steps=30_000,
        begun_steps=5_000,
        seeds=(0, 1, 2),
    ),
}


def investigate(config: Config, sweep: Sweep) -> Findings:
    """Every kind of noise by every detector; then the claims."""
    found = sweep(scored, scenes_of(config))
    rows = {part: [row for tables in found for row in tables[part]] for part in _PARTS}
    tables = {part: table_of(each) for part, each in rows.items()}
    return Findings(claims_of(rows["rates"], config), _answer(rows["rates"], config), tables, _panels(config))


def scenes_of(config: Config) -> list[Scene]:
    """One scene for every kind of noise and seed."""
    shared = ("masses", "strengths", "per_axis", "begun_per_axis", "pool", "null", "found", "alarms", "steps")
    settings = {name: getattr(config, name) for name in (*shared, "begun_steps")}
    return [Scene(condition=name, seed=seed, **settings) for name in config.conditions for seed in config.seeds]


def claims_of(rows: Sequence[Row], config: Config) -> tuple[Claim, ...]:
    """Claims of the rates: in the noise that the bank knows, then in every other."""
    claims = [claim for alarms in config.alarms for claim in _known(rows, alarms)]
    others = [name for name in config.conditions if name != KNOWN.name]
    claims += [claim for name in others for alarms in config.alarms for claim in _unknown(rows, name, alarms)]
    return tuple(claims)


def _known(rows: Sequence[Row], alarms: float) -> list[Claim]:
    best = _rate(rows, KNOWN.name, OPTIMAL, alarms)
    claims = [
        Claim(
            id=f"K6.waves.known.{who}.{alarms:g}",
            statement=f"In Gaussian noise that the bank knows, the {name} detects no more than the likelihood ratio",
            source=_SOURCE,
            expected=0.0,
            observed=_rate(rows, KNOWN.name, name, alarms)["detections"] - best["detections"],
            # Each rate is known within its interval.
            tolerance=_half(best) + _half(_rate(rows, KNOWN.name, name, alarms)),
            note=_note(rows, KNOWN.name, (name, OPTIMAL), alarms),
        )
        for who, name in (("random", NETWORK), ("bank", BEGUN), ("filter", FILTER))
    ]
    claims.append(
        Claim(
            id=f"K6.waves.learned.{alarms:g}",
            statement="In that noise the network from random weights comes to detect as much as the matched filter",
            source=_SOURCE,
            expected=0.0,
            observed=_rate(rows, KNOWN.name, NETWORK, alarms)["detections"]
            - _rate(rows, KNOWN.name, FILTER, alarms)["detections"],
            relation=">=",
            tolerance=0.05,
            note=_note(rows, KNOWN.name, (NETWORK, FILTER), alarms),
        )
    )
    return claims


def _unknown(rows: Sequence[Row], condition: str, alarms: float) -> list[Claim]:
    claims = []
    for who, name in (("random", NETWORK), ("bank", BEGUN)):
        mine = _rate(rows, condition, name, alarms)
        for beside, other, words in (
            ("filter", FILTER, "matched filtering that does not know it"),
            ("told", TOLD, "matched filtering that does"),
        ):
            claims.append(
                Claim(
                    id=f"K6.waves.{condition}.{who}.{beside}.{alarms:g}",
                    statement=f"Under {condition} the {name} detects more than {words}: the low end of its interval "
                    "minus the high end of the other's",
                    source=_SOURCE,
                    expected=0.0,
                    observed=mine["low"] - _rate(rows, condition, other, alarms)["high"],
                    relation=">=",
                    note=_note(rows, condition, (name, other), alarms),
                )
            )
    return claims


def _rate(rows: Sequence[Row], condition: str, detector: str, alarms: float) -> dict[str, float]:
    """Means over seeds of the rate and of its interval's ends."""
    wanted = (condition, detector, alarms)
    inside = [row for row in rows if (row["noise"], row["detector"], row["false alarms"]) == wanted]
    return {name: mean(row[name] for row in inside) for name in ("detections", "low", "high")}


def _half(rate: dict[str, float]) -> float:
    return max(rate["high"] - rate["detections"], rate["detections"] - rate["low"])


def _note(rows: Sequence[Row], condition: str, detectors: Sequence[str], alarms: float) -> str:
    parts = []
    for name in detectors:
        at = _rate(rows, condition, name, alarms)
        parts.append(f"{name} {at['detections']:.3f} [{at['low']:.3f}, {at['high']:.3f}]")
    return f"{'; '.join(parts)}, at {alarms:g} false alarms per window; 95 % intervals, thresholds included"


def _answer(rows: Sequence[Row], config: Config) -> str:
    alarms, parts = config.alarms[-1], []
    for condition in config.conditions:
        names = (NETWORK, BEGUN, FILTER, OPTIMAL if condition == KNOWN.name else TOLD)
        said = ", ".join(f"{name} {_rate(rows, condition, name, alarms)['detections']:.2f}" for name in names)
        parts.append(f"{condition}: {said}")
    return f"Detections at {alarms:g} false alarms per window. {'; '.join(parts)}."


def _panels(config: Config) -> tuple[Panel, ...]:
    strengths = f"signal-to-noise ratios {config.strengths[0]:g} to {config.strengths[1]:g}"
    receiver = Panel(
        kind="curves",
        title="Detections over false alarms",
        caption=f"Share of windows with a chirp that are found, {strengths}, over the share of windows without one.",
        table="curves",
        x="false alarms",
        y="detections",
        color="detector",
        facet="noise",
        x_scale="log",
    )
    by_strength = Panel(
        kind="curves",
        title="Detections over the strength of the chirp",
        caption=f"At {config.alarms[0]:g} false alarms per window; strength is the signal-to-noise ratio of the "
        "chirp's own filter in the noise that the bank knows.",
        table="strengths",
        x="strength",
        y="detections",
        color="detector",
        facet="noise",
    )
    return receiver, by_strength


EXPERIMENT = Study(entry("gravitational-waves"), PRESETS, investigate)
