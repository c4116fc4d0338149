"""Every detector on the scenes of one kind of noise: trained, calibrated on noise alone, and scored."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from tightframe.data.recorded.chirps import whitened
from tightframe.experiments.ntk import chirp_networks
from tightframe.experiments.ntk.chirp_networks import BankDetector, PlainDetector, Schedule
from tightframe.experiments.ntk.chirp_scenes import CONDITIONS, Condition, draw_masses, noise, shapes, signals
from tightframe.experiments.ntk.detection_rates import LEAST_EXCEEDANCES, curve, detection
from tightframe.experiments.ntk.matched_filters import Bank, adapted_bank, bank_of, coverage, mass_grid, score
from tightframe.runs.record import Cell

Row = dict[str, Cell]
Statistic = Callable[[Tensor], Tensor]

NETWORK, BEGUN = "network, random start", "network, started at the bank"
FILTER, OPTIMAL, TOLD = "matched filter", "likelihood ratio", "matched filter, told the noise"


@dataclass(frozen=True)
class Scene:
    """What is drawn and how detectors are trained.

    Args:
        condition: Name of one of `CONDITIONS`.
        masses: Limits of both, in solar masses.
        strengths: Limits of the signal-to-noise ratio.
        per_axis: Masses per axis of the bank.
        begun_per_axis: Of the bank at which the second network starts.
        pool: Chirps from which training draws.
        null: Windows of noise that set the thresholds.
        found: Windows with a chirp.
        alarms: False-alarm rates.
        steps: Of training the network from random weights.
        begun_steps: Of training the one that starts at the bank.
        seed: Of everything.
    """

    condition: str
    masses: tuple[float, float]
    strengths: tuple[float, float]
    per_axis: int
    begun_per_axis: int
    pool: int
    null: int
    found: int
    alarms: tuple[float, ...]
    steps: int
    begun_steps: int
    seed: int

    @property
    def noise(self) -> Condition:
        """The kind of noise."""
        return CONDITIONS[self.condition]


def scored(scene: Scene) -> dict[str, list[Row]]:
    """Rows for tables: rates at the false alarms asked for, by strength too, receiver curves, and training."""
    sources = [np.random.default_rng((scene.seed, purpose)) for purpose in range(4)]
    pool = shapes(draw_masses(scene.pool, scene.masses, sources[0]))
    null = torch.as_tensor(noise(scene.noise, scene.null, sources[1])).float()
    fresh = shapes(draw_masses(scene.found, scene.masses, sources[2]))
    chirps, strengths = signals(fresh, scene.found, scene.strengths, sources[2])
    found = torch.as_tensor(noise(scene.noise, scene.found, sources[2]) + chirps).float()
    bank = bank_of(mass_grid(scene.per_axis, scene.masses))
    kept = coverage(bank, chirps / strengths[:, None])
    words = {"noise": scene.condition, "seed": scene.seed}
    tables: dict[str, list[Row]] = {"rates": [], "strengths": [], "curves": []}
    tables["banks"] = [
        words
        | {"templates": len(bank.spectra), "least coverage": float(kept.min()), "median coverage": float(kept.median())}
    ]
    detectors = _filters(scene, bank, sources[3])
    trained, tables["training"] = _networks(scene, pool)
    for name, statistic in {**detectors, **trained}.items():
        begun = time.process_time()
        alone, with_chirp = statistic(null).double().numpy(), statistic(found).double().numpy()
        spent = (time.process_time() - begun) / (scene.null + scene.found)
        label = words | {"detector": name}
        tables["rates"] += [
            label | row | {"CPU (ms) per window": 1e3 * spent} for row in _rates(scene, alone, with_chirp)
        ]
        tables["strengths"] += [label | row for row in _by_strength(scene, alone, with_chirp, strengths)]
        tables["curves"] += [label | {"false alarms": a, "detections": d} for a, d in curve(alone, with_chirp)]
    return tables


def _filters(scene: Scene, bank: Bank, source: np.random.Generator) -> dict[str, Statistic]:
    """The matched filter, and what a search would do that knew the noise: for Gaussian noise, nothing better exists."""
    condition = scene.noise
    found: dict[str, Statistic] = {FILTER: bank.loudest}
    if condition.resonance:
        seen = noise(condition, 2000, source)
        adapted, excess = adapted_bank(mass_grid(scene.per_axis, scene.masses), seen)
        found[TOLD] = lambda windows: adapted.loudest(
            torch.as_tensor(whitened(windows.double().numpy(), excess)).float()
        )
    elif np.isfinite(condition.freedom):
        found[TOLD] = lambda windows: bank.loudest(score(windows, condition.freedom))
    elif condition.disturbances:
        found[TOLD] = bank.reweighted
    else:
        grid = torch.linspace(*scene.strengths, 5)
        found[OPTIMAL] = lambda windows: bank.marginal(windows, grid)
    return found


def _networks(scene: Scene, pool: np.ndarray) -> tuple[dict[str, Statistic], list[Row]]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(scene.seed)
        begun = BankDetector(shapes(mass_grid(scene.begun_per_axis, scene.masses)))
        models = {
            NETWORK: (PlainDetector(), Schedule(scene.steps, rate=2e-3)),
            BEGUN: (begun, Schedule(scene.begun_steps, rate=5e-3)),
        }
    rows, trained = [], {}
    for name, (model, schedule) in models.items():
        clock = time.process_time()
        loss = chirp_networks.train(
            model, scene.noise, pool, schedule, strengths=scene.strengths, seed=scene.seed + 1000
        )
        rows.append(
            {
                "noise": scene.condition,
                "seed": scene.seed,
                "detector": name,
                "weights": sum(each.numel() for each in model.parameters()),
                "windows seen": schedule.steps * schedule.batch,
                "loss": loss,
                "CPU (s)": time.process_time() - clock,
            }
        )
        trained[name] = lambda windows, model=model: chirp_networks.logits(model, windows)
    return trained, rows


def _rates(scene: Scene, null: np.ndarray, found: np.ndarray) -> list[Row]:
    rows = []
    for alarms in scene.alarms:
        if alarms * scene.null >= LEAST_EXCEEDANCES:
            at = detection(null, found, alarms)
            rows.append({"false alarms": alarms, "detections": at.rate, "low": at.low, "high": at.high})
    return rows


def _by_strength(scene: Scene, null: np.ndarray, found: np.ndarray, strengths: np.ndarray) -> list[Row]:
    """Rates at the first false-alarm rate, in five parts of the range of strengths."""
    edges = np.linspace(*scene.strengths, 6)
    rows = []
    for low, high in pairwise(edges.tolist()):
        inside = (strengths >= low) & (strengths <= high)
        if inside.any():
            at = detection(null, found[inside], scene.alarms[0])
            rows.append({"strength": (low + high) / 2, "detections": at.rate, "low": at.low, "high": at.high})
    return rows
