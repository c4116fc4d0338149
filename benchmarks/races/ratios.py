"""Times of the others over ours, read off the tables of results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from benchmarks.reading import MissingTableError, ResultFile, number

OURS = "tightframe"
COLUMNS = ("problem", "other", "column", "other's", "ours", "ratio", "other's result", "our result")


@dataclass(frozen=True, kw_only=True)
class Lines:
    """A table with one line per contender.

    Args:
        result: Name of the result file.
        time: Column of seconds.
        contender: Column of names; `ours` is ours, and other lines that begin with "tightframe" are left out.
        problem: Columns that name the problem; lines that agree in them are compared.
        quality: Column of what was reached, or "".
        also: A further column that only this table of the file has, or "".
    """

    result: str
    time: str
    contender: str
    problem: tuple[str, ...] = ()
    quality: str = ""
    ours: str = OURS
    also: str = ""

    def rows(self, result: ResultFile) -> Iterator[tuple[str, ...]]:
        lines = result.rows(*filter(None, [self.time, self.contender, *self.problem, self.quality, self.also]))
        for line in lines:
            name = line[self.contender]
            mine = next((each for each in lines if self._is_ours(each) and self._same(each, line)), None)
            if mine is None or name == self.ours or name.startswith(OURS) or number(line[self.time]) is None:
                continue
            ratio = _quotient(line[self.time], mine[self.time])
            reached = (line[self.quality], mine[self.quality]) if self.quality else ("", "")
            yield _problem(line, self.problem), name, self.time, line[self.time], mine[self.time], ratio, *reached

    def _is_ours(self, line: dict[str, str]) -> bool:
        return line[self.contender] == self.ours

    def _same(self, one: dict[str, str], other: dict[str, str]) -> bool:
        return all(one[name] == other[name] for name in self.problem)


@dataclass(frozen=True, kw_only=True)
class Columns:
    """A table with a column of seconds for ours and one for another; `quality` names two columns, theirs first."""

    result: str
    ours: str
    theirs: str
    other: str
    problem: tuple[str, ...]
    quality: tuple[str, str] | None = None

    def rows(self, result: ResultFile) -> Iterator[tuple[str, ...]]:
        for line in result.rows(self.ours, self.theirs, *self.problem):
            theirs, ours = line[self.theirs], line[self.ours]
            reached = tuple(line[name] for name in self.quality) if self.quality else ("", "")
            if number(theirs) is not None:
                ratio = _quotient(theirs, ours)
                yield _problem(line, self.problem), self.other, self.theirs, theirs, ours, ratio, *reached


# Columns whose cells need no name before them.
_SPEAKING = ("problem", "dictionary", "image", "metric", "waveforms", "storage")

COMPARISONS: tuple[Lines | Columns, ...] = (
    Columns(
        result="moments_update",
        ours="update (s)",
        theirs="bare GEMM (s)",
        other="the bare product",
        problem=("d", "K", "mode"),
    ),
    Columns(
        result="races",
        ours="ours (s)",
        theirs="theirs (s)",
        other="neural-collapse",
        problem=("N", "d", "K", "batch"),
    ),
    Columns(
        result="races", ours="ours (s)", theirs="theirs (s)", other="neural-collapse", problem=("metric", "K", "d")
    ),
    Lines(result="races", time="CPU (s)", contender="tool", quality="NC1"),
    Lines(
        result="ufm_races",
        time="s to gap 1e-08",
        contender="solver",
        problem=("problem",),
        quality="gap",
    ),
    Lines(
        result="ufm_races",
        time="s to gap 1e-06",
        contender="solver",
        problem=("problem",),
    ),
    Lines(
        result="ufm_races",
        time="seconds",
        contender="solver",
        problem=("problem",),
        quality="gap",
        ours="tightframe, solve",
    ),
    Lines(
        result="ufm_races",
        time="seconds",
        contender="solver",
        problem=("problem",),
        quality="above the optimum",
    ),
    Columns(
        result="rate_reduction",
        ours="ours (s)",
        theirs="loop (s)",
        other="the published loop",
        problem=("m", "d", "K"),
    ),
    Columns(
        result="sop_step",
        ours="SOPLoss (s)",
        theirs="published form (s)",
        other="the published form",
        problem=("storage",),
    ),
    Columns(
        result="transfer_scores",
        ours="all six, ours (s)",
        theirs="three, published (s)",
        other="the published formulas",
        problem=("N", "d", "K"),
    ),
    Lines(
        result="dictionary_races",
        time="CPU s",
        contender="learner",
        problem=("dictionary",),
        quality="worst",
    ),
    Columns(
        result="deconvolution_races",
        ours="CPU s",
        theirs="CPU s of OASIS",
        other="OASIS, told the family",
        problem=("noise", "traces"),
        quality=("OASIS", "ours"),
    ),
    Lines(
        result="convolutional_races",
        time="s to E",
        contender="solver",
        problem=("start",),
        quality="objective",
        also="match mean / min",
    ),
    Lines(
        result="convolutional_races",
        time="s to E",
        contender="solver",
        problem=("start",),
        quality="objective",
        also="s to 26.5",
    ),
    Lines(
        result="denoising",
        time="CPU (s)",
        contender="method",
        problem=("image", "noise"),
        quality="PSNR (dB)",
    ),
    Lines(
        result="spikes",
        time="CPU (s)",
        contender="method",
        problem=("waveforms", "noise"),
        quality="F1",
    ),
    Columns(
        result="deep_linear",
        ours="reduced (s)",
        theirs="full (s)",
        other="descent of the whole network",
        problem=("d", "steps"),
    ),
    Lines(
        result="completion",
        time="CPU s",
        contender="method",
        problem=("problem",),
        quality="error",
        ours="tightframe, rank unknown",
    ),
    Columns(
        result="tangent_kernels",
        ours="later",
        theirs="NT later",
        other="neural-tangents, later calls",
        problem=("L",),
        quality=("NT error", "error"),
    ),
    Lines(
        result="tangent_kernels",
        time="CPU s",
        contender="method",
        ours="products",
        also="times ours",
    ),
)


def ratios_of(result: ResultFile) -> list[tuple[str, ...]]:
    """Every comparison of one file, as rows of `COLUMNS`; one whose table is not there has none."""
    rows: list[tuple[str, ...]] = []
    for comparison in COMPARISONS:
        if comparison.result == result.name:
            with suppress(MissingTableError):
                rows += comparison.rows(result)
    return rows


def _problem(line: dict[str, str], names: tuple[str, ...]) -> str:
    return ", ".join(line[name] if name in _SPEAKING else f"{name} {line[name]}" for name in names)


def _quotient(theirs: str, ours: str) -> str:
    above, below = number(theirs), number(ours)
    if above is None or not below or below == float("inf"):
        return ""
    return "not reached" if above == float("inf") else f"{above / below:.3g}"
