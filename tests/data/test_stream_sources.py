"""The same images from every kind of source: identical pixels, order and labels, sharded or not."""

from __future__ import annotations

import gzip
import io
import os
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
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from arbench.data.readers.mnist import mnist5k
from arbench.data.reading import fingerprint, name_of
from arbench.data.sources import open_stream
from arbench.data.stream import Picture
from arbench.errors import ImageError, InputError, UnknownName

N = 13
IMAGES = np.random.default_rng(0).integers(0, 256, (N, 9, 11, 3), dtype=np.uint8)  # (N, H, W, 3)
LABELS = [index // 5 for index in range(N)]
NAMES = [f"class{LABELS[index]}/{index}.png" for index in range(N)]


def _png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _save_raw(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "BMP")
    return buffer.getvalue()


FILES = [_png(pixels) for pixels in IMAGES]


def _folder(place: Path) -> Path:
    for name, data in zip(NAMES, FILES, strict=True):
        (place / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (place / "set" / name).write_bytes(data)
    return place / "set"


def _npz(place: Path) -> Path:
    np.savez(place / "a.npz", IMAGES, LABELS)
    return place / "a.npz"


def _npz_deflated(place: Path) -> Path:
    np.savez_compressed(place / "a.npz", IMAGES, LABELS)
    return place / "a.npz"


def _zip(place: Path) -> Path:
    with zipfile.ZipFile(place / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in list(zip(NAMES, FILES, strict=True))[::-1]:  # their order in the archive does not matter
            archive.writestr(f"photos/{name}", data)
        archive.writestr("photos/readme.txt", "no image")
        archive.writestr("__MACOSX/photos/class0/._0.png", "no image")
    return place / "a.zip"


def _tar_bytes(indices: range) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for index in indices:
            for suffix, data in (("png", FILES[index]), ("cls", str(LABELS[index]).encode()), ("json", b"{}")):
                info = tarfile.TarInfo(f"{index:06d}.{suffix}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _tar(place: Path) -> Path:
    (place / "a.tar").write_bytes(_tar_bytes(range(N)))
    return place / "a.tar"


def _tar_gz(place: Path) -> Path:
    (place / "a.tar.gz").write_bytes(gzip.compress(_tar_bytes(range(N))))
    return place / "a.tar.gz"


def _shards(place: Path) -> str:
    for number, indices in enumerate((range(4), range(4, 9), range(9, N))):
        (place / f"part-{number}.tar").write_bytes(_tar_bytes(indices))
    return f"{place}/part-*.tar"


def _shard_list(place: Path) -> str:
    _shards(place)
    return "tar:" + ",".join(f"{place}/part-{number}.tar" for number in range(3))


def _shard_folder(place: Path) -> Path:
    _shards(place)
    return place


def _parquet(place: Path) -> Path:
    table = pyarrow.table(
        {
            "id": list(range(N)),
            "image": [{"bytes": data, "path": f"{i}.png"} for i, data in enumerate(FILES)],
            "label": LABELS,
        }
    )
    pyarrow.parquet.write_table(table, place / "a.parquet", row_group_size=4)
    return place / "a.parquet"


def _parquet_bytes(place: Path) -> list[Path]:
    for number, part in enumerate((slice(0, 6), slice(6, N))):
        table = pyarrow.table({"picture": FILES[part], "cls": pyarrow.array(LABELS[part], pyarrow.int8())})
        pyarrow.parquet.write_table(table, place / f"{number}.parquet", row_group_size=3)
    return [place / "0.parquet", place / "1.parquet"]


def _parquet_names(place: Path) -> list[str]:
    return [str(path) for path in _parquet_bytes(place)]


class _Digits(torch.utils.data.Dataset[Any]):
    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.asked: list[int] = []

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> Any:
        self.asked.append(index)
        if self.kind == "tensor":
            return torch.from_numpy(IMAGES[index].transpose(2, 0, 1).copy()), torch.tensor(LABELS[index])
        if self.kind == "array":
            return IMAGES[index], LABELS[index]
        if self.kind == "dict":
            return {"img": FILES[index], "label": np.int64(LABELS[index])}
        return Image.fromarray(IMAGES[index]), LABELS[index], "a caption"


def _iterator(_: Path) -> Iterator[Any]:
    return ((image, label) for image, label in zip(IMAGES, LABELS, strict=True))


def _loader(_: Path) -> Any:
    return torch.utils.data.DataLoader(_Digits("tensor"), batch_size=4)


class _Endless(torch.utils.data.IterableDataset[Any]):
    def __len__(self) -> int:
        return N

    def __iter__(self) -> Iterator[Any]:
        return _iterator(Path())


SOURCES: dict[str, Callable[[Path], Any]] = {
    "folder": _folder,
    "npz": _npz,
    "npz deflated": _npz_deflated,
    "zip": _zip,
    "tar": _tar,
    "tar.gz": _tar_gz,
    "tars by glob": _shards,
    "tars listed": _shard_list,
    "folder of tars": _shard_folder,
    "parquet": _parquet,
    "parquets": _parquet_bytes,
    "parquets by name": _parquet_names,
    "tensors": lambda _: _Digits("tensor"),
    "arrays": lambda _: _Digits("array"),
    "Pillow": lambda _: _Digits("pillow"),
    "dicts": lambda _: _Digits("dict"),
    "iterator": _iterator,
    "IterableDataset": lambda _: _Endless(),
    "DataLoader": _loader,
}


def _check(pictures: list[Picture], indices: list[int], labels: bool = True) -> None:
    assert [picture.index for picture in pictures] == indices
    for picture in pictures:
        np.testing.assert_array_equal(picture.image, IMAGES[picture.index].transpose(2, 0, 1))
        assert picture.image.dtype == np.uint8
        assert picture.label == (LABELS[picture.index] if labels else None)


@pytest.mark.parametrize("kind", SOURCES)
def test_pixels_order_and_labels_are_the_same_from_every_source(tmp_path: Path, kind: str) -> None:
    stream = open_stream(SOURCES[kind](tmp_path), workers=2)
    _check(list(stream), list(range(N)))
    assert (stream.tally.read, stream.tally.skipped, stream.tally.converted) == (N, {}, {})
    assert stream.count in (N, None)
    assert (stream.count is None) == (kind in {"iterator", "DataLoader", "IterableDataset"} or "tar" in kind)
    if kind == "iterator":
        with pytest.raises(ImageError, match="read already"):
            list(stream)
    else:
        _check(list(stream), list(range(N)))
        assert stream.tally.read == N


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_npy(tmp_path: Path, layout: str) -> None:
    np.save(tmp_path / "a.npy", IMAGES if layout == "NHWC" else np.ascontiguousarray(IMAGES.transpose(0, 3, 1, 2)))
    _check(list(open_stream(tmp_path / "a.npy")), list(range(N)), labels=False)
    assert open_stream(f"npy:{tmp_path}/a.npy", shard=(1, 3), limit=8).count == 3


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([k for k in SOURCES if k != "DataLoader"]), st.integers(1, 16), st.none() | st.integers(0, 20))
def test_shards_add_up_to_the_whole(
    tmp_path_factory: pytest.TempPathFactory, kind: str, of: int, limit: int | None
) -> None:
    make = SOURCES[kind]
    place = tmp_path_factory.mktemp("shards")
    wanted = list(range(min(N, N if limit is None else limit)))
    found: list[Picture] = []
    for shard in range(of):
        stream = open_stream(make(place), shard=(shard, of), limit=limit, workers=1)
        pictures = list(stream)
        _check(pictures, wanted[shard::of])
        assert stream.count in (len(pictures), None)
        found += pictures
    _check(sorted(found, key=lambda picture: picture.index), wanted)


def test_a_shard_asks_a_dataset_only_for_its_own() -> None:
    data = _Digits("array")
    list(open_stream(data, shard=(2, 5)))
    assert data.asked == [2, 7, 12]


def test_a_limit_takes_no_more_from_an_iterator() -> None:
    taken: list[int] = []

    def images() -> Iterator[NDArray[np.uint8]]:
        for index in range(N):
            taken.append(index)
            yield IMAGES[index]

    assert len(list(open_stream(images(), limit=3))) == 3
    assert taken == [0, 1, 2]


@pytest.mark.parametrize("shard", [(0, 0), (3, 3), (-1, 2)])
def test_impossible_shards(shard: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="shard"):
        open_stream(_Digits("array"), shard=shard)


def test_classes_and_imagenet(tmp_path: Path) -> None:
    assert open_stream(_folder(tmp_path)).classes == {0: "class0", 1: "class1", 2: "class2"}
    for seed, wnid in enumerate(("n02084071", "n01440764")):
        (tmp_path / "imagenet" / wnid).mkdir(parents=True)
        for index in range(2):
            (tmp_path / "imagenet" / wnid / f"{wnid}_{index}.JPEG").write_bytes(FILES[seed])
    stream = open_stream(f"imagenet:{tmp_path}/imagenet")
    assert stream.classes == {0: "n01440764", 1: "n02084071"}
    assert [(picture.key, picture.label) for picture in stream] == [
        ("n01440764/n01440764_0.JPEG", 0),
        ("n01440764/n01440764_1.JPEG", 0),
        ("n02084071/n02084071_0.JPEG", 1),
        ("n02084071/n02084071_1.JPEG", 1),
    ]
    with pytest.raises(ImageError, match="layout of ImageNet"):
        open_stream(f"imagenet:{tmp_path}/set")


def test_images_beside_sub_folders_have_no_labels(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    (folder / "stray.PNG").write_bytes(FILES[0])
    pictures = list(open_stream(folder))
    assert len(pictures) == N + 1
    assert {picture.label for picture in pictures} == {None}


def test_mixed_sizes_are_kept(tmp_path: Path) -> None:
    for index, (height, width) in enumerate([(3, 5), (700, 2), (3, 5)]):
        (tmp_path / f"{index}.png").write_bytes(_png(np.zeros((height, width, 3), dtype=np.uint8)))
    assert [picture.image.shape for picture in open_stream(tmp_path)] == [(3, 3, 5), (3, 700, 2), (3, 3, 5)]


def test_mnist_by_name() -> None:
    heldout = mnist5k("heldout")
    pictures = list(open_stream("mnist5k/heldout", limit=20))
    np.testing.assert_array_equal(np.stack([picture.image for picture in pictures]), heldout.load(range(20)))
    assert [picture.label for picture in pictures] == [i % 10 for i in range(20)]
    assert open_stream("mnist5k/all").count == 5000
    last = list(open_stream("mnist5k/all", shard=(4999, 5000)))
    np.testing.assert_array_equal(last[0].image, heldout.load([999])[0])
    with pytest.raises(UnknownName):
        open_stream("mnist5k/test")
    assert open_stream(heldout).count == 1000


def test_a_column_is_chosen_by_name(tmp_path: Path) -> None:
    table = pyarrow.table({"mask": FILES[::-1], "photo": FILES, "label": pyarrow.array([-1, None] + [3] * (N - 2))})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(ImageError, match="which column") as caught:
        open_stream(tmp_path / "a.parquet")
    assert "mask, photo" in caught.value.why
    pictures = list(open_stream(tmp_path / "a.parquet", key="photo"))
    np.testing.assert_array_equal(pictures[4].image, IMAGES[4].transpose(2, 0, 1))
    assert [picture.label for picture in pictures] == [None, None] + [3] * (N - 2)
    with pytest.raises(ImageError, match="no image column 'label'"):
        open_stream(tmp_path / "a.parquet", key="label")
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a"]}), tmp_path / "b.parquet")
    with pytest.raises(ImageError, match="has no image column"):
        open_stream(tmp_path / "b.parquet")


def test_the_image_of_a_sample_is_chosen_by_suffix(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, data in (("0.jpg", FILES[0]), ("0.seg.png", FILES[1]), ("1.jpg", FILES[2]), ("1.seg.png", FILES[3])):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    with pytest.raises(ImageError, match="two images"):
        list(open_stream(tmp_path / "a.tar"))
    for key, places in (("jpg", (0, 2)), (".seg.png", (1, 3))):
        found = [picture.image for picture in open_stream(tmp_path / "a.tar", key=key)]
        np.testing.assert_array_equal(np.stack(found), IMAGES[list(places)].transpose(0, 3, 1, 2))
    with pytest.raises(ImageError, match=r"no \.webp images"):
        list(open_stream(tmp_path / "a.tar", key="webp"))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("shard", [(0, 1), (0, 2)])
def test_an_npz_is_not_loaded_whole(tmp_path: Path, save: Callable[..., None], shard: tuple[int, int]) -> None:
    save(tmp_path / "a.npz", np.zeros((3000, 64, 64, 3), dtype=np.uint8))  # 37 MB
    tracemalloc.start()
    try:
        count = sum(1 for _ in open_stream(tmp_path / "a.npz", shard=shard, workers=2))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 3000 // shard[1]
    assert peak < 8e6  # 128 pictures in flight, each of 12 kB and read from 12 kB, are 3 MB


def test_a_row_group_is_not_loaded_whole(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0)
    files = [_save_raw(pixels.integers(0, 256, (64, 64, 3), dtype=np.uint8)) for _ in range(2000)]  # 25 MB
    table = pyarrow.table({"image": files})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet", row_group_size=2000, write_batch_size=32)
    before, peak = pyarrow.total_allocated_bytes(), 0
    for _ in open_stream(tmp_path / "a.parquet", workers=1):
        peak = max(peak, pyarrow.total_allocated_bytes() - before)
    assert 0 < peak < 8e6


@pytest.mark.parametrize(("side", "ahead"), [(4, 128), (2000, 45)])  # until they take 2**29 bytes: 45 of 12 MB
def test_decoding_runs_ahead_but_not_away(side: int, ahead: int) -> None:
    made: list[int] = []
    image = np.zeros((side, side, 3), dtype=np.uint8)

    def images() -> Iterator[NDArray[np.uint8]]:
        for index in range(1000):
            made.append(index)
            yield image

    stream = iter(open_stream(images(), workers=2))
    for taken in range(1, 4):
        next(stream)
        assert len(made) == ahead + taken


def test_errors_of_a_generator_come_after_its_images() -> None:
    def images() -> Iterator[NDArray[np.uint8]]:
        yield from IMAGES[:5]
        raise KeyError("the model broke")

    seen: list[Picture] = []
    with pytest.raises(KeyError, match="the model broke"):
        seen.extend(open_stream(images()))
    _check(seen, list(range(5)), labels=False)


@pytest.mark.parametrize("image", [torch.rand(3, 8, 8), np.zeros((8, 8, 3)), torch.rand(2, 3, 8, 8)])
def test_floats_are_refused_with_how_to_quantise(image: Any) -> None:
    with pytest.raises(ImageError, match="float") as caught:
        list(open_stream(iter([image]), on_bad="skip"))
    assert "arbench.images.to_uint8" in caught.value.hint


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (np.zeros((8, 8), dtype=np.int64), "int64"),
        (np.zeros((5, 8, 8), dtype=np.uint8), "shape"),
        (np.zeros((0, 8, 3), dtype=np.uint8), "shape"),
        ("a.png", "str"),
        ({"photo": 1}, "no image by a known name"),
        ((), "is empty"),
        ([IMAGES[0], IMAGES[1]], "list of images"),
    ],
)
def test_items_that_are_no_images(item: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        list(open_stream(iter([item]), on_bad="skip"))


def test_things_that_are_no_sources(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "one.png").write_bytes(FILES[0])
    (tmp_path / "empty").mkdir()
    for source, message in (
        (tmp_path / "absent", "no file or folder"),
        (tmp_path / "notes.txt", "is text, not images"),
        (tmp_path / "one.png", "is one image"),
        (tmp_path / "empty", "no images in"),
        (f"{tmp_path}/no-*.tar", "no file matches"),
        (f"tar:{tmp_path}/no.tar", "no file at"),
        (f"parquet:{tmp_path}/no.parquet", "no file at"),
        (f"zip:{tmp_path}/no.zip", "is not a zip"),
        (f"npy:{tmp_path}/no.npy", "no file at"),
        ("folder:", "no path"),
        (3, "not a source of images"),
        ([], "is empty"),
    ):
        with pytest.raises(InputError, match=message):
            open_stream(source)
    with pytest.raises(UnknownName):
        open_stream(f"hdf5:{tmp_path}")
    with pytest.raises(ImageError, match="gave no images"):
        list(open_stream(iter([])))


def test_names_that_are_not_utf8_are_read_and_shown_as_text(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / "a.png")
    os.rename(folder / "a.png", os.fsencode(folder) + b"/caf\xe9.png")  # noqa: PTH104
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(folder / name, name)
    for source in (str(folder), str(tmp_path / "a.tar")):
        (picture,) = open_stream(source)
        assert picture.key == "caf\\xe9.png"
        assert name_of(source).encode()
        assert fingerprint(source)
