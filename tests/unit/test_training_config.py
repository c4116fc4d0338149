from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from tightframe.core.errors import InputError
from tightframe.training.config import TrainConfig, decayed_parameters, make_optimizer


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(3, 4)
        self.classifier = nn.Linear(4, 2)


def test_step_size_falls_after_each_milestone():
    config = TrainConfig(lr=0.05, milestones=(40, 80))
    values = [config.lr_at(epoch) for epoch in (1, 40, 41, 80, 81)]
    assert values == pytest.approx([0.05, 0.05, 0.005, 0.005, 0.0005], rel=1e-15)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("optimizer", "rmsprop", "optimizer is one of sgd, adam, lbfgs; got optimizer='rmsprop'"),
        ("decay", "first", "decay is one of all, last"),
        ("epochs", 0, "epochs is a whole number of at least 1"),
        ("batch_size", 1.5, "batch_size is a whole number"),
        ("accumulate", -1, "accumulate is a whole number"),
        ("checkpoint_every", 0, "checkpoint_every is a whole number"),
        ("lr", 0.0, "lr is a finite positive number"),
        ("lr", math.nan, "lr is a finite positive number"),
        ("lr_factor", math.inf, "lr_factor is a finite positive number"),
        ("weight_decay", -1e-4, "weight_decay is finite and not negative"),
        ("feature_decay", math.inf, "feature_decay is finite and not negative"),
        ("seed", -1, "seed is finite and not negative"),
    ],
)
def test_impossible_values_are_refused_by_name(field, value, message):
    with pytest.raises(InputError, match=message):
        TrainConfig(**{field: value})


def test_scaled_gradients_and_line_searches_exclude_each_other():
    with pytest.raises(InputError, match="without gradient scaling"):
        TrainConfig(optimizer="lbfgs", precision="16-mixed")


def test_milestones_from_a_file_become_a_tuple():
    assert TrainConfig(milestones=[1, 2]).milestones == (1, 2)


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_decay_of_the_classifier_alone_leaves_the_others_without(kind):
    model = Net()
    optimizer = make_optimizer(model, TrainConfig(optimizer=kind, decay="last", weight_decay=0.1))
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert all(decay[id(p)] == 0.1 for p in model.classifier.parameters())
    assert all(decay[id(p)] == 0 for p in model.body.parameters())


def test_frozen_parameters_are_left_out():
    model = Net()
    model.body.requires_grad_(False)
    optimizer = make_optimizer(model, TrainConfig())
    assert [p for group in optimizer.param_groups for p in group["params"]] == list(model.classifier.parameters())
    assert len(decayed_parameters(model, TrainConfig())) == 2


def test_a_model_without_trainable_parameters_is_refused():
    with pytest.raises(InputError, match="trainable parameters"):
        make_optimizer(nn.ReLU(), TrainConfig())


def test_a_classifier_of_another_name_is_asked_for():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    with pytest.raises(InputError, match=r"classifier='classifier'.*\['0', '1'\]"):
        make_optimizer(model, TrainConfig(decay="last"))
    config = TrainConfig(decay="last", classifier="1")
    assert [p.shape for p in decayed_parameters(model, config)] == [torch.Size([2, 4]), torch.Size([2])]
