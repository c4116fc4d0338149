"""Certify the last layer of a network of one's own, or of features saved by anybody."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import torch

from tightframe.core.errors import InputError
from tightframe.features.extract import stream
from tightframe.features.store import FeatureFile, read_features
from tightframe.features.tap import FeatureTap
from tightframe.jobs.certificate_report import answer, panels, tables
from tightframe.jobs.options import CertifyOptions
from tightframe.jobs.subject import Network, described, network_of
from tightframe.runs.console import watched
from tightframe.runs.environment import describe
from tightframe.runs.record import Record
from tightframe.runs.store import begin
from tightframe.training.fabric import connect
from tightframe.trials.levers import parse_loss
from tightframe.trials.shard import Shard
from tightframe.ufm.excess import Excess, decompose
from tightframe.ufm.loss import Loss
from tightframe.ufm.losses import CrossEntropy, Focal, SquaredError, named_loss
from tightframe.ufm.network import of_features

_WEIGHT_DECAY = 5e-4
_PARAMETERS = {"ls": ("smoothing",), "focal": ("gamma",), "mse": ("scale", "target")}
# What decides the form of a loss, with the module's default.
_FORMS = {"ls": {"convention": "torch"}, "mse": {"over_classes": "mean"}}
_LOSSES = {"ls": CrossEntropy, "focal": Focal, "mse": SquaredError}


@dataclass(frozen=True)
class Certified:
    """The point beside the minimum of its model, and the Record made of it."""

    excess: Excess
    record: Record


@dataclass(frozen=True)
class _Decays:
    """Coefficients as `of_features` takes them; `features` by the mean squared norm where it is the run's own."""

    weights: float
    features: float | None
    mean_features: float | None
    bias: float | None

    def of_features(self, samples: int) -> float | None:
        return self.mean_features / samples if self.features is None and self.mean_features else self.features


def certify(options: CertifyOptions) -> Certified | None:
    """Certify what the options name, and save the record if `options.out` is given.

    The classifier's W and b and its inputs over the training data, in evaluation mode, are taken as a point of the
    unconstrained-features model with the decays of training (of the run, or of the options). Under torchrun the
    first process does it alone.

    Returns:
        Excess and Record; None on all processes but the first.

    Raises:
        InputError, UnsafeFileError, AmbiguityError: What does not fit, and what to do.
        DegenerateError: A balanced feature decay where weight or features are all zero.
    """
    started, clock = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
    network = network_of(options)
    loss, decays = _loss(options, network), _decays(options, network)
    first = os.environ.get("RANK", "0") == "0"
    if network is None and not first:
        return None
    kept = described(options, network)
    with begin(options.out if first else None, config=kept) as directory:
        content, classes = _file(options) if network is None else _inputs(options, network)
        if not first:
            return None
        excess = _excess(content, loss, decays, options)
        record = Record(
            name="certify",
            title="The last layer beside its global minimum",
            question="How far are this classifier and its features from the best there are, and what is it due to?",
            answer=answer(excess),
            config=kept,
            environment=describe(),
            tables=tables(excess, classes),
            panels=panels(excess),
            started=started,
            seconds=time.perf_counter() - clock,
        )
        if directory is not None:
            directory.save_record(record)
    return Certified(excess, record)


def _loss(options: CertifyOptions, network: Network | None) -> Loss:
    """The loss asked for, else the run's own, with its parameters."""
    name, trained = options.loss or "ce", {}
    if network is not None and network.trained:
        _check_lever("head", network.config.head, ("linear",), "Certify a network whose last layer was learned.")
        if options.loss is None:
            name, trained = _own_loss(network.config.train.loss)
    own = _PARAMETERS.get(name, ())
    given = {key: getattr(options, key) for keys in _PARAMETERS.values() for key in keys}
    given = trained | {key: value for key, value in given.items() if value is not None}
    other = [key for key in given if key not in own]
    if other:
        owner = next(loss for loss, keys in _PARAMETERS.items() if other[0] in keys)
        raise InputError(
            f"parameters of the loss {name}",
            got=", ".join(f"--{key} {given[key]:g}" for key in other),
            remedy=f"Add --loss {owner}, or leave it out.",
        )
    return _LOSSES[name](**given) if given else named_loss(name)


def _own_loss(spec: str) -> tuple[str, dict[str, Any]]:
    """Name and parameters of the loss that a run was trained with, where the laboratory has it in the same form."""
    name, trained = parse_loss(spec)
    _check_lever("loss", name, ("ce", *_LOSSES), "Add --loss ce to certify as if it were cross-entropy.")
    own = {key: trained.pop(key, default) for key, default in _FORMS.get(name, {}).items()}
    for key, form in own.items():
        wanted = {"over_classes": "half", "convention": "torch"}[key]
        remedy = f"Add --loss {name} with its parameters and decays: a factor on the loss divides the decays."
        _check_lever(f"{name}:{key}", form, (wanted,), remedy)
    # The module's target is that of its source; the laboratory's is one.
    return name, ({"target": 15} | trained if name == "mse" else trained)


def _check_lever(what: str, found: str, known: tuple[str, ...], remedy: str) -> None:
    if found not in known:
        raise InputError(f"a run with {what} {' or '.join(known)} for a certificate", got=found, remedy=remedy)


def _decays(options: CertifyOptions, network: Network | None) -> _Decays:
    train = network.config.train if network is not None and network.trained else None
    weights = options.weight_decay
    if weights is None:
        weights = _WEIGHT_DECAY if train is None else train.weight_decay
    if not 0 < weights < float("inf"):
        raise InputError(
            "a weight decay above zero",
            got=f"{weights:g}" + (" (the run's own)" if options.weight_decay is None else ""),
            remedy="Without decay the model has no minimum; name a coefficient with --weight-decay.",
        )
    features = options.feature_decay if isinstance(options.feature_decay, float) else None
    own = train is not None and options.feature_decay is None
    bias = 0.0 if options.bias == "free" else float("inf") if options.bias == "none" else options.bias
    return _Decays(weights, features, train.feature_decay if own else None, bias)


def _file(options: CertifyOptions) -> tuple[FeatureFile, tuple[str, ...]]:
    content = read_features(options.features)
    if content.weight is None:
        raise InputError(
            "features, labels, and the weight of the classifier",
            got=f"{options.features.name} without `weight`",
            remedy="Store weight (k, d) too, and bias (k,) where there is one, as features.store.write_features does.",
        )
    return content, tuple(map(str, range(len(content.weight))))


def _inputs(options: CertifyOptions, network: Network) -> tuple[FeatureFile | None, tuple[str, ...]]:
    """The classifier and its inputs over the training data; None on all processes but the first."""
    fabric = connect(accelerator=options.accelerator)
    model, data = network.load(options, fabric)
    if not fabric.is_global_zero:
        return None, data.classes
    tap = FeatureTap(model, classifier=options.classifier, pool=options.pool, tokens=options.tokens)
    features, labels = [], []
    shard = Shard(data.train, workers=options.workers, batch_size=options.batch_size)
    for batch in stream(tap, watched(shard, shard.steps, "features", enabled=not options.quiet)):
        features.append(batch.features["features"].cpu())
        labels.append(batch.labels.cpu())
    bias = None if tap.bias is None else tap.bias.cpu()
    return FeatureFile(torch.cat(features), torch.cat(labels), tap.weight.cpu(), bias), data.classes


def _excess(content: FeatureFile, loss: Loss, decays: _Decays, options: CertifyOptions) -> Excess:
    bias, decay = content.bias, decays.bias
    if decay == float("inf"):
        if bias is not None and bool(bias.any()):
            raise InputError(
                "a classifier without a bias, for --bias none",
                got="one with a bias that is not zero",
                remedy="Use --bias free, or the coefficient of its decay.",
            )
        bias, decay = None, None
    elif bias is None and options.bias is not None:
        bias = torch.zeros(len(content.weight))
    problem, point = of_features(
        content.features,
        content.labels,
        weight=content.weight,
        bias=bias,
        weight_decay=decays.weights,
        feature_decay=decays.of_features(len(content.labels)),
        bias_decay=decay,
        loss=loss,
    )
    return decompose(problem, point.W, point.H, point.b, solve=options.solve, tolerance=options.tolerance)
