"""A model's probabilities smoothed over the image, tile by tile, as `geotl map --smooth-px` does.

The filter needs the surroundings of a tile, which its neighbours of the same level have. At a
level of every second, fourth or eighth pixel its windows are as wide on the ground as at the
finest one, as far as an odd number of positions can be: there the map is a preview of what
`geotl map` makes of all pixels.
"""

from __future__ import annotations

import itertools

import numpy as np

from geotl.arrays import Float32s, Float64s
from geotl.imagery.windows import Window
from geotl.inference.smoothing import guided
from geotl.io.raster import Grid
from geotl.labelling.feature_store import FeatureStore
from geotl.labelling.feature_tiles import FeatureTile, TilePlace, positions
from geotl.labelling.tiles import SIDE
from geotl.models.deep_features import DEEP
from geotl.models.pixel_features import PixelFeatures
from geotl.models.pixel_model import PixelModel


def side_at(side_px: int, each: int) -> int:
    """Side of the filter's windows in positions of a level, an odd number; 1 smooths nothing.

    >>> [side_at(11, each) for each in (1, 2, 4, 8)]
    [11, 5, 3, 1]
    """
    return 2 * round((side_px / each - 1) / 2) + 1


def positions_in(place: TilePlace, grid: Grid) -> Window:
    """A tile as a window over all positions of its level.

    >>> grid = Grid(None, (1.0, 0.0, 0.0, 0.0, -1.0, 0.0), 700, 300)
    >>> positions_in(TilePlace(2, 0, 1), grid)
    Window(row=256, col=0, height=94, width=150)
    """
    height, width = (len(positions(part)) for part in place.within(grid))
    return Window(place.y * SIDE, place.x * SIDE, height, width)


def smoothed(
    model: PixelModel, store: FeatureStore, each: int, part: Window, side_px: int
) -> Float32s:
    """Smoothed probabilities [K,h*w] of some positions of a level.

    Args:
        model: that predicts them.
        store: of the scene's features.
        each: pixels of the scene to a position of the level.
        part: window over the level's positions, inside the scene.
        side_px: side of the filter's windows in pixels of the scene, odd.

    Raises:
        DataError: a file of the scene is damaged or gone.
    """
    side = side_at(side_px, each)
    wide = _widened(part, side // 2 * 2, store.scene.grid, each)
    tile = features_of(store, each, wide)
    plain = _predicted(model, store, each, wide, tile)
    cube = np.moveaxis(plain.reshape(len(plain), *tile.shape), 0, -1)
    rows, cols = Window(part.row - wide.row, part.col - wide.col, part.height, part.width).slices
    smooth = guided(cube, brightness_of(tile, model.features), side)[rows, cols]
    return np.moveaxis(smooth, -1, 0).reshape(len(plain), -1)


def features_of(store: FeatureStore, each: int, window: Window) -> FeatureTile:
    """The features of a window over the positions of a level, from the tiles that it meets.

    Raises:
        DataError: a file of the scene is damaged or gone.
    """
    depth = sum(store.widths.values()) + 1
    planes = np.zeros((depth, window.height, window.width), np.float16)
    for y, x in itertools.product(
        _tiles(window.row, window.height), _tiles(window.col, window.width)
    ):
        tile = store.tile(TilePlace(each, x, y))
        (to_rows, of_rows), (to_cols, of_cols) = (
            _shared(window.row, window.height, y),
            _shared(window.col, window.width, x),
        )
        planes[:, to_rows, to_cols] = tile.planes[:, of_rows, of_cols]
    return FeatureTile(planes, store.widths)


def brightness_of(tile: FeatureTile, of: PixelFeatures) -> Float64s:
    """Mean [h,w] of the standardised bands of the scene, NaN where a pixel is not usable.

    A band that a pixel lacks counts as the band's mean.
    """
    bands = tile.planes[: of.scene_band_count].astype(np.float64)
    return np.where(tile.usable, bands.mean(axis=0), np.nan)


def _predicted(
    model: PixelModel, store: FeatureStore, each: int, window: Window, tile: FeatureTile
) -> Float32s:
    """Probabilities [K,h*w] of the positions of a window, not yet smoothed."""
    weight, logits = model.linear.get(DEEP), None
    if store.deep is not None and weight is not None:
        rows, cols = (
            each // 2 + each * np.arange(start, start + count, dtype=np.int64)
            for start, count in ((window.row, window.height), (window.col, window.width))
        )
        logits = store.deep.logits_at(rows, cols, weight)
    parts = [
        model.probabilities(tile.blocks(some), None if logits is None else logits[:, some])
        for some in tile.parts
    ]
    return np.concatenate(parts, axis=1)


def _widened(part: Window, reach: int, grid: Grid, each: int) -> Window:
    """A window with what the filter uses around it, inside the scene."""
    spans = []
    for start, length, pixels in (
        (part.row, part.height, grid.height),
        (part.col, part.width, grid.width),
    ):
        first = max(0, start - reach)
        spans.append((first, min(start + length + reach, _count(pixels, each)) - first))
    (row, height), (col, width) = spans
    return Window(row, col, height, width)


def _count(pixels: int, each: int) -> int:
    """Positions of a level along so many pixels.

    >>> _count(700, 4), _count(2, 4)
    (175, 0)
    """
    return len(range(each // 2, pixels, each))


def _tiles(start: int, length: int) -> range:
    """Numbers of the tiles that a span of positions meets.

    >>> _tiles(250, 10)
    range(0, 2)
    """
    return range(start // SIDE, -(-(start + length) // SIDE))


def _shared(start: int, length: int, tile: int) -> tuple[slice, slice]:
    """What a span of positions and a tile share: in the span, and in the tile.

    >>> _shared(250, 10, 1)
    (slice(6, 10, None), slice(0, 4, None))
    """
    first, last = max(start, tile * SIDE), min(start + length, (tile + 1) * SIDE)
    return slice(first - start, last - start), slice(first - tile * SIDE, last - tile * SIDE)
