"""The tasks of an audit on tokenizers whose codes NumPy can work out, and on some with planted faults."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from arbench.data.perturbations import PERTURBATIONS
from arbench.data.readers.mnist import mnist5k
from arbench.tasks.prefix import Prefix
from arbench.tasks.stability import Stability

N = 70
"""More than a unit."""


@pytest.fixture(scope="module")
def images() -> NDArray[np.uint8]:
    return mnist5k("heldout").load(range(N))


def codes(images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Mean grey of 4 x 4 blocks in 16 levels, (n, 64)."""
    grey = images.astype(np.float64).mean(1).reshape(-1, 8, 4, 8, 4).mean((2, 4)) / 255
    return np.round(grey * 15 + 0.01).astype(int).reshape(-1, 64)


def rendered(ids: NDArray[np.int64]) -> NDArray[np.uint8]:
    blocks = np.repeat(np.repeat((ids * 17).reshape(-1, 1, 8, 8), 4, 2), 4, 3)
    return np.broadcast_to(blocks, (len(ids), 3, 32, 32)).astype(np.uint8)


def psnr(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.float64]:
    return 10 * np.log10(255**2 / ((one.astype(float) - other) ** 2).mean((1, 2, 3)))


def by_hand(name: str, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The same changes, made in another way."""
    if name == "shift by a pixel":
        return np.pad(images, ((0, 0), (0, 0), (0, 0), (1, 0)), mode="edge")[..., :-1]
    changed = []
    for image in images:
        picture = Image.fromarray(image.transpose(1, 2, 0))
        if name == "JPEG 90":
            file = io.BytesIO()
            picture.save(file, format="JPEG", quality=90)
            picture = Image.open(file)
        elif name == "crop":
            picture = picture.crop((1, 1, 31, 31)).resize((32, 32), Image.Resampling.BICUBIC)
        changed.append(np.asarray(picture).transpose(2, 0, 1))
    return np.stack(changed)


def found(finished, name: str) -> dict[tuple[tuple[str, object], ...], float]:
    return {tuple(sorted(m.at.items())): m.value for m in finished.metrics if m.name == name}


@pytest.mark.parametrize("name", [name for name in PERTURBATIONS if not name.startswith("blur")])
def test_changes_of_codes_are_those_of_numpy(cell, through, images, name):
    finished, _ = through(cell("tokenizers/blocks", Stability(n=N)))
    expected = (codes(by_hand(name, images)) != codes(images)).mean()
    assert expected > 0
    assert found(finished, "token-change")[("perturbation", name),] == pytest.approx(expected, abs=1e-12)


def test_blocks_of_grey_are_stable_in_every_other_way(cell, through, images):
    finished, _ = through(cell("tokenizers/blocks", Stability(n=N, rounds=2)))
    assert found(finished, "deterministic") == {(): 1}
    assert found(finished, "flip-agreement") == {(): 1}
    assert found(finished, "token-agreement") == {(("round", 1),): 1, (("round", 2),): 1}
    expected = psnr(rendered(codes(images)), images).mean()
    assert found(finished, "psnr-round") == pytest.approx({(("round", k),): expected for k in (1, 2)})
    assert found(finished, "latent-change") == {}  # it has codes


@pytest.mark.parametrize("name", ["blocks", "leaning", "scales"])
def test_intervals_of_shares_of_few_images_stay_between_0_and_1(cell, through, name):
    finished, _ = through(cell(f"tokenizers/{name}", Stability(n=3, rounds=2)))
    shares = [
        metric for metric in finished.metrics if metric.name in ("token-change", "token-agreement", "flip-agreement")
    ]
    assert len(shares) > len(PERTURBATIONS)
    for each in shares:
        assert 0 <= each.interval.low <= each.value <= each.interval.high <= 1, each


def test_levels_of_a_pyramid_are_told_apart(cell, through):
    finished, _ = through(cell("tokenizers/scales", Stability(n=N, rounds=1)))
    places = set(found(finished, "token-agreement"))
    assert places == {(("round", 1),), (("level", 0), ("round", 1)), (("level", 1), ("round", 1))}


def test_continuous_latents_are_compared_by_their_length(cell, through):
    finished, _ = through(cell("tokenizers/continuous", Stability(n=N, rounds=1)))
    assert found(finished, "token-change") == {}
    changes = found(finished, "latent-change")
    assert len(changes) == 2 + len(PERTURBATIONS)
    assert all(0 <= value < 1 for value in changes.values())
    (flip,) = (metric for metric in finished.metrics if metric.name == "flip-agreement")
    assert (flip.value, flip.reason) == (None, "its codes have no place in the image, or several of them share one")


def test_a_tokenizer_that_is_not_deterministic_is_found(cell, through):
    finished, _ = through(cell("tokenizers/jittery", Stability(n=N, rounds=1)))
    assert found(finished, "deterministic") == {(): 0}


def test_one_that_moves_its_images_is_found(cell, through, images):
    """Encoding what it decodes gives the codes of the neighbours to the left; each round moves the image."""
    finished, _ = through(cell("tokenizers/leaning", Stability(n=N, rounds=2)))
    grid = codes(images).reshape(N, 8, 8)
    expected = (np.roll(grid, 1, axis=2) == grid).mean()
    assert found(finished, "token-agreement")[("round", 1),] == pytest.approx(expected)
    assert found(finished, "deterministic") == {(): 1}
    first, second = found(finished, "psnr-round").values()
    assert second < first


def test_one_that_decodes_codes_as_others_is_found(cell, through, images):
    """None of its codes comes back, and the second round is a negative of a negative."""
    finished, _ = through(cell("tokenizers/swapping", Stability(n=N, rounds=2)))
    assert found(finished, "token-agreement") == {(("round", 1),): 0, (("round", 2),): 0}
    ids = codes(images)
    expected = [psnr(rendered(each), images).mean() for each in (15 - ids, ids)]
    assert list(found(finished, "psnr-round").values()) == pytest.approx(expected)


COUNTS = (1, 2, 4, 8, 16, 32, 64)


def test_prefixes_against_numpy(cell, through, images):
    finished, _ = through(cell("tokenizers/prefixed", Prefix(n=N, show=3)))
    ids = codes(images)
    values = np.stack([psnr(rendered(np.where(np.arange(64) < k, ids, 0)), images) for k in COUNTS], axis=1)
    assert found(finished, "prefix-psnr") == pytest.approx(
        {(("prefix", k), ("tokens", k)): value for k, value in zip(COUNTS, values.mean(0), strict=True)}
    )
    needed = np.array(COUNTS)[(values >= values[:, -1:] - 1).argmax(1)] / 64
    assert found(finished, "prefix-needed") == {(): pytest.approx(needed.mean())}
    rising = (np.diff(values, axis=1) >= -1e-6).all(1).mean()
    assert found(finished, "prefix-monotone") == {(): pytest.approx(rising)}
    assert finished.gallery is not None
    assert finished.gallery.images.shape == (1 + len(COUNTS), 3, 3, 32, 32)
    np.testing.assert_array_equal(finished.gallery.images[0], images[:3])


def test_a_broken_order_is_found(cell, through):
    whole, _ = through(cell("tokenizers/prefixed", Prefix(n=N)))
    broken, _ = through(cell("tokenizers/backwards", Prefix(n=N)))
    assert found(broken, "prefix-monotone")[()] < 0.1 < found(whole, "prefix-monotone")[()]


def test_a_tokenizer_without_prefixes_says_so(cell, through):
    finished, _ = through(cell("tokenizers/blocks", Prefix(n=N)))
    assert {metric.value for metric in finished.metrics} == {None}
    assert {metric.reason for metric in finished.metrics} == {
        "tokenizers/blocks does not decode prefixes (it has no `decode_prefix`)"
    }
