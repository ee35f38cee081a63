"""LlamaGen's network: the Llama decoder of `layers/llama.py`, over a class or over a caption."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...layers import llama
from ...layers.checkpoint import replace_all
from ...layers.linear import Linear
from ...layers.llama import IGNORED, TRAINING_ONLY, Config, Decoder

__all__ = ["IGNORED", "TRAINING_ONLY", "Config", "Network", "condition_mask", "official_names"]


def condition_mask(valid: Tensor, length: int) -> Tensor:
    """(B, 1, length, length): causal, blind to padded condition tokens; every token sees itself.

    `valid` (B, T) is True at the condition tokens in use.
    """
    rows, count = valid.shape
    seen = torch.ones(rows, length, dtype=torch.bool, device=valid.device)
    seen[:, :count] = valid.bool()
    square = torch.ones(length, length, dtype=torch.bool, device=valid.device)
    return ((seen[:, None] & square.tril()) | torch.eye(length, dtype=torch.bool, device=valid.device)).unsqueeze(1)


class Network(Decoder):
    """The decoder; its condition is a class, or with `model_type` "t2i" a caption as features of a text encoder."""

    def add_condition(self, config: Config) -> None:
        if config.model_type == "c2i":
            super().add_condition(config)
        else:
            self.null_caption = nn.Parameter(torch.zeros(config.cls_token_num, config.caption_dim))
            self.caption_in = Linear(config.caption_dim, config.dim, bias=False)
            self.caption_out = Linear(config.dim, config.dim, bias=False)

    def condition(self, given: Tensor) -> Tensor:
        """(B, T, dim) from class ids (B,), or from captions as features (B, T, caption_dim)."""
        if self.config.model_type == "c2i":
            return super().condition(given)
        features = given.to(self.caption_in.weight.dtype)
        projected: Tensor = self.caption_out(F.gelu(self.caption_in(features), approximate="tanh"))
        return projected[:, : self.config.cls_token_num]

    def null(self, given: Tensor) -> Tensor:
        if self.config.model_type == "c2i":
            return super().null(given)
        return self.null_caption.expand(given.shape[0], -1, -1)

    def score(self, given: Tensor, tokens: Tensor, valid: Tensor | None = None) -> Tensor:
        """(B, L, V) logits of `tokens` (B, L), each from the condition and the earlier tokens.

        `valid` (B, T) masks padded caption tokens.
        """
        condition = self.condition(given)
        x = torch.cat((condition, self.token_table(tokens[:, :-1])), dim=1)
        mask = None if valid is None else condition_mask(valid, x.shape[1])
        return self.logits(self(x, mask=mask)[:, condition.shape[1] - 1 :])


_CAPTION_TO_OFFICIAL = (
    ("null_caption", "cls_embedding.uncond_embedding"),
    ("caption_in.", "cls_embedding.cap_proj.fc1."),
    ("caption_out.", "cls_embedding.cap_proj.fc2."),
)


def official_names(ours: str) -> tuple[str, ...]:
    """The official key of one of our parameters."""
    return llama.official_names(replace_all(ours, _CAPTION_TO_OFFICIAL))
