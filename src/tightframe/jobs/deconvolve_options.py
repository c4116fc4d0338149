"""Options of `tightframe deconvolve`: a plain frozen dataclass, read without importing torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True, kw_only=True)
class DeconvolveOptions:
    """Find the kernels that recur in an image, a movie or traces, where they are, and how large.

    Args:
        signals: Images and movies: png, jpg, tiff, bmp, npy, npz, mat. Traces: csv, txt, npy, npz, mat; the longer side
            of a table is time.
        kernel_size: 100 for traces; 32 32 for images, and for movies whose frames share kernels; 20 32 32 (frames
            first) for movies in which kernels last.
        out: Directory for kernels, activation maps, reconstruction, the list of defects, the record and the report.
        kernels: How many.
        positive: Whether activations are at least zero.
        background: What is taken out first: none, plane, lines (plane and scan lines), high-pass, or scan (lines,
            high-pass, noisy rows evened); auto is lines for images whose rows jump, plane for others, none for traces.
        noise: What activations have to exceed: white noise, or also structured background (streaks, waves); auto is
            background where an image would otherwise be full of activations.
        alpha: Penalty by hand, in the units of the signals.
        confidence: Defects that are less sure are left out of the list.
        rate: Frames per second of traces and movies, for times in seconds.
        starts: Starts at most of the search for one kernel.
        seed: Of the starts.
        key: Name of the array in npz and mat files.
        accelerator: auto, cpu, cuda or mps.
        quiet: Show no progress.
    """

    signals: Annotated[Path, tyro.conf.Positional]
    kernel_size: tuple[int, ...]
    out: Path
    kernels: int = 1
    positive: bool = False
    background: Literal["auto", "none", "plane", "lines", "scan", "high-pass"] = "auto"
    noise: Literal["auto", "white", "background"] = "auto"
    alpha: float | None = None
    confidence: float = 0.9
    rate: float | None = None
    starts: int = 6
    seed: int = 0
    key: str | None = None
    accelerator: str = "auto"
    quiet: bool = False
