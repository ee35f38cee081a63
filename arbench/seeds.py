"""Per-sample noise: a sample's random numbers depend on its own seed alone, on any device and in any batch.

Counter-based Philox-4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), in torch
integer operations, so that CPU and GPU give the same integers.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)


def sample_seed(run_seed: int, sample_id: int) -> int:
    """The 63-bit seed of one sample: blake2b over the run's seed and the sample's id."""
    digest = hashlib.blake2b(f"{run_seed}/{sample_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


Words = Tensor | int
"""32-bit words: an int64 tensor, or a number that stands for as many as there are of the others."""


def _multiply(value: Any, multiplier: int) -> tuple[Any, Any]:
    """High and low 32 bits of a 32 x 32 bit product; int64 wraps, and the mask takes the bits that matter."""
    product = value * multiplier
    return (product >> 32) & _MASK, product & _MASK


def philox(counter: tuple[Words, Words, Words, Words], key: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Four int64 tensors holding 32-bit words, from counter and key (broadcast) holding 32-bit words."""
    c0, c1, c2, c3 = cast(tuple[Tensor, ...], counter)  # numbers become tensors in the first two rounds
    k0, k1 = key
    for _ in range(10):
        high0, low0 = _multiply(c0, _MULTIPLIERS[0])
        high1, low1 = _multiply(c2, _MULTIPLIERS[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return c0, c1, c2, c3


def _stream_words(stream: str) -> tuple[int, int]:
    digest = hashlib.blake2b(stream.encode(), digest_size=8).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little")


def invert_cdf(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """(B, n) int64: the category whose cumulative interval holds `uniform` (B, n); weights (B, n, V) need no sum 1."""
    cumulative = probabilities.double().cumsum(-1)
    total = cumulative[..., -1:]
    # u * total may round up to total itself, which no interval holds
    target = torch.minimum(uniform.unsqueeze(-1) * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, target, right=True).squeeze(-1)


BLOCK = 256
"""Numbers drawn at once and kept, for callers that take a stream's numbers a few at a time."""


class Philox:
    """The `Noise` of a run: streams of the samples with the given seeds.

    Stateless to its callers: what is kept of a stream is only there to be read again.
    """

    def __init__(self, seeds: Sequence[int], device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        words = [[seed & _MASK, (seed >> 32) & _MASK] for seed in seeds]
        self._key = torch.tensor(words, dtype=torch.int64, device=self.device).reshape(-1, 2)  # (B, 2)
        self._kept: dict[str, tuple[int, Tensor]] = {}

    @property
    def batch(self) -> int:
        return self._key.shape[0]

    def follow(self, other: Philox) -> None:
        """Take over the samples of `other`, as many: its keys are copied to where this one has its own."""
        self._key.copy_(other._key)
        self.forget()

    def forget(self) -> None:
        """Draw again what is asked for next, even if it was drawn before: in a CUDA graph, from keys yet to come."""
        self._kept.clear()

    def uniform(self, stream: str, n: int, start: int = 0) -> Tensor:
        block, offset = divmod(start, BLOCK)
        if offset + n > BLOCK:
            return self._draw(stream, n, start)
        kept = self._kept.get(stream)
        if kept is None or kept[0] != block:
            kept = self._kept[stream] = block, self._draw(stream, BLOCK, block * BLOCK)
        return kept[1][:, offset : offset + n].clone()

    def _draw(self, stream: str, n: int, start: int) -> Tensor:
        first, last = start // 2, (start + n + 1) // 2  # two 53-bit numbers per counter
        index = torch.arange(first, last, device=self.device).unsqueeze(0)  # (1, m)
        high, low = _stream_words(stream)  # as numbers: a copy to the device would make the host wait for it
        key = (self._key[:, :1], self._key[:, 1:])
        words = torch.stack(philox((index & _MASK, index >> 32, high, low), key), dim=-1)  # (B, m, 4)
        mantissa = ((words[..., 0::2] >> 6) << 27) + (words[..., 1::2] >> 5)  # (B, m, 2), 53 bits
        offset = start - 2 * first
        return (mantissa.double() * 2.0**-53).flatten(1)[:, offset : offset + n]

    def normal(self, stream: str, shape: Sequence[int]) -> Tensor:
        count = math.prod(shape)
        pairs = (count + 1) // 2
        radius, angle = self.uniform(stream, 2 * pairs).reshape(self.batch, 2, pairs).unbind(1)
        radius = torch.sqrt(-2 * torch.log1p(-radius))  # 1 - u is never 0
        angle = 2 * math.pi * angle
        both = torch.stack((radius * torch.cos(angle), radius * torch.sin(angle)), dim=-1).flatten(1)
        return both[:, :count].float().reshape(self.batch, *shape)

    def permutation(self, stream: str, n: int) -> Tensor:
        return self.uniform(stream, n).argsort(dim=-1, stable=True)

    def categorical(self, probabilities: Tensor, stream: str, start: int = 0) -> Tensor:
        return invert_cdf(probabilities, self.uniform(stream, probabilities.shape[1], start))


class Greedy(Philox):
    """Noise for parity and tests: the most likely category at every draw, zeros for every normal draw."""

    def __init__(self, batch: int, device: str | torch.device = "cpu") -> None:
        super().__init__(range(batch), device)

    def normal(self, stream: str, shape: Sequence[int]) -> Tensor:
        return torch.zeros(self.batch, *shape, device=self.device)

    def categorical(self, probabilities: Tensor, stream: str, start: int = 0) -> Tensor:
        return probabilities.argmax(-1)


LOWEST, HIGHEST = 2.0**-53, 1 - 2.0**-53
"""The ends of what is drawn uniformly, short of 0 itself."""


class Extreme(Philox):
    """Noise for tests whose categories are the rarest: the lowest number, the highest, or both in turn, by sample.

    Normal draws are as ever: of steps that are all eight deviations away nothing can be expected.
    """

    def __init__(self, batch: int, device: str | torch.device = "cpu") -> None:
        super().__init__(range(batch), device)
        self._usual = Philox(range(batch), device)

    def uniform(self, stream: str, n: int, start: int = 0) -> Tensor:
        place = torch.arange(start, start + n, device=self.device) % 2
        high = torch.stack((torch.zeros_like(place), torch.ones_like(place), place, 1 - place)).bool()
        rows = torch.arange(self.batch, device=self.device) % len(high)
        return torch.full((self.batch, n), LOWEST, dtype=torch.float64, device=self.device).where(~high[rows], HIGHEST)

    def normal(self, stream: str, shape: Sequence[int]) -> Tensor:
        return self._usual.normal(stream, shape)


def noise_for(run_seed: int, sample_ids: Sequence[int], device: str | torch.device = "cpu") -> Philox:
    """The noise of a batch of sample ids in a run."""
    return Philox([sample_seed(run_seed, sample_id) for sample_id in sample_ids], device)
