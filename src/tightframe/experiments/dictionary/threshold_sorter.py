"""The plainest spike sorter, to put beside: threshold, principal components, a mixture of normals."""

from __future__ import annotations

import numpy as np

from tightframe.data.recorded.conditioning import band_pass, noise_level
from tightframe.data.recorded.recordings import Recording
from tightframe.data.recorded.spikes import Spikes

_COMPONENTS, _MOST_UNITS = 5, 8


def threshold_sorting(
    recording: Recording, *, units: int | None = None, threshold: float = 4.0, seed: int = 0
) -> Spikes:
    """Troughs below a threshold, clustered by the first principal components of their waveforms.

    Args:
        recording: What was recorded.
        units: How many; chosen up to eight by the Bayesian information criterion when absent.
        threshold: Noise levels.
        seed: Of the mixture.

    Returns:
        Spikes at the samples of the troughs; none where fewer than ten are found.

    Reference: [quiroga2004unsupervised], for threshold and alignment; [lewicki1998review], for the mixture.
    """
    from scipy.ndimage import maximum_filter1d
    from sklearn.decomposition import PCA
    from sklearn.mixture import GaussianMixture

    values = band_pass(recording, high=recording.rate).values.astype(np.float64)
    # Troughs alone: a spike is not found a second time at its hump, nor aligned to it.
    depth = (-values / noise_level(Recording(values, recording.rate))[:, None]).max(axis=0)
    before, after = round(0.5e-3 * recording.rate), round(1e-3 * recording.rate)
    peaks = np.nonzero((depth > threshold) & (depth == maximum_filter1d(depth, 2 * before + 1)))[0]
    peaks = peaks[(peaks >= before) & (peaks < values.shape[1] - after)]
    if len(peaks) < 10:
        return Spikes(np.empty(0), np.empty(0, dtype=np.int64))
    cut = values[:, peaks[:, None] + np.arange(-before, after)].transpose(1, 0, 2).reshape(len(peaks), -1)
    features = PCA(min(_COMPONENTS, *cut.shape), random_state=seed).fit_transform(cut)
    counts = range(1, _MOST_UNITS + 1) if units is None else (units,)
    fits = [GaussianMixture(count, n_init=5, random_state=seed).fit(features) for count in counts]
    best = fits[0] if len(fits) == 1 else min(fits, key=lambda fit: fit.bic(features))
    return Spikes(peaks / recording.rate, best.predict(features))
