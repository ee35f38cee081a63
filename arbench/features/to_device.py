"""Images to a device and vectors back: on CUDA by pinned memory and without waiting, beside what is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MOST, FEWEST = 64, 8
"""Images of a batch on a GPU. `run` describes units of 64 samples, whose batches would be filled up beyond that."""
SHARE = 0.25
"""Of a GPU's memory, which a batch may take; of all of it: no number may depend on what is free just now."""


def batch_for(device: torch.device, cpu: int, megabytes: float) -> int:
    """Images that a network takes at a time: `cpu`, or on a GPU what fits, where one image takes `megabytes` (1e6)."""
    if device.type != "cuda":
        return cpu
    return batch_within(torch.cuda.get_device_properties(device).total_memory, megabytes)


def batch_within(total: int, megabytes: float) -> int:
    """The largest power of two from FEWEST to MOST whose activations take no more than SHARE of `total` bytes."""
    batch = MOST
    while batch > FEWEST and batch * megabytes * 1e6 > SHARE * total:
        batch //= 2
    return batch


def packed(images: Sequence[NDArray[np.uint8]], pinned: bool) -> Tensor:
    """uint8 (B,): the bytes of all images one after another, each in C order."""
    flat = torch.empty(sum(image.size for image in images), dtype=torch.uint8, pin_memory=pinned)
    room, start = flat.numpy(), 0
    if len({image.shape for image in images}) == 1:
        np.stack(images, out=room.reshape(len(images), *images[0].shape))
        return flat
    for image in images:
        room[start : start + image.size].reshape(image.shape)[...] = image
        start += image.size
    return flat


@dataclass(slots=True)
class Copies:
    """The way of images to one device, and of vectors back."""

    device: torch.device
    _stream: torch.cuda.Stream | None = field(default=None, init=False)

    @property
    def asynchronous(self) -> bool:
        return self.device.type == "cuda"

    def there(self, images: Sequence[NDArray[np.uint8]]) -> list[Tensor]:
        """uint8 on the device, in order: (n, 3, H, W) of images of one size, else (1, 3, H, W) of each.

        On CUDA one copy from pinned memory, beside what the device computes; what follows on its stream waits for it.
        Torch keeps the pinned memory until the copy is done and gives it out again.
        """
        flat = packed(images, self.asynchronous)
        if self.asynchronous:
            self._stream = self._stream or torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
            computing = torch.cuda.current_stream(self.device)
            with torch.cuda.stream(self._stream):
                flat = flat.to(self.device, non_blocking=True)
            computing.wait_stream(self._stream)
            flat.record_stream(computing)
        if len({image.shape for image in images}) == 1:
            return [flat.view(len(images), *images[0].shape)]
        parts = flat.split([image.size for image in images])  # type: ignore[no-untyped-call]
        return [part.view(1, *image.shape) for part, image in zip(parts, images, strict=True)]

    def back(self, rows: Mapping[str, Tensor]) -> Back:
        """float32 vectors on their way to the host."""
        if not self.asynchronous:
            return Back({name: each.float().cpu() for name, each in rows.items()})
        found = {}
        for name, each in rows.items():
            host = torch.empty(each.shape, dtype=torch.float32, pin_memory=True)
            found[name] = host.copy_(each, non_blocking=True)
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        done.record(torch.cuda.current_stream(self.device))
        return Back(found, done)


@dataclass(frozen=True, slots=True)
class Back:
    """Vectors of one batch, there once `done`."""

    rows: Mapping[str, Tensor]
    done: torch.cuda.Event | None = None

    def wait(self) -> Mapping[str, NDArray[np.float32]]:
        if self.done is not None:
            self.done.synchronize()
        return {name: each.numpy() for name, each in self.rows.items()}
