"""`codes` on tokenizers whose codes NumPy can work out, and on some with planted faults."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from test_audit_tasks import N, codes, found, psnr
from tiny_adapters import SPEC, TokenSpec

from arbench.data.readers.mnist import mnist5k
from arbench.metrics.code_length import adaptive_bits
from arbench.seeds import noise_for
from arbench.tasks.codes import CodesOfImages
from arbench.tasks.codes.continuous import borne
from arbench.tasks.codes.discrete import numbers
from arbench.tasks.detail import Detail
from arbench.tasks.reconstruct import Reconstruct


@pytest.fixture(scope="module")
def images() -> NDArray[np.uint8]:
    return mnist5k("heldout").load(range(N))


def test_codes_of_blocks_against_numpy(cell, through, images):
    finished, _ = through(cell("tokenizers/blocks", CodesOfImages(n=N)))
    ids = codes(images)
    seen = found(finished, "codebook-seen")
    assert seen[("images", N),] == len(np.unique(ids)) / 16
    assert seen[("images", 1),] == len(np.unique(ids[0])) / 16
    bits = found(finished, "adaptive-bits")
    assert bits[("order", 0),] == pytest.approx(adaptive_bits([ids], 16, 0) / N)
    assert bits[("order", 1),] < bits[("order", 0),]
    assert found(finished, "bits-carried")[()] == pytest.approx(min(bits.values()) / (64 * 4))


def test_latents_of_known_spread(cell, through, images):
    """The latents are means of 4 x 4 blocks in three equal channels: one direction, and noise that pixels bear out."""
    finished, _ = through(cell("tokenizers/continuous", CodesOfImages(n=N)))
    latents = images.astype(np.float64).reshape(N, 3, 8, 4, 8, 4).mean((3, 5)) / 255
    rows = latents.transpose(0, 2, 3, 1).reshape(-1, 3)
    values = np.linalg.eigvalsh(np.cov(rows.T, ddof=0)).clip(0)
    part = values[values > 1e-15 * values.sum()] / values.sum()
    assert found(finished, "effective-rank")[()] == pytest.approx(np.exp(-(part * np.log(part)).sum()), rel=1e-3)
    spread = found(finished, "latent-deviation")
    assert spread[()] == pytest.approx(rows.std(), rel=1e-5)
    for channel in range(3):
        assert spread[("channel", channel),] == pytest.approx(rows[:, channel].std(), rel=1e-5)
    reasons = {metric.name: metric.reason for metric in finished.metrics if metric.value is None}
    assert reasons.pop("posterior-kl") == "its encoder has no posterior: with noise it gives the same latents"
    assert set(reasons.values()) == {"continuous latents have no codebook"}
    assert set(reasons) == {"bits-carried", "codebook-seen", "mutual-information", "swap-ratio"}


def test_noise_on_the_latents_against_numpy(cell, through, images):
    """Blocks of 4 x 4 pixels show their latent, so that noise on it is what the image changes by."""
    levels, few = (2.0, 0.1), images[:9]
    finished, _ = through(cell("tokenizers/continuous", CodesOfImages(n=9, noise=levels)))
    latents = few.astype(np.float64).reshape(9, 3, 8, 4, 8, 4).mean((3, 5)) / 255
    drawn = noise_for(0, range(9)).normal("codes/noise", (3, 8, 8)).double().numpy()

    def decoded(level: float) -> NDArray[np.float64]:
        noisy = latents + level * latents.std((0, 2, 3))[:, None, None] * drawn
        return np.repeat(np.repeat(np.round(noisy.clip(0, 1) * 255), 4, 2), 4, 3)

    plain = decoded(0)
    for level in levels:
        error = np.sqrt(((decoded(level) - plain) ** 2).mean((1, 2, 3))).mean()
        assert found(finished, "noise-error")[("noise", level),] == pytest.approx(error, rel=0.01)
        cost = (psnr(plain, few) - psnr(decoded(level), few)).mean()
        assert found(finished, "noise-cost")[("noise", level),] == pytest.approx(cost, abs=0.05)
    assert 0.1 < found(finished, "noise-tolerance")[()] < 2


@pytest.mark.parametrize(
    ("costs", "value"),
    [([0.5, 1.5, 9.0], 0.15), ([2.0, 3.0, 4.0], 0.05), ([0.0, 0.5, 0.75], None), ([0.5, 0.5, 1.0], 0.4)],
)
def test_the_noise_that_takes_a_decibel(costs, value):
    found = borne(np.array([0.1, 0.2, 0.4]), np.array([costs, costs]))
    assert found.value == (value if value is None else pytest.approx(value))
    if value is None:
        assert found.reason == "noise of 0.4 deviations takes 0.75 dB, and none more"


def test_the_divergence_of_a_known_posterior(cell, through, images):
    finished, _ = through(cell("tokenizers/posterior", CodesOfImages(n=N)))
    mean = images.astype(np.float64).reshape(N, 3, 8, 4, 8, 4).mean((3, 5)) / 255
    expected = ((mean**2 + 0.25 - 1) / 2 + np.log(2)).sum((1, 2, 3)).mean() / np.log(2)
    assert found(finished, "posterior-kl")[()] == pytest.approx(expected, rel=1e-5)


def test_a_scale_left_out_is_found(cell, through):
    """In the codes, whose deviation shrinks, and in the images, whose contrast does."""
    whole, shrunk = (through(cell(f"tokenizers/{name}", CodesOfImages(n=5)))[0] for name in ("continuous", "unscaled"))
    assert found(shrunk, "latent-deviation")[()] == pytest.approx(0.18 * found(whole, "latent-deviation")[()])
    gains = []
    for name in ("continuous", "unscaled"):
        detail, _ = through(cell(f"tokenizers/{name}", Detail(n=5)))
        gains.append(by_name(detail.metrics, "channel-gain")["red",])
    assert gains[1] == pytest.approx(0.18 * gains[0], rel=0.02)


def test_dead_codes_are_found(cell, through):
    finished, _ = through(cell("tokenizers/sparse", CodesOfImages(n=N)))
    assert found(finished, "codebook-seen")[("images", N),] == 0.5
    finished, _ = through(cell("tokenizers/sparse", Reconstruct(n=N, metrics=("psnr",))))
    assert found(finished, "dead-codes") == {(): 8}


def test_exchanged_codes_change_the_image_as_their_codewords_say(cell, through):
    """One of 64 blocks changes by 17 levels for each step of grey."""
    finished, _ = through(cell("tokenizers/worded", CodesOfImages(n=5)))
    assert found(finished, "swap-change")[("neighbour", 1),] == pytest.approx(17 / 8)
    assert found(finished, "swap-correlation")[()] == pytest.approx(1)
    changes = list(found(finished, "swap-change").values())
    assert changes == sorted(changes)
    assert found(finished, "swap-ratio")[()] == pytest.approx(changes[0] / changes[-1])
    scrambled, _ = through(cell("tokenizers/scrambled", CodesOfImages(n=5)))
    assert abs(found(scrambled, "swap-correlation")[()]) < 0.6
    without, _ = through(cell("tokenizers/blocks", CodesOfImages(n=5)))
    reasons = {metric.name: metric.reason for metric in without.metrics if metric.value is None}
    why = "tokenizers/blocks does not give its codewords (it has no `codewords`)"
    assert reasons == {"swap-ratio": why, "swap-correlation": why}


def by_name(metrics, name):
    return {tuple(m.at.values()): m.value for m in metrics if m.name == name}


def test_codes_that_repeat_their_neighbour_say_so():
    """Rows of a map are all one code, drawn anew for each row and image; or all codes are drawn alone."""
    draw = np.random.default_rng(0)
    alike = np.repeat(draw.integers(0, 4, (400, 8, 1)), 8, axis=2).reshape(400, 64)
    alone = draw.integers(0, 4, (400, 64))
    spec = SPEC.model_copy(update={"vocabulary": 4})
    rows, free = numbers(spec, 4, alike), numbers(spec, 4, alone)
    assert by_name(free, "mutual-information") == pytest.approx({(d,): 0 for d in (1, 2, 4)}, abs=0.01)
    mixed = np.full((4, 4), 1 / 32) + np.eye(4) / 8  # half of the pairs lie along rows
    bits = 2 * 2 + (mixed * np.log2(mixed)).sum()
    assert by_name(rows, "mutual-information") == pytest.approx({(d,): bits for d in (1, 2, 4)}, abs=0.03)
    assert by_name(free, "ngram-gain") == pytest.approx({(1,): 0, (2,): 0}, abs=0.01)
    assert by_name(rows, "ngram-gain")[1,] == pytest.approx(2 - entropy_of_a_row(), abs=0.02)


def entropy_of_a_row() -> float:
    """Bits a code given the one before, of which one in eight begins a row."""
    same = 7 / 8 + 1 / 32
    return -same * np.log2(same) - 3 / 32 * np.log2(1 / 32)


def test_levels_branches_and_positions():
    """Two levels of two ids a place: the first id always 0, the second from half of the codes, the last place fixed."""
    draw = np.random.default_rng(0)
    ids = np.zeros((50, 10), np.int32)
    ids[:, 1::2] = draw.integers(0, 4, (50, 5))
    ids[:, -1] = 3
    spec = TokenSpec(kind="discrete", layout="pyramid", levels=((1, 1), (2, 2)), vocabulary=8, codebooks=2)
    metrics = numbers(spec, 8, ids)
    seen = {tuple(sorted(m.at.items())): m.value for m in metrics if m.name == "codebook-seen" and len(m.at) == 2}
    assert seen == {
        (("images", 50), ("level", 0)): 0.5,
        (("images", 50), ("level", 1)): 0.5,
        (("branch", 0), ("images", 50)): 1 / 8,
        (("branch", 1), ("images", 50)): 0.5,
    }
    assert by_name(metrics, "constant-positions") == {(): 0.6}
    (entropy,) = (metric for metric in metrics if metric.name == "position-entropy")
    assert entropy.extras["least"] == 0
    assert 1.8 < entropy.extras["most"] <= 2
