"""Files that are not images: the error says what they are, and following its advice leads on."""

from __future__ import annotations

import importlib
import os
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from safetensors.torch import save_file

from arbench.cli.main import main
from arbench.data.reading import is_statistics
from arbench.data.sources import open_images
from arbench.data.statistics.read import read_statistics
from arbench.errors import ArbenchError, InputError

IMAGES = np.arange(5 * 3 * 8 * 8, dtype=np.uint8).reshape(5, 3, 8, 8)
MOMENTS: dict[str, Any] = {"mu": np.zeros(2048), "sigma": np.eye(2048)}


def _npy(path: Path) -> None:
    np.save(path, MOMENTS)  # type: ignore[arg-type]


def _npz(path: Path) -> None:
    np.savez(path, **MOMENTS)


def _pkl(path: Path) -> None:
    path.write_bytes(pickle.dumps(MOMENTS))


def _pt(path: Path) -> None:
    torch.save(MOMENTS, path)


def _edm2(path: Path) -> None:
    path.write_bytes(pickle.dumps({"num_images": 7, "fid": MOMENTS}))


STATISTICS: dict[str, Callable[[Path], None]] = {"s.npy": _npy, "s.npz": _npz, "s.pkl": _pkl, "s.pt": _pt}


@pytest.mark.parametrize("name", STATISTICS)
def test_statistics_given_as_samples_and_what_the_advice_leads_to(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    STATISTICS[name](Path(name))
    np.save("samples.npy", IMAGES)
    with pytest.raises(ArbenchError, match="holds statistics, not images") as caught:
        open_images(name)
    command = caught.value.hint.replace("SAMPLES", "samples.npy").split()
    assert command[:2] == ["arbench", "score"]
    assert main([*command[1:], "--metric", "frechet"]) == 2  # whose statistics they are must be said
    advice = re.search(r"add (--reference-kind \S+?),", capsys.readouterr().err)
    assert advice
    kind = advice.group(1).split()
    assert is_statistics(name)
    assert read_statistics(Path(name), kind=kind[1]).moments  # type: ignore[arg-type]
    main([*command[1:], *kind, "--metric", "frechet", "--out", "o"])
    assert "not images" not in capsys.readouterr().err
    assert Path("o/score.json").is_file()


def test_edm2_is_still_told_from_plain_moments(tmp_path: Path) -> None:
    _edm2(tmp_path / "s.pkl")
    assert read_statistics(tmp_path / "s.pkl").format == "edm2"
    with pytest.raises(InputError, match="not of kind adm but edm2"):
        read_statistics(tmp_path / "s.pkl", kind="adm")


class Trap:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.target}",)


def test_an_array_of_objects_is_never_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", {**MOMENTS, "x": Trap(tmp_path / "sprung")})  # type: ignore[arg-type]
    assert not is_statistics(str(tmp_path / "a.npy"))
    with pytest.raises(ArbenchError):
        open_images(str(tmp_path / "a.npy"))
    assert not (tmp_path / "sprung").exists()


# ---- torch files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    "content",
    [
        torch.from_numpy(IMAGES),
        torch.from_numpy(IMAGES).permute(0, 2, 3, 1).contiguous(),
        {"samples": torch.from_numpy(IMAGES)},
    ],
    ids=["channels first", "channels last", "in a dict"],
)
def test_torch_files_of_images_are_read(tmp_path: Path, content: Any, legacy: bool) -> None:
    path = tmp_path / "samples.pt"
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    assert not is_statistics(str(path))
    for source in (str(path), f"pt:{path}"):
        assert np.array_equal(np.stack([picture.image for picture in open_images(source)]), IMAGES)


def test_labels_beside_them_are_read(tmp_path: Path) -> None:
    torch.save({"images": torch.from_numpy(IMAGES), "labels": torch.arange(5)}, tmp_path / "s.pt")
    assert [picture.label for picture in open_images(str(tmp_path / "s.pt"))] == [0, 1, 2, 3, 4]


FLOATS = torch.rand(5, 3, 8, 8)
OTHERS: dict[str, tuple[Any, str, str]] = {
    "floats": (FLOATS, r"float32 \(5, 3, 8, 8\)", "arbench.images.to_uint8"),
    "floats in a dict": ({"images": FLOATS}, r"float32 \(5, 3, 8, 8\)", "arbench.images.to_uint8"),
    "features": (torch.rand(5, 2048), r"float32 \(5, 2048\)", "features"),
    "list": ([torch.from_numpy(image) for image in IMAGES], "a list of 5", "torch.stack"),
    "weights": ({"model": {"x": FLOATS, "y": FLOATS}, "epoch": 3}, "holds weights", "--weights NAME="),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_torch_files_are_named(tmp_path: Path, name: str) -> None:
    content, message, hint = OTHERS[name]
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(ArbenchError) as caught:
        open_images(str(tmp_path / "x.pt"))
    assert re.search(message, str(caught.value))
    assert "torch" in str(caught.value)
    assert hint in caught.value.hint
    for module, attribute in re.findall(r"(arbench\.\w+)\.(\w+)", caught.value.hint):
        assert hasattr(importlib.import_module(module), attribute)


# ---- all the rest ----------------------------------------------------------------------------------------------------


def _safetensors(path: Path) -> None:
    save_file({"a": torch.ones(2), "b": torch.ones(3)}, path)


def _parquet(path: Path) -> None:
    pyarrow.parquet.write_table(pa.table({"fid": [1.0], "n": [2]}), path)


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "hello")


def _folder(path: Path) -> None:
    path.mkdir()
    np.save(path / "images.npy", IMAGES)


FOREIGN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "w.safetensors": (_safetensors, "a safetensors file of 2 tensors"),
    "t.parquet": (_parquet, "a table of values, with fid, n"),
    "z.zip": (_zip, "such as notes.txt"),
    "folder": (_folder, "it holds 1 .npy"),
    "f.npy": (lambda path: np.save(path, np.ones((4, 2048))), "these look like features"),
    "one.npy": (lambda path: np.save(path, IMAGES[0]), "looks like one image"),
    "grey.npy": (lambda path: np.save(path, IMAGES[:, 0]), "need an axis"),
    "x.pkl": (lambda path: path.write_bytes(pickle.dumps({"a": 1})), "is a pickle"),
    "x.csv": (lambda path: path.write_text("a,b\n"), "is text"),
    "x.json": (lambda path: path.write_text('{"a": 1}'), "is JSON"),
    "x.dat": (lambda path: path.write_text("<!DOCTYPE html>"), "a web page"),
    "y.dat": (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1"), "Git LFS pointer"),
    "e.dat": (lambda path: path.write_bytes(b""), "is empty"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_a_file_is_is_said(tmp_path: Path, name: str) -> None:
    write, message = FOREIGN[name]
    write(tmp_path / name)
    with pytest.raises(ArbenchError) as caught:
        open_images(str(tmp_path / name))
    assert message in str(caught.value)
    assert caught.value.hint


def test_the_file_that_the_error_names_can_be_read(tmp_path: Path) -> None:
    _folder(tmp_path / "folder")
    with pytest.raises(ArbenchError) as caught:
        open_images(str(tmp_path / "folder"))
    named = caught.value.hint.rpartition(": ")[2]
    assert len(list(open_images(named))) == 5
