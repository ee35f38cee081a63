"""Pairs of samples and references by name, and the errors that say which have no partner."""

from __future__ import annotations

import pytest

from arbench.errors import InputError
from arbench.metrics.pairing import natural, pair


def test_names_pair_without_their_extension() -> None:
    found = pair(["b/1.png", "a/2.png", "a/1.png"], ["a/1.JPEG", "a/2.jpg", "b/1.webp"])
    assert found.tolist() == [[0, 2], [1, 1], [2, 0]]


def test_dots_that_are_no_extension_count() -> None:
    assert pair(["v1.2", "v1.3"], ["v1.3.png", "v1.2.png"]).tolist() == [[0, 1], [1, 0]]


def test_numbers_pair_as_numbers() -> None:
    assert pair(["000010.png", "000009.png"], ["9", "10"]).tolist() == [[0, 1], [1, 0]]


def test_counts_from_zero_and_from_one_pair_in_order() -> None:
    assert pair(["10.png", "9.png", "8.png"], ["1", "2", "3"]).tolist() == [[0, 2], [1, 1], [2, 0]]


def test_numbers_with_gaps_do_not_pair_in_order() -> None:
    with pytest.raises(InputError, match="samples without a reference: 7") as caught:
        pair(["1", "2", "7"], ["1", "2", "3"])
    assert "1 references without a sample: 3" in str(caught.value)


def test_order_is_natural_where_it_is_asked_for() -> None:
    found = pair(["s10.png", "s9.png"], ["val_00000001.JPEG", "val_00000002.JPEG"], by_order=True)
    assert found.tolist() == [[0, 1], [1, 0]]
    assert sorted(["a10", "a9b", "a9", "b", "1"], key=natural) == ["1", "a9", "a9b", "a10", "b"]
    with pytest.raises(InputError, match="1 samples, 2 references"):
        pair(["a"], ["a", "b"], by_order=True)


@pytest.mark.parametrize(
    ("samples", "references", "hint"),
    [
        (["recon/a.png", "recon/b.png"], ["a.png", "b.png"], "other folders"),
        (["A.png", "b.png"], ["a.png", "B.png"], "upper and lower case"),
        (["rec_10", "rec_11"], ["gt_10", "gt_11"], "'rec_' and 'gt_'"),
        (["x1_rec.png", "y2_rec.png"], ["x1.png", "y2.png"], "'_rec' and ''"),
        (["a", "b"], ["c", "d"], "pair them by their order"),
    ],
)
def test_the_error_says_what_would_make_names_agree(samples: list[str], references: list[str], hint: str) -> None:
    with pytest.raises(InputError, match="do not pair") as caught:
        pair(samples, references)
    assert hint in str(caught.value)


def test_the_error_lists_what_has_no_partner() -> None:
    with pytest.raises(InputError) as caught:
        pair([f"a{index}" for index in range(12)], ["a3", "z"])
    assert "11 samples without a reference: a0, a1, a2, a4, a5, ..." in str(caught.value)
    assert "1 references without a sample: z" in str(caught.value)


def test_a_name_twice_is_an_error() -> None:
    with pytest.raises(InputError, match="two references are called 'a'"):
        pair(["a.png", "b.png"], ["a.png", "a.jpg"])
    with pytest.raises(InputError, match="two samples are called '1'"):
        pair(["1.png", "01.png"], ["1", "2"])


def test_nothing_pairs_with_nothing() -> None:
    assert pair([], []).shape == (0, 2)
