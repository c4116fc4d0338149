"""`TransferConfig`: everything that decides the outcome of fine-tuning besides the network and the data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from tightframe.core.checks import check_count
from tightframe.core.errors import InputError
from tightframe.nn.tuning.fine_tuning import Method
from tightframe.nn.tuning.probe import DECAYS
from tightframe.nn.tuning.skip import Tokens
from tightframe.training.config import TrainConfig

AUTO = "auto"
PLACED = ("layer", "scl")
# A step of Adam changes every weight by about its size, whatever the scale of the gradients: that of a new head or
# adapter may be larger than that of a whole pretrained network, which such steps take apart.
STEPS = {"layer": 1e-3, "scl": 1e-3, "lora": 1e-3, "full": 3e-4, "linear": 1e-3}
# Epochs unless a number is given: this many, and more where they are too few steps for a new head to learn anything.
EPOCHS, LEAST_STEPS = 20, 500

_CHOICES = {
    "method": Method,
    "optimizer": Literal["adam", "sgd"],
    "tokens": Tokens,
    "start": Literal["new", "probe"],
}


@dataclass(frozen=True)
class TransferConfig:
    """How a pretrained network is fine-tuned.

    Args:
        method: "linear", "layer", "scl", "full" or "lora", as for `nn.tune`.
        layer: Path of the tuned layer for "layer" and "scl", or "auto": the block that `rank_layers` finds. None or
            "auto" for the other methods, which have none.
        epochs: Passes over the training samples; None for 20, or more where those are fewer than 500 steps. "linear" is
            solved to its optimum instead.
        optimizer: "adam", whose steps need no tuning to the scale of a layer, or "sgd" with momentum 0.9.
        lr: Step size of the first epoch, from which it falls as a cosine; None for that of `STEPS` with "adam" (less
            for all weights at once), 0.01 with "sgd".
        weight_decay: Of what is trained by steps.
        decays: Weight decays of the linear probe, of which held-out samples choose where there are several.
        held_out: Share of every class held out for choices: of the probe's decay, and of the layer.
        batch_size: Largest batch.
        rank: Of the adapters of "lora".
        tokens: What a skip connection and NC1 take of a sequence: its first position ("class") or its "mean".
        observations: Epochs at which accuracy and loss are recorded, evenly spaced in log(epoch); at least 2.
        probe_steps: Steps, in whole epochs, by which each candidate that `layer="auto"` compares is tuned, on up
            to five splits.
        probe_samples: Training samples that it uses at most, balanced over the classes.
        cached: Whether what comes before the tuned layer is computed once and kept on disk.
        classifier: Path of the network's classifier, to settle an ambiguity.
        start: What the new head begins as: "new" (random), or "probe", the best one for the features before training.
            That is ahead where these suit the data, and behind where they do not: few errors are left to learn from.
        keep_head: Go on with the network's own classifier; by default a new one of the data's classes is trained.
        seed: Of the new head, the order of samples and the samples held out.
    """

    method: Method = "scl"
    layer: str | None = AUTO
    epochs: int | None = None
    optimizer: Literal["adam", "sgd"] = "adam"
    lr: float | None = None
    weight_decay: float = 0.0
    decays: tuple[float, ...] = DECAYS
    held_out: float = 0.2
    batch_size: int = 128
    rank: int = 8
    tokens: Tokens = "class"
    observations: int = 8
    probe_steps: int = 100
    probe_samples: int = 2000
    cached: bool = True
    classifier: str | None = None
    start: Literal["new", "probe"] = "new"
    keep_head: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "decays", tuple(self.decays))
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in get_args(choices):
                raise InputError(
                    f"{name} is one of {', '.join(get_args(choices))}",
                    got=repr(getattr(self, name)),
                    remedy="Choose one.",
                )
        for name, least in {"batch_size": 1, "rank": 1, "observations": 2, "probe_steps": 1}.items():
            check_count(getattr(self, name), name, least=least)
        if self.epochs is not None:
            check_count(self.epochs, "epochs")
        check_count(self.probe_samples, "probe_samples", least=2)
        if not 0 < self.held_out < 1:
            raise InputError("a share held out in (0, 1)", got=f"held_out={self.held_out!r}", remedy="Use 0.2.")
        if not (math.isfinite(self.step) and self.step > 0 and self.weight_decay >= 0 and self.decays):
            raise InputError(
                "a positive lr, a weight decay of at least 0, and decays for the probe",
                got=f"lr={self.lr!r}, weight_decay={self.weight_decay!r}, decays={self.decays!r}",
                remedy="Leave them out for the defaults.",
            )
        if self.keep_head and self.start == "probe":
            raise InputError(
                "a head that is kept, or one that starts from the best probe", got="both", remedy="Choose one."
            )
        self._check_layer()

    @property
    def step(self) -> float:
        """Step size of the first epoch."""
        if self.lr is not None:
            return self.lr
        return STEPS[self.method] if self.optimizer == "adam" else 0.01

    def epochs_for(self, samples: int) -> int:
        """Epochs over so many training samples.

        >>> [TransferConfig().epochs_for(n) for n in (50_000, 50)], TransferConfig(epochs=3).epochs_for(50)
        ([20, 500], 3)
        """
        if self.epochs is not None:
            return self.epochs
        return max(EPOCHS, math.ceil(LEAST_STEPS / math.ceil(samples / self.batch_size)))

    def train(self, epochs: int) -> TrainConfig:
        """Settings of the training loop, for so many epochs."""
        return TrainConfig(
            epochs=epochs,
            optimizer=self.optimizer,
            lr=self.step,
            weight_decay=self.weight_decay,
            batch_size=self.batch_size,
            schedule="cosine",
            seed=self.seed,
        )

    def _check_layer(self) -> None:
        placed = self.method in PLACED
        if (placed and not self.layer) or (not placed and self.layer not in (None, AUTO)):
            raise InputError(
                'a layer or "auto" for "layer" and "scl", and none for the other methods',
                got=f"layer={self.layer!r} with {self.method!r}",
                remedy='Name a block of the backbone, or use "auto".' if placed else "Leave the layer out.",
            )
