"""Splits by place: blocks and buffers, and the variogram that suggests the side of blocks."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import least_squares
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import pdist

from geotl.arrays import Float64s, Int64s
from geotl.data.footprints import Footprints, near
from geotl.data.splits import (
    Split,
    class_counts,
    columns,
    deal,
    folds,
    k_shot,
    named,
    numbered,
    split_of,
)
from geotl.errors import DataError
from geotl.language import msg

Folds = list[tuple[Int64s, Int64s]]
Shape = Literal["exponential", "spherical"]
MAX_TILES = 2000  # tiles whose pairs are compared; of more tiles, a random part
MIN_PAIRS = 20  # a bin with fewer is too uncertain
MIN_BINS = 4
BINS = 24
CLEARLY = 2.0  # blocks are this many times the range, where the extent allows
MIN_STRUCTURE = 0.25  # share of the misfit of a level line that a range must explain


def block_of(boxes: Float64s, block_m: float, *, seed: int) -> Int64s:
    """The square block that the centre of each box [N,4] lies in, numbered from 0.

    Where the blocks begin is drawn by the seed.

    >>> boxes = np.array([[0, 0, 10, 10], [20, 0, 30, 10], [5000, 0, 5010, 10]], float)
    >>> block = block_of(boxes, 1000, seed=0)
    >>> len(set(block.tolist())), bool(block[0] == block[1])
    (2, True)
    """
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    origin = centres.min(axis=0) - np.random.default_rng(seed).uniform(0, block_m, 2)
    cell = np.floor((centres - origin) / block_m).astype(np.int64)
    return np.unique(cell, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)


def block_units(
    layout: Footprints,
    block_m: float,
    *,
    seed: int,
    groups: Sequence[str | None] | None = None,
    content: Sequence[str] | None = None,
) -> Int64s:
    """Units that a split does not divide: the block of each tile, numbered from 0.

    Tiles of one group (a label polygon, a site) and copies go to the block of their middle
    together. So do tiles that overlap across a border, if all tiles linked in this way
    fit into a block; where they do not (points along a road, a mosaic of overlapping tiles) they
    stay in their own blocks, and `clear` excludes the training tiles that touch a test tile.

    Args:
        layout: positions of the tiles, all of them known.
        block_m: side of the blocks in metres.
        seed: seed of the blocks' origin.
        groups: group of each tile, None for a tile without a group.
        content: fingerprint of each tile; equal ones are copies.
    """
    count = len(layout.boxes)
    links = [_chain(keys) for keys in (groups, content) if keys is not None]
    atom = _joined(count, np.concatenate([np.zeros((0, 2), np.int64), *links]))
    chain = np.stack([np.arange(count), _first(atom)[atom]], axis=1)
    units = _joined(count, np.concatenate([chain, layout.shared]))
    spread = np.full((2, int(units.max(initial=0)) + 1, 2), -np.inf)
    np.maximum.at(spread[0], units, layout.centres)
    np.maximum.at(spread[1], units, -layout.centres)
    compact = spread.sum(axis=0).max(axis=1) <= block_m
    unit = np.array(numbered(np.where(compact[units], units, count + atom).tolist()))
    middle = np.zeros((int(unit.max(initial=-1)) + 1, 2))
    np.add.at(middle, unit, layout.centres)
    middle /= np.bincount(unit)[:, None]
    return block_of(np.hstack([middle, middle]), block_m, seed=seed)[unit]


def unit_folds(
    unit: Int64s,
    labels: ArrayLike,
    n: int,
    *,
    seed: int,
    what: str,
    content: Sequence[str] | None = None,
) -> list[Split]:
    """Split tiles n times, so that each is tested once and no unit is divided.

    The units are distributed over the folds so that each fold gets its share of every class, as
    far as possible. With as many folds as units each unit is tested alone (leave one out).

    Args:
        unit: unit of each tile, numbered from 0.
        labels: class of each tile; tiles with -1 are excluded.
        n: folds.
        seed: seed of the distribution.
        what: name of the units in messages, and how to get more of them.
        content: fingerprint of each tile; copies of training tiles are not tested.

    Raises:
        DataError: fewer units than folds.

    >>> unit = np.array([0, 0, 1, 1, 2, 2])
    >>> sorted(s.test.tolist() for s in unit_folds(unit, [0, 1] * 3, 3, seed=0, what="sites"))
    [[0, 1], [2, 3], [4, 5]]
    """
    label, key = columns(labels, content)
    labelled = np.flatnonzero(label >= 0)
    there = np.unique(unit[labelled])
    if len(there) < n:
        raise DataError(f"{len(there)} {what}: fewer than the {n} folds of split.kfold; lower it")
    counts = class_counts(np.searchsorted(there, unit[labelled]), label[labelled])
    fold = deal(counts, n, np.random.default_rng(seed))[np.searchsorted(there, unit[labelled])]
    return [
        split_of(len(label), labelled[fold != number], labelled[fold == number], key)
        for number in range(n)
    ]


def clear(
    split: Split,
    layout: Footprints,
    labels: ArrayLike,
    *,
    buffer_m: float = 0.0,
    groups: Sequence[str | None] | None = None,
    names: Sequence[str] | None = None,
) -> Split:
    """Exclude the training tiles that touch a test tile, or lie nearer to one than a buffer.

    After it no footprint of one side meets one of the other. Tiles of a test tile's group are
    excluded too. No test tile is ever dropped.

    Raises:
        DataError: a tested class keeps no training tile.
    """
    label = np.asarray(labels)
    lost = near(layout, split.train, split.test, buffer_m)
    if groups is not None:
        tested = {groups[row] for row in split.test} - {None}
        lost |= np.array([groups[row] in tested for row in split.train], dtype=bool)
    train = split.train[~lost]
    for value in np.setdiff1d(label[split.test], label[train]):
        far = f" or nearer than split.buffer_m={buffer_m:g} m to" if buffer_m else ""
        before = int((label[split.train] == value).sum())
        raise DataError(
            f"class {named(int(value), names)} has tiles to test but none to train on ({before} "
            f"before those touching{far} test tiles were excluded): it lies in too few places; "
            "choose smaller blocks or a smaller buffer, label it elsewhere, or remove it"
        )
    aside = np.sort(np.concatenate([split.set_aside, split.train[lost]]))
    return Split(train, split.test, aside)


def clear_folds(
    train: Int64s,
    labels: Int64s,
    n: int,
    *,
    seed: int,
    unit: Int64s,
    layout: Footprints,
    buffer_m: float,
) -> Folds:
    """Folds inside the training tiles, by the units of the split, as (fit, held out).

    What touches a held-out tile is not fitted; a fold that loses a class by that is left out.

    Args:
        train: rows of the training tiles.
        labels: classes of the tiles.
        n: folds wanted.
        seed: seed of the distribution.
        unit: unit of each training tile.
        layout: positions of all tiles.
        buffer_m: least distance between fitted and held-out tiles.
    """
    cleared = []
    for fit, held_out in folds(labels, n, seed=seed, groups=unit.tolist()):
        fitted = fit[~near(layout, train[fit], train[held_out], buffer_m)]
        if len(np.unique(labels[fitted])) == len(np.unique(labels[fit])):
            cleared.append((fitted, held_out))
    return cleared


def draw_from(
    split: Split,
    labels: ArrayLike,
    shots: int,
    *,
    seed: int,
    content: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
) -> Split:
    """Keep exactly `shots` training tiles of each class; the tested tiles stay as they are.

    With one seed a draw of 5 is part of the draw of 10.

    Raises:
        DataError: a class with fewer different training tiles than shots.

    >>> split = Split(np.arange(4), np.arange(4, 6), np.zeros(0, np.int64))
    >>> drawn = draw_from(split, [0, 0, 1, 1, 0, 1], 1, seed=0)
    >>> len(drawn.train), drawn.test.tolist(), len(drawn.set_aside)
    (2, [4, 5], 2)
    """
    label, _ = columns(labels, content)
    inside = np.full(len(label), -1, np.int64)
    inside[split.train] = label[split.train]
    train = k_shot(inside, shots, seed=seed, content=content, names=names).train
    for value in np.setdiff1d(label[split.test], label[train]):
        raise DataError(f"class {named(int(value), names)} is tested, but has no training tile")
    rest = np.setdiff1d(split.train, train)
    return Split(train, split.test, np.sort(np.concatenate([split.set_aside, rest])))


def at_random(
    split: Split, labels: ArrayLike, *, seed: int, content: Sequence[str] | None = None
) -> Split:
    """The same split with the tiles of each class shuffled: as many on each side, placed anywhere.

    With one seed the folds of a k-fold split become the folds of a random one.

    >>> split = Split(np.array([0, 1, 3]), np.array([2, 4]), np.zeros(0, np.int64))
    >>> shuffled = at_random(split, [0, 0, 0, 1, 1], seed=0)
    >>> len(shuffled.train), len(shuffled.test)
    (3, 2)
    """
    label, key = columns(labels, content)
    place = np.arange(len(label))
    for value in np.unique(label[label >= 0]):
        mine = np.flatnonzero(label == value)
        place[mine] = np.random.default_rng([seed, int(value), 1]).permutation(mine)
    return split_of(len(label), place[split.train], place[split.test], key)


def _chain(keys: Sequence[Hashable]) -> Int64s:
    """Links [m,2] from each row to the first of the same key; None links nothing."""
    first: dict[Hashable, int] = {}
    rows = [(row, first.setdefault(key, row)) for row, key in enumerate(keys) if key is not None]
    return np.array(rows, dtype=np.int64).reshape(-1, 2)


def _first(part: Int64s) -> Int64s:
    """The first row of each part."""
    return np.unique(part, return_index=True)[1].astype(np.int64)


def _joined(count: int, links: Int64s) -> Int64s:
    """Connected component of each row in the graph of links."""
    graph = coo_matrix((np.ones(len(links)), (links[:, 0], links[:, 1])), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


@dataclass(frozen=True)
class Variogram:
    """Dissimilarity by distance.

    Attributes:
        lag_m: mean distance of the pairs in each bin, in metres [B].
        gamma: half their mean squared difference over standardised features [B]; 1 where tiles
            have nothing in common.
        pairs: number of pairs [B].
        shape: variogram model that fits best.
        nugget, sill: dissimilarity of neighbours, and of distant tiles.
        range_m: distance at which the sill is reached (95 % of it for the exponential shape).
        reached: whether that lies within the distances seen; if not, `range_m` is the largest one.
    """

    lag_m: Float64s
    gamma: Float64s
    pairs: Int64s
    shape: Shape
    nugget: float
    sill: float
    range_m: float
    reached: bool

    def model(self, distance_m: Float64s) -> Float64s:
        """Dissimilarity that the fitted model gives at some distances."""
        rise = SHAPES[self.shape](distance_m / max(self.range_m, 1e-9))
        return np.asarray(self.nugget + (self.sill - self.nugget) * rise)

    def summary(self, what: str = msg("tiles")) -> str:
        """The range in a few words."""
        if not self.reached:
            return msg(
                "the variogram still rises at {range_m:,.0f} m: neighbours resemble each other "
                "at least "
                "that far",
                range_m=self.range_m,
            )
        if self.range_m == 0:
            return msg(
                "flat variogram: {what} {lag_m:,.0f} m apart differ as much as any",
                what=what,
                lag_m=self.lag_m[0],
            )
        return msg(
            "{what} resemble each other up to {range_m:,.0f} m ({shape} variogram)",
            what=what,
            range_m=self.range_m,
            shape=SHAPE_WORDS[self.shape],
        )


SHAPE_WORDS = {"exponential": msg("exponential"), "spherical": msg("spherical")}


def _spherical(share: Float64s) -> Float64s:
    inside = np.minimum(share, 1.0)
    return np.asarray(1.5 * inside - 0.5 * inside**3)


def _exponential(share: Float64s) -> Float64s:
    return np.asarray(1.0 - np.exp(-3.0 * share))


SHAPES: dict[Shape, Callable[[Float64s], Float64s]] = {
    "exponential": _exponential,
    "spherical": _spherical,
}


def variogram(centres: Float64s, features: Float64s, *, seed: int = 0) -> Variogram:
    """The variogram of features [N,D] at places [N,2] in metres, and the model that fits best.

    Features are standardised and count alike. Distances go up to half of the extent, in bins that
    widen with distance. An exponential and a spherical model with a nugget are fitted by least
    squares, each bin weighing by its pairs over the model's square (Cressie 1985).

    Raises:
        DataError: too few tiles in too few places.
    """
    some = np.random.default_rng(seed).permutation(len(centres))[:MAX_TILES]
    places, values = centres[np.sort(some)], features[np.sort(some)].astype(np.float64)
    sd = values.std(axis=0)
    values = (values - values.mean(axis=0))[:, sd > 0] / sd[sd > 0]
    lag, gamma, pairs = _binned(places, values) if values.size else _binned(places, places * 0)
    if len(lag) < MIN_BINS or not gamma.any():
        raise DataError(
            f"{len(centres)} tiles lie in too few places, or are too similar, to estimate "
            "from a variogram how far they resemble each other; give the side of the blocks: "
            "split.block_m=METRES"
        )
    fits = [_fitted(shape, lag, gamma, pairs) for shape in SHAPES]
    return min(fits, key=lambda fit: fit[0])[1]


def enough_places(places: Float64s) -> bool:
    """Whether samples at places [N,2] in metres are enough for a variogram."""
    return len(_binned(places, np.zeros((len(places), 1)))[0]) >= MIN_BINS


def _binned(places: Float64s, values: Float64s) -> tuple[Float64s, Float64s, Int64s]:
    """Mean distance, half the mean squared difference and the number of pairs in each bin."""
    distance = pdist(places)
    unlike = pdist(values, "sqeuclidean") / (2.0 * values.shape[1])
    furthest = float(np.ptp(places, axis=0).max(initial=0.0)) / 2
    if not furthest:
        return np.zeros(0), np.zeros(0), np.zeros(0, np.int64)
    edges = furthest * np.linspace(0.0, 1.0, BINS + 1) ** 2
    place = np.searchsorted(edges, distance, side="left") - 1
    inside = (place >= 0) & (place < BINS)
    place = place[inside]
    pairs = np.bincount(place, minlength=BINS)
    usable = pairs >= MIN_PAIRS
    lag, gamma = (
        np.bincount(place, weights=w[inside], minlength=BINS)[usable] / pairs[usable]
        for w in (distance, unlike)
    )
    return lag, gamma, pairs[usable].astype(np.int64)


def _fitted(shape: Shape, lag: Float64s, gamma: Float64s, pairs: Int64s) -> tuple[float, Variogram]:
    """Weighted squared misfit of a shape's best model, and the variogram with it."""
    furthest, top = float(lag[-1]), float(gamma.max())
    weight = np.sqrt(pairs / pairs.sum())

    def miss(p: Float64s) -> Float64s:
        model = p[0] + p[1] * SHAPES[shape](lag / p[2])
        return np.asarray(weight * (gamma / np.maximum(model, 1e-6 * top) - 1.0))

    low, high = [0.0, 0.0, float(lag[0]) / 4], [1.5 * top, 3.0 * top, 4.0 * furthest]
    tried = []
    for start in np.geomspace(max(lag[0], 1e-3), furthest, 6):
        first = [0.5 * float(gamma[0]), max(top - 0.5 * float(gamma[0]), 1e-6), float(start)]
        tried.append(least_squares(miss, np.clip(first, low, high), bounds=(low, high)))
    best = min(tried, key=lambda variogram: variogram.cost)
    nugget, rise, range_m = map(float, best.x)
    reached = range_m <= furthest
    mean = np.average(gamma, weights=pairs)
    flat = float(np.sum((weight * (gamma / mean - 1.0)) ** 2)) / 2
    within = lag <= max(min(range_m, furthest) / 2, lag[0])
    alike = 1 - np.average(gamma[within], weights=pairs[within]) / mean
    chance = 2 * math.sqrt(2 / pairs[within].sum())  # two sd of a mean of squared differences
    if best.cost > (1 - MIN_STRUCTURE) * flat or alike < chance:
        range_m, reached = 0.0, True
    seen = min(range_m, furthest)
    variogram = Variogram(lag, gamma, pairs, shape, nugget, nugget + rise, seen, reached)
    return float(best.cost), variogram


def suggest_block_m(
    variogram: Variogram, layout: Footprints, least_blocks: int, *, seed: int = 0
) -> tuple[float, str]:
    """A side for square blocks in metres, and a sentence on how it was chosen.

    Twice the range and at least three tiles; less where that would leave fewer than
    `least_blocks` blocks with tiles in them.

    Raises:
        DataError: even blocks of a tile's side would be too few.
    """
    tile_m = float(layout.sides.max())
    smallest = max(tile_m, variogram.lag_m[0] / 4, 1e-3)
    wanted = side = _rounded(max(CLEARLY * variogram.range_m, 3 * tile_m, smallest))
    while _blocks(layout, side, seed) < least_blocks:
        side *= 0.9
        if side < smallest:
            raise DataError(
                f"the tiles lie in fewer than {least_blocks} blocks even at {smallest:,.0f} m; "
                "lower split.kfold, or choose another split.method"
            )
    words = f"split.block_m={_rounded(side):g}: {variogram.summary()}"
    if side < wanted:
        words += f"; {wanted:,.0f} m would leave fewer than {least_blocks} blocks"
        if side < variogram.range_m:
            words += "; blocks smaller than that range may still give too high an accuracy"
    return _rounded(side), words


def _blocks(layout: Footprints, side: float, seed: int) -> int:
    return int(block_of(layout.boxes, _rounded(side), seed=seed).max()) + 1


def _rounded(value: float) -> float:
    """Two significant figures, upwards.

    >>> _rounded(1234.0), _rounded(0.0456)
    (1300.0, 0.046)
    """
    digits = 1 - math.floor(math.log10(value))
    return round(math.ceil(round(value * 10.0**digits, 6)) / 10.0**digits, digits)
