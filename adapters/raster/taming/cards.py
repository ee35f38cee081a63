"""Cards of taming's GPT. Imports no torch."""

from __future__ import annotations

from typing import Any

from arbench.protocols import Card, Checkpoint, Claim, Sampling, TokenSpec

_SETTINGS: dict[str, Any] = {"top_k": 600, "top_p": 0.92, "temperature": 1.0}

CARDS: tuple[Card, ...] = (
    Card(
        name="raster/taming-gpt-1.4b",
        kind="generator",
        family="raster",
        implementation="arbench.adapters.raster.taming.adapter:Taming",
        summary="taming's GPT, ImageNet classes at 256 px, 16 x 16 tokens of VQGAN, one after the other",
        resolution=256,
        # the sizes that RQ-Transformer's timings have of it; a strict load tells where the file differs
        config={"vocab_size": 16384, "block_size": 256, "n_layer": 48, "n_head": 24, "n_embd": 1536},
        condition="class",
        classes=1000,
        tokenizer="tokenizers/taming-f16-16384",
        tokens=TokenSpec.grid(16, 16384),
        supports=frozenset({"temperature", "top_k", "top_p"}),
        offers=frozenset({"scores"}),
        native=Sampling(top_k=600, top_p=0.92),
        upstream_settings=_SETTINGS,
        parameters=1_410_640_896,
        code_licence="MIT",
        weights_licence="not stated (repository: MIT)",
        source="https://github.com/CompVis/taming-transformers at 3ba01b2",
        trained_on="ImageNet-1k",
        checkpoint=Checkpoint(
            file="2021-04-03T19-39-50_cin_transformer/checkpoints/last.ckpt",
            source="https://k00.fr/s511rwcv",
            wrapper=("state_dict",),
        ),
        published=(
            Claim(
                metric="fid",
                value=15.78,
                settings={"decoding": "one of several, not said which", "evaluator": "torch-fidelity"},
                source="README of CompVis/taming-transformers at 3ba01b2",
            ),
        ),
    ),
)
