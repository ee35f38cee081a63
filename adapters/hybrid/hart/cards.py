"""Cards of HART. Imports no torch."""

from __future__ import annotations

from arbench.protocols import Card, Checkpoint, Claim, Guidance, Sampling, TextEncoder, TokenSpec

from ...layers.shipped import shipped

_README = "README of mit-han-lab/hart at e28a41f"
SCALES = (1, 2, 3, 4, 5, 7, 9, 12, 16, 21, 27, 36, 48, 64)

BASE = Card(
    name="hybrid/hart",
    kind="generator",
    family="hybrid",
    implementation="arbench.adapters.hybrid.hart.adapter:HART",
    summary="HART",
    resolution=1024,
    supports=frozenset({"guidance", "temperature", "top_k", "top_p", "inner_steps"}),
    offers=frozenset({"scores"}),
    extra={
        "more_smooth": "true: the map takes a Gumbel-softmax mixture of codes (off where quality is measured)",
        "residual": "false: discrete-only decoding, without the diffusion head",
        "last_scale_iterations": "passes over the last scale, each filling a part of it in random order (1)",
    },
    choices={"extra.more_smooth": ("false", "true"), "extra.residual": ("false", "true")},
    limits={"inner_steps": (2, 1000), "extra.last_scale_iterations": (1, SCALES[-1] ** 2)},
    source="github.com/mit-han-lab/hart at e28a41fe15025baf3d48ab004f5d3727c88d8fc7",
)
"""What both sizes have in common."""

MINI = BASE.derive(
    name="hybrid/hart-mini",
    summary="HART, small, trained on MNIST digits: 30 tokens in 4 scales and a diffused residual",
    config={
        "patch_nums": (1, 2, 3, 4),
        "vocab_size": 512,
        "z_channels": 16,
        "context_token": 1,
        "context_dim": 16,
        "depth": 4,
        "embed_dim": 128,
        "num_heads": 4,
        "mlp_ratio": 2.0,
        "attn_l2_norm": True,
        "mlp_type": "llama",
        "attn_type": "llama",
        "disable_aln": True,
        "use_timestep_embed": True,
        "use_context_norm": True,
        "diff_width": 128,
        "diff_depth": 3,
        "num_sampling_steps": "8",
    },
    condition="class",  # which stands for the caption: one token, the class as one-hot
    classes=10,
    tokenizer="tokenizers/hart-mini",
    tokens=TokenSpec.pyramid((1, 2, 3, 4), 512, channels=16),
    limits={**BASE.limits, "extra.last_scale_iterations": (1, 16)},
    native=Sampling(guidance=Guidance(scale=3.5, start=1.0, schedule="linear"), top_k=100, top_p=0.96),
    upstream_settings={"cfg": 2.5, "more_smooth": False, "num_maskgit_iters": 1},
    parameters=1_164_224,
    **shipped("hart-mini.safetensors"),
)

HART_0_7B = BASE.derive(
    name="hybrid/hart-0.7b",
    summary="HART 0.7B, captions at 1024 px, 14 scales and a diffused residual",
    # config.json is only beside the weights. Scales: third-party code; caption length and width: sample.py's 300 tokens
    # of Qwen2-VL-1.5B (1536); depth and width: the only ones of VAR's family (width 64 x depth) that give 0.7B and a
    # head of 37M. A strict load tells where the file differs.
    config={
        "patch_nums": SCALES,
        "vocab_size": 4096,
        "z_channels": 32,
        "context_token": 300,
        "context_dim": 1536,
        "depth": 24,
        "embed_dim": 1536,
        "num_heads": 24,
        "mlp_type": "llama",
        "attn_type": "llama",
        "disable_aln": True,
        "use_timestep_embed": True,
        "use_context_norm": True,
        "diff_width": 1024,
        "diff_depth": 6,
        "num_sampling_steps": "8",
    },
    condition="text",
    captions=(300, 1536),
    text_encoder=TextEncoder(
        name="mit-han-lab/Qwen2-VL-1.5B-Instruct",
        licence="Apache-2.0",
        instruction="llm_system_prompt in hart/utils/constants.py of the official repository",
    ),
    tokenizer="tokenizers/hart-hybrid",
    tokens=TokenSpec.pyramid(SCALES, 4096, channels=32),
    native=Sampling(guidance=Guidance(scale=5.5, start=1.0, schedule="linear"), extra={"more_smooth": True}),
    upstream_settings={"cfg": 4.5, "more_smooth": True, "num_maskgit_iters": 1, "text_tokens": 300},
    parameters=732_399_168,
    code_licence="MIT",
    weights_licence="not stated (repository: MIT)",
    trained_on="JourneyDB and internal synthetic data",
    checkpoint=Checkpoint(
        file="ema_model.bin", source="https://huggingface.co/mit-han-lab/hart-0.7b-1024px, folder llm"
    ),
    published=(
        Claim(metric="fid", value=5.38, settings={"data": "MJHQ-30K", "decoding": "hybrid"}, source=_README),
        Claim(metric="fid", value=7.85, settings={"data": "MJHQ-30K", "decoding": "discrete-only"}, source=_README),
    ),
)

CARDS: tuple[Card, ...] = (MINI, HART_0_7B)
