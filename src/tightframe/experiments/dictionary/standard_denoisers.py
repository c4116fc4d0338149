"""Denoisers of other packages, where they are installed, with the settings that their documentation recommends."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

import numpy as np

Denoiser = Callable[[np.ndarray, float], np.ndarray]


def _nonlocal_means(noisy: np.ndarray, noise: float) -> np.ndarray:
    filtered = import_module("skimage.restoration").denoise_nl_means
    return filtered(noisy, h=0.8 * noise, sigma=noise, fast_mode=True, patch_size=5, patch_distance=6)


def _wavelets(noisy: np.ndarray, noise: float) -> np.ndarray:
    filtered = import_module("skimage.restoration").denoise_wavelet
    return filtered(noisy, sigma=noise, method="BayesShrink", mode="soft", rescale_sigma=True)


def _block_matching(noisy: np.ndarray, noise: float) -> np.ndarray:
    return import_module("bm3d").bm3d(noisy, noise)


DENOISERS: dict[str, Denoiser] = {
    "non-local means": _nonlocal_means,
    "wavelets": _wavelets,
    "BM3D": _block_matching,
}


def denoised_by(name: str, noisy: np.ndarray, noise: float) -> np.ndarray | None:
    """A grey image in [0, 1] denoised by one of `DENOISERS`; None where its package is not installed."""
    try:
        return DENOISERS[name](noisy, noise)
    except ImportError:
        return None
