"""Train one network in several ways, resumable and in parallel, and put the runs side by side."""

from __future__ import annotations

import time
import types
import typing
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime
from itertools import product
from typing import Any, Literal

import torch

from tightframe.core.errors import InputError
from tightframe.jobs.options import SweepOptions, TrainOptions
from tightframe.jobs.train import train
from tightframe.runs.environment import describe
from tightframe.runs.record import Cell, Panel, Record, Table, series_table, table_of
from tightframe.runs.series import curves, rows_of
from tightframe.runs.store import RunDirectory

# What says where and how fast, and so cannot differ between the runs of a comparison.
_PLACES = ("out", "data_root", "workers", "accelerator", "resume", "quiet")
_SHOWN = ("NC1", "NC2 features", "NC3")


def sweep(options: SweepOptions) -> tuple[Record, list[Record]]:
    """Train every combination of the values in `options.vary`, each in its own directory below `options.out`.

    An interrupted sweep goes on with `options.resume`: finished runs are read back, the others go on. Where
    `options.processes` is more than one, the runs go to joblib: processes of this machine unless
    `joblib.parallel_config` names a cluster, whose workers must see `options.out`, best given as an absolute path.

    Returns:
        The comparison, saved in `options.out`, and the records of the runs.

    Raises:
        InputError: Nothing varies, an option that does not exist or a value that does not fit it, or as for `train`.
    """
    started, clock = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
    choices = _choices(options)
    runs = planned(options)
    config = {key: value for key, value in asdict(options).items() if key not in (*_PLACES, "processes")}
    config = {key: list(value) if isinstance(value, tuple) else value for key, value in config.items()}
    with RunDirectory.create(options.out, config=config, resume=options.resume) as directory:
        records = _trained(runs, options.processes)
        settings = product(*([text for text, _ in values] for values in choices.values()))
        rows = [
            dict(zip(choices, texts, strict=True)) | _row(one) for texts, one in zip(settings, records, strict=True)
        ]
        record = Record(
            name=options.out.resolve().name,
            title=f"{options.model} on {options.data}, trained in {len(runs)} ways",
            question=f"What do {_words(list(choices))} change?",
            answer=_answer(dict(zip(runs, rows, strict=True))),
            config=config,
            environment=describe(),
            series=_joined(runs, records),
            tables={"comparison": table_of(rows)},
            panels=_panels(),
            started=started,
            seconds=time.perf_counter() - clock,
        )
        directory.save_record(record)
    return record, records


def planned(options: SweepOptions) -> dict[str, TrainOptions]:
    """The runs by name, in the order of the values given."""
    choices = _choices(options)
    base = {entry.name: getattr(options, entry.name) for entry in fields(TrainOptions)}
    runs: dict[str, TrainOptions] = {}
    for values in product(*choices.values()):
        name = ", ".join(f"{key} {text}" for key, (text, _) in zip(choices, values, strict=True))
        folder = "-".join(_slug(text) for text, _ in values)
        changed = {key: value for key, (_, value) in zip(choices, values, strict=True)}
        runs[name] = replace(TrainOptions(**base), **changed, out=options.out / "runs" / folder)
    places = [run.out for run in runs.values()]
    if len(set(places)) < len(places):
        raise InputError("values that differ in letters or digits", got=", ".join(runs), remedy="Leave one out.")
    return runs


def _choices(options: SweepOptions) -> dict[str, list[tuple[str, Any]]]:
    """Values by option, each as it was typed and as the option takes it."""
    hints = typing.get_type_hints(TrainOptions)
    choices: dict[str, list[tuple[str, Any]]] = {}
    for part in options.vary:
        key, equals, text = part.partition("=")
        name = key.replace("-", "_")
        if not equals or name not in hints or name in _PLACES:
            raise InputError(
                "NAME=VALUE with the name of an option of train",
                got=f"--vary {part}",
                remedy="Write --vary loss=ce loss=sop, for example.",
            )
        value = _value(text, hints[name], part)
        if (text, value) not in choices.setdefault(name, []):
            choices[name].append((text, value))
    if not choices:
        raise InputError("something that varies", got="no --vary", remedy="Write --vary loss=ce loss=sop, for example.")
    return choices


def _value(text: str, hint: Any, part: str) -> Any:
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if type(None) in kinds and text == "none":
        return None
    kind = kinds[0]
    try:
        if typing.get_origin(kind) is tuple:
            return tuple(int(item) for item in text.split(",") if item)
        if typing.get_origin(kind) is Literal:
            return {str(choice): choice for choice in typing.get_args(kind)}[text]
        return kind(text)
    except (ValueError, KeyError) as error:
        wanted = " or ".join(map(str, typing.get_args(kind))) or getattr(kind, "__name__", str(kind))
        expected = f"a value that fits the option: {wanted}"
        raise InputError(expected, got=f"--vary {part}", remedy="Change it.") from error


def _trained(runs: dict[str, TrainOptions], processes: int) -> list[Record]:
    """The records of the runs, each under the run's name."""
    if processes <= 1:
        records = [train(run) for run in runs.values()]
    else:
        from joblib import Parallel, delayed

        records = Parallel(n_jobs=processes)(delayed(_on_one_thread)(run) for run in runs.values())
    return [replace(record, title=name) for name, record in zip(runs, records, strict=True)]


def _on_one_thread(options: TrainOptions) -> Record:
    torch.set_num_threads(1)
    return train(replace(options, quiet=True))


def _row(record: Record) -> dict[str, Cell]:
    """One line of the comparison: test accuracy at the last epoch, at the epoch selected on held-out samples, at the
    best one; collapse after training; what the run knows of wrong labels."""
    train, validation, test = (curves(rows_of(record.series), split) for split in ("train", "validation", "test"))
    tests = test["accuracy"]
    final = max(tests)
    row: dict[str, Cell] = {"epochs": final, "test accuracy, last epoch": tests[final]}
    if held := validation.get("accuracy"):
        chosen = max(held, key=lambda epoch: (held[epoch], epoch))
        row |= {"test accuracy, selected epoch": tests[chosen], "selected epoch": chosen}
    row["test accuracy, best test epoch"] = max(tests.values())
    row |= {metric: train.get(metric, {}).get(final) for metric in _SHOWN}
    row |= {"trainable parameters": record.tables["parameters"]["trainable"][0]}
    if "labels" in record.tables:
        row |= {key: column[0] for key, column in record.tables["labels"].items() if key not in ("run", "scores")}
    return row | {"seconds": record.seconds}


def _joined(runs: dict[str, TrainOptions], records: list[Record]) -> Table:
    """The series of the last features of all runs, under the names of the runs."""
    rows = [row | {"run": name} for name, record in zip(runs, records, strict=True) for row in rows_of(record.series)]
    kept = ("accuracy", *_SHOWN)
    return series_table([row for row in rows if row["layer"] in ("features", "output") and row["metric"] in kept])


def _panels() -> tuple[Panel, ...]:
    shared = {"kind": "curves", "table": "series", "x": "epoch", "y": "value", "color": "run"}
    return (
        Panel(
            title="Accuracy on the test set",
            caption="Share of right decisions, run by run.",
            where={"metric": "accuracy", "split": "test"},
            **shared,
        ),
        Panel(
            title="Variability of the last features",
            caption="NC1 on the training set; zero is complete collapse.",
            where={"metric": "NC1", "split": "train"},
            y_scale="log",
            **shared,
        ),
    )


def _answer(rows: dict[str, dict[str, Cell]]) -> str:
    reached = {name: 100 * row["test accuracy, last epoch"] for name, row in rows.items()}
    best, worst = max(reached, key=reached.get), min(reached, key=reached.get)
    low, high = f"{reached[worst]:.2f} % ({worst})", f"{reached[best]:.2f} % ({best})"
    return f"Test accuracy at the last epoch goes from {low} to {high}."


def _words(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _slug(text: str) -> str:
    return "".join(letter if letter.isalnum() or letter in ".+" else "_" for letter in text)
