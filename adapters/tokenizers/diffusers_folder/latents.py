"""Between images and the latents that a generator of `diffusers` sees: scaling, shift and their kin are honoured."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def signed(model: Any) -> bool:
    """Whether pixels are from -1 to 1: all but those of an RAE, which normalises [0, 1] itself."""
    return type(model).__name__ != "AutoencoderRAE"


def encoded(model: Any, images: Tensor, *, frames: bool) -> tuple[Tensor, Tensor | None]:
    """Mode of the posterior (B, C, h, w) of the network's own pixels, and its standard deviation if it has one."""
    found = model.encode(images.unsqueeze(2) if frames else images)
    posterior = getattr(found, "latent_dist", None)
    if posterior is None:
        latents = found.latents if hasattr(found, "latents") else found.latent
        return _image(latents, frames), None
    deviation = getattr(posterior, "std", None)
    mode = posterior.mode()
    return _image(mode, frames), None if deviation is None else _image(deviation, frames)


def pixels_of(model: Any, latents: Tensor, *, frames: bool) -> Tensor:
    """The network's own pixels (B, 3, H, W) of its own latents."""
    return _image(model.decode(latents.unsqueeze(2) if frames else latents).sample, frames)


def _image(tensor: Tensor, frames: bool) -> Tensor:
    return tensor.squeeze(2) if frames else tensor


def scaled(model: Any, latents: Tensor) -> Tensor:
    """The network's own latents as a generator sees them."""
    if hasattr(model, "bn"):  # FLUX.2: blocks of 2 x 2, normalised
        mean, deviation = _normalised(model, latents)
        return (_folded(latents, model.config.patch_size) - mean) / deviation
    shift, scale = _affine(model, latents)
    return (latents - shift) * scale


def unscaled(model: Any, latents: Tensor) -> Tensor:
    """What `scaled` was made of."""
    if hasattr(model, "bn"):
        mean, deviation = _normalised(model, latents)
        return _unfolded(latents * deviation + mean, model.config.patch_size)
    shift, scale = _affine(model, latents)
    return latents / scale + shift


def _affine(model: Any, latents: Tensor) -> tuple[Tensor | float, Tensor | float]:
    """What is taken off, and what the rest is multiplied with."""
    config = model.config
    if type(model).__name__ == "AutoencoderRAE":  # does all of it inside
        return 0.0, 1.0
    shift: Tensor | float = float(config.get("shift_factor") or 0.0)
    scale: Tensor | float = float(config.get("scaling_factor") or 1.0)
    if config.get("latents_mean") is not None and config.get("latents_std") is not None:
        mean, deviation = (
            torch.as_tensor(config[name], dtype=latents.dtype, device=latents.device).reshape(1, -1, 1, 1)
            for name in ("latents_mean", "latents_std")
        )
        return mean + shift, scale / deviation
    return shift, scale


def _normalised(model: Any, latents: Tensor) -> tuple[Tensor, Tensor]:
    bn = model.bn
    mean, variance = (each.to(latents).reshape(1, -1, 1, 1) for each in (bn.running_mean, bn.running_var))
    return mean, (variance + model.config.batch_norm_eps).sqrt()


def _folded(latents: Tensor, patch: tuple[int, int]) -> Tensor:
    """(B, C, h, w) -> (B, C p q, h / p, w / q)."""
    rows, columns = patch
    parts = latents.unflatten(3, (-1, columns)).unflatten(2, (-1, rows))  # (B, C, h/p, p, w/q, q)
    return parts.permute(0, 1, 3, 5, 2, 4).flatten(1, 3)


def _unfolded(latents: Tensor, patch: tuple[int, int]) -> Tensor:
    rows, columns = patch
    parts = latents.unflatten(1, (-1, rows, columns)).permute(0, 1, 4, 2, 5, 3)
    return parts.flatten(4, 5).flatten(2, 3)
