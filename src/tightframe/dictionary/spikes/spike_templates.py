"""Waveforms of units, learned: first guesses from detected spikes, refits, units taken apart and put together."""

from __future__ import annotations

import math

import numpy as np
from scipy.linalg import eigh
from scipy.ndimage import maximum_filter1d

from tightframe.dictionary.spikes.spike_atoms import PHASES, Atoms, Events, fractions, shifted

# Two units of one waveform differ less than this many standard deviations of the noise between their means.
_APART = 2.3
# Gain in log-likelihood for which two clusters are believed, per parameter and logarithm of the count.
_BELIEF = 3.0
# Principal components that snippets are clustered by.
_FEATURES = 8


def detected(signal: np.ndarray, threshold: float, dead: int) -> np.ndarray:
    """Samples at which the modulus of a signal (channels, time) of unit noise peaks above a threshold, `dead` apart."""
    size = np.abs(signal).max(axis=0)
    return np.nonzero((size > threshold) & (size == maximum_filter1d(size, 2 * dead + 1)))[0]


def snippets(signal: np.ndarray, starts: np.ndarray, length: int) -> np.ndarray:
    """(n, channels, length) from a signal (channels, time), which holds them as a whole."""
    return signal[:, starts[:, None] + np.arange(length)].transpose(1, 0, 2)


def first_waves(
    signal: np.ndarray, peaks: np.ndarray, *, before: int, length: int, clusters: int, seed: int
) -> np.ndarray:
    """Means of clusters of snippets around peaks, aligned to a fraction of a sample; (clusters, channels, length)."""
    from sklearn.cluster import KMeans

    fits = (peaks >= before + 1) & (peaks < signal.shape[1] - length - 1)
    peaks = peaks[fits]
    alone = np.diff(peaks, prepend=-length, append=signal.shape[1] + length)
    alone = np.minimum(alone[:-1], alone[1:]) > length // 2
    if alone.sum() >= 3 * clusters:
        peaks = peaks[alone]
    cut = snippets(signal, peaks - before, length)
    cut = shifted(cut, -_between(signal, peaks)[:, None])
    flat = cut.reshape(len(cut), -1)
    centered = flat - flat.mean(axis=0)
    features = centered @ principal_axes(centered, min(_FEATURES, *centered.shape)).T
    count = min(clusters, max(len(cut) // 5, 1))
    labels = KMeans(count, n_init=4, random_state=seed).fit_predict(features)
    return np.stack([np.median(cut[labels == label], axis=0) for label in range(count) if (labels == label).any()])


def principal_axes(centered: np.ndarray, count: int) -> np.ndarray:
    """(count, d), the directions in which rows (n, d) of mean zero vary most, the first one first."""
    size = len(centered.T)
    _, axes = eigh(centered.T @ centered, subset_by_index=[size - count, size - 1])
    return axes.T[::-1]


def refitted(rest: np.ndarray, atoms: Atoms, events: Events) -> np.ndarray:
    r"""One half-step in the waveforms: each becomes the mean of what the others leave of its spikes.

    .. math:: w_u \leftarrow \frac{\sum_i g_i\, S_{-t_i}\big(r + g_i S_{t_i} w_u\big)}{\sum_i g_i^2}

    over the spikes i of unit u, where r = `rest` is what no spike explains and S_t a shift by t. Units that have no
    spikes keep their waveform.
    """
    total, weight = np.zeros((atoms.units, atoms.channels, atoms.length)), np.zeros(atoms.units)
    steps = fractions()
    for unit in range(atoms.units):
        for phase in range(PHASES):
            mine = events.select((events.units == unit) & (events.phases == phase))
            if len(mine):
                total[unit] += shifted(np.einsum("n,nct->ct", mine.gains, cleaned(rest, atoms, mine)), -steps[phase])
                weight[unit] += np.square(mine.gains).sum()
    kept = atoms.waves.reshape(atoms.units, PHASES, atoms.channels, atoms.length)
    kept = shifted(kept, -steps[:, None]).mean(axis=1)
    seen = weight > 0
    kept[seen] = total[seen] / weight[seen, None, None]
    return kept


def cleaned(rest: np.ndarray, atoms: Atoms, events: Events) -> np.ndarray:
    """(n, channels, length): each event as it would look without the others."""
    own = atoms.waves[events.units * PHASES + events.phases] * events.gains[:, None, None]
    return snippets(rest, events.places, atoms.length) + own


def recentered(waves: np.ndarray, before: int) -> np.ndarray:
    """Every wave moved by whole samples so that its largest modulus lies at sample `before`; zeros come in."""
    peaks = np.abs(waves).max(axis=1).argmax(axis=1)
    return np.stack([_rolled(wave, before - peak) for wave, peak in zip(waves, peaks, strict=True)])


def two_groups(values: np.ndarray) -> np.ndarray | None:
    """Which of two groups every value belongs to, or None where one normal distribution serves as well.

    Values are in the order of time: a slow drift is taken out first, so that one group that moves does not look like
    two.
    """
    count = len(values)
    if count < 16:
        return None
    width = int(np.clip(count // 10, 11, 101)) | 1
    smooth = np.convolve(np.pad(values, width // 2, mode="reflect"), np.full(width, 1 / width), mode="valid")
    drifting = values - smooth
    single = -count * math.log(max(drifting.std(), 1e-12)) - 0.5 * count
    best, labels = -math.inf, None
    # From the middle of the range and from either side of it: groups may differ in size.
    for share in (0.5, 0.2, 0.8):
        cut = np.quantile(drifting, share)
        found = _pair_of_normals(drifting, cut)
        if found is not None and found[0] > best:
            best, labels = found
    if labels is None or best - single < _BELIEF * math.log(count):
        return None
    groups = [drifting[labels], drifting[~labels]]
    if min(map(len, groups)) < 8:
        return None
    spread = math.sqrt(sum(((group - group.mean()) ** 2).sum() for group in groups) / count)
    return labels if abs(groups[0].mean() - groups[1].mean()) > _APART * spread else None


def _pair_of_normals(values: np.ndarray, cut: float) -> tuple[float, np.ndarray] | None:
    """Log-likelihood and assignment of two normals of one width, by expectation-maximisation from a cut."""
    upper = (values > cut).astype(np.float64)
    for _ in range(60):
        share = upper.mean()
        if not 0.01 < share < 0.99:
            return None
        means = np.array([((1 - upper) @ values) / (1 - upper).sum(), (upper @ values) / upper.sum()])
        variance = ((1 - upper) @ (values - means[0]) ** 2 + upper @ (values - means[1]) ** 2) / len(values)
        if variance <= 0:
            return None
        log = -0.5 * (values[:, None] - means) ** 2 / variance + np.log([1 - share, share])
        top = log.max(axis=1)
        evidence = top + np.log(np.exp(log - top[:, None]).sum(axis=1))
        before, upper = upper, np.exp(log[:, 1] - evidence)
        if np.abs(upper - before).max() < 1e-4:
            break
    # Without the constants that a single normal has too.
    return float(evidence.sum() - 0.5 * len(values) * math.log(variance)), upper > 0.5


def _between(signal: np.ndarray, peaks: np.ndarray) -> np.ndarray:
    """Where between samples a peak lies, by a parabola through three samples on its largest channel."""
    channel = np.abs(signal[:, peaks]).argmax(axis=0)
    left, middle, right = (np.abs(signal[channel, peaks + step]) for step in (-1, 0, 1))
    bend = left - 2 * middle + right
    return np.where(bend < 0, np.clip(0.5 * (left - right) / np.where(bend < 0, bend, -1.0), -0.5, 0.5), 0.0)


def _rolled(wave: np.ndarray, by: int) -> np.ndarray:
    moved = np.zeros_like(wave)
    if by >= 0:
        moved[:, by:] = wave[:, : wave.shape[1] - by]
    else:
        moved[:, :by] = wave[:, -by:]
    return moved
