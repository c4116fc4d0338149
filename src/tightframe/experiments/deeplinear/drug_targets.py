"""P8 on data: held-out interactions of drugs and targets, by deep completion, nuclear norm and least squares."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold
from torch import Tensor

from tightframe.core.errors import InputError
from tightframe.data.ratings import drug_targets
from tightframe.deeplinear.alternating import alternating_least_squares
from tightframe.deeplinear.completion import DeepMatrixCompletion
from tightframe.deeplinear.nuclear_norm import soft_impute, threshold_by_held_out
from tightframe.deeplinear.observations import Observations, observe
from tightframe.deeplinear.path import balanced, descend_observed, leading_components, spectral_network
from tightframe.deeplinear.side_terms import side_terms
from tightframe.experiments.catalog import entry
from tightframe.experiments.measured import standard_error
from tightframe.experiments.study import Findings, Study, Sweep
from tightframe.runs.record import Claim, Panel, table_of

_SOURCE = "beyond the source: L6's claim that depth lowers overfitting, on data"
_OURS, _DESCENT, _NUCLEAR, _LEAST, _EFFECTS = (
    "DeepMatrixCompletion",
    "deep descent, stopped early",
    "nuclear norm (soft-impute)",
    "least squares",
    "row and column effects",
)
_METHODS = (_OURS, _DESCENT, _NUCLEAR, _LEAST, _EFFECTS)
_BASELINES = (_NUCLEAR, _LEAST)
_SCORES = ("AUC", "AUPR")
# Of the observed entries, those that choose a threshold, a rank or a number of steps.
_HELD_OUT = 0.1
_SMALL, _MOMENTUM, _STEPS, _PATIENCE = 0.03, 0.9, 1500, 200

Row = dict[str, float | int | str | None]


@dataclass(frozen=True)
class Config:
    """Which matrices are completed.

    Args:
        sets: Among "nr" (nuclear receptors), "gpcr", "ic" (ion channels) and "e" (enzymes).
        folds: Parts of all entries, with as many interactions each, of which one at a time is held out.
        used: How many of these are.
        rank: Largest rank of the completion and of least squares; the deep networks have twice as many columns.
        seed: Of the folds.
    """

    sets: tuple[str, ...] = ("nr",)
    folds: int = 10
    used: int = 2
    rank: int = 6
    seed: int = 0


PRESETS = {
    "smoke": Config(),
    "quick": Config(("nr", "gpcr", "ic"), used=10, rank=8),
    "paper": Config(("nr", "gpcr", "ic", "e"), used=10, rank=20),
}


@dataclass(frozen=True)
class Fold:
    """One method on one fold of one matrix."""

    config: Config
    name: str
    number: int
    method: str
    root: Path | None = None


def investigate(config: Config, sweep: Sweep) -> Findings:
    """Scores by fold of every method, or why there are none."""
    missing = _missing(config, sweep.data_root)
    if missing:
        claims = tuple(_claim(name, score, [], missing) for name, score in product(config.sets, _SCORES))
        return Findings(claims, f"Nothing was measured: {missing}")
    kinds = product(config.sets, range(config.used), _METHODS)
    rows = sweep(score_fold, [Fold(config, *which, sweep.data_root) for which in kinds])
    claims = tuple(_claim(name, score, rows) for name, score in product(config.sets, _SCORES))
    summary = _summary(rows)
    tables = {"folds": table_of(rows), "means": table_of(summary)}
    return Findings(claims, _answer(summary), tables, _panels(config))


def score_fold(fold: Fold) -> Row:
    """AUC and AUPR of the entries that a method has not seen."""
    matrix = torch.from_numpy(drug_targets(fold.name, root=fold.root).matrix)
    hidden = held_out_folds(matrix, fold.config)[fold.number]
    observed = observe(torch.where(hidden, torch.nan, matrix))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        begun = time.process_time()
        scores = _completions()[fold.method](observed, fold.config)[hidden].numpy()
        spent = time.process_time() - begun
    truth = matrix[hidden].numpy()
    row = {"set": fold.name, "fold": fold.number, "method": fold.method}
    row |= {"AUC": float(roc_auc_score(truth, scores)), "AUPR": float(average_precision_score(truth, scores))}
    return row | {"CPU (s)": spent, "warned": "; ".join(str(one.message) for one in said) or None}


def held_out_folds(matrix: Tensor, config: Config) -> list[Tensor]:
    """Masks of the entries of every fold, with the same share of interactions."""
    labels = matrix.reshape(-1).numpy().astype(int)
    parts = StratifiedKFold(config.folds, shuffle=True, random_state=config.seed).split(np.zeros(len(labels)), labels)
    masks = []
    for _, places in parts:
        mask = torch.zeros(len(labels), dtype=torch.bool)
        mask[torch.from_numpy(places)] = True
        masks.append(mask.view_as(matrix))
    return masks


def _completions() -> dict[str, Callable[[Observations, Config], Tensor]]:
    """Every method; all but the first complete what row and column effects leave, as it does itself."""

    def with_effects(fit: Callable[[Observations, Config], Tensor]) -> Callable[[Observations, Config], Tensor]:
        def completed(observed: Observations, config: Config) -> Tensor:
            terms = side_terms(observed)
            rest = observed.with_values(observed.values - terms.at(observed.rows, observed.columns))
            return terms.mean + terms.rows[:, None] + terms.columns + fit(rest, config)

        return completed

    fits = {_DESCENT: _descended, _NUCLEAR: _shrunk, _LEAST: _fitted, _EFFECTS: lambda rest, _: torch.tensor(0.0)}
    return {_OURS: _estimated} | {name: with_effects(fit) for name, fit in fits.items()}


def _estimated(observed: Observations, config: Config) -> Tensor:
    rank = min(config.rank, *observed.shape)
    return DeepMatrixCompletion(rank, biases=True, validation=_HELD_OUT).fit(observed).complete()


def _descended(rest: Observations, config: Config) -> Tensor:
    train, held = rest.split(_HELD_OUT, seed=config.seed)
    network, top = spectral_network(train, min(2 * config.rank, *rest.shape), scale=_SMALL)
    found = descend_observed(
        train,
        network,
        top,
        momentum=_MOMENTUM,
        residual=1e-6,
        max_steps=_STEPS,
        held_out=held,
        patience=_PATIENCE,
    )
    return found.A @ found.B.T


def _shrunk(rest: Observations, config: Config) -> Tensor:
    threshold = threshold_by_held_out(rest, share=_HELD_OUT, seed=config.seed).threshold
    return soft_impute(rest, threshold, tolerance=1e-5, max_steps=500).X


def _fitted(rest: Observations, config: Config) -> Tensor:
    """Alternating least squares of the rank that held-out entries choose."""
    train, held = rest.split(_HELD_OUT, seed=config.seed)
    components = leading_components(train, min(config.rank, *rest.shape))
    errors = {}
    for rank in range(1, len(components[1]) + 1):
        fit = alternating_least_squares(train, *balanced(*components, rank), progress=1e-3, max_sweeps=100)
        errors[rank] = float((held.entries(fit.A, fit.B) - held.values).square().mean())
    best = min(errors, key=errors.__getitem__)
    fit = alternating_least_squares(rest, *balanced(*leading_components(rest, best), best), progress=1e-4)
    return fit.A @ fit.B.T


def _missing(config: Config, root: Path | None) -> str:
    """Why the matrices cannot be read, or nothing."""
    try:
        for name in config.sets:
            drug_targets(name, root=root)
    except InputError as error:
        return f"needs the drug-target matrices: {error}"
    return ""


def _claim(name: str, score: str, rows: Sequence[Row], missing: str = "") -> Claim:
    """That ours is no worse than the better of two baselines, within a standard error of the folds' differences."""
    found = {(row["method"], row["fold"]): row[score] for row in rows if row["set"] == name}
    folds = sorted({fold for _, fold in found})
    best = max(_BASELINES, key=lambda method: mean(found[method, fold] for fold in folds)) if found else ""
    leads = [found[_OURS, fold] - found[best, fold] for fold in folds]
    note = f"{best} {mean(found[best, fold] for fold in folds):.3f}, {len(folds)} folds" if found else ""
    return Claim(
        id=f"P8.drugs.{name}.{score}",
        statement=f"{_OURS} ranks held-out interactions of {name} no worse than the better baseline: lead in {score}",
        source=_SOURCE,
        expected=0.0,
        observed=mean(leads) if leads else None,
        relation=">=",
        tolerance=standard_error(leads) if leads else 0.0,
        note=missing or f"{note}; the tolerance is a standard error over folds",
    )


def _summary(rows: Sequence[Row]) -> list[Row]:
    found = []
    for name, method in dict.fromkeys((row["set"], row["method"]) for row in rows):
        some = [row for row in rows if (row["set"], row["method"]) == (name, method)]
        line: Row = {"set": name, "method": method}
        for score in _SCORES:
            values = [row[score] for row in some]
            line |= {score: mean(values), f"{score}, standard error": standard_error(values)}
        found.append(line | {"CPU (s)": mean(row["CPU (s)"] for row in some)})
    return found


def _answer(summary: Sequence[Row]) -> str:
    parts = []
    for name in dict.fromkeys(row["set"] for row in summary):
        some = [f"{r['method']} {r['AUC']:.3f} and {r['AUPR']:.3f}" for r in summary if r["set"] == name]
        parts.append(f"{name}: {', '.join(some)}")
    return f"Mean AUC and AUPR of held-out entries. {'; '.join(parts)}."


def _panels(config: Config) -> tuple[Panel, ...]:
    caption = f"By fold, {config.used} of {config.folds}; every method adds row and column effects."
    shared = {"kind": "scatter", "table": "folds", "x": "fold", "color": "method", "facet": "set"}
    return tuple(
        Panel(**shared, title=f"Drugs and targets: {score} of held-out entries", caption=caption, y=score)
        for score in _SCORES
    )


EXPERIMENT = Study(entry("drug-targets"), PRESETS, investigate)
