"""Posteriors of images, on which generators of MAR's latents are trained."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .adapter import MARKL


def moments_by(tokenizer: MARKL) -> Callable[[Tensor], Tensor]:
    """Images in [0, 1] to (B, 2, C, h, w): means and standard deviations of the posterior, scaled as MAR has them."""

    @torch.no_grad()
    def encode(images: Tensor) -> Tensor:
        return torch.stack(tokenizer.network.moments(images * 2 - 1), dim=1) * tokenizer.latent_scale

    return encode
