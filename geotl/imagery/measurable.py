"""Digital numbers that a sensor can measure: others are not valid, declared or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geotl.arrays import Bools
from geotl.imagery.sensor_table import SENSORS, Sensor

# Limits of physical values by unit. They are wide, so that values of a wrongly named sensor
# are not removed but reported: see `geotl check`.
_ENDS = {"reflectance": (-0.5, 1e3), "share": (-0.5, 1e3), "kelvin": (0.0, 1e5)}
MAX_DN = 1e15  # beyond it lie the fill values of float rasters, such as 1e20 and -3.4e38


@dataclass(frozen=True)
class Measurable:
    """The digital numbers that bands can hold.

    Attributes:
        nodata: the value that stands for no measurement, None if there is none.
        low, high: the least and the largest value, one for each band.
    """

    nodata: float | None
    low: tuple[float, ...]
    high: tuple[float, ...]

    def possible(
        self, data: NDArray[Any], valid: Bools, bands: Sequence[int] | None = None
    ) -> Bools:
        """The valid pixels [C,...] of data [C,...] that are measurements.

        `bands` are the positions of the channels among these bands; None for all.
        """
        return self._without(self.impossible(data, bands), data, valid)

    def _without(self, wrong: Bools | None, data: NDArray[Any], valid: Bools) -> Bools:
        """The valid pixels that are neither wrong nor nodata."""
        if self.nodata is not None:
            valid = valid & (data != self.nodata)
        return valid if wrong is None else valid & ~wrong

    def measured(self, data: NDArray[Any], declared: Bools) -> tuple[NDArray[Any], Bools]:
        """Data [C,...] and which of them are measurements, from what a file declares as valid.

        Impossible values that the file declares as no data become 0; those that remain
        were not declared, and can be counted.
        """
        wrong = self.impossible(data)
        valid = self._without(wrong, data, declared)
        if wrong is not None and (wrong & ~declared).any():
            data = np.where(wrong & ~declared, data.dtype.type(0), data)
        return data, valid

    def undeclared(self, data: NDArray[Any]) -> int:
        """How many values of data [C,...] by `measured` cannot be measured."""
        wrong = self.undeclared_at(data)
        return 0 if wrong is None else int(wrong.sum())

    def undeclared_at(self, data: NDArray[Any]) -> Bools | None:
        """Where data [C,...] by `measured` cannot be measured; None where their type cannot."""
        wrong = self.impossible(data)
        return None if wrong is None else np.asarray(wrong & np.isfinite(data))

    def impossible(self, data: NDArray[Any], bands: Sequence[int] | None = None) -> Bools | None:
        """Where data [C,...] hold what cannot be measured; None where their type cannot."""
        at = list(range(len(self.low)) if bands is None else bands)
        low, high = np.array(self.low)[at], np.array(self.high)[at]
        if data.dtype.kind in "iu":
            limits_of_type = np.iinfo(data.dtype)
            if limits_of_type.min >= low.max() and limits_of_type.max <= high.min():
                return None
        ends = (slice(None), *(None,) * (data.ndim - 1))
        with np.errstate(over="ignore"):  # half floats hold no such ends: infinity serves as well
            kind = data.dtype if data.dtype.kind == "f" else np.dtype(np.float64)
            least, most = low.astype(kind)[ends], high.astype(kind)[ends]
        return np.asarray((data < least) | (data > most))


def measurable(sensor: Sensor, bands: Sequence[str]) -> Measurable:
    """Possible values of a sensor's bands; for a user's sensor only fill values are rejected.

    >>> from geotl.imagery.sensors import get_sensor
    >>> of = measurable(get_sensor("sentinel2_l2a"), ["B02"])
    >>> of.possible(np.array([[-9999.0, 300.0, -3.4e38]]), np.ones((1, 3), bool)).tolist()
    [[False, True, False]]
    """
    low, high = zip(*(_ends(sensor, band) for band in bands), strict=True)
    return Measurable(sensor.nodata, low, high)


def _ends(sensor: Sensor, band: str) -> tuple[float, float]:
    if sensor.name not in SENSORS:
        return -MAX_DN, MAX_DN
    ends = [(value - sensor.offset) / sensor.scale for value in _ENDS[sensor.unit(band)]]
    return min(ends), max(ends)


def anything(count: int) -> Measurable:
    """Limits for bands of an unknown sensor: everything except fill values."""
    return Measurable(None, (-MAX_DN,) * count, (MAX_DN,) * count)
