"""Removing noise from images with a dictionary learned on their own patches."""

from __future__ import annotations

import math
from typing import Literal

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from tightframe.core.checks import check_count
from tightframe.core.errors import DegenerateError, InputError
from tightframe.core.precision import full_precision
from tightframe.core.rng import generator
from tightframe.core.solution import Solution
from tightframe.dictionary.blind.noise import noise_level
from tightframe.dictionary.images.bases import cosine_basis, learn_bases, split_basis
from tightframe.dictionary.images.patches import filter_patches, remove_means, sample_patches
from tightframe.dictionary.images.pictures import Picture, Restored, unlearned

# In units of the noise, which alone exceeds 2.6 in one coefficient of a hundred. What the first pass leaves is mostly
# signal, so the second one learns with a lower threshold.
_KEEP, _KEEP_CLEANED = 2.6, 1.0


def denoise(
    image: ArrayLike | Tensor,
    *,
    noise: float | None = None,
    patch_size: int = 8,
    dictionary: Literal["learned", "dct"] = "learned",
    bases: int = 4,
    samples: int = 20_000,
    steps: int = 20,
    seed: int = 0,
) -> Restored:
    r"""Remove white noise from an image with orthonormal bases learned on its own patches.

    Two passes over all sliding patches, less the mean of each of their channels. The first learns one basis D on noisy
    patches y_i and keeps the coefficients above 2.6 sigma; overlapping patches are averaged with weights 1 / (1 +
    number kept). The second learns k bases on the patches p_i of that pilot image and shrinks the noisy ones,

    .. math:: \hat y_i = D_j^\top \big( h_i \odot D_j y_i \big), \qquad
        h_i = \frac{(D_j p_i)^2}{(D_j p_i)^2 + \sigma^2}

    in the basis j of least sum of h_i, averaged with weights 1 / (1 + |h_i|^2). Were the pilot the truth, these h_i
    would be the best factors, and sigma^2 times their sum the expected squared error. Channels of a colour image make
    one patch, so that a basis knows what is common to them; their noise must be of one level.

    Noise that depends on the signal (photon counts) should be made uniform first, by Anscombe's transform. Methods that
    group similar patches from all over the image, such as BM3D, remove more of it.

    Args:
        image: (height, width) or (channels, height, width), array or tensor. The work is done in float32, on the device
            of the image.
        noise: sigma; estimated from the quietest part of the spectrum when absent (`noise_level`).
        patch_size: Side of a patch; 12 suits repetitive texture, at three times the cost.
        dictionary: "learned", or "dct" for the same two passes with the fixed cosine basis.
        bases: k of the second pass, for a learned dictionary.
        samples: Random patches to learn from.
        steps: Most rounds of learning in each pass.
        seed: Of the patches and of the groups that the bases start from.

    Raises:
        InputError: NaN, another shape, patches larger than the image, noise that is not positive.
        DegenerateError: An image without noise, where it is to be estimated.

    >>> rough = 10 * torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    >>> bool(denoise(rough, noise=10.0, samples=2000).image.std() < 3)
    True

    Reference: [elad2006image] for denoising with dictionaries learned on the image; [wen2015structured] for unions of
    bases; [dabov2007image], section III, for the second pass.
    """
    picture = Picture.of(image)
    check_dictionary(dictionary)
    check_count(bases, "bases")
    sigma = _noise(picture.values, noise)
    working = picture.values.float()
    centre = working.mean()
    noisy, draws = (working - centre) / sigma, generator(seed)
    solution = unlearned(cosine_basis(noisy.shape[1], patch_size).to(noisy.device))
    with full_precision(noisy.device):
        if dictionary == "learned":
            rows = centred_sample(noisy, patch_size, samples, draws)
            solution = learn_bases(rows, _KEEP, start=solution.bases, steps=steps)
        pilot = threshold_patches(noisy, patch_size, solution.bases[0], _KEEP)
        if dictionary == "learned":
            solution = _refined(pilot, solution.bases, (patch_size, bases, samples, steps), draws)
        cleaned = _shrunk(noisy, pilot, patch_size, solution.bases)
    return Restored(
        image=picture.returned(cleaned * sigma + centre),
        pilot=picture.returned(pilot * sigma + centre),
        bases=picture.kind.returned(solution.bases.unflatten(2, (noisy.shape[1], patch_size, patch_size))),
        noise=sigma,
        solution=solution,
    )


def threshold_patches(image: Tensor, size: int, basis: Tensor, threshold: float, *, stride: int = 1) -> Tensor:
    """Image (c, h, w) of patches that keep their coefficients in `basis` (d, d) above a threshold, and their means.

    Patches count with weight 1 / (1 + number of coefficients kept), as the noise left in them grows with it.

    Args:
        image: (1, c, h, w).
        size: Side of a patch.
        basis: Orthonormal rows.
        threshold: Least modulus of a coefficient that is kept.
        stride: As for `filter_patches`.
    """

    def shrink(rows: Tensor) -> tuple[Tensor, Tensor]:
        centred, means = remove_means(rows[0], image.shape[1])
        codes = centred @ basis.T
        small = codes.abs() <= threshold
        codes.masked_fill_(small, 0)
        kept = codes.shape[1] - small.sum(dim=1)
        return means + codes @ basis, 1 / (1 + kept.to(codes.dtype))

    return filter_patches(image, size, shrink, stride=stride)


def centred_sample(image: Tensor, size: int, count: int, draws: torch.Generator) -> Tensor:
    """Patches (count, d), or as many as there are, less their channels' means, at random places of a (1, c, h, w)."""
    places = (image.shape[2] - size + 1) * (image.shape[3] - size + 1)
    rows = sample_patches(image, size, max(1, min(check_count(count, "samples"), places)), draws=draws)[0]
    return remove_means(rows, image.shape[1])[0]


def check_dictionary(name: str) -> None:
    """ "learned" or "dct"; an InputError otherwise."""
    if name not in ("learned", "dct"):
        raise InputError("a dictionary", got=repr(name), remedy='Use "learned" or "dct".')


def _refined(pilot: Tensor, start: Tensor, sizes: tuple[int, int, int, int], draws: torch.Generator) -> Solution:
    """Bases learned on the pilot image, from the one that it was made with."""
    patch_size, bases, samples, steps = sizes
    rows = centred_sample(pilot[None], patch_size, samples, draws)
    if bases > 1:
        start = split_basis(rows, start[0], bases, _KEEP_CLEANED, draws=draws)
    return learn_bases(rows, _KEEP_CLEANED, start=start, steps=steps)


def _shrunk(noisy: Tensor, pilot: Tensor, size: int, bases: Tensor) -> Tensor:
    """The second pass, in units of the noise."""

    def shrink(rows: Tensor) -> tuple[Tensor, Tensor]:
        centred, means = remove_means(rows, noisy.shape[1])
        best, gains, risk = None, None, None
        for index, basis in enumerate(bases):
            gain = (centred[1] @ basis.T).square_()
            gain /= gain + 1
            total = gain.sum(dim=1)
            if index == 0:
                best, gains, risk = torch.zeros_like(total, dtype=torch.long), gain, total
                continue
            lower = total < risk
            best[lower], gains[lower], risk[lower] = index, gain[lower], total[lower]
        cleaned = means[0].clone()
        for index, basis in enumerate(bases):
            members = best == index
            cleaned[members] += (gains[members] * (centred[0, members] @ basis.T)) @ basis
        return cleaned, 1 / (1 + gains.square_().sum(dim=1))

    return filter_patches(torch.cat([noisy, pilot[None]]), size, shrink)


def _noise(values: Tensor, noise: float | None) -> float:
    if noise is not None:
        if not (math.isfinite(noise) and noise > 0):
            raise InputError("a positive noise level", got=repr(noise), remedy="Leave it out to have it estimated.")
        return float(noise)
    sigma = float(noise_level(values.double().flatten(0, 1), 8).square().mean().sqrt())
    if sigma <= 1e-6 * float(values.abs().max()):
        raise DegenerateError(
            "an image with noise, where its level is to be estimated",
            got=f"a level of {sigma:.3g}, as of a constant image",
            remedy="Pass noise=.",
        )
    return sigma
