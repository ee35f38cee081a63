"""GigaTok (Xiong et al., arXiv:2504.08736): tokens in a row or in a grid, by transformers of up to 2.9 billion."""

from __future__ import annotations

import torch
from torch import Tensor

from arbench.errors import ImageError, InputError
from arbench.protocols import NO_PROBE, Codes, Noise, Probe

from ...layers.grid_tokenizer import GridTokenizer
from ...layers.tokenizer import LooksUp, check_range, from_signed, to_signed
from .network import IGNORED, Network, official_names


class GigaTok(LooksUp, GridTokenizer):
    """`Tokenizer` of images of one size, whose places it has."""

    network: Network  # type: ignore[assignment]
    network_class = Network
    official_names = staticmethod(official_names)
    ignored = IGNORED

    @torch.inference_mode()
    def encode(self, images: Tensor, *, noise: Noise | None = None) -> Codes:
        check_range(self.card, images)
        side = self.network.sizes.image_size
        if tuple(images.shape[-2:]) != (side, side):
            raise ImageError(
                f"{self.card.name} cannot encode {images.shape[-2]} x {images.shape[-1]} images",
                f"its places are those of {side} x {side} pixels",
                f"resize to {side} x {side}",
            )
        return Codes(ids=(self.network.encode(to_signed(images, self.dtype)),))

    @torch.inference_mode()
    def decode(self, codes: Codes, *, probe: Probe = NO_PROBE) -> Tensor:
        with probe("decode"):
            (ids,) = codes.ids
            rows, columns = self.network.shape
            if ids.shape[1] != rows * columns:
                raise InputError(
                    f"{self.card.name} cannot decode {ids.shape[1]} tokens", f"it has {rows * columns}", "pass all"
                )
            return from_signed(self.network.decode(ids))


replay = GigaTok.replay
