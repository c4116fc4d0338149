"""The command line, killed with no chance to tidy up, goes on to the record it would have had."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import tyro

from tightframe.cli.main import main
from tightframe.core.errors import InputError
from tightframe.experiments import base
from tightframe.experiments.base import Place, with_training
from tightframe.experiments.collapse import weight_decay
from tightframe.jobs.options import TrainOptions
from tightframe.jobs.train import train
from tightframe.runs.record import Record
from tightframe.runs.store import RunDirectory
from tightframe.training import checkpoint as checkpoints
from tightframe.training.trainer import Trainer
from tightframe.trials.trial import TrialConfig

EPOCHS = 60
FLAGS = ["--epochs", str(EPOCHS), "--width", "24", "--depth", "3", "--observations", "12", "--accelerator", "cpu"]


@pytest.fixture(autouse=True)
def _one_thread():
    """As the killed process has: sums are equal to the bit on the same number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def alike(record: Record) -> Record:
    """Without what says when and how long."""
    return replace(record, started="", seconds=0.0)


def kill_after_epoch(epoch: int, out: Path) -> int:
    """Start training, kill it once a checkpoint of `epoch` or later is there; the epoch of that checkpoint."""
    command = [sys.executable, "-m", "tightframe", "train", "--out", str(out), *FLAGS]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 120
            while time.monotonic() < deadline:
                if (out / "checkpoint.pt").exists() and checkpoints.load(out / "checkpoint.pt").epoch >= epoch:
                    break
                time.sleep(0.02)
        finally:
            process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    return checkpoints.load(out / "checkpoint.pt").epoch


def test_a_killed_training_goes_on_to_the_same_record(tmp_path, capsys):
    whole = train(tyro.cli(TrainOptions, args=["--out", str(tmp_path / "whole" / "run"), *FLAGS, "--quiet"]))
    killed = tmp_path / "killed" / "run"
    done = kill_after_epoch(2, killed)
    assert 2 <= done < EPOCHS
    assert not (killed / "record.json").exists()
    kept = (killed / "checkpoint.pt").read_bytes()

    with pytest.raises(SystemExit) as end:
        main(["train", "--out", str(killed), *FLAGS])
    assert end.value.code == 2
    assert "--resume" in capsys.readouterr().err
    assert (killed / "checkpoint.pt").read_bytes() == kept

    main(["train", "--out", str(killed), *FLAGS, "--resume", "--quiet"])
    assert alike(RunDirectory(killed).load_record()) == alike(whole)
    assert whole.series["epoch"][-1] == EPOCHS
    names = {path.name for path in killed.iterdir()}
    assert names == {"checkpoint.pt", "config.json", "record.json", "report.html", "report_figures"}
    weights = [checkpoints.load(tmp_path / name / "run" / "checkpoint.pt").model for name in ("whole", "killed")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.fixture
def tiny(monkeypatch):
    """The experiment on weight decay at a size of a second, and the trials whose epochs are trained."""
    config = with_training(TrialConfig(width=12, depth=2, observations=3), epochs=3)
    both = {"all weights": config, "last layer": with_training(config, decay="last", feature_decay=1e-3)}
    experiment = replace(weight_decay.EXPERIMENT, presets={"smoke": both})
    monkeypatch.setattr(weight_decay, "EXPERIMENT", experiment)
    trained = []
    epoch_of = Trainer.train_epoch

    def counting(self, epoch, meter):
        trained.append((self.config.decay, epoch))
        return epoch_of(self, epoch, meter)

    monkeypatch.setattr(Trainer, "train_epoch", counting)
    return experiment, trained


def test_an_experiment_interrupted_between_trials_goes_on_with_the_next(tiny, tmp_path, monkeypatch, capsys):
    experiment, trained = tiny
    whole = experiment.run()
    assert trained == [("all", 1), ("all", 2), ("all", 3), ("last", 1), ("last", 2), ("last", 3)]
    trained.clear()
    run_trial = base.run_trial

    def interrupted(config, **options):
        if config.train.decay == "last":
            raise KeyboardInterrupt
        return run_trial(config, **options)

    flags = ["run", "weight-decay", "--out", str(tmp_path), "--quiet"]
    with monkeypatch.context() as patched:
        patched.setattr(base, "run_trial", interrupted)
        with pytest.raises(SystemExit) as end:
            main(flags)
    assert end.value.code == 130
    assert "--resume" in capsys.readouterr().err
    out = tmp_path / "weight-decay"
    assert sorted(path.name for path in out.iterdir()) == ["all-weights.checkpoint.pt", "config.json"]
    trained.clear()

    main([*flags, "--resume"])
    # The first trial is not trained again.
    assert trained == [("last", 1), ("last", 2), ("last", 3)]
    assert alike(RunDirectory(out).load_record()) == alike(whole)
    assert "N6.accuracy" in capsys.readouterr().out
    assert (tmp_path / "report.html").is_file()
    trained.clear()
    again = experiment.run(place=Place(out=out, resume=True))
    assert (again, trained) == (RunDirectory(out).load_record(), [])


def test_an_experiment_in_a_directory_that_is_in_use_is_refused(tiny, tmp_path):
    experiment, trained = tiny
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match=r"which holds notes\.txt"):
        experiment.run(place=Place(out=tmp_path))
    assert trained == []
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_an_experiment_whose_data_are_not_there_leaves_the_directory_free(tiny, tmp_path):
    experiment, _ = tiny
    configs = {name: replace(config, data="mnist") for name, config in experiment.trials("smoke").items()}
    with pytest.raises(InputError, match="files of mnist"):
        experiment.run(configs=configs, place=Place(out=tmp_path, data_root=tmp_path / "none"))
    assert list(tmp_path.iterdir()) == []
