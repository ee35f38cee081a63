"""Bad and unusual images: exact counts of what was left out and of how pixels became RGB; damaged archives."""

from __future__ import annotations

import gzip
import io
import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFile

from arbench.data.readers.decode import BadImage, decode
from arbench.data.sources import open_stream
from arbench.errors import ImageError, InputError

PIXELS = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
GREY = PIXELS[:, :, 0]


def _save(image: Image.Image | NDArray[Any], form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, form, **options)
    return buffer.getvalue()


def _raw_png(width: int, height: int, depth: int, colour: int, rows: bytes, *chunks: bytes) -> bytes:
    """A PNG written by hand, for what Pillow does not write."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = [_chunk(b"IHDR", header), *chunks, _chunk(b"IDAT", zlib.compress(rows)), _chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _palette(**options: Any) -> bytes:
    image = Image.fromarray(GREY % 4, mode="P")
    image.putpalette([0, 0, 0, 100, 100, 100, 200, 0, 0, 7, 7, 7])
    return _save(image, **options)


def _animation(form: str) -> bytes:
    return _save(PIXELS, form, save_all=True, append_images=[Image.fromarray(255 - PIXELS)], lossless=True)


def _rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return _save(PIXELS, "JPEG", exif=exif)


PNG = _save(PIXELS)
BROKEN = bytearray(PNG)
BROKEN[len(PNG) // 2 : len(PNG) // 2 + 64] = bytes(64)

GOOD: dict[str, tuple[bytes, list[str]]] = {
    "plain.png": (PNG, []),
    "plain.JPG": (_save(PIXELS, "JPEG"), []),
    "plain.jpeg": (_save(PIXELS, "JPEG"), []),
    "plain.webp": (_save(PIXELS, "WEBP"), []),
    "plain.bmp": (_save(PIXELS, "BMP"), []),
    "plain.tif": (_save(PIXELS, "TIFF"), []),
    "plain.ppm": (_save(PIXELS, "PPM"), []),
    "grey.pgm": (_save(GREY, "PPM"), ["grey"]),
    "one bit.pbm": (_save(Image.fromarray(GREY).convert("1"), "PPM"), ["1-bit"]),
    "named wrongly.jpg": (PNG, []),
    "grey.png": (_save(GREY), ["grey"]),
    "grey.jpg": (_save(GREY, "JPEG"), ["grey"]),
    "one bit.png": (_save(Image.fromarray(GREY).convert("1")), ["1-bit"]),
    "grey 16.png": (_save(GREY.astype(np.uint16) * 257), ["16-bit", "grey"]),
    "colour 16.png": (_raw_png(1, 1, 16, 2, b"\0" + struct.pack(">3H", 0, 25700, 65535)), ["16-bit"]),
    "alpha 16.png": (_raw_png(1, 1, 16, 6, bytes(9)), ["16-bit", "alpha over white"]),
    "alpha.png": (_save(np.dstack([PIXELS, GREY])), ["alpha over white"]),
    "alpha.webp": (_save(np.dstack([PIXELS, GREY]), "WEBP"), ["alpha over white"]),
    "grey alpha.png": (_save(np.dstack([GREY, GREY])), ["grey", "alpha over white"]),
    "clear colour.png": (_save(PIXELS, transparency=(1, 2, 3)), ["alpha over white"]),
    "palette.png": (_palette(), ["palette"]),
    "palette.gif": (_palette(form="GIF"), ["palette"]),
    "palette with clear.png": (_palette(transparency=2), ["palette with transparency"]),
    "cmyk.jpg": (_save(Image.fromarray(PIXELS).convert("CMYK"), "JPEG"), ["CMYK"]),
    "animation.gif": (_animation("GIF"), ["first frame", "palette"]),
    "animation.webp": (_animation("WEBP"), ["first frame"]),
    "animation.png": (_animation("PNG"), ["first frame"]),
    "pages.tiff": (_animation("TIFF"), ["first frame"]),
    "rotated.jpg": (_rotated(), ["EXIF rotation ignored"]),
}
BAD: dict[str, tuple[bytes, str]] = {
    "zero.png": (b"", "empty file"),
    "zero.jpg": (b"", "empty file"),
    "text.png": (b"this is no image", "not an image"),
    "page.jpg": (b"<!DOCTYPE html><html>404</html>", "not an image"),
    "script.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
    "float.png": (_save(GREY.astype(np.float32), "TIFF"), "pixels without 8-bit meaning"),
    "int32.tif": (_save(GREY.astype(np.int32), "TIFF"), "pixels without 8-bit meaning"),
    "lab.tif": (_save(Image.new("LAB", (9, 9)), "TIFF"), "pixels without 8-bit meaning"),
    "cut.png": (PNG[: len(PNG) // 2], "truncated"),
    "cut in header.png": (PNG[:20], "truncated"),
    "cut.jpg": (_save(PIXELS, "JPEG")[:-400], "truncated"),
    "cut in header.jpg": (_save(PIXELS, "JPEG")[:30], "truncated"),
    "cut.webp": (_save(PIXELS, "WEBP")[:-400], "truncated"),
    "cut.bmp": (_save(PIXELS, "BMP")[:-400], "truncated"),
    "cut.gif": (_save(PIXELS, "GIF")[:-400], "truncated"),
    "cut.ppm": (_save(PIXELS, "PPM")[:-400], "truncated"),
    "16 bits.pgm": (b"P5 2 1 65535\n" + bytes(4), "pixels without 8-bit meaning"),
    "cut.tif": (_save(PIXELS, "TIFF")[:-400], "truncated"),
    "altered.png": (bytes(BROKEN), "unreadable pixels"),
    "huge.png": (_raw_png(60000, 60000, 8, 2, b""), "too large"),
    "large.png": (_raw_png(8193, 8192, 8, 2, b""), "too large"),
}


def _counts(wanted: dict[str, int], names: list[str]) -> dict[str, int]:
    for name in names:
        wanted[name] = wanted.get(name, 0) + 1
    return wanted


CONVERTED: dict[str, int] = {}
for _, how in GOOD.values():
    _counts(CONVERTED, how)
SKIPPED = _counts({}, [reason for _, reason in BAD.values()])
ALL = {name: data for name, (data, _) in [*GOOD.items(), *BAD.items()]}


def _folder(place: Path) -> Path:
    for name, data in ALL.items():
        (place / name).write_bytes(data)
    return place


def _zip(place: Path) -> Path:
    with zipfile.ZipFile(place / "a.zip", "w") as archive:
        for name, data in ALL.items():
            archive.writestr(name, data)
    return place / "a.zip"


def _tar(place: Path) -> Path:
    with tarfile.open(place / "a.tar", "w") as archive:
        for number, (name, data) in enumerate(ALL.items()):
            info = tarfile.TarInfo(f"{number}/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return place / "a.tar"


def _parquet(place: Path) -> Path:
    pyarrow.parquet.write_table(pyarrow.table({"image": list(ALL.values())}), place / "a.parquet")
    return place / "a.parquet"


@pytest.mark.parametrize("write", [_folder, _zip, _tar, _parquet, lambda _: list(ALL.values())])
def test_every_kind_of_bad_and_unusual_image_is_counted(tmp_path: Path, write: Callable[[Path], Any]) -> None:
    stream = open_stream(write(tmp_path), on_bad="skip", workers=2)
    pictures = list(stream)
    assert len(pictures) == len(GOOD)
    assert stream.tally.read == len(GOOD)
    assert stream.tally.skipped == SKIPPED
    assert stream.tally.converted == CONVERTED
    assert len(stream.tally.examples) == 5
    assert stream.count in (len(ALL), None)
    assert all(picture.image.dtype == np.uint8 and picture.image.shape[0] == 3 for picture in pictures)
    assert sorted({picture.index for picture in pictures}) == [picture.index for picture in pictures]
    assert pictures[-1].index < len(ALL)


@pytest.mark.parametrize("name", GOOD)
def test_how_pixels_become_rgb_is_named(name: str) -> None:
    data, how = GOOD[name]
    assert list(decode(data).converted) == how


@pytest.mark.parametrize("name", BAD)
def test_why_an_image_is_bad(name: str) -> None:
    data, reason = BAD[name]
    with pytest.raises(BadImage) as caught:
        decode(data)
    assert caught.value.reason == reason


@pytest.mark.parametrize("name", BAD)
def test_an_error_names_the_image_and_the_way_on(tmp_path: Path, name: str) -> None:
    (tmp_path / "0.png").write_bytes(PNG)
    (tmp_path / name).write_bytes(BAD[name][0])
    stream = open_stream(tmp_path)
    first = iter(stream)
    if stream.count and next(first).key == "0.png":
        with pytest.raises(ImageError) as caught:
            next(first)
    assert name in caught.value.what
    assert caught.value.why.startswith(BAD[name][1])
    assert "--on-bad-image skip" in caught.value.hint


@pytest.mark.parametrize("name", [name for name in BAD if name.startswith("cut") and name != "cut.tif"])
def test_truncated_images_are_bad_even_where_pillow_was_told_to_read_them(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(BadImage, match="truncated"):
        decode(BAD[name][0])
    for data, _ in GOOD.values():
        decode(data)


def test_pixels_of_the_conversions() -> None:
    def row(data: bytes) -> list[list[int]]:
        image = decode(data).image
        return image.reshape(3, -1).T.tolist()

    for name in ("plain.png", "animation.png", "animation.webp", "pages.tiff", "named wrongly.jpg"):
        np.testing.assert_array_equal(decode(GOOD[name][0]).image, PIXELS.transpose(2, 0, 1))
    np.testing.assert_array_equal(decode(GOOD["grey 16.png"][0]).image, np.stack([GREY] * 3))
    assert row(GOOD["colour 16.png"][0]) == [[0, 100, 255]]
    assert row(GOOD["alpha 16.png"][0]) == [[255, 255, 255]]
    clear = _chunk(b"tRNS", struct.pack(">H", 300))
    assert row(_raw_png(2, 1, 16, 0, b"\0" + struct.pack(">2H", 25700, 300), clear)) == [[100] * 3, [255] * 3]
    # alpha over white: v * a / 255 + 255 - a, rounded, within one step of Pillow's integer arithmetic
    alpha = GREY.astype(float)[:, :, None]
    expected = (PIXELS * alpha / 255 + 255 - alpha).transpose(2, 0, 1)
    assert np.abs(decode(GOOD["alpha.png"][0]).image - expected).max() <= 1
    palette = np.array([[0, 0, 0], [100, 100, 100], [200, 0, 0], [7, 7, 7]])
    np.testing.assert_array_equal(decode(GOOD["palette.png"][0]).image, palette[GREY % 4].transpose(2, 0, 1))
    palette[2] = 255
    np.testing.assert_array_equal(decode(GOOD["palette with clear.png"][0]).image, palette[GREY % 4].transpose(2, 0, 1))


def test_rotation_is_ignored() -> None:
    assert decode(GOOD["rotated.jpg"][0]).image.shape == (3, 48, 64)


def test_files_that_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "0.png").write_bytes(PNG)
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "secret.png").write_bytes(PNG)
    with (tmp_path / "vast.png").open("wb") as file:
        file.truncate((1 << 28) + 1)
    read = Path.read_bytes

    def refuse(path: Path) -> bytes:  # tests may run as root, who may read everything
        if path.name == "secret.png":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    stream = open_stream(tmp_path, on_bad="skip")
    assert [picture.key for picture in stream] == ["0.png"]
    assert stream.tally.skipped == {"unreadable file": 2, "no permission": 1, "too large": 1}


def test_bad_items_of_datasets_and_null_cells(tmp_path: Path) -> None:
    class Files:
        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> Image.Image:
            return Image.open(io.BytesIO([PNG, PNG[:2000], b"no image"][index]))

    stream = open_stream(Files(), on_bad="skip")
    assert [picture.index for picture in stream] == [0]
    assert stream.tally.skipped == {"truncated": 1, "not an image": 1}
    cells = [{"bytes": PNG, "path": "a"}, {"bytes": None, "path": "b.png"}, None]
    pyarrow.parquet.write_table(pyarrow.table({"image": cells}), tmp_path / "a.parquet")
    stream = open_stream(tmp_path / "a.parquet", on_bad="skip")
    assert [picture.index for picture in stream] == [0]
    assert stream.tally.skipped == {"empty file": 2}
    assert "b.png" in stream.tally.examples[0]


def test_a_second_pass_counts_anew() -> None:
    stream = open_stream([PNG, b""], on_bad="skip")
    for _ in range(2):
        assert len(list(stream)) == 1
        assert (stream.tally.read, stream.tally.skipped) == (1, {"empty file": 1})


def test_shards_skip_by_their_place_in_the_whole() -> None:
    files = [PNG, b"", PNG, PNG, b"", PNG]
    found = [[picture.index for picture in open_stream(files, on_bad="skip", shard=(i, 2))] for i in range(2)]
    assert found == [[0, 2], [3, 5]]


SHARD = [_save(np.full((32, 32, 3), value, dtype=np.uint8), "BMP") for value in range(40)]


def _tar_of(place: Path, name: str = "a.tar") -> bytes:
    with tarfile.open(place / name, "w:gz" if name.endswith("gz") else "w") as archive:
        for index, data in enumerate(SHARD):
            info = tarfile.TarInfo(f"{index}.bmp")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return (place / name).read_bytes()


def _overwritten(data: bytes, start: int, count: int, value: int = 0xFF) -> bytes:
    return data[:start] + bytes([value]) * count + data[start + count :]


MEMBER = 512 + 3584  # header and padded data of one member of 3126 bytes


@pytest.mark.parametrize(
    ("damage", "read"),
    [
        (lambda data: data[: 10 * MEMBER + 1000], 10),  # in a member
        # below, the last sample is not given: its label may have been in what is lost
        (lambda data: data[: 10 * MEMBER + 100], 9),  # in a header
        (lambda data: data[: 10 * MEMBER], 9),  # between two members, without the end mark
        (lambda data: _overwritten(data, 10 * MEMBER, 512), 9),  # a header of rubbish
        (lambda data: _overwritten(data, 10 * MEMBER, 1024, 0), 9),  # an end mark with members behind it
    ],
)
def test_a_damaged_tar_is_an_error_after_its_good_images(
    tmp_path: Path, damage: Callable[[bytes], bytes], read: int
) -> None:
    (tmp_path / "a.tar").write_bytes(damage(_tar_of(tmp_path)))
    seen: list[Any] = []
    with pytest.raises(ImageError, match=rf"a\.tar is damaged.*after {read} images") as caught:
        seen.extend(open_stream(tmp_path / "a.tar", on_bad="skip"))
    assert len(seen) == read
    assert "copy the file again" in caught.value.hint


def test_a_damaged_tar_gz(tmp_path: Path) -> None:
    whole = _tar_of(tmp_path, "a.tar.gz")
    assert len(list(open_stream(tmp_path / "a.tar.gz"))) == 40
    for data in (
        whole[: len(whole) // 2],
        whole[:-6],  # in the checksum behind the data
        _overwritten(whole, len(whole) - 8, 4),  # the checksum
        gzip.compress(b"no tar at all" * 99),
        b"",
    ):
        (tmp_path / "a.tar.gz").write_bytes(data)
        with pytest.raises(ImageError, match=r"a\.tar\.gz is damaged"):
            list(open_stream(tmp_path / "a.tar.gz", on_bad="skip"))


def test_links_in_a_tar_are_bad_images(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        info = tarfile.TarInfo("a.png")
        info.size = len(PNG)
        archive.addfile(info, io.BytesIO(PNG))
        link = tarfile.TarInfo("b.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    stream = open_stream(tmp_path / "a.tar", on_bad="skip")
    assert [picture.key for picture in stream] == ["a.png"]
    assert stream.tally.skipped == {"unreadable file": 1}


def test_damaged_zips(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for index, data in enumerate(SHARD):
            archive.writestr(f"{index}.bmp", data)
    whole = path.read_bytes()
    place = whole.index(SHARD[10]) + 1000
    path.write_bytes(_overwritten(whole, place, 50))
    seen: list[Any] = []
    with pytest.raises(ImageError, match=r"10\.bmp of .*a\.zip is damaged.*CRC.*after 10 images"):
        seen.extend(open_stream(path, on_bad="skip"))
    assert len(seen) == 10
    path.write_bytes(whole[: len(whole) // 2])  # the directory at the end is gone
    with pytest.raises(InputError, match="is not a zip file, or is damaged"):
        open_stream(f"zip:{path}")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "no image")
    with pytest.raises(ImageError, match="no images in"):
        open_stream(path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_altered_npz_is_found_out_by_its_checksum(tmp_path: Path, save: Callable[..., None]) -> None:
    path = tmp_path / "a.npz"
    save(path, np.random.default_rng(0).integers(0, 256, (50, 16, 16, 3), dtype=np.uint8))
    whole = path.read_bytes()
    path.write_bytes(_overwritten(whole, len(whole) // 2, 20, 0))
    with pytest.raises(ImageError, match=r"a\.npz is damaged.*after \d+ images"):
        list(open_stream(path, on_bad="skip"))
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="is not an npz file, or is damaged"):
        open_stream(path)


def test_arrays_that_are_no_images(tmp_path: Path) -> None:
    images = np.zeros((5, 8, 8, 3), dtype=np.uint8)

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return Path.touch, (tmp_path / "sprung",)

    np.save(tmp_path / "a.npy", np.array([Trap()], dtype=object))
    np.savez(tmp_path / "a.npz", arr_0=np.array([Trap()], dtype=object))
    for name in ("a.npy", "a.npz"):
        with pytest.raises(ImageError, match="pickled objects"):
            open_stream(tmp_path / name)
    assert not (tmp_path / "sprung").exists()
    for array, message in (
        (images / 255, "float64"),
        (images[0], "not an array of images"),
        (np.asfortranarray(images), "not in C order"),
        (images[:0], "holds no images"),
    ):
        np.save(tmp_path / "b.npy", array)
        with pytest.raises(ImageError, match=message):
            open_stream(tmp_path / "b.npy")
    np.save(tmp_path / "c.npy", images)
    (tmp_path / "c.npy").write_bytes((tmp_path / "c.npy").read_bytes()[:-1])
    with pytest.raises(InputError, match="is damaged"):
        open_stream(tmp_path / "c.npy")
    np.savez(tmp_path / "d.npz", mu=np.zeros(3), sigma=np.eye(3))
    with pytest.raises(ImageError, match="holds statistics, not images"):
        open_stream(tmp_path / "d.npz")


def test_a_damaged_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    noise = np.random.default_rng(0)
    files = [noise.integers(0, 256, 3000, dtype=np.uint8).tobytes() for _ in range(100)]
    pyarrow.parquet.write_table(pyarrow.table({"image": files}), path, row_group_size=10, write_page_checksum=True)
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(InputError, match="is not a parquet file, or is damaged"):
        open_stream(path)
    # page headers of the middle row group
    start = pyarrow.parquet.ParquetFile(io.BytesIO(whole)).metadata.row_group(5).column(0).data_page_offset
    path.write_bytes(_overwritten(whole, start, 64))
    with pytest.raises(ImageError, match=r"a\.parquet is damaged"):
        list(open_stream(path, on_bad="skip"))
