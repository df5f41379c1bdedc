"""Training and test tiles: by seed, by column, by group, or k labels per class.

Copies (tiles of identical content) never stand on both sides. Everything here works on
positions in the tile index; nothing reads a file.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from geotl.arrays import Bools, Int64s
from geotl.errors import DataError, nearest

_TRIALS = 200
_SIDES = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "val": "aside",
    "valid": "aside",
    "validation": "aside",
    "": "aside",
}


@dataclass(frozen=True)
class Split:
    """Positions of the tiles on each side, sorted; none is in two of them.

    Attributes:
        train: training tiles.
        test: test tiles.
        set_aside: tiles left out: copies of training tiles, and tiles without a label or side.
    """

    train: Int64s
    test: Int64s
    set_aside: Int64s


def k_shot(
    labels: ArrayLike,
    shots: int,
    *,
    seed: int,
    content: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
) -> Split:
    """Draw exactly `shots` training tiles of each class; the rest are test tiles.

    With one seed a draw of 5 is part of the draw of 10. A copy is drawn once at most, and no
    copy of a drawn tile is tested.

    Args:
        labels: class of each tile, int [N]; tiles with -1 are excluded.
        shots: training tiles per class.
        seed: seed of the draw.
        content: fingerprint of each tile; equal ones are copies.
        names: names of the classes, for messages.

    Raises:
        DataError: a class with fewer different tiles than shots.

    >>> split = k_shot([0, 0, 0, 1, 1, 1], 2, seed=0)
    >>> len(split.train), len(split.test), len(split.set_aside)
    (4, 2, 0)
    """
    label, key = columns(labels, content)
    if shots < 1:
        raise DataError(f"{shots} shots: at least 1 tile of each class is needed; set split.shots")
    drawn: list[int] = []
    taken: set[Hashable] = set()
    scarce: list[tuple[int, int]] = []
    for value in np.unique(label[label >= 0]):
        order = np.random.default_rng([seed, int(value)]).permutation(
            np.flatnonzero(label == value)
        )
        fresh = _first_of_each(order, key, taken)
        if len(fresh) < shots:
            scarce.append((len(fresh), int(value)))
        drawn.extend(fresh[:shots])
        taken.update(key[row] for row in fresh[:shots])
    if scarce:
        raise _too_few(scarce, shots, names)
    rest = np.setdiff1d(np.flatnonzero(label >= 0), drawn)
    return split_of(len(label), np.array(drawn, dtype=np.int64), rest, key)


def _too_few(
    scarce: Sequence[tuple[int, int]], shots: int, names: Sequence[str] | None
) -> DataError:
    """The fault of (tiles, class) pairs with fewer tiles than shots; it names the smallest."""
    count, value = min(scarce)
    others = "" if len(scarce) == 1 else f", and {len(scarce) - 1} more have too few"
    return DataError(
        f"class {named(value, names)} has {count} different tiles, fewer than {shots} shots, the "
        f"fewest of all{others}; lower split.shots to {count} or label more tiles"
    )


def stratified(
    labels: ArrayLike,
    test_fraction: float,
    *,
    seed: int,
    content: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
) -> Split:
    """Give the same share of each class to the test side, at least one tile to either side.

    Copies are counted once and go to one side together.

    Raises:
        DataError: a fraction outside 0 to 1, or a class with fewer than two different tiles.

    >>> split = stratified([0] * 10 + [1] * 20, 0.3, seed=0)
    >>> len(split.train), len(split.test)
    (21, 9)
    """
    label, key = columns(labels, content)
    check_fraction(test_fraction)
    side: dict[Hashable, bool] = {}
    for value in np.unique(label[label >= 0]):
        order = np.random.default_rng([seed, int(value)]).permutation(
            np.flatnonzero(label == value)
        )
        fresh = _first_of_each(order, key, side)
        if len(fresh) < 2:
            raise DataError(
                f"class {named(value, names)} has {len(fresh)} different tiles; each side of the "
                "split needs one: label more tiles or take the class out"
            )
        cut = min(max(round(test_fraction * len(fresh)), 1), len(fresh) - 1)
        side.update((key[row], place < cut) for place, row in enumerate(fresh))
    tested = np.array([value >= 0 and side[k] for k, value in zip(key, label, strict=True)])
    labelled = label >= 0
    return split_of(len(label), np.flatnonzero(labelled & ~tested), np.flatnonzero(tested), key)


def by_column(
    values: Sequence[str | None],
    *,
    labels: ArrayLike | None = None,
    content: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
) -> Split:
    """Take the sides a column gives: train or test; validation and empty cells are excluded.

    A test tile that is a copy of a training tile is excluded.

    Raises:
        DataError: another word, a side without tiles, or a class without training tiles.

    >>> by_column(["train", "test", "", "Training"])
    Split(train=array([0, 3]), test=array([1]), set_aside=array([2]))
    """
    label, key = columns(np.zeros(len(values)) if labels is None else labels, content)
    sides = []
    for row, value in enumerate(values):
        word = (value or "").strip().lower()
        if word not in _SIDES:
            allowed = [w for w in _SIDES if w]
            raise DataError(f"tile {row}: split {value!r} is unknown; {nearest(word, allowed)}")
        sides.append(_SIDES[word] if label[row] >= 0 else "aside")
    rows = {side: np.flatnonzero(np.array(sides) == side) for side in ("train", "test")}
    for side, side_rows in rows.items():
        if not len(side_rows):
            raise DataError(
                f"no tile is marked {side!r} in the column 'split'; mark some, or choose another "
                "split.method"
            )
    return checked(split_of(len(label), rows["train"], rows["test"], key), label, names)


def by_group(
    groups: Sequence[str | None],
    labels: ArrayLike,
    test_fraction: float,
    *,
    seed: int,
    content: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
) -> Split:
    """Assign whole groups to the test side, about the wanted share of every class.

    Of many random orders of the groups the one whose class shares come closest is taken.
    Groups that share a copy stay together.

    Raises:
        DataError: tiles without a group, fewer than two groups, or no way to leave every class
            training tiles.

    >>> split = by_group(["a", "a", "b", "b"], [0, 1, 0, 1], 0.5, seed=0)
    >>> len(split.train), len(split.test)
    (2, 2)
    """
    label, key = columns(labels, content)
    unit = linked(numbered(groups), key)
    if unit.max() < 1:
        raise DataError(
            "all tiles are in one group (or linked by copies); at least two groups are needed: "
            "name more in the column 'group', or choose another split.method"
        )
    return by_units(unit, label, test_fraction, seed=seed, content=content, names=names)


def by_units(
    unit: Int64s,
    labels: ArrayLike,
    test_fraction: float,
    *,
    seed: int,
    content: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
) -> Split:
    """Assign whole units, numbered from 0, to the test side: see `by_group`.

    Raises:
        DataError: no way to leave every class training tiles.
    """
    label, key = columns(labels, content)
    check_fraction(test_fraction)
    tested = best_groups(class_counts(unit, label), test_fraction, np.random.default_rng(seed))
    labelled, side = label >= 0, tested[unit]
    split = split_of(
        len(label), np.flatnonzero(labelled & ~side), np.flatnonzero(labelled & side), key
    )
    return checked(split, label, names)


def folds(
    labels: ArrayLike, n: int, *, seed: int, groups: Sequence[Hashable] | None = None
) -> list[tuple[Int64s, Int64s]]:
    """Stratified folds inside the training labels, as (fit, held out) positions.

    Each class is distributed over the folds as evenly as possible; no group is divided. There are
    fewer folds than wanted where even the largest class has fewer tiles: two tiles per class give
    two folds. The part to fit always has every class: tiles without which it would not (the only
    tile of a class) are never held out. With one tile in every class there are no folds: [].

    Args:
        labels: class of each tile, int [N].
        n: folds wanted, at least 2.
        seed: seed of the distribution.
        groups: units that no fold divides, such as regions, or contents to keep copies together.

    Raises:
        DataError: fewer than two folds wanted.

    >>> [(fit.tolist(), held.tolist()) for fit, held in folds([0, 0, 1, 1], 2, seed=0)]
    [([0, 3], [1, 2]), ([1, 2], [0, 3])]
    >>> folds([0, 1, 2], 5, seed=0)
    []
    """
    label, _ = columns(labels, None)
    if n < 2:
        raise DataError(f"{n} folds: at least 2 are needed; set split.inner_folds")
    if not len(label):
        return []
    unit = np.arange(len(label)) if groups is None else numbered(groups)
    counts = class_counts(unit, label)
    wanted = min(n, int((counts > 0).sum(axis=0).max()))
    if wanted < 2:
        return []
    fold = deal(counts, wanted, np.random.default_rng(seed))[unit]
    pairs = []
    for number in range(wanted):
        held_out = _without_orphans(np.flatnonzero(fold == number), unit, label)
        if len(held_out):
            pairs.append((np.setdiff1d(np.arange(len(label)), held_out), held_out))
    return pairs


def columns(labels: ArrayLike, content: Sequence[str] | None) -> tuple[Int64s, Sequence[Hashable]]:
    """Labels as int64, and what identifies copies: contents, or else the rows themselves."""
    label = np.asarray(labels).astype(np.int64)
    key: Sequence[Hashable] = range(len(label)) if content is None else content
    if len(key) != len(label):
        raise DataError(f"{len(key)} contents for {len(label)} labels; give one for each tile")
    return label, key


def named(value: int, names: Sequence[str] | None) -> str:
    """A class as messages call it."""
    return repr(names[value]) if names is not None else str(value)


def check_fraction(fraction: float) -> None:
    """Reject a fraction that leaves a side empty."""
    if not 0 < fraction < 1:
        raise DataError(f"test fraction {fraction}: allowed is above 0 and below 1")


def _first_of_each(
    order: Int64s, key: Sequence[Hashable], taken: set[Hashable] | dict[Hashable, bool]
) -> list[int]:
    """The first row of each content in an order, but for contents already taken."""
    fresh: dict[Hashable, int] = {}
    for row in order:
        if key[row] not in taken:
            fresh.setdefault(key[row], int(row))
    return list(fresh.values())


def split_of(count: int, train: Int64s, test: Int64s, key: Sequence[Hashable]) -> Split:
    """Sort the sides and exclude every test tile that is a copy of a training tile."""
    training_keys = {key[row] for row in train}
    remaining = np.array([row for row in test if key[row] not in training_keys], dtype=np.int64)
    train = np.sort(train).astype(np.int64)
    aside = np.setdiff1d(np.arange(count), np.concatenate([train, remaining]))
    return Split(train, np.sort(remaining), aside)


def checked(split: Split, label: Int64s, names: Sequence[str] | None) -> Split:
    """The split, if both sides have tiles and no tested class lacks training tiles."""
    if not len(split.train) or not len(split.test):
        raise DataError("the split leaves one side without tiles; change the column or the groups")
    for value in np.setdiff1d(label[split.test], label[split.train]):
        raise DataError(
            f"class {named(value, names)} has tiles to test but none to train on; move some of its "
            "tiles or groups to the training side, or take the class out"
        )
    return split


def numbered(groups: Sequence[Hashable]) -> Int64s:
    """Groups as numbers 0.. in order of appearance."""
    missing = sum(group is None or group == "" for group in groups)
    if missing:
        raise DataError(
            f"{missing} of {len(groups)} tiles have no group; fill the column 'group' of the tile "
            "table, or choose another split.method"
        )
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(group, len(numbers)) for group in groups], dtype=np.int64)


def linked(unit: Int64s, key: Sequence[Hashable]) -> Int64s:
    """Groups joined where they share a copy, renumbered 0.. in order of appearance."""
    parent = list(range(int(unit.max(initial=0)) + 1))

    def top(group: int) -> int:
        while parent[group] != group:
            group = parent[group]
        return group

    first: dict[Hashable, int] = {}
    for row, content in enumerate(key):
        parent[top(int(unit[row]))] = top(first.setdefault(content, int(unit[row])))
    return numbered([top(int(group)) for group in unit])


def class_counts(unit: Int64s, label: Int64s) -> Int64s:
    """Labelled tiles of each unit and class, [units, classes]."""
    labelled = label >= 0
    counts = np.zeros((int(unit.max()) + 1, int(label.max(initial=0)) + 1), dtype=np.int64)
    np.add.at(counts, (unit[labelled], label[labelled]), 1)
    return counts


def best_groups(counts: Int64s, fraction: float, random: np.random.Generator) -> Bools:
    """Units to test, bool [units], with class shares nearest to the fraction."""
    total = counts.sum(axis=0)
    present = total > 0
    best, least = np.zeros(len(counts), dtype=bool), np.inf
    for _ in range(_TRIALS):
        order = random.permutation(len(counts))
        sizes = counts[order].sum(axis=1).cumsum()
        cut = int(np.abs(sizes[:-1] - fraction * sizes[-1]).argmin()) + 1
        share = counts[order[:cut]].sum(axis=0)[present] / total[present]
        miss = np.abs(share - fraction).sum() + 10 * (share == 1).sum() + (share == 0).sum()
        if miss < least:
            best, least = np.isin(np.arange(len(counts)), order[:cut]), miss
    return best


def deal(counts: Int64s, n: int, random: np.random.Generator) -> Int64s:
    """A fold for each unit: the largest first, each to the fold that has least of its classes."""
    order = random.permutation(len(counts))
    order = order[np.argsort(-counts[order].max(axis=1), kind="stable")]
    share = counts / np.maximum(counts.sum(axis=0), 1)
    dealt = np.zeros((n, counts.shape[1]))
    fold = np.zeros(len(counts), dtype=np.int64)
    for unit in order:
        need = np.round(dealt @ (share[unit] > 0), 9)
        size = np.round(dealt.sum(axis=1), 9)
        fold[unit] = np.lexsort((size, need))[0]
        dealt[fold[unit]] += share[unit]
    return fold


def _without_orphans(held_out: Int64s, unit: Int64s, label: Int64s) -> Int64s:
    """Held-out rows without the units that contain all tiles of a class, one unit per class."""
    for value in np.unique(label[held_out]):
        mine = np.flatnonzero(label == value)
        if np.isin(mine, held_out).all():
            held_out = held_out[unit[held_out] != unit[mine[0]]]
    return held_out
