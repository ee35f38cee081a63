"""Cards of Distilled Decoding. Imports no torch."""

from __future__ import annotations

from typing import Any

from arbench.protocols import Card, Checkpoint, Claim, Sampling, TokenSpec

README = "README of microsoft/distilled_decoding"
SIDES = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)
_HUGGING_FACE = "https://huggingface.co/microsoft/distilled_decoding/resolve/main"


def _card(name: str, fid: tuple[float, float], settings: dict[str, Any], **fields: Any) -> Card:
    """`fid` is the README's for one and for two steps."""
    claims = tuple(
        Claim(
            metric="fid",
            value=value,
            settings={**settings, "steps": steps},
            source="README of microsoft/distilled_decoding",
        )
        for steps, value in enumerate(fid, start=1)
    )
    return Card(
        name=f"other/distilled_decoding-{name}",
        kind="generator",
        family="other",
        resolution=256,
        condition="class",
        classes=1000,
        supports=frozenset({"steps"}),
        limits={"steps": (1, 2)},
        native=Sampling(steps=1),
        code_licence="MIT",
        weights_licence="MIT",
        source="github.com/microsoft/distilled_decoding at 3b95d33f381d23f66c42d4d230233c32c27eb3c3",
        trained_on="ImageNet-1k",
        published=claims,
        upstream_settings=settings,
        **fields,
    )


def _var(depth: int, second: int, *, parameters: int, fid: tuple[float, float]) -> Card:
    """`second` is the scale from which the second step draws again; codes are looked up before it."""
    file = f"VAR-DD/var-d{depth}.pth"
    return _card(
        f"var-d{depth}",
        fid,
        {"t_list": f"0,{second}", "loss_split_t": second, "images": 50000},
        implementation="arbench.adapters.other.distilled_decoding.var_adapter:DistilledVAR",
        summary=f"VAR-d{depth} distilled to one or two steps, ImageNet classes at 256 px",
        config={
            "patch_nums": SIDES,
            "depth": depth,
            "embed_dim": 64 * depth,
            "num_heads": depth,
            "attn_l2_norm": True,
            "second": second,
            "split": second,
        },
        tokenizer="tokenizers/var-msvq",
        tokens=TokenSpec.pyramid(SIDES, 4096),
        parameters=parameters,
        checkpoint=Checkpoint(
            file=file,
            source=f"{_HUGGING_FACE}/{file}",
            wrapper=("trainer.ema_parameters", "trainer.var_wo_ddp"),
        ),
    )


def _llamagen(size: str, shape: tuple[int, int, int], split: int, *, parameters: int, fid: tuple[float, float]) -> Card:
    """`shape` is (n_layer, n_head, dim); codes are looked up before the place `split`."""
    layers, heads, width = shape
    file = f"LlamaGen-DD/llamagen-{size.upper()}.pt"
    return _card(
        f"llamagen-{size}",
        fid,
        {"t_list": "0,80", "split_t": split, "images": 50000},
        implementation="arbench.adapters.other.distilled_decoding.llamagen_adapter:DistilledLlamaGen",
        summary=f"LlamaGen-{size.upper()} distilled to one or two steps, ImageNet classes at 256 px",
        config={"dim": width, "n_layer": layers, "n_head": heads, "second": 80, "split": split},
        tokenizer="tokenizers/llamagen-vq-16",
        tokens=TokenSpec.grid(16, 16384),
        parameters=parameters,
        checkpoint=Checkpoint(file=file, source=f"{_HUGGING_FACE}/{file}", wrapper=("ema", "model")),
    )


CARDS: tuple[Card, ...] = (
    _var(16, 5, parameters=328_165_664, fid=(9.94, 7.82)),
    _var(20, 4, parameters=635_399_088, fid=(9.55, 7.33)),
    _var(24, 4, parameters=1_092_478_560, fid=(8.92, 6.95)),
    _llamagen("b", (12, 12, 768), 80, parameters=98_321_672, fid=(15.50, 11.17)),
    _llamagen("l", (24, 16, 1024), 130, parameters=326_155_272, fid=(11.35, 7.58)),
)
