"""The loss of a diffusion head: squared error of the noise, and the variational bound for the learned variance.

The hybrid objective of Nichol and Dhariwal, "Improved denoising diffusion probabilistic models" (ICML 2021, section
3.1), on the process of `layers/diffusion_head.py`.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from ..layers.diffusion_head import TRAINED_STEPS, DiffusionHead, reverse_steps, spaced


@lru_cache(maxsize=4)
def coefficients(device: torch.device) -> dict[str, Tensor]:
    """The numbers of `Step` for each of the 1000 trained timesteps: (T, 1) float32 by name."""
    steps = reverse_steps(spaced(TRAINED_STEPS))[::-1]
    names = ("clean_noisy", "clean_noise", "mean_clean", "mean_noisy", "least", "most")
    return {name: torch.tensor([[getattr(step, name)] for step in steps], device=device) for name in names}


def diffused(clean: Tensor, eps: Tensor, times: Tensor) -> Tensor:
    """(N, C): a draw from q(x_t | x_0), tokens `clean` (N, C) with the noise `eps` (N, C) of timesteps `times` (N,)."""
    c = coefficients(clean.device)
    return (clean + c["clean_noise"][times] * eps) / c["clean_noisy"][times]


def variational_bound(clean: Tensor, noisy: Tensor, times: Tensor, prediction: Tensor) -> Tensor:
    """(N,): the bound's term of each token at its timestep, in nats per number.

    It is KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)), and -log p(x_0 | x_1), a density, at the first timestep.
    `prediction` (N, 2C) is the head's for the tokens `noisy` (N, C), which come from `clean` (N, C).
    """
    c = {name: table[times] for name, table in coefficients(clean.device).items()}
    eps, variance = prediction.chunk(2, dim=-1)
    error = c["mean_clean"] * (clean - (c["clean_noisy"] * noisy - c["clean_noise"] * eps))  # of the mean
    share = (variance + 1) / 2
    log_variance = share * c["most"] + (1 - share) * c["least"]
    squared = error.square() * torch.exp(-log_variance)
    divergence = 0.5 * (log_variance - c["least"] + torch.exp(c["least"] - log_variance) - 1 + squared)
    likelihood = 0.5 * (math.log(2 * math.pi) + log_variance + squared)
    return torch.where(times[:, None] > 0, divergence, likelihood).mean(1)


def diffusion_loss(
    head: DiffusionHead, states: Tensor, targets: Tensor, generator: torch.Generator, *, copies: int = 1
) -> Tensor:
    """The hybrid loss of tokens `targets` (N, C), float32, given the transformer's states (N, Z): a scalar.

    Each token is tried at `copies` timesteps (MAR's `diffusion_batch_mul`). `generator` is on the CPU. The bound's
    gradient reaches the variance alone. Its weight, a thousandth of the bound over all timesteps, is one here, where a
    token's timestep is one of a thousand.
    """
    clean, states = targets.repeat(copies, 1), states.repeat(copies, 1)
    times = torch.randint(TRAINED_STEPS, (len(clean),), generator=generator).to(clean.device)
    eps = torch.randn(clean.shape, generator=generator).to(clean.device)
    noisy = diffused(clean, eps, times)
    prediction = head(noisy, times, states).float()
    guess, variance = prediction.chunk(2, dim=-1)
    bound = variational_bound(clean, noisy, times, torch.cat((guess.detach(), variance), dim=-1))
    total: Tensor = (guess - eps).square().mean() + bound.mean()
    return total
