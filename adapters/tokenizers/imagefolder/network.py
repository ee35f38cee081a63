"""ImageFolder's networks (XQ-GAN): a ViT writes an image to one or more maps of codes, of one scale or several.

After Li et al., "ImageFolder: autoregressive image generation with folded tokens" (arXiv:2410.01756).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
from ...layers.quantize import Codebook, MultiScaleQuantizer, SignBits

IGNORED = (
    r"(semantic_model|detail_model|sem_linear)\..*",
    r"quantizes?\.(\d+\.)?(ema_vocab_hit_SV|mask|codebook|scaler)",
    r"(encoder|decoder)\.(lvl1LC|attn_mask)",
)
"""Official keys that only training uses, and of tables that are computed."""
TRAINING_ONLY = (
    "class",
    "encoder_ch_mult",
    "decoder_ch_mult",
    "z_channels",
    "codebook_show_usage",
    "commit_loss_beta",
    "entropy_loss_ratio",
    "dropout_p",
    "semantic_guide",
    "detail_guide",
    "codebook_drop",
    "half_sem",
    "start_drop",
    "sem_loss_weight",
    "detail_loss_weight",
    "clip_norm",
    "sem_loss_scale",
    "detail_loss_scale",
    "guide_type_1",
    "guide_type_2",
    "soft_entropy",
    "dependency_loss_weight",
    "test_model",
)
"""Official hyper-parameters without effect on a trained network."""
EPS = 1e-6
VITS = {"small": (384, 12, 6), "base": (768, 12, 12), "large": (1024, 24, 16)}
"""DINOv2's sizes -> width, layers, heads."""


@dataclass(frozen=True, slots=True)
class Config:
    """Upstream's `ModelArgs`, and the arguments of the ViT that it fixes: None are those of `encoder_model`."""

    img_size: int = 256
    patch_size: int = 16
    embed_dim: int | None = None
    depth: int | None = None
    num_heads: int | None = None
    codebook_size: int = 16384
    codebook_embed_dim: int = 8
    codebook_l2_norm: bool = True
    enc_type: str = "cnn"
    dec_type: str = "cnn"
    encoder_model: str = "vit_small_patch14_dinov2.lvd142m"
    decoder_model: str = "vit_small_patch14_dinov2.lvd142m"
    num_latent_tokens: int = 256
    abs_pos_embed: bool = False
    product_quant: int = 1
    v_patch_nums: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)
    share_quant_resi: int = 4
    lfq: bool = False
    scale: float = 1.0

    def __post_init__(self) -> None:
        if (self.enc_type, self.dec_type) != ("dinov2", "dinov2"):
            raise ConfigError(f"enc_type {self.enc_type}, dec_type {self.dec_type}", "only dinov2 is built here", "")
        if self.lfq and len(self.v_patch_nums) == 1:
            raise ConfigError("lfq of one map", "upstream's code for it cannot run", "give several v_patch_nums")

    @property
    def side(self) -> int:
        """Of the map of codes of a branch."""
        return math.isqrt(self.num_latent_tokens)

    def vit(self, model: str) -> tuple[int, int, int]:
        """Width, layers and heads of a ViT by its name in timm."""
        size = model.removeprefix("vit_").partition("_")[0]
        if size not in VITS or "reg4" in model:
            raise ConfigError(f"no ViT {model!r}", f"known: {', '.join(VITS)}, without registers", "")
        width, layers, heads = VITS[size]
        return self.embed_dim or width, self.depth or layers, self.num_heads or heads


class Block(nn.Module):
    """Attention over all positions and an MLP, each after a norm and scaled by channel."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=EPS), nn.LayerNorm(width, eps=EPS)
        self.qkv, self.out = Linear(width, 3 * width), Linear(width, width)
        self.mlp_in, self.mlp_out = Linear(width, 4 * width), Linear(4 * width, width)
        self.scale1, self.scale2 = nn.Parameter(torch.ones(width)), nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.scale1 * self.out(attend(query, key, value))
        out: Tensor = x + self.scale2 * self.mlp_out(F.gelu(self.mlp_in(self.norm2(x))))
        return out


class ViT(nn.Module):
    """What encoder and decoder share: a class token, places that fit any map, and the blocks."""

    def __init__(self, config: Config, model: str, parts: int, latents: int) -> None:
        super().__init__()
        width, layers, heads = config.vit(model)
        self.width, self.patches = width, config.img_size // config.patch_size
        self.first = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.places = nn.Parameter(0.02 * torch.randn(1, 1 + self.patches**2, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width, eps=EPS)
        self.kinds, self.latent_places = None, None
        if config.abs_pos_embed:
            self.kinds = nn.Embedding(parts, width)
        else:
            self.latent_places = nn.Parameter(0.02 * torch.randn(1, latents, width))

    def placed(self, x: Tensor, side: int) -> Tensor:
        """(B, 1 + side^2, C): the class token before `x` (B, side^2, C), with the places of a map of that side."""
        places = self.places
        if side != self.patches:
            grid = places[:, 1:].transpose(1, 2).unflatten(2, (self.patches, self.patches)).float()
            grid = F.interpolate(grid, size=(side, side), mode="bicubic", antialias=True)
            places = torch.cat((places[:, :1], grid.flatten(2).transpose(1, 2).to(places.dtype)), dim=1)
        return torch.cat((self.first.expand(len(x), -1, -1), x), dim=1) + places

    def run(self, parts: Sequence[Tensor]) -> Tensor:
        """All positions of the parts, one after another, after the blocks."""
        if self.kinds is not None:
            parts = [part + self.kinds.weight[index] for index, part in enumerate(parts)]
        x = torch.cat(list(parts), dim=1)
        for block in self.blocks:
            x = block(x)
        normed: Tensor = self.norm(x)
        return normed


class Encoder(ViT):
    """(B, branches * n, C) of images (B, 3, H, W)."""

    def __init__(self, config: Config) -> None:
        self.branches, self.side = config.product_quant, config.side
        latents = config.num_latent_tokens * config.product_quant
        super().__init__(config, config.encoder_model, 1 + config.product_quant, latents)
        self.stem = nn.Conv2d(3, self.width, config.patch_size, stride=config.patch_size)
        self.latents = nn.Parameter(1e-2 * torch.randn(1, latents, self.width))

    def forward(self, images: Tensor) -> Tensor:
        parts = [self.placed(self.stem(images).flatten(2).transpose(1, 2), self.patches)]
        latents = self.latents.expand(len(images), -1, -1)
        if self.latent_places is not None:
            parts.append(latents + self.latent_places)
        else:
            parts += [self.placed(part, self.side)[:, 1:] for part in latents.chunk(self.branches, dim=1)]
        return self.run(parts)[:, -self.latents.shape[1] :]


class Decoder(ViT):
    """Images (B, 3, H, W) of codes (B, n, C)."""

    def __init__(self, config: Config) -> None:
        super().__init__(config, config.decoder_model, 2, config.num_latent_tokens)
        self.patch, self.side = config.patch_size, config.side
        self.unknown = nn.Parameter(1e-2 * torch.randn(1, 1, self.width))
        self.pixels = Linear(self.width, 3 * config.patch_size**2)

    def forward(self, codes: Tensor) -> Tensor:
        count = self.patches**2
        patches = self.placed(self.unknown.expand(len(codes), count, -1), self.patches)
        given = self.placed(codes, self.side) if self.latent_places is None else codes + self.latent_places
        x = self.pixels(self.run([patches, given])[:, 1 : 1 + count])
        cells = x.unflatten(-1, (self.patch, self.patch, 3)).unflatten(1, (self.patches, self.patches))
        return cells.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)


class ScaledBits(MultiScaleQuantizer):
    """The residual quantiser over bits in place of a codebook.

    Codes of scale k are `scale` ** k on each channel; with `codebook_l2_norm` features are put on the unit sphere,
    and codes are divided by the root of the number of bits.
    """

    def __init__(self, config: Config, phis: int) -> None:
        bits = config.codebook_embed_dim
        super().__init__(config.v_patch_nums, 1, bits, phis=phis)
        self.codebook = SignBits(bits)  # type: ignore[assignment]
        self.normed = config.codebook_l2_norm
        self.lengths = [config.scale**k * (bits**-0.5 if self.normed else 1.0) for k in range(len(self.sides))]

    def start(self, batch: int) -> Tensor:
        side = self.sides[-1]
        (weight, *_) = self.phis.parameters()
        return torch.zeros(batch, self.channels, side, side, device=weight.device)

    def lookup(self, ids: Tensor, scale: int) -> Tensor:
        return super().lookup(ids, scale) * self.lengths[scale]

    def encode(self, features: Tensor) -> tuple[list[Tensor], Tensor]:
        return super().encode(F.normalize(features, dim=1) if self.normed else features)


class OneScale(nn.Module):
    """A codebook for one map."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.side = config.side
        self.codebook = Codebook(
            config.codebook_size, config.codebook_embed_dim, "codes" if config.codebook_l2_norm else "none"
        )

    def f_hat(self, levels: Sequence[Tensor]) -> Tensor:
        """(B, C, side, side) of the ids of the one level."""
        return self.codebook.lookup(levels[0]).transpose(1, 2).unflatten(2, (self.side, self.side))

    def encode(self, features: Tensor) -> tuple[list[Tensor], Tensor]:
        ids = self.codebook.nearest(features.flatten(2).transpose(1, 2))
        return [ids], self.f_hat([ids])


def quantizer(config: Config) -> MultiScaleQuantizer | OneScale:
    """That of a branch."""
    if len(config.v_patch_nums) == 1:
        return OneScale(config)
    phis = config.share_quant_resi or len(config.v_patch_nums)
    if config.lfq:
        return ScaledBits(config, phis)
    return MultiScaleQuantizer(
        config.v_patch_nums, config.codebook_size, config.codebook_embed_dim, phis=phis, unit="match"
    )


class Network(nn.Module):
    """Encoder, one quantiser a branch, decoder; images in [-1, 1], the output not clamped."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        c = self.sizes = from_upstream(Config, config, TRAINING_ONLY)
        self.encoder, self.decoder = Encoder(c), Decoder(c)
        self.quant_conv = nn.Conv2d(self.encoder.width, c.codebook_embed_dim, 1)
        self.quantize = nn.ModuleList(quantizer(c) for _ in range(c.product_quant))
        self.post_quant_conv = nn.Conv2d(c.codebook_embed_dim * c.product_quant, self.decoder.width, 1)

    def encode(self, images: Tensor) -> tuple[list[list[Tensor]], Tensor]:
        """Ids of each branch and scale (B, h * w), and what they stand for (B, branches * C, side, side)."""
        features = self.quant_conv(self.encoder(images).transpose(1, 2).unsqueeze(3)).squeeze(3).float()
        found = [
            branch.encode(part.unflatten(2, (self.sizes.side, self.sizes.side)))
            for branch, part in zip(self.quantize, features.chunk(self.sizes.product_quant, dim=2), strict=True)
        ]
        return [levels for levels, _ in found], torch.cat([latents for _, latents in found], dim=1)

    def latents(self, branches: Sequence[Sequence[Tensor]]) -> Tensor:
        """(B, branches * C, side, side) of the ids of each branch and scale."""
        return torch.cat([b.f_hat(levels) for b, levels in zip(self.quantize, branches, strict=True)], dim=1)

    def render(self, latents: Tensor) -> Tensor:
        """Images of latents (B, branches * C, side, side)."""
        codes = self.post_quant_conv(latents.to(self.post_quant_conv.weight.dtype))
        images: Tensor = self.decoder(codes.flatten(2).transpose(1, 2))
        return images


_TO_OFFICIAL = (
    (r"\.first$", ".model.cls_token"),
    (r"coder\.places$", "coder.model.pos_embed"),
    (r"\.latent_places$", ".latent_pos_embed"),
    (r"\.kinds\.", ".lvl_embed."),
    (r"\.latents$", ".latent_tokens"),
    (r"\.unknown$", ".mask_token"),
    (r"\.stem\.", ".model.patch_embed.proj."),
    (r"\.pixels\.", ".to_pixel.model."),
    (r"coder\.norm\.", "coder.model.norm."),
    (r"coder\.blocks\.", "coder.model.blocks."),
    (r"\.qkv\.", ".attn.qkv."),
    (r"\.out\.", ".attn.proj."),
    (r"\.mlp_in\.", ".mlp.fc1."),
    (r"\.mlp_out\.", ".mlp.fc2."),
    (r"\.scale([12])$", r".ls\1.gamma"),
    (r"^quantize\.", "quantizes."),
    (r"\.codebook\.embedding\.", ".embedding."),
)


def official_names(config: Mapping[str, Any]) -> OfficialNames:
    """One of our parameter names -> the official keys, for a network of this `config`."""
    c = from_upstream(Config, config, TRAINING_ONLY)
    phis = {0: r".quant_resi.\1.", 1: ".quant_resi.qresi."}.get(c.share_quant_resi, r".quant_resi.qresi_ls.\1.")

    def name(ours: str) -> tuple[str, ...]:
        key = replace_patterns(ours, ((r"\.phis\.(\d+)\.", phis), *_TO_OFFICIAL))
        return (key.replace("quantizes.0.", "quantize.") if c.product_quant == 1 else key,)

    return name
