"""Pictures of a cell for the report, whatever the task: rows of images of the same ids, in one npz."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from .errors import DamagedFile
from .images import grid, pack, png, unpack

Layout = Literal["sheet", "rows"]
"""sheet: the images of each model side by side; rows: one column for each image, one row for each kind of picture."""


@dataclass(frozen=True, slots=True)
class Gallery:
    """images: uint8 (rows, k, 3, H, W). ids: (k,). labels: (rows, k), -1 where there is none.

    names: of the rows; "" stands for the model's own name. shared: whether a row is the same for every model (the
    originals). Galleries of one `title`, `layout` and `prompts` are shown together. `lead` explains them in a sentence.
    prompts: what the images of each id were drawn from, (k,) texts, empty where that is not text.
    """

    title: str
    layout: Layout
    lead: str
    ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    names: tuple[str, ...]
    shared: tuple[bool, ...]
    images: NDArray[np.uint8]
    prompts: tuple[str, ...] = ()

    def pack(self) -> bytes:
        return pack(
            {
                "title": np.array(self.title),
                "layout": np.array(self.layout),
                "lead": np.array(self.lead),
                "ids": self.ids,
                "labels": self.labels,
                "names": np.array(self.names),
                "shared": np.array(self.shared, dtype=np.bool_),
                "images": self.images,
            }
            | ({"prompts": np.array(self.prompts)} if self.prompts else {})
        )

    def sheet(self, columns: int = 10) -> bytes:
        """All of it as one PNG: a grid, or with the layout "rows" one line for each row."""
        rows, count = self.images.shape[:2]
        flat = self.images.reshape(rows * count, *self.images.shape[2:])
        return png(grid(flat, count if self.layout == "rows" else min(columns, count)))

    @classmethod
    def read(cls, path: Path) -> Self:
        """The gallery in a file. Raises `DamagedFile` for one that is damaged or holds something else."""
        try:
            arrays = unpack(path.read_bytes())
            images, names = arrays["images"], tuple(str(name) for name in arrays["names"])
            shape = (len(names), len(arrays["ids"]), 3)
            if images.dtype != np.uint8 or images.ndim != 5 or images.shape[:3] != shape:
                raise ValueError(f"images: uint8 {(*shape, 'H', 'W')} expected, {images.dtype} {images.shape} found")
            if arrays["labels"].shape != shape[:2] or arrays["shared"].shape != shape[:1]:
                raise ValueError(f"labels {arrays['labels'].shape}, shared {arrays['shared'].shape} for {shape[:2]}")
            prompts = tuple(str(prompt) for prompt in arrays.get("prompts", ()))
            if prompts and len(prompts) != len(arrays["ids"]):
                raise ValueError(f"{len(prompts)} prompts of {len(arrays['ids'])} images")
            layout = str(arrays["layout"])
            if layout not in ("sheet", "rows"):
                raise ValueError(f"layout {layout!r}")
            return cls(
                title=str(arrays["title"]),
                layout=layout,  # type: ignore[arg-type]
                lead=str(arrays["lead"]),
                ids=arrays["ids"].astype(np.int64),
                labels=arrays["labels"].astype(np.int64),
                names=names,
                shared=tuple(bool(value) for value in arrays["shared"]),
                images=images,  # type: ignore[arg-type]
                prompts=prompts,
            )
        # a flipped bit can also make zipfile ask for a password, or for another version of itself: RuntimeError
        except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
            raise DamagedFile(
                f"cannot use the pictures in {path}",
                f"{type(error).__name__}: {error}",
                "arbench resume DIR writes them again",
            ) from error
