"""Matched filtering with a bank of templates, its optimal relative for known noise, and the classical remedies."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from tightframe.data.recorded.chirps import whitened
from tightframe.experiments.ntk.chirp_scenes import SAMPLES, SHIFTS, shapes

_BATCH = 128
_BANDS = 8


def mass_grid(per_axis: int, limits: tuple[float, float]) -> np.ndarray:
    """(k, 2), pairs of masses with M1 >= M2; both are spaced evenly by their logarithm."""
    values = np.geomspace(*limits, per_axis)
    return np.array([(a, b) for a in values for b in values if a >= b])


class Bank:
    r"""Templates in both quadratures, at every shift.

    .. math:: z_k(s) = \langle x, a_k(\cdot - s) \rangle - i \langle x, b_k(\cdot - s) \rangle

    where
        x are whitened windows and a_k, b_k the quadratures of template k, of norm 1; |z| is largest over the phase.

    Args:
        templates: (k, samples), complex, at the reference time.
    """

    def __init__(self, templates: np.ndarray) -> None:
        self.spectra: Tensor = torch.fft.fft(torch.as_tensor(templates)).to(torch.complex64)

    def moduli(self, windows: Tensor) -> Tensor:
        """|z|, (n, k, shifts)."""
        products = torch.fft.fft(windows)[:, None] * self.spectra.conj()
        return torch.fft.ifft(products)[..., :SHIFTS].abs()

    def loudest(self, windows: Tensor) -> Tensor:
        """(n,), max over templates, shifts and phases: what a search by matched filtering ranks by."""
        return _batched(lambda part: self.moduli(part).amax(dim=(1, 2)), windows)

    def marginal(self, windows: Tensor, strengths: Tensor) -> Tensor:
        r"""(n,), logarithm of the likelihood ratio averaged over all that is unknown.

        .. math:: \log \mathop{\mathrm{mean}}_{k, s, \rho} e^{-\rho^2 / 2} I_0(\rho |z_k(s)|)

        By Neyman and Pearson's lemma nothing detects more at equal false alarms in white Gaussian noise, up to the
        discretisation of the masses and of `strengths` rho, whose prior is uniform as in the scenes.
        """

        def ratio(part: Tensor) -> Tensor:
            products = self.moduli(part)[..., None] * strengths
            logs = torch.special.i0e(products).log() + products - strengths.square() / 2
            return torch.logsumexp(logs.flatten(1), dim=1)

        return _batched(ratio, windows, size=_BATCH // 8)

    def reweighted(self, windows: Tensor) -> Tensor:
        r"""(n,), the loudest |z|, made less where its power is spread over frequencies as no chirp spreads it.

        .. math:: \hat\rho = |z| \bigl((1 + r^3) / 2\bigr)^{-1/6} \text{ where } r > 1, \qquad
            r = \frac{p}{2 p - 2} \sum_b |z_b - z / p|^2

        where z_b are shares of z from p bands in which the template has equal power.

        Reference: [usman2016pycbc], equations 6 and 7.
        """
        power = self.spectra.abs().square().cumsum(1)
        bands = (power / power[:, -1:] * _BANDS).ceil().long().clamp(1, _BANDS) - 1

        def veto(part: Tensor) -> Tensor:
            best, where = self.moduli(part).flatten(1).max(dim=1)
            template, shift = where // SHIFTS, where % SHIFTS
            turn = torch.exp(2j * torch.pi * torch.arange(SAMPLES) * shift[:, None] / SAMPLES)
            shares = torch.fft.fft(part) * self.spectra[template].conj() * turn / SAMPLES
            index = bands[template]
            parts = [torch.zeros(len(part), _BANDS).scatter_add(1, index, each) for each in (shares.real, shares.imag)]
            apart = sum((each - each.mean(1, keepdim=True)).square().sum(1) for each in parts)
            excess = (_BANDS / (2 * _BANDS - 2) * apart).clamp(min=1)
            return best * ((1 + excess**3) / 2) ** (-1 / 6)

        return _batched(veto, windows)


def bank_of(masses: np.ndarray) -> Bank:
    """A bank for the design spectrum."""
    return Bank(shapes(masses))


def adapted_bank(masses: np.ndarray, seen: np.ndarray) -> tuple[Bank, np.ndarray]:
    """A bank for the spectrum of noise that was seen (n, samples), and that spectrum over the design's.

    The spectrum is the mean periodogram; windows must be whitened by it before they are filtered.
    """
    excess = np.mean(np.abs(np.fft.rfft(seen, axis=1)) ** 2, axis=0) / SAMPLES
    whole = shapes(masses)
    parts = [whitened(part, excess) for part in (whole.real, whole.imag)]
    first, second = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in parts)
    return Bank(first + 1j * second), excess


def score(windows: Tensor, freedom: float) -> Tensor:
    """Derivative of minus the log density of Student's t of unit variance: what a weak signal is best filtered from."""
    scaled = windows * (freedom / (freedom - 2)) ** 0.5
    return (freedom + 1) * scaled / (freedom + scaled.square())


def coverage(bank: Bank, chirps: np.ndarray) -> Tensor:
    """(n,), share of the strength of these chirps (n, samples), of norm 1, that the bank's best template keeps."""
    return bank.loudest(torch.as_tensor(chirps, dtype=torch.float32))


def _batched(statistic: Callable[[Tensor], Tensor], windows: Tensor, *, size: int = _BATCH) -> Tensor:
    return torch.cat([statistic(part) for part in windows.split(size)])
