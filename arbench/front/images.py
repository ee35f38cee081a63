"""Images in memory, with their classes and who made them: a contact sheet in a notebook, and samples to score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..data.indexed import ArraySource
from ..errors import UsageError
from ..gallery import Gallery
from ..images import digests

if TYPE_CHECKING:
    import pandas

SHOWN = 40
"""Images of a contact sheet."""
SHEET_BYTES = 500_000
"""Pictures in a notebook; what a notebook's file keeps of them is a third more."""


@dataclass(frozen=True, eq=False)
class Images:
    """What a model has made. `arbench.score` takes it as it is.

    array: uint8 (n, 3, H, W). labels: (n,) the class of each image, or None. name: of the model. origin: fields of a
    result that say who made the images and under which settings; empty where nobody knows.
    """

    array: NDArray[np.uint8]
    labels: NDArray[np.int64] | None = None
    name: str = "images"
    origin: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.array)

    def __repr__(self) -> str:
        height, width = self.array.shape[2:]
        return f"{len(self)} images of {height} x {width} from {self.name}"

    def _repr_png_(self) -> bytes:
        return self._gallery().sheet()

    def _repr_html_(self) -> str:
        from ..report.pictures import together

        shown = together([(self.name, self._gallery())], SHEET_BYTES)
        count = 0 if shown is None else shown.shown
        more = f", the first {count}" if count < len(self) else ""
        lead = f"<p>{escape(repr(self))}{more}</p>"
        if shown is None:
            return lead
        cells = "".join(
            f'<img src="{sample.uri}" title="{sample.id}{f": class {sample.label}" if sample.label >= 0 else ""}"'
            ' style="width: 100%; margin: 0; image-rendering: pixelated">'
            for sample in shown.strips[0].samples
        )
        side = max(48, min(shown.strips[0].side, 128))
        grid = f"display: grid; gap: 2px; grid-template-columns: repeat({shown.columns}, {side}px)"
        return f'{lead}<div style="{grid}">{cells}</div>'

    def frame(self) -> pandas.DataFrame:
        """One row per image: its sample id, class (missing where there is none) and digest of its pixels."""
        import pandas

        labels = pandas.array([None] * len(self) if self.labels is None else self.labels.tolist(), dtype="Int64")
        return pandas.DataFrame(
            {"sample_id": np.arange(len(self)), "label": labels, "digest": digests(self.array)},
        )

    def save(self, folder: str | Path) -> Path:
        """Writes PNG files named by sample id into a new or empty folder, as `arbench export --images` does."""
        from PIL import Image

        place = Path(folder)
        if place.exists() and (not place.is_dir() or any(place.iterdir())):
            raise UsageError(f"{place} is not empty", "images go to a folder of their own", "name another folder")
        place.mkdir(parents=True, exist_ok=True)
        for index, image in enumerate(self.array):
            Image.fromarray(image.transpose(1, 2, 0)).save(place / f"{index:06d}.png")
        return place

    def source(self) -> ArraySource:
        """For the readers."""
        return ArraySource(self.name, self.array, self.labels)

    def _gallery(self) -> Gallery:
        first = self.array[:SHOWN]
        labels = np.full(len(first), -1) if self.labels is None else self.labels[:SHOWN]
        return Gallery("", "sheet", "", np.arange(len(first)), labels[None], ("",), (False,), first[None])
