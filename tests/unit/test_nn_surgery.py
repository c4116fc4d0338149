"""Swapping classifiers and narrowing features, in this library's networks, Hugging Face's and others'."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tightframe.core.errors import AmbiguityError, InputError
from tightframe.features.tap import FeatureTap
from tightframe.nn.heads.alignment import AlignedETFHead
from tightframe.nn.heads.heads import SimplexETFHead
from tightframe.nn.heads.normalized import NormalizedHead
from tightframe.nn.heads.surgery import reduce_features, replace_head
from tightframe.nn.networks import MLP, build, resnet18, resnet50


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def hugging_face_resnet(kind: str, width: int = 8, classes: int = 10) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    widths = [width * 2**stage * (4 if kind == "bottleneck" else 1) for stage in range(4)]
    depths = [2, 2, 2, 2] if kind == "basic" else [3, 4, 6, 3]
    return transformers.ResNetForImageClassification(
        transformers.ResNetConfig(
            depths=depths, hidden_sizes=widths, embedding_size=width, layer_type=kind, num_labels=classes
        )
    )


class Block(nn.Module):
    """A residual block with the names and the None that torchvision uses."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            projection = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class Small(nn.Module):
    """A residual network with a classifier called fc."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.layer1 = nn.Sequential(Block(8, 16, 2), *(Block(16, 16) for _ in range(depth - 1)))
        self.fc = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.layer1(self.stem(x)).mean((2, 3)))


class Skipping(nn.Module):
    """Looks like a chain; is none."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 6)
        self.chain = nn.Sequential(nn.Linear(6, 6), nn.ReLU())
        self.fc = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        return self.fc(x + self.chain(x))


@pytest.mark.parametrize(
    ("kind", "before", "after", "share"),
    [("basic", 11_181_642, 8_867_442, 0.2070), ("bottleneck", 23_528_522, 22_481_010, 0.0445)],
)
def test_the_sources_counts_for_ten_classes(kind, before, after, share):
    with torch.device("meta"):
        model = hugging_face_resnet(kind, width=64)
    # Weights on `meta` cannot be drawn.
    model.to_empty(device="cpu")
    alone = hugging_face_resnet(kind, width=8)
    first = reduce_features(model, 10)
    second = replace_head(model)
    assert first.before == before
    assert second.after == after == parameters(model)
    assert 1 - second.after / first.before == pytest.approx(share, abs=5e-5)
    # Nearly all of it comes from the block: the classifier alone has K d parameters.
    assert replace_head(alone).saved == 10 * (64 if kind == "basic" else 256)
    assert isinstance(second.head, SimplexETFHead)


@pytest.mark.parametrize(
    ("head", "kind", "options"),
    [
        ("etf", SimplexETFHead, {"scale": 3.0}),
        ("aligned", AlignedETFHead, {"momentum": 0.5}),
        ("normalized", NormalizedHead, {"temperature": 4.0}),
        (nn.Linear, nn.Linear, {"bias": False}),
    ],
)
def test_every_head_in_a_resnet(head, kind, options):
    torch.manual_seed(0)
    model = resnet18(1, 4, width=4).eval()
    old, before = model.classifier, parameters(model)
    done = replace_head(model, head, **options)
    assert type(model.classifier) is kind
    assert done.head is model.classifier
    assert (done.path, done.before, done.after) == ("classifier", before, parameters(model))
    assert done.saved == before - parameters(model)
    assert f"Linear(32, 4) became {kind.__name__}(32, 4)" in str(done)
    assert f"{done.share:.2%}" in str(done)
    assert not model.classifier.training
    taps = FeatureTap(model)(normal(3, 1, 8, 8))
    assert taps.features["features"].shape == (3, old.in_features)


def test_sizes_bias_precision_and_mode_are_those_of_the_old_classifier():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3, bias=False)).double()
    replace_head(model)
    assert model[2].bias is None
    assert model[2].frame.dtype == torch.float64
    assert model(normal(2, 4).double()).shape == (2, 3)
    replace_head(model, bias=True)
    assert model[2].bias is not None


def test_the_classifier_found_by_a_forward_pass():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.decide, self.inner = nn.Linear(6, 3), nn.Linear(4, 6)

        def forward(self, x):
            return self.decide(self.inner(x))

    model = Odd()
    with pytest.raises(AmbiguityError, match="classifier="):
        replace_head(model)
    assert replace_head(model, inputs=normal(2, 4)).path == "decide"
    assert replace_head(Odd(), inputs=(normal(2, 4),)).path == "decide"
    assert replace_head(Odd(), inputs={"x": normal(2, 4)}).path == "decide"
    assert replace_head(Odd(), classifier="decide").path == "decide"


def test_a_classifier_registered_twice_is_replaced_twice():
    model = nn.Sequential(nn.Linear(4, 3))
    model.alias = model[0]
    replace_head(model, classifier="0")
    assert model.alias is model[0]
    assert isinstance(model[0], SimplexETFHead)


def test_hugging_face_text_and_vision_classifiers():
    transformers = pytest.importorskip("transformers")
    bert = transformers.BertForSequenceClassification(
        transformers.BertConfig(
            vocab_size=20, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, num_labels=3
        )
    ).eval()
    tokens = torch.arange(10).reshape(2, 5)
    done = replace_head(bert, inputs={"input_ids": tokens})
    assert done.path == "classifier"
    assert bert(tokens).logits.shape == (2, 3)
    vit = transformers.ViTForImageClassification(
        transformers.ViTConfig(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, image_size=8, patch_size=4
        )
    ).eval()
    before = parameters(vit)
    done = reduce_features(vit, 5, inputs=normal(2, 3, 8, 8))
    assert "a linear map from 16 to 5 features put in front" in done.change
    # 16 x 5 for the map; the classifier of 2 classes is narrowed from 16 to 5.
    assert parameters(vit) == before + 16 * 5 - 2 * 11
    replace_head(vit)
    assert FeatureTap(vit)(normal(2, 3, 8, 8)).features["features"].shape == (2, 5)


def test_a_tied_language_model_is_refused():
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(vocab_size=20, n_embd=8, n_layer=1, n_head=2, n_positions=8)
    with pytest.raises(InputError, match=r"weight of its own; got lm_head.*Untie"):
        replace_head(transformers.GPT2LMHeadModel(config))


@pytest.mark.parametrize("name", ["mlp", "mlp-bn", "resnet18", "resnet50"])
def test_reduced_networks_of_this_library_run_and_train(name):
    torch.manual_seed(0)
    model = build(name, shape=(1, 8, 8), classes=4, width=8)
    state = torch.get_rng_state()
    done = reduce_features(model, 4, inputs=normal(2, 1, 8, 8))
    assert torch.equal(torch.get_rng_state(), state)
    assert "narrowed to 4" in done.change
    assert done.after == parameters(model) < done.before
    x = normal(6, 1, 8, 8)
    assert FeatureTap(model)(x).features["features"].shape == (6, 4)
    replace_head(model)
    model(x).square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def test_what_is_narrowed_in_a_bottleneck_and_nothing_else():
    torch.manual_seed(0)
    model = resnet50(3, 4, width=4)
    shapes = {name: p.shape for name, p in model.named_parameters()}
    reduce_features(model, 6)
    now = {name: p.shape for name, p in model.named_parameters()}
    changed = {name: tuple(now[name]) for name in now if now[name] != shapes.get(name)}
    assert changed == {
        "layer4.2.conv3.weight": (6, 32, 1, 1),
        "layer4.2.bn3.weight": (6,),
        "layer4.2.bn3.bias": (6,),
        "layer4.2.shortcut.conv.weight": (6, 128, 1, 1),
        "layer4.2.shortcut.norm.weight": (6,),
        "layer4.2.shortcut.norm.bias": (6,),
        "classifier.weight": (4, 6),
    }
    assert set(shapes) <= set(now)


@pytest.mark.parametrize("depth", [1, 2])
def test_torchvisions_blocks_with_and_without_a_projection(depth):
    torch.manual_seed(0)
    model = Small(depth).eval()
    done = reduce_features(model, 5, inputs=normal(2, 3, 9, 9))
    assert f"layer1.{depth - 1} narrowed to 5" in done.change
    assert model(normal(2, 3, 9, 9)).shape == (2, 5)
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize("kind", ["basic", "bottleneck"])
def test_hugging_face_resnets_run_when_narrowed(kind):
    model = hugging_face_resnet(kind)
    done = reduce_features(model, 10, inputs=normal(2, 3, 32, 32))
    assert "narrowed to 10" in done.change
    assert model(normal(2, 3, 32, 32)).logits.shape == (2, 10)


def test_a_chain_that_is_none_gets_a_linear_map_once_it_is_tried():
    model = Skipping()
    chain = model.chain[0]
    done = reduce_features(model, 3, inputs=normal(2, 4))
    assert "put in front" in done.change
    assert model.chain[0] is chain
    assert isinstance(done.head, nn.Linear)
    assert done.head.in_features == 3
    assert FeatureTap(model)(normal(2, 4)).features["features"].shape == (2, 3)


def test_a_head_of_this_library_is_rebuilt_for_the_new_width():
    model = MLP(8, 4, widths=(16, 16))
    replace_head(model, seed=7, scale=2.0)
    reduce_features(model, 4)
    assert torch.equal(model.classifier.weight, SimplexETFHead(4, 4, seed=7, scale=2.0).weight)


def test_the_seed_fixes_the_new_weights():
    made = []
    for seed in (0, 0, 1):
        torch.manual_seed(0)
        model = resnet18(1, 3, width=4)
        reduce_features(model, 3, seed=seed)
        made.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


def test_frozen_parameters_do_not_count():
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3))
    model[0].requires_grad_(False)
    done = replace_head(model, bias=False)
    assert (done.before, done.after, done.share) == (27, 0, 1.0)
    assert replace_head(model).share == 0.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: replace_head(nn.Linear(4, 3)), "inside the model; got the model itself.*nn.Sequential"),
        (lambda: replace_head(nn.Sequential(nn.Conv2d(4, 3, 1))), "a 1x1 convolution.*nn.Flatten"),
        (lambda: replace_head(MLP(4, 3, widths=(4,)), "simplex"), "one of etf, normalized, aligned"),
        (lambda: replace_head(MLP(4, 3, widths=(4,)), lambda d, k: 3), "an nn.Module; got int"),
        (lambda: replace_head(torch.compile(MLP(4, 3, widths=(4,)))), "the model itself; got OptimizedModule"),
        (lambda: replace_head(MLP(4, 3, widths=(4,)), classifier="blocks"), "which is no linear map"),
        (lambda: reduce_features(MLP(4, 3, widths=(4,)), 4), "fewer than the 4 features there are"),
        (lambda: reduce_features(MLP(4, 3, widths=(4,)), 0), "dim is an integer of at least 1"),
        (lambda: reduce_features(3, 2), "the model is a torch.nn.Module"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_nothing_changes_when_a_model_is_refused():
    model = MLP(4, 3, widths=(4,))
    old = model.classifier
    with pytest.raises(InputError):
        replace_head(model, scale=-1.0)
    assert model.classifier is old
