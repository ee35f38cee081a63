"""Classes of two sets: by number where both have numbers, by name where folders have names, else not at all."""

from __future__ import annotations

import numpy as np
import pytest

from arbench.errors import InputError
from arbench.evaluate.class_labels import matched

MINE, THEIRS = np.array([0, 1, 2, 0]), np.array([0, 1, 1])


def test_names_decide_where_labels_are_places():
    mine, theirs = matched(MINE, {0: "cat", 1: "dog", 2: "fox"}, THEIRS, {0: "cat", 1: "fox"})
    assert (mine[:, None] == theirs).tolist() == [
        [True, False, False],
        [False, False, False],
        [False, True, True],
        [True, False, False],
    ]


@pytest.mark.parametrize(
    ("names", "other"),
    [({}, {}), ({0: "0", 1: "1", 2: "2"}, {}), ({0: "n01440764", 1: "n01443537", 2: "n01484850"}, {0: "0", 1: "1"})],
)
def test_numbers_and_official_ids_stay(names, other):
    mine, theirs = matched(MINE, names, THEIRS, other)
    assert (mine is MINE, theirs is THEIRS) == (True, True)


@pytest.mark.parametrize("names", [({0: "cat", 1: "dog", 2: "fox"}, {}), ({}, {0: "cat", 1: "fox"})])
def test_names_against_numbers_have_no_answer(names):
    with pytest.raises(InputError, match="have names"):
        matched(MINE, names[0], THEIRS, names[1])


@pytest.mark.parametrize(
    ("names", "other", "said"),
    [
        ({0: "Cat", 1: "Dog", 2: "Fox"}, {0: "cat", 1: "fox"}, "Cat, Dog, Fox against cat, fox"),
        ({0: "0", 1: "1", 2: "2"}, {0: "cat", 1: "fox"}, "0, 1, 2 against cat, fox"),
    ],
)
def test_names_of_which_none_is_in_both_sets_are_told(names, other, said):
    with pytest.raises(InputError, match="no class in common") as caught:
        matched(MINE, names, THEIRS, other)
    assert said in caught.value.why


def test_numbers_of_which_none_is_in_both_sets_are_told():
    with pytest.raises(InputError, match="no class in common"):
        matched(MINE, {}, THEIRS + 7, {})
