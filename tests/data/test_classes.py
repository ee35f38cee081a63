"""Which label a class has that is named by its folder: official ids, integers, places."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from arbench.data.readers import listing
from arbench.data.readers.listing import class_ids, imagenet_ids
from arbench.data.sources import open_source, open_stream
from arbench.errors import ImageError, PrerequisiteError

TENCH, GOLDFISH, TOILET_TISSUE = "n01440764", "n01443537", "n15075141"  # 0, 1 and 999
DOG = "n02084071"  # of ImageNet-21k alone


def _png() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((4, 4, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def _folder(place: Path, names: list[str]) -> str:
    for name in names:
        (place / "set" / name).mkdir(parents=True)
        (place / "set" / name / "a.png").write_bytes(_png())
    return f"folder:{place}/set"


def _imagenet(place: Path, names: list[str]) -> str:
    return _folder(place, names).replace("folder:", "imagenet:")


def _zip(place: Path, names: list[str]) -> str:
    with zipfile.ZipFile(place / "a.zip", "w") as archive:
        for name in names:
            archive.writestr(f"set/{name}/a.png", _png())
    return f"zip:{place}/a.zip"


@pytest.mark.parametrize("write", [_folder, _zip])
@pytest.mark.parametrize(
    ("names", "labels"),
    [
        ([TOILET_TISSUE, GOLDFISH], {1: GOLDFISH, 999: TOILET_TISSUE}),  # official ids of a subset
        ([TENCH, DOG], {0: TENCH, 1: DOG}),  # not all of ImageNet-1k: by place
        ([DOG, GOLDFISH], {0: GOLDFISH, 1: DOG}),
        ([TENCH, "other"], {0: TENCH, 1: "other"}),
        (["10", "07", "3"], {3: "3", 7: "07", 10: "10"}),
        (["10", "9a", "2"], {0: "2", 1: "9a", 2: "10"}),  # "9a" is not a number
        (["-1", "1"], {0: "1", 1: "-1"}),
        (["9" * 30, "1"], {0: "1", 1: "9" * 30}),  # no 64-bit integer
        (["class10", "class2"], {0: "class2", 1: "class10"}),
    ],
)
def test_labels_by_the_names_of_the_classes(
    tmp_path: Path, write: Callable[[Path, list[str]], str], names: list[str], labels: dict[int, str]
) -> None:
    name = write(tmp_path, names)
    source, stream = open_source(name), open_stream(name)
    assert dict(source.classes) == dict(stream.classes) == labels
    assert list(source.classes) == sorted(source.classes)
    assert source.labels is not None
    assert source.labels.tolist() == [picture.label for picture in stream]
    for key, label in zip(source.keys(range(len(source))), source.labels.tolist(), strict=True):
        assert key.removeprefix("set/") == f"{source.classes[label]}/a.png"


def test_imagenet(tmp_path: Path) -> None:
    source = open_source(_imagenet(tmp_path, [TOILET_TISSUE, TENCH]))
    assert source.classes == {0: TENCH, 999: TOILET_TISSUE}
    (tmp_path / "set" / "others").mkdir()
    (tmp_path / "set" / "others" / "a.png").write_bytes(_png())
    with pytest.raises(ImageError, match="layout of ImageNet") as caught:
        open_source(f"imagenet:{tmp_path}/set")
    assert "others is not a WordNet id" in caught.value.why


@pytest.mark.parametrize("write", [_folder, _zip])
def test_two_folders_of_one_number_are_refused(tmp_path: Path, write: Callable[[Path, list[str]], str]) -> None:
    name = write(tmp_path, ["3", "03", "4"])
    for opening in (open_source, open_stream):
        with pytest.raises(ImageError, match="are class 3") as caught:
            opening(name)  # type: ignore[operator]
        assert "rename" in caught.value.hint


@given(st.sets(st.integers(0, 999), min_size=1, max_size=30))
def test_any_subset_of_imagenet_has_its_official_ids(labels: set[int]) -> None:
    names = {label: name for name, label in imagenet_ids().items()}
    assert len(names) == 1000
    assert class_ids("set", [names[label] for label in labels]) == {names[label]: label for label in labels}


@given(st.sets(st.integers(0, 10**6), min_size=1, max_size=30))
def test_integers_are_their_labels(labels: set[int]) -> None:
    assert class_ids("set", map(str, labels)) == {str(label): label for label in labels}


def test_the_list_of_classes_needs_no_import_of_timm() -> None:
    code = (
        "import sys; from arbench.data.readers.listing import imagenet_ids; imagenet_ids();"
        "sys.exit('timm' in sys.modules or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_the_list_wordnet_ids_are_not_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing.importlib.util, "find_spec", lambda name: None)
    imagenet_ids.cache_clear()
    with pytest.raises(PrerequisiteError, match="ImageNet's classes"):
        class_ids("set", [TENCH, GOLDFISH])
    assert class_ids("set", ["cat", "dog"]) == {"cat": 0, "dog": 1}
