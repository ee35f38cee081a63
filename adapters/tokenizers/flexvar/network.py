"""The network of FlexVAR's tokenizer: LlamaGen's, quantised at several sizes of the encoder's features."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from ..llamagen import network as llamagen
from ..llamagen.network import IGNORED, official_names

__all__ = ["IGNORED", "Network", "official_names"]


class Network(llamagen.Network):
    """`sides` are the scales, coarse to fine; a scale of another size than the encoder's features is resized to."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__({name: value for name, value in config.items() if name != "v_patch_nums"})
        self.sides: tuple[int, ...] = tuple(config.get("v_patch_nums", ()))

    def encode_scales(self, images: Tensor, sides: Sequence[int]) -> list[Tensor]:
        """Ids (B, side * side) of each scale: nothing is subtracted from one to the next."""
        features = self.encoder(images)
        return [
            self.quantize.nearest(
                self.quant_conv(F.interpolate(features, size=(side, side), mode="area")).flatten(2).mT.float()
            )
            for side in sides
        ]

    def next_input(self, ids: Tensor, side: int) -> Tensor:
        """(B, side * side, C): the codes of ids (B, n * n) as a map, bicubically resized for the next scale."""
        codes = self.quantize.lookup(ids)
        here = math.isqrt(ids.shape[1])
        grid = codes.mT.reshape(len(ids), -1, here, here)
        return F.interpolate(grid, size=(side, side), mode="bicubic").flatten(2).mT
