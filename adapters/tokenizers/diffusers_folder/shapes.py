"""What an autoencoder of `diffusers` takes and gives: sizes that its network shows without weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from arbench.errors import UsageError
from arbench.protocols import TokenSpec

from .latents import encoded, pixels_of, scaled


@dataclass(frozen=True, slots=True)
class Shapes:
    """`frames`: it takes videos, of which an image is one frame."""

    side: int
    multiple: int | None
    tokens: TokenSpec
    frames: bool
    parameters: int


def measured(kind: Any, config: dict[str, Any], side: int) -> Shapes:
    """Sizes of the images that a class with this configuration takes, and the tokens of them.

    Raises UsageError if it does not make images from the latents of images.
    """
    model = _built(kind, config)
    errors = []
    for frames in (False, True):
        try:
            return _of(model, side, frames)
        except Exception as error:  # whatever a network raises that takes other tensors
            errors.append(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
    raise UsageError(
        f"{kind.__name__} cannot be a tokenizer of {side} x {side} images", errors[0], "name another model"
    )


def _built(kind: Any, config: dict[str, Any]) -> Any:
    try:
        with torch.device("meta"):
            return kind.from_config(config).eval()
    except (NotImplementedError, RuntimeError):
        return kind.from_config(config).eval()


def _of(model: Any, side: int, frames: bool) -> Shapes:
    given = _through(model, side, frames)[1]
    if given != side:  # it resizes what it takes
        side = given
        if _through(model, side, frames)[1] != side:
            raise ValueError(f"images of {side} come back in another size")
    latents, _ = _through(model, side, frames)
    multiple = side // latents.shape[-1] if _grows(model, side, latents, frames) else None
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Shapes(side, multiple, _tokens(model, latents), frames, parameters)


def _grows(model: Any, side: int, latents: Tensor, frames: bool) -> bool:
    try:
        more, given = _through(model, 2 * side, frames)
    except Exception:  # places that were learnt for one size
        return False
    return given == 2 * side and more.shape[-1] == 2 * latents.shape[-1]


@torch.inference_mode()
def _through(model: Any, side: int, frames: bool) -> tuple[Tensor, int]:
    """Latents of an empty image, and the side of the image that is made of them."""
    first = next(model.parameters())
    image = torch.zeros(1, 3, side, side, device=first.device)
    latents = encoded(model, image, frames=frames)[0]
    if latents.ndim != 4 or latents.shape[-1] != latents.shape[-2]:
        raise ValueError(f"latents of shape {tuple(latents.shape)} are not a grid")
    images = pixels_of(model, latents, frames=frames)
    if images.shape[:2] != (1, 3) or images.shape[2] != images.shape[3]:
        raise ValueError(f"what it decodes has the shape {tuple(images.shape)}")
    return scaled(model, latents), images.shape[-1]


def _tokens(model: Any, latents: Tensor) -> TokenSpec:
    if hasattr(model, "quantize"):
        return TokenSpec.grid(latents.shape[-1], int(model.config.num_vq_embeddings))
    return TokenSpec.grid(latents.shape[-1], channels=latents.shape[1])
