"""Two exported networks as a tokenizer: images to ids or latents, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor

from arbench.errors import CheckpointError, InputError, Unsupported
from arbench.protocols import NO_PROBE, Card, Codes, LoadSpec, Noise, Probe, TokenSpec

from ...layers.tokenizer import check_multiple, check_range, grid_if_oblong, grid_of
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
        if self.spec.kind == "continuous":
            return Codes(latents=codes)
        return Codes(ids=(codes.flatten(1),), grid=grid_if_oblong(codes) if codes.ndim == 3 else None)

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
        return ids.reshape(len(ids), *self._grid(codes))

    def _grid(self, codes: Codes) -> tuple[int, int]:
        """(rows, columns): what the codes say, the card's own map, or a square's."""
        rows, columns = self.spec.levels[0]
        own = codes.grid is None and codes.ids[0].shape[1] == rows * columns
        return (rows, columns) if own else grid_of(self.card, codes)

    def close(self) -> None:
        """Free the networks; closing twice is fine."""
        self.networks.clear()
