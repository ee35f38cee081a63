"""ACDiT's network: a diffusion transformer over blocks of latents, of which the earlier ones are clean."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arbench.errors import ConfigError

from ...layers.attention import KVCache, attend
from ...layers.checkpoint import replace_patterns
from ...layers.flow_blocks import RMSNorm, TimeEmbedding
from ...layers.linear import Linear
from ...layers.rope import rotate_halves

TRAINING_ONLY = frozenset({"class", "class_dropout_prob", "in_channels", "learn_sigma", "num_frames"})
HEAD = 64
"""Width of a head, in all sizes."""


@dataclass(frozen=True, slots=True)
class Config:
    """Upstream's `ACDiT`, less what only training uses. A token is a patch of `patch_size` latents a side."""

    patch_size: int = 2
    latent_size: int = 16
    block_size: int = 256
    hidden_size: int = 1152
    depth: int = 28
    num_heads: int = 16
    mlp_ratio: float = 4.0
    num_classes: int = 101
    no_qk_norm: bool = False
    ar_len: int = 4
    temporal_len: int = 1
    spatial_len: int = 1024
    nd_split: str | None = None
    square_block: bool = True

    def __post_init__(self) -> None:
        side, block = math.isqrt(self.spatial_len), math.isqrt(self.block_size)
        if self.temporal_len != 1 or self.nd_split not in (None, "1_1"):
            raise ConfigError("this ACDiT draws videos", "its places have a time", "use temporal_len 1")
        if self.hidden_size != HEAD * self.num_heads:
            raise ConfigError(
                f"{self.num_heads} heads do not make up a width of {self.hidden_size}",
                f"upstream's rotations are for heads of {HEAD}",
                f"use {self.hidden_size // HEAD} heads",
            )
        square = not self.square_block or (block**2 == self.block_size and side % block == 0)
        if side**2 != self.spatial_len or self.block_size * self.ar_len != self.spatial_len or not square:
            raise ConfigError(
                f"{self.ar_len} blocks of {self.block_size} do not make up {self.spatial_len} tokens",
                "blocks are squares of a square image, or its rows",
                "use other sizes",
            )

    @property
    def side(self) -> int:
        """Tokens along an edge of the image."""
        return math.isqrt(self.spatial_len)

    @property
    def channels(self) -> int:
        """Numbers of a latent."""
        return self.latent_size // self.patch_size**2

    def order(self) -> Tensor:
        """(L,) the raster index of each token, block by block."""
        cells = torch.arange(self.spatial_len, device="cpu")
        if not self.square_block:
            return cells
        block, count = math.isqrt(self.block_size), self.side // math.isqrt(self.block_size)
        return cells.reshape(count, block, count, block).permute(0, 2, 1, 3).flatten()


def rotations(config: Config) -> Tensor:
    """(2, 1, 1, L, 64) cosines and sines, block by block: 32 channels for the row, 32 for the column.

    Upstream rotates channel i with i + 32, and so a row's with a column's.
    """
    side, half = config.side, HEAD // 2
    base = (int(8 * side / math.pi) // 100 + 1) * 100
    with torch.device("cpu"):
        rates = 1.0 / base ** (torch.linspace(0, HEAD, half // 2) / HEAD)
        angles = torch.outer(torch.arange(side).float(), rates).repeat(1, 2)  # (side, 32)
        order = config.order()
        placed = torch.cat((angles[order // side], angles[order % side]), dim=-1)
        return torch.stack((placed.cos(), placed.sin()))[:, None, None]


class Block(nn.Module):
    """Only the tokens of the last block, which is noisy, are modulated."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width, hidden = config.hidden_size, int(config.hidden_size * config.mlp_ratio)
        self.heads = config.num_heads
        self.norm1, self.norm2 = RMSNorm(width), RMSNorm(width)
        self.qkv, self.out = Linear(width, 3 * width), Linear(width, width)
        self.query_norm, self.key_norm = (nn.Identity() if config.no_qk_norm else RMSNorm(HEAD) for _ in range(2))
        self.mlp_in, self.mlp_out = Linear(width, hidden), Linear(hidden, width)
        self.modulation = Linear(width, 6 * width)

    def forward(
        self,
        x: Tensor,
        modulation: Tensor,
        clean: int,
        turns: Tensor,
        mask: Tensor | None,
        start: int,
        cache: KVCache | None,
        *,
        last: bool = False,
    ) -> Tensor:
        """`x` (B, n, W) stand at `start`, the first `clean` of them unmodulated; `modulation` (B, 6W) is of the others.

        With `last` the clean ones are only read: (B, n - clean, W).
        """
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation.unsqueeze(1).chunk(6, dim=-1)
        h = noisy_only(self.norm1(x), clean, 1 + scale1, shift1)
        query, key, value = self.qkv(h).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query = rotate_halves(self.query_norm(query), turns)
        key = rotate_halves(self.key_norm(key), turns)
        if cache is not None:
            key, value = cache.extend(key, value, start)
        if last and clean:
            query, x, clean = query[:, :, clean:], x[:, clean:], 0
            mask = None  # all are of the last block, which sees everything
        x = x + noisy_only(self.out(attend(query, key, value, mask=mask)), clean, gate1)
        h = noisy_only(self.norm2(x), clean, 1 + scale2, shift2)
        h = self.mlp_out(F.gelu(self.mlp_in(h), approximate="tanh"))
        return x + noisy_only(h, clean, gate2)


def noisy_only(x: Tensor, clean: int, scale: Tensor, shift: Tensor | float = 0.0) -> Tensor:
    """`x` (B, n, W) scaled and shifted (B, 1, W) behind its first `clean` rows."""
    changed = x[:, clean:] * scale + shift
    return torch.cat((x[:, :clean], changed), dim=1) if clean else changed


class Network(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        c, width = config, config.hidden_size
        self.config = config
        self.time = TimeEmbedding(width)
        self.class_table = nn.Embedding(c.num_classes + 1, width)
        self.token_in = Linear(c.latent_size, width, bias=False)
        self.blocks = nn.ModuleList(Block(c) for _ in range(c.depth))
        self.norm = RMSNorm(width)
        self.modulation_out = Linear(width, 2 * width)
        self.token_out = Linear(width, c.latent_size)
        self._turns: dict[torch.device, Tensor] = {}

    def turns(self, device: torch.device) -> Tensor:
        """`rotations`, on the device; made once."""
        if device not in self._turns:
            self._turns[device] = rotations(self.config).to(device)
        return self._turns[device]

    def allocate(self, rows: int) -> list[KVCache]:
        """Caches for `rows` whole images."""
        c, weight = self.config, self.token_in.weight
        return [KVCache(rows, c.num_heads, c.spatial_len, HEAD, weight.dtype, weight.device) for _ in self.blocks]

    def modulations(self, condition: Tensor) -> list[Tensor]:
        """What conditions (N, W) change: (N, 6W) of each block, and last (N, 2W) of the output."""
        raised = F.silu(condition)
        return [layer(raised) for layer in (*(block.modulation for block in self.blocks), self.modulation_out)]

    def forward(
        self,
        tokens: Tensor,
        condition: Tensor | Sequence[Tensor],
        start: int = 0,
        caches: Sequence[KVCache] | None = None,
    ) -> Tensor:
        """(B, block, C) float32 noise in the last block of `tokens` (B, n, C), which stand at `start`.

        `condition` (B, W) is embedded time plus class, or the `modulations` of it. Earlier blocks are clean; each sees
        itself and those before it.
        """
        block, count, end = self.config.block_size, tokens.shape[1], start + tokens.shape[1]
        x = self.token_in(tokens.to(self.token_in.weight.dtype))
        *inner, outer = self.modulations(condition) if isinstance(condition, Tensor) else condition
        turns, mask = self.turns(x.device)[..., start:end, :], None
        if count > block:
            place = torch.arange(end, device=x.device) // block
            mask = place[start if caches is not None else 0 :, None] >= place
        for index, (layer, modulation) in enumerate(zip(self.blocks, inner, strict=True)):
            cache = None if caches is None else caches[index]
            last = index == len(inner) - 1
            x = layer(x, modulation, count - block, turns, mask, start, cache, last=last)
        shift, scale = outer.unsqueeze(1).chunk(2, dim=-1)
        noise: Tensor = self.token_out(self.norm(x) * (1 + scale) + shift)
        return noise.float()

    def grid(self, tokens: Tensor) -> Tensor:
        """(B, C, h, w) latents of tokens (B, L, p * p * C), block by block; the row in a patch counts slowest."""
        c, p = self.config, self.config.patch_size
        if c.square_block:
            block = math.isqrt(c.block_size)
            count = c.side // block
            tokens = tokens.reshape(-1, count, count, block, block, c.latent_size).permute(0, 1, 3, 2, 4, 5)
        laid = tokens.reshape(-1, c.side, c.side, p, p, c.channels).permute(0, 5, 1, 3, 2, 4)
        return laid.reshape(-1, c.channels, c.side * p, c.side * p)


_TO_OFFICIAL = (
    (r"^time\.time_in\.", "t_embedder.mlp.0."),
    (r"^time\.time_out\.", "t_embedder.mlp.2."),
    (r"^class_table\.", "y_embedder.embedding_table."),
    (r"^token_in\.", "x_embedder."),
    (r"^norm\.", "final_layer.norm_final."),
    (r"^modulation_out\.", "final_layer.adaLN_modulation.1."),
    (r"^token_out\.", "final_layer.linear."),
    (r"\.modulation\.", ".adaLN_modulation.1."),
    (r"\.query_norm\.", ".attn.q_norm."),
    (r"\.key_norm\.", ".attn.k_norm."),
    (r"\.qkv\.", ".attn.qkv."),
    (r"\.out\.", ".attn.proj."),
    (r"\.mlp_in\.", ".mlp.fc1."),
    (r"\.mlp_out\.", ".mlp.fc2."),
)


def official_names(ours: str) -> tuple[str, ...]:
    """The official key of one of our parameters."""
    return (replace_patterns(ours, _TO_OFFICIAL),)
