"""Any reader's pictures by index: read where they lie, decoded in threads, never all in memory."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError, InputError, UsageError, counted
from . import crops
from .indexed import checked, content_digest
from .readers.ahead import AGAIN, Damaged, IndexedReader, Item, Shard, threads
from .readers.budget import Budget
from .readers.decode import BadImage

SHOWN = 5
"""Images and sizes named in a message; the rest are counted."""


class ReaderSource:
    """The `ImageSource` of a reader, the first `limit` pictures of it, cropped to `size` by a named recipe.

    Pictures that differ in size are refused, unless `mixed`: then they have a digest, but no `resolution`, and `load`
    refuses them.

    Reading continues where the last call ended. An earlier index makes it begin again, at that index where the reader
    seeks (folder, zip, npy, uncompressed npz), else at the start of the file (tar, compressed npz) or of the row group
    (parquet).
    """

    def __init__(
        self,
        reader: IndexedReader,
        limit: int | None = None,
        crop: str = "none",
        size: int | None = None,
        mixed: bool = False,
    ) -> None:
        self._reader = reader
        self._may_differ = mixed
        self._limit = limit
        self._crop, self._size = crop, size
        if crop != "none":
            crops.find(crop)
            if size is None:
                raise InputError(f"the crop {crop} needs a size", "", "add --size 256")
            if size < 1:
                raise UsageError(f"no image has a side of {size}", "", "give the side in pixels, for instance 256")
        self._going: Iterator[Item] | None = None
        self._next = 0
        self._digest = ""
        self._keys: list[str] = []
        self.labels: NDArray[np.int64] | None = None
        sizes = self._scan()
        if not self._keys:
            raise ImageError(f"no images of {self.name} are wanted", f"the limit is {limit}", "raise the limit")
        self._sizes = Counter({(size, size): len(self)}) if crop != "none" and size else sizes or self._first_size()
        if not mixed:
            self._refuse_sizes(self._sizes)

    @property
    def mixed(self) -> bool:
        """Whether pictures differ in size, as far as it is known: of a parquet, once they were digested."""
        return len(self._sizes) > 1

    @property
    def resolution(self) -> tuple[int, int]:
        """Raises `ImageError` that tells the sizes if they differ."""
        self._refuse_sizes(self._sizes)
        return next(iter(self._sizes))

    @property
    def name(self) -> str:
        return self._reader.name

    @property
    def classes(self) -> Mapping[int, str]:
        return self._reader.classes

    def __len__(self) -> int:
        return len(self._keys)

    def keys(self, indices: Sequence[int]) -> list[str]:
        return [self._keys[index] for index in checked(indices, len(self), self.name).tolist()]

    def load(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """Raises `ImageError` that names the broken ones among them, or all sizes and counts if one has another."""
        resolution = self.resolution
        out = np.empty((len(indices), 3, *resolution), dtype=np.uint8)
        rows: dict[int, list[int]] = {}
        for row, index in enumerate(checked(indices, len(self), self.name).tolist()):
            rows.setdefault(index, []).append(row)
        broken = []
        for item, image in self._decoded(sorted(rows)):
            if isinstance(image, str):
                broken.append(f"{item.key}: {image}")
            elif image.shape[1:] != resolution:
                self._survey()
                raise self._changed()
            else:
                out[rows[item.index]] = image
        self._refuse_broken(broken, len(rows))
        return out

    def digest(self) -> str:
        """It reads every image, and if one is broken it names and counts them all."""
        if not self._digest:
            try:
                self._digest = self._mixed_digest() if self.mixed else content_digest(self)
            except ImageError:
                self._survey()
                if not self._may_differ:
                    raise
                self._digest = self._mixed_digest()
        return self._digest

    def _mixed_digest(self) -> str:
        """As `content_digest`, with the size of each picture before its pixels."""
        digest = hashlib.blake2b(repr((len(self), "sizes differ")).encode(), digest_size=16)
        broken = []
        for item, image in self._decoded(range(len(self))):
            if isinstance(image, str):
                broken.append(f"{item.key}: {image}")
            else:
                digest.update(repr(image.shape).encode())
                digest.update(np.ascontiguousarray(image).tobytes())
        self._refuse_broken(broken, len(self))
        if self.labels is not None:
            digest.update(np.ascontiguousarray(self.labels).tobytes())
        return digest.hexdigest()

    def _scan(self) -> Counter[tuple[int, int]]:
        """Keys and labels from the headers, and the sizes as far as headers tell. Refuses broken ones."""
        labels, labelled = array("q"), True
        sizes: Counter[tuple[int, int]] = Counter()
        broken = []
        try:
            for header in self._reader.headers(self._limit):
                self._keys.append(header.key)
                labelled = labelled and header.label is not None
                labels.append(header.label or 0)
                if header.bad:
                    broken.append(f"{header.key}: {header.bad}")
                elif header.size is not None:
                    sizes[header.size] += 1
        except Damaged as error:
            raise self._damaged(error) from error
        self._refuse_broken(broken, len(self._keys))
        if labelled:
            self.labels = np.array(labels, dtype=np.int64)
        return sizes

    def _first_size(self) -> Counter[tuple[int, int]]:
        """Of a file whose headers tell no sizes."""
        _, first = next(self._decoded([0]))
        if isinstance(first, str):
            self._survey()
            raise self._changed()
        return Counter({(first.shape[1], first.shape[2]): len(self)})

    def _decoded(self, indices: Sequence[int]) -> Iterator[tuple[Item, NDArray[np.uint8] | str]]:
        """Each image (3, H, W), or what is wrong with it; `indices` ascend."""
        workers = threads()
        budget = Budget()
        flying: deque[tuple[int, Item, Future[NDArray[np.uint8] | str]]] = deque()

        def landed() -> tuple[Item, NDArray[np.uint8] | str]:
            number, item, future = flying.popleft()
            return item, budget.landed(number, future)

        with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
            try:
                for number, index in enumerate(indices):
                    item = self._item(index)
                    budget.hold(number, item.held)
                    work = partial(self._image, item)
                    flying.append((number, item, pool.submit(budget.decoding, number, work, _size)))
                    while len(flying) > 2 * workers or (flying and not budget.has_room()):
                        yield landed()
                while flying:
                    yield landed()
            except Damaged as error:
                raise self._damaged(error) from error
            finally:
                budget.close()

    def _item(self, index: int) -> Item:
        if self._going is None or index < self._next or (self._reader.seeks and index > self._next):
            self._going = self._reader.items(Shard(limit=self._limit, start=index))
        try:
            for item in self._going:
                self._next = item.index + 1
                if item.index == index:
                    return item
        except Exception:
            self._going = None
            raise
        self._going = None
        raise self._changed()

    def _image(self, item: Item) -> NDArray[np.uint8] | str:
        try:
            image = item.decode().image
        except BadImage as error:
            return error.detail
        return image if self._crop == "none" or self._size is None else crops.prepare(image, self._crop, self._size)

    def _survey(self) -> None:
        """Decodes every image. Raises `ImageError` that names and counts broken ones, or sizes that may not differ."""
        sizes: Counter[tuple[int, int]] = Counter()
        broken = []
        for item, image in self._decoded(range(len(self))):
            if isinstance(image, str):
                broken.append(f"{item.key}: {image}")
            else:
                sizes[image.shape[1], image.shape[2]] += 1
        self._refuse_broken(broken, len(self))
        if not self._may_differ:
            self._refuse_sizes(sizes)
        self._sizes = sizes

    def _refuse_broken(self, messages: Sequence[str], of: int) -> None:
        if not messages:
            return
        more = f"; and {len(messages) - SHOWN} more" if len(messages) > SHOWN else ""
        raise ImageError(
            f"{len(messages)} of {counted(of, 'image')} in {self.name} cannot be read",
            "; ".join(messages[:SHOWN]) + more,
            "repair or remove them",
        )

    def _refuse_sizes(self, sizes: Counter[tuple[int, int]]) -> None:
        if len(sizes) <= 1:
            return
        most = sizes.most_common(SHOWN)
        counts = [f"{width} x {height} ({counted(count, 'image')})" for (height, width), count in most]
        more = f" and {counted(len(sizes) - SHOWN, 'more size')}" if len(sizes) > SHOWN else ""
        raise ImageError(
            f"the images in {self.name} differ in size",
            ", ".join(counts) + more,
            "set a crop and a size, for instance crop adm-center-crop-v1 and size 256 (it changes every metric)",
        )

    def _changed(self) -> ImageError:
        return ImageError(f"{self.name} has changed while it was read", "", "run again")

    def _damaged(self, error: Damaged) -> ImageError:
        return ImageError(str(error), f"asked for as {self.name!r}", AGAIN)


def _size(image: NDArray[np.uint8] | str) -> int:
    return 0 if isinstance(image, str) else image.nbytes
