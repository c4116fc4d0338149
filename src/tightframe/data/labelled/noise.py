"""Wrong labels on purpose: symmetric, asymmetric, purely random, or read from a file of human labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor

from tightframe.core.checks import check_count, check_labels
from tightframe.core.errors import AmbiguityError, InputError, UnsafeFileError, reason
from tightframe.core.files import check_no_pipe, is_file
from tightframe.core.rng import generator

SPECS = ("symmetric:RATE", "asymmetric:RATE", "asymmetric:RATE:FROM>TO,...", "random", "file:PATH.npz", "file:PATH:KEY")

# The confusions that published results on CIFAR-10 with asymmetric noise use.
_LOOKALIKES = {"truck": "automobile", "bird": "airplane", "deer": "horse", "cat": "dog", "dog": "cat"}
_STREAM = 7
_CLEAN_KEY = "clean_label"


@dataclass(frozen=True)
class NoisyLabels:
    """Labels of which some are wrong, beside the right ones.

    Args:
        labels: (N,), int64: the labels to train on.
        clean: (N,), int64: the labels they were made from.
        flipped: (N,), bool: where the two differ.
        matrix: (K, K), float64: share of the samples of clean class i (row) that are labelled j; the row of a class
            without samples is that of the identity.
    """

    labels: Tensor
    clean: Tensor
    flipped: Tensor
    matrix: Tensor

    @property
    def rate(self) -> float:
        """Share of wrong labels."""
        return self.flipped.double().mean().item()


def flipped(labels: Tensor, spec: str, *, classes: int, seed: int = 0, names: Sequence[str] = ()) -> NoisyLabels:
    """Make the labels wrong in the way that `spec` names.

    "symmetric:0.4" gives 40 % of every class one of the other K - 1 labels, drawn uniformly, so that exactly that
    share is wrong. (Part of the literature draws from all K labels instead: its rate p is p (K - 1) / K here.)
    "asymmetric:0.4" gives 40 % of each class that has a lookalike that one label: for the class names of CIFAR-10
    truck to automobile, bird to airplane, deer to horse, cat and dog to each other, the other five classes untouched;
    for any other classes k to k + 1, the last to 0. "asymmetric:0.4:1>7,7>1" names the pairs, by number or by class
    name. "random" draws every label uniformly from all K. "file:PATH:KEY" reads an integer array of an npz file, for
    example the human labels of CIFAR-10N: aggre_label, random_label1 to 3, worse_label.

    Which samples are hit is random; how many of each class is not: the rate times the class size, rounded. The noise
    of two seeds then differs in its samples but not in its amount.

    Args:
        labels: (N,), integer, 0..K-1: the right labels.
        spec: As above.
        classes: Number of classes K.
        seed: Seed of every draw.
        names: Class names in the order of the labels, where known.

    Raises:
        InputError: `spec` cannot be read, names classes that do not exist, or the file does not fit the labels.
        AmbiguityError: The file holds several arrays of labels and `spec` names none.
        UnsafeFileError: The array could only be read by executing code.

    >>> noisy = flipped(torch.arange(10) % 2, "symmetric:0.4", classes=2)
    >>> noisy.rate, noisy.matrix.tolist()
    (0.4, [[0.6, 0.4], [0.4, 0.6]])
    """
    check_count(classes, "classes", least=2)
    check_count(seed, "seed", least=0)
    clean = check_labels(labels, len(labels), classes)
    if names and len(names) != classes:
        raise InputError(f"{classes} class names", got=f"{len(names)}", remedy="Give one name per class, or none.")
    kind, colon, rest = spec.partition(":")
    # A stream of its own: labels that were themselves drawn from `seed` would otherwise come out unchanged.
    draws = generator(int(np.random.SeedSequence((seed, _STREAM)).generate_state(1, np.uint64)[0]))
    if kind == "symmetric" and colon:
        noisy = _symmetric(clean, _rate(rest, spec), classes, draws)
    elif kind == "asymmetric" and colon:
        rate, _, pairs = rest.partition(":")
        to = _named_pairs(pairs, spec, classes, names) if pairs else _default_pairs(classes, names)
        noisy = _asymmetric(clean, _rate(rate, spec), to, draws)
    elif spec == "random":
        noisy = torch.randint(classes, clean.shape, generator=draws).to(clean.device)
    elif kind == "file" and rest:
        noisy = _from_file(rest, clean, classes)
    else:
        raise _unreadable(spec)
    return NoisyLabels(noisy, clean, noisy != clean, _transitions(clean, noisy, classes))


def _symmetric(clean: Tensor, rate: float, classes: int, draws: Generator) -> Tensor:
    # A step of 1..K-1 around the circle of classes never comes back to where it started.
    steps = torch.randint(1, classes, clean.shape, generator=draws).to(clean.device)
    hit = _hit(clean, {k: rate for k in range(classes)}, draws)
    return torch.where(hit, (clean + steps) % classes, clean)


def _asymmetric(clean: Tensor, rate: float, to: dict[int, int], draws: Generator) -> Tensor:
    noisy = clean.clone()
    hit = _hit(clean, dict.fromkeys(to, rate), draws)
    for source, target in to.items():
        noisy[hit & (clean == source)] = target
    return noisy


def _hit(clean: Tensor, rates: dict[int, float], draws: Generator) -> Tensor:
    """Mask of a random round(rate n_k) of the n_k samples of every class k in `rates`."""
    hit = torch.zeros_like(clean, dtype=torch.bool)
    for label, rate in rates.items():
        members = torch.nonzero(clean == label).flatten()
        order = torch.randperm(len(members), generator=draws).to(clean.device)
        hit[members[order[: round(rate * len(members))]]] = True
    return hit


def _transitions(clean: Tensor, noisy: Tensor, classes: int) -> Tensor:
    counts = torch.bincount(clean * classes + noisy, minlength=classes * classes).view(classes, classes).double()
    sizes = counts.sum(1, keepdim=True)
    identity = torch.eye(classes, dtype=torch.float64, device=clean.device)
    return torch.where(sizes > 0, counts / sizes.clamp(min=1), identity)


def _rate(text: str, spec: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        raise _unreadable(spec) from None
    if not 0 <= rate <= 1:
        raise InputError("a noise rate from 0 to 1", got=repr(spec), remedy='Write 40 % as "symmetric:0.4".')
    return rate


def _default_pairs(classes: int, names: Sequence[str]) -> dict[int, int]:
    if set(_LOOKALIKES) | set(_LOOKALIKES.values()) <= set(names):
        return {names.index(source): names.index(target) for source, target in _LOOKALIKES.items()}
    return {k: (k + 1) % classes for k in range(classes)}


def _named_pairs(text: str, spec: str, classes: int, names: Sequence[str]) -> dict[int, int]:
    known = {str(k): k for k in range(classes)} | {name: k for k, name in enumerate(names)}
    pairs: dict[int, int] = {}
    for pair in text.split(","):
        source, arrow, target = (part.strip() for part in pair.partition(">"))
        if not arrow or source not in known or target not in known:
            raise InputError(
                f"pairs FROM>TO of classes 0 to {classes - 1}" + (" or their names" if names else ""),
                got=f"{pair!r} in {spec!r}",
                remedy='Write pairs like "asymmetric:0.4:1>7,7>1".',
            )
        if known[source] in pairs or source == target:
            raise InputError(
                "one other label for every class that is confused",
                got=f"{pair!r} in {spec!r}",
                remedy="Name every FROM once, and a TO that differs from it.",
            )
        pairs[known[source]] = known[target]
    return pairs


def _from_file(place: str, clean: Tensor, classes: int) -> Tensor:
    name, _, key = place.rpartition(":")
    path, key = (Path(place), "") if is_file(Path(place)) or not name else (Path(name), key)
    arrays = _integer_arrays(path, key)
    ours = arrays.pop(_CLEAN_KEY, None) if key != _CLEAN_KEY else None
    fitting = {k: array for k, array in arrays.items() if array.shape == clean.shape}
    if len(fitting) != 1:
        raise (AmbiguityError if fitting else InputError)(
            f"one array of {len(clean)} integer labels in {path.name}",
            got=", ".join(f"{k} {array.shape}" for k, array in (fitting or arrays).items()) or "none",
            remedy="Name the array as file:PATH:KEY, and read the whole data set before keeping a part of it.",
        )
    if ours is not None and not np.array_equal(ours, clean.cpu().numpy()):
        raise InputError(
            f"{path.name} in the order of the data set (its {_CLEAN_KEY} are the data set's labels)",
            got=f"arrays that differ, of {ours.shape} and {tuple(clean.shape)}",
            remedy="Use the file made for this copy of the data set; some copies hold the images in another order.",
        )
    noisy = torch.from_numpy(next(iter(fitting.values())).astype(np.int64))
    return check_labels(noisy, len(clean), classes).to(clean.device)


def _integer_arrays(path: Path, key: str) -> dict[str, np.ndarray]:
    """The integer arrays of an npz file, or the one called `key` and the clean labels."""
    try:
        check_no_pipe(path)
        archive = np.load(path, allow_pickle=False)
    except Exception as error:  # readers of damaged files raise almost anything
        # What is not numpy's own format numpy takes for a pickle, and tells how to load it in spite of that.
        why = "another format" if "pickle" in str(error) else reason(error)
        raise InputError("an npz file of labels", got=f"{path}: {why}", remedy="Write one with numpy.savez.") from error
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise InputError("an npz file of labels", got=f"the bare array {path}", remedy="Write it with numpy.savez.")
    with archive:
        if key and key not in archive.files:
            raise InputError(
                f"an array called {key!r} in {path.name}", got=", ".join(archive.files), remedy="Name one of these."
            )
        wanted = {key, _CLEAN_KEY} & set(archive.files) if key else archive.files
        try:
            arrays = {name: archive[name] for name in wanted}
        except Exception as error:  # readers of damaged files raise almost anything
            kind = UnsafeFileError if "pickle" in str(error) else InputError
            raise kind(
                f"plain integer arrays in {path.name}", got=reason(error), remedy="Save the labels as an integer array."
            ) from error
    # A member that is no array comes as bytes.
    return {name: found for name, found in arrays.items() if np.issubdtype(np.asarray(found).dtype, np.integer)}


def _unreadable(spec: str) -> InputError:
    return InputError(f"label noise, one of {', '.join(SPECS)}", got=repr(spec), remedy='For example "symmetric:0.4".')
