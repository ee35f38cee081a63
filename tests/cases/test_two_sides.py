"""Labels, columns and names of two sides of a score that do not fit, and what the error says to do."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

import arbench
from arbench.cli.main import main
from arbench.data.sources import open_source

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 28, 28, 3), dtype=np.uint8)
TOO_LARGE = np.array([0, 1, 2, 3, 2**63 + 7], dtype=np.uint64)


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def table(path: Path, **columns: object) -> None:
    pyarrow.parquet.write_table(pyarrow.table(columns), path)


@pytest.mark.parametrize("kind", [np.uint8, np.uint32, np.uint64, np.int16])
def test_labels_of_any_integers(tmp_path: Path, kind: type[np.integer]) -> None:
    np.savez(tmp_path / "a.npz", arr_0=PIXELS, arr_1=np.arange(5, dtype=kind))
    table(tmp_path / "a.parquet", image=list(map(png, PIXELS)), label=np.arange(5, dtype=kind))
    for name in ("a.npz", "a.parquet"):
        labels = open_source(str(tmp_path / name)).labels
        assert labels is not None
        assert labels.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("name", ["a.npz", "a.parquet"])
def test_a_label_beyond_what_a_number_holds_is_an_error(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    np.savez("a.npz", arr_0=PIXELS, arr_1=TOO_LARGE)
    table(Path("a.parquet"), image=list(map(png, PIXELS)), label=TOO_LARGE)
    assert main(["score", name, "--reference", name, "-c", "offline", "--device", "cpu", "--out", "o"]) == 2
    told = capsys.readouterr().err
    assert f"{2**63 + 7} is not a label of an image, in {name}" in told
    assert "labels are below 2**63" in told


def test_each_column_of_images_is_told_with_how_to_choose_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    table(Path("two.parquet"), left=list(map(png, PIXELS)), **{"right side": list(map(png, PIXELS))})
    assert main(["score", "two.parquet", "--reference", "two.parquet", "-c", "offline", "--device", "cpu"]) == 2
    told = capsys.readouterr().err
    assert "columns of bytes: left, right side" in told
    assert "next: name it: --column left or --column 'right side'" in told


def two_columns(place: Path) -> None:
    """Originals and what was made of them, one level off: in one table, and in one archive of samples."""
    made = PIXELS ^ 1
    table(place / "two.parquet", original=list(map(png, PIXELS)), made=list(map(png, made)))
    with tarfile.open(place / "two.tar", "w") as archive:
        for index, images in enumerate(zip(PIXELS, made, strict=True)):
            for column, image in zip(("original", "made"), map(png, images), strict=True):
                info = tarfile.TarInfo(f"{index:03d}.{column}.png")
                info.size = len(image)
                archive.addfile(info, io.BytesIO(image))


@pytest.mark.parametrize(("name", "suffix"), [("two.parquet", ""), ("two.tar", ".png")])
def test_two_columns_of_one_file_are_pairs(tmp_path, monkeypatch, capsys, name, suffix):
    monkeypatch.chdir(tmp_path)
    two_columns(tmp_path)
    command = ["score", name, "-r", name, "--paired", "-c", "offline-pairs", "--device", "cpu", "--metric", "psnr"]
    columns = ["--column", f"made{suffix}", "--reference-column", f"original{suffix}"]
    assert main([*command, *columns, "--out", "o", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["metrics"][0]["value"] == pytest.approx(20 * np.log10(255), abs=0.1)
    assert found["metrics"][0]["flags"] == []
    assert found["parameters"]["reference_column"] == f"original{suffix}"
    score = arbench.score(
        name, name, paired=True, column=columns[1], reference_column=columns[3], conventions="offline-pairs",
        metrics="psnr", device="cpu",
    )  # fmt: skip
    assert score["psnr"].value == found["metrics"][0]["value"]


def test_a_column_of_the_reference_is_refused_where_there_is_none(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    two_columns(tmp_path)
    np.savez("a.npz", arr_0=PIXELS)
    command = ["score", "two.parquet", "--column", "made", "-c", "offline", "--device", "cpu", "--out", "o"]
    for reference in ([], ["-r", "a.npz"]):
        assert main([*command, *reference, "--reference-column", "original"]) == 2
        assert "--reference-column would change nothing here" in capsys.readouterr().err
    assert main([*command, "-r", "two.parquet", "--reference-column", "originals"]) == 2
    assert "two.parquet has no image column 'originals'" in capsys.readouterr().err


@pytest.mark.parametrize("names", ["abcde", "12345"])
def test_what_to_do_about_pairs_helps_with_archives(tmp_path, monkeypatch, capsys, names):
    monkeypatch.chdir(tmp_path)
    for file, keys in (("mine.zip", "01234"), ("theirs.zip", names)):
        with zipfile.ZipFile(file, "w") as archive:
            for key, image in zip(keys, PIXELS, strict=True):
                archive.writestr(f"{key}.png", png(image))
    command = ["score", "mine.zip", "--reference", "theirs.zip", "--paired", "-c", "pairs"]
    assert main([*command, "--device", "cpu", "--out", "o"]) == 2
    told = capsys.readouterr().err
    assert f"sample 0 is 0.png, and the image at its place is {names[0]}.png" in told
    assert "python -m zipfile -e FILE.zip FOLDER" in told


def folder(path: Path, images: np.ndarray) -> Path:
    path.mkdir()
    for index, image in enumerate(images):
        Image.fromarray(image).save(path / f"{index}.png")
    return path


PSNR = ("--paired", "-c", "offline-pairs", "--metric", "psnr", "--device", "cpu", "--out", "o")


@pytest.mark.parametrize("place", [2, 4])
def test_a_pair_whose_original_is_broken_is_told_as_such(tmp_path, monkeypatch, capsys, place):
    monkeypatch.chdir(tmp_path)
    made, originals = folder(tmp_path / "made", PIXELS ^ 1), folder(tmp_path / "originals", PIXELS)
    (originals / f"{place}.png").write_bytes((originals / f"{place}.png").read_bytes()[:60])
    command = ["score", "made", "-r", "originals", *PSNR, "--on-bad-image", "skip"]
    assert main(command) == 2
    told = capsys.readouterr().err
    assert f"the original of {place}.png was left out of originals" in told
    assert "remove both images of the pair" in told
    (originals / f"{place}.png").unlink()
    (made / f"{place}.png").unlink()
    assert main(command) == 0


def test_originals_without_a_reconstruction_are_told_where_no_network_sees_them(tmp_path, monkeypatch, capsys):
    """The last one is missing, so that all pairs are right."""
    monkeypatch.chdir(tmp_path)
    folder(tmp_path / "made", PIXELS[:4] ^ 1), folder(tmp_path / "originals", PIXELS)
    command = ["score", "made", "-r", "originals", *PSNR, "--json"]
    assert main(command) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["samples"]["n"], found["reference"]["n"]) == (4, 5)
    assert "count_differs" in found["metrics"][0]["flags"]
