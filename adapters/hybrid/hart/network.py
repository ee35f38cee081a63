"""HART's network: a Llama-style transformer over caption and token maps, with a diffusion head for the residual."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arbench.errors import ConfigError

from ...layers.attention import KVCache
from ...layers.checkpoint import replace_all
from ...layers.diffusion_head import DiffusionHead, official_head_name, time_features
from ...layers.linear import Linear
from ...layers.scale_attention import ScaleAttention

ROPE_BASE = 10000.0


@dataclass(frozen=True, slots=True)
class Config:
    """Upstream's `HARTForT2IConfig`, less what only training uses, and the tokenizer's code count and width."""

    patch_nums: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)
    vocab_size: int = 4096
    z_channels: int = 32
    context_token: int = 77
    context_dim: int = 768
    depth: int = 16
    embed_dim: int = 1024
    num_heads: int = 16
    mlp_ratio: float = 4.0
    norm_eps: float = 1e-6
    shared_aln: bool = False
    attn_l2_norm: bool = False
    mlp_type: str = "gpt2"
    attn_type: str = "gpt2"
    disable_aln: bool = False
    use_timestep_embed: bool = False
    sep_aln_pooling_mode: str = "max"
    use_cross_attn: bool = False
    use_context_norm: bool = False
    diff_width: int = 1024
    diff_depth: int = 6
    num_sampling_steps: str = "8"
    sampler: str = "iddpm"

    def __post_init__(self) -> None:
        wrong = {
            "attn_type": self.attn_type != "llama",  # upstream's sampler fails on any other
            "mlp_type": self.mlp_type not in ("gpt2", "llama"),
            "sep_aln_pooling_mode": self.sep_aln_pooling_mode not in ("max", "avg"),
            "use_cross_attn": self.use_cross_attn,  # upstream's mixes the samples of a batch
            "sampler": self.sampler != "iddpm",
            "num_sampling_steps": not str(self.num_sampling_steps).isdecimal(),
            "patch_nums": len(self.patch_nums) < 2,
            "context_token": self.context_token < 1,
            "num_heads": self.embed_dim % self.num_heads != 0 or (self.embed_dim // self.num_heads) % 4 != 0,
        }
        found = ", ".join(f"{name}={getattr(self, name)!r}" for name, bad in wrong.items() if bad)
        if found:
            raise ConfigError(
                f"no HART network has {found}",
                "upstream samples with Llama attention, an iddpm head and at least two scales only",
                "use the values of an official config.json",
            )

    @property
    def lengths(self) -> tuple[int, ...]:
        """Positions that each scale takes in the sequence: the caption stands for the first."""
        return self.context_token, *(side * side for side in self.patch_nums[1:])

    @property
    def starts(self) -> tuple[int, ...]:
        """First position of each scale."""
        return tuple(sum(self.lengths[:scale]) for scale in range(len(self.lengths)))


TRAINING_ONLY = frozenset(
    {"class", "vae_path", "drop_rate", "attn_drop_rate", "drop_path_rate", "cond_drop_rate", "flash_if_available"}
    | {"fused_if_available", "diffusion_batch_mul", "diffusion_head_repeats"}
    | {"context_norm_scale"}  # where the norm's weight starts, and upstream's fused norm ignores even that
)


class Norm(nn.Module):
    """Root mean square norm in float32, whatever the type of its weight."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), x.shape[-1:], self.weight.float(), self.eps)


def pooled(context: Tensor, mask: Tensor, how: str) -> Tensor:
    """(B, C) of caption states (B, T, C): the largest over all, padding included, or the mean where `mask` is set."""
    if how == "max":
        return context.amax(1)
    weights = mask.to(context.dtype)
    return (context * (weights / weights.sum(1, keepdim=True).clamp(min=1)).unsqueeze(-1)).sum(1)


class Block(nn.Module):
    """Attention and MLP behind one and the same norm, modulated by the pooled caption or not at all."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width, ratio = config.embed_dim, config.mlp_ratio
        self.pooling = config.sep_aln_pooling_mode
        self.norm = Norm(width, config.norm_eps)
        self.attention = ScaleAttention(width, config.num_heads, unit=config.attn_l2_norm)
        self.gated = config.mlp_type == "llama"
        hidden = int(width * ratio * 2 / 3 + 255) // 256 * 256 if self.gated else round(width * ratio)
        if self.gated:
            self.gate = Linear(width, hidden, bias=False)
        self.mlp_in = Linear(width, hidden, bias=not self.gated)
        self.mlp_out = Linear(hidden, width, bias=not self.gated)
        self.adaptive, self.table = not config.disable_aln, config.disable_aln and config.shared_aln
        if self.adaptive:
            self.modulation = Linear(width, 6 * width)
        elif self.table:
            self.modulation_offset = nn.Parameter(torch.zeros(6, width))

    def modulate(self, context: Tensor, mask: Tensor) -> Tensor | None:
        """(B, 1, 6, C): gates, scales and shifts of attention and MLP, two each, from the caption (B, T, C)."""
        if self.adaptive:
            raised = F.silu(pooled(context, mask, self.pooling)).type_as(self.modulation.weight)
            return self.modulation(raised).unflatten(-1, (1, 6, -1)).float()
        if self.table:
            return (self.modulation_offset.float() + pooled(context, mask, "avg").unsqueeze(1)).unsqueeze(1)
        return None

    def forward(
        self,
        x: Tensor,
        modulation: Tensor | None,
        rotations: Tensor,
        start: int = 0,
        cache: KVCache | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """`x` (B, n, C) in float32: sums and norms stay there, whatever the type of the weights."""
        dtype = self.mlp_in.weight.dtype
        if modulation is None:
            x = x + self.attention(self.norm(x).to(dtype), start, cache, mask, rotations)
            return x + self._mlp(self.norm(x).to(dtype))
        gate1, gate2, scale1, scale2, shift1, shift2 = modulation.unbind(2)
        adapted = (self.norm(x) * (scale1 + 1) + shift1).to(dtype)
        x = x + self.attention(adapted, start, cache, mask, rotations) * gate1
        return x + self._mlp((self.norm(x) * (scale2 + 1) + shift2).to(dtype)) * gate2

    def _mlp(self, x: Tensor) -> Tensor:
        h = self.mlp_in(x)
        h = F.silu(self.gate(x)) * h if self.gated else F.gelu(h, approximate="tanh")
        out: Tensor = self.mlp_out(h)
        return out


@dataclass(frozen=True, slots=True)
class Text:
    """A batch of captions, embedded: states (B, T, C), positions (B, T) and what modulates each block."""

    states: Tensor
    positions: Tensor
    modulations: tuple[Tensor | None, ...]

    def first(self, rows: int) -> Text:
        kept = tuple(None if each is None else each[:rows] for each in self.modulations)
        return Text(self.states[:rows], self.positions[:rows], kept)


class Network(nn.Module):
    """The transformer. Blocks and diffusion head may be in half precision; the rest is float32."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width, eps = config.embed_dim, config.norm_eps
        self.config = config
        self.caption_norm = Norm(config.context_dim, eps) if config.use_context_norm else nn.Identity()
        self.caption_in = Linear(config.context_dim, width)
        self.features_in = Linear(config.z_channels, width)
        if config.use_timestep_embed:
            self.level_in, self.level_out = Linear(256, width), Linear(width, width)
        else:
            self.level_table = nn.Embedding(len(config.patch_nums), width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.head_norm = Norm(width, eps)
        self.head_modulation = Linear(width, 2 * width)
        self.head = Linear(width, config.vocab_size)
        self.residual_norm = Norm(width, eps)
        self.residual_head = DiffusionHead(config.z_channels, width, config.diff_width, config.diff_depth)

    def place(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        self.to(device=device, dtype=torch.float32)
        self.blocks.to(dtype=dtype)
        self.residual_head.to(dtype=dtype)
        return self

    # ---- inputs ------------------------------------------------------------------------------------------------------

    def read(self, captions: Tensor, mask: Tensor) -> Text:
        """Embed features (B, T, D) of a text encoder; `mask` (B, T) is 1 where there is text."""
        states = self.caption_in(self.caption_norm(captions.float()))
        modulations = tuple(block.modulate(states, mask) for block in self.blocks)
        return Text(states, mask.long().cumsum(1) - 1, modulations)

    def levels(self) -> Tensor:
        """(K, C): the embedding of each scale."""
        if not self.config.use_timestep_embed:
            return self.level_table.weight
        numbers = torch.arange(len(self.config.patch_nums), device=self.level_in.weight.device)
        embedded: Tensor = self.level_out(F.silu(self.level_in(time_features(numbers))))
        return embedded

    def _angles(self, positions: Tensor, stride: int) -> Tensor:
        """(..., D / stride) angles at positions (...)."""
        width = self.config.embed_dim // self.config.num_heads
        channels = torch.arange(0, width, stride, device=positions.device).float()
        return positions.float().unsqueeze(-1) * (1.0 / ROPE_BASE ** (channels / width))

    def caption_rotations(self, text: Text) -> Tensor:
        """(2, B, 1, T, D) for `rotate_halves`."""
        angles = self._angles(text.positions, 2).repeat(1, 1, 2)
        return torch.stack((angles.cos(), angles.sin())).unsqueeze(2)

    def map_rotations(self, text: Text, scale: int) -> Tensor:
        """(2, B, 1, side^2, D): places are stretched to the largest map and follow the caption's last position.

        The first half of the channels turns with the row and the second with the column, though `rotate_halves` pairs
        a channel of one with one of the other; that is how upstream was trained.
        """
        side = self.config.patch_nums[scale]
        places = torch.arange(side, device=text.positions.device) / side * self.config.patch_nums[-1]
        grid = torch.stack(torch.meshgrid(places, places, indexing="ij"), dim=-1).flatten(0, 1)  # (n, 2)
        angles = self._angles(grid + text.positions[:, -1, None, None], 4)  # (B, n, 2, D / 4)
        angles = angles.repeat(1, 1, 1, 2).flatten(2)
        return torch.stack((angles.cos(), angles.sin())).unsqueeze(2)

    # ---- states and logits -------------------------------------------------------------------------------------------

    def forward(
        self,
        x: Tensor,
        text: Text,
        rotations: Tensor,
        start: int = 0,
        caches: Sequence[KVCache] | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """(B, n, C) states of the tokens from position `start` on; earlier ones are in the caches."""
        for index, (block, modulation) in enumerate(zip(self.blocks, text.modulations, strict=True)):
            x = block(x, modulation, rotations, start, None if caches is None else caches[index], mask)
        return x

    def logits(self, x: Tensor, text: Text) -> Tensor:
        """(B, n, V) float32. What modulates the head is the largest caption state, padding included."""
        raised = F.silu(text.states.amax(1))
        scale, shift = self.head_modulation(raised).unflatten(-1, (1, 2, -1)).unbind(2)
        logits: Tensor = self.head(self.head_norm(x) * (scale + 1) + shift)
        return logits

    def joined(self, x: Tensor, codes: Tensor) -> Tensor:
        """(B, n, C), what the diffusion head embeds: states of the last scale with their codes (B, n, C_vae)."""
        joined: Tensor = self.residual_norm(x + self.features_in(codes))
        return joined.type_as(self.residual_head.state_in.weight)

    def residual_states(self, x: Tensor, codes: Tensor) -> Tensor:
        """(B, n, W), what the diffusion head is given: `joined`, embedded."""
        states: Tensor = self.residual_head.state_in(self.joined(x, codes))
        return states

    def states(self, captions: Tensor, mask: Tensor, features: Tensor) -> tuple[Tensor, Text]:
        """(B, L, C) states of all tokens, given what each later scale is fed (B, L - 1, C_vae); and the caption."""
        config, text, levels = self.config, self.read(captions, mask), self.levels()
        lengths = torch.tensor(config.lengths, device=features.device)
        level = torch.arange(len(lengths), device=features.device).repeat_interleave(lengths)
        x = torch.cat((text.states, self.features_in(features)), dim=1) + levels[level]
        maps = [self.map_rotations(text, scale) for scale in range(1, len(config.patch_nums))]
        rotations = torch.cat((self.caption_rotations(text), *maps), dim=3)
        states = self(x, text, rotations, mask=level[:, None] >= level[None])
        return states[:, config.context_token - 1 :], text

    def score(self, captions: Tensor, mask: Tensor, features: Tensor) -> Tensor:
        """(B, L, V): logits of all tokens, given what each later scale is fed (B, L - 1, C_vae)."""
        return self.logits(*self.states(captions, mask, features))

    def allocate(self, rows: int) -> list[KVCache]:
        """Caches for `rows` captions with their whole images."""
        config, weight = self.config, self.blocks[0].mlp_in.weight
        width, length = config.embed_dim // config.num_heads, sum(config.lengths)
        return [
            KVCache(rows, config.num_heads, length, width, weight.dtype, weight.device) for _ in range(config.depth)
        ]


IGNORED = (r"lvl_1L", r"attn_bias_for_masking", r"blocks\.\d+\.attn\.zero_k_bias")
"""Official keys that hold what can be computed."""

_TO_OFFICIAL = (
    ("caption_norm.", "context_norm."),
    ("caption_in.", "context_embed."),
    ("features_in.", "word_embed."),
    ("level_in.", "lvl_embed.mlp.0."),
    ("level_out.", "lvl_embed.mlp.2."),
    ("level_table.", "lvl_embed."),
    ("head_norm.", "head_nm.ln_wo_grad."),
    ("head_modulation.", "head_nm.ada_lin.1."),
    ("residual_norm.", "decoder_norm."),
    (".norm.", ".ln_wo_grad."),
    (".modulation_offset", ".scale_shift_table"),
    (".modulation.", ".ada_lin.1."),
    (".attention.qkv.", ".attn.qkv_proj."),
    (".attention.out.", ".attn.proj."),
    (".attention.log_scale", ".attn.scale_mul_1H11"),
    (".attention.", ".attn."),
)
_MLP = {
    True: ((".gate.", ".ffn.gate_proj."), (".mlp_in.", ".ffn.up_proj."), (".mlp_out.", ".ffn.down_proj.")),
    False: ((".mlp_in.", ".ffn.fc1."), (".mlp_out.", ".ffn.fc2.")),
}


def official_names(config: Config) -> Callable[[str], tuple[str, ...]]:
    """One of our parameter names -> the official key, for a network of this `config`."""

    def name(ours: str) -> tuple[str, ...]:
        if ours.startswith("residual_head."):
            return (f"diffloss.net.{official_head_name(ours.removeprefix('residual_head.'))}",)
        return (replace_all(ours, (*_TO_OFFICIAL, *_MLP[config.mlp_type == "llama"])),)

    return name
