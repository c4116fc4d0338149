"""An image denoised by ours and by others: PSNR, SSIM and CPU seconds of the same noisy pixels."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
from benchmarks.measuring import Report, arguments, cpu_seconds
from torch import Tensor

from tightframe.core.rng import generator
from tightframe.dictionary.images.fidelity import psnr, ssim
from tightframe.dictionary.images.patches import patch_average, patch_rows, remove_means
from tightframe.dictionary.images.restoration import denoise
from tightframe.experiments.dictionary.image_restoration import picture
from tightframe.experiments.dictionary.standard_denoisers import denoised_by

SIDE = 8
# OMP stops where the residual is this many times the noise: the better of 1.1 and the usual 1.15 on Barbara.
SLACK = 1.1
# In units of the noise. 1.2, the value of its documentation for patches of unit norm, is slower and less accurate here.
PENALTY = 4.0

Contender = Callable[[Tensor, float], Tensor]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--data-root", type=Path, help="folder of the data sets (TIGHTFRAME_DATA)")
    parser.add_argument("--images", nargs="+", default=["barbara", "camera"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    quick = options.quick
    images = ["china"] if quick or not (options.data_root or os.environ.get("TIGHTFRAME_DATA")) else options.images
    report = Report("Denoising, beside other packages", "python -m benchmarks.races.denoising")
    report.say(
        "White noise is added to grey images of 0 to 255. Every method but one is told its standard deviation. Ours "
        f"are tightframe.dictionary.denoise; SPAMS learns 256 atoms by `trainDL` on all {SIDE} x {SIDE} patches less "
        f"their means, in units of the noise (lambda1 = {PENALTY:g}, the best of 0.5 to 10 on Barbara, batches of "
        f"512), and codes them by `omp` up to a residual of {SLACK} times the noise; scikit-image and bm3d with the "
        "settings of their documentation. "
        f"{_versions()} CPU seconds are of one run, one thread where the package lets one choose."
    )
    contenders = _contenders(quick)
    rows = []
    for name in images:
        for noise in (20.0,) if quick else (15.0, 20.0, 25.0, 50.0):
            rows += _raced(name, noise, contenders, options)
    report.table(["image", "noise", "method", "PSNR (dB)", "SSIM", "CPU (s)"], rows)
    report.finish("denoising", options)


def _raced(name: str, noise: float, contenders: dict[str, Contender], options: argparse.Namespace) -> list[tuple]:
    truth = picture(name, 64 if options.quick else None, options.data_root)
    noisy = truth + noise * torch.randn(truth.shape, generator=generator(0))
    rows = [(name, noise, "noisy", f"{psnr(noisy, truth):.2f}", ssim(noisy, truth), "")]
    for method, work in contenders.items():
        found = []
        try:
            spent = cpu_seconds(lambda work=work, found=found: found.append(work(noisy, noise)))
        except ImportError:
            rows.append((name, noise, method, "not installed", "", ""))
            continue
        rows.append((name, noise, method, f"{psnr(found[0], truth):.2f}", ssim(found[0], truth), spent))
    return rows


def _contenders(quick: bool) -> dict[str, Contender]:
    contenders: dict[str, Contender] = {
        "tightframe": lambda noisy, noise: denoise(noisy, noise=noise).image,
        "tightframe, noise estimated": lambda noisy, _: denoise(noisy).image,
        "tightframe, one basis": lambda noisy, noise: denoise(noisy, noise=noise, bases=1).image,
        "tightframe, fixed cosine basis": lambda noisy, noise: denoise(noisy, noise=noise, dictionary="dct").image,
        "cosine basis, thresholded once": lambda noisy, noise: denoise(noisy, noise=noise, dictionary="dct").pilot,
    }
    if not quick:
        contenders["tightframe, patches of 12"] = lambda noisy, noise: denoise(noisy, noise=noise, patch_size=12).image
    for steps in (10,) if quick else (200, 1000):
        contenders[f"SPAMS, {steps} iterations"] = _spams(steps)
    for method in ("non-local means", "wavelets", "BM3D"):
        contenders[method] = _standard(method)
    return contenders


def _spams(steps: int) -> Contender:
    def work(noisy: Tensor, noise: float) -> Tensor:
        import spams

        rows, means = remove_means(patch_rows(noisy[None, None].double() / noise, SIDE)[0], 1)
        columns = np.asfortranarray(rows.numpy().T)
        atoms = spams.trainDL(columns, K=256, lambda1=PENALTY, iter=steps, batchsize=512, numThreads=1, verbose=False)
        most = SIDE**2 // 2
        codes = spams.omp(columns, np.asfortranarray(atoms), L=most, eps=(SIDE * SLACK) ** 2, numThreads=1)
        restored = torch.from_numpy(codes.T @ atoms.T) + means
        return noise * patch_average(restored[None], tuple(noisy.shape), SIDE)[0, 0]

    return work


def _standard(method: str) -> Contender:
    def work(noisy: Tensor, noise: float) -> Tensor:
        image = denoised_by(method, noisy.double().numpy() / 255, noise / 255)
        if image is None:
            raise ImportError(method)
        return 255 * torch.from_numpy(np.ascontiguousarray(image))

    return work


def _versions() -> str:
    found = []
    for package in ("spams-bin", "scikit-image", "bm3d"):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} not installed")
    return f"Packages: {', '.join(found)}."


if __name__ == "__main__":
    main()
