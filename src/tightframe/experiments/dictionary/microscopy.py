"""D9: defects of surfaces found by blind deconvolution, simulated with the truth known and measured with labels."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path

import numpy as np
import torch

from tightframe.core.errors import InputError
from tightframe.data.location import data_file
from tightframe.data.pictured.superpositions import SuperpositionTruth, superposition
from tightframe.data.pictured.topographs import defect_kernels, measured_density, ring_kernels, simulated_densities
from tightframe.dictionary.blind.deconvolution import ShortAndSparseDeconvolution
from tightframe.dictionary.convolutional.several_kernels import deconvolve_several
from tightframe.dictionary.detection import Counts
from tightframe.dictionary.images.background import without_background
from tightframe.dictionary.images.defects import Defects, find_defects
from tightframe.experiments.catalog import entry
from tightframe.experiments.dictionary.surface_labels import METHODS, held_out, scored, thresholds
from tightframe.experiments.study import Findings, Study, Sweep
from tightframe.runs.pictures import picture
from tightframe.runs.record import Cell, Claim, Panel, table_of

_SOURCE = "Q21, first half: defect detection in scanning tunnelling microscopy"
_TRUTH = "[lau2020short], simulated topographs"

Row = dict[str, Cell]


@dataclass(frozen=True)
class Config:
    """What is deconvolved.

    Args:
        patterns: "rings" (analytic, no files) or "densities" (simulated local densities of states).
        kernels: K.
        size: Side of a kernel.
        side: Side of an image.
        density: Probability of every kernel at every pixel.
        noises: Standard deviations, for kernels of unit norm.
        seeds: Images per noise.
        labelled: Whether the labelled topographs are searched.
        measured: Whether the measured map is shown.
    """

    patterns: tuple[str, ...] = ("rings",)
    kernels: int = 2
    size: int = 16
    side: int = 96
    density: float = 3e-3
    noises: tuple[float, ...] = (0.02, 0.05)
    seeds: tuple[int, ...] = (0,)
    labelled: bool = False
    measured: bool = False


# Slices 18 and 25 of the 25 simulated energies, counted from one, as the demonstration of the sources.
_SLICES = [17, 24]
_QUICK = Config(patterns=("rings", "densities"), size=32, side=256, noises=(0.05,), labelled=True, measured=True)
PRESETS = {
    "smoke": Config(),
    "quick": _QUICK,
    "paper": replace(_QUICK, noises=(0.02, 0.05, 0.1), seeds=(0, 1, 2)),
}


@dataclass(frozen=True)
class Case:
    """One simulated topograph."""

    pattern: str
    noise: float
    seed: int
    config: Config
    root: Path | None


def investigate(config: Config, sweep: Sweep) -> Findings:
    """Simulated topographs against their truth, labelled ones against a blob detector, and a measured map."""
    cases = [
        Case(pattern, noise, seed, config, sweep.data_root)
        for pattern in config.patterns
        for noise in config.noises
        for seed in config.seeds
    ]
    outcomes = sweep(simulated, cases)
    rows = [row for row, _ in outcomes]
    pictures = [one for _, shown in outcomes[:1] for one in shown]
    tables = {"simulated": table_of(rows)}
    claims, panels = list(_simulated_claims(rows)), []
    found: list[Row] = []
    if config.labelled:
        every = thresholds(scored(sweep.data_root))
        found = held_out(every)
        tables |= {"topographs": table_of(found), "thresholds": table_of(_pooled(every))}
        panels.append(_panel())
    claims.append(_labelled_claim(found))
    if config.measured:
        row, shown = measured(sweep.data_root)
        tables["measured map"] = table_of([row])
        pictures += shown
    tables["pictures"] = table_of(pictures)
    return Findings(tuple(claims), _answer(rows, found), tables, tuple(panels))


def simulated(case: Case) -> tuple[Row, list[Row]]:
    """Scores of one simulated topograph, and what is to be seen of it."""
    config = case.config
    kernels = patterns(case.pattern, config, case.root)
    truth = superposition(kernels, (config.side, config.side), density=config.density, noise=case.noise, seed=case.seed)
    begun = time.process_time()
    image = torch.from_numpy(truth.image[None])
    size = (config.size, config.size)
    found = deconvolve_several(image, config.kernels, size, positive=True, boundary="circular", seed=case.seed)
    learned, clean = found.kernels.numpy(), found.reconstruction[0].numpy()
    defects = find_defects(found.maps[0].numpy(), learned, residual=truth.image - clean, anchor="start", confidence=0.9)
    seconds = time.process_time() - begun
    matches, counts = against_truth(defects, learned, truth)
    row = {"patterns": case.pattern, "noise": case.noise, "seed": case.seed, "defects": int((truth.maps != 0).sum())}
    row |= {"kernel match, worst": min(matches), "precision": counts.precision, "recall": counts.recall}
    row |= {"F1": counts.f1, "noise measured": float(found.noise), "starts": len(found.trace), "CPU (s)": seconds}
    limits = tuple(float(value) for value in np.percentile(truth.image, (1, 99)))
    shown = [(f"{case.pattern}: topograph", truth.image, limits), (f"{case.pattern}: reconstruction", clean, limits)]
    for name, some in (("true", kernels), ("found", learned)):
        shown += [(f"{name} kernel {k}", one, (-np.abs(one).max(), np.abs(one).max())) for k, one in enumerate(some)]
    return row, [{"what": what, "picture": picture(one, span, least=96)} for what, one, span in shown]


def patterns(name: str, config: Config, root: Path | None) -> np.ndarray:
    """Kernels (K, size, size) of unit norm."""
    if name == "rings":
        return ring_kernels(config.kernels, config.size)
    if name != "densities" or config.kernels != len(_SLICES):
        raise InputError("patterns rings, or densities of 2 kernels", got=repr(name), remedy="Use rings.")
    return defect_kernels(simulated_densities(root=root)[_SLICES], config.size)


def against_truth(defects: Defects, kernels: np.ndarray, truth: SuperpositionTruth) -> tuple[list[float], Counts]:
    """How well every true kernel is matched, up to a shift; and how many defects are where that kernel truly is.

    Kernels are paired so that the sum of matches is largest. A defect counts where it lies within a pixel of a true
    one of its kernel, after the shift of the kernel is taken into account.
    """
    pairs = {
        (found, true): _aligned(kernels[found], truth.kernels[true])
        for found in range(len(kernels))
        for true in range(len(truth.kernels))
    }
    best = max(permutations(range(len(kernels))), key=lambda order: sum(pairs[f, t][0] for t, f in enumerate(order)))
    counts, matches = Counts(0, 0, 0), []
    for true, found in enumerate(best):
        match, shift = pairs[found, true]
        matches.append(match)
        places = defects.starts[defects.kernels == found] + shift
        counts += _within_a_pixel(places, np.argwhere(truth.maps[true] != 0), truth.image.shape)
    return matches, counts


def _aligned(found: np.ndarray, true: np.ndarray) -> tuple[float, np.ndarray]:
    """Largest correlation over shifts, and where the true kernel begins in the window of the found one."""
    from scipy.signal import fftconvolve

    correlation = fftconvolve(found, true[::-1, ::-1], mode="full")
    place = np.unravel_index(correlation.argmax(), correlation.shape)
    return float(correlation.max()), np.array(place) - (np.array(true.shape) - 1)


def _within_a_pixel(found: np.ndarray, true: np.ndarray, shape: tuple[int, ...]) -> Counts:
    from scipy.optimize import linear_sum_assignment

    apart = np.mod(found[:, None] - true[None] + np.array(shape) / 2, shape) - np.array(shape) / 2
    near = np.abs(apart).max(axis=2, initial=0.0) <= 1
    hits = int(near[linear_sum_assignment(near, maximize=True)].sum())
    return Counts(hits, len(true) - hits, len(found) - hits)


def measured(root: Path | None) -> tuple[Row, list[Row]]:
    """One kernel of the measured map: what it explains, and what is to be seen. No truth is known."""
    path = data_file("stm/realdata.mat", root=root)
    image = without_background(measured_density(root=root)[None], "plane", (20, 20))
    model = ShortAndSparseDeconvolution((20, 20)).fit(image)
    left = float(np.square(image - model.reconstruction_).sum() / np.square(image).sum())
    row = {"map": path.name, "activations": int((model.activations_ != 0).sum()), "variance explained": 1 - left}
    limits = tuple(float(value) for value in np.percentile(image, (1, 99)))
    places = np.abs(model.activations_[0])
    shown = [("measured map", image[0], limits), ("its reconstruction", model.reconstruction_[0], limits)]
    shown.append(("its kernel", model.kernel_, (-np.abs(model.kernel_).max(), np.abs(model.kernel_).max())))
    shown.append(("its activations", places, (0.0, float(places.max()) or 1.0)))
    return row | {"status": str(model.solution_.status)}, [
        {"what": what, "picture": picture(one, span, least=96)} for what, one, span in shown
    ]


def _simulated_claims(rows: Sequence[Row]) -> tuple[Claim, ...]:
    note = f"{len(rows)} simulated topographs; several kernels, places and sizes unknown, no step size or start chosen"
    match = min(row["kernel match, worst"] for row in rows)
    return (
        Claim(
            id="D9.kernels",
            statement="Blind deconvolution finds the kernels of simulated defects: correlation, worst kernel",
            source=_TRUTH,
            expected=0.97,
            observed=match,
            relation=">=",
            note=note,
        ),
        Claim(
            id="D9.defects",
            statement="It finds the defects, to a pixel and of the right kernel: F1, worst topograph",
            source=_TRUTH,
            expected=0.95,
            observed=min(row["F1"] for row in rows),
            relation=">=",
            note=note,
        ),
    )


def _labelled_claim(found: Sequence[Row]) -> Claim:
    total = {row["method"]: row["F1"] for row in found if row["topograph"] == "all"}
    rival = max((total[name] for name in METHODS[1:]), default=None) if total else None
    return Claim(
        id="D9.topographs",
        statement="On labelled WSe2 topographs it finds defects as well as a blob detector of their size: lead in F1",
        source=_SOURCE,
        expected=0.0,
        observed=None if rival is None else total[METHODS[0]] - rival,
        relation=">=",
        note="the better of two blob detectors; sizes, penalties and thresholds of each chosen on the other images"
        if total
        else "needs the labelled topographs: preset quick with --data-root",
    )


def _pooled(every: Sequence[Row]) -> list[Row]:
    """Precision and recall over all images by method, setting and threshold."""
    pooled: dict[tuple[str, str, float], Counts] = {}
    for row in every:
        key = (row["method"], row["setting"], row["threshold"])
        counts = Counts(row["hits"], row["misses"], row["extras"])
        pooled[key] = pooled.get(key, Counts(0, 0, 0)) + counts
    return [
        {"method": name, "setting": setting, "threshold": level}
        | {"precision": c.precision, "recall": c.recall, "F1": c.f1}
        for (name, setting, level), c in pooled.items()
    ]


def _panel() -> Panel:
    return Panel(
        kind="scatter",
        title="Labelled topographs: precision and recall",
        caption="Over all boxes of all images, one point per setting and threshold.",
        table="thresholds",
        x="recall",
        y="precision",
        color="method",
    )


def _answer(rows: Sequence[Row], found: Sequence[Row]) -> str:
    match, score = (min(row[name] for row in rows) for name in ("kernel match, worst", "F1"))
    text = f"Of {len(rows)} simulated topographs the worst has kernels matched to {match:.3f} and F1 {score:.3f}."
    total = [row for row in found if row["topograph"] == "all"]
    if not total:
        return text
    listed = "; ".join(
        f"{row['method']} precision {row['precision']:.2f}, recall {row['recall']:.2f}, F1 {row['F1']:.2f}"
        for row in total
    )
    return f"{text} On labelled topographs: {listed}."


EXPERIMENT = Study(entry("microscopy"), PRESETS, investigate)
