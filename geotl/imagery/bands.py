"""What a band and a sensor are: names, wavelengths, and what a digital number (DN) means."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from geotl.errors import BandError, nearest

Unit = Literal["reflectance", "share", "kelvin"]
THERMAL_NM = 3500.0  # beyond it a scene shines by its own warmth: kelvin, not reflectance


@dataclass(frozen=True)
class Band:
    """One band: its name, central wavelength in nm, ground resolution in m, other names."""

    name: str
    wavelength_nm: float | None
    resolution_m: float | None
    aliases: tuple[str, ...] = ()

    @property
    def words(self) -> tuple[str, ...]:
        """The band's name and its other names."""
        return (self.name, *self.aliases)


@dataclass(frozen=True)
class Sensor:
    """A sensor and product level: the value measured is DN * scale + offset.

    The value is a reflectance, unless `measures` says that it is only a share of full scale
    (8-bit pictures without calibration); thermal bands give kelvin. `file_order` holds the band
    names in file order for files that name none; empty means that such files are refused.
    `nodata` is the DN that stands for "nothing measured"; `limits` are the least and the largest DN
    of a rendering, which cuts off what lies beyond.
    """

    name: str
    title: str
    bands: tuple[Band, ...]
    scale: float
    offset: float
    nodata: float | None
    file_order: tuple[str, ...]
    source: str
    measures: Literal["reflectance", "share"] = "reflectance"
    limits: tuple[float, float] | None = None

    def band(self, name: str) -> Band:
        """The band of this name or alias, whatever its case, blanks, hyphens or underscores.

        Raises:
            BandError: the sensor has no such band.

        >>> from geotl.imagery.sensors import SENSORS
        >>> SENSORS["sentinel2_l2a"].band("Red").name
        'B04'
        """
        key = band_key(name)
        for band in self.bands:
            if key in map(band_key, band.words):
                return band
        known = [word for band in self.bands for word in band.words]
        close = nearest(name, known)
        hint = close if close.startswith("did") else "allowed: " + listed(self.names)
        raise BandError(f"band {name!r}: not a band of sensor {self.name}; {hint}")

    @property
    def names(self) -> tuple[str, ...]:
        """The bands' own names, in the sensor's order."""
        return tuple(band.name for band in self.bands)

    def canonical(self, names: Sequence[str]) -> tuple[str, ...]:
        """The sensor's own names for bands given by name or alias, in the order given.

        Raises:
            BandError: a band is unknown or asked for twice.

        >>> from geotl.imagery.sensors import SENSORS
        >>> SENSORS["sentinel2_l1c"].canonical(["nir", "B4"])
        ('B08', 'B04')
        """
        found = tuple(self.band(name).name for name in names)
        twice = [name for name, count in Counter(found).items() if count > 1]
        if twice:
            raise BandError(
                f"bands {listed(names)}: {listed(twice)} is asked for more than once; "
                "name each band once"
            )
        return found

    def wavelengths(self, names: Sequence[str]) -> tuple[float | None, ...]:
        """Central wavelengths in nm of the bands named; None where it is not known.

        >>> from geotl.imagery.sensors import SENSORS
        >>> SENSORS["rgb"].wavelengths(["blue", "red"])
        (490.0, 665.0)
        """
        return tuple(self.band(name).wavelength_nm for name in names)

    def unit(self, name: str) -> Unit:
        """What DN * scale + offset is in a band: reflectance, a share of full scale, or kelvin.

        >>> from geotl.imagery.sensors import SENSORS
        >>> SENSORS["landsat5_toa"].unit("red"), SENSORS["landsat5_toa"].unit("B6")
        ('reflectance', 'kelvin')
        """
        wavelength = self.band(name).wavelength_nm
        return "kelvin" if wavelength is not None and wavelength > THERMAL_NM else self.measures


def band_key(name: str) -> str:
    """A name as it is compared: GDAL writes "B4, central wavelength 665 nm" for B04."""
    return re.sub(r"[\s_\-]+", "", name.partition(",")[0]).casefold()


def listed(names: Sequence[str]) -> str:
    """Names as they stand in a message."""
    return ", ".join(names)
