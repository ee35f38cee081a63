"""Whatever bytes a file is changed by, its reader answers with its content or an ArbenchError, never anything else."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

from arbench.adapters.layers import checkpoint as adapter_checkpoint
from arbench.data.prompts import said, texts
from arbench.data.reading import is_statistics
from arbench.data.sources import open_source, open_stream
from arbench.data.statistics.read import read_statistics
from arbench.data.stream import Tally
from arbench.errors import ArbenchError
from arbench.features.feature_set import FeatureSet, Output, PictureRecord
from arbench.features.feature_writer import FeatureWriter
from arbench.features.networks import checkpoint, graphdef, torchscript
from arbench.features.unit_features import UnitFile
from arbench.gallery import Gallery

bounded = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

Change = tuple[str, float, bytes]
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(("flip", "cut", "insert", "overwrite", "remove")),
        st.floats(0, 1, exclude_max=True),
        st.binary(min_size=1, max_size=8),
    ),
    min_size=1,
    max_size=4,
)


def changed(data: bytes, changes: list[Change]) -> bytes:
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


# ---- the files, as small as they can be: so that changes meet headers


def png(side: int = 4) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((side, side, 3), 7, np.uint8)).save(file, "PNG")
    return file.getvalue()


def a_zip(compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("0/a.png", png())
        archive.writestr("1/b\u00e9.png", png())
    return file.getvalue()


def a_tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in (("a.png", png()), ("a.cls", b"3"), ("b\u00e9" * 60 + ".png", png()), ("c.cls", b"4")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def an_npz(save: Callable[..., None] = np.savez, **arrays: Any) -> bytes:
    file = io.BytesIO()
    save(file, **(arrays or {"arr_0": np.zeros((2, 4, 4, 3), np.uint8), "arr_1": np.arange(2)}))
    return file.getvalue()


def an_npy() -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros((2, 4, 4, 3), np.uint8))
    return file.getvalue()


def a_parquet(compression: str = "none") -> bytes:
    file = io.BytesIO()
    cells = [{"bytes": png(), "path": "a"}, {"bytes": png(), "path": "b"}]
    pyarrow.parquet.write_table(pyarrow.table({"image": cells, "label": [0, 1]}), file, compression=compression)
    return file.getvalue()


def a_torch_file(value: Any, new: bool = True) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, _use_new_zipfile_serialization=new)
    return file.getvalue()


def own_statistics() -> bytes:
    header = {
        "version": 1,
        "format": "arbench",
        "arbench": "0",
        "identity": {"name": "x"},
        "outputs": [{"key": "r:o", "n": 9, "members": {"mean": "m", "covariance": "c", "features": "f"}}],
        "weights": {},
        "settings": {},
    }
    return an_npz(arbench=np.array(json.dumps(header)), m=np.zeros(3), c=np.eye(3), f=np.zeros((4, 3), np.float32))


def a_scripted_module() -> bytes:
    class Small(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x)

    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(Small(), torch.zeros(1, 2)), file)
    return file.getvalue()


def a_safetensors_file(folder: Path) -> bytes:
    save_file({"a": torch.zeros(2, 2), "features": torch.zeros(3)}, folder / "x", {"prompt": "a cat"})
    return (folder / "x").read_bytes()


def a_gallery() -> bytes:
    ids, images = np.arange(2), np.zeros((1, 2, 3, 4, 4), np.uint8)
    return Gallery("t", "sheet", "l", ids, np.zeros((1, 2), np.int64), ("",), (False,), images, ("p", "q")).pack()


def a_unit() -> bytes:
    return an_npz(sample_ids=np.arange(3), keys=np.array(["a", "b", "c"]), size=np.array([4, 4]))


def a_graph() -> bytes:
    tensor = b"\x08\x01" + b"\x12\x04\x12\x02\x08\x02" + b"\x2a\x08" + np.ones(2, "<f4").tobytes()
    value = b"\x42" + bytes([len(tensor)]) + tensor
    attribute = b"\x0a\x05value" + b"\x12" + bytes([len(value)]) + value
    node = b"\x0a\x01n" + b"\x12\x05Const" + b"\x2a" + bytes([len(attribute)]) + attribute
    return b"\x0a" + bytes([len(node)]) + node


# ---- how each is read


def stream(path: Path) -> None:
    list(open_stream(path, on_bad="skip", workers=1))


def by_index(path: Path) -> None:
    source = open_source(str(path))
    source.load([0])


def statistics(path: Path) -> None:
    is_statistics(str(path))
    found = read_statistics(path, kind="adm" if path.stem == "a" else None)
    for features in found.features.values():
        features.rows()


def unit(path: Path) -> None:
    file = UnitFile(path)
    for name in file:
        file.shape(name)
        file[name]


def captions(path: Path) -> None:
    said(path)
    texts([str(path)])


def scripted(path: Path) -> None:
    torchscript.is_torchscript(path)
    torchscript.read_torchscript(path)


STATE = {"state_dict": {"module.a": torch.zeros(2, 2), "module.b": torch.ones(3)}}
MOMENTS = {"mu": np.zeros(2048, np.float32), "sigma": np.zeros((1, 1))}
FILES: dict[str, tuple[str, Callable[[Path], bytes], Callable[[Path], object]]] = {
    "zip": ("a.zip", lambda _: a_zip(), stream),
    "zip, deflated": ("a.zip", lambda _: a_zip(zipfile.ZIP_DEFLATED), stream),
    "zip, by index": ("a.zip", lambda _: a_zip(zipfile.ZIP_LZMA), by_index),
    "tar": ("a.tar", lambda _: a_tar(), stream),
    "tar without its suffix": ("a", lambda _: a_tar(), stream),
    "tar, by index": ("a.tar", lambda _: a_tar(), by_index),
    "tar.gz": ("a.tar.gz", lambda _: gzip.compress(a_tar(), mtime=0), stream),
    "npz": ("a.npz", lambda _: an_npz(), stream),
    "npz, deflated": ("a.npz", lambda _: an_npz(np.savez_compressed), by_index),
    "npy": ("a.npy", lambda _: an_npy(), stream),
    "npy, by index": ("a.npy", lambda _: an_npy(), by_index),
    "parquet": ("a.parquet", lambda _: a_parquet(), stream),
    "parquet, packed": ("a.parquet", lambda _: a_parquet("snappy"), by_index),
    "statistics of ADM": ("a.npz", lambda _: an_npz(mu_s=np.zeros(3), sigma_s=np.eye(3)), statistics),
    "statistics with images": ("a.npz", lambda _: an_npz(), statistics),
    "statistics of clean-fid": ("x_clean_y_1.npz", lambda _: an_npz(mu=np.zeros(3), sigma=np.eye(3)), statistics),
    "statistics of clean-fid, features": ("x_clean_y_1_kid.npz", lambda _: an_npz(feats=np.eye(3)), statistics),
    "own statistics": ("b.npz", lambda _: own_statistics(), statistics),
    "statistics of EDM2": (
        "a.pkl",
        lambda _: pickle.dumps({"fid": {"mu": np.ones(3), "sigma": np.eye(3)}}),
        statistics,
    ),
    "statistics of torch-fidelity": (
        "x-inception-v3-compat-stat-fid-2048.pt",
        lambda _: a_torch_file(MOMENTS),
        statistics,
    ),
    "checkpoint": ("a.pth", lambda _: a_torch_file(STATE), checkpoint.read_state_dict),
    "checkpoint, old": ("a.pth", lambda _: a_torch_file(STATE, new=False), checkpoint.read_state_dict),
    "safetensors": ("a.safetensors", a_safetensors_file, checkpoint.read_state_dict),
    "captions": ("a.safetensors", a_safetensors_file, captions),
    "TorchScript": ("a.pt", lambda _: a_scripted_module(), scripted),
    "weights of an adapter": ("a.pth", lambda _: a_torch_file(STATE), adapter_checkpoint.read_state_dict),
    "weights of an adapter, safetensors": ("a.safetensors", a_safetensors_file, adapter_checkpoint.read_state_dict),
    "graph": ("a.pb", lambda _: a_graph(), graphdef.read),
    "gallery": ("a.npz", lambda _: a_gallery(), Gallery.read),
    "unit": ("a.npz", lambda _: a_unit(), unit),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_changed_file(tmp_path: Path, kind: str) -> None:
    name, make, read = FILES[kind]
    whole, path = make(tmp_path), tmp_path / name

    @bounded
    @given(CHANGES)
    def each(changes: list[Change]) -> None:
        path.write_bytes(changed(whole, changes))
        with contextlib.suppress(ArbenchError):
            read(path)

    each()


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("content", [b"", b"PK", b"\x93NUMPY", b"\x80", b"\0" * 2000, b"[" * 200_000, b"PAR1PAR1"])
def test_other_content(tmp_path: Path, kind: str, content: bytes) -> None:
    name, _, read = FILES[kind]
    (tmp_path / name).write_bytes(content)
    with contextlib.suppress(ArbenchError):
        read(tmp_path / name)


HEADERS = st.one_of(
    st.text(max_size=80),
    st.builds(
        "{{'descr': {}, 'fortran_order': {}, 'shape': {}, }}".format,
        st.sampled_from(("'|u1'", "'|O'", "'<U9'", "'|V0'", "[('a', '<f8')]", "None", "[[[]]]", "'x'", "'<f8'")),
        st.sampled_from(("True", "False", "None", "9", "'a'")),
        st.one_of(
            st.lists(st.integers(-5, 1 << 70), max_size=5).map(tuple).map(str),
            st.sampled_from(("(True, 2)", "(1.5,)", "()", "'ab'", "9L", "(2, 4, 4, 3)", "((((", "(0, 4, 4, 3)")),
        ),
    ),
)


@bounded
@given(header=HEADERS, version=st.sampled_from((1, 2, 3, 9)), rest=st.binary(max_size=200))
def test_headers_of_npy(tmp_path_factory: pytest.TempPathFactory, header: str, version: int, rest: bytes) -> None:
    text = header.encode("utf-8", "surrogatepass")
    size = len(text).to_bytes(2 if version == 1 else 4, "little")
    data = b"\x93NUMPY" + bytes([version, 0]) + size + text + rest
    folder = tmp_path_factory.getbasetemp() / "headers"
    folder.mkdir(exist_ok=True)
    (folder / "a.npy").write_bytes(data)
    with zipfile.ZipFile(folder / "a.npz", "w") as archive:
        for name in ("arr_0", "mu_s", "sigma_s"):
            archive.writestr(f"{name}.npy", data)
    for read, name in ((stream, "a.npy"), (stream, "a.npz"), (statistics, "a.npz"), (unit, "a.npz")):
        with contextlib.suppress(ArbenchError):
            read(folder / name)


@bounded
@given(
    method=st.integers(0, 0xFFFF),
    flags=st.integers(0, 0xFFFF),
    version=st.integers(0, 0xFFFF),
    name=st.binary(max_size=9),
)
def test_methods_and_flags_of_a_zip(
    tmp_path_factory: pytest.TempPathFactory, method: int, flags: int, version: int, name: bytes
) -> None:
    """Encrypted members, unknown methods, versions to come, names that are not what the flags say."""
    data = bytearray(a_zip())
    for mark, place in ((b"PK\x03\x04", 4), (b"PK\x01\x02", 6)):
        at = data.index(mark)
        data[at + place : at + place + 2] = version.to_bytes(2, "little")
        data[at + place + 2 : at + place + 4] = flags.to_bytes(2, "little")
        data[at + place + 4 : at + place + 6] = method.to_bytes(2, "little")
        start = at + (30 if place == 4 else 46)
        data[start : start + 3] = (name + b"0/a")[:3]
    path = tmp_path_factory.getbasetemp() / "methods.zip"
    path.write_bytes(data)
    for read in (stream, by_index):
        with contextlib.suppress(ArbenchError):
            read(path)


@pytest.mark.parametrize("file", ["features.json", "pictures.jsonl", "r--o.f32"])
def test_a_changed_feature_set(tmp_path: Path, file: str) -> None:
    writer = FeatureWriter(tmp_path / "set", "s", {"a": 1}, [Output("r:o", 2, "c")])
    writer.append([PictureRecord(i, f"{i}.png", 4, 4, None, "00" * 16) for i in range(3)], {"r:o": np.zeros((3, 2))})
    writer.finish(Tally(read=3))
    writer.close()
    path = tmp_path / "set" / file
    whole = path.read_bytes()

    @bounded
    @given(CHANGES)
    def each(changes: list[Change]) -> None:
        path.write_bytes(changed(whole, changes))
        try:
            found = FeatureSet(tmp_path / "set")
            found.pictures, found.labels, found.rows("r:o")[:]
        except ArbenchError:
            pass

    each()
