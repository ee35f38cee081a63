"""Infinity's tokenizer (arXiv:2412.04431): at every scale the signs of what the scales before it leave over."""

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


class InfinityTokenizer(NetworkTokenizer):
    """`Tokenizer` and `Prefix`. The ids of a level are its places' bits one after the other; latents their sum."""

    network: Network

    @classmethod
    def load(cls, card: Card, spec: LoadSpec) -> Self:
        names = official_names(card.config)
        network = build_and_load(lambda: Network(card.config), card, spec, names=names, ignored=IGNORED)
        compile_blocks(spec, (network.encoder, network.decoder))
        return cls(card, network)

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Rows and columns of each scale."""
        return [(side, side) for side in self.network.arguments.sides]

    @torch.inference_mode()
    def encode(self, images: Tensor, *, noise: Noise | None = None) -> Codes:
        check_range(self.card, images)
        side = self.network.arguments.sides[-1] * self.network.arguments.patch_size
        if tuple(images.shape[-2:]) != (side, side):
            raise ImageError(
                f"{self.card.name} cannot encode {images.shape[-2]} x {images.shape[-1]} images",
                f"its scales are made for {side} x {side}",
                f"resize to {side} x {side}",
            )
        levels, total = self.network.encode(to_signed(images, self.dtype), self.sizes)
        return Codes(ids=tuple(bits.flatten(1) for bits in levels), latents=total)

    @torch.inference_mode()
    def decode(self, codes: Codes, *, probe: Probe = NO_PROBE) -> Tensor:
        with probe("decode"):
            latents = codes.latents if codes.latents is not None else self._sum(codes, len(self.sizes))
            return from_signed(self.network.render(latents))

    @torch.inference_mode()
    def decode_prefix(self, codes: Codes, count: int) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] from the first `count` scales."""
        return from_signed(self.network.render(self._sum(codes, count)))

    def _sum(self, codes: Codes, count: int) -> Tensor:
        if not 1 <= count <= len(codes.ids) <= len(self.sizes):
            raise InputError(
                f"{self.card.name} cannot decode {count} of {len(codes.ids)} scales",
                f"it has {len(self.sizes)}",
                "pass the ids of its scales, coarse to fine",
            )
        levels = [ids.unflatten(1, (-1, self.network.arguments.codebook_dim)) for ids in codes.ids[:count]]
        return self.network.summed(levels, self.sizes[:count], self.sizes[-1])


def restored(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> Network:
    """The network of a recording."""
    names = official_names(config)
    return with_state(lambda: Network(config), state, card_name="Infinity's AutoEncoder", names=names, ignored=IGNORED)


def replay(
    config: Mapping[str, Any],
    state: dict[str, Tensor],
    tokenizer: tuple[Mapping[str, Any], dict[str, Tensor]] | None = None,
) -> Callable[[str, Mapping[str, Any], Mapping[str, Tensor]], dict[str, Tensor]]:
    """A function that repeats a recorded probe (name, settings, inputs) with the network of a recording."""
    network = restored(config, state)

    @torch.inference_mode()
    def call(probe: str, settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        sizes = [(size[-2], size[-1]) for size in settings["scales"]]
        if probe == "encode":
            levels, total = network.encode(inputs["images"], sizes)
            return {"ids": torch.cat(levels, dim=1), "latents": total}
        if probe == "decode":
            levels = inputs["ids"].split([height * width for height, width in sizes], dim=1)
            return {"images": network.render(network.summed(list(levels), sizes, sizes[-1])).clamp(-1, 1)}
        raise InputError(f"no probe {probe!r} for an Infinity tokenizer", "known: encode, decode", "")

    return call
