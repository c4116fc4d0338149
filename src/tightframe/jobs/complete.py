"""Complete a matrix from a table of entries: predictions, error by fold, spectrum and convergence."""

from __future__ import annotations

import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.data.ratings import Triples, read_pairs, read_triples, write_triples
from tightframe.deeplinear.completion import DeepMatrixCompletion
from tightframe.deeplinear.observations import Observations, observe
from tightframe.deeplinear.side_terms import averages
from tightframe.jobs.complete_options import CompleteOptions
from tightframe.runs.environment import describe
from tightframe.runs.record import Cell, Panel, Record, table_of
from tightframe.runs.store import RunDirectory
from tightframe.training.fabric import connect

_PLACES = ("out", "accelerator", "quiet")
# Rows of the traces shown in the report.
_SHOWN = 200


def complete(options: CompleteOptions) -> Record:
    """Complete the matrix that the options name; write predictions and record.

    Raises:
        InputError: A table that cannot be read, names in `pairs` that the ratings lack, or as for the estimator.
    """
    started, clock = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
    _check(options)
    triples = read_triples(options.ratings, row=options.row, column=options.column, value=options.value)
    asked = None if options.pairs is None else _places(options.pairs, triples, row=options.row, column=options.column)
    device = connect(accelerator=options.accelerator).device
    given = (triples.rows, triples.columns, triples.values)
    observed = observe(
        tuple(torch.from_numpy(part).to(device) for part in given), shape=triples.shape, duplicates=options.duplicates
    )
    if options.folds > len(observed):
        raise InputError("an entry for every fold", got=f"{len(observed)} entries", remedy="Lower --folds.")
    config = {key: value for key, value in asdict(options).items() if key not in _PLACES}
    config |= {key: value.name for key, value in config.items() if isinstance(value, Path)}
    with RunDirectory.create(options.out, config=config) as directory:
        model = _model(options).fit(observed)
        predicted = _best(model, triples, options) if asked is None else _asked(model, triples, asked, options)
        folds = _folds(observed, options)
        write_triples(options.out / "predictions.csv", predicted)
        record = _record(model, triples, folds, options, config, started, time.perf_counter() - clock)
        directory.save_record(record)
    return record


def _check(options: CompleteOptions) -> None:
    if options.folds < 0 or options.folds == 1:
        raise InputError("0 or at least 2 folds", got=f"folds={options.folds}", remedy="Use 5.")
    if not 0 <= options.coverage < 1:
        raise InputError("a coverage in [0, 1)", got=repr(options.coverage), remedy="Use 0.9, or 0 for no intervals.")
    if options.coverage > 0 and options.pairs is None:
        raise InputError(
            "pairs to give intervals for",
            got=f"coverage={options.coverage:g} and no pairs",
            remedy="Pass --pairs: what is chosen for its large prediction has no interval that holds so often.",
        )
    check_count(options.top, "top")


def _model(options: CompleteOptions, *, calibrate: bool | None = None) -> DeepMatrixCompletion:
    return DeepMatrixCompletion(
        "auto" if options.rank is None else options.rank,
        options.depth,
        biases=options.biases,
        validation=options.validation,
        calibrate=options.coverage > 0 if calibrate is None else calibrate,
        seed=options.seed,
        verbose=not options.quiet,
    )


def _best(model: DeepMatrixCompletion, triples: Triples, options: CompleteOptions) -> dict[str, np.ndarray]:
    """The best new columns of every row."""
    rows = np.arange(triples.shape[0])
    best, values = model.recommend(rows, top=min(options.top, triples.shape[1]))
    kept = best.ravel() >= 0
    rows, columns = np.repeat(rows, best.shape[1])[kept], best.ravel()[kept]
    return _named(triples, rows, columns, {"predicted": values.ravel()[kept]})


def _asked(
    model: DeepMatrixCompletion, triples: Triples, asked: tuple[np.ndarray, np.ndarray], options: CompleteOptions
) -> dict[str, np.ndarray]:
    """The places asked for. Every row and column of the table has an entry, so that nothing falls back on averages."""
    found = {"predicted": model.predict(*asked)}
    if options.coverage > 0:
        found["low"], found["high"] = model.predict_interval(*asked, coverage=options.coverage)
    return _named(triples, *asked, found)


def _places(path: Path, triples: Triples, *, row: str | None, column: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the places that a table names."""
    pairs = read_pairs(path, row=row, column=column)
    found = []
    for (index, names), known, what in (
        (pairs[0], triples.row_names, "rows"),
        (pairs[1], triples.column_names, "columns"),
    ):
        # As text: one table may have numbers only, and the other not.
        places = {str(name): place for place, name in enumerate(known.tolist())}
        missing = [name for name in map(str, names.tolist()) if name not in places]
        if missing:
            raise InputError(
                f"{what} that the ratings have",
                got=f"{len(missing)} others in {path}, the first {missing[0]!r}",
                remedy="Remove them: nothing is known about them.",
            )
        found.append(np.array([places[str(name)] for name in names.tolist()])[index])
    return found[0], found[1]


def _named(
    triples: Triples, rows: np.ndarray, columns: np.ndarray, values: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    return {"row": triples.row_names[rows], "column": triples.column_names[columns], **values}


def _folds(observed: Observations, options: CompleteOptions) -> list[dict[str, Cell]]:
    """Errors of every fold, predicted from the others, beside those of averages of rows and columns."""
    if not options.folds:
        return []
    order = torch.randperm(len(observed), generator=generator(options.seed)).to(observed.rows.device)
    fold = torch.empty_like(order)
    fold[order] = torch.arange(len(observed), device=order.device) % options.folds
    rows: list[dict[str, Cell]] = []
    for number in range(options.folds):
        train, held = observed.subset(fold != number), observed.subset(fold == number)
        model = _model(options, calibrate=False).fit(train)
        errors = {
            "completed": model.errors(held),
            "averages": averages(train).at(held.rows, held.columns) - held.values,
        }
        for what, error in errors.items():
            row: dict[str, Cell] = {"fold": number + 1, "prediction": what, "entries": len(held)}
            row |= {"RMSE": float(error.square().mean().sqrt()), "MAE": float(error.abs().mean())}
            rows.append(row | {"rank": model.rank_ if what == "completed" else None})
    return rows


def _record(
    model: DeepMatrixCompletion,
    triples: Triples,
    folds: list[dict[str, Cell]],
    options: CompleteOptions,
    config: dict[str, Any],
    started: str,
    seconds: float,
) -> Record:
    spectrum: list[dict[str, Cell]] = []
    for name, values in (("deep network", model.spectrum_), ("completed", model.singular_values_)):
        spectrum += [
            {"matrix": name, "number": at + 1, "singular value": value} for at, value in enumerate(values.tolist())
        ]
    trace = list(model.trace_)
    trace = trace[:: max(1, len(trace) // _SHOWN)]
    summary = {
        "rows": triples.shape[0],
        "columns": triples.shape[1],
        "entries": model.n_observed_,
        "share observed": f"{model.n_observed_ / (triples.shape[0] * triples.shape[1]):.3g}",
        "rank": model.rank_,
        "fit": model.method_,
        "status": str(model.solution_.status),
    }
    tables = {
        "summary": table_of([{"what": key, "value": str(value)} for key, value in summary.items()]),
        "spectrum": table_of(spectrum or [{"matrix": "completed", "number": 0, "singular value": 0.0}]),
        "convergence": table_of([{"step": row["step"], "residual": row["residual"]} for row in trace]),
        "folds": table_of(folds),
        "held out": table_of([{"fit": name, "RMSE": error} for name, error in model.held_out_.items()]),
    }
    tables = {name: table for name, table in tables.items() if table and next(iter(table.values()))}
    return Record(
        name=options.out.resolve().name,
        title=f"Completion of {options.ratings.name}",
        question="What are the entries that were not observed?",
        answer=_answer(model, folds, triples),
        config=config,
        environment=describe(),
        tables=tables,
        panels=tuple(panel for panel in _PANELS if panel.table in tables),
        started=started,
        seconds=seconds,
    )


def _answer(model: DeepMatrixCompletion, folds: list[dict[str, Cell]], triples: Triples) -> str:
    text = (
        f"{triples.shape[0]} x {triples.shape[1]}, {model.n_observed_} entries: rank {model.rank_} ({model.method_})."
    )
    if not folds:
        return text
    means = {}
    for what in ("completed", "averages"):
        means[what] = float(np.mean([row["RMSE"] for row in folds if row["prediction"] == what]))
    count = len(folds) // 2
    return f"{text} RMSE over {count} folds {means['completed']:.4g}; averages alone {means['averages']:.4g}."


_PANELS = (
    Panel(
        kind="scatter",
        title="Singular values",
        caption="Of the deep network when the rank was read, and of the completed matrix without side terms.",
        table="spectrum",
        x="number",
        y="singular value",
        color="matrix",
    ),
    Panel(
        kind="curves",
        title="Convergence",
        caption="Residual of the observed entries over their norm: steps of the descent, then sweeps of least squares.",
        table="convergence",
        x="step",
        y="residual",
        y_scale="log",
    ),
    Panel(
        kind="scatter",
        title="Error by fold",
        caption="Each fold predicted from the others, beside averages of rows and columns.",
        table="folds",
        x="fold",
        y="RMSE",
        color="prediction",
    ),
)
