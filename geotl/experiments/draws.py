"""Which tiles a recipe learns from and judges on: its draws, random, by place or by group."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from geotl.arrays import Float64s, Int64s
from geotl.console import Log
from geotl.data import splits
from geotl.data.chips import Placement
from geotl.data.footprints import Footprints, locate, need_positions
from geotl.data.spatial_splits import (
    Variogram,
    at_random,
    block_units,
    clear,
    clear_folds,
    draw_from,
    suggest_block_m,
    unit_folds,
    variogram,
)
from geotl.data.tile_array import Pack
from geotl.data.tiles import LEARN_ONLY, TileIndex
from geotl.errors import DataError, RecipeError
from geotl.experiments.recipe import Recipe
from geotl.experiments.schema import SPATIAL
from geotl.imagery.sensors import Sensor
from geotl.training.heads import Folds, band_statistics


@dataclass(frozen=True)
class Source:
    """The labelled tiles of a run, packed.

    `quiet` shows no progress while features of its tiles are computed; `placement` says which
    labels gave chips and which did not, where labels lie over scenes; `unlabelled` holds windows
    of the scenes that nobody labelled.
    """

    index: TileIndex
    sensor: Sensor
    pack: Pack
    quiet: bool = False
    placement: Placement | None = None
    unlabelled: Pack | None = None

    @property
    def labels(self) -> Int64s:
        """Class of each tile."""
        return self.index.labels

    @functools.cached_property
    def real(self) -> Source:
        """Itself without its synthetic tiles, which come last."""
        tiles = self.index.tiles
        count = sum(tile.sources is None for tile in tiles)
        if count == len(tiles):
            return self
        return replace(
            self, index=replace(self.index, tiles=tiles[:count]), pack=_first_of(self.pack, count)
        )

    @functools.cached_property
    def band_table(self) -> Float64s:
        """Mean and sd of each tile's bands, the same for every draw."""
        return band_statistics(self.pack, np.arange(len(self.index), dtype=np.int64))

    @functools.cached_property
    def layout(self) -> Footprints:
        """Where the tiles lie, in metres."""
        return locate(self.pack.footprints, self.pack.crs)

    @functools.cached_property
    def variogram(self) -> Variogram:
        """How far the tiles' band statistics resemble each other.

        Raises:
            DataError: tiles without a position, or in too few places.
        """
        need_positions(self.layout, self.index.names)
        return variogram(self.layout.centres, self.band_table)


@dataclass(frozen=True)
class Draw:
    """One drawing of training labels: its split and the folds inside the training part.

    `cleared` counts the training tiles set aside for touching a tested one, or for lying too near.
    """

    number: int
    split: splits.Split
    folds: Folds
    cleared: int = 0


def _first_of(pack: Pack, count: int) -> Pack:
    """The first tiles of a pack, as a pack of its own over the same arrays."""
    return replace(
        pack,
        images=pack.images[:count],
        valid=None if pack.valid is None else pack.valid[:count],
        fingerprint=hashlib.sha256(f"{pack.fingerprint} {count}".encode()).hexdigest(),
        footprints=pack.footprints[:count],
        crs=pack.crs[:count],
        acquired=pack.acquired[:count],
    )


def make_draw(recipe: Recipe, source: Source, number: int) -> Draw:
    """Split the tiles for one draw; draw n of seed s is draw 0 of seed s + n, but for folds.

    Synthetic tiles play no part in it, and join the training side in the end.

    Raises:
        DataError: tiles that cannot be split so, or synthetic ones that saw more than this draw's
            training side.
    """
    return with_synthetic(_real_draw(recipe, source.real, number), source.index)


def with_synthetic(draw: Draw, index: TileIndex) -> Draw:
    """A draw with the index's synthetic tiles, which come last, on its training side.

    The folds stay as they are, of real tiles alone on both sides: a generator has seen every tile
    that a fold would hold out.

    Raises:
        DataError: a synthetic tile is judged on, or its generator saw a tile that is not learnt
            from in this draw.
    """
    rows = [row for row, tile in enumerate(index.tiles) if tile.sources is not None]
    side = draw.split
    if wrong := sorted(set(rows) & set(side.test.tolist())):
        raise DataError(
            f"{index.tiles[wrong[0]].path}: a synthetic tile is judged on; {LEARN_ONLY}"
        )
    learnt = {index.tiles[row].content for row in side.train}
    judged = {index.tiles[row].content for row in side.test}
    for row in rows:
        beyond = (index.tiles[row].sources or frozenset()) - learnt
        if beyond:
            raise DataError(
                f"{index.tiles[row].path}: its generator learnt from {len(beyond)} tiles outside "
                f"the training side of draw {draw.number + 1}, {len(beyond & judged)} of them "
                "judged; generate tiles for this recipe, with its seed, split and shots"
            )
    train = np.concatenate([side.train, np.setdiff1d(rows, side.train)]).astype(np.int64)
    return replace(draw, split=replace(side, train=train))


def _real_draw(recipe: Recipe, source: Source, number: int) -> Draw:
    told, index = recipe.split, source.index
    if told.method in SPATIAL:
        return spatial_draw(recipe, source, number)
    labels, seed = source.labels, recipe.seed + number
    same: dict[str, Any] = {"content": index.contents, "names": index.classes}
    if told.method == "shots":
        split = splits.k_shot(labels, told.shots or 1, seed=seed, **same)
    elif told.method == "stratified":
        split = splits.stratified(labels, told.test_fraction, seed=seed, **same)
    else:
        split = splits.by_column([t.split for t in index.tiles], labels=labels, **same)
    return Draw(number, split, splits.folds(labels[split.train], told.folds, seed=seed))


def spatial_draw(recipe: Recipe, source: Source, number: int) -> Draw:
    """One draw by blocks, groups or scenes; of a k-fold split it is the fold of that number."""
    told, index = recipe.split, source.index
    labels, seed = source.labels, recipe.seed + number
    unit, what = spatial_units(recipe, source, recipe.seed if told.kfold else seed)
    if told.kfold:
        made = unit_folds(
            unit, labels, told.kfold, seed=recipe.seed, what=what, content=index.contents
        )
        split = made[number]
    elif unit.any():
        split = splits.by_units(
            unit,
            labels,
            told.test_fraction,
            seed=seed,
            content=index.contents,
            names=index.classes,
        )
    else:
        raise DataError(f"one of the {what} holds all tiles: at least two are needed")
    before = len(split.train)
    groups = [tile.group for tile in index.tiles]
    split = clear(
        split,
        source.layout,
        labels,
        buffer_m=told.buffer_m,
        groups=groups,
        names=index.classes,
    )
    draw = Draw(number, split, [], before - len(split.train))
    if told.shots:
        return with_shots(recipe, source, draw, told.shots)
    return replace(draw, folds=folds_inside(recipe, source, draw))


def with_shots(recipe: Recipe, source: Source, draw: Draw, shots: int) -> Draw:
    """A draw with only so many training labels a class; it is judged on the same tiles.

    Raises:
        DataError: a class with fewer different training tiles.
    """
    split = draw_from(
        draw.split,
        source.labels,
        shots,
        seed=recipe.seed + draw.number,
        content=source.index.contents,
        names=source.index.classes,
    )
    drawn = replace(draw, split=split)
    return replace(drawn, folds=folds_inside(recipe, source, drawn))


def folds_inside(recipe: Recipe, source: Source, draw: Draw) -> Folds:
    """Folds inside the training part: by the units of a spatial split, else at random.

    Where that part holds but one unit (the other of two scenes), they go by groups, or else by
    single tiles.
    """
    told, train = recipe.split, draw.split.train
    labels, seed = source.labels[train], recipe.seed + draw.number
    if told.method not in SPATIAL:
        return splits.folds(labels, told.folds, seed=seed)
    unit = spatial_units(recipe, source, recipe.seed if told.kfold else seed)[0][train]
    if len(np.unique(unit)) < 2:
        groups = [source.index.tiles[row].group for row in train]
        named = all(group is not None for group in groups)
        unit = splits.numbered(groups if named else train.tolist())
    return clear_folds(
        train,
        labels,
        told.folds,
        seed=seed,
        unit=unit,
        layout=source.layout,
        buffer_m=told.buffer_m,
    )


def spatial_units(recipe: Recipe, source: Source, seed: int) -> tuple[Int64s, str]:
    """What each tile cannot be parted from, and what such units are called in messages.

    Raises:
        DataError: tiles without a position, group or scene, as the method needs them.
    """
    told, index = recipe.split, source.index
    groups = [tile.group for tile in index.tiles]
    if told.method == "blocks":
        need_positions(source.layout, index.names)
        if told.block_m is None:
            raise RecipeError("split.block_m: given null, which must be settled first")
        unit = block_units(
            source.layout, told.block_m, seed=seed, groups=groups, content=index.contents
        )
        return unit, f"blocks of {told.block_m:g} m (split.block_m)"
    if told.method == "group":
        return splits.linked(splits.numbered(groups), index.contents), "groups (column 'group')"
    if any(tile.scene is None for tile in index.tiles):
        raise DataError(
            "split.method: given scene, but the tiles do not tell which scene they were cut from; "
            "choose blocks or group"
        )
    return splits.numbered([tile.scene for tile in index.tiles]), "scenes"


def random_draw(recipe: Recipe, source: Source, draw: Draw) -> Draw:
    """A random split of the same sizes as a spatial draw; of its folds, the random fold.

    It goes without synthetic tiles, whose generator saw tiles that are judged in it.
    """
    told, source = recipe.split, source.real
    labels, own = source.labels, draw.split.train
    seed = recipe.seed if told.kfold else recipe.seed + draw.number
    sides = replace(draw.split, train=own[own < len(labels)])
    split = at_random(sides, labels, seed=seed, content=source.index.contents)
    folds = splits.folds(labels[split.train], told.folds, seed=recipe.seed + draw.number)
    return Draw(draw.number, split, folds)


def shows_random(recipe: Recipe) -> bool:
    """Whether a random split of the same sizes is judged beside a spatial one."""
    told = recipe.evaluate.random_split
    return recipe.split.method in SPATIAL and (recipe.strategy == "probe" if told is None else told)


def settle_split(recipe: Recipe, source: Source, say: Log) -> Recipe:
    """The recipe with the side of its blocks and the number of its folds, where it leaves them.

    Raises:
        DataError: tiles without a position, or a single scene.
    """
    told, found = recipe.split, dict[str, Any]()
    if told.method == "scene" and told.kfold is None:
        found["kfold"] = int(spatial_units(recipe, source, recipe.seed)[0].max()) + 1
        if found["kfold"] < 2:
            raise DataError("one scene: at least two are needed for split.method=scene")
        say(f"split.kfold={found['kfold']}: each scene is judged by the others")
    if told.method == "blocks" and told.block_m is None:
        least = told.kfold or int(np.ceil(1 / min(told.test_fraction, 1 - told.test_fraction)))
        side, words = suggest_block_m(source.variogram, source.layout, least, seed=recipe.seed)
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
