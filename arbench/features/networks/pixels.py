"""Steps from uint8 images to network input that several recipes share."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

Triple = tuple[float, float, float]

IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)
CLIP_MEAN: Triple = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: Triple = (0.26862954, 0.26130258, 0.27577711)


def standardise(pixels: Tensor, mean: Triple, std: Triple, scale: float = 255) -> Tensor:
    """float32 (pixels / scale - mean) / std by channel, of (n, 3, H, W)."""
    divisor, centre, spread = (constant(value, pixels.device) for value in (scale, mean, std))
    return (pixels.float() / divisor - centre) / spread


@functools.lru_cache(maxsize=64)
def constant(value: float | Triple, device: torch.device) -> Tensor:
    """float32 () of a number, (3, 1, 1) of one for each channel, on a device: copied there once.

    A tensor on the device is divided by exactly; with a Python number CUDA multiplies by a rounded reciprocal.
    """
    found = torch.tensor(value, dtype=torch.float32)
    return (found[:, None, None] if found.ndim else found).to(device)
