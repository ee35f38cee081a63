"""The boundary between floats and bytes."""

from __future__ import annotations

import io

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from arbench import images


def test_every_grey_level_survives_the_round_trip():
    levels = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16).repeat(3, axis=1)
    assert np.array_equal(images.to_uint8(images.to_float(levels)).numpy(), levels)


def test_rounding_is_half_up_and_out_of_range_is_clamped():
    values = torch.tensor([-1.0, 0.0, 0.5 / 255, 0.4999 / 255, 1.5 / 255, 1.0, 7.0])
    assert images.to_uint8(values).tolist() == [0, 0, 1, 0, 2, 255, 255]
    assert images.to_uint8(values, "truncate").tolist() == [0, 0, 0, 0, 1, 255, 255]


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 4), st.just(3), st.integers(1, 6), st.integers(1, 6))))
def test_digests_tell_images_apart(batch):
    again = images.digests(batch.copy())
    assert images.digests(batch) == again
    changed = batch.copy()
    changed[0, 0, 0, 0] ^= 1
    assert images.digests(changed)[0] != again[0]
    assert images.digests(changed)[1:] == again[1:]


def test_digest_depends_on_the_shape():
    flat = np.zeros((1, 3, 2, 8), dtype=np.uint8)
    assert images.digests(flat) != images.digests(flat.reshape(1, 3, 4, 4))


def test_grid_places_images_row_by_row():
    batch = np.stack([np.full((3, 4, 4), value, dtype=np.uint8) for value in (10, 20, 30)])
    sheet = images.grid(batch, columns=2, gap=1)
    assert sheet.shape == (9, 9, 3)
    assert sheet[0, 0, 0] == 10
    assert sheet[0, 5, 0] == 20
    assert sheet[5, 0, 0] == 30
    assert sheet[5, 5, 0] == 255
    decoded = np.asarray(Image.open(io.BytesIO(images.png(sheet, scale=3))))
    assert np.array_equal(decoded[::3, ::3], sheet)


def test_shards_come_back_as_they_were():
    arrays = {"ids": np.arange(5), "images": np.zeros((2, 3, 4, 4), dtype=np.uint8), "names": np.array(["a", "b"])}
    back = images.unpack(images.pack(arrays))
    assert set(back) == set(arrays)
    assert all(np.array_equal(back[name], arrays[name]) for name in arrays)
