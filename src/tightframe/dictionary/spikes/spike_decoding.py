"""Which unit fired when, given the waveform of each: overlapping spikes are found together, not one after another."""

from __future__ import annotations

import math

import numpy as np
from scipy.ndimage import maximum_filter1d

from tightframe.dictionary.spikes.spike_atoms import PHASES, Atoms, Events, Prior

# Partial explanations kept while a group of overlapping spikes is explained anew, and samples it may move by.
_BEAM, _REACH = 4, 8
# Correlation of the rest with a waveform, in standard deviations, above which a lone spike is looked at again.
_SEEN = 3.5
# Places that look best alone, of which all pairs are tried, and pairs kept.
_ALONE, _PAIRS = 160, 8
# Spikes that one group may hold; longer ones are taken in parts.
_LARGEST = 3


def decode(signal: np.ndarray, atoms: Atoms, prior: Prior, *, sweeps: int = 2) -> Events:
    r"""The most probable spikes behind a signal whose noise is white and of unit variance.

    .. math:: \max\ -\tfrac12 \Big\|y - \sum_i g_i\, w_{u_i}(\cdot - t_i)\Big\|^2
        - \sum_i \Big(\frac{(g_i - \mu_{u_i})^2}{2 \tau^2} + \gamma_{u_i}\Big)

    over the number of spikes, their units, times (in quarters of a sample) and scales. Spikes are first added one by
    one, the most probable ones first. Then every group of overlapping ones is taken out and explained anew by up to
    one spike more than it had, following several explanations at once, until a sweep changes nothing.

    Args:
        signal: (channels, time).
        atoms: The waveforms.
        prior: mu, tau, gamma and the refractory time.
        sweeps: Over all groups, at most.

    Returns:
        Events in ascending order.

    Reference: [pillow2013model], section "Binary pursuit", for the objective and the additions one by one.
    """
    if signal.shape[1] < atoms.length:
        return _events([])
    search = _Search(atoms.correlate(signal), atoms, prior)
    search.add_greedily()
    for _ in range(sweeps):
        if not search.sweep():
            break
    return _events(search.spikes)


class _Search:
    """Spikes so far, as (place, atom, gain), and what correlates with the rest of the signal."""

    def __init__(self, correlation: np.ndarray, atoms: Atoms, prior: Prior) -> None:
        self.left, self.atoms, self.prior = correlation, atoms, prior
        self.spikes: list[tuple[int, int, float]] = []
        self.blocked = np.zeros((atoms.units, correlation.shape[1]), dtype=np.int16)
        self._last = atoms.length - 1
        self.weight = 1 / prior.spread**2
        self.mean = prior.gains[atoms.unit]
        self.root = np.sqrt(np.maximum(atoms.energy, 1e-300))
        self.curvature = atoms.energy + self.weight
        self.root_curvature = np.sqrt(self.curvature)
        self.toll = 0.5 * self.weight * self.mean**2 + prior.cost[atoms.unit]

    def add_greedily(self) -> None:
        """Add the best spikes, far from each other, until none is more probable than its absence."""
        score = self._scores(self.left, self.blocked).max(axis=0)
        width = self.atoms.length
        while True:
            peaks = np.nonzero((score > 0) & (score == maximum_filter1d(score, 2 * width - 1, mode="constant")))[0]
            if not len(peaks):
                return
            last = -width
            for place in peaks:
                if place - last < width:
                    continue
                last = place
                window = slice(place, place + 1)
                atom = int(self._scores(self.left[:, window], self.blocked[:, window])[:, 0].argmax())
                self._put((int(place), atom, self._gain(atom, place)), 1)
            for place in peaks:
                window = slice(max(place - width + 1, 0), place + width)
                score[window] = self._scores(self.left[:, window], self.blocked[:, window]).max(axis=0)

    def sweep(self) -> bool:
        """Explain every group anew; whether anything has changed."""
        self.spikes.sort()
        changed, kept = False, []
        for group in _grouped(self.spikes, self.atoms.length // 2):
            if len(group) == 1 and self._settled(group[0]):
                kept += group
                continue
            for spike in group:
                self._put(spike, -1)
            found = self._explained(group)
            changed |= [spike[:2] for spike in found] != [spike[:2] for spike in group]
            for spike in found:
                self._put(spike, 1)
            kept += found
        self.spikes = sorted(kept)
        return changed

    def _settled(self, spike: tuple[int, int, float]) -> bool:
        """Whether a lone spike leaves nothing behind that any waveform would see."""
        low, high = max(spike[0] - _REACH, 0), spike[0] + _REACH + 1
        left = np.abs(self.left[:, low:high]) / self.root[:, None]
        return bool(left.max() < _SEEN)

    def _explained(self, group: list[tuple[int, int, float]]) -> list[tuple[int, int, float]]:
        """The best explanation of what a group was taken out of: as it was, or another."""
        low = max(group[0][0] - _REACH, 0)
        high = min(group[-1][0] + _REACH + 1, self.left.shape[1])
        local, blocked = self.left[:, low:high], self.blocked[:, low:high]
        best = self._valued(local, [(place - low, atom) for place, atom, _ in group])
        states = [self._valued(local, [pair]) for pair in self._candidates(local, blocked)]
        best = max([best, *states], key=_value)
        states = [self._refined(local, blocked, pairs) for pairs in self._pairs(local, blocked)]
        for _ in range(2, len(group) + 2):
            states = sorted(_distinct(states), key=_value)[-_BEAM:]
            if not states or (_value(states[-1]) <= _value(best) and len(states[-1][1]) > len(group)):
                break
            best = max(best, states[-1], key=_value)
            states = [
                self._refined(local, blocked, [*pairs, pair])
                for _, pairs, gains in states
                for pair in self._candidates(self._without(local, pairs, gains), self._blocked_by(blocked, pairs))[
                    :_BEAM
                ]
            ]
        value, pairs, gains = best
        if value <= 0:
            return []
        return sorted((low + place, atom, float(gain)) for (place, atom), gain in zip(pairs, gains, strict=True))

    def _pairs(self, local: np.ndarray, blocked: np.ndarray) -> list[list[tuple[int, int]]]:
        """The best two spikes of all pairs, at one phase of each unit and the places that look best alone."""
        middle = np.arange(self.atoms.units) * PHASES + PHASES // 2
        score = self._scores(local, blocked)[middle]
        units, places = np.unravel_index(np.argsort(-score, axis=None)[:_ALONE], score.shape)
        finite = np.isfinite(score[units, places])
        atoms, places = middle[units[finite]], places[finite]
        lags = places[None, :] - places[:, None]
        cross = self.atoms.overlap[atoms[:, None], atoms[None, :], np.clip(lags, -self._last, self._last) + self._last]
        cross = np.where(np.abs(lags) <= self._last, cross, 0.0)
        target, own = local[atoms, places] + self.weight * self.mean[atoms], self.curvature[atoms]
        determinant = np.maximum(own[:, None] * own - cross**2, 1e-9)
        first = (own * target[:, None] - cross * target) / determinant
        value = 0.5 * (target[:, None] * first + target * first.T) - self.toll[atoms][:, None] - self.toll[atoms]
        same = (atoms[:, None] == atoms) & (np.abs(lags) <= self.prior.refractory)
        value[same | (first <= 0) | (first.T <= 0) | np.tri(len(atoms), dtype=bool)] = -np.inf
        found, taken = [], value.copy()
        for _ in range(_PAIRS):
            i, j = np.unravel_index(taken.argmax(), taken.shape)
            if not np.isfinite(taken[i, j]):
                break
            found.append([(int(places[i]), int(atoms[i])), (int(places[j]), int(atoms[j]))])
            # The next one is another explanation, not the same a sample later.
            alike = (atoms == atoms[i]) & (np.abs(places - places[i]) <= 2)
            taken[np.ix_(alike, (atoms == atoms[j]) & (np.abs(places - places[j]) <= 2))] = -np.inf
        return found

    def _refined(
        self, local: np.ndarray, blocked: np.ndarray, pairs: list[tuple[int, int]]
    ) -> tuple[float, list, np.ndarray]:
        """Spikes moved one after another, by up to two samples, to where they are the most probable."""
        state = self._valued(local, pairs)
        for _ in range(2):
            before = state
            for number in range(len(pairs)):
                _, now, gains = state
                others = [pair for index, pair in enumerate(now) if index != number]
                place, atom = now[number]
                first = max(place - 2, 0)
                own = slice(atom // PHASES * PHASES, (atom // PHASES + 1) * PHASES)
                rest = self._near(local, others, np.delete(gains, number), own, slice(first, place + 3))
                score = np.maximum(rest + self.weight * self.mean[atom], 0.0) / self.root_curvature[own, None]
                phase, step = divmod(int(score.argmax()), score.shape[1])
                if (first + step, own.start + phase) == (place, atom):
                    continue
                moved = [*now[:number], (first + step, own.start + phase), *now[number + 1 :]]
                state = max(state, self._valued(local, moved), key=_value)
            if _value(state) <= _value(before) + 1e-3:
                break
        return state

    def _near(
        self, local: np.ndarray, pairs: list[tuple[int, int]], gains: np.ndarray, atoms: slice, places: slice
    ) -> np.ndarray:
        """What correlates with some atoms at some places when spikes have been taken out."""
        rest = local[atoms, places].copy()
        for (place, atom), gain in zip(pairs, gains, strict=True):
            begin = places.start - place + self._last
            first, last = max(begin, 0), min(begin + rest.shape[1], 2 * self._last + 1)
            if first < last:
                rest[:, first - begin : last - begin] -= gain * self.atoms.overlap[atom, atoms, first:last]
        return rest

    def _valued(self, local: np.ndarray, pairs: list[tuple[int, int]]) -> tuple[float, list, np.ndarray]:
        """Logarithm of the odds of some spikes, at their best gains."""
        overlap, last, count = self.atoms.overlap, self._last, len(pairs)
        target = np.array([local[atom, place] + self.weight * self.mean[atom] for place, atom in pairs])
        gram = np.empty((count, count))
        for i, (place, atom) in enumerate(pairs):
            gram[i, i] = self.curvature[atom]
            for j in range(i):
                lag = pairs[j][0] - place
                gram[i, j] = gram[j, i] = overlap[atom, pairs[j][1], last + lag] if abs(lag) <= last else 0.0
        if count == 1:
            gains = target / gram[0, 0]
        elif count == 2:
            determinant = gram[0, 0] * gram[1, 1] - gram[0, 1] ** 2
            gains = (gram[::-1, ::-1].diagonal() * target - gram[0, 1] * target[::-1]) / max(determinant, 1e-9)
        else:
            gains = np.linalg.solve(gram, target)
        if gains.min() <= 0:
            return -math.inf, pairs, gains
        return float(0.5 * gains @ target) - sum(self.toll[atom] for _, atom in pairs), pairs, gains

    def _without(self, local: np.ndarray, pairs: list[tuple[int, int]], gains: np.ndarray) -> np.ndarray:
        rest, width = local.copy(), local.shape[1]
        for (place, atom), gain in zip(pairs, gains, strict=True):
            begin, end = max(place - self.atoms.length + 1, 0), min(place + self.atoms.length, width)
            offset = self.atoms.length - 1 - place
            rest[:, begin:end] -= gain * self.atoms.overlap[atom, :, begin + offset : end + offset]
        return rest

    def _candidates(self, rest: np.ndarray, blocked: np.ndarray) -> list[tuple[int, int]]:
        """The most promising further spikes: peaks of the score of each unit."""
        score = self._scores(rest, blocked).reshape(self.atoms.units, PHASES, -1)
        phase = score.argmax(axis=1)
        score = score.max(axis=1)
        padded = np.pad(score, ((0, 0), (1, 1)), constant_values=-np.inf)
        peaks = (score >= padded[:, :-2]) & (score > padded[:, 2:]) & np.isfinite(score)
        units, places = np.nonzero(peaks)
        order = np.argsort(-score[units, places])[: 2 * _BEAM]
        return [(int(places[i]), int(units[i] * PHASES + phase[units[i], places[i]])) for i in order]

    def _blocked_by(self, blocked: np.ndarray, pairs: list[tuple[int, int]]) -> np.ndarray:
        if not pairs:
            return blocked
        more = blocked.copy()
        for place, atom in pairs:
            more[atom // PHASES, max(place - self.prior.refractory, 0) : place + self.prior.refractory + 1] += 1
        return more

    def _scores(self, rest: np.ndarray, blocked: np.ndarray) -> np.ndarray:
        """(atoms, places): by how much a spike there raises the logarithm of the probability."""
        target = rest + (self.weight * self.mean)[:, None]
        score = 0.5 * np.square(np.maximum(target, 0.0)) / self.curvature[:, None] - self.toll[:, None]
        score[np.repeat(blocked > 0, PHASES, axis=0)] = -np.inf
        return score

    def _gain(self, atom: int, place: int) -> float:
        return float((self.left[atom, place] + self.weight * self.mean[atom]) / self.curvature[atom])

    def _put(self, spike: tuple[int, int, float], sign: int) -> None:
        place, atom, gain = spike
        width = self.atoms.length
        begin, end = max(place - width + 1, 0), min(place + width, self.left.shape[1])
        offset = width - 1 - place
        self.left[:, begin:end] -= sign * gain * self.atoms.overlap[atom, :, begin + offset : end + offset]
        reach = self.prior.refractory
        self.blocked[atom // PHASES, max(place - reach, 0) : place + reach + 1] += sign
        if sign > 0:
            self.spikes.append(spike)


def _value(state: tuple[float, list, np.ndarray]) -> float:
    return state[0]


def _distinct(states: list[tuple[float, list, np.ndarray]]) -> list[tuple[float, list, np.ndarray]]:
    return list({tuple(sorted(state[1])): state for state in states if np.isfinite(state[0])}.values())


def _grouped(spikes: list[tuple[int, int, float]], gap: int) -> list[list[tuple[int, int, float]]]:
    """Runs of spikes with gaps below `gap`, at most _LARGEST in each."""
    groups: list[list[tuple[int, int, float]]] = []
    for spike in spikes:
        if groups and spike[0] - groups[-1][-1][0] < gap and len(groups[-1]) < _LARGEST:
            groups[-1].append(spike)
        else:
            groups.append([spike])
    return groups


def _events(spikes: list[tuple[int, int, float]]) -> Events:
    columns = np.array(sorted(spikes), dtype=np.float64).reshape(-1, 3)
    atoms = columns[:, 1].astype(np.int64)
    return Events(columns[:, 0].astype(np.int64), atoms // PHASES, atoms % PHASES, columns[:, 2])
