"""The diffusion loss: the forward process, the variational bound against torch's own divergence, what it trains."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from arbench.adapters.layers.checkpoint import seeded
from arbench.adapters.layers.diffusion_head import DiffusionHead, cosine_alphas
from arbench.adapters.train.diffusion import diffused, diffusion_loss, variational_bound

CHANNELS = 3
TIMES = torch.tensor([1, 2, 40, 500, 900, 998])


def normals(seed: int, rows: int) -> Tensor:
    return torch.randn(rows, CHANNELS, generator=torch.Generator().manual_seed(seed))


def posterior(clean: Tensor, noisy: Tensor, times: Tensor) -> Normal:
    """q(x_{t-1} | x_t, x_0) by Bayes in float64, t > 0: the precisions of q(x_{t-1} | x_0) and q(x_t | x_{t-1}) add."""
    alphas = torch.tensor(cosine_alphas(), dtype=torch.float64)
    now, before = alphas[times, None], alphas[times - 1, None]
    ratio = now / before
    precision = 1 / (1 - before) + ratio / (1 - ratio)
    mean = before.sqrt() * clean.double() / (1 - before) + ratio.sqrt() * noisy.double() / (1 - ratio)
    return Normal(mean / precision, precision.rsqrt())


def test_tokens_are_diffused_as_the_cosine_says() -> None:
    clean, eps = normals(0, len(TIMES)), normals(1, len(TIMES))
    alpha = torch.tensor(cosine_alphas())[TIMES, None]
    torch.testing.assert_close(diffused(clean, eps, TIMES), alpha.sqrt() * clean + (1 - alpha).sqrt() * eps)


def test_the_bound_is_the_divergence_from_the_posterior() -> None:
    clean, eps, guess = normals(0, len(TIMES)), normals(1, len(TIMES)), normals(2, len(TIMES))
    share = torch.rand(len(TIMES), CHANNELS, generator=torch.Generator().manual_seed(3))
    noisy = diffused(clean, eps, TIMES)
    true = posterior(clean, noisy, TIMES)
    alphas = torch.tensor(cosine_alphas(), dtype=torch.float64)
    now, before = alphas[TIMES, None], alphas[TIMES - 1, None]
    estimate = (noisy.double() - (1 - now).sqrt() * guess) / now.sqrt()
    mean = posterior(estimate, noisy, TIMES).mean
    beta = 1 - now / before
    deviation = torch.exp(0.5 * (share * beta.log() + (1 - share) * true.variance.log()))
    expected = kl_divergence(true, Normal(mean, deviation)).mean(1)
    got = variational_bound(clean, noisy, TIMES, torch.cat((guess, 2 * share - 1), dim=1))
    # float32 against float64; at small times the estimate is a small difference, divided by a small variance
    torch.testing.assert_close(got.double(), expected, rtol=2e-3, atol=1e-5)


def test_the_first_timestep_counts_the_likelihood_of_the_token() -> None:
    clean, eps, guess = normals(0, 4), normals(1, 4), normals(2, 4)
    times = torch.zeros(4, dtype=torch.long)
    noisy = diffused(clean, eps, times)
    alpha = cosine_alphas()[0]
    mean = (noisy - math.sqrt(1 - alpha) * guess) / math.sqrt(alpha)
    expected = -Normal(mean, math.sqrt(1 - alpha)).log_prob(clean).mean(1)
    got = variational_bound(clean, noisy, times, torch.cat((guess, torch.ones_like(guess)), dim=1))
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-3)


def test_the_true_noise_and_the_posteriors_variance_have_no_divergence() -> None:
    clean, eps = normals(0, len(TIMES)), normals(1, len(TIMES))
    noisy = diffused(clean, eps, TIMES)

    def bound(guess: Tensor, variance: float) -> Tensor:
        return variational_bound(clean, noisy, TIMES, torch.cat((guess, torch.full_like(eps, variance)), dim=1))

    assert bound(eps, -1.0).abs().max() < 1e-5
    assert (bound(eps, -0.5)[:4] > bound(eps, -1.0)[:4]).all()  # at late timesteps both ends of the range meet
    assert (bound(eps + 0.3, -1.0) > 1e-5).all()


class Given(DiffusionHead):
    """Predicts the noise of known tokens up to a constant error, and a constant variance."""

    def __init__(self, clean: Tensor, error: float, variance: float) -> None:
        super().__init__(CHANNELS, 1, 1, 0)
        self.clean = clean
        self.error = torch.nn.Parameter(torch.tensor(error))
        self.variance = torch.nn.Parameter(torch.tensor(variance))

    def forward(self, noisy: Tensor, timesteps: Tensor, states: Tensor) -> Tensor:
        alpha = torch.tensor(cosine_alphas(), dtype=torch.float64)[timesteps, None]
        clean = self.clean[states[:, 0].long()].double()
        eps = ((noisy.double() - alpha.sqrt() * clean) / (1 - alpha).sqrt()).float() + self.error
        return torch.cat((eps, self.variance.expand_as(eps)), dim=1)


@pytest.mark.parametrize("error", [0.0, 0.5])
def test_the_noise_is_trained_by_its_error_and_the_variance_by_the_bound(error: float) -> None:
    clean = normals(0, 50)
    states = torch.arange(50.0)[:, None]

    def loss(variance: float) -> tuple[float, Tensor, Tensor]:
        head = Given(clean, error, variance)
        total = diffusion_loss(head, states, clean, torch.Generator().manual_seed(0), copies=40)
        by_error, by_variance = torch.autograd.grad(total, (head.error, head.variance))
        return total.item(), by_error, by_variance

    low, by_error, by_variance = loss(-1.0)
    # d/de of e^2 alone: the bound must not push the mean
    assert by_error.item() == pytest.approx(2 * error, abs=1e-3)
    if error == 0:
        assert low < loss(0.0)[0]
    else:
        assert by_variance < 0  # a mean that is off wants a larger variance


def test_each_copy_is_a_timestep_of_its_own() -> None:
    seen: list[Tensor] = []

    class Listening(DiffusionHead):
        def forward(self, noisy: Tensor, timesteps: Tensor, states: Tensor) -> Tensor:
            seen.append(timesteps)
            return super().forward(noisy, timesteps, states)

    with seeded(0):
        head = Listening(CHANNELS, 4, 8, 1)
    losses = [
        diffusion_loss(head, torch.zeros(7, 4), normals(0, 7), torch.Generator().manual_seed(seed), copies=4).item()
        for seed in (1, 1, 2)
    ]
    assert seen[0].shape == (28,)
    assert len(seen[0].unique()) > 20
    assert losses[0] == losses[1] != losses[2]
