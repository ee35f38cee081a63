"""Cards of RQ-Transformer. Imports no torch."""

from __future__ import annotations

from arbench.protocols import Card, Checkpoint, Claim, Sampling, TokenSpec

BASE = Card(
    name="raster/rq-transformer",
    kind="generator",
    family="raster",
    implementation="arbench.adapters.raster.rq.adapter:RQTransformer",
    summary="RQ-Transformer",
    resolution=256,
    condition="class",
    classes=1000,
    tokenizer="tokenizers/rq-vae-imagenet",
    tokens=TokenSpec(kind="discrete", layout="grid", levels=((8, 8),), vocabulary=16384, codebooks=4),
    supports=frozenset({"temperature", "top_k", "top_p"}),
    offers=frozenset({"scores"}),
    code_licence="Apache-2.0",
    weights_licence="CC-BY-NC-SA-4.0, no commercial use",
    source="https://github.com/kakaobrain/rq-vae-transformer at 341395e",
    trained_on="ImageNet-1k",
    native=Sampling(top_p=0.92),
    upstream_settings={"top_k": 16384, "top_p": 0.92},
)
"""What all sizes have in common."""
_FILES = "https://twg.kakaocdn.net/brainrepo/models/RQVAE"


def _official(
    size: str,
    place: str,
    *,
    shape: tuple[int, int, int],
    parameters: int,
    fid: float,
    rejected: float | None = None,
) -> Card:
    """`shape` is (width, layers of the body, of the head); `rejected` the FID after rejecting 95 % of samples."""
    width, body, head = shape
    heads = width // 64
    source = "README of kakaobrain/rq-vae-transformer at 341395e"
    settings = {**BASE.upstream_settings, "images": 50000, "reference": "ImageNet train, as resized there"}
    claims = [Claim(metric="fid", value=fid, settings=settings, source=source)]
    if rejected is not None:
        more = {**settings, "rejection_sampling": "5 % kept, by ResNet-101"}
        claims.append(Claim(metric="fid", value=rejected, settings=more, source=source))
    changes = {"tokenizer": "tokenizers/rq-vae-imagenet-50e"} if size.endswith("-50e") else {}
    return BASE.derive(
        name=f"raster/rq-transformer-{size}",
        summary=f"RQ-Transformer {size}, ImageNet classes, 8 x 8 places of 4 codes, one by one",
        config={
            "block_size": (8, 8, 4),
            "vocab_size": 16384,
            "embed_dim": width,
            "input_embed_dim": 256,
            "shared_tok_emb": True,
            "shared_cls_emb": True,
            "input_emb_vqvae": True,
            "head_emb_vqvae": True,
            "cumsum_depth_ctx": True,
            "vocab_size_cond": 1000,
            "block_size_cond": 1,
            "body": {"n_layer": body, "block": {"n_head": heads}},
            "head": {"n_layer": head, "block": {"n_head": heads}},
        },
        parameters=parameters,
        checkpoint=Checkpoint(
            file=f"rq-transformer-{size}/model.pt", source=f"{_FILES}/{place}", wrapper=("state_dict",)
        ),
        published=tuple(claims),
        **changes,
    )


CARDS: tuple[Card, ...] = (
    _official(
        "480m",
        "7518a004fe39120fcffbba76005dc6c3/imagenet_480M.tar.gz",
        shape=(1536, 12, 4),
        parameters=480_921_088,
        fid=15.72,
    ),
    _official(
        "821m",
        "dcd39292319104da5577dec3956bfdcc/imagenet_821M.tar.gz",
        shape=(1536, 24, 4),
        parameters=820_899_328,
        fid=13.11,
    ),
    _official(
        "1.4b",
        "f5cf4e5f3f0b5088d52cbb5e85c1077f/imagenet_1.4B.tar.gz",
        shape=(1536, 42, 6),
        parameters=1_387_529_728,
        fid=11.56,
        rejected=4.45,
    ),
    _official(
        "1.4b-50e",
        "6714b47bb9382076923590eff08b1ee5/imagenet_1.4B_rqvae_50e.tar.gz",
        shape=(1536, 42, 6),
        parameters=1_387_529_728,
        fid=8.71,
        rejected=3.89,
    ),
    _official(
        "3.8b-50e",
        "e1ee2fef2928f7fd31f53a8348f08b88/imagenet_3.8B_rqvae_50e.tar.gz",
        shape=(2560, 42, 6),
        parameters=3_822_488_064,
        fid=7.55,
        rejected=3.80,
    ),
)
