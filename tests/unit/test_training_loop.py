from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from tightframe.core.errors import DegenerateError, InputError
from tightframe.training import checkpoint as checkpoints
from tightframe.training.fabric import connect
from tightframe.training.loop import TrainConfig, fit

FULL = 1000


def data(n: int = 60, *, dtype=torch.float32) -> TensorDataset:
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % 3
    centres = torch.eye(3, 5, dtype=dtype) * 2
    return TensorDataset(centres[labels] + 0.7 * torch.randn(n, 5, generator=random, dtype=dtype), labels)


class Net(nn.Module):
    def __init__(self, *, dtype=torch.float32):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Linear(5, 4, dtype=dtype)
        self.classifier = nn.Linear(4, 3, dtype=dtype)

    def forward(self, x):
        return self.classifier(torch.relu(self.body(x)))


def series(result, metric):
    return [row["value"] for row in result.history if row["metric"] == metric]


def test_rows_carry_loss_accuracy_and_step_size():
    result = fit(Net(), data(), config=TrainConfig(epochs=3, lr=0.1, milestones=(2,), batch_size=16), run="r")
    assert [row["epoch"] for row in result.history] == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert {(row["run"], row["split"], row["layer"]) for row in result.history} == {("r", "train", "output")}
    assert series(result, "learning rate") == pytest.approx([0.1, 0.1, 0.01])
    assert result.epochs == 3
    assert result.resumed_from is None


def test_one_full_batch_step_is_the_definition():
    samples = data()
    x, y = samples.tensors
    config = TrainConfig(
        epochs=1, lr=0.3, momentum=0.0, weight_decay=0.02, feature_decay=0.05, decay="last", batch_size=FULL
    )
    expected = Net()
    features = torch.relu(expected.body(x))
    logits = expected.classifier(features)
    weights = sum(p.square().sum() for p in expected.classifier.parameters())
    loss = functional.cross_entropy(logits, y)
    (loss + 0.01 * weights + 0.025 * features.square().sum(1).mean()).backward()
    result = fit(Net(), samples, config=config)
    for ours, theirs in zip(result.model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs - 0.3 * theirs.grad, rtol=1e-5, atol=1e-6)
    assert series(result, "training loss") == pytest.approx([loss.item()], rel=1e-6)
    assert series(result, "training accuracy") == pytest.approx([(logits.argmax(1) == y).float().mean().item()])


@pytest.mark.parametrize("loss_is", ["given", "default"])
def test_a_loss_can_be_given(loss_is):
    def doubled(logits, labels):
        return 2 * functional.cross_entropy(logits, labels)

    config = TrainConfig(epochs=1, lr=0.1, batch_size=FULL, weight_decay=0.0)
    if loss_is == "given":
        result = fit(Net(), data(), config=replace(config, lr=0.05), loss_function=doubled)
    else:
        result = fit(Net(), data(), config=config)
    expected = Net()
    x, y = data().tensors
    functional.cross_entropy(expected(x), y).backward()
    for ours, theirs in zip(result.model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs - 0.1 * theirs.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("optimizer", ["sgd", "lbfgs"])
@pytest.mark.parametrize("n", [60, 61])
def test_accumulated_batches_make_the_step_of_one_large_batch(optimizer, n):
    config = TrainConfig(epochs=2, lr=0.2, optimizer=optimizer, batch_size=FULL, feature_decay=0.01)
    whole = fit(Net(dtype=torch.float64), data(n, dtype=torch.float64), config=replace(config, precision="64-true"))
    parts = fit(
        Net(dtype=torch.float64),
        data(n, dtype=torch.float64),
        config=replace(config, precision="64-true", batch_size=(n + 2) // 3, accumulate=3),
    )
    for a, b in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("optimizer", "epochs", "lr"), [("sgd", 400, 0.3), ("adam", 1500, 0.03), ("lbfgs", 10, 1.0)])
def test_every_optimiser_reaches_the_minimum_of_the_same_objective(optimizer, epochs, lr):
    samples = data(dtype=torch.float64)
    model = nn.Linear(5, 3, dtype=torch.float64)
    torch.nn.init.zeros_(model.weight)
    torch.nn.init.zeros_(model.bias)
    config = TrainConfig(
        epochs=epochs, optimizer=optimizer, lr=lr, weight_decay=0.05, batch_size=FULL, precision="64-true"
    )
    fit(model, samples, config=config)
    x, y = samples.tensors
    model.zero_grad()
    penalty = 0.025 * sum(p.square().sum() for p in model.parameters())
    (functional.cross_entropy(model(x), y) + penalty).backward()
    # L-BFGS stops once the objective changes by less than 1e-9, which leaves |g| <= sqrt(2 L 1e-9), L about 1;
    # without decay the gradient here would be 0.05 |weights|, four orders larger.
    assert torch.cat([p.grad.flatten() for p in model.parameters()]).norm() < 4.5e-5


def test_the_same_call_gives_the_same_weights_and_leaves_the_random_state_alone():
    class Noisy(Net):
        def forward(self, x):
            return super().forward(functional.dropout(x, 0.3, self.training))

    config = TrainConfig(epochs=3, batch_size=7)
    results = []
    for seed in (1, 2):
        model = Noisy()
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        results.append(fit(model, data(), config=config))
        assert torch.equal(before, torch.get_rng_state())
    first, second = results
    assert first.history == second.history
    assert all(torch.equal(a, b) for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True))
    other = fit(Noisy(), data(), config=replace(config, seed=1))
    assert other.history != first.history


def test_callback_sees_every_epoch_from_zero_and_its_rows_join_the_history():
    seen = []

    def on_epoch(epoch, model):
        seen.append(epoch)
        model.eval()
        value = np.float64(0.5)
        return [dict(run="r", epoch=epoch, split="test", layer="l", metric="m", value=value)]

    result = fit(Net(), data(), config=TrainConfig(epochs=2), on_epoch=on_epoch)
    assert seen == [0, 1, 2]
    assert [row["epoch"] for row in result.history if row["metric"] == "m"] == [0, 1, 2]
    assert {type(row["value"]) for row in result.history} == {float}
    assert result.model.training is False


@pytest.mark.parametrize("value", [torch.tensor(1.0), [1.0]])
def test_callback_rows_must_be_plain(value):
    row = dict(run="r", epoch=0, split="s", layer="l", metric="m", value=value)
    with pytest.raises(InputError, match=r"plain values with the keys run, epoch"):
        fit(Net(), data(), config=TrainConfig(epochs=1), on_epoch=lambda *_: [row])


def test_callback_rows_must_have_all_keys():
    with pytest.raises(InputError, match="plain values with the keys"):
        fit(Net(), data(), config=TrainConfig(epochs=1), on_epoch=lambda *_: [{"epoch": 1}])


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "lbfgs"])
def test_two_halves_are_the_whole(tmp_path, optimizer):
    config = TrainConfig(epochs=4, optimizer=optimizer, lr=0.05, batch_size=16, milestones=(1, 3))
    whole = fit(Net(), data(), config=config)
    fit(Net(), data(), config=replace(config, epochs=2), checkpoint=tmp_path / "c.pt")
    # Another initialisation: everything must come from the file.
    model = Net()
    torch.nn.init.zeros_(model.body.weight)
    rest = fit(model, data(), config=config, checkpoint=tmp_path / "c.pt", resume=True)
    assert rest.resumed_from == 2
    assert rest.history == whole.history
    assert all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), rest.model.parameters(), strict=True))


def test_resume_of_a_finished_run_returns_it(tmp_path):
    config = TrainConfig(epochs=2)
    done = fit(Net(), data(), config=config, checkpoint=tmp_path / "c.pt")
    again = fit(Net(), data(), config=config, checkpoint=tmp_path / "c.pt", resume=True)
    assert again.history == done.history
    assert again.resumed_from == 2


def test_resume_before_the_first_checkpoint_starts(tmp_path):
    result = fit(Net(), data(), config=TrainConfig(epochs=1), checkpoint=tmp_path / "c.pt", resume=True)
    assert result.resumed_from is None
    assert (tmp_path / "c.pt").exists()


def test_checkpoints_come_every_so_many_epochs_and_at_the_end(tmp_path):
    epochs = []

    def on_epoch(epoch, _):
        epochs.append(checkpoints.load(tmp_path / "c.pt").epoch if (tmp_path / "c.pt").exists() else None)
        return []

    config = TrainConfig(epochs=5, checkpoint_every=2)
    fit(Net(), data(), config=config, checkpoint=tmp_path / "c.pt", on_epoch=on_epoch)
    assert epochs == [None, None, None, 2, 2, 4]
    assert checkpoints.load(tmp_path / "c.pt").epoch == 5


def test_a_checkpoint_is_not_overwritten_by_a_new_run(tmp_path):
    fit(Net(), data(), config=TrainConfig(epochs=1), checkpoint=tmp_path / "c.pt")
    with pytest.raises(InputError, match="does not exist yet"):
        fit(Net(), data(), config=TrainConfig(epochs=1), checkpoint=tmp_path / "c.pt")


def test_resume_with_other_settings_names_them(tmp_path):
    fit(Net(), data(), config=TrainConfig(epochs=2), checkpoint=tmp_path / "c.pt")
    with pytest.raises(InputError, match=r"lr: 0\.05 then, 0\.1 now; samples: 60 then, 30 now"):
        fit(Net(), data(30), config=TrainConfig(epochs=2, lr=0.1), checkpoint=tmp_path / "c.pt", resume=True)
    with pytest.raises(InputError, match="2 epochs done, 1 asked for"):
        fit(Net(), data(), config=TrainConfig(epochs=1), checkpoint=tmp_path / "c.pt", resume=True)


def test_resume_into_another_network_is_an_input_error(tmp_path):
    fit(Net(), data(), config=TrainConfig(epochs=1), checkpoint=tmp_path / "c.pt")
    with pytest.raises(InputError, match=r"weights.*that fit Linear"):
        fit(nn.Linear(5, 3), data(), config=TrainConfig(epochs=2), checkpoint=tmp_path / "c.pt", resume=True)


def test_divergence_names_epoch_and_step_and_keeps_the_last_checkpoint(tmp_path):
    def exploding(logits, labels):
        exploding.calls += 1
        loss = functional.cross_entropy(logits, labels)
        return loss * torch.nan if exploding.calls == 10 else loss

    exploding.calls = 0
    config = TrainConfig(epochs=5, batch_size=15)
    with pytest.raises(DegenerateError, match=r"not finite in epoch 3, step 2 of 4.*Lower lr"):
        fit(Net(), data(), config=config, checkpoint=tmp_path / "c.pt", loss_function=exploding)
    state = checkpoints.load(tmp_path / "c.pt")
    assert state.epoch == 2
    assert all(torch.isfinite(value).all() for value in state.model.values())


def test_weights_that_overflow_in_the_last_step_are_noticed(tmp_path):
    config = TrainConfig(epochs=1, batch_size=FULL, lr=1e38, weight_decay=1e30)
    with pytest.raises(DegenerateError, match=r"weights body\.weight that are not finite after epoch 1"):
        fit(Net(), data(), config=config, checkpoint=tmp_path / "c.pt")
    assert not (tmp_path / "c.pt").exists()


def test_nan_in_the_inputs_is_noticed():
    samples = data()
    samples.tensors[0][3] = torch.nan
    with pytest.raises(DegenerateError, match=r"not finite in epoch 1.*NaN in the inputs"):
        fit(Net(), samples, config=TrainConfig(epochs=1))


@pytest.mark.parametrize("label", [-1, 3])
def test_labels_out_of_range_are_refused(label):
    samples = data()
    samples.tensors[1][0] = label
    with pytest.raises(InputError, match="labels from 0 to 2"):
        fit(Net(), samples, config=TrainConfig(epochs=1, batch_size=FULL))


def test_models_that_return_something_else_are_refused():
    class Dictionary(Net):
        def forward(self, x):
            return {"logits": super().forward(x)}

    with pytest.raises(InputError, match=r"logits of shape \(N, K\).*got dict.*Wrap the model"):
        fit(Dictionary(), data(), config=TrainConfig(epochs=1))


def test_losses_that_are_not_means_are_refused():
    def per_sample(logits, labels):
        return functional.cross_entropy(logits, labels, reduction="none")

    with pytest.raises(InputError, match=r"a loss that is one number.*\(60,\)"):
        fit(Net(), data(), config=TrainConfig(epochs=1), loss_function=per_sample)


def test_empty_and_endless_data_are_refused():
    with pytest.raises(InputError, match="of length 0"):
        fit(Net(), TensorDataset(torch.zeros(0, 5), torch.zeros(0)), config=TrainConfig(epochs=1))
    with pytest.raises(InputError, match="without one"):
        fit(Net(), iter([]), config=TrainConfig(epochs=1))


def test_unknown_precision_is_an_input_error():
    with pytest.raises(InputError, match="precision='7-bit'"):
        connect(precision="7-bit")


def test_bfloat16_trains():
    result = fit(Net(), data(), config=TrainConfig(epochs=20, precision="bf16-mixed", lr=0.1))
    losses = series(result, "training loss")
    assert losses[-1] < 0.8 * losses[0]


def test_progress_goes_to_the_error_stream_when_asked_for(capsys):
    fit(Net(), data(), config=TrainConfig(epochs=1))
    assert capsys.readouterr().out == ""
    fit(Net(), data(), config=TrainConfig(epochs=2, batch_size=20), progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "6/6" in err
    assert "accuracy" in err
