"""What is mapped: a model, a scene, the area of interest; and where its files go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from geotl.arrays import Bools
from geotl.errors import DataError, OutsideError
from geotl.imagery.scene import MaskChoice
from geotl.imagery.sensors import Sensor, get_sensor
from geotl.imagery.windows import Imagery, Window
from geotl.inference.mapper import Mapper
from geotl.inference.onnx_model import ServedModel, check_precision
from geotl.inference.onnx_pixels import ServedPixelModel
from geotl.inference.window_grid import WindowGrid
from geotl.io.raster import Grid
from geotl.io.vector import read_features, transformed
from geotl.mapping.options import MapLayer, MapOptions, layers
from geotl.models.model_file import ModelFile
from geotl.models.pixel_file import PixelModelFile, member_file

AREAS, POLYGONS, SHEET, PAGE = "areas", "polygons", "sheet", "page"


@dataclass(frozen=True)
class Reading:
    """How a scene is read, and which part of it is mapped.

    Attributes:
        sensor: the scene's, or the name of a known one; None for the model's.
        mask: of clouds, as `scene.open_scene` takes it.
        aoi: file of polygons in any reference system: the part to map.
        bbox: left, bottom, right, top of the part to map.
        bbox_crs: the box's reference system, None for each scene's own.
        extra: rasters with the further bands that a model of pixels needs.
    """

    sensor: Sensor | str | None = None
    mask: MaskChoice = "auto"
    aoi: str | Path | None = None
    bbox: Sequence[float] | None = None
    bbox_crs: str | None = None
    extra: Sequence[str | Path] = ()

    def sensor_or(self, default: Sensor) -> Sensor:
        """The scene's sensor, or a default where the user names none.

        Raises:
            DataError: no sensor of this name is known.
        """
        if not self.sensor:
            return default
        return get_sensor(self.sensor) if isinstance(self.sensor, str) else self.sensor


IN_FLOAT32 = (
    "{}: --precision bfloat16 does not go with a model of pixels without a network, or exported, "
    "which computes in float32; leave it out"
)
WHOLE = "give the model.safetensors that it was exported from"
NO_FEATURES = (
    "{}: --applicability compares features, which an exported file does not have; leave it out, "
    f"or {WHOLE}"
)
AS_IT_IS = Reading()


@dataclass(frozen=True)
class Interest:
    """Cells to be drawn: a window of them, and which of these lie in the area.

    Attributes:
        cells: rows and columns of cells.
        grid: of all cells.
        area: in the grid's system; None for every cell.
        description: for keys and tags.
    """

    cells: Window
    grid: Grid | None
    area: shapely.Geometry | None
    description: str

    def shown(self, window: Window) -> Bools:
        """Which cells [h,w] of a window have their middle in the area."""
        if self.area is None or self.grid is None:
            return np.ones((window.height, window.width), dtype=bool)
        rows = window.row + np.arange(window.height)[:, None] + 0.5
        cols = window.col + np.arange(window.width)[None] + 0.5
        a, b, c, d, e, f = self.grid.transform
        x, y = a * cols + b * rows + c, d * cols + e * rows + f
        return np.asarray(shapely.contains_xy(self.area, x, y), dtype=bool)

    def windows(self, grid: WindowGrid) -> Bools:
        """Which windows [R,Q] have weight in some cell of interest."""
        p, cells = grid.posting, self.cells
        rows, cols = (
            (firsts < (start + count) * p) & (firsts + grid.px > start * p)
            for firsts, start, count in (
                (grid.rows, cells.row, cells.height),
                (grid.cols, cells.col, cells.width),
            )
        )
        return np.asarray(rows[:, None] & cols[None])


def whole(grid: WindowGrid) -> Interest:
    """All of a scene."""
    return Interest(Window(0, 0, *grid.cells), None, None, "all")


def of_file(path: Path, grid: WindowGrid, cells: Grid) -> Interest:
    """The polygons of a vector file in any reference system.

    Raises:
        DataError: no polygons.
        OutsideError: none that meets the scene.
    """
    features = read_features(path, layer=None, fields=[], crs=None)
    kinds = ["" if s is None else s.geom_type for s in features.geometries]
    areas = features.geometries[np.isin(kinds, ["Polygon", "MultiPolygon"])]
    if not len(areas):
        raise DataError(f"{path}: holds no polygon; an area of interest is one or more polygons")
    there = [s for s in transformed(areas, features.crs, str(cells.crs)) if s is not None]
    area = shapely.union_all([shapely.make_valid(s) for s in there]) if there else None
    return _of_area(area, path, grid, cells)


def of_box(bounds: Sequence[float], crs: str | None, grid: WindowGrid, cells: Grid) -> Interest:
    """A box: left, bottom, right, top in the scene's reference system, or in another.

    Raises:
        DataError: an empty box.
        OutsideError: one that does not meet the scene.
    """
    left, bottom, right, top = bounds
    if not (left < right and bottom < top):
        raise DataError(f"--bbox: given {list(bounds)}; allowed: left bottom right top, ascending")
    shape: Any = shapely.box(left, bottom, right, top)
    if crs is not None:
        shapes = np.empty(1, dtype=object)
        shapes[0] = shape
        shape = transformed(shapes, crs, str(cells.crs))[0]
    return _of_area(shape, Path("--bbox"), grid, cells)


def _of_area(area: shapely.Geometry | None, path: Path, grid: WindowGrid, cells: Grid) -> Interest:
    box = shapely.box(*cells.bounds)
    met = None if area is None else shapely.intersection(area, box)
    if met is None or shapely.area(met) == 0:
        raise OutsideError(f"{path}: does not meet the scene, which covers {cells.bounds}")
    a, b, c, d, e, f = cells.transform
    turn = np.linalg.inv(np.array([[a, b, c], [d, e, f], [0, 0, 1]]))
    left, bottom, right, top = shapely.bounds(met)
    corners = turn @ np.array([[left, right, left, right], [bottom, bottom, top, top], [1] * 4])
    first_col, first_row = np.floor(corners[:2].min(axis=1) + 1e-9).astype(int)
    last_col, last_row = np.ceil(corners[:2].max(axis=1) - 1e-9).astype(int)
    first_row, first_col = max(0, first_row), max(0, first_col)
    last_row, last_col = min(cells.height, last_row), min(cells.width, last_col)
    window = Window(
        int(first_row), int(first_col), int(last_row - first_row), int(last_col - first_col)
    )
    shapely.prepare(area)
    return Interest(window, cells, area, shapely.to_wkt(area, rounding_precision=6))


@dataclass(frozen=True)
class Task:
    """A model, a scene, and the part of interest that is predicted window by window."""

    model: Mapper
    scene: Imagery
    grid: WindowGrid
    options: MapOptions
    interest: Interest

    @property
    def views(self) -> int:
        """Flips and quarter turns averaged."""
        if self.options.views or not isinstance(self.model, ModelFile):
            return self.options.views or 1
        return self.model.contract.spec.views if self.options.applicability else 1

    @property
    def layers(self) -> dict[str, MapLayer]:
        """The rasters wanted, by name."""
        return layers(self.model.contract.classes, self.options)


def check_served(model: ServedModel | ServedPixelModel, options: MapOptions) -> None:
    """Check that an exported file supports all options of a map.

    Raises:
        DataError: as `check_options`; of a pixel model as `check_pixel_options`, a member, or
            applicability.
    """
    if isinstance(model, ServedModel):
        check_options(model, options)
        return
    check_pixel_options(model.path, options)
    if options.member is not None:
        raise DataError(
            f"{model.path}: --member: an exported file does not take its members apart; export "
            f"{options.member} alone with geotl export --member, or leave it out"
        )
    if options.applicability:
        raise DataError(NO_FEATURES.format(model.path))
    if options.precision == "bfloat16":
        raise DataError(IN_FLOAT32.format(model.path))


def check_network(model: PixelModelFile) -> None:
    """Make sure that a pixel model has a network, which alone may compute in bfloat16.

    Raises:
        DataError: it has none.
    """
    if model.model.deep is None:
        raise DataError(IN_FLOAT32.format(model.path))


def check_options(model: ServedModel, options: MapOptions) -> None:
    """Check that an exported model of tiles supports all options of a map.

    Raises:
        DataError: dense mode, applicability, smoothing, or other views or numbers than were
            exported.
    """
    check_tile_options(model.path, options)
    sweep = model.sweep
    if options.mode == "dense":
        raise DataError(
            f"{model.path}: --mode dense needs the inside of the network, which an exported file "
            f"does not have; leave it out, or {WHOLE}"
        )
    if options.applicability:
        raise DataError(NO_FEATURES.format(model.path))
    if options.views not in (None, sweep.views):
        raise DataError(
            f"{model.path}: exported with {sweep.views} views, not {options.views}; leave --views "
            f"out, or export it again with --views {options.views}"
        )
    check_precision(model, options.precision)


def check_tile_options(path: Path | None, options: MapOptions) -> None:
    """Check that a model of tiles supports all options of a map.

    Raises:
        DataError: smoothing, or a member.
    """
    if options.smooth_px is not None:
        raise DataError(
            f"{path}: --smooth-px goes with a model of pixels alone; a model of tiles averages "
            "windows that overlap (--stride-px); leave it out"
        )
    if options.member is not None:
        raise DataError(
            f"{path}: --member goes with a model of pixels alone, which consists of members; "
            "leave it out"
        )


def of_member(model: Mapper, name: str | None) -> Mapper:
    """The model, or (with a name) one member of it.

    Raises:
        ModelError: a pixel model without such a member.
    """
    if not isinstance(model, PixelModelFile):
        return model
    return member_file(model, name)


def check_pixel_options(path: Path | None, options: MapOptions) -> None:
    """Check that a model of pixels supports all options of a map.

    Raises:
        DataError: dense mode, views, or a step or posting beyond a pixel.
    """
    faults = {
        "--mode dense": (options.mode == "dense", "which has no network"),
        "--views": (options.views not in (None, 1), "which turns no windows"),
        "--stride-px": (options.step_px not in (None, 1), "which gives every pixel a class"),
        "--resolution-px": (options.posting_px not in (None, 1), "which gives every pixel a class"),
    }
    for name, (asked, reason) in faults.items():
        if asked:
            raise DataError(
                f"{path}: {name} does not go with a model of pixels, {reason}; leave it out"
            )


def window_grid(scene: Imagery, px: int, options: MapOptions) -> WindowGrid:
    """Windows and cells over a scene; the posting must divide the step.

    Raises:
        DataError: a scene too small, or a step or posting that does not go.
    """
    step = max(1, px // 2) if options.step_px is None else options.step_px
    posting = step if options.posting_px is None else options.posting_px
    try:
        if posting > 0 and step % posting:
            raise DataError(f"posting {posting}: allowed is what divides the step, {step} px")
        return WindowGrid(scene.grid.height, scene.grid.width, px, step, posting)
    except DataError as error:
        raise DataError(f"{scene.path}: {error}") from error


def outputs(out: Path, options: MapOptions) -> dict[str, Path]:
    """Where each file of a map goes, the class map last.

    >>> [path.name for path in outputs(Path("a/map.tif"), MapOptions()).values()]
    ['map_confidence.tif', 'map_areas.csv', 'map.png', 'map.html', 'map.tif']
    """
    by_name = layers((), options)
    rasters = {n: out.with_name(f"{out.stem}{w.suffix}{out.suffix}") for n, w in by_name.items()}
    classes = rasters.pop("classes")
    tables = {AREAS: out.with_name(f"{out.stem}_areas.csv")}
    if options.polygons:
        tables[POLYGONS] = out.with_name(f"{out.stem}_polygons.gpkg")
    if options.page:
        tables |= {SHEET: out.with_suffix(".png"), PAGE: out.with_suffix(".html")}
    return {**rasters, **tables, "classes": classes}
