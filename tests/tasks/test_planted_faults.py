"""An audit of tokenizers with one planted fault each: every task of the suite, and what the report says in words."""

from __future__ import annotations

import numpy as np
import pytest
from skimage import data

from arbench.report.audit_sheets import findings
from arbench.spec.suite_file import read
from arbench.tasks.codes import CodesOfImages
from arbench.tasks.reconstruct import Reconstruct
from arbench.tasks.stability import Stability

N = 40
UNUSED = "Unused codes: 40 images show 50 % of the codebook"


@pytest.fixture
def photographs(tmp_path):
    """40 crops of 32 x 32 pixels of an astronaut, as a file."""
    picture = data.astronaut()[::2, ::2]
    crops = [picture[y : y + 32, x : x + 32] for y in range(0, 160, 32) for x in range(0, 256, 32)]
    np.savez(tmp_path / "photographs.npz", arr_0=np.stack(crops))
    return str(tmp_path / "photographs.npz")


@pytest.fixture
def audited(cell, through, photographs):
    """The faults that an audit finds: the tasks of its suite that faults are told from, with their own fields."""

    def run(name):
        metrics = {}
        for task in read("tokenizer-audit").suite.tasks:
            if task.task in ("codes", "detail", "stability", "prefix"):
                given = task.model_copy(update={"data": photographs, "n": N})
                metrics[task.task] = through(cell(f"tokenizers/{name}", given))[0].metrics
        return findings(metrics)

    return run


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("sparse", [UNUSED]),
        ("jittery", ["Not deterministic: 0 % of the images have the same codes and pixels twice."]),
        ("backwards", ["Order: longer prefixes make"]),
        ("halfway", ["Reconstructions are moved by 0.5 pixels to the right."]),
        ("exchanged", ["Channels are exchanged: only 0 % of the images have them in their order."]),
        ("lifted", [f"Value range: {channel} is 0.5 × the original's +12" for channel in ("red", "green", "blue")]),
        ("unscaled", [f"Value range: {channel} is 0.1" for channel in ("red", "green", "blue")]),
        ("whole", []),
        ("prefixed", []),
        ("continuous", []),
    ],
)
def test_the_audit_finds_the_planted_fault_and_no_other(audited, name, told):
    found = audited(name)
    if name in ("sparse", "jittery", "backwards", "prefixed"):  # grey blocks: no channel keeps its range
        found = [text for text in found if not text.startswith("Value range")]
    assert len(found) == len(told), found
    for text, expected in zip(found, told, strict=True):
        assert text.startswith(expected)
    if name in ("lifted", "unscaled"):
        assert all("scaling factor of the latents" in text for text in found)


def test_an_identity_changes_nothing(cell, through, photographs):
    fields = {"data": photographs, "n": N}
    numbers = through(cell("tokenizers/whole", Reconstruct(**fields, metrics=("psnr", "l1", "ssim"))))[0].metrics
    (psnr,) = (metric for metric in numbers if metric.name == "psnr")
    assert psnr.value == pytest.approx(10 * np.log10(255**2 * 3 * 1024))
    assert "identical_pairs" in psnr.flags  # infinite, were it not for one value off by one
    assert {m.name: m.value for m in numbers if m.name in ("l1", "ssim")} == {"l1": 0, "ssim": pytest.approx(1)}
    stable = through(cell("tokenizers/whole", Stability(**fields, rounds=2)))[0].metrics
    again = {m.at["round"]: m.value for m in stable if m.name == "latent-change" and "round" in m.at}
    assert again == {1: 0, 2: 0}
    assert {m.value for m in stable if m.name == "deterministic"} == {1}


def test_a_palette_shows_the_histogram_that_was_painted(cell, through, tmp_path):
    """Half of the pixels in one grey, a quarter in another, an eighth in each of two: 1.75 bits, four codes dead."""
    draw = np.random.default_rng(0)
    codes = np.repeat([1, 3, 4, 6], [512, 256, 128, 128])
    pages = np.stack([draw.permutation(codes) for _ in range(N)]).reshape(N, 32, 32, 1) * 32 + 16
    np.savez(tmp_path / "painted.npz", arr_0=np.repeat(pages, 3, 3).astype(np.uint8))
    fields = {"data": str(tmp_path / "painted.npz"), "n": N}
    metrics = through(cell("tokenizers/palette", Reconstruct(**fields, metrics=("l1",))))[0].metrics
    numbers = {metric.name: metric.value for metric in metrics}
    assert numbers["l1"] == 0
    assert numbers["codebook-used"] == 0.5
    assert numbers["dead-codes"] == 4
    assert numbers["codebook-entropy"] == pytest.approx(1.75)
    assert numbers["codebook-perplexity"] == pytest.approx(2**1.75)
    assert numbers["bits-per-image"] == 3 * 1024
    assert numbers["bits-per-image-entropy"] == pytest.approx(1.75 * 1024)
    found = through(cell("tokenizers/palette", CodesOfImages(**fields)))[0].metrics
    carried = next(metric.value for metric in found if metric.name == "bits-carried")
    assert carried == pytest.approx(1.75 / 3, rel=0.01)
    assert {m.value for m in found if m.name == "codebook-seen" and set(m.at) == {"images"}} == {0.5}
