"""What the models of `transformers` share that draw images: loading, prompts of a length together, pixels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from arbench.errors import CheckpointError, PrerequisiteError, UsageError
from arbench.protocols import NO_PROBE, Card, Generated, LoadSpec, Probe, Request, Sampling, Tokenizer

from ...layers.checkpoint import device_of, seeded
from ...layers.sampling import check_supported
from .draw import Draw


class TransformersModel(ABC):
    """`Generator` of images. Guidance is constant; where it is on for some tokens, both halves are read for all.

    Prompts of as many tokens go together, so that none is padded and a sample does not depend on the others.
    """

    both_halves: ClassVar[bool]
    """Whether the library's loop takes a token for each row of scores, those without the prompt too."""

    def __init__(self, card: Card, network: Any, processor: Any) -> None:
        self.card, self.network, self.processor = card, network, processor
        self.tokenizer: Tokenizer | None = None

    @classmethod
    def load(cls, card: Card, spec: LoadSpec, tokenizer: Tokenizer | None) -> Self:
        try:
            import transformers
        except ImportError as error:
            raise PrerequisiteError(
                f"{card.name} needs the library", str(error), "pip install 'arbench[text]'"
            ) from None
        device, dtype = device_of(spec), getattr(torch, spec.dtype)
        kind = getattr(transformers, card.config["class"])
        folder = _folder(card, spec)
        try:
            processor = transformers.AutoProcessor.from_pretrained(folder, local_files_only=True)
            if spec.init == "random":
                with seeded(0):
                    network = kind(kind.config_class.from_pretrained(folder, local_files_only=True)).to(dtype)
                network.generation_config = transformers.GenerationConfig.from_pretrained(folder)
            else:
                network, report = kind.from_pretrained(
                    folder, dtype=dtype, local_files_only=True, output_loading_info=True
                )
                if report["missing_keys"] or report["unexpected_keys"] or report["mismatched_keys"]:
                    missing, strange = (sorted(map(str, report[key])) for key in ("missing_keys", "unexpected_keys"))
                    raise ValueError(f"{len(missing)} missing {missing[:3]}, {len(strange)} unexpected {strange[:3]}")
        except (OSError, ValueError, RuntimeError) as error:
            why = str(error).strip().partition("\n")[0]
            raise CheckpointError(f"transformers cannot load {card.name}", why, "save the folder again") from None
        return cls(card, network.to(device).eval().requires_grad_(False), processor)

    def prepare(self, batch: int, sampling: Sampling) -> None:
        check_supported(self.card, sampling)

    @torch.inference_mode()
    def sample(self, request: Request, sampling: Sampling, *, probe: Probe = NO_PROBE) -> Generated:
        check_supported(self.card, sampling)
        if request.prompts is None:
            raise UsageError(f"{self.card.name} needs prompts", "the request has none", "--prompts FILE")
        with probe("condition"):
            inputs = [self._prompt(text) for text in request.prompts]
        groups: dict[int, list[int]] = {}
        for row, given in enumerate(inputs):
            groups.setdefault(given.shape[1], []).append(row)
        images: dict[int, Tensor] = {}
        plan, among = self._plan(), self._among()
        for rows in groups.values():
            steps = (
                probe("ar" if index else "prefill", index=index, tokens=int(given is None))
                for index, given in enumerate(plan)
            )
            draw = Draw(request.noise, rows, sampling, plan, steps, among=among, both=self.both_halves)
            with draw.running:
                tokens = self._drawn(torch.cat([inputs[row] for row in rows]), draw)
            with probe("decode"):
                images |= dict(zip(rows, self._pixels(self._decoded(tokens)), strict=True))
        passes = len(plan) * len(groups)
        return Generated(
            images=torch.stack([images[row] for row in range(len(inputs))]),
            outer_steps=passes,
            forwards=passes * (2 if sampling.guidance.on else 1),
        )

    @abstractmethod
    def _prompt(self, text: str) -> Tensor:
        """(1, T) token ids of a prompt, by the model's own processor."""

    @abstractmethod
    def _drawn(self, ids: Tensor, draw: Draw) -> Tensor:
        """(N, steps) tokens that the library's loop takes of `draw` after the prompts `ids` (N, T)."""

    @abstractmethod
    def _decoded(self, tokens: Tensor) -> Tensor:
        """(N, 3, H, W) images of tokens (N, steps), normalised as the processor's are."""

    def _plan(self) -> Sequence[int | None]:
        """What stands at each step of an image: a token that has to be there, or None where one is drawn."""
        return [None] * int(self.card.config["tokens"])

    def _among(self) -> Tensor | None:
        """Ids (K,) of the tokens that are drawn from; None: all."""
        return None

    def close(self) -> None:
        """Free the weights; closing twice is fine."""
        vars(self).pop("network", None)

    def _processors(self, draw: Draw) -> Any:
        from transformers import LogitsProcessorList

        return LogitsProcessorList([draw])

    def _pixels(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] of images normalised as the processor's are."""
        reader = self.processor.image_processor
        channels = images.float().unbind(1)
        scaled = [
            each * std + mean for each, std, mean in zip(channels, reader.image_std, reader.image_mean, strict=True)
        ]
        return torch.stack(scaled, dim=1).clamp(0, 1)


def _folder(card: Card, spec: LoadSpec) -> Path:
    """What to load: the weights that are given, or for random ones the folder of the card."""
    if spec.weights is not None:
        return spec.weights
    if card.checkpoint is None:
        raise UsageError(f"{card.name} has no folder", "its card names none", "name one: transformers:FOLDER")
    return Path(card.checkpoint.file)
