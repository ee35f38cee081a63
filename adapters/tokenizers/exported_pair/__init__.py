"""A pair of exported networks, TorchScript or `torch.export`, as a tokenizer: `torch:FOLDER`."""

from __future__ import annotations

from arbench.protocols import System

SYSTEM = System(name="exported", cards=(), bridges={"torch": f"{__name__}.cards:card"})
