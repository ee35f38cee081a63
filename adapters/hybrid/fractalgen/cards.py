"""Cards of FractalGen. Imports no torch."""

from __future__ import annotations

from typing import Any

from arbench.protocols import Card, Checkpoint, Claim, Guidance, Sampling

README = "README of LTH14/fractalgen"
SHAPES: dict[str, dict[str, tuple[Any, ...]]] = {
    "64": {"embed_dim_list": (1024, 512, 128), "num_blocks_list": (32, 8, 3), "num_heads_list": (16, 8, 4)},
    "base": {"embed_dim_list": (768, 384, 192, 64), "num_blocks_list": (24, 6, 3, 1), "num_heads_list": (12, 6, 3, 4)},
    "large": {
        "embed_dim_list": (1024, 512, 256, 64),
        "num_blocks_list": (32, 8, 4, 1),
        "num_heads_list": (16, 8, 4, 4),
    },
    "huge": {
        "embed_dim_list": (1280, 640, 320, 64),
        "num_blocks_list": (40, 10, 5, 1),
        "num_heads_list": (16, 8, 4, 4),
    },
}
LOWER, THRESHOLD = "lower_steps", "filter_threshold"


def _official(
    name: str,
    size: str,
    *,
    cfg: float,
    temperature: float,
    parameters: int,
    link: str,
    fid: float,
    inception: float,
) -> Card:
    """`name` is how the levels draw, and the size; `temperature` is upstream's, which multiplies logits."""
    kind, _, _ = name.partition("-")
    masked, resolution = kind == "mar", 64 if size == "64" else 256
    sides = (64, 4, 1) if resolution == 64 else (256, 16, 4, 1)
    levels = len(sides) - 1
    config: dict[str, Any] = {"img_size_list": sides, **SHAPES[size]}
    config |= {"generator_type_list": (kind,) * levels + ("ar",), "guiding_pixel": resolution == 256}
    config |= {"num_conds": 5 if masked else 1}
    settings: dict[str, Any] = {"num_iter_list": (64, *(16,) * (levels - 1)), "cfg": cfg, "cfg_schedule": "linear"}
    settings |= {"temperature": temperature, "filter_threshold": 1e-4}
    extra: dict[str, Any] = {THRESHOLD: 1e-4} | ({LOWER: 16} if masked else {})
    title = "" if size == "64" else f"-{size.title()}"
    return Card(
        name=f"hybrid/fractalgen-{name}",
        kind="generator",
        family="hybrid",
        implementation="arbench.adapters.hybrid.fractalgen.adapter:FractalGen",
        summary=f"Fractal{kind.upper()}{title}, ImageNet classes at {resolution} px, pixels by levels within levels",
        resolution=resolution,
        config=config,
        condition="class",
        classes=1000,
        supports=frozenset({"guidance", "temperature"} | ({"steps"} if masked else set())),
        choices={"guidance.schedule": ("constant", "linear")},
        limits={f"extra.{THRESHOLD}": (0, 1)} | ({"steps": (1, 256), f"extra.{LOWER}": (1, 16)} if masked else {}),
        extra={THRESHOLD: "guidance leaves a value alone whose probability under the condition is below this"}
        | ({LOWER: "iterations of every level below the first"} if masked else {}),
        native=Sampling(
            guidance=Guidance(scale=cfg, schedule="linear"),
            temperature=1 / temperature,
            steps=64 if masked else None,
            extra=extra,
        ),
        upstream_settings=settings,
        parameters=parameters,
        code_licence="MIT",
        weights_licence="not stated (repository: MIT)",
        source="github.com/LTH14/fractalgen at c7d099043dd987ae7742a7f8c8f1cab71023ba0e",
        trained_on="ImageNet-1k",
        checkpoint=Checkpoint(
            file=f"fractal{name.replace('-', '_')}/checkpoint-last.pth",
            source=f"https://www.dropbox.com/scl/fi/{link}",
            wrapper=("model",),
        ),
        published=tuple(
            Claim(
                metric=metric,
                value=value,
                settings={**settings, "images": 50000, "evaluator": "torch-fidelity (fork)"},
                source=README,
            )
            for metric, value in (("fid", fid), ("inception_score", inception))
        ),
    )


CARDS: tuple[Card, ...] = (
    _official(
        "ar-64",
        "64",
        cfg=11.0,
        temperature=1.03,
        parameters=442_068_224,
        link="n25tbij7aqkwo1ypqhz72/checkpoint-last.pth?rlkey=2czevgex3ocg2ae8zde3xpb3f",
        fid=5.30,
        inception=56.8,
    ),
    _official(
        "mar-64",
        "64",
        cfg=6.5,
        temperature=1.02,
        parameters=431_995_648,
        link="lh7fmv48pusujd6m4kcdn/checkpoint-last.pth?rlkey=huihey61ok32h28o3tbbq6ek9",
        fid=2.72,
        inception=87.9,
    ),
    _official(
        "mar-base-256",
        "base",
        cfg=29.0,
        temperature=1.1,
        parameters=186_300_224,
        link="zrdm7853ih4tcv98wmzhe/checkpoint-last.pth?rlkey=htq9yuzovet7d6ioa64s1xxd0",
        fid=11.80,
        inception=274.3,
    ),
    _official(
        "mar-large-256",
        "large",
        cfg=21.0,
        temperature=1.1,
        parameters=437_000_064,
        link="y1k05xx7ry8521ckxkqgt/checkpoint-last.pth?rlkey=wolq4krdq7z7eyjnaw5ndhq6k",
        fid=7.30,
        inception=334.9,
    ),
    _official(
        "mar-huge-256",
        "huge",
        cfg=19.0,
        temperature=1.1,
        parameters=849_586_240,
        link="t2rru8xr6wm23yvxskpww/checkpoint-last.pth?rlkey=dn9ss9zw4zsnckf6bat9hss6h",
        fid=6.15,
        inception=348.9,
    ),
)
