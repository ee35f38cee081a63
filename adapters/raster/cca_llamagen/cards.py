"""Cards of CCA's LlamaGen. Imports no torch."""

from __future__ import annotations

from arbench.protocols import Card, Checkpoint, Claim, Sampling

from ..llamagen.cards import CARDS as LLAMAGEN

_BY_NAME = {card.name: card for card in LLAMAGEN}
_HUGGING_FACE = "https://huggingface.co/ChenDRAG/CCA_LlamaGen/resolve/main/CCA_LlamaGen_Guidance_Free"


def _official(size: str, *, fid: float) -> Card:
    """`fid` is the README's, without guidance."""
    llamagen = _BY_NAME[f"raster/llamagen-{size}-384"]
    file = f"c2i_{size.upper()}_384_CCA_0005000.pt"
    settings = {"cfg_scale": 1.0, "cfg_interval": -1, "top_k": 0, "top_p": 1.0, "temperature": 1.0}
    measured = {"images": 50000, "image_size": 384, "image_size_eval": 256, "evaluator": "ADM"}
    return llamagen.derive(
        name=f"raster/cca_llamagen-{size}-384",
        implementation="arbench.adapters.raster.cca_llamagen.adapter:CCALlamaGen",
        summary=f"LlamaGen-{size.upper()} aligned by CCA to need no guidance, 24 x 24 tokens one by one",
        native=Sampling(),
        upstream_settings=settings,
        weights_licence="not stated (repository: MIT)",
        source="github.com/thu-ml/CCA at 7d5a07307207948f470e07d8588e4dc2249ca17c",
        checkpoint=Checkpoint(file=file, source=f"{_HUGGING_FACE}/{file}", wrapper=("model", "module", "state_dict")),
        published=(Claim(metric="fid", value=fid, settings={**settings, **measured}, source="README of thu-ml/CCA"),),
    )


CARDS: tuple[Card, ...] = (
    _official("b", fid=7.04),
    _official("l", fid=3.43),
    _official("xl", fid=3.10),
    _official("xxl", fid=3.12),
    _official("3b", fid=2.69),
)
