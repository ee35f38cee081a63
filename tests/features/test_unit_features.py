"""Features as they lie in a run's units: every way of asking for rows gives those of the concatenated arrays."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import arbench.features.unit_features as unit_features
from arbench.errors import InputError
from arbench.features.unit_features import UnitFeatures, UnitFile, UnitRows, recipes_in
from arbench.features.vectors import HELD, FeatureFile
from arbench.images import pack

COUNTS = (5, 3, 7, 1)
TOTAL = sum(COUNTS)
NAME = "features:inception/tf1:pool3"
RECIPE, OUTPUT = "inception/tf1", "inception/tf1:pool3"


def arrays_of(start: int, count: int, labels: list[int] | None = None) -> dict[str, NDArray[Any]]:
    draw = np.random.default_rng(start)
    return {
        "sample_ids": np.arange(start, start + count),
        "labels": np.array(labels if labels is not None else [number % 3 for number in range(start, start + count)]),
        "digests": np.array([f"{number:032x}" for number in range(start, start + count)]),
        "keys": np.array([f"sample-{number}" for number in range(start, start + count)]),
        "size": np.array([32, 48]),
        NAME: draw.normal(size=(count, 4)).astype(np.float32),
        f"convention:{OUTPUT}": np.array("tf1, weights 67268, parity"),
        "features:inception/tf1:logits": draw.normal(size=(count, 2)).astype(np.float32),
        "convention:inception/tf1:logits": np.array("tf1, weights 67268, parity"),
        "features:efficientnet-lite0:pooled": draw.normal(size=(count, 3)).astype(np.float32),
        "convention:efficientnet-lite0:pooled": np.array("lite0"),
        "value:psnr": np.array([np.nan if number == 6 else number / 2 for number in range(start, start + count)]),
    }


@pytest.fixture
def parts() -> list[dict[str, NDArray[Any]]]:
    starts = np.cumsum([0, *COUNTS[:-1]]).tolist()
    return [arrays_of(start, count) for start, count in zip(starts, COUNTS, strict=True)]


@pytest.fixture
def units(parts: list[dict[str, NDArray[Any]]], tmp_path: Path) -> list[UnitFile]:
    found = []
    for number, arrays in enumerate(parts):
        path = tmp_path / f"{number}.npz"
        path.write_bytes(pack(arrays))
        found.append(UnitFile(path))
    return found


@pytest.fixture(params=[HELD, 0], ids=["in memory", "from disk"])
def held(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(unit_features, "HELD", request.param)
    return request.param


@pytest.fixture
def rows(units: list[UnitFile], held: int) -> UnitRows:
    return UnitFeatures("a run", units, RECIPE).rows(OUTPUT)


@pytest.fixture
def whole(parts: list[dict[str, NDArray[Any]]]) -> NDArray[np.float32]:
    return np.concatenate([arrays[NAME] for arrays in parts])


INDICES = {
    "all": slice(None),
    "nothing": slice(4, 4),
    "beginning": slice(0, 3),
    "over a cut": slice(3, 9),
    "to beyond the end": slice(14, 99),
    "from the end": slice(-4, None),
    "every other": slice(None, None, 2),
    "backwards": slice(None, None, -1),
    "order": np.array([15, 0, 7, 8, 5, 4]),
    "twice": np.array([6, 6, 2, 6]),
    "negative": np.array([-1, -16, 3]),
    "none": np.array([], dtype=np.int64),
    "list": [9, 1],
    "small integers": np.array([9, 1], dtype=np.int8),
    "boolean": np.arange(TOTAL) % 3 == 1,
    "boolean of none": np.zeros(TOTAL, dtype=bool),
}


@pytest.mark.parametrize("index", INDICES.values(), ids=INDICES)
def test_rows_are_those_of_the_concatenated_arrays(rows: UnitRows, whole: NDArray[np.float32], index: Any) -> None:
    found = rows[index]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, whole[index])
    np.testing.assert_array_equal(rows[index], whole[index])  # once more, of what was kept


def test_a_single_row_is_one_row(rows: UnitRows, whole: NDArray[np.float32]) -> None:
    for index in (0, 5, TOTAL - 1, -1):
        np.testing.assert_array_equal(rows[index], whole[index][None])


@pytest.mark.parametrize("index", [TOTAL, -TOTAL - 1, np.array([0, TOTAL])])
def test_a_row_that_is_not_there(rows: UnitRows, index: Any) -> None:
    with pytest.raises(IndexError):
        rows[index]


def test_length_and_shape_are_known_without_reading_vectors(rows: UnitRows) -> None:
    assert (len(rows), rows.shape) == (TOTAL, (TOTAL, 4))
    assert (rows._held, rows._last) == (None, None)


def test_random_slices_and_indices(rows: UnitRows, whole: NDArray[np.float32]) -> None:
    draw = np.random.default_rng(0)
    for _ in range(50):
        start, stop = sorted(draw.integers(0, TOTAL + 1, 2).tolist())
        np.testing.assert_array_equal(rows[start:stop], whole[start:stop])
        index = draw.integers(0, TOTAL, 6)
        np.testing.assert_array_equal(rows[index], whole[index])


def test_rows_as_a_feature_file_gives_them(rows: UnitRows, whole: NDArray[np.float32], tmp_path: Path) -> None:
    """Both are `Vectors`, and metrics are given either."""
    path = tmp_path / "rows.f32"
    path.write_bytes(whole.tobytes())
    file = FeatureFile(path, TOTAL, 4)
    for index in INDICES.values():
        np.testing.assert_array_equal(rows[index], file[index])


def test_rows_of_a_small_set_are_read_once_and_a_large_one_is_not_kept(
    units: list[UnitFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    get = UnitFile.__getitem__

    def counted(self: UnitFile, name: str) -> NDArray[Any]:
        if name.startswith("features:"):
            read.append(self.path.stem)
        return get(self, name)

    monkeypatch.setattr(UnitFile, "__getitem__", counted)
    small = UnitFeatures("a run", units, RECIPE).rows(OUTPUT)
    for start in range(0, TOTAL, 3):
        small[start : start + 3]
    assert read == ["0", "1", "2", "3"]
    read.clear()
    monkeypatch.setattr(unit_features, "HELD", 4 * TOTAL * 4 - 1)  # a byte less than it takes
    large = UnitFeatures("a run", units, RECIPE).rows(OUTPUT)
    for start in range(0, TOTAL, 2):
        large[start : start + 2]
    assert read == ["0", "1", "2", "3"]  # in order, each unit once
    large[np.array([15, 0])]
    assert sorted(read[4:]) == ["0", "3"]
    assert large._held is None


def test_a_set_of_features_knows_its_pictures(units: list[UnitFile], parts: list[dict[str, NDArray[Any]]]) -> None:
    features = UnitFeatures("a run", units, RECIPE)
    assert (features.source, len(features), features.tally.read) == ("a run", TOTAL, TOTAL)
    assert list(features.outputs) == [OUTPUT, "inception/tf1:logits"]
    assert (features.outputs[OUTPUT].length, features.outputs[OUTPUT].convention) == (4, "tf1, weights 67268, parity")
    assert [picture.index for picture in features.pictures] == list(range(TOTAL))
    assert [picture.key for picture in features.pictures] == [f"sample-{number}" for number in range(TOTAL)]
    assert features.pictures[9].digest == f"{9:032x}"
    assert {(picture.height, picture.width) for picture in features.pictures} == {(32, 48)}
    assert features.labels is not None
    np.testing.assert_array_equal(features.labels, np.arange(TOTAL) % 3)
    assert [picture.values["psnr"] for picture in features.pictures[4:8]] == [2.0, 2.5, None, 3.5]


def test_metrics_of_pairs_are_a_set_without_vectors(units: list[UnitFile]) -> None:
    pairs = UnitFeatures("a run", units)
    assert (dict(pairs.outputs), len(pairs)) == ({}, TOTAL)
    assert pairs.pictures[3].values == {"psnr": 1.5}


def test_samples_without_classes_have_no_labels(tmp_path: Path) -> None:
    path = tmp_path / "0.npz"
    path.write_bytes(pack(arrays_of(0, 3, labels=[0, -1, 2])))
    features = UnitFeatures("a run", [UnitFile(path)], RECIPE)
    assert [picture.label for picture in features.pictures] == [0, None, 2]
    assert features.labels is None


def test_recipes_of_a_unit_are_named_once(units: list[UnitFile]) -> None:
    assert recipes_in(units[0]) == ["inception/tf1", "efficientnet-lite0"]


def test_a_unit_is_a_mapping_that_reads_what_is_asked_for(
    units: list[UnitFile], parts: list[dict[str, NDArray[Any]]]
) -> None:
    unit = units[0]
    assert list(unit) == list(parts[0])
    assert len(unit) == len(parts[0])
    assert NAME in unit
    assert "images" not in unit
    assert unit.get("images") is None
    with pytest.raises(KeyError, match="images"):
        unit["images"]
    for name, array in parts[0].items():
        np.testing.assert_array_equal(unit[name], array)
        assert unit[name].dtype == array.dtype
        assert unit.shape(name) == array.shape


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "0.npz"
    np.savez(path, evil=np.array([print], dtype=object))
    with pytest.raises(InputError, match="never unpickled"):
        UnitFile(path)["evil"]


@pytest.mark.parametrize("damage", ["missing", "cut off", "something else"])
def test_a_unit_that_cannot_be_read(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "0.npz"
    data = pack(arrays_of(0, 3))
    if damage != "missing":
        path.write_bytes(data[: len(data) // 2] if damage == "cut off" else b"hello")
    with pytest.raises(InputError, match="cannot read") as caught:
        list(UnitFile(path))
    assert "arbench resume" in caught.value.hint


def test_a_damaged_array_is_named_when_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "0.npz"
    data = bytearray(pack(arrays_of(0, 3)))
    data[data.index(b"inception/tf1:pool3.npy") + 200] ^= 1
    path.write_bytes(data)
    unit = UnitFile(path)
    assert unit["labels"].tolist() == [0, 1, 2]
    with pytest.raises(InputError, match=r"(?s)cannot read .*0\.npz.*CRC"):
        unit[NAME]


def test_reading_units_needs_no_torch() -> None:
    code = "import sys, arbench.features.unit_features; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
