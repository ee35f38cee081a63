"""DetailFlow's networks: a SigLIP 2 transformer writes an image to a row of latents, another reads the first ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arbench.errors import ConfigError

from ...layers.checkpoint import replace_patterns
from ...layers.config import from_upstream
from ...layers.linear import Linear
from ...layers.quantize import Codebook
from ...layers.vit import Block

TRAINING_ONLY = frozenset(
    {"class", "commit_loss_beta", "entropy_loss_ratio", "vq_loss_ratio", "codebook_show_usage"}
) | {
    *("global_token_loss_weight", "encoder_ch_mult", "decoder_ch_mult", "max_image_size", "dropout_p"),
    *("enc_tuning_method", "dec_tuning_method", "enc_drop_path_rate", "dec_drop_path_rate", "repa", "repa_align"),
    *("repa_patch_size", "repa_model", "repa_proj_dim", "repa_layer_indices", "repa_loss_weight", "num_codebooks"),
    *("gradient_checkpointing_encoder", "gradient_checkpointing_decoder", "vq_mean", "vq_std", "kl_loss_weight"),
    *("tau", "z_channels"),
}
IGNORED = (r"quantize\.codebook_used", r"global_token_proj\..*", r"repa_model\..*", r"projection\..*")
"""Official keys of training alone."""
NEAREST = 50
"""Among so many codes training takes a wrong one."""


def _sizes(width: int, heads: int, hidden: int) -> Mapping[str, int]:
    return {
        "hidden_size": width,
        "num_attention_heads": heads,
        "num_hidden_layers": 12,
        "intermediate_size": hidden,
        "num_patches": 256,
        "patch_size": 16,
    }


BASE, SHAPE_OPTIMISED = _sizes(768, 12, 3072), _sizes(1152, 16, 4304)
"""From scratch, and the first layers of so400m."""


@dataclass(frozen=True, slots=True)
class Config:
    """Upstream's `ModelArgs`, less what only training uses; `encoder_siglip2` and `decoder_siglip2` are sizes."""

    image_size: int = 256
    codebook_size: int = 16384
    codebook_embed_dim: int = 8
    codebook_l2_norm: bool = True
    enc_type: str = "siglip2"
    dec_type: str = "siglip2"
    encoder_model: str = "siglip2_base"
    decoder_model: str = "siglip2_base"
    num_latent_tokens: int = 256
    enc_pretrained: bool = True
    dec_pretrained: bool = False
    enc_patch_size: int = 16
    dec_patch_size: int = 16
    causal_encoder: bool = False
    causal_decoder: bool = True
    group_size: int = 1
    causal_num: int | None = None
    correction_training: bool = True
    encoder_siglip2: Mapping[str, int] = field(default_factory=dict)
    decoder_siglip2: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if {self.enc_type, self.dec_type} != {"siglip2"} or {self.encoder_model, self.decoder_model} != {
            "siglip2_base"
        }:
            raise ConfigError(
                f"no DetailFlow tokenizer of {self.encoder_model} and {self.decoder_model}",
                "the published ones are of siglip2_base",
                "use these",
            )
        if self.first % self.group_size:
            raise ConfigError(
                f"{self.first} latents one by one are not a multiple of groups of {self.group_size}",
                "groups begin behind them",
                "use another causal_num",
            )

    @property
    def first(self) -> int:
        """Latents that see one another one by one."""
        return self.group_size if self.causal_num is None else self.causal_num

    def shape(self, part: str) -> Mapping[str, int]:
        given = self.encoder_siglip2 if part == "encoder" else self.decoder_siglip2
        pretrained = self.enc_pretrained if part == "encoder" else self.dec_pretrained
        return given or (SHAPE_OPTIMISED if pretrained else BASE)


class Coder(nn.Module):
    """A transformer over patches and latents, each with places of their own."""

    def __init__(self, config: Config, part: str) -> None:
        super().__init__()
        sizes = config.shape(part)
        self.width = width = sizes["hidden_size"]
        self.places = nn.Parameter(nn.init.normal_(torch.empty(sizes["num_patches"], width), std=0.02))
        self.latent_places = nn.Parameter(nn.init.normal_(torch.empty(1, config.num_latent_tokens, width), std=0.02))
        self.blocks = nn.ModuleList(
            Block(width, sizes["num_attention_heads"], 0, 1e-6, hidden=sizes["intermediate_size"], gelu="tanh")
            for _ in range(sizes["num_hidden_layers"])
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def placed(self, height: int, width: int) -> Tensor:
        """(h * w, W) places of a grid of patches, resized from those of the table."""
        side = math.isqrt(len(self.places))
        if (height, width) == (side, side):
            return self.places
        table = self.places.float().unflatten(0, (side, side)).permute(2, 0, 1).unsqueeze(0)
        resized = F.interpolate(table, size=(height, width), mode="bilinear", antialias=True)
        return resized[0].flatten(1).T.type_as(self.places)

    def forward(self, patches: Tensor, latents: Tensor, mask: Tensor | None) -> Tensor:
        """(B, P + n, W) of patches (B, P, W), which have their places, and the first n latents (B, n, W)."""
        x = torch.cat((patches, latents + self.latent_places[:, : latents.shape[1]]), dim=1)
        for block in self.blocks:
            x = block(x, mask)
        out: Tensor = self.norm(x)
        return out


class Encoder(Coder):
    def __init__(self, config: Config) -> None:
        super().__init__(config, "encoder")
        self.patch = config.enc_patch_size
        self.stem = Linear(3 * self.patch**2, self.width)
        shape = (1, config.num_latent_tokens, self.width)
        self.latents, self.refined = (nn.Parameter(nn.init.normal_(torch.empty(shape), std=0.02)) for _ in range(2))


class Decoder(Coder):
    def __init__(self, config: Config) -> None:
        super().__init__(config, "decoder")
        self.patch = config.dec_patch_size
        self.unknown = nn.Parameter(nn.init.normal_(torch.empty(1, 1, self.width), std=0.02))
        self.pixel_out = Linear(self.width, 3 * self.patch**2)


class Network(nn.Module):
    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        c = self.config = from_upstream(Config, config, TRAINING_ONLY)
        self.encoder, self.decoder = Encoder(c), Decoder(c)
        self.code_out = Linear(self.encoder.width, c.codebook_embed_dim)
        self.code_in = Linear(c.codebook_embed_dim, self.decoder.width)
        if c.correction_training:
            self.refine_in = Linear(c.codebook_embed_dim, self.encoder.width)
        self.quantize = Codebook(c.codebook_size, c.codebook_embed_dim, "codes" if c.codebook_l2_norm else "none")

    def sight(self, patches: int, latents: int, *, encoder: bool, device: torch.device) -> Tensor:
        """(P + n, P + n) boolean: the encoder's patches are blind to latents, the decoder's latents to patches.

        A latent sees those before it, and once they come in groups its whole group.
        """
        c, place = self.config, torch.arange(latents, device=device)
        group = torch.div(place, c.group_size, rounding_mode="floor")
        end = torch.where(place < c.first, place, (group + 1) * c.group_size - 1)
        seen = torch.zeros(patches + latents, patches + latents, dtype=torch.bool, device=device)
        seen[:patches, :patches] = True
        seen[:patches, patches:] = not encoder
        seen[patches:, :patches] = encoder
        seen[patches:, patches:] = place <= end[:, None]
        return seen

    def features(self, images: Tensor, count: int, noisy: Tensor | None = None) -> Tensor:
        """(B, n, C) what the quantiser takes of images (B, 3, H, W) in [-1, 1].

        `noisy` (B, k, W) take the place of the first latents, and refined ones that of the others.
        """
        net, (height, width) = self.encoder, images.shape[-2:]
        rows, columns = height // net.patch, width // net.patch
        cut = images.unflatten(3, (columns, net.patch)).unflatten(2, (rows, net.patch))
        patches = net.stem(cut.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)) + net.placed(rows, columns)
        if noisy is None:
            latents = net.latents[:, :count].expand(len(images), -1, -1)
        else:
            refined = net.refined[:, noisy.shape[1] : count].expand(len(images), -1, -1)
            latents = torch.cat((noisy, refined), dim=1)
        mask = None
        if self.config.causal_encoder:
            mask = self.sight(rows * columns, latents.shape[1], encoder=True, device=images.device)
        features: Tensor = self.code_out(net(patches, latents, mask)[:, rows * columns :])
        return features.float()

    def encode(self, images: Tensor, count: int | None = None) -> Tensor:
        """(B, n) ids of images (B, 3, H, W) in [-1, 1]: all, or the first `count`."""
        return self.quantize.nearest(self.features(images, count or self.config.num_latent_tokens))

    def decode(self, ids: Tensor, side: int | None = None) -> Tensor:
        """(B, 3, S, S) in about [-1, 1], `side` pixels wide, of the first ids (B, n)."""
        net = self.decoder
        grid = (side or self.config.image_size) // net.patch
        codes = self.quantize.lookup(ids).to(self.code_in.weight.dtype)
        patches = (net.unknown + net.placed(grid, grid)).expand(len(ids), -1, -1)
        mask = None
        if self.config.causal_decoder:
            mask = self.sight(grid**2, ids.shape[1], encoder=False, device=ids.device)
        pixels = net.pixel_out(net(patches, self.code_in(codes), mask)[:, : grid**2])
        laid = pixels.unflatten(-1, (net.patch, net.patch, 3)).unflatten(1, (grid, grid))  # (B, h, w, p, p, 3)
        return laid.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)

    def corrected(self, images: Tensor, start: int, draws: Tensor, count: int | None = None) -> tuple[Tensor, ...]:
        """Clean ids (B, n), and the input and label ids that training makes of them.

        From the token `start` on one token, or behind the first ones a group, is replaced by its `draws`-th nearest
        code (B, n); what follows is encoded again to make up for it.
        """
        c, length = self.config, count or self.config.num_latent_tokens
        features = self.features(images, length)
        clean = self.quantize.nearest(features)
        end = start + (1 if start < c.first else c.group_size)
        noisy = torch.cat((clean[:, :start], self._nth(features, draws)[:, start:end]), dim=1)
        codes = self.quantize.lookup(noisy).to(self.refine_in.weight.dtype)
        anew = self.quantize.nearest(self.features(images, length, self.refine_in(codes)))[:, end:]
        return clean, torch.cat((noisy, anew), dim=1), torch.cat((clean[:, :end], anew), dim=1)

    def _nth(self, features: Tensor, draws: Tensor) -> Tensor:
        """(B, n) the `draws`-th nearest code, from 0, of each of the features (B, n, C)."""
        codes = self.quantize.codes
        if self.config.codebook_l2_norm:
            features = F.normalize(features, dim=-1)
        nearest = torch.cdist(features, codes.expand(len(features), -1, -1)).topk(
            min(NEAREST, len(codes)), largest=False
        )
        return nearest.indices.gather(-1, draws.unsqueeze(-1)).squeeze(-1)


_TO_OFFICIAL = (
    (r"^(encoder|decoder)\.blocks\.", r"\1.visual_model.encoder.layers."),
    (r"^(encoder|decoder)\.norm\.", r"\1.visual_model.post_layernorm."),
    (r"^(encoder|decoder)\.places$", r"\1.visual_model.embeddings.position_embedding.weight"),
    (r"^encoder\.stem\.", "encoder.visual_model.embeddings.patch_embedding."),
    (r"\.latent_places$", ".latent_pos_embed"),
    (r"\.latents$", ".latent_tokens"),
    (r"\.refined$", ".refined_tokens"),
    (r"\.unknown$", ".mask_token"),
    (r"\.pixel_out\.", ".to_pixel.model."),
    (r"^code_out\.", "quant_conv."),
    (r"^code_in\.", "post_quant_conv."),
    (r"^refine_in\.", "refine_conv."),
    (r"\.norm([12])\.", r".layer_norm\1."),
    (r"\.out\.", ".self_attn.out_proj."),
    (r"\.mlp_in\.", ".mlp.fc1."),
    (r"\.mlp_out\.", ".mlp.fc2."),
)


def official_names(ours: str) -> tuple[str, ...]:
    """The official keys of one of our parameters."""
    name = replace_patterns(ours, _TO_OFFICIAL)
    if ".qkv." in name:
        return tuple(name.replace(".qkv.", f".self_attn.{part}_proj.") for part in "qkv")
    return (name,)
