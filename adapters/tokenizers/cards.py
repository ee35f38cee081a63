"""Cards of the tokenizers. Imports no torch."""

from __future__ import annotations

from typing import Any

from arbench.protocols import Card, Checkpoint, Claim, TokenSpec

LLAMAGEN_SOURCE = "https://github.com/FoundationVision/LlamaGen at ce98ec4"
VAR_SOURCE = "https://github.com/FoundationVision/VAR at 78b9539"
_LLAMAGEN_README = "README of FoundationVision/LlamaGen at ce98ec4"
_VQ = "arbench.adapters.tokenizers.llamagen_vq:LlamaGenVQ"
_MSVQ = "arbench.adapters.tokenizers.var_msvq:VARTokenizer"
_HYBRID = "arbench.adapters.tokenizers.hart_hybrid:HARTTokenizer"
_MNIST = "MNIST-5k, training split"

VAR_SCALES_256 = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)
VAR_SCALES_512 = (1, 2, 3, 4, 6, 9, 13, 18, 24, 32)


def _grid(side: int, vocabulary: int) -> TokenSpec:
    return TokenSpec(kind="discrete", layout="grid", levels=((side, side),), vocabulary=vocabulary)


def _pyramid(sides: tuple[int, ...], vocabulary: int) -> TokenSpec:
    levels = tuple((side, side) for side in sides)
    return TokenSpec(kind="discrete", layout="pyramid", levels=levels, vocabulary=vocabulary)


def _rfid(value: float, **settings: Any) -> Claim:
    return Claim(metric="rFID", value=value, settings={"data": "ImageNet val", **settings}, source=_LLAMAGEN_README)


LLAMAGEN_MINI = Card(
    name="tokenizers/llamagen-mini",
    kind="tokenizer",
    family="tokenizers",
    implementation=_VQ,
    summary="LlamaGen's VQ tokenizer, small, trained on MNIST digits: 8 x 8 tokens of 256 codes",
    resolution=32,
    config={
        "ch": 32,
        "codebook_size": 256,
        "codebook_embed_dim": 8,
        "codebook_l2_norm": True,
        "encoder_ch_mult": (1, 1, 2),
        "decoder_ch_mult": (1, 1, 2),
        "z_channels": 32,
        "num_res_blocks": 1,
    },
    tokens=_grid(8, 256),
    parameters=815_531,
    code_licence="Apache-2.0",
    weights_licence="Apache-2.0",
    source=LLAMAGEN_SOURCE,
    trained_on=_MNIST,
    checkpoint=Checkpoint(file="llamagen-tokenizer-mini.safetensors", source="shipped with arbench", packaged=True),
)

VAR_MINI = Card(
    name="tokenizers/var-mini",
    kind="tokenizer",
    family="tokenizers",
    implementation=_MSVQ,
    summary="VAR's multi-scale residual VQ tokenizer, small, trained on MNIST digits: 30 tokens in 4 scales",
    resolution=32,
    config={
        "vocab_size": 512,
        "z_channels": 16,
        "ch": 32,
        "ch_mult": (1, 1, 2, 2),
        "num_res_blocks": 1,
        "v_patch_nums": (1, 2, 3, 4),
        "share_quant_resi": 4,
    },
    tokens=_pyramid((1, 2, 3, 4), 512),
    parameters=1_112_787,
    code_licence="Apache-2.0",
    weights_licence="Apache-2.0",
    source=VAR_SOURCE,
    trained_on=_MNIST,
    checkpoint=Checkpoint(file="var-tokenizer-mini.safetensors", source="shipped with arbench", packaged=True),
)

_HUGGING_FACE = "https://huggingface.co/FoundationVision"

LLAMAGEN_VQ_16 = Card(
    name="tokenizers/llamagen-vq-16",
    kind="tokenizer",
    family="tokenizers",
    implementation=_VQ,
    summary="LlamaGen's VQ tokenizer, 16x down, 16384 codes of 8 numbers on the unit sphere",
    resolution=256,
    config={"encoder_ch_mult": (1, 1, 2, 2, 4), "decoder_ch_mult": (1, 1, 2, 2, 4)},
    tokens=_grid(16, 16384),
    parameters=71_883_403,
    code_licence="MIT",
    weights_licence="not stated (repository: MIT)",
    source=LLAMAGEN_SOURCE,
    trained_on="ImageNet",
    checkpoint=Checkpoint(file="vq_ds16_c2i.pt", source=f"{_HUGGING_FACE}/LlamaGen", wrapper=("model",)),
    published=(_rfid(2.19, image_size=256), _rfid(0.94, image_size=384), _rfid(0.70, image_size=512)),
)

LLAMAGEN_VQ_16_T2I = LLAMAGEN_VQ_16.model_copy(
    update={
        "name": "tokenizers/llamagen-vq-16-t2i",
        "summary": "LlamaGen's VQ tokenizer of the text-conditional models, 16x down, 16384 codes of 8 numbers",
        "trained_on": "LAION-COCO (50M) and internal data (10M)",
        "checkpoint": Checkpoint(
            file="vq_ds16_t2i.pt", source="https://huggingface.co/peizesun/llamagen_t2i", wrapper=("model",)
        ),
        "published": (),
    }
)

LLAMAGEN_VQ_8 = Card(
    name="tokenizers/llamagen-vq-8",
    kind="tokenizer",
    family="tokenizers",
    implementation=_VQ,
    summary="LlamaGen's VQ tokenizer, 8x down, 16384 codes of 8 numbers on the unit sphere",
    resolution=256,
    config={"encoder_ch_mult": (1, 2, 2, 4), "decoder_ch_mult": (1, 2, 2, 4)},
    tokens=_grid(32, 16384),
    parameters=70_109_835,
    code_licence="MIT",
    weights_licence="not stated (repository: MIT)",
    source=LLAMAGEN_SOURCE,
    trained_on="ImageNet",
    checkpoint=Checkpoint(file="vq_ds8_c2i.pt", source=f"{_HUGGING_FACE}/LlamaGen", wrapper=("model",)),
    published=(_rfid(0.59, image_size=256),),
)


def _var(name: str, resolution: int, scales: tuple[int, ...], *published: Claim) -> Card:
    tokens = _pyramid(scales, 4096)
    return Card(
        name=name,
        kind="tokenizer",
        family="tokenizers",
        implementation=_MSVQ,
        summary=f"VAR's multi-scale residual VQ tokenizer, 16x down, 4096 codes, {tokens.tokens} tokens in 10 scales",
        resolution=resolution,
        config={"vocab_size": 4096, "z_channels": 32, "ch": 160, "v_patch_nums": scales, "share_quant_resi": 4},
        tokens=tokens,
        parameters=108_948_355,
        code_licence="MIT",
        weights_licence="not stated (repository: MIT)",
        source=VAR_SOURCE,
        trained_on="OpenImages",
        checkpoint=Checkpoint(file="vae_ch160v4096z32.pth", source=f"{_HUGGING_FACE}/var"),
        published=published,
    )


_VAR_RFID = Claim(
    metric="rFID",
    value=0.92,
    settings={"data": "ImageNet val", "image_size": 256, "reported_by": "users; the README gives no figure"},
    source="issues 39 and 45 of FoundationVision/VAR",
)
VAR_MSVQ = _var("tokenizers/var-msvq", 256, VAR_SCALES_256, _VAR_RFID)
VAR_MSVQ_512 = _var("tokenizers/var-msvq-512", 512, VAR_SCALES_512)

MASKGIT_VQGAN = Card(
    name="tokenizers/maskgit-vqgan",
    kind="tokenizer",
    family="tokenizers",
    implementation="arbench.adapters.tokenizers.maskgit_vqgan:MaskGITVQGAN",
    summary="MaskGIT's VQGAN, 16x down, 1024 codes of 256 numbers, no attention; the tokenizer of RAR",
    resolution=256,
    config={
        "channel_mult": (1, 1, 2, 2, 4),
        "num_resolutions": 5,
        "hidden_channels": 128,
        "num_channels": 3,
        "num_res_blocks": 2,
        "z_channels": 256,
        "num_embeddings": 1024,
    },
    tokens=_grid(16, 1024),
    parameters=54_515_587,
    code_licence="Apache-2.0",
    weights_licence="not stated (repository: Apache-2.0)",
    source="https://github.com/bytedance/1d-tokenizer at 942a96f",
    trained_on="ImageNet",
    checkpoint=Checkpoint(
        file="maskgit-vqgan-imagenet-f16-256.bin",
        source="https://huggingface.co/fun-research/TiTok/resolve/main/maskgit-vqgan-imagenet-f16-256.bin",
    ),
    published=(
        Claim(
            metric="rFID",
            value=2.28,
            settings={"data": "ImageNet val", "image_size": 256},
            source="README of google-research/maskgit",
        ),
    ),
)

MAR_KL_16 = Card(
    name="tokenizers/mar-kl-16",
    kind="tokenizer",
    family="tokenizers",
    implementation="arbench.adapters.tokenizers.mar_kl:MARKL",
    summary="MAR's KL autoencoder, 16x down, 16 channels; also that of FlowAR, xAR, FAR, ARINAR and TransDiff",
    resolution=256,
    config={"embed_dim": 16, "ch_mult": (1, 1, 2, 2, 4)},
    tokens=TokenSpec(kind="continuous", layout="grid", levels=((16, 16),), channels=16),
    parameters=66_456_019,
    code_licence="MIT",
    weights_licence="not stated (repository: MIT)",
    source="https://github.com/LTH14/mar at fe470ac",
    trained_on="ImageNet",
    checkpoint=Checkpoint(
        file="kl16.ckpt",
        source="https://www.dropbox.com/scl/fi/hhmuvaiacrarfg28qxhwz/kl16.ckpt?rlkey=l44xipsezc8atcffdp4q7mwmh",
        wrapper=("model",),
    ),
)

MAR_KL_MINI = Card(
    name="tokenizers/mar-kl-mini",
    kind="tokenizer",
    family="tokenizers",
    implementation="arbench.adapters.tokenizers.mar_kl:MARKL",
    summary="MAR's KL autoencoder, small, trained on MNIST digits: 4 x 4 tokens of 16 numbers",
    resolution=32,
    config={
        "embed_dim": 16,
        "ch": 32,
        "ch_mult": (1, 1, 2, 2),
        "num_res_blocks": 1,
        "resolution": 32,
        "attn_resolutions": (4,),
    },
    tokens=TokenSpec(kind="continuous", layout="grid", levels=((4, 4),), channels=16),
    parameters=1_067_699,
    code_licence="Apache-2.0",
    weights_licence="Apache-2.0",
    source="https://github.com/LTH14/mar at fe470ac",
    trained_on=_MNIST,
    checkpoint=Checkpoint(file="mar-kl-mini.safetensors", source="shipped with arbench", packaged=True),
)

HART_SCALES = (1, 2, 3, 4, 5, 7, 9, 12, 16, 21, 27, 36, 48, 64)
_HART_README = "README of mit-han-lab/hart at e28a41f"

HART_MINI_TOKENIZER = Card(
    name="tokenizers/hart-mini",
    kind="tokenizer",
    family="tokenizers",
    implementation=_HYBRID,
    summary="HART's hybrid tokenizer, small, trained on MNIST digits: 30 tokens in 4 scales and a residual of 4 x 4",
    resolution=32,
    config={
        "vocab_size": 512,
        "z_channels": 16,
        "ch": 32,
        "ch_mult": (1, 1, 2, 2),
        "num_res_blocks": 1,
        "quantizer_type": "var_hybrid",
        "v_patch_nums": (1, 2, 3, 4),
        "share_quant_resi": 4,
    },
    tokens=_pyramid((1, 2, 3, 4), 512).model_copy(update={"kind": "hybrid", "channels": 16}),
    parameters=1_112_787,
    code_licence="Apache-2.0",
    weights_licence="Apache-2.0",
    source="https://github.com/mit-han-lab/hart at e28a41f",
    trained_on=_MNIST,
    checkpoint=Checkpoint(file="hart-tokenizer-mini.safetensors", source="shipped with arbench", packaged=True),
)

HART_HYBRID = Card(
    name="tokenizers/hart-hybrid",
    kind="tokenizer",
    family="tokenizers",
    implementation=_HYBRID,
    summary="HART's hybrid tokenizer, 16x down: 4096 codes in 14 scales and a continuous residual of the last map",
    resolution=1024,
    # config.json is only beside the weights: these are the official class's defaults and the scales of 1024 px
    config={
        "vocab_size": 4096,
        "z_channels": 32,
        "ch": 160,
        "quantizer_type": "var_hybrid",
        "v_patch_nums": HART_SCALES,
    },
    tokens=_pyramid(HART_SCALES, 4096).model_copy(update={"kind": "hybrid", "channels": 32}),
    parameters=108_948_355,
    code_licence="MIT",
    weights_licence="not stated (repository: MIT)",
    source="https://github.com/mit-han-lab/hart at e28a41f",
    trained_on="OpenImages",
    checkpoint=Checkpoint(
        file="model.safetensors", source="https://huggingface.co/mit-han-lab/hart-0.7b-1024px, folder tokenizer"
    ),
    published=(
        Claim(metric="rFID", value=0.30, settings={"data": "MJHQ-30K", "decoding": "hybrid"}, source=_HART_README),
        Claim(
            metric="rFID", value=2.11, settings={"data": "MJHQ-30K", "decoding": "VAR's tokenizer"}, source=_HART_README
        ),
    ),
)

CARDS: tuple[Card, ...] = (
    LLAMAGEN_MINI,
    VAR_MINI,
    MAR_KL_MINI,
    HART_MINI_TOKENIZER,
    LLAMAGEN_VQ_16,
    LLAMAGEN_VQ_16_T2I,
    LLAMAGEN_VQ_8,
    VAR_MSVQ,
    VAR_MSVQ_512,
    MASKGIT_VQGAN,
    MAR_KL_16,
    HART_HYBRID,
)
