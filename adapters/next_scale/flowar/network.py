"""FlowAR's networks: a transformer over scales of latents, and a flow over the tokens of one scale."""

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
from ...layers.encoder_decoder import EncoderDecoder
from ...layers.flow_blocks import TO_OFFICIAL, Attention, FlowBlock, GatedMLP, RMSNorm, TimeEmbedding, rms_normal
from ...layers.linear import Linear
from ...layers.rope import rotate_pairs, spread_rotations

TRAINING_ONLY = frozenset({"class", "label_drop_prob", "attn_dropout", "proj_dropout", "use_checkpoint", "class_num"})
IGNORED = (r"mask", r".*\.rope\.freqs")
SPAN = 16
"""Every grid covers the places of this many cells."""
BETWEEN = 16
"""Side of the map that a scale is enlarged to before it is reduced to the next, whatever the image's size."""


@dataclass(frozen=True, slots=True)
class Config(EncoderDecoder):
    """Upstream's `FlowAR`, less what only training uses."""

    vae_stride: int = 16
    buffer_size: int = 0
    diffloss_d: int = 3
    diffloss_w: int = 1024
    scale: tuple[int, ...] = (1, 2, 4, 8, 16)
    cross: bool = False
    classes: int = 1000
    """Hard-coded upstream, whatever its `class_num`; the row behind them is "no class"."""

    def __post_init__(self) -> None:
        if self.buffer_size or self.patch_size != 1 or self.encoder_embed_dim != self.decoder_embed_dim:
            raise ConfigError(
                "this FlowAR cannot be sampled",
                "upstream's sampler knows no buffer, tokens of one latent and equal widths",
                "use buffer_size 0, patch_size 1 and the encoder's width for the decoder",
            )

    @property
    def starts(self) -> tuple[int, ...]:
        """Place of the first token of each scale, and one behind the last."""
        return tuple(sum(side * side for side in self.scale[:index]) for index in range(len(self.scale) + 1))


class Turns:
    """Rotations of square grids, made once on the device they are used on."""

    def __init__(self, width: int) -> None:
        self.width = width
        self._kept: dict[tuple[int, torch.device], Tensor] = {}

    def __call__(self, tokens: int, device: torch.device) -> Tensor:
        side = math.isqrt(tokens)
        if (side, device) not in self._kept:
            self._kept[side, device] = spread_rotations(side, self.width, span=SPAN).to(device)
        return self._kept[side, device]


class CrossBlock(nn.Module):
    """A block of the flow network that also reads the states, as the larger models have it."""

    def __init__(self, width: int, heads: int, states: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention = Attention(width, heads, bias=False)
        self.x_norm, self.state_norm = RMSNorm(width), RMSNorm(states)
        self.query = Linear(width, width, bias=False)
        self.key_value = Linear(states, 2 * width, bias=False)
        self.out = Linear(width, width)
        self.mlp = GatedMLP(width, 4.0)
        self.attention_modulation = Linear(width, 3 * width)
        self.mlp_modulation = Linear(width, 3 * width)

    def forward(self, x: Tensor, time: Tensor, condition: Tensor, states: Tensor, rotations: Tensor) -> Tensor:
        gate, scale, shift = self.attention_modulation(F.silu(time)).chunk(3, dim=-1)
        x = x + self.attention(rms_normal(x) * (scale + 1) + shift, rotations) * gate
        query = self.query(self.x_norm(x)).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        key, value = self.key_value(self.state_norm(states)).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.out(attend(rotate_pairs(query, rotations), rotate_pairs(key, rotations), value))
        gate, scale, shift = self.mlp_modulation(F.silu(condition + time)).chunk(3, dim=-1)
        out: Tensor = x + self.mlp(rms_normal(x) * (scale + 1) + shift) * gate
        return out


class FlowNet(nn.Module):
    """The velocity of the tokens of one scale, given a state for each."""

    def __init__(self, channels: int, states: int, width: int, depth: int, *, cross: bool) -> None:
        super().__init__()
        heads = width // 64
        self.turns = Turns(width // heads)
        self.time = TimeEmbedding(width)
        self.state_in = Linear(states, width)
        self.token_in = Linear(channels, width)
        self.blocks = nn.ModuleList(
            CrossBlock(width, heads, states) if cross else FlowBlock(width, heads, bias=False) for _ in range(depth)
        )
        self.modulation = Linear(width, 2 * width)
        self.out = Linear(width, channels)

    def forward(self, noisy: Tensor, times: Tensor, states: Tensor) -> Tensor:
        """(B, n, C) from tokens (B, n, C) at times (B or 1,), whole thousandths, and states (B, n, Z)."""
        return self.velocity(noisy, times, states, self.turns(noisy.shape[1], noisy.device))

    def velocity(self, noisy: Tensor, times: Tensor, states: Tensor, rotations: Tensor) -> Tensor:
        """The same, with the rotations of so many tokens."""
        time = self.time(times).unsqueeze(1)
        condition = self.state_in(states)
        x = self.token_in(noisy)
        for block in self.blocks:
            if isinstance(block, CrossBlock):
                x = block(x, time, condition, states, rotations)
            else:
                x = block(x, block.modulate(F.silu(time + condition)), rotations)
        shift, scale = self.modulation(F.silu(condition + time)).chunk(2, dim=-1)
        out: Tensor = self.out(rms_normal(x) * (1 + scale) + shift)
        return out


class Network(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        c, width = config, config.encoder_embed_dim
        self.config = config
        self.turns = Turns(width // c.encoder_num_heads), Turns(width // c.decoder_num_heads)
        self.class_table = nn.Embedding(c.classes + 1, width)
        self.token_in = Linear(c.vae_embed_dim, width)
        self.token_norm = RMSNorm(width)
        self.encoder_position, self.decoder_position, self.state_position = (
            nn.Parameter(torch.empty(1, c.starts[-1], width)) for _ in range(3)
        )
        for position in (self.encoder_position, self.decoder_position, self.state_position):
            nn.init.normal_(position, std=0.02)
        self.encoder = nn.ModuleList(FlowBlock(width, c.encoder_num_heads, c.mlp_ratio) for _ in range(c.encoder_depth))
        self.encoder_norm = RMSNorm(width)
        self.decoder_in = Linear(width, width)
        self.decoder = nn.ModuleList(FlowBlock(width, c.decoder_num_heads, c.mlp_ratio) for _ in range(c.decoder_depth))
        self.decoder_norm = RMSNorm(width)
        self.flow = FlowNet(c.vae_embed_dim, width, c.diffloss_w, c.diffloss_d, cross=c.cross)

    def modulate(self, condition: Tensor) -> list[Tensor]:
        """One (B, 1, 6, W) for each block, from class embeddings (B, W); the same at every scale."""
        raised = F.silu(condition).unsqueeze(1)
        return [block.modulate(raised) for block in (*self.encoder, *self.decoder)]

    def forward(
        self, x: Tensor, modulations: Sequence[Tensor], scale: int, caches: Sequence[KVCache] | None = None
    ) -> Tensor:
        """(B, n, W) states of the tokens of a scale, from what it is fed (B, n, W); earlier scales are cached."""
        start, tokens = self.config.starts[scale], x.shape[1]
        turns = [each(tokens, x.device) for each in self.turns]
        return self.through(x, modulations, slice(start, start + tokens), turns, caches)

    def together(self, x: Tensor, modulations: Sequence[Tensor]) -> Tensor:
        """(B, L, W) states of all scales in one pass, as `forward` gives them one by one, from all that is fed."""
        sides, device = self.config.scale, x.device
        turns = [torch.cat([each(side * side, device) for side in sides]) for each in self.turns]
        of = torch.cat([torch.full((side * side,), scale, device=device) for scale, side in enumerate(sides)])
        return self.through(x, modulations, slice(None), turns, mask=of[:, None] >= of)

    def through(
        self,
        x: Tensor,
        modulations: Sequence[Tensor],
        place: slice,
        turns: Sequence[Tensor],
        caches: Sequence[KVCache] | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """(B, n, W) states of the tokens at `place`, whose rotations in encoder and decoder are `turns`."""
        x = self.token_norm(x + self.encoder_position[:, place])
        depth = len(self.encoder)
        for index, block in enumerate((*self.encoder, *self.decoder)):
            if index == depth:
                x = self.decoder_in(self.encoder_norm(x)) + self.decoder_position[:, place]
            cache = None if caches is None else caches[index]
            x = block(x, modulations[index], turns[index >= depth], place.start or 0, cache, mask)
        states: Tensor = self.decoder_norm(x) + self.state_position[:, place]
        return states

    def fed(self, latents: Tensor, side: int, *, between: tuple[int, int]) -> Tensor:
        """(B, side^2, W): what a scale of `side` is fed, from the latents (B, C, n, n) of the scale before."""
        large = F.interpolate(latents, size=between, mode="bicubic")
        small = F.interpolate(large, size=(side, side), mode="area").flatten(2).mT
        embedded: Tensor = self.token_in(small.to(self.token_in.weight.dtype))
        return embedded

    def allocate(self, rows: int) -> list[KVCache]:
        """Caches for `rows` whole images, one for each block."""
        c, weight = self.config, self.decoder_in.weight
        return [
            KVCache(rows, heads, c.starts[-1], c.encoder_embed_dim // heads, weight.dtype, weight.device)
            for heads, depth in ((c.encoder_num_heads, c.encoder_depth), (c.decoder_num_heads, c.decoder_depth))
            for _ in range(depth)
        ]


_TO_OFFICIAL = (
    *TO_OFFICIAL,
    (r"^class_table\.", "class_emb."),
    (r"^token_in\.", "z_proj."),
    (r"^token_norm\.", "z_proj_ln."),
    (r"^(en|de)coder_position", r"\1coder_pos_embed_learned"),
    (r"^state_position", "diffusion_pos_embed_learned"),
    (r"^decoder_in\.", "decoder_embed."),
    (r"^(en|de)coder\.(\d+)\.modulation\.", r"\1coder_blocks.\2.ada_lin.1."),
    (r"^(en|de)coder\.", r"\1coder_blocks."),
    (r"^flow\.blocks\.(\d+)\.modulation\.", r"flownet.res_blocks.\1.ada_lin."),
    (r"^flow\.blocks\.(\d+)\.attention_modulation\.", r"flownet.res_blocks.\1.ada_lin_attn."),
    (r"^flow\.blocks\.(\d+)\.mlp_modulation\.", r"flownet.res_blocks.\1.ada_lin_mlp."),
    (r"^flow\.blocks\.(\d+)\.x_norm\.", r"flownet.res_blocks.\1.norm2_1."),
    (r"^flow\.blocks\.(\d+)\.state_norm\.", r"flownet.res_blocks.\1.norm2_2."),
    (r"^flow\.blocks\.(\d+)\.query\.", r"flownet.res_blocks.\1.crossattn.q."),
    (r"^flow\.blocks\.(\d+)\.key_value\.", r"flownet.res_blocks.\1.crossattn.kv."),
    (r"^flow\.blocks\.(\d+)\.out\.", r"flownet.res_blocks.\1.crossattn.proj."),
    (r"^flow\.blocks\.", "flownet.res_blocks."),
    (r"^flow\.time\.", "flownet.time_embed."),
    (r"^flow\.state_in\.", "flownet.cond_embed."),
    (r"^flow\.token_in\.", "flownet.input_proj."),
    (r"^flow\.modulation\.", "flownet.final_layer.adaLN_modulation.1."),
    (r"^flow\.out\.", "flownet.final_layer.linear."),
)


def official_names(ours: str) -> tuple[str, ...]:
    """The official key of one of our parameters."""
    return (replace_patterns(ours, _TO_OFFICIAL),)
