"""TiTok's network: a transformer writes an image to a few tokens in a row, another reads them back (NeurIPS 2024).

After Yu et al., "An image is worth 32 tokens for reconstruction and generation" (arXiv:2406.07550). TA-TiTok
(arXiv:2501.07730) also reads a caption's features; One-D-Piece (arXiv:2501.10064) reads any number of first tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arbench.errors import ConfigError

from .attention import attend
from .checkpoint import replace_patterns
from .config import from_upstream
from .linear import Linear
from .maskgit_vqgan import TRAINING_ONLY as PIXELS_TRAINING_ONLY
from .maskgit_vqgan import Config as PixelConfig
from .maskgit_vqgan import Decoder as PixelDecoder
from .maskgit_vqgan import official_names as pixel_names
from .quantize import Codebook

TRAINING_ONLY = ("class", "commitment_cost", "clustering_vq", "strict_length_assertion")
"""Official hyper-parameters without effect on a trained network."""

IGNORED = (r"quantize\.embed_prob",)
"""Official keys that are only usage counters."""

LOG_VARIANCE = (-30.0, 20.0)
"""Log variances of the posterior are clamped to this range."""

SIZES = {"small": (512, 8, 8), "base": (768, 12, 12), "large": (1024, 24, 16)}
"""Name of a size -> width, layers, heads."""


@dataclass(frozen=True, slots=True)
class Config:
    """Upstream's `model.vq_model` and `crop_size`, with its defaults. A size is a name or a mapping of its numbers."""

    codebook_size: int = 4096
    token_size: int = 12
    use_l2_norm: bool = True
    vit_enc_model_size: str | Mapping[str, int] = "large"
    vit_dec_model_size: str | Mapping[str, int] = "large"
    vit_enc_patch_size: int = 16
    vit_dec_patch_size: int = 16
    num_latent_tokens: int = 32
    finetune_decoder: bool = True
    is_legacy: bool = True
    quantize_mode: str = "vq"
    crop_size: int = 256
    text_context_length: int = 77
    text_embed_dim: int = 768
    pixel_decoder: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.quantize_mode not in ("vq", "vae"):
            raise ConfigError(f"no quantize_mode {self.quantize_mode!r}", "known: vq, vae", "use upstream's name")

    @property
    def continuous(self) -> bool:
        return self.quantize_mode == "vae"


def shape_of(size: str | Mapping[str, int]) -> tuple[int, int, int]:
    """(width, layers, heads) of a size. Raises ConfigError for an unknown name."""
    if isinstance(size, str):
        if size not in SIZES:
            raise ConfigError(f"no size {size!r}", f"known: {', '.join(SIZES)}", "use upstream's name")
        return SIZES[size]
    return size["width"], size["num_layers"], size["num_heads"]


class Block(nn.Module):
    """Attention over all positions and an MLP, each after a norm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = Linear(width, 3 * width), Linear(width, width)
        self.mlp_in, self.mlp_out = Linear(width, 4 * width), Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.out(attend(query, key, value))
        mixed: Tensor = x + self.mlp_out(F.gelu(self.mlp_in(self.norm2(x))))
        return mixed


class Transformer(nn.Module):
    """What encoder and decoder share: a class token, places of patches and of tokens, and the blocks."""

    def __init__(self, size: str | Mapping[str, int], side: int, tokens: int) -> None:
        super().__init__()
        width, layers, heads = shape_of(size)
        self.width, self.side = width, side
        scale = width**-0.5
        self.first = nn.Parameter(scale * torch.randn(1, width))
        self.patch_places = nn.Parameter(scale * torch.randn(side * side + 1, width))
        self.token_places = nn.Parameter(scale * torch.randn(tokens, width))
        self.norm_in, self.norm_out = nn.LayerNorm(width), nn.LayerNorm(width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))

    def run(self, patches: Tensor, *rest: Tensor) -> Tensor:
        """All positions after the blocks, class token first, of patches (B, n, C) and what comes after them."""
        x = torch.cat((self.first.expand(len(patches), -1, -1), patches), dim=1) + self.patch_places
        x = self.norm_in(torch.cat((x, *rest), dim=1))
        for block in self.blocks:
            x = block(x)
        return x


class Encoder(Transformer):
    """(B, K, outputs) of images (B, 3, H, W) and K learned tokens."""

    def __init__(self, config: Config) -> None:
        side = config.crop_size // config.vit_enc_patch_size
        super().__init__(config.vit_enc_model_size, side, config.num_latent_tokens)
        outputs = (2 if config.continuous else 1) * config.token_size
        self.legacy = config.is_legacy
        self.stem = nn.Conv2d(3, self.width, config.vit_enc_patch_size, stride=config.vit_enc_patch_size)
        self.head = nn.Conv2d(self.width, outputs, 1)

    def forward(self, images: Tensor, tokens: Tensor) -> Tensor:
        patches = self.stem(images).flatten(2).transpose(1, 2)
        tokens = (tokens + self.token_places).expand(len(images), -1, -1)
        x = self.norm_out(self.run(patches, tokens)[:, -tokens.shape[1] :])  # (B, K, C)
        # the first models read this memory as (B, C, K), and were trained like that
        x = x.reshape(len(x), self.width, -1) if self.legacy else x.transpose(1, 2)
        features: Tensor = self.head(x.unsqueeze(-1)).squeeze(-1)
        return features.transpose(1, 2)


class Decoder(Transformer):
    """A map of all patches (B, outputs, h, w), or images (B, 3, H, W), of tokens (B, n, token_size), the first n."""

    def __init__(self, config: Config, codes: int, *, text: bool) -> None:
        super().__init__(
            config.vit_dec_model_size, config.crop_size // config.vit_dec_patch_size, config.num_latent_tokens
        )
        width, patch = self.width, config.vit_dec_patch_size
        self.patch = 0 if config.is_legacy else patch
        self.embed = Linear(config.token_size, width)
        self.unknown = nn.Parameter(width**-0.5 * torch.randn(1, 1, width))
        if config.is_legacy:
            self.head_in, self.head_out = nn.Conv2d(width, 2 * width, 1), nn.Conv2d(2 * width, codes, 1)
        else:
            self.pixels, self.smooth = nn.Conv2d(width, patch * patch * 3, 1), nn.Conv2d(3, 3, 3, padding=1)
        if text:
            self.text = Linear(config.text_embed_dim, width)
            self.text_places = nn.Parameter(width**-0.5 * torch.randn(config.text_context_length, width))

    def forward(self, tokens: Tensor, text: Tensor | None) -> Tensor:
        rest = [self.embed(tokens) + self.token_places[: tokens.shape[1]]]
        if text is not None:
            rest.append(self.text(text) + self.text_places)
        side = self.side
        x = self.run(self.unknown.expand(len(tokens), side * side, -1), *rest)[:, 1 : 1 + side * side]
        grid = self.norm_out(x).transpose(1, 2).reshape(len(x), -1, side, side)
        if not self.patch:
            logits: Tensor = self.head_out(torch.tanh(self.head_in(grid)))
            return logits
        patches = self.pixels(grid).unflatten(1, (self.patch, self.patch, 3))  # row, column, colour
        images: Tensor = self.smooth(patches.permute(0, 3, 4, 1, 5, 2).reshape(len(x), 3, side * self.patch, -1))
        return images


class Network(nn.Module):
    """Encoder, codebook or posterior, decoder; images in [0, 1], the output not clamped."""

    reads_text: ClassVar[bool] = False

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        c = self.config = from_upstream(Config, config, TRAINING_ONLY)
        self.factor = c.crop_size
        pixels = from_upstream(PixelConfig, c.pixel_decoder, PIXELS_TRAINING_ONLY)
        self.encoder = Encoder(c)
        self.tokens = nn.Parameter(self.encoder.width**-0.5 * torch.randn(c.num_latent_tokens, self.encoder.width))
        self.decoder = Decoder(c, pixels.num_embeddings, text=self.reads_text)
        if not c.continuous:
            self.quantize = Codebook(c.codebook_size, c.token_size, "codes" if c.use_l2_norm else "none")
        self.through_codes = c.finetune_decoder and not self.reads_text
        if self.through_codes:
            self.pixel_codes = nn.Embedding(pixels.num_embeddings, pixels.z_channels)
            self.pixel_decoder = PixelDecoder(pixels)
        if self.through_codes and not c.is_legacy:
            raise ConfigError(
                "finetune_decoder goes with is_legacy alone",
                "only the legacy head predicts codes for a pixel decoder; the other predicts pixels",
                "set finetune_decoder to false",
            )

    def features(self, images: Tensor) -> Tensor:
        """(B, K, C) float32 before quantisation; mean and log variance for continuous tokens."""
        features: Tensor = self.encoder(images, self.tokens)
        return features.float()

    def encode(self, images: Tensor) -> Tensor:
        """(B, K) ids."""
        return self.quantize.nearest(self.features(images))

    def moments(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (B, C, 1, K), float32, of the posterior of images."""
        mean, log_variance = self.features(images).transpose(1, 2).unsqueeze(2).chunk(2, dim=1)
        return mean, torch.exp(0.5 * log_variance.clamp(*LOG_VARIANCE))

    def render(self, latents: Tensor, text: Tensor | None = None) -> Tensor:
        """Images from latents (B, C, 1, n) and, if it reads text, features (B, T, D)."""
        dtype = self.decoder.unknown.dtype
        tokens = latents.squeeze(2).transpose(1, 2).to(dtype)
        if text is not None:
            text = text.to(dtype)
        elif self.reads_text:
            text = tokens.new_zeros(len(tokens), self.config.text_context_length, self.config.text_embed_dim)
        drawn: Tensor = self.decoder(tokens, text)
        if self.through_codes:
            codes = torch.einsum("bvhw,vc->bchw", drawn.softmax(1), self.pixel_codes.weight)
            drawn = self.pixel_decoder(codes)
        return drawn

    def decode(self, ids: Tensor, text: Tensor | None = None) -> Tensor:
        """Images from the first ids (B, n)."""
        return self.render(self.quantize.lookup(ids).transpose(1, 2).unsqueeze(2), text)


_TO_OFFICIAL = (
    (r"^tokens$", "latent_tokens"),
    (r"\.first$", ".class_embedding"),
    (r"\.patch_places$", ".positional_embedding"),
    (r"\.token_places$", ".latent_token_positional_embedding"),
    (r"\.text_places$", ".text_guidance_positional_embedding"),
    (r"\.text\.", ".text_guidance_proj."),
    (r"\.stem\.", ".patch_embed."),
    (r"coder\.head\.", "coder.conv_out."),
    (r"\.unknown$", ".mask_token"),
    (r"\.embed\.", ".decoder_embed."),
    (r"\.(head_in|pixels)\.", ".ffn.0."),
    (r"\.head_out\.", ".ffn.2."),
    (r"\.smooth\.", ".conv_out."),
    (r"\.norm_in\.", ".ln_pre."),
    (r"\.norm_out\.", ".ln_post."),
    (r"\.blocks\.", ".transformer."),
    (r"\.norm([12])\.", r".ln_\1."),
    (r"\.qkv\.", ".attn.in_proj_"),
    (r"\.out\.", ".attn.out_proj."),
    (r"\.mlp_in\.", ".mlp.c_fc."),
    (r"\.mlp_out\.", ".mlp.c_proj."),
    (r"^pixel_codes\.", "pixel_quantize.embedding."),
)


def official_names(ours: str) -> tuple[str, ...]:
    """The official key of one of our parameters."""
    if ours.startswith("pixel_decoder."):
        return tuple(f"pixel_{key}" for key in pixel_names(ours.removeprefix("pixel_")))
    return (replace_patterns(ours, _TO_OFFICIAL),)
