"""Compressed adapters beside LoRA from peft: a few images of new digits."""

from __future__ import annotations

from copy import deepcopy

import torch
from benchmarks.measuring import Report, arguments
from torch import Tensor, nn

from tightframe.core.rng import generator
from tightframe.data.labelled.digits import digits
from tightframe.deeplinear.adapter import adapt, parameter_groups


def main() -> None:
    options = arguments(__doc__).parse_args()
    torch.set_num_threads(1)
    report = Report("Adapters for few images", "python -m benchmarks.races.adapters")
    _few_shot(report, options.quick)
    report.finish("adapters", options)


def _few_shot(report: Report, quick: bool) -> None:
    report.say(
        "Adapters of one size on the digits 5 to 9, ten images each, of a network trained on 0 to 4: accuracy on the "
        "other images, mean over seeds, for the best of four learning rates of each."
    )
    data = digits()
    images, labels = (torch.cat([_whole(part)[at] for part in (data.train, data.test)]) for at in range(2))
    rows = []
    base = _pretrained(images[labels < 5].flatten(1), labels[labels < 5], 20 if quick else 200)
    for name in ("compressed, depth 3", "LoRA (peft)", "head alone"):
        scores = {}
        for rate in (1e-2,) if quick else (1e-3, 3e-3, 1e-2, 3e-2):
            runs = [
                _tuned(name, base, images, labels, rate, seed, 20 if quick else 200)
                for seed in range(1 if quick else 5)
            ]
            scores[rate] = (sum(score for score, _ in runs) / len(runs), runs[0][1])
        rate = max(scores, key=lambda at: scores[at][0])
        rows.append((name, scores[rate][1], f"{rate:g}", f"{scores[rate][0]:.3f}"))
    report.table(["method", "trained numbers", "rate", "accuracy"], rows)


def _whole(part) -> tuple[Tensor, Tensor]:
    pairs = [part[at] for at in range(len(part))]
    return torch.stack([image for image, _ in pairs]), torch.as_tensor([int(label) for _, label in pairs])


def _pretrained(inputs: Tensor, labels: Tensor, steps: int) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 5))
    _train(model, [{"params": list(model.parameters()), "lr": 1e-3}], inputs, labels, steps)
    return model


def _train(model: nn.Module, groups: list, inputs: Tensor, labels: Tensor, steps: int) -> None:
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()


def _tuned(
    name: str, base: nn.Module, images: Tensor, labels: Tensor, rate: float, seed: int, steps: int
) -> tuple[float, int]:
    chosen = torch.cat([(labels == digit).nonzero()[:, 0][_order(labels, digit, seed)[:10]] for digit in range(5, 10)])
    rest = (labels >= 5).clone()
    rest[chosen] = False
    flat, target = images.flatten(1), labels - 5
    model = deepcopy(base)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model[4] = nn.Linear(128, 5)
        model, groups = _prepared(name, model, flat[chosen], target[chosen], rate, seed)
    count = sum(p.numel() for group in groups for p in group["params"])
    _train(model, groups, flat[chosen], target[chosen], steps)
    with torch.no_grad():
        return float((model(flat[rest]).argmax(1) == target[rest]).double().mean()), count


def _order(labels: Tensor, digit: int, seed: int) -> Tensor:
    return torch.randperm(int((labels == digit).sum()), generator=generator(100 * seed + digit))


def _prepared(
    name: str, model: nn.Module, inputs: Tensor, labels: Tensor, rate: float, seed: int
) -> tuple[nn.Module, list]:
    if name.startswith("compressed"):

        def loss(net: nn.Module) -> Tensor:
            return nn.functional.cross_entropy(net(inputs), labels)

        adapt(model, rank=4, targets=["0", "2"], loss=loss, scale=1e-1, gamma=1e-1, seed=seed)
        model[4].requires_grad_(True)
        return model, parameter_groups(model, rate)
    model.requires_grad_(False)
    if name.startswith("LoRA"):
        from peft import LoraConfig, inject_adapter_in_model

        model = inject_adapter_in_model(LoraConfig(r=8, lora_alpha=16, target_modules=["0", "2"]), model)
    model[4].requires_grad_(True)
    return model, [{"params": [p for p in model.parameters() if p.requires_grad], "lr": rate}]


if __name__ == "__main__":
    main()
