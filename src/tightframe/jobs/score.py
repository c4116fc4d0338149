"""Score pretrained networks by how well their features suit a data set that they were not trained for."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import torch

from tightframe.collapse.transfer import transfer_scores
from tightframe.collapse.transfer_summary import SCORES, TransferScores
from tightframe.core.errors import InputError
from tightframe.data.labelled.images import ImageData
from tightframe.data.labelled.source import load
from tightframe.features.extract import stream
from tightframe.features.tap import FeatureTap
from tightframe.jobs.candidates import PreparedBatches, called, candidate, check_reads
from tightframe.jobs.options import ScoreOptions
from tightframe.runs.console import watched
from tightframe.runs.environment import describe
from tightframe.runs.record import Cell, Panel, Record, Table, table_of
from tightframe.runs.store import begin
from tightframe.training.fabric import connect
from tightframe.trials.shard import Shard

if TYPE_CHECKING:
    from lightning.fabric import Fabric

_PLACES = ("out", "data_root", "workers", "accelerator", "format", "quiet")


@dataclass(frozen=True)
class Scored:
    """Scores of one candidate.

    Args:
        name: What it was named by.
        scores: Its scores.
        forward: Seconds of the forward pass over the data.
        scoring: Seconds of the scores.
    """

    name: str
    scores: TransferScores
    forward: float
    scoring: float


@dataclass(frozen=True)
class Ranking:
    """Scored candidates, the most promising first, and the Record made of them."""

    models: tuple[Scored, ...]
    record: Record

    def to_dict(self) -> dict[str, Any]:
        """Plain values: the models by name, in order."""
        return {one.name: one.scores.to_dict() for one in self.models}


def score(options: ScoreOptions) -> Ranking:
    """Score every model that the options name, one forward pass over the data each; save the record if asked to.

    Raises:
        InputError: No model, the same one twice, an unknown score to rank by, images that a model does not read, or
            as for `transfer_scores`.
    """
    started, clock = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
    _check(options)
    fabric = connect(accelerator=options.accelerator)
    if fabric.world_size > 1:
        raise InputError("one process", got=f"{fabric.world_size}", remedy="Start it without torchrun.")
    data = load(options.data, root=options.data_root, limit=options.limit, size=options.size)
    config = {key: value for key, value in asdict(options).items() if key not in _PLACES}
    config |= {"models": [called(name) for name in options.models]}
    with begin(options.out, config=config) as directory:
        models = watched(options.models, len(options.models), "scoring networks", enabled=not options.quiet)
        scored = tuple(_ranked([_scored(name, data, options, fabric) for name in models], options.by))
        record = _record(scored, options, config, started, time.perf_counter() - clock)
        if directory is not None:
            directory.save_record(record)
    return Ranking(scored, record)


def _check(options: ScoreOptions) -> None:
    names = [called(name) for name in options.models]
    if not names or len(set(names)) < len(names):
        raise InputError(
            "one or more models, each once",
            got=", ".join(names) or "none",
            remedy="Name them as --models PATH/TO/RUN IMPORT.PATH:factory hf:NAME timm:NAME.",
        )
    if options.by not in SCORES:
        raise InputError("a score to rank by", got=repr(options.by), remedy=f"Use one of {', '.join(SCORES)}.")
    if options.bootstrap < 0 or options.bootstrap == 1:
        raise InputError(
            "0 or at least 2 bootstrap replicates",
            got=f"bootstrap={options.bootstrap}",
            remedy="Use 200, or 0 for none.",
        )


def _scored(spec: str, data: ImageData, options: ScoreOptions, fabric: Fabric) -> Scored:
    found = candidate(spec, data, options, fabric)
    model = found.model.to(fabric.device)
    shard = Shard(
        data.train if options.split == "train" else data.test, workers=options.workers, batch_size=options.batch_size
    )
    tap = FeatureTap(model, classifier=options.classifier or found.classifier, pool=options.pool, tokens=options.tokens)
    check_reads(tap, found, data)
    clock = time.perf_counter()
    rows, labels = [], []
    for batch in stream(tap, PreparedBatches(shard, found.prepare)):
        rows.append(batch.features["features"].cpu())
        labels.append(batch.labels.cpu())
    features, classes = torch.cat(rows), torch.cat(labels)
    forward = time.perf_counter() - clock
    try:
        scores = transfer_scores(
            features,
            classes,
            classes=len(data.classes),
            probe=options.probe,
            bootstrap=options.bootstrap,
            seed=options.seed,
        )
    except InputError as error:
        raise InputError(f"{spec}: {error.expected}", got=error.got, remedy=error.remedy) from error
    return Scored(called(spec), scores, forward, time.perf_counter() - clock - forward)


def _ranked(scored: list[Scored], by: str) -> list[Scored]:
    """The best first; models without a value last."""
    sign = 1 if SCORES[by].better == "lower" else -1

    def place(one: Scored) -> tuple[bool, float]:
        value = _value(one, by)
        return value is None, 0.0 if value is None else sign * value

    return sorted(scored, key=place)


def _value(one: Scored, name: str) -> float | None:
    return one.scores.scores[name].value if name in one.scores.scores else None


def _names(scored: tuple[Scored, ...]) -> list[str]:
    return list(scored[0].scores.scores)


def _record(
    scored: tuple[Scored, ...], options: ScoreOptions, config: dict[str, Any], started: str, seconds: float
) -> Record:
    tables = {
        "ranking": _ranking(scored),
        "scores": _long(scored),
        "ranks": {name: column for name, column in _long(scored).items() if name in ("score", "model", "rank")},
        "what they are": table_of([_meaning(name) for name in _names(scored)]),
        "cost": _cost(scored),
    }
    return Record(
        name="score" if options.out is None else options.out.resolve().name,
        title=f"Transferability of {len(scored)} models to {options.data}",
        question=f"Whose features suit {options.data} ({options.split}) best?",
        answer=_answer(scored, options.by),
        config=config,
        environment=describe(),
        tables=tables,
        panels=_panels(scored),
        started=started,
        seconds=seconds,
    )


def _answer(scored: tuple[Scored, ...], by: str) -> str:
    firsts: dict[str, list[str]] = {}
    for name in _names(scored):
        best = _ranked(list(scored), name)[0]
        if _value(best, name) is not None:
            firsts.setdefault(best.name, []).append(name)
    listed = "; ".join(f"{model} is first by {', '.join(names)}" for model, names in firsts.items())
    ranked = ", ".join(one.name for one in scored if _value(one, by) is not None)
    without = ", ".join(one.name for one in scored if _value(one, by) is None)
    text = f"Ranked by {by} ({SCORES[by].better} is better): {ranked}. " if ranked else ""
    text += f"Without {by}: {without}. " if without else ""
    return f"{text}{listed}." if listed else text.rstrip()


def _ranking(scored: tuple[Scored, ...]) -> Table:
    return table_of(
        [
            {"rank": place, "model": one.name, "d": one.scores.features}
            | {name: one.scores.scores[name].value for name in _names(scored)}
            for place, one in enumerate(scored, start=1)
        ]
    )


def _long(scored: tuple[Scored, ...]) -> Table:
    rows = []
    for name in _names(scored):
        places = {one.name: place for place, one in enumerate(_ranked(list(scored), name), start=1)}
        for one in scored:
            entry = one.scores.scores[name]
            low, high = entry.interval or (None, None)
            place = None if entry.value is None else places[one.name]
            row = {"score": name, "model": one.name, "value": entry.value, "low": low, "high": high, "rank": place}
            rows.append(row | {"note": entry.note})
    return table_of(rows)


def _meaning(name: str) -> dict[str, Cell]:
    entry = SCORES[name]
    return {"score": name, "better": entry.better, "formula": entry.formula, "source": entry.source}


def _cost(scored: tuple[Scored, ...]) -> Table:
    return table_of([{"model": one.name, "forward pass (s)": one.forward, "scores (s)": one.scoring} for one in scored])


def _panels(scored: tuple[Scored, ...]) -> tuple[Panel, ...]:
    panels = [
        Panel(
            kind="layers",
            title="Rank of each model by each score",
            caption="1 is the most promising; lines that cross are scores that disagree.",
            table="ranks",
            x="score",
            y="rank",
            color="model",
        )
    ]
    for name in _names(scored):
        values = [(_value(one, "NC1"), _value(one, name)) for one in scored]
        if name == "NC1" or not any(None not in pair for pair in values):
            continue
        panels.append(
            Panel(
                kind="scatter",
                title=f"NC1 and {name}",
                caption=f"{SCORES[name].formula}; {SCORES[name].better} is better, and lower NC1.",
                table="ranking",
                x="NC1",
                y=name,
                color="model",
                x_scale="log" if all(pair[0] for pair in values) else "linear",
            )
        )
    return tuple(panels)
