"""T2, T3, T4: five ways of fine-tuning by accuracy, share of parameters, number of samples and collapse of layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tightframe.core.errors import InputError
from tightframe.experiments.catalog import entry
from tightframe.experiments.published import tuned_backbones
from tightframe.experiments.study import Findings, Sweep
from tightframe.experiments.transfer.fine_tuning_claims import claims
from tightframe.experiments.transfer.fine_tuning_runs import Case, Config, Row, Work, held_out, ranked, started, tuned
from tightframe.experiments.transfer.fine_tuning_tables import answer, averages, block_shares, panels
from tightframe.experiments.transfer.image_tasks import ImageTask
from tightframe.experiments.transfer.pretraining import PretrainedStudy, Recipe
from tightframe.runs.record import table_of
from tightframe.training.config import TrainConfig
from tightframe.trials.transfer_config import AUTO, PLACED

_FIRST, _OTHER = tuple(range(5)), tuple(range(5, 10))
_SGD = TrainConfig(epochs=10, lr=0.05, weight_decay=5e-4, schedule="cosine", batch_size=64)
_ADAM = TrainConfig(epochs=10, optimizer="adam", lr=1e-3, weight_decay=0.0, schedule="cosine", batch_size=64)
_CIFAR = ImageTask("cifar10", _FIRST, limit=5000, tested=1000)
_FASHION = ImageTask("fashion-mnist", limit=5000, tested=1000)
# One step size for each method, those of `trials.transfer_config.STEPS`, for networks too large to search.
_USUAL = (("linear", ()), ("layer", (1e-3,)), ("scl", (1e-3,)), ("full", (1e-4,)), ("lora", (1e-3,)))
_PUBLIC = (
    ("ResNet50", "hf:microsoft/resnet-50", "network.resnet.encoder.stages.2.layers.0"),
    ("ViT-B", "hf:google/vit-base-patch32-224-in21k", "auto"),
    ("CLIP", "hf:openai/clip-vit-base-patch32", "auto"),
)

PRESETS = {
    "smoke": Config(
        cases=(
            Case(
                "ResNet18, digits 0-4 to 5-9",
                Recipe("ResNet18", ImageTask("digits", _FIRST), width=8, train=_SGD),
                ImageTask("digits", _OTHER),
            ),
        ),
        shots=(5, 40),
        seeds=(0, 1),
        choice_seeds=(100,),
        methods=(
            ("linear", ()),
            ("layer", (3e-3, 1e-2)),
            ("scl", (3e-3, 1e-2)),
            ("full", (1e-3, 3e-3)),
            ("lora", (3e-3, 1e-2)),
        ),
        chosen_at=20,
        probe_steps=10,
        epochs=8,
        steps=50,
    ),
    "quick": Config(
        cases=(
            Case(
                "ResNet18, CIFAR-10 0-4 to 5-9",
                Recipe("ResNet18 colour", _CIFAR, width=8, train=_SGD),
                ImageTask("cifar10", _OTHER, tested=1000),
            ),
            Case(
                "ResNet18, Fashion-MNIST to digits",
                Recipe("ResNet18 grey", _FASHION, width=8, train=_SGD),
                ImageTask("digits", side=28),
            ),
            Case(
                "ResNet18, Fashion-MNIST to textures",
                Recipe("ResNet18 grey", _FASHION, width=8, train=_SGD),
                ImageTask("textures", side=28),
            ),
            Case(
                "transformer, CIFAR-10 0-4 to 5-9",
                Recipe("transformer", _CIFAR, model="vit", width=64, train=_ADAM),
                ImageTask("cifar10", _OTHER, tested=1000),
            ),
        ),
        shots=(5, 20, 100, 400),
        seeds=(0, 1),
        chosen_at=100,
        epochs=8,
    ),
    "paper": Config(
        cases=tuple(
            Case(f"{name}, {shown}", start, target, layer)
            for name, start, layer in _PUBLIC
            for shown, target in (
                ("CIFAR-10", ImageTask("cifar10")),
                ("Pet", ImageTask("hf:dpdl-benchmark/oxford_iiit_pet", side=224)),
            )
        ),
        shots=(5, 20, 80),
        methods=_USUAL,
        epochs=50,
        batch_size=64,
    ),
}


def investigate(config: Config, sweep: Sweep, *, kept: Path | None = None) -> Findings:
    """Pretrain, choose layers and step sizes on held-out samples, tune at every size, and judge."""
    starts = sweep(started, [(case, kept, sweep.data_root) for case in config.cases])
    sizes = {case.name: _sizes(config, case, start.available) for case, start in zip(config.cases, starts, strict=True)}
    # A work of every case and method, to which layer, step size, samples and seed are added.
    plain = [
        Work(
            config,
            case,
            start.origin,
            method,
            _first(rates),
            None,
            min(config.chosen_at, start.available),
            config.choice_seeds[0],
            sweep.data_root,
        )
        for case, start in zip(config.cases, starts, strict=True)
        for method, rates in config.methods
    ]
    placed, choices = _placed(plain, sweep)
    stepped, selection = _stepped(placed, sweep)
    works = [
        replace(
            work,
            shots=shots,
            seed=seed,
            by_layer=(shots, seed) == (sizes[work.case.name][-1], config.seeds[0]),
        )
        for work in stepped
        for shots in sizes[work.case.name]
        for seed in config.seeds
    ]
    rows: list[Row] = []
    layers: list[Row] = []
    for row, found in sweep(tuned, works):
        rows.append(row)
        layers += found
    results = averages(config, rows)
    tables = {
        "results": table_of(results),
        "collapse by layer": table_of(layers),
        "runs": table_of(rows),
        "step sizes": table_of(selection),
        "choice of the layer": table_of(choices),
        "shares of the source's networks": block_shares(),
        "published, public networks (not run)": table_of(tuned_backbones()),
    }
    return Findings(tuple(claims(config, rows, layers)), answer(config, results), tables, panels(config, results))


def _sizes(config: Config, case: Case, available: int) -> tuple[int, ...]:
    found = tuple(shots for shots in config.shots if shots <= available)
    if not found:
        raise InputError(
            f"{config.shots[0]} training samples of every class of {case.target.name}",
            got=f"{available} of the scarcest",
            remedy="Ask for fewer shots, or raise the limit of the task.",
        )
    return found


def _first(rates: Sequence[float]) -> float | None:
    """The step size that layers are compared at: the middle one."""
    return rates[len(rates) // 2] if rates else None


def _placed(works: Sequence[Work], sweep: Sweep) -> tuple[list[Work], list[Row]]:
    """The works with their layers, and how the candidates compared."""
    open_ones = [work for work in works if work.method in PLACED and work.case.layer == AUTO]
    found = dict(zip(map(_key, open_ones), sweep(ranked, open_ones), strict=True))
    rows: list[Row] = [
        {
            "case": case,
            "method": method,
            "layer": row["layer"],
            "held-out accuracy": row["accuracy"],
            "NC1 before": row["nc1"],
            "H-score before": row["h_score"],
            "share": row["share"],
            "chosen": row["chosen"],
        }
        for (case, method), (_, compared) in found.items()
        for row in compared
    ]

    def layer(work: Work) -> str | None:
        if work.method not in PLACED:
            return None
        return found[_key(work)][0] if _key(work) in found else work.case.layer

    return [replace(work, layer=layer(work)) for work in works], rows


def _stepped(works: Sequence[Work], sweep: Sweep) -> tuple[list[Work], list[Row]]:
    """The works with the step sizes of the best held-out accuracy, the first of equals, and all that were tried."""
    rates = dict(works[0].config.methods) if works else {}
    tried = [replace(work, lr=rate) for work in works for rate in rates[work.method] if len(rates[work.method]) > 1]
    accuracy = {(*_key(work), work.lr): found for work, found in zip(tried, sweep(held_out, tried), strict=True)}

    def best(work: Work) -> float | None:
        return max(rates[work.method], key=lambda rate: accuracy.get((*_key(work), rate), 0.0), default=None)

    chosen = [replace(work, lr=best(work)) for work in works]
    sizes = {_key(work): work.lr for work in chosen}
    rows: list[Row] = [
        {
            "case": case,
            "method": method,
            "step size": rate,
            "held-out accuracy": found,
            "chosen": sizes[case, method] == rate,
        }
        for (case, method, rate), found in accuracy.items()
    ]
    return chosen, rows


def _key(work: Work) -> tuple[str, str]:
    return work.case.name, work.method


EXPERIMENT = PretrainedStudy(entry("fine-tuning"), PRESETS, investigate)
