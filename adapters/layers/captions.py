"""Captions as features of a text encoder: those of a request, or of the files that its prompts name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from arbench.errors import InputError, UsageError
from arbench.protocols import Card, Request

HINT = "arbench captions writes a file for each prompt, and the list to give as prompts"


def has_captions(request: Request) -> bool:
    return request.captions is not None or request.prompts is not None


def request_captions(
    card: Card, request: Request, tokens: int, width: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Features (B, tokens, width), float32, and mask (B, tokens), int64, 1 where there is text, on `device`.

    Those of the request; without a mask all positions count as text. Else those of the files its prompts name, see
    `read_captions`. Raises UsageError without either, InputError for captions of another shape.
    """
    if request.captions is not None:
        captions, mask = request.captions, request.caption_mask
        if mask is None:
            mask = torch.ones(captions.shape[:2], dtype=torch.int64)
        wanted = (len(request.sample_ids), tokens, width)
        if tuple(captions.shape) != wanted or tuple(mask.shape) != wanted[:2]:
            raise InputError(
                f"{card.name} cannot use these captions",
                f"features are {tuple(captions.shape)} and the mask {tuple(mask.shape)}, not {wanted} and {wanted[:2]}",
                "encode them with the text encoder the model was trained with, padded to that many tokens",
            )
    elif request.prompts is not None:
        captions, mask = read_captions(request.prompts, tokens, width)
    else:
        raise UsageError(
            f"{card.name} needs captions",
            "the request has none",
            "give features of the text encoder, or prompts that are paths of files with them",
        )
    return captions.to(device, torch.float32), mask.to(device, torch.int64)


def read_captions(paths: Sequence[str], tokens: int, width: int) -> tuple[Tensor, Tensor]:
    """Features (B, tokens, width) and mask (B, tokens) from one safetensors file a prompt.

    A file holds `features` (tokens, width) and `mask` (tokens,). Padding must be there as the text encoder left it: it
    may influence the image. Raises InputError that names the file.
    """
    given = [_read_caption(Path(path), tokens, width) for path in paths]
    return torch.stack([features for features, _ in given]), torch.stack([mask for _, mask in given])


def _read_caption(path: Path, tokens: int, width: int) -> tuple[Tensor, Tensor]:
    try:
        stored = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"cannot read the caption features {str(path)!r}", str(error), HINT) from None
    wanted = {"features": (tokens, width), "mask": (tokens,)}
    found = {name: tuple(tensor.shape) for name, tensor in stored.items() if name in wanted}
    if found != wanted:
        raise InputError(f"{path} does not hold a caption of this model", f"it has {found}, not {wanted}", HINT)
    return stored["features"].float(), stored["mask"].long()


def left_padded(features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Features (B, T, D) and mask (B, T) with all text at the end, its order kept, and zeros for padding before it."""
    order = mask.bool().long().argsort(dim=1, stable=True)
    mask = mask.gather(1, order)
    features = features.gather(1, order.unsqueeze(-1).expand_as(features))
    return features * mask.bool().unsqueeze(-1), mask
