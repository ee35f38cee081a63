"""FlexTok's parts (Bachmann et al., arXiv:2502.13967): its codes and its sampler, which recordings replay.

There are no cards: how encoder and decoder are put together is only in the configurations that come with the weights.
"""

from __future__ import annotations

from arbench.protocols import System

SYSTEM = System(name="flextok", cards=(), replays={"tokenizer": f"{__name__}.parts:replay"})
