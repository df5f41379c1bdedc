"""Spatial splits: whole blocks, no ground shared between the sides, buffers kept."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from geotl.data.footprints import Footprints, locate, near
from geotl.data.spatial_splits import (
    at_random,
    block_of,
    block_units,
    clear,
    clear_folds,
    draw_from,
    unit_folds,
)
from geotl.data.splits import Split, by_units
from geotl.errors import DataError

UTM33 = "EPSG:32633"


def squares(centres: np.ndarray, side_m: float) -> list[tuple[float, ...]]:
    return [(x - side_m / 2, y - side_m / 2, x + side_m / 2, y + side_m / 2) for x, y in centres]


def laid(centres: np.ndarray, side_m: float) -> Footprints:
    return locate(squares(np.asarray(centres, float), side_m), [UTM33] * len(centres))


def gaps(boxes: np.ndarray, one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Edge distances between all of `one` and all of `two`, the plain way; negative: overlap."""
    a, b = boxes[one][:, None], boxes[two][None]
    apart = np.maximum(a[..., :2] - b[..., 2:], b[..., :2] - a[..., 2:])
    outside = np.hypot(*np.moveaxis(np.maximum(apart, 0), -1, 0))
    return np.where((apart < 0).all(-1), apart.max(-1), outside)


def check(split: Split, layout: Footprints, buffer_m: float, groups=None, content=None) -> None:
    rows = np.sort(np.concatenate([split.train, split.test, split.set_aside]))
    np.testing.assert_array_equal(rows, np.arange(len(layout.boxes)))
    assert gaps(layout.boxes, split.train, split.test).min() >= buffer_m - 1e-6
    for keys in (groups, content):
        if keys is not None:
            own = [{keys[i] for i in side} - {None} for side in (split.train, split.test)]
            assert not own[0] & own[1]


LAYOUTS = st.tuples(
    st.integers(0, 10_000),  # seed
    st.integers(12, 60),  # tiles
    st.sampled_from([40.0, 200.0, 640.0]),  # side
    st.sampled_from([0.0, 50.0, 300.0]),  # buffer
    st.booleans(),  # groups
)


@settings(max_examples=120, deadline=None)
@given(LAYOUTS, st.integers(2, 4))
def test_no_footprint_meets_another_fold_in_any_layout(case, n: int) -> None:
    seed, count, side, buffer_m, grouped = case
    random = np.random.default_rng(seed)
    layout, labels = laid(random.uniform(0, 4000, (count, 2)), side), np.zeros(count, int)
    groups = [f"g{i // 3}" if i % 2 else None for i in range(count)] if grouped else None
    content = [str(random.integers(0, 3 * count)) for _ in range(count)]
    unit = block_units(layout, 900, seed=seed, groups=groups, content=content)
    assume(len(np.unique(unit)) >= n)
    made = unit_folds(unit, labels, n, seed=seed, what="blocks", content=content)
    np.testing.assert_array_equal(
        np.sort(np.concatenate([split.test for split in made])), np.arange(count)
    )
    for split in [*made, by_units(unit, labels, 0.3, seed=seed, content=content)]:
        lost = near(layout, split.train, split.test, buffer_m)
        if lost.all():
            with pytest.raises(DataError, match="none to train on"):
                clear(split, layout, labels, buffer_m=buffer_m)
            continue
        cleared = clear(split, layout, labels, buffer_m=buffer_m, groups=groups)
        np.testing.assert_array_equal(cleared.test, split.test)  # no tested tile is dropped
        check(cleared, layout, buffer_m, groups, content)


def test_chips_from_points_100_m_apart_share_no_pixel_across_folds() -> None:
    """Trap 7: 640 m chips on a transect, where linking what overlaps would link everything."""
    centres = np.stack([500000 + 100.0 * np.arange(200), np.full(200, 4600000.0)], axis=1)
    layout, labels = laid(centres, 640), np.arange(200) % 2
    assert len(layout.shared) > 1000
    unit = block_units(layout, 4000, seed=0)
    assert len(np.unique(unit)) >= 5
    for split in unit_folds(unit, labels, 5, seed=0, what="blocks"):
        assert gaps(layout.boxes, split.train, split.test).min() < 0  # before
        cleared = clear(split, layout, labels)
        check(cleared, layout, 0.0)
        lost = len(split.train) - len(cleared.train)
        assert 0 < lost <= 2 * 7 * 2  # some seven chips on either side of a block's two edges
    for split in unit_folds(unit, labels, 5, seed=0, what="blocks"):
        check(clear(split, layout, labels, buffer_m=500), layout, 500.0)


def test_pairs_across_a_border_are_kept_together_and_cost_nothing() -> None:
    random = np.random.default_rng(0)
    first = random.uniform(0, 20000, (60, 2))
    layout = laid(np.concatenate([first, first + 50]), 100)
    unit = block_units(layout, 3000, seed=1)
    np.testing.assert_array_equal(unit[:60], unit[60:])
    for split in unit_folds(unit, np.zeros(120, int), 4, seed=0, what="blocks"):
        assert not len(clear(split, layout, np.zeros(120, int)).set_aside)


def test_a_polygons_chips_stay_together_however_large_it_is() -> None:
    centres = np.stack([np.linspace(0, 50000, 40), np.zeros(40)], axis=1)
    unit = block_units(laid(centres, 10), 5000, seed=0, groups=["river"] * 20 + [None] * 20)
    assert len(set(unit[:20])) == 1
    assert len(set(unit[20:])) > 3


def test_blocks_are_squares_in_metres_whose_origin_is_drawn() -> None:
    centres = np.random.default_rng(0).uniform(0, 10000, (500, 2))
    boxes = laid(centres, 10).boxes
    block = block_of(boxes, 2000, seed=3)
    for number in range(block.max() + 1):
        assert np.ptp(centres[block == number], axis=0).max() < 2000
    assert 25 <= block.max() + 1 <= 36
    np.testing.assert_array_equal(block, block_of(boxes, 2000, seed=3))
    assert not np.array_equal(block, block_of(boxes, 2000, seed=4))


def test_fewer_blocks_than_folds_is_an_error() -> None:
    layout = laid(np.random.default_rng(0).uniform(0, 1000, (50, 2)), 10)
    unit = block_units(layout, 5000, seed=0)
    with pytest.raises(DataError, match=r"blocks of 5000 m: fewer than the 5 folds"):
        unit_folds(unit, np.zeros(50, int), 5, seed=0, what="blocks of 5000 m")


def test_folds_are_stratified_as_well_as_it_goes() -> None:
    random = np.random.default_rng(0)
    layout = laid(random.uniform(0, 20000, (600, 2)), 10)
    labels = random.choice(3, 600, p=[0.6, 0.3, 0.1])
    unit = block_units(layout, 2000, seed=0)
    for split in unit_folds(unit, labels, 5, seed=0, what="blocks"):
        share = np.bincount(labels[split.test], minlength=3) / np.bincount(labels)
        assert np.abs(share - 0.2).max() < 0.08


def test_a_class_in_one_block_only_is_told_with_a_remedy() -> None:
    layout = laid([(0, 0), (10, 0), (9000, 0), (18000, 0)], 5)
    unit = block_units(layout, 1000, seed=0)
    made = unit_folds(unit, [0, 1, 0, 0], 3, seed=0, what="blocks")
    alone = next(split for split in made if 1 in split.test)
    with pytest.raises(DataError, match="class 'lake' has tiles to test but none to train on"):
        clear(alone, layout, [0, 1, 0, 0], names=["wood", "lake"])


def test_shots_come_from_the_training_side_alone_and_nest() -> None:
    labels = np.repeat([0, 1], 40)
    split = Split(np.r_[0:30, 40:70], np.r_[30:40, 70:80], np.zeros(0, np.int64))
    few, more = (draw_from(split, labels, k, seed=1) for k in (3, 8))
    assert np.bincount(labels[few.train]).tolist() == [3, 3]
    assert set(few.train) < set(more.train) < set(split.train)
    np.testing.assert_array_equal(few.test, split.test)
    with pytest.raises(DataError, match="30 different tiles, fewer than 31"):
        draw_from(split, labels, 31, seed=1)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 5))
def test_the_random_split_has_the_same_sizes_and_tests_each_tile_once(seed: int, n: int) -> None:
    random = np.random.default_rng(seed)
    labels, unit = random.integers(0, 3, 60), random.integers(0, 12, 60)
    made = unit_folds(unit, labels, n, seed=seed, what="groups")
    shuffled = [at_random(split, labels, seed=seed) for split in made]
    for one, two in zip(made, shuffled, strict=True):
        for side in ("train", "test"):
            a, b = (np.bincount(labels[getattr(s, side)], minlength=3) for s in (one, two))
            np.testing.assert_array_equal(a, b)
        assert not set(two.train) & set(two.test)
    np.testing.assert_array_equal(
        np.sort(np.concatenate([s.test for s in shuffled])), np.arange(60)
    )


def test_the_random_split_tests_no_copy_of_what_it_learnt() -> None:
    labels, content = np.zeros(40, int), [str(i % 25) for i in range(40)]
    split = at_random(
        Split(np.arange(20), np.arange(20, 40), np.zeros(0, np.int64)),
        labels,
        seed=0,
        content=content,
    )
    assert not {content[i] for i in split.train} & {content[i] for i in split.test}


def test_folds_inside_the_training_part_go_by_blocks_too() -> None:
    centres = np.random.default_rng(2).uniform(0, 8000, (120, 2))
    layout, labels = laid(centres, 300), np.arange(120) % 2
    unit = block_units(layout, 1600, seed=0)
    train = np.arange(0, 120, 2)
    labels = np.arange(60) % 2
    found = clear_folds(train, labels, 4, seed=0, unit=unit[train], layout=layout, buffer_m=100)
    assert len(found) >= 3
    for fit, held in found:
        assert not set(unit[train[fit]]) & set(unit[train[held]])
        assert gaps(layout.boxes, train[fit], train[held]).min() >= 100
