"""Fine-tuning of parts: outputs from the formula, what is trained, the source's shares, export."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, pad, relu

from tightframe.core.errors import AmbiguityError, InputError, MissingDependencyError
from tightframe.features.tap import FeatureTap
from tightframe.nn.networks import MLP, resnet18
from tightframe.nn.tuning.fine_tuning import tune
from tightframe.nn.tuning.tuning import FullTuning, HeadTuning, LayerTuning, SkipConnectionTuning

METHODS = ("linear", "layer", "scl", "full")


def network(**options) -> nn.Module:
    torch.manual_seed(0)
    return resnet18(3, 10, width=options.get("width", 4)).eval()


def images(n: int = 3, *, size: int = 8) -> torch.Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(1))


def prepared(model: nn.Module, method: str, layer: str = "layer3.0", **options):
    return tune(model, method, layer=layer if method in ("layer", "scl") else None, **options)


def a_step(tuned: nn.Module, x: torch.Tensor, *, classes: int = 5) -> None:
    optimizer = torch.optim.SGD([p for p in tuned.parameters() if p.requires_grad], lr=0.05)
    tuned.train()
    cross_entropy(tuned(x), torch.arange(len(x)) % classes).backward()
    optimizer.step()


def transformers_vit(**options):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.ViTConfig(**sizes, image_size=8, patch_size=4, num_labels=4, **options)
    return transformers.ViTForImageClassification(config).eval()


def transformers_clip():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.CLIPVisionConfig(**sizes, image_size=8, patch_size=4, projection_dim=12)
    return transformers.CLIPVisionModelWithProjection(config).eval()


class Embedded(nn.Module):
    """A classifier on the projected features of CLIP's vision tower, which are narrower than its blocks."""

    def __init__(self, encoder: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.encoder, self.classifier = encoder, classifier

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.encoder(x).image_embeds)


class TestSkipConnection:
    def test_a_map_is_averaged_padded_and_added(self):
        model, x = network(), images()
        tuned = SkipConnectionTuning(model, "layer3.0", classes=5).eval()
        inner = relu(model.bn1(model.conv1(x)))
        a = model.layer3[0](model.layer2(model.layer1(inner)))
        h = model.layer4(model.layer3[1](a)).mean((2, 3))
        expected = (h + pad(a.mean((2, 3)), (0, h.shape[1] - a.shape[1]))) @ model.classifier.weight.T
        torch.testing.assert_close(tuned(x), expected + model.classifier.bias)

    @pytest.mark.parametrize("given", [None, "inputs", "in_features"])
    def test_the_narrower_one_is_padded_either_way(self, given):
        torch.manual_seed(0)
        model, x = MLP(12, 4, widths=(9, 7, 5)), torch.randn(3, 12)
        options = {} if given is None else {given: x if given == "inputs" else 9}
        tuned = SkipConnectionTuning(model, "blocks.0", classes=3, **options)
        a = model.blocks[0](x)
        h = model.blocks(x)
        assert tuned.head.in_features == 9
        torch.testing.assert_close(tuned(x), (pad(h, (0, 4)) + a) @ tuned.head.weight.T + tuned.head.bias)

    def test_a_kept_head_that_is_too_narrow_is_refused(self):
        tuned = SkipConnectionTuning(MLP(12, 4, widths=(9, 5)), "blocks.0")
        with pytest.raises(InputError, match=r"classifier of 9 features.*classes="):
            tuned(torch.zeros(2, 12))

    @pytest.mark.parametrize("tokens", ["class", "mean"])
    def test_sequences_give_the_class_token_or_their_mean(self, tokens):
        model, x = transformers_vit(), images()
        tuned = SkipConnectionTuning(model, "vit.layers.1", tokens=tokens)
        hidden = model.vit.embeddings(x)
        for number, block in enumerate(model.vit.layers):
            hidden = block(hidden)
            if number == 1:
                a = hidden[:, 0] if tokens == "class" else hidden.mean(1)
        h = model.vit.layernorm(hidden)[:, 0]
        expected = (h + a) @ model.classifier.weight.T + model.classifier.bias
        torch.testing.assert_close(tuned(pixel_values=x).logits, expected)

    def test_sequences_first_encoders_are_turned(self):
        torch.manual_seed(0)

        class Encoder(nn.Module):
            def __init__(self):
                super().__init__()
                self.block = nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0, batch_first=False)
                self.classifier = nn.Linear(6, 3)

            def forward(self, x):
                return self.classifier(self.block(x.transpose(0, 1))[0])

        model, x = Encoder().eval(), torch.randn(4, 5, 6)
        a = model.block(x.transpose(0, 1))[0]
        expected = model.classifier(a + a)
        torch.testing.assert_close(SkipConnectionTuning(model, "block")(x), expected)

    def test_the_gradient_reaches_the_layer_both_ways(self):
        model, x = network().double(), images(2).double()
        tuned = SkipConnectionTuning(model, "layer3.0", classes=5).eval()
        weight = model.layer3[0].bn2.bias

        def loss(bias):
            with torch.no_grad():
                kept = weight.clone()
                weight.copy_(bias)
            value = tuned(x)[:, 0].sum()
            with torch.no_grad():
                weight.copy_(kept)
            return value.detach()

        (slope,) = torch.autograd.grad(tuned(x)[:, 0].sum(), weight)
        step = 1e-6 * torch.eye(len(weight), dtype=torch.float64)
        finite = torch.stack([(loss(weight + e) - loss(weight - e)) / 2e-6 for e in step])
        # Central differences: truncation 1e-12 and rounding 1e-16 / 1e-6, away from kinks of the ReLUs.
        torch.testing.assert_close(slope, finite, rtol=1e-5, atol=1e-7)

    def test_work_in_place_after_the_layer_does_not_reach_the_skip(self):
        torch.manual_seed(0)
        model, x = nn.Sequential(nn.Linear(4, 6), nn.ReLU(inplace=True), nn.Linear(6, 2)), torch.randn(3, 4)
        tuned = SkipConnectionTuning(model, "0")
        a = model[0].weight @ x.T + model[0].bias[:, None]
        torch.testing.assert_close(tuned(x), (relu(a) + a).T @ model[2].weight.T + model[2].bias)

    def test_a_tap_reads_what_the_head_reads(self):
        model, x = network(), images()
        tuned = SkipConnectionTuning(model, "layer3.0", classes=5).eval()
        taps = FeatureTap(tuned, ["model.layer3.0", "classifier"])(x)
        width = model.classifier.in_features
        a = pad(taps.features["model.layer3.0"], (0, width // 2))
        torch.testing.assert_close(taps.features["features"], model.forward_features(x) + a)

    def test_copies_and_pickles_hold_the_connection(self, tmp_path):
        tuned, x = prepared(network(), "scl", classes=5).eval(), images()
        expected = tuned(x)
        torch.save(tuned.merged(), tmp_path / "merged.pt")
        assert torch.equal(copy.deepcopy(tuned)(x), expected)
        assert torch.equal(torch.load(tmp_path / "merged.pt", weights_only=False)(x), expected)

    def test_it_is_joined_once(self):
        model = network()
        SkipConnectionTuning(model, "layer3.0", classes=5)
        head = model.classifier
        with pytest.raises(InputError, match="without a skip connection"):
            SkipConnectionTuning(model, "layer3.0", classes=4)
        assert model.classifier is head

    def test_a_layer_that_does_not_run_first_is_refused(self):
        class Odd(nn.Module):
            def __init__(self):
                super().__init__()
                self.aside, self.classifier = nn.Linear(4, 4), nn.Linear(4, 2)

            def forward(self, x):
                return self.classifier(x)

        with pytest.raises(InputError, match="'aside' runs before the classifier"):
            SkipConnectionTuning(Odd(), "aside")(torch.zeros(1, 4))

    def test_a_classifier_of_positions_is_refused(self):
        model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
        with pytest.raises(InputError, match="one row per sample"):
            SkipConnectionTuning(model, "0")(torch.zeros(2, 3, 4))


class TestWhatIsTrained:
    @pytest.mark.parametrize("method", METHODS)
    def test_a_step_changes_the_trained_parts_and_nothing_else(self, method):
        model = network()
        tuned = prepared(model, method, classes=5)
        before = copy.deepcopy(model.state_dict())
        a_step(tuned, images())
        changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
        parts = {"linear": ("classifier.",), "full": ("",)}.get(method, ("layer3.0.", "classifier."))
        assert changed
        assert all(name.startswith(parts) for name in changed)
        assert changed <= set(tuned.delta_state_dict()) == {name for name in before if name.startswith(parts)}
        statistics = [name for name in changed if name.endswith("running_mean")]
        assert len(statistics) == {"linear": 0, "layer": 3, "scl": 3, "full": 20}[method]

    @pytest.mark.parametrize("method", METHODS)
    def test_frozen_parts_stay_in_evaluation_mode(self, method):
        model = network()
        tuned = nn.Sequential(prepared(model, method, classes=5))  # as a trainer that wraps it
        tuned.train()
        on = {name for name, module in model.named_modules() if module.training}
        assert ("layer3.0.bn1" in on) == (method != "linear")
        assert ("layer1.0.bn1" in on) == (method == "full")
        assert "classifier" in on
        tuned.eval()
        assert not any(module.training for module in tuned.modules())

    def test_the_mode_and_precision_of_the_model_are_kept(self):
        model = network().double().train()
        tuned = HeadTuning(model, classes=5)
        assert tuned.training
        assert tuned.head.training
        assert not model.bn1.training
        assert tuned.head.weight.dtype == torch.float64

    def test_the_new_head_follows_the_seed(self):
        heads = [HeadTuning(network(), classes=5, seed=seed).head.weight for seed in (0, 0, 1)]
        assert torch.equal(heads[0], heads[1])
        assert not torch.equal(heads[0], heads[2])

    def test_without_classes_the_head_is_kept(self):
        model = network()
        head = model.classifier
        tuned = LayerTuning(model, "layer3.0")
        assert tuned.head is head
        torch.testing.assert_close(tuned(images()), network()(images()))

    def test_hugging_face_models_learn_their_number_of_classes(self):
        model = transformers_vit()
        tuned = prepared(model, "layer", "vit.layers.1", classes=7)
        out = tuned(pixel_values=images(), labels=torch.tensor([0, 5, 6]))
        assert (model.config.num_labels, out.logits.shape) == (7, (3, 7))
        torch.testing.assert_close(out.loss, cross_entropy(out.logits, torch.tensor([0, 5, 6])))

    def test_an_encoder_with_projected_features(self):
        encoder, x = transformers_clip(), images()
        model = Embedded(encoder, nn.Linear(12, 5)).eval()
        tuned = SkipConnectionTuning(model, "encoder.vision_model.encoder.layers.1", classes=5, inputs=x)
        assert tuned.head.in_features == 16
        embeds, seen = encoder(x).image_embeds, []
        handle = encoder.vision_model.encoder.layers[1].register_forward_hook(lambda m, a, o: seen.append(o))
        tuned(x)
        handle.remove()
        a = (seen[0][0] if isinstance(seen[0], tuple) else seen[0])[:, 0]
        torch.testing.assert_close(tuned(x), (pad(embeds, (0, 4)) + a) @ tuned.head.weight.T + tuned.head.bias)


class TestShares:
    """The source's shares of trained parameters, from configurations alone (no weights, no memory)."""

    @pytest.mark.parametrize(("classes", "share"), [(10, "6.52%"), (100, "7.24%"), (47, "6.82%"), (37, "6.73%")])
    def test_resnet50_first_block_of_stage_three(self, classes, share):
        transformers = pytest.importorskip("transformers")
        with torch.device("meta"):
            model = transformers.ResNetForImageClassification(transformers.ResNetConfig())
        described = tune(model, "scl", layer="resnet.encoder.stages.2.layers.0", classes=classes).describe()
        # Counted from the architecture: 1x1, 3x3, 1x1 and the projection, with their norms; head 2048 K + K.
        block = 512 * 256 + 9 * 256**2 + 256 * 1024 + 512 * 1024 + 2 * (256 + 256 + 1024 + 1024)
        assert described.trainable == block + 2049 * classes
        assert described.total == 23_508_032 + 2049 * classes
        assert f"({share})" in str(described)

    @pytest.mark.parametrize(("classes", "share"), [(100, 8.185), (47, 8.14), (37, 8.13)])
    def test_one_block_of_vit_b_32(self, classes, share):
        transformers = pytest.importorskip("transformers")
        with torch.device("meta"):
            model = transformers.ViTForImageClassification(transformers.ViTConfig(patch_size=32))
        described = tune(model, "layer", layer="vit.layers.8", classes=classes).describe()
        assert described.parts[0] == ("vit.layers.8", 7_087_872)
        assert 100 * described.share == pytest.approx(share, abs=0.005)

    def test_parts_add_up(self):
        model = network()
        described = prepared(model, "scl", classes=5).describe()
        assert described.trainable == sum(p.numel() for p in model.parameters() if p.requires_grad)
        assert described.share == described.trainable / sum(p.numel() for p in model.parameters())
        assert [name for name, _ in described.parts] == ["layer3.0", "classifier"]
        assert prepared(network(), "full").describe().share == 1


class TestExport:
    @pytest.mark.parametrize("method", METHODS)
    def test_the_merged_network_is_exported_with_any_batch_size(self, method):
        tuned = prepared(network(), method, classes=5)
        a_step(tuned, images())
        tuned.eval()
        merged, x = tuned.merged(), images(4)
        assert type(merged) is type(tuned.model)
        batch = torch.export.Dim("batch")
        exported = torch.export.export(merged, (images(2),), dynamic_shapes=({0: batch},)).module()
        torch.testing.assert_close(exported(x), tuned(x), rtol=1e-5, atol=1e-5)

    def test_the_merged_network_is_a_copy(self):
        tuned = prepared(network(), "scl", classes=5).eval()
        tuned.model.layer3[0](torch.zeros(1, 8, 4, 4))  # an interrupted pass leaves a tensor with a history
        merged, x = tuned.merged(), images()
        before = merged(x)
        with torch.no_grad():
            tuned.model.layer3[0].conv1.weight.add_(1)
        assert torch.equal(merged(x), before)
        assert not torch.equal(tuned(x), before)
        assert not any(module.training for module in merged.modules())

    def test_a_transformer_is_exported(self):
        tuned = prepared(transformers_vit(), "scl", "vit.layers.1", classes=5).eval()
        x = images()
        exported = torch.export.export(tuned.merged(), (), {"pixel_values": x}).module()
        torch.testing.assert_close(exported(pixel_values=x).logits, tuned(pixel_values=x).logits, rtol=1e-5, atol=1e-5)

    def test_onnx(self, tmp_path):
        pytest.importorskip("onnxscript")
        runtime = pytest.importorskip("onnxruntime")
        tuned, x = prepared(network(), "scl", classes=5).eval(), images()
        torch.onnx.export(tuned.merged(), (x,), tmp_path / "tuned.onnx", dynamo=True)
        session = runtime.InferenceSession(tmp_path / "tuned.onnx")
        (logits,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        torch.testing.assert_close(torch.from_numpy(logits), tuned(x).detach(), rtol=1e-5, atol=1e-5)


class TestLoRA:
    def test_without_peft(self, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "peft", None)
        with pytest.raises(MissingDependencyError, match="peft"):
            tune(network(), "lora", classes=5)

    def test_adapters_begin_as_nothing_and_merge(self):
        pytest.importorskip("peft")
        x = images()
        tuned = tune(transformers_vit(), "lora", classes=5, rank=2, seed=3)
        plain = tune(transformers_vit(), "linear", classes=5, seed=3).eval()
        torch.testing.assert_close(tuned.eval()(x).logits, plain(x).logits)
        linear = [m for n, m in transformers_vit().named_modules() if isinstance(m, nn.Linear) and n != "classifier"]
        count = sum(2 * (m.in_features + m.out_features) for m in linear)
        assert tuned.describe().parts == (("adapters", count), ("classifier", 16 * 5 + 5))
        optimizer = torch.optim.SGD([p for p in tuned.parameters() if p.requires_grad], lr=0.5)
        for _ in range(2):
            optimizer.zero_grad()
            cross_entropy(tuned.train()(x).logits, torch.arange(3)).backward()
            optimizer.step()
        out, merged = tuned.eval()(x).logits, tuned.merged()
        assert not torch.allclose(out, plain(x).logits)
        assert not any("lora" in name for name, _ in merged.named_modules())
        torch.testing.assert_close(merged(x).logits, out, rtol=1e-5, atol=1e-5)
        assert not any(m.training for n, m in tuned.train().named_modules() if n.endswith("layernorm"))

    def test_convolutional_backbones_and_targets(self):
        pytest.importorskip("peft")
        tuned = tune(network(), "lora", classes=5, rank=2, targets=["layer4.**.conv?"])
        assert tuned.targets == ("layer4.0.conv1", "layer4.0.conv2", "layer4.1.conv1", "layer4.1.conv2")
        assert len(tune(network(), "lora", rank=2).targets) == 20
        with pytest.raises(InputError, match=r"layer4\.0"):
            tune(network(), "lora", targets=["layer4.0"])


class TestRefusals:
    def test_a_layer_that_does_not_exist_names_near_ones(self):
        with pytest.raises(InputError, match=r"layer3\.7.*layer3\.0"):
            tune(network(), "scl", layer="layer3.7")

    @pytest.mark.parametrize(
        ("layer", "words"),
        [
            ("layer3.*", "one layer"),
            ("classifier", "before the classifier"),
            ("layer1.0.shortcut", "weights to train"),
        ],
    )
    def test_layers_that_do_not_fit(self, layer, words):
        with pytest.raises(InputError, match=words):
            tune(network(), "layer", layer=layer)

    @pytest.mark.parametrize(
        ("method", "layer", "words"),
        [
            ("bitfit", None, "a method, one of linear"),
            ("scl", None, "Name a block"),
            ("linear", "layer3.0", "Leave the layer out"),
        ],
    )
    def test_methods_and_layers_go_together(self, method, layer, words):
        with pytest.raises(InputError, match=words):
            tune(network(), method, layer=layer)

    def test_models_that_do_not_fit(self):
        with pytest.raises(InputError, match="wrap or compile it"):
            FullTuning(torch.compile(network()))
        with pytest.raises(InputError, match=r"nn\.Sequential"):
            FullTuning(nn.Linear(3, 2))
        with pytest.raises(InputError, match="1x1 convolution"):
            FullTuning(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
        with pytest.raises(AmbiguityError, match="classifier="):
            FullTuning(nn.ModuleDict({"a": nn.Linear(3, 2), "b": nn.Linear(3, 2)}))
        tied = nn.Sequential(nn.Embedding(5, 3), nn.Flatten(), nn.Linear(3, 5, bias=False))
        tied[2].weight = tied[0].weight
        with pytest.raises(InputError, match="embedding"):
            FullTuning(tied)

    @pytest.mark.parametrize("options", [{"classes": 1}, {"classes": 2.5}, {"classes": 3, "in_features": 0}])
    def test_sizes_that_do_not_fit(self, options):
        with pytest.raises(InputError, match="integer of at least"):
            HeadTuning(network(), **options)

    def test_tokens(self):
        with pytest.raises(InputError, match="class, mean"):
            SkipConnectionTuning(network(), "layer3.0", tokens="last")
