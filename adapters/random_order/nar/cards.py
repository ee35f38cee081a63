"""Cards of NAR. Imports no torch."""

from __future__ import annotations

from typing import Any

from arbench.protocols import Card, Checkpoint, Guidance, Sampling, TokenSpec

SHAPES = {"b": (12, 12, 768), "m": (18, 16, 1024), "l": (24, 16, 1024), "xl": (36, 20, 1280)}
"""(n_layer, n_head, dim), without the layer of the head that looks down."""


def _official(size: str, *, parameters: int) -> Card:
    layers, heads, width = SHAPES[size]
    # what the guide's commands use; the repository has no table of results
    settings: dict[str, Any] = {"cfg_scale": 2.0, "cfg_interval": -1, "top_k": 0, "top_p": 1.0, "temperature": 1.0}
    return Card(
        name=f"random_order/nar-{size}-256",
        kind="generator",
        family="random_order",
        implementation="arbench.adapters.random_order.nar.adapter:NAR",
        summary=f"NAR-{size.upper()}, ImageNet classes, 16 x 16 tokens, an anti-diagonal in a pass",
        resolution=256,
        config={"dim": width, "n_layer": layers, "n_head": heads, "medusa_attention_num": 1},
        condition="class",
        classes=1000,
        tokenizer="tokenizers/llamagen-vq-16",
        tokens=TokenSpec.grid(16, 16384),
        supports=frozenset({"guidance", "temperature", "top_k", "top_p"}),
        choices={"guidance.schedule": ("constant",)},
        offers=frozenset({"scores"}),
        native=Sampling(guidance=Guidance(scale=2.0)),
        upstream_settings=settings,
        parameters=parameters,
        code_licence="MIT",
        weights_licence="not stated (repository: MIT)",
        source="github.com/ThisisBillhe/NAR at 225c1fb563df80172ebbd51782838fe1fd09b40a",
        trained_on="ImageNet-1k",
        checkpoint=Checkpoint(
            file=f"c2i_{size.upper()}.pt",
            source="https://huggingface.co/collections/chenfeng1271/nar-67d13fa93fe913b2e187ee1f (to be renamed)",
            wrapper=("model", "module", "state_dict"),
        ),
    )


PARAMETERS = {"b": 130_551_552, "m": 295_453_696, "l": 372_536_320, "xl": 815_991_040}

CARDS: tuple[Card, ...] = tuple(_official(size, parameters=PARAMETERS[size]) for size in SHAPES)
