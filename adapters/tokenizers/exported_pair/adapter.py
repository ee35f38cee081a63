"""Two exported networks as a tokenizer: images to ids or latents, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor

from arbench.errors import CheckpointError, InputError, Unsupported
from arbench.protocols import NO_PROBE, Card, Codes, LoadSpec, Noise, Probe, TokenSpec

from ...layers.tokenizer import check_multiple, check_range
from .cards import part_of


def opened(folder: Path, part: Literal["encode", "decode"], device: str) -> Any:
    """A network of a folder, as something to call. Raises CheckpointError for a file that is neither kind."""
    path = part_of(folder, part)
    try:
        if path.suffix == ".pt2":
            return torch.export.load(path).module().to(device)
        return torch.jit.load(str(path), map_location=device).eval()
    except (RuntimeError, OSError, ValueError, KeyError) as error:
        why = str(error).strip().partition("\n")[0]
        hint = "torch.jit.save makes .pt, torch.export.save makes .pt2"
        raise CheckpointError(f"cannot load {path}", why, hint) from None


class ExportedPair:
    """`Tokenizer`. Numbers are float32, as they were exported; ids (B, h, w) are read row by row."""

    def __init__(self, card: Card, spec: TokenSpec, networks: dict[str, Any]) -> None:
        self.card, self.spec, self.networks = card, spec, networks
        self._least, self._most = card.config["pixels"]

    @classmethod
    def load(cls, card: Card, spec: LoadSpec) -> Self:
        if spec.dtype != "float32":
            raise Unsupported(f"{card.name} computes in float32", "it was exported so", "--set dtype=float32")
        if spec.init == "random" or spec.weights is None or card.tokens is None:
            raise Unsupported(f"{card.name} has no random weights", "its networks are exported with them", "")
        folder = spec.weights
        networks = {part: opened(folder, part, spec.device) for part in ("encode", "decode")}
        return cls(card, card.tokens, networks)

    @torch.inference_mode()
    def encode(self, images: Tensor, *, noise: Noise | None = None) -> Codes:
        if self.card.multiple is None:
            check_range(self.card, images)
        else:
            check_multiple(self.card, images, self.card.multiple, square=False)
        codes: Tensor = self.networks["encode"](images * (self._most - self._least) + self._least)
        return Codes(latents=codes) if self.spec.kind == "continuous" else Codes(ids=(codes.flatten(1),))

    @torch.inference_mode()
    def decode(self, codes: Codes, *, probe: Probe = NO_PROBE) -> Tensor:
        with probe("decode"):
            images: Tensor = self.networks["decode"](self._given(codes))
            return ((images.float() - self._least) / (self._most - self._least)).clamp(0, 1)

    def _given(self, codes: Codes) -> Tensor:
        if self.spec.kind == "continuous":
            if codes.latents is None:
                raise InputError(
                    f"{self.card.name} decodes latents", "the codes have none", "pass what its encoder gives"
                )
            return codes.latents
        (ids,) = codes.ids
        if self.spec.layout == "sequence":
            return ids
        (rows, columns), count = self.spec.levels[0], ids.shape[1]
        if count != rows * columns:  # another size of image, square like the card's
            rows = columns = round(count**0.5)
        if rows * columns != count:
            raise InputError(f"{self.card.name} cannot decode {count} tokens", "they fill no square", "pass n x n ids")
        return ids.reshape(len(ids), rows, columns)

    def close(self) -> None:
        """Free the networks; closing twice is fine."""
        self.networks.clear()
