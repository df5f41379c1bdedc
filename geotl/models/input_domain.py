"""Whether imagery's values are such as a model has seen: radiometry and resolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from geotl.arrays import Bools, Float64s
from geotl.data.footprints import in_metres
from geotl.errors import DataError
from geotl.imagery.sensors import Sensor, rescaled
from geotl.imagery.windows import Imagery, Window

FARTHEST_SD, LARGEST_RATIO = 5.0, 20.0
_SIDE_PX, _PLACES = 64, 49
_FEWEST_PIXELS = 200


@dataclass(frozen=True)
class Range:
    """Mean and standard deviation [C] of a model's example tiles, in its digital numbers."""

    mean: Float64s
    sd: Float64s


class Strange(NamedTuple):
    """A band whose median and spread differ from the mean and sd of the training's."""

    name: str
    middle: float
    spread: float
    mean: float
    sd: float


def range_of(examples: NDArray[np.generic], valid: Bools) -> Range:
    """Mean and sd of each band over the valid pixels of example tiles [n,C,S,S].

    >>> tiles = np.array([[[[1, 3], [0, 0]]]])
    >>> found = range_of(tiles, tiles > 0)
    >>> found.mean.tolist(), found.sd.tolist()
    ([2.0], [1.0])
    """
    value = np.moveaxis(examples.astype(np.float64), 1, 0).reshape(examples.shape[1], -1)
    seen = np.moveaxis(valid, 1, 0).reshape(examples.shape[1], -1)
    count = np.maximum(seen.sum(axis=1), 1)
    mean = np.where(seen, value, 0).sum(axis=1) / count
    about = np.where(seen, value - mean[:, None], 0)
    return Range(mean, np.sqrt((about**2).sum(axis=1) / count))


def check_radiometry(scene: Imagery, known: Range, sensor: Sensor, bands: Sequence[str]) -> None:
    """Refuse values that a model never saw, such as reflectance where it knows digital numbers.

    Looked at are 7 x 7 places spread over the scene. A band is strange whose median lies more than
    five of the examples' standard deviations from their mean, or whose spread is twenty times
    larger or smaller; a scene is, where most of its bands are. Bands of extra rasters, which come
    behind its own, are not looked at: ground of another height is no fault.

    Raises:
        DataError: most bands are strange.
    """
    own = _sampled(scene)[: len(bands)]
    values = [rescaled(found, scene.sensor, sensor) for found in own]
    strange = strange_bands(values, known, bands)
    if strange:
        raise DataError(unlike(str(scene.path), strange, len(bands), scene.sensor.name, "map"))


def strange_bands(
    values: Sequence[NDArray[np.generic]], known: Range, bands: Sequence[str], *, few: bool = False
) -> list[Strange]:
    """The bands whose values a model never saw; none unless they are most of them.

    Args:
        values: of each band, valid ones, in the model's digital numbers.
        known: of the model's example tiles.
        bands: their names.
        few: a few tiles, which may all be of one cover: they may well vary less than training
            tiles did, unless they are much smaller too, as reflectance is beside digital numbers.
    """
    found = []
    for name, made, mean, sd in zip(bands, values, known.mean, known.sd, strict=True):
        if len(made) < _FEWEST_PIXELS:
            continue
        exact = made.astype(np.float64)
        middle, spread = float(np.median(exact)), float(exact.std())
        ratio = spread / max(sd, 1e-9)
        narrow = ratio <= 1 / LARGEST_RATIO and not (
            few and abs(middle) * LARGEST_RATIO > abs(mean)
        )
        if abs(middle - mean) > FARTHEST_SD * sd or narrow or ratio >= LARGEST_RATIO:
            found.append(Strange(name, middle, spread, float(mean), float(sd)))
    return found if 2 * len(found) > len(bands) else []


def unlike(what: str, strange: Sequence[Strange], bands: int, sensor: str, verb: str) -> str:
    """The words that refuse imagery of which most bands are strange.

    Args:
        what: the imagery.
        strange: bands, from `strange_bands`.
        bands: how many there are.
        sensor: name of the one that the imagery was taken to be of.
        verb: what --skip-value-check does all the same.
    """
    one = strange[0]
    return (
        f"{what}: values unlike any that the model has seen in {len(strange)} of {bands} bands "
        f"(such as {one.name}: {one.middle:.4g} ± {one.spread:.2g} here, {one.mean:.4g} ± "
        f"{one.sd:.2g} in training); name the sensor and processing with --sensor (now {sensor}), "
        f"or --skip-value-check to {verb} all the same"
    )


def _sampled(scene: Imagery) -> list[NDArray[np.generic]]:
    """Valid values of each band at places spread over the scene, one row of places at a time."""
    grid, each = scene.grid, round(_PLACES**0.5)
    side = min(_SIDE_PX, grid.height, grid.width)
    found: list[list[NDArray[np.generic]]] = [[] for _ in scene.bands]
    for row in np.linspace(0, grid.height - side, each).astype(int):
        for col in np.linspace(0, grid.width - side, each).astype(int):
            data, valid = scene.read(Window(int(row), int(col), side, side))
            for band, (plane, seen) in enumerate(zip(data, valid, strict=True)):
                found[band].append(plane[seen])
    return [np.concatenate(parts) for parts in found]


def training_resolution_m(
    footprints: Float64s, crs: Sequence[str | None], tile_px: int
) -> float | None:
    """Size in metres of a training pixel, from the tiles' footprints; None where unknown.

    >>> box = np.array([[500000.0, 4599360.0, 500640.0, 4600000.0]])
    >>> training_resolution_m(box, ["EPSG:32633"], 64)
    10.0
    """
    known = [
        (tuple(box), name)
        for box, name in zip(footprints.tolist(), crs, strict=False)
        if name and np.isfinite(box).all() and box[2] > box[0]
    ]
    if not known:
        return None
    boxes = in_metres([box for box, _ in known], [name for _, name in known])
    return round(float(np.median(boxes[:, 2] - boxes[:, 0])) / tile_px, 3)
