"""What a person does with a network or a file of their own, from the command line to the files that are left."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader

import tightframe
from door import printed, refused
from tightframe.cli.main import main
from tightframe.data.labelled.source import load
from tightframe.jobs.measure import measure
from tightframe.jobs.options import MeasureOptions, TrainOptions
from tightframe.jobs.train import train
from tightframe.nn.networks import build
from tightframe.runs.record import Record
from tightframe.runs.series import rows_of
from tightframe.runs.store import RunDirectory
from tightframe.training.checkpoint import load as load_checkpoint
from tightframe.training.checkpoint import load_into

SMALL = TrainOptions(out=None, epochs=3, width=16, depth=3, lr=0.1, quiet=True, accelerator="cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A network of three blocks trained by the command line, with all that it leaves."""
    out = tmp_path_factory.mktemp("runs") / "small"
    flags = ["--epochs", "3", "--width", "16", "--depth", "3", "--lr", "0.1", "--quiet", "--accelerator", "cpu"]
    main(["train", "--out", str(out), *flags])
    return out


def trained(run):
    """The network of the run, rebuilt without the job."""
    model = build("mlp-bn", shape=(1, 8, 8), classes=10, width=16, depth=3)
    load_into(model, run / "checkpoint.pt")
    return model


def test_training_leaves_configuration_checkpoint_record_and_page(run):
    names = {path.name for path in run.iterdir()}
    assert names == {"config.json", "checkpoint.pt", "record.json", "report.html", "report_figures"}
    record = RunDirectory(run).load_record()
    assert (record.name, record.title) == ("small", "mlp-bn on digits")
    assert record.config["width"] == 16
    assert record.config["train"]["epochs"] == load_checkpoint(run / "checkpoint.pt").epoch == 3
    assert record.preset_config["width"] is None
    assert sorted(set(record.series["epoch"])) == [0, 1, 2, 3]
    assert {"training loss", "learning rate", "NC1", "D", "accuracy"} <= set(record.series["metric"])
    assert len(record.panels) == 7
    page = (run / "report.html").read_text(encoding="utf-8")
    assert record.answer in page
    assert "vegaEmbed" in page
    assert {path.suffix for path in (run / "report_figures").iterdir()} == {".svg", ".pdf"}


def test_the_last_rows_of_the_record_are_the_collapse_of_the_checkpoint(run):
    record, data = RunDirectory(run).load_record(), load("digits")
    for split in ("train", "test"):
        summary = tightframe.measure(trained(run), DataLoader(getattr(data, split), 100), layers="auto", split=split)
        series = zip(*(record.series[c] for c in ("epoch", "split", "layer", "metric", "value")), strict=True)
        last = {(layer, metric): value for epoch, s, layer, metric, value in series if (epoch, s) == (3, split)}
        measured = {(row["layer"], row["metric"]): row["value"] for row in summary.rows()}
        assert set(measured) <= set(last)
        # Batches of another size: float32 features differ in their last digits.
        for key, value in measured.items():
            assert last[key] == pytest.approx(value, rel=1e-4, abs=1e-6), key
        assert f"{summary['NC1']:.3g}"[:3] in record.answer


def test_a_directory_that_is_in_use_is_refused_and_kept(run, capsys):
    before = {path: path.read_bytes() for path in run.iterdir() if path.is_file()}
    message = refused(capsys, "train", "--out", run)
    assert "an empty or new directory for a new run" in message
    assert "--resume" in message
    network = ["--width", "16", "--depth", "3", "--lr", "0.1"]
    message = refused(capsys, "train", "--out", run, "--resume", *network, "--epochs", "9")
    assert "the configuration the run began with" in message
    assert f"other values in {run} (train.epochs: 3 then, 9 now)" in message
    assert before == {path: path.read_bytes() for path in run.iterdir() if path.is_file()}


def test_a_finished_run_is_read_back(run):
    assert train(replace(SMALL, out=run, resume=True)) == RunDirectory(run).load_record()


def test_options_that_do_not_fit_leave_the_directory_free(tmp_path):
    for wrong in ({"data": "nope"}, {"model": "nope"}, {"limit": 3}, {"width": 0}, {"lr": 1e30, "model": "mlp"}):
        with pytest.raises(tightframe.TightframeError):
            train(replace(SMALL, out=tmp_path / "run", **wrong))
        assert list((tmp_path / "run").iterdir()) == []
    assert train(replace(SMALL, out=tmp_path / "run", epochs=1)).config["train"]["epochs"] == 1


def test_a_dead_network_still_leaves_a_record(tmp_path):
    """With one hidden unit that is never active, class means coincide and NC1 has no value."""
    record = train(replace(SMALL, out=tmp_path, model="mlp", width=1, depth=4, epochs=1, layers="classifier"))
    assert "NC1 is undefined on the training set" in record.answer
    assert record == RunDirectory(tmp_path).load_record()
    assert "NC1" not in record.series["metric"]
    assert "accuracy" in record.series["metric"]


def test_measuring_a_run_directory_and_its_checkpoint(run, capsys):
    train_split, test_split = printed(capsys, "--checkpoint", run, "--layers", "auto")
    assert (train_split["split"], test_split["split"]) == ("train", "test")
    assert list(train_split["layers"]) == ["blocks.0", "blocks.1", "features"]
    assert train_split["separation"]["R2"] <= 1
    network = ["--model", "mlp-bn", "--width", "16", "--depth", "3"]
    file = printed(capsys, "--checkpoint", run / "checkpoint.pt", *network, "--layers", "auto", "--workers", "1")
    assert file == [train_split, test_split]
    record = RunDirectory(run).load_record()
    column = zip(*(record.series[c] for c in ("epoch", "split", "layer", "metric", "value")), strict=True)
    last = {metric: value for *where, metric, value in column if where == [3, "train", "features"]}
    assert last == {name: value for name, value in train_split["layers"]["features"].items() if value is not None}


def test_a_run_directory_describes_itself(run, tmp_path, capsys):
    message = refused(capsys, "measure", "--checkpoint", run, "--data", "mnist", "--width", "8", "--depth", "3")
    assert "--data mnist for digits; --width 8 for 16" in message
    assert "--depth" not in message
    measured = measure(MeasureOptions(checkpoint=run, split="test", out=tmp_path / "m", accelerator="cpu"))
    config = RunDirectory(tmp_path / "m").load_record().config
    assert config == measured.record.config == RunDirectory(tmp_path / "m").config()
    assert (config["data"], config["model"], config["width"], config["file"]) == ("digits", "mlp-bn", 16, "small")


def test_other_directories_are_refused(run, tmp_path, capsys):
    assert "which holds config.json" in refused(capsys, "measure", "--checkpoint", tmp_path)
    RunDirectory.create(tmp_path / "experiment", config={"preset": "smoke", "SGD": {}})
    assert "of another kind of run" in refused(capsys, "measure", "--checkpoint", tmp_path / "experiment")
    # The directory is refused before anything is measured.
    assert "an empty or new directory" in refused(capsys, "measure", "--checkpoint", run, "--out", run)


def test_weights_that_do_not_fit_are_refused(run, capsys):
    network = ["--model", "mlp", "--width", "16", "--depth", "3"]
    message = refused(capsys, "measure", "--checkpoint", run / "checkpoint.pt", *network)
    assert "unexpected: blocks.0.norm.weight" in message
    assert "Build the model with the arguments it was trained with" in message
    network = ["--model", "mlp-bn", "--width", "8", "--depth", "3"]
    assert "of other shape" in refused(capsys, "measure", "--checkpoint", run / "checkpoint.pt", *network)


def test_the_record_of_measuring_makes_a_page(run, tmp_path, capsys):
    out = tmp_path / "measured"
    main(["measure", "--checkpoint", str(run), "--layers", "auto", "--out", str(out)])
    streams = capsys.readouterr()
    assert "Neural collapse on train" in streams.out
    assert "Neural collapse on test" in streams.out
    assert str(out / "report.html") in streams.err
    record = RunDirectory(out).load_record()
    assert Record.from_json(record.to_json()) == record
    assert record.tables["layers"]["layer"] == ["blocks.0", "blocks.1", "features"] * 2
    assert "Collapse of a trained network" in (out / "report.html").read_text(encoding="utf-8")


def test_comparing_prints_a_table_and_writes_a_page(run, tmp_path, capsys):
    record = RunDirectory(run).load_record()
    other = RunDirectory.create(tmp_path / "other", config={})
    rows = list(zip(*record.series.values(), strict=True))
    first = [row for row in rows if row[list(record.series).index("metric")] in ("NC1", "D")]
    series = dict(zip(record.series, map(list, zip(*first, strict=True)), strict=True))
    doubled = series | {"value": [2 * value for value in series["value"]]}
    other.save_record(replace(record, name="other", series=doubled))
    capsys.readouterr()
    page = tmp_path / "both.html"
    main(["compare", str(run), str(other.path), "-o", str(page)])
    out, err = capsys.readouterr()
    rows = [line.split() for line in out.splitlines() if line.startswith("NC1 ")]
    assert rows
    assert {row[-1] for row in rows} == {"2"}
    assert "small and other" in page.read_text(encoding="utf-8")
    assert str(page) in err
    main(["compare", str(run), str(other.path)])
    assert capsys.readouterr() == (out, "")


def test_a_side_of_several_runs_is_refused(run, tmp_path, capsys):
    record = RunDirectory(run).load_record()
    for name in ("a", "b"):
        RunDirectory.create(tmp_path / name, config={}).save_record(replace(record, name=name))
    assert f"one run on each side; got 2 in {tmp_path}: a, b" in refused(capsys, "compare", run, tmp_path)


def test_a_report_of_several_runs_and_of_a_directory_of_runs(run, tmp_path, capsys):
    record = replace(RunDirectory(run).load_record(), panels=())
    for name in ("second", "third"):
        renamed = replace(record, name=name, title=f"the {name} run")
        RunDirectory.create(tmp_path / "runs" / name, config={}).save_record(renamed)
    page = tmp_path / "pages" / "all.html"
    lone = tmp_path / "runs" / "third" / "record.json"
    main(["report", str(tmp_path / "runs"), str(lone), "-o", str(page), "--title", "A & <b>"])
    text = page.read_text(encoding="utf-8")
    assert "A &amp; &lt;b&gt;" in text
    assert "the second run" in text
    headings = [part.split("</h2>")[0] for part in text.split("<h2")[1:]]
    assert sum("the third run" in heading for heading in headings) == 2
    assert str(page) in capsys.readouterr().err
    assert "a report is written to a file" in refused(capsys, "report", lone, "-o", tmp_path / "runs")


def test_training_and_measuring_a_folder_of_images(tmp_path, capsys):
    random = np.random.default_rng(0)
    for label, shade in (("dark", 40), ("grey", 120), ("light", 200)):
        for place in range(12):
            folder = tmp_path / "photos" / ("train" if place < 8 else "test") / label
            folder.mkdir(parents=True, exist_ok=True)
            pixels = np.clip(random.normal(shade, 20, size=(9, 12)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{place}.png")
    data = f"folder:{tmp_path / 'photos'}"
    options = replace(SMALL, out=tmp_path / "run", data=data, size=6, epochs=30, batch_size=8, model="mlp")
    record = train(options)
    assert record.tables["class means"]["row"][:1] == ["dark"]
    assert set(record.tables["features"]["class"]) == {"dark", "grey", "light"}
    train_split, test_split = printed(capsys, "--checkpoint", tmp_path / "run")
    assert train_split["accuracy"] > 0.9
    assert set(train_split["layers"]) == {"features"}
    assert test_split["split"] == "test"
    assert "--size 7 for 6" in refused(capsys, "measure", "--checkpoint", tmp_path / "run", "--size", "7")


def test_labels_of_ones_own_data_are_judged_by_a_loss_that_looks_for_wrong_ones(tmp_path):
    """Without --noise nobody knows the right labels: the run says what it believes, and lists it."""
    options = replace(SMALL, data="digits", limit=100, epochs=2, observations=2, layers="classifier")
    record = train(replace(options, out=tmp_path / "sop", loss="sop:rate=1000,init=0.5"))
    believed = record.tables["labels"]["believed wrong"]
    assert record.tables["labels"]["precision"] == [None]
    assert believed[0] > 0
    assert record.answer.endswith(f"{believed[0]} of 100 labels are believed wrong.")
    assert len((tmp_path / "sop" / "labels.csv").read_text().splitlines()) == believed[0] + 1
    assert record.tables["most suspicious labels, train"]["rank"][:2] == [1, 2]
    plain = train(replace(options, out=tmp_path / "ce"))
    assert "labels" not in plain.tables
    assert not (tmp_path / "ce" / "labels.csv").exists()


@pytest.mark.parametrize(("precision", "factor"), [("64-true", 1.001), ("bf16-true", 2.0)])
def test_a_model_of_another_precision_is_measured_in_it(tmp_path, precision, factor):
    """Fabric converts the model; the images of the data set are single."""
    options = replace(SMALL, data="digits", limit=100, epochs=1, observations=2, layers="classifier", model="mlp")
    record = train(replace(options, out=tmp_path / "run", precision=precision, noise="symmetric:0.2"))
    single = train(replace(options, out=tmp_path / "single", noise="symmetric:0.2"))
    nc1, same = (
        {(row["epoch"], row["split"]): row["value"] for row in rows_of(r.series) if row["metric"] == "NC1"}
        for r in (record, single)
    )
    assert set(nc1) == {(epoch, split) for epoch in (0, 1) for split in ("train", "test", "train, clean labels")}
    # Doubles differ by the rounding of single precision; bfloat16 by 2^-8 in every feature, which the inverse of a
    # between-class scatter of nine directions enlarges.
    assert all(1 / factor < value / same[key] < factor for key, value in nc1.items())
    assert 0 <= record.tables["labels"]["noise AUC"][0] <= 1
