"""Which spikes belong to one unit: units dropped, put together and taken apart by what their spikes look like alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tightframe.dictionary.spikes.spike_atoms import PHASES, Atoms, Events, Prior, fractions, shifted
from tightframe.dictionary.spikes.spike_decoding import decode
from tightframe.dictionary.spikes.spike_templates import cleaned, principal_axes, two_groups

# Spikes a unit must have.
_FEWEST = 12
# Two waveforms whose difference has more than this share of the larger one's energy are those of two units.
_ALIKE = 0.5
# A waveform is a superposition where two others leave less than this share of its energy.
_EXPLAINED = 0.15
# Chance makes units fire together at one distance this much more rarely than alone.
_RARER = 0.3
# Samples by which one waveform is moved to compare it with another.
_LAGS = np.arange(-12 * PHASES, 12 * PHASES + 1) / PHASES
# Spikes of each of two units that it takes to see two groups; of fewer, waveforms this many standard deviations apart
# are those of two units.
_TOLD_APART, _FAR = 10, 6.0
# Samples at the ends of a waveform that an interpolated shift disturbs.
_RINGING = 3


class Population:
    """Spikes of a whitened signal, each cleaned of the others, and the unit that each belongs to.

    Args:
        rest: (channels, time), what no spike explains.
        atoms: The waveforms that explained the rest.
        events: Spikes; those cut by the ends of the signal are left out.
    """

    def __init__(self, rest: np.ndarray, atoms: Atoms, events: Events) -> None:
        inside = events.select((events.places >= 0) & (events.places <= rest.shape[1] - atoms.length))
        self.snippets: NDArray[Any] = shifted(cleaned(rest, atoms, inside), -fractions()[inside.phases][:, None])
        self.time: int = rest.shape[1]
        self.units: NDArray[Any] = inside.units.copy()
        self.gains: NDArray[Any] = inside.gains
        gaps = np.diff(inside.places, prepend=-atoms.length, append=rest.shape[1])
        self.alone: NDArray[Any] = np.minimum(gaps[:-1], gaps[1:]) > atoms.length // 2

    @property
    def labels(self) -> list[int]:
        """Units that have spikes."""
        return np.unique(self.units).tolist()

    def count(self, unit: int) -> int:
        """Spikes of a unit."""
        return int((self.units == unit).sum())

    def wave(self, unit: int) -> np.ndarray:
        r"""(channels, samples), the best waveform of its spikes: sum g s / sum g^2, at the median g."""
        mine = self.units == unit
        gains = self.gains[mine]
        total = np.einsum("n,nct->ct", gains, self.snippets[mine])
        return total / np.square(gains).sum() * np.median(gains)

    def drop_weak(self) -> None:
        """Leave out units with few spikes, and those that explain less than describing them costs.

        A spike explains half the energy of its waveform, less what the waveform took from the noise, and costs the
        logarithm of its odds; a waveform costs that of the samples it was learned on for every two of its own.
        """
        for unit in self.labels:
            wave, count = self.wave(unit), self.count(unit)
            energy = np.square(wave).sum() - wave.size / count
            explained = count * (0.5 * energy - np.log(self.time * PHASES / count))
            if count < _FEWEST or explained < 0.5 * wave.shape[1] * np.log(count * wave.shape[1]):
                self._leave_out(unit)

    def drop_superpositions(self, prior: Prior) -> None:
        """Leave out units, the rarest first, whose waveform is that of two or three others fired together."""
        for unit in sorted(self.labels, key=self.count):
            others = [other for other in self.labels if other != unit]
            if len(others) < 2:
                return
            wave, atoms = self.wave(unit), Atoms(np.stack([self.wave(other) for other in others]))
            signal = np.pad(wave, ((0, 0), (atoms.length, atoms.length)))
            here = replace(prior, cost=np.full(len(others), prior.cost.min()), gains=np.ones(len(others)))
            found = decode(signal, atoms, here)
            rest = signal - atoms.synthesize(found, signal.shape[1])
            rarer = all(self.count(unit) < _RARER * self.count(others[part]) for part in found.units)
            if len(found) > 1 and rarer and np.square(rest).sum() < _EXPLAINED * np.square(wave).sum():
                self._leave_out(unit)

    def join(self) -> int:
        """Put units together whose spikes are one group along the difference of their waveforms; how often."""
        joined, settled = 0, set()
        while True:
            pairs = [pair for pair in self._near() if (pair[2], pair[3]) not in settled]
            if not pairs:
                return joined
            _, lag, one, two = pairs[0]
            if self._apart(one, two, lag):
                settled.add((one, two))
                continue
            self._put_together(one, two, lag)
            settled = {pair for pair in settled if one not in pair and two not in pair}
            joined += 1

    def take_apart(self) -> int:
        """Split units whose spikes fall in two groups along the direction in which they vary most; how often."""
        split = 0
        for unit in self.labels:
            mine = np.nonzero(self.units == unit)[0]
            values = self._principal(mine)
            groups = two_groups(values)
            if groups is not None and min(groups.sum(), (~groups).sum()) >= _FEWEST:
                self.units[mine[groups]] = self.units.max() + 1
                split += 1
        return split

    def force(self, wanted: int) -> None:
        """Put the most similar units together, or cut the most variable ones in two, until there are `wanted`."""
        while len(self.labels) > wanted:
            _, lag, one, two = min(self._pairs())
            self._put_together(one, two, lag)
        while len(self.labels) < wanted:
            spreads = {}
            for unit in self.labels:
                mine = np.nonzero(self.units == unit)[0]
                spreads[unit] = float(self._principal(mine).var()) if len(mine) >= 2 * _FEWEST else 0.0
            unit = max(spreads, key=spreads.get)
            if spreads[unit] == 0:
                return
            mine = np.nonzero(self.units == unit)[0]
            values = self._principal(mine)
            self.units[mine[values > np.median(values)]] = self.units.max() + 1

    def _leave_out(self, unit: int) -> None:
        keep = self.units != unit
        self.snippets, self.units = self.snippets[keep], self.units[keep]
        self.gains, self.alone = self.gains[keep], self.alone[keep]

    def _put_together(self, one: int, two: int, lag: float) -> None:
        mine = self.units == two
        self.snippets[mine] = shifted(self.snippets[mine], lag)
        self.units[mine] = one

    def _pairs(self) -> list[tuple[float, float, int, int]]:
        """(energy of the difference over the larger energy, lag, one, two) of all pairs, at the best lag."""
        labels, found = self.labels, []
        waves = {unit: self.wave(unit) for unit in labels}
        for i, one in enumerate(labels):
            for two in labels[i + 1 :]:
                larger = max(np.square(waves[unit]).sum() for unit in (one, two))
                moved = shifted(waves[two][None], _LAGS[:, None])
                distances = np.square(waves[one] - moved).sum(axis=(1, 2)) / larger
                best = int(distances.argmin())
                found.append((float(distances[best]), float(_LAGS[best]), one, two))
        return found

    def _near(self) -> list[tuple[float, float, int, int]]:
        return sorted(pair for pair in self._pairs() if pair[0] < _ALIKE)

    def _apart(self, one: int, two: int, lag: float) -> bool:
        both = [self._preferred(np.nonzero(self.units == unit)[0]) for unit in (one, two)]
        mine = np.sort(np.concatenate(both))
        cut, late = self.snippets[mine], self.units[mine] == two
        cut[late] = shifted(cut[late], lag)
        # Shifts bring zeros in, which only the ends of the later unit's would have.
        edge = int(np.ceil(abs(lag))) + _RINGING
        cut = _unaligned(cut[..., edge : cut.shape[-1] - edge])
        numbers = np.array([late.sum(), (~late).sum()])
        if numbers.min() < _TOLD_APART:
            difference = cut[late].mean(axis=0) - cut[~late].mean(axis=0)
            # Less what the noise of two means makes of it.
            return np.square(difference).sum() - cut.shape[1] * (1 / numbers).sum() > _FAR**2
        # A mean holds a part of the noise of every spike in it, so each half is seen along the other's difference.
        half, values = np.cumsum(late) % 2 == 0, np.zeros(len(mine))
        half = np.where(late, half, np.cumsum(~late) % 2 == 0)
        for here in (half, ~half):
            means = [cut[~here & part].mean(axis=0) for part in (late, ~late)]
            direction = (means[0] - means[1]) / max(np.linalg.norm(means[0] - means[1]), 1e-300)
            values[here] = (cut[here] - 0.5 * (means[0] + means[1])) @ direction
        return two_groups(values) is not None

    def _preferred(self, mine: np.ndarray) -> np.ndarray:
        """Spikes far from others, where they are enough of them."""
        alone = mine[self.alone[mine]]
        return alone if len(alone) >= _TOLD_APART else mine

    def _principal(self, mine: np.ndarray) -> np.ndarray:
        """(n,), the spikes along the direction in which those far from others vary most."""
        flat = _unaligned(self.snippets[mine])
        flat = flat - flat.mean(axis=0)
        reference = flat[np.isin(mine, self._preferred(mine))]
        return flat @ principal_axes(reference - reference.mean(axis=0), 1)[0]


def _unaligned(cut: np.ndarray) -> np.ndarray:
    """Snippets (n, channels, samples) as rows, without what a shift in time changes.

    Every spike was aligned to its own unit's waveform: along the derivative, units differ by how they were aligned.
    """
    slope = np.gradient(cut.mean(axis=0), axis=-1).reshape(-1)
    slope /= max(np.linalg.norm(slope), 1e-300)
    rows = cut.reshape(len(cut), -1)
    return rows - np.outer(rows @ slope, slope)
