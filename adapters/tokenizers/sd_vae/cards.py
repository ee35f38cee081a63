"""Cards of Stable Diffusion's autoencoder. Imports no torch."""

from __future__ import annotations

from arbench.protocols import Card, Checkpoint, TokenSpec

CARDS: tuple[Card, ...] = (
    Card(
        name="tokenizers/sd-vae-f8",
        kind="tokenizer",
        family="tokenizers",
        implementation="arbench.adapters.tokenizers.sd_vae.adapter:SDVAE",
        summary="Stable Diffusion's KL autoencoder as DiT has it, 8x down, 4 channels; that of ACDiT",
        resolution=256,
        config={"embed_dim": 4, "ch_mult": (1, 2, 4, 4), "attn_resolutions": ()},
        tokens=TokenSpec.grid(32, channels=4),
        parameters=83_653_863,
        code_licence="Apache-2.0",
        weights_licence="not stated",
        source="https://github.com/huggingface/diffusers (AutoencoderKL)",
        trained_on="OpenImages and others",
        checkpoint=Checkpoint(
            file="diffusion_pytorch_model.safetensors",
            source="https://huggingface.co/facebook/DiT-XL-2-256/tree/main/vae",
        ),
    ),
)
