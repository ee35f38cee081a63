"""Pictures decoded in processes are those of the threads, in their order, though a process is killed."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow
import pyarrow.parquet
import pytest
from numpy.typing import NDArray
from PIL import Image

from arbench.data.readers.ahead import AheadStream
from arbench.data.readers.decode import decode_file
from arbench.data.readers.processes import DecodeProcesses
from arbench.data.reading import Reading
from arbench.data.sources import open_images
from arbench.errors import ImageError
from arbench.features import extract
from arbench.features.extract import Job, features_of

DRAW = np.random.default_rng(0)
BAD, LARGE = "b/bad.png", "b/large.png"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes, of several sizes and modes; one picture is larger than a process decodes."""
    root = tmp_path_factory.mktemp("images")
    for name in "ab":
        (root / name).mkdir()
        for index in range(30):
            pixels = DRAW.integers(0, 256, (40 + index % 3, 48, 4), dtype=np.uint8)
            mode = ("RGB", "RGBA", "L")[index % 3]
            Image.fromarray(pixels, "RGBA").convert(mode).save(root / name / f"{index}.png")
    Image.new("RGB", (1200, 1000), "red").save(root / LARGE)
    return root


def with_bad(folder: Path, target: Path) -> Path:
    """The same pictures, and one that is cut short."""
    for path in folder.rglob("*.png"):
        copy = target / path.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    (target / BAD).write_bytes((folder / "a/0.png").read_bytes()[:200])
    return target


def zipped(folder: Path, target: Path) -> Path:
    with zipfile.ZipFile(target / "images.zip", "w") as archive:
        for path in sorted(folder.rglob("*.png")):
            archive.write(path, path.relative_to(folder))
    return target / "images.zip"


def tarred(folder: Path, target: Path) -> Path:
    with tarfile.open(target / "images.tar", "w") as archive:
        for number, path in enumerate(sorted(folder.rglob("*.png"))):
            label = str(number % 7).encode()
            archive.add(path, f"{number:04d}.png")
            info = tarfile.TarInfo(f"{number:04d}.cls")
            info.size = len(label)
            archive.addfile(info, io.BytesIO(label))
    return target / "images.tar"


def table(folder: Path, target: Path) -> Path:
    rows = [{"bytes": path.read_bytes(), "path": path.name} for path in sorted(folder.rglob("*.png"))]
    pyarrow.parquet.write_table(pyarrow.table({"image": rows}), target / "images.parquet")
    return target / "images.parquet"


def read(source: Path, reading: Reading, *, processes: bool) -> tuple[list[tuple[Any, ...]], Any]:
    stream = open_images(str(source), reading)
    assert isinstance(stream, AheadStream)
    if processes:
        stream.decode_in_processes()
    found = [(each.index, each.key, each.label, each.digest, each.image.tobytes()) for each in stream]
    return found, stream.tally


def children() -> list[psutil.Process]:
    return [each for each in psutil.Process().children() if "decode_process" in " ".join(each.cmdline())]


@pytest.mark.parametrize("kind", ["folder", "zip", "tar", "parquet"])
def test_the_pictures_are_those_of_the_threads(kind: str, folder: Path, tmp_path: Path) -> None:
    images = with_bad(folder, tmp_path / "images")
    made = {"folder": lambda *_: images, "zip": zipped, "tar": tarred, "parquet": table}[kind](images, tmp_path)
    for reading in (Reading(on_bad="skip"), Reading(on_bad="skip", crop="adm-center-crop-v1", size=24, limit=50)):
        assert read(made, reading, processes=True) == read(made, reading, processes=False)
    messages = []
    for processes in (False, True):
        with pytest.raises(ImageError) as raised:
            read(made, Reading(), processes=processes)
        messages.append(str(raised.value))
    assert messages[0] == messages[1]
    assert "truncated" in messages[0]
    assert not children()


def test_a_process_decodes_what_is_small_and_sound(folder: Path, tmp_path: Path) -> None:
    images = with_bad(folder, tmp_path)
    apart = DecodeProcesses(1)
    try:
        jobs = [partial(decode_file, images / name) for name in ("a/1.png", BAD, LARGE, "a/2.png")]
        first, bad, large, last = apart.decode(jobs, None)
    finally:
        apart.close()
    assert (bad, large) == (None, None)
    for ready, name in ((first, "a/1.png"), (last, "a/2.png")):
        assert ready is not None
        wanted = decode_file(images / name)
        assert np.array_equal(ready.image, wanted.image)
        assert ready.converted == wanted.converted


def test_killed_processes_cost_no_picture(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    expected = [picture.digest for picture in open_images(str(folder))]
    stream = open_images(str(folder))
    assert isinstance(stream, AheadStream)
    stream.decode_in_processes()
    pictures = iter(stream)
    found = [next(pictures).digest]
    for each in children():
        each.kill()
    found += [picture.digest for picture in pictures]
    assert found == expected
    assert not children()


def test_a_process_that_is_dead_says_so_and_leaves_its_chunk(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    apart = DecodeProcesses(1)
    try:
        (process,) = children()
        process.kill()
        assert apart.decode([partial(decode_file, folder / "a/1.png")] * 2, None) == [None, None]
    finally:
        apart.close()
    assert "has died (exit status -9); threads decode in its place" in caplog.text


def test_without_processes_there_are_threads(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("arbench.data.readers.processes.subprocess.Popen", refused)
    assert read(folder, Reading(), processes=True) == read(folder, Reading(), processes=False)
    assert "decoded in threads, more slowly" in caplog.text


def test_a_stream_that_is_left_leaves_nothing(folder: Path) -> None:
    def files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = files()
    for _ in range(3):
        stream = open_images(str(folder))
        assert isinstance(stream, AheadStream)
        stream.decode_in_processes()
        pictures = iter(stream)
        next(pictures)
        assert children()
        pictures.close()  # type: ignore[attr-defined]
        assert not children()
    assert files() == before


OWNER = """
import sys, time
from arbench.data.sources import open_images
stream = open_images(sys.argv[1])
stream.decode_in_processes()
pictures = iter(stream)
next(pictures)
print("begun", flush=True)
time.sleep(60)
"""


def test_the_processes_of_an_owner_that_is_killed_end(folder: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER, folder], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "begun\n"
        left = psutil.Process(owner.pid).children()
        assert left
        owner.send_signal(signal.SIGKILL)
    until = time.monotonic() + 30
    while any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in left):
        assert time.monotonic() < until
        time.sleep(0.05)


class MeanColour:
    """A network that works `ahead` of who asks, as one on a device does."""

    recipe, convention = "mean", "mean colour"
    outputs: Mapping[str, int] = {"colour": 3}

    def __init__(self, ahead: int) -> None:
        self.ahead = ahead

    def begin(self, images: Sequence[NDArray[np.uint8]]) -> Any:
        self.rows = np.stack([image.mean((1, 2)) for image in images]).astype(np.float32)
        rows = self.rows

        class Done:
            def result(self) -> Mapping[str, NDArray[np.float32]]:
                return {"colour": rows}

        return Done()


class OneNetwork:
    executor, machine, deviation = "local", "none", {}

    def __init__(self, network: MeanColour) -> None:
        self.network = network

    def get(self, _: str) -> MeanColour:
        return self.network

    def expect(self, *_: object) -> None: ...


@pytest.mark.parametrize(("ahead", "many", "wanted"), [(1, 60, True), (0, 60, False), (1, 62, False)])
def test_a_device_is_fed_by_processes_where_images_are_many(
    ahead: int, many: int, wanted: bool, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = []
    known = AheadStream.decode_in_processes
    monkeypatch.setattr(AheadStream, "decode_in_processes", lambda self: (begun.append(1), known(self))[1])
    monkeypatch.setattr(extract, "MANY", many)
    networks: Any = OneNetwork(MeanColour(ahead))
    found = features_of(Job(str(folder), Reading(), tmp_path / "out"), ["mean"], networks, lambda *_: None)["mean"]
    assert bool(begun) == wanted
    assert len(found) == 61
