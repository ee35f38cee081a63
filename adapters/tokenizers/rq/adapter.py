"""RQ-VAE (Lee et al., CVPR 2022): a grid of residual codes, several at each place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from arbench.errors import InputError
from arbench.protocols import NO_PROBE, Codes, Probe

from ...layers.checkpoint import with_state
from ...layers.grid_tokenizer import GridTokenizer
from ...layers.tokenizer import check_grid, from_signed
from .network import IGNORED, Network, official_names


class RQVAE(GridTokenizer):
    """`Tokenizer`. At each place the ids of all depths follow one another."""

    network: Network
    network_class = Network
    official_names = staticmethod(official_names)
    ignored = IGNORED

    @torch.inference_mode()
    def decode(self, codes: Codes, *, probe: Probe = NO_PROBE) -> Tensor:
        with probe("decode"):
            (ids,) = codes.ids
            depth = self.network.sizes.depth
            if ids.shape[1] % depth:
                raise InputError(
                    f"{self.card.name} cannot decode {ids.shape[1]} ids", f"each place has {depth}", "pass all of them"
                )
            check_grid(self.card, ids[:, ::depth])
            return from_signed(self.network.decode(ids))


def restored(config: Mapping[str, Any], state: dict[str, Tensor]) -> Network:
    """The network of a recording."""
    names = official_names(config)
    return with_state(lambda: Network(config), state, card_name="RQVAE", names=names, ignored=IGNORED)


def replay(
    config: Mapping[str, Any],
    state: dict[str, Tensor],
    tokenizer: tuple[Mapping[str, Any], dict[str, Tensor]] | None = None,
) -> Callable[[str, Mapping[str, Any], Mapping[str, Tensor]], dict[str, Tensor]]:
    """A function that repeats a recorded probe (name, settings, inputs) with the network of a recording."""
    network = restored(config, state)

    @torch.inference_mode()
    def call(probe: str, settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if probe == "encode":
            return {"ids": network.encode(inputs["images"])}
        if probe == "decode":
            return {"images": network.decode(inputs["ids"])}
        if probe == "decode_prefix":
            return {"images": network.decode(inputs["ids"], settings["scales"])}
        raise InputError(f"no probe {probe!r} for RQ-VAE", "known: encode, decode, decode_prefix", "")

    return call
