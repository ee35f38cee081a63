"""GigaTok's hyper-parameters, by upstream's names."""

from __future__ import annotations

from dataclasses import dataclass

from arbench.errors import ConfigError

IGNORED = (r"quantize\.codebook_used", r"(s1to2decoder\.|s2ddecoder\.)?distill_mlp\..*")
"""Official keys that only training uses."""
TRAINING_ONLY = (
    "class",
    "codebook_show_usage",
    "commit_loss_beta",
    "entropy_loss_ratio",
    "dropout_p",
    "rot",
    "distill_depth",
    "encoder_2d_distill",
    "out_inner_dim",
    "fea_rec_loss_type",
    "fea_rec_loss_weight",
    "stochastic",
    "stochastic_temperature",
    "eval_deterministic",
    "bernoulli_sample",
    "codebook_transform",
    "freeze_codebook",
    "prior_model_config",
)
"""Official hyper-parameters without effect on a trained network."""
UNBUILT = (
    "use_lfq",
    "simvq",
    "use_rope",
    "rope_1d",
    "rope_2d",
    "res_up_down_sample",
    "downsample_match_channel",
    "upsample_match_channel",
    "res_codebook_updown_sample",
    "downsample_improve",
    "with_prior_model",
)
"""Official switches that no published model has on, and that are refused."""
SIZES = {
    "tiny": (256, 4, 4),
    "small": (512, 6, 8),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
    "xl": (1280, 36, 20),
    "xxl": (1536, 48, 24),
    "xxxl": (2560, 48, 40),
}
"""Name of a size -> width, layers, heads."""
LAYERS = ("TransformerDecoderLayer", "TransformerLayer", "QformerLayerVar")
BLOCKS = 2
"""Residual blocks of a level; the decoder has one more."""


@dataclass(frozen=True, slots=True)
class Config:
    """Upstream's `VQVitModelPlusArgs` and `VQVitModel2DPlusArgs`, and `image_size` and `ch` of their parts."""

    image_size: int = 256
    ch: int = 128
    codebook_size: int = 16384
    codebook_embed_dim: int = 8
    codebook_l2_norm: bool = True
    encoder_ch_mult: tuple[int, ...] = (1, 1, 2, 2, 4)
    decoder_ch_mult: tuple[int, ...] = (1, 1, 2, 2, 4)
    model_size: str | None = "small"
    encoder_size: str | None = None
    decoder_size: str | None = None
    num_latent_tokens: int = 256
    z_channels: int = 256
    transformer_layer_type: str = LAYERS[0]
    use_qk_norm: bool = False
    use_flash_attn: bool = False
    multi_level_query_init: bool = False
    learnable_1d_query_init: bool = False
    last_level_2d_query_init: bool = False
    multi_level_2d_query_init: bool = False
    learnable_2d_query_init: bool = False
    adaptive_gn: bool = False
    d2s_up: bool = False
    use_attn: bool = True

    def __post_init__(self) -> None:
        if self.transformer_layer_type not in LAYERS:
            raise ConfigError(
                f"no transformer_layer_type {self.transformer_layer_type!r}", f"known: {', '.join(LAYERS)}", ""
            )
        for size in (self.encoder_size or self.model_size, self.decoder_size or self.model_size):
            if size not in SIZES:
                raise ConfigError(f"no size {size!r}", f"known: {', '.join(SIZES)}", "use upstream's name")

    @property
    def factor(self) -> int:
        return int(2 ** (len(self.encoder_ch_mult) - 1))

    @property
    def side(self) -> int:
        """Of the map that the transformers work on."""
        return self.image_size // self.factor

    def shape(self, size: str | None) -> tuple[int, int, int]:
        return SIZES[size or self.model_size or ""]

    @property
    def apart(self) -> bool:
        """Whether queries, keys and values are layers of their own in official files."""
        return self.use_qk_norm or self.use_flash_attn
