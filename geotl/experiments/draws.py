"""Training and test tiles of a recipe: its repeated splits, random, by place or by group."""

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
from geotl.evaluation.evaluate import MIN_TILES
from geotl.experiments.recipe import Recipe
from geotl.experiments.rules import SPATIAL
from geotl.language import msg
from geotl.training.heads import Folds

MANY_TILES = 100  # from which on a 95 % interval of accuracy is within 10 points


@dataclass(frozen=True)
class Draw:
    """One drawing of training labels: its split and the folds inside the training part.

    `cleared` counts the training tiles excluded because they touch a test tile or lie too near one;
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

    The folds stay as they are, of real tiles alone on both sides: a generator was trained on
    every tile that a fold would hold out.

    Raises:
        DataError: a synthetic tile is a test tile, or its generator was trained on a tile that is
            no training tile of this draw.
    """
    rows = [row for row, of in enumerate(samples.sources) if of is not None]
    side = draw.split
    if wrong := sorted(set(rows) & set(side.test.tolist())):
        raise DataError(f"{samples.paths[wrong[0]]}: a synthetic tile is a test tile; {LEARN_ONLY}")
    training = {samples.contents[row] for row in side.train}
    test = {samples.contents[row] for row in side.test}
    for row in rows:
        beyond = (samples.sources[row] or frozenset()) - training
        if beyond:
            raise DataError(
                f"{samples.paths[row]}: its generator was trained on {len(beyond)} tiles outside "
                f"the training side of draw {draw.number + 1}, {len(beyond & test)} of them "
                "test tiles; generate tiles for this recipe, with its seed, split and shots"
            )
    train = np.concatenate([side.train, np.setdiff1d(rows, side.train)]).astype(np.int64)
    return replace(draw, split=replace(side, train=train))


def _real_draw(recipe: Recipe, samples: Samples, number: int) -> Draw:
    config = recipe.split
    if config.method in SPATIAL:
        return spatial_draw(recipe, samples, number)
    labels, seed = samples.labels, recipe.seed + number
    same: dict[str, Any] = {"content": samples.contents, "names": samples.classes}
    if config.method == "shots":
        split = splits.k_shot(labels, config.shots or 1, seed=seed, **same)
    elif config.method == "stratified":
        split = splits.stratified(labels, config.test_fraction, seed=seed, **same)
    else:
        split = splits.by_column(samples.sides, labels=labels, **same)
    return Draw(number, split, splits.folds(labels[split.train], config.folds, seed=seed))


def spatial_draw(recipe: Recipe, samples: Samples, number: int) -> Draw:
    """One draw by blocks, groups or scenes; of a k-fold split it is the fold of that number."""
    config = recipe.split
    labels, seed = samples.labels, recipe.seed + number
    unit, what = spatial_units(recipe, samples, recipe.seed if config.kfold else seed)
    if config.kfold:
        splits_by_fold = unit_folds(
            unit, labels, config.kfold, seed=recipe.seed, what=what, content=samples.contents
        )
        split = splits_by_fold[number]
    elif unit.any():
        split = splits.by_units(
            unit,
            labels,
            config.test_fraction,
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
        buffer_m=config.buffer_m,
        groups=groups,
        names=samples.classes,
    )
    draw = Draw(number, split, [], before - len(split.train))
    if config.shots:
        return with_shots(recipe, samples, draw, config.shots)
    return replace(draw, folds=folds_inside(recipe, samples, draw))


def with_shots(recipe: Recipe, samples: Samples, draw: Draw, shots: int) -> Draw:
    """A repeat with only `shots` training labels per class; its test tiles stay the same.

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
    config, train = recipe.split, draw.split.train
    labels, seed = samples.labels[train], recipe.seed + draw.number
    if config.method not in SPATIAL:
        return splits.folds(labels, config.folds, seed=seed)
    unit = spatial_units(recipe, samples, recipe.seed if config.kfold else seed)[0][train]
    if len(np.unique(unit)) < 2:
        groups = [samples.groups[row] for row in train]
        named = all(group is not None for group in groups)
        unit = splits.numbered(groups if named else train.tolist())
    return clear_folds(
        train,
        labels,
        config.folds,
        seed=seed,
        unit=unit,
        layout=samples.footprints,
        buffer_m=config.buffer_m,
    )


def spatial_units(recipe: Recipe, samples: Samples, seed: int) -> tuple[Int64s, str]:
    """What each tile cannot be parted from, and what such units are called in messages.

    Raises:
        DataError: tiles without a position, group or scene, as the method needs them.
    """
    config = recipe.split
    groups = samples.groups
    if config.method == "blocks":
        need_positions(samples.footprints, samples.names)
        if config.block_m is None:
            raise RecipeError("split.block_m: given null, which must be resolved first")
        unit = block_units(
            samples.footprints, config.block_m, seed=seed, groups=groups, content=samples.contents
        )
        return unit, f"blocks of {config.block_m:g} m (split.block_m)"
    if config.method == "group":
        return splits.linked(splits.numbered(groups), samples.contents), "groups (column 'group')"
    if any(scene is None for scene in samples.scenes):
        raise DataError(
            "split.method: given scene, but the tiles have no scene of origin; "
            "choose blocks or group"
        )
    return splits.numbered(samples.scenes), "scenes"


def random_draw(recipe: Recipe, samples: Samples, draw: Draw) -> Draw:
    """A random split of the same sizes as a spatial draw; of its folds, the random fold.

    It leaves out synthetic tiles: their generator was trained on some of its test tiles.
    """
    config, samples = recipe.split, samples.real
    labels, train = samples.labels, draw.split.train
    seed = recipe.seed if config.kfold else recipe.seed + draw.number
    sides = replace(draw.split, train=train[train < len(labels)])
    split = at_random(sides, labels, seed=seed, content=samples.contents)
    folds = splits.folds(labels[split.train], config.folds, seed=recipe.seed + draw.number)
    return Draw(draw.number, split, folds)


def shows_random(recipe: Recipe) -> bool:
    """Whether a random split of the same sizes is tested and compared with a spatial one."""
    choice = recipe.evaluate.random_split
    return recipe.split.method in SPATIAL and (
        recipe.strategy == "probe" if choice is None else choice
    )


def settle_split(recipe: Recipe, samples: Samples, log: Log) -> Recipe:
    """The recipe with the side of its blocks and the number of its folds, where it has none.

    Raises:
        DataError: tiles without a position, or a single scene.
    """
    config, changes = recipe.split, dict[str, Any]()
    if config.method == "scene" and config.kfold is None:
        changes["kfold"] = int(spatial_units(recipe, samples, recipe.seed)[0].max()) + 1
        if changes["kfold"] < 2:
            raise DataError("one scene: at least two are needed for split.method=scene")
        log(f"split.kfold={changes['kfold']}: each scene is tested with a model of the others")
    if config.method == "blocks" and config.block_m is None:
        minimum = config.kfold or int(
            np.ceil(1 / min(config.test_fraction, 1 - config.test_fraction))
        )
        side, words = suggest_block_m(
            samples.variogram, samples.footprints, minimum, seed=recipe.seed
        )
        changes["block_m"] = side
        log(words)
    if kfold := changes.get("kfold", config.kfold):
        changes["draws"] = kfold
    return recipe.model_copy(update={"split": config.model_copy(update=changes)})


METHODS = {"group": msg("group"), "scene": msg("scene")}


def split_words(recipe: Recipe, draw: Draw) -> str:
    """Sizes of a spatial split, in one line."""
    config, split = recipe.split, draw.split
    how: str = msg("by {method}", method=METHODS.get(config.method, config.method))
    if config.method == "blocks":
        how = msg("blocks of {block_m:,.0f} m", block_m=config.block_m)
    if config.kfold:
        how = msg("{how}, fold 1 of {kfold}", how=how, kfold=config.kfold)
    values = {
        "how": how,
        "train": len(split.train),
        "test": len(split.test),
        "cleared": draw.cleared,
    }
    if not draw.cleared:
        return msg("{how}: {train} training tiles, {test} test tiles", **values)
    if not config.buffer_m:
        return msg(
            "{how}: {train} training tiles, {test} test tiles, {cleared} touching these excluded",
            **values,
        )
    return msg(
        "{how}: {train} training tiles, {test} test tiles, {cleared} touching these or nearer than "
        "{buffer_m:g} m excluded",
        **values,
        buffer_m=config.buffer_m,
    )


def tested_lines(recipe: Recipe, samples: Samples, draw: Draw) -> list[str]:
    """How many test tiles there are, and a warning where they are few; folds count together."""
    folds = recipe.split.kfold
    rows = np.flatnonzero(samples.labels >= 0) if folds else draw.split.test
    counts = np.bincount(samples.labels[rows], minlength=len(samples.classes))
    pairs = zip(samples.classes, counts.tolist(), strict=True)
    few = [f"{name} {count}" for name, count in pairs if count < MIN_TILES]
    total = int(counts.sum())
    lines = [f"{total} test tiles in {folds} folds together" if folds else f"{total} test tiles"]
    if recipe.split.method not in SPATIAL:
        lines = [f"{len(draw.split.train)} training tiles, {total} test tiles"]
    if 0 < total < MANY_TILES or few:
        named = f" (of {', '.join(few[:8])})" if few else ""
        lines.append(
            f"warning: few test tiles{named}; accuracy on {total} is uncertain by up to "
            f"{100 / max(total, 1) ** 0.5:.0f} points"
        )
    return lines
