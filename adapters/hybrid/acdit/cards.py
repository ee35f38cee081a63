"""Cards of ACDiT. Imports no torch."""

from __future__ import annotations

from arbench.protocols import Card, Checkpoint, Guidance, Sampling, TokenSpec


def _official(size: str, *, depth: int, width: int, parameters: int) -> Card:
    file = f"ACDiT-{size.upper()}-img.pt"
    return Card(
        name=f"hybrid/acdit-{size}",
        kind="generator",
        family="hybrid",
        implementation="arbench.adapters.hybrid.acdit.adapter:ACDiT",
        summary=f"ACDiT-{size.upper()}, ImageNet classes at 256 px, 4 blocks of 16 x 16 latents by diffusion",
        resolution=256,
        # the file holds its arguments; where they differ from these, a strict load or its samples tell
        config={
            "patch_size": 1,
            "latent_size": 4,
            "block_size": 256,
            "ar_len": 4,
            "spatial_len": 1024,
            "hidden_size": width,
            "depth": depth,
            "num_heads": width // 64,
            "num_classes": 1000,
        },
        condition="class",
        classes=1000,
        tokenizer="tokenizers/sd-vae-f8",
        tokens=TokenSpec.grid(32, channels=4),
        supports=frozenset({"guidance", "inner_steps"}),
        choices={"guidance.schedule": ("constant",)},
        limits={"inner_steps": (1, 999)},
        native=Sampling(guidance=Guidance(scale=1.5), inner_steps=25),
        upstream_settings={"cfg": 1.5, "sample_step": 25},
        parameters=parameters,
        code_licence="MIT",
        weights_licence="not stated (repository: MIT)",
        source="github.com/thunlp/ACDiT at 135ff064d9793ee77e972eea3ef98eaee6dfad58",
        trained_on="ImageNet-1k",
        checkpoint=Checkpoint(
            file=file, source=f"https://huggingface.co/JamesHujy/ACDiT/resolve/main/{file}", wrapper=("model",)
        ),
    )


CARDS: tuple[Card, ...] = (
    _official("xl", depth=28, width=1152, parameters=674_856_708),
    _official("h", depth=32, width=1280, parameters=950_959_620),
)
