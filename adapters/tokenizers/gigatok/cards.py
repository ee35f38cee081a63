"""Cards of GigaTok's tokenizers. Imports no torch."""

from __future__ import annotations

from arbench.protocols import Card, Checkpoint, Claim, TokenSpec

BASE = Card(
    name="tokenizers/gigatok",
    kind="tokenizer",
    family="tokenizers",
    implementation="arbench.adapters.tokenizers.gigatok.adapter:GigaTok",
    summary="GigaTok",
    resolution=256,
    tokens=TokenSpec(kind="discrete", layout="sequence", levels=((256,),), vocabulary=16384),
    code_licence="MIT",
    weights_licence="not stated (repository: MIT)",
    source="https://github.com/SilentView/GigaTok at 182920c",
    trained_on="ImageNet",
)
"""What all sizes have in common."""


def _official(name: str, sizes: tuple[str, str], place: str, file: str, *, parameters: int, rfid: float) -> Card:
    """`sizes` are those of the transformers that write and read tokens."""
    source = "README of SilentView/GigaTok at 182920c"
    settings = {"data": "ImageNet val", "image_size": 256}
    return BASE.derive(
        name=f"tokenizers/gigatok-{name}",
        summary=f"GigaTok {name.upper()}, {sizes[0]} and {sizes[1]}, 256 tokens in a row of 16384 codes of 8 numbers",
        config={
            "class": "VQVitModelPlus",
            "model_size": None,
            "encoder_size": sizes[0],
            "decoder_size": sizes[1],
            "multi_level_query_init": True,
            "adaptive_gn": True,
            "d2s_up": True,
            "use_attn": False,
        },
        parameters=parameters,
        checkpoint=Checkpoint(
            file=file, source=f"https://drive.google.com/file/d/{place}/view", wrapper=("ema", "model")
        ),
        published=(Claim(metric="rFID", value=rfid, settings=settings, source=source),),
    )


CARDS: tuple[Card, ...] = (
    _official(
        "s-s",
        ("small", "small"),
        "1Q_WHCT6mdNnu0GkHCm0CbXaP6kFeTe5h",
        "VQ_SS256_e100.pt",
        parameters=129_252_619,
        rfid=1.01,
    ),
    _official(
        "s-b",
        ("small", "base"),
        "17K-h2Jwep53RUEf6CEOV3ro7Cz_DaIWC",
        "VQ_SB256_e200.pt",
        parameters=218_236_939,
        rfid=0.89,
    ),
    _official(
        "b-l",
        ("base", "large"),
        "1VnBu4aj0N7lFa1_wKBdTgLNZmaNgFvwi",
        "VQ_BL256_e200.pt",
        parameters=597_510_923,
        rfid=0.81,
    ),
    _official(
        "b-l-dino-disc",
        ("base", "large"),
        "11bXyg6y15hIWYnIsl7YbwDtRAJMK7jjn",
        "VQ_BL256_dino_disc.pt",
        parameters=597_510_923,
        rfid=0.51,
    ),
    _official(
        "xl-xxl",
        ("xl", "xxl"),
        "1HK_bV_zklLfGmIHGE4gMwjfhLLKi6Z3G",
        "VQ_XLXXL256_e300.pt",
        parameters=2_842_052_875,
        rfid=0.79,
    ),
)
