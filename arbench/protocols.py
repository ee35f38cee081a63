"""All that an adapter author reads: what a tokenizer and a generator must offer, and what they are given.

Images are float32, (B, 3, H, W), RGB in [0, 1]. An adapter knows nothing of ranks, logging, caches, metrics or
whether it is timed: it asks for noise, calls its network and marks phases with the probe.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, Self, runtime_checkable

from .spec.card import Card, Checkpoint, Claim, TextEncoder, TokenSpec
from .spec.sampling import Guidance, Sampling
from .spec.system import StateDict, System

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "NO_PROBE",
    "Card",
    "Checkpoint",
    "Claim",
    "Codes",
    "Codewords",
    "Edits",
    "Generated",
    "Generator",
    "Guidance",
    "LoadSpec",
    "Noise",
    "Phase",
    "Prefix",
    "Probe",
    "Recorded",
    "Replays",
    "Request",
    "Sampling",
    "Scores",
    "StateDict",
    "System",
    "TextEncoder",
    "TokenSpec",
    "Tokenizer",
    "Watchable",
]

Phase = Literal["condition", "prefill", "ar", "inner", "encode", "decode"]


class Probe(Protocol):
    """Marks the phases of a call: `with probe("ar", index=i, tokens=n): ...`. Phases nest, they never overlap."""

    def __call__(self, phase: Phase, *, index: int = 0, tokens: int = 0) -> AbstractContextManager[None]: ...


class _NoProbe:
    def __call__(self, phase: Phase, *, index: int = 0, tokens: int = 0) -> AbstractContextManager[None]:
        return nullcontext()


NO_PROBE: Probe = _NoProbe()


class Noise(Protocol):
    """All randomness of a batch: one independent stream per sample and name, the same on CPU and GPU.

    The numbers of a sample depend on its seed, the stream's name and the index alone, never on the batch.
    `arbench.seeds` has the real one and substitutes for tests (`greedy`, zero normals).
    """

    @property
    def batch(self) -> int: ...

    def uniform(self, stream: str, n: int, start: int = 0) -> Tensor:
        """(B, n) float64 in [0, 1): the numbers `start` to `start + n - 1` of the stream."""
        ...

    def normal(self, stream: str, shape: Sequence[int]) -> Tensor:
        """(B, *shape) float32 standard normal."""
        ...

    def permutation(self, stream: str, n: int) -> Tensor:
        """(B, n) int64: a random order of 0..n-1 for each sample."""
        ...

    def categorical(self, probabilities: Tensor, stream: str, start: int = 0) -> Tensor:
        """(B, n) int64 drawn from (B, n, V) non-negative weights, one uniform per draw, by inverting the CDF."""
        ...


@dataclass(frozen=True, slots=True)
class LoadSpec:
    """How a network is built and loaded.

    `weights` is the checkpoint file; None only with `init="random"`, which builds the real shapes with random
    weights (seeded), for speed and memory cells. `part` names what is to be loaded of a file that holds several state
    dicts ("ema", "trainer.var_wo_ddp"); "": the one that fits. `graph` says whether whole calls may be recorded as one
    CUDA graph ("auto": on CUDA); adapters that offer no `Replays` let it be.
    """

    weights: Path | None = None
    init: Literal["checkpoint", "random"] = "checkpoint"
    device: str = "cpu"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    compile: bool = False
    graph: Literal["auto", "on", "off"] = "auto"
    part: str = ""


@dataclass(frozen=True, slots=True)
class Codes:
    """What a tokenizer makes of a batch of images.

    ids: one int64 (B, n_level * codebooks) per level of the `TokenSpec`, coarse to fine, each row-major.
    latents: KL latents, a hybrid's residual, or (pyramids) the accumulated feature map, in the tokenizer's own
        units; for a discrete tokenizer they are a shortcut and `ids` alone decode to the same image.
    lengths: int64 (B,) tokens in use, variable-length tokenizers only: these have one level, and rows of `ids` that are
        shorter than the longest end in zeros, which mean nothing.
    grid: (rows, columns) of the ids of an image that is not square, of a tokenizer with one map; None where it is.
    """

    ids: tuple[Tensor, ...] = ()
    latents: Tensor | None = None
    lengths: Tensor | None = None
    grid: tuple[int, int] | None = None

    def without_latents(self) -> Codes:
        return replace(self, latents=None)


@runtime_checkable
class Tokenizer(Protocol):
    @property
    def card(self) -> Card: ...

    @property
    def spec(self) -> TokenSpec: ...

    @classmethod
    def load(cls, card: Card, spec: LoadSpec) -> Self: ...

    def encode(self, images: Tensor, *, noise: Noise | None = None) -> Codes:
        """Codes of images (B, 3, H, W) in [0, 1]. Without noise a KL tokenizer gives the mode of its posterior."""
        ...

    def decode(self, codes: Codes, *, probe: Probe = NO_PROBE) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] (clamped) from codes; everything inside `probe("decode")`."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Request:
    """Which samples to draw, and the condition of each.

    labels: int64 (B,), on the model's device as all tensors here, for class-conditional models.
    prompts: one a sample, for models that read text themselves.
    captions: float32 (B, T, D) features of the text encoder the model was trained with, padding as the encoder left it.
    caption_mask: int64 (B, T), 1 where there is text.
    """

    sample_ids: tuple[int, ...]
    noise: Noise
    labels: Tensor | None = None
    prompts: tuple[str, ...] | None = None
    captions: Tensor | None = None
    caption_mask: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Generated:
    """What `sample` returns: codes for the tokenizer, or images if the model has no tokenizer.

    outer_steps: autoregressive steps taken. forwards: calls of the backbone, a guided call on a doubled batch
    counting as two, so that "guidance off" is visibly half the work.
    """

    codes: Codes | None = None
    images: Tensor | None = None
    outer_steps: int = 0
    forwards: int = 0


@runtime_checkable
class Generator(Protocol):
    @property
    def card(self) -> Card: ...

    @property
    def tokenizer(self) -> Tokenizer | None: ...

    @classmethod
    def load(cls, card: Card, spec: LoadSpec, tokenizer: Tokenizer | None) -> Self: ...

    def prepare(self, batch: int, sampling: Sampling) -> None:
        """One-off work for this batch size and sampling (cache allocation, compilation), outside of any timing."""
        ...

    def sample(self, request: Request, sampling: Sampling, *, probe: Probe = NO_PROBE) -> Generated: ...

    def close(self) -> None: ...


@runtime_checkable
class Scores(Protocol):
    """Optional: teacher-forced scores of given codes."""

    def logits(self, request: Request, codes: Codes) -> Tensor:
        """(B, tokens, V) logits of each token given the earlier ones and the condition, unguided."""
        ...


@runtime_checkable
class Prefix(Protocol):
    """Optional: images from the first tokens or scales only."""

    def decode_prefix(self, codes: Codes, count: int) -> Tensor:
        """Images (B, 3, H, W) from the first `count` levels (pyramids) or tokens (sequences)."""
        ...


@runtime_checkable
class Codewords(Protocol):
    """Optional: what a tokenizer looks up for its ids."""

    def codewords(self) -> Tensor:
        """(V, C) float32: the vector of each id, the same at every position."""
        ...


@runtime_checkable
class Edits(Protocol):
    """Optional: new content for a part of given images: in- and outpainting, and editing by class."""

    def edit(
        self, request: Request, codes: Codes, mask: Tensor, sampling: Sampling, *, probe: Probe = NO_PROBE
    ) -> Generated:
        """Codes that are drawn where `mask` is true, under the request's condition, given the others.

        `codes` are the tokenizer's of the images to edit. `mask` (h, w) is bool on its finest grid of tokens, one for
        the whole batch, true somewhere. Tokens of that grid outside the mask come back as given.
        """
        ...


@dataclass(frozen=True, slots=True)
class Recorded:
    """Whether `sample` replays a CUDA graph, and why not where one was asked for and there is none."""

    replayed: bool
    reason: str = ""


@runtime_checkable
class Replays(Protocol):
    """Optional: `prepare` records a whole call as one CUDA graph, which `sample` replays unless it has a probe."""

    def recorded(self, batch: int, sampling: Sampling) -> Recorded:
        """How calls of this batch size and sampling are made after `prepare`."""
        ...


@runtime_checkable
class Watchable(Protocol):
    """Optional: tells on any device, a CPU too, whether a call could be recorded as one CUDA graph."""

    def reads_back(self, batch: int, sampling: Sampling) -> str:
        """What keeps such a call from being recorded, and where; "" if nothing does. Runs one call."""
        ...
