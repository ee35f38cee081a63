"""Janus and Janus-Pro of `transformers`, by the library's own loop for images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from .adapter import TransformersModel
from .draw import Draw


class Janus(TransformersModel):
    """`Generator` of images: the library doubles the batch for guidance, on or off."""

    both_halves = False

    def _prompt(self, text: str) -> Tensor:
        """(1, T) token ids of a prompt, in the model's own form of a conversation where it has one."""
        if self.processor.chat_template is not None:
            said = [{"role": "user", "content": [{"type": "text", "text": text}]}]
            text = self.processor.apply_chat_template(said, add_generation_prompt=True)
        found: Tensor = self.processor(text=text, generation_mode="image", return_tensors="pt")["input_ids"]
        return found.to(self.network.device)

    def _drawn(self, ids: Tensor, draw: Draw) -> Tensor:
        layers = self.network.model.language_model
        with nullcontext() if draw.guided else first_half(layers, len(ids)):
            found: Tensor = self.network.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                generation_mode="image",
                do_sample=False,
                guidance_scale=1.0,
                logits_processor=self._processors(draw),
            )
        return found

    def _decoded(self, tokens: Tensor) -> Tensor:
        found: Tensor = self.network.decode_image_tokens(tokens)
        return found.permute(0, 3, 1, 2)


@contextmanager
def first_half(layers: nn.Module, rows: int) -> Iterator[None]:
    """Calls of `layers` with a doubled batch of so many rows read its first half alone, the one with the prompts."""

    def halved(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        doubled = {
            name: value for name, value in kwargs.items() if isinstance(value, Tensor) and len(value) == 2 * rows
        }
        return args, {**kwargs, **{name: value[:rows] for name, value in doubled.items()}}

    hook = layers.register_forward_pre_hook(halved, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()
