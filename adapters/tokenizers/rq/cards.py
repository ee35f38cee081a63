"""Cards of RQ-VAE. Imports no torch."""

from __future__ import annotations

from arbench.protocols import Card, Checkpoint, TokenSpec

RQ_VAE = Card(
    name="tokenizers/rq-vae-imagenet",
    kind="tokenizer",
    family="tokenizers",
    implementation="arbench.adapters.tokenizers.rq.adapter:RQVAE",
    summary="RQ-VAE, 32x down, 4 residual codes at each of 8 x 8 places, 16384 codes shared by all depths",
    resolution=256,
    config={
        "embed_dim": 256,
        "n_embed": 16384,
        "latent_shape": (8, 8, 256),
        "code_shape": (8, 8, 4),
        "shared_codebook": True,
        "ddconfig": {"ch_mult": (1, 1, 2, 2, 4, 4), "attn_resolutions": (8,)},
    },
    tokens=TokenSpec(kind="discrete", layout="grid", levels=((8, 8),), vocabulary=16384, codebooks=4),
    parameters=104_402_051,
    code_licence="Apache-2.0",
    weights_licence="CC-BY-NC-SA-4.0, no commercial use",
    source="https://github.com/kakaobrain/rq-vae-transformer at 341395e",
    trained_on="ImageNet",
    checkpoint=Checkpoint(
        file="rqvae/model.pt",
        source="https://twg.kakaocdn.net/brainrepo/models/RQVAE/7518a004fe39120fcffbba76005dc6c3/imagenet_480M.tar.gz",
        wrapper=("state_dict",),
    ),
)

RQ_VAE_50 = RQ_VAE.derive(
    name="tokenizers/rq-vae-imagenet-50e",
    summary="RQ-VAE, as the other, trained for 50 epochs in place of 10",
    parameters=104_402_051,
    checkpoint=Checkpoint(
        file="rqvae_50e/model.pt",
        source="https://twg.kakaocdn.net/brainrepo/models/RQVAE/6714b47bb9382076923590eff08b1ee5/"
        "imagenet_1.4B_rqvae_50e.tar.gz",
        wrapper=("state_dict",),
    ),
)

CARDS: tuple[Card, ...] = (RQ_VAE, RQ_VAE_50)
