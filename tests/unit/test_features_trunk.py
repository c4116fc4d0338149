"""Cached trunks: the inputs of a layer once, and the rest of the network from there."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, relu
from torch.utils.data import DataLoader, Dataset, TensorDataset

from tightframe.core.errors import InputError
from tightframe.features import shards
from tightframe.features.resume import Resumed
from tightframe.features.trunk import TrunkFeatures, cached_trunk
from tightframe.nn.networks import MLP, resnet18
from tightframe.nn.tuning.fine_tuning import tune


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    model = resnet18(3, 5, width=4)
    model(torch.randn(8, 3, 8, 8))
    return model.eval()


def pictures(n: int = 11) -> TensorDataset:
    draws = torch.Generator().manual_seed(1)
    return TensorDataset(torch.randn(n, 3, 8, 8, generator=draws), torch.randint(5, (n,), generator=draws))


class Gathered(Dataset):
    """Reads by `gather` and counts how often."""

    def __init__(self, data: TensorDataset) -> None:
        self.tensors, self.calls = data.tensors, 0

    def __len__(self) -> int:
        return len(self.tensors[0])

    def gather(self, indices):
        self.calls += 1
        return tuple(tensor[indices] for tensor in self.tensors)


def vit(**options):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.ViTConfig(**sizes, image_size=8, patch_size=4, num_labels=5, **options)
    return transformers.ViTForImageClassification(config).eval()


class Counting(nn.Module):
    """A layer that counts its calls."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.calls = inner, 0

    def forward(self, *args, **kwargs):
        self.calls += 1
        return self.inner(*args, **kwargs)


class Uneven(nn.Module):
    """The head reads the stem beside the layer, as in a U-net, unless `straight`."""

    def __init__(self, *, straight: bool) -> None:
        super().__init__()
        self.stem, self.block, self.classifier = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        self.act, self.straight = nn.Tanh(), straight

    def forward(self, x):
        stem = self.act(self.stem(x))
        block = self.act(self.block(stem))
        return self.classifier(block if self.straight else block + stem)


class TestResumed:
    @pytest.mark.parametrize("layer", ["layer1.0", "layer3.0", "layer3.1.conv2", "classifier"])
    def test_a_network_goes_on_from_a_layer(self, layer):
        model, (x, _) = network(), pictures(6).tensors
        seen = []
        handle = model.get_submodule(layer).register_forward_pre_hook(lambda m, args: seen.append(args[0]))
        expected = model(x)
        handle.remove()
        if layer == "layer3.1.conv2":  # the shortcut needs what came before as well
            assert not torch.allclose(Resumed(model, layer, x)(seen[0]), expected)
        else:
            torch.testing.assert_close(Resumed(model, layer, x)(seen[0]), expected)

    def test_nothing_before_the_layer_runs(self):
        model, (x, _) = network(), pictures(6).tensors
        h = model.layer2(model.layer1(relu(model.bn1(model.conv1(x)))))
        model.layer1, model.layer3[0] = Counting(model.layer1), Counting(model.layer3[0])
        rest = Resumed(model, "layer3.0", x)
        model.layer1.calls = model.layer3[0].calls = 0
        for _ in range(3):
            rest(h)
        assert (model.layer1.calls, model.layer3[0].calls) == (0, 3)
        assert all("forward" not in vars(module) for module in model.modules())
        model(x)
        assert model.layer1.calls == 1

    def test_modules_used_before_and_after_are_not_replayed(self):
        torch.manual_seed(0)
        model, x = Uneven(straight=True), torch.randn(5, 4)
        torch.testing.assert_close(Resumed(model, "block", x)(model.stem(x).tanh()), model(x))

    def test_a_module_used_inside_a_replayed_one_and_beside_it(self):
        class Shared(nn.Module):
            def __init__(self):
                super().__init__()
                self.act = nn.ReLU()
                self.inner = nn.Sequential(nn.Linear(4, 6), self.act, nn.Linear(6, 3))
                self.block, self.classifier = nn.Linear(3, 3), nn.Linear(3, 2)

            def before(self, x):
                x = self.inner(x)
                return self.act(x) + x

            def forward(self, x):
                return self.classifier(self.block(self.before(x)))

        torch.manual_seed(0)
        model, x = Shared(), torch.randn(5, 4)
        torch.testing.assert_close(Resumed(model, "block", x)(model.before(x)), model(x))

    def test_the_network_is_put_back_after_an_error(self):
        model, (x, _) = network(), pictures(2).tensors
        rest = Resumed(model, "layer3.0", x)
        with pytest.raises(RuntimeError):
            rest(torch.zeros(2, 1, 1, 1))
        assert all("forward" not in vars(module) for module in model.modules())
        assert not model.layer3[0]._forward_pre_hooks

    def test_a_forward_of_ones_own_is_put_back(self):
        model, (x, _) = network(), pictures(2).tensors
        own = model.layer1.forward
        model.layer1.forward = own
        Resumed(model, "layer3.0", x)(torch.zeros(2, 8, 4, 4))
        assert vars(model.layer1)["forward"] is own

    def test_layers_that_do_not_fit(self):
        model, (x, _) = network(), pictures(2).tensors
        with pytest.raises(InputError, match=r"layer3\.9.*layer3\.0"):
            Resumed(model, "layer3.9", x)
        with pytest.raises(InputError, match="one layer"):
            Resumed(model, "layer3.*", x)
        model.aside = nn.Linear(2, 2)
        with pytest.raises(InputError, match="runs in a forward pass"):
            Resumed(model, "aside", x)
        with pytest.raises(InputError, match="the model itself"):
            Resumed(torch.compile(model), "layer3.0", x)


class TestCache:
    @pytest.mark.parametrize("layer", ["layer2.1", "layer3.0", "classifier"])
    @pytest.mark.parametrize("reader", [lambda data: data, Gathered])
    def test_every_sample_and_label(self, layer, reader, tmp_path):
        model, data = network(), pictures()
        cache = cached_trunk(model, layer, reader(data), tmp_path / "trunk", batch_size=4)
        seen = []
        handle = model.get_submodule(layer).register_forward_pre_hook(lambda m, args: seen.append(args[0].detach()))
        logits = model(data.tensors[0])
        handle.remove()
        h, y = cache.gather(range(11))
        # Batches of another size may be rounded differently.
        torch.testing.assert_close(h, seen[0])
        assert torch.equal(y, data.tensors[1])
        assert (len(cache), cache.nbytes) == (11, 4 * seen[0].numel())
        torch.testing.assert_close(cache.resumed(model)(h), logits)

    @pytest.mark.parametrize("rows", [1, 3, 11])
    def test_samples_in_any_order_from_any_number_of_files(self, rows, tmp_path, monkeypatch):
        monkeypatch.setattr(shards, "_SHARD_BYTES", rows * 4 * 8 * 4 * 4)
        cache = cached_trunk(network(), "layer3.0", pictures(), tmp_path / "trunk")
        assert len(list((tmp_path / "trunk").glob("shard-*"))) == -(-11 // rows)
        h, y = cache.gather(range(11))
        order = [10, 0, 3, 3, 7]
        rearranged = cache.gather(torch.tensor(order))
        assert torch.equal(rearranged[0], h[order])
        assert torch.equal(rearranged[1], y[order])
        assert torch.equal(cache[-2][0], h[9])
        batch, labels = next(iter(DataLoader(cache, batch_size=4)))
        assert torch.equal(batch, h[:4])
        assert torch.equal(labels, y[:4])
        with pytest.raises(IndexError):
            cache[11]

    def test_hugging_face_rows(self, tmp_path):
        x, y = pictures(6).tensors
        rows = [{"pixel_values": image, "labels": int(label)} for image, label in zip(x, y, strict=True)]
        model = vit(hidden_dropout_prob=0.5).train()
        tuned = tune(model, "scl", layer="vit.layers.1", classes=5).eval()
        cache = cached_trunk(model, "vit.layers.1", rows, tmp_path / "trunk", batch_size=4)
        h, labels = cache.gather(range(6))
        assert h.shape == (6, 5, 16)
        assert torch.equal(labels, y)
        torch.testing.assert_close(cache.resumed(tuned)(h).logits, tuned(pixel_values=x).logits)

    @pytest.mark.parametrize("method", ["layer", "scl"])
    def test_training_on_it_is_training_on_the_data(self, method, tmp_path):
        data = pictures(6)
        tuned = [tune(network(), method, layer="layer3.0", classes=5) for _ in range(2)]
        cache = cached_trunk(tuned[0].model, "layer3.0", data, tmp_path / "trunk")
        rest = cache.resumed(tuned[0])
        optimizers = [torch.optim.SGD([p for p in t.parameters() if p.requires_grad], lr=0.05) for t in tuned]
        for _ in range(3):
            h, y = cache.gather(range(6))
            for optimizer, logits in ((optimizers[0], rest.train()(h)), (optimizers[1], tuned[1].train()(data[:][0]))):
                optimizer.zero_grad()
                cross_entropy(logits, y).backward()
                optimizer.step()
        for name, value in tuned[0].delta_state_dict().items():
            torch.testing.assert_close(value, tuned[1].delta_state_dict()[name], rtol=1e-4, atol=1e-6)
        assert len(list(rest.parameters())) == len(list(tuned[0].parameters()))

    def test_the_model_is_left_as_it_was(self, tmp_path):
        model = network().train()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        cached_trunk(model, "layer3.0", pictures(), tmp_path / "trunk")
        assert all(module.training for module in model.modules())
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())

    @pytest.mark.parametrize(("dtype", "eps"), [(torch.float16, 2**-10), (torch.bfloat16, 2**-7)])
    def test_half_precision_on_disk(self, dtype, eps, tmp_path):
        model = network()
        whole = cached_trunk(model, "layer3.0", pictures(), tmp_path / "whole").gather(range(11))[0]
        cache = cached_trunk(model, "layer3.0", pictures(), tmp_path / "half", dtype=dtype)
        h = cache.gather(range(11))[0]
        assert h.dtype == torch.float32
        assert cache.nbytes == 2 * h.numel()
        torch.testing.assert_close(h, whole, rtol=eps, atol=1e-6)

    def test_it_is_computed_once(self, tmp_path):
        model, data = network(), Gathered(pictures())
        first = cached_trunk(model, "layer3.0", data, tmp_path / "trunk", batch_size=2)
        data.calls = 0
        again = cached_trunk(model, "layer3.0", data, tmp_path / "trunk", batch_size=2)
        assert data.calls == 1
        assert torch.equal(again.gather(range(11))[0], first.gather(range(11))[0])

    @pytest.mark.parametrize("what", ["weights", "layer", "data", "labels", "length"])
    def test_another_cache_is_refused(self, what, tmp_path):
        cached_trunk(network(), "layer3.0", pictures(), tmp_path / "trunk")
        data = pictures(9 if what == "length" else 11)
        if what == "data":
            data = TensorDataset(data.tensors[0].flip(0), data.tensors[1])
        if what == "labels":
            data = TensorDataset(data.tensors[0], (data.tensors[1] + 1) % 5)
        model, layer = network(1 if what == "weights" else 0), "layer3.1" if what == "layer" else "layer3.0"
        with pytest.raises(InputError, match="another directory"):
            cached_trunk(model, layer, data, tmp_path / "trunk")

    def test_samples_that_change_are_refused(self, tmp_path):
        class Augmented(TensorDataset):
            def __getitem__(self, index):
                x, y = super().__getitem__(index)
                return x + torch.rand(()), y

        with pytest.raises(InputError, match="random augmentation"):
            cached_trunk(network(), "layer3.0", Augmented(*pictures().tensors), tmp_path / "trunk")

    def test_what_later_parts_read_must_come_through_the_layer(self, tmp_path):
        torch.manual_seed(0)
        data = TensorDataset(torch.randn(5, 4), torch.zeros(5, dtype=torch.int64))
        cached_trunk(Uneven(straight=True), "block", data, tmp_path / "straight")
        with pytest.raises(InputError, match="read nothing from before it"):
            cached_trunk(Uneven(straight=False), "block", data, tmp_path / "trunk")
        with pytest.raises(InputError, match="Name a whole block"):
            cached_trunk(network(), "layer3.1.conv2", pictures(), tmp_path / "trunk")
        assert not (tmp_path / "trunk").exists()


class TestRefusals:
    def test_empty_unfinished_or_used_places(self, tmp_path):
        with pytest.raises(InputError, match="an empty one"):
            cached_trunk(network(), "layer3.0", TensorDataset(torch.zeros(0, 3, 8, 8)), tmp_path / "trunk")
        (tmp_path / "used").mkdir()
        (tmp_path / "used" / "file").touch()
        with pytest.raises(InputError, match="in use"):
            cached_trunk(network(), "layer3.0", pictures(), tmp_path / "used")
        with pytest.raises(InputError, match="finished shards"):
            TrunkFeatures(tmp_path / "used", None)

    def test_damaged_descriptions(self, tmp_path):
        cached_trunk(network(), "layer3.0", pictures(), tmp_path / "trunk")
        (tmp_path / "trunk" / "trunk.json").write_text("{}")
        with pytest.raises(InputError, match="compute it again"):
            cached_trunk(network(), "layer3.0", pictures(), tmp_path / "trunk")

    def test_samples_of_different_shapes(self, tmp_path):
        images = [(torch.zeros(3, 8 + 4 * (n == 3), 8), 0) for n in range(7)]
        with pytest.raises(InputError, match="of one shape"):
            cached_trunk(network(), "layer3.0", images, tmp_path / "trunk", batch_size=1)

    def test_inputs_that_are_not_one_row_per_sample(self, tmp_path):
        data = TensorDataset(torch.zeros(6, 4, dtype=torch.int64), torch.zeros(6, dtype=torch.int64))
        model = nn.Sequential(nn.Embedding(3, 2), nn.Flatten(), nn.Linear(8, 2))
        with pytest.raises(InputError, match="floating point"):
            cached_trunk(model, "0", data, tmp_path / "trunk")
        with pytest.raises(InputError, match="integer of at least"):
            cached_trunk(MLP(4, 2), "blocks.1", data, tmp_path / "trunk", batch_size=0)
