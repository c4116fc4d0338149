"""The campaign of damaged files: no reader fails it, and it would notice if one did."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest
from benchmarks.robustness import campaign
from benchmarks.robustness.campaign import outcomes
from benchmarks.robustness.mutations import BYTES, TEXT
from benchmarks.robustness.readers import READERS, Reader
from benchmarks.robustness.samples import FOREIGN

from tightframe.core.errors import InputError

ROOT = Path(__file__).parents[2]


def run(*arguments: str, seconds: float) -> dict[str, list[int]]:
    """Cases, refused, read and faults of every reader, from the table that the command prints."""
    command = [sys.executable, "-m", "benchmarks.robustness", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=seconds)
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^\| ([^|]+?) \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|", done.stdout, flags=re.M)
    assert "| fault |" not in done.stdout, done.stdout[done.stdout.index("| fault |") :]
    return {name: [int(cell.replace(",", "")) for cell in cells] for name, *cells in rows}


def test_no_reader_fails_a_few_hundred_cases():
    table = run("--quick", seconds=120)
    assert set(table) == {reader.name for reader in READERS} | {"all"}
    assert all(cases == refused + read and faults == 0 for cases, refused, read, faults in table.values())
    cases, refused, read, _ = table["all"]
    assert cases >= 300
    # Damage that is never noticed, or always at once, would reach nothing.
    assert 0.2 < refused / cases < 0.95
    assert read > 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_no_reader_fails_ten_thousand_cases(tmp_path):
    table = run("--cases", str(-(-10_000 // len(READERS))), "--out", str(tmp_path), seconds=3600)
    assert table["all"][0] >= 10_000
    assert table["all"][3] == 0


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_whole_files_are_read(reader, whole_files):
    folder = whole_files(reader)
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.stem not in FOREIGN]
    assert files
    for path in files:
        assert reader.valid(reader.read(folder, path)), path


def reads(action) -> Reader:
    """A reader of one text that does what `action` says, whatever the text."""
    return Reader("planted", lambda folder: (folder / "file.txt").write_text("a,b\n1,2\n"), action, bool, BYTES)


def refuse(folder, path):
    raise InputError("a better file", got=path.name, remedy="Write one.")


def refuse_namelessly(folder, path):
    raise InputError("a better file", got="another", remedy="Write one.")


def refuse_at_length(folder, path):
    error = InputError("a better file", got=path.name, remedy="Write one.")
    error.args = (str(error) + 10_000 * "!",)
    raise error


def refuse_without_advice(folder, path):
    raise InputError("a better file", got=path.name, remedy=" ")


def leave_a_file(folder, path):
    (folder / "partial").write_text("half")
    refuse(folder, path)


def change_the_file(folder, path):
    path.write_bytes(b"other content of the file")
    return True


def raise_another_error(folder, path):
    raise KeyError("shape")


def hang(folder, path):
    time.sleep(60)


def fill_memory(folder, path):
    # Twice the limit: what the process had mapped before may be free again.
    return len(bytearray(2 * campaign.MEMORY))


def take_much_memory(folder, path):
    return len(bytearray(os.urandom(1 << 20)) * 400)


def die(folder, path):
    os._exit(3)


@pytest.mark.parametrize(
    ("action", "detail"),
    [
        (refuse_namelessly, "does not name the file"),
        (refuse_at_length, "characters"),
        (refuse_without_advice, "what to do"),
        (leave_a_file, "files appeared"),
        (change_the_file, "files appeared"),
        (raise_another_error, "KeyError"),
        (hang, "TimeoutError"),
        (fill_memory, "MemoryError"),
        (take_much_memory, "MiB of memory"),
        (lambda folder, path: 0, "a wrong answer"),
    ],
)
def test_every_kind_of_fault_is_noticed(action, detail, monkeypatch):
    # One second is short enough to wait for what hangs, and too short for the others on a busy machine.
    monkeypatch.setattr(campaign, "SECONDS", 1 if action is hang else 20)
    # Reading the whole file first, which is where imports happen, goes well.
    monkeypatch.setattr(campaign, "_warm", lambda *_: None)
    (found,) = outcomes(reads(action), range(1))
    assert found.kind == "fault"
    assert detail in found.detail


def test_a_process_that_dies_is_a_fault_and_the_campaign_goes_on(monkeypatch):
    monkeypatch.setattr(campaign, "_warm", lambda *_: None)
    found = list(outcomes(reads(die), range(3)))
    assert [(one.case, one.kind) for one in found] == [(0, "fault"), (1, "fault"), (2, "fault")]
    assert {one.kind for one in outcomes(reads(refuse), range(3))} == {"refused"}
    assert {one.kind for one in outcomes(reads(lambda folder, path: True), range(3))} == {"read"}


def test_damage_is_the_same_in_every_run_and_differs_from_case_to_case():
    text = b"a,b\n1,2\n3,4\n" * 20
    for mutation in (*BYTES, *TEXT):
        versions = [[mutation(text, Random(f"x {case}")) for case in range(20)] for _ in range(2)]
        assert versions[0] == versions[1]
        assert len(set(versions[0])) > 3, mutation
