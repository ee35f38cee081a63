"""D-AR's network: the Llama decoder of `layers/llama.py` with positions in a row, the class's among them."""

from __future__ import annotations

import torch
from torch import Tensor

from ...layers.llama import IGNORED, TRAINING_ONLY, Config, Decoder, official_names

__all__ = ["IGNORED", "TRAINING_ONLY", "Config", "Network", "official_names"]


class Network(Decoder):
    """The decoder over a class and tokens that have an order, not a grid."""

    def _rotations(self, device: torch.device | str) -> Tensor:
        """(1 + tokens, head_width / 2, 2): unlike LlamaGen's, the class's row turns by nothing and is not zero."""
        config = self.config
        with torch.device("cpu"):
            rates = 1.0 / config.rope_base ** (torch.arange(0, config.head_width, 2).float() / config.head_width)
            angles = torch.outer(torch.arange(config.cls_token_num + config.block_size).float(), rates)
        return torch.stack((angles.cos(), angles.sin()), dim=-1).to(device)

    def score(self, labels: Tensor, tokens: Tensor) -> Tensor:
        """(B, L, V) logits of `tokens` (B, L), each from the class and the earlier tokens."""
        x = torch.cat((self.condition(labels), self.token_table(tokens[:, :-1])), dim=1)
        return self.logits(self(x))
