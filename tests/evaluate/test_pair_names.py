"""Which images belong together: whatever one file is left out, no pair is ever of two images that are not partners."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from arbench.evaluate.pair_names import PairNames

PLAIN = ("{}.png", "{:03d}.jpg", "{:05d}.PNG")
APART = ("img_{}.png", "val_{:08d}.ppm", "{}-out.webp")


@given(st.sampled_from(PLAIN), st.sampled_from(PLAIN), st.integers(0, 99), st.integers(0, 99))
def test_zeros_before_a_number_and_extensions_do_not_matter(mine, theirs, one, other):
    assert PairNames(None, None).match(mine.format(one), theirs.format(other)) == (one == other)
    assert not PairNames(None, None).match(mine.format(one), f"a/{theirs.format(one)}")


@given(st.sampled_from(PLAIN), st.sampled_from(APART), st.integers(0, 1), st.integers(2, 12), st.data())
def test_sets_numbered_apart_are_paired_in_step_and_only_whole(mine, theirs, start, count, data):
    samples = [mine.format(index) for index in range(count)]
    originals = [theirs.format(index + start) for index in range(count)]
    assert PairNames(count, count).first_apart(samples, originals) is None
    shorter = data.draw(st.sampled_from([samples, originals]))
    del shorter[data.draw(st.integers(0, count - 1))]
    names = PairNames(len(samples), len(originals))
    assert not any(names.match(one, other) for one, other in zip(samples, originals, strict=False))


@given(st.sampled_from(PLAIN), st.sampled_from(APART), st.integers(3, 12), st.data())
def test_one_left_out_of_each_set_is_noticed(mine, theirs, count, data):
    left_out, other = data.draw(st.permutations(range(1, count)))[:2]
    samples = [mine.format(index) for index in range(count) if index != left_out]
    originals = [theirs.format(index) for index in range(count) if index != other]
    assert PairNames(count - 1, count - 1).first_apart(samples, originals) is not None


@given(st.permutations(["3.bmp", "003.png", "3.webp"]), st.permutations(["3.bmp", "003.png", "3.webp"]))
def test_names_that_stand_twice_are_told_apart_by_whole_names_only(samples, originals):
    samples, originals = ["1.png", *samples[:2]], ["1.png", *originals[:2]]
    assert (PairNames(3, 3).first_apart(samples, originals) is None) == (samples == originals)


def test_a_name_that_stands_twice_on_one_side_has_no_partner():
    assert PairNames(2, 2).first_apart(["3.png", "4.png"], ["3.bmp", "3.png"]) == ("4.png", "3.png")
    assert PairNames(2, 2).first_apart(["a.png", "a.bmp"], ["a.png", "a.png"]) == ("a.bmp", "a.png")


def test_the_last_number_of_a_name_with_several_is_not_guessed():
    assert not PairNames(2, 2).match("epoch3_0.png", "val_0.png")
    assert PairNames(2, 2).match("epoch3_0.png", "epoch3_0.jpg")
