"""Commands of the command line as frozen dataclasses, beside those of the jobs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from tightframe.jobs.complete_options import CompleteOptions
from tightframe.jobs.deconvolve_options import DeconvolveOptions
from tightframe.jobs.finetune_options import FinetuneOptions
from tightframe.jobs.options import CertifyOptions, MeasureOptions, ScoreOptions, SweepOptions, TrainOptions
from tightframe.jobs.restore_options import DenoiseOptions, InpaintOptions
from tightframe.jobs.sort_options import SortOptions

Runs = Annotated[
    tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN ...", help_behavior_hint="(required)")
]


@dataclass(frozen=True)
class RunOptions:
    """Run experiments and check their claims.

    Args:
        names: Experiments or claim ids; `tightframe list` shows them.
        out: Directory of the runs; the report is written there too.
        preset: smoke (under a minute), quick (minutes), paper (the sources' own scale).
        data_root: Folder of the data sets; by default the one that TIGHTFRAME_DATA names.
        workers: Processes that load samples, or that share the runs of an experiment.
        resume: Go on with what is in the directory; finished experiments are kept.
        quiet: Show no progress.
    """

    names: Annotated[
        tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="NAME ...", help_behavior_hint="(required)")
    ]
    out: Path
    preset: str = "smoke"
    data_root: Path | None = None
    workers: int = 0
    resume: bool = False
    quiet: bool = False


@dataclass(frozen=True)
class ClaimsOptions:
    """Check the claims of the ledger, and write it: what the sources state, and whether it holds.

    Args:
        ids: Claims by id (N4), or by the letter of their subject (N); all by default.
        out: Directory of the runs, and of report.html, claims.md and the record of the ledger.
        preset: smoke (under a minute each), quick (minutes each), paper (the sources' own scale).
        data_root: Folder of the data sets; by default the one that TIGHTFRAME_DATA names.
        workers: Experiments at the same time.
        resume: Go on with what is in the directory; finished experiments are read back.
        gather: Run nothing: write the ledger of what is in the directory.
        quiet: Show no progress.
    """

    ids: Annotated[
        tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[ID ...]", help_behavior_hint="(optional)")
    ]
    out: Path
    preset: Literal["smoke", "quick", "paper"] = "smoke"
    data_root: Path | None = None
    workers: int = 1
    resume: bool = False
    gather: bool = False
    quiet: bool = False


@dataclass(frozen=True)
class ReportOptions:
    """Turn runs into one self-contained HTML page.

    Args:
        runs: Run directories, record.json files, or directories of runs.
        output: The page to write; its figures are saved beside it as SVG and PDF.
        title: Heading of the page; by default that of the only run.
    """

    runs: Runs
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("report.html")
    title: str | None = None


@dataclass(frozen=True)
class CompareOptions:
    """Put two runs side by side.

    Args:
        first: A run directory or record.json file.
        second: Another one.
        output: Page to write, with both runs in each figure; without it the table is printed only.
    """

    first: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    second: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None


@dataclass(frozen=True)
class ListOptions:
    """List experiments with their claims, data sets and networks."""


COMMANDS: dict[str, type[Any]] = {
    "train": TrainOptions,
    "sweep": SweepOptions,
    "measure": MeasureOptions,
    "certify": CertifyOptions,
    "score": ScoreOptions,
    "finetune": FinetuneOptions,
    "denoise": DenoiseOptions,
    "inpaint": InpaintOptions,
    "sort": SortOptions,
    "deconvolve": DeconvolveOptions,
    "complete": CompleteOptions,
    "run": RunOptions,
    "claims": ClaimsOptions,
    "report": ReportOptions,
    "compare": CompareOptions,
    "list": ListOptions,
}
