"""The record of a deconvolution: kernels, maps and reconstruction as pictures or curves, and the list of defects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tightframe.core.solution import Solution
from tightframe.dictionary.images.defects import Defects
from tightframe.jobs.deconvolve_options import DeconvolveOptions
from tightframe.runs.environment import describe
from tightframe.runs.pictures import picture
from tightframe.runs.record import Cell, Panel, Record, Table, table_of

# Side up to which small kernels are magnified.
_LEAST = 128
# Points of a trace that are drawn, and rows of the list in the report; the csv has them all.
_POINTS, _ROWS = 2000, 200
_NAMES = {1: ("frame",), 2: ("row", "column"), 3: ("frame", "row", "column")}

Row = dict[str, Cell]


@dataclass(frozen=True)
class Deconvolution:
    """What was deconvolved, and how.

    Args:
        options: As given.
        background: What was taken out.
        noise: "white", "background" or "given": where the penalty comes from.
        signals: (n, *shape), without their background.
    """

    options: DeconvolveOptions
    background: str
    noise: str
    signals: np.ndarray

    @property
    def limits(self) -> tuple[float, float]:
        """Values shown black and white: all but the hundredth at either end."""
        low, high = (float(value) for value in np.percentile(self.signals, (1, 99)))
        return (low, high) if low < high else (low, low + 1)


@dataclass(frozen=True)
class Found:
    """What came out.

    Args:
        kernels: (K, *size).
        maps: (n, K, *map_shape).
        reconstruction: (n, *shape).
        defects: Per signal.
        alpha: Penalty.
        solution: Of the estimator.
    """

    kernels: np.ndarray
    maps: np.ndarray
    reconstruction: np.ndarray
    defects: tuple[Defects, ...]
    alpha: float
    solution: Solution

    def columns(self, rate: float | None) -> list[str]:
        """Names of the columns of the list."""
        places = _NAMES[self.kernels.ndim - 1]
        seconds = ["seconds"] if rate is not None and places[0] == "frame" else []
        return ["signal", "kernel", *places, *seconds, "amplitude", "score", "confidence"]

    def rows(self, rate: float | None) -> list[Row]:
        """The list, the surest of each signal first; places are pixels or frames, from 0."""
        names, rows = _NAMES[self.kernels.ndim - 1], []
        for number, found in enumerate(self.defects):
            for at in range(len(found)):
                place = dict(zip(names, (round(float(value), 3) for value in found.places[at]), strict=True))
                timed = {"seconds": place["frame"] / rate} if rate is not None and "frame" in place else {}
                numbers = {
                    "amplitude": float(found.amplitudes[at]),
                    "score": float(found.scores[at]),
                    "confidence": float(found.confidence[at]),
                }
                rows.append({"signal": number, "kernel": int(found.kernels[at]), **place, **timed, **numbers})
        return rows


def record_of(job: Deconvolution, found: Found, config: dict[str, Any]) -> Record:
    """The record: a summary, the list, and pictures of images or curves of traces."""
    rows = found.rows(job.options.rate)
    tables = {"summary": table_of([_summary(job, found, rows)]), "kernels": table_of(_kernel_rows(found))}
    if rows:
        tables["defects"] = table_of(rows[:_ROWS])
    panels = []
    axes = found.kernels.ndim - 1
    if axes == 1:
        tables |= _curves(job, found)
        panels += _trace_panels()
    else:
        tables["pictures"] = table_of(_pictures(job, found))
    if rows:
        across = {1: "frame", 2: "column", 3: "column"}[axes]
        down = {1: "amplitude", 2: "row", 3: "row"}[axes]
        caption = f"The first {_ROWS} of the list." if len(rows) > _ROWS else "All of the list."
        panels.append(
            Panel(
                kind="scatter",
                title=_what(found).capitalize(),
                caption=caption,
                table="defects",
                x=across,
                y=down,
                color="kernel",
            )
        )
    return Record(
        name="deconvolve",
        title=f"{job.options.signals.name}: deconvolve",
        question=f"Which kernels recur in {job.options.signals.name}, and where?",
        answer=_answer(job, found, rows),
        config=config,
        environment=describe(),
        tables=tables,
        panels=tuple(panels),
    )


def tiles(kernels: np.ndarray) -> np.ndarray:
    """Kernels (K, height, width) side by side, 0 to 255, each stretched to its largest entry; zero is mean grey."""
    largest = np.abs(kernels).reshape(len(kernels), -1).max(axis=1).clip(1e-12)
    grey = 127.5 + 127.5 * kernels / largest[:, None, None]
    framed = np.pad(grey, ((0, 0), (0, 0), (0, 1)), constant_values=255.0)
    return np.concatenate(list(framed), axis=1)[:, :-1]


def _summary(job: Deconvolution, found: Found, rows: list[Row]) -> Row:
    left = job.signals - found.reconstruction
    whole = float(np.square(job.signals - job.signals.mean()).sum())
    return {
        "signals": len(job.signals),
        "shape": " x ".join(map(str, job.signals.shape[1:])),
        "background taken out": job.background,
        "penalty": found.alpha,
        "taken from": job.noise,
        "activations": int(np.count_nonzero(found.maps)),
        "defects": len(rows),
        "variance explained": 1 - float(np.square(left).sum()) / whole,
        "left (root mean square)": float(np.sqrt(np.square(left).mean())),
        "status": found.solution.status.outcome,
    }


def _kernel_rows(found: Found) -> list[Row]:
    rows = []
    for number in range(len(found.kernels)):
        listed = [defects.amplitudes[defects.kernels == number] for defects in found.defects]
        amplitudes = np.concatenate(listed)
        typical = float(np.median(np.abs(amplitudes))) if len(amplitudes) else None
        rows.append({"kernel": number, "defects": len(amplitudes), "median size": typical})
    return rows


def _pictures(job: Deconvolution, found: Found) -> list[Row]:
    """Of the first image or the middle frame of a movie."""
    middle = (0,) if job.signals.ndim == 3 else (0, job.signals.shape[1] // 2)
    shown = [
        ("signal without background", job.signals[middle], job.limits),
        ("reconstruction", found.reconstruction[middle], job.limits),
        ("left over", (job.signals - found.reconstruction)[middle], job.limits),
    ]
    kernels = found.kernels if found.kernels.ndim == 3 else found.kernels[:, found.kernels.shape[1] // 2]
    rows: list[Row] = [{"what": what, "picture": picture(image, limits)} for what, image, limits in shown]
    rows.append({"what": "kernels", "picture": picture(tiles(kernels), (0.0, 255.0), least=_LEAST)})
    maps = found.maps[0] if found.maps.ndim == 4 else np.abs(found.maps[0]).max(axis=1)
    for number, one in enumerate(np.abs(maps)):
        # Single bright pixels vanish in a thumbnail, so that every one is spread over its neighbours.
        rows.append(
            {"what": f"activations of kernel {number}", "picture": picture(_spread(one), (0.0, one.max() or 1))}
        )
    return rows


def _curves(job: Deconvolution, found: Found) -> dict[str, Table]:
    span = slice(0, _POINTS)
    offset = found.maps.shape[-1] - job.signals.shape[-1]
    activations = found.maps[0].sum(axis=0)[offset:]
    series = {
        "trace": job.signals[0, span],
        "reconstruction": found.reconstruction[0, span],
        "activation": activations[span],
    }
    rows = [
        {"what": what, "frame": frame, "value": float(value)}
        for what, values in series.items()
        for frame, value in enumerate(values)
    ]
    shape = [
        {"kernel": number, "frame": frame, "value": float(value)}
        for number, kernel in enumerate(found.kernels)
        for frame, value in enumerate(kernel)
    ]
    return {"trace": table_of(rows), "shapes": table_of(shape)}


def _trace_panels() -> list[Panel]:
    return [
        Panel(
            kind="curves",
            title="Kernels",
            caption="What one event looks like, of unit norm.",
            table="shapes",
            x="frame",
            y="value",
            color="kernel",
        ),
        Panel(
            kind="curves",
            title="The first trace",
            caption=f"Its first {_POINTS} frames at most: the trace, its reconstruction and its activations.",
            table="trace",
            x="frame",
            y="value",
            color="what",
        ),
    ]


def _answer(job: Deconvolution, found: Found, rows: list[Row]) -> str:
    counted = "1 kernel" if len(found.kernels) == 1 else f"{len(found.kernels)} kernels"
    sure = f"{job.options.confidence:.0%}"
    text = (
        f"{len(rows)} {_what(found)} of {counted} in {job.options.signals.name} at a confidence of at least {sure}. "
        f"Background taken out: {job.background}; penalty {found.alpha:.3g}, "
    )
    text += {
        "white": "from white noise.",
        "background": "from structured background, as a penalty from white noise fills the image with activations.",
        "given": "as given.",
    }[job.noise]
    if job.noise == "background" and job.options.noise == "background":
        text = text.replace(", as a penalty from white noise fills the image with activations", "")
    return f"{text} {found.solution.status.message[:1].upper()}{found.solution.status.message[1:]}."


def _what(found: Found) -> str:
    """What happens in traces, and is seen in images."""
    return "events" if found.kernels.ndim == 2 else "defects"


def _spread(image: np.ndarray) -> np.ndarray:
    padded = np.pad(image, 1)
    height, width = image.shape
    moved = [padded[i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return np.max(moved, axis=0)
