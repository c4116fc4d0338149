"""Units of a spike sorting: told apart, joined, split and dropped by what their spikes look like."""

from __future__ import annotations

import numpy as np

from tightframe.data.recorded.waveforms import analytic_templates
from tightframe.dictionary.spikes.spike_atoms import PHASES, Atoms, Events, Prior, shifted
from tightframe.dictionary.spikes.spike_learning import without_companions
from tightframe.dictionary.spikes.spike_templates import two_groups
from tightframe.dictionary.spikes.spike_units import Population

WAVES = analytic_templates(3, 24_000.0, milliseconds=2.0)


def events(*rows):
    """Events from (place, unit, phase, gain)."""
    columns = np.array(sorted(rows), dtype=np.float64).reshape(-1, 4)
    whole = columns[:, :3].astype(np.int64)
    return Events(whole[:, 0], whole[:, 1], whole[:, 2], columns[:, 3])


def prior(units, *, cost=8.0, spread=0.1, refractory=20):
    return Prior(np.full(units, cost), np.ones(units), spread, refractory)


def test_two_groups_are_told_from_one_and_from_a_drift():
    source = np.random.default_rng(0)
    one = source.standard_normal(400)
    assert two_groups(one) is None
    assert two_groups(one + 4 * np.sin(np.arange(400) / 60)) is None
    labels = source.random(400) < 0.3
    found = two_groups(one + 6 * labels)
    assert found is not None
    assert min((found != labels).mean(), (found == labels).mean()) < 0.02
    assert two_groups(np.arange(10.0)) is None


def _population(waves, units, *, seed=0, count=80, noise=1.0):
    """Spikes of two waves far from each other, labelled by `units(true)`."""
    source = np.random.default_rng(seed)
    true = source.integers(0, len(waves), count)
    atoms = Atoms(waves)
    found = Events(100 * np.arange(count) + 20, true, source.integers(0, PHASES, count), np.ones(count))
    rest = noise * source.standard_normal((1, 100 * count + 100))
    population = Population(rest, atoms, found)
    population.units = units(true, source)
    return population, true


def test_units_cut_in_two_are_joined_and_different_ones_are_not():
    waves = 10 * WAVES[:2]
    population, true = _population(waves, lambda true, source: 2 * true + source.integers(0, 2, len(true)), count=200)
    assert population.join() == 2
    assert len(population.labels) == 2
    for unit in population.labels:
        assert len(np.unique(true[population.units == unit])) == 1


def test_units_of_few_spikes_are_told_by_the_noise():
    for size, joined in ((10, 0), (0.5, 1)):
        waves = np.stack([10 * WAVES[0], 10 * WAVES[0] + size * WAVES[1]])
        population, _ = _population(waves, lambda true, source: true, count=14)
        assert population.join() == joined


def test_units_that_were_mixed_are_taken_apart():
    waves = 10 * WAVES[:2]
    population, true = _population(waves, lambda true, source: np.zeros_like(true), count=200)
    assert population.take_apart() == 1
    ones = [np.unique(true[population.units == unit]).tolist() for unit in population.labels]
    assert sorted(ones) == [[0], [1]]
    population, _ = _population(waves[:1], lambda true, source: true, count=200)
    assert population.take_apart() == 0


def test_the_number_of_units_can_be_forced():
    population, _ = _population(10 * WAVES, lambda true, source: true, count=300)
    population.force(2)
    assert len(population.labels) == 2
    population, _ = _population(10 * WAVES[:2], lambda true, source: np.zeros_like(true), count=200)
    population.force(2)
    assert len(population.labels) == 2


def test_a_rare_superposition_is_no_unit():
    both = 10 * (WAVES[:1] + shifted(WAVES[2:], 5.0))
    waves = np.concatenate((10 * WAVES[[0, 2]], both))
    source = np.random.default_rng(0)
    true = np.concatenate((np.zeros(90), np.ones(90), np.full(12, 2))).astype(np.int64)
    source.shuffle(true)
    found = Events(100 * np.arange(192) + 20, true, np.ones(192, dtype=np.int64), np.ones(192))
    population = Population(source.standard_normal((1, 19_400)), Atoms(waves), found)
    population.drop_superpositions(prior(3))
    assert population.labels == [0, 1]
    # As many as the others are a unit of their own, however it looks.
    true = np.arange(192) % 3
    found = Events(found.places, true, found.phases, found.gains)
    population = Population(source.standard_normal((1, 19_400)), Atoms(waves), found)
    population.drop_superpositions(prior(3))
    assert population.labels == [0, 1, 2]


def test_a_waveform_fitted_to_noise_is_no_unit():
    source = np.random.default_rng(2)
    # Fourteen samples of noise averaged, at the energy that spikes need to be found at all.
    noise = source.standard_normal((1, 48))
    waves = np.stack([10 * WAVES[0], 5.6 * noise / np.linalg.norm(noise)])
    found = events(*[(200 * i, i % 10 == 0, 1, 1.0) for i in range(140)])
    population = Population(source.standard_normal((1, 480_000)), Atoms(waves), found)
    population.drop_weak()
    assert population.labels == [0]


def test_the_tail_of_a_waveform_is_no_unit():
    source = np.random.default_rng(0)
    places = np.sort(source.choice(np.arange(200, 190_000, 300), 120, replace=False))
    strong = [(place, 0, 1, 1.0) for place in places]
    tails = [(place + 40 + int(source.integers(-6, 7)), 1, 1, 1.0) for place in places[:60]]
    free = [(place, 2, 1, 1.0) for place in source.integers(100, 190_000, 60)]
    waves = np.stack([10 * WAVES[0], 2 * WAVES[1], 2 * WAVES[2]])
    kept = without_companions(events(*strong, *tails, *free), Atoms(waves), 200_000)
    assert set(kept.units.tolist()) == {0, 2}
