from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path

import pytest

from tightframe.core.errors import DegenerateError, InputError
from tightframe.core.files import replace_file
from tightframe.runs.record import Record
from tightframe.runs.store import RunDirectory, begin, load_records, write_atomic


def record(name: str) -> Record:
    return Record(name=name, title=name.title(), question="?")


def test_write_replaces_text_and_bytes(tmp_path):
    path = tmp_path / "a.txt"
    write_atomic(path, "grün")
    assert path.read_text(encoding="utf-8") == "grün"
    write_atomic(path, b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_written_file_has_the_permissions_of_any_new_file(tmp_path):
    write_atomic(tmp_path / "ours", "")
    (tmp_path / "theirs").write_text("")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "theirs").stat().st_mode


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_full_disk_keeps_the_old_file_and_leaves_no_partial_one(tmp_path, monkeypatch, failing):
    path = tmp_path / "a.txt"
    write_atomic(path, "old")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, failing, full)
    with pytest.raises(InputError, match=r"No space left.*on a disk with free space"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def _interrupt(*_):
    raise KeyboardInterrupt


def test_an_interrupt_leaves_no_partial_file(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", _interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "a.txt", "new")
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.name == "nt", reason="Windows syncs no directories")
def test_file_and_directory_are_on_the_disk_the_file_before_its_name(tmp_path, monkeypatch):
    synced, sync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (synced.append(os.fstat(handle).st_mode), sync(handle)))
    monkeypatch.setattr(os, "replace", lambda *names: (synced.append("replaced"), replace(*names)))
    write_atomic(tmp_path / "a.txt", "new")
    assert [entry if entry == "replaced" else stat.S_ISDIR(entry) for entry in synced] == [False, "replaced", True]


def test_two_writers_of_one_file_do_not_share_their_unfinished_ones(tmp_path):
    path, seen = tmp_path / "a.npz", []

    def outer(partial):
        seen.append(partial)
        replace_file(path, lambda inner: (seen.append(inner), inner.write_text("inner")))
        partial.write_text("outer")

    replace_file(path, outer)
    assert (len(set(seen)), {entry.suffix for entry in seen}) == (2, {".npz"})
    assert (os.listdir(tmp_path), path.read_text()) == (["a.npz"], "outer")


def test_a_missing_directory_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="a place to write"):
        write_atomic(tmp_path / "none" / "a.txt", "x")


def test_a_new_run_writes_its_configuration(tmp_path):
    run = RunDirectory.create(tmp_path / "deep" / "x", config={"lr": 0.1, "milestones": (1, 2)})
    assert run.config() == {"lr": 0.1, "milestones": [1, 2]}
    assert run.record_path == tmp_path / "deep" / "x" / "record.json"
    assert run.checkpoint_path == tmp_path / "deep" / "x" / "checkpoint.pt"


def test_a_directory_that_holds_something_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(InputError, match=r"thesis\.tex.*--resume, or choose another --out"):
        RunDirectory.create(tmp_path, config={})
    assert os.listdir(tmp_path) == ["thesis.tex"]


@pytest.mark.parametrize("killed", [None, ".checkpoint.pt.0a1b2c3d.partial"])
def test_resume_goes_on_with_the_same_configuration_and_clears_unfinished_files(tmp_path, monkeypatch, killed):
    config = {"lr": 0.1, "milestones": (1, 2)}
    RunDirectory.create(tmp_path, config=config)
    if killed is None:
        # What a writer leaves that is killed before the name changes, as if it could not clean up.
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", _interrupt)
            patch.setattr(Path, "unlink", lambda *_, **__: None)
            with pytest.raises(KeyboardInterrupt):
                replace_file(tmp_path / "delta.safetensors", lambda partial: partial.write_bytes(b"half"))
    else:
        (tmp_path / killed).write_bytes(b"half")
    assert len(os.listdir(tmp_path)) == 2
    (tmp_path / "checkpoint.pt").write_bytes(b"whole")
    run = RunDirectory.create(tmp_path, config=config, resume=True)
    assert sorted(os.listdir(tmp_path)) == ["checkpoint.pt", "config.json"]
    assert run.checkpoint_path.read_bytes() == b"whole"


def test_resume_names_the_differing_keys(tmp_path):
    RunDirectory.create(tmp_path, config={"lr": 0.1, "seed": 0, "same": None})
    with pytest.raises(
        InputError, match=r"extra: absent then, true now; lr: 0\.1 then, 0\.2 now; seed: 0 then, absent"
    ):
        RunDirectory.create(tmp_path, config={"lr": 0.2, "same": None, "extra": True}, resume=True)


def test_resume_of_an_empty_directory_begins_a_run(tmp_path):
    RunDirectory.create(tmp_path, config={"a": 1}, resume=True)
    assert json.loads((tmp_path / "config.json").read_text()) == {"a": 1}


def test_resume_of_something_else_is_refused(tmp_path):
    (tmp_path / "notes").write_text("")
    with pytest.raises(InputError, match=r"config\.json"):
        RunDirectory.create(tmp_path, config={}, resume=True)


@pytest.mark.parametrize(
    "error", [InputError("x", got="y", remedy="z"), ValueError(), KeyboardInterrupt(), SystemExit(1)]
)
def test_a_run_that_ends_before_it_left_anything_frees_its_directory(tmp_path, error):
    def ends() -> None:
        with RunDirectory.create(tmp_path / "x", config={"lr": 0.1}) as run:
            (run.path / ".checkpoint.pt.0a1b2c3d.partial").write_bytes(b"half")
            (run.path / "runs" / "empty").mkdir(parents=True)
            raise error

    with pytest.raises(type(error)):
        ends()
    with RunDirectory.create(tmp_path / "x", config={"lr": 0.2}) as run:
        assert run.config() == {"lr": 0.2}
    assert run.config() == {"lr": 0.2}


@pytest.mark.parametrize("left", ["checkpoint.pt", "finished/one.json", "runs/ce/config.json"])
@pytest.mark.parametrize("error", [DegenerateError("x", got="y", remedy="z"), KeyboardInterrupt()])
def test_a_run_that_left_something_keeps_it_whatever_ends_it(tmp_path, left, error):
    config = {"lr": 0.1}

    def ends() -> None:
        with RunDirectory.create(tmp_path, config=config) as run:
            (run.path / left).parent.mkdir(parents=True, exist_ok=True)
            (run.path / left).write_text("worth resuming")
            raise error

    with pytest.raises(type(error)):
        ends()
    assert (tmp_path / left).read_text() == "worth resuming"
    with RunDirectory.create(tmp_path, config=config, resume=True) as run:
        assert run.config() == config


def test_a_process_that_did_not_begin_the_run_frees_nothing(tmp_path):
    RunDirectory.create(tmp_path, config={})
    with pytest.raises(ValueError), begin(tmp_path, config={}, first=False):
        raise ValueError
    with pytest.raises(ValueError), RunDirectory(tmp_path):
        raise ValueError
    assert os.listdir(tmp_path) == ["config.json"]


def test_processes_wait_until_the_first_has_made_the_directory(tmp_path):
    seen = []
    with begin(tmp_path / "x", config={}, wait=lambda: seen.extend(os.listdir(tmp_path / "x"))) as run:
        assert (run.path, seen) == (tmp_path / "x", ["config.json"])


def test_a_run_may_keep_nothing(tmp_path):
    with begin(None, config={"not": {"JSON"}}) as run:
        assert run is None


@pytest.mark.parametrize("text", ["{", "[1]", b"\xff\xfe\x00"])
def test_a_damaged_configuration_is_an_input_error(tmp_path, text):
    (tmp_path / "config.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=r"config\.json"):
        RunDirectory(tmp_path).config()


@pytest.mark.parametrize("value", [{1, 2}, float("nan")])
def test_a_configuration_that_is_not_json_is_refused_before_anything_is_written(tmp_path, value):
    with pytest.raises(InputError, match="a configuration of JSON values"):
        RunDirectory.create(tmp_path / "x", config={"a": value})
    assert not (tmp_path / "x").exists()


def test_a_file_in_the_way_is_an_input_error(tmp_path):
    (tmp_path / "x").write_text("")
    with pytest.raises(InputError, match="a place to write"):
        RunDirectory.create(tmp_path / "x", config={})


def test_record_round_trip(tmp_path):
    run = RunDirectory.create(tmp_path, config={})
    run.save_record(record("a"))
    assert run.load_record() == record("a")


def test_load_records_takes_files_runs_and_directories_of_runs(tmp_path):
    for name in ("b", "a"):
        RunDirectory.create(tmp_path / "all" / name, config={}).save_record(record(name))
    (tmp_path / "all" / "unfinished").mkdir()
    file = tmp_path / "elsewhere.json"
    file.write_text(record("c").to_json())
    found = load_records([file, tmp_path / "all" / "b", tmp_path / "all"])
    assert [r.name for r in found] == ["c", "b", "a", "b"]


@pytest.mark.parametrize("make", [False, True])
def test_a_path_without_records_lists_what_was_looked_for(tmp_path, make):
    path = tmp_path / "x"
    if make:
        path.mkdir()
    with pytest.raises(InputError, match=r"neither the file .*x, nor .*x.record\.json, nor .*x.\*.record\.json"):
        load_records([path])


def test_no_path_at_all_is_refused():
    with pytest.raises(InputError, match="at least one run"):
        load_records([])


def test_a_damaged_record_is_named(tmp_path):
    (tmp_path / "record.json").write_text('{"schema": 1')
    with pytest.raises(InputError, match=r"record\.json"):
        load_records([tmp_path])


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_directory_is_an_input_error(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="Permission denied"):
        write_atomic(tmp_path / "a", "x")
