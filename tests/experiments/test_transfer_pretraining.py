"""Tasks cut from data sets, networks pretrained on them, and the rank correlation they are compared by."""

from __future__ import annotations

import math
import os
from collections import OrderedDict
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torch import nn

from tightframe.core.errors import InputError
from tightframe.data.labelled.digits import digits
from tightframe.data.labelled.images import ArrayDataset, ImageData
from tightframe.experiments.transfer import image_tasks, pretraining
from tightframe.experiments.transfer.image_tasks import ImageTask, read_task
from tightframe.experiments.transfer.pretraining import ProjectedRates, Recipe, pretrained
from tightframe.experiments.transfer.rank_correlation import spearman, spearman_interval
from tightframe.experiments.transfer.starting_points import ready
from tightframe.experiments.transfer.transfer_runs import features
from tightframe.nn.rate.rate_reduction import MCR2Loss
from tightframe.training.config import TrainConfig
from tightframe.trials.levers import build_loss
from tightframe.trials.trial import TrialConfig, initial_model

SOURCE = ImageTask("digits", (0, 1, 2), limit=60, tested=30)
TRAIN = TrainConfig(epochs=3, lr=0.05, batch_size=20)
RECIPE = Recipe("small one", SOURCE, model="mlp-bn", width=16, depth=2, snapshots=(2,), train=TRAIN)


def test_a_task_is_some_classes_numbered_anew():
    whole, data = digits(), read_task(ImageTask("digits", (7, 2, 4)))
    assert data.classes == ("7", "2", "4")
    assert data.name == "digits 7,2,4"
    for new, old in enumerate((7, 2, 4)):
        assert torch.equal(data.train.images[data.train.labels == new], whole.train.images[whole.train.labels == old])
        assert torch.equal(data.test.images[data.test.labels == new], whole.test.images[whole.test.labels == old])
    assert len(data.test) == sum(int((whole.test.labels == label).sum()) for label in (7, 2, 4))


def test_limits_keep_the_classes_in_balance():
    data = read_task(ImageTask("digits", (5, 6, 7, 8, 9), limit=50, tested=25))
    assert torch.bincount(data.train.labels).tolist() == [10] * 5
    assert torch.bincount(data.test.labels).tolist() == [5] * 5
    assert ImageTask("digits", (5, 6, 7, 8, 9), grey=True).name == "digits 5-9, grey"


def test_grey_is_that_of_the_pixels_standardised_anew(monkeypatch):
    random = torch.Generator().manual_seed(0)
    pixels = torch.rand(8, 3, 4, 4, generator=random)
    mean, std = (0.4, 0.5, 0.6), (0.1, 0.2, 0.3)
    centre, scale = (torch.tensor(values).view(1, 3, 1, 1) for values in (mean, std))
    images, labels = (pixels - centre) / scale, torch.arange(8) % 2
    part = ArrayDataset(images, labels)
    given = ImageData(part, part.take(torch.arange(4)), ("a", "b"), (3, 4, 4), "colours", mean, std)
    monkeypatch.setattr(image_tasks, "load", lambda data, **_: given)
    data = read_task(ImageTask("colours, made for a test", grey=True))
    wanted = 0.299 * pixels[:, :1] + 0.587 * pixels[:, 1:2] + 0.114 * pixels[:, 2:]
    assert data.shape == (1, 4, 4)
    # Pixels of order one, standardised there and back in single precision.
    assert torch.allclose(data.train.images * data.std[0] + data.mean[0], wanted, atol=1e-5)
    assert abs(float(data.train.images.mean())) < 1e-5
    assert float(data.train.images.std(correction=0)) == pytest.approx(1, abs=1e-5)
    assert torch.equal(data.test.labels, labels[:4])


def test_resized_images_keep_their_labels():
    small, large = read_task(SOURCE), read_task(replace(SOURCE, side=12))
    assert large.shape == (1, 12, 12)
    assert torch.equal(large.train.labels, small.train.labels)
    # Interpolation keeps a constant image, and nearly the mean of any.
    assert torch.allclose(large.train.images.mean((1, 2, 3)), small.train.images.mean((1, 2, 3)), atol=0.2)


def test_images_of_folders_are_resized_as_they_are_read(tmp_path):
    for name, shade in (("dark", 0), ("light", 255)):
        for part in ("train", "test"):
            (tmp_path / part / name).mkdir(parents=True)
            for place, side in enumerate((10, 14, 17)):
                Image.new("RGB", (side, side), (shade, shade // 2, 0)).save(tmp_path / part / name / f"{place}.png")
    data = read_task(ImageTask(f"folder:{tmp_path}", limit=4, side=8))
    assert data.shape == (3, 8, 8)
    assert torch.bincount(data.train.labels).tolist() == [2, 2]
    grey = read_task(ImageTask(f"folder:{tmp_path}", side=8, grey=True))
    images, labels = grey.train.gather(range(6))
    assert grey.shape == (1, 8, 8)
    assert images[labels == 1].min() > 0
    assert images[labels == 0].max() < 0


@pytest.mark.parametrize("classes", [(0, 10), (0, 0), (3,), (-1, 2)])
def test_classes_that_are_not_there(classes):
    with pytest.raises(InputError, match="two or more different classes of digits"):
        read_task(ImageTask("digits", classes))


def test_a_snapshot_is_the_network_of_a_shorter_training():
    """With steps of one size a run of two epochs is the beginning of a run of three."""
    early, last = pretrained(RECIPE)
    (short,) = pretrained(replace(RECIPE, snapshots=(), train=replace(TRAIN, epochs=2)))
    assert (early.epoch, last.epoch, short.epoch) == (2, 3, 2)
    assert early.state.keys() == short.state.keys()
    assert all(torch.equal(early.state[name], short.state[name]) for name in short.state)
    assert early.accuracy == short.accuracy
    assert any(not torch.equal(early.state[name], last.state[name]) for name in last.state)


def test_a_checkpoint_is_the_trained_trunk_with_a_new_head():
    data = read_task(SOURCE)
    config = TrialConfig(data="digits", model="mlp-bn", width=16, depth=2, train=TRAIN)
    model = initial_model(config, data)
    loss = build_loss("ce", samples=len(data.train), model=model)
    pretraining.fit(model, data.train, config=TRAIN, loss_function=loss)
    checkpoint = pretrained(RECIPE)[-1]
    network, prepare = ready(checkpoint, data, seed=1)
    assert prepare is None
    images = data.test.images
    model.eval()
    with torch.no_grad():
        assert torch.equal(network.forward_features(images), model.forward_features(images))
    accuracy = float((model(images).argmax(1) == data.test.labels).double().mean())
    assert checkpoint.accuracy == pytest.approx(accuracy)
    other, _ = ready(checkpoint, data, seed=2)
    assert not torch.equal(network.classifier.weight, other.classifier.weight)
    wide = checkpoint.network(7, shape=data.shape)
    assert wide(images).shape == (len(images), 7)
    rows, labels = features(network, data)
    assert torch.equal(labels, data.train.labels)
    with torch.no_grad():
        assert torch.allclose(rows, network.forward_features(data.train.images), atol=1e-6)


def test_networks_are_kept_and_read_back(tmp_path, monkeypatch):
    made = pretrained(RECIPE, kept=tmp_path / "networks")
    names = sorted(path.name for path in (tmp_path / "networks").iterdir())
    assert names == ["small-one-2.safetensors", "small-one-3.safetensors"]
    monkeypatch.setattr(pretraining, "fit", None)
    again = pretrained(RECIPE, kept=tmp_path / "networks")
    for one, other in zip(made, again, strict=True):
        assert (one.epoch, one.accuracy) == (other.epoch, other.accuracy)
        assert one.state.keys() == other.state.keys()
        assert all(torch.equal(one.state[name], other.state[name]) for name in one.state)
    with pytest.raises(InputError, match="which is of another one"):
        pretrained(replace(RECIPE, train=replace(TRAIN, lr=0.1)), kept=tmp_path / "networks")
    (tmp_path / "networks" / names[0]).write_bytes(b"no safetensors")
    with pytest.raises(InputError, match="a whole file of a pretrained network"):
        pretrained(RECIPE, kept=tmp_path / "networks")


@pytest.mark.parametrize("changes", [{"projection": True}, {"head": "etf"}, {"head": "normalized"}])
def test_heads_of_every_kind_are_left_out(changes):
    checkpoint = pretrained(replace(RECIPE, **changes))[-1]
    assert not any(name.startswith("classifier") for name in checkpoint.state)
    network = checkpoint.network(4, shape=(1, 8, 8))
    assert isinstance(network.classifier, nn.Linear)
    assert network.classifier.weight.shape == (4, 16)
    plain = pretrained(RECIPE)[-1]
    assert any(not torch.equal(checkpoint.state[name], plain.state[name]) for name in plain.state)


def _projection() -> tuple[nn.Sequential, torch.Tensor, torch.Tensor]:
    """A head with a projection, features of which some rows are zero, as dead units leave them, and labels."""
    torch.manual_seed(0)
    head = nn.Sequential(OrderedDict(hidden=nn.Linear(6, 6), relu=nn.ReLU(), classifier=nn.Linear(6, 3))).double()
    features = torch.randn(24, 6, dtype=torch.float64).relu()
    features[::5] = 0
    return head, features.requires_grad_(), torch.arange(24) % 3


def test_the_rate_reduction_of_a_projection_is_that_of_its_hidden_layer():
    """Written from the formula: rates of the directions of U f + c, eps^2 = 1/2; and the classifier's cross-entropy."""
    head, features, labels = _projection()
    found = ProjectedRates(MCR2Loss(), head)(torch.zeros(24, 3), labels, features=features)
    hidden = features @ head.hidden.weight.T + head.hidden.bias
    rows = hidden / hidden.norm(dim=1, keepdim=True)

    def rate(z: torch.Tensor) -> torch.Tensor:
        return torch.logdet(torch.eye(6, dtype=torch.float64) + 6 / (0.5 * len(z)) * z.T @ z) / 2

    classes = sum(len(z) / 24 * rate(z) for z in (rows[labels == k] for k in range(3)))
    logits = hidden.relu() @ head.classifier.weight.T + head.classifier.bias
    wanted = classes - rate(rows) - logits.log_softmax(1)[torch.arange(24), labels].mean()
    assert float(found.detach()) == pytest.approx(float(wanted.detach()), rel=1e-9)
    # The classifier reads, and moves nothing before it.
    moved = torch.autograd.grad(found, (features, head.hidden.weight), retain_graph=True)
    alone = torch.autograd.grad(classes - rate(rows), (features, head.hidden.weight))
    assert all(torch.allclose(one, other, rtol=1e-7, atol=1e-10) for one, other in zip(moved, alone, strict=True))


def test_features_of_zeros_alone_stop_the_rate_reduction_unless_it_is_that_of_a_projection():
    head, features, labels = _projection()
    with pytest.raises(InputError, match="features other than zero"):
        MCR2Loss()(torch.zeros_like(features), labels)
    loss = ProjectedRates(MCR2Loss(), head)
    assert torch.isfinite(loss(torch.zeros(24, 3), labels, features=torch.zeros_like(features)))
    # The head's parameters are the network's, which trains them.
    assert not list(loss.parameters())


def test_the_rate_reduction_trains_a_network_that_is_left_without_its_projection():
    """Features of different classes, before the projection too, point further apart than after one epoch."""
    recipe = replace(RECIPE, projection=True, train=replace(TRAIN, loss="mcr2", epochs=10), snapshots=(1,))
    data = read_task(SOURCE)
    start, end = (checkpoint.network(3, shape=data.shape) for checkpoint in pretrained(recipe))
    assert isinstance(end.classifier, nn.Linear)

    def cosines(network: nn.Module) -> float:
        """Mean cosine of samples of different classes."""
        with torch.no_grad():
            rows = nn.functional.normalize(network.forward_features(data.test.images))
        apart = data.test.labels[:, None] != data.test.labels
        return float((rows @ rows.T)[apart].mean())

    assert cosines(end) < cosines(start)


def test_recipes_that_cannot_be():
    with pytest.raises(InputError, match="a linear head behind a projection"):
        replace(RECIPE, projection=True, head="etf")
    with pytest.raises(InputError, match="snapshots between the first epoch and the last"):
        replace(RECIPE, snapshots=(3,))


def test_spearman_is_scipys():
    random = np.random.default_rng(0)
    for _ in range(20):
        x, y = random.integers(0, 6, size=(2, 15)).astype(float)
        assert spearman(x, y) == pytest.approx(float(stats.spearmanr(x, y).statistic), abs=1e-12)
    assert math.isnan(spearman([1, 1, 1], [1, 2, 3]))
    assert spearman([1, 2, 3], [-1, -20, -21]) == -1


def test_the_interval_draws_groups():
    random = np.random.default_rng(1)
    x = random.normal(size=24)
    y = x + random.normal(size=24)
    alone = spearman_interval(x, y, [str(place) for place in range(24)])
    assert alone[0] < spearman(x, y) < alone[1]
    # Written out: the same draws, row by row, by scipy.
    draws = np.random.default_rng(0).integers(24, size=(200, 24))
    wanted = np.percentile([stats.spearmanr(x[draw], y[draw]).statistic for draw in draws], (2.5, 97.5))
    assert spearman_interval(x, y, [str(place) for place in range(24)], replicates=200) == pytest.approx(wanted)
    # Every value twice is no more evidence when the copies are drawn together, and is when they are not.
    names = [str(place % 24) for place in range(48)]
    x, y = np.tile(x, 2), np.tile(y, 2)
    assert spearman_interval(x, y, names) == pytest.approx(alone, abs=1e-9)
    low, high = spearman_interval(x, y, [str(place) for place in range(48)])
    assert high - low < 0.85 * (alone[1] - alone[0])


def test_intervals_that_mean_nothing():
    assert spearman_interval([1, 2, 3, 4], [1, 2, 3, 4], ["a", "a", "b", "b"]) == pytest.approx(
        (math.nan, math.nan), nan_ok=True
    )
    assert spearman_interval([1, 1, 1], [1, 2, 3], ["a", "b", "c"]) == pytest.approx((math.nan, math.nan), nan_ok=True)
    with pytest.raises(InputError, match="as many values as groups"):
        spearman_interval([1, 2], [1, 2, 3], ["a", "b", "c"])
    with pytest.raises(InputError, match="finite values to rank"):
        spearman([1, math.nan], [1, 2])


@pytest.mark.data
def test_real_pictures_are_cut_and_resized():
    if not os.environ.get("TIGHTFRAME_DATA"):
        pytest.skip("needs TIGHTFRAME_DATA")
    data = read_task(ImageTask("fashion-mnist", (9, 0), limit=40, tested=20, side=16))
    assert data.classes == ("Ankle boot", "T-shirt/top")
    assert data.shape == (1, 16, 16)
    assert torch.bincount(data.train.labels).tolist() == [20, 20]
