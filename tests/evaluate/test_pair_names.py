"""Which images belong together: whatever one file is left out, no pair is ever of two images that are not partners."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from arbench.evaluate.pair_names import PairNames

PLAIN = ("{}.png", "{:03d}.jpg", "{:05d}.PNG")
APART = ("img_{}.png", "ILSVRC2012_val_{:08d}.ppm", "{}-out.webp")


@given(st.sampled_from(PLAIN), st.sampled_from(PLAIN), st.integers(0, 99), st.integers(0, 99))
def test_zeros_before_a_number_and_extensions_do_not_matter(mine, theirs, one, other):
    assert PairNames(None, None).match(mine.format(one), theirs.format(other)) == (one == other)
    assert not PairNames(None, None).match(mine.format(one), f"a/{theirs.format(one)}")


@given(st.sampled_from(PLAIN), st.sampled_from(APART), st.sampled_from([0, 50]), st.integers(2, 12), st.data())
def test_sets_numbered_apart_are_paired_in_step_and_only_whole(mine, theirs, start, count, data):
    samples = [mine.format(index) for index in range(count)]
    originals = [theirs.format(index + start) for index in range(count)]
    names = PairNames(count, count)
    assert names.first_apart(samples, originals) is None
    assert names.by_place == (start > 0)
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


@given(st.sampled_from(PLAIN), st.sampled_from(APART), st.integers(-8, 8).filter(bool), st.integers(10, 20), st.data())
def test_sets_that_share_numbers_are_not_paired_by_place(mine, theirs, shift, count, data):
    """Nor is any shard of them that has enough images to tell."""
    step = data.draw(st.integers(1, 1 + count // 10))
    numbers = range(10, 10 + count, step)
    names = PairNames(count, count)
    samples, originals = ([form.format(each + more) for each in numbers] for form, more in ((mine, 0), (theirs, shift)))
    assert names.first_apart(samples, originals) is not None
    assert names.overlap


def test_the_last_number_of_a_name_counts_where_all_else_stays():
    assert PairNames(2, 2).first_apart(["epoch3_0.png", "epoch3_1.png"], ["val_0.png", "val_1.png"]) is None
    assert PairNames(2, 2).first_apart(["epoch3_0.png", "epoch4_1.png"], ["val_0.png", "val_1.png"]) is not None
    assert PairNames(2, 2).first_apart(["cat_1.png", "dog_1.png"], ["chat_1.png", "chien_1.png"]) is not None
    assert PairNames(2, 2).first_apart(["a/s_1.png", "b/s_1.png"], ["a/o_1.png", "b/o_1.png"]) is None
    assert PairNames(2, 2).first_apart(["a/s_1.png", "b/s_2.png"], ["b/o_1.png", "a/o_2.png"]) is not None
    assert PairNames(2, 2).match("epoch3_0.png", "epoch3_0.jpg")


def test_a_number_too_long_for_python_is_text():
    long = "9" * 5000
    assert PairNames(1, 1).match(f"{long}.png", f"{long}.jpg")
    assert not PairNames(1, 1).match(f"{long}.png", f"a{long}.jpg")
