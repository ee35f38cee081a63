"""Checks of what adapters return, row by row, and batches of one fixed size."""

import numpy as np
import pytest
import torch
from tiny_adapters import CARDS, SPEC, card

from arbench.errors import CellError
from arbench.protocols import Codes, TokenSpec
from arbench.tasks import outputs

CONTINUOUS = TokenSpec(kind="continuous", layout="grid", levels=((8, 8),), channels=3)
PYRAMID = TokenSpec(kind="discrete", layout="pyramid", levels=((1, 1), (2, 2)), vocabulary=8, codebooks=2)


def ids(*shape, dtype=torch.int64):
    return torch.zeros(shape, dtype=dtype)


@pytest.mark.parametrize(
    ("spec", "codes", "message"),
    [
        (SPEC, Codes(), r"shapes \[\(3, 64\)\] expected, one per level\n  why:  found \[\]"),
        (SPEC, Codes(ids=(ids(3, 8, 8),)), r"found \[\(3, 8, 8\)\]"),
        (SPEC, Codes(ids=(ids(2, 64),)), r"found \[\(2, 64\)\]"),
        (SPEC, Codes(ids=(ids(3, 64, dtype=torch.int32),)), "token ids are int64"),
        (SPEC, Codes(ids=(ids(3, 64) - 1,)), "token ids are 0 to 15\n  why:  found -1 to -1"),
        (SPEC, Codes(ids=(ids(3, 64),), latents=torch.zeros(2, 4)), "latents of 3 images expected"),
        (PYRAMID, Codes(ids=(ids(3, 2),)), r"shapes \[\(3, 2\), \(3, 8\)\] expected"),
        (CONTINUOUS, Codes(), "need latents"),
    ],
)
def test_codes_that_do_not_fit(spec, codes, message):
    with pytest.raises(CellError, match=message) as caught:
        outputs.check_codes(codes, spec, 3, "family/mine")
    assert caught.value.what.startswith("family/mine: ")


@pytest.mark.parametrize(
    ("spec", "codes"),
    [
        (SPEC, Codes(ids=(ids(3, 64) + 15,))),
        (PYRAMID, Codes(ids=(ids(3, 2), ids(3, 8)), latents=torch.zeros(3, 1))),
        (CONTINUOUS, Codes(latents=torch.zeros(3, 3, 8, 8))),
    ],
)
def test_codes_that_fit(spec, codes):
    assert outputs.check_codes(codes, spec, 3, "family/mine") is codes


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(2, 3, 8, 9), r"shape \(2, 3, 8, 8\) expected\n  why:  found \(2, 3, 8, 9\)"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), "float images"),
        (torch.full((2, 3, 8, 8), 255.0), r"in \[0, 1\] expected"),
        (torch.full((2, 3, 8, 8), float("inf")), "2 of 2 images are not finite\n  why:  sample ids 7, 9"),
    ],
)
def test_images_that_are_none(images, message):
    with pytest.raises(CellError, match=message):
        outputs.check_images(images, [7, 9], 8, "family/mine")


def test_images_become_float32_and_a_rounding_error_is_no_error():
    images = torch.tensor([0.0, 1.0, 1.0005, -0.0005], dtype=torch.float64)[:, None, None, None].expand(-1, 3, 8, 8)
    assert outputs.check_images(images, range(4), 8, "family/mine").dtype == torch.float32


def test_labels_and_noise_belong_to_sample_ids():
    seven = CARDS["raster/seven"]
    request = outputs.request_for(seven, [3, 12, 7], 5, "cpu")
    assert request.labels.tolist() == [3, 5, 0]
    alone = outputs.request_for(seven, [12], 5, "cpu")
    torch.testing.assert_close(request.noise.uniform("a", 4)[1:2], alone.noise.uniform("a", 4), rtol=0, atol=0)
    assert outputs.request_for(CARDS["raster/free"], [3], 5, "cpu").labels is None
    with pytest.raises(CellError, match="how many `classes`"):
        outputs.labels_for(card("raster/vague", classes=None), [1])


@pytest.mark.parametrize("count", [1, 15, 16, 17, 40])
def test_fixed_batches_are_full_and_cover_each_row_once(count):
    seen = []

    def call(rows):
        assert len(rows) == outputs.FIXED_BATCH
        seen.append(rows)
        return rows

    np.testing.assert_array_equal(outputs.in_fixed_batches(count, call), np.arange(count))
    assert len(seen) == -(-count // outputs.FIXED_BATCH)


def test_codes_joined_and_taken_apart_again():
    parts = [
        Codes(ids=(ids(n, 1) + n, ids(n, 4) + n), latents=torch.full((n, 2), float(n)), lengths=ids(n) + n)
        for n in (1, 3, 2)
    ]
    whole = outputs.join(parts)
    assert [len(level) for level in whole.ids] == [6, 6]
    rows = outputs.take(whole, torch.tensor([0, 5]))
    assert rows.ids[1].tolist() == [[1] * 4, [2] * 4]
    assert rows.latents.tolist() == [[1, 1], [2, 2]]
    assert rows.lengths.tolist() == [1, 2]
    assert outputs.tokens_of(whole, 6).shape == (6, 5)
    assert outputs.tokens_of(Codes(latents=torch.zeros(6, 2)), 6).shape == (6, 0)


def test_only_what_a_discrete_tokenizer_needs_is_decoded():
    codes = Codes(ids=(ids(1, 64),), latents=torch.zeros(1, 1))
    assert outputs.from_ids_alone(codes, SPEC).latents is None
    hybrid = SPEC.model_copy(update={"kind": "hybrid"})
    assert outputs.from_ids_alone(codes, hybrid).latents is codes.latents
