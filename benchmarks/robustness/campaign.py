"""One damaged file after another, each read in a process that may die, and what became of it."""

from __future__ import annotations

import json
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

from benchmarks.robustness.readers import Reader
from tightframe.core.errors import TightframeError

# A reader of files this small that takes longer hangs; one that takes more memory believed a header.
SECONDS, MEMORY = 10, 2 << 30
_RESIDENT = 256 << 20
_WHOLE = 0.03


@dataclass(frozen=True)
class Outcome:
    """What became of one case: "refused" in words, "read", or "fault", and then what was wrong."""

    case: int
    kind: str
    detail: str = ""


def outcomes(reader: Reader, cases: range) -> Iterator[Outcome]:
    """Outcomes of the numbered cases, each of which is the same in every run."""
    left = cases
    while left:
        last = left.start - 1
        for outcome in _in_child(reader, left):
            yield outcome
            last = outcome.case
        if last + 1 < left.stop:
            yield Outcome(last + 1, "fault", "the process died or hung")
        left = range(last + 2, left.stop)


def attempt(reader: Reader, case: int, whole: Path, place: Path) -> Outcome:
    """Damage one of the files in the folder `whole`, and read it in the empty folder `place`."""
    rng = Random(f"{reader.name} {case}")
    target = _prepared(reader, rng, whole, place)
    before, cwd, resident = _contents(place), Path.cwd(), _peak()
    os.chdir(place)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = reader.read(place, target)
            kind, detail = ("read", "") if reader.valid(found) else ("fault", f"a wrong answer: {found!r:.200}")
    except TightframeError as error:
        kind, detail = _judged(error, target, place)
    except BaseException as error:  # any other kind is what the campaign looks for
        kind, detail = "fault", f"{type(error).__name__}: {error!s:.300}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        os.chdir(cwd)
    if kind != "fault" and _contents(place) != before:
        kind, detail = "fault", "files appeared or changed"
    if kind != "fault" and _peak() - resident > _RESIDENT:
        kind, detail = "fault", f"{(_peak() - resident) >> 20} MiB of memory"
    return Outcome(case, kind, detail)


def _warm(reader: Reader, whole: Path, place: Path) -> None:
    """Read every whole file, so that imports and pools of threads are there before memory is limited."""
    shutil.copytree(whole, place, dirs_exist_ok=True)
    for path in sorted(path for path in place.rglob("*") if path.is_file()):
        with suppress(TightframeError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reader.read(place, path)


def limit_memory() -> None:
    """From now on this process may take so much more address space, and no more."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _prepared(reader: Reader, rng: Random, whole: Path, place: Path) -> Path:
    """Copies of the whole files, one of them damaged."""
    files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    chosen = rng.choice(files)
    if reader.folder:
        shutil.copytree(whole, place, dirs_exist_ok=True)
    data = (whole / chosen).read_bytes()
    target = place / chosen
    if rng.random() >= _WHOLE:
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            data = rng.choice(reader.damage)(data, rng)
    target.write_bytes(data)
    return target


def _judged(error: Exception, target: Path, place: Path) -> tuple[str, str]:
    message = str(error)
    names = {target.name, *(path.name for path in place.rglob("*")), place.name}
    if not any(name in message for name in names):
        return "fault", f"an error that does not name the file: {message:.300}"
    if not error.remedy.strip():
        return "fault", f"an error that does not say what to do: {message:.300}"
    if len(message) > 5_000:
        return "fault", f"an error of {len(message)} characters"
    return "refused", message[:300]


def _contents(place: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in place.rglob("*") if path.is_file()}


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def _in_child(reader: Reader, cases: range) -> Iterator[Outcome]:
    """Outcomes until the cases are done, or the process is dead or silent for too long."""
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receiving)
        _child(reader, cases, sending)
    os.close(sending)
    try:
        with os.fdopen(receiving, "rb", buffering=0) as stream:
            pending = b""
            # The first answer waits for imports, too.
            while select.select([stream], [], [], 6 * SECONDS)[0] and (received := stream.read(65_536)):
                *lines, pending = (pending + received).split(b"\n")
                yield from (Outcome(**json.loads(line)) for line in lines)
    finally:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _child(reader: Reader, cases: range, sending: int) -> None:
    """Never returns."""
    try:
        quiet = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(quiet, stream)
        sys.stderr = sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - as long as the process
        signal.signal(signal.SIGALRM, _too_long)
        # The usual pool of pyarrow reserves address space by the gigabyte, which is what is limited here.
        os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"
        with tempfile.TemporaryDirectory() as folder:
            whole = Path(folder) / "whole"
            whole.mkdir()
            reader.write(whole)
            _warm(reader, whole, _empty(folder))
            limit_memory()
            for case in cases:
                try:
                    outcome = attempt(reader, case, whole, _empty(folder))
                except Exception as error:  # damage that cannot be done is a fault too, of the campaign
                    outcome = Outcome(case, "fault", f"the campaign itself: {type(error).__name__}: {error}")
                os.write(sending, json.dumps(asdict(outcome)).encode() + b"\n")
    except BaseException as error:
        failed = Outcome(cases.start, "fault", f"the campaign itself: {type(error).__name__}: {error}")
        os.write(sending, json.dumps(asdict(failed)).encode() + b"\n")
        time.sleep(0.1)
    finally:
        os._exit(0)


def _empty(folder: str) -> Path:
    place = Path(folder) / "attempt"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    return place


def _too_long(*_: object) -> None:
    raise TimeoutError(f"more than {SECONDS} s")
