"""A certificate in words, as plain values, and as the tables and panels of a Record."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from tightframe.collapse.rendering import aligned_text
from tightframe.runs.record import Cell, Panel, Table, table_of
from tightframe.ufm.excess import Excess

# Classes whose logits a record keeps.
_SHOWN = 100
# Singular values this small beside the largest are zeros.
_ROUNDING = 1e-11
_LEFT = "what is left"
_REST = "the form of the logits, their unequal lengths and angles"


def answer(excess: Excess) -> str:
    """One or two sentences."""
    above, found = excess.value - _reference(excess), excess.minimum
    beside = "a proven lower bound" if found is None else f"the minimum of its model ({found.source}, {found.frame})"
    gains = [(before - after, name, meaning) for name, meaning, before, after in _steps(excess)]
    gain, name, meaning = max(gains, key=lambda step: step[0])
    cause = f"lies in {meaning}" if name == _LEFT else f"is closed where {meaning}"
    share = f" The largest part, {_percent(gain, above)}, {cause}."
    if excess.certificate.holds:
        within = excess.certificate.tolerance
        return f"Certified optimal: the objective, {excess.value:.6g}, is within {within:.1g} of its minimum."
    return f"The objective, {excess.value:.6g}, is {above:.3g} ({_percent(above, excess.value)}) above {beside}.{share}"


def text(excess: Excess) -> str:
    """Two aligned tables: the certificate, and what each change gains."""
    facts = [("", "value", ""), *((name, f"{value:.6g}", note) for name, value, note in _facts(excess))]
    above = excess.value - _reference(excess)
    changes = [("change", "f with it alone", "f so far", "closes", "")]
    alone = {change.name: change.alone for change in excess.changes}
    for name, meaning, before, after in _steps(excess):
        own = f"{alone[name]:.6g}" if name in alone else ""
        changes.append((name, own, f"{after:.6g}", _percent(before - after, above), meaning))
    parts = (_model(excess), aligned_text(facts, left=(0, 2)), aligned_text(changes, left=(0, 4)), answer(excess))
    return "\n\n".join(parts)


def plain(excess: Excess) -> dict[str, Any]:
    """JSON values."""
    problem, found, evidence = excess.problem, excess.minimum, excess.certificate.evidence
    return {
        "loss": problem.loss.name,
        "classes": problem.classes,
        "features": problem.features,
        "samples": problem.samples,
        "weight_decay": problem.weight_decay[0],
        "feature_decay": problem.weight_decay[1],
        "bias": problem.bias,
        "objective": excess.value,
        "minimum": None if found is None else {"value": found.value, "source": found.source, "frame": found.frame},
        "lower_bound": _finite(excess.bound),
        "gap": _finite(excess.gap),
        "holds": excess.certificate.holds,
        "own_bound": _finite(evidence["bound"]),
        "spectral_norm": evidence["spectral norm"],
        "nuclear_decay": evidence["nuclear decay"],
        "gradient_norm": evidence["gradient norm"],
        "way_down": _way_down(excess),
        "distance": excess.distance,
        "cosine": excess.cosine,
        "changes": [{"name": c.name, "alone": c.alone, "together": c.together} for c in excess.changes],
    }


def tables(excess: Excess, classes: Sequence[str]) -> dict[str, Table]:
    """Tables "certificate", "changes", "slopes", "singular values" and "logits"."""
    reference = _reference(excess)
    changes: list[dict[str, Cell]] = [{"after": "as it is", "objective": excess.value, "alone": None}]
    changes += [
        {"after": change.name, "objective": change.together, "alone": change.alone} for change in excess.changes
    ]
    changes = [row | {"excess": row["objective"] - reference} for row in changes]
    facts = [{"quantity": name, "value": _finite(value), "note": note} for name, value, note in _facts(excess)]
    return {
        "certificate": table_of(facts),
        "changes": table_of(changes),
        "slopes": table_of(list(_slope_rows(excess))),
        "singular values": table_of(list(_spectrum_rows(excess))),
        "logits": table_of(list(_logit_rows(excess, classes))),
    }


def panels(excess: Excess) -> tuple[Panel, ...]:
    """Panels over the tables of `tables`."""
    below = "a proven lower bound" if excess.minimum is None else "the minimum of the model"
    meanings = "; ".join(f"{change.name}, {change.meaning}" for change in excess.changes)
    return (
        Panel(
            kind="layers",
            title="What closes the gap",
            caption=f"Objective above {below}, after each change and those before it: {meanings}. What is left at the "
            f"end is due to {_REST}.",
            table="changes",
            x="after",
            y="excess",
            y_scale="log",
        ),
        Panel(
            kind="curves",
            title="Singular values of the loss gradient",
            caption="In units of sqrt(lambda_W lambda_H), at the bias that is best for these logits. At a minimum none "
            "is above 1, and those in the range of the logits are equal to 1.",
            table="slopes",
            x="number",
            y="singular value in units of the decay",
            color="of",
            y_scale="log",
        ),
        Panel(
            kind="curves",
            title="Singular values of the logits of class means",
            caption="A frame has equal ones; one more is smaller, or zero, for a simplex.",
            table="singular values",
            x="number",
            y="singular value",
            color="of",
        ),
        Panel(
            kind="matrix",
            title="Logits of class means",
            caption="Logits (rows) that the mean feature of every class (columns) receives, the bias included.",
            table="logits",
            x="class mean",
            y="logit",
            value="value",
            facet="of",
        ),
    )


def _model(excess: Excess) -> str:
    problem = excess.problem
    bias = {"none": "no bias", "free": "a free bias"}.get(problem.bias, f"lambda_b {problem.bias_decay:.4g}")
    return (
        f"{problem.loss.name}: {problem.classes} classes, {problem.samples} samples, {problem.features} features\n"
        f"lambda_W {problem.weight_decay[0]:.4g}, lambda_H {problem.weight_decay[1]:.4g}, {bias}"
    )


def _facts(excess: Excess) -> Iterator[tuple[str, float, str]]:
    """Name, value and note of every number of the certificate."""
    evidence, found = excess.certificate.evidence, excess.minimum
    norm, decay = evidence["spectral norm"], evidence["nuclear decay"]
    yield "objective", excess.value, "f(W, H, b)"
    if found is not None:
        yield "minimum", found.value, f"{found.source}: {found.frame}"
    yield "lower bound", excess.bound, "no W, H, b are below it"
    yield "gap", excess.gap, f"{_percent(excess.gap, excess.value)} of the objective"
    known = excess.certificate.kind == "closed form"
    yield "own bound", evidence["bound"], "in closed form" if known else "by duality, from this point alone"
    yield "norm of grad g", norm, f"{norm / decay:.4g} times sqrt(lambda_W lambda_H); at a minimum at most 1"
    yield "norm of the gradient", evidence["gradient norm"], _way_down(excess)
    if excess.distance is not None:
        angle = "" if excess.cosine is None else f"; cosine {excess.cosine:.4g}"
        yield "distance of the logits", excess.distance, f"from those of the minimum, relative{angle}"


def _way_down(excess: Excess) -> str:
    if excess.certificate.holds:
        return "no way down: optimal"
    direction = excess.certificate.evidence["direction"]
    if direction is None:
        return "critical up to rounding, and W has full rank: no direction is known"
    if direction.kind == "gradient":
        return "not critical: the gradient is the way down"
    return f"critical, a strict saddle: curvature {direction.curvature:.4g} along a known direction"


def _steps(excess: Excess) -> Iterator[tuple[str, str, float, float]]:
    """Name and meaning of every change, with the objective before and after it; the last is what remains."""
    before = excess.value
    for change in excess.changes:
        yield change.name, change.meaning, before, change.together
        before = change.together
    yield _LEFT, _REST, before, _reference(excess)


def _reference(excess: Excess) -> float:
    return excess.bound if excess.minimum is None else excess.minimum.value


def _spectra(excess: Excess) -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
    yield "this point", excess.logits, excess.bias
    if excess.minimum is not None:
        yield f"minimum ({excess.minimum.source})", excess.minimum.logits, excess.minimum.bias


def _slope_rows(excess: Excess) -> Iterator[dict[str, Cell]]:
    values = excess.slopes / excess.problem.nuclear_decay
    # What is zero, because the gradient of a softmax has no part along 1, is no point of a logarithmic axis.
    shown = values[values > _ROUNDING * values[0]].tolist()
    for number, value in enumerate(shown, start=1):
        yield {"of": "this point", "number": number, "singular value in units of the decay": value}
    for number in dict.fromkeys((1, len(excess.slopes))):
        yield {"of": "a minimum", "number": number, "singular value in units of the decay": 1.0}


def _spectrum_rows(excess: Excess) -> Iterator[dict[str, Cell]]:
    for name, logits, _ in _spectra(excess):
        for number, value in enumerate(torch.linalg.svdvals(logits).tolist(), start=1):
            yield {"of": name, "number": number, "singular value": value}


def _logit_rows(excess: Excess, classes: Sequence[str]) -> Iterator[dict[str, Cell]]:
    for name, logits, bias in _spectra(excess):
        for row, values in zip(classes, (logits + bias[:, None])[:_SHOWN, :_SHOWN].tolist(), strict=False):
            for column, value in zip(classes, values, strict=False):
                yield {"of": name, "logit": row, "class mean": column, "value": value}


def _percent(part: float, whole: float) -> str:
    # The sum with 0.0 makes a zero of a rounded -0.0.
    return f"{round(100 * part / whole, 1) + 0.0:.1f} %" if whole > 0 and math.isfinite(part) else "–"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
