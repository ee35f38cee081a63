"""Whatever a cached number is made of is changed, one thing at a time: the number changes, and comes back."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torchvision.models import alexnet

import arbench
from arbench import registry
from arbench.errors import UsageError
from arbench.weights import find
from tests import forked

MINI = "raster/llamagen-mini"
Numbers = dict[str, float]


def noise(folder: Path, count: int, seed: int) -> Path:
    """Bitmaps, whose files are all of one size."""
    folder.mkdir()
    draw = np.random.default_rng(seed)
    for index in range(count):
        Image.fromarray(draw.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(folder / f"{index}.bmp")
    return folder


def other_image(path: Path) -> None:
    """Another picture under the same name, of the same size in bytes, with the times of the old one."""
    times = path.stat()
    Image.fromarray(np.full((32, 32, 3), 200, np.uint8)).save(path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert path.stat().st_size == times.st_size


@pytest.fixture
def sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    monkeypatch.setenv("ARBENCH_CACHE", str(tmp_path / "cache"))
    return noise(tmp_path / "samples", 18, 0), noise(tmp_path / "reference", 18, 1)


def numbers(samples: Any, reference: Any, out: Path, **options: Any) -> Numbers:
    (result,) = arbench.score(samples, reference, out=out, device="cpu", **options).results
    return {metric.name: metric.value for metric in result.metrics if metric.value is not None}


OFFLINE: dict[str, Any] = {"conventions": ["offline"], "metrics": ["frechet", "kid"]}


@pytest.mark.parametrize("side", [0, 1])
def test_an_image_replaced_behind_the_caches_back(sets: tuple[Path, Path], tmp_path: Path, side: int) -> None:
    def scored() -> Numbers:
        return numbers(*sets, tmp_path / "out", **OFFLINE)

    first = scored()
    assert scored() == first
    kept = (sets[side] / "3.bmp").read_bytes()
    other_image(sets[side] / "3.bmp")
    changed = scored()
    assert changed.keys() == first.keys() == {"frechet", "kid"}
    assert all(changed[name] != first[name] for name in first)
    (sets[side] / "3.bmp").write_bytes(kept)
    assert scored() == first


@pytest.mark.parametrize("change", [{"limit": 17}, {"reference_crop": "adm-center-crop-v1", "size": 24}])
def test_a_setting_changed(sets: tuple[Path, Path], tmp_path: Path, change: dict[str, Any]) -> None:
    first = numbers(*sets, tmp_path / "out", **OFFLINE)
    changed = numbers(*sets, tmp_path / "out", **{**OFFLINE, **change})
    assert changed.keys() == first.keys()
    assert all(changed[name] != first[name] for name in first)
    assert numbers(*sets, tmp_path / "out", **OFFLINE) == first


def network_of_pairs(path: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    state = {f"features.{name}": value for name, value in alexnet(weights=None).features.state_dict().items()}
    torch.save({**state, "classifier.6.bias": torch.zeros(1000)}, path)
    return path


def test_the_weights_of_a_feature_network_changed_in_place(sets: tuple[Path, Path], tmp_path: Path) -> None:
    weights = tmp_path / "alexnet.pth"

    def scored(seed: int) -> Numbers:
        network_of_pairs(weights, seed)
        options = {"paired": True, "conventions": ["pairs"], "metrics": ["lpips-alex", "psnr"]}
        return numbers(*sets, tmp_path / "out", weights={"alexnet": weights}, **options)

    first = scored(0)
    other = scored(1)
    assert other["lpips-alex"] != first["lpips-alex"]
    assert other["psnr"] == first["psnr"]
    assert scored(0) == first


@pytest.mark.parametrize("which", ["generator", "tokenizer"])
def test_the_weights_of_a_generator_changed_in_place(sets: tuple[Path, Path], tmp_path: Path, which: str) -> None:
    """Of the model itself, and of its tokenizer."""
    card = registry.card(MINI)
    assert card.tokenizer is not None
    name = {"generator": MINI, "tokenizer": card.tokenizer}[which]
    file = find(registry.card(name))
    assert file is not None
    state, path = load_file(file), tmp_path / "w.safetensors"

    def scored(scale: float) -> Numbers:
        save_file({key: value * scale for key, value in state.items()}, path)
        options = {**OFFLINE, "metrics": ["frechet"], "limit": 16, "weights": {name: path}}
        return numbers(f"generator:{MINI}", str(sets[1]), tmp_path / "out", **options)

    first = scored(1.0)
    other = scored(0.5)
    assert other["frechet"] != first["frechet"]
    assert scored(1.0) == first


def test_a_score_says_which_of_several_weights_were_sampled(
    sets: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = find(registry.card(MINI))
    assert file is not None
    state, path = load_file(file), tmp_path / "w.safetensors"
    save_file({f"{part}.{name}": value.clone() for part in ("model", "shadow") for name, value in state.items()}, path)
    options = {**OFFLINE, "metrics": ["frechet"], "limit": 16, "weights": {MINI: path}, "device": "cpu"}
    (result,) = arbench.score(f"generator:{MINI}", str(sets[1]), **options).results
    said = {remark.code: remark.text for remark in result.remarks}
    assert "shadow of w.safetensors is loaded, and model is there too" in said["weights_part"]
    arbench.load(MINI, weights=path).close()
    assert "shadow of w.safetensors is loaded" in caplog.text


def test_statistics_of_a_generator_whose_weights_changed_in_place(sets: tuple[Path, Path], tmp_path: Path) -> None:
    file = find(registry.card(MINI))
    assert file is not None
    state, path, out = load_file(file), tmp_path / "w.safetensors", tmp_path / "s.npz"
    means = []
    for scale in (1.0, 0.5):
        save_file({key: value * scale for key, value in state.items()}, path)
        recipe = ("--recipe", "efficientnet-lite0", "--limit", "16", "-o", out)
        done = forked.arbench("stats", f"generator:{MINI}", "--weights", f"{MINI}={path}", *recipe)
        assert done.returncode == 0, done.stderr
        with np.load(out) as found:
            means.append({name: found[name] for name in found.files if found[name].ndim == 1 and found[name].size > 9})
    assert means[0].keys() == means[1].keys()
    assert any(not np.array_equal(means[0][name], means[1][name]) for name in means[0])


@pytest.mark.parametrize("options", [{"size": 16}, {"column": "image"}, {"reference_kind": "adm"}])
def test_an_option_that_would_change_nothing_is_refused(
    sets: tuple[Path, Path], tmp_path: Path, options: dict[str, Any]
) -> None:
    with pytest.raises(UsageError, match="would change nothing"):
        numbers(sets[0], sets[1], tmp_path / "out", **{**OFFLINE, **options})


def test_a_limit_of_features_that_are_there_is_refused(sets: tuple[Path, Path], tmp_path: Path) -> None:
    numbers(str(sets[0]), str(sets[1]), tmp_path / "out", **OFFLINE)
    with pytest.raises(UsageError, match="--limit would change nothing"):
        numbers(str(tmp_path / "out" / "features"), str(sets[1]), tmp_path / "again", limit=5, **OFFLINE)


CHANGES: dict[str, Callable[[Path], None]] = {
    "an image": lambda folder: other_image(folder / "3.bmp"),
    "one more": lambda folder: other_image_beside(folder),
    "one less": lambda folder: (folder / "17.bmp").unlink(),
}


def other_image_beside(folder: Path) -> None:
    Image.fromarray(np.full((32, 32, 3), 9, np.uint8)).save(folder / "99.bmp")


@pytest.mark.parametrize("what", CHANGES)
def test_what_is_kept_of_a_reference_follows_it(sets: tuple[Path, Path], tmp_path: Path, what: str) -> None:
    """Moments and kernel sums are kept for the next samples: of what the reference is then."""
    more = noise(tmp_path / "more", 18, 2)
    numbers(*sets, tmp_path / "first", **OFFLINE)
    CHANGES[what](sets[1])
    found = numbers(more, sets[1], tmp_path / "second", **OFFLINE)
    afresh = numbers(more, sets[1].rename(tmp_path / "renamed"), tmp_path / "third", **OFFLINE)
    assert found == pytest.approx(afresh, rel=1e-12)
