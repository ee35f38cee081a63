"""`arbench score` against torch-fidelity's own command and clean-fid's functions: same images, same random weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import cleanfid.fid
import cleanfid.inception_pytorch
import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

from tests import forked

SAMPLES, REFERENCES, SUBSET = 32, 32, 20
"""32 images leave no tool a last batch below 16, for which the CPU has other kernels that round differently. The two
sets are far apart, one of them dark: of two that are alike KID is so near zero that the rounding of features shows."""


def crops(folder: Path, photographs: list[np.ndarray], count: int, seed: int) -> Path:
    """`count` crops of 64 x 64 as PNG files."""
    draw = np.random.default_rng(seed)
    folder.mkdir()
    for index in range(count):
        photograph = photographs[index % len(photographs)]
        y, x = (int(draw.integers(0, side - 64)) for side in photograph.shape[:2])
        Image.fromarray(photograph[y : y + 64, x : x + 64]).save(folder / f"{index:04d}.png")
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("images")
    ours = [skimage.data.astronaut(), skimage.data.coffee(), skimage.data.chelsea(), skimage.data.rocket()]
    theirs = [skimage.data.rocket() // 2]
    return crops(root / "samples", ours, SAMPLES, 0), crops(root / "references", theirs, REFERENCES, 1)


@pytest.fixture(scope="module")
def metrics(folders, inception_file, tmp_path_factory) -> dict[tuple[str, str], dict[str, Any]]:
    """(convention, metric) -> what our own command says of it."""
    root = tmp_path_factory.mktemp("scored")
    samples, references = folders
    command = ["score", samples, "--reference", references]
    command += ["--convention", "torch-fidelity-2048,clean-fid", "--kid-subset-size", str(SUBSET)]
    command += ["--weights", f"inception={inception_file}", "--out", str(root / "out"), "--json"]
    environment = {**os.environ, "ARBENCH_CACHE": str(root / "cache"), "ARBENCH_WEIGHTS": str(root / "none")}
    done = forked.arbench(*command, env=environment)
    assert done.returncode == 0, done.stderr
    return {(metric["convention"], metric["name"]): metric for metric in json.loads(done.stdout)["metrics"]}


@pytest.fixture(scope="module")
def scored(metrics) -> dict[tuple[str, str], float]:
    return {name: metric["value"] for name, metric in metrics.items()}


def test_every_number_has_an_error_bar_and_says_that_the_weights_are_not_the_official_ones(metrics):
    found = [metric for metric in metrics.values() if metric["value"] is not None]
    assert len(found) == 7
    for metric in found:
        assert metric["interval"]["low"] <= metric["value"] <= metric["interval"]["high"]
        assert "unofficial_weights" in metric["flags"]


def test_equal_to_torch_fidelitys_command(folders, inception_file, scored):
    samples, references = folders
    command = [str(Path(sys.executable).with_name("fidelity")), "--input1", str(samples), "--input2", str(references)]
    command += ["--fid", "--kid", "--isc", "--prc", "--kid-subset-size", str(SUBSET), "--cpu", "--json"]
    command += ["--feature-extractor", "inception-v3-compat", "--feature-layer-prc", "2048"]
    command += ["--feature-extractor-weights-path", str(inception_file), "--no-cache"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout)
    names = {
        "fid": "frechet_inception_distance",
        "is": "inception_score_mean",
        "kid": "kernel_inception_distance_mean",
        "precision": "precision",
        "recall": "recall",
    }
    for ours, name in names.items():
        assert scored["torch-fidelity-2048", ours] == pytest.approx(theirs[name], rel=1e-6), ours


def test_equal_to_clean_fid(folders, inception_state, scored, monkeypatch):
    monkeypatch.setattr(
        cleanfid.inception_pytorch, "load_state_dict_from_url", lambda *_arguments, **_options: inception_state
    )
    network = cleanfid.inception_pytorch.InceptionV3([3], resize_input=False, normalize_input=False).eval()

    def features(pixels: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return network((pixels - 128) / 128)[0].flatten(1)

    read = partial(
        cleanfid.fid.get_folder_features,
        model=features,
        num_workers=0,
        batch_size=32,
        device=torch.device("cpu"),
        mode="clean",
        verbose=False,
    )
    ours, theirs = (read(str(folder)) for folder in folders)
    moments = [part for each in (ours, theirs) for part in (each.mean(0), np.cov(each, rowvar=False))]
    distance = cleanfid.fid.frechet_distance(*moments)
    assert scored["clean-fid", "fid"] == pytest.approx(distance, rel=1e-6)
    np.random.seed(0)
    kernel = cleanfid.fid.kernel_distance(theirs, ours, max_subset_size=SUBSET)
    assert scored["clean-fid", "kid"] == pytest.approx(kernel, rel=1e-6)
