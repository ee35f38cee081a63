"""Identity of a set of images: counts and digests by independent means, and the same however it was split."""

from __future__ import annotations

import hashlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arbench.data.contents import Identity, IdentityTally
from arbench.data.stream import Picture
from arbench.errors import InputError
from arbench.images import digests

RANDOM = np.random.default_rng(0)
SIZES = [(4, 6), (8, 8), (4, 6), (4, 6), (2, 2), (8, 8)]
LABELS = [0, 0, 1, 3, 3, 7]
PICTURES = [
    Picture(3 * index, str(index), RANDOM.integers(0, 256, (3, *size), dtype=np.uint8), label)
    for index, (size, label) in enumerate(zip(SIZES, LABELS, strict=True))
]


def _identity(pictures: list[Picture]) -> Identity:
    tally = IdentityTally()
    for picture in pictures:
        tally.update(picture)
    return tally.result()


def _changed(pictures: list[Picture], **changes: list[int | None]) -> list[Picture]:
    indices = changes.get("index", [picture.index for picture in pictures])
    labels = changes.get("label", [picture.label for picture in pictures])
    return [
        Picture(index or 0, picture.key, picture.image, label)
        for picture, index, label in zip(pictures, indices, labels, strict=True)
    ]


def test_what_it_says() -> None:
    identity = _identity(PICTURES)
    assert identity.n == 6
    assert list(identity.sizes.items()) == [((4, 6), 3), ((8, 8), 2), ((2, 2), 1)]
    assert identity.label_counts == {0: 2, 1: 1, 3: 2, 7: 1}
    assert identity.labels_sorted is True
    each = b"".join(bytes.fromhex(digests(picture.image[None])[0]) for picture in PICTURES)
    assert identity.digest == hashlib.blake2b(each, digest_size=16).hexdigest()


def test_labels() -> None:
    assert _identity(_changed(PICTURES, label=[0, 0, 1, 0, 1, 2])).labels_sorted is False
    some = _identity(_changed(PICTURES, label=[0, None, 1, 1, 1, 1]))
    assert (some.labels_sorted, some.label_counts) == (None, {0: 1, 1: 4})
    none = _identity(_changed(PICTURES, label=[None] * 6))
    assert (none.labels_sorted, none.label_counts) == (None, {})
    assert none.digest == _identity(PICTURES).digest
    empty = IdentityTally().result()
    assert (empty.n, empty.sizes, empty.labels_sorted) == (0, {}, None)


def test_the_ordered_digest_depends_on_order_and_the_other_does_not() -> None:
    turned = _identity(_changed(PICTURES[::-1], index=list(range(6))))
    assert turned.digest != _identity(PICTURES).digest
    assert turned.unordered_digest == _identity(PICTURES).unordered_digest
    assert _identity(_changed(PICTURES, index=list(range(6)))).digest == _identity(PICTURES).digest
    assert _identity(PICTURES[:5]).unordered_digest != _identity(PICTURES).unordered_digest


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 8), st.randoms(use_true_random=False))
def test_shards_merged_in_any_order_are_the_whole(of: int, chance: object) -> None:
    shards = []
    for place in range(of):
        shard = IdentityTally()
        for picture in PICTURES[place::of]:
            shard.update(picture)
        file = io.BytesIO()
        np.savez(file, allow_pickle=False, **shard.arrays())  # type: ignore[arg-type]
        file.seek(0)
        with np.load(file, allow_pickle=False) as arrays:
            shards.append(IdentityTally.from_arrays(dict(arrays)))
    chance.shuffle(shards)  # type: ignore[attr-defined]
    merged = IdentityTally()
    for shard in shards:
        merged.merge(shard)
    assert len(merged) == 6
    assert merged.result() == _identity(PICTURES)


def test_a_shard_merged_twice_is_refused() -> None:
    tally = IdentityTally()
    for picture in [*PICTURES, PICTURES[2]]:
        tally.update(picture)
    with pytest.raises(InputError, match="images in two shards: 1") as caught:
        tally.result()
    assert "image 6" in caught.value.why
