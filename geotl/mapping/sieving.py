"""A minimum mapping unit: small patches of a class map take the class of a neighbour.

GDAL's sieve filter goes through the class map row by row. What is kept in memory are two bytes for
each cell of the map (its class after the filter, and whether it has one) and GDAL's list of
patches; no other layer is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from rasterio import features
from rasterio.errors import RasterioError

from geotl.arrays import UInt8s
from geotl.errors import OutputError
from geotl.io.raster import opened
from geotl.mapping.layers import Areas, Drawing, Ledger, ValueSum, map_writer
from geotl.mapping.options import CLASSES, NODATA
from geotl.mapping.outputs import smallest_px
from geotl.mapping.task import Task

CONNECTED = 8  # neighbours of a cell: a river one cell wide that runs askew is one patch


@dataclass(frozen=True)
class Sieved:
    """A class map after the filter.

    Attributes:
        areas: of its classes.
        tally: of what was written.
        changed: cells that have another class than before.
    """

    areas: Areas
    tally: ValueSum
    changed: int


def mmu_cells(task: Task) -> int:
    """Cells of the smallest patch that stays in a map: those of `MapOptions.mmu_ha`, or 1.

    Raises:
        DataError: a scene without a reference system, where areas are unknown.
    """
    if not task.options.mmu_ha:
        return 1
    grid = task.interest.cells.on(task.grid.on(task.scene.grid))
    return smallest_px(grid, 1e4 * task.options.mmu_ha)


def sieve_classes(drawing: Drawing, path: Path, smallest: int) -> Sieved:
    """Merge patches of a class map that are too small into their largest neighbours.

    Patches are connected over edges and corners. A cell without a class gets none and belongs to
    no patch; a small patch that has only such cells around it stays.

    Args:
        drawing: what the map was drawn from.
        path: the class map, which is replaced when the new one is complete.
        smallest: cells of the smallest patch that stays.

    Raises:
        OutputError: the disk is full.
    """
    plane, changed = _sieved(path, smallest)
    ledger, part = Ledger(drawing), path.with_name("sieved.tif")
    with map_writer(part, drawing.own, CLASSES.dtype, 1, CLASSES.nodata) as file:
        for block, place in drawing.blocks:
            rows = slice(place.row, place.row + place.height)
            values = plane[rows, place.col : place.col + place.width]
            file.put(values[None], place)
            ledger.enter(block, values.astype(np.int64), values != NODATA)
    part.replace(path)
    return Sieved(ledger.areas(), file.tally, changed)


def _sieved(path: Path, smallest: int) -> tuple[UInt8s, int]:
    """The classes [H,W] of a map after GDAL's filter, and how many cells it changed."""
    try:
        with opened(path) as stream:
            mask = stream.read_masks(1)
            band = rasterio.band(stream, 1)
            plane: UInt8s = features.sieve(band, smallest, mask=mask, connectivity=CONNECTED)
            changed = sum(
                int((stream.read(1, window=part) != plane[part.toslices()]).sum())
                for _, part in stream.block_windows(1)
            )
    except RasterioError as error:
        raise OutputError(f"{path}: small patches could not be merged ({error})") from error
    return plane, changed
