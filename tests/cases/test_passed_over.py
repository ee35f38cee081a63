"""Files that may be images and are not read: counted, told in the summary, and a flag of every number."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from arbench.data.sources import open_stream
from arbench.data.stream import NOT_READ
from arbench.errors import ImageError

NAMES = ("0.png", "1.png", "a.npy", "b.npy", "c.AVIF", "notes.txt", ".d.npy", "__MACOSX/e.npy", ".f.png", "._0.png")
"""The last is what macOS lays beside 0.png in an archive."""


def png(seed: int) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def source(place: Path, kind: str) -> Path:
    content = {name: png(seed) if name.endswith(".png") else b"x" for seed, name in enumerate(NAMES)}
    path = place / f"s.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as packed:
            for name, data in content.items():
                packed.writestr(name, data)
    elif kind == "tar":
        with tarfile.open(path, "w") as archive:
            for name, data in content.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    else:
        for name, data in content.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
    return path


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_they_are_counted(tmp_path: Path, kind: str) -> None:
    path = source(tmp_path, kind)
    stream = open_stream(path)
    for _ in range(2):
        assert len(list(stream)) == 2
        counted = {".npy": 2, ".avif": 1, "hidden .png": 1}
        assert stream.tally.skipped == {what + NOT_READ: count for what, count in counted.items()}
    shards = [open_stream(path, shard=(i, 2)) for i in range(2)]
    for shard in shards:
        list(shard)
    assert [sum(shard.tally.skipped.values()) for shard in shards] == [4, 0]


def test_a_folder_of_nothing_else_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(b"x")
    with pytest.raises(ImageError, match=r"it holds 1 \.npy"):
        open_stream(tmp_path)
