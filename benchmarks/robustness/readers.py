"""The readers under test: whole files, how each is called, what a right answer looks like, what damage it meets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.robustness import own_files, samples
from benchmarks.robustness.mutations import BYTES, TEXT, Mutation, deep, token
from benchmarks.robustness.structures import footer, in_gzip, in_zip, npy, pickled, png, safetensors, tiff

Write = Callable[[Path], None]


@dataclass(frozen=True)
class Reader:
    """One reader.

    Args:
        name: What the table calls it.
        write: Fills an empty folder with whole files.
        read: Given the folder and the damaged file, what the reader makes of it.
        valid: Whether what was read keeps the promises of the reader.
        damage: Ways of damage, chosen among at random.
        folder: Whether the reader needs all of the files, or the damaged one alone.
    """

    name: str
    write: Write
    read: Callable[[Path, Path], Any]
    valid: Callable[[Any], bool]
    damage: tuple[Mutation, ...]
    folder: bool = False


def _each(structured: tuple[Mutation, ...], *, zipped: bool = False) -> tuple[Mutation, ...]:
    """Damage to bytes and damage to structure, as likely one as the other."""
    inner = (*BYTES, *(in_zip(mutation) for mutation in structured)) if zipped else (*BYTES, *structured)
    return tuple(in_gzip(mutation) for mutation in (*inner, *structured * (1 + len(BYTES) // max(1, len(structured)))))


def _read_features(_: Path, path: Path) -> Any:
    from tightframe.features.store import read_features

    return read_features(path)


def _read_shards(folder: Path, _: Path) -> Any:
    from tightframe.features.shards import FeatureShards

    opened = FeatureShards.open(folder / "shards")
    return len(opened), opened.features, [(h.clone(), y.clone()) for h, y in opened.blocks(2)]


def _read_array(_: Path, path: Path) -> Any:
    from tightframe.data.array_files import read_array

    return np.array(read_array(path))


def _read_recording(_: Path, path: Path) -> Any:
    from tightframe.data.recorded.recordings import read_recording

    found = read_recording(path, None if path.name.endswith(".npz") else 15000.0, channels=2)
    return found.rate, np.array(found.values)


def _read_spikes(_: Path, path: Path) -> Any:
    from tightframe.data.recorded.spikes import read_spikes

    return read_spikes(path)


def _read_image(_: Path, path: Path) -> Any:
    from tightframe.data.pictured.image_files import read_image

    return read_image(path)


def _read_movie(_: Path, path: Path) -> Any:
    from tightframe.data.pictured.image_files import read_movie

    return read_movie(path)


def _loaded(spec: str) -> Callable[[Path, Path], Any]:
    def read(folder: Path, _: Path) -> Any:
        from tightframe.data.labelled.source import load

        data = load(spec.format(folder), root=folder)
        return [data.train[place] for place in range(len(data.train))], len(data.classes)

    return read


def _read_triples(_: Path, path: Path) -> Any:
    from tightframe.data.ratings import read_triples

    return read_triples(path)


def _drug_targets(folder: Path, _: Path) -> Any:
    from tightframe.data.ratings import drug_targets

    return drug_targets("nr", root=folder)


def _locust(folder: Path, _: Path) -> Any:
    from tightframe.data.recorded.recordings import locust_recording

    found = locust_recording(root=folder)
    return found.rate, np.array(found.values)


def _calcium(folder: Path, _: Path) -> Any:
    from tightframe.data.recorded.calcium import spikefinder

    return spikefinder(1, root=folder)


def _topographs(folder: Path, _: Path) -> Any:
    from tightframe.data.pictured.topographs import labelled_topographs

    return labelled_topographs(folder)


def _densities(_: Path, path: Path) -> Any:
    from tightframe.data.pictured.topographs import simulated_densities

    return simulated_densities(path)


def _noisy(_: Path, path: Path) -> Any:
    from tightframe.data.labelled.noise import flipped

    return flipped(torch.from_numpy(samples.LABELS), f"file:{path}:noisy", classes=3)


def _settings(_: Path, path: Path) -> Any:
    from tightframe.cli.config import with_config

    return with_config(["train", "--config", str(path), "--seed", "1"])


def _checkpoint(_: Path, path: Path) -> Any:
    from tightframe.training.checkpoint import load, load_state_dict

    return load(path) if path.name == "training.pt" else load_state_dict(path)


def _run(folder: Path, _: Path) -> Any:
    from tightframe.runs.store import RunDirectory, load_records

    directory = RunDirectory(folder / "run")
    again = RunDirectory.create(folder / "run", config=directory.config(), resume=True)
    return again.load_record(), load_records([folder])


def _delta(_: Path, path: Path) -> Any:
    from tightframe.nn.tuning.delta import read_delta

    return read_delta(path)


def _features_fit(found: Any) -> bool:
    h, y = found.features, found.labels
    return h.ndim == 2 and h.is_floating_point() and y.shape == h.shape[:1] and int(y.min()) >= 0


def _shards_fit(found: Any) -> bool:
    rows, width, blocks = found
    return sum(len(y) for _, y in blocks) == rows and all(h.shape[1] == width for h, _ in blocks)


def _numbers(found: Any) -> bool:
    return found.dtype.kind in "biuf" and found.size > 0


def _rated(found: Any) -> bool:
    return 0 < found[0] < float("inf") and found[1].ndim == 2 and found[1].size > 0


def _spikes_fit(found: Any) -> bool:
    return bool(np.isfinite(found.times).all() and (np.diff(found.times) >= 0).all()) and found.units.dtype == np.int64


def _pixels(found: Any) -> bool:
    return found.dtype == np.float64 and (found.ndim == 2 or found.shape[2:] == (3,)) and found.size > 0


def _labelled(found: Any) -> bool:
    items, classes = found
    return all(torch.isfinite(x).all() and 0 <= int(y) < classes for x, y in items)


def _entries(found: Any) -> bool:
    fits = len(found.rows) == len(found.columns) == len(found.values) > 0
    return fits and bool(np.isfinite(found.values).all()) and int(found.rows.max()) < found.shape[0]


def _tensors(found: Any) -> bool:
    return isinstance(found, dict) and all(isinstance(value, torch.Tensor) for value in found.values())


def _restored(found: Any) -> bool:
    if isinstance(found, dict):
        return _tensors(found)
    return _tensors(found.model) and isinstance(found.epoch, int) and all(isinstance(r, dict) for r in found.history)


def _boxed(found: Any) -> bool:
    return all(one.image.ndim == 2 and one.boxes.shape == (len(one.kinds), 4) for one in found)


_SAFE = _each((safetensors,))
_ARCHIVE = _each((npy,), zipped=True)
_TABLE = tuple(in_gzip(mutation) for mutation in (*BYTES, *TEXT))
READERS: tuple[Reader, ...] = (
    Reader("features .npz", own_files.features(".npz"), _read_features, _features_fit, _ARCHIVE),
    Reader("features .safetensors", own_files.features(".safetensors"), _read_features, _features_fit, _SAFE),
    Reader("features .parquet", own_files.features(".parquet"), _read_features, _features_fit, _each((footer,))),
    Reader("feature shards", own_files.shards, _read_shards, _shards_fit, (*_SAFE, *TEXT), True),
    Reader("array .npy", samples.npy, _read_array, _numbers, _each((npy,))),
    Reader("array .npz", samples.npz, _read_array, _numbers, _ARCHIVE),
    Reader("array .mat", samples.mat, _read_array, _numbers, _each(())),
    Reader("array .csv", samples.text_table, _read_array, _numbers, _TABLE),
    Reader("recording", samples.recordings, _read_recording, _rated, (*_ARCHIVE, *_each((npy,)))),
    Reader("spikes", samples.spikes, _read_spikes, _spikes_fit, (*_ARCHIVE, *_TABLE)),
    Reader("image", samples.images, _read_image, _pixels, _each((png,))),
    Reader("movie .tif", samples.movies, _read_movie, lambda found: found.ndim == 3, _each((tiff,))),
    Reader("MNIST idx", samples.idx, _loaded("mnist"), _labelled, _each(()), True),
    Reader("CIFAR-10 binary", samples.cifar_binary, _loaded("cifar10"), _labelled, BYTES, True),
    Reader("CIFAR-10 pickles", samples.cifar_pickles, _loaded("cifar10"), _labelled, _each((pickled,)), True),
    Reader("CIFAR-10 jpegs", samples.cifar_jpegs, _loaded("cifar10"), _labelled, _ARCHIVE, True),
    Reader("image folder", samples.image_folder, _loaded("folder:{}/classes"), _labelled, _each((png,)), True),
    Reader("ratings .csv", samples.ratings(".csv"), _read_triples, _entries, _TABLE),
    Reader("ratings .tsv", samples.ratings(".tsv"), _read_triples, _entries, _TABLE),
    Reader("ratings .parquet", samples.ratings(".parquet"), _read_triples, _entries, _each((footer,))),
    Reader("drug targets", samples.drug_targets, _drug_targets, lambda found: found.matrix.ndim == 2, _TABLE, True),
    Reader("locust recording", samples.locust, _locust, _rated, (*BYTES, *TEXT), True),
    Reader("spikefinder traces", samples.calcium, _calcium, lambda found: len(found) > 0, _TABLE, True),
    Reader("topographs", samples.topographs, _topographs, _boxed, (*_each((png,)), *TEXT, token, deep), True),
    Reader("simulated densities", samples.densities, _densities, lambda found: found.ndim == 3, _each(())),
    Reader("noisy labels .npz", samples.noisy_labels, _noisy, lambda found: len(found.labels) == 7, _ARCHIVE),
    Reader("settings .toml", own_files.settings, _settings, lambda found: found[0] == "train", (*BYTES, *TEXT)),
    Reader("checkpoint", own_files.checkpoints, _checkpoint, _restored, _each((safetensors, in_zip(pickled), pickled))),
    Reader(
        "run directory", own_files.run_directory, _run, lambda found: len(found[1]) == 1, (*BYTES, *TEXT, *TEXT), True
    ),
    Reader("delta", own_files.delta, _delta, lambda found: _tensors(found.tensors), _SAFE),
)
