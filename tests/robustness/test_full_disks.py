"""Jobs on a full disk, in a place that is none, and killed: words instead of tracebacks, no half-written files."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from door import refused
from tightframe.cli.main import main
from tightframe.data.array_files import write_arrays
from tightframe.data.pictured.image_files import read_image, write_image
from tightframe.data.ratings import read_triples, write_triples
from tightframe.data.recorded.spike_trains import spike_recording
from tightframe.data.recorded.spikes import read_spikes, write_spikes
from tightframe.data.recorded.waveforms import analytic_templates
from tightframe.features.store import read_features, write_features
from tightframe.runs.store import RunDirectory

RATE = 24_000.0
TRUTH = spike_recording(analytic_templates(2, RATE, milliseconds=2.0), RATE, seconds=2.0, firing_rates=15.0, seed=0)
FACTORY = (
    "import torch\nfrom tightframe.nn.networks import MLP\ndef small():\n    return MLP(64, 10, widths=(24, 12))\n"
)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A recording, a table of ratings, pictures, features and a network."""
    folder = tmp_path_factory.mktemp("inputs")
    rng = np.random.default_rng(0)
    np.save(folder / "volts.npy", (1000 * TRUTH.recording.values).astype(np.int16))
    rows, columns = (part.ravel() for part in np.indices((30, 20)))
    values = np.outer(rng.standard_normal(30), rng.standard_normal(20)).ravel()
    seen = {"row": rows, "column": columns, "value": values}
    write_triples(folder / "ratings.csv", {name: part[np.arange(600) % 3 > 0] for name, part in seen.items()})
    np.save(folder / "picture.npy", rng.uniform(0, 255, (40, 40)))
    np.savez(folder / "features.npz", features=rng.standard_normal((60, 8)), labels=np.arange(60) % 3)
    (folder / "factory.py").write_text(FACTORY, encoding="utf-8")
    return folder


JOBS = {
    "sort": ("sort", "volts.npy", "--rate", "24000", "--units", "2", "--quiet"),
    "complete": ("complete", "ratings.csv", "--rank", "1", "--folds", "0", "--quiet", "--accelerator", "cpu"),
    "denoise": ("denoise", "picture.npy", "--noise", "10", "--samples", "200", "--accelerator", "cpu"),
    "inpaint": (
        "inpaint",
        "picture.npy",
        "--remove",
        "0.3",
        "--rounds",
        "1",
        "--samples",
        "200",
        "--accelerator",
        "cpu",
    ),
    "measure": ("measure", "--features", "features.npz"),
    "train": ("train", "--epochs", "2", "--width", "16", "--depth", "2", "--observations", "2", "--quiet"),
    "finetune": (
        *("finetune", "--model", "factory:small", "--method", "layer", "--layer", "blocks.0", "--epochs", "2"),
        *("--observations", "2", "--limit", "100", "--quiet"),
    ),
}


@pytest.fixture
def started(inputs, monkeypatch):
    monkeypatch.chdir(inputs)
    monkeypatch.delitem(sys.modules, "factory", raising=False)


@pytest.fixture
def full_disk():
    """A limit on the size of files: writing beyond it fails as it does on a full disk."""
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, before)


@pytest.mark.parametrize("job", JOBS)
def test_a_place_below_a_file_is_refused(job, started, tmp_path, capsys):
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    message = refused(capsys, *JOBS[job], "--out", tmp_path / "file" / "run")
    assert "Not a directory" in message
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("file", "mine")]


@pytest.mark.parametrize("job", JOBS)
def test_a_full_disk_is_said_in_words_and_leaves_no_half_of_a_file(job, started, tmp_path, capsys, full_disk):
    capsys.readouterr()
    full_disk(2_000)
    with pytest.raises(SystemExit) as end:
        main([*JOBS[job], "--out", str(tmp_path / "run")])
    full_disk(resource.RLIM_INFINITY)
    err = capsys.readouterr().err
    assert end.value.code == 2
    assert "File too large" in err or "free space" in err, err
    assert "Traceback" not in err
    left = [entry for entry in (tmp_path / "run").rglob("*") if entry.is_file()] if (tmp_path / "run").exists() else []
    assert not [entry for entry in left if entry.name.startswith(".") or ".partial" in entry.name]
    assert not (tmp_path / "run" / "record.json").exists()
    _all_whole(left)


def _all_whole(files):
    """Every file that is there can be read to its end."""
    readers = {".json": lambda path: json.loads(path.read_text()), ".png": read_image, ".npz": _read_all}
    for path in files:
        if path.name == "spikes.csv":
            read_spikes(path)
        elif path.name == "predictions.csv":
            read_triples(path)
        elif path.suffix in readers:
            readers[path.suffix](path)


def _read_all(path):
    with np.load(path) as content:
        return {name: content[name] for name in content.files}


def _write_picture(path):
    write_image(path, np.random.default_rng(0).uniform(0, 1, (200, 200)), limits=(0, 1))


WRITERS = {
    "a.csv": lambda path: write_spikes(path, TRUTH.spikes),
    "b.csv": lambda path: write_triples(path, {"x": np.arange(5_000), "y": np.arange(5_000)}),
    "c.parquet": lambda path: write_triples(path, {"x": np.random.default_rng(0).standard_normal(5_000)}),
    "d.png": _write_picture,
    "e.npy": _write_picture,
    "f.npz": lambda path: write_arrays(path, {"a": np.random.default_rng(0).standard_normal(5_000)}),
    "g.safetensors": lambda path: write_features(path, np.ones((500, 8)), np.arange(500)),
    "h.npz": lambda path: write_features(path, np.ones((500, 8)), np.arange(500)),
}


@pytest.mark.parametrize("name", WRITERS)
def test_writers_leave_the_old_file_on_a_full_disk(name, tmp_path, full_disk):
    from tightframe.core.errors import InputError

    (tmp_path / name).write_text("old", encoding="utf-8")
    full_disk(200)
    with pytest.raises(InputError, match=name):
        WRITERS[name](tmp_path / name)
    full_disk(resource.RLIM_INFINITY)
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [(name, "old")]
    WRITERS[name](tmp_path / name)
    assert (tmp_path / name).stat().st_size > 200


def _start(job, out, inputs):
    command = [sys.executable, "-m", "tightframe", *JOBS[job], "--out", str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, cwd=inputs, env=environment, **quiet)


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("job", ["sort", "complete", "finetune"])
def test_a_job_that_is_killed_leaves_whole_files_and_runs_again(job, stop, inputs, started, tmp_path):
    main([*JOBS[job], "--out", str(tmp_path / "whole")])
    rng = np.random.default_rng(0)
    for attempt in range(4):
        out = tmp_path / f"killed {attempt}"
        with _start(job, out, inputs) as process:
            deadline = time.monotonic() + 60
            while not (out / "config.json").exists() and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.005)
            time.sleep(float(rng.uniform(0, 0.5)))
            process.send_signal(stop)
        left = [entry for entry in out.rglob("*") if entry.is_file()] if out.exists() else []
        _all_whole([entry for entry in left if not entry.name.startswith(".")])
    main([*JOBS[job], "--out", str(tmp_path / "again")])
    whole, again = (RunDirectory(tmp_path / name).load_record() for name in ("whole", "again"))
    assert _steady(again.tables) == _steady(whole.tables)
    for path in (tmp_path / "whole").glob("*.csv"):
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()
    if job == "finetune":
        names = [tmp_path / name / "delta.safetensors" for name in ("whole", "again")]
        assert names[0].read_bytes() == names[1].read_bytes()


def _steady(tables):
    """Tables without columns and rows of seconds."""
    kept = {}
    for name, table in tables.items():
        rows = [dict(zip(table, cells, strict=True)) for cells in zip(*table.values(), strict=True)]
        rows = [{key: cell for key, cell in row.items() if "second" not in key} for row in rows]
        kept[name] = [row for row in rows if not any("second" in str(cell) for cell in row.values())]
    return kept


def test_features_written_twice_are_the_last_ones(tmp_path):
    for value in (1.0, 2.0):
        write_features(tmp_path / "h.npz", np.full((4, 2), value), np.arange(4))
    assert float(read_features(tmp_path / "h.npz").features.max()) == 2.0
    assert [entry.name for entry in tmp_path.iterdir()] == ["h.npz"]
