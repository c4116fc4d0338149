"""MCR2 with every determinant on its smaller side, beside batched d x d determinants and the published loop."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

import torch
from benchmarks.measuring import Report, arguments, paired, ratio
from torch import Tensor
from torch.nn.functional import one_hot

from tightframe.core.rng import generator
from tightframe.nn.rate.rate_reduction import MCR2Loss, unit_features

EPS2 = 0.5
# The loop is timed on so many classes, and counted K times over that.
LOOPED = 5


def main() -> None:
    options = arguments(__doc__).parse_args()
    torch.set_num_threads(1)
    cells = [(1000, 128, 10, 5), (1000, 128, 100, 3), (2000, 512, 100, 1)]
    if options.quick:
        cells = [(200, 16, 5, 2)]
    report = Report("Rate reduction as a loss", "python -m benchmarks.speed.rate_reduction")
    report.say(
        "`MCR2Loss` forward and backward, float32, labels drawn at random. Batched: memberships times features, one "
        "batch of K Cholesky factors d x d. Loop: a dense m x m matrix Pi and one log det d x d per class, as "
        f"published, timed on {LOOPED} classes and counted K/{LOOPED} times. Bare: the product Z^T Z. CPU seconds, "
        "medians of rounds that take turns (5, 3 and 1)."
    )
    report.table(
        ["m", "d", "K", "ours (s)", "batched (s)", "loop (s)", "batched/ours", "loop/ours", "ours/bare", "difference"],
        [_cell(*cell) for cell in cells],
    )
    report.say("Difference: between the values of ours and of the batched form, relative.")
    report.finish("rate_reduction", options)


def _cell(m: int, d: int, k: int, repeats: int) -> tuple:
    draws = generator(0)
    features = torch.randn(m, d, generator=draws, requires_grad=True)
    labels = torch.randint(k, (m,), generator=draws)
    looped = min(k, LOOPED)
    loss, square = MCR2Loss(eps2=EPS2), torch.empty(d, d)

    values: dict[str, float] = {}

    def backward(name: str, forward: Callable[[], Tensor]) -> Tensor:
        value = forward()
        values[name] = float(value.detach())
        return torch.autograd.grad(value, features)[0]

    def bare() -> None:
        torch.mm(features.detach().T, features.detach(), out=square)

    work = {
        "bare": lambda: [bare() for _ in range(20)],
        "ours": lambda: backward("ours", lambda: loss(features, labels)),
        "batched": lambda: backward("batched", lambda: _batched(features, labels, k)),
        "loop": lambda: backward("loop", lambda: _loop(features, labels, looped)),
    }
    work["ours"]()
    times = paired(work, repeats=repeats, warm=repeats > 1)
    times["bare"] = [spent / 20 for spent in times["bare"]]
    times["loop"] = [spent * k / looped for spent in times["loop"]]
    return (
        *(m, d, k),
        *(median(times[name]) for name in ("ours", "batched", "loop")),
        *(ratio(times[one], times[two]) for one, two in (("batched", "ours"), ("loop", "ours"), ("ours", "bare"))),
        abs(values["ours"] - values["batched"]) / abs(values["ours"]),
    )


def _batched(features: Tensor, labels: Tensor, k: int) -> Tensor:
    rows = unit_features(features)
    m, d = rows.shape
    shares = one_hot(labels, k).to(rows.dtype)
    sizes = shares.sum(0).clamp(min=1)
    eye = torch.eye(d)
    products = torch.stack([(rows * share[:, None]).T @ rows for share in shares.T])
    factors = torch.linalg.cholesky(eye + d / (sizes[:, None, None] * EPS2) * products)
    parts = factors.diagonal(dim1=1, dim2=2).log().sum(1) * sizes / m
    whole = torch.linalg.cholesky(eye + d / (m * EPS2) * rows.T @ rows).diagonal().log().sum()
    return parts.sum() - whole


def _loop(features: Tensor, labels: Tensor, k: int) -> Tensor:
    columns = unit_features(features).T
    d, m = columns.shape
    eye, value = torch.eye(d), 0.0
    for j in range(k):
        pi = torch.diag((labels == j).to(columns.dtype))
        size = pi.trace() + 1e-8
        value = value + size / (2 * m) * torch.logdet(eye + d / (size * EPS2) * columns @ pi @ columns.T)
    return value - torch.logdet(eye + d / (m * EPS2) * columns @ columns.T) / 2


if __name__ == "__main__":
    main()
