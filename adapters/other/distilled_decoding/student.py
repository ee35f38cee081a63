"""What both students share: the head of token vectors, and the few steps from noise to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arbench.protocols import NO_PROBE, Probe

from ...layers.linear import Linear

Student = Callable[[Tensor, int], tuple[Tensor, Tensor]]
"""(vectors (B, L, C), the place from which they are noise) -> predicted vectors (B, L, C), logits (B, L, V)."""


class ContinuousHead(nn.Module):
    """Token vectors from states, shifted and scaled by a table and the class."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.modulation = nn.Parameter(torch.randn(2, width) / width**0.5)
        self.out = Linear(width, channels)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(B, n, C) from states (B, n, W) and classes (B, 1, W)."""
        shift, scale = (each + condition for each in self.modulation.unbind())
        out: Tensor = self.out(F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift)
        return out


def nearest(vectors: Tensor, codes: Tensor) -> Tensor:
    """(B, L) the Euclidean nearest of codes (V, C)."""
    return (codes.square().sum(-1) - 2 * vectors.float() @ codes.T).argmin(-1)


def few_steps(
    student: Student, noise: Tensor, codes: Tensor, starts: Sequence[int], split: int, *, probe: Probe = NO_PROBE
) -> Tensor:
    """Token vectors (B, L, C): each step draws the places from `starts` on anew, all from the same `noise` (B, L, C).

    After a step, places before `split` are codes, of `codes` (V, C): the most likely, or the nearest where an earlier
    step's vector was kept. The others are the predicted vectors.
    """
    x = noise
    for step, start in enumerate(starts):
        with probe("ar" if step else "prefill", index=step, tokens=noise.shape[1] - start):
            fed = torch.cat((x[:, :start], noise[:, start:]), dim=1)
            vectors, logits = student(fed, start)
            ids = torch.cat((nearest(fed[:, :start], codes), logits[:, start:].argmax(-1)), dim=1)
            x = torch.cat((fed[:, :start], vectors[:, start:].float()), dim=1)
            x = torch.cat((F.embedding(ids[:, :split], codes), x[:, split:]), dim=1)
    return x
