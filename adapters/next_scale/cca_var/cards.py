"""Cards of CCA's VAR. Imports no torch."""

from __future__ import annotations

from arbench.protocols import Card, Checkpoint, Claim, Sampling

from ..var.cards import CARDS as VAR

_BY_NAME = {card.name: card for card in VAR}
_HUGGING_FACE = "https://huggingface.co/ChenDRAG/CCA_VAR/resolve/main/CCA_VAR_Guidance_Free"


def _official(depth: int, *, fid: float) -> Card:
    """`fid` is the README's, without guidance: VAR's `cfg` 0."""
    file = f"VAR_d{depth}_CCA.pth"
    settings = {"cfg": 0.0, "top_k": 900, "top_p": 0.96, "more_smooth": False}
    return _BY_NAME[f"next_scale/var-d{depth}"].derive(
        name=f"next_scale/cca_var-d{depth}",
        implementation="arbench.adapters.next_scale.cca_var.adapter:CCAVAR",
        summary=f"VAR-d{depth} aligned by CCA to need no guidance, ImageNet classes at 256 px, 10 scales",
        native=Sampling(top_k=900, top_p=0.96),
        upstream_settings=settings,
        weights_licence="not stated (repository: MIT)",
        source="github.com/thu-ml/CCA at 7d5a07307207948f470e07d8588e4dc2249ca17c",
        checkpoint=Checkpoint(file=file, source=f"{_HUGGING_FACE}/{file}"),
        published=(
            Claim(
                metric="fid",
                value=fid,
                settings={**settings, "images": 50000, "evaluator": "ADM"},
                source="README of thu-ml/CCA",
            ),
        ),
    )


CARDS: tuple[Card, ...] = tuple(
    _official(depth, fid=fid) for depth, fid in ((16, 4.03), (20, 3.02), (24, 2.63), (30, 2.54))
)
