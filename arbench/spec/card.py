"""Cards: what is known of an adapter without importing torch or reading a weight."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, Self

from pydantic import Field

from .base import Frozen
from .sampling import Sampling

Family = Literal["raster", "next_scale", "random_order", "continuous", "hybrid", "other", "tokenizers"]
"""In the order in which adapters are listed."""
Ability = Literal["edits", "scores"]


class TokenSpec(Frozen):
    """What a tokenizer turns an image into.

    `levels` are the shapes of the token maps, coarse to fine: ((16, 16),) for a grid, ((32,),) for a 1D
    sequence, ((1, 1), (2, 2), ...) for a pyramid. `vocabulary` is the number of codes at each position.
    Where sequences differ in length (`variable_length`), the one level is the most tokens of an image, 0 if there is no
    such number.
    """

    kind: Literal["discrete", "continuous", "hybrid"]
    layout: Literal["grid", "sequence", "pyramid"]
    levels: tuple[tuple[int, ...], ...]
    vocabulary: int | None = None
    codebooks: int = 1
    channels: int | None = None
    variable_length: bool = False

    @classmethod
    def grid(cls, side: int, vocabulary: int | None = None, *, channels: int | None = None) -> Self:
        """A square grid of codes from a vocabulary, or of tokens that are so many numbers (`channels`)."""
        return cls._square("grid", (side,), vocabulary, channels)

    @classmethod
    def pyramid(cls, sides: Sequence[int], vocabulary: int, *, channels: int | None = None) -> Self:
        """Square maps of codes, coarse to fine, with `channels` also a residual of so many numbers a token."""
        return cls._square("pyramid", sides, vocabulary, channels)

    @classmethod
    def _square(
        cls, layout: Literal["grid", "pyramid"], sides: Sequence[int], vocabulary: int | None, channels: int | None
    ) -> Self:
        kind: Literal["discrete", "continuous", "hybrid"] = "hybrid"
        if channels is None:
            kind = "discrete"
        elif vocabulary is None:
            kind = "continuous"
        levels = tuple((side, side) for side in sides)
        return cls(kind=kind, layout=layout, levels=levels, vocabulary=vocabulary, channels=channels)

    @property
    def tokens(self) -> int:
        """Tokens per image over all levels; of variable length the most, or 0 for any number."""
        return sum(math.prod(shape) for shape in self.levels) * self.codebooks

    @property
    def bits(self) -> float | None:
        """Bits per image at a uniform code distribution; None for continuous latents and for variable length."""
        return None if self.vocabulary is None or self.variable_length else self.tokens * math.log2(self.vocabulary)


class Claim(Frozen):
    """A published number, shown beside ours and never gated on. `settings` are verbatim from the source."""

    metric: str
    value: float
    settings: dict[str, Any] = Field(default_factory=dict)
    source: str


class Checkpoint(Frozen):
    """The official weight file: its name, where it is published, and how its state dict is wrapped."""

    file: str
    source: str
    wrapper: tuple[str, ...] = ()
    """Top-level keys that may hold the state dict; empty: the file is the state dict."""
    folder: bool = False
    """`file` is the path of a folder, which the library that wrote it loads."""
    packaged: bool = False
    """True for weights that ship with the adapter, in the folder `weights` of the package of its `implementation`."""


class TextEncoder(Frozen):
    """The text encoder whose features a text-to-image model was trained on, as published on Hugging Face."""

    name: str
    licence: str
    lower: bool = False
    """Prompts are stripped and put in lower case first."""
    instruction: str = ""
    """Where the official text is that goes before every prompt, for encoders that follow instructions."""


class Card(Frozen):
    """Metadata of a generator or tokenizer.

    `implementation` is "module:Class"; `config` its hyper-parameters by the official code's own names.
    `supports` lists the fields of `Sampling` that this adapter honours; asking for another is `unsupported`.
    `offers` names what its class can do beyond sampling, for the tasks that need it: the protocols `Edits`, `Scores`.
    `version` changes whenever the adapter's output can change.
    """

    name: str
    kind: Literal["generator", "tokenizer"]
    family: Family
    implementation: str
    summary: str
    resolution: int
    """Side of the square images in pixels."""
    multiple: int | None = None
    """It takes all sides that are multiples of this, with tokens in proportion; None: `resolution` alone."""
    config: dict[str, Any] = Field(default_factory=dict)
    version: int = 1
    condition: Literal["class", "text", "none"] = "none"
    classes: int | None = None
    captions: tuple[int, int] | None = None
    """For `condition` "text": how many tokens of how many numbers the text encoder's features are."""
    text_encoder: TextEncoder | None = None
    tokenizer: str | None = None
    tokens: TokenSpec | None = None
    supports: frozenset[str] = frozenset()
    choices: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Where not every value is honoured, those that are: of "order", of "guidance.schedule", of "extra.KNOB"."""
    limits: dict[str, tuple[float, float]] = Field(default_factory=dict)
    """The least and the most of "steps", "inner_steps", "extra.KNOB" that are honoured exactly; others are refused."""
    offers: frozenset[Ability] = frozenset()
    extra: dict[str, str] = Field(default_factory=dict)
    """Knobs allowed in `Sampling.extra`: name -> one line of help."""
    native: Sampling = Field(default_factory=Sampling)
    upstream_settings: dict[str, Any] = Field(default_factory=dict)
    """The native sampling in the official code's own terms, for instance {"cfg_scale": 2.0}."""
    parameters: int | None = None
    code_licence: str = "unknown"
    weights_licence: str = "unknown"
    source: str = ""
    """Repository and commit that the adapter was written against."""
    trained_on: str = ""
    checkpoint: Checkpoint | None = None
    published: tuple[Claim, ...] = ()

    def derive(self, **changes: Any) -> Self:
        """This card with some fields changed, validated as a new one: for the sizes of a system."""
        return type(self).model_validate({**dict(self), **changes})

    def takes(self, height: int, width: int) -> bool:
        """Whether images of this size can be encoded."""
        if self.multiple is None:
            return (height, width) == (self.resolution, self.resolution)
        return height > 0 and width > 0 and height % self.multiple == 0 and width % self.multiple == 0

    def tokens_at(self, height: int, width: int) -> TokenSpec:
        """The tokens of images of this size. Raises ValueError for a size that it does not take."""
        if self.tokens is None or not self.takes(height, width):
            raise ValueError(f"{self.name} has no tokens of {height} x {width} images")
        if self.tokens.variable_length or (height, width) == (self.resolution, self.resolution):
            return self.tokens
        levels = tuple(
            (rows * height // self.resolution, columns * width // self.resolution)
            for rows, columns in self.tokens.levels
        )
        return self.tokens.model_copy(update={"levels": levels})

    def refused(self, sampling: Sampling) -> list[str]:
        """What of `sampling` would be changed or ignored, in words: nothing is clamped in silence."""
        guidance = sampling.guidance
        asked: dict[str, Any] = {"order": sampling.order, "steps": sampling.steps, "inner_steps": sampling.inner_steps}
        if guidance.on:
            asked["guidance.schedule"] = guidance.schedule
        asked |= {f"extra.{name}": value for name, value in sampling.extra.items()}
        asked = {field: value for field, value in asked.items() if value is not None}
        problems = [
            f"{field} {_word(asked[field])} (has {', '.join(known)})"
            for field, known in self.choices.items()
            if field in asked and _word(asked[field]) not in known
        ]
        problems += [
            f"{field} {_word(asked[field])} (takes {least:g} to {most:g})"
            for field, (least, most) in self.limits.items()
            if field in asked and not _within(asked[field], least, most)
        ]
        codes = self.tokens.vocabulary if self.tokens else None
        if sampling.top_k is not None and codes is not None and sampling.top_k > codes:
            problems.append(f"top_k {sampling.top_k} (it has {codes} codes)")
        if guidance.schedule == "constant" and guidance.start not in (1.0, guidance.scale):
            problems.append(f"guidance.start {guidance.start:g} (a constant schedule has no start)")
        if guidance.schedule != "cosine_power" and guidance.power not in (1.0, self.native.guidance.power):
            problems.append(f"guidance.power {guidance.power:g} (a {guidance.schedule} schedule has no power)")
        return problems


def _word(value: Any) -> str:
    """As YAML has it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _within(value: Any, least: float, most: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most
