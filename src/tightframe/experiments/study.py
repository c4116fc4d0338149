"""`Study`: an experiment on a model that is solved rather than trained, in the same form as the trials."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

from tightframe.core.errors import InputError, TightframeError
from tightframe.experiments.base import Place
from tightframe.experiments.catalog import Entry
from tightframe.runs.environment import describe
from tightframe.runs.record import Claim, Panel, Record, Table
from tightframe.runs.store import RunDirectory

Config = TypeVar("Config")


@dataclass(frozen=True)
class Sweep:
    """Applies a function to many items, in `workers` processes where that is more than one.

    Args:
        workers: Processes; 0 and 1 stay in this one.
        data_root: Folder of the data sets, for functions that train on them.
    """

    workers: int = 0
    data_root: Path | None = None

    def __call__(self, function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        """[function(item) for item in items], in this order."""
        if self.workers <= 1:
            return [function(item) for item in items]
        from joblib import Parallel, delayed

        return Parallel(n_jobs=self.workers)(delayed(_on_one_thread)(function, item) for item in items)


@dataclass(frozen=True)
class Findings:
    """What an investigation leaves behind."""

    claims: tuple[Claim, ...]
    answer: str
    tables: Mapping[str, Table] = field(default_factory=dict)
    panels: tuple[Panel, ...] = ()


@dataclass(frozen=True)
class Study(Generic[Config]):
    """A question that solving models answers.

    Args:
        entry: Its line in the catalogue.
        presets: Frozen configurations by preset.
        investigate: From a configuration to findings.
    """

    entry: Entry
    presets: Mapping[str, Config]
    investigate: Callable[[Config, Sweep], Findings]

    def run(self, preset: str = "smoke", *, config: Config | None = None, place: Place | None = None) -> Record:
        """Investigate and keep what was found.

        Args:
            preset: Which configuration.
            config: A changed one, in place of the preset's.
            place: Where to write; a finished run is read back instead of run again when it is resumed. Its `workers`
                are processes of a sweep.

        Raises:
            InputError: Unknown preset, a run directory of another configuration.
        """
        if preset not in self.presets:
            known = ", ".join(self.presets)
            raise InputError(
                f"a preset of experiment {self.entry.name!r}", got=repr(preset), remedy=f"Use one of {known}."
            )
        planned, place = _plain(preset, self.presets[preset]), place or Place()
        config = self.presets[preset] if config is None else config
        plain = _plain(preset, config)
        started, clock = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
        directory = None if place.out is None else RunDirectory.create(place.out, config=plain, resume=place.resume)
        if directory is not None and place.resume and directory.record_path.exists():
            return directory.load_record()
        try:
            findings = self.investigate(config, Sweep(place.workers, place.data_root))
        except TightframeError:
            if directory is not None:
                directory.release()
            raise
        record = Record(
            name=self.entry.name,
            title=self.entry.title,
            question=self.entry.question,
            answer=findings.answer,
            config=plain,
            preset=preset,
            preset_config=planned,
            environment=describe(),
            tables=dict(findings.tables),
            panels=findings.panels,
            claims=findings.claims,
            started=started,
            seconds=time.perf_counter() - clock,
        )
        if directory is not None:
            directory.save_record(record)
        return record


def _plain(preset: str, config: object) -> dict[str, Any]:
    # Through JSON, so that it equals what a resumed run reads back.
    return {"preset": preset} | json.loads(json.dumps(asdict(config)))


def _on_one_thread(function: Callable[[Any], Any], item: Any) -> Any:
    torch.set_num_threads(1)
    return function(item)
