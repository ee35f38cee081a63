"""A card from a folder with `encode.pt`, `decode.pt` (TorchScript) or `.pt2` (`torch.export`) and `tokenizer.json`.

The JSON file says what cannot be seen of the networks: {"resolution": 256, "pixels": [-1, 1], "vocabulary": 1024,
"multiple": 16}. `pixels` is the range of their pixels, `vocabulary` goes with an encoder that gives ids, `multiple`
with networks that take all sides that it divides.
"""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from arbench.errors import InputError
from arbench.protocols import Card, Checkpoint, TokenSpec

DESCRIPTION = "tokenizer.json"


class Description(BaseModel):
    """What `tokenizer.json` says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    resolution: int = Field(ge=1)
    pixels: tuple[float, float]
    vocabulary: int | None = Field(default=None, ge=2)
    multiple: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if self.pixels[0] >= self.pixels[1]:
            raise ValueError("pixels are [least, most]")
        if self.multiple is not None and self.resolution % self.multiple:
            raise ValueError("resolution is a multiple of `multiple`")
        return self


def card(name: str) -> Card:
    """The card of `torch:NAME`. Raises InputError for a folder that is not such a pair."""
    folder = Path(name).absolute()
    files = [part_of(folder, "encode"), part_of(folder, "decode"), folder / DESCRIPTION]
    states = tuple((each.stat().st_size, each.stat().st_mtime_ns, each.stat().st_ctime_ns) for each in files)
    return _card(name, folder, states)


def part_of(folder: Path, part: Literal["encode", "decode"]) -> Path:
    """The file of a network. Raises InputError unless there is one and a description beside it."""
    found = [folder / f"{part}{suffix}" for suffix in (".pt", ".pt2") if (folder / f"{part}{suffix}").is_file()]
    if len(found) != 1 or not (folder / DESCRIPTION).is_file():
        raise InputError(
            f"{folder} is not a pair of exported networks",
            f"it needs one of {part}.pt and {part}.pt2, and {DESCRIPTION}",
            "see `torch:FOLDER` in docs/audit.md",
        )
    return found[0]


def described(folder: Path) -> Description:
    """What a folder says of its networks. Raises InputError, with the field."""
    try:
        return Description.model_validate_json((folder / DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, ValidationError, UnicodeDecodeError) as error:
        why = str(error).replace("\n", " ")[:300]
        hint = '{"resolution": 256, "pixels": [-1, 1]}, with "vocabulary" for ids'
        raise InputError(f"cannot use {folder / DESCRIPTION}", why, hint) from None


@functools.lru_cache(maxsize=16)
def _card(name: str, folder: Path, states: tuple[tuple[int, int, int], ...]) -> Card:
    import torch

    from .adapter import opened

    told = described(folder)
    encode, decode = opened(folder, "encode", "cpu"), opened(folder, "decode", "cpu")
    try:
        with torch.inference_mode():
            codes = encode(torch.full((1, 3, told.resolution, told.resolution), told.pixels[0]))
    except (RuntimeError, ValueError, AssertionError) as error:
        why = str(error).strip().rpartition("\n")[2]
        raise InputError(
            f"{folder}: the encoder fails on an image of {told.resolution}", why, "export it again"
        ) from None
    config = told.model_dump(mode="json")
    return Card(
        name=f"torch:{name}",
        kind="tokenizer",
        family="tokenizers",
        implementation=f"{__package__}.adapter:ExportedPair",
        summary="a pair of exported networks",
        resolution=told.resolution,
        multiple=told.multiple,
        config=config,
        version=int(hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:8], 16),
        tokens=_tokens(codes, told, folder),
        parameters=sum(each.numel() for part in (encode, decode) for each in part.parameters()),
        code_licence="not stated in the folder",
        weights_licence="not stated in the folder",
        checkpoint=Checkpoint(file=str(folder), source="the folder that is named", folder=True),
    )


def _tokens(codes: Any, told: Description, folder: Path) -> TokenSpec:
    """Ids (1, n) or (1, h, w), or latents (1, C, h, w), as a token layout."""
    import torch

    if not isinstance(codes, torch.Tensor):
        raise InputError(f"{folder}: the encoder gives a {type(codes).__name__}", "one tensor is expected", "wrap it")
    shape = tuple(codes.shape)
    if codes.is_floating_point() and codes.ndim == 4:
        return TokenSpec(kind="continuous", layout="grid", levels=(shape[2:],), channels=shape[1])
    if codes.dtype == torch.int64 and codes.ndim in (2, 3) and told.vocabulary is not None:
        layout: Literal["grid", "sequence"] = "grid" if codes.ndim == 3 else "sequence"
        return TokenSpec(kind="discrete", layout=layout, levels=(shape[1:],), vocabulary=told.vocabulary)
    what = f"{str(codes.dtype).removeprefix('torch.')} {shape}"
    why = "latents are float (1, C, h, w), ids int64 (1, n) or (1, h, w) with `vocabulary` in tokenizer.json"
    raise InputError(f"{folder}: the encoder gives {what}", why, "wrap the encoder")
