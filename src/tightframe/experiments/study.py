"""`Study`: an experiment on a model that is solved rather than trained, in the same form as the trials."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from tightframe.experiments.base import Place, planned
from tightframe.experiments.entry import Entry
from tightframe.experiments.sweeps import Sweep
from tightframe.runs.environment import describe
from tightframe.runs.record import Claim, Panel, Record, Table
from tightframe.runs.store import begin

Config = TypeVar("Config")


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
        begun_from, place = planned(self.entry, self.presets, preset), place or Place()
        config = begun_from if config is None else config
        plain = _plain(preset, config)
        started, clock = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
        with begin(place.out, config=plain, resume=place.resume) as directory:
            if directory is not None and place.resume and directory.record_path.exists():
                return directory.load_record()
            # What was finished before a run was killed is read back, and superfluous once there is a record.
            kept = None if directory is None else directory.path / "finished"
            findings = self.investigate(config, Sweep(place.workers, place.data_root, kept, place.progress))
            record = Record(
                name=self.entry.name,
                title=self.entry.title,
                question=self.entry.question,
                answer=findings.answer,
                config=plain,
                preset=preset,
                preset_config=_plain(preset, begun_from),
                environment=describe(),
                tables=dict(findings.tables),
                panels=findings.panels,
                claims=findings.claims,
                started=started,
                seconds=time.perf_counter() - clock,
            )
            if directory is not None:
                directory.save_record(record)
                shutil.rmtree(directory.path / "finished", ignore_errors=True)
        return record


def _plain(preset: str, config: object) -> dict[str, Any]:
    # Through JSON, so that it equals what a resumed run reads back.
    return {"preset": preset} | json.loads(json.dumps(asdict(config)))
