"""The hyper-parameters that networks with MAR's encoder and decoder share: MAR, FAR, ARINAR, xAR, FlowAR, TransDiff."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EncoderDecoder:
    """By the official names and with their defaults: the sizes of an image, of both halves, and of a latent."""

    img_size: int = 256
    patch_size: int = 1
    encoder_embed_dim: int = 1024
    encoder_depth: int = 16
    encoder_num_heads: int = 16
    decoder_embed_dim: int = 1024
    decoder_depth: int = 16
    decoder_num_heads: int = 16
    mlp_ratio: float = 4.0
    vae_embed_dim: int = 16
