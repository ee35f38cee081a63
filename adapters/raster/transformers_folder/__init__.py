"""Image generation of the library `transformers`, by the folder that `save_pretrained` writes: `transformers:PATH`."""

from __future__ import annotations

from arbench.protocols import System

SYSTEM = System(name="transformers", cards=(), bridges={"transformers": f"{__name__}.cards:card"})
