"""Two networks for windows with and without a chirp, and their training on scenes that are drawn as they go."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tightframe.experiments.ntk.chirp_scenes import SAMPLES, SHIFTS, Condition, noise, signals

_BATCH = 512
# Of the maximum over templates; half the deviation of a product, so that what begins is near a matched filter.
_SOFTNESS = 0.3


class PlainDetector(nn.Module):
    """Three convolutions and two dense layers, from random weights: told nothing of chirps.

    Args:
        width: Channels of the first layer.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.body: nn.Sequential = nn.Sequential(
            nn.Conv1d(1, width, 32, stride=4, padding=14),
            nn.ReLU(),
            nn.Conv1d(width, 2 * width, 8, stride=2, padding=3),
            nn.ReLU(),
            nn.Conv1d(2 * width, 4 * width, 8, stride=2, padding=3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(4 * width * SAMPLES // 16, 64),
            nn.ReLU(),
            nn.Linear(64, 1),
        )

    def forward(self, windows: Tensor) -> Tensor:
        """Logits (n,) of windows (n, samples)."""
        return self.body(windows[:, None])[:, 0]


class BankDetector(nn.Module):
    r"""A network whose first layer begins as a bank of templates, so that before training it is a matched filter.

    .. math:: f(x) = a\, c \log \sum_k e^{m_k / c} - b + g(m, \log \overline{x^2}), \qquad m_k = \max_s |z_k(s)|

    where
        z are the templates' products with x + h(x), all templates and a and b are trained, h is a pointwise network and
        g a dense one; both begin at zero. c is 0.3, so that the first term is near the largest m.

    Args:
        templates: (k, samples), complex.
        width: Of both small networks.

    Reference: [yan2022generalized], section III.
    """

    def __init__(self, templates: np.ndarray, *, width: int = 32) -> None:
        super().__init__()
        whole = torch.as_tensor(templates, dtype=torch.complex64)
        # Entries near 1, so that Adam's first steps, of the size of its rate, leave them nearly what they are.
        self.templates: nn.Parameter = nn.Parameter(torch.view_as_real(whole) * SAMPLES**0.5)
        self.pointwise: nn.Sequential = nn.Sequential(nn.Linear(1, width), nn.ReLU(), nn.Linear(width, 1))
        self.head: nn.Sequential = nn.Sequential(
            nn.Linear(len(whole) + 1, 2 * width), nn.ReLU(), nn.Linear(2 * width, 1)
        )
        self.scale: nn.Parameter = nn.Parameter(torch.tensor([2.0, 9.0]))
        with torch.no_grad():
            for last in (self.pointwise[-1], self.head[-1]):
                last.weight.zero_()
                last.bias.zero_()

    def forward(self, windows: Tensor) -> Tensor:
        """Logits (n,) of windows (n, samples)."""
        bent = windows + self.pointwise(windows[..., None])[..., 0]
        spectra = torch.fft.fft(torch.view_as_complex(self.templates) / SAMPLES**0.5).conj()
        products = torch.fft.ifft(torch.fft.fft(bent)[:, None] * spectra)[..., :SHIFTS]
        # The modulus has no gradient at zero; its square has, and is largest where it is.
        peaks = (torch.view_as_real(products).square().sum(-1).amax(dim=2) + 1e-12).sqrt()
        loudest = _SOFTNESS * torch.logsumexp(peaks / _SOFTNESS, dim=1)
        energy = windows.square().mean(1, keepdim=True).log()
        return self.scale[0] * loudest - self.scale[1] + self.head(torch.cat((peaks / 5, energy), dim=1))[:, 0]


@dataclass(frozen=True)
class Schedule:
    """How a detector is trained.

    Args:
        steps: Of Adam.
        batch: Windows per step, half of them with a chirp.
        rate: Of learning at the start; it falls to zero along a cosine.
    """

    steps: int
    batch: int = 256
    rate: float = 1e-3


def train(
    model: nn.Module,
    condition: Condition,
    pool: np.ndarray,
    schedule: Schedule,
    *,
    strengths: tuple[float, float],
    seed: int,
) -> float:
    """Train in place by the cross-entropy on fresh scenes; the mean loss of the last tenth of the steps.

    Args:
        model: Windows (n, samples) to logits (n,).
        condition: Noise.
        pool: (n, samples), shapes of chirps to draw from.
        schedule: Steps.
        strengths: Limits of the signals' strengths.
        seed: Of scenes.
    """
    source = np.random.default_rng(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=schedule.rate)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, schedule.steps)
    half = schedule.batch // 2
    labels = (torch.arange(2 * half) < half).float()
    losses = []
    for _ in range(schedule.steps):
        windows = noise(condition, 2 * half, source)
        windows[:half] += signals(pool, half, strengths, source)[0]
        loss = functional.binary_cross_entropy_with_logits(model(torch.as_tensor(windows).float()), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        decay.step()
        losses.append(loss.detach())
    return float(torch.stack(losses)[-max(1, schedule.steps // 10) :].mean())


def logits(model: nn.Module, windows: Tensor) -> Tensor:
    """(n,), in batches and without gradients."""
    with torch.no_grad():
        return torch.cat([model(part) for part in windows.split(_BATCH)])
