"""MAR's network: a masked autoencoder over continuous tokens, with the diffusion head that draws them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...layers.checkpoint import replace_all
from ...layers.diffusion_head import DiffusionHead, official_head_name
from ...layers.encoder_decoder import EncoderDecoder
from ...layers.linear import Linear
from ...layers.masked import gathered
from ...layers.vit import Block

TRAINING_ONLY = (
    "class",
    "mask_ratio_min",
    "label_drop_prob",
    "attn_dropout",
    "proj_dropout",
    "diffusion_batch_mul",
    "grad_checkpointing",
    "num_sampling_steps",
)
"""Official hyper-parameters without effect on a trained network (the last is given with each request)."""


@dataclass(frozen=True, slots=True)
class Config(EncoderDecoder):
    """Upstream's `MAR`, with its defaults."""

    vae_stride: int = 16
    class_num: int = 1000
    buffer_size: int = 64
    diffloss_d: int = 3
    diffloss_w: int = 1024
    norm_eps: float = 1e-6
    clip_denoised: float = 0.0
    """Bound on the head's estimates of a token; 0, none, in every official model. Early timesteps multiply errors of
    the noise by thousands, which only a head that was trained for long keeps small enough."""

    @property
    def side(self) -> int:
        """Tokens along an edge of the image."""
        return self.img_size // self.vae_stride // self.patch_size

    @property
    def tokens(self) -> int:
        return self.side**2

    @property
    def channels(self) -> int:
        """Numbers in a token."""
        return self.vae_embed_dim * self.patch_size**2


def small(*shape: int) -> nn.Parameter:
    """Small random numbers, drawn by `nn.init` so that loading weights draws none."""
    return nn.Parameter(nn.init.normal_(torch.empty(shape), std=0.02))


class Backbone(nn.Module):
    """The masked autoencoder: an encoder of class and known tokens, and a decoder that fills in all positions.

    Buffer tokens, all with the embedding of the class, come before the image's.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        c = self.config = config
        length = c.buffer_size + c.tokens
        self.class_table = nn.Embedding(c.class_num, c.encoder_embed_dim)
        self.no_class = small(1, c.encoder_embed_dim)
        self.token_in = Linear(c.channels, c.encoder_embed_dim)
        self.token_norm = nn.LayerNorm(c.encoder_embed_dim, eps=1e-6)
        self.encoder_position = small(1, length, c.encoder_embed_dim)
        self.encoder = nn.ModuleList(
            Block(c.encoder_embed_dim, c.encoder_num_heads, c.mlp_ratio, c.norm_eps) for _ in range(c.encoder_depth)
        )
        self.encoder_norm = nn.LayerNorm(c.encoder_embed_dim, eps=c.norm_eps)
        self.decoder_in = Linear(c.encoder_embed_dim, c.decoder_embed_dim)
        self.unknown = small(1, 1, c.decoder_embed_dim)
        self.decoder_position = small(1, length, c.decoder_embed_dim)
        self.decoder = nn.ModuleList(
            Block(c.decoder_embed_dim, c.decoder_num_heads, c.mlp_ratio, c.norm_eps) for _ in range(c.decoder_depth)
        )
        self.decoder_norm = nn.LayerNorm(c.decoder_embed_dim, eps=c.norm_eps)
        self.state_position = small(1, c.tokens, c.decoder_embed_dim)

    def condition(self, labels: Tensor, *, guided: bool) -> Tensor:
        """(B, W) class embeddings; with `guided` (2B, W), the second half that of no class."""
        classes: Tensor = self.class_table(labels)
        return torch.cat((classes, self.no_class.expand_as(classes))) if guided else classes

    def forward(self, condition: Tensor, known: Tensor, positions: Tensor, wanted: Tensor) -> Tensor:
        """States (B, n, W) of the positions `wanted` (B, n), given tokens `known` (B, k, C) at `positions` (B, k)."""
        buffer = self.config.buffer_size
        x = torch.cat((condition.unsqueeze(1).expand(-1, buffer, -1), self.token_in(known.to(condition.dtype))), dim=1)
        places = torch.cat((torch.arange(buffer, device=x.device).expand(len(x), -1), buffer + positions), dim=1)
        x = self.token_norm(x + gathered(self.encoder_position[0], places))  # (B, buffer + k, W)
        for block in self.encoder:
            x = block(x)
        x = self.decoder_in(self.encoder_norm(x))
        spread = self.unknown.expand(len(x), self.decoder_position.shape[1], -1)
        x = spread.scatter(1, places.unsqueeze(-1).expand_as(x), x) + self.decoder_position  # (B, buffer + L, W)
        for block in self.decoder:
            x = block(x)
        states: Tensor = self.decoder_norm(gathered(x, buffer + wanted))
        return states + gathered(self.state_position[0], wanted)


class Network(Backbone):
    """The backbone with the head that draws tokens."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.head = DiffusionHead(config.channels, config.decoder_embed_dim, config.diffloss_w, config.diffloss_d)

    def grid(self, tokens: Tensor) -> Tensor:
        """(B, vae_embed_dim, h, w) latents of tokens (B, L, C), each a patch of them, channels first."""
        c, p = self.config, self.config.patch_size
        patches = tokens.reshape(-1, c.side, c.side, c.vae_embed_dim, p, p).permute(0, 3, 1, 4, 2, 5)
        return patches.reshape(-1, c.vae_embed_dim, c.side * p, c.side * p)

    def patches(self, latents: Tensor) -> Tensor:
        """(B, L, C) tokens of latents (B, vae_embed_dim, h, w): the inverse of `grid`."""
        c, p = self.config, self.config.patch_size
        patches = latents.reshape(-1, c.vae_embed_dim, c.side, p, c.side, p).permute(0, 2, 4, 1, 3, 5)
        return patches.reshape(-1, c.tokens, c.channels)


_TO_OFFICIAL = (
    ("class_table.", "class_emb."),
    ("no_class", "fake_latent"),
    ("token_in.", "z_proj."),
    ("token_norm.", "z_proj_ln."),
    ("encoder_position", "encoder_pos_embed_learned"),
    ("decoder_in.", "decoder_embed."),
    ("unknown", "mask_token"),
    ("decoder_position", "decoder_pos_embed_learned"),
    ("state_position", "diffusion_pos_embed_learned"),
    ("encoder.", "encoder_blocks."),
    ("decoder.", "decoder_blocks."),
    (".qkv.", ".attn.qkv."),
    (".out.", ".attn.proj."),
    (".mlp_in.", ".mlp.fc1."),
    (".mlp_out.", ".mlp.fc2."),
)


def official_names(ours: str) -> tuple[str, ...]:
    """The official key of one of our parameters."""
    if ours.startswith("head."):
        return (f"diffloss.net.{official_head_name(ours.removeprefix('head.'))}",)
    return (replace_all(ours, _TO_OFFICIAL),)
