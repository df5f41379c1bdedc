"""Folds of labelled pixels: every label is tested once, and no label lies on two sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from geotl.arrays import Int64s
from geotl.console import Log
from geotl.data import splits
from geotl.data.footprints import near
from geotl.data.spatial_splits import at_random, suggest_block_m, unit_folds
from geotl.errors import DataError
from geotl.experiments.draws import Draw, folds_inside, settle_split, spatial_units
from geotl.experiments.pixel_samples import PixelSamples
from geotl.experiments.recipe import Recipe

MAX_SHARE = 1.5
NOTHING: Int64s = np.zeros(0, np.int64)


def settle_folds(recipe: Recipe, samples: PixelSamples, log: Log) -> Recipe:
    """The recipe with the side of its blocks and the number of its folds, where it has none.

    Blocks are twice as wide as the variogram's range, or less where the folds would differ much
    in size: the largest fold holds at most `MAX_SHARE` times its part of the labels, if it can.

    Raises:
        DataError: as `settle_split`.
    """
    if recipe.split.method == "blocks" and recipe.split.block_m is None:
        folds = recipe.split.kfold or 2
        tried = None
        for blocks in (folds, 2 * folds, 4 * folds, 6 * folds, 8 * folds):
            try:
                side, words = suggest_block_m(
                    samples.variogram, samples.footprints, blocks, seed=recipe.seed
                )
            except DataError:
                if tried is None:
                    raise
                break
            share = _largest(recipe, samples, side)
            if tried is None:
                tried = (share, side, words)
            elif share < tried[0]:
                tried = (share, side, f"{words}; with fewer, folds would differ more in size")
            if share <= MAX_SHARE:
                break
        if tried is not None:
            log(tried[2].replace("tiles", "labels"))
            split = recipe.split.model_copy(update={"block_m": tried[1]})
            recipe = recipe.model_copy(update={"split": split})
    return settle_split(recipe, samples, log)


def _largest(recipe: Recipe, samples: PixelSamples, side: float) -> float:
    """How many times its part of the labels the largest fold holds, with blocks of this side."""
    split = recipe.split.model_copy(update={"block_m": side})
    unit, what = spatial_units(recipe.model_copy(update={"split": split}), samples, recipe.seed)
    count = split.kfold or 2
    folds = unit_folds(unit, samples.labels, count, seed=recipe.seed, what=what)
    largest = max(float(samples.weight[fold.test].sum()) for fold in folds)
    return largest * count / float(samples.weight.sum())


def pixel_draws(recipe: Recipe, samples: PixelSamples) -> list[Draw]:
    """The folds of a recipe, by blocks, labels or scenes.

    A class whose labels all lie in one fold has no training label there: its labels are tested
    all the same, and count as incorrect. So no label is lost.

    Raises:
        DataError: fewer blocks, labels or scenes than folds.
    """
    unit, what = spatial_units(recipe, samples, recipe.seed)
    folds = unit_folds(unit, samples.labels, recipe.split.kfold or 2, seed=recipe.seed, what=what)
    return [_draw(recipe, samples, number, fold) for number, fold in enumerate(folds)]


def kept_draw(recipe: Recipe, samples: PixelSamples) -> Draw:
    """The training labels of the model that is kept, by the key `keep`.

    All labels, with folds inside them; the first fold's training labels; or, where the key is
    not set and split.shots is, that many labels per class of all.
    """
    if recipe.keep == "first":
        return pixel_draws(recipe, samples)[0]
    if recipe.keep == "all":
        split = recipe.split.model_copy(update={"shots": None})
        recipe = recipe.model_copy(update={"split": split})
    return whole_draw(recipe, samples)


def whole_draw(recipe: Recipe, samples: PixelSamples) -> Draw:
    """All labels for training, with folds inside them; of split.shots, that many per class."""
    rows = np.arange(len(samples), dtype=np.int64)
    return with_folds(recipe, samples, Draw(0, splits.Split(rows, NOTHING, NOTHING), []))


def _draw(recipe: Recipe, samples: PixelSamples, number: int, split: splits.Split) -> Draw:
    """A fold without the training pixels in reach of a test pixel; units never split a label."""
    lost = near(samples.footprints, split.train, split.test, recipe.split.buffer_m)
    aside = np.sort(np.concatenate([split.set_aside, split.train[lost]]))
    apart = splits.Split(split.train[~lost], split.test, aside)
    return with_folds(recipe, samples, Draw(number, apart, [], int(lost.sum())))


def with_folds(recipe: Recipe, samples: PixelSamples, draw: Draw) -> Draw:
    """The draw with split.shots labels per class, and with folds inside its training part."""
    if recipe.split.shots is not None:
        train = some_labels(
            samples, draw.split.train, recipe.split.shots, recipe.seed + draw.number
        )
        draw = replace(draw, split=replace(draw.split, train=train))
    return folded(recipe, samples, draw)


def folded(recipe: Recipe, samples: PixelSamples, draw: Draw) -> Draw:
    """The draw with folds inside its training part, by place where no class is lost by that."""
    inner = folds_inside(recipe, samples, draw)  # none where every fold by place lost a class
    return replace(draw, folds=inner) if inner else folded_at_random(recipe, samples, draw)


def folded_at_random(recipe: Recipe, samples: PixelSamples, draw: Draw) -> Draw:
    """The draw with folds of labels at random places inside its training part."""
    rows = draw.split.train
    inner = splits.folds(
        samples.labels[rows],
        recipe.split.folds,
        seed=recipe.seed + draw.number,
        groups=[samples.groups[row] for row in rows],
    )
    return replace(draw, folds=inner)


def random_draws(recipe: Recipe, samples: PixelSamples, draws: Sequence[Draw]) -> list[Draw]:
    """Folds with as many labels of each class as those by place, but of labels anywhere.

    Test labels then have training labels near them, which makes their accuracy optimistic. The
    pixels of a label stay together here too.
    """
    _, first, label = np.unique(samples.groups, return_index=True, return_inverse=True)
    drawn = []
    for draw in draws:
        train, test = (np.unique(label[rows]) for rows in (draw.split.train, draw.split.test))
        sides = splits.Split(train, test, NOTHING)
        mixed = at_random(sides, samples.labels[first], seed=recipe.seed)
        train, test = (np.flatnonzero(np.isin(label, side)) for side in (mixed.train, mixed.test))
        random = Draw(draw.number, splits.Split(train, test, NOTHING), [])
        drawn.append(folded_at_random(recipe, samples, random))
    return drawn


def some_labels(samples: PixelSamples, rows: Int64s, count: int, seed: int) -> Int64s:
    """The pixels of `count` labels per class, of all where there are fewer."""
    chosen: set[str] = set()
    for value in range(len(samples.classes)):
        labels = {samples.groups[row]: None for row in rows if samples.labels[row] == value}
        order = np.random.default_rng([seed, value]).permutation(len(labels))
        chosen |= {[*labels][i] for i in order[:count]}
    return np.array([row for row in rows if samples.groups[row] in chosen], np.int64)


def class_labels(samples: PixelSamples, rows: Int64s) -> Int64s:
    """Labels of each class among some pixels [K]; a label's pixels count once."""
    one = np.unique([samples.groups[row] for row in rows], return_index=True)[1]
    return np.bincount(samples.labels[rows[one]], minlength=len(samples.classes))


def near_test(samples: PixelSamples, draw: Draw) -> int:
    """Training labels that lie within the features' windows of a test pixel."""
    rows = draw.split.train
    close = near(samples.footprints, rows, draw.split.test, samples.reach_m)
    return len({samples.groups[row] for row in rows[close]})


def lacking(samples: PixelSamples, draw: Draw) -> tuple[str, ...]:
    """Classes that a fold tests without having a training label."""
    trained = np.unique(samples.labels[draw.split.train])
    lost = np.setdiff1d(samples.labels[draw.split.test], trained)
    return tuple(samples.classes[value] for value in lost)
