"""What fine-tuning says of itself: as a Record for the report, as text, and as plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tightframe.jobs.finetune_options import FinetuneOptions
from tightframe.report.tables import text_table
from tightframe.runs.environment import describe
from tightframe.runs.record import Cell, Panel, Record, Table, series_table, table_of
from tightframe.trials.transfer import Transferred

if TYPE_CHECKING:
    from tightframe.jobs.finetune import Finetuned


def record_of(
    tuned: Transferred,
    options: FinetuneOptions,
    config: dict[str, Any],
    recomputed: float | None,
    *,
    started: str,
    seconds: float,
) -> Record:
    """The Record of a fine-tuned network.

    Args:
        tuned: The network and what was measured.
        options: What was asked for.
        config: The same, resolved.
        recomputed: Seconds of an epoch that computes the frozen trunk again, where it was timed.
        started: When, as ISO 8601.
        seconds: How long it took.
    """
    tables = {"parts": _parts(tuned), "result": _result(tuned), "seconds": _seconds(tuned, recomputed)}
    if tuned.layers is not None:
        tables["layers"] = table_of(tuned.layers.to_rows())
    return Record(
        name="finetune" if options.out is None else options.out.resolve().name,
        title=f"{config['model']} fine-tuned to {options.data}: {tuned.config.method}",
        question=f"How well does {config['model']} do on {options.data} when a part of it is tuned?",
        answer=_answer(tuned),
        config=config,
        environment=describe(),
        series=series_table(tuned.rows),
        tables=tables,
        panels=_panels(tuned),
        started=started,
        seconds=seconds,
    )


def text(tuned: Finetuned) -> str:
    """What the command line prints."""
    found = tuned.transferred
    parts = [str(found.share)]
    if found.layers is not None:
        parts.append(text_table(tuned.record.tables["layers"]))
    parts += [text_table(tuned.record.tables["result"]), tuned.record.answer]
    if tuned.delta is not None:
        parts.append(f"{tuned.delta.name} holds what changed, {tuned.delta.stat().st_size:,} bytes.")
    if tuned.exported is not None:
        parts.append(f"{tuned.exported.path.name} agrees with the network to {tuned.exported.difference:.1e}.")
    return "\n\n".join(parts)


def plain(tuned: Finetuned) -> dict[str, Any]:
    """The same as plain values."""
    found = tuned.transferred
    return {
        "method": found.config.method,
        "layer": found.layer,
        "trainable": found.share.trainable,
        "total": found.share.total,
        "share": found.share.share,
        "train accuracy": found.train_accuracy,
        "test accuracy": found.test_accuracy,
        "NC1": {split: found.nc1(split) for split in ("train", "test")},
        "decay": found.decay,
        "layers": [] if found.layers is None else found.layers.to_rows(),
        "delta": None if tuned.delta is None else tuned.delta.name,
        "export": None
        if tuned.exported is None
        else {"file": tuned.exported.path.name, "difference": tuned.exported.difference},
    }


def _answer(tuned: Transferred) -> str:
    share = tuned.share
    place = "" if tuned.layer is None else f" of {tuned.layer}"
    chosen = " (chosen by accuracy on samples held out)" if tuned.layers is not None else ""
    return (
        f"{tuned.config.method}{place}{chosen} trains {share.trainable:,} of {share.total:,} parameters "
        f"({share.share:.2%}): test accuracy {tuned.test_accuracy:.2%}, training accuracy {tuned.train_accuracy:.2%}."
    )


def _parts(tuned: Transferred) -> Table:
    rows: list[dict[str, Cell]] = [
        {"part": name, "trainable": count, "share": count / max(tuned.share.total, 1)}
        for name, count in tuned.share.parts
    ]
    whole = {"part": "all", "trainable": tuned.share.trainable, "share": tuned.share.share}
    return table_of([*rows, whole | {"total": tuned.share.total}])


def _result(tuned: Transferred) -> Table:
    """Accuracy, loss, NC1 and H-score of both splits, before and after."""
    epochs = {entry["epoch"] for entry in tuned.rows if entry["metric"] == "accuracy"}
    when = {min(epochs): "before", max(epochs): "after"}
    cells: dict[tuple[str, str], dict[str, Cell]] = {}
    for entry in tuned.rows:
        if entry["epoch"] in when and entry["split"] in ("train", "test"):
            key = (when[entry["epoch"]], entry["split"])
            if entry["metric"] in ("accuracy", "loss", "NC1", "H-score"):
                cells.setdefault(key, {"when": key[0], "split": key[1]})[entry["metric"]] = entry["value"]
    return table_of([cells[key] for key in sorted(cells, key=lambda key: (key[0] == "after", key[1] == "test"))])


def _seconds(tuned: Transferred, recomputed: float | None) -> Table:
    mean = sum(tuned.epoch_seconds) / len(tuned.epoch_seconds) if tuned.epoch_seconds else None
    rows: list[dict[str, Cell]] = [{"what": "an epoch", "seconds": mean}]
    if tuned.config.method == "linear":
        rows = [{"what": "the solve", "seconds": mean}]
    if tuned.cache_seconds:
        rows.append({"what": "the frozen trunk, once", "seconds": tuned.cache_seconds})
    if recomputed is not None:
        rows.append({"what": "an epoch that computes the trunk again", "seconds": recomputed})
    return table_of(rows)


def _panels(tuned: Transferred) -> tuple[Panel, ...]:
    panels = []
    if len({entry["epoch"] for entry in tuned.rows if entry["metric"] == "accuracy"}) > 2:
        panels.append(
            Panel(
                kind="curves",
                title="Accuracy while it is tuned",
                caption="In evaluation mode, on all samples of each split.",
                table="series",
                x="epoch",
                y="value",
                color="split",
                where={"metric": "accuracy"},
            )
        )
    if tuned.layers is None:
        return tuple(panels)
    panels.append(
        Panel(
            kind="layers",
            title="Which layer to tune",
            caption="Accuracy on samples held out, after a short tuning of each block.",
            table="layers",
            x="layer",
            y="accuracy",
        )
    )
    if any(score.nc1 for score in tuned.layers.scores):
        panels.append(
            Panel(
                kind="scatter",
                title="NC1 of a block before tuning and what tuning it gives",
                caption="The smallest NC1 does not say which block is best.",
                table="layers",
                x="nc1",
                y="accuracy",
                color="layer",
                x_scale="log",
            )
        )
    return tuple(panels)
