"""T2, T3 and T4: shares of parameters, choices on held-out samples, and claims from rows."""

from __future__ import annotations

import json
import math
import pickle
from dataclasses import replace

import pytest
import torch

from tightframe.core.errors import InputError
from tightframe.experiments import catalog
from tightframe.experiments.published import tuned_backbones
from tightframe.experiments.transfer import fine_tuning, fine_tuning_claims
from tightframe.experiments.transfer.fine_tuning_runs import Case, Config, Start, Work, held_out, started, tuned
from tightframe.experiments.transfer.image_tasks import ImageTask, read_task
from tightframe.experiments.transfer.parameter_shares import resnet50, share_claims, vit_base
from tightframe.experiments.transfer.pretraining import Recipe, pretrained
from tightframe.nn.tuning.fine_tuning import tune
from tightframe.report import page
from tightframe.runs.record import Record
from tightframe.runs.series import rows_of
from tightframe.training.config import TrainConfig

RECIPE = Recipe(
    "base",
    ImageTask("digits", (0, 1, 2), limit=90),
    model="mlp-bn",
    width=12,
    depth=3,
    train=TrainConfig(epochs=3, lr=0.05, batch_size=30),
)
CASE = Case("digits 0-2 to 5-7", RECIPE, ImageTask("digits", (5, 6, 7), tested=60))
TINY = Config(
    cases=(CASE,),
    shots=(3, 10),
    methods=(("linear", ()), ("layer", (1e-3, 1e-2)), ("scl", (1e-3, 1e-2)), ("full", (1e-3, 1e-2))),
    chosen_at=10,
    probe_steps=2,
    choice_seeds=(100,),
    epochs=2,
    steps=4,
    seeds=(0, 1),
)


@pytest.fixture(scope="module")
def record() -> Record:
    return catalog.load("fine-tuning").run(config=TINY)


def test_shares_are_those_of_the_networks_themselves():
    """Counted on the shapes of transformers' networks, which hold no numbers."""
    transformers = pytest.importorskip("transformers")
    for mine, config, kind, block in (
        (
            resnet50(),
            transformers.ResNetConfig(),
            transformers.ResNetForImageClassification,
            "resnet.encoder.stages.2.layers.0",
        ),
        (
            vit_base(),
            transformers.ViTConfig(patch_size=32),
            transformers.ViTForImageClassification,
            None,
        ),
    ):
        for classes in (10, 37, 47, 100):
            config.num_labels = classes
            with torch.device("meta"):
                network = kind(config)
            total = sum(parameter.numel() for parameter in network.parameters())
            head = sum(parameter.numel() for parameter in network.classifier.parameters())
            body = network.get_submodule(block) if block else _first_block(network)
            tuned_block = sum(parameter.numel() for parameter in body.parameters())
            assert mine.blocks[mine.tuned] == tuned_block
            assert mine.share(classes, block=mine.tuned) == pytest.approx(100 * (tuned_block + head) / total, rel=1e-12)
            assert mine.share(classes) == pytest.approx(100 * head / total, rel=1e-12)


def _first_block(network: torch.nn.Module) -> torch.nn.Module:
    names = [
        name for name, part in network.named_modules() if isinstance(part, torch.nn.ModuleList) and len(part) == 12
    ]
    return network.get_submodule(f"{names[0]}.0")


def test_no_other_block_has_the_published_share():
    rows = {row["classes"]: row["SCL FT, share"] for row in tuned_backbones() if row["backbone"] == "ResNet50"}
    for classes, share in rows.items():
        near = [block for block in resnet50().blocks if abs(resnet50().share(classes, block=block) - share) < 0.01]
        assert near == ["layer3.0"]
    assert [claim.verdict for claim in share_claims(tuned_backbones())] == ["passed"] * 8
    heads = [(row, {"ResNet50": resnet50(), "ViT-B": vit_base()}.get(row["backbone"])) for row in tuned_backbones()]
    for row, network in heads:
        if network is not None:
            assert network.share(row["classes"]) == pytest.approx(row["linear probe, share"], abs=0.005)


def test_the_published_table():
    rows = tuned_backbones()
    assert len(rows) == 11
    worse = [(r["backbone"], r["data"]) for r in rows if r["SCL FT, accuracy"] < r["layer FT, accuracy"]]
    assert worse == [("ViT-B", "Aircraft"), ("CLIP", "Aircraft"), ("CLIP", "DTD"), ("CLIP", "Pet")]
    pet = next(row for row in rows if (row["backbone"], row["data"]) == ("ResNet50", "Pet"))
    assert (pet["linear probe, NC1"], pet["full FT, accuracy"], pet["layer FT, share"]) == (1.45, 73.24, 6.73)


def test_the_record_has_every_method_at_every_size(record):
    assert Record.from_json(record.to_json()) == record
    assert len(record.tables["runs"]["seed"]) == 4 * 2 * 2
    assert len(record.tables["results"]["method"]) == 4 * 2
    kinds = {claim.id for claim in record.claims if not claim.id.startswith(("T2.published", "T2.share"))}
    name = CASE.name
    assert kinds == {
        *(f"T2.{name}.{key}" for key in ("linear", "full", "layer")),
        *(f"T3.{name}.3.{key}" for key in ("gap", "accuracy")),
        *(f"T4.{name}.{key}" for key in ("linear", "layer", "full", "depth")),
    }
    published = [claim for claim in record.claims if claim.id.startswith("T2.published")]
    assert [claim.verdict for claim in published] == ["not run"] * 11
    assert "4 of 11 columns" in record.answer
    text = page.render([record])
    assert all(panel.title in text for panel in record.panels)


def test_shares_in_the_rows_are_those_of_the_networks(record):
    network = pretrained(RECIPE)[-1].network(3, shape=(1, 8, 8))
    total = sum(parameter.numel() for parameter in network.parameters())
    head = 3 * 12 + 3
    for row in rows_of(record.tables["runs"]):
        trained = {"linear": head, "full": total}.get(row["method"])
        if trained is None:
            trained = head + sum(p.numel() for p in network.get_submodule(row["layer"]).parameters())
        assert row["trained"] == trained
        assert row["share"] == pytest.approx(trained / total)
        assert row["gap"] == pytest.approx(row["training accuracy"] - row["test accuracy"])


def test_collapse_by_layer_begins_with_the_network_as_it_was(record):
    rows = [row for row in rows_of(record.tables["collapse by layer"]) if row["split"] == "train"]
    curves = {
        method: [row["NC1"] for row in rows if row["method"] == method]
        for method in ("before", "linear", "full", "layer", "scl")
    }
    # A linear probe moves no features.
    assert curves["linear"] == pytest.approx(curves["before"])
    assert curves["full"] != pytest.approx(curves["before"], rel=1e-3)
    assert len(curves["before"]) == 3
    runs = [row for row in rows_of(record.tables["runs"]) if (row["shots"], row["seed"]) == (10, 0)]
    for row in runs:
        # Measured twice, by other code: on the way, and on the merged network; features in single precision.
        assert curves[row["method"]][-1] == pytest.approx(row["NC1"], rel=1e-3)


def test_choices_are_the_best_on_held_out_samples(record):
    for table, key in (("step sizes", "step size"), ("choice of the layer", "layer")):
        rows = list(rows_of(record.tables[table]))
        for method in {row["method"] for row in rows}:
            own = [row for row in rows if row["method"] == method]
            (chosen,) = [row for row in own if row["chosen"]]
            assert chosen["held-out accuracy"] == max(row["held-out accuracy"] for row in own)
            used = {row[key] for row in rows_of(record.tables["runs"]) if row["method"] == method}
            assert used == {chosen[key]}
    searched = {row["method"] for row in rows_of(record.tables["step sizes"])}
    assert searched == {"layer", "scl", "full"}


def test_the_test_set_takes_no_part_in_choices(monkeypatch):
    origin = pretrained(RECIPE)[-1]
    work = Work(TINY, CASE, origin, "full", 1e-2, None, 10, 100)
    before = held_out(work)
    data = read_task(CASE.target)
    spoilt = replace(data, test=data.test.relabelled((data.test.labels + 1) % 3))
    monkeypatch.setitem(held_out.__globals__, "read_task", lambda task, root: spoilt)
    assert held_out(work) == before
    assert tuned(work)[0]["test accuracy"] < 0.5


def test_few_samples_get_more_epochs(monkeypatch):
    seen = []

    def stopped(network, data, settings, *, prepare=None):
        seen.append((settings.epochs, math.ceil(len(data.train) / settings.batch_size)))
        raise fine_tuning_stop

    fine_tuning_stop = RuntimeError("enough")
    monkeypatch.setitem(tuned.__globals__, "transfer", stopped)
    origin = pretrained(RECIPE)[-1]
    for shots in (3, 60):
        with pytest.raises(RuntimeError, match="enough"):
            tuned(Work(replace(TINY, steps=12), CASE, origin, "full", 1e-3, None, shots, 0))
    assert seen == [(12, 1), (2, 6)]


NC1 = {"linear": 4.0, "layer": 1.0, "scl": 0.5, "full": 0.1}


def row(method: str, *, accuracy: float, gap: float = 0.0, shots: int = 100, seed: int = 0) -> dict:
    about = {"case": "c", "shots": shots, "method": method, "seed": seed, "share": 0.07}
    # The mean over two seeds is that of the table; other sizes have no part in it.
    return about | {"test accuracy": accuracy, "gap": gap, "NC1": NC1[method] * (0.5 + seed) * shots / 100}


def test_claims_follow_from_the_rows():
    config = replace(TINY, cases=(replace(CASE, name="c"),))
    rows = [
        *(row("linear", accuracy=0.6 + d, seed=s) for s, d in enumerate((0, 0.02))),
        *(row("layer", accuracy=0.9 + d, seed=s) for s, d in enumerate((0, 0.02))),
        *(row("scl", accuracy=0.89 + d, seed=s) for s, d in enumerate((0, 0.02))),
        *(row("full", accuracy=0.92 + d, seed=s) for s, d in enumerate((0, 0.02))),
        row("scl", accuracy=0.7, gap=0.3, shots=5),
        row("full", accuracy=0.8, gap=0.2, shots=5),
    ]
    layers = [
        {"case": "c", "method": method, "split": "train", "depth": depth, "layer": str(depth), "NC1": value}
        for method, curve in {"scl": (8, 2, 3, 0.5), "full": (4, 5, 6, 7)}.items()
        for depth, value in enumerate(curve)
    ]
    found = {claim.id: claim for claim in fine_tuning_claims.claims(config, rows, layers)}
    assert found["T2.c.linear"].observed == pytest.approx(0.29)
    assert found["T2.c.full"].observed == pytest.approx(0.03)
    assert found["T2.c.layer"].observed == pytest.approx(-0.01)
    verdicts = {name: claim.verdict for name, claim in found.items() if "published" not in name and "share" not in name}
    assert verdicts == {
        "T2.c.linear": "passed",
        "T2.c.full": "failed",
        "T2.c.layer": "failed",
        "T3.c.5.gap": "failed",
        "T3.c.5.accuracy": "failed",
        "T4.c.linear": "passed",
        "T4.c.layer": "passed",
        "T4.c.full": "passed",
        "T4.c.depth": "passed",
    }
    assert found["T4.c.linear"].observed == pytest.approx(0.125)
    assert found["T4.c.layer"].observed == pytest.approx(0.5)
    assert found["T4.c.full"].observed == pytest.approx(0.2)
    assert found["T4.c.depth"].observed == pytest.approx(2 / 3)
    assert "SCL trains 7.00 %" in found["T2.c.linear"].note


def test_a_run_that_diverged_fails_its_claims():
    config = replace(TINY, cases=(replace(CASE, name="c"),))
    rows = [row(method, accuracy=0.9) for method in ("linear", "layer", "full")]
    rows.append({"case": "c", "shots": 100, "method": "scl", "seed": 0})
    found = {claim.id: claim for claim in fine_tuning_claims.claims(config, rows, [])}
    assert [found[f"T2.c.{key}"].verdict for key in ("linear", "full", "layer")] == ["failed"] * 3
    assert found["T4.c.depth"].verdict == "failed"
    assert found["T4.c.linear"].verdict == "failed"


def test_sizes_that_the_data_do_not_have_are_left_out():
    start = started((CASE, None, None))
    counts = torch.bincount(read_task(CASE.target).train.labels)
    assert isinstance(start, Start)
    assert start.available == int(counts.min())
    assert fine_tuning._sizes(replace(TINY, shots=(5, 50, 5000)), CASE, start.available) == (5, 50)
    with pytest.raises(InputError, match="500 training samples of every class of digits 5-7"):
        fine_tuning._sizes(replace(TINY, shots=(500,)), CASE, start.available)


def test_work_can_be_sent_to_another_process():
    work = Work(TINY, CASE, pretrained(RECIPE)[-1], "full", 1e-3, None, 3, 0)
    assert tuned(pickle.loads(pickle.dumps(work))) == tuned(work)


def test_every_method_that_takes_steps_has_as_many_step_sizes():
    for config in fine_tuning.PRESETS.values():
        methods = dict(config.methods)
        assert set(methods) == {"linear", "layer", "scl", "full", "lora"}
        assert not methods.pop("linear")
        assert len({len(rates) for rates in methods.values()}) == 1
        assert not set(config.choice_seeds) & set(config.seeds)


def test_the_layer_named_for_the_public_resnet_is_the_block_of_the_source(tmp_path):
    transformers = pytest.importorskip("transformers")
    from tightframe.experiments.transfer.starting_points import ready

    torch.manual_seed(0)
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 2, 1])
    transformers.ResNetForImageClassification(config).save_pretrained(tmp_path / "resnet")
    about = {"size": {"height": 64, "width": 64}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (tmp_path / "resnet" / "preprocessor_config.json").write_text(json.dumps(about))
    (case,) = [case for case in fine_tuning.PRESETS["paper"].cases if case.name == "ResNet50, CIFAR-10"]
    data = replace(read_task(CASE.target), shape=(3, 32, 32), mean=(0.5,) * 3, std=(0.25,) * 3)
    network, prepare = ready(f"hf:{tmp_path / 'resnet'}", data)
    images = prepare(torch.zeros(2, 3, 32, 32))
    assert tuple(images.shape) == (2, 3, 64, 64)
    share = tune(network, "layer", layer=case.layer, inputs=images).describe()
    assert next(name for name, _ in share.parts) == case.layer
