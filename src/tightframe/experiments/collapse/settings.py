"""Trials that several experiments start from, by preset."""

from __future__ import annotations

from tightframe.training.config import TrainConfig
from tightframe.trials.trial import TrialConfig

# smoke: the bundled digits, a batch-normalised MLP; so few samples collapse under ten times the sources' weight decay.
DIGITS = TrialConfig(
    data="digits", width=128, train=TrainConfig(epochs=150, lr=0.05, weight_decay=5e-3, milestones=(75, 115))
)

# quick: part of Fashion-MNIST, on an MLP and on a narrow ResNet18.
FASHION_MLP = TrialConfig(
    data="fashion-mnist",
    width=256,
    limit=10_000,
    observations=16,
    train=TrainConfig(epochs=60, lr=0.05, weight_decay=2e-3, milestones=(30, 45)),
)
FASHION_RESNET = TrialConfig(
    data="fashion-mnist",
    model="resnet18",
    width=16,
    limit=2000,
    observations=12,
    train=TrainConfig(epochs=24, lr=0.05, weight_decay=2e-3, milestones=(14, 20)),
)

# paper: the sources' own setting, step size 0.05 divided by ten every 40 epochs, weight decay 5e-4.
PAPER = TrialConfig(
    data="cifar10",
    model="resnet18",
    observations=32,
    train=TrainConfig(epochs=200, lr=0.05, weight_decay=5e-4, milestones=(40, 80, 120, 160)),
)
