"""Cards of TA-TiTok's tokenizers. Imports no torch."""

from __future__ import annotations

from typing import Any

from arbench.protocols import Card, Checkpoint, Claim, TokenSpec

BASE = Card(
    name="tokenizers/ta-titok",
    kind="tokenizer",
    family="tokenizers",
    implementation="arbench.adapters.tokenizers.ta_titok.adapter:TATiTok",
    summary="TA-TiTok",
    resolution=256,
    code_licence="Apache-2.0",
    weights_licence="not stated (repository: Apache-2.0; its README: for research purposes only)",
    source="https://github.com/bytedance/1d-tokenizer at 942a96f",
    trained_on="DataComp and other public pairs of image and text",
)
"""What all sizes have in common."""


def _official(
    name: str, *, encoder: str, tokens: int, parameters: int, rfid: float, inception: float, **config: Any
) -> Card:
    """A size with a large decoder; `config` says which kind of tokens it has."""
    channels = config["token_size"] if config.get("quantize_mode") == "vae" else None
    codes = None if channels else config["codebook_size"]
    kind = f"{channels} numbers" if channels else f"{codes} codes of {config['token_size']} numbers"
    settings = {"data": "ImageNet val", "image_size": 256, "text": "with captions"}
    source = "README_MaskGen of bytedance/1d-tokenizer at 942a96f"
    return BASE.derive(
        name=f"tokenizers/ta-titok-{name.replace('_', '-')}",
        summary=f"TA-TiTok, {encoder} encoder, {tokens} tokens in a row of {kind}; without a caption",
        config={
            "class": "TATiTok",
            "vit_enc_model_size": encoder,
            "vit_dec_model_size": "large",
            "num_latent_tokens": tokens,
            "finetune_decoder": False,
            "is_legacy": False,
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
        checkpoint=Checkpoint(file=f"tatitok_{name}.bin", source="https://huggingface.co/fun-research/TA-TiTok"),
        published=(
            Claim(metric="rFID", value=rfid, settings=settings, source=source),
            Claim(metric="is", value=inception, settings=settings, source=source),
        ),
    )


VQ: dict[str, Any] = {"codebook_size": 8192, "token_size": 64, "use_l2_norm": False}
VAE: dict[str, Any] = {"quantize_mode": "vae", "token_size": 16}

CARDS: tuple[Card, ...] = (
    _official("bl32_vq", encoder="base", tokens=32, parameters=390_800_532, rfid=3.95, inception=219.6, **VQ),
    _official("bl64_vq", encoder="base", tokens=64, parameters=390_882_452, rfid=2.43, inception=218.8, **VQ),
    _official("bl128_vq", encoder="base", tokens=128, parameters=391_046_292, rfid=1.53, inception=222.8, **VQ),
    _official("bl32_vae", encoder="base", tokens=32, parameters=390_202_484, rfid=1.53, inception=222.0, **VAE),
    _official("bl64_vae", encoder="base", tokens=64, parameters=390_284_404, rfid=1.47, inception=220.7, **VAE),
    _official("sl128_vae", encoder="small", tokens=128, parameters=330_275_188, rfid=0.90, inception=227.7, **VAE),
)
