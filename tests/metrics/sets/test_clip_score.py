"""CLIPScore: against torchmetrics on the same embeddings, and against the formulas of the other tools."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torchmetrics.functional.multimodal.clip_score import clip_score as torchmetrics_clip_score

from arbench.errors import InputError, UnknownName
from arbench.metrics.sets.clip_score import clip_score

pytestmark = pytest.mark.numerical


def embeddings(n: int, shift: float, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    numbers = np.random.default_rng(seed)
    images = numbers.normal(size=(n, 16)).astype(np.float32)
    return images, (shift * images + numbers.normal(size=(n, 16))).astype(np.float32)


def torchmetrics_score(images: NDArray[np.float32], texts: NDArray[np.float32]) -> float:
    """torchmetrics' own function around a model that gives these embeddings."""
    model: Any = SimpleNamespace(
        config=SimpleNamespace(),
        get_image_features=lambda pixels: torch.from_numpy(images),
        get_text_features=lambda ids, mask: torch.from_numpy(texts),
    )
    model.to = lambda device: model

    def processor(**given: object) -> dict[str, torch.Tensor]:
        return {"pixel_values": torch.zeros(1), "input_ids": torch.zeros(1), "attention_mask": torch.zeros(1)}

    pictures = [torch.zeros(3, 4, 4) for _ in images]
    return float(torchmetrics_clip_score(pictures, ["a prompt"] * len(texts), lambda: (model, processor)))


@pytest.mark.parametrize("shift", [0.5, -0.5])
def test_torchmetrics_variant(shift: float) -> None:
    images, texts = embeddings(40, shift)
    values, estimate = clip_score(images, texts)
    assert estimate.value == pytest.approx(torchmetrics_score(images, texts), rel=1e-5)  # theirs is float32
    assert values.shape == (40,)
    assert estimate.n == 40
    if shift < 0:  # the mean is cut off at 0, not its terms
        assert estimate.value == 0
        assert values.min() < 0
    else:
        assert estimate.low is not None
        assert estimate.high is not None
        assert estimate.low < estimate.value < estimate.high


def test_llamagens_variant_is_the_plain_mean_cosine() -> None:
    images, texts = embeddings(10, -0.1)
    expected = torch.cosine_similarity(torch.from_numpy(images).double(), torch.from_numpy(texts).double())
    values, estimate = clip_score(images, texts, "llamagen")
    np.testing.assert_allclose(values, expected.numpy(), rtol=1e-12)
    assert estimate.value == pytest.approx(float(expected.mean()), rel=1e-12)


def test_clip_s_cuts_off_each_term() -> None:
    images, texts = np.array([[3.0, 0.0], [0.0, 2.0], [1.0, 1.0]]), np.array([[5.0, 0.0], [0.0, -1.0], [0.0, 4.0]])
    values, estimate = clip_score(images, texts, "clip-s")
    np.testing.assert_allclose(values, [2.5, 0, 2.5 / math.sqrt(2)], rtol=1e-12)
    assert estimate.value == pytest.approx(2.5 * (1 + 1 / math.sqrt(2)) / 3)


def test_more_rows_than_one_block() -> None:
    images, texts = embeddings(6001, 1.0)
    values, _ = clip_score(images, texts, "llamagen")
    for row in (0, 2499, 2500, 6000):
        alone, _ = clip_score(images[row : row + 1], texts[row : row + 1], "llamagen")
        assert values[row] == pytest.approx(alone[0], rel=1e-12)


def test_no_value_without_a_direction() -> None:
    images, texts = embeddings(4, 1.0)
    texts[2] = 0
    for variant in ("torchmetrics", "llamagen", "clip-s"):
        values, estimate = clip_score(images, texts, variant)
        assert np.isnan(values[2])
        assert estimate.value is None
        assert "1 of 4" in estimate.reason
    _, empty = clip_score(images[:0], texts[:0])
    assert empty.value is None


def test_unpaired_embeddings_and_unknown_variants_are_refused() -> None:
    images, texts = embeddings(4, 1.0)
    with pytest.raises(InputError, match="one prompt per image"):
        clip_score(images, texts[:3])
    with pytest.raises(InputError, match="same network"):
        clip_score(images, texts[:, :8])
    with pytest.raises(UnknownName, match="torchmetrics"):
        clip_score(images, texts, "torchmetric")
