"""The adapter of the system."""

import torch

from arbench.adapters.layers.sampling import check_supported
from arbench.protocols import NO_PROBE, Generated


class Paint:
    tokenizer = None

    def __init__(self, card):
        self.card = card

    @classmethod
    def load(cls, card, spec, tokenizer):
        return cls(card)

    def prepare(self, batch, sampling): ...

    def sample(self, request, sampling, *, probe=NO_PROBE):
        check_supported(self.card, sampling)
        with probe("ar", tokens=1):
            shade = request.labels.float() / 9
            noise = request.noise.uniform("noise", 3 * self.card.resolution**2).float() / 50
            side = self.card.resolution
            images = (0.9 * shade[:, None] + noise).reshape(-1, 3, side, side)
        return Generated(images=images.clamp(0, 1).to(torch.float32), outer_steps=1, forwards=1)

    def close(self): ...
