"""Filling in missing pixels with a dictionary learned on the patches of the image itself."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import functional

from tightframe.core.checks import check_count, check_same_device
from tightframe.core.errors import DegenerateError, InputError
from tightframe.core.precision import full_precision
from tightframe.core.rng import generator
from tightframe.dictionary.images.bases import cosine_basis, learn_bases
from tightframe.dictionary.images.patches import filter_patches, remove_means
from tightframe.dictionary.images.pictures import Picture, Restored, unlearned
from tightframe.dictionary.images.restoration import centred_sample, check_dictionary

# Thresholds in units of the standard deviation of the known pixels: first pass from, later passes from, all down to;
# and that of learning. Interpolated patches are poor in detail: a lower one would learn the holes.
_FIRST, _LATER, _LAST, _LEARN = 2.0, 0.75, 0.05, 0.4
# Sweeps of the first pass and of each later one.
_SWEEPS = (40, 30)
# In units of the noise.
_KEEP = 2.6


def inpaint(
    image: ArrayLike | Tensor,
    mask: ArrayLike | Tensor,
    *,
    noise: float | None = None,
    patch_size: int = 12,
    dictionary: Literal["learned", "dct"] = "learned",
    rounds: int = 3,
    samples: int = 20_000,
    steps: int = 15,
    seed: int = 0,
) -> Restored:
    r"""Fill in missing pixels so that every patch has a sparse representation in a basis learned on the image.

    Sweeps over all patches alternate thresholding and the known pixels,

    .. math:: x \leftarrow M y + (I - M) \, A \, T_t(x), \qquad T_t: r_i \mapsto D^\top H_t(D r_i)

    where M marks the known pixels of the image y, r_i are the patches of x less the mean of each channel, H_t keeps the
    coefficients above t, A averages overlapping patches, and t falls geometrically from sweep to sweep: coarse
    structure is settled before fine. A first pass uses the fixed cosine basis; every round then learns D on the patches
    of the present estimate and sweeps again. Patches are cut `patch_size` // 4 apart, from corners that differ from
    sweep to sweep.

    Missing pixels on a regular grid, as in magnifying an image, are the hard case: every patch lacks the same ones.

    Args:
        image: (height, width) or (channels, height, width), array or tensor; missing pixels may hold anything, NaN
            too. The work is done in float32 on the device of the image.
        mask: True where a pixel is missing: (height, width), or the shape of the image.
        noise: Standard deviation of noise in the known pixels; thresholds stay above 2.6 of it, and known pixels are
            replaced too. None keeps them as they are.
        patch_size: Side of a patch; should be larger than the holes.
        dictionary: "learned", or "dct" for as many sweeps with the fixed cosine basis.
        rounds: Of learning and sweeping after the first pass.
        samples: Random patches to learn from, in every round.
        steps: Most rounds of learning in each round.
        seed: Of these patches.

    Raises:
        InputError: A mask of another shape or of other values, everything missing, NaN in known pixels, patches larger
            than the image.
        DegenerateError: Known pixels that are all equal.

    >>> ramp = torch.arange(32.0).expand(32, 32) + torch.arange(32.0)[:, None]
    >>> holes = torch.rand(32, 32, generator=torch.Generator().manual_seed(0)) < 0.3
    >>> filled = inpaint(ramp, holes, patch_size=8, rounds=1, samples=500).image
    >>> bool((filled - ramp).abs().max() < 2)
    True

    Reference: [elad2005simultaneous] for thresholds that fall while known pixels are put back; [mairal2008sparse] for
    learned dictionaries.
    """
    values = image if isinstance(image, Tensor) else np.asarray(image)
    missing = _missing(values, mask)
    kept = torch.where(missing, 0, values) if isinstance(values, Tensor) else np.where(missing.numpy(), 0, values)
    picture = Picture.of(kept)
    check_dictionary(dictionary)
    check_count(rounds, "rounds")
    known = (~missing).to(picture.values.device).expand(picture.values.shape)
    centre, scale = _range(picture.values, known)
    floor = _floor(noise, scale)
    working = ((picture.values.float() - centre) / scale).where(known, 0.0)
    draws, solution = generator(seed), unlearned(cosine_basis(working.shape[1], patch_size).to(working.device))
    with full_precision(working.device):
        estimate = _swept(_interpolated(working, known), working, known, solution.bases[0], (_FIRST, floor, _SWEEPS[0]))
        pilot = estimate
        for _ in range(rounds):
            if dictionary == "learned":
                rows = centred_sample(estimate, patch_size, samples, draws)
                solution = learn_bases(rows, max(_LEARN, floor), start=solution.bases, steps=steps)
            later = (max(_LATER, floor), floor, _SWEEPS[1])
            estimate = _swept(estimate, working, known, solution.bases[0], later)
        if noise is not None:
            estimate = _thresholded(estimate, solution.bases[0], floor, (0, 0), 1)
    return Restored(
        image=picture.returned(_with_known(estimate, picture.values, known, (centre, scale), noise)),
        pilot=picture.returned(_with_known(pilot, picture.values, known, (centre, scale), noise)),
        bases=picture.kind.returned(solution.bases.unflatten(2, (working.shape[1], patch_size, patch_size))),
        noise=0.0 if noise is None else float(noise),
        solution=solution,
    )


def _swept(estimate: Tensor, working: Tensor, known: Tensor, basis: Tensor, plan: tuple[float, float, int]) -> Tensor:
    """Sweeps with thresholds from plan[0] down to plan[1], plan[2] of them."""
    first, last, sweeps = plan
    size = math.isqrt(basis.shape[0] // working.shape[1])
    stride = max(1, size // 4)
    for sweep in range(sweeps):
        threshold = first * (last / first) ** (sweep / (sweeps - 1))
        corner = (sweep // stride % stride, sweep % stride)
        estimate = torch.where(known, working, _thresholded(estimate, basis, threshold, corner, stride))
    return estimate


def _thresholded(image: Tensor, basis: Tensor, threshold: float, corner: tuple[int, int], stride: int) -> Tensor:
    """Average of thresholded patches whose grid starts at minus `corner`, the image being continued at its border."""
    height, width = image.shape[2:]
    channels = image.shape[1]
    size = math.isqrt(basis.shape[0] // channels)
    top, left = corner
    bottom, right = -(top + height - size) % stride, -(left + width - size) % stride
    padded = functional.pad(image, (left, right, top, bottom), mode="replicate")

    def shrink(rows: Tensor) -> tuple[Tensor, Tensor]:
        centred, means = remove_means(rows[0], channels)
        codes = centred @ basis.T
        codes.masked_fill_(codes.abs() <= threshold, 0)
        return means + codes @ basis, torch.ones_like(codes[:, 0])

    restored = filter_patches(padded, size, shrink, stride=stride)
    return restored[None, :, top : top + height, left : left + width]


def _interpolated(working: Tensor, known: Tensor) -> Tensor:
    """Missing pixels as means of the known ones within the smallest of growing windows that has some."""
    filled, have = working, known
    weights, reach = known.to(working.dtype), 1
    # One check per window on the host, of which there are as many as doublings of the largest hole.
    while not bool(have.all()):
        total, count = (
            functional.avg_pool2d(values, 2 * reach + 1, 1, reach, count_include_pad=True)
            for values in (working, weights)
        )
        found = ~have & (count > 0.5 / (2 * reach + 1) ** 2)
        filled, have = torch.where(found, total / count.clamp_min(1e-12), filled), have | found
        reach = 2 * reach + 1
    return filled


def _missing(values: Tensor | np.ndarray, mask: ArrayLike | Tensor) -> Tensor:
    if isinstance(mask, Tensor) and isinstance(values, Tensor):
        check_same_device(values, mask, "image and mask")
    missing = mask.detach() if isinstance(mask, Tensor) else torch.from_numpy(np.ascontiguousarray(mask))
    shape = tuple(values.shape)
    if tuple(missing.shape) not in (shape, shape[-2:]):
        raise InputError(
            f"a mask of shape {shape[-2:]} or {shape}",
            got=f"shape {tuple(missing.shape)}",
            remedy="Mark the missing pixels of this image with True.",
        )
    if missing.dtype != torch.bool:
        if not bool(((missing == 0) | (missing == 1)).all()):
            raise InputError("a mask of True and False", got="other values", remedy="Use mask > 0.")
        missing = missing.bool()
    if bool(missing.expand(shape).flatten(-2).all(dim=-1).any()):
        raise InputError(
            "known pixels, in every channel", got="all missing", remedy="True marks the missing ones: invert the mask?"
        )
    return missing


def _range(values: Tensor, known: Tensor) -> tuple[float, float]:
    """Mean and standard deviation of the known pixels."""
    pixels = values[known].double()
    scale = float(pixels.std(correction=0))
    if scale <= 1e-6 * float(pixels.abs().max()):
        raise DegenerateError(
            "known pixels that differ", got=f"{len(pixels)} of one value", remedy="Fill the holes with that value."
        )
    return float(pixels.mean()), scale


def _floor(noise: float | None, scale: float) -> float:
    if noise is None:
        return _LAST
    if not (math.isfinite(noise) and noise > 0):
        raise InputError("a positive noise level", got=repr(noise), remedy="Leave it out where there is none.")
    return max(_LAST, _KEEP * noise / scale)


def _with_known(
    estimate: Tensor, values: Tensor, known: Tensor, units: tuple[float, float], noise: float | None
) -> Tensor:
    """The estimate in the caller's units, and the known pixels to the last digit where they have no noise."""
    centre, scale = units
    filled = estimate.to(values.dtype) * scale + centre
    return (torch.where(known, values, filled) if noise is None else filled)[0]
