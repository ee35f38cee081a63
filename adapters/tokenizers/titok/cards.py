"""Cards of TiTok's tokenizers. Imports no torch."""

from __future__ import annotations

from typing import Any

from arbench.protocols import Card, Checkpoint, Claim, TokenSpec

from ...layers.shipped import DIGITS, shipped

BASE = Card(
    name="tokenizers/titok",
    kind="tokenizer",
    family="tokenizers",
    implementation="arbench.adapters.tokenizers.titok.adapter:TiTok",
    summary="TiTok",
    resolution=256,
    code_licence="Apache-2.0",
    weights_licence="not stated (repository: Apache-2.0; its README: for research purposes only)",
    source="https://github.com/bytedance/1d-tokenizer at 942a96f",
    trained_on="ImageNet",
)
"""What all sizes have in common."""


def _official(name: str, *, sizes: tuple[str, str], tokens: int, parameters: int, rfid: float, **config: Any) -> Card:
    """`sizes` are those of encoder and decoder; `config` is what differs from the first models."""
    channels = config.get("token_size") if config.get("quantize_mode") == "vae" else None
    codes = None if channels else config.get("codebook_size", 4096)
    kind = f"{channels} numbers" if channels else f"{codes} codes of {config.get('token_size', 12)} numbers"
    repository = f"tokenizer_titok_{name}_imagenet"
    return BASE.derive(
        name=f"tokenizers/titok-{name.replace('_', '-')}",
        summary=f"TiTok, {sizes[0]} encoder and {sizes[1]} decoder, {tokens} tokens in a row of {kind}",
        config={
            "class": "TiTok",
            "vit_enc_model_size": sizes[0],
            "vit_dec_model_size": sizes[1],
            "num_latent_tokens": tokens,
            **config,
        },
        tokens=TokenSpec(
            kind="continuous" if channels else "discrete",
            layout="sequence",
            levels=((tokens,),),
            vocabulary=codes,
            channels=channels,
        ),
        parameters=parameters,
        checkpoint=Checkpoint(
            file=f"{repository}.safetensors", source=f"https://huggingface.co/yucornetto/{repository}"
        ),
        published=(
            Claim(
                metric="rFID",
                value=rfid,
                settings={"data": "ImageNet val", "image_size": 256},
                source="README_TiTok of bytedance/1d-tokenizer at 942a96f",
            ),
        ),
    )


PIXELS: dict[str, Any] = {"finetune_decoder": False, "is_legacy": False}
VQ = {**PIXELS, "codebook_size": 8192, "token_size": 64, "use_l2_norm": False}
VAE = {**PIXELS, "quantize_mode": "vae", "token_size": 16}

MINI = BASE.derive(
    name="tokenizers/titok-mini",
    summary="TiTok, small, trained on MNIST digits: 16 tokens in a row of 256 codes",
    config={
        "class": "TiTok",
        "crop_size": DIGITS,
        "vit_enc_model_size": {"width": 64, "num_layers": 2, "num_heads": 4},
        "vit_dec_model_size": {"width": 64, "num_layers": 3, "num_heads": 4},
        "vit_enc_patch_size": 8,
        "vit_dec_patch_size": 8,
        "num_latent_tokens": 16,
        "codebook_size": 256,
        "token_size": 8,
        **PIXELS,
    },
    tokens=TokenSpec(kind="discrete", layout="sequence", levels=((16,),), vocabulary=256),
    parameters=283_932,
    **shipped("titok-tokenizer-mini.safetensors"),
)

CARDS: tuple[Card, ...] = (
    MINI,
    _official("l32", sizes=("large", "large"), tokens=32, parameters=641_054_735, rfid=2.21),
    _official("b64", sizes=("base", "base"), tokens=64, parameters=204_814_095, rfid=1.70),
    _official("s128", sizes=("small", "small"), tokens=128, parameters=83_674_639, rfid=1.71),
    _official("bl64_vq8k", sizes=("base", "large"), tokens=64, parameters=390_016_148, rfid=2.06, **VQ),
    _official("bl128_vq8k", sizes=("base", "large"), tokens=128, parameters=390_179_988, rfid=1.49, **VQ),
    _official("sl256_vq8k", sizes=("small", "large"), tokens=256, parameters=330_260_884, rfid=1.03, **VQ),
    _official("ll32_vae_c16", sizes=("large", "large"), tokens=32, parameters=606_879_604, rfid=1.61, **VAE),
    _official("bl64_vae_c16", sizes=("base", "large"), tokens=64, parameters=389_418_100, rfid=1.25, **VAE),
    _official("bl128_vae_c16", sizes=("base", "large"), tokens=128, parameters=389_581_940, rfid=0.84, **VAE),
)
