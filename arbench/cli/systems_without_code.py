"""Image generators without public code: what their abstracts state, for the last table of docs/systems.md."""

from __future__ import annotations

from typing import NamedTuple


class Published(NamedTuple):
    """A system of a paper, in the abstract's own terms; `figures` is empty where the abstract states none."""

    name: str
    family: str
    """As that of a card."""
    paper: str
    idea: str
    figures: str
    code: str = "none found"


_PROMISED = "promised, README only or gone"

WITHOUT_CODE = (
    Published(
        "CTF",
        "raster",
        "Coarse-to-Fine Token Prediction",
        "coarse labels one by one, all fine labels at once",
        "ImageNet: inception score 59 above the baselines on average",
        _PROMISED,
    ),
    Published(
        "Token-Shuffle",
        "raster",
        "High-Resolution Autoregressive Generation",
        "neighbours merged along channels at the input, untangled at the output",
        "2048 x 2048; 2.7B: GenAI-benchmark hard prompts 0.77 (0.18 above LlamaGen, 0.15 above LDM)",
    ),
    Published(
        "ARRA",
        "raster",
        "Autoregressive Representation Alignment",
        "a language model with a token aligned to visual features",
        "FID 25.5 % lower on MIMIC-CXR, 8.8 % on DeepEyeNet, 7.5 % on ImageNet",
    ),
    Published(
        "DAR",
        "raster",
        "Direction-Aware Diagonal Autoregression",
        "a diagonal scan with 4D rotations and embeddings of the direction",
        "ImageNet 256, 2.0B: FID 1.37",
        _PROMISED,
    ),
    Published("JAM", "raster", "Jointly Training Large Multimodal Models", "a text and an image model", ""),
    Published(
        "EditAR",
        "raster",
        "Unified Conditional Generation",
        "images and instructions in, tokens of the edited image out",
        "",
        _PROMISED,
    ),
    Published(
        "Semantic orders",
        "random_order",
        "Distilling semantically aware orders",
        "a model of any order infers content and place, and is tuned on the orders it finds",
        "",
    ),
    Published(
        "NFIG",
        "next_scale",
        "Next-Frequency Prediction",
        "low frequencies first with few tokens, then higher ones",
        "ImageNet 256: FID 2.81, 1.25 times as fast as VAR-d20",
        _PROMISED,
    ),
    Published(
        "Fluid",
        "continuous",
        "Scaling Autoregressive Text-to-image Models with Continuous Tokens",
        "continuous tokens in random order",
        "10.5B: zero-shot FID 6.16 on MS-COCO 30K, GenEval 0.69",
    ),
    Published(
        "UniFluid",
        "continuous",
        "Unified Autoregression with Continuous Tokens",
        "text tokens and continuous image tokens in one model",
        "",
    ),
    Published(
        "E-CAR",
        "continuous",
        "Multistage Continuous Autoregression",
        "growing resolutions, a part of a flow at each",
        "ImageNet 256: comparable to DiT with a tenth of the FLOP, 5 times as fast",
    ),
    Published(
        "MMAR",
        "continuous",
        "Lossless Multi-Modal Autoregression",
        "a diffusion head on continuous image tokens",
        "",
    ),
    Published(
        "Kaleido",
        "hybrid",
        "Diffusion with Autoregressive Latent Modeling",
        "a language model's discrete latents guide a diffusion model",
        "",
    ),
    Published(
        "DDT-LLaMA",
        "hybrid",
        "Discrete Diffusion Timestep Tokens",
        "recursive tokens by time of diffusion, from which it reconstructs at any time",
        "",
    ),
)
"""Systems that papers of the field report and of which no code was found, or a page without it."""
