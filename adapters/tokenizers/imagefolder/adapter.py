"""ImageFolder's tokenizers (XQ-GAN; Li et al., arXiv:2410.01756): product, residual and plain codes of a ViT."""

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


class ImageFolder(NetworkTokenizer):
    """`Tokenizer`. At each place of a scale the ids of all branches follow one another."""

    network: Network

    @classmethod
    def load(cls, card: Card, spec: LoadSpec) -> Self:
        names = official_names(card.config)
        network = build_and_load(lambda: Network(card.config), card, spec, names=names, ignored=IGNORED)
        network.quantize.float()  # distances in half precision would change ids
        compile_blocks(spec, (network.encoder, network.decoder))
        return cls(card, network)

    @torch.inference_mode()
    def encode(self, images: Tensor, *, noise: Noise | None = None) -> Codes:
        check_range(self.card, images)
        side = self.network.sizes.img_size
        if tuple(images.shape[-2:]) != (side, side):
            raise ImageError(
                f"{self.card.name} cannot encode {images.shape[-2]} x {images.shape[-1]} images",
                f"its places are those of {side} x {side} pixels",
                f"resize to {side} x {side}",
            )
        branches, _ = self.network.encode(to_signed(images, self.dtype))
        return Codes(ids=tuple(torch.stack(scale, dim=-1).flatten(1) for scale in zip(*branches, strict=True)))

    @torch.inference_mode()
    def decode(self, codes: Codes, *, probe: Probe = NO_PROBE) -> Tensor:
        with probe("decode"):
            count = self.network.sizes.product_quant
            scales = [ids.unflatten(1, (-1, count)).unbind(-1) for ids in codes.ids]
            branches = [[scale[index] for scale in scales] for index in range(count)]
            return from_signed(self.network.render(self.network.latents(branches)))


def replay(
    config: Mapping[str, Any],
    state: dict[str, Tensor],
    tokenizer: tuple[Mapping[str, Any], dict[str, Tensor]] | None = None,
) -> Callable[[str, Mapping[str, Any], Mapping[str, Tensor]], dict[str, Tensor]]:
    """A function that repeats a recorded probe (name, settings, inputs) with the network of a recording."""
    names = official_names(config)
    network = with_state(lambda: Network(config), state, card_name="XQ-GAN's VQModel", names=names, ignored=IGNORED)
    sides = network.sizes.v_patch_nums
    lengths = [side * side for side in sides] if len(sides) > 1 else [network.sizes.num_latent_tokens]

    @torch.inference_mode()
    def call(probe: str, settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if probe == "encode":
            branches, latents = network.encode(inputs["images"])
            return {"ids": torch.cat([torch.cat(levels, dim=1) for levels in branches], dim=1), "latents": latents}
        if probe == "decode_latents":
            return {"images": network.render(inputs["latents"]).clamp(-1, 1)}
        if probe == "decode":
            parts = inputs["ids"].chunk(network.sizes.product_quant, dim=1)
            latents = network.latents([part.split(lengths, dim=1) for part in parts])
            return {"images": network.render(latents).clamp(-1, 1)}
        raise InputError(f"no probe {probe!r} for ImageFolder", "known: encode, decode, decode_latents", "")

    return call
