"""Train a network on one's own images and keep the record of its collapse."""

from __future__ import annotations

import time
from dataclasses import fields
from datetime import UTC, datetime

from tightframe.jobs.options import TrainOptions
from tightframe.runs.environment import describe
from tightframe.runs.record import Record, series_table
from tightframe.runs.store import begin, write_atomic
from tightframe.training.config import TrainConfig
from tightframe.training.fabric import connect
from tightframe.trials.pictures import shown, trial_panels, trial_tables
from tightframe.trials.suspects import believed_wrong
from tightframe.trials.trial import Trial, TrialConfig, run_trial

LABELS = "labels.csv"


def train(options: TrainOptions) -> Record | None:
    """Train, measure on the way, and save the record in `options.out`; where labels are judged, `labels.csv` too.

    A run that was interrupted, even by kill -9, goes on with `options.resume` and ends with the record it would have
    had. A finished run that is resumed is read back.

    Returns:
        The Record; None on all processes but the first.

    Raises:
        InputError: Options, data or the run directory do not fit; the message says what to change.
        DegenerateError: Training diverged; the last checkpoint is kept.
    """
    started, clock = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
    config = trial_config(options)
    fabric = connect(precision=options.precision, accelerator=options.accelerator)
    plain, first = config.to_dict(), fabric.is_global_zero
    with begin(options.out, config=plain, resume=options.resume, first=first, wait=fabric.barrier) as directory:
        if options.resume and directory.record_path.exists():
            return directory.load_record() if first else None
        trial = run_trial(
            config,
            data_root=options.data_root,
            checkpoint=directory.checkpoint_path,
            resume=options.resume,
            workers=options.workers,
            fabric=fabric,
            progress=not options.quiet,
        )
        if not first:
            return None
        record = Record(
            name=options.out.resolve().name,
            title=f"{config.model} on {config.data}",
            question="How collapsed are the features of this network, layer by layer, as it trains?",
            answer=_answer(trial),
            config=plain,
            preset="defaults",
            preset_config=TrialConfig().to_dict(),
            environment=describe(),
            series=series_table(trial.rows),
            tables=trial_tables({"train": trial}),
            panels=tuple(trial_panels({"train": trial})),
            started=started,
            seconds=time.perf_counter() - clock,
        )
        if trial.labels is not None:
            write_atomic(directory.path / LABELS, believed_wrong(trial.labels, trial.data.data))
        directory.save_record(record)
    return record


def _answer(trial: Trial) -> str:
    last, audit = trial.last, trial.labels
    text = (
        f"After epoch {last.epoch}, NC1 is {shown(last.train, 'NC1')} on the training set and "
        f"{shown(last.test, 'NC1')} on the test set, test accuracy {100 * last.test['accuracy']:.2f} %."
    )
    if audit is None:
        return text
    text = f"{text} {int(audit.flagged.sum())} of {len(audit.given)} labels are believed wrong"
    if audit.truth is None:
        return f"{text}."
    wrong = audit.given != audit.truth
    return f"{text}, {int((audit.flagged & wrong).sum())} of them rightly; {int(wrong.sum())} are."


def trial_config(options: TrainOptions) -> TrialConfig:
    """The trial that these options describe; what only says where and how fast is left out."""
    training = {
        entry.name: getattr(options, entry.name) for entry in fields(TrainConfig) if hasattr(options, entry.name)
    }
    trial = {
        entry.name: getattr(options, entry.name)
        for entry in fields(TrialConfig)
        if entry.name != "train" and hasattr(options, entry.name)
    }
    return TrialConfig(**trial, train=TrainConfig(**training))
