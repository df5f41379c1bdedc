"""Scenes and labels that a recipe names, as chips with their classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from geotl.console import Log, ProgressLine
from geotl.data.chipping import pack_chips, pack_unlabelled
from geotl.data.chips import ChipRules, Placement, place_chips
from geotl.data.labelfiles import read_any
from geotl.data.tile_array import Pack
from geotl.data.tiles import TileIndex
from geotl.data.unlabelledwindows import draw_windows
from geotl.errors import DataError
from geotl.experiments.recipe import Recipe, resolve_sample
from geotl.imagery.scene import Scene, open_scenes
from geotl.imagery.sensors import Sensor


def survey(
    recipe: Recipe, sensor: Sensor, cache: Path, say: Log, *, quiet: bool
) -> tuple[TileIndex, Pack, Placement]:
    """Place and pack the chips of a recipe's labels; what was placed and rejected is said.

    Raises:
        DataError: scenes or labels that cannot be used.
    """
    told = recipe.labels
    scenes = recipe_scenes(recipe, sensor)
    path = resolve_sample("labels.path", str(told.path))
    labels = read_any(
        path,
        layer=told.layer,
        field=told.field,
        crs_to=scenes[0].grid.crs,
        id_field=told.id_field,
        mapping=told.names,
        crs=told.crs,
    )
    rules = chip_rules(recipe)
    with ProgressLine(quiet=quiet) as line:
        placed = place_chips(scenes, labels, rules, tell=line.counter("placing chips"))
        placed = replace(placed, notes=(*placed.notes, *unmasked(scenes, recipe.data.mask)))
        for text in (*placed.notes, *placed.summary()):
            say(text)
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
    say: Log,
    *,
    quiet: bool,
) -> Pack | None:
    """Draw and pack the windows of labels.unlabelled, off every chip placed; None without any.

    Raises:
        DataError: no window can be drawn.
    """
    told = recipe.labels
    if not told.unlabelled:
        return None
    scenes = recipe_scenes(recipe, sensor)
    drawn = draw_windows(scenes, placed.chips, chip_rules(recipe), told.unlabelled)
    with ProgressLine(quiet=quiet) as line:
        packed = pack_unlabelled(
            scenes, drawn, cache, progress=line.counter("reading unlabelled windows")
        )
    for scene in scenes:
        scene.close()
    room = (
        "" if len(drawn) == told.unlabelled else f" of {told.unlabelled} wanted: no room for more"
    )
    say(f"{len(drawn)} unlabelled windows drawn{room}")
    return packed


def chip_rules(recipe: Recipe) -> ChipRules:
    """What a recipe's chips must be."""
    told = recipe.labels
    return ChipRules(
        told.chip_px,
        told.purity,
        told.per_polygon,
        told.step_px,
        told.min_valid,
        told.max_cloud,
        recipe.seed,
    )


def unmasked(scenes: Sequence[Scene], mask: str | None) -> tuple[str, ...]:
    """A line on the scenes in which no cloud can be told, unless the recipe wants no mask."""
    names = [scene.name for scene in scenes if scene.mask is None]
    if mask is None or not names:
        return ()
    few = ", ".join(names[:5]) + (" and more" if len(names) > 5 else "")
    return (f"{few}: no cloud mask, so chips under cloud or shadow count as ground (data.mask)",)


def _check(path: Path, placed: Placement) -> None:
    """Make sure that chips of two classes are left."""
    if len({chip.class_name for chip in placed.chips}) < 2:
        told = "; ".join(line.strip() for line in placed.summary())
        raise DataError(
            f"{path}: chips of two classes at least are needed: {told}; see labels.chip_px, "
            "labels.purity, labels.min_valid, labels.max_cloud and labels.names"
        )


def recipe_scenes(recipe: Recipe, sensor: Sensor) -> list[Scene]:
    """The scenes a recipe names, opened.

    Raises:
        DataError: a scene that cannot be used.
        BandError: bands missing.
    """
    data = recipe.data
    paths = [resolve_sample("data.scenes", text) for text in data.scenes]
    return open_scenes(paths, sensor, data.bands, file_bands=data.file_bands, mask=data.mask)
