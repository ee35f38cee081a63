"""Steps from uint8 images to network input that several recipes share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor

Triple = tuple[float, float, float]

IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)
CLIP_MEAN: Triple = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: Triple = (0.26862954, 0.26130258, 0.27577711)


def through_pil(images: Tensor, step: Callable[[Image.Image], Image.Image]) -> Tensor:
    """uint8 (n, 3, S, S) on the device of `images` (n, 3, H, W): `step`, which gives one size, on each as PIL image."""
    pictures = images.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    changed = np.stack([np.asarray(step(Image.fromarray(picture))) for picture in pictures])
    return torch.from_numpy(changed).permute(0, 3, 1, 2).to(images.device)


def standardise(pixels: Tensor, mean: Triple, std: Triple, scale: float = 255) -> Tensor:
    """float32 (pixels / scale - mean) / std by channel, of (n, 3, H, W)."""
    centre = torch.tensor(mean, device=pixels.device).view(3, 1, 1)
    spread = torch.tensor(std, device=pixels.device).view(3, 1, 1)
    return (pixels.float() / scale - centre) / spread
