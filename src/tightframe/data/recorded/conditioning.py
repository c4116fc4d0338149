"""What spike sorting does to a recording first: band-pass, robust noise level, whitening across channels."""

from __future__ import annotations

import math

import numpy as np

from tightframe.core.checks import check_count
from tightframe.core.errors import DegenerateError, InputError
from tightframe.data.recorded.recordings import Recording

# Median of the modulus of a standard normal variable.
_MEDIAN_MODULUS = 0.6744897501960817
# Statistics look at so many samples at most, in blocks spread over the recording.
_LOOKED_AT, _BLOCKS = 1_000_000, 20


def band_pass(
    recording: Recording, *, low: float = 300.0, high: float = 6000.0, order: int = 3, chunk: float = 10.0
) -> Recording:
    """Frequencies between `low` and `high` without any delay: a Butterworth filter run forwards and backwards.

    Long recordings are filtered in chunks, each with a margin in which the filter forgets its start: results are those
    of the whole to within rounding, and memory beyond the result is that of a chunk.

    Args:
        recording: What was recorded.
        low: Hz, at -6 dB (twice the 3 dB of one pass).
        high: Hz; at or above half the sampling rate there is no upper limit.
        order: Of one pass.
        chunk: Seconds filtered at a time.

    Returns:
        The filtered recording, float64 from float64 and float32 from everything else.

    Raises:
        InputError: A band that is empty or reaches no frequency of the recording, NaN, or a recording shorter than
            the margin that the filter pads its ends with.
    """
    from scipy.signal import butter, sosfiltfilt

    half = recording.rate / 2
    if not (0 < low < high and low < half and chunk > 0):
        raise InputError(
            f"0 < low < high, low below {half:g} Hz, and a positive chunk",
            got=f"low={low}, high={high}, chunk={chunk}",
            remedy="Use 300 to 6000 Hz; check the sampling rate.",
        )
    check_count(order, "order")
    kind, band = ("bandpass", (low, high)) if high < half else ("highpass", low)
    sections = butter(order, band, kind, fs=recording.rate, output="sos")
    values, count = recording.values, recording.values.shape[1]
    margin = math.ceil(_forgetting(sections))
    # Three times the length of the filter, whose order a band doubles.
    padding = 3 * (1 + order * (2 if kind == "bandpass" else 1))
    if count <= padding:
        raise InputError(
            f"more than {padding} samples", got=f"{count}", remedy="Filter before cutting the recording up."
        )
    filtered = np.empty(values.shape, dtype=np.float64 if values.dtype == np.float64 else np.float32)
    step = max(int(chunk * recording.rate), margin)
    for start in range(0, count, step):
        first, last = max(start - margin, 0), min(start + step + margin, count)
        if last - first <= padding:
            first = max(last - padding - 1, 0)
        part = np.asarray(values[:, first:last], dtype=np.float64)
        if not np.isfinite(part).all():
            raise InputError("a finite recording", got="NaN or inf", remedy="Fill the gaps first.")
        result = sosfiltfilt(sections, part, axis=1, padlen=padding)
        filtered[:, start : start + step] = result[:, start - first : min(start + step, count) - first]
    return Recording(filtered, recording.rate, recording.name)


def noise_level(recording: Recording) -> np.ndarray:
    r"""Standard deviation of the noise of every channel, hardly raised by spikes.

    .. math:: \hat\sigma_c = \mathrm{median}_t\, |v_c(t) - \mathrm{median}\, v_c| \;/\; 0.6745

    Args:
        recording: Band-passed, for the noise that detection has to do with.

    Returns:
        (channels,), float64; from a million samples spread over a longer recording.

    Raises:
        DegenerateError: A channel is constant in more than half of the samples (not connected, or clipped).

    Reference: [quiroga2004unsupervised], the threshold of its spike detection.
    """
    looked_at = _spread(recording)
    deviation = np.abs(looked_at - np.median(looked_at, axis=1, keepdims=True))
    level = np.median(deviation, axis=1) / _MEDIAN_MODULUS
    if not level.all():
        dead = ", ".join(map(str, np.nonzero(level == 0)[0]))
        raise DegenerateError(
            "channels that vary", got=f"channel {dead} constant in most samples", remedy="Leave these channels out."
        )
    return level


def whitening(recording: Recording, *, threshold: float = 4.0) -> np.ndarray:
    r"""The symmetric matrix that makes the noise of the channels uncorrelated, of unit variance.

    .. math:: W = \Sigma^{-1/2}

    where Sigma is the covariance of the samples at which no channel exceeds `threshold` noise levels, so that spikes
    do not count as noise. Apply it as `W @ recording.values`; templates are multiplied likewise.

    Args:
        recording: Band-passed.
        threshold: Noise levels from the median at which a sample counts as part of a spike.

    Returns:
        (channels, channels), float64.

    Raises:
        DegenerateError: Channels that are constant, or linearly dependent (one a copy of another, or all referenced
            to their mean).
        InputError: A threshold that is not positive.
    """
    if not (math.isfinite(threshold) and threshold > 0):
        raise InputError("a positive threshold", got=repr(threshold), remedy="Use 4.")
    level = noise_level(recording)
    looked_at = _spread(recording)
    looked_at = looked_at - np.median(looked_at, axis=1, keepdims=True)
    quiet = looked_at[:, (np.abs(looked_at) <= threshold * level[:, None]).all(axis=0)]
    if quiet.shape[1] <= recording.channels:
        raise DegenerateError(
            "more quiet samples than channels", got=f"{quiet.shape[1]}", remedy="Raise the threshold or record longer."
        )
    # Scaled first, so that channels in different units do not look dependent.
    scaled = quiet / level[:, None]
    values, vectors = np.linalg.eigh(np.atleast_2d(np.cov(scaled)))
    if values[0] < 1e-10 * values[-1]:
        raise DegenerateError(
            "linearly independent channels",
            got=f"a covariance with eigenvalues from {values[0]:.2g} to {values[-1]:.2g}",
            remedy="Leave out copies of a channel, and one channel after a common average reference.",
        )
    # Sigma = L C L with L the levels; its symmetric root needs its own eigenvectors.
    values, vectors = np.linalg.eigh(np.atleast_2d(np.cov(quiet)))
    return (vectors / np.sqrt(values)) @ vectors.T


def _spread(recording: Recording) -> np.ndarray:
    """At most a million samples in blocks evenly spread over the recording, float64 (channels, samples)."""
    count = recording.values.shape[1]
    if count <= _LOOKED_AT:
        part = np.asarray(recording.values, dtype=np.float64)
    else:
        length = _LOOKED_AT // _BLOCKS
        starts = np.linspace(0, count - length, _BLOCKS).astype(np.int64)
        part = np.concatenate([recording.values[:, start : start + length] for start in starts], axis=1)
        part = part.astype(np.float64)
    if not np.isfinite(part).all():
        raise InputError("a finite recording", got="NaN or inf", remedy="Fill the gaps first.")
    return part


def _forgetting(sections: np.ndarray) -> float:
    """Samples after which the slowest pole of a filter is below rounding."""
    radius = max(np.abs(np.roots(section[3:])).max() for section in sections)
    return math.log(np.finfo(np.float64).eps / 16) / math.log(radius)
