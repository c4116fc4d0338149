"""Losses are given what they ask for, their state is resumed, and transforms are part of the seed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from tightframe.core.errors import InputError
from tightframe.data.labelled.images import ArrayDataset
from tightframe.nn.sop.sop import SOPLoss
from tightframe.training.loop import TrainConfig, fit

CONFIG = TrainConfig(epochs=3, lr=0.1, batch_size=16, momentum=0.9, weight_decay=0.0)


def data(n: int = 50) -> ArrayDataset:
    random = torch.Generator().manual_seed(0)
    return ArrayDataset(torch.randn(n, 1, 2, 3, generator=random), torch.arange(n) % 3)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.classifier = nn.Linear(6, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.classifier(torch.relu(self.body(x.flatten(1))))


class Visits(nn.Module):
    """Counts the visits of every sample and weighs it by them; keeps what it was called with."""

    needs_index = True

    def __init__(self, samples: int) -> None:
        super().__init__()
        self.register_buffer("visits", torch.zeros(samples))
        self.calls = []

    def forward(self, logits, target, *, index):
        self.calls.append((target.clone(), index.clone()))
        self.visits[index] += 1
        return (self.visits[index] * functional.cross_entropy(logits, target, reduction="none")).mean()


class TwoViews(nn.Module):
    views = 2

    def __init__(self) -> None:
        super().__init__()
        self.pairs = []

    def forward(self, logits, target, *, logits2):
        self.pairs.append((logits.detach(), logits2.detach()))
        return functional.cross_entropy(logits, target) + (logits - logits2).square().mean()


def test_every_sample_comes_with_its_own_index_once_an_epoch():
    samples, loss = data(), Visits(50)
    fit(Net(), samples, config=CONFIG, loss_function=loss)
    assert loss.visits.tolist() == [3.0] * 50
    for target, index in loss.calls:
        assert torch.equal(samples.labels[index], target)


def test_the_state_of_a_loss_is_resumed_bit_for_bit(tmp_path):
    whole, one, two = Visits(50), Visits(50), Visits(50)
    expected = fit(Net(), data(), config=CONFIG, loss_function=whole).model.state_dict()
    place = tmp_path / "checkpoint.pt"
    fit(Net(), data(), config=replace(CONFIG, epochs=2), loss_function=one, checkpoint=place)
    result = fit(Net(), data(), config=CONFIG, loss_function=two, checkpoint=place, resume=True)
    assert result.resumed_from == 2
    assert torch.equal(two.visits, whole.visits)
    for name, value in result.model.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_two_views_are_transformed_apart_and_counted_once():
    loss = TwoViews()
    result = fit(Net(), data(), config=replace(CONFIG, augment="noise:0.5"), loss_function=loss)
    assert all(len(first) == len(second) <= 16 for first, second in loss.pairs)
    assert not any(torch.equal(first, second) for first, second in loss.pairs)
    accuracies = [row["value"] for row in result.history if row["metric"] == "training accuracy"]
    assert all(0 <= value <= 1 for value in accuracies)
    plain = TwoViews()
    fit(Net(), data(), config=CONFIG, loss_function=plain)
    assert all(torch.allclose(first, second, atol=1e-5) for first, second in plain.pairs)


def test_transforms_follow_the_seed_alone(tmp_path):
    config = replace(CONFIG, augment="noise:0.5")
    weights = [fit(Net(), data(), config=config).model.body.weight.detach() for _ in range(2)]
    assert torch.equal(*weights)
    other = fit(Net(), data(), config=replace(config, seed=1)).model.body.weight
    assert not torch.equal(weights[0], other)
    place = tmp_path / "checkpoint.pt"
    fit(Net(), data(), config=replace(config, epochs=1), checkpoint=place)
    resumed = fit(Net(), data(), config=config, checkpoint=place, resume=True).model.body.weight
    assert torch.equal(weights[0], resumed)


def test_a_loss_may_ask_for_the_last_features():
    class Small(nn.Module):
        needs_features = True
        seen = ()

        def forward(self, logits, target, *, features):
            Small.seen = (features.shape, features.requires_grad)
            return functional.cross_entropy(logits, target) + features.square().mean()

    fit(Net(), data(), config=CONFIG, loss_function=Small())
    assert Small.seen[0][1] == 4
    assert Small.seen[1]


def test_the_cosine_ends_near_zero_and_fixes_the_number_of_epochs(tmp_path):
    config = replace(CONFIG, schedule="cosine", epochs=4)
    assert [config.lr_at(epoch) for epoch in (1, 3)] == pytest.approx([0.1, 0.05])
    assert 0 < config.lr_at(4) < 0.02
    place = tmp_path / "checkpoint.pt"
    fit(Net(), data(), config=config, checkpoint=place)
    with pytest.raises(InputError, match="epochs"):
        fit(Net(), data(), config=replace(config, epochs=6), checkpoint=place, resume=True)


def test_another_loss_than_cross_entropy_is_given_as_a_module():
    with pytest.raises(InputError, match="loss module"):
        fit(Net(), data(), config=replace(CONFIG, loss="focal"))
    with pytest.raises(InputError, match="one number"):
        fit(Net(), data(), config=CONFIG, loss_function=nn.CrossEntropyLoss(reduction="none"))


def test_an_unknown_transform_is_refused():
    with pytest.raises(InputError, match=r"mixup"):
        fit(Net(), data(), config=replace(CONFIG, augment="mixup"))


@pytest.mark.parametrize("storage", ["dense", "sparse"])
def test_sop_goes_on_as_if_it_had_not_stopped_and_refuses_other_data(storage, tmp_path):
    def loss() -> SOPLoss:
        return SOPLoss(50, 3, rate=3.0, init=1e-2, storage=storage)

    whole, resumed = loss(), loss()
    expected = fit(Net(), data(), config=CONFIG, loss_function=whole).model.body.weight
    place = tmp_path / "checkpoint.pt"
    fit(Net(), data(), config=replace(CONFIG, epochs=1), loss_function=loss(), checkpoint=place)
    result = fit(Net(), data(), config=CONFIG, loss_function=resumed, checkpoint=place, resume=True)
    assert torch.equal(result.model.body.weight, expected)
    assert torch.equal(resumed.noise_scores(), whole.noise_scores())
    assert float(whole.noise_scores().max()) > 1e-4
    other = data()
    other.labels = other.labels.flip(0)
    with pytest.raises(InputError, match="label"):
        fit(Net(), other, config=replace(CONFIG, epochs=4), loss_function=loss(), checkpoint=place, resume=True)


def test_a_line_search_wants_a_loss_that_stays_the_same():
    config = replace(CONFIG, optimizer="lbfgs", loss="own", lr=1.0)
    with pytest.raises(InputError, match=r"without a memory.*got SOPLoss\. Use sgd"):
        fit(Net(), data(), config=config, loss_function=SOPLoss(50, 3))


def test_parts_of_a_loss_exchange_what_they_know_after_every_epoch():
    """SOPLoss(sync="manual") inside another module would otherwise never tell the other processes."""

    class Told(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part = Visits(50)
            self.asked = []
            self.part.synchronize = lambda: self.asked.append(float(self.part.visits.sum()))
            self.needs_index = True

        def forward(self, logits, target, *, index):
            return self.part(logits, target, index=index)

    loss = Told()
    fit(Net(), data(), config=replace(CONFIG, loss="own"), loss_function=loss)
    assert loss.asked == [50.0, 100.0, 150.0]
