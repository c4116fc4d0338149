"""The door: what is understood, what is refused, and on which stream the answer appears."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import get_type_hints

import pytest
import tyro

from door import refused
from tightframe.cli import commands
from tightframe.cli.config import with_config
from tightframe.cli.main import main
from tightframe.cli.options import COMMANDS, CompareOptions, ReportOptions, RunOptions
from tightframe.core.errors import InputError
from tightframe.experiments.catalog import ENTRIES
from tightframe.jobs.options import CertifyOptions, MeasureOptions, TrainOptions


@pytest.fixture
def understood(monkeypatch):
    """What the command line makes of arguments, without doing it."""
    caught = []
    monkeypatch.setattr(commands, "execute", caught.append)

    def parse(*arguments):
        main([str(argument) for argument in arguments])
        return caught[-1]

    return parse


def toml(folder: Path, text: str) -> Path:
    path = folder / "options.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    out, err = capsys.readouterr()
    assert end.value.code == 0
    assert err == ""
    assert all(f"• {name} " in out for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_explains_every_option(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    out, err = capsys.readouterr()
    assert end.value.code == 0
    assert err == ""
    options = COMMANDS[command]
    assert options.__doc__.splitlines()[0] in " ".join(out.split())
    for name, kind in get_type_hints(options, include_extras=True).items():
        positional = tyro.conf.Positional in getattr(kind, "__metadata__", ())
        assert positional or f"--{name.replace('_', '-')}" in out
        # tyro shows the sentence of the docstring, or, without one, the default alone
        assert any(f"\n        {name}: " in base.__doc__ for base in options.__mro__)


def test_options_arrive_with_their_types(understood):
    train = understood("train", "--out", "x", "--milestones", 3, 5, "--weight-decay", "5e-3", "--resume", "--limit", 90)
    assert train == TrainOptions(out=Path("x"), milestones=(3, 5), weight_decay=5e-3, resume=True, limit=90)
    measure = understood("measure", "--checkpoint", "a.pt", "--model", "m:f", "--layers", "b*", "--format", "json")
    assert measure == MeasureOptions(checkpoint=Path("a.pt"), model="m:f", layers="b*", format="json")
    certify = understood(
        "certify", "--features", "f.npz", "--feature-decay", "balanced", "--bias", "free", "--no-solve"
    )
    assert certify == CertifyOptions(features=Path("f.npz"), feature_decay="balanced", bias="free", solve=False)
    numbers = understood("certify", "--model", "mlp", "--feature-decay", "1e-5", "--bias", "0", "--loss", "mse")
    assert numbers == CertifyOptions(model="mlp", feature_decay=1e-5, bias=0.0, loss="mse")
    assert understood("run", "N4", "depthwise", "--out", "x") == RunOptions(("N4", "depthwise"), Path("x"))
    assert understood("report", "a", "b", "-o", "p.html") == ReportOptions((Path("a"), Path("b")), Path("p.html"))
    assert understood("compare", "a", "b") == CompareOptions(Path("a"), Path("b"))


def test_list_shows_experiments_data_and_networks(capsys):
    main(["list"])
    out, err = capsys.readouterr()
    assert err == ""
    for word in ("optimizers", "N4", "weight-decay", "N6", "depthwise", "N16", "paper-mnist", "hf:NAME", "resnet50"):
        assert word in out


def test_the_list_is_aligned(capsys):
    main(["list"])
    head = capsys.readouterr().out.partition("\n\n")[0].splitlines()[1:]
    assert len(head) == 2 * len(ENTRIES)
    shown = {line.index(entry.question) for line, entry in zip(head[::2], ENTRIES, strict=True)}
    assert shown == {line.index("claims: ") for line in head[1::2]}
    assert len(shown) == 1


def test_the_version_is_that_of_the_package(capsys):
    main(["--version"])
    assert capsys.readouterr() == (f"tightframe {version('tightframe')}\n", "")


REFUSED = {
    "no command": ([], "Expected one of"),
    "an unknown command": (["fly"], "Unrecognized options: fly"),
    "a missing option": (["train"], "--out PATH"),
    "an unknown option": (["train", "--out", "x", "--speed", "9"], "--speed"),
    "text for a number": (["train", "--out", "x", "--lr", "fast"], "'fast'"),
    "another choice": (["train", "--out", "x", "--optimizer", "rmsprop"], "rmsprop"),
    "one run to compare": (["compare", "a"], "RUN Another one."),
    "no experiment": (["run", "--out", "x"], "at least one experiment; got none. Name some of optimizers"),
    "an unknown experiment": (["run", "N99", "--out", "x"], "got 'N99'. Use one of optimizers, weight-decay"),
    "a misspelt experiment": (["run", "ufm-bais", "--out", "x"], "got 'ufm-bais'. Perhaps you mean ufm-bias"),
    "an unknown preset": (["run", "N4", "--out", "x", "--preset", "tiny"], "got 'tiny'. Use one of smoke, quick"),
    "no runs to report": (["report"], "at least one run; got none"),
    "a run that is not there": (["report", "x"], "a run at x; got neither"),
    "neither model nor features": (["measure"], "either --features FILE, or --model and --checkpoint; got neither"),
    "both": (["measure", "--features", "x.npz", "--model", "mlp"], "--model and --checkpoint; got both"),
    "weights of an unknown network": (["measure", "--checkpoint", "x.pt"], "--checkpoint without --model"),
    "a negative number of replicates": (["measure", "--features", "x", "--bootstrap", "-1"], "bootstrap=-1"),
    "nothing to certify": (["certify"], "either --features FILE, or --model and --checkpoint; got neither"),
    "a decay in words": (["certify", "--model", "mlp", "--feature-decay", "much"], "much"),
    "a loss of another kind": (["certify", "--model", "mlp", "--loss", "hinge"], "hinge"),
    "no weight decay": (["certify", "--model", "mlp", "--weight-decay", "0"], "a weight decay above zero; got 0"),
    "no epochs": (["train", "--out", "x", "--epochs", "0"], "epochs=0"),
    "an unknown data set": (["train", "--out", "x", "--data", "imagenet"], "got 'imagenet'"),
    "an unknown network": (["measure", "--model", "vgg"], "got 'vgg'. Choose one of these"),
    "batches of nothing": (["measure", "--model", "mlp", "--batch-size", "0"], "batch_size=0"),
    "negative workers": (["train", "--out", "x", "--workers", "-1"], "workers=-1"),
    "a layer that is not there": (["measure", "--model", "mlp", "--layers", "conv9"], "got 'conv9', which matches"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_fit_is_refused_in_words(what, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments, message = REFUSED[what]
    assert message in " ".join(refused(capsys, *arguments).split())
    # Nothing is left that would stand in the way of the same command with other options.
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_an_interrupt_says_how_to_go_on(capsys, monkeypatch):
    def interrupt(_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "execute", interrupt)
    for arguments, advice in ((["list"], ""), (["run", "ufm-bias", "--out", "x"], "; go on with --resume")):
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert end.value.code == 130
        assert capsys.readouterr().err == f"tightframe: interrupted{advice}\n"


@pytest.mark.parametrize("buffering", ["0", "1"])
def test_a_reader_that_has_seen_enough_is_no_error(buffering):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    if buffering == "0":
        environment["PYTHONUNBUFFERED"] = "1"
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "tightframe", "list"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, env=environment, timeout=60)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_file_stands_for_flags(understood, tmp_path):
    text = 'out = "x"\nepochs = 7\nlr = 1e-2\nmilestones = [2, 4]\nquiet = true\nresume = false\ndata = "folder:a b"\n'
    expected = TrainOptions(out=Path("x"), epochs=7, lr=0.01, milestones=(2, 4), quiet=True, data="folder:a b")
    assert understood("train", "--config", toml(tmp_path, text)) == expected
    assert understood("train", f"--config={toml(tmp_path, text)}") == expected
    assert understood("--config", toml(tmp_path, text), "train") == expected


def test_typed_flags_win_over_the_file(understood, tmp_path):
    path = toml(tmp_path, "epochs = 7\nmilestones = [2, 4]\nweight_decay = 0.5\nquiet = true\n")
    typed = ["--out", "x", "--epochs", 9, "--milestones", 1, "--no-quiet"]
    expected = TrainOptions(out=Path("x"), epochs=9, milestones=(1,), weight_decay=0.5, quiet=False)
    assert understood("train", "--config", path, *typed) == expected
    assert understood("train", *typed, "--config", path) == expected


def test_positional_arguments_stand_beside_a_file(understood, tmp_path):
    path = toml(tmp_path, 'preset = "quick"\nout = "runs"\n')
    assert understood("run", "N4", "N6", "--config", path) == RunOptions(("N4", "N6"), Path("runs"), preset="quick")


def test_a_table_belongs_to_its_command_and_wins_over_what_is_shared(understood, tmp_path):
    path = toml(tmp_path, 'data = "mnist"\ndepth = 3\n[train]\nout = "x"\ndepth = 6\n[measure]\nmodel = "mlp"\n')
    assert understood("train", "--config", path) == TrainOptions(out=Path("x"), data="mnist", depth=6)
    assert understood("measure", "--config", path) == MeasureOptions(data="mnist", depth=3, model="mlp")


BAD_FILES = {
    "not TOML": ("epochs 7", "a readable TOML file for --config"),
    "a table of a table": ("[train]\nout = 'x'\n[train.deep]\nlr = 1\n", "numbers, strings, booleans and lists"),
    "a table of another command": ("[measure]\nmodel = 'mlp'\n", "in a table with the command's name"),
    "a list of lists": ("milestones = [[1, 2]]", "got milestones = [[1, 2]]"),
    "a date": ("epochs = 2026-01-01", "numbers, strings, booleans and lists"),
    "an unknown key": ("out = 'x'\nspeed = 3\n", "--speed"),
    "another type": ("out = 'x'\nepochs = 'many'\n", "many"),
    "a negated number": ("out = 'x'\nepochs = false\n", "--no-epochs"),
}


@pytest.mark.parametrize("what", BAD_FILES)
def test_a_file_that_does_not_fit_is_refused(what, capsys, tmp_path):
    text, message = BAD_FILES[what]
    assert message in " ".join(refused(capsys, "train", "--config", toml(tmp_path, text)).split())


def test_a_file_that_cannot_be_read_is_refused(capsys, tmp_path):
    assert "No such file" in refused(capsys, "train", "--config", tmp_path / "none.toml")
    assert "Is a directory" in refused(capsys, "train", "--config", tmp_path)
    (tmp_path / "latin.toml").write_bytes(b'data = "\xe9"')
    assert "latin.toml" in refused(capsys, "train", "--config", tmp_path / "latin.toml")
    assert "got nothing" in refused(capsys, "train", "--config")
    assert "got several" in refused(capsys, "train", "--config", "a.toml", "--config", "b.toml")


def test_arguments_without_a_file_pass_unchanged():
    assert with_config(["train", "--out", "x"]) == ["train", "--out", "x"]
    with pytest.raises(InputError, match="one TOML file after --config"):
        with_config(["--config"])
