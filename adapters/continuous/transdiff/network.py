"""TransDiff's networks: a transformer that makes features of a class, and a diffusion transformer that reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arbench.errors import ConfigError

from ...layers.attention import KVCache, attend
from ...layers.checkpoint import replace_patterns
from ...layers.encoder_decoder import EncoderDecoder
from ...layers.flow_blocks import TimeEmbedding
from ...layers.linear import Linear
from ...layers.vit import Block

TRAINING_ONLY = frozenset({"class", "label_drop_prob", "attn_dropout", "proj_dropout", "grad_checkpointing"}) | {
    "num_sampling_steps",
    "diffusion_batch_mul",
}
FEATURES, ROUND = 256, 64
"""Hard-coded upstream: features that the transformer makes, and with `mrar` those of each image."""
EPS = 1e-6


@dataclass(frozen=True, slots=True)
class Config(EncoderDecoder):
    """Upstream's `Transdiff`, less what only training uses; `mrar` for the class of `transdiff_mrar`."""

    class_num: int = 1000
    buffer_size: int = 64
    mrar: bool = False

    def __post_init__(self) -> None:
        if self.encoder_embed_dim != self.decoder_embed_dim:
            raise ConfigError("this TransDiff cannot be built", "both of its parts have one width upstream", "")
        if self.mrar and (self.patch_size, self.img_size) != (2, 256):
            raise ConfigError("MRAR makes images of 256 px of 2 x 2 patches", "upstream's sampler is made for them", "")

    @property
    def side(self) -> int:
        """Tokens of the decoder along an edge."""
        return 16 * (self.img_size // 256)

    @property
    def channels(self) -> int:
        """Numbers of a token of the decoder."""
        return self.vae_embed_dim if self.mrar else self.vae_embed_dim * self.patch_size**2

    @property
    def rounds(self) -> int:
        """Images that are made in turn."""
        return FEATURES // ROUND if self.mrar else 1


class DecoderBlock(nn.Module):
    """Attention, attention to the features, MLP; the time shifts, scales and gates the first and the last."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width, self.heads = config.decoder_embed_dim, config.decoder_num_heads
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width, eps=EPS) for _ in range(3))
        self.qkv, self.out = Linear(width, 3 * width), Linear(width, width)
        self.query = Linear(width, width)
        self.key, self.value = (Linear(config.encoder_embed_dim, width) for _ in range(2))
        self.cross_out = Linear(width, width)
        self.mlp_in = Linear(width, int(width * config.mlp_ratio))
        self.mlp_out = Linear(int(width * config.mlp_ratio), width)
        self.modulation = nn.Parameter(torch.randn(1, 6, width) / width**0.5)

    def read(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values, (B, H, n, D) each, of features (B, n, W)."""
        key, value = (
            layer(features).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.key, self.value)
        )
        return key, value

    def forward(self, x: Tensor, features: tuple[Tensor, Tensor], time: Tensor) -> Tensor:
        """`features` are what was `read` of them; `time` (1, 6, W)."""
        shift1, scale1, gate1, shift2, scale2, gate2 = (self.modulation + time).chunk(6, dim=1)
        h = self.norm1(x) * (1 + scale1) + shift1
        query, key, value = self.qkv(h).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.out(attend(query, key, value)) * gate1
        query = self.query(self.norm2(x)).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        x = x + self.cross_out(attend(query, *features))
        h = self.mlp_out(F.gelu(self.mlp_in(self.norm3(x) * (1 + scale2) + shift2)))
        out: Tensor = x + h * gate2
        return out


class Decoder(nn.Module):
    """The velocity of latents, given features."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width = config.decoder_embed_dim
        self.position = nn.Parameter(torch.empty(1, config.side**2, width))
        nn.init.normal_(self.position, std=0.02)
        self.time = TimeEmbedding(width)
        self.time_modulation = Linear(width, 6 * width)
        self.feature_in = Linear(config.encoder_embed_dim, width)
        self.token_in = Linear(config.channels, width)
        self.blocks = nn.ModuleList(DecoderBlock(config) for _ in range(config.decoder_depth))
        self.norm = nn.LayerNorm(width, eps=EPS, elementwise_affine=False)
        self.modulation = nn.Parameter(torch.randn(1, 2, width) / width**0.5)
        self.out = Linear(width, config.channels)

    def forward(self, noisy: Tensor, times: Tensor, features: Tensor) -> Tensor:
        """(B, L, C) from tokens (B, L, C) at times (1 or B,) from 0 to 1000, given features (B, n, Z)."""
        return self.velocity(noisy, *self.modulations(times), self.read(features))

    def read(self, features: Tensor) -> list[tuple[Tensor, Tensor]]:
        """What all steps read of features (B, n, Z): each block's keys and values."""
        features = self.feature_in(features)
        return [block.read(features) for block in self.blocks]

    def modulations(self, times: Tensor) -> tuple[Tensor, Tensor]:
        """Embedded times (N, W) and what they change in all blocks (N, 6, W), of times (N,) from 0 to 1000."""
        time = self.time(times)
        return time, self.time_modulation(F.silu(time)).unflatten(1, (6, -1))

    def velocity(
        self, noisy: Tensor, time: Tensor, modulation: Tensor, features: Sequence[tuple[Tensor, Tensor]]
    ) -> Tensor:
        """`forward` of what was made before: of one time or as many as rows, and of features."""
        x = self.token_in(noisy) + self.position
        for block, read in zip(self.blocks, features, strict=True):
            x = block(x, read, modulation)
        shift, scale = (self.modulation + time.unsqueeze(1)).chunk(2, dim=1)
        out: Tensor = self.out(self.norm(x) * (1 + scale) + shift)
        return out


class Network(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        c, width = config, config.encoder_embed_dim
        self.config = config
        self.class_table = nn.Embedding(c.class_num, width)
        self.no_class = nn.Parameter(torch.empty(1, width))
        self.token_in = Linear(c.vae_embed_dim * c.patch_size**2, width)
        self.token_norm = nn.LayerNorm(width, eps=EPS)
        self.unknown = nn.Parameter(torch.empty(1, ROUND if c.mrar else 1, width))
        self.position = nn.Parameter(torch.empty(1, FEATURES + c.buffer_size, width))
        self.state_position = nn.Parameter(torch.empty(1, FEATURES, width))
        for parameter in (self.no_class, self.unknown, self.position, self.state_position):
            nn.init.normal_(parameter, std=0.02)
        self.encoder = nn.ModuleList(
            Block(width, c.encoder_num_heads, c.mlp_ratio, EPS) for _ in range(2 * c.encoder_depth)
        )
        self.encoder_norm = nn.LayerNorm(width, eps=EPS)
        self.decoder = Decoder(c)

    def condition(self, labels: Tensor, *, guided: bool) -> Tensor:
        """(B, W) class embeddings; with `guided` (2B, W), the second half that of no class."""
        classes: Tensor = self.class_table(labels)
        return torch.cat((classes, self.no_class.expand_as(classes))) if guided else classes

    def forward(
        self,
        condition: Tensor,
        earlier: Tensor | None = None,
        done: int = 0,
        caches: Sequence[KVCache] | None = None,
    ) -> Tensor:
        """(B, n, W) features: all of them, or with `mrar` those of one image.

        With `mrar` those of the first image are made of the class, those of another of the patches `earlier`
        (B, 64, 4C) of the last of `done` images; what came before that is in the caches.
        """
        c = self.config
        if earlier is None:
            known = condition.unsqueeze(1).expand(-1, c.buffer_size, -1)
            unknown = self.unknown.expand(len(condition), ROUND if c.mrar else FEATURES, -1)
            x, start, mask = torch.cat((known, unknown), dim=1), 0, None
            if c.mrar:  # the class does not see the features
                place = torch.arange(x.shape[1], device=x.device)
                mask = (place >= c.buffer_size)[:, None] | (place < c.buffer_size)
        else:
            x, mask = self.token_in(earlier), None
            start = c.buffer_size + ROUND * done
        x = self.token_norm(x + self.position[:, start : start + x.shape[1]])
        for index, block in enumerate(self.encoder):
            x = block(x, mask, start, None if caches is None else caches[index])
        x = self.encoder_norm(x)
        if earlier is None:
            x = x[:, c.buffer_size :]
        first = max(start - c.buffer_size, 0)
        features: Tensor = x + self.state_position[:, first : first + x.shape[1]]
        return features

    def allocate(self, rows: int) -> list[KVCache]:
        """Caches for `rows` samples of several images in turn."""
        c, weight = self.config, self.decoder.out.weight
        width = c.encoder_embed_dim // c.encoder_num_heads
        return [
            KVCache(rows, c.encoder_num_heads, c.buffer_size + FEATURES, width, weight.dtype, weight.device)
            for _ in self.encoder
        ]

    def grid(self, tokens: Tensor) -> Tensor:
        """(B, vae_embed_dim, h, w) latents of the decoder's tokens (B, L, C)."""
        c = self.config
        p = 1 if c.mrar else c.patch_size
        patches = tokens.unflatten(1, (c.side, c.side)).unflatten(-1, (c.vae_embed_dim, p, p))
        return patches.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)

    def patches(self, latents: Tensor) -> Tensor:
        """(B, 64, 4C): an image's latents (B, C, 16, 16) as the transformer reads them, channels first."""
        parts = latents.unflatten(3, (8, 2)).unflatten(2, (8, 2)).permute(0, 2, 4, 1, 3, 5)
        return parts.flatten(3).flatten(1, 2)


_TO_OFFICIAL = (
    (r"^class_table\.", "class_emb."),
    (r"^no_class", "fake_latent"),
    (r"^token_in\.", "z_proj."),
    (r"^token_norm\.", "z_proj_ln."),
    (r"^unknown", "mask_token"),
    (r"^position", "encoder_pos_embed_learned"),
    (r"^state_position", "diffusion_pos_embed_learned"),
    (r"^encoder\.", "encoder_blocks."),
    (r"^(encoder_blocks\.\d+)\.(qkv)\.", r"\1.attn.\2."),
    (r"^(encoder_blocks\.\d+)\.out\.", r"\1.attn.proj."),
    (r"\.mlp_in\.", ".mlp.fc1."),
    (r"\.mlp_out\.", ".mlp.fc2."),
    (r"^decoder\.blocks\.(\d+)\.qkv\.", r"decoder.blocks.\1.attn1.qkv."),
    (r"^decoder\.blocks\.(\d+)\.out\.", r"decoder.blocks.\1.attn1.proj."),
    (r"^decoder\.blocks\.(\d+)\.query\.", r"decoder.blocks.\1.attn2.wq."),
    (r"^decoder\.blocks\.(\d+)\.key\.", r"decoder.blocks.\1.attn2.wk."),
    (r"^decoder\.blocks\.(\d+)\.value\.", r"decoder.blocks.\1.attn2.wv."),
    (r"^decoder\.blocks\.(\d+)\.cross_out\.", r"decoder.blocks.\1.attn2.proj."),
    (r"^decoder\.blocks\.(\d+)\.modulation$", r"decoder.blocks.\1.scale_shift_table"),
    (r"^decoder\.blocks\.", "decoder.res_blocks."),
    (r"^decoder\.position", "decoder.diffusion_pos_embed_learned"),
    (r"^decoder\.time\.time_in\.", "decoder.time_embed.time_embedder.linear_1."),
    (r"^decoder\.time\.time_out\.", "decoder.time_embed.time_embedder.linear_2."),
    (r"^decoder\.time_modulation\.", "decoder.time_embed.time_proj."),
    (r"^decoder\.feature_in\.", "decoder.cond_embed."),
    (r"^decoder\.token_in\.", "decoder.input_proj."),
    (r"^decoder\.modulation$", "decoder.final_layer.scale_shift_table"),
    (r"^decoder\.out\.", "decoder.final_layer.linear."),
    (r"^decoder\.", "diffdecoder.net."),
)


def official_names(ours: str) -> tuple[str, ...]:
    """The official key of one of our parameters."""
    return (replace_patterns(ours, _TO_OFFICIAL),)
