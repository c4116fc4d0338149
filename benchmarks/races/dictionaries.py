"""Dictionaries from samples, beside FastICA, SPAMS and scikit-learn: error, CPU seconds, atoms found."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable

import numpy
import torch
from benchmarks.measuring import Report, arguments, paired, ratio
from sklearn.decomposition import FastICA, MiniBatchDictionaryLearning
from torch import Tensor

from tightframe.core.rng import generator
from tightframe.data.sparse import sparse_codes
from tightframe.dictionary.linear.l4 import L4DictionaryLearning
from tightframe.dictionary.linear.overcomplete import one_column
from tightframe.dictionary.linear.precondition import second_moment, whitening
from tightframe.dictionary.linear.recovery import l4_score, nearest_atom_gaps, recovery
from tightframe.geometry.frames import haar_columns, unit_norm_tight_frame
from tightframe.optimize.power import matching_stretching_projection, power_gradient

DENSITY = 0.1


def main() -> None:
    options = arguments(__doc__).parse_args()
    torch.set_num_threads(1)
    report = Report("Dictionaries, beside peers", "python -m benchmarks.races.dictionaries")
    report.say(
        "Bernoulli-Gaussian codes of density 0.1 in a known dictionary, orthogonal or square Gaussian with unit atoms; "
        "everything in float64 and from defaults, but for FastICA, which gets 1000 "
        "iterations, and SPAMS, which gets 1000 batches of 512 and penalty 0.2. `worst` is "
        "the largest error of a unit atom after assignment and sign, `found` the share of atoms with |cosine| > 0.99. "
        "The l4 score means something for orthogonal dictionaries only."
    )
    L4DictionaryLearning().fit(sparse_codes((200, 4), 0.2))  # what is imported on first use is not timed
    _complete(report, options.quick)
    _samples(report, options.quick)
    _overcomplete(report, options.quick)
    _steps(report, options.quick)
    report.finish("dictionary_races", options)


def _dictionary(kind: str, size: int, seed: int) -> Tensor:
    if kind == "orthogonal":
        return haar_columns(size, size, seed=seed).T.contiguous()
    draw = torch.randn(size, size, dtype=torch.float64, generator=generator(seed))
    return torch.nn.functional.normalize(draw, dim=1)


def _contenders(size: int, quick: bool) -> dict[str, Callable[[numpy.ndarray], numpy.ndarray]]:
    found: dict[str, Callable[[numpy.ndarray], numpy.ndarray]] = {
        "tightframe": lambda X: L4DictionaryLearning().fit(X).components_,
        "tightframe, order 4, no finish": lambda X: L4DictionaryLearning(order=4, finish="none").fit(X).components_,
        "FastICA, logcosh": lambda X: _fast_ica(X, "logcosh"),
        "FastICA, cube": lambda X: _fast_ica(X, "cube"),
        "scikit-learn MiniBatchDictionaryLearning, cd": lambda X: (
            MiniBatchDictionaryLearning(
                size, alpha=0.2, batch_size=512, max_iter=1 if quick else 10, fit_algorithm="cd", random_state=0
            )
            .fit(X)
            .components_
        ),
    }
    try:
        import spams
    except ImportError:
        return found

    def online(X: numpy.ndarray) -> numpy.ndarray:
        columns = numpy.asfortranarray(X.T)
        steps = 50 if quick else 1000
        return spams.trainDL(columns, K=size, lambda1=0.2, iter=steps, batchsize=512, numThreads=1, verbose=False).T

    found["SPAMS trainDL"] = online
    return found


def _fast_ica(X: numpy.ndarray, fun: str) -> numpy.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return FastICA(whiten="unit-variance", fun=fun, max_iter=1000, random_state=0).fit(X).mixing_.T


def _complete(report: Report, quick: bool) -> None:
    size, samples = (20, 2000) if quick else (100, 20_000)
    rows = []
    for kind in ("orthogonal", "Gaussian"):
        truth = _dictionary(kind, size, 1)
        X = (sparse_codes((samples, size), DENSITY) @ truth).numpy()
        name = f"{kind}, condition {float(torch.linalg.cond(truth)):.0f}, d = {size}, n = {samples}"
        for label, learn in _contenders(size, quick).items():
            begun = time.process_time()
            atoms = torch.from_numpy(numpy.ascontiguousarray(learn(X))).double()
            spent = time.process_time() - begun
            quality = recovery(atoms, truth)
            score = f"{l4_score(atoms, truth):.1e}" if kind == "orthogonal" else ""
            report.curve(name, label, [spent], [quality.worst], measure="worst error of an atom")
            rows.append((name, label, spent, quality.share(), f"{quality.worst:.1e}", score))
    report.table(["dictionary", "learner", "CPU s", "found", "worst", "l4 score"], rows)


def _samples(report: Report, quick: bool) -> None:
    report.say("Share of ten seeds with every atom's error below 1e-5, by samples per dimension.")
    rows = []
    for size, density in ((20, 0.1),) if quick else ((50, 0.1), (50, 0.3), (100, 0.1), (100, 0.3)):
        for kind in ("orthogonal", "Gaussian"):
            shares = []
            for times in (5, 10, 20, 50):
                exact = 0
                for seed in range(10):
                    truth = _dictionary(kind, size, seed)
                    X = sparse_codes((times * size, size), density, seed=100 + seed) @ truth
                    exact += recovery(L4DictionaryLearning().fit(X).components_, truth).worst < 1e-5
                shares.append(exact / 10)
            rows.append((f"{kind}, d = {size}, density {density}", *shares))
    report.table(["dictionary", "n = 5 d", "10 d", "20 d", "50 d"], rows)


def _overcomplete(report: Report, quick: bool) -> None:
    report.say(
        "Unit-norm tight frames of m atoms in d dimensions, 50,000 samples, float32. `trials alone`: atoms within 0.05 "
        "(1 - |cosine|) of some of 4 m power iterations from random starts."
    )
    rows = []
    for size, times in (
        ((16, 2),) if quick else ((16, 2), (16, 3), (32, 2), (32, 3), (32, 4), (64, 2), (64, 3), (64, 4))
    ):
        count = size * times
        truth = unit_norm_tight_frame(count, size)
        X = (sparse_codes((50_000, count), DENSITY) @ truth).float()
        begun = time.process_time()
        model = L4DictionaryLearning(count, finish="none").fit(X)
        spent = time.process_time() - begun
        found = recovery(model.components_, truth)
        begun = time.process_time()
        refined = recovery(L4DictionaryLearning(count).fit(X).components_, truth)
        finished = time.process_time() - begun
        begun = time.process_time()
        white = whitening(second_moment(X))
        starts = torch.randn(4 * count, size, generator=generator(0))
        ended = white.atoms(one_column(white.rows(X), starts).Q)
        alone = int((nearest_atom_gaps(truth, ended) < 0.05).sum())
        trials = time.process_time() - begun
        all_found = int((found.cosines > 0.95).sum())
        rows.append((f"d = {size}, m = {count}", all_found, spent, found.worst, refined.worst, finished, alone, trials))
    columns = ["frame", "found", "CPU s", "worst", "worst, refined", "CPU s in all", "trials alone", "CPU s of trials"]
    report.table(columns, rows)


def _steps(report: Report, quick: bool) -> None:
    report.say("A step of matching, stretching and projection beside the two products it needs; median of ratios.")
    rows = []
    for size, samples in ((20, 2000),) if quick else ((50, 5000), (100, 6000), (100, 20_000)):
        for dtype in (torch.float32, torch.float64):
            X = sparse_codes((samples, size), DENSITY).to(dtype)
            start = haar_columns(size, size, seed=0).T.contiguous().to(dtype)
            projections = X @ start.T
            contenders = {
                "step": lambda X=X, start=start: matching_stretching_projection(X, start, max_iterations=1),
                "gradient": lambda X=X, start=start: power_gradient(X, start, order=3),
                "products": lambda X=X, start=start, R=projections: (X @ start.T, R.T @ X),
            }
            times = paired(contenders, repeats=5 if quick else 21)
            name = f"d = {size}, n = {samples}, {str(dtype).removeprefix('torch.')}"
            rows.append((name, ratio(times["step"], times["products"]), ratio(times["gradient"], times["products"])))
    report.table(["size", "step / products", "gradient / products"], rows)


if __name__ == "__main__":
    main()
