"""Chirps against the equations of motion that they solve, and noise against the spectrum that it is to have."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from tightframe.core.errors import InputError
from tightframe.data.recorded.chirps import (
    SOLAR_MASS,
    colored,
    design_spectrum,
    frequency,
    glitches,
    inspirals,
    lines,
    white_noise,
    whitened,
)

RATE, SAMPLES = 1024.0, 512


def post_newtonian_rate(v: float, share: float, order: int) -> float:
    """dv/dt in units of 1 / M: the flux over the derivative of the energy, expanded (Buonanno et al., equation 3.6)."""
    second = -743 / 336 - 11 / 4 * share
    fourth = 34103 / 18144 + 13661 / 2016 * share + 59 / 18 * share**2
    terms = (0, second, 4 * math.pi, fourth) if order == 2 else (0, second if order else 0, 0, 0)
    return 32 * share / 5 * v**9 * (1 + terms[1] * v**2 + terms[2] * v**3 + terms[3] * v**4)


@pytest.mark.parametrize("order", [0, 1, 2])
def test_the_frequency_solves_the_equation_of_motion(order):
    # Early in an inspiral, v = 0.05, what the expansions leave out is of relative order v^2 (order 1: v^3) or v^5.
    share, total = 0.24, 50 * SOLAR_MASS
    first = 25 * (1 + math.sqrt(1 - 4 * share))
    pair = [[first, 50 - first]]
    theta = 0.1
    before = 5 * total / share * theta**-8

    def v(time):
        return (math.pi * total * frequency(pair, [time], order=order)[0, 0]) ** (1 / 3)

    step = before * 1e-4
    slope = (v(before - step) - v(before + step)) / (2 * step)
    expected = post_newtonian_rate(v(before), share, order) / total
    # Squared coefficients of relative order v^4 appear at order 1, v^5 at order 2; v is 0.05 here.
    slack = {0: 1e-6, 1: 20 * 0.05**4, 2: 60 * 0.05**5}[order]
    assert slope == pytest.approx(expected, rel=slack)
    if order:
        lower = post_newtonian_rate(v(before), share, order - 1) / total
        assert abs(slope / lower - 1) > slack


def test_newtonian_chirps_have_the_chirp_mass_formula():
    first, second = 30.0, 12.0
    chirp_mass = (first * second) ** 0.6 / (first + second) ** 0.2 * SOLAR_MASS
    times = np.array([0.3, 0.1, 0.02])
    expected = (5 / (256 * times)) ** (3 / 8) * chirp_mass ** (-5 / 8) / math.pi
    np.testing.assert_allclose(frequency([[first, second]], times, order=0)[0], expected, rtol=1e-12)

    # The integral of dF/dt = 96/5 pi^(8/3) Mc^(5/3) F^(11/3) from the first time on meets the formula at the others.
    def rate(_, f):
        return 96 / 5 * math.pi ** (8 / 3) * chirp_mass ** (5 / 3) * f ** (11 / 3)

    solved = solve_ivp(rate, (0, 0.28), expected[:1], t_eval=[0.2, 0.28], rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(solved.y[0], expected[1:], rtol=1e-6)


@pytest.mark.parametrize("order", [0, 1, 2])
def test_the_phase_of_a_chirp_advances_by_its_frequency(order):
    fast = 1 << 15
    (chirp,) = inspirals([[20.0, 14.0]], samples=fast // 2, rate=fast, coalescence=0.45, order=order)
    times = 0.45 - np.arange(len(chirp)) / fast
    middle = (times > 0.06) & (times < 0.25)
    turned = np.angle(chirp[1:] * chirp[:-1].conj())[middle[1:]] * fast / (2 * math.pi)
    half_way = (times[1:] + 0.5 / fast)[middle[1:]]
    # The angle of one step against the rate at its middle: the third derivative of the phase over 24 steps squared.
    np.testing.assert_allclose(turned, frequency([[20.0, 14.0]], half_way, order=order)[0], rtol=1e-5)
    amplitude = np.abs(chirp[middle])
    pitch = frequency([[20.0, 14.0]], times[middle], order=order)[0] ** (2 / 3)
    np.testing.assert_allclose(amplitude / amplitude[0], pitch / pitch[0], rtol=1e-9)


def test_chirps_lie_in_their_windows_and_end_at_the_innermost_orbit():
    masses = [[10.0, 10.0], [30.0, 30.0], [30.0, 10.0]]
    chirps = inspirals(masses, coalescence=[0.35, 0.4, 0.45])
    for row, (pair, end) in enumerate(zip(masses, (0.35, 0.4, 0.45), strict=True)):
        times = end - np.arange(SAMPLES) / RATE
        alive = np.abs(chirps[row]) > 0
        assert not alive[(times > 0.3) | (times <= 0)].any()
        assert 0.5 < np.abs(chirps[row]).max() <= 1
        last = frequency([pair], [times[alive].min()])[0, 0]
        assert last == pytest.approx(1 / (6**1.5 * math.pi * sum(pair) * SOLAR_MASS), rel=0.1)
        assert last < 1 / (6**1.5 * math.pi * sum(pair) * SOLAR_MASS)


def test_masses_commute_and_times_shift():
    first = inspirals([[25.0, 15.0]], coalescence=0.4)
    np.testing.assert_array_equal(first, inspirals([[15.0, 25.0]], coalescence=0.4))
    later = inspirals([[25.0, 15.0]], coalescence=0.4 + 32 / RATE)
    np.testing.assert_allclose(np.roll(first, 32, axis=1), later, atol=1e-9)


def test_an_inspiral_whose_frequency_stops_rising_ends_there():
    # For very unequal masses the second-order frequency turns before the innermost orbit.
    pair = [[60.0, 0.6]]
    (chirp,) = inspirals(pair, coalescence=0.45)
    times = 0.45 - np.arange(SAMPLES) / RATE
    left = times[np.abs(chirp) > 0]
    pitch = frequency(pair, left)[0]
    assert (np.diff(pitch) > 0).all()


def test_colored_noise_has_its_spectrum():
    spectrum = design_spectrum(np.fft.rfftfreq(SAMPLES, 1 / RATE)) * lines(np.fft.rfftfreq(SAMPLES, 1 / RATE))
    windows = colored(white_noise(4000, SAMPLES, seed=1), spectrum)
    power = np.mean(np.abs(np.fft.rfft(windows, axis=1)) ** 2, axis=0) / SAMPLES
    # |X|^2 is exponential (chi-squared of one degree at both ends): six deviations of a mean of 4000, times root 2.
    np.testing.assert_allclose(power / spectrum, 1, atol=6 * math.sqrt(2 / 4000))
    np.testing.assert_allclose(
        np.fft.rfft(whitened(windows, spectrum)), np.fft.rfft(white_noise(4000, SAMPLES, seed=1)), atol=1e-8
    )


def test_the_design_spectrum_is_the_published_formula():
    x = np.array([50.0, 215.0, 400.0]) / 215
    formula = x**-4.14 - 5 * x**-2 + 111 * (1 - x**2 + x**4 / 2) / (1 + x**2 / 2)
    found = design_spectrum([50.0, 215.0, 400.0])
    np.testing.assert_allclose(found / found[1], formula / formula[1], rtol=1e-12)
    assert design_spectrum([0.0]) == design_spectrum([20.0])
    assert design_spectrum(np.linspace(20, 500, 10_000)).min() == pytest.approx(1, abs=1e-4)


def test_a_line_is_as_high_and_wide_as_said():
    values = lines([60.0, 62.0, 300.0], at=(60.0,), height=8.0, width=2.0)
    assert values[:2].tolist() == [9.0, 5.0]
    assert values[2] == pytest.approx(1, abs=1e-3)


def test_heavy_tails_have_unit_variance_and_more_outliers():
    gaussian, heavy = white_noise(200, SAMPLES, seed=2), white_noise(200, SAMPLES, freedom=5.0, seed=2)
    # The kurtosis of t with 5 degrees is 9: the deviation of the mean square of 102,400 values is 0.009.
    assert heavy.var() == pytest.approx(1, abs=0.06)
    assert gaussian.var() == pytest.approx(1, abs=0.03)
    assert (np.abs(heavy) > 5).sum() > 20 > (np.abs(gaussian) > 5).sum()


def test_glitches_are_as_many_and_as_large_as_said():
    found = glitches(3000, 128, rate=256.0, mean=0.5, size=(7.0, 7.0), band=(20.0, 60.0), seed=3)
    norms = np.linalg.norm(found, axis=1)
    # Poisson: a share exp(-1/2) of windows has none, a share exp(-1/2) / 2 one, whose norm is then 7.
    assert (norms == 0).mean() == pytest.approx(math.exp(-0.5), abs=0.04)
    assert np.isclose(norms, 7).mean() == pytest.approx(math.exp(-0.5) / 2, abs=0.04)
    assert not glitches(5, 64, mean=0.0).any()
    np.testing.assert_array_equal(glitches(5, 64, seed=4), glitches(5, 64, seed=4))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: inspirals([[10.0, -3.0]]), "masses"),
        (lambda: inspirals([10.0, 3.0]), "masses"),
        (lambda: inspirals([[10.0, math.nan]]), "masses"),
        (lambda: inspirals([[10.0, 10.0]], order=3), "order"),
        (lambda: inspirals([[10.0, 10.0]], coalescence=0.2), "coalescence"),
        (lambda: inspirals([[10.0, 10.0]], coalescence=0.6), "coalescence"),
        (lambda: inspirals([[10.0, 10.0]], taper=0.4), "taper"),
        (lambda: frequency([[10.0, 10.0]], [0.0]), "before the coalescence"),
        (lambda: frequency([[10.0, 10.0]], [0.1], order=7), "order"),
        (lambda: white_noise(2, 8, freedom=2.0), "freedom"),
        (lambda: white_noise(2, 0), "samples"),
        (lambda: glitches(2, 8, band=(0.0, 9.0)), "band"),
        (lambda: glitches(2, 8, size=(9.0, 5.0)), "size"),
        (lambda: glitches(2, 8, mean=-1.0), "mean"),
        (lambda: colored(np.ones((2, 8)), np.ones(8)), "spectrum"),
        (lambda: whitened(np.ones((2, 8)), np.zeros(5)), "spectrum"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
