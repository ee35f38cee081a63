"""Cards of NPP. Imports no torch."""

from __future__ import annotations

from arbench.protocols import Card, Checkpoint, Claim, Guidance, Sampling, TokenSpec

from ..llamagen.cards import CARDS as LLAMAGEN

_BY_NAME = {card.name: card for card in LLAMAGEN}


def _official(size: str, base: str, *, cfg_scale: float, fid: float) -> Card:
    """NPP's weights for the LlamaGen `base`, at 256 px; scale and FID are the README's."""
    llamagen = _BY_NAME[f"raster/llamagen-{base}"]
    file = f"c2i_{size.upper()}_256.pt"
    settings = {"cfg_scale": cfg_scale, "cfg_interval": -1, "top_k": 0, "top_p": 1.0, "temperature": 1.0}
    measured = {"images": 50000, "image_size": 256, "image_size_eval": 256, "evaluator": "ADM"}
    return llamagen.derive(
        name=f"raster/npp-{size}-256",
        implementation="arbench.adapters.raster.npp.adapter:NPP",
        summary=f"LlamaGen-{size.upper()} trained by next patch prediction, 16 x 16 tokens one by one",
        resolution=256,
        config={**llamagen.config, "block_size": 256},
        tokens=TokenSpec.grid(16, 16384),
        native=Sampling(guidance=Guidance(scale=cfg_scale)),
        upstream_settings=settings,
        code_licence="not stated",
        weights_licence="not stated",
        source="github.com/PKU-YuanGroup/Next-Patch-Prediction at e333f2c10fdc92aec25f2fd43cbbeea8f5c8e6ff",
        checkpoint=Checkpoint(
            file=f"LlamaGen-NPP/{file}",  # in a folder of its own: LlamaGen's own files have the same names
            source=f"https://huggingface.co/pytttttt/LlamaGen-NPP/resolve/main/{file}",
            wrapper=("model", "module", "state_dict"),
        ),
        published=(
            Claim(
                metric="fid",
                value=fid,
                settings={**settings, **measured},
                source="README of PKU-YuanGroup/Next-Patch-Prediction",
            ),
        ),
    )


CARDS: tuple[Card, ...] = (
    _official("b", "b-256", cfg_scale=2.0, fid=4.47),
    _official("l", "l-256", cfg_scale=1.75, fid=2.76),
    _official("xl", "xl-384", cfg_scale=1.70, fid=2.65),
    _official("xxl", "xxl-384", cfg_scale=1.65, fid=2.55),
)
