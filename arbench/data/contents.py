"""What a set of images is: count, sizes, labels and digests of its content, to know one reference set from another."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..images import digest
from .stream import Picture

NO_LABEL = int(np.iinfo(np.int64).min)
BYTES = 16


@dataclass(frozen=True, slots=True)
class Identity:
    n: int
    sizes: Mapping[tuple[int, int], int]
    """(height, width) -> images, most common first."""
    label_counts: Mapping[int, int]
    """Label -> images, by label; empty without labels."""
    labels_sorted: bool | None
    """Whether no label is below the one before it; None if not every image has a label."""
    digest: str
    """Over the pixels of all images in the order of their indices; labels, file names and gaps do not enter."""
    unordered_digest: str
    """The same for the same images in any order."""


class IdentityTally:
    """Gathers an `Identity` picture by picture, 40 bytes each; tallies of different shards can be merged."""

    def __init__(self) -> None:
        self._index, self._label = array("q"), array("q")
        self._size = array("i")  # height, width, height, ...
        self._digest = bytearray()

    def __len__(self) -> int:
        return len(self._index)

    def update(self, picture: Picture) -> None:
        self._index.append(picture.index)
        self._label.append(NO_LABEL if picture.label is None else picture.label)
        self._size.extend(picture.image.shape[1:])
        self._digest += bytes.fromhex(picture.digest or digest(picture.image))

    def merge(self, other: IdentityTally) -> None:
        """Adds the pictures of another shard, in any order of shards."""
        self._index.extend(other._index)
        self._label.extend(other._label)
        self._size.extend(other._size)
        self._digest += other._digest

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """All of it, to keep beside the features of a shard: index (n,), label (n,), size (n, 2), digest (n, 16)."""
        return {
            "index": np.array(self._index, dtype=np.int64),
            "label": np.array(self._label, dtype=np.int64),
            "size": np.array(self._size, dtype=np.int32).reshape(-1, 2),
            "digest": np.frombuffer(bytes(self._digest), dtype=np.uint8).reshape(-1, BYTES),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> IdentityTally:
        tally = cls()
        tally._index.frombytes(np.ascontiguousarray(arrays["index"], dtype=np.int64).tobytes())
        tally._label.frombytes(np.ascontiguousarray(arrays["label"], dtype=np.int64).tobytes())
        tally._size.frombytes(np.ascontiguousarray(arrays["size"], dtype=np.int32).tobytes())
        tally._digest += np.ascontiguousarray(arrays["digest"], dtype=np.uint8).tobytes()
        return tally

    def result(self) -> Identity:
        """Raises `InputError` if two pictures have one index: the same shard was merged twice."""
        index = np.array(self._index, dtype=np.int64)
        order = np.argsort(index, kind="stable")
        ordered = index[order]
        twice = ordered[1:][ordered[1:] == ordered[:-1]]
        if len(twice):
            raise InputError(
                f"images in two shards: {len(twice)}", f"the first is image {twice[0]}", "merge each shard once"
            )
        arrays = self.arrays()
        labels = np.array(self._label, dtype=np.int64)[order]
        labelled = len(labels) > 0 and bool((labels != NO_LABEL).all())
        rows = arrays["digest"][order]
        sizes = Counter(zip(self._size[::2], self._size[1::2], strict=True))
        counts = Counter(label for label in labels.tolist() if label != NO_LABEL)
        return Identity(
            n=len(index),
            sizes=dict(sorted(sizes.items(), key=lambda entry: (-entry[1], entry[0]))),
            label_counts=dict(sorted(counts.items())),
            labels_sorted=bool((labels[1:] >= labels[:-1]).all()) if labelled else None,
            digest=_combined(rows.tobytes()),
            unordered_digest=_combined(b"".join(sorted(row.tobytes() for row in rows))),
        )


def _combined(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=BYTES).hexdigest()
