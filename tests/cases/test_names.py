"""Names that are not UTF-8, and text that acts on a terminal: read, and shown with escapes."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image
from rich.table import Table
from rich.text import Text

from arbench.errors import ConfigError
from arbench.json_text import parse_json, writable
from arbench.spec import suite_file
from arbench.terminal import PlainConsole
from tests import forked

N = 20


def png(seed: int) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def make(kind: str) -> str:
    """A source whose name, and where it can the names in it, are Latin-1."""
    name = os.fsdecode(b"caf\xe9." + kind.encode())
    files = {f"{index}.png": png(index) for index in range(N)}
    if kind == "folder":
        for file, data in files.items():
            place = Path(name, os.fsdecode(b"cl\xe9"))
            place.mkdir(parents=True, exist_ok=True)
            (place / file).write_bytes(data)
    elif kind == "tar":
        with tarfile.open(name, "w", encoding="latin-1", format=tarfile.GNU_FORMAT) as archive:
            for file, data in files.items():
                info = tarfile.TarInfo("\u00e9" + file)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    elif kind == "zip":
        with zipfile.ZipFile(name, "w") as packed:
            for file, data in files.items():
                packed.writestr("x" + file, data)
        Path(name).write_bytes(Path(name).read_bytes().replace(b"x0.png", b"\xe90.png"))
    elif kind == "parquet":
        cells = [{"bytes": data, "path": file} for file, data in files.items()]
        with Path(name).open("wb") as out:
            pyarrow.parquet.write_table(pyarrow.table({"image": cells}), out)
    return name


def arbench(*arguments: str) -> str:
    done = forked.arbench(*arguments)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said


@pytest.mark.parametrize("kind", ["folder", "tar", "zip", "parquet"])
def test_from_source_to_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ARBENCH_CACHE", str(tmp_path / "cache"))
    Path("b").mkdir()
    for index in range(N):
        Path("b", f"{index}.png").write_bytes(png(100 + index))
    out = os.fsdecode(b"o\xe9")
    arbench("score", make(kind), "--reference", "b", "--metric", "frechet", "--out", out)
    assert "o\\udce9/report.html" in arbench("report", out)
    assert "caf\\xe9" in Path(out, "report.html").read_text(encoding="utf-8")
    table = pyarrow.parquet.read_table(pyarrow.BufferReader(Path(out, "results.parquet").read_bytes()))
    assert set(table["run_id"].to_pylist()) == {"o\\udce9"}


def test_weights_of_a_run_are_named_in_text() -> None:
    with pytest.raises(ConfigError, match="not UTF-8"):
        suite_file.read("quickstart", (), {"raster/llamagen-mini": os.fsdecode(b"caf\xe9.pth")})


BAD = ["\x1b[2Jx", "\x9b31m", "a\x07b", "\ud800", "\r", "x[/y]", "[red]", ":smile:"]


@pytest.mark.parametrize("text", BAD)
@pytest.mark.parametrize("how", ["text", "Text", "table", "status"])
def test_what_reaches_a_terminal(capsys: pytest.CaptureFixture[str], text: str, how: str) -> None:
    console = PlainConsole()
    if how == "table":
        table = Table()
        table.add_column(Text(text))
        table.add_row(Text(text))
        console.print(table)
    elif how == "status":
        with console.status(Text(text)):
            pass
    else:
        console.print(Text(text) if how == "Text" else text, soft_wrap=True)
    said = capsys.readouterr().out
    said.encode()
    assert not {"\x1b", "\x9b", "\x07", "\r"} & set(said)
    if how in ("text", "Text") and text.isprintable() and text.isascii():
        assert text in said


def test_text_of_a_result_can_be_written() -> None:
    read = parse_json(b'{"a\\udcff": ["\\ud800x", "\\ud83d\\ude00"]}')
    assert read == {"a\\udcff": ["\\ud800x", "\U0001f600"]}
    assert writable("caf\udce9") == "caf\\udce9"
