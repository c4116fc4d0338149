"""Cost of SOPLoss beside a training step with cross-entropy, and beside its published form with two optimisers."""

from __future__ import annotations

from statistics import median

import torch
from benchmarks.measuring import Report, Work, arguments, paired, ratio
from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss, normalize, one_hot

from tightframe.core.rng import generator
from tightframe.nn.networks import resnet18
from tightframe.nn.sop.sop import SOPLoss

SHARE_BAR, FORM_BAR = 0.03, 5
RATE = 1.0


def main() -> None:
    options = arguments(__doc__).parse_args()
    torch.set_num_threads(1)
    size, width, samples, calls, repeats = 32, 64, 50_000, 20, 5
    if options.quick:
        size, width, samples, calls, repeats = 4, 4, 2_000, 2, 2
    report = Report("Cost of SOPLoss", "python -m benchmarks.speed.sop_step")
    report.say(
        f"CPU seconds. A step is forward, loss, backward and SGD of the CIFAR ResNet18 (width {width}), {size} "
        "images of 3 x 32 x 32; the losses are forward and backward to the logits, the update of u and v included, on "
        f"the same number of samples out of N = {samples:,}. Overhead is the loss less cross-entropy, as share of the "
        f"step. Medians of {repeats} rounds that take turns, {calls} calls of a loss in each. Bar: {SHARE_BAR:.0%}."
    )
    rows = [row for k in (10, 100) for row in _beside_step(k, size, width, samples, calls=calls, repeats=repeats)]
    report.table(["K", "loss", "step with CE (s)", "CE (s)", "loss (s)", "overhead", "bar met"], rows)
    k, batch = 100, 4 * size
    report.say(
        f"The published form keeps u and v as parameters: dense gradients of N K numbers, a second optimiser. Loss, "
        f"backward and the steps of u and v at N = {samples:,}, K = {k}, batch {batch}; no network. "
        f"Medians of {repeats} rounds of {calls} calls; the ratio is the median of theirs. Bar: at least {FORM_BAR}."
    )
    rows = _beside_form(k, batch, samples, calls=calls, repeats=repeats)
    report.table(["storage", "published form (s)", "SOPLoss (s)", "ratio", "bar met"], rows)
    report.finish("sop_step", options)


def _beside_step(k: int, size: int, width: int, samples: int, *, calls: int, repeats: int) -> list[tuple]:
    draws = generator(0)
    images, labels = torch.randn(size, 3, 32, 32, generator=draws), torch.randint(k, (size,), generator=draws)
    index = torch.randperm(samples, generator=draws)[:size]
    network = resnet18(3, k, width=width)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)
    logits = torch.randn(size, k, generator=draws).requires_grad_()
    losses = {name: SOPLoss(samples, k, storage=name) for name in ("dense", "sparse")}

    def step() -> None:
        optimizer.zero_grad()
        cross_entropy(network(images), labels).backward()
        optimizer.step()

    work: dict[str, Work] = {
        name: lambda loss=loss: [loss(logits, labels, index=index).backward() for _ in range(calls)]
        for name, loss in losses.items()
    }
    work["ce"] = lambda: [cross_entropy(logits, labels).backward() for _ in range(calls)]
    times = {name: [t / calls for t in spent] for name, spent in paired(work, repeats=repeats).items()}
    steps = paired({"step": step}, repeats=repeats)["step"]
    rows = []
    for name in losses:
        share = (median(times[name]) - median(times["ce"])) / median(steps)
        met = "yes" if share <= SHARE_BAR else "NO"
        cells = (k, f"SOP, {name}", median(steps), median(times["ce"]), median(times[name]), f"{share:.2%}", met)
        rows.append(cells)
    return rows


def _beside_form(k: int, batch: int, samples: int, *, calls: int, repeats: int) -> list[tuple]:
    draws = generator(0)
    labels = torch.randint(k, (batch,), generator=draws)
    index = torch.randperm(samples, generator=draws)[:batch]
    logits = torch.randn(batch, k, generator=draws).requires_grad_()
    u = torch.full((samples, 1), 1e-8).requires_grad_()
    v = torch.full((samples, k), 1e-8).requires_grad_()
    optimizers = [torch.optim.SGD([weights], lr=RATE * batch) for weights in (u, v)]

    def published() -> None:
        for _ in range(calls):
            for optimizer in optimizers:
                optimizer.zero_grad()
            _published(logits, labels, u[index], v[index]).backward()
            for optimizer in optimizers:
                optimizer.step()

    losses = {name: SOPLoss(samples, k, rate=RATE, storage=name) for name in ("dense", "sparse")}
    work: dict[str, Work] = {
        name: lambda loss=loss: [loss(logits, labels, index=index).backward() for _ in range(calls)]
        for name, loss in losses.items()
    }
    times = paired({"published": published} | work, repeats=repeats)
    rows = []
    for name in losses:
        saved = ratio(times["published"], times[name])
        met = "yes" if saved >= FORM_BAR else "NO"
        rows.append((name, median(times["published"]) / calls, median(times[name]) / calls, saved, met))
    return rows


def _published(logits: Tensor, labels: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """The objective by autograd in u and v, from its formula."""
    target = one_hot(labels, logits.shape[1]).float()
    U, V = (u**2 * target).clamp(0, 1), (v**2 * (1 - target)).clamp(0, 1)
    q = normalize((logits.softmax(1) + U - V.detach()).clamp(min=1e-4), p=1, dim=1).clamp(1e-4, 1)
    predicted = one_hot(logits.detach().argmax(1), logits.shape[1]).float()
    residual = mse_loss(predicted + U - V, target, reduction="sum") / len(logits)
    return residual - (target * q.log()).sum(1).mean()


if __name__ == "__main__":
    main()
