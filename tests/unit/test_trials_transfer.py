"""Fine-tuning on images: what is solved, trained, cached, chosen and measured."""

from __future__ import annotations

import shutil
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, pad

from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.data.labelled.images import ArrayDataset, ImageData
from tightframe.nn import networks
from tightframe.nn.tuning.fine_tuning import load_delta
from tightframe.trials import layer_choice, tuned_epochs
from tightframe.trials.layer_choice import candidate_layers, rank_layers
from tightframe.trials.prepared import PreparedImages
from tightframe.trials.transfer import TransferConfig, evaluate, few_shots, transfer

SHORT = TransferConfig(epochs=3, observations=2, probe_steps=4, batch_size=16)


def blobs(samples, seed, *, classes=3, shape=(1, 4, 4)):
    """Classes that overlap a little, so that optima are finite and accuracies are not all one."""
    draws = generator(seed)
    labels = torch.arange(samples) % classes
    centres = torch.randn(classes, *shape, generator=generator(99))
    images = centres[labels] + 0.8 * torch.randn(samples, *shape, generator=draws)
    return ArrayDataset(images, labels)


def data(samples=48, **options):
    train, test = blobs(samples, 0, **options), blobs(30, 1, **options)
    classes = tuple("abcdef"[: options.get("classes", 3)])
    return ImageData(train, test, classes, options.get("shape", (1, 4, 4)), "blobs")


def mlp(seed=0):
    torch.manual_seed(seed)
    return networks.MLP(16, 5, widths=(12, 8))


def resnet(seed=0):
    """Batch normalisation with statistics that are not those of a fresh network."""
    torch.manual_seed(seed)
    model = networks.ResNet(networks.BasicBlock, (1, 1, 1), in_channels=1, classes=5, width=4)
    model.train()
    with torch.no_grad():
        for _ in range(5):
            model(2 + torch.randn(32, 1, 8, 8))
    return model


def textbook_nc1(h, y):
    """NC1 by its definition, with a pseudo-inverse of the known rank K - 1."""
    h, y = h.double().numpy(), y.numpy()
    k, mean = int(y.max()) + 1, h.mean(0)
    within = sum((h[y == c] - h[y == c].mean(0)).T @ (h[y == c] - h[y == c].mean(0)) for c in range(k)) / len(h)
    between = sum((y == c).mean() * np.outer(h[y == c].mean(0) - mean, h[y == c].mean(0) - mean) for c in range(k))
    u, s, vt = np.linalg.svd(between)
    inverse = (vt[: k - 1].T / s[: k - 1]) @ u[:, : k - 1].T
    return np.trace(within @ inverse) / k


class TestLinear:
    def test_the_head_is_the_optimum_on_the_features_of_the_network(self):
        given, model = data(), mlp()
        found = transfer(model, given, TransferConfig(method="linear", decays=(1e-2,)))
        h = model.blocks(given.train.images.flatten(1)).detach().double()
        weight = found.tuning.head.weight.detach().double().requires_grad_()
        bias = found.tuning.head.bias.detach().double().requires_grad_()
        loss = cross_entropy(h @ weight.T + bias, given.train.labels) + 0.005 * weight.square().sum()
        loss.backward()
        # The gradient of the optimum is zero; float32 rounds W by 6e-8 |W|, times a curvature of about |h|^2.
        assert max(weight.grad.abs().max(), bias.grad.abs().max()) < 1e-5
        assert found.decay == 1e-2
        for split, kept in (("train", given.train), ("test", given.test)):
            logits = model.blocks(kept.images.flatten(1)) @ found.tuning.head.weight.T + found.tuning.head.bias
            right = float((logits.argmax(1) == kept.labels).double().mean())
            assert getattr(found, f"{split}_accuracy") == right
        assert found.nc1("test") == pytest.approx(
            textbook_nc1(model.blocks(given.test.images.flatten(1)).detach(), given.test.labels), rel=1e-4
        )

    def test_the_decay_is_chosen_on_samples_held_out(self):
        # So strong a decay leaves the bias alone, which on balanced classes guesses.
        found = transfer(mlp(), data(), TransferConfig(method="linear", decays=(1e6, 1e-2), seed=3))
        assert found.decay == 1e-2
        one = transfer(mlp(), data(), TransferConfig(method="linear", decays=(1e-2,), seed=3))
        assert torch.equal(found.tuning.head.weight, one.tuning.head.weight)

    def test_a_head_without_bias_is_refused(self):
        model = mlp()
        model.classifier = nn.Linear(8, 5, bias=False)
        with pytest.raises(InputError, match="head with a bias"):
            transfer(model, data(), TransferConfig(method="linear"))


class TestTraining:
    @pytest.mark.parametrize("method", ["layer", "scl"])
    def test_the_cache_changes_nothing(self, method):
        given = data(shape=(1, 8, 8))
        config = replace(SHORT, method=method, layer="layer2.0", optimizer="sgd", lr=0.05)
        cached = transfer(resnet(), given, config)
        plain = transfer(resnet(), given, replace(config, cached=False))
        # Nine steps; kernels round batches of another size by some 1e-7 per step.
        for name, value in plain.tuning.delta_state_dict().items():
            torch.testing.assert_close(cached.tuning.delta_state_dict()[name], value, rtol=1e-4, atol=1e-5)
        assert cached.cache_seconds > 0
        assert plain.cache_seconds == 0
        moved = cached.tuning.model.layer2[0].conv1.weight - resnet().layer2[0].conv1.weight
        assert moved.abs().max() > 1e-3
        assert torch.equal(cached.tuning.model.layer1[0].conv1.weight, resnet().layer1[0].conv1.weight)

    @pytest.mark.parametrize("method", ["linear", "layer", "scl", "full", "lora"])
    def test_the_network_that_is_given_stays_as_it_is(self, method):
        if method == "lora":
            pytest.importorskip("peft")
        model = mlp()
        layer = "blocks.0" if method in ("layer", "scl") else None
        found = transfer(model, data(), replace(SHORT, method=method, layer=layer, rank=2))
        before = mlp().state_dict()
        assert model.state_dict().keys() == before.keys()
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert not model.blocks[0]._forward_hooks
        assert not found.tuning.training
        assert found.share.trainable == sum(p.numel() for p in found.tuning.parameters() if p.requires_grad)
        assert len(found.epoch_seconds) == (1 if method == "linear" else 3)

    def test_the_same_seed_gives_the_same_network(self):
        config = replace(SHORT, layer="blocks.0", seed=4)
        heads = [transfer(mlp(), data(), config).tuning.head.weight for _ in range(2)]
        heads.append(transfer(mlp(), data(), replace(config, seed=5)).tuning.head.weight)
        assert torch.equal(heads[0], heads[1])
        assert not torch.equal(heads[0], heads[2])

    def test_training_learns(self):
        found = transfer(mlp(), data(), TransferConfig(method="full", epochs=60, lr=1e-2, batch_size=16))
        assert found.train_accuracy > 0.9
        assert found.nc1() < found.nc1(start=True)
        losses = [r["value"] for r in found.rows if (r["split"], r["metric"]) == ("train", "loss")]
        assert losses[-1] < losses[0] / 2

    def test_images_are_prepared_for_the_network(self):
        given = data()
        shifted = ImageData(
            ArrayDataset(3 * given.train.images + 1, given.train.labels),
            ArrayDataset(3 * given.test.images + 1, given.test.labels),
            given.classes,
            given.shape,
            "shifted",
        )
        config = replace(SHORT, method="full", layer=None, optimizer="sgd", lr=0.01)
        there = transfer(mlp(), shifted, config, prepare=lambda images: (images - 1) / 3)
        here = transfer(mlp(), given, config)
        torch.testing.assert_close(there.tuning.head.weight, here.tuning.head.weight, rtol=1e-4, atol=1e-5)

    def test_a_head_that_is_kept_goes_on_from_its_weights(self):
        given = data(classes=5, samples=50)
        config = replace(SHORT, method="full", layer=None, keep_head=True, optimizer="sgd", lr=1e-6)
        torch.testing.assert_close(
            transfer(mlp(), given, config).tuning.head.weight, mlp().classifier.weight, atol=1e-4, rtol=0
        )
        new = transfer(mlp(), given, replace(config, keep_head=False)).tuning.head.weight
        assert (new - mlp().classifier.weight).abs().max() > 0.05

    @pytest.mark.parametrize("method", ["scl", "full"])
    def test_a_head_may_start_from_the_best_probe(self, method):
        given, model = data(), mlp()
        layer = "blocks.0" if method == "scl" else None
        config = replace(SHORT, method=method, layer=layer, start="probe", decays=(1e-2,), lr=1e-7, optimizer="sgd")
        found = transfer(model, given, config)
        a = model.blocks[0](given.train.images.flatten(1))
        h = (pad(model.blocks[1](a), (0, 4)) + a if method == "scl" else model.blocks[1](a)).detach().double()
        weight = found.tuning.head.weight.detach().double().requires_grad_()
        loss = cross_entropy(h @ weight.T + found.tuning.head.bias.double(), given.train.labels)
        (loss + 0.005 * weight.square().sum()).backward()
        # Nine steps of 1e-7 and float32 are all that is between the head and the optimum, whose gradient is zero.
        assert weight.grad.abs().max() < 1e-5
        new = transfer(mlp(), given, replace(config, start="new"))
        assert found.train_accuracy > new.train_accuracy


class TestRows:
    def test_nc1_is_that_of_what_the_head_reads(self):
        given, model = data(), mlp()
        found = transfer(model, given, replace(SHORT, layer="blocks.0", epochs=4))
        blocks = found.tuning.model.blocks

        def joined(images, first):
            a = first(images.flatten(1))
            return (pad(blocks[1](a), (0, 4)) + a).detach()

        untuned = deepcopy(model).blocks[0]
        plain = nn.Sequential(*blocks[0].children())
        for split, kept in (("train", given.train), ("test", given.test)):
            after = textbook_nc1(joined(kept.images, plain), kept.labels)
            before = textbook_nc1(joined(kept.images, untuned), kept.labels)
            assert found.nc1(split) == pytest.approx(after, rel=1e-3)
            assert found.nc1(split, start=True) == pytest.approx(before, rel=1e-3)

    def test_accuracy_and_loss_are_of_the_tuned_network(self):
        given = data()
        found = transfer(mlp(), given, replace(SHORT, layer="blocks.1"))
        with torch.no_grad():
            logits = found.tuning(given.test.images)
        assert found.test_accuracy == float((logits.argmax(1) == given.test.labels).double().mean())
        last = [r for r in found.rows if (r["split"], r["metric"]) == ("test", "loss")][-1]
        assert last["value"] == pytest.approx(float(cross_entropy(logits, given.test.labels)), rel=1e-5)
        assert sorted({r["epoch"] for r in found.rows if r["metric"] == "accuracy"}) == [0, 3]

    def test_the_step_falls_as_a_cosine(self):
        found = transfer(mlp(), data(), replace(SHORT, layer="blocks.1", lr=0.02))
        steps = [r["value"] for r in found.rows if r["metric"] == "learning rate"]
        assert steps == pytest.approx([0.02, 0.015, 0.005])

    def test_a_delta_is_measured_as_after_training(self, tmp_path):
        given = data()
        found = transfer(mlp(), given, replace(SHORT, layer="blocks.0"))
        read = load_delta(mlp(), found.tuning.save_delta(tmp_path / "tuned.safetensors"))
        again = evaluate(read, given)
        assert (again.train_accuracy, again.test_accuracy) == (found.train_accuracy, found.test_accuracy)
        assert again.nc1() == pytest.approx(found.nc1(), rel=1e-4)
        assert (again.share, again.layer) == (found.share, "blocks.0")
        with pytest.raises(InputError, match="tuned for 5 classes"):
            evaluate(read, data(classes=5, samples=50))


class TestCache:
    def test_a_cache_that_is_kept_is_read_again(self, tmp_path):
        given, config = data(), replace(SHORT, layer="blocks.1")
        first = transfer(mlp(), given, config, cache=tmp_path / "cache")
        files = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*") if path.is_file()}
        assert files
        second = transfer(mlp(), given, config, cache=tmp_path / "cache")
        assert {path: path.stat().st_mtime_ns for path in files} == files
        assert torch.equal(first.tuning.head.weight, second.tuning.head.weight)
        with pytest.raises(InputError, match="a cache of this network, layer and data"):
            transfer(mlp(seed=1), given, config, cache=tmp_path / "cache")

    def test_a_disk_that_is_too_small(self, tmp_path, monkeypatch):
        monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**12, 10**12, 100))
        with pytest.raises(InputError, match=r"GB of disk for the inputs of 'blocks\.1', 48 samples"):
            transfer(mlp(), data(), replace(SHORT, layer="blocks.1"), cache=tmp_path / "cache")
        transfer(mlp(), data(), replace(SHORT, layer="blocks.1", cached=False))


class TestLayerChoice:
    def test_candidates_are_the_blocks_with_weights_before_the_classifier(self):
        torch.manual_seed(0)
        assert candidate_layers(resnet()) == ("layer1.0", "layer2.0", "layer3.0")
        assert candidate_layers(networks.build("resnet18", shape=(3, 8, 8), classes=5, width=4))[::3] == (
            "layer1.0",
            "layer2.1",
            "layer4.0",
        )
        assert candidate_layers(networks.build("vit/4", shape=(1, 8, 8), classes=5, width=8, depth=2)) == (
            "blocks.0",
            "blocks.1",
        )
        plain = nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
        assert candidate_layers(plain) == ("1", "3")
        with pytest.raises(InputError, match="layer with weights before the classifier"):
            candidate_layers(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)))

    def test_networks_of_transformers(self):
        transformers = pytest.importorskip("transformers")
        with torch.device("meta"):
            vit = transformers.ViTForImageClassification(transformers.ViTConfig(num_hidden_layers=3))
            residual = transformers.ResNetForImageClassification(transformers.ResNetConfig())
        found = candidate_layers(vit)
        assert [vit.get_submodule(path) for path in found] == list(vit.vit.layers)
        assert candidate_layers(residual) == (
            "resnet.embedder.embedder",
            *(f"resnet.encoder.stages.{s}.layers.{b}" for s, n in enumerate((3, 4, 6, 3)) for b in range(n)),
        )
        with torch.device("meta"):
            nested = transformers.ConvNextForImageClassification(transformers.ConvNextConfig(depths=[1, 1, 2, 1]))
            shifted = transformers.SwinForImageClassification(transformers.SwinConfig(depths=[1, 2], num_heads=[3, 6]))
        kinds = [type(nested.get_submodule(path)).__name__ for path in candidate_layers(nested)]
        assert kinds.count("ConvNextLayer") == 5
        kinds = [type(shifted.get_submodule(path)).__name__ for path in candidate_layers(shifted)]
        assert kinds.count("SwinLayer") == 3

    def test_the_best_on_samples_held_out_is_chosen(self):
        given = data(samples=90)
        choice = rank_layers(mlp(), given, replace(SHORT, probe_steps=60, lr=1e-2))
        assert [score.layer for score in choice.scores] == ["blocks.0", "blocks.1"]
        best = max(score.accuracy for score in choice.scores)
        assert best > 0.5
        assert {score.layer: score for score in choice.scores}[choice.chosen].accuracy == best
        h = mlp().blocks[0](given.train.images.flatten(1)).detach()
        assert choice.scores[0].nc1 == pytest.approx(textbook_nc1(h, given.train.labels), rel=1e-3)
        # The H-score is bounded by the rank of the between-class covariance.
        assert 0 < choice.scores[0].h_score <= 2
        trainable = 16 * 12 + 12 + 3 * 12 + 3
        assert (choice.scores[0].trainable, choice.scores[0].share) == (trainable, trainable / (trainable + 12 * 8 + 8))

    @pytest.mark.parametrize(("accuracies", "chosen"), [((0.5, 0.9), "blocks.1"), ((0.7, 0.7), "blocks.1")])
    def test_ties_go_to_the_smaller_block(self, accuracies, chosen, monkeypatch):
        left = list(accuracies)
        monkeypatch.setattr(layer_choice, "_probe", lambda *args, **options: left.pop(0))
        assert rank_layers(mlp(), data(), replace(SHORT, method="layer")).chosen == chosen

    def test_the_samples_held_out_are_not_trained_on(self, monkeypatch):
        seen = []

        def spy(tuning, images, splits, config, fabric, **options):
            seen.extend((images.gather(kept)[0], images.gather(held)[0]) for kept, held in splits)
            return 0.5

        monkeypatch.setattr(layer_choice, "_probe", spy)
        rank_layers(mlp(), data(), replace(SHORT, probe_samples=30, layer="auto"), layers=["blocks.0"])
        whole = {tuple(row) for row in data().train.images.flatten(1).tolist()}
        held_out = set()
        for images in seen:
            kept, held = ({tuple(row) for row in part.flatten(1).tolist()} for part in images)
            assert not kept & held
            assert (len(kept), len(held)) == (24, 6)
            assert kept | held <= whole
            held_out.add(frozenset(held))
        assert len(seen) == len(held_out) == 5

    @pytest.mark.parametrize(("samples", "times"), [(60, 5), (900, 3), (2400, 2), (2550, 1)])
    def test_few_samples_are_split_several_times(self, samples, times):
        """Until 500 are held out: 180 of 900 take three splits, 480 of 2400 two, 510 of 2550 one."""
        assert len(layer_choice._splits(torch.arange(samples) % 3, SHORT)) == times

    @pytest.mark.parametrize("method", ["layer", "scl"])
    def test_the_accuracy_is_that_of_tunings_that_begin_anew(self, method, monkeypatch):
        """One layer with batch normalisation, tuned by `transfer` on each split's own data."""
        monkeypatch.setattr(layer_choice, "_SPLITS", 3)
        given, model = data(samples=45, shape=(1, 8, 8)), resnet()
        config = replace(SHORT, method=method, layer="auto", probe_steps=9, lr=1e-2)
        (score,) = rank_layers(model, given, config, layers=["layer2.0"]).scores
        wanted = []
        for kept, held in layer_choice._splits(given.train.labels, config):
            parts = replace(given, train=given.train.take(kept), test=given.train.take(held))
            # 36 samples in batches of 16 are three steps of an epoch.
            wanted.append(transfer(model, parts, replace(config, layer="layer2.0", epochs=3)).test_accuracy)
        assert len(set(wanted)) > 1
        assert score.accuracy == pytest.approx(sum(wanted) / len(wanted), abs=1e-12)

    def test_auto_tunes_the_chosen_layer_on_all_samples(self, monkeypatch):
        monkeypatch.setattr(layer_choice, "_probe", lambda tuning, *args, **options: float(tuning.layer == "blocks.1"))
        found = transfer(mlp(), data(), replace(SHORT, layer="auto"))
        assert (found.layer, found.config.layer, found.layers.chosen) == ("blocks.1", "blocks.1", "blocks.1")
        assert [row["chosen"] for row in found.layers.to_rows()] == [False, True]
        plain = transfer(mlp(), data(), replace(SHORT, layer="blocks.1"))
        assert torch.equal(found.tuning.head.weight, plain.tuning.head.weight)

    def test_candidates_may_be_named(self):
        found = transfer(mlp(), data(), SHORT, layers=["blocks.0.linear"])
        assert [score.layer for score in found.layers.scores] == ["blocks.0.linear"]
        with pytest.raises(InputError, match="The others have no layer"):
            rank_layers(mlp(), data(), TransferConfig(method="full"))


class TestShots:
    def test_so_many_of_every_class_drawn_by_the_seed(self):
        given = data(samples=47)
        few = few_shots(given, 4, seed=1)
        assert torch.bincount(few.train.labels).tolist() == [4, 4, 4]
        whole = {tuple(row.flatten().tolist()): int(y) for row, y in given.train}
        assert all(whole[tuple(row.flatten().tolist())] == int(y) for row, y in few.train)
        assert torch.equal(few.train.images, few_shots(given, 4, seed=1).train.images)
        assert not torch.equal(few.train.images, few_shots(given, 4, seed=2).train.images)
        assert few.test is given.test
        with pytest.raises(InputError, match="16 training samples of every class; got 15 of class 'c'"):
            few_shots(given, 16)

    def test_every_sample_is_as_likely_as_the_others(self):
        given, times = data(samples=12), torch.zeros(12)
        for seed in range(300):
            few = few_shots(given, 2, seed=seed).train
            times += (given.train.images[:, None] == few.images[None]).flatten(2).all(2).sum(1)
        # Binomial (300, 1/2): standard deviation 8.7; five of them.
        assert (times - 150).abs().max() < 45

    def test_one_sample_per_class(self):
        one = few_shots(data(), 1)
        found = transfer(mlp(), one, replace(SHORT, layer="blocks.0"))
        assert found.nc1() is None
        assert found.nc1("test") is not None
        assert transfer(mlp(), one, TransferConfig(method="linear", decays=(1e-2,))).train_accuracy == 1
        for config in (TransferConfig(method="linear"), replace(SHORT, layer="auto")):
            with pytest.raises(InputError, match="at least two samples of every class"):
                transfer(mlp(), one, config)


class Lazy(torch.utils.data.Dataset):
    """Samples one by one, as images decoded from files are."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        image, label = self.dataset[index]
        return image, int(label)


def test_data_sets_without_gather_or_labels():
    given = data()
    lazy = replace(given, train=Lazy(given.train), test=Lazy(given.test))
    config = replace(SHORT, layer="blocks.0")
    torch.testing.assert_close(
        transfer(mlp(), lazy, config).tuning.head.weight, transfer(mlp(), given, config).tuning.head.weight
    )
    some = PreparedImages(lazy.train, lambda images: 2 * images).take(torch.tensor([5, 2]))
    torch.testing.assert_close(some[1][0], 2 * given.train.images[2])
    assert some.labels.tolist() == given.train.labels[[5, 2]].tolist()


def test_undefined_scores_are_none():
    rows = torch.randn(6, 4, generator=generator(0))
    assert tuned_epochs.collapse_of(rows, torch.zeros(6, dtype=torch.int64)) == (None, None)
    nc1, h_score = tuned_epochs.collapse_of(torch.ones(6, 4), torch.arange(6) % 2)
    assert (nc1, h_score) == (None, None)
    # A class without samples is left out.
    labels = torch.tensor([0, 0, 0, 2, 2, 2])
    assert tuned_epochs.collapse_of(rows, labels) == tuned_epochs.collapse_of(rows, labels // 2)


class TestBadInput:
    def test_settings(self):
        for wrong, words in [
            ({"method": "prompt"}, "method is one of"),
            ({"method": "scl", "layer": None}, 'a layer or "auto"'),
            ({"method": "full", "layer": "blocks.0"}, "none for the other methods"),
            ({"epochs": 0}, "epochs"),
            ({"observations": 1}, "observations"),
            ({"held_out": 1.0}, "held out in"),
            ({"lr": -1.0}, "a positive lr"),
            ({"lr": float("nan")}, "a positive lr"),
            ({"optimizer": "lbfgs"}, "optimizer is one of"),
            ({"tokens": "all"}, "tokens is one of"),
            ({"start": "zero"}, "start is one of"),
            ({"start": "probe", "keep_head": True}, "a head that is kept, or"),
        ]:
            with pytest.raises(InputError, match=words):
                TransferConfig(**wrong)

    def test_networks_and_data_that_do_not_fit(self):
        config = replace(SHORT, layer="blocks.0")
        with pytest.raises(InputError, match=r"names modules of the model.*blocks\.1"):
            transfer(mlp(), data(), replace(config, layer="block.1"))
        with pytest.raises(InputError, match="a head of 3 classes, as the data have"):
            transfer(mlp(), data(), replace(config, keep_head=True))
        with pytest.raises(InputError, match=r"images \(1, 5, 5\) of blobs"):
            transfer(mlp(), data(shape=(1, 5, 5)), config)
        with pytest.raises(InputError, match="at least two classes"):
            transfer(mlp(), data(classes=1), config)
        with pytest.raises(InputError, match="training and test samples"):
            transfer(mlp(), replace(data(), test=ArrayDataset(torch.zeros(0, 1, 4, 4), torch.zeros(0).long())), config)
        missing = replace(data(), classes=("a", "b", "c", "d"))
        with pytest.raises(InputError, match="none of class 3"):
            transfer(mlp(), missing, TransferConfig(method="linear", decays=(1e-2,)))
