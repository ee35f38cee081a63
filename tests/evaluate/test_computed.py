"""What is computed of a reference alone: once, for the same numbers; again where anything that decides it changes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from arbench.data.stream import Tally
from arbench.evaluate import computed, known_reference
from arbench.evaluate import numbers as estimators
from arbench.evaluate.conventions import conventions
from arbench.evaluate.inputs import Inputs
from arbench.evaluate.known_reference import KnownReference
from arbench.features.feature_set import FeatureSet, Output, PictureRecord
from arbench.features.feature_writer import FeatureWriter
from arbench.metrics.sets.moments import Factored

pytestmark = pytest.mark.numerical

RECIPE, OUTPUT = "efficientnet-lite0", "efficientnet-lite0:pooled"
ALONE = ("frechet", "kid", "precision", "recall", "density", "coverage", "auth-pct")


def feature_set(folder: Path, seed: int, n: int = 150) -> FeatureSet:
    rows = np.random.default_rng(seed).gamma(0.5, 0.8, (n, 12)).astype(np.float32)
    writer = FeatureWriter(folder, f"set {seed}", {}, [Output(OUTPUT, 12, "c")])
    writer.append([PictureRecord(i, str(i), 8, 8, None, f"{i:032x}") for i in range(n)], {OUTPUT: rows})
    return writer.finish(Tally(read=n))


def numbers(samples: FeatureSet, reference: FeatureSet, ks: tuple[int, ...] = (3,)) -> dict[str, Any]:
    wanted = [each for each in conventions()["offline"].definitions if each.metric in ALONE]
    inputs = Inputs({RECIPE: samples}, KnownReference("r", {RECIPE: reference}), {}, ks=ks)
    return {each.name: (each.value, each.interval) for each in estimators.numbers(wanted, inputs)}


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("computed--*.npz"))


def test_a_reference_is_computed_once_and_the_numbers_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples, reference = feature_set(tmp_path / "s", 1), feature_set(tmp_path / "r", 2)
    first = numbers(samples, reference)
    assert [path.name.split("--")[1] for path in files(tmp_path / "r")] == ["kernel", "moments", "radii"]
    assert not files(tmp_path / "s")
    for name in ("radii", "pair_sums"):
        monkeypatch.setattr(known_reference, name, None)
    monkeypatch.setattr(Factored, "of", None)
    assert numbers(samples, FeatureSet(tmp_path / "r")) == first
    monkeypatch.undo()
    monkeypatch.setattr(computed, "place", lambda *_: None)  # nothing kept at all
    assert numbers(samples, reference) == first


def test_other_vectors_give_other_numbers(tmp_path: Path) -> None:
    """Of as many images, under the same name and in the same folder."""
    samples = feature_set(tmp_path / "s", 1)
    first = numbers(samples, feature_set(tmp_path / "r", 2))
    for path in (tmp_path / "r").iterdir():
        if not path.name.startswith("computed--"):
            path.unlink()
    second = numbers(samples, feature_set(tmp_path / "r", 3))
    assert all(first[name] != second[name] for name in ("frechet", "kid", "recall", "density"))
    assert len(files(tmp_path / "r")) == 6


def test_a_damaged_file_is_computed_again_with_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    samples, reference = feature_set(tmp_path / "s", 1), feature_set(tmp_path / "r", 2)
    first = numbers(samples, reference)
    damages: list[Callable[[bytes], bytes]] = [
        lambda data: data[:-40],
        lambda data: data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :],
        lambda data: b"",
    ]
    for damage, path in zip(damages, files(tmp_path / "r"), strict=True):
        whole = path.read_bytes()
        path.write_bytes(damage(whole))
        with caplog.at_level(logging.WARNING):
            assert numbers(samples, reference) == first
        assert f"{path} is damaged" in caplog.text
        assert "computed again" in caplog.text
        assert len(path.read_bytes()) == len(whole)
        caplog.clear()
        assert numbers(samples, reference) == first
        assert not caplog.text


def test_a_folder_that_cannot_be_locked(tmp_path: Path) -> None:
    samples, reference = feature_set(tmp_path / "s", 1), feature_set(tmp_path / "r", 2)
    (tmp_path / "r" / computed.LOCK).mkdir()
    assert numbers(samples, reference)["frechet"][0] is not None
    assert not files(tmp_path / "r")


def test_what_cannot_be_written_is_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples, reference = feature_set(tmp_path / "s", 1), feature_set(tmp_path / "r", 2)
    first = numbers(samples, reference)
    for path in files(tmp_path / "r"):
        path.unlink()

    def full(path: Path, arrays: object) -> None:
        raise computed.StoreError("no", "room", "")

    monkeypatch.setattr(computed, "_write", full)
    assert numbers(samples, reference) == first


def test_the_place_of_what_is_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each ingredient of the key, changed alone."""
    one = feature_set(tmp_path / "r", 2)
    facts: dict[str, Any] = {"features": one, "what": "radii", "settings": {"ks": [1, 3]}, "device": "cpu"}
    others: dict[str, Any] = {"features": feature_set(tmp_path / "q", 3), "what": "m", "settings": {"ks": [1, 5]}}

    def mark(**changed: Any) -> str:
        given = {**facts, **changed}
        found = computed.place(given["features"], OUTPUT, given["what"], given["settings"], given["device"])
        assert found is not None
        return found.name.rpartition("--")[2]

    marks = [mark(), *(mark(**{name: value}) for name, value in others.items())]
    assert len(set(marks)) == len(marks)
    assert mark() == marks[0]
    for where, name, value in (
        (computed, "NUMBERS", computed.NUMBERS + 1),
        (computed, "device_name", lambda device: "another processor"),
        (computed, "packages", lambda names: {"torch": "0"}),
        (torch, "get_num_threads", lambda: 77),
    ):
        with monkeypatch.context() as changed:
            changed.setattr(where, name, value)
            marks.append(mark())
    assert len(set(marks)) == len(marks)


def test_radii_of_some_images(tmp_path: Path) -> None:
    """A convention that takes a part of the reference keeps another file for another part."""
    reference = KnownReference("r", {RECIPE: feature_set(tmp_path / "r", 2)})
    some = [reference.radii(OUTPUT, (3,), "float32", "cpu", np.arange(first, first + 60)) for first in (0, 1, 0)]
    whole = reference.radii(OUTPUT, (3,), "float32", "cpu")
    assert [len(each[3]) for each in (*some, whole)] == [60, 60, 60, 150]
    assert (some[0][3] == some[2][3]).all()
    assert (some[0][3] != some[1][3]).any()
    assert len(files(tmp_path / "r")) == 3
