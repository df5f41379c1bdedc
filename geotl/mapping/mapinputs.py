"""A scene opened as a model wants it: in its bands, at the resolution of its training tiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from geotl.data.footprints import in_metres
from geotl.errors import DataError, needed_by_model
from geotl.imagery.resampling import resampled
from geotl.imagery.scene import MaskChoice, Scene, open_scene
from geotl.imagery.sensors import Sensor
from geotl.imagery.windows import Imagery
from geotl.inference.onnx_model import Mapper
from geotl.io.raster import Grid
from geotl.mapping.interest import Interest, of_box, of_file
from geotl.mapping.task import MapOptions, window_grid

_SAME = 0.05  # of a pixel's side: resolutions that need no resampling


def open_for(
    model: Mapper, path: str | Path, *, sensor: Sensor | None = None, mask: MaskChoice = "auto"
) -> Scene:
    """A scene in a model's bands, brought to the resolution of its training tiles if known.

    Args:
        model: whose contract the scene is to meet.
        path: a file or folder, as `scenes.open_scene` takes it.
        sensor: the scene's, None for the model's.
        mask: as `scenes.open_scene` takes it.

    Raises:
        DataError: a scene that cannot be used.
        BandError: bands missing.
    """
    contract = model.contract
    file_bands = None if sensor else contract.file_bands
    own = sensor or contract.sensor
    with needed_by_model("a scene", own.name):
        scene = open_scene(path, own, contract.bands, file_bands=file_bands, mask=mask)
    return at_training_resolution(model, scene)


def at_training_resolution(model: Mapper, scene: Scene) -> Scene:
    """The scene itself, or resampled where its pixels on the ground are of another size."""
    wanted = model.resolution_m
    if wanted is None:
        return scene
    grid = scene.grid
    across, down = (
        1.0 if abs(wanted / side - 1) < _SAME else wanted / side for side in pixel_m(grid)
    )
    return scene if across == down == 1.0 else resampled(scene, coarser(grid, across, down))


def interest_in(
    scene: Imagery,
    px: int,
    options: MapOptions,
    *,
    aoi: str | Path | None = None,
    bbox: Sequence[float] | None = None,
    bbox_crs: str | None = None,
) -> Interest | None:
    """The part of a scene to map, None for all of it.

    Args:
        scene: the scene.
        px: side of the model's window.
        options: of the map, for its cells.
        aoi: a file of polygons in any reference system.
        bbox: left, bottom, right, top.
        bbox_crs: the box's reference system, None for the scene's.

    Raises:
        DataError: both are given, or one that cannot be used.
        OutsideError: one that does not meet the scene.
    """
    if aoi is None and bbox is None:
        return None
    if aoi is not None and bbox is not None:
        raise DataError("--aoi and --bbox: give one of them")
    grid = window_grid(scene, px, options)
    if aoi is not None:
        return of_file(Path(aoi), grid, grid.on(scene.grid))
    return of_box(bbox or (), bbox_crs, grid, grid.on(scene.grid))


def pixel_m(grid: Grid) -> tuple[float, float]:
    """Width and height in metres on the ground of the pixel in the middle of a grid.

    >>> grid = Grid("EPSG:4326", (0.001, 0.0, 14.95, 0.0, -0.001, 60.05), 100, 100)
    >>> [round(side, 1) for side in pixel_m(grid)]
    [55.8, 111.4]
    """
    row, col = grid.height // 2, grid.width // 2
    (left, top), (right, bottom) = grid.at(col, row), grid.at(col + 1, row + 1)
    box = (min(left, right), min(top, bottom), max(left, right), max(top, bottom))
    found = in_metres([box], [grid.crs])[0]
    return round(float(found[2] - found[0]), 6), round(float(found[3] - found[1]), 6)


def coarser(grid: Grid, across: float, down: float) -> Grid:
    """A grid over the same ground from the same corner, its pixels so many times as large.

    >>> fine = Grid("EPSG:32633", (10.0, 0.0, 500000.0, 0.0, -10.0, 4600000.0), 517, 391)
    >>> found = coarser(fine, 2, 2)
    >>> found.transform, found.height, found.width
    ((20.0, 0.0, 500000.0, 0.0, -20.0, 4600000.0), 259, 196)
    """
    a, b, c, d, e, f = grid.transform
    place = (a * across, b * down, c, d * across, e * down, f)
    height, width = (
        math.ceil(round(count / times, 6))
        for count, times in ((grid.height, down), (grid.width, across))
    )
    return Grid(grid.crs, place, height, width)
