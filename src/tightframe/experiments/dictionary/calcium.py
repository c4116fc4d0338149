"""D9: spikes from calcium traces by deconvolution that learns the response, beside a solver that is told its family."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np

from tightframe.data.recorded.calcium import calcium_response, calcium_trace, spikefinder
from tightframe.dictionary.blind.deconvolution import ShortAndSparseDeconvolution
from tightframe.dictionary.detection import binned_correlation
from tightframe.dictionary.images.background import structured_level, without_background
from tightframe.experiments.catalog import entry
from tightframe.experiments.study import Findings, Study, Sweep
from tightframe.runs.record import Cell, Claim, Panel, table_of

_SOURCE = "Q21, first half: two-photon calcium imaging"
_BLIND, _TOLD, _FAMILY = "blind", "OASIS, true time constants", "OASIS, AR(2) estimated"
# Frames and bins per second of simulated traces, and of recorded ones.
_RATE, _BINS, _RECORDED = 30.0, 10.0, 25.0
# Frames around a spike of which the recorded ones are smooth: they were resampled to four times their number.
_SMOOTH = 6
# Frames of every neuron from which the response is learned; all of them are coded.
_LONGEST = 2000
# Frames of which the running median under a trace is eight times as long.
_SLOW = 40
# Penalty, in units of noise and waves seen through a smooth bump of six frames.
_ALPHA = 0.3

Row = dict[str, Cell]


@dataclass(frozen=True)
class Config:
    """What is deconvolved.

    Args:
        frames: Of a simulated trace, at 30 per second.
        noises: Standard deviations, relative to the peak of one spike.
        pooled: Traces of one indicator that are deconvolved together.
        seeds: Pools per noise.
        length: Frames of the response that is looked for.
        sets: Spikefinder sets with true spikes.
        kernel: Frames of the response looked for in them, at 25 per second.
        starts: Starts at most there.
    """

    frames: int = 3000
    noises: tuple[float, ...] = (0.1, 0.3)
    pooled: int = 4
    seeds: tuple[int, ...] = (0,)
    length: int = 90
    sets: tuple[int, ...] = ()
    kernel: int = 25
    starts: int = 1


PRESETS = {
    "smoke": Config(),
    "quick": Config(frames=10_000, seeds=(0, 1), sets=(4, 5)),
    "paper": Config(frames=10_000, noises=(0.05, 0.1, 0.2, 0.3), seeds=(0, 1, 2, 3, 4), sets=(4, 5), starts=4),
}


@dataclass(frozen=True)
class Case:
    """Simulated traces of one indicator, or a set of recorded ones where `number` is given."""

    config: Config
    noise: float = 0.0
    seed: int = 0
    number: int | None = None
    root: Path | None = None


def investigate(config: Config, sweep: Sweep) -> Findings:
    """Correlations with true spikes, simulated and recorded."""
    cases = [Case(config, noise, seed) for noise in config.noises for seed in config.seeds]
    outcomes = sweep(simulated, cases)
    rows = [row for found, _ in outcomes for row in found]
    tables = {"simulated": table_of(rows), "responses": table_of(outcomes[0][1])}
    recorded_rows: list[Row] = []
    if config.sets:
        sets = sweep(recorded, [Case(config, number=number, root=sweep.data_root) for number in config.sets])
        recorded_rows = [row for found in sets for row in found]
        tables["spikefinder"] = table_of(recorded_rows)
    claims = (*_simulated_claims(rows), _recorded_claim(recorded_rows))
    return Findings(claims, _answer(rows, recorded_rows), tables, _panels(bool(recorded_rows)))


def simulated(case: Case) -> tuple[list[Row], list[Row]]:
    """Rows of every method on one pool of traces, and the response found beside the true one."""
    config = case.config
    traces = [
        calcium_trace(config.frames, noise=case.noise, seed=1000 * case.seed + number, rate=_RATE)
        for number in range(config.pooled)
    ]
    values, truth = (np.stack([getattr(one, name) for one in traces]) for name in ("fluorescence", "spikes"))
    begun = time.process_time()
    model = ShortAndSparseDeconvolution(config.length, positive=True, boundary="valid", seed=case.seed).fit(values)
    spent = time.process_time() - begun
    found = {_BLIND: (model.activations_, spent), **_told(values, _RATE)}
    rows = []
    for method, (spikes, seconds) in found.items():
        scores = None if spikes is None else _scores(spikes, truth, _RATE, _BINS)
        row = {"noise": case.noise, "seed": case.seed, "method": method}
        row["correlation"] = None if scores is None else float(np.mean(scores))
        row["worst trace"] = None if scores is None else float(min(scores))
        rows.append(row | {"CPU (s)": seconds if scores is not None else None})
    true = calcium_response(_RATE)[: config.length]
    shapes = {"true": true / np.linalg.norm(true), "found": model.kernel_}
    curve = [
        {"response": name, "seconds": frame / _RATE, "value": float(value)}
        for name, kernel in shapes.items()
        for frame, value in enumerate(kernel)
    ]
    return rows, curve


def recorded(case: Case) -> list[Row]:
    """Rows of every method for every neuron of one set, at 25 frames per second; each with its own response."""
    neurons = spikefinder(case.number, root=case.root)
    width = round(neurons[0].rate / _RECORDED)
    length = min(len(one.spikes) for one in neurons) // width * width
    # Resampled traces are smooth at 100 frames per second; their averages over four frames lose nothing that is scored.
    values = np.stack([one.fluorescence[:length].reshape(-1, width).mean(axis=1) for one in neurons])
    truth = np.stack([one.spikes[:length].reshape(-1, width).sum(axis=1) for one in neurons])
    size = case.config.kernel
    values = without_background(values, "high-pass", (_SLOW,))
    values /= structured_level(values, (_SMOOTH,))[:, None]
    # Neurons fire in bursts: what the l1 norm spreads over frames tells more of them than few large activations do.
    options = {"alpha": _ALPHA, "positive": True, "boundary": "valid", "reweightings": 0}
    options["n_starts"] = case.config.starts
    blind = []
    for one in values[:, None]:
        model = ShortAndSparseDeconvolution(size, **options).fit(one[:, :_LONGEST])
        blind.append(model.transform(one)[0])
    found = {_BLIND: np.stack(blind), **{name: spikes for name, (spikes, _) in _told(values, _RECORDED).items()}}
    rows = []
    for method, spikes in found.items():
        for neuron in range(len(values)):
            score = None if spikes is None else _score(spikes[neuron], truth[neuron], _RECORDED, _RECORDED)
            row = {"set": case.number, "neuron": neuron, "method": method, "correlation at 25 Hz": score}
            rows.append(row | {"spikes per second": float(truth[neuron].mean() * _RECORDED)})
    return rows


def _told(values: np.ndarray, rate: float) -> dict[str, tuple[np.ndarray | None, float]]:
    """Spikes and CPU seconds of OASIS, which is told that the response is autoregressive; None where not installed."""
    settings = {_FAMILY: {"g": (None, None)}, _TOLD: {"tau_d": 0.7, "tau_r": 0.07, "framerate": rate}}
    if rate == _RECORDED:
        settings = {_FAMILY: settings[_FAMILY]}
    try:
        deconvolve = import_module("oasis.functions").deconvolve
    except ImportError:
        return dict.fromkeys(settings, (None, 0.0))
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        deconvolve(values[0][:200], penalty=1)  # what is compiled on first use is not timed
        for name, options in settings.items():
            begun = time.process_time()
            spikes = np.stack([np.asarray(deconvolve(one, penalty=1, **options)[1]) for one in values])
            found[name] = (spikes, time.process_time() - begun)
    return found


def _scores(spikes: np.ndarray, truth: np.ndarray, rate: float, bins: float) -> list[float]:
    return [_score(found, true, rate, bins) for found, true in zip(spikes, truth, strict=True)]


def _score(found: np.ndarray, true: np.ndarray, rate: float, bins: float) -> float:
    """Correlation in bins; 0 for a method that finds nothing."""
    return binned_correlation(found, true, rate=rate, bins=bins) if np.ptp(found) > 0 else 0.0


def _simulated_claims(rows: Sequence[Row]) -> tuple[Claim, ...]:
    low = [row for row in rows if row["noise"] == 0.1]
    return (
        Claim(
            id="D9.calcium",
            statement="Blind deconvolution finds spikes at noise 0.1: correlation in bins of 0.1 s, worst pool",
            source=_SOURCE,
            expected=0.97,
            observed=min((row["correlation"] for row in low if row["method"] == _BLIND), default=None),
            relation=">=",
            note="no shift of time is allowed for" if low else "needs noise 0.1",
        ),
        _lead(low, "D9.calcium.family", "noise 0.1"),
        _lead([row for row in rows if row["noise"] > 0.1], "D9.calcium.noisy", "noise above 0.1"),
    )


def _lead(rows: Sequence[Row], name: str, where: str) -> Claim:
    """How far the blind method is ahead of the one that is told the family, in the pool where it is least."""
    pools = {(row["noise"], row["seed"], row["method"]): row["correlation"] for row in rows}
    leads = [
        pools[noise, seed, _BLIND] - pools[noise, seed, _FAMILY]
        for noise, seed, method in pools
        if method == _FAMILY and pools[noise, seed, _FAMILY] is not None
    ]
    return Claim(
        id=name,
        statement=f"Blind deconvolution is no worse than OASIS with an estimated AR(2), {where}: lead, worst pool",
        source=_SOURCE,
        expected=0.0,
        observed=min(leads, default=None),
        relation=">=",
        note=f"{len(leads)} pools" if leads else "needs such a noise and the package oasis-deconv",
    )


def _recorded_claim(rows: Sequence[Row]) -> Claim:
    means = _means(rows)
    known = means.get(_FAMILY) is not None
    return Claim(
        id="D9.spikefinder",
        statement="On recorded neurons it is no worse than OASIS with an estimated AR(2): lead in correlation at 25 Hz",
        source=_SOURCE,
        expected=0.0,
        observed=means[_BLIND] - means[_FAMILY] if known else None,
        relation=">=",
        note=f"mean over {sum(row['method'] == _BLIND for row in rows)} neurons"
        if known
        else "needs the spikefinder sets (preset quick with --data-root) and the package oasis-deconv",
    )


def _means(rows: Sequence[Row]) -> dict[str, float | None]:
    found: dict[str, list[float]] = {}
    for row in rows:
        found.setdefault(row["method"], []).append(row["correlation at 25 Hz"])
    return {name: None if None in values else float(np.mean(values)) for name, values in found.items()}


def _answer(rows: Sequence[Row], recorded_rows: Sequence[Row]) -> str:
    parts = []
    for noise in dict.fromkeys(row["noise"] for row in rows):
        some = [row for row in rows if row["noise"] == noise and row["correlation"] is not None]
        methods = dict.fromkeys(row["method"] for row in some)
        means = [f"{m} {np.mean([r['correlation'] for r in some if r['method'] == m]):.3f}" for m in methods]
        parts.append(f"noise {noise:g}: {', '.join(means)}")
    text = f"Correlation with simulated spikes: {'; '.join(parts)}."
    means = [f"{name} {value:.3f}" for name, value in _means(recorded_rows).items() if value is not None]
    return f"{text} With recorded ones at 25 Hz: {', '.join(means)}." if means else text


def _panels(with_recorded: bool) -> tuple[Panel, ...]:
    panels = [
        Panel(
            kind="curves",
            title="The response to one spike",
            caption="True and found, of unit norm, in the first pool of traces.",
            table="responses",
            x="seconds",
            y="value",
            color="response",
        ),
        Panel(
            kind="scatter",
            title="Simulated traces",
            caption="Mean correlation with the true spikes in bins of 0.1 s, by pool.",
            table="simulated",
            x="noise",
            y="correlation",
            color="method",
        ),
    ]
    if with_recorded:
        panels.append(
            Panel(
                kind="scatter",
                title="Recorded neurons",
                caption="Correlation with the spikes of an electrode at 25 Hz.",
                table="spikefinder",
                x="neuron",
                y="correlation at 25 Hz",
                color="method",
                facet="set",
            )
        )
    return tuple(panels)


EXPERIMENT = Study(entry("calcium"), PRESETS, investigate)
