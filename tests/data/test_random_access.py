"""Sources by index: the same images, keys, labels and digest from every container, in any order of access."""

from __future__ import annotations

import gzip
import io
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from arbench.data import random_access
from arbench.data.crops import prepare
from arbench.data.indexed import ArraySource, ImageSource
from arbench.data.readers.ahead import Shard
from arbench.data.reading import Reading
from arbench.data.sources import open_images, open_source
from arbench.errors import ImageError, InputError, UnknownName, UsageError

Images = NDArray[np.uint8]
"""(N, H, W, 3)."""


def _png(pixels: Images) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def _folder(place: Path, files: list[bytes], labels: list[int]) -> str:
    for index, (data, label) in enumerate(zip(files, labels, strict=True)):
        path = place / "set" / f"{label}" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return f"folder:{place}/set"


def _zip(place: Path, files: list[bytes], labels: list[int]) -> Path:
    with zipfile.ZipFile(place / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("set/readme.txt", "no image")
        for index, (data, label) in enumerate(zip(files, labels, strict=True)):
            archive.writestr(f"set/{label}/{index}.png", data)
        archive.writestr("set/none/readme.txt", "no image")
    return place / "a.zip"


def _tar(place: Path, files: list[bytes], labels: list[int]) -> str:
    with tarfile.open(place / "a.tar", "w") as archive:
        for index, (data, label) in enumerate(zip(files, labels, strict=True)):
            _add(archive, f"{index}.png", data)
            _add(archive, f"{index}.cls", str(label).encode())
    return str(place / "a.tar")


def _tar_gz(place: Path, files: list[bytes], labels: list[int]) -> Path:
    (place / "a.tar.gz").write_bytes(gzip.compress(Path(_tar(place, files, labels)).read_bytes()))
    return place / "a.tar.gz"


def _tars(place: Path, files: list[bytes], labels: list[int]) -> str:
    half = len(files) // 2
    for number, part in enumerate((slice(0, half), slice(half, None))):
        Path(_tar(place, files[part], labels[part])).rename(place / f"part-{number}.tar")
    return f"tar:{place}/part-*.tar"


def _parquet(place: Path, files: list[bytes], labels: list[int]) -> Path:
    pyarrow.parquet.write_table(pyarrow.table({"image": files, "label": labels}), place / "a.parquet", row_group_size=3)
    return place / "a.parquet"


def _parquets(place: Path, files: list[bytes], labels: list[int]) -> list[Path]:
    half = len(files) // 2
    paths = [place / "0.parquet", place / "1.parquet"]
    for path, part in zip(paths, (slice(0, half), slice(half, None)), strict=True):
        _parquet(place, files[part], labels[part]).rename(path)
    return paths


def _npz(save: Callable[..., None]) -> Callable[[Path, list[bytes], list[int]], Path]:
    def write(place: Path, files: list[bytes], labels: list[int]) -> Path:
        save(place / "a.npz", _decoded(files), labels)
        return place / "a.npz"

    return write


def _decoded(files: list[bytes]) -> Images:
    return np.stack([np.asarray(Image.open(io.BytesIO(data))) for data in files])


class _Dataset:
    def __init__(self, files: list[bytes], labels: list[int]) -> None:
        self.files, self.labels = files, labels

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[bytes, int]:
        return self.files[index], self.labels[index]


CONTAINERS: dict[str, Callable[[Path, list[bytes], list[int]], Any]] = {
    "folder": _folder,
    "zip": _zip,
    "tar": _tar,
    "tar.gz": _tar_gz,
    "tars": _tars,
    "parquet": _parquet,
    "parquets": _parquets,
    "npz": _npz(np.savez),
    "npz deflated": _npz(np.savez_compressed),
    "Dataset": lambda place, files, labels: _Dataset(files, labels),
}
N = 11
LABELS = [0, 0, 0, 3, 3, 3, 3, 7, 7, 10, 10]
"""In the order in which folders with these names come."""
IMAGES: Images = np.random.default_rng(0).integers(0, 256, (N, 5, 7, 3), dtype=np.uint8)
FILES = [_png(pixels) for pixels in IMAGES]
PLANES = np.ascontiguousarray(IMAGES.transpose(0, 3, 1, 2))


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ImageSource]:
    return {
        name: open_source(write(tmp_path_factory.mktemp("set"), FILES, LABELS)) for name, write in CONTAINERS.items()
    }


@pytest.mark.parametrize("kind", CONTAINERS)
def test_images_labels_and_keys_are_those_of_the_stream(tmp_path: Path, kind: str) -> None:
    path = CONTAINERS[kind](tmp_path, FILES, LABELS)
    source, pictures = open_source(path), list(open_images(path))
    assert len(source) == len(pictures) == N
    assert source.resolution == (5, 7)
    assert source.labels is not None
    assert source.labels.dtype == np.int64
    assert source.labels.tolist() == [picture.label for picture in pictures] == LABELS
    assert source.keys(range(N)) == [picture.key for picture in pictures]
    np.testing.assert_array_equal(source.load(range(N)), PLANES)
    np.testing.assert_array_equal(source.load(range(N)), np.stack([picture.image for picture in pictures]))


@settings(max_examples=120, deadline=None)
@given(kind=st.sampled_from(list(CONTAINERS)), wanted=st.lists(st.lists(st.integers(-N, N - 1)), max_size=4))
def test_any_indices_in_any_order(opened: dict[str, ImageSource], kind: str, wanted: list[list[int]]) -> None:
    for indices in wanted:
        np.testing.assert_array_equal(opened[kind].load(indices), PLANES[np.array(indices, dtype=int)])
        assert opened[kind].keys(indices) == [opened[kind].keys([index])[0] for index in indices]


@pytest.mark.parametrize("kind", CONTAINERS)
def test_indices_beyond_the_end(opened: dict[str, ImageSource], kind: str) -> None:
    for index in (N, -N - 1):
        with pytest.raises(IndexError):
            opened[kind].load([0, index])
        with pytest.raises(IndexError):
            opened[kind].keys([index])


@settings(max_examples=25, deadline=None)
@given(
    labels=st.lists(st.integers(0, 12), min_size=2, max_size=6)
    .map(sorted)
    .filter(lambda labels: labels[0] != labels[-1]),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    seed=st.integers(0, 99),
)
def test_equal_images_have_equal_digests_in_every_container(
    tmp_path_factory: pytest.TempPathFactory, labels: list[int], height: int, width: int, seed: int
) -> None:
    images = np.random.default_rng(seed).integers(0, 256, (len(labels), height, width, 3), dtype=np.uint8)
    files = [_png(pixels) for pixels in images]
    planes = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    memory = ArraySource("memory", planes, np.array(labels))
    found = {
        name: open_source(write(tmp_path_factory.mktemp("set"), files, labels)).digest()
        for name, write in CONTAINERS.items()
    }
    assert found == dict.fromkeys(CONTAINERS, memory.digest())
    assert ArraySource("unlabelled", planes).digest() != memory.digest()
    assert ArraySource("other", planes ^ 1, np.array(labels)).digest() != memory.digest()


def test_npy_has_no_labels_and_the_digest_of_its_images(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", PLANES)
    source = open_source(f"npy:{tmp_path}/a.npy")
    assert source.labels is None
    assert source.digest() == ArraySource("memory", PLANES).digest()
    np.testing.assert_array_equal(source.load([9, 2]), PLANES[[9, 2]])


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "tars", "parquet", "npz deflated"])
def test_reading_goes_on_forwards_and_begins_again_only_for_an_earlier_index(
    opened: dict[str, ImageSource], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source: Any = opened[kind]
    begun: list[int] = []
    items = source._reader.items

    def counted(shard: Shard) -> Iterator[Any]:
        begun.append(shard.start)
        return items(shard)

    monkeypatch.setattr(source._reader, "items", counted)
    monkeypatch.setattr(source, "_going", None)
    for indices in ([0, 1, 2], [3, 4], [8, 6], [9]):
        source.load(indices)
    assert begun == [0]
    source.load([2, 1, 7])
    assert begun == [0, 1]
    source.load([8])
    source.load([8])
    assert begun == [0, 1, 8]


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_only_what_is_asked_for_is_decoded(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(CONTAINERS[kind](tmp_path, FILES, LABELS))
    decoded: list[int] = []
    image = random_access.ReaderSource._image

    def counted(self: random_access.ReaderSource, item: Any) -> Any:
        decoded.append(item.index)
        return image(self, item)

    monkeypatch.setattr(random_access.ReaderSource, "_image", counted)
    source.load([9, 3, 3])
    source.load([1])
    assert sorted(decoded) == [1, 3, 9]


@pytest.mark.parametrize("kind", CONTAINERS)
def test_limit_and_crop(tmp_path: Path, kind: str) -> None:
    path = CONTAINERS[kind](tmp_path, FILES, LABELS)
    source = open_source(path, Reading(limit=4, crop="adm-center-crop-v1", size=3))
    assert (len(source), source.resolution) == (4, (3, 3))
    assert source.labels is not None
    assert source.labels.tolist() == LABELS[:4]
    expected = np.stack([prepare(image, "adm-center-crop-v1", 3) for image in PLANES[:4]])
    np.testing.assert_array_equal(source.load(range(4)), expected)
    with pytest.raises(IndexError):
        source.load([4])
    assert source.digest() == ArraySource("memory", expected, np.array(LABELS[:4])).digest()
    assert len(open_source(path, Reading(limit=99))) == N
    with pytest.raises(InputError, match="needs a size"):
        open_source(path, Reading(crop="adm-center-crop-v1"))
    with pytest.raises(UnknownName):
        open_source(path, Reading(crop="adm-centre-crop", size=3))
    with pytest.raises(ImageError, match="no images"):
        open_source(path, Reading(limit=0))


@pytest.mark.parametrize("kind", [kind for kind in CONTAINERS if "npz" not in kind])
def test_mixed_sizes_are_listed_and_a_crop_makes_them_one(tmp_path: Path, kind: str) -> None:
    odd = np.random.default_rng(1).integers(0, 256, (9, 6, 3), dtype=np.uint8)
    path = CONTAINERS[kind](tmp_path, [*FILES[:-1], _png(odd)], LABELS)
    with pytest.raises(ImageError, match="differ in size") as caught:
        open_source(path).digest()  # at opening, but for a parquet, whose headers would take reading it whole
    assert caught.value.why == "7 x 5 (10 images), 6 x 9 (1 image)"
    assert "crop" in caught.value.hint
    assert "size" in caught.value.hint
    source = open_source(path, Reading(crop="adm-center-crop-v1", size=4))
    np.testing.assert_array_equal(
        source.load([-1])[0], prepare(np.ascontiguousarray(odd.transpose(2, 0, 1)), "adm-center-crop-v1", 4)
    )


@pytest.mark.parametrize("kind", [kind for kind in CONTAINERS if "npz" not in kind])
def test_mixed_sizes_have_a_digest_where_they_may_differ(tmp_path: Path, kind: str) -> None:
    odd = _png(np.random.default_rng(1).integers(0, 256, (9, 6, 3), dtype=np.uint8))
    places = {name: tmp_path / name for name in ("mixed", "folder", "moved", "plain")}
    for place in places.values():
        place.mkdir()
    source = open_source(CONTAINERS[kind](places["mixed"], [*FILES[:-1], odd], LABELS), mixed=True)
    assert len(source) == N
    digest = source.digest()
    with pytest.raises(ImageError, match="differ in size"):
        source.resolution  # noqa: B018
    with pytest.raises(ImageError, match="differ in size"):
        source.load([0])
    assert digest == open_source(_folder(places["folder"], [*FILES[:-1], odd], LABELS), mixed=True).digest()
    moved = CONTAINERS[kind](places["moved"], [*FILES[1:-1], FILES[0], odd], LABELS)
    assert digest != open_source(moved, mixed=True).digest()
    plain = CONTAINERS[kind](places["plain"], FILES, LABELS)
    assert open_source(plain, mixed=True).digest() == open_source(plain).digest()


@pytest.fixture(scope="module")
def cut() -> list[bytes]:
    """Images of which 1 and 4 are cut short behind a whole header."""
    noise = np.random.default_rng(0).integers(0, 256, (N, 64, 64, 3), dtype=np.uint8)
    return [_png(pixels)[: 9000 if index in (1, 4) else None] for index, pixels in enumerate(noise)]


@pytest.mark.parametrize("kind", [kind for kind in CONTAINERS if "npz" not in kind and kind != "Dataset"])
@pytest.mark.parametrize("crop", [Reading(), Reading(crop="adm-center-crop-v1", size=4)], ids=["whole", "cropped"])
def test_broken_images_are_named_and_counted(tmp_path: Path, cut: list[bytes], kind: str, crop: Reading) -> None:
    source = open_source(CONTAINERS[kind](tmp_path, cut, LABELS), crop)
    assert len(source.load([0, 2, 3])) == 3
    with pytest.raises(ImageError, match="1 of 3 images") as one:
        source.load([0, 1, 2])
    assert one.value.why.startswith(source.keys([1])[0] + ": ")
    assert len(source.load([0, 2])) == 2
    with pytest.raises(ImageError, match="2 of 11 images") as caught:
        source.digest()
    assert all(f"{key}: " in caught.value.why for key in source.keys([1, 4]))
    assert caught.value.hint == "repair or remove them"


def test_broken_items_of_a_dataset_are_found_at_opening(cut: list[bytes]) -> None:
    with pytest.raises(ImageError, match="2 of 11 images"):
        open_source(_Dataset(cut, LABELS))


@pytest.mark.parametrize("kind", ["zip", "tar", "tars", "parquet", "folder"])
def test_files_that_are_no_images_are_found(tmp_path: Path, kind: str) -> None:
    files = [b"no image" if index else FILES[0] for index in range(N)]
    with pytest.raises(ImageError, match="10 of 11 images") as caught:
        open_source(CONTAINERS[kind](tmp_path, files, LABELS)).digest()
    assert "and 5 more" in caught.value.why


def test_a_damaged_tar_is_found_at_opening(tmp_path: Path) -> None:
    path = Path(_tar(tmp_path, FILES, LABELS))
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(ImageError, match=r"a\.tar is damaged") as caught:
        open_source(path)
    assert caught.value.hint


def test_a_folder_that_changes_meanwhile(tmp_path: Path) -> None:
    source = open_source(_folder(tmp_path, FILES, LABELS))
    (tmp_path / "set" / "0" / "1.png").write_bytes(_png(np.zeros((9, 9, 3), dtype=np.uint8)))
    (tmp_path / "set" / "0" / "2.png").unlink()
    with pytest.raises(ImageError, match="1 of 1 image"):
        source.load([2])
    with pytest.raises(ImageError, match="cannot be read"):
        source.load([1])
    (tmp_path / "set" / "0" / "2.png").write_bytes(FILES[2])
    with pytest.raises(ImageError, match="differ in size"):
        source.load([1])
    np.testing.assert_array_equal(source.load([0, 2]), PLANES[[0, 2]])


def test_a_column_is_chosen_by_the_reading(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"mask": FILES[::-1], "photo": FILES}), tmp_path / "a.parquet")
    with pytest.raises(ImageError, match="which column"):
        open_source(tmp_path / "a.parquet")
    source = open_source(tmp_path / "a.parquet", Reading(column="photo"))
    np.testing.assert_array_equal(source.load([2]), PLANES[[2]])


@pytest.mark.parametrize("make", [lambda: iter(PLANES), lambda: (image for image in PLANES)])
def test_what_cannot_be_indexed_is_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(InputError, match="cannot be read by index") as caught:
        open_source(make())
    assert "__getitem__" in caught.value.hint


def test_bad_images_cannot_be_left_out(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be left out"):
        open_source(_folder(tmp_path, FILES, LABELS), Reading(on_bad="skip"))


def test_sources_are_sources() -> None:
    memory = ArraySource("memory", PLANES, np.array(LABELS), {0: "zero"})
    assert open_source(memory) is memory
    assert memory.keys([2, -1]) == ["2", "10"]
    part = open_source(memory, Reading(limit=3))
    assert (part.name, len(part), part.classes) == ("memory", 3, {0: "zero"})
    everything = open_source("mnist5k/all")
    assert len(everything) == 5000
    heldout = open_source("mnist5k/heldout")
    np.testing.assert_array_equal(everything.load([4001, 0])[0], heldout.load([1])[0])


@pytest.mark.parametrize("kind", ["tar", "zip", "parquet", "folder"])
def test_memory_stays_low(tmp_path: Path, kind: str) -> None:
    files = []
    for value in range(600):
        buffer = io.BytesIO()
        Image.fromarray(np.full((96, 96, 3), value % 256, dtype=np.uint8)).save(buffer, "PNG", compress_level=0)
        files.append(buffer.getvalue())  # 17 MB, decoded or not
    path = CONTAINERS[kind](tmp_path, files, sorted(value % 3 for value in range(600)))
    tracemalloc.start()
    try:
        open_source(path).digest()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 256 * 27648 * 2 + 3e6  # two of the digest's batches of 256, and what is in flight
