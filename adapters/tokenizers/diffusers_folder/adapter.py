"""An autoencoder of `diffusers` as a tokenizer: loaded by the library, latents as its generators see them."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor

from arbench.errors import CheckpointError, InputError
from arbench.protocols import NO_PROBE, Card, Codes, LoadSpec, Noise, Probe, TokenSpec

from ...layers.checkpoint import compile_blocks
from ...layers.tokenizer import check_multiple, check_range, from_signed, grid_if_oblong, grid_of
from .latents import encoded, pixels_of, scaled, signed, unscaled


class DiffusersAutoencoder:
    """`Tokenizer`. `Codes.latents` (B, C, h, w) are those that a generator sees; of a VQModel there are ids alone."""

    def __init__(self, card: Card, spec: TokenSpec, network: Any) -> None:
        self.card, self.spec, self.network = card, spec, network
        self._frames = bool(card.config["frames"])
        self._dtype: torch.dtype = next(network.parameters()).dtype

    @classmethod
    def load(cls, card: Card, spec: LoadSpec) -> Self:
        import diffusers

        kind = getattr(diffusers, card.config["_class_name"])
        dtype = getattr(torch, spec.dtype)
        if spec.init == "random":
            with torch.random.fork_rng():
                torch.manual_seed(0)
                config = {key: value for key, value in card.config.items() if key != "frames"}
                network = kind.from_config(config).to(dtype)
        else:
            try:
                network = kind.from_pretrained(
                    str(spec.weights), torch_dtype=dtype, local_files_only=True, low_cpu_mem_usage=False
                )
            except (OSError, ValueError, RuntimeError) as error:
                why = str(error).strip().partition("\n")[0]
                raise CheckpointError(f"diffusers cannot load {card.name}", why, "save the folder again") from None
        network = network.to(spec.device).eval().requires_grad_(False)
        compile_blocks(spec, tuple(part for part in (network.encoder, network.decoder) if part is not None))
        if card.tokens is None:
            raise InputError(f"the card {card.name} has no token layout", "`tokens` is empty", "fill it in")
        return cls(card, card.tokens, network)

    @torch.inference_mode()
    def encode(self, images: Tensor, *, noise: Noise | None = None) -> Codes:
        """Ids of a VQModel; else the mode of the posterior, or with `noise` a draw from it, where there is one."""
        if self.card.multiple is None:
            check_range(self.card, images)
        else:
            check_multiple(self.card, images, self.card.multiple, square=False)
        pixels = (images * 2 - 1 if signed(self.network) else images).to(self._dtype)
        latents, deviation = encoded(self.network, pixels, frames=self._frames)
        if self.spec.kind == "discrete":
            ids: Tensor = self.network.quantize(latents)[2][2]
            ids = ids.reshape(len(images), *latents.shape[2:])
            return Codes(ids=(ids.flatten(1).long(),), grid=grid_if_oblong(ids))
        if noise is not None and deviation is not None:
            latents = latents + deviation * noise.normal("posterior", latents.shape[1:]).to(latents)
        return Codes(latents=scaled(self.network, latents))

    @torch.inference_mode()
    def decode(self, codes: Codes, *, probe: Probe = NO_PROBE) -> Tensor:
        with probe("decode"):
            pixels = self._looked_up(codes) if self.spec.kind == "discrete" else self._rendered(codes)
            return from_signed(pixels) if signed(self.network) else pixels.float().clamp(0, 1)

    def _looked_up(self, codes: Codes) -> Tensor:
        (ids,) = codes.ids
        shape = (len(ids), *grid_of(self.card, codes), self.network.quantize.embedding.weight.shape[1])
        if self.network.config.lookup_from_codebook:
            found: Tensor = self.network.decode(ids.flatten(), force_not_quantize=True, shape=shape).sample
            return found
        vectors = self.network.quantize.get_codebook_entry(ids.flatten(), shape)
        images: Tensor = self.network.decode(vectors, force_not_quantize=True).sample
        return images

    def _rendered(self, codes: Codes) -> Tensor:
        if codes.latents is None or codes.latents.ndim != 4 or codes.latents.shape[1] != self.spec.channels:
            given = "none" if codes.latents is None else f"of shape {tuple(codes.latents.shape)}"
            raise InputError(
                f"{self.card.name} decodes latents of shape (B, {self.spec.channels}, h, w)",
                f"the codes have {given}",
                "pass what its encoder or a generator made for it gives",
            )
        latents = unscaled(self.network, codes.latents.to(self._dtype))
        return pixels_of(self.network, latents, frames=self._frames)

    def close(self) -> None:
        """Free the weights; closing twice is fine."""
        vars(self).pop("network", None)
