"""A small autoregressive network trained on token ids: how many bits each costs it. The same for all tokenizers."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from .codes import NO_TOKEN

DIGIT = 256
"""Most values of a digit: ids of larger vocabularies are several digits, so that the network is the same for all."""
WIDTH, LAYERS, HEADS = 64, 2, 4
END = -100
"""In place of a digit beyond an image's last token; PyTorch's cross entropy leaves it out."""
AT_ONCE = 4096
"""Digits of a training step: as many images as have so many, one at least."""
RATE = 3e-3
"""Learning rate, that rises over a tenth of the steps and falls to 0 along a cosine."""
HELD = 5
"""One in so many images is held out; one in so many of the rest says which step is kept."""
CHECKS = 10
"""How often during training these are looked at, the untrained network included."""


def bits_of_tokens(
    ids: NDArray[np.integer],
    vocabulary: int,
    steps: int,
    seed: int,
    device: str = "cpu",
    progress: Callable[[int], None] = lambda step: None,
) -> NDArray[np.float64]:
    """(held-out images, T) bits of each token given those before, of ids (N, T) in 0..V - 1; N is 10 at least.

    Rows may end in `NO_TOKEN`, images that have fewer tokens: nothing is learnt of the end, nor counted, where bits are
    NaN. So an image's bits are those of its own tokens, given that their number is known.

    The network begins as a uniform distribution over the vocabulary, and what is kept of the training is the step that
    serves images best which it is not trained on. So codes with nothing to learn cost log2 V bits, and no more than a
    little. Equal seeds give equal numbers on one machine.
    """
    digits, values = as_digits(ids, vocabulary)
    digits[digits < 0] = END
    held = len(ids) // HELD
    chosen = (len(ids) - held) // HELD
    rows = torch.from_numpy(digits).to(device)
    train, check, test = rows[: len(rows) - held - chosen], rows[len(rows) - held - chosen :][:chosen], rows[-held:]
    with torch.inference_mode(False), torch.enable_grad():
        network = _Network(digits.shape[1], values, torch.Generator().manual_seed(seed))
        network.to(device)
        kept = _trained(network, train.clone(), check, steps, torch.Generator().manual_seed(seed), progress)
    network.load_state_dict(kept)
    bits = network.bits(test) / math.log(2)
    found: NDArray[np.float64] = bits.reshape(held, ids.shape[1], -1).sum(2).double().cpu().numpy()
    found[ids[-held:] == NO_TOKEN] = np.nan
    return found


def as_digits(ids: NDArray[np.integer], vocabulary: int) -> tuple[NDArray[np.int64], list[int]]:
    """(N, T k) digits of each id, the most significant first, and how many values each of the k can have.

    Those of `NO_TOKEN` are below 0.
    """
    count = max(1, math.ceil(math.log2(max(vocabulary, 2)) / math.log2(DIGIT)))
    base, top = _radix(max(vocabulary, 2), count)
    powers = base ** np.arange(count - 1, -1, -1, dtype=np.int64)
    digits = ids.astype(np.int64)[..., None] // powers
    digits[..., 1:] %= base
    digits[ids == NO_TOKEN] = -1
    return digits.reshape(len(ids), -1), [top, *[base] * (count - 1)]


def _radix(vocabulary: int, count: int) -> tuple[int, int]:
    """(base, values of the first digit) of numbers of `count` digits that waste least, and then are most alike."""
    if count == 1:
        return vocabulary, vocabulary
    found = []
    for base in range(2, DIGIT + 1):
        top = -(-vocabulary // base ** (count - 1))
        if 2 <= top <= DIGIT:
            found.append((top * base ** (count - 1), max(top, base), base, top))
    _, _, base, top = min(found)
    return base, top


class _Network(nn.Module):
    """A causal transformer over digits; its output begins at 0, which is a uniform distribution."""

    def __init__(self, length: int, values: list[int], draw: torch.Generator) -> None:
        super().__init__()
        base = max(values)
        self.digits = nn.Parameter(torch.randn(base + 1, WIDTH, generator=draw) * 0.5)  # the last one begins
        self.places = nn.Parameter(torch.randn(length, WIDTH, generator=draw) * 0.1)
        self.blocks = nn.ModuleList(_Block(draw) for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH)
        self.out = nn.Parameter(torch.zeros(WIDTH, base))
        self.bias = nn.Parameter(torch.zeros(length, base))
        possible = torch.arange(base) < torch.tensor(values).repeat(length // len(values))[:, None]
        self.register_buffer("impossible", ~possible)

    def forward(self, rows: Tensor) -> Tensor:
        """(B, L, base) logits of digits (B, L) given those before."""
        begin = torch.full_like(rows[:, :1], len(self.digits) - 1)
        before = torch.cat([begin, rows[:, :-1].clamp(min=0)], dim=1)  # those behind the end see only each other
        x = F.embedding(before, self.digits) + self.places
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.norm(x) @ self.out + self.bias
        assert isinstance(self.impossible, Tensor)
        return logits.masked_fill(self.impossible, -math.inf)

    def loss(self, rows: Tensor) -> Tensor:
        """(B, L) nats, 0 beyond the end."""
        return F.cross_entropy(self(rows).transpose(1, 2), rows, reduction="none", ignore_index=END)

    @torch.no_grad()
    def bits(self, rows: Tensor) -> Tensor:
        """(B, L) nats without gradients, few images at a time."""
        return torch.cat([self.loss(part) for part in torch.split(rows, _images(rows))])


class _Block(nn.Module):
    def __init__(self, draw: torch.Generator) -> None:
        super().__init__()
        self.before, self.after = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.back = _weight(WIDTH, 3 * WIDTH, draw), _weight(WIDTH, WIDTH, draw)
        self.up, self.down = _weight(WIDTH, 4 * WIDTH, draw), _weight(4 * WIDTH, WIDTH, draw)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (self.before(x) @ self.qkv).unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(query, key, value, is_causal=True).transpose(1, 2).flatten(2)
        x = x + seen @ self.back
        found: Tensor = x + F.gelu(self.after(x) @ self.up) @ self.down
        return found


def _weight(inner: int, outer: int, draw: torch.Generator) -> nn.Parameter:
    return nn.Parameter(torch.randn(inner, outer, generator=draw) / math.sqrt(inner))


def _images(rows: Tensor) -> int:
    return max(1, AT_ONCE // rows.shape[1])


def _trained(
    network: _Network, train: Tensor, check: Tensor, steps: int, draw: torch.Generator, progress: Callable[[int], None]
) -> dict[str, Tensor]:
    """The parameters at the step that costs `check` least."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.01)
    size = min(_images(train), len(train))
    best, kept = math.inf, dict[str, Tensor]()
    looks = {round(steps * part / CHECKS) for part in range(CHECKS + 1)}
    for step in range(steps + 1):
        if step in looks:
            cost = float(network.bits(check).sum())
            if cost < best:
                best, kept = cost, {name: value.detach().clone() for name, value in network.state_dict().items()}
        if step == steps:
            break
        for group in optimizer.param_groups:
            warm = min(1.0, (step + 1) / max(1, steps / 10))
            group["lr"] = RATE * warm * (1 + math.cos(math.pi * step / steps)) / 2
        rows = torch.randint(len(train), (size,), generator=draw)
        optimizer.zero_grad()
        part = train[rows.to(train.device)]
        (network.loss(part).sum() / (part != END).sum()).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        progress(step + 1)
    return kept
