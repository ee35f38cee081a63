"""Recordings of Distilled Decoding, replayed with the networks of a recording and of its tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from arbench.errors import InputError

from ...layers.checkpoint import with_state
from ...layers.config import from_upstream
from ...tokenizers.llamagen import network as llamagen_tokenizer
from ...tokenizers.var.adapter import restored
from . import llamagen_network, var_network
from .student import few_steps
from .var_adapter import summed

Call = Callable[[str, Mapping[str, Any], Mapping[str, Tensor]], dict[str, Tensor]]
Recorded = tuple[Mapping[str, Any], dict[str, Tensor]]


def replay(config: Mapping[str, Any], state: dict[str, Tensor], tokenizer: Recorded | None = None) -> Call:
    """A function that repeats a recorded probe (name, settings, inputs) with the networks of a recording."""
    if tokenizer is None:
        raise InputError("a distilled model cannot be replayed alone", "the recording names no tokenizer", "")
    return (_var if config.get("class") == "DD_Model" else _llamagen)(config, state, tokenizer)


def _var(config: Mapping[str, Any], state: dict[str, Tensor], tokenizer: Recorded) -> Call:
    theirs, theirs_state = tokenizer
    sizes = {name: theirs[name] for name in ("vocab_size", "z_channels") if name in theirs}
    ours = from_upstream(var_network.Config, {**sizes, **config}, var_network.TRAINING_ONLY)
    network = with_state(
        lambda: var_network.Network(ours),
        state,
        card_name="Distilled Decoding's DD_Model",
        names=var_network.official_names,
        ignored=var_network.IGNORED,
    )
    vae = restored({**theirs, "v_patch_nums": ours.patch_nums}, theirs_state)

    @torch.inference_mode()
    def call(probe: str, settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        labels = inputs["class_ids"]
        if probe == "denoise":
            vectors, logits = network.predict(labels, inputs["noisy"], network.start_of(settings["t"]))
            return {"prediction": vectors, "logits": logits}
        if probe == "generate":
            vectors = few_steps(
                lambda x, first: network.predict(labels, x, first),
                inputs["noise"],
                vae.quantize.codebook.codes,
                [network.start_of(scale) for scale in settings["t_list"]],
                network.start_of(settings["loss_split_t"]),
            )
            return {"latents": vectors, "images": (vae.render(summed(vae.quantize, vectors)) + 1) / 2}
        raise InputError(f"no probe {probe!r} for a distilled VAR", "known: denoise, generate", "")

    return call


def _llamagen(config: Mapping[str, Any], state: dict[str, Tensor], tokenizer: Recorded) -> Call:
    ours = from_upstream(llamagen_network.Config, config, llamagen_network.TRAINING_ONLY)
    network = with_state(
        lambda: llamagen_network.Network(ours),
        state,
        card_name="Distilled Decoding's DDTransformer",
        names=llamagen_network.official_names,
        ignored=llamagen_network.IGNORED,
    )
    theirs, theirs_state = tokenizer
    vae = with_state(
        lambda: llamagen_tokenizer.Network(theirs),
        theirs_state,
        card_name="LlamaGen's VQModel",
        names=llamagen_tokenizer.official_names,
        ignored=llamagen_tokenizer.IGNORED,
    )

    @torch.inference_mode()
    def call(probe: str, settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        labels = inputs["class_ids"]
        if probe == "denoise":
            vectors, logits = network.predict(labels, inputs["noisy"], settings["t"])
            return {"prediction": vectors, "logits": logits}
        if probe == "generate":
            vectors = few_steps(
                lambda x, first: network.predict(labels, x, first),
                inputs["noise"],
                vae.quantize.codes,
                settings["t_list"],
                settings["split_t"],
            )
            return {"latents": vectors, "images": vae.render(vectors)}
        raise InputError(f"no probe {probe!r} for a distilled LlamaGen", "known: denoise, generate", "")

    return call
