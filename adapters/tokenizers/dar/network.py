"""D-AR's tokenizer: a transformer writes an image to tokens in a row, a diffusion decoder draws it, some tokens a step.

After Gao and Shou, "D-AR: Diffusion via autoregressive models" (arXiv:2505.23660).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arbench.errors import ConfigError

from ...layers.attention import attend
from ...layers.checkpoint import OfficialNames, replace_patterns
from ...layers.config import from_upstream
from ...layers.linear import Linear
from ...layers.quantize import Codebook
from ...layers.rope import grid_rotations, rotate_pairs

HEAD = 64
"""Width of a head, whatever the configuration."""
EPS = 1e-6
PLACES = 1024
"""Rows of the tables of queries, of which the first ones are used."""
IGNORED = (r"diff_decoder\.net\.repa_out\..*", r"quantize\.codebook_used")
"""Official keys that only training uses."""
TRAINING_ONLY = ("class", "diff_decoder")
"""Read on their own."""
DIFFUSION_TRAINING_ONLY = ("grad_checkpointing", "repa_layer", "cfg")


@dataclass(frozen=True, slots=True)
class Config:
    """Upstream's `model` configuration beside `diff_decoder`."""

    encoder_patch_size: int = 16
    num_encoder_layers: int = 8
    num_decoder_layers: int = 8
    query_low_rank: bool = True
    encoder_dim: int = 768
    decoder_dim: int = 768
    vq_dim: int = 8
    vq_codebook_size: int = 16384
    vq_enable: bool = True
    num_denoising_steps: int = 8
    num_query_groups: int = 8
    num_all_queries: int = 256
    queries_per_step: int | None = None
    sampling_resolution: int = 256
    output_resolution: int = 0
    rope_base_len: int = 10000

    def __post_init__(self) -> None:
        if not self.vq_enable:
            raise ConfigError("vq_enable is false", "a tokenizer without codes is not built here", "use vq_enable true")

    @property
    def per_step(self) -> int:
        """Tokens that each denoising step reads."""
        return self.queries_per_step or self.num_all_queries // self.num_query_groups

    def tokens_of(self, step: int) -> slice:
        """The tokens that denoising step `step` reads."""
        time = math.floor(step / self.num_denoising_steps * self.num_query_groups + 0.5) / self.num_query_groups
        first = min(self.num_all_queries - self.per_step, int(time * self.num_all_queries))
        return slice(first, first + self.per_step)


@dataclass(frozen=True, slots=True)
class Diffusion:
    """Upstream's `diff_decoder`."""

    in_dim: int = 3
    out_dim: int = 3
    dim: int = 768
    cond_dim: int = 768
    patch_size: int = 8
    depth: int = 12
    data_std: float = 1.0
    time_shift: float = 1.0
    mlp_head: bool = False
    share_time_encoding: bool = False
    rope_base_len: int = 10000

    def __post_init__(self) -> None:
        if self.mlp_head and not self.share_time_encoding:
            raise ConfigError("mlp_head without share_time_encoding", "its last layer reads that encoding", "set both")


def rotations(height: int, width: int, base: float, device: torch.device) -> Tensor:
    """(height * width, HEAD / 2, 2) for the cells of a grid."""
    side = max(height, width)
    return grid_rotations(side, HEAD, base=base).unflatten(0, (side, side))[:height, :width].flatten(0, 1).to(device)


def sinusoids(times: Tensor, width: int) -> Tensor:
    """(B, width) of times (B,), counted in thousandths."""
    rates = torch.exp(-math.log(10000) * torch.arange(width // 2, device=times.device) / (width // 2))
    angles = times.float().unsqueeze(1) * 1000 * rates
    return F.pad(torch.cat((angles.cos(), angles.sin()), dim=-1), (0, width % 2))


class Attention(nn.Module):
    """Heads of 64 with normalised queries and keys, which may turn with their places."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (Linear(width, width) for _ in range(3))
        self.query_norm, self.key_norm = nn.LayerNorm(HEAD, eps=EPS), nn.LayerNorm(HEAD, eps=EPS)
        self.out = Linear(width, width)

    def forward(
        self,
        x: Tensor,
        read: Tensor | None = None,
        *,
        turn: Tensor | None = None,
        mask: Tensor | None = None,
        causal: bool = False,
    ) -> Tensor:
        """`read` (B, m, C) is looked at in place of `x`; its places do not turn."""
        other = x if read is None else read
        query, key, value = (
            part.unflatten(-1, (-1, HEAD)).transpose(1, 2)
            for part in (self.query(x), self.key(other), self.value(other))
        )
        query, key = self.query_norm(query), self.key_norm(key)
        if turn is not None:
            query = rotate_pairs(query, turn)
            key = rotate_pairs(key, turn) if read is None else key
        mixed: Tensor = self.out(attend(query, key, value, mask=mask, causal=causal))
        return mixed


class MLP(nn.Module):
    def __init__(self, width: int, inner: int, outputs: int | None = None) -> None:
        super().__init__()
        self.first, self.second = Linear(width, inner), Linear(inner, outputs or width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(F.silu(self.first(x)))
        return out


class Block(nn.Module):
    """Attention and an MLP, each after a norm and through a learned gate."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=EPS), nn.LayerNorm(width, eps=EPS)
        self.attention, self.mlp = Attention(width), MLP(width, 4 * width)
        self.gate1, self.gate2 = nn.Parameter(torch.ones(width)), nn.Parameter(torch.ones(width))

    def forward(
        self, x: Tensor, *, turn: Tensor | None = None, mask: Tensor | None = None, causal: bool = False
    ) -> Tensor:
        x = x + self.attention(self.norm1(x), turn=turn, mask=mask, causal=causal) * self.gate1
        out: Tensor = x + self.mlp(self.norm2(x)) * self.gate2
        return out


class Encoder(nn.Module):
    """(B, tokens, encoder_dim) of images; the tokens see the patches and the tokens before them."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        width, patch = config.encoder_dim, config.encoder_patch_size
        self.stem = nn.Conv2d(3, width, patch, stride=patch)
        self.queries = nn.Embedding(PLACES, 8 if config.query_low_rank else width)
        self.widen = Linear(8, width) if config.query_low_rank else None
        self.blocks = nn.ModuleList(Block(width) for _ in range(config.num_encoder_layers))

    def forward(self, images: Tensor) -> Tensor:
        grid = self.stem(images)
        patches = grid.flatten(2).transpose(1, 2)
        patches, count = F.layer_norm(patches, patches.shape[-1:], eps=EPS), self.config.num_all_queries
        queries = self.queries.weight[:count]
        if self.widen is not None:
            queries = self.widen(queries)
        x = torch.cat((patches, queries.expand(len(images), -1, -1)), dim=1)
        turn = rotations(*grid.shape[-2:], self.config.rope_base_len, x.device)
        still = torch.stack((torch.ones_like(turn[:1, :, 0]), torch.zeros_like(turn[:1, :, 0])), dim=-1)
        turn = torch.cat((turn, still.expand(count, -1, -1)))
        mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()
        mask[:, : patches.shape[1]] = True
        for block in self.blocks:
            x = block(x, turn=turn, mask=mask)
        return F.layer_norm(x[:, -count:], x.shape[-1:], eps=EPS)


class DiffusionBlock(nn.Module):
    """Attention and an MLP, modulated at each patch by the time and by what it reads of the tokens."""

    def __init__(self, config: Diffusion) -> None:
        super().__init__()
        width = config.dim
        self.attention, self.reading = Attention(width), Attention(width)
        self.mlp, self.tokens = MLP(width, 4 * width), MLP(width, width)
        self.modulation = Linear(width, 6 * width)
        self.time = None if config.share_time_encoding else MLP(width, width)

    def forward(self, x: Tensor, tokens: Tensor, times: Tensor, turn: Tensor) -> Tensor:
        def normed(each: Tensor) -> Tensor:
            return F.layer_norm(each, each.shape[-1:], eps=EPS)

        if self.time is not None:
            times = self.time(times)
        read = self.reading(normed(x), normed(self.tokens(tokens)), turn=turn)
        parts = self.modulation(F.silu(times.unsqueeze(1) + read)).chunk(6, dim=-1)
        shift1, scale1, gate1, shift2, scale2, gate2 = parts
        x = x + gate1 * self.attention(normed(x) * (1 + scale1) + shift1, turn=turn)
        out: Tensor = x + gate2 * self.mlp(normed(x) * (1 + scale2) + shift2)
        return out


class DiffusionDecoder(nn.Module):
    """The velocity (B, 3, H, W) of noisy images at times (B,) in [0, 1], 1 being data, given some tokens."""

    def __init__(self, config: Diffusion) -> None:
        super().__init__()
        self.config = config
        pixels = 3 * config.patch_size**2
        self.tokens = Linear(config.cond_dim, config.dim)
        self.stem = nn.Conv2d(pixels, config.dim, 1)
        self.time = MLP(config.dim, config.dim) if config.share_time_encoding else None
        self.blocks = nn.ModuleList(DiffusionBlock(config) for _ in range(config.depth))
        self.modulation = Linear(config.dim, 2 * config.dim) if config.mlp_head else None
        self.head: nn.Module = Linear(config.dim, pixels) if config.mlp_head else nn.Conv2d(config.dim, pixels, 1)

    def forward(self, noisy: Tensor, times: Tensor, tokens: Tensor) -> Tensor:
        patch, width, dtype = self.config.patch_size, self.config.dim, self.stem.weight.dtype
        tokens = self.tokens(tokens.to(dtype))
        tokens = F.layer_norm(tokens, (width,), eps=EPS)
        encoded = sinusoids(times, width).to(dtype)
        if self.time is not None:
            encoded = self.time(encoded)
        grid = self.stem(F.pixel_unshuffle(noisy.to(dtype), patch))
        turn = rotations(*grid.shape[-2:], self.config.rope_base_len, grid.device)
        x = grid.flatten(2).transpose(1, 2)
        for block in self.blocks:
            x = block(x, tokens, encoded, turn)
        x = F.layer_norm(x, (width,), eps=EPS)
        if self.modulation is not None:
            shift, scale = self.modulation(F.silu(encoded)).unsqueeze(1).chunk(2, dim=-1)
            x = self.head(F.layer_norm(x, (width,), eps=EPS) * (1 + scale) + shift)
            pixels = x.transpose(1, 2).unflatten(2, grid.shape[-2:])
        else:
            pixels = self.head(x.transpose(1, 2).unflatten(2, grid.shape[-2:]))
        return F.pixel_shuffle(pixels, patch).float()


class Network(nn.Module):
    """Encoder, codebook, a causal decoder of the tokens, and the diffusion decoder; images in [-1, 1]."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        c = self.sizes = from_upstream(Config, config, TRAINING_ONLY)
        self.encoder = Encoder(c)
        self.narrow = nn.Conv2d(c.encoder_dim, c.vq_dim, 1, bias=False)
        self.quantize = Codebook(c.vq_codebook_size, c.vq_dim, "codes")
        self.widen = nn.Conv2d(c.vq_dim, c.decoder_dim, 1, bias=False)
        self.places = nn.Embedding(PLACES, c.decoder_dim)
        self.blocks = nn.ModuleList(Block(c.decoder_dim) for _ in range(c.num_decoder_layers))
        self.decoder = DiffusionDecoder(
            from_upstream(Diffusion, config.get("diff_decoder", {}), DIFFUSION_TRAINING_ONLY)
        )

    def encode(self, images: Tensor) -> Tensor:
        """(B, tokens) ids."""
        features = self.narrow(self.encoder(images).transpose(1, 2).unsqueeze(2)).squeeze(2)
        return self.quantize.nearest(features.float().transpose(1, 2))

    def conditions(self, ids: Tensor) -> Tensor:
        """(B, tokens, decoder_dim), what the diffusion decoder reads, of ids (B, tokens)."""
        codes = self.quantize.lookup(ids).to(self.widen.weight.dtype)
        x = self.widen(codes.transpose(1, 2).unsqueeze(2)).squeeze(2).transpose(1, 2)
        x = x + self.places.weight[: ids.shape[1]]
        for block in self.blocks:
            x = block(x, causal=True)
        return F.layer_norm(x, x.shape[-1:], eps=EPS)

    def decode(self, ids: Tensor, noise: Tensor, steps: int | None = None) -> Tensor:
        """Images from `noise` (B, 3, H, W) and ids (B, tokens); the first `steps` alone if given.

        Steps are Adams-Bashforth's of second order for equal steps, which these are not, as upstream has it.
        """
        config, shift = self.sizes, self.decoder.config.time_shift
        tokens = self.conditions(ids)
        count = config.num_denoising_steps if steps is None else min(steps, config.num_denoising_steps)
        times = torch.arange(count + 1, device=ids.device) / config.num_denoising_steps
        times[-1] = 1
        times = times / (times + shift * (1 - times))
        x, before = noise, None
        for step in range(count):
            velocity = self.decoder(x, times[step].expand(len(ids)), tokens[:, config.tokens_of(step)])
            mixed = velocity if before is None else 1.5 * velocity - 0.5 * before
            x, before = x + (times[step + 1] - times[step]) * mixed, velocity
        x = x * (1 / self.decoder.config.data_std)
        side = config.output_resolution
        if side and max(x.shape[-2:]) > side:
            x = F.interpolate(x, size=(side, side), mode="bicubic", align_corners=False)
        return x


_TO_OFFICIAL = (
    (r"^encoder\.stem\.", "patchify."),
    (r"^encoder\.queries\.", "query_embedding."),
    (r"^encoder\.widen\.", "query_linear."),
    (r"^encoder\.blocks\.", "encoder_layers."),
    (r"^blocks\.", "decoder_layers."),
    (r"^narrow\.", "quant_in_conv."),
    (r"^widen\.", "quant_out_conv."),
    (r"^places\.", "decoder_embedding."),
    (r"^decoder\.head\.", "diff_decoder.net.HEAD."),
    (r"^decoder\.tokens\.", "diff_decoder.net.cond_mlp."),
    (r"^decoder\.stem\.", "diff_decoder.net.conv_in."),
    (r"^decoder\.modulation\.", "diff_decoder.net.linear_out.adaLN_modulation.1."),
    (r"^decoder\.time\.", "diff_decoder.net.time_embed."),
    (r"^decoder\.", "diff_decoder.net."),
    (r"\.time\.", ".time_embed."),
    (r"time_embed\.first\.", "time_embed.mlp.0."),
    (r"time_embed\.second\.", "time_embed.mlp.2."),
    (r"\.tokens\.first\.", ".cond_embed.0."),
    (r"\.tokens\.second\.", ".cond_embed.2."),
    (r"\.mlp\.first\.", ".mlp.fc1."),
    (r"\.mlp\.second\.", ".mlp.fc2."),
    (r"\.reading\.", ".cross_attn."),
    (r"(blocks\.\d+)\.modulation\.", r"\1.adaLN_modulation.1."),
    (r"\.(q)uery(_norm)?\.", r".\1\2."),
    (r"\.(k)ey(_norm)?\.", r".\1\2."),
    (r"\.value\.", ".v."),
    (r"\.out\.", ".proj."),
)


def official_names(config: Mapping[str, Any]) -> OfficialNames:
    """One of our parameter names -> the official keys, for a network of this `config`."""
    head = "linear_out.linear" if config.get("diff_decoder", {}).get("mlp_head") else "conv_out"
    return lambda ours: (replace_patterns(ours, _TO_OFFICIAL).replace("HEAD", head),)
