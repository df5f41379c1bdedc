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
_MIN_PIXELS = 200


@dataclass(frozen=True)
class Range:
    """Mean and standard deviation [C] of a model's example tiles, in its digital numbers."""

    mean: Float64s
    sd: Float64s


class OutOfRange(NamedTuple):
    """A band whose median and spread differ from the mean and sd of the training's."""

    name: str
    middle: float
    spread: float
    mean: float
    sd: float


def range_of(examples: NDArray[np.generic], valid: Bools) -> Range:
    """Mean and sd of each band over the valid pixels of example tiles [n,C,S,S].

    >>> tiles = np.array([[[[1, 3], [0, 0]]]])
    >>> result = range_of(tiles, tiles > 0)
    >>> result.mean.tolist(), result.sd.tolist()
    ([2.0], [1.0])
    """
    value = np.moveaxis(examples.astype(np.float64), 1, 0).reshape(examples.shape[1], -1)
    seen = np.moveaxis(valid, 1, 0).reshape(examples.shape[1], -1)
    count = np.maximum(seen.sum(axis=1), 1)
    mean = np.where(seen, value, 0).sum(axis=1) / count
    about = np.where(seen, value - mean[:, None], 0)
    return Range(mean, np.sqrt((about**2).sum(axis=1) / count))


def check_radiometry(
    scene: Imagery, training_range: Range, sensor: Sensor, bands: Sequence[str]
) -> None:
    """Reject values outside the training range, such as reflectance in place of digital numbers.

    7 x 7 places spread over the scene are read. A band is out of range where its median is more
    than five of the examples' standard deviations from their mean, or its spread is twenty times
    larger or smaller; a scene is out of range where most of its bands are. Bands of extra rasters,
    which follow the scene's bands, are not checked: another terrain height is no fault.

    Raises:
        DataError: most bands are out of range.
    """
    scene_values = _sampled(scene)[: len(bands)]
    values = [rescaled(band_values, scene.sensor, sensor) for band_values in scene_values]
    bands_out = bands_out_of_range(values, training_range, bands)
    if bands_out:
        raise DataError(
            out_of_range_message(str(scene.path), bands_out, len(bands), scene.sensor.name, "map")
        )


def bands_out_of_range(
    values: Sequence[NDArray[np.generic]],
    training_range: Range,
    bands: Sequence[str],
    *,
    few: bool = False,
) -> list[OutOfRange]:
    """The bands with values outside the training range; none unless they are the majority.

    Args:
        values: values of each band, valid ones, in the model's digital numbers.
        training_range: range of the model's example tiles.
        bands: names of the bands.
        few: a few tiles, perhaps all of one land cover: they may vary less than training
            tiles, unless their values are much smaller too, as reflectance against digital numbers.
    """
    bands_out = []
    for name, band_values, mean, sd in zip(
        bands, values, training_range.mean, training_range.sd, strict=True
    ):
        if len(band_values) < _MIN_PIXELS:
            continue
        exact = band_values.astype(np.float64)
        middle, spread = float(np.median(exact)), float(exact.std())
        ratio = spread / max(sd, 1e-9)
        narrow = ratio <= 1 / LARGEST_RATIO and not (
            few and abs(middle) * LARGEST_RATIO > abs(mean)
        )
        if abs(middle - mean) > FARTHEST_SD * sd or narrow or ratio >= LARGEST_RATIO:
            bands_out.append(OutOfRange(name, middle, spread, float(mean), float(sd)))
    return bands_out if 2 * len(bands_out) > len(bands) else []


def out_of_range_message(
    what: str, bands_out: Sequence[OutOfRange], bands: int, sensor: str, verb: str
) -> str:
    """The message for imagery with most bands out of range.

    Args:
        what: name of the imagery.
        bands_out: bands out of range, from `bands_out_of_range`.
        bands: number of all bands.
        sensor: name of the one that the imagery was taken to be of.
        verb: what --skip-value-check does anyway.
    """
    one = bands_out[0]
    return (
        f"{what}: values outside the model's training range in {len(bands_out)} of {bands} bands "
        f"(such as {one.name}: {one.middle:.4g} ± {one.spread:.2g} here, {one.mean:.4g} ± "
        f"{one.sd:.2g} in training); name the sensor and processing with --sensor (now {sensor}), "
        f"or --skip-value-check to {verb} all the same"
    )


def _sampled(scene: Imagery) -> list[NDArray[np.generic]]:
    """Valid values of each band at places spread over the scene, one row of places at a time."""
    grid, each = scene.grid, round(_PLACES**0.5)
    side = min(_SIDE_PX, grid.height, grid.width)
    samples: list[list[NDArray[np.generic]]] = [[] for _ in scene.bands]
    for row in np.linspace(0, grid.height - side, each).astype(int):
        for col in np.linspace(0, grid.width - side, each).astype(int):
            data, valid = scene.read(Window(int(row), int(col), side, side))
            for band, (plane, seen) in enumerate(zip(data, valid, strict=True)):
                samples[band].append(plane[seen])
    return [np.concatenate(parts) for parts in samples]


def training_resolution_m(
    footprints: Float64s, crs: Sequence[str | None], tile_px: int
) -> float | None:
    """Size in metres of a training pixel, from the tiles' footprints; None where unknown.

    >>> box = np.array([[500000.0, 4599360.0, 500640.0, 4600000.0]])
    >>> training_resolution_m(box, ["EPSG:32633"], 64)
    10.0
    """
    sizes = [
        (tuple(box), name)
        for box, name in zip(footprints.tolist(), crs, strict=False)
        if name and np.isfinite(box).all() and box[2] > box[0]
    ]
    if not sizes:
        return None
    boxes = in_metres([box for box, _ in sizes], [name for _, name in sizes])
    return round(float(np.median(boxes[:, 2] - boxes[:, 0])) / tile_px, 3)
