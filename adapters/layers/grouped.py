"""A Llama decoder that finds its first tokens one by one, then groups of tokens in a pass: PAR's and DetailFlow's."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from arbench.errors import Unsupported
from arbench.protocols import NO_PROBE, Noise, Probe, Sampling

from . import llama
from .attention import KVCache
from .sampling import draw_tokens, mix_guidance


class GroupedDecoder(llama.Decoder):
    """The sequence is class, first tokens, learned tokens, other tokens; the last group is never read."""

    def __init__(self, config: llama.Config) -> None:
        super().__init__(config)
        self.bridge = nn.Embedding(self.group - 1, config.dim)

    @property
    @abstractmethod
    def first(self) -> int:
        """Tokens that are found one by one."""

    @property
    @abstractmethod
    def group(self) -> int:
        """Tokens of a pass after these."""

    @property
    def sizes(self) -> list[int]:
        """Tokens of each pass."""
        return [1] * self.first + [self.group] * ((self.config.block_size - self.first) // self.group)

    def score(self, labels: Tensor, tokens: Tensor) -> Tensor:
        """(B, L, V) logits, in the order of decoding, of tokens (B, L) in that order."""
        embedded = self.token_table(tokens[:, : -self.group])
        bridge = self.bridge.weight.expand(len(tokens), -1, -1)
        first, rest = embedded[:, : self.first], embedded[:, self.first :]
        x = torch.cat((self.condition(labels), first, bridge, rest), dim=1)
        return self.logits(self(x, mask=self.sight(x.shape[1], x.device)))

    def sight(self, length: int, device: torch.device | str) -> Tensor:
        """(length, length) boolean: who sees whom; groups begin with the last of the first tokens."""
        place = torch.arange(length, device=device)
        past = place - self.first
        end = torch.where(past >= 0, place + self.group - 1 - past % self.group, place)
        return end[:, None] >= place

    def allocate(self, rows: int, length: int | None = None) -> list[KVCache]:
        """Caches for `rows` whole images, or for `rows` sequences of `length` positions."""
        return super().allocate(rows, length or self.config.block_size)


def official_names(ours: str) -> tuple[str, ...]:
    """The official key of one of the parameters."""
    return llama.official_names(ours.replace("bridge.", "spe_tok_embeddings.special_embeddings."))


def draw_in_groups(
    network: GroupedDecoder,
    labels: Tensor,
    sampling: Sampling,
    noise: Noise,
    weights: Sequence[float | None],
    *,
    caches: Sequence[KVCache] | None = None,
    probe: Probe = NO_PROBE,
) -> tuple[Tensor, int, int]:
    """Tokens (B, block_size) in the order of decoding, the passes, and the forward passes counting both halves.

    `weights` are the guidance of each pass, None where it has none. Up to the last guided pass both halves go as one
    batch of 2B.
    """
    batch = len(labels)
    doubled = max((index + 1 for index, weight in enumerate(weights) if weight is not None), default=0)
    if doubled:
        if network.config.class_dropout_prob <= 0:
            raise Unsupported(
                "this model cannot be guided", "it was trained without a null class", "use guidance scale 1"
            )
        labels = torch.cat((labels, network.null(labels)))
    if caches is None or caches[0].rows < len(labels):
        caches = network.allocate(len(labels))
    with probe("condition"):
        x = network.condition(labels)
    drawn = torch.empty(batch, network.config.block_size, dtype=torch.int64, device=labels.device)
    done = start = 0
    for step, (size, weight) in enumerate(zip(network.sizes, weights, strict=True)):
        with probe("ar" if step else "prefill", index=step, tokens=size):
            copies = 2 if step < doubled else 1
            if step:  # the first group is asked for by the last single token and the learned ones
                last = 1 if step <= network.first else size
                x = network.token_table(drawn[:, done - last : done]).repeat(copies, 1, 1)
                if step == network.first:
                    x = torch.cat((x, network.bridge.weight.expand(len(x), -1, -1)), dim=1)
            logits = network.read(x, start, caches)
            if copies == 2:
                logits = logits[:batch] if weight is None else mix_guidance(logits, weight)
            drawn[:, done : done + size] = draw_tokens(logits, sampling, noise, "tokens", start=done)
        start, done = start + x.shape[1], done + size
    return drawn, len(weights), len(weights) + doubled
