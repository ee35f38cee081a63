"""Autoencoders of the library `diffusers`, by the folder that `save_pretrained` writes: `diffusers:PATH_OR_NAME`."""

from __future__ import annotations

from arbench.protocols import System

SYSTEM = System(name="diffusers", cards=(), bridges={"diffusers": f"{__name__}.cards:card"})
