"""A model and a loader become a stream of features, logits and labels, one forward pass over the data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from tightframe.core.errors import InputError
from tightframe.features.batches import BatchReader, FeatureBatch, forward_parameters
from tightframe.features.evaluation import PrivateRandomness, devices_of, unwrapped
from tightframe.features.layers import Pool, Tokens
from tightframe.features.tap import FeatureTap


def stream(
    model: nn.Module | FeatureTap,
    loader: Iterable[Any],
    *,
    layers: str | Sequence[str] = "classifier",
    classifier: str | None = None,
    pool: Pool = "mean",
    tokens: Tokens = "class",
    labels_key: str | None = None,
    mask_key: str | None = None,
    shift: bool = False,
    ignore_index: int | None = -100,
    device: torch.device | str | None = None,
) -> Iterator[FeatureBatch]:
    """Yield the features of every sample once, in the loader's order.

    The model runs in evaluation mode without gradients. Between batches nothing is held: hooks, training flags
    and grad mode are back in place, and randomness that the loader draws comes from a stream of its own, so that
    the caller's generators (torch, numpy, random, those of a DataLoader) stay as they were.

    Batches are `(inputs, labels, ...)`, where inputs are a tensor, a tuple of arguments or a mapping of keyword
    arguments, or a mapping with the labels among its entries; entries that the model's forward does not take are
    left out. Rows that a DistributedSampler repeats to give all ranks equally many samples are left out as well.

    Token models give logits (n, t, k); their labels are class indices (n, t), or a mask of positions: booleans
    (n, t) that select the positions whose token is the class (the input ids are then the labels).

    Args:
        model: A model, or a FeatureTap on one; the arguments `layers` to `tokens` are then the tap's own.
        loader: Any iterable of batches, usually a DataLoader.
        layers: See FeatureTap.
        classifier: See FeatureTap.
        pool: See FeatureTap.
        tokens: See FeatureTap.
        labels_key: Entry of the labels in batches that are mappings; "labels" or "label" unless given.
            "input_ids" serves language models and stays among the inputs.
        mask_key: Entry with a mask of positions (n, t), such as "attention_mask"; positions where it is zero, as
            predicting or as predicted position, are left out. The entry stays among the inputs.
        shift: Position t predicts the label of position t + 1, as in causal language models.
        ignore_index: Rows with this label are left out; None for no such label.
        device: Device the inputs are moved to; that of the model's first parameter unless given.

    Returns:
        An iterator of FeatureBatch.

    Raises:
        InputError: An empty loader, batches without labels, labels that are no class indices or do not fit the logits.

    Example:
        >>> import torch
        >>> data = [(torch.ones(3, 4), torch.tensor([0, 1, 1])), (torch.ones(1, 4), torch.tensor([0]))]
        >>> [(tuple(b.features["features"].shape), b.first) for b in stream(torch.nn.Linear(4, 2), data)]
        [((3, 4), 0), ((1, 4), 3)]
    """
    tap = (
        model
        if isinstance(model, FeatureTap)
        else FeatureTap(model, layers, classifier=classifier, pool=pool, tokens=tokens)
    )
    devices = devices_of(tap.model)
    reader = BatchReader(
        parameters=forward_parameters(unwrapped(tap.model)),
        device=devices[0] if device is None else torch.device(device),
        labels_key=labels_key,
        mask_key=mask_key,
        shift=shift,
        ignore_index=ignore_index,
    )
    return _batches(tap, loader, reader, PrivateRandomness(devices, _generators_of(loader)))


def own_samples(loader: Any) -> int | None:
    r"""Number of samples of this rank that are not padding, or None where the sampler adds none.

    Rank r of R sees the (shuffled) positions r, r + R, r + 2R, ...; positions from the length N of the data set on
    repeat earlier samples, so that :math:`\lceil (N - r) / R \rceil` of them are its own.
    """
    batches = getattr(loader, "batch_sampler", None)
    _refuse_even_batches(batches, loader)
    for sampler in (getattr(batches, "sampler", None), getattr(loader, "sampler", None)):
        if isinstance(sampler, torch.utils.data.DistributedSampler):
            if batches is None:
                return _refuse_repeated_batches(sampler)
            return max(0, -(-(len(sampler.dataset) - sampler.rank) // sampler.num_replicas))
    return None


def _batches(
    tap: FeatureTap, loader: Iterable[Any], reader: BatchReader, randomness: PrivateRandomness
) -> Iterator[FeatureBatch]:
    rows, samples, own = 0, 0, own_samples(loader)
    for batch in _drawn(loader, randomness):
        args, kwargs, labels, mask = reader.parts(batch)
        taps = tap(*args, **kwargs)
        real = None if own is None else max(0, own - samples)
        samples += len(taps.logits)
        out = reader.rows(FeatureBatch(taps.features, taps.logits, labels, rows), mask, real)
        rows += len(out.labels)
        yield out
    if samples == 0:
        raise InputError(
            "a loader with at least one sample", got="an empty one", remedy="Check the data set and split."
        )


def _generators_of(loader: Any) -> list[torch.Generator]:
    """Generators that decide how a DataLoader shuffles: training that shares them must not see them move."""
    batches = getattr(loader, "batch_sampler", None)
    holders = (loader, getattr(loader, "sampler", None), batches, getattr(batches, "sampler", None))
    found = (getattr(holder, "generator", None) for holder in holders)
    return list({id(g): g for g in found if isinstance(g, torch.Generator)}.values())


def _drawn(loader: Iterable[Any], randomness: PrivateRandomness) -> Iterator[Any]:
    with randomness():
        iterator = iter(loader)
    while True:
        with randomness():
            try:
                batch = next(iterator)
            except StopIteration:
                return
        yield batch


def _refuse_repeated_batches(sampler: torch.utils.data.DistributedSampler) -> None:
    """Where the data set makes the batches, the sampler repeats a batch, and its rows are not to be counted here."""
    if len(sampler.dataset) % sampler.num_replicas and not sampler.drop_last:
        raise InputError(
            f"batches made by the data set that {sampler.num_replicas} processes share evenly",
            got=f"{len(sampler.dataset)} of them",
            remedy="Let the DataLoader make the batches (batch_size=), or use as many as the processes share.",
        )


def _refuse_even_batches(batches: Any, loader: Any) -> None:
    """Accelerate's sampler repeats samples to make whole batches; where is not to be seen from outside."""
    ranks = getattr(batches, "num_processes", 1)
    if not getattr(batches, "even_batches", False) or ranks == 1 or getattr(batches, "drop_last", False):
        return
    if len(loader.dataset) % (ranks * (batches.batch_size or 1)):
        raise InputError(
            "a sampler that shows every sample once",
            got=f"{type(batches).__name__} with even_batches=True over {ranks} processes",
            remedy="Use accelerate's DataLoaderConfiguration(even_batches=False).",
        )
