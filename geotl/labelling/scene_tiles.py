"""The scene as the page shows it: tiles of three bands, and what the page must know of it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from geotl.arrays import Float64s, UInt8s
from geotl.errors import DataError
from geotl.imagery.scene import Scene
from geotl.imagery.stacked import own_bands
from geotl.io.geodesy import ground_of
from geotl.labelling.scene_views import QUANTILES, SceneViews
from geotl.labelling.tiles import EMPTY, SIDE, RecentValues, png_of

_ROOM = 48 << 20  # bytes of finished tiles kept: about 300
_MAX_EACH = 1 << 20
_MAX_CUT = 49.0  # percent at either end
_REGIONS = {  # nm: from, to, and the middle that is nearest to what eyes or habit want
    "red": (620.0, 690.0, 665.0),
    "green": (520.0, 600.0, 560.0),
    "blue": (430.0, 515.0, 490.0),
    "nir": (760.0, 900.0, 835.0),
}
TRUE, FALSE = ("red", "green", "blue"), ("nir", "red", "green")


class SceneTiles:
    """A scene's tiles as PNG files; many threads may ask at once."""

    def __init__(self, scene: Scene) -> None:
        """Read nothing yet."""
        self._scene, self._views = scene, SceneViews(scene)
        self._tiles: RecentValues[bytes] = RecentValues(_ROOM, len)
        self._quantiles: dict[int, Float64s] = {}
        self._looking = threading.Lock()
        self._facts = _facts_of(scene)

    def facts(self) -> dict[str, Any]:
        """What the page must know of the scene, as plain values.

        name, width, height (pixels), pixel_m (side of a pixel in metres at the scene's middle),
        crs, geographic (whether it counts in degrees), transform (six numbers: x = a col + b row
        + c, y = d col + e row + f), bands (names), wavelengths (nm or None), acquired, true_colour
        and false_colour (positions of the bands for red, green and blue, or None where the sensor
        lacks one), and shown (those to begin with; always three).
        """
        return self._facts

    def tile(self, bands: Sequence[int], each: int, x: int, y: int, contrast: float = 2.0) -> bytes:
        """A tile as PNG, 256 x 256, transparent where a band has no data and beyond the scene.

        Args:
            bands: three positions, for red, green and blue; one for grey.
            each: scene pixels along the side of a pixel, a power of two.
            x: tile from the left; it begins at the column x * 256 * each.
            y: tile from the top.
            contrast: percent of the values that are darkest, and that are brightest.

        Raises:
            DataError: no such bands or decimation, or a file that is damaged or gone.
        """
        self._check(bands, each)
        side, grid = SIDE * each, self._scene.grid
        if not (0 <= x * side < grid.width and 0 <= y * side < grid.height):
            return EMPTY
        cut = float(np.clip(contrast, 0.0, _MAX_CUT)) if np.isfinite(contrast) else 2.0
        key = (tuple(bands), each, x, y, cut)
        return self._tiles.get(key, lambda: self._encoded(tuple(bands), each, (x, y), cut))

    def _check(self, bands: Sequence[int], each: int) -> None:
        count = len(self._scene.bands)
        if len(bands) not in (1, 3) or not all(0 <= band < count for band in bands):
            raise DataError(
                f"bands {'-'.join(map(str, bands))}: not a picture of the scene; give three "
                f"positions from 0 to {count - 1}, such as 0-0-0"
            )
        if not 0 < each <= _MAX_EACH or each & (each - 1):
            raise DataError(f"decimation {each}: give a power of two from 1 to {_MAX_EACH}")

    def _encoded(
        self, bands: tuple[int, ...], each: int, tile: tuple[int, int], cut: float
    ) -> bytes:
        order = sorted({*bands})  # a band shown twice is read once
        data, valid = self._views.read(order, each, *tile)
        limits = self._limits(order, cut)
        data = np.where(valid, data, data.dtype.type(0))
        rgba = np.zeros((SIDE, SIDE, 4), np.uint8)
        for channel, band in enumerate(bands if len(bands) == 3 else bands * 3):
            place = order.index(band)
            rgba[..., channel] = stretched(data[place], *limits[place])
        rgba[..., 3] = np.where(valid.all(axis=0), 255, 0)
        rgba[~valid.all(axis=0)] = 0
        return png_of(rgba)

    def _limits(self, bands: Sequence[int], cut: float) -> list[tuple[float, float]]:
        """Values shown as black and as white; computed at the first request of a band."""
        with self._looking:
            new = [band for band in bands if band not in self._quantiles]
            if new:
                self._quantiles |= dict(zip(new, self._views.quantiles(new), strict=True))
        at = cut / 100 * (QUANTILES - 1), (1 - cut / 100) * (QUANTILES - 1)
        of = np.arange(QUANTILES)
        low, high = (np.array([np.interp(a, of, self._quantiles[b]) for b in bands]) for a in at)
        return list(zip(low.tolist(), high.tolist(), strict=True))


def _facts_of(scene: Scene) -> dict[str, Any]:
    grid = scene.grid
    known, ground = own_bands(scene), ground_of(grid)
    wavelengths = [
        scene.sensor.wavelengths([band])[0] if band in known else None for band in scene.bands
    ]
    true, false = (_positions(scene.bands, wavelengths, three) for three in (TRUE, FALSE))
    return {
        "name": scene.name,
        "width": grid.width,
        "height": grid.height,
        "pixel_m": None if ground is None else ground.across_m,
        "crs": grid.crs,
        "geographic": ground is not None and ground.changes,
        "transform": [float(value) for value in grid.transform],
        "bands": list(scene.bands),
        "wavelengths": wavelengths,
        "acquired": scene.acquired,
        "true_colour": true,
        "false_colour": false,
        "shown": true or false or _any_three(len(scene.bands)),
    }


def stretched(values: np.ndarray, low: float, high: float) -> UInt8s:
    """Values [h,w] as brightness: 0 up to `low`, 255 from `high` on; 128 without contrast.

    >>> stretched(np.array([[0, 50, 99]]), 0.0, 100.0).tolist()
    [[0, 128, 252]]
    """
    if not high > low:
        return np.full(values.shape, 128, np.uint8)
    share = (values.astype(np.float32) - np.float32(low)) / np.float32(high - low)
    return np.asarray(np.rint(np.clip(share, 0, 1) * 255).astype(np.uint8))


def _positions(
    names: Sequence[str], wavelengths: Sequence[float | None], three: Sequence[str]
) -> list[int] | None:
    """Positions of three regions of the spectrum, by name or wavelength; None without one."""
    places = [_position(names, wavelengths, region) for region in three]
    return [p for p in places if p is not None] if None not in places else None


def _position(names: Sequence[str], wavelengths: Sequence[float | None], region: str) -> int | None:
    lower = [name.casefold() for name in names]
    if region in lower:
        return lower.index(region)
    low, high, middle = _REGIONS[region]
    near = [(abs(w - middle), i) for i, w in enumerate(wavelengths) if w and low <= w <= high]
    return min(near)[1] if near else None


def _any_three(count: int) -> list[int]:
    """Bands to begin with where no wavelength says which: two as a radar's, one as grey.

    >>> _any_three(1), _any_three(2), _any_three(5)
    ([0, 0, 0], [0, 1, 0], [0, 1, 2])
    """
    return [0, 1, 2] if count > 2 else [0, count - 1, 0]
