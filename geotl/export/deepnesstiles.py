"""How QGIS's Deepness plugin cuts a raster into tiles, and what it reads of a model in its file.

Written after the plugin's source (PUTvision/qgis-plugin-deepness: tile_params.py, extent_utils.py,
processing_overlap.py, model_base.py), in which the overlap of tiles is a whole number of percent
and each tile keeps all but half of it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from geotl.errors import DataError

TILE_PX, WINDOWS = 512, 4  # a tile is so large unless told otherwise, or so many windows
NO_DATA = "no data"
MOST_CLASSES = 254  # beside "no data"; the plugin's image of classes is uint8


@dataclass(frozen=True)
class TileLayout:
    """Tiles of `tile_px` pixels, which the plugin lays `stride_px` apart.

    Attributes:
        tile_px: side of a tile; its windows begin and end with it.
        window_px: side of a window, the model's tile.
        step_px: pixels between windows.
        overlap_percent: of neighbouring tiles.
    """

    tile_px: int
    window_px: int
    step_px: int
    overlap_percent: int

    @property
    def stride_px(self) -> int:
        """Pixels between tiles."""
        return self.tile_px - overlap_px(self.tile_px, self.overlap_percent)

    @property
    def aligned(self) -> bool:
        """Whether the windows of all tiles lie on one grid, so that no tile's edge can show."""
        return self.stride_px % self.step_px == 0


def overlap_px(tile_px: int, percent: int) -> int:
    """The overlap of two tiles in pixels, computed as the plugin does.

    >>> overlap_px(512, 25), overlap_px(512, 22)
    (128, 112)
    """
    return int(tile_px * percent / 100 * 2) // 2


def tile_layout(
    window_px: int, step_px: int | None = None, tile_px: int | None = None
) -> TileLayout:
    """Tiles for windows of a model, with the least overlap that hides the tiles' edges.

    The part kept of a tile must see every window that it sees in a whole scene, which takes a
    window less a step on each side, and windows of neighbouring tiles should lie on one grid.

    Args:
        window_px: side of a window.
        step_px: pixels between windows, None for half a window.
        tile_px: side of a tile, None for the largest up to 512 px or four windows that goes with
            one grid of windows.

    Raises:
        DataError: a step beyond 1 to the window, or a tile that windows do not fill or whose
            edges no overlap can hide.

    >>> tile_layout(64)
    TileLayout(tile_px=512, window_px=64, step_px=32, overlap_percent=25)
    >>> tile_layout(40), tile_layout(40).stride_px
    (TileLayout(tile_px=500, window_px=40, step_px=20, overlap_percent=8), 460)
    """
    step = max(1, window_px // 2) if step_px is None else step_px
    if not 1 <= step <= window_px:
        raise DataError(f"step {step}: allowed is 1 to the model's window, {window_px} px")
    if tile_px is not None:
        return _of_size(tile_px, window_px, step)
    wanted = max(TILE_PX, WINDOWS * window_px)
    fits = window_px + (wanted - window_px) // step * step
    found = [_of_size(tile, window_px, step) for tile in range(fits, fits // 2, -step)]
    return next((layout for layout in found if layout.aligned), found[0])


def _of_size(tile: int, window: int, step: int) -> TileLayout:
    if tile < window or (tile - window) % step:
        below = window + max(0, tile - window) // step * step
        raise DataError(
            f"tile size {tile}: windows of {window} px, {step} px apart, do not fill it; "
            f"{below} and {below + step} px would do"
        )
    tiles = [TileLayout(tile, window, step, percent) for percent in range(100)]
    hiding = [found for found in tiles if (tile - found.stride_px) // 2 >= window - step]
    if not hiding:
        raise DataError(
            f"tile size {tile}: too small to hide tiles' edges with windows of {window} px, {step} "
            f"px apart; take {2 * window} px or more, or a larger step"
        )
    return next((found for found in hiding if found.aligned), hiding[0])


def metadata(
    layout: TileLayout, classes: Sequence[str], channels: int, resolution_m: float | None
) -> dict[str, str]:
    """What the plugin reads of a model, by key, each value as JSON.

    Class 0 is "no data": the plugin gives it every pixel whose probabilities are all below the
    threshold, and the newer ones every pixel outside the polygons processed. The plugin's own
    standardisation is left without effect, the removal of small segments and the threshold off.

    Args:
        layout: of its tiles.
        classes: the model's, without "no data".
        channels: bands of its input.
        resolution_m: size of its pixels, None where unknown; the key is then left out.

    >>> told = metadata(tile_layout(64), ["bog", "fen"], 1, 10.0)
    >>> told["class_names"], told["resolution"], told["standardization_std"]
    ('{"0": "no data", "1": "bog", "2": "fen"}', '1000.0', '[1.0]')

    Raises:
        DataError: more classes than the plugin has values for.
    """
    if len(classes) > MOST_CLASSES:
        raise DataError(f"{len(classes)} classes: the plugin has room for {MOST_CLASSES}")
    names = {str(number): name for number, name in enumerate([NO_DATA, *classes])}
    told: dict[str, object] = {
        "model_type": "Segmentor",
        "class_names": names,
        "tile_size": layout.tile_px,
        "tiles_overlap": layout.overlap_percent,
        "standardization_mean": [0.0] * channels,
        "standardization_std": [1.0] * channels,
        "seg_thresh": 0.0,
        "seg_small_segment": 0,
    }
    if resolution_m is not None:
        told["resolution"] = round(100 * resolution_m, 6)  # cm a pixel
    return {key: json.dumps(value) for key, value in told.items()}
