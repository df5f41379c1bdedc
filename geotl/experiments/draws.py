"""Which tiles a recipe learns from and judges on: its draws, random, by place or by group."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from geotl.arrays import Int64s
from geotl.console import Log
from geotl.data import splits
from geotl.data.footprints import need_positions
from geotl.data.samples import Samples
from geotl.data.spatial_splits import (
    at_random,
    block_units,
    clear,
    clear_folds,
    draw_from,
    suggest_block_m,
    unit_folds,
)
from geotl.data.tiles import LEARN_ONLY
from geotl.errors import DataError, RecipeError
from geotl.experiments.recipe import Recipe
from geotl.experiments.rules import SPATIAL
from geotl.training.heads import Folds


@dataclass(frozen=True)
class Draw:
    """One drawing of training labels: its split and the folds inside the training part.

    `cleared` counts the training tiles set aside for touching a tested one, or for lying too near;
    `pool` are the rows of undrawn tiles that are used without their labels, and not tested.
    """

    number: int
    split: splits.Split
    folds: Folds
    cleared: int = 0
    pool: Int64s = field(default_factory=lambda: np.zeros(0, np.int64))


def make_draw(recipe: Recipe, samples: Samples, number: int) -> Draw:
    """Split the tiles for one draw; draw n of seed s is draw 0 of seed s + n, but for folds.

    Synthetic tiles play no part in it, and join the training side in the end.

    Raises:
        DataError: tiles that cannot be split so, or synthetic ones that saw more than this draw's
            training side.
    """
    drawn = with_synthetic(_real_draw(recipe, samples.real, number), samples)
    share = recipe.probe.pool
    return _with_pool(drawn, share, recipe.seed) if isinstance(share, float) else drawn


def _with_pool(draw: Draw, share: float, seed: int) -> Draw:
    """A draw that gives a share of its test tiles, at random, to the pool of unlabelled ones."""
    test = np.random.default_rng([seed, draw.number, 18]).permutation(draw.split.test)
    pool, rest = np.split(test, [round(share * len(test))])
    aside = np.union1d(draw.split.set_aside, pool).astype(np.int64)
    split = replace(draw.split, test=np.sort(rest), set_aside=aside)
    return replace(draw, split=split, pool=np.sort(pool))


def with_synthetic(draw: Draw, samples: Samples) -> Draw:
    """A draw with the synthetic tiles, which come last, on its training side.

    The folds stay as they are, of real tiles alone on both sides: a generator has seen every tile
    that a fold would hold out.

    Raises:
        DataError: a synthetic tile is judged on, or its generator saw a tile that is not learnt
            from in this draw.
    """
    rows = [row for row, of in enumerate(samples.sources) if of is not None]
    side = draw.split
    if wrong := sorted(set(rows) & set(side.test.tolist())):
        raise DataError(f"{samples.paths[wrong[0]]}: a synthetic tile is judged on; {LEARN_ONLY}")
    learnt = {samples.contents[row] for row in side.train}
    judged = {samples.contents[row] for row in side.test}
    for row in rows:
        beyond = (samples.sources[row] or frozenset()) - learnt
        if beyond:
            raise DataError(
                f"{samples.paths[row]}: its generator learnt from {len(beyond)} tiles outside "
                f"the training side of draw {draw.number + 1}, {len(beyond & judged)} of them "
                "judged; generate tiles for this recipe, with its seed, split and shots"
            )
    train = np.concatenate([side.train, np.setdiff1d(rows, side.train)]).astype(np.int64)
    return replace(draw, split=replace(side, train=train))


def _real_draw(recipe: Recipe, samples: Samples, number: int) -> Draw:
    told = recipe.split
    if told.method in SPATIAL:
        return spatial_draw(recipe, samples, number)
    labels, seed = samples.labels, recipe.seed + number
    same: dict[str, Any] = {"content": samples.contents, "names": samples.classes}
    if told.method == "shots":
        split = splits.k_shot(labels, told.shots or 1, seed=seed, **same)
    elif told.method == "stratified":
        split = splits.stratified(labels, told.test_fraction, seed=seed, **same)
    else:
        split = splits.by_column(samples.sides, labels=labels, **same)
    return Draw(number, split, splits.folds(labels[split.train], told.folds, seed=seed))


def spatial_draw(recipe: Recipe, samples: Samples, number: int) -> Draw:
    """One draw by blocks, groups or scenes; of a k-fold split it is the fold of that number."""
    told = recipe.split
    labels, seed = samples.labels, recipe.seed + number
    unit, what = spatial_units(recipe, samples, recipe.seed if told.kfold else seed)
    if told.kfold:
        made = unit_folds(
            unit, labels, told.kfold, seed=recipe.seed, what=what, content=samples.contents
        )
        split = made[number]
    elif unit.any():
        split = splits.by_units(
            unit,
            labels,
            told.test_fraction,
            seed=seed,
            content=samples.contents,
            names=samples.classes,
        )
    else:
        raise DataError(f"one of the {what} holds all tiles: at least two are needed")
    before = len(split.train)
    groups = samples.groups
    split = clear(
        split,
        samples.footprints,
        labels,
        buffer_m=told.buffer_m,
        groups=groups,
        names=samples.classes,
    )
    draw = Draw(number, split, [], before - len(split.train))
    if told.shots:
        return with_shots(recipe, samples, draw, told.shots)
    return replace(draw, folds=folds_inside(recipe, samples, draw))


def with_shots(recipe: Recipe, samples: Samples, draw: Draw, shots: int) -> Draw:
    """A draw with only so many training labels a class; it is judged on the same tiles.

    Raises:
        DataError: a class with fewer different training tiles.
    """
    split = draw_from(
        draw.split,
        samples.labels,
        shots,
        seed=recipe.seed + draw.number,
        content=samples.contents,
        names=samples.classes,
    )
    drawn = replace(draw, split=split)
    return replace(drawn, folds=folds_inside(recipe, samples, drawn))


def folds_inside(recipe: Recipe, samples: Samples, draw: Draw) -> Folds:
    """Folds inside the training part: by the units of a spatial split, else at random.

    Where that part holds but one unit (the other of two scenes), they go by groups, or else by
    single tiles.
    """
    told, train = recipe.split, draw.split.train
    labels, seed = samples.labels[train], recipe.seed + draw.number
    if told.method not in SPATIAL:
        return splits.folds(labels, told.folds, seed=seed)
    unit = spatial_units(recipe, samples, recipe.seed if told.kfold else seed)[0][train]
    if len(np.unique(unit)) < 2:
        groups = [samples.groups[row] for row in train]
        named = all(group is not None for group in groups)
        unit = splits.numbered(groups if named else train.tolist())
    return clear_folds(
        train,
        labels,
        told.folds,
        seed=seed,
        unit=unit,
        layout=samples.footprints,
        buffer_m=told.buffer_m,
    )


def spatial_units(recipe: Recipe, samples: Samples, seed: int) -> tuple[Int64s, str]:
    """What each tile cannot be parted from, and what such units are called in messages.

    Raises:
        DataError: tiles without a position, group or scene, as the method needs them.
    """
    told = recipe.split
    groups = samples.groups
    if told.method == "blocks":
        need_positions(samples.footprints, samples.names)
        if told.block_m is None:
            raise RecipeError("split.block_m: given null, which must be settled first")
        unit = block_units(
            samples.footprints, told.block_m, seed=seed, groups=groups, content=samples.contents
        )
        return unit, f"blocks of {told.block_m:g} m (split.block_m)"
    if told.method == "group":
        return splits.linked(splits.numbered(groups), samples.contents), "groups (column 'group')"
    if any(scene is None for scene in samples.scenes):
        raise DataError(
            "split.method: given scene, but the tiles do not tell which scene they were cut from; "
            "choose blocks or group"
        )
    return splits.numbered(samples.scenes), "scenes"


def random_draw(recipe: Recipe, samples: Samples, draw: Draw) -> Draw:
    """A random split of the same sizes as a spatial draw; of its folds, the random fold.

    It goes without synthetic tiles, whose generator saw tiles that are judged in it.
    """
    told, samples = recipe.split, samples.real
    labels, own = samples.labels, draw.split.train
    seed = recipe.seed if told.kfold else recipe.seed + draw.number
    sides = replace(draw.split, train=own[own < len(labels)])
    split = at_random(sides, labels, seed=seed, content=samples.contents)
    folds = splits.folds(labels[split.train], told.folds, seed=recipe.seed + draw.number)
    return Draw(draw.number, split, folds)


def shows_random(recipe: Recipe) -> bool:
    """Whether a random split of the same sizes is judged beside a spatial one."""
    told = recipe.evaluate.random_split
    return recipe.split.method in SPATIAL and (recipe.strategy == "probe" if told is None else told)


def settle_split(recipe: Recipe, samples: Samples, say: Log) -> Recipe:
    """The recipe with the side of its blocks and the number of its folds, where it leaves them.

    Raises:
        DataError: tiles without a position, or a single scene.
    """
    told, found = recipe.split, dict[str, Any]()
    if told.method == "scene" and told.kfold is None:
        found["kfold"] = int(spatial_units(recipe, samples, recipe.seed)[0].max()) + 1
        if found["kfold"] < 2:
            raise DataError("one scene: at least two are needed for split.method=scene")
        say(f"split.kfold={found['kfold']}: each scene is judged by the others")
    if told.method == "blocks" and told.block_m is None:
        least = told.kfold or int(np.ceil(1 / min(told.test_fraction, 1 - told.test_fraction)))
        side, words = suggest_block_m(
            samples.variogram, samples.footprints, least, seed=recipe.seed
        )
        found["block_m"] = side
        say(words)
    if kfold := found.get("kfold", told.kfold):
        found["draws"] = kfold
    return recipe.model_copy(update={"split": told.model_copy(update=found)})


def split_words(recipe: Recipe, draw: Draw) -> str:
    """What a spatial draw came to, in a line."""
    told = recipe.split
    how = f"blocks of {told.block_m:,.0f} m" if told.method == "blocks" else f"by {told.method}"
    folds = f", fold 1 of {told.kfold}" if told.kfold else ""
    line = (
        f"split {how}{folds}: {len(draw.split.train)} tiles to learn from, "
        f"{len(draw.split.test)} judged"
    )
    near = f" or nearer than {told.buffer_m:g} m" if told.buffer_m else ""
    return f"{line}, {draw.cleared} touching these{near} set aside" if draw.cleared else line
