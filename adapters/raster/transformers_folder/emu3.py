"""Emu3 of `transformers`: lines of image tokens, each with its end, by the library's loop of a language model."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .adapter import TransformersModel
from .draw import Draw

AFTER_IMAGE = 4
"""Tokens that follow the last one of an image: end of line, file, image and sequence. They are not drawn."""


class Emu3(TransformersModel):
    """`Generator` of images. Guidance is against the empty prompt, filled up to the prompt's length from the left."""

    both_halves = True

    @property
    def _side(self) -> int:
        return math.isqrt(int(self.card.config["tokens"]))

    def _plan(self) -> Sequence[int | None]:
        line = [None] * self._side
        end = self.network.vocabulary_mapping.eol_token_id
        return [*([*line, end] * (self._side - 1)), *line]

    def _among(self) -> Tensor:
        return torch.tensor(self.network.vocabulary_mapping.image_tokens, device=self.network.device)

    def _prompt(self, text: str) -> Tensor:
        """(1, T) token ids of a prompt, with the size of the image and its beginning."""
        asked = {"return_for_image_generation": True, "image_area": self.card.config["image_area"]}
        found: Tensor = self.processor(text=text, return_tensors="pt", **asked)["input_ids"]
        return found.to(self.network.device)

    def _drawn(self, ids: Tensor, draw: Draw) -> Tensor:
        seen = torch.ones_like(ids)
        if draw.guided:
            empty = self._prompt("")
            short = ids.shape[1] - empty.shape[1]
            padding = self.processor.tokenizer.pad_token_id
            ids = torch.cat((ids, nn.functional.pad(empty, (short, 0), value=padding).repeat(len(ids), 1)))
            seen = torch.cat((seen, nn.functional.pad(torch.ones_like(empty), (short, 0)).repeat(len(seen), 1)))
        steps = len(draw.plan)
        found: Tensor = self.network.generate(
            input_ids=ids,
            attention_mask=seen,
            do_sample=False,
            guidance_scale=None,
            min_new_tokens=None,
            max_new_tokens=steps,
            logits_processor=self._processors(draw),
        )
        return found[: len(draw.rows), -steps:]

    def _decoded(self, tokens: Tensor) -> Tensor:
        whole = nn.functional.pad(tokens, (0, AFTER_IMAGE))
        found: Tensor = self.network.decode_image_tokens(image_tokens=whole, height=self._side, width=self._side)
        return found
