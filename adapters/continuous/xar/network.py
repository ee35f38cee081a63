"""xAR's network: a transformer over cells, of which the earlier ones are clean and the last one is noisy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arbench.errors import ConfigError

from ...layers.attention import KVCache
from ...layers.checkpoint import replace_patterns
from ...layers.encoder_decoder import EncoderDecoder
from ...layers.flow_blocks import TO_OFFICIAL, FlowBlock, RMSNorm, TimeEmbedding
from ...layers.linear import Linear
from ...layers.rope import grid_rotations

TRAINING_ONLY = frozenset({"class", "label_drop_prob", "attn_dropout", "proj_dropout", "diffusion_batch_mul"}) | {
    "class_num"
}
IGNORED = (r"mask", r".*\.rope\.freqs(_cos|_sin)?")
CLASSES, CHANNELS, CELLS, CELL = 1000, 16, 4, 64
"""Hard-coded upstream: classes before "no class", numbers of a token, cells, and tokens of a cell."""


@dataclass(frozen=True, slots=True)
class Config(EncoderDecoder):
    """Upstream's `xAR`, less what only training uses."""

    vae_stride: int = 16
    clusters: int = 4

    def __post_init__(self) -> None:
        sides = self.img_size // self.vae_stride // self.patch_size
        if (sides**2, self.clusters, self.vae_embed_dim, self.patch_size) != (CELLS * CELL, CELLS, CHANNELS, 1):
            raise ConfigError(
                f"xAR has no {self.clusters} cells of {sides} x {sides} tokens",
                "upstream's code is made for 4 cells of 8 x 8 latents of 16 numbers",
                "use its img_size 256 and vae_stride 16",
            )
        if self.encoder_embed_dim != self.decoder_embed_dim:
            raise ConfigError(
                "encoder and decoder of this xAR differ in width", "they share one condition", "use one width"
            )


class Network(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        c, width = config, config.encoder_embed_dim
        self.config = config
        self.class_table = nn.Embedding(CLASSES + 1, width)
        self.time = TimeEmbedding(width)
        self.token_in = Linear(CHANNELS, width)
        self.token_norm = RMSNorm(width)
        self.encoder_position, self.decoder_position = (
            nn.Parameter(torch.empty(1, CELLS * CELL, width)) for _ in range(2)
        )
        for position in (self.encoder_position, self.decoder_position):
            nn.init.normal_(position, std=0.02)
        self.encoder = nn.ModuleList(FlowBlock(width, c.encoder_num_heads, c.mlp_ratio) for _ in range(c.encoder_depth))
        self.encoder_norm = RMSNorm(width)
        self.decoder_in = Linear(width, width)
        self.decoder = nn.ModuleList(FlowBlock(width, c.decoder_num_heads, c.mlp_ratio) for _ in range(c.decoder_depth))
        self.decoder_norm = RMSNorm(width)
        self.token_out = Linear(width, CHANNELS)
        self._turns: dict[tuple[int, torch.device], Tensor] = {}

    def turns(self, heads: int, device: torch.device) -> Tensor:
        """(L, D / 2, 2) rotations of all tokens, cell by cell; made once."""
        kept = self._turns.get((heads, device))
        if kept is None:
            table = grid_rotations(16, self.config.encoder_embed_dim // heads).to(device)
            kept = self._turns[heads, device] = in_cells(table.unsqueeze(0))[0]
        return kept

    def forward(
        self,
        tokens: Tensor,
        conditions: Sequence[Tensor],
        start: int = 0,
        caches: Sequence[KVCache] | None = None,
    ) -> Tensor:
        """(B, 64, 16) velocity of the last cell of `tokens` (B, n, 16), which stand at `start` in cell order.

        `conditions` (B, W) are one for each of the cells that are given. A cell sees itself and those before it.
        """
        count, end = tokens.shape[1], start + tokens.shape[1]
        raised = torch.stack([F.silu(each) for each in conditions], dim=1)  # (B, cells, W)
        mask = None
        if len(conditions) > 1:
            cell = torch.arange(end, device=tokens.device) // CELL
            mask = cell[start:, None] >= cell
        x = self.token_norm(self.token_in(tokens) + self.encoder_position[:, start:end])
        depth, config = len(self.encoder), self.config
        for index, block in enumerate((*self.encoder, *self.decoder)):
            if index == depth:
                x = self.decoder_in(self.encoder_norm(x)) + self.decoder_position[:, start:end]
            heads = config.decoder_num_heads if index >= depth else config.encoder_num_heads
            modulation = block.modulate(raised).repeat_interleave(CELL, dim=1)
            turns = self.turns(heads, x.device)[start:end]
            x = block(x, modulation, turns, start, None if caches is None else caches[index], mask)
        velocity: Tensor = self.token_out(self.decoder_norm(x[:, count - CELL :]))
        return velocity

    def allocate(self, rows: int) -> list[KVCache]:
        """Caches for `rows` whole images, one for each block."""
        c, weight = self.config, self.decoder_in.weight
        return [
            KVCache(rows, heads, CELLS * CELL, c.encoder_embed_dim // heads, weight.dtype, weight.device)
            for heads, depth in ((c.encoder_num_heads, c.encoder_depth), (c.decoder_num_heads, c.decoder_depth))
            for _ in range(depth)
        ]


def in_cells(tokens: Tensor) -> Tensor:
    """(B, 256, ...) tokens cell by cell, from those in raster order."""
    return tokens.unflatten(1, (2, 8, 2, 8)).transpose(2, 3).flatten(1, 4)


def in_raster(tokens: Tensor) -> Tensor:
    """The inverse of `in_cells`."""
    return tokens.unflatten(1, (2, 2, 8, 8)).transpose(2, 3).flatten(1, 4)


_TO_OFFICIAL = (
    *TO_OFFICIAL,
    (r"^class_table\.", "class_emb."),
    (r"^time\.", "time_embed."),
    (r"^token_in\.", "z_proj."),
    (r"^token_norm\.", "z_proj_ln."),
    (r"^(en|de)coder_position", r"\1coder_pos_embed_learned"),
    (r"^decoder_in\.", "decoder_embed."),
    (r"^(en|de)coder\.(\d+)\.modulation\.", r"\1coder_blocks.\2.ada_lin.1."),
    (r"^(en|de)coder\.", r"\1coder_blocks."),
    (r"^token_out\.", "pred."),
)


def official_names(ours: str) -> tuple[str, ...]:
    """The official key of one of our parameters."""
    return (replace_patterns(ours, _TO_OFFICIAL),)
