"""`Sweep`: a function applied to many items in several processes, each result kept as soon as it is there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from tightframe.runs.console import progress
from tightframe.runs.store import write_atomic

if TYPE_CHECKING:
    from joblib import Parallel

# Marks of tuples and dicts in the files, which JSON would turn into lists or confuse with the marks.
_TUPLE, _DICT = "tuple", "dict"


@dataclass(frozen=True)
class Sweep:
    """Applies a function to many items, in `workers` processes where that is more than one.

    The processes are joblib's, on this machine unless `joblib.parallel_config` names a cluster: in
    `with joblib.parallel_config(backend="dask")` the items go to the workers of the current Dask client, which must see
    the folder of finished results under the same path.

    Args:
        workers: Processes; 0 and 1 stay in this one.
        data_root: Folder of the data sets, for functions that train on them.
        kept: Folder of finished results, read in place of being computed again; None to keep none. Only results of
            plain values (numbers, strings, lists, tuples, dicts) are kept.
        shown: Whether progress is shown on the error stream.
    """

    workers: int = 0
    data_root: Path | None = None
    kept: Path | None = None
    shown: bool = False

    def __call__(self, function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        """[function(item) for item in items], in this order."""
        items, results = list(items), []
        said = getattr(function, "__name__", "items").strip("_").replace("_", " ")
        with progress(len(items), said, enabled=self.shown) as meter:
            for result in self._results(function, items):
                results.append(result)
                meter.advance()
        return results

    def _results(self, function: Callable[[Any], Any], items: list[Any]) -> Iterator[Any]:
        if self.workers <= 1:
            yield from (_finished(function, item, self.kept) for item in items)
            return
        from joblib import delayed

        jobs = (delayed(_on_one_thread)(function, item, self.kept) for item in items)
        yield from parallel(self.workers)(jobs)


def parallel(workers: int, *, return_as: Literal["generator", "generator_unordered"] = "generator") -> Parallel:
    """joblib's runner on the backend in force; a backend that hands back all results at once, as Ray's, may do so."""
    from joblib import Parallel

    try:
        return Parallel(n_jobs=workers, return_as=return_as)
    except ValueError:
        return Parallel(n_jobs=workers)


def _on_one_thread(function: Callable[[Any], Any], item: Any, kept: Path | None) -> Any:
    torch.set_num_threads(1)
    return _finished(function, item, kept)


def _finished(function: Callable[[Any], Any], item: Any, kept: Path | None) -> Any:
    """The kept result, or the one computed now, which is then kept."""
    if kept is None:
        return function(item)
    try:
        path = kept / f"{_name(function, item)}.json"
    except (AttributeError, TypeError):
        return function(item)
    if path.is_file():
        return _restored(json.loads(path.read_text(encoding="utf-8")))
    result = function(item)
    try:
        text = json.dumps(_plain(result))
    except TypeError:
        return result
    kept.mkdir(parents=True, exist_ok=True)
    write_atomic(path, text)
    return result


def _name(function: Callable[[Any], Any], item: Any) -> str:
    """Of an item that says everything its result depends on: plain values, paths, tensors, and dataclasses of them.

    Raises:
        AttributeError: A function without a name, a partial one say, whose arguments are not seen.
        TypeError: Anything else in the item.
    """
    said = [function.__module__, function.__qualname__, _plain(_opened(item))]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def _opened(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {type(value).__qualname__: {entry.name: _opened(getattr(value, entry.name)) for entry in fields(value)}}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, torch.Tensor):
        return [str(value.dtype), list(value.shape), _digest(value)]
    if isinstance(value, Mapping):
        return {name: _opened(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_opened(entry) for entry in value]
    return value


def _digest(values: torch.Tensor) -> str:
    raw = values.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.sha256(raw.numpy().tobytes()).hexdigest()


def _plain(value: Any) -> Any:
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) is list:
        return [_plain(entry) for entry in value]
    if type(value) is tuple:
        return {_TUPLE: [_plain(entry) for entry in value]}
    if type(value) is dict and all(type(key) is str for key in value):
        return {_DICT: {key: _plain(entry) for key, entry in value.items()}}
    raise TypeError(f"{type(value).__name__} is not kept")


def _restored(value: Any) -> Any:
    if isinstance(value, list):
        return [_restored(entry) for entry in value]
    if isinstance(value, dict) and _TUPLE in value:
        return tuple(_restored(entry) for entry in value[_TUPLE])
    if isinstance(value, dict):
        return {key: _restored(entry) for key, entry in value[_DICT].items()}
    return value
