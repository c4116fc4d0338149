from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from tightframe.core.errors import AmbiguityError, InputError
from tightframe.core.rng import generator
from tightframe.features.classifier import weight_of
from tightframe.features.layers import blocks
from tightframe.features.tap import FeatureTap


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(seed))


def seeded(model: nn.Module, seed: int = 1) -> nn.Module:
    """Every parameter drawn from a fixed generator, so that tests do not depend on their order."""
    draws = generator(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draws) * 0.3)
    return model


def perceptron(classes: int = 3) -> nn.Sequential:
    return seeded(nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, classes)))


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.bn = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.relu(self.bn(self.conv(x)) + x)


class SmallResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = nn.Sequential(Residual(8), Residual(8))
        self.layer2 = nn.Sequential(Residual(8))
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        x = self.layer2(self.layer1(self.relu(self.conv1(x))))
        return self.fc(self.dropout(x.mean((2, 3))))


class SmallVGG(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2))
        self.classifier = nn.Sequential(nn.Linear(64, 10), nn.ReLU(True), nn.Dropout(), nn.Linear(10, 4))

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


class TwoHeads(nn.Module):
    def __init__(self, *, returns: str) -> None:
        super().__init__()
        self.trunk = nn.Linear(6, 5)
        self.first = nn.Linear(5, 3)
        self.second = nn.Linear(5, 3)
        self.returns = returns

    def forward(self, x):
        h = torch.tanh(self.trunk(x))
        a, b = self.first(h), self.second(h)
        outputs = {"both": (a, b), "first": a, "sum": a + b, "dict": {"logits": a, "other": b}, "named": {"a": a}}
        return outputs[self.returns]


def assert_affine(tap: FeatureTap, logits: torch.Tensor) -> None:
    """W h + b are the logits: the definition of the classifier's input."""
    rebuilt = functional.linear(tap.features["features"], tap.weight, tap.bias)
    torch.testing.assert_close(rebuilt, logits.flatten(0, -2), rtol=1e-4, atol=1e-5)


def hooks_of(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


# The classifier


@pytest.mark.parametrize(
    ("model", "shape", "name", "width"),
    [
        (perceptron(), (7, 6), "4", 4),
        (SmallResNet(), (7, 3, 8, 8), "fc", 8),
        (SmallVGG(), (7, 3, 8, 8), "classifier.3", 10),
        (nn.Linear(6, 3), (7, 6), "", 6),
        (TwoHeads(returns="first"), (7, 6), "first", 5),
        (TwoHeads(returns="dict"), (7, 6), "first", 5),
        (TwoHeads(returns="named"), (7, 6), "first", 5),
    ],
)
def test_classifier_is_found_and_its_input_recorded(model, shape, name, width):
    model = seeded(model).eval()
    tap = FeatureTap(model)
    with tap:
        model(normal(*shape))
        assert tap.classifier_name == name
        assert tap.features["features"].shape == (7, width)
        assert list(tap.features) == ["features"]
        assert_affine(tap, tap.logits)
    assert tap.classifier is model.get_submodule(name)
    assert tap.classes == tap.weight.shape[0]
    assert hooks_of(model) == 0


def test_one_sample_gives_one_row():
    assert FeatureTap(perceptron())(normal(1, 6)).features["features"].shape == (1, 4)


def test_structure_alone_tells_a_known_name_and_a_sequence_before_any_pass():
    assert FeatureTap(SmallResNet()).classifier_name == "fc"
    assert FeatureTap(SmallVGG()).classes == 4
    assert FeatureTap(perceptron()).classifier_name == "4"


def test_get_classifier_is_asked_first():
    model = TwoHeads(returns="second")
    model.get_classifier = lambda: model.second
    assert FeatureTap(model).classifier_name == "second"


def test_two_heads_are_ambiguous_before_a_pass_and_settled_by_it():
    model = TwoHeads(returns="first")
    tap = FeatureTap(model)
    with pytest.raises(AmbiguityError, match=r"first \(3, 5\), second \(3, 5\)"):
        _ = tap.weight
    tap(normal(4, 6))
    assert tap.classifier_name == "first"


def test_two_heads_that_are_both_returned_need_a_name():
    model = TwoHeads(returns="both")
    with pytest.raises(AmbiguityError, match=r'2 that fit; candidates: .*Name the classifier with classifier="name"'):
        FeatureTap(model)(normal(4, 6))
    assert hooks_of(model) == 0
    x = normal(4, 6)
    for name, index in (("first", 0), ("second", 1)):
        assert torch.equal(FeatureTap(model, classifier=name)(x).logits, model(x)[index])


def test_heads_with_equal_values_are_told_apart_by_memory():
    model = TwoHeads(returns="first")
    for head in (model.first, model.second):
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
    tap = FeatureTap(model)
    tap(normal(4, 6))
    assert tap.classifier_name == "first"


def test_logits_that_no_linear_map_gives_are_refused_and_stay_so():
    tap = FeatureTap(TwoHeads(returns="sum"))
    with pytest.raises(AmbiguityError, match="none that fits"):
        tap(normal(4, 6))
    with pytest.raises(AmbiguityError, match="none that fits"):
        _ = tap.weight


def test_a_named_classifier_is_taken_at_its_word():
    model = TwoHeads(returns="sum")
    taps = FeatureTap(model, classifier="second")(normal(4, 6))
    assert torch.equal(taps.logits, model(normal(4, 6)))


def test_a_named_classifier_must_be_a_linear_map():
    with pytest.raises(InputError, match="classifier='trunc', which is no linear map"):
        FeatureTap(TwoHeads(returns="first"), classifier="trunc")


@pytest.mark.parametrize("final", [nn.LogSoftmax(dim=1), nn.Softmax(dim=1)])
def test_probabilities_are_traced_back_to_logits(final):
    model = nn.Sequential(*perceptron(), final)
    tap = FeatureTap(model)
    taps = tap(normal(5, 6))
    assert tap.classifier_name == "4"
    assert torch.equal(taps.logits, model[:5](normal(5, 6)))


def test_a_pixelwise_convolution_may_classify():
    model = seeded(
        nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Conv2d(6, 4, 1), nn.Flatten())
    )
    tap = FeatureTap(model)
    with tap:
        logits = model(normal(5, 3, 8, 8))
        assert_affine(tap, logits)
    assert tap.weight.shape == (4, 6)


def test_lazy_layers_are_refused_until_they_are_initialised():
    model = nn.Sequential(nn.LazyLinear(3))
    with pytest.raises(InputError, match=r"lazy layers.*Run one batch"):
        FeatureTap(model)
    model(normal(2, 5))
    assert FeatureTap(model)(normal(2, 5)).features["features"].shape == (2, 5)


class Adapter(nn.Module):
    """What an adapter library makes of a linear layer: the base, a low-rank part, and the base's attributes."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base_layer = base
        self.down = nn.Linear(base.in_features, 2, bias=False)
        self.up = nn.Linear(2, base.out_features, bias=False)
        self.in_features, self.out_features = base.in_features, base.out_features

    @property
    def weight(self):
        return self.base_layer.weight

    @property
    def bias(self):
        return self.base_layer.bias

    def forward(self, x):
        return self.base_layer(x) + self.up(self.down(x))


def test_an_adapted_classifier_has_the_weight_it_acts_with():
    model = perceptron()
    model[4] = seeded(Adapter(model[4]), seed=3)
    tap = FeatureTap(model)
    tap(normal(5, 6))
    assert tap.classifier_name == "4"
    adapter = model[4]
    expected = adapter.base_layer.weight + adapter.up.weight @ adapter.down.weight
    torch.testing.assert_close(tap.weight, expected.detach(), rtol=0, atol=1e-5)


def test_a_packed_weight_is_read_off_the_map():
    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.in_features, self.out_features = 4, 3
            self.scale = nn.Parameter(torch.tensor(0.5))
            self.register_buffer("weight", torch.arange(12, dtype=torch.int8).view(3, 4))

        def forward(self, x):
            return x @ (self.weight.float() * self.scale).T

    assert torch.equal(weight_of(Packed()), torch.arange(12.0).view(3, 4) * 0.5)


def test_the_weight_is_detached():
    tap = FeatureTap(perceptron())
    assert not tap.weight.requires_grad
    assert not tap.bias.requires_grad


def test_features_do_not_hold_the_graph_and_the_logits_of_the_model_do():
    model = perceptron()
    with (tap := FeatureTap(model, "auto")):
        logits = model(normal(4, 6))
        assert logits.requires_grad
        assert not any(h.requires_grad for h in tap.features.values())
        assert not tap.logits.requires_grad


# Layers


def test_auto_takes_every_block_in_forward_order_and_ends_with_the_features():
    model = SmallResNet()
    tap = FeatureTap(model, "auto")
    assert tap.layer_names == ("relu", "layer1.0", "layer1.1", "layer2.0", "features")
    taps = tap(normal(5, 3, 8, 8))
    # The pooled output of the last block is the classifier's input, which is recorded once.
    assert tuple(taps.features) == tap.layer_names == ("relu", "layer1.0", "layer1.1", "features")
    model.eval()
    x = model.layer1[0](model.relu(model.conv1(normal(5, 3, 8, 8))))
    torch.testing.assert_close(taps.features["layer1.0"], x.mean((2, 3)))


def test_auto_with_flattened_maps_keeps_the_last_block():
    taps = FeatureTap(SmallResNet(), "auto", pool="flatten")(normal(2, 3, 8, 8))
    assert [h.shape[1] for h in taps.features.values()] == [512, 512, 512, 512, 8]


def test_auto_on_plain_networks():
    model = perceptron()
    taps = FeatureTap(model, "auto")(normal(5, 6))
    assert list(taps.features) == ["1", "features"]
    assert torch.equal(taps.features["1"], torch.relu(model[0](normal(5, 6))))
    assert list(FeatureTap(SmallVGG(), "auto")(normal(2, 3, 8, 8)).features) == ["features.1", "features"]


def test_auto_on_networks_without_activation_modules_takes_weighted_layers():
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(4, 3)
            self.one = nn.Linear(6, 5)
            self.two = nn.Linear(5, 4)

        def forward(self, x):
            return self.last(torch.relu(self.two(torch.relu(self.one(x)))))

    assert list(FeatureTap(Functional(), "auto")(normal(5, 6)).features) == ["one", "two", "features"]


def test_auto_on_the_networks_of_this_library():
    from tightframe.nn.networks import build

    mlp = FeatureTap(build("mlp", shape=(1, 8, 8), classes=10), "auto")
    assert mlp.layer_names == ("blocks.0", "blocks.1", "blocks.2", "blocks.3", "features")
    assert list(mlp(normal(3, 1, 8, 8)).features) == ["blocks.0", "blocks.1", "blocks.2", "features"]
    resnet = FeatureTap(build("resnet18", shape=(1, 8, 8), classes=10, width=4), "auto")
    names = list(resnet(normal(3, 1, 8, 8)).features)
    assert [name for name in names if name.startswith("layer")] == [
        f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)
    ][:-1]
    assert names[-1] == "features"


def test_names_and_globs():
    model = SmallResNet().eval()
    taps = FeatureTap(model, ["layer?.*", "classifier"])(normal(2, 3, 8, 8))
    assert list(taps.features) == ["layer1.0", "layer1.1", "layer2.0", "features"]
    assert list(FeatureTap(model, "**.conv")(normal(2, 3, 8, 8)).features) == [
        "layer1.0.conv",
        "layer1.1.conv",
        "layer2.0.conv",
    ]
    assert list(FeatureTap(model, "layer1")(normal(2, 3, 8, 8)).features) == ["layer1"]


def test_an_unknown_layer_lists_near_names():
    with pytest.raises(InputError, match=r"'layer1\.3', which matches none.*layer1\.0"):
        FeatureTap(SmallResNet(), "layer1.3")


def test_the_name_features_is_kept_for_the_classifiers_input():
    with pytest.raises(InputError, match="is kept for the input of the classifier"):
        FeatureTap(SmallVGG(), "features")


@pytest.mark.parametrize("layers", [(), []])
def test_no_layer_at_all_is_refused(layers):
    with pytest.raises(InputError, match="at least one layer"):
        FeatureTap(perceptron(), layers)


@pytest.mark.parametrize(("name", "value"), [("pool", "max"), ("tokens", "first")])
def test_unknown_choices_are_refused(name, value):
    with pytest.raises(InputError, match=f"{name} is one of .*got '{value}'"):
        FeatureTap(perceptron(), **{name: value})


def test_a_layer_that_does_not_run_is_named():
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.aux = nn.Linear(6, 3)
            self.fc = nn.Linear(6, 3)

        def forward(self, x):
            return self.fc(x)

    with pytest.raises(InputError, match="no call of aux"):
        FeatureTap(Idle(), ["aux"])(normal(2, 6))


def test_a_module_called_twice_is_numbered():
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 6)
            self.act = nn.Tanh()
            self.fc = nn.Linear(6, 3)

        def forward(self, x):
            for _ in range(3):
                x = self.act(self.layer(x))
            return self.fc(x)

    model = Shared()
    taps = FeatureTap(model, ["layer", "classifier"])(normal(4, 6))
    assert list(taps.features) == ["layer", "layer#2", "layer#3", "features"]
    first = model.layer(normal(4, 6))
    assert torch.equal(taps.features["layer"], first)
    assert torch.equal(taps.features["layer#2"], model.layer(torch.tanh(first)))
    assert list(FeatureTap(model, "auto")(normal(4, 6)).features) == ["act", "act#2", "features"]


def test_in_place_activations_do_not_change_what_was_recorded():
    model = seeded(nn.Sequential(nn.Linear(6, 5), nn.ReLU(inplace=True), nn.Linear(5, 3)))
    taps = FeatureTap(model, ["0"])(normal(4, 6))
    assert float(taps.features["0"].min()) < 0
    assert torch.equal(taps.features["0"], model[0](normal(4, 6)))


def test_a_classifier_input_changed_in_place_is_refused():
    class Spoils(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(6, 3)

        def forward(self, x):
            h = x * 2
            logits = self.fc(h)
            h.zero_()
            return logits

    with pytest.raises(InputError, match="input of 'fc', changed in place"):
        FeatureTap(Spoils())(normal(2, 6))


def test_maps_in_one_two_and_three_dimensions_are_averaged_over_their_pixels():
    for rank, convolution in ((1, nn.Conv1d), (2, nn.Conv2d), (3, nn.Conv3d)):
        model = seeded(nn.Sequential(convolution(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 3**rank, 3)))
        x = normal(5, 2, *[5] * rank)
        taps = FeatureTap(model, "auto")(x)
        expected = torch.relu(model[0](x)).flatten(2).mean(2)
        torch.testing.assert_close(taps.features["1"], expected)
        taps = FeatureTap(model, ["1"], pool="flatten")(x)
        assert torch.equal(taps.features["1"], torch.relu(model[0](x)).flatten(1))


def test_maps_with_channels_last_are_averaged_over_their_pixels():
    class ChannelsLast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(6)
            self.fc = nn.Linear(6, 3)

        def forward(self, x):
            return self.fc(self.norm(x).mean((1, 2)))

    model = ChannelsLast()
    for shape in ((5, 4, 3, 6), (5, 6, 3, 6)):
        taps = FeatureTap(model, ["norm"])(normal(*shape))
        torch.testing.assert_close(taps.features["norm"], model.norm(normal(*shape)).mean((1, 2)))


def test_a_layer_without_the_batch_in_front_is_refused():
    class Transposed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encode = nn.Linear(6, 6)
            self.fc = nn.Linear(6, 3)

        def forward(self, x):
            return self.fc(self.encode(x.transpose(0, 1)).mean(0))

    with pytest.raises(InputError, match=r"layer 'encode' gives one row per row of the logits, 5; got 7 rows"):
        FeatureTap(Transposed(), ["encode"])(normal(5, 7, 6))


def test_layers_that_return_something_else_are_refused_in_words():
    class Odd(nn.Module):
        def forward(self, x):
            return {"a": x, "b": x}

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.odd = Odd()
            self.fc = nn.Linear(6, 3)

        def forward(self, x):
            return self.fc(self.odd(x)["a"])

    with pytest.raises(InputError, match=r"layer 'odd' returns a tensor .* got NoneType"):
        FeatureTap(Model(), ["odd"])(normal(2, 6))


def test_tuples_are_recorded_by_their_first_tensor():
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.GRU(6, 5, batch_first=True)
            self.fc = nn.Linear(5, 3)

        def forward(self, x):
            return self.fc(self.rnn(x)[0][:, -1])

    model = Recurrent()
    taps = FeatureTap(model, ["rnn", "classifier"], tokens="mean")(normal(2, 7, 6))
    torch.testing.assert_close(taps.features["rnn"], model.rnn(normal(2, 7, 6))[0].mean(1))


@pytest.mark.parametrize("output", [None, 3.0, "text"])
def test_models_without_logits_are_refused_in_words(output):
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(6, 3)

        def forward(self, x):
            self.fc(x)
            return output

    with pytest.raises(InputError, match=r"the model returns logits .* without such a tensor"):
        FeatureTap(Model())(normal(2, 6))


def test_a_single_logit_per_sample_is_refused():
    model = nn.Sequential(nn.Linear(6, 1), nn.Flatten(0))
    with pytest.raises(InputError, match=r"got a tensor of shape \(4,\)"):
        FeatureTap(model)(normal(4, 6))


# State is put back


def test_hooks_are_removed_on_exceptions():
    model = perceptron()
    tap = FeatureTap(model, "auto")
    with pytest.raises(RuntimeError, match="shapes"):
        tap(normal(4, 7))
    with pytest.raises(ZeroDivisionError), tap:
        raise ZeroDivisionError
    assert hooks_of(model) == 0
    assert tap(normal(4, 6)).logits.shape == (4, 3)


def test_a_failed_pass_leaves_no_features_of_an_earlier_one():
    model = perceptron()
    with (tap := FeatureTap(model)):
        model(normal(4, 6))
        with pytest.raises(RuntimeError):
            model(normal(4, 7))
        with pytest.raises(InputError, match="a forward pass while the tap is attached; got none"):
            _ = tap.features


def test_forward_that_bypasses_the_hooks_is_noticed():
    model = perceptron()
    with (tap := FeatureTap(model)):
        model.forward(normal(4, 6))
        with pytest.raises(InputError, match=r"not model\.forward"):
            _ = tap.logits


def test_entering_twice_is_refused_and_two_taps_do_not_disturb_each_other():
    model = perceptron()
    with (tap := FeatureTap(model)), (other := FeatureTap(model, "1")):
        with pytest.raises(InputError, match="attached already"), tap:
            pass
        model(normal(4, 6))
        assert tap.features["features"].shape == (4, 4)
        assert other.features["1"].shape == (4, 5)
    assert hooks_of(model) == 0


def test_training_flags_of_every_module_grad_mode_and_random_state_are_restored():
    model = SmallResNet().train()
    model.layer1[0].bn.eval()
    flags = {name: module.training for name, module in model.named_modules()}
    statistics = model.layer1[1].bn.running_mean.clone()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    first, second = (FeatureTap(model)(normal(4, 3, 8, 8)).logits for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.rand(2), expected)
    assert {name: module.training for name, module in model.named_modules()} == flags
    assert torch.equal(model.layer1[1].bn.running_mean, statistics)
    assert torch.is_grad_enabled()
    with pytest.raises(RuntimeError):
        FeatureTap(model)(normal(4, 2, 8, 8))
    assert {name: module.training for name, module in model.named_modules()} == flags
    assert torch.is_grad_enabled()


def test_train_is_called_for_modules_that_do_more_than_set_a_flag():
    class Merging(nn.Linear):
        merged = False

        def train(self, mode: bool = True):
            self.merged = not mode
            return super().train(mode)

    model = nn.Sequential(Merging(6, 3)).train()
    with (tap := FeatureTap(model)):
        tap(normal(2, 6))
        assert not model[0].merged
    model.eval()
    tap(normal(2, 6))
    assert model[0].merged


def test_a_flag_that_train_would_not_set_is_restored():
    class Frozen(nn.BatchNorm1d):
        def train(self, mode: bool = True):
            return super().train(False)

    model = nn.Sequential(Frozen(6), nn.Linear(6, 3)).train()
    model[0].training = True
    FeatureTap(model)(normal(4, 6))
    assert model[0].training


# Wrapped models


@pytest.mark.parametrize("in_place", [False, True])
def test_compiled_models_run_uncompiled_while_the_tap_is_attached(in_place):
    model = perceptron()
    compiled = model
    if in_place:
        model.compile(backend="eager")
    else:
        compiled = torch.compile(model, backend="eager")
    expected = compiled(normal(4, 6))  # compiled before any hook is there, which such a call would ignore
    tap = FeatureTap(compiled, "auto")
    assert tap.layer_names == ("1", "3", "features")
    with tap:
        assert torch.equal(compiled(normal(4, 6)), expected)
        assert list(tap.features) == ["1", "features"]
        assert_affine(tap, expected)
    assert torch.equal(tap(normal(4, 6)).logits, expected)
    assert torch.equal(compiled(normal(4, 6)), expected)
    assert hooks_of(model) == 0


@pytest.fixture
def process_group(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_ddp_models_are_unwrapped_and_broadcast_no_buffers(process_group, monkeypatch):
    from torch.nn.parallel import DistributedDataParallel

    inside = seeded(SmallResNet())
    model = DistributedDataParallel(inside)
    tap = FeatureTap(model, "auto")
    calls = []
    monkeypatch.setattr(DistributedDataParallel, "_sync_buffers", lambda self: calls.append(1))
    taps = tap(normal(4, 3, 8, 8))
    assert tap.classifier_name == "fc"
    assert calls == []
    assert model.require_forward_param_sync
    inside.eval()
    assert torch.equal(taps.logits, inside(normal(4, 3, 8, 8)))


def test_fabric_models_are_unwrapped_and_keep_their_precision():
    from lightning.fabric import Fabric

    model = perceptron()
    wrapped = Fabric(accelerator="cpu", devices=1, precision="bf16-mixed").setup(model)
    tap = FeatureTap(wrapped, "auto")
    taps = tap(normal(4, 6))
    assert tap.classifier_name == "4"
    assert taps.features["features"].dtype == torch.bfloat16
    assert torch.equal(taps.logits, wrapped(normal(4, 6)))


def test_models_that_cannot_be_hooked_are_refused():
    with pytest.raises(InputError, match=r"nn\.DataParallel.*model\.module"):
        FeatureTap(nn.DataParallel(perceptron()))
    with pytest.raises(InputError, match="got list"):
        FeatureTap([perceptron()])
    with pytest.raises(InputError, match="TorchScript"):
        FeatureTap(torch.jit.trace(perceptron(), normal(1, 6)))


# Transformers, built from small configurations


@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip("transformers")


SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}


def test_bert_for_sequence_classification(transformers):
    model = seeded(
        transformers.BertForSequenceClassification(transformers.BertConfig(**SIZES, vocab_size=50, num_labels=3))
    )
    words = torch.randint(0, 50, (5, 7), generator=generator(0))
    tap = FeatureTap(model, "auto")
    taps = tap(input_ids=words)
    assert tap.classifier_name == "classifier"
    assert list(taps.features) == [*(f"bert.encoder.layer.{i}" for i in range(3)), "features"]
    assert all(h.shape == (5, 16) for h in taps.features.values())
    model.eval()
    states = model(input_ids=words, output_hidden_states=True).hidden_states
    torch.testing.assert_close(taps.features["bert.encoder.layer.1"], states[2][:, 0])
    torch.testing.assert_close(
        FeatureTap(model, "bert.encoder.layer.1", tokens="mean")(input_ids=words).features["bert.encoder.layer.1"],
        states[2].mean(1),
    )
    every = FeatureTap(model, "bert.encoder.layer.1", tokens="all")(input_ids=words).features
    torch.testing.assert_close(every["bert.encoder.layer.1"], states[2].flatten(0, 1))
    with (tap := FeatureTap(model)):
        logits = model(input_ids=words, return_dict=False)[0]
        assert_affine(tap, logits)


def test_vision_transformer(transformers):
    config = transformers.ViTConfig(**SIZES, image_size=8, patch_size=4, num_labels=3)
    model = seeded(transformers.ViTForImageClassification(config))
    taps = FeatureTap(model, "auto")(normal(5, 3, 8, 8))
    assert len(taps.features) == 4
    assert all(h.shape == (5, 16) for h in taps.features.values())


def test_language_model_is_tied_and_recorded_at_every_position(transformers):
    config = transformers.GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2, n_positions=32)
    model = seeded(transformers.GPT2LMHeadModel(config))
    words = torch.randint(0, 50, (5, 7), generator=generator(0))
    tap = FeatureTap(model, "auto")
    taps = tap(input_ids=words)
    assert tap.classifier_name == "lm_head"
    assert tap.tied
    assert tap.bias is None
    assert taps.logits.shape == (5, 7, 50)
    assert {name: tuple(h.shape) for name, h in taps.features.items()} == {
        "transformer.h.0": (35, 16),
        "transformer.h.1": (35, 16),
        "features": (35, 16),
    }
    torch.testing.assert_close(taps.features["features"] @ tap.weight.T, taps.logits.flatten(0, 1))
    assert not FeatureTap(perceptron()).tied


def test_a_sequence_classified_by_its_last_token_is_recorded_there(transformers):
    config = transformers.GPT2Config(
        vocab_size=50, n_embd=16, n_layer=2, n_head=2, n_positions=32, num_labels=3, pad_token_id=0
    )
    model = seeded(transformers.GPT2ForSequenceClassification(config))
    words = torch.randint(1, 50, (4, 7), generator=generator(0))
    words[0, 5:] = 0
    words[2, 3:] = 0
    tap = FeatureTap(model, "auto")
    taps = tap(input_ids=words)
    assert tap.classifier_name == "score"
    last = torch.tensor([4, 6, 2, 6])
    states = model.eval()(input_ids=words, output_hidden_states=True).hidden_states
    torch.testing.assert_close(taps.features["features"], states[-1][torch.arange(4), last])
    torch.testing.assert_close(taps.features["transformer.h.0"], states[1][torch.arange(4), last])
    torch.testing.assert_close(taps.features["features"] @ tap.weight.T, taps.logits)


def test_positions_that_logits_cannot_tell_apart_are_refused():
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.score = nn.Linear(6, 2)

        def forward(self, x):
            return self.score(x)[:, -1]

    model = Last()
    nn.init.zeros_(model.score.weight)
    with pytest.raises(AmbiguityError, match="several positions with equal logits"):
        FeatureTap(model)(normal(3, 4, 6))


def test_torch_transformer_layers_with_the_batch_second(recwarn):
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 2, enable_nested_tensor=False)
            self.fc = nn.Linear(8, 3)

        def forward(self, x):
            return self.fc(self.encoder(x.transpose(0, 1))[0])

    taps = FeatureTap(Encoder(), "auto")(normal(5, 7, 8))
    assert list(taps.features) == ["encoder.layers.0", "features"]
    assert taps.features["encoder.layers.0"].shape == (5, 8)


class NormAct(nn.BatchNorm2d):
    """A normalisation that holds its activation, as timm writes them."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.act = nn.ReLU()

    def forward(self, x):
        return self.act(super().forward(x))


class Inverted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(4, 4, 1), NormAct(4)

    def forward(self, x):
        return x + self.bn(self.conv(x))


def test_a_normalisation_with_its_activation_is_no_block():
    stem = nn.ModuleDict({"conv": nn.Conv2d(3, 4, 1), "bn1": NormAct(4)})
    root = nn.Module()
    root.stem, root.stages, root.bn2 = stem, nn.Sequential(Inverted(), Inverted()), NormAct(4)
    assert blocks(root) == ("stages.0", "stages.1")
