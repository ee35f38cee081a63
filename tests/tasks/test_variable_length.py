"""Tasks of tokenizers whose images differ in how many tokens they take: files as bytes, and bit planes of wavelets."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from tiny_adapters import CARDS

from arbench import registry
from arbench.data.perturbations import shifted
from arbench.data.readers.mnist import mnist5k
from arbench.errors import CellError, InputError
from arbench.images import to_float
from arbench.metrics.code_length import adaptive_bits, saturation
from arbench.metrics.codes import bits_per_image, code_use
from arbench.protocols import Codes, LoadSpec, TokenSpec
from arbench.tasks import outputs
from arbench.tasks.codes import CodesOfImages
from arbench.tasks.detail import Detail
from arbench.tasks.perturb import Perturb
from arbench.tasks.predict import Predict
from arbench.tasks.prefix import Prefix
from arbench.tasks.reconstruct import Reconstruct
from arbench.tasks.stability import Stability

N = 70
"""More than a unit."""


def files(images: NDArray[np.uint8], form: str = "JPEG", quality: int = 75) -> list[bytes]:
    found = []
    for image in images:
        with io.BytesIO() as file:
            Image.fromarray(image.transpose(1, 2, 0)).save(file, format=form, quality=quality)
            found.append(file.getvalue())
    return found


def opened(name):
    return registry.resolve(CARDS[name].implementation).load(CARDS[name], LoadSpec())


def values(finished, name: str) -> dict[tuple[tuple[str, object], ...], float | None]:
    return {tuple(sorted(m.at.items())): m.value for m in finished.metrics if m.name == name}


@pytest.fixture(scope="module")
def images() -> NDArray[np.uint8]:
    return mnist5k("heldout").load(range(N))


@pytest.fixture(scope="module")
def sizes(images) -> NDArray[np.int64]:
    return np.array([len(file) for file in files(images)])


@pytest.mark.parametrize(("name", "form", "quality"), [("jpeg", "JPEG", 75), ("webp", "WEBP", 80)])
def test_tokens_are_the_bytes_of_pillows_file(images, name, form, quality):
    odd = np.ascontiguousarray(images[:3, :, :21, :30])
    model = opened(f"tokenizers/{name}")
    codes = model.encode(to_float(odd))
    expected = files(odd, form, quality)
    assert codes.lengths.tolist() == [len(file) for file in expected]
    rows = [row[:length] for row, length in zip(codes.ids[0].tolist(), codes.lengths.tolist(), strict=True)]
    assert [bytes(row) for row in rows] == expected
    pixels = [np.asarray(Image.open(io.BytesIO(file)).convert("RGB")).transpose(2, 0, 1) for file in expected]
    np.testing.assert_array_equal((model.decode(codes) * 255).round().numpy(), np.stack(pixels))
    with pytest.raises(InputError, match="not the bytes of a file"):
        model.decode(Codes(ids=(codes.ids[0] * 0 + 255,), lengths=codes.lengths))
    with pytest.raises(InputError, match="no `lengths`"):
        model.decode(Codes(ids=codes.ids))


def test_bits_are_those_of_the_files(cell, through, images, sizes):
    finished, _ = through(cell("tokenizers/jpeg", Reconstruct(n=N, show=2, metrics=("psnr",))))
    assert values(finished, "bits-per-image") == {(): pytest.approx(8 * sizes.mean())}
    counts = np.bincount(np.frombuffer(b"".join(files(images)), np.uint8), minlength=256)
    part = counts[counts > 0] / counts.sum()
    entropy = -(part * np.log2(part)).sum()
    assert values(finished, "codebook-entropy")[()] == pytest.approx(entropy)
    assert values(finished, "bits-per-image-entropy")[()] == pytest.approx(entropy * sizes.mean())
    assert values(finished, "dead-codes") == {(): (counts == 0).sum()}
    decoded = np.stack([np.asarray(Image.open(io.BytesIO(file))).transpose(2, 0, 1) for file in files(images)])
    error = ((decoded.astype(float) - images) ** 2).mean((1, 2, 3))
    assert values(finished, "psnr")[()] == pytest.approx((10 * np.log10(255**2 / error)).mean(), abs=1e-4)


def test_codes_of_files(cell, through, images, sizes):
    finished, _ = through(cell("tokenizers/jpeg", CodesOfImages(n=N)))
    rows = files(images)
    assert values(finished, "codebook-seen")[("images", N),] == len(set(b"".join(rows))) / 256
    assert values(finished, "codebook-seen")[("images", 1),] == len(set(rows[0])) / 256
    bits = values(finished, "adaptive-bits")
    assert bits[("order", 1),] < bits[("order", 0),] < 8 * sizes.mean()
    assert values(finished, "bits-carried")[()] == pytest.approx(min(bits.values()) / (8 * sizes.mean()))


def test_places_that_one_of_both_lacks_count_as_changed(cell, through, images):
    finished, _ = through(cell("tokenizers/jpeg", Stability(n=N, rounds=1)))
    expected = []
    for one, other in zip(files(images), files(shifted(images, 1)), strict=True):
        equal = sum(a == b for a, b in zip(one, other, strict=False))
        expected.append(1 - equal / max(len(one), len(other)))
    change = values(finished, "token-change")[("perturbation", "shift by a pixel"),]
    assert change == pytest.approx(np.mean(expected))
    assert values(finished, "deterministic") == {(): 1}
    assert values(finished, "flip-agreement") == {(): None}


def test_a_file_has_no_prefixes_and_says_so(cell, through):
    finished, _ = through(cell("tokenizers/jpeg", Prefix(n=3)))
    assert {metric.reason for metric in finished.metrics} == {
        "tokenizers/jpeg does not decode prefixes (it has no `decode_prefix`)"
    }


def test_every_prefix_of_the_wavelet_codec_is_better_than_the_one_before(cell, through):
    finished, _ = through(cell("tokenizers/wavelet", Prefix(n=5, show=2)))
    psnr = values(finished, "prefix-psnr")
    assert list(psnr) == [(("share", 2.0**-k),) for k in range(6, -1, -1)]
    rising = list(psnr.values())
    assert rising == sorted(rising)
    assert rising[-1] > rising[0] + 10
    assert finished.gallery is not None
    assert finished.gallery.images.shape == (8, 2, 3, 32, 32)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (32, 32), (21, 50)])
def test_wavelet_coefficients_are_right_to_half_a_step(height, width):
    """All of a band's error is at most half a step (a whole one around 0), so that of an image falls with the step."""
    draw = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, height, width, generator=draw)
    errors = []
    for step in (16.0, 1.0, 0.1):
        card = CARDS["tokenizers/wavelet"].derive(config={"wavelet": "bior4.4", "levels": 5, "step": step})
        model = registry.resolve(card.implementation).load(card, LoadSpec())
        codes = model.encode(images)
        decoded = model.decode(codes)
        assert decoded.shape == images.shape
        errors.append(float((decoded - images).abs().max()) * 255)
    assert errors[0] > errors[2]
    assert errors[2] < 0.9  # bytes are what is encoded


def test_rows_of_different_lengths_in_statistics_of_codes():
    rows = np.array([[0, 1, -1], [1, 1, 1]])
    use = code_use(rows, 4)
    assert (use.tokens, use.dead) == (5, 2)
    entropy = -(0.2 * math.log2(0.2) + 0.8 * math.log2(0.8))
    assert use.entropy.value == pytest.approx(entropy)
    assert bits_per_image([rows], 4).value == pytest.approx(5 * entropy / 2)
    assert saturation(rows, 4) == [(1, 0.5), (2, 0.5)]
    # (1/2)(1/2 . 3/2 . 5/2 . 7/2) / (2 . 3 . 4 . 5 . 6)
    assert adaptive_bits([rows], 4, 0) == pytest.approx(-math.log2(0.5 * 0.5 * 1.5 * 2.5 * 3.5 / (2 * 3 * 4 * 5 * 6)))
    # first tokens 0, 1; after 0: 1; after 1: 1, 1
    of_first, after_0, after_1 = 0.25 / 6, 0.25, 0.5 * 1.5 / 6
    assert adaptive_bits([rows], 4, 1) == pytest.approx(-math.log2(of_first * after_0 * after_1))


VARIABLE = TokenSpec(kind="discrete", layout="sequence", levels=((4,),), vocabulary=8, variable_length=True)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (Codes(ids=(torch.zeros(2, 3, dtype=torch.int64),)), "lengths of shape"),
        (Codes(ids=(torch.zeros(2, 3, dtype=torch.int64),), lengths=torch.tensor([0, 3])), "lengths are 1 to 3"),
        (Codes(ids=(torch.zeros(2, 3, dtype=torch.int64),), lengths=torch.tensor([1, 4])), "lengths are 1 to 3"),
        (Codes(ids=(torch.zeros(2, 5, dtype=torch.int64),), lengths=torch.tensor([1, 5])), "4 tokens at most"),
        (Codes(lengths=torch.tensor([1, 5])), "one level"),
    ],
)
def test_lengths_that_do_not_fit(codes, message):
    with pytest.raises(CellError, match=message):
        outputs.check_codes(codes, VARIABLE, 2, "family/mine")


def test_rows_are_joined_as_wide_as_the_widest():
    one, two = (Codes(ids=(torch.full((1, n), n),), lengths=torch.tensor([n])) for n in (2, 3))
    joined = outputs.join([one, two])
    assert joined.ids[0].tolist() == [[2, 2, 0], [3, 3, 3]]
    assert outputs.tokens_of(joined, 2).tolist() == [[2, 2, -1], [3, 3, 3]]
    apart = [outputs.tokens_of(each, 1) for each in (one, two)]
    assert outputs.side_by_side(apart).tolist() == [[2, 2, -1], [3, 3, 3]]


def test_a_share_of_equal_codes_is_not_all_of_them(cell, through, monkeypatch):
    """A planted fault: one code of 64 differs from call to call."""
    blocks = registry.resolve(CARDS["tokenizers/blocks"].implementation)
    whole, calls = blocks.encode, []

    def encode(self, images, *, noise=None):
        codes = whole(self, images)
        calls.append(1)
        codes.ids[0][:, 5] = len(calls) % 16
        return codes

    monkeypatch.setattr(blocks, "encode", encode)
    finished, _ = through(cell("tokenizers/blocks", Stability(n=4, rounds=1)))
    assert values(finished, "deterministic") == {(): 0}


def test_positions_that_all_files_have(cell, through, images, sizes):
    """The head of a file is the same for all, up to the table of its own codes."""
    finished, _ = through(cell("tokenizers/jpeg", CodesOfImages(n=N)))
    rows = np.array([list(row[: sizes.min()]) for row in files(images)])
    constant = (rows == rows[:1]).all(0).mean()
    assert constant > 0.5
    assert values(finished, "constant-positions") == {(): pytest.approx(constant)}
    assert (("distance", 1),) in values(finished, "mutual-information")


def test_bits_of_files_are_those_of_their_own_bytes(cell, through, sizes):
    """Untrained, the network knows nothing: 8 bits a byte, of the four files that are held out."""
    finished, _ = through(cell("tokenizers/jpeg", Predict(n=20, steps=1)))
    numbers = {metric.name: metric for metric in finished.metrics if not metric.at}
    assert numbers["probe-share"].value == pytest.approx(1, abs=0.05)
    assert numbers["probe-image-bits"].value == pytest.approx(8 * sizes[16:20].mean(), rel=0.05)
    image = numbers["probe-image-bits"].value
    assert numbers["probe-pixel-bits"].value == pytest.approx(image / 1024)
    assert {metric.n for metric in numbers.values()} == {4}
    assert "how many tokens an image has is taken as known" in numbers["probe-bits"].how
    finished, _ = through(cell("tokenizers/jpeg", Predict(n=19)))
    assert {metric.reason for metric in finished.metrics} == {"19 images are too few to train on: 20 are needed"}


def test_what_needs_a_fixed_number_of_tokens_says_so(cell, through):
    finished, _ = through(cell("tokenizers/jpeg", Perturb(n=5)))
    assert {metric.value for metric in finished.metrics} == {None}
    assert all("exchanged ones make no image" in metric.reason for metric in finished.metrics)
    finished, _ = through(cell("tokenizers/jpeg", Detail(n=5)))
    reasons = {metric.name: metric.reason for metric in finished.metrics if metric.value is None}
    assert reasons == {
        "channels-in-order": "the images have no colours",
        "blocking": "its tokens have no place in the image",
    }
