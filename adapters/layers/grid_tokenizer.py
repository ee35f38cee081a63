"""Tokenizers of one square grid of codes: loading, encoding, decoding and replaying, all from their network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import Tensor, nn

from arbench.errors import InputError
from arbench.protocols import NO_PROBE, Card, Codes, LoadSpec, Noise, Probe

from .checkpoint import OfficialNames, build_and_load, compile_blocks, with_state
from .tokenizer import NetworkTokenizer, check_grid, check_multiple, from_signed, to_signed

Replay = Callable[[str, Mapping[str, Any], Mapping[str, Tensor]], dict[str, Tensor]]


AVERAGES = (r"(?!model_ema\.).*", r"model_ema\.(decay|num_updates|loss.*)")
"""Keys of a Lightning file that are none of the averaged weights which its evaluation uses."""


def averaged(names: OfficialNames) -> OfficialNames:
    """The names of the averaged weights in a Lightning file: those of the others without their dots."""
    return lambda ours: tuple("model_ema." + key.replace(".", "") for key in names(ours))


class GridNetwork(Protocol):
    """Encoder, quantiser and decoder."""

    factor: int
    """Pixels to a token, along a side."""
    encoder: nn.Module
    decoder: nn.Module
    quantize: nn.Module

    def encode(self, images: Tensor) -> Tensor:
        """(B, n) ids, row-major, of images (B, 3, H, W)."""
        ...

    def decode(self, ids: Tensor) -> Tensor:
        """Images, not clamped, of a square grid of ids (B, n)."""
        ...


class GridTokenizer(NetworkTokenizer):
    """`Tokenizer`. Images of any square size divisible by the factor are taken: n / f tokens a side.

    A class names its `network_class`, the function that makes `official_names` from a configuration, and official keys
    that are `ignored`; `file_names` where an official file has the weights under other names than a recording.
    `signed`: the network's pixels are from -1 to 1, not from 0 to 1.
    """

    network: GridNetwork
    network_class: ClassVar[Callable[[Mapping[str, Any]], Any]]
    official_names: ClassVar[Callable[[Mapping[str, Any]], OfficialNames]]
    file_names: ClassVar[Callable[[Mapping[str, Any]], OfficialNames] | None] = None
    ignored: ClassVar[Sequence[str]] = ()
    signed: ClassVar[bool] = True

    @classmethod
    def load(cls, card: Card, spec: LoadSpec) -> Self:
        network = build_and_load(
            lambda: cls.network_class(card.config),
            card,
            spec,
            names=(cls.file_names or cls.official_names)(card.config),
            ignored=cls.ignored,
        )
        network.quantize.float()  # distances in half precision would change ids
        compile_blocks(spec, (network.encoder, network.decoder))
        return cls(card, network)

    @torch.inference_mode()
    def encode(self, images: Tensor, *, noise: Noise | None = None) -> Codes:
        check_multiple(self.card, images, self.network.factor, square=True)
        pixels = to_signed(images, self.dtype) if self.signed else images.to(self.dtype)
        return Codes(ids=(self.network.encode(pixels),))

    @torch.inference_mode()
    def decode(self, codes: Codes, *, probe: Probe = NO_PROBE) -> Tensor:
        with probe("decode"):
            (ids,) = codes.ids
            check_grid(self.card, ids)
            images = self.network.decode(ids)
            return from_signed(images) if self.signed else images.float().clamp(0, 1)

    @classmethod
    def replay(
        cls,
        config: Mapping[str, Any],
        state: dict[str, Tensor],
        tokenizer: tuple[Mapping[str, Any], dict[str, Tensor]] | None = None,
    ) -> Replay:
        """A function that repeats a recorded probe (name, settings, inputs) with the network of a recording."""
        names = cls.official_names(config)
        network = with_state(
            lambda: cls.network_class(config), state, card_name=cls.__name__, names=names, ignored=cls.ignored
        )

        @torch.inference_mode()
        def call(probe: str, settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
            if probe == "encode":
                return {"ids": network.encode(inputs["images"])}
            if probe == "decode":
                return {"images": network.decode(inputs["ids"])}
            raise InputError(f"no probe {probe!r} for {cls.__name__}", "known: encode, decode", "")

        return call
