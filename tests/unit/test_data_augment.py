from __future__ import annotations

import pickle

import pytest
import torch
from torch.nn import functional

from tightframe.core.errors import InputError
from tightframe.core.rng import generator
from tightframe.data.labelled.augment import CropFlip, GaussianNoise, Unchanged, augment


def images(n=64, channels=3, height=5, width=6):
    return torch.arange(1.0, n * channels * height * width + 1).view(n, channels, height, width)


@pytest.mark.parametrize("pad", [0, 1, 2])
def test_every_image_is_a_window_of_its_padded_self_mirrored_or_not(pad):
    x = images()
    out = augment(f"crop-flip:{pad}")(x, generator(0))
    padded = functional.pad(x, (pad,) * 4)
    seen = set()
    for image, wide in zip(out, padded, strict=True):
        found = [
            (top, left, mirrored)
            for top in range(2 * pad + 1)
            for left in range(2 * pad + 1)
            for mirrored in (False, True)
            if torch.equal(image.flip(-1) if mirrored else image, wide[:, top : top + 5, left : left + 6])
        ]
        assert len(found) == 1
        seen.update(found)
    # 64 draws of 2, 18 or 50 places.
    assert len(seen) > (2 * pad + 1) ** 2 / 2
    assert {mirrored for *_, mirrored in seen} == {False, True}


def test_places_and_sides_are_uniform():
    pad, n = 1, 9_000
    x = torch.zeros(n, 1, 3, 3)
    x[:, 0, 1, 1] = 1
    out = CropFlip(pad)(x, generator(3))
    # A single white pixel in the middle lands on each of 9 places equally often: 1000 +- 30 (one sd), 5 sd allowed.
    counts = out.view(n, 9).sum(0)
    assert (counts - 1000).abs().max() < 150
    y = torch.zeros(n, 1, 1, 2)
    y[..., 0] = 1
    share = CropFlip(0)(y, generator(4))[..., 1].mean()
    assert abs(share - 0.5) < 5 * 0.5 / n**0.5


def test_noise_has_the_deviation_asked_for_and_no_bias():
    x = images(n=200)
    noise = (augment("noise:0.15")(x.double(), generator(0)) - x.double()).flatten()
    # 18,000 draws: relative error of the deviation 1/sqrt(2 n) = 0.5 %, 5 sd allowed.
    assert abs(noise.std() / 0.15 - 1) < 0.027
    assert abs(noise.mean()) < 5 * 0.15 / len(noise) ** 0.5
    assert torch.equal(augment("noise:0")(x, generator(0)), x)


@pytest.mark.parametrize("spec", ["none", "noise:0.3", "crop-flip", "crop-flip:2"])
def test_the_generator_alone_decides(spec):
    x = images()
    kept, change = x.clone(), augment(spec)
    first, again, other = (change(x, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert torch.equal(first, other) == (spec == "none")
    assert torch.equal(x, kept)
    assert first.dtype == x.dtype
    assert augment(spec)(x.to(torch.bfloat16), generator(0)).dtype == torch.bfloat16
    assert pickle.loads(pickle.dumps(change)) == change


def test_specs():
    assert augment("none") == Unchanged()
    assert augment("noise:0.5") == GaussianNoise(0.5)
    assert augment("crop-flip") == CropFlip(4)


@pytest.mark.parametrize(
    "spec",
    ["", "blur", "noise", "noise:", "noise:x", "noise:-1", "noise:nan", "crop-flip:1.5", "crop-flip:-1", "none:3"],
)
def test_bad_specs(spec):
    with pytest.raises(InputError):
        augment(spec)


def test_crops_need_images():
    with pytest.raises(InputError, match=r"\(N, C, H, W\)"):
        augment("crop-flip")(torch.zeros(3, 64), generator(0))
