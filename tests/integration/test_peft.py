"""Skip-connection tuning inside peft: the same numbers as outside, saved, loaded and merged."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

from peft import PeftModel, get_peft_model  # noqa: E402

from tightframe.core.errors import InputError  # noqa: E402
from tightframe.integrations.peft import SkipTuningConfig  # noqa: E402
from tightframe.nn.networks import resnet18  # noqa: E402
from tightframe.nn.tuning.fine_tuning import tune  # noqa: E402

BLOCKS = {"vit": "vit.layers.1", "resnet": "layer3.0"}


def network(kind: str) -> nn.Module:
    torch.manual_seed(0)
    if kind == "resnet":
        return resnet18(3, 5, width=4).eval()
    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.ViTConfig(**sizes, image_size=8, patch_size=4, num_labels=5, hidden_dropout_prob=0.0)
    return transformers.ViTForImageClassification(config).eval()


def logits(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    out = model(x)
    return out if isinstance(out, torch.Tensor) else out.logits


def trained(model: nn.Module, steps: int = 2) -> nn.Module:
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        cross_entropy(logits(model, x), torch.arange(4)).backward()
        optimizer.step()
    return model.eval()


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("kind", BLOCKS)
def test_it_trains_as_the_library_does(kind, x):
    ours = tune(network(kind), "scl", layer=BLOCKS[kind])
    theirs = get_peft_model(network(kind), SkipTuningConfig(target_modules=[BLOCKS[kind]]))
    trainable = sum(p.numel() for p in theirs.parameters() if p.requires_grad)
    assert trainable == ours.describe().trainable
    torch.testing.assert_close(logits(theirs.eval(), x), logits(ours.eval(), x))
    torch.testing.assert_close(logits(trained(theirs), x), logits(trained(ours), x))


@pytest.mark.parametrize("kind", BLOCKS)
def test_it_is_saved_loaded_and_merged(kind, x, tmp_path):
    model = trained(get_peft_model(network(kind), SkipTuningConfig(target_modules=[BLOCKS[kind]])))
    expected = logits(model, x)
    model.save_pretrained(tmp_path)
    saved = (tmp_path / "adapter_model.safetensors").stat().st_size
    state = tune(network(kind), "scl", layer=BLOCKS[kind]).delta_state_dict().values()
    # Names and shapes take the rest.
    assert saved < sum(value.numel() * value.element_size() for value in state) + 10_000
    loaded = PeftModel.from_pretrained(network(kind), tmp_path).eval()
    assert torch.equal(logits(loaded, x), expected)
    merged = loaded.merge_and_unload()
    assert type(merged) is type(network(kind))
    torch.testing.assert_close(logits(merged, x), expected)


def test_switched_off_it_is_the_base(x):
    model = trained(get_peft_model(network("vit"), SkipTuningConfig(target_modules=["vit.layers.1"])))
    on = logits(model, x)
    with model.disable_adapter():
        torch.testing.assert_close(logits(model, x), logits(network("vit"), x))
    assert torch.equal(logits(model, x), on)


def test_frozen_blocks_stay_in_evaluation_mode():
    model = get_peft_model(network("resnet"), SkipTuningConfig(target_modules=["layer3.0"])).train()
    on = {name for name, part in model.named_modules() if part.training and isinstance(part, nn.BatchNorm2d)}
    assert on
    assert all("layer3.0.scl_ft_layers.default" in name for name in on)


def test_one_block_is_tuned(x):
    model = get_peft_model(network("vit"), SkipTuningConfig(target_modules=r"vit\.layers\.[01]"))
    with pytest.raises(InputError, match="one block"):
        model(x)


def test_adapters_take_turns(x):
    config = {"target_modules": ["layer3.0"], "head": "classifier"}
    model = trained(get_peft_model(network("resnet"), SkipTuningConfig(**config)))
    first = logits(model, x)
    model.add_adapter("second", SkipTuningConfig(**config))
    model.set_adapter("second")
    torch.testing.assert_close(logits(model.eval(), x), logits(tune(network("resnet"), "scl", layer="layer3.0"), x))
    model.set_adapter("default")
    assert torch.equal(logits(model.eval(), x), first)
