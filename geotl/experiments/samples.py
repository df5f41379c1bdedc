"""The labelled tiles of a recipe: read from class folders and lists, or cut out of scenes."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from geotl.arrays import Float64s, Int64s
from geotl.console import Log, ProgressLine
from geotl.data.chip_files import pack_chips, pack_unlabelled
from geotl.data.chips import ChipRules, Placement, draw_windows, place_chips
from geotl.data.footprints import Footprints, locate, need_positions
from geotl.data.labels import read_any
from geotl.data.manifest import index_tiles, list_tiles, read_synthetic
from geotl.data.read_tile import TileReading
from geotl.data.spatial_splits import Variogram, variogram
from geotl.data.tile_array import Pack, fingerprint, pack
from geotl.data.tile_statistics import impossible_line, impossible_values
from geotl.data.tiles import Tile, TileIndex, contents_of
from geotl.data.torchgeo_datasets import PREFIX
from geotl.errors import BandError, DataError
from geotl.experiments.named import recipe_sensor
from geotl.experiments.recipe import Recipe, resolve_root, resolve_sample
from geotl.imagery.scene import Scene, open_scenes
from geotl.imagery.sensors import Sensor
from geotl.imagery.stacked import open_extras, stacked
from geotl.io.files import cache_folder
from geotl.language import msg
from geotl.training.heads import band_statistics


@dataclass(frozen=True)
class TileSamples:
    """Labelled tiles or chips, packed: the `Samples` of a recipe whose rows are tiles.

    Attributes:
        index: the tiles, row by row, with the names of the classes.
        sensor: of their digital numbers.
        pack: their pixels and validity.
        placement: which labels gave chips and which did not, where labels lie over scenes.
        unlabelled: windows of the scenes, or tiles of a folder, without a label.
    """

    index: TileIndex
    sensor: Sensor
    pack: Pack
    placement: Placement | None = None
    unlabelled: Pack | None = None

    def __len__(self) -> int:
        """Number of tiles."""
        return len(self.index)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the labels."""
        return self.index.classes

    @functools.cached_property
    def labels(self) -> Int64s:
        """Class of each tile [N]."""
        return self.index.labels

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """Path of each tile below the root, or the chip's own name."""
        return self.index.names

    @functools.cached_property
    def paths(self) -> tuple[Path, ...]:
        """The file of each tile."""
        return tuple(tile.path for tile in self.index.tiles)

    @functools.cached_property
    def contents(self) -> tuple[str, ...]:
        """SHA-256 of each tile."""
        return self.index.contents

    @functools.cached_property
    def groups(self) -> tuple[str | None, ...]:
        """Group of each tile, from its table."""
        return tuple(tile.group for tile in self.index.tiles)

    @functools.cached_property
    def scenes(self) -> tuple[str | None, ...]:
        """The scene that each chip was cut from."""
        return tuple(tile.scene for tile in self.index.tiles)

    @functools.cached_property
    def sides(self) -> tuple[str | None, ...]:
        """Side of a split, from the table."""
        return tuple(tile.split for tile in self.index.tiles)

    @functools.cached_property
    def sources(self) -> tuple[frozenset[str] | None, ...]:
        """Of a synthetic tile the contents that its generator was trained on, else None."""
        return tuple(tile.sources for tile in self.index.tiles)

    @functools.cached_property
    def real(self) -> TileSamples:
        """The same without its synthetic tiles, which come last."""
        count = sum(of is None for of in self.sources)
        if count == len(self):
            return self
        tiles = self.index.tiles[:count]
        return replace(
            self, index=replace(self.index, tiles=tiles), pack=_first_of(self.pack, count)
        )

    @functools.cached_property
    def band_table(self) -> Float64s:
        """Mean and sd of each tile's bands [N,2C], the same for every draw."""
        return band_statistics(self.pack, np.arange(len(self), dtype=np.int64))

    @functools.cached_property
    def footprints(self) -> Footprints:
        """Where the tiles lie, in metres."""
        return locate(self.pack.footprints, self.pack.crs)

    @functools.cached_property
    def variogram(self) -> Variogram:
        """How far the tiles' band statistics resemble each other.

        Raises:
            DataError: tiles without a position, or in too few places.
        """
        need_positions(self.footprints, self.names)
        return variogram(self.footprints.centres, self.band_table)

    @property
    def tile_px(self) -> int:
        """Side of a tile in pixels."""
        return int(self.pack.images.shape[-1])

    @property
    def rgb(self) -> tuple[int, int, int]:
        """Bands to show as red, green and blue."""
        return shown_bands(self.sensor, self.pack.bands)


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


def survey(
    recipe: Recipe, sensor: Sensor, cache: Path, log: Log, *, quiet: bool
) -> tuple[TileIndex, Pack, Placement]:
    """Place and pack the chips of a recipe's labels; log what was placed and rejected.

    Raises:
        DataError: scenes or labels that cannot be used.
    """
    config = recipe.labels
    scenes = recipe_scenes(recipe, sensor)
    path = resolve_sample("labels.path", str(config.path))
    labels = read_any(
        path,
        layer=config.layer,
        field=config.field,
        crs_to=scenes[0].grid.crs,
        id_field=config.id_field,
        mapping=config.names,
        crs=config.crs,
    )
    rules = chip_rules(recipe)
    with ProgressLine(quiet=quiet) as line:
        placed = place_chips(scenes, labels, rules, progress=line.counter("placing chips"))
        placed = replace(placed, notes=(*placed.notes, *unmasked(scenes, recipe.data.mask)))
        for text in (*placed.lost, *placed.notes, *placed.summary()):
            log(text)
        _check(path, placed)
        index, packed = pack_chips(
            scenes, placed.chips, cache, where=path, progress=line.counter("reading chips")
        )
    for scene in scenes:
        scene.close()
    return index, packed, placed


def survey_unlabelled(
    recipe: Recipe,
    sensor: Sensor,
    placed: Placement,
    cache: Path,
    log: Log,
    *,
    quiet: bool,
) -> Pack | None:
    """Draw and pack the windows of labels.unlabelled, off every chip placed; None without any.

    Raises:
        DataError: no window can be drawn.
    """
    config = recipe.labels
    if not config.unlabelled:
        return None
    scenes = recipe_scenes(recipe, sensor)
    drawn = draw_windows(scenes, placed.chips, chip_rules(recipe), config.unlabelled)
    with ProgressLine(quiet=quiet) as line:
        packed = pack_unlabelled(
            scenes, drawn, cache, progress=line.counter("reading unlabelled windows")
        )
    for scene in scenes:
        scene.close()
    room = (
        ""
        if len(drawn) == config.unlabelled
        else f" of {config.unlabelled} wanted: no room for more"
    )
    log(f"{len(drawn)} unlabelled windows drawn{room}")
    return packed


def shown_bands(sensor: Sensor, bands: Sequence[str]) -> tuple[int, int, int]:
    """Positions of red, green and blue among bands, else of the first three (or the only one)."""
    try:
        names = sensor.canonical(["red", "green", "blue"])
    except BandError:
        names = ()
    shown = [bands.index(name) for name in names if name in bands]
    if len(shown) < 3:
        shown = [min(i, len(bands) - 1) for i in range(3)]
    return shown[0], shown[1], shown[2]


def chip_rules(recipe: Recipe) -> ChipRules:
    """The rules of a recipe for chips."""
    config = recipe.labels
    return ChipRules(
        config.chip_px,
        config.purity,
        config.per_polygon,
        config.step_px,
        config.min_valid,
        config.max_cloud,
        recipe.seed,
    )


def unmasked(scenes: Sequence[Scene], mask: str | None, *, pixels: bool = False) -> tuple[str, ...]:
    """A line on the scenes without a cloud mask, unless the recipe asks for none."""
    names = [scene.name for scene in scenes if scene.mask is None]
    if mask is None or not names:
        return ()
    few: str = ", ".join(names[:5])
    if len(names) > 5:
        few = msg("{scenes} and more", scenes=few)
    if pixels:
        return (
            msg(
                "{scenes}: no cloud mask, so pixels under cloud or shadow count as clear "
                "(data.mask)",
                scenes=few,
            ),
        )
    return (
        msg(
            "{scenes}: no cloud mask, so chips under cloud or shadow count as clear (data.mask)",
            scenes=few,
        ),
    )


def _check(path: Path, placed: Placement) -> None:
    """Make sure that chips of two classes are left."""
    if len({chip.class_name for chip in placed.chips}) < 2:
        summary = "; ".join(line.strip() for line in (*placed.summary(), *placed.lost))
        raise DataError(
            f"{path}: chips of at least two classes are needed: {summary}; see labels.chip_px, "
            "labels.purity, labels.min_valid, labels.max_cloud and labels.names"
        )


def recipe_scenes(recipe: Recipe, sensor: Sensor) -> list[Scene]:
    """The scenes of a recipe, opened.

    Raises:
        DataError: a scene that cannot be used.
        BandError: bands missing.
    """
    data = recipe.data
    paths = [resolve_sample("data.scenes", text) for text in data.scenes]
    return open_scenes(paths, sensor, data.bands, file_bands=data.file_bands, mask=data.mask)


def stacked_scenes(recipe: Recipe, sensor: Sensor) -> list[Scene]:
    """The scenes of a recipe, with the bands of pixels.extra after their own.

    Raises:
        DataError: a scene or an extra raster that cannot be used.
        BandError: bands missing.
    """
    paths = [resolve_sample("pixels.extra", text) for text in recipe.pixels.extra]
    extras = open_extras(paths, sensor)
    return [stacked(scene, extras) for scene in recipe_scenes(recipe, sensor)]


def check_imagery(recipe: Recipe, sensor: Sensor) -> None:
    """Check that the files of a recipe exist; no pixel is read.

    Raises:
        RecipeError: no data.root.
        DataError: nothing lies there, or a scene that cannot be used.
        BandError: bands missing from a scene.
    """
    if recipe.data.scenes:
        recipe_scenes(recipe, sensor)
        return
    root = resolve_root(recipe.data.root)
    if not (str(root).startswith(PREFIX) or root.exists()):
        raise DataError(
            f"{root}: no such folder or manifest; set data.root to the folder of class folders, or "
            "to a manifest"
        )


def read_samples(recipe: Recipe, sensor: Sensor, log: Log, *, quiet: bool = False) -> TileSamples:
    """Index the tiles, or place chips in scenes, and pack them or read an earlier pack."""
    placed, extra = None, None
    if recipe.data.scenes:
        packs = cache_folder() / "packs"
        index, packed, placed = survey(recipe, sensor, packs, log, quiet=quiet)
        extra = survey_unlabelled(recipe, sensor, placed, packs, log, quiet=quiet)
    else:
        index, packed = read_tiles(recipe, sensor, log, quiet=quiet)
        extra = pool_of_folder(recipe, index, log, quiet=quiet)
    impossible = impossible_values(packed, sensor)
    if impossible[0]:
        log(impossible_line(impossible, sensor))
    px = packed.images.shape[-1]
    log(
        f"{len(index)} tiles of {len(index.classes)} classes, {px}x{px} px, "
        f"bands {', '.join(packed.bands)}"
    )
    return TileSamples(index, sensor, packed, placed, extra)


def read_tiles(recipe: Recipe, sensor: Sensor, log: Log, *, quiet: bool) -> tuple[TileIndex, Pack]:
    """Index and pack the tiles below a recipe's root."""
    data = recipe.data
    with ProgressLine(quiet=quiet) as line:
        index = index_tiles(
            resolve_root(data.root),
            cache=cache_folder() / "datasets",
            sensor=sensor,
            table=data.table,
            class_depth=data.class_depth,
            log=log,
            progress=line.counter("listing tiles"),
        )
    if data.synthetic is not None:
        synthetic = read_synthetic(data.synthetic, index.classes, sensor)
        index = replace(index, tiles=(*index.tiles, *synthetic))
        log(f"{data.synthetic}: {len(synthetic)} synthetic tiles, for training only")
    reading = TileReading(data.bands, data.file_bands, data.tile_px, data.fit)
    folder = cache_folder() / "packs" / fingerprint(index, sensor, reading)[:32]
    with ProgressLine(quiet=quiet) as line:
        progress = line.counter("reading tiles")
        return index, pack(index, sensor, reading, folder=folder, progress=progress)


def unlabelled_tiles(
    recipe: Recipe, root: Path, *, known: Collection[str] = (), quiet: bool = False
) -> TileSamples:
    """All tiles below a folder, in whatever folders they lie, packed, in no class.

    Args:
        recipe: how tiles are read.
        root: the folder.
        known: contents of tiles that are left out.
        quiet: show no progress.

    Raises:
        DataError: no tile, or one that cannot be read.
    """
    sensor, data = recipe_sensor(recipe), recipe.data
    paths = list_tiles([root.absolute()], sensor)
    with ProgressLine(quiet=quiet) as line:
        contents = contents_of(paths, sensor, progress=line.counter("listing tiles"))
        tiles = tuple(
            Tile(path, None, None, None, content)
            for path, content in zip(paths, contents, strict=True)
            if content not in known
        )
        if not tiles:
            raise DataError(f"{root}: all {len(paths)} tiles are among the labelled ones as well")
        index = TileIndex(root.absolute(), ("unlabelled",), tiles)
        reading = TileReading(data.bands, data.file_bands, data.tile_px, data.fit)
        folder = cache_folder() / "packs" / fingerprint(index, sensor, reading)[:32]
        packed = pack(index, sensor, reading, folder=folder, progress=line.counter("reading tiles"))
    return TileSamples(index, sensor, packed)


def pool_of_folder(recipe: Recipe, labelled: TileIndex, log: Log, *, quiet: bool) -> Pack | None:
    """The tiles of the folder that probe.pool names, without the labelled ones; None without one.

    Raises:
        DataError: no such folder, or no tile in it that has no label.
    """
    pool = recipe.probe.pool
    if not isinstance(pool, str) or recipe.data.scenes:
        return None
    if not Path(pool).is_dir():
        raise DataError(
            f"probe.pool: {pool} is no folder; give a folder of tiles, or a share of the undrawn "
            "tiles such as 0.5"
        )
    known = set(labelled.contents)
    found = unlabelled_tiles(recipe, Path(pool), known=known, quiet=quiet)
    log(f"probe.pool: {len(found)} unlabelled tiles, none of which is among the labelled ones")
    return found.pack
