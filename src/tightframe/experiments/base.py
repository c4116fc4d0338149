"""`Experiment`: a question, presets, and a run that ends in a Record with claims."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tightframe.collapse.summary import CollapseSummary
from tightframe.core.errors import InputError
from tightframe.experiments.entry import Entry
from tightframe.runs.environment import describe
from tightframe.runs.record import Claim, Record, series_table
from tightframe.runs.store import RunDirectory, begin
from tightframe.training.fabric import connect
from tightframe.trials.pictures import trial_panels, trial_tables
from tightframe.trials.trial import Trial, TrialConfig, run_trial

if TYPE_CHECKING:
    from lightning.fabric import Fabric

Plan = TypeVar("Plan")


@dataclass(frozen=True)
class Place:
    """Where a run reads and writes, and what it shows; nothing here changes the outcome.

    Args:
        out: Run directory, or None to keep nothing.
        resume: Go on with what is there.
        data_root: Folder of the data sets.
        workers: Loader processes.
        progress: Show progress on the error stream.
    """

    out: Path | None = None
    resume: bool = False
    data_root: Path | None = None
    workers: int = 0
    progress: bool = False


def planned(entry: Entry, presets: Mapping[str, Plan], preset: str) -> Plan:
    """What an experiment does at a preset; an InputError that lists the presets where there is none of this name."""
    if preset not in presets:
        raise InputError(
            f"a preset of experiment {entry.name!r}", got=repr(preset), remedy=f"Use one of {', '.join(presets)}."
        )
    return presets[preset]


@dataclass(frozen=True)
class Outcome:
    """What follows from finished trials."""

    claims: tuple[Claim, ...]
    answer: str


@dataclass(frozen=True)
class Experiment:
    """A question that trials answer.

    Args:
        entry: Its line in the catalogue.
        presets: Trial configurations by preset and run name.
        judge: From the finished trials to claims and an answer.
    """

    entry: Entry
    presets: Mapping[str, Mapping[str, TrialConfig]]
    judge: Callable[[Mapping[str, Trial]], Outcome]

    def trials(self, preset: str) -> Mapping[str, TrialConfig]:
        """Trial configurations of a preset; an InputError that lists the presets otherwise."""
        return planned(self.entry, self.presets, preset)

    def run(
        self, preset: str = "smoke", *, configs: Mapping[str, TrialConfig] | None = None, place: Place | None = None
    ) -> Record | None:
        """Run all trials and judge them.

        Args:
            preset: Where the configurations start from.
            configs: Changed configurations by run name, in place of the preset's.
            place: Where to write; a finished run is read back instead of run again when it is resumed.

        Returns:
            The Record, saved in `place.out` if that is given; None on all processes but the first.

        Raises:
            InputError: Unknown preset, data that are not there, a run directory of another configuration.
        """
        begun_from = self.trials(preset)
        configs, place = configs or begun_from, place or Place()
        started, clock = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
        plain = {"preset": preset} | {name: config.to_dict() for name, config in configs.items()}
        fabric = connect(precision=next(iter(configs.values())).train.precision)
        first = fabric.is_global_zero
        with begin(place.out, config=plain, resume=place.resume, first=first, wait=fabric.barrier) as directory:
            if directory is not None and place.resume and directory.record_path.exists():
                return directory.load_record() if first else None
            trials = _run_trials(configs, place, directory, fabric)
            if not first:
                return None
            outcome = self.judge(trials)
            record = Record(
                name=self.entry.name,
                title=self.entry.title,
                question=self.entry.question,
                answer=outcome.answer,
                config=plain,
                preset=preset,
                preset_config={"preset": preset} | {name: config.to_dict() for name, config in begun_from.items()},
                environment=describe(),
                series=series_table([row for trial in trials.values() for row in trial.rows]),
                tables=trial_tables(trials),
                panels=tuple(trial_panels(trials)),
                claims=outcome.claims,
                started=started,
                seconds=time.perf_counter() - clock,
            )
            if directory is not None:
                directory.save_record(record)
        return record


def with_training(config: TrialConfig, **changes: Any) -> TrialConfig:
    """The same trial, trained differently."""
    return replace(config, train=replace(config.train, **changes))


def falls(
    identifier: str, trial: Trial, metric: str, *, factor: float, statement: str, source: str, note: str = ""
) -> Claim:
    """Claim that a metric of the last training features falls to at most `factor` of its value before training."""
    before, after = (_last(picture.train, metric) for picture in (trial.first, trial.last))
    return Claim(
        id=identifier,
        statement=f"{statement}: {metric} after training over {metric} before it, training set",
        source=source,
        expected=factor,
        observed=after / before if before else math.nan,
        note=f"{metric} {before:.4g} before training, {after:.4g} after {trial.last.epoch} epochs. {note}".strip(),
    )


def collapse_claims(identifier: str, name: str, trial: Trial, source: str) -> list[Claim]:
    """The three claims that say "this network collapses": NC1 by an order of magnitude, NC2 and NC3 by half."""
    return [
        falls(f"{identifier}.NC1", trial, "NC1", factor=0.1, statement=f"Variability collapse, {name}", source=source),
        falls(
            f"{identifier}.NC2", trial, "NC2 features", factor=0.5, statement=f"Simplex means, {name}", source=source
        ),
        falls(f"{identifier}.NC3", trial, "NC3", factor=0.5, statement=f"Self-duality, {name}", source=source),
    ]


def test_accuracy(trial: Trial) -> float:
    """Share of correct decisions on the test set after training."""
    return trial.last.test["accuracy"]


def test_samples(trial: Trial) -> int:
    """Size of the test set."""
    return trial.last.test.last.samples


def _last(summary: CollapseSummary, metric: str) -> float:
    """A metric of the last features; NaN, which no claim passes, where the data define no value."""
    measurement = summary.last.measurements.get(metric)
    return math.nan if measurement is None or measurement.value is None else measurement.value


def _run_trials(
    configs: Mapping[str, TrialConfig], place: Place, directory: RunDirectory | None, fabric: Fabric
) -> dict[str, Trial]:
    return {
        name: run_trial(
            config,
            name=name,
            data_root=place.data_root,
            checkpoint=None if directory is None else directory.path / f"{name.replace(' ', '-')}.checkpoint.pt",
            resume=place.resume,
            workers=place.workers,
            fabric=fabric,
            progress=place.progress,
        )
        for name, config in configs.items()
    }
