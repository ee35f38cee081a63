"""Infinity's network: VAR's blocks with rotary places and attention to a caption, and a head for each bit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arbench.errors import ConfigError

from ...layers.attention import KVCache, attend
from ...layers.checkpoint import OfficialNames, replace_patterns
from ...layers.linear import Linear, linear
from ...layers.rope import rotate_pairs
from .places import Size, scale_rotations

TRAINING_ONLY = frozenset(
    {
        "class",
        "drop_rate",
        "drop_path_rate",
        "cond_drop_rate",
        "rand_uncond",
        "checkpointing",
        "fused_mlp",
        "fused_norm",
    }
    | {"customized_flash_attn", "use_flex_attn", "batch_size", "pn", "train_h_div_w_list", "video_frames"}
    | {"always_training_scales", "inference_mode", "raw_scale_schedule", "top_p", "top_k", "pad_to_multiplier"}
    | {"use_bit_label", "rope2d_each_sa_layer"}
)
IGNORED = (r".*zero_k_bias", r".*ln_wo_grad\.weight", r"attn_bias_for_masking", r"lvl_1L", r"Infinity_.*len")
LEVELS, LARGEST_LOG_SCALE = 15, math.log(100)


@dataclass(frozen=True, slots=True)
class Config:
    """Upstream's `Infinity`, less what only training uses, its tokenizer's bits and the scales that are made."""

    codebook_dim: int = 32
    text_channels: int = 2048
    text_maxlen: int = 512
    embed_dim: int = 1024
    depth: int = 16
    num_heads: int = 16
    mlp_ratio: float = 4.0
    norm_eps: float = 1e-6
    rms_norm: bool = False
    shared_aln: bool = False
    head_aln: bool = True
    cross_attn_layer_scale: float = -1.0
    nm0: bool = False
    tau: float = 1.0
    cos_attn: bool = True
    swiglu: bool = False
    head_depth: int = 1
    block_chunks: int = 1
    add_lvl_embeding_only_first_block: int = 1
    rope2d_normalized_by_hw: int = 0
    apply_spatial_patchify: int = 0
    scale_schedule: tuple[tuple[int, int, int], ...] = ()

    def __post_init__(self) -> None:
        if not self.head_aln or self.head_depth != 1 or self.rope2d_normalized_by_hw == 1:
            raise ConfigError(
                "this Infinity is not here",
                "no published model has an unmodulated or deep head, or interpolated rotations",
                "use head_aln, head_depth 1 and rope2d_normalized_by_hw 0 or 2",
            )

    @property
    def channels(self) -> int:
        """Bits that are made at a place of the transformer."""
        return self.codebook_dim * (4 if self.apply_spatial_patchify else 1)

    @property
    def sizes(self) -> tuple[Size, ...]:
        """Rows and columns of each scale, as the transformer has them."""
        return tuple((scale[-2], scale[-1]) for scale in self.scale_schedule)

    @property
    def hidden(self) -> int:
        """Width inside the MLP."""
        wide = round(self.embed_dim * self.mlp_ratio / 256) * 256
        return round(2 * wide / 3 / 256) * 256 if self.swiglu else wide


class Norm(nn.Module):
    """A LayerNorm, or with `rms_norm` an RMS norm, with weights."""

    def __init__(self, width: int, config: Config) -> None:
        super().__init__()
        self.eps, self.rms = config.norm_eps, config.rms_norm
        self.weight = nn.Parameter(torch.ones(width))
        if not self.rms:
            self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        if self.rms:
            return F.rms_norm(x.float(), x.shape[-1:], self.weight.float(), self.eps).type_as(x)
        return F.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.eps)


class CrossAttention(nn.Module):
    """Attention to a caption; a `pool` asks by a learned query and gives one state."""

    def __init__(self, width: int, source: int, heads: int, *, pool: bool) -> None:
        super().__init__()
        self.heads, self.pool = heads, pool
        if pool:
            self.query = nn.Parameter(torch.empty(1, heads, width // heads))
            nn.init.trunc_normal_(self.query, std=math.sqrt(1 / width / 3))
        else:
            self.asks = Linear(width, width)
        self.key_value = Linear(source, 2 * width, bias=False)
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.out = Linear(width, width)

    def forward(self, x: Tensor | None, caption: Tensor, valid: Tensor) -> Tensor:
        """(B, n, W) of `x` (B, n, W), or (B, 1, W) of a pool, given captions (B, T, source), valid (B, T) bool."""
        bias = torch.cat((torch.zeros_like(self.v_bias), self.v_bias))
        both = linear(caption, self.key_value.weight, bias).unflatten(-1, (2, self.heads, -1))
        key, value = both.permute(2, 0, 3, 1, 4)
        if x is None:
            query = self.query.unsqueeze(2).expand(len(caption), -1, -1, -1)
        else:
            query = self.asks(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        out: Tensor = self.out(attend(query.type_as(key), key, value, mask=valid[:, None, None]))
        return out


class Block(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        c, width = config, config.embed_dim
        self.heads, self.eps, self.rms, self.unit = c.num_heads, c.norm_eps, c.rms_norm, c.cos_attn
        self.qkv = Linear(width, 3 * width, bias=False)
        self.q_bias, self.v_bias = nn.Parameter(torch.zeros(width)), nn.Parameter(torch.zeros(width))
        self.out = Linear(width, width)
        if c.cos_attn:
            self.log_scale = nn.Parameter(torch.full((1, c.num_heads, 1, 1), math.log(4)))
        self.scale = 1.0 if c.cos_attn else 1 / math.sqrt(width // c.num_heads) / c.tau
        self.caption_norm = Norm(width, c)
        self.cross = CrossAttention(width, width, c.num_heads, pool=False)
        if c.cross_attn_layer_scale >= 0:
            self.cross_scale = nn.Parameter(c.cross_attn_layer_scale * torch.ones(width))
        self.mlp_in = Linear(width, c.hidden, bias=not c.swiglu)
        self.mlp_out = Linear(c.hidden, width, bias=not c.swiglu)
        if c.swiglu:
            self.mlp_gate = Linear(width, c.hidden, bias=False)
        self.gated = c.swiglu
        if c.shared_aln:
            self.modulation_offset = nn.Parameter(torch.randn(1, 1, 6, width) / width**0.5)
        else:
            self.modulation = Linear(width, 6 * width)

    def modulate(self, condition: Tensor) -> Tensor:
        """(B, 1, 6, C), from the shared projection (B, 1, 6, C) or from the silu of the condition (B, C)."""
        if condition.ndim == 4:
            return self.modulation_offset + condition
        return self.modulation(condition).unflatten(-1, (1, 6, -1))

    def adapt(self, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        norm = F.rms_norm if self.rms else F.layer_norm
        return (norm(x.float(), x.shape[-1:], eps=self.eps) * (scale + 1) + shift).type_as(self.mlp_in.weight)

    def attention(self, x: Tensor, rotations: Tensor, start: int, cache: KVCache | None, mask: Tensor | None) -> Tensor:
        bias = torch.cat((self.q_bias, torch.zeros_like(self.q_bias), self.v_bias))
        query, key, value = linear(x, self.qkv.weight, bias).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if self.unit:
            scale = self.log_scale.float().clamp(max=LARGEST_LOG_SCALE).exp()
            query = (F.normalize(query.float(), dim=-1) * scale).type_as(value)
            key = F.normalize(key.float(), dim=-1).type_as(value)
        query, key = rotate_pairs(query, rotations), rotate_pairs(key, rotations)
        if cache is not None:
            key, value = cache.extend(key, value, start)
        out: Tensor = self.out(attend(query, key, value, mask=mask, scale=self.scale))
        return out

    def forward(
        self,
        x: Tensor,
        modulation: Tensor,
        caption: Tensor,
        valid: Tensor,
        rotations: Tensor,
        start: int = 0,
        cache: KVCache | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """`x` (B, n, C), float32, at places from `start` on; earlier ones are in the cache."""
        gate1, gate2, scale1, scale2, shift1, shift2 = modulation.unbind(2)
        x = x + self.attention(self.adapt(x, scale1, shift1), rotations, start, cache, mask).float() * gate1
        crossed = self.cross(self.caption_norm(x).type_as(self.mlp_in.weight), caption, valid).float()
        x = x + (crossed * self.cross_scale if hasattr(self, "cross_scale") else crossed)
        h = self.adapt(x, scale2, shift2)
        h = F.silu(self.mlp_gate(h)) * self.mlp_in(h) if self.gated else F.gelu(self.mlp_in(h), approximate="tanh")
        out: Tensor = x + self.mlp_out(h).float() * gate2
        return out


class Network(nn.Module):
    """Blocks may be in half precision; the head, its condition and places are float32."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        c, width, text = config, config.embed_dim, config.text_channels
        self.config = config
        self.no_caption = nn.Parameter(torch.randn(c.text_maxlen, text) / text**0.5)
        self.text_norm = nn.RMSNorm(text, eps=c.norm_eps)
        self.pool = CrossAttention(width, text, text // (64 if width > 4096 else 128), pool=True)
        self.text_in, self.text_out = Linear(text, width), Linear(width, width)
        self.first_position = nn.Parameter(torch.zeros(1, 1, width))
        self.level_table = nn.Embedding(LEVELS, width)
        if c.nm0:
            self.bits_norm = Norm(c.channels, c)
        self.bits_in = Linear(c.channels, width)
        if c.shared_aln:
            self.shared_modulation = Linear(width, 6 * width)
        self.blocks = nn.ModuleList(Block(c) for _ in range(c.depth))
        self.head_modulation = Linear(width, 2 * width)
        self.head = Linear(width, 2 * c.channels)
        self._turns: dict[tuple[tuple[Size, ...], torch.device], Tensor] = {}

    def place(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        self.to(device=device, dtype=torch.float32)
        self.blocks.to(dtype=dtype)
        return self

    def turns(self, sizes: Sequence[Size], device: torch.device) -> Tensor:
        """(L, D / 2, 2) rotations of all places; made once."""
        key = tuple(sizes), device
        if key not in self._turns:
            c = self.config
            with torch.device("cpu"):
                made = scale_rotations(sizes, c.embed_dim // c.num_heads, spread=c.rope2d_normalized_by_hw == 2)
            self._turns[key] = made.to(device)
        return self._turns[key]

    def condition(
        self, captions: Tensor, valid: Tensor, *, guided: bool
    ) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
        """(B, C) condition, (B, T, C) captions for the blocks, (B, T) their mask, and modulations of the blocks.

        Captions (B, T, D) have their text in front. With `guided` all have 2B rows, the second half that of as many
        rows of "no caption" as there is text.
        """
        if guided:
            none = self.no_caption[: captions.shape[1]].expand(len(captions), -1, -1)
            captions, valid = torch.cat((captions, none)), valid.repeat(2, 1)
        text = self.text_norm(captions.float())
        condition = self.pool(None, text, valid)[:, 0]
        read = self.text_out(F.gelu(self.text_in(text), approximate="tanh"))
        raised = F.silu(condition)
        if self.config.shared_aln:
            raised = self.shared_modulation(raised).unflatten(-1, (1, 6, -1))
        dtype = self.blocks[0].mlp_in.weight.dtype
        modulations = [block.modulate(raised.to(dtype)).float() for block in self.blocks]
        return condition, read.to(dtype), valid, modulations

    def fed(self, features: Tensor) -> Tensor:
        """(B, n, C) from features (B, n, channels) of a scale."""
        embedded: Tensor = self.bits_in(self.bits_norm(features) if self.config.nm0 else features)
        return embedded

    def logits(self, x: Tensor, condition: Tensor) -> Tensor:
        """(B, n, 2 channels) float32: a bit's two values stand side by side."""
        scale, shift = self.head_modulation(F.silu(condition)).unflatten(-1, (1, 2, -1)).unbind(2)
        norm = F.rms_norm if self.config.rms_norm else F.layer_norm
        logits: Tensor = self.head(norm(x.float(), x.shape[-1:], eps=self.config.norm_eps) * (scale + 1) + shift)
        return logits

    def levels_before(self, index: int) -> bool:
        """Whether the embedding of a place's scale is added before this block."""
        c = self.config
        return index == 0 or (not c.add_lvl_embeding_only_first_block and index % (c.depth // c.block_chunks) == 0)

    def allocate(self, rows: int) -> list[KVCache]:
        """Caches for `rows` images of the scales of the config."""
        return self.allocate_for(rows, self.config.sizes)

    def allocate_for(self, rows: int, sizes: Sequence[Size]) -> list[KVCache]:
        c, weight = self.config, self.blocks[0].mlp_in.weight
        length, width = sum(height * columns for height, columns in sizes), c.embed_dim // c.num_heads
        return [KVCache(rows, c.num_heads, length, width, weight.dtype, weight.device) for _ in self.blocks]


_TO_OFFICIAL = (
    (r"^no_caption", "cfg_uncond"),
    (r"^pool\.", "text_proj_for_sos.ca."),
    (r"^text_in\.", "text_proj_for_ca.0."),
    (r"^text_out\.", "text_proj_for_ca.2."),
    (r"^first_position", "pos_start"),
    (r"^level_table\.", "lvl_embed."),
    (r"^bits_norm\.", "norm0_ve."),
    (r"^bits_in\.", "word_embed."),
    (r"^shared_modulation\.", "shared_ada_lin.1."),
    (r"^head_modulation\.", "head_nm.ada_lin.1."),
    (r"^(blocks\.\d+)\.(q_bias|v_bias)", r"\1.sa.\2"),
    (r"^(blocks\.\d+)\.qkv\.", r"\1.sa.mat_qkv."),
    (r"^(blocks\.\d+)\.out\.", r"\1.sa.proj."),
    (r"^(blocks\.\d+)\.log_scale", r"\1.sa.scale_mul_1H11"),
    (r"^(blocks\.\d+)\.caption_norm\.", r"\1.ca_norm."),
    (r"^(blocks\.\d+)\.cross\.", r"\1.ca."),
    (r"^(blocks\.\d+)\.cross_scale", r"\1.ca_gamma"),
    (r"\.mlp_gate\.", ".ffn.fcg."),
    (r"\.mlp_in\.", ".ffn.fc1."),
    (r"\.mlp_out\.", ".ffn.fc2."),
    (r"\.modulation_offset", ".ada_gss"),
    (r"^(blocks\.\d+)\.modulation\.", r"\1.ada_lin.1."),
    (r"\.ca\.query", ".ca.mat_q"),
    (r"\.ca\.asks\.", ".ca.mat_q."),
    (r"\.ca\.key_value\.", ".ca.mat_kv."),
    (r"\.ca\.out\.", ".ca.proj."),
)


def official_names(config: Config) -> OfficialNames:
    """One of our parameter names -> the official key, whose blocks are in chunks unless there is one."""
    size = config.depth // config.block_chunks

    def name(ours: str) -> tuple[str, ...]:
        official = replace_patterns(ours, _TO_OFFICIAL)
        if official.startswith("blocks.") and config.block_chunks > 1:
            _, index, rest = official.split(".", 2)
            chunk, place = divmod(int(index), size)
            official = f"block_chunks.{chunk}.module.{place}.{rest}"
        return (official,)

    return name
