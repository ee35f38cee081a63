"""A model of `transformers` that draws images: by the library's loop and prompts, with our noise for its draws."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from arbench.errors import CheckpointError, PrerequisiteError, UsageError
from arbench.protocols import NO_PROBE, Card, Generated, LoadSpec, Noise, Probe, Request, Sampling, Tokenizer

from ...layers.checkpoint import device_of, seeded
from ...layers.sampling import check_supported, draw_tokens, guided_steps, mix_guidance


class Draw:
    """What the library calls with the scores of a step, (2N, V) or (N, V), those without the prompt last.

    It draws the tokens of the samples `rows`, and returns scores (N, V) of which the library takes the highest, the one
    drawn. `steps` is entered and left with each step.
    """

    def __init__(
        self,
        noise: Noise,
        rows: Sequence[int],
        sampling: Sampling,
        count: int,
        steps: Iterator[AbstractContextManager[None]],
    ) -> None:
        self.noise, self.rows, self.sampling = noise, list(rows), sampling
        self.guided, self.step, self.steps = guided_steps(sampling.guidance, count), 0, steps
        self.running = ExitStack()
        self.running.enter_context(next(steps))

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        scores = scores.float()
        if self.step < self.guided:
            scores = mix_guidance(scores, self.sampling.guidance.scale)
        scores = scores[: len(self.rows)].unsqueeze(1)
        # noise has a row for each sample of the batch, whatever is drawn in this call
        whole = scores.new_zeros(self.noise.batch, 1, scores.shape[-1])
        whole[self.rows] = scores
        drawn = draw_tokens(whole, self.sampling, self.noise, "tokens", start=self.step)[self.rows]  # (N, 1)
        self.step += 1
        self.running.close()
        self.running.enter_context(next(self.steps, nullcontext()))
        return torch.full_like(scores[:, 0], -torch.inf).scatter(1, drawn, 0.0)


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


class TransformersModel:
    """`Generator` of images. Guidance is constant; where it is on for some tokens, both halves are read for all.

    Prompts of as many tokens go together, so that none is padded and a sample does not depend on the others.
    """

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
        count = self.card.config["tokens"]
        with probe("condition"):
            inputs = [self._prompt(text) for text in request.prompts]
        groups: dict[int, list[int]] = {}
        for row, given in enumerate(inputs):
            groups.setdefault(given.shape[1], []).append(row)
        images: dict[int, Tensor] = {}
        guided = sampling.guidance.on
        for rows in groups.values():
            ids = torch.cat([inputs[row] for row in rows])
            steps = (probe("ar" if index else "prefill", index=index, tokens=1) for index in range(count))
            alone = nullcontext() if guided else first_half(self.network.model.language_model, len(rows))
            draw = Draw(request.noise, rows, sampling, count, steps)
            with draw.running, alone:
                tokens = self.network.generate(
                    input_ids=ids,
                    attention_mask=torch.ones_like(ids),
                    generation_mode="image",
                    do_sample=False,
                    guidance_scale=1.0,
                    logits_processor=self._processors(draw),
                )
            with probe("decode"):
                images |= dict(zip(rows, self._pixels(self.network.decode_image_tokens(tokens)), strict=True))
        steps_taken = count * len(groups)
        return Generated(
            images=torch.stack([images[row] for row in range(len(inputs))]),
            outer_steps=steps_taken,
            forwards=steps_taken * (2 if guided else 1),
        )

    def close(self) -> None:
        """Free the weights; closing twice is fine."""
        vars(self).pop("network", None)

    def _prompt(self, text: str) -> Tensor:
        """(1, T) token ids of a prompt, in the model's own form of a conversation where it has one."""
        if self.processor.chat_template is not None:
            said = [{"role": "user", "content": [{"type": "text", "text": text}]}]
            text = self.processor.apply_chat_template(said, add_generation_prompt=True)
        found: Tensor = self.processor(text=text, generation_mode="image", return_tensors="pt")["input_ids"]
        return found.to(self.network.device)

    def _processors(self, draw: Draw) -> Any:
        from transformers import LogitsProcessorList

        return LogitsProcessorList([draw])

    def _pixels(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] of what the decoder gives, (N, H, W, 3) normalised as the processor's images are."""
        reader = self.processor.image_processor
        channels = images.float().permute(0, 3, 1, 2).unbind(1)
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
