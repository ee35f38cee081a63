"""A suite: which adapters and tokenizers go through which tasks, under which settings."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from .base import Frozen

Dtype = Literal["float32", "bfloat16", "float16"]


class Settings(Frozen):
    """Settings of every cell of a suite."""

    seed: int = Field(default=0, ge=0)
    init: Literal["checkpoint", "random"] = "checkpoint"
    dtype: Dtype = "float32"
    compile: bool = False
    device: str = "auto"
    """"auto" (CUDA if there is one), "cpu", "cuda" or "cuda:N"."""


class Reconstruct(Frozen):
    """Tokenizers: encode and decode held-out images, and compare them with the originals."""

    task: Literal["reconstruct"] = "reconstruct"
    data: str = "mnist5k/heldout"
    n: int | None = Field(default=None, ge=1)
    """Images, from the start of the source; None: all."""
    batch: int = Field(default=64, ge=1)


class Generate(Frozen):
    """Generators: sample, and compare with a reference set. Sample id i has class `i % classes`."""

    task: Literal["generate"] = "generate"
    reference: str = "mnist5k/heldout"
    n: int = Field(default=1000, ge=1)
    batch: int = Field(default=64, ge=1)
    show: int = Field(default=40, ge=0)
    """The first `show` sample ids are kept for the report's grid."""


MASKS = ("centre", "border", "lower", "left")
Box = tuple[float, float, float, float]


class Edit(Frozen):
    """Generators that edit: redraw a part of held-out images, by their own class or by another."""

    task: Literal["edit"] = "edit"
    data: str = "mnist5k/heldout"
    n: int | None = Field(default=200, ge=1)
    """Images, from the start of the source; None: all."""
    mask: str | Box = "centre"
    """What is redrawn: "centre" (the middle half of each side), "border" (all but the centre: outpainting), "lower" or
    "left" (that half), or a box [top, left, bottom, right] in fractions of the image."""
    condition: Literal["same", "next"] = "same"
    """"same": the image's own class (inpainting). "next": the class after it (editing by class)."""
    batch: int = Field(default=64, ge=1)
    show: int = Field(default=16, ge=0)
    """The first `show` images are kept for the report."""

    @field_validator("mask", mode="before")
    @classmethod
    def _known_mask(cls, mask: object) -> object:
        if isinstance(mask, list | tuple) and len(mask) == 4 and all(isinstance(edge, int | float) for edge in mask):
            top, left, bottom, right = mask
            if 0 <= top < bottom <= 1 and 0 <= left < right <= 1:
                return tuple(mask)
        elif mask in MASKS:
            return mask
        names = ", ".join(MASKS)
        raise ValueError(f"{names}, or a box [top, left, bottom, right] in fractions of the image, expected")


class Likelihood(Frozen):
    """Generators with scores: the log-likelihood of the codes of held-out images."""

    task: Literal["likelihood"] = "likelihood"
    data: str = "mnist5k/heldout"
    n: int | None = Field(default=None, ge=1)
    """Images, from the start of the source; None: all."""
    batch: int = Field(default=16, ge=1)


class Speed(Frozen):
    """Latency of a whole call at each batch size, and its phases. Warm-up ends once three calls agree."""

    task: Literal["speed"] = "speed"
    batches: tuple[int, ...] = (1, 16)
    min_calls: int = Field(default=10, ge=3)
    min_seconds: float = Field(default=2.0, ge=0)
    max_seconds: float = Field(default=60.0, gt=0)


class Memory(Frozen):
    """Weights and peak memory of a call at each batch size."""

    task: Literal["memory"] = "memory"
    batches: tuple[int, ...] = (1, 16)


TaskSpec = Annotated[Reconstruct | Generate | Edit | Likelihood | Speed | Memory, Field(discriminator="task")]
TASKS: dict[str, type[Frozen]] = {
    "reconstruct": Reconstruct,
    "generate": Generate,
    "edit": Edit,
    "likelihood": Likelihood,
    "speed": Speed,
    "memory": Memory,
}


class Suite(Frozen):
    """A parsed suite file. Adapter and tokenizer names may be globs.

    `sampling` changes fields of the cards' native sampling, by adapter glob: {"raster/*": {"top_k": 100}}.
    """

    suite: str
    version: int = Field(default=1, ge=1)
    title: str = ""
    adapters: tuple[str, ...] = ()
    tokenizers: tuple[str, ...] = ()
    settings: Settings = Settings()
    tasks: tuple[TaskSpec, ...]
    sampling: dict[str, dict[str, Any]] = Field(default_factory=dict)
    weights: dict[str, str] = Field(default_factory=dict)
    """Adapter name -> path of its weight file."""
