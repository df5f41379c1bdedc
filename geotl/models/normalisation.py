"""The mean and sd that a network's inputs were standardised with, in physical units and as DN.

Weights were trained on some sensor's digital numbers (DN), the tiles at hand hold another's.
Between the two stands what both measured: reflectance, kelvin, or a share of full scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from geotl.errors import RecipeError
from geotl.imagery.sensors import Sensor, Unit
from geotl.models.first_conv import RGB, RGB_NM, RGB_REACH_NM, same_bands

WeightUnit = Unit | Literal["unknown"]
Figures = tuple[list[float], list[float]]

_SAID = {
    "reflectance": "reflectance",
    "kelvin": "kelvin",
    "share": "shares of the full scale of 8-bit pictures",
    "decibel": "decibels of backscatter",
    "unknown": "numbers whose meaning is not published",
}


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation that normalised a network's inputs, band by band.

    `wavelengths` are in nm, None where unknown; `mean` and `sd` are in the band's unit.
    """

    bands: tuple[str, ...]
    wavelengths: tuple[float | None, ...]
    mean: tuple[float, ...]
    sd: tuple[float, ...]
    units: tuple[WeightUnit, ...]


def of_pictures(mean: Sequence[float], sd: Sequence[float]) -> Normalisation:
    """Red's, green's and blue's mean and sd in pictures from 0 to 1.

    >>> of_pictures((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)).units
    ('share', 'share', 'share')
    """
    return Normalisation(RGB, RGB_NM, tuple(mean), tuple(sd), ("share", "share", "share"))


IMAGENET = of_pictures((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def from_dn(
    sensor: Sensor, bands: Sequence[str], mean: Sequence[float], sd: Sequence[float]
) -> Normalisation:
    """Mean and sd in a sensor's DN as what they measure.

    >>> from geotl.imagery.sensors import SENSORS
    >>> from_dn(SENSORS["sentinel2_l2a_n0400"], ["B04"], [3000.0], [500.0]).sd
    (0.05,)
    """
    return Normalisation(
        tuple(bands),
        sensor.wavelengths(bands),
        tuple(m * sensor.scale + sensor.offset for m in mean),
        tuple(s * abs(sensor.scale) for s in sd),
        tuple(sensor.unit(band) for band in bands),
    )


def as_dn(
    statistics: Normalisation, sensor: Sensor, bands: Sequence[str], *, eight_bit: bool
) -> Figures:
    """Mean and sd of these bands in their sensor's DN.

    A band takes the figures of the one it shares name or wavelength with (within 30 nm), or
    those that all the weights' bands of its unit share. A share of full scale is taken as
    DN / 255 of 8-bit tiles.

    Raises:
        RecipeError: a band has no counterpart, or the two are in different units.

    >>> from geotl.imagery.sensors import SENSORS
    >>> as_dn(IMAGENET, SENSORS["rgb"], ["blue"], eight_bit=True)
    ([103.53], [57.375])
    """
    mean, sd = [], []
    for band in bands:
        place = _counterpart(statistics, sensor, band)
        unit, here = statistics.units[place], sensor.unit(band)
        if unit == "share" and eight_bit:
            mean.append(255.0 * statistics.mean[place])
            sd.append(255.0 * statistics.sd[place])
        elif unit == here != "share":
            mean.append((statistics.mean[place] - sensor.offset) / sensor.scale)
            sd.append(statistics.sd[place] / abs(sensor.scale))
        else:
            tile_values = "8-bit " * eight_bit + f"{_SAID[here]} (sensor {sensor.name})"
            raise RecipeError(
                f"model.normalise: given weights, which were trained on {_SAID[unit]} in band "
                f"{statistics.bands[place]}, for tiles with {tile_values} in band {band}; "
                "allowed: training"
            )
    return mean, sd


def _counterpart(statistics: Normalisation, sensor: Sensor, band: str) -> int:
    """Position among the weights' bands of the one that a band is to be treated as."""
    wavelength = sensor.wavelengths([band])[0]
    named = same_bands((statistics.bands, statistics.wavelengths), ([band], [wavelength]))
    if named:
        return named[0]
    near = [
        (abs(nm - wavelength), place)
        for place, nm in enumerate(statistics.wavelengths)
        if nm is not None and wavelength is not None
    ]
    if near and min(near)[0] <= RGB_REACH_NM:
        return min(near)[1]
    alike = [i for i, unit in enumerate(statistics.units) if unit == sensor.unit(band)]
    if len(alike) > 1 and len({(statistics.mean[i], statistics.sd[i]) for i in alike}) == 1:
        return alike[0]
    raise RecipeError(
        f"model.normalise: given weights, which were trained on {', '.join(statistics.bands)}, "
        f"not on band {band}; allowed: training, or leave the band out with data.bands"
    )
