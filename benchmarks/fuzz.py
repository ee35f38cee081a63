"""Files changed at random, read as arbench reads them: an answer or an ArbenchError, nothing else, and no hang.

    python benchmarks/fuzz.py [--cases 100000] [--minutes 10] > docs/fuzz.md

Hypothesis changes a small whole file of each kind (bytes flipped, cut, inserted, overwritten, removed; pieces of its
own grammar put in) and the reader gets what is left. What it answers is counted; anything but content or an
`ArbenchError` (for a single image `BadImage`, which the streams count or raise) is a fault, kept below `fuzz-faults/`,
and so is a case that takes longer than `HANG` seconds. Each kind stops at its share of the time.
"""

from __future__ import annotations

import argparse
import functools
import io
import json
import signal
import sys
import tarfile
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from arbench import journal
from arbench.data.readers.decode import BadImage, decode
from arbench.data.sources import open_stream
from arbench.data.statistics.read import read_statistics
from arbench.errors import ArbenchError
from arbench.features.unit_features import UnitFile
from arbench.gallery import Gallery
from arbench.run.replay import replay
from arbench.run.store import parse_result, read_run
from arbench.spec import suite_file

HANG = 20
"""Seconds after which a reader hangs."""
RUN = Path(__file__).parents[1] / "tests" / "report" / "run-0.1"
SUITE = b"""suite: mine
adapters: [raster/llamagen-mini]
settings: {seed: 3, device: cpu}
tasks:
  - generate: {n: 50, reference: mnist5k/heldout}
  - speed: {batches: [1, 4]}
sampling:
  "raster/*": {top_k: [10, 20], guidance: {scale: 1.5}}
"""
YAML_PIECES = b"&a ;*a;!!int ;!!binary ;!!set ;!!python/object/apply:os.system ;<<: ;2020-13-45;.nan;[;{;};: ;\n"
JSON_PIECES = b'null;-1;1e999;NaN;{;};[;];"";"\\ud800";true;[[[[;"../../x";9999999999999999999999;:;,'
IMAGE_PIECES = b"\xff\xd9;IEND;IHDR;\xff\xff\xff\xff;\x00\x00\x00\x00;\x7f\xff\xff\xff;GIF89a;RIFF;II*\x00"
ARCHIVE_PIECES = b"PK\x01\x02;PK\x05\x06;../;/etc/;\x00\x00\x00\x00;\xff\xff\xff\xff;.npy;|O;ustar;(999999999,)"

Change = tuple[str, float, bytes]
Read = Callable[[bytes, Path], object]


class _Hang(BaseException):
    """The reader has taken too long; no `except Exception` may catch it."""


@dataclass
class Kind:
    """A kind of file: whole ones, how they are read, and what is found."""

    name: str
    files: tuple[bytes, ...]
    read: Read
    pieces: bytes
    share: float
    """Of all cases."""
    cases: int = 0
    answered: int = 0
    refused: int = 0
    faults: dict[str, bytes] = field(default_factory=dict)
    slowest: float = 0.0


def _image(layout: str, **more: Any) -> bytes:
    file = io.BytesIO()
    pixels = (np.arange(6 * 5 * 3) % 251).astype(np.uint8).reshape(6, 5, 3)
    Image.fromarray(pixels).save(file, layout, **more)
    return file.getvalue()


def _zip(compression: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("0/a.png", _image("PNG"))
        archive.writestr("1/b.jpg", _image("JPEG"))
    return file.getvalue()


def _tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in (("a.png", _image("PNG")), ("a.cls", b"3"), ("b\u00e9" * 60 + ".png", _image("PNG"))):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def _npz(save: Callable[..., None] = np.savez, **arrays: Any) -> bytes:
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


def _journal() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        writer = journal.Writer(Path(folder) / "journal.jsonl")
        for name in sorted(path.parent.name for path in RUN.glob("cells/*/result.json"))[:2]:
            writer.write("started", cell=name)
            writer.write("unit", cell=name, unit="000000-000064", digest="0" * 32, seconds=0.5)
            writer.write("finished", cell=name, outcome="ok", digest="0" * 32, reason="", files={"a": "b"})
        writer.close()
        return (Path(folder) / "journal.jsonl").read_bytes()


def _written(name: str, read: Callable[[Path], object]) -> Read:
    """A reader of files: what it gets is written first."""

    def each(data: bytes, folder: Path) -> object:
        path = folder / name
        path.write_bytes(data)
        return read(path)

    return each


def _read_journal(data: bytes, folder: Path) -> object:
    return replay(_cells(), journal.parse(data).records)


@functools.cache
def _cells() -> tuple[Any, ...]:
    return read_run(RUN).plan.cells


def _suite(data: bytes, folder: Path) -> object:
    (folder / "mine.yaml").write_bytes(data)
    return suite_file.read(str(folder / "mine.yaml"))


def _images(path: Path) -> object:
    return list(open_stream(path, on_bad="skip", workers=1))


def _decoded(data: bytes, folder: Path) -> object:
    return decode(data)


def _unit(path: Path) -> object:
    file = UnitFile(path)
    return [file[name] for name in file]


def kinds() -> list[Kind]:
    """All kinds; shares add up to 1."""
    result = next(RUN.glob("cells/*/result.json")).read_bytes()
    arrays = {"arr_0": np.zeros((2, 4, 4, 3), np.uint8), "arr_1": np.arange(2)}
    units = {"sample_ids": np.arange(3), "keys": np.array(["a", "b", "c"]), "size": np.array([4, 4])}
    gallery = Gallery(
        "t", "sheet", "l", np.arange(2), np.zeros((1, 2), np.int64), ("",), (False,),
        np.zeros((1, 2, 3, 4, 4), np.uint8), ("p", "q"),
    )  # fmt: skip
    lossy, lossless = ("JPEG", "WEBP"), ("PNG", "GIF", "BMP", "TIFF", "PPM")
    pictures = tuple(_image(layout) for layout in (*lossy, *lossless))
    header = {
        "version": 1, "format": "arbench", "arbench": "0", "identity": {"name": "x"}, "weights": {}, "settings": {},
        "outputs": [{"key": "r:o", "n": 9, "members": {"mean": "m", "covariance": "c", "features": "f"}}],
    }  # fmt: skip
    sums = {"m": np.zeros(3), "c": np.eye(3), "f": np.zeros((9, 3), np.float32)}
    moments = _npz(arbench=np.array(json.dumps(header)), **sums)
    return [
        Kind("image, bytes", pictures, _decoded, IMAGE_PIECES, 0.36),
        Kind("journal", (_journal(), (RUN / "journal.jsonl").read_bytes()[:2000]), _read_journal, JSON_PIECES, 0.16),
        Kind("result.json", (result,), _written("result.json", parse_result), JSON_PIECES, 0.10),
        Kind("run.json", ((RUN / "run.json").read_bytes(),), _written("run.json", _run_of), JSON_PIECES, 0.04),
        Kind("suite, YAML", (SUITE,), _suite, YAML_PIECES, 0.08),
        Kind("zip of images", tuple(map(_zip, (0, 8))), _written("a.zip", _images), ARCHIVE_PIECES, 0.07),
        Kind("tar of images", (_tar(),), _written("a.tar", _images), ARCHIVE_PIECES, 0.07),
        Kind("npz of images", (_npz(**arrays), _npz(np.savez_compressed, **arrays)), _written("a.npz", _images),
             ARCHIVE_PIECES, 0.04),
        Kind("npz, unit", (_npz(**units),), _written("a.npz", _unit), ARCHIVE_PIECES, 0.03),
        Kind("npz, pictures", (gallery.pack(),), _written("a.npz", Gallery.read), ARCHIVE_PIECES, 0.02),
        Kind("npz, statistics", (moments,), _written("a.npz", read_statistics), ARCHIVE_PIECES, 0.03),
    ]  # fmt: skip


def _run_of(path: Path) -> object:
    return read_run(path.parent)


def changed(data: bytes, changes: list[Change]) -> bytes:
    """The changes one after the other, each at a share of the length."""
    for how, where, what in changes:
        at = int(where * len(data))
        if how == "flip" and data:
            data = data[:at] + bytes([data[at] ^ (what[0] or 1)]) + data[at + 1 :]
        elif how == "cut":
            data = data[:at]
        elif how == "insert":
            data = data[:at] + what + data[at:]
        elif how == "overwrite":
            data = data[:at] + what + data[at + len(what) :]
        elif how == "remove":
            data = data[:at] + data[at + len(what) :]
    return data


def _alarm(number: int, frame: object) -> None:
    raise _Hang


def one_case(kind: Kind, data: bytes, folder: Path) -> None:
    """Reads `data` and counts what came of it."""
    begin = time.perf_counter()
    signal.alarm(HANG)
    try:
        kind.read(data, folder)
        kind.answered += 1
    except (ArbenchError, BadImage):
        kind.refused += 1
    except (Exception, _Hang) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        name = f"{type(error).__name__} in {Path(last.filename).name}:{last.lineno}: {error}"[:200]
        kind.faults.setdefault(name, data)
    finally:
        signal.alarm(0)
    kind.cases += 1
    kind.slowest = max(kind.slowest, time.perf_counter() - begin)


def fuzz(kind: Kind, cases: int, seconds: float, folder: Path) -> None:
    """As many cases of a kind as there is time for."""
    pieces = st.sampled_from(kind.pieces.split(b";")) | st.binary(min_size=1, max_size=8)
    how = st.sampled_from(("flip", "cut", "insert", "overwrite", "remove"))
    changes = st.lists(st.tuples(how, st.floats(0, 1, exclude_max=True), pieces), min_size=1, max_size=4)
    until = time.monotonic() + seconds

    @settings(
        max_examples=cases,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.sampled_from(kind.files), changes)
    def each(whole: bytes, made: list[Change]) -> None:
        if time.monotonic() < until:
            one_case(kind, changed(whole, made), folder)

    each()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--minutes", type=float, default=10.0)
    arguments = parser.parse_args()
    signal.signal(signal.SIGALRM, _alarm)
    found = kinds()
    with tempfile.TemporaryDirectory() as folder:
        for kind in found:
            fuzz(kind, round(arguments.cases * kind.share), 60 * arguments.minutes * max(kind.share, 0.1), Path(folder))
            print(f"{kind.name}: {kind.cases}, {json.dumps(list(kind.faults))}", file=sys.stderr)
    faults = Path("fuzz-faults")
    for kind in found:
        for number, data in enumerate(kind.faults.values()):
            faults.mkdir(exist_ok=True)
            (faults / f"{kind.name.replace(' ', '-')}-{number}").write_bytes(data)
    _print(found)
    return 1 if any(kind.faults for kind in found) else 0


def _print(found: list[Kind]) -> None:
    print("# Files changed at random\n")
    total = sum(kind.cases for kind in found)
    print(f"`python benchmarks/fuzz.py`: {total:,} files, each whole but for one to four changes.")
    print("Every one is read, or refused by an `ArbenchError`; anything else is a fault.\n")
    print("| kind | cases | read | refused | faults | slowest, ms |\n|---|---:|---:|---:|---:|---:|")
    for kind in found:
        counts = f"{kind.cases:,} | {kind.answered:,} | {kind.refused:,} | {len(kind.faults)}"
        print(f"| {kind.name} | {counts} | {1000 * kind.slowest:.0f} |")
    for kind in found:
        for fault in kind.faults:
            print(f"\n{kind.name}: {fault}")


if __name__ == "__main__":
    sys.exit(main())
