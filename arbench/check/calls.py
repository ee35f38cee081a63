"""The calls that the checks of a generator make: a few samples, the first kept for the others to be compared with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..protocols import NO_PROBE, Card, Generated, Generator, Noise, Probe, Request, Sampling
from ..seeds import noise_for
from .knobs import plain
from .returned import check_codes, check_images, copied, tensors_of
from .verdict import Broken, NotApplicable
from .watch import Watch

IDS = (0, 1, 2, 3)
BATCHES = ((3,), (2, 0, 3))
"""Samples of `IDS` alone and in another place of a smaller batch."""


class GeneratorCalls:
    """An adapter, what it is asked for, and its first sample once there is one."""

    def __init__(
        self, model: Generator, card: Card, device: str = "cpu", prompts: Sequence[str] = (), watch: Watch | None = None
    ) -> None:
        self.model = model
        self.card = card
        self.device = device
        self.prompts = prompts
        self.watch = watch or Watch()
        self.out_of_range = ""
        """Of what any call has returned."""
        self.first: tuple[Tensor, ...] = ()
        """What the first call returned, not a copy of it."""
        self._generated: Generated | None = None

    def request(self, ids: Sequence[int], seed: int = 0, *, noise: Noise | None = None, shift: int = 0) -> Request:
        """`shift` gives each sample the condition of another one."""
        labels, prompts, places = None, None, [i + shift for i in ids]
        if self.card.condition == "class":
            labels = torch.tensor([place % (self.card.classes or 1) for place in places], device=self.device)
        if self.card.condition == "text":
            prompts = tuple(self.prompts[place % len(self.prompts)] for place in places)
        return Request(tuple(ids), noise or noise_for(seed, ids, self.device), labels, prompts)

    def call(
        self, ids: Sequence[int], sampling: Sampling | None = None, *, seed: int = 0, probe: Probe = NO_PROBE
    ) -> Generated:
        return self.sampled(self.request(ids, seed), sampling, probe)

    def sampled(self, request: Request, sampling: Sampling | None = None, probe: Probe = NO_PROBE) -> Generated:
        """A copy of what it returns, so that the next call cannot change it."""
        sampling = (sampling or plain(self.card)).model_copy(deep=True)
        with self.watch("sample", request=request, sampling=sampling):
            generated = self.model.sample(request, sampling, probe=probe)
        copy = copied(generated)
        self.first = self.first or tensors_of(generated.codes, generated.images)
        try:
            self.check_range(copy, len(request.sample_ids))
        except Broken as error:
            self.out_of_range = self.out_of_range or str(error)
        return copy

    def check_range(self, generated: Generated, rows: int) -> None:
        """Raises `Broken` for codes or images out of shape or range."""
        if generated.codes is not None and self.card.tokens is not None:
            check_codes(self.card.tokens, generated.codes, rows)
        if generated.images is not None:
            check_images(generated.images, rows, self.card.resolution)

    def ready(self, batch: int, sampling: Sampling) -> None:
        sampling = sampling.model_copy(deep=True)
        with self.watch("prepare", sampling=sampling):
            self.model.prepare(batch, sampling)

    def drawn(self, ids: Sequence[int], sampling: Sampling | None = None, *, seed: int = 0) -> tuple[Tensor, ...]:
        _ = self.generated  # what cannot sample at all has said so
        generated = self.call(ids, sampling, seed=seed)
        return tensors_of(generated.codes, generated.images)

    @property
    def generated(self) -> Generated:
        if self._generated is None:
            raise NotApplicable("it does not sample")
        return self._generated

    @property
    def reference(self) -> tuple[Tensor, ...]:
        return tensors_of(self.generated.codes, self.generated.images)
