"""Files that stand for gigabytes: refused by their header, in a process that takes little memory."""

from __future__ import annotations

import functools
import gzip
import io
import json
import pickle
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.lib import format as npy
from PIL import Image

from arbench import limits
from arbench.data.sources import open_stream
from arbench.errors import ConfigError, ImageError, InputError, UsageError
from arbench.features.networks import graphdef
from arbench.spec import suite_file
from tests import forked

IMPORTED = (
    "numpy",
    "arbench.data.sources",
    "arbench.data.statistics.read",
    "arbench.errors",
    "arbench.spec.suite_file",
)
"""What readers have before they are measured, in a process that has never read anything."""
ROOM = 600 << 20
"""Bytes that a reader may take beyond what importing it took."""


def read_in_little_memory(code: str, path: Path, room: int = ROOM, *modules: str) -> str:
    """What `code` prints, with `path` and the readers at hand; ArbenchErrors as text, anything else fails.

    `modules`: those that the reader imports for such a file only, which take hundreds of MiB themselves.
    """
    program = f"""
import {", ".join(("resource", "sys", *modules))}
from pathlib import Path
import numpy
from arbench.data.sources import open_stream, open_source
from arbench.data.statistics.read import read_statistics
from arbench.errors import ArbenchError
from arbench.spec import suite_file
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
path = Path(sys.argv[1])
try:
    {code}
except ArbenchError as error:
    print(error)
took = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
assert took < {room}, f"{{took >> 20}} MiB"
"""
    if room > ROOM:  # where it is close, what a fork has not mapped yet would count
        words = [sys.executable, "-c", program, str(path)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    else:
        done = forked.python(program, path, imported=(*IMPORTED, *modules))
    assert done.returncode == 0, done.stderr
    return done.stdout


def zeros(path: Path, members: dict[str, tuple[str, tuple[int, ...]]]) -> Path:
    """An npz of zeros, deflated: name -> dtype and shape."""
    block = b"\0" * (1 << 24)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, (kind, shape) in members.items():
            with archive.open(name + ".npy", "w", force_zip64=True) as file:
                npy.write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": shape})
                left = int(np.dtype(kind).itemsize * np.prod(shape, dtype=object))
                while left > 0:
                    file.write(block[:left])
                    left -= len(block)
    return path


# ---- suites


def laughs(last: str) -> str:
    lines = ["suite: x", "a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    return "\n".join([*lines, last])


@pytest.mark.parametrize(
    "text",
    [
        laughs("tasks: *a9"),
        laughs("b: {? *a9 : 1}"),
        "a0: &a0 {k: v}\n" + "\n".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}" for i in range(1, 10)),
        "a: &a [*a]",
        "a: &a {b: {c: *a}}",
        "[" * 60 + "]" * 60,
        "a: " + "[" * 20_000,
        "- " * 5000 + "x",
    ],
)
def test_a_suite_that_multiplies(tmp_path: Path, text: str) -> None:
    (tmp_path / "s.yaml").write_text(text)
    assert "not valid YAML, or not that of a suite" in read_in_little_memory(
        "suite_file.read(str(path))", tmp_path / "s.yaml"
    )


def test_anchors_that_multiply_little_are_read() -> None:
    read = suite_file.parse(
        "suite: x\nversion: 1\nadapters: [raster/llamagen-mini]\ntasks:\n- generate: &g {n: 7}\n- generate: *g\n", "s"
    )
    assert [task.n for task in read.suite.tasks] == [7, 7]  # type: ignore[attr-defined]


def test_a_value_of_set_is_bounded_too() -> None:
    with pytest.raises(ConfigError, match="contains itself"):
        suite_file.parse("suite: x", "s", ["tasks=&a [*a]"])


def test_a_suite_of_many_bytes(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_bytes(b"#" * (limits.DEFAULT // 256 + 1))
    with pytest.raises(InputError, match=limits.VARIABLE):
        suite_file.read(str(tmp_path / "s.yaml"))


# ---- arrays


@pytest.mark.parametrize(
    ("kind", "shape"),
    [("|u1", (1, 20_000, 20_000, 3)), ("|u1", (1, 3, 20_000, 20_000)), ("|u1", (1, 30_000, 30_000, 1))],
)
def test_rows_of_an_npz(tmp_path: Path, kind: str, shape: tuple[int, ...]) -> None:
    path = zeros(tmp_path / "a.npz", {"arr_0": (kind, shape)})
    assert "are too large" in read_in_little_memory("list(open_stream(path))", path)


def test_a_row_of_an_npy(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    with path.open("wb") as file:
        npy.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (1, 40_000, 40_000, 3)})
        file.truncate(file.tell() + 4_800_000_000)
    assert "are too large" in read_in_little_memory("list(open_stream(path))", path)


def test_labels_of_an_npz(tmp_path: Path) -> None:
    rows = 200_000_000
    path = zeros(tmp_path / "a.npz", {"arr_0": ("|u1", (rows, 1, 1, 1)), "arr_1": ("<i8", (rows,))})
    assert "arr_1" in read_in_little_memory("open_stream(path)", path)


@pytest.mark.parametrize("lie", [(10**12, 8, 8, 3), (2**62, 1, 1, 3), (1, 8, 8, 3)])
def test_a_header_that_lies(tmp_path: Path, lie: tuple[int, ...]) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive, archive.open("arr_0.npy", "w") as file:
        npy.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": lie})
        file.write(b"\0" * 10)
    assert "is damaged" in read_in_little_memory("open_stream(path)", tmp_path / "a.npz")


# ---- statistics


@pytest.mark.parametrize(
    ("name", "members"),
    [
        ("a_clean_custom_na.npz", {"mu": ("<f8", (14_000,)), "sigma": ("<f8", (14_000, 14_000))}),
        ("adm_in256_stats.npz", {"mu": ("<f8", (150_000_000,)), "sigma": ("<f8", (2, 2))}),
        ("a.npz", {"mu_s": ("<f4", (10,)), "sigma_s": ("<f4", (20_000, 20_000))}),
    ],
)
def test_statistics(tmp_path: Path, name: str, members: dict[str, tuple[str, tuple[int, ...]]]) -> None:
    path = zeros(tmp_path / name, members)
    assert limits.VARIABLE in read_in_little_memory("read_statistics(path)", path)


def test_one_array_under_many_keys(tmp_path: Path) -> None:
    size = 2048
    outputs = [{"key": f"r:{i}", "n": 9, "members": {"mean": "m", "covariance": "c"}} for i in range(200)]
    header = {"version": 1, "format": "arbench", "arbench": "0", "identity": {}, "outputs": outputs}
    np.savez(tmp_path / "a.npz", arbench=json.dumps(header), m=np.zeros(size), c=np.eye(size))
    assert "twice" in read_in_little_memory("read_statistics(path)", tmp_path / "a.npz")


def test_a_pickle_that_multiplies(tmp_path: Path) -> None:
    value: list[object] = ["x"] * 10
    for _ in range(9):
        value = [value] * 10
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"fid": value}))
    (tmp_path / "b.pkl").write_bytes(b"\x80\x04Nr\xff\xff\xff\x7f.")  # a table of memos of 16 GB
    (tmp_path / "c.pkl").write_bytes(b"\x80\x04" + b"(" * 100_000 + b"l" * 100_000 + b".")
    for name in ("a.pkl", "b.pkl", "c.pkl"):
        assert "is not a pickle of plain numbers" in read_in_little_memory("read_statistics(path)", tmp_path / name)


@pytest.mark.parametrize("name", ["x-inception-v3-compat-stat-fid-2048.pt", "x-vgg16-features-fc2_relu.pt"])
def test_a_torch_file_of_deflated_zeros(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"\x80\x02N.")
        with archive.open("a/data/0", "w", force_zip64=True) as file:
            for _ in range(20):
                file.write(b"\0" * (1 << 24))
    assert limits.VARIABLE in read_in_little_memory("read_statistics(path)", path, ROOM // 4, "torch")


def test_a_constant_of_a_graph(tmp_path: Path) -> None:
    def field(number: int, content: bytes) -> bytes:
        return bytes([number << 3 | 2]) + varint(len(content)) + content

    def varint(value: int) -> bytes:
        low, rest = value & 0x7F, value >> 7
        return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])

    for shape in ((40_000, 40_000), (1 << 40,), (1 << 62, 1 << 62)):
        sides = b"".join(field(2, b"\x08" + varint(side)) for side in shape)
        tensor = b"\x08\x01" + field(2, sides) + field(5, struct.pack("<f", 1.0))
        node = field(1, b"n") + field(2, b"Const") + field(5, field(1, b"value") + field(2, field(8, tensor)))
        (tmp_path / "g.pb").write_bytes(field(1, node))
        with pytest.raises(InputError, match="too large"):
            graphdef.read(tmp_path / "g.pb")


# ---- archives


def pax(size: int, kind: bytes) -> bytes:
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.SOLARIS_XHDTYPE])
@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a"])
def test_a_header_of_a_tar(tmp_path: Path, kind: bytes, name: str) -> None:
    path = tmp_path / name
    if name == "a.tar.gz":
        with gzip.open(path, "wb", compresslevel=1) as packed:
            packed.write(pax(1 << 30, kind))
            for _ in range(64):
                packed.write(b"\0" * (1 << 24))
    else:
        with path.open("wb") as plain:
            plain.write(pax(3 << 30, kind))
            plain.truncate(3 << 30)
    assert "a header of the tar file is too large" in read_in_little_memory("list(open_stream(path))", path)


def test_a_chain_of_headers(tmp_path: Path) -> None:
    block = pax(10, tarfile.XHDTYPE) + b"10 path=x\n".ljust(512, b"\0")
    (tmp_path / "a.tar").write_bytes(block * 5000 + b"\0" * 1024)
    with pytest.raises(ImageError, match="is damaged"):
        list(open_stream(tmp_path / "a.tar"))


# ---- pictures


@functools.cache
def huge_png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer, row = zlib.compressobj(9), b"\0" * (1 + 3 * width)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def test_a_picture_beyond_the_bound(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(huge_png(9000, 9000))
    said = read_in_little_memory("list(open_stream(path))", tmp_path)
    assert "too large: 9000 x 9000 pixels; the bound is 67108864" in said


SIDE = 4000
"""48 MB as an array, up to 320 MB while it is decoded."""


@pytest.mark.parametrize("kind", ["folder", "zip", "tar", "after small ones", "by index"])
def test_many_large_pictures_at_once(tmp_path: Path, kind: str) -> None:
    picture = huge_png(SIDE, SIDE)
    small = io.BytesIO()
    Image.new("RGB", (8, 8)).save(small, "PNG")
    pictures = [small.getvalue()] * 50 * (kind == "after small ones") + [picture] * 16
    names = [f"{index:03d}.png" for index in range(len(pictures))]
    place = tmp_path / f"a.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(place, "w") as packed:
            for name, data in zip(names, pictures, strict=True):
                packed.writestr(name, data)
    elif kind == "tar":
        with tarfile.open(place, "w") as archive:
            for name, data in zip(names, pictures, strict=True):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    else:
        place.mkdir()
        for name, data in zip(names, pictures, strict=True):
            (place / name).write_bytes(data)
    if kind == "by index":
        code = "print(len(open_source(str(path)).digest()))"
    else:
        code = "print(sum(1 for picture in open_stream(path, workers=16)))"
    assert read_in_little_memory(code, place, 1 << 30).split() == [str(32 if kind == "by index" else len(pictures))]


# ---- the setting


def test_the_bound_is_one_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(limits.VARIABLE, str(4 * 99))
    Image.new("RGB", (10, 10)).save(tmp_path / "a.png")
    np.savez(tmp_path / "a.npz", np.zeros((1, 10, 10, 3), np.uint8))
    reads: list[Callable[[], object]] = [
        lambda: list(open_stream(str(tmp_path))),
        lambda: open_stream(tmp_path / "a.npz"),
        lambda: suite_file.parse("a: " + "[" + "x," * 2000 + "]", "s"),
    ]
    for read in reads:
        with pytest.raises((InputError, ConfigError), match=r"99|1000"):
            read()
    monkeypatch.setenv(limits.VARIABLE, "4000")
    assert len(list(open_stream(str(tmp_path)))) == 1


@pytest.mark.parametrize("text", ["lots", "0", "-5", "1.5"])
def test_a_setting_that_is_no_number(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(limits.VARIABLE, text)
    with pytest.raises(UsageError, match="not a number of bytes"):
        limits.max_bytes()
