"""Cards of MaskBit's generators. Imports no torch."""

from __future__ import annotations

from typing import Any

from arbench.protocols import Card, Checkpoint, Claim, Guidance, Sampling, TokenSpec

BASE = Card(
    name="random_order/maskbit",
    kind="generator",
    family="random_order",
    implementation="arbench.adapters.random_order.maskbit.adapter:MaskBit",
    summary="MaskBit",
    resolution=256,
    condition="class",
    classes=1000,
    supports=frozenset({"guidance", "temperature", "top_k", "top_p", "steps"}),
    extra={
        "randomize_temperature": "temperature of the noise on confidences at the first step, from which it falls to 0",
        "mask_schedule_strategy": "how the share of masked tokens falls",
        "use_sampling_annealing": "true: the temperature of draws falls from 1.3 to 0.5",
    },
    choices={
        "extra.mask_schedule_strategy": ("arccos", "cosine", "linear", "root", "square"),
        "extra.use_sampling_annealing": ("false", "true"),
    },
    limits={"extra.randomize_temperature": (0.0, 1000.0)},
    code_licence="Apache-2.0",
    weights_licence="not stated (repository: Apache-2.0; its README: for research purposes only)",
    source="https://github.com/markweberdev/maskbit at 5ea3d73",
    trained_on="ImageNet-1k",
)
"""What all sizes have in common."""


def _claim(settings: dict[str, Any], fid: float) -> Claim:
    return Claim(
        metric="fid",
        value=fid,
        settings={**settings, "images": 50000},
        source="README and configs of markweberdev/maskbit at 5ea3d73",
    )


def _settings(steps: int, scale: float, power: float, temperature: float) -> dict[str, Any]:
    return {
        "num_steps": steps,
        "guidance_scale": scale,
        "guidance_annealing": "cosine",
        "scale_pow": power,
        "randomize_temperature": temperature,
        "softmax_temperature": 1.0,
        "mask_schedule_strategy": "arccos",
    }


def _official(
    bits: int, settings: dict[str, Any], *, parameters: int, fid: float, more: tuple[Claim, ...] = ()
) -> Card:
    """`settings` are upstream's for its FID; `more` are figures with other ones."""
    file = f"maskbit_generator_{bits}bit"
    extra = {
        "randomize_temperature": settings["randomize_temperature"],
        "mask_schedule_strategy": "arccos",
        "use_sampling_annealing": False,
    }
    guidance = Guidance(
        scale=1 + settings["guidance_scale"], start=1.0, schedule="cosine_power", power=settings["scale_pow"]
    )
    return BASE.derive(
        name=f"random_order/maskbit-{bits}bit",
        summary=f"MaskBit, ImageNet classes, 16 x 16 tokens of {bits} bits, unmasked in {settings['num_steps']} steps",
        tokenizer=f"tokenizers/maskbit-{bits}bit",
        tokens=TokenSpec.grid(16, 2**bits),
        config={
            "hidden_dim": 1024,
            "codebook_size": 2**bits,
            "codebook_splits": 2,
            "depth": 24,
            "heads": 16,
            "mlp_dim": 4096,
        },
        native=Sampling(guidance=guidance, steps=settings["num_steps"], extra=extra),
        upstream_settings=settings,
        parameters=parameters,
        checkpoint=Checkpoint(file=f"{file}.bin", source=f"https://huggingface.co/markweber/{file}"),
        published=(_claim(settings, fid), *more),
    )


CARDS: tuple[Card, ...] = (
    _official(10, _settings(64, 6.4, 2.5, 10.5), parameters=304_728_128, fid=1.68),
    _official(12, _settings(64, 7.1, 3.0, 8.2), parameters=304_795_776, fid=1.65),
    _official(
        14,
        _settings(64, 7.1, 3.0, 7.8),
        parameters=304_929_024,
        fid=1.62,
        more=(_claim(_settings(128, 7.1, 3.0, 9.0), 1.56), _claim(_settings(256, 5.8, 3.0, 10.3), 1.52)),
    ),
    _official(16, _settings(64, 6.5, 2.5, 7.5), parameters=305_193_472, fid=1.64),
    _official(18, _settings(64, 5.7, 2.5, 8.5), parameters=305_720_320, fid=1.67),
)
