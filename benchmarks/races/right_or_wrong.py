"""Beside other tools for neural collapse: who gives the right value, case by case, against the float64 definition."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from benchmarks.accuracy.moments import two_pass_nc1
from benchmarks.measuring import Report, arguments
from benchmarks.races import peers
from torch import Tensor

from tightframe.collapse.decision import disagreement
from tightframe.collapse.means import CentredMeans
from tightframe.collapse.pairs import class_pairs
from tightframe.collapse.simplex import distance_floor, feature_distance
from tightframe.collapse.variability import nc1
from tightframe.core.errors import DegenerateError
from tightframe.core.rng import generator
from tightframe.features.moments import ClassMoments

# Values that agree to this are right: far above float32 rounding, far below the errors that are at issue.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Case:
    """One situation: the definition's value, our value, and what a peer gives."""

    name: str
    truth: float
    ours: Callable[[], float]
    theirs: Callable[[str], float]


def main() -> None:
    parser = arguments(__doc__)
    peers.add_option(parser)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = peers.load(options.peer)
    report = Report("Right or wrong", f"python -m benchmarks.races.right_or_wrong {peers.COMMAND}")
    report.say(peers.describe(found))
    report.say(
        "The value of each tool beside the definition, evaluated in float64. A value is wrong where it is off by "
        f"more than {TOLERANCE:g} of the right one; an error is shown by its name; - where a tool has no such metric."
    )
    cases = [*_nc1_cases(options.quick), *_other_cases(options.quick)]
    rows = [(case.name, f"{case.truth:.6g}", *_verdicts(case, found)) for case in cases]
    report.table(["case", "definition", "tightframe", *(peers.PEERS[name] for name in found)], rows)
    report.say(
        "Classes with equal means have an infinite CDNV: tightframe refuses it (DegenerateError, with the remedy). The "
        "distance to a simplex ETF that does not fit into d dimensions has a least value, which no right value can "
        "undercut. nc-toolbox divides the variances in CDNV by n - 1, the definition by n."
    )
    report.finish("right_or_wrong", options)


def _verdicts(case: Case, found: Iterable[str]) -> list[str]:
    return [_verdict(case.ours, case.truth)] + [
        _verdict(lambda name=name: case.theirs(name), case.truth) for name in found
    ]


def _verdict(value: Callable[[], float], truth: float) -> str:
    try:
        got = float(value())
    except NotImplementedError:
        return "-"
    except DegenerateError as error:
        return type(error).__name__ + ("" if math.isinf(truth) else ", wrong")
    except Exception as error:  # whatever a tool raises is its answer
        return f"{type(error).__name__}, wrong"
    right = got == truth or abs(got - truth) <= TOLERANCE * abs(truth) < math.inf
    return f"{got:.6g}" + ("" if right else ", wrong")


def _nc1_cases(quick: bool) -> list[Case]:
    n, d = (2_000, 32) if quick else (20_000, 512)
    plain, labels = _draw(n, d, 10)
    ragged, odd = plain[: n - n % 1024 + 1], labels[: n - n % 1024 + 1]
    spread = _anisotropic(100, 128, 4_000 if quick else 20_000)
    narrow = _draw(2_000, 16, 40)
    ignored = torch.where(torch.arange(n) % 5 == 0, -100, labels)
    kept = ignored >= 0
    rare = labels != 9
    half = plain.bfloat16()
    return [
        _nc1_case("NC1, float32 features", plain, labels, 10),
        _nc1_case("NC1, last batch of one sample", ragged, odd, 10),
        _nc1_case("NC1, singular values of the class means from 1 to 1e-4", *spread, 100),
        _nc1_case("NC1, K - 1 > d (40 classes in 16 dimensions)", *narrow, 40),
        _nc1_case(
            "NC1, a fifth of the labels ignored (-100)", plain, ignored, 10, truth=(plain[kept], labels[kept], 10)
        ),
        _nc1_case("NC1, a class without samples", plain[rare], labels[rare], 10, truth=(plain[rare], labels[rare], 9)),
        _nc1_case("NC1, bfloat16 features", half, labels, 10, truth=(half.float(), labels, 10)),
    ]


def _nc1_case(name: str, features: Tensor, labels: Tensor, k: int, *, truth: tuple | None = None) -> Case:
    right = two_pass_nc1(*(truth or (features, labels, k)))
    return Case(
        name,
        right,
        lambda: nc1(_moments(features, labels, k), absent="drop"),
        lambda package: peers.nc1(package, features, labels, k),
    )


def _other_cases(quick: bool) -> list[Case]:
    d, n = 64, 2_000
    features, labels = _draw(n, d, 10)
    biased = features + 5.0
    means = torch.stack([biased[labels == k].double().mean(0) for k in range(10)])
    # Least squares towards the means: with its bias the classifier decides like the nearest mean.
    weight, bias = means.float(), (-means.square().sum(1) / 2).float()
    many, who = _draw(1_300, d, 65)
    equal = features.clone()
    equal[labels == 1] = features[labels == 0][: int((labels == 1).sum())]
    wide = _draw_means(500 if quick else 10_000, 32 if quick else 512)
    far, near = _far_classes()
    return [
        Case(
            "NC4 agreement, classifier with bias, features with a common offset",
            _agreement(biased, labels, means, weight, bias),
            lambda: (
                1
                - disagreement(biased, (biased @ weight.T + bias).argmax(1), CentredMeans(_moments(biased, labels, 10)))
            ),
            lambda package: peers.agreement(package, biased, labels, weight, bias),
        ),
        Case(
            "NC4 agreement, two classes 0.05 apart, offset 1000",
            _agreement(far, near, *_far_classifier(far, near)),
            lambda: 1 - disagreement(far, near, _centred(far, near, 2)),
            lambda package: peers.agreement(package, far, near, *(t.float() for t in _far_classifier(far, near)[1:])),
        ),
        Case(
            f"CDNV, K = 65 (tile {peers.TILE})",
            _cdnv(many, who, 65),
            lambda: class_pairs(_centred(many, who, 65)).cdnv,
            lambda package: peers.cdnv(package, many, who, 65),
        ),
        Case(
            "CDNV, two classes with the same samples",
            math.inf,
            lambda: class_pairs(_centred(equal, labels, 10)).cdnv,
            lambda package: peers.cdnv(package, equal, labels, 10),
        ),
        Case(
            f"NC2, K = {len(wide):,}, d = {wide.shape[1]} (least possible {distance_floor(*wide.shape):.6g})",
            _etf_distance(wide),
            lambda: feature_distance(CentredMeans(_one_each(wide))),
            lambda package: peers.etf_distance(package, wide),
        ),
    ]


def _moments(features: Tensor, labels: Tensor, k: int) -> ClassMoments:
    moments = ClassMoments(k)
    for x, y in zip(features.split(1024), labels.split(1024), strict=True):
        moments.update(x, y)
    return moments


def _centred(features: Tensor, labels: Tensor, k: int) -> CentredMeans:
    return CentredMeans(_moments(features, labels, k))


def _one_each(means: Tensor) -> ClassMoments:
    moments = ClassMoments(len(means), "trace")
    moments.update(means, torch.arange(len(means)))
    return moments


def _draw(n: int, d: int, k: int) -> tuple[Tensor, Tensor]:
    draws = generator(0)
    means = torch.randn(k, d, generator=draws)
    labels = torch.arange(n)[torch.randperm(n, generator=draws)] % k
    return means[labels] + 0.4 * torch.randn(n, d, generator=draws), labels


def _draw_means(k: int, d: int) -> Tensor:
    return torch.randn(k, d, generator=generator(1))


def _anisotropic(k: int, d: int, n: int) -> tuple[Tensor, Tensor]:
    draws = generator(2)
    left = torch.linalg.qr(torch.randn(k, k, generator=draws, dtype=torch.float64))[0]
    right = torch.linalg.qr(torch.randn(d, k, generator=draws, dtype=torch.float64))[0]
    means = (left * torch.logspace(0, -4, k, dtype=torch.float64)) @ right.T
    labels = torch.arange(n) % k
    return (means[labels] + 1e-5 * torch.randn(n, d, generator=draws, dtype=torch.float64)).float(), labels


def _far_classes() -> tuple[Tensor, Tensor]:
    draws = generator(3)
    labels = torch.arange(1_000) % 2
    features = 1_000 + 0.001 * torch.randn(1_000, 64, generator=draws)
    features[:, 0] += 0.05 * labels
    return features, labels


def _far_classifier(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    means = torch.stack([features[labels == k].double().mean(0) for k in range(2)])
    weight = torch.zeros_like(means)
    weight[1, 0] = 1.0
    return means, weight, torch.tensor([0.0, -float(means[:, 0].mean())], dtype=torch.float64)


def _agreement(features: Tensor, labels: Tensor, means: Tensor, weight: Tensor, bias: Tensor) -> float:
    decided = (features.double() @ weight.double().T + bias.double()).argmax(1)
    nearest = torch.stack([(features.double() - mean).square().sum(1) for mean in means]).argmin(0)
    return float((decided == nearest).double().mean())


def _cdnv(features: Tensor, labels: Tensor, k: int) -> float:
    rows = [features[labels == c].double() for c in range(k)]
    means = [x.mean(0) for x in rows]
    spread = [float((x - m).square().sum(1).mean()) for x, m in zip(rows, means, strict=True)]
    pairs = [
        (spread[i] + spread[j]) / (2 * float((means[i] - means[j]).square().sum()))
        for i in range(k)
        for j in range(k)
        if i != j
    ]
    return sum(pairs) / len(pairs)


def _etf_distance(means: Tensor) -> float:
    """The K x K definition in float64, in blocks of rows."""
    centred = means.double() - means.double().mean(0)
    k = len(centred)
    norm = math.sqrt(sum(float((block @ centred.T).square().sum()) for block in centred.split(1024)))
    total = 0.0
    for start in range(0, k, 1024):
        block = centred[start : start + 1024] @ centred.T / norm + 1 / (k * math.sqrt(k - 1))
        rows = torch.arange(len(block))
        block[rows, rows + start] -= 1 / math.sqrt(k - 1)
        total += float(block.square().sum())
    return math.sqrt(total)


if __name__ == "__main__":
    main()
