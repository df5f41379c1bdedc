"""Whether a scene's values are such as a model has seen: radiometry and resolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geotl.errors import DataError
from geotl.positions import in_metres
from geotl.sensors import rescaled
from geotl.windows import Imagery, Window

Floats = NDArray[np.float64]
FARTHEST_SD, LARGEST_RATIO = 5.0, 20.0
_SIDE_PX, _PLACES = 64, 49
_FEWEST_PIXELS = 200


@dataclass(frozen=True)
class Range:
    """Mean and standard deviation [C] of a model's example tiles, in its digital numbers."""

    mean: Floats
    sd: Floats


def range_of(examples: NDArray[np.generic], valid: NDArray[np.bool_]) -> Range:
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


def check_radiometry(scene: Imagery, known: Range, sensor: object, bands: Sequence[str]) -> None:
    """Refuse values that a model never saw, such as reflectance where it knows digital numbers.

    Looked at are 7 x 7 places spread over the scene. A band is strange whose median lies more than
    five of the examples' standard deviations from their mean, or whose spread is twenty times
    larger or smaller; a scene is, where most of its bands are.

    Raises:
        DataError: most bands are strange.
    """
    sample = _sampled(scene)
    strange = []
    for name, found, mean, sd in zip(bands, sample, known.mean, known.sd, strict=True):
        if len(found) < _FEWEST_PIXELS:
            continue
        made = np.asarray(rescaled(found, scene.sensor, sensor), dtype=np.float64)  # type: ignore[arg-type]
        middle, spread = float(np.median(made)), float(made.std())
        ratio = spread / max(sd, 1e-9)
        if abs(middle - mean) > FARTHEST_SD * sd or not 1 / LARGEST_RATIO < ratio < LARGEST_RATIO:
            strange.append((name, middle, spread, mean, sd))
    if 2 * len(strange) > len(bands):
        name, middle, spread, mean, sd = strange[0]
        raise DataError(
            f"{scene.path}: values unlike any that the model has seen in {len(strange)} of "
            f"{len(bands)} bands (such as {name}: {middle:.4g} ± {spread:.2g} here, {mean:.4g} ± "
            f"{sd:.2g} in training); name the sensor and processing with --sensor (now "
            f"{scene.sensor.name}), or --force to map all the same"
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
    footprints: Floats, crs: Sequence[str | None], tile_px: int
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
