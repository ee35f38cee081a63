"""DetailFlow's tokenizer (arXiv:2505.21473): codes in a row from coarse to fine, of which the first ones make do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
from torch import Tensor

from arbench.errors import ImageError, InputError
from arbench.protocols import NO_PROBE, Card, Codes, LoadSpec, Noise, Probe

from ...layers.checkpoint import build_and_load, compile_blocks, with_state
from ...layers.tokenizer import NetworkTokenizer, check_range, from_signed, to_signed
from .network import IGNORED, Network, official_names


class DetailFlow(NetworkTokenizer):
    """`Tokenizer` and `Prefix` of the images of the card's size; a prefix is decoded at that size too."""

    network: Network

    @classmethod
    def load(cls, card: Card, spec: LoadSpec) -> Self:
        network = build_and_load(lambda: Network(card.config), card, spec, names=official_names, ignored=IGNORED)
        network.quantize.float()  # distances in half precision would change ids
        compile_blocks(spec, (*network.encoder.blocks, *network.decoder.blocks), dynamic=True)
        return cls(card, network)

    @torch.inference_mode()
    def encode(self, images: Tensor, *, noise: Noise | None = None) -> Codes:
        check_range(self.card, images)
        side = self.network.config.image_size
        if tuple(images.shape[-2:]) != (side, side):
            raise ImageError(
                f"{self.card.name} cannot encode {images.shape[-2]} x {images.shape[-1]} images",
                f"it decodes to {side} x {side} pixels",
                f"resize to {side} x {side}",
            )
        return Codes(ids=(self.network.encode(to_signed(images, self.dtype)),))

    @torch.inference_mode()
    def decode(self, codes: Codes, *, probe: Probe = NO_PROBE) -> Tensor:
        with probe("decode"):
            return self.decode_prefix(codes, self.network.config.num_latent_tokens)

    @torch.inference_mode()
    def decode_prefix(self, codes: Codes, count: int) -> Tensor:
        config, (ids,) = self.network.config, codes.ids
        most = min(config.num_latent_tokens, ids.shape[1])
        whole = not config.causal_decoder or (count >= config.first and count % config.group_size == 0)
        if not 1 <= count <= most or not whole:
            groups = f", in whole groups of {config.group_size}" if config.causal_decoder else ""
            raise InputError(
                f"{self.card.name} cannot decode {count} of {ids.shape[1]} tokens",
                f"it decodes 1 to {config.num_latent_tokens}{groups}",
                "pass other ones",
            )
        return from_signed(self.network.decode(ids[:, :count]))


def replay(
    config: Mapping[str, Any],
    state: dict[str, Tensor],
    tokenizer: tuple[Mapping[str, Any], dict[str, Tensor]] | None = None,
) -> Callable[[str, Mapping[str, Any], Mapping[str, Tensor]], dict[str, Tensor]]:
    """A function that repeats a recorded probe (name, settings, inputs) with the network of a recording."""
    network = with_state(
        lambda: Network(config), state, card_name="DetailFlow's VQModel", names=official_names, ignored=IGNORED
    )

    @torch.inference_mode()
    def call(probe: str, settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if probe == "encode":
            images, count, start = inputs["images"], settings.get("cur_max_token_num"), settings.get("noise_idx", -1)
            if start == -1:
                return {"ids": network.encode(images, count)}
            clean, given, wanted = network.corrected(images, start, inputs["draws"], count)
            return {"ids": clean, "input_ids": given, "label_ids": wanted}
        if probe == "decode":
            return {"images": network.decode(inputs["ids"][:, : settings.get("t")], settings.get("img_size"))}
        raise InputError(f"no probe {probe!r} for a DetailFlow tokenizer", "known: encode, decode", "")

    return call
