"""Time of every metric from the moments of many classes."""

from __future__ import annotations

from statistics import median

import torch
from benchmarks.measuring import Report, Work, arguments, cpu_seconds, paired, wall_seconds
from torch import Tensor

from tightframe.collapse import decision, duality, pairs, simplex, spectrum, variability
from tightframe.collapse.evaluate import evaluate_layer
from tightframe.collapse.means import CentredMeans
from tightframe.core.rng import generator
from tightframe.features.moments import ClassMoments

BAR = 1.0


def main() -> None:
    options = arguments(__doc__).parse_args()
    k, d, repeats = (50, 128, 2) if options.quick else (1000, 2048, 7)
    moments, weight, bias = _data(k, d)
    report = Report("All metrics from the moments", "python -m benchmarks.speed.metrics", threads="1 and 2 threads")
    report.say(
        f"K = {k:,}, d = {d:,}: `evaluate_layer(moments, weight=W, bias=b)`, that is every metric of the layer from "
        f"its class moments and classifier. Medians of {repeats}. Bar: under {BAR:g} s."
    )
    rows = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        work = lambda: evaluate_layer(moments, weight=weight, bias=bias)  # noqa: E731
        work()
        cpu, wall = [median(clock(work) for _ in range(repeats)) for clock in (cpu_seconds, wall_seconds)]
        rows.append((threads, cpu, wall, "yes" if wall < BAR else "NO"))
    report.table(["threads", "CPU (s)", "wall (s)", "bar met"], rows)
    torch.set_num_threads(1)
    report.say(
        f"Each by itself, CPU seconds on 1 thread, medians of {repeats} rounds that take turns. What several share "
        "(centred means, their norms, the scatter) is computed in the first two lines and then found ready, as in "
        "`evaluate_layer`."
    )
    times = paired(_parts(moments, weight, bias), repeats=repeats)
    report.table(["metric", "CPU (s)"], [(name, median(spent)) for name, spent in times.items()])
    report.finish("metrics", options)


def _data(k: int, d: int) -> tuple[ClassMoments, Tensor, Tensor]:
    draws = generator(0)
    means = 3 + torch.randn(k, d, generator=draws)
    moments = ClassMoments(k)
    for labels in torch.arange(20 * k).remainder(k).split(1024):
        moments.update(means[labels] + 0.3 * torch.randn(len(labels), d, generator=draws), labels)
    return moments, torch.randn(k, d, generator=draws), torch.randn(k, generator=draws)


def _parts(moments: ClassMoments, weight: Tensor, bias: Tensor) -> dict[str, Work]:
    means = CentredMeans(moments)

    def centred() -> Tensor:
        fresh = CentredMeans(moments)
        return fresh.all.sum() + fresh.norms.sum()

    return {
        "centred means and norms": centred,
        "scatter matrix": lambda: CentredMeans(moments).scatter,
        "NC1": lambda: variability.nc1(means),
        "D": lambda: variability.trace_ratio(means),
        "VCI": lambda: spectrum.variability_index(means),
        "effective rank within": lambda: spectrum.participation_ratio(means),
        "effective rank between": lambda: spectrum.effective_rank(spectrum.between_spectrum(means)),
        "CDNV, angles and uniformity of the means": lambda: pairs.class_pairs(means),
        "angles and uniformity of the classifier": lambda: pairs.row_pairs(weight),
        "NC2 features, ETF": lambda: simplex.feature_distance(means),
        "NC2 features, OF": lambda: simplex.feature_distance(means, "of"),
        "NC2 classifier": lambda: simplex.classifier_distance(weight),
        "equinorm": lambda: simplex.equinorm(means.norms),
        "NC3, ETF": lambda: duality.duality_gram(means, weight),
        "NC3, OF": lambda: duality.duality_gram(means, weight, "of"),
        "NC3 Papyan": lambda: duality.duality_distance(means, weight),
        "NC3 cosines": lambda: duality.class_cosines(means, weight),
        "bias collapse": lambda: decision.bias_collapse(means, weight, bias),
    }


if __name__ == "__main__":
    main()
