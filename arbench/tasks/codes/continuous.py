"""Numbers of latents: spread of the channels, information in the posterior, and how they bear noise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...images import to_float
from ...metrics.estimate import Estimate, bounded, mean_with_interval, missing
from ...protocols import Codes, Tokenizer, TokenSpec
from ...seeds import Greedy, Philox
from ...spec.result import At, Metric
from ..base import Arrays, Stored, joined
from ..outputs import check_codes, decode, spec_at

CHANNELS = 64
"""Up to so many channels each has a number of its own."""


COST = 1.0
"""dB that the noise which a tokenizer bears takes of its PSNR."""


class _Ones(Greedy):
    """Noise whose every normal draw is 1: a posterior drawn with it is its mean and one deviation."""

    def normal(self, stream: str, shape: Sequence[int]) -> Tensor:
        return torch.ones(self.batch, *shape, device=self.device)


def by_channel(latents: NDArray[np.float64], spec: TokenSpec) -> NDArray[np.float64]:
    """(positions of all images, channels) of latents (B, C, h, w), or (B, tokens, C)."""
    if spec.channels is not None and latents.shape[1] != spec.channels and latents.shape[-1] == spec.channels:
        return latents.reshape(-1, spec.channels)
    return np.moveaxis(latents, 1, -1).reshape(-1, latents.shape[1])


def measured(tokenizer: Tokenizer, codes: Codes, images: NDArray[np.uint8], batch: int, device: str) -> Arrays:
    """Sums for the covariance of the channels, and (n,) bits of KL divergence, NaN without a posterior."""
    assert codes.latents is not None
    latents = codes.latents.double().cpu()
    rows = by_channel(latents.numpy(), tokenizer.spec)
    drawn = []
    for start in range(0, len(images), batch):
        part = to_float(images[start : start + batch]).to(device)
        found = tokenizer.encode(part, noise=_Ones(len(part), device))
        drawn.append(check_codes(found, spec_at(tokenizer, images.shape[2:]), len(part), tokenizer.card.name).latents)
    deviation = (torch.cat([each for each in drawn if each is not None]).double().cpu() - latents).abs()
    kl = (latents.square() + deviation.square() - 1 - 2 * deviation.clamp(min=1e-12).log()) / 2
    bits = kl.flatten(1).sum(1) / np.log(2)
    bits[(deviation == 0).flatten(1).all(1)] = np.nan
    return {
        "sum": rows.sum(0)[None],
        "square": (rows.T @ rows)[None],
        "count": np.array([len(rows)]),
        "kl": bits.numpy(),
    }


def noisy(latents: Tensor, spec: TokenSpec, amount: float, noise: Philox) -> Tensor:
    """Latents with noise of `amount` standard deviations of each channel.

    The deviations are those of these latents alone, so that units stay apart: it is a matter of a few per cent.
    """
    plain = latents.double().cpu()
    rows = by_channel(plain.numpy(), spec)
    shape = (1, -1, *([1] * (plain.ndim - 2))) if plain.shape[1] == rows.shape[1] else (1, 1, -1)
    spread = torch.from_numpy(rows.std(0)).reshape(shape)
    drawn = noise.normal("codes/noise", tuple(plain.shape[1:])).double()
    return (plain + amount * spread * drawn).to(latents)


def decoded_with_noise(
    tokenizer: Tokenizer, codes: Codes, amount: float, ids: range, noise: Philox, size: Sequence[int]
) -> NDArray[np.uint8]:
    """(n, 3, H, W) decoded from latents with noise."""
    assert codes.latents is not None
    changed = Codes(latents=noisy(codes.latents, tokenizer.spec, amount, noise))
    return np.asarray(decode(tokenizer, changed, ids, size).numpy(), np.uint8)


def numbers(units: Sequence[Stored], noise: Sequence[float]) -> list[Metric]:
    images, count = len(joined(units, "sample_ids")), int(joined(units, "count").sum())
    mean = joined(units, "sum").sum(0) / count
    covariance = joined(units, "square").sum(0) / count - np.outer(mean, mean)
    values = np.linalg.eigvalsh(covariance).clip(0)
    part = values[values > 0] / values.sum()
    rank = Estimate(float(np.exp(-(part * np.log(part)).sum())), n=images, flags=("no_interval",))
    return [
        rank.metric("effective-rank", "of the covariance of the channels over all positions", "channels", "higher"),
        *_noise(joined(units, "noise cost"), joined(units, "noise error"), noise),
        *_spread(mean, np.sqrt(np.diag(covariance).clip(0)), images),
        _divergence(joined(units, "kl")),
    ]


def _noise(costs: NDArray[np.float64], errors: NDArray[np.float64], levels: Sequence[float]) -> list[Metric]:
    """Of what each level takes of an image's PSNR (n, levels), and by how much it changes the image."""
    order = np.argsort(levels)
    how = f"noise, in standard deviations of each channel, that takes {COST:g} dB of PSNR, mean over images"
    how += "; between the levels along a straight line from no noise"
    tolerance = borne(np.asarray(levels, np.float64)[order], costs[:, order])
    found = [tolerance.metric("noise-tolerance", how, "deviations", "higher")]
    for place, level in enumerate(levels):
        at: dict[str, At] = {"noise": level}
        how = "PSNR to the original without and with noise of so many standard deviations on every channel"
        found.append(mean_with_interval(costs[:, place]).metric("noise-cost", how, "dB", "lower", at=at))
        how = "root mean square change of the decoded image by such noise, mean over images"
        found.append(bounded(mean_with_interval(errors[:, place])).metric("noise-error", how, "levels", "lower", at=at))
    return found


def borne(levels: NDArray[np.float64], costs: NDArray[np.float64]) -> Estimate:
    """The noise whose mean cost is `COST` dB, of rising levels and (n, levels) costs, on the line between the two."""
    mean = costs.mean(0)
    if mean.max() < COST:
        return missing(f"noise of {levels[-1]:g} deviations takes {mean[-1]:.2g} dB, and none more", len(costs))
    after = int(np.argmax(mean >= COST))
    low, high = (0.0, 0.0) if after == 0 else (levels[after - 1], mean[after - 1]), (levels[after], mean[after])
    value = low[0] + (COST - low[1]) / (high[1] - low[1]) * (high[0] - low[0])
    return Estimate(float(value), n=len(costs), flags=("no_interval",))


def _spread(mean: NDArray[np.float64], deviations: NDArray[np.float64], n: int) -> list[Metric]:
    """Of all latents around their one mean, and of each channel around its own."""
    whole = float(np.sqrt((deviations**2 + (mean - mean.mean()) ** 2).mean()))
    extras = {"least": float(deviations.min()), "most": float(deviations.max()), "mean": float(mean.mean())}
    how = (
        "standard deviation of all latents in the tokenizer's own units, which a generator scales to 1; least and most"
    )
    found = [_plain(whole, n).metric("latent-deviation", f"{how} of a channel, and the mean, in extras", extras=extras)]
    if len(deviations) <= CHANNELS:
        for channel, value in enumerate(deviations.tolist()):
            how = "standard deviation of a channel over all positions, in the tokenizer's own units"
            found.append(_plain(value, n).metric("latent-deviation", how, at={"channel": channel}))
    return found


def _divergence(bits: NDArray[np.float64]) -> Metric:
    estimate = bounded(mean_with_interval(bits))
    if np.isnan(bits).all():
        estimate = missing("its encoder has no posterior: with noise it gives the same latents", len(bits))
    how = "KL divergence of an image's posterior from a unit normal, in the tokenizer's own units"
    return estimate.metric("posterior-kl", how, "bits")


def _plain(value: float, n: int) -> Estimate:
    return Estimate(value, n=n, flags=("no_interval",))
