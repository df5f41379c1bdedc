"""Which tiles train and which judge: counts, seeds, copies, groups, folds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geotl.data.splits import by_column, by_group, folds, k_shot, stratified
from geotl.errors import DataError

LABELS = np.repeat([0, 1, 2], [20, 30, 50])


def check_sides(split, count, content=None):
    """Every tile on exactly one side, sorted, and no content both learnt and judged."""
    sides = [split.train, split.test, split.set_aside]
    np.testing.assert_array_equal(np.sort(np.concatenate(sides)), np.arange(count))
    for side in sides:
        assert side.dtype == np.int64
        assert (np.diff(side) > 0).all()
    key = np.arange(count) if content is None else np.asarray(content)
    assert not set(key[split.train]) & set(key[split.test])


def equal(a, b):
    return all(np.array_equal(getattr(a, s), getattr(b, s)) for s in ("train", "test", "set_aside"))


labels_and_copies = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 25)), min_size=8, max_size=60
).map(lambda pairs: (np.array([p[0] for p in pairs]), [str(p[1]) for p in pairs]))


def test_k_shot_draws_exactly_k_of_each_class_and_judges_on_the_rest():
    split = k_shot(LABELS, 7, seed=3)
    check_sides(split, len(LABELS))
    np.testing.assert_array_equal(np.bincount(LABELS[split.train]), [7, 7, 7])
    assert len(split.test) == 79


def test_a_small_draw_is_part_of_a_larger_one_and_seeds_differ():
    five, ten = k_shot(LABELS, 5, seed=3), k_shot(LABELS, 10, seed=3)
    assert set(five.train) < set(ten.train)
    assert equal(five, k_shot(LABELS, 5, seed=3))
    assert not equal(five, k_shot(LABELS, 5, seed=4))


def test_a_draw_from_one_class_does_not_depend_on_the_other_classes():
    fewer = LABELS[:50]
    assert set(k_shot(fewer, 5, seed=0).train) < set(k_shot(LABELS, 5, seed=0).train)


def test_copies_are_drawn_once_and_never_judged():
    labels = np.repeat([0, 1], 6)
    content = ["a", "a", "a", "b", "c", "d", "e", "f", "g", "h", "a", "b"]
    for seed in range(30):
        split = k_shot(labels, 3, seed=seed, content=content)
        check_sides(split, 12, content)
        drawn = [content[row] for row in split.train]
        assert len(set(drawn)) == 6
        aside = {content[row] for row in split.set_aside}
        assert aside <= set(drawn)


@pytest.mark.parametrize("shots", [4, 5])
def test_fewer_different_tiles_than_shots_is_an_error_that_names_class_and_remedy(shots):
    content = ["a", "a", "b", "c", *"defghi"]
    labels = [0] * 4 + [1] * 6
    with pytest.raises(DataError, match=r"'water' has 3 different.*split\.shots to 3") as caught:
        k_shot(labels, shots, seed=0, content=content, names=["water", "forest"])
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="at least 1"):
        k_shot(labels, 0, seed=0)


def test_tiles_without_a_label_are_set_aside():
    labels = np.array([0, 0, 0, -1, 1, 1, 1, -1])
    for split in (k_shot(labels, 1, seed=0), stratified(labels, 0.4, seed=0)):
        check_sides(split, 8)
        np.testing.assert_array_equal(split.set_aside, [3, 7])


@pytest.mark.parametrize("fraction", [0.01, 0.3, 0.5, 0.99])
def test_stratified_gives_every_class_its_share_and_both_sides_a_tile(fraction):
    split = stratified(LABELS, fraction, seed=1)
    check_sides(split, len(LABELS))
    tested = np.bincount(LABELS[split.test], minlength=3)
    total = np.bincount(LABELS)
    wanted = np.clip(np.round(total * fraction), 1, total - 1)
    np.testing.assert_array_equal(tested, wanted)
    assert equal(split, stratified(LABELS, fraction, seed=1))
    assert not equal(split, stratified(LABELS, fraction, seed=2)) or fraction == 0.5


@settings(max_examples=150, deadline=None)
@given(labels_and_copies, st.floats(0.05, 0.95), st.integers(0, 5))
def test_no_split_has_one_content_on_both_sides(case, fraction, seed):
    labels, content = case
    groups = [str(i % 4) for i in range(len(labels))]
    sides = ["train" if i % 3 else "test" for i in range(len(labels))]
    attempts = [
        lambda: k_shot(labels, 2, seed=seed, content=content),
        lambda: stratified(labels, fraction, seed=seed, content=content),
        lambda: by_group(groups, labels, fraction, seed=seed, content=content),
        lambda: by_column(sides, labels=labels, content=content),
    ]
    for attempt in attempts:
        try:
            split = attempt()
        except DataError:
            continue
        check_sides(split, len(labels), content)


def test_stratified_keeps_copies_on_one_side_together():
    labels = np.repeat([0, 1], 20)
    content = [str(i // 2) for i in range(40)]
    split = stratified(labels, 0.3, seed=0, content=content)
    check_sides(split, 40, content)
    assert not len(split.set_aside)
    assert len(split.test) == 12


def test_a_class_of_one_tile_or_a_bad_fraction_cannot_be_stratified():
    with pytest.raises(DataError, match=r"class 'b' has 1 different tiles"):
        stratified([0, 0, 1], 0.5, seed=0, names="ab")
    with pytest.raises(DataError, match="above 0 and below 1"):
        stratified([0, 0, 1, 1], 1.0, seed=0)


def test_a_column_decides_and_what_it_leaves_open_is_set_aside():
    values = ["train", "Test", " TRAINING ", "testing", "val", "", None, "train"]
    split = by_column(values, content=list("abcdefgd"))
    np.testing.assert_array_equal(split.train, [0, 2, 7])
    np.testing.assert_array_equal(split.test, [1])
    np.testing.assert_array_equal(split.set_aside, [3, 4, 5, 6])


@pytest.mark.parametrize(
    ("values", "labels", "said"),
    [
        (["train", "tset"], None, "did you mean 'test'"),
        (["train", "train"], None, "no tile is marked 'test'"),
        ([None, None], None, "no tile is marked 'train'"),
        (["train", "test"], [0, 1], r"class 'b' has tiles to test but none to train on"),
    ],
)
def test_a_column_that_does_not_split_is_an_error(values, labels, said):
    with pytest.raises(DataError, match=said):
        by_column(values, labels=labels, names="ab")


def test_groups_stay_whole_and_classes_keep_about_their_share():
    rng = np.random.default_rng(0)
    groups = np.array([f"region {i}" for i in rng.integers(0, 20, 400)])
    labels = rng.integers(0, 4, 400)
    split = by_group(list(groups), labels, 0.3, seed=5)
    check_sides(split, 400)
    assert not set(groups[split.train]) & set(groups[split.test])
    share = np.bincount(labels[split.test]) / np.bincount(labels)
    assert (abs(share - 0.3) < 0.12).all()
    assert equal(split, by_group(list(groups), labels, 0.3, seed=5))
    assert not equal(split, by_group(list(groups), labels, 0.3, seed=6))


def test_groups_that_share_a_copy_stay_together():
    groups = ["a", "a", "b", "b", "c", "c", "d", "d"]
    content = ["1", "2", "2", "3", "4", "5", "6", "7"]
    labels = [0, 1] * 4
    for seed in range(20):
        split = by_group(groups, labels, 0.4, seed=seed, content=content)
        check_sides(split, 8, content)
        assert (0 in split.train) == (3 in split.train)
        assert not len(split.set_aside)


@pytest.mark.parametrize(
    ("groups", "labels", "said"),
    [
        (["a", None, ""], [0, 0, 1], "2 of 3 tiles have no group"),
        (["a", "a", "a"], [0, 0, 1], "all tiles are in one group"),
        (["a", "b"], [0, 1], "none to train on"),
    ],
)
def test_groups_that_cannot_be_split_are_errors(groups, labels, said):
    with pytest.raises(DataError, match=said):
        by_group(groups, labels, 0.5, seed=0)


def test_folds_are_stratified_and_hold_every_tile_out_once():
    pairs = folds(LABELS, 5, seed=0)
    assert len(pairs) == 5
    np.testing.assert_array_equal(np.sort(np.concatenate([h for _, h in pairs])), np.arange(100))
    for fit, held in pairs:
        np.testing.assert_array_equal(np.sort(np.concatenate([fit, held])), np.arange(100))
        np.testing.assert_array_equal(np.bincount(LABELS[held]), [4, 6, 10])
    again = folds(LABELS, 5, seed=0)
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(pairs, again, strict=True))
    other = folds(LABELS, 5, seed=1)
    assert not all(np.array_equal(a[1], b[1]) for a, b in zip(pairs, other, strict=True))


def test_few_tiles_a_class_give_fewer_folds_of_even_size():
    labels = np.repeat(np.arange(10), 2)
    pairs = folds(labels, 5, seed=0)
    assert [len(held) for _, held in pairs] == [10, 10]
    for fit, held in pairs:
        assert set(labels[fit]) == set(labels[held]) == set(range(10))
    sizes = [len(held) for _, held in folds(np.repeat(np.arange(7), 3), 5, seed=0)]
    assert sizes == [7, 7, 7]
    uneven = [len(held) for _, held in folds(np.repeat(np.arange(6), 7), 5, seed=0)]
    assert max(uneven) - min(uneven) <= 1, uneven


def test_one_tile_a_class_gives_no_folds():
    assert folds([0, 1, 2], 5, seed=0) == []
    assert folds([], 5, seed=0) == []
    with pytest.raises(DataError, match="at least 2"):
        folds(LABELS, 1, seed=0)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9)), min_size=1, max_size=50),
    st.integers(2, 7),
    st.booleans(),
)
def test_what_is_fitted_always_holds_every_class_and_groups_stay_whole(rows, n, grouped):
    labels = np.array([row[0] for row in rows])
    groups = np.array([row[1] for row in rows]) if grouped else np.arange(len(rows))
    seen = set()
    for fit, held in folds(labels, n, seed=0, groups=list(groups) if grouped else None):
        assert len(held)
        assert set(labels[fit]) == set(labels)
        assert not set(groups[fit]) & set(groups[held])
        np.testing.assert_array_equal(np.sort(np.concatenate([fit, held])), np.arange(len(rows)))
        assert not seen & set(held)
        seen |= set(held)
