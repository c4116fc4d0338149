"""What is trained and how: `TrainConfig`, its checks, and the optimiser it stands for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from tightframe.core.errors import InputError

Optimizer = Literal["sgd", "adam", "lbfgs"]
Decay = Literal["all", "last"]
Schedule = Literal["step", "cosine"]


@dataclass(frozen=True)
class TrainConfig:
    r"""Everything that decides the outcome of training besides the model and the data.

    $$\frac1N\sum_i \ell(W h_i+b, y_i) + \frac\lambda2\|\theta\|^2 + \frac{\lambda_H}{2N}\sum_i\|h_i\|^2$$

    where h_i are the last features (the classifier's input), lambda is `weight_decay`, lambda_H is
    `feature_decay`, and theta are all parameters (`decay="all"`) or the classifier's W, b (`decay="last"`).

    Args:
        epochs: Passes over the data.
        optimizer: "sgd" (heavy-ball momentum), "adam", or "lbfgs" (history 10, strong Wolfe line search, at most
            20 iterations on every batch; meant for batches as large as the data set).
        lr: Step size of the first epochs; 1 is usual for "lbfgs".
        momentum: Of "sgd".
        weight_decay: Coefficient lambda. Adam adds its gradient before rescaling (not AdamW).
        feature_decay: Coefficient lambda_H.
        decay: Which parameters decay.
        batch_size: Largest number of samples of one process in one backward pass.
        milestones: Epochs after which the step size is multiplied by `lr_factor`.
        lr_factor: The factor.
        schedule: "step" follows the milestones; "cosine" falls as lr (1 + cos(pi (epoch - 1)/epochs))/2.
        accumulate: Backward passes before each step.
        precision: As Lightning Fabric names it, for example "32-true" or "bf16-mixed".
        seed: Of the order of samples and of the network's own randomness (dropout).
        checkpoint_every: Epochs between checkpoints.
        loss: "ce" is cross-entropy; any other name says what the loss module handed to `fit` is.
        augment: Random transforms of every batch, as `data.augment` names them; "none" for none.
        classifier: Name of the last linear module, needed when features or the classifier alone decay.
    """

    epochs: int = 200
    optimizer: Optimizer = "sgd"
    lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 5e-4
    feature_decay: float = 0.0
    decay: Decay = "all"
    batch_size: int = 128
    milestones: tuple[int, ...] = ()
    lr_factor: float = 0.1
    accumulate: int = 1
    precision: str = "32-true"
    seed: int = 0
    checkpoint_every: int = 1
    loss: str = "ce"
    schedule: Schedule = "step"
    augment: str = "none"
    classifier: str = "classifier"

    def __post_init__(self) -> None:
        object.__setattr__(self, "milestones", tuple(self.milestones))
        for name, choices in (("optimizer", Optimizer), ("decay", Decay), ("schedule", Schedule)):
            if getattr(self, name) not in get_args(choices):
                raise _invalid(f"{name} is one of {', '.join(get_args(choices))}", self, name)
        for name in ("epochs", "batch_size", "accumulate", "checkpoint_every"):
            if not (isinstance(getattr(self, name), int) and getattr(self, name) >= 1):
                raise _invalid(f"{name} is a whole number of at least 1", self, name)
        for name in ("lr", "lr_factor"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise _invalid(f"{name} is a finite positive number", self, name)
        for name in ("momentum", "weight_decay", "feature_decay", "seed"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise _invalid(f"{name} is finite and not negative", self, name)
        if self.optimizer == "lbfgs" and self.precision == "16-mixed":
            raise _invalid("L-BFGS runs without gradient scaling", self, "precision")

    def lr_at(self, epoch: int) -> float:
        """Step size of epoch 1, 2, ...: by the milestones already passed, or by the cosine.

        >>> config = TrainConfig(lr=1.0, milestones=(40,))
        >>> config.lr_at(40), config.lr_at(41)
        (1.0, 0.1)
        """
        if self.schedule == "cosine":
            return self.lr * (1 + math.cos(math.pi * (epoch - 1) / self.epochs)) / 2
        return self.lr * self.lr_factor ** sum(milestone < epoch for milestone in self.milestones)


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """The optimiser of `config` over the trainable parameters of `model`.

    The weight decay of "sgd" and "adam" is the optimiser's own; that of "lbfgs" belongs to the objective
    (`weight_penalty`), because a line search must see the function whose gradient it follows.

    Raises:
        InputError: Nothing is trainable, or `config.classifier` is needed and names no module.
    """
    decayed = decayed_parameters(model, config)
    chosen = {id(p) for p in decayed}
    others = [p for p in model.parameters() if p.requires_grad and id(p) not in chosen]
    if not decayed and not others:
        raise InputError("a model with trainable parameters", got="none that requires grad", remedy="Unfreeze a layer.")
    if config.optimizer == "lbfgs":
        return torch.optim.LBFGS(
            decayed + others, lr=config.lr, max_iter=20, history_size=10, line_search_fn="strong_wolfe"
        )
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if config.optimizer == "adam":
        return torch.optim.Adam(groups, lr=config.lr)
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum)


def decayed_parameters(model: nn.Module, config: TrainConfig) -> list[nn.Parameter]:
    """Trainable parameters that `weight_decay` acts on."""
    owner = model if config.decay == "all" else classifier(model, config)
    return [p for p in owner.parameters() if p.requires_grad]


def classifier(model: nn.Module, config: TrainConfig) -> nn.Module:
    """The module that `config.classifier` names.

    Raises:
        InputError: There is none; the message lists the linear modules.
    """
    try:
        return model.get_submodule(config.classifier)
    except AttributeError as error:
        linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
        raise InputError(
            "the name of the last linear module, for decay of features or of the classifier alone",
            got=f"classifier={config.classifier!r}",
            remedy=f"Set classifier= to one of {linear[-5:]}." if linear else "Set classifier=.",
        ) from error


def weight_penalty(parameters: list[nn.Parameter], config: TrainConfig) -> Tensor | float:
    r"""$\frac{\lambda}{2}\|\theta\|^2$ where the optimiser does not apply it itself, else 0."""
    if config.optimizer != "lbfgs" or config.weight_decay == 0:
        return 0.0
    return 0.5 * config.weight_decay * torch.stack([p.square().sum() for p in parameters]).sum()


def feature_penalty(features: list[Tensor], config: TrainConfig) -> Tensor | float:
    r"""$\frac{\lambda_H}{2}$ times the mean of $\|h_i\|^2$ over a batch's `features` [(N, d)]; 0 without."""
    if not features:
        return 0.0
    # Half-precision features are squared in single precision; double precision is kept.
    values = features[0].to(torch.promote_types(features[0].dtype, torch.float32))
    return 0.5 * config.feature_decay * values.square().flatten(1).sum(1).mean()


def _invalid(expected: str, config: TrainConfig, name: str) -> InputError:
    return InputError(expected, got=f"{name}={getattr(config, name)!r}", remedy=f"Set {name} accordingly.")
