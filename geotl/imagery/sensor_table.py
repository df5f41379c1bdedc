"""Bands and sensors as types, and the table of the sensors that are known."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from geotl.errors import BandError, nearest
from geotl.language import msg

Unit = Literal["reflectance", "share", "kelvin", "decibel"]
Measured = Literal["reflectance", "share", "decibel"]  # by bands that are not thermal
THERMAL_NM = 3500.0  # beyond it a scene shines by its own warmth: kelvin, not reflectance


@dataclass(frozen=True)
class Band:
    """One band: its name, central wavelength in nm, spatial resolution in m, other names."""

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

    The value is a reflectance, unless `measures` states that it is only a share of full scale
    (8-bit pictures without calibration) or a radar's backscatter in decibels; thermal bands give
    kelvin. `file_order` has the band
    names in file order for files without band names; empty means that such files are rejected.
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
    measures: Measured = "reflectance"
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
        raise BandError(f"band {name!r}: not a band of sensor {self.name}; {self._hint(name)}")

    def _hint(self, name: str) -> str:
        """The band nearest to a name, by its own name where that is alike: B08, not B8."""
        owner = {word: band.name for band in self.bands for word in band.words}
        close = difflib.get_close_matches(name, owner, n=1)
        if not close:
            return "allowed: " + listed(self.names)
        own = nearest(name, [owner[close[0]]])
        return own if own.startswith("did") else nearest(name, close)

    @property
    def zero_dn(self) -> float:
        """The DN of a value of zero.

        >>> from geotl.imagery.sensors import SENSORS
        >>> SENSORS["sentinel2_l2a_n0400"].zero_dn
        1000.0
        """
        return -self.offset / self.scale

    @property
    def names(self) -> tuple[str, ...]:
        """The bands' own names, in the sensor's order."""
        return tuple(band.name for band in self.bands)

    def canonical(self, names: Sequence[str]) -> tuple[str, ...]:
        """The sensor's own names for bands given by name or alias, in the order given.

        Raises:
            BandError: a band is unknown or requested twice.

        >>> from geotl.imagery.sensors import SENSORS
        >>> SENSORS["sentinel2_l1c"].canonical(["nir", "B4"])
        ('B08', 'B04')
        """
        bands = tuple(self.band(name).name for name in names)
        twice = [name for name, count in Counter(bands).items() if count > 1]
        if twice:
            raise BandError(
                f"bands {listed(names)}: {listed(twice)} is requested more than once; "
                "name each band once"
            )
        return bands

    def wavelengths(self, names: Sequence[str]) -> tuple[float | None, ...]:
        """Central wavelengths in nm of the bands named; None where it is not known.

        >>> from geotl.imagery.sensors import SENSORS
        >>> SENSORS["rgb"].wavelengths(["blue", "red"])
        (490.0, 665.0)
        """
        return tuple(self.band(name).wavelength_nm for name in names)

    def unit(self, name: str) -> Unit:
        """Quantity of DN * scale + offset: reflectance, share of full scale, kelvin, decibel.

        >>> from geotl.imagery.sensors import SENSORS
        >>> SENSORS["landsat5_toa"].unit("red"), SENSORS["landsat5_toa"].unit("B6")
        ('reflectance', 'kelvin')
        """
        wavelength = self.band(name).wavelength_nm
        thermal = wavelength is not None and wavelength > THERMAL_NM
        return "kelvin" if thermal and self.measures == "reflectance" else self.measures


def band_key(name: str) -> str:
    """A name as it is compared: GDAL writes "B4, central wavelength 665 nm" for B04."""
    return re.sub(r"[\s_\-]+", "", name.partition(",")[0]).casefold()


def listed(names: Sequence[str]) -> str:
    """Names as they stand in a message."""
    return ", ".join(names)


# Other names: ESA's unpadded numbers (Earth Engine, SNAP) and STAC's common names.
_MSI = (
    Band("B01", 442.7, 60.0, ("B1", "coastal", "coastal aerosol")),
    Band("B02", 492.4, 10.0, ("B2", "blue")),
    Band("B03", 559.8, 10.0, ("B3", "green")),
    Band("B04", 664.6, 10.0, ("B4", "red")),
    Band("B05", 704.1, 20.0, ("B5", "rededge1", "rededge071")),
    Band("B06", 740.5, 20.0, ("B6", "rededge2", "rededge075")),
    Band("B07", 782.8, 20.0, ("B7", "rededge3", "rededge078")),
    Band("B08", 832.8, 10.0, ("B8", "nir")),
    Band("B8A", 864.7, 20.0, ("B08A", "nir08", "narrow nir")),
    Band("B09", 945.1, 60.0, ("B9", "nir09", "water vapour")),
    Band("B10", 1373.5, 60.0, ("cirrus",)),
    Band("B11", 1613.7, 20.0, ("swir1", "swir16")),
    Band("B12", 2202.4, 20.0, ("swir2", "swir22")),
)
_L1C = Sensor(
    name="sentinel2_l1c",
    title=msg("Sentinel-2 L1C, top of atmosphere, processing baselines before 04.00"),
    bands=_MSI,
    scale=1e-4,
    offset=0.0,
    nodata=0.0,
    file_order=(),
    source="ESA, Sentinel-2 Products Specification Document: quantification value 10000",
)
_N0400 = "ESA, Sentinel-2 processing baseline 04.00: reflectance = (DN - 1000) / 10000"
_L2A = replace(
    _L1C,
    name="sentinel2_l2a",
    title=msg("Sentinel-2 L2A, surface reflectance, processing baselines before 04.00"),
    # The cirrus band does not see the surface and has no surface reflectance.
    bands=tuple(band for band in _MSI if band.name != "B10"),
)
_RGB = Sensor(
    name="rgb",
    title=msg("Plain 8-bit RGB (aerial photographs, screenshots, renderings)"),
    bands=(
        Band("red", 665.0, None, ("B04", "B4", "R")),
        Band("green", 560.0, None, ("B03", "B3", "G")),
        Band("blue", 490.0, None, ("B02", "B2", "B")),
    ),
    scale=1 / 255,
    offset=0.0,
    nodata=None,
    file_order=("red", "green", "blue"),
    source="8-bit values as a share of full scale; nominal wavelengths",
    measures="share",
)
_EUROSAT_RGB = replace(
    _RGB,
    name="eurosat_rgb",
    title=msg("EuroSAT's RGB rendering of Sentinel-2 L1C (DN 0 to 2750 drawn as 1 to 255)"),
    bands=tuple(
        Band(plain.name, msi.wavelength_nm, msi.resolution_m, plain.aliases)
        for plain, msi in zip(_RGB.bands, (_MSI[3], _MSI[2], _MSI[1]), strict=True)
    ),
    scale=0.275 / 254,
    offset=-0.275 / 254,
    source="jensleitloff/CNN-Sentinel, issue 1: reflectance = (DN - 1) / 254 * 0.275",
    measures="reflectance",
    limits=(1.0, 255.0),
)
_EUROSAT_MS = replace(
    _L1C,
    name="eurosat_ms",
    title=msg("EuroSAT's 13-band release of Sentinel-2 L1C (B8A is last)"),
    file_order=tuple(
        "B01 B02 B03 B04 B05 B06 B07 B08 B09 B10 B11 B12 B8A".split()  # noqa: SIM905 - legible
    ),
    source="EuroSAT (Helber et al. 2019): L1C digital numbers as they are",
)
# Landsat: band number (as files write it), wavelength [nm], resolution [m], common names.
Row = tuple[str, float, float, tuple[str, ...]]
_TM: tuple[Row, ...] = (
    ("1", 485.0, 30.0, ("blue",)),
    ("2", 560.0, 30.0, ("green",)),
    ("3", 660.0, 30.0, ("red",)),
    ("4", 830.0, 30.0, ("nir", "nir08")),
    ("5", 1650.0, 30.0, ("swir1", "swir16")),
    ("6", 11450.0, 120.0, ("thermal", "lwir")),
    ("7", 2215.0, 30.0, ("swir2", "swir22")),
)
_ETM: tuple[Row, ...] = (
    *_TM[:3],
    ("4", 835.0, 30.0, ("nir", "nir08")),
    _TM[4],
    ("6_VCID_1", 11450.0, 60.0, ("thermal low gain",)),
    ("6_VCID_2", 11450.0, 60.0, ("thermal high gain",)),
    ("7", 2220.0, 30.0, ("swir2", "swir22")),
    ("8", 710.0, 15.0, ("pan",)),
)
_OLI: tuple[Row, ...] = (
    ("1", 443.0, 30.0, ("coastal", "coastal aerosol")),
    ("2", 482.0, 30.0, ("blue",)),
    ("3", 561.4, 30.0, ("green",)),
    ("4", 654.6, 30.0, ("red",)),
    ("5", 864.7, 30.0, ("nir", "nir08")),
    ("6", 1608.9, 30.0, ("swir1", "swir16")),
    ("7", 2200.7, 30.0, ("swir2", "swir22")),
    ("8", 589.5, 15.0, ("pan",)),
    ("9", 1373.4, 30.0, ("cirrus",)),
    ("10", 10895.0, 100.0, ("lwir11",)),
    ("11", 12005.0, 100.0, ("lwir12",)),
)


def _landsat(rows: Sequence[Row], prefix: str) -> tuple[Band, ...]:
    """Landsat's bands as SR_B4 or B4; the other form, B04 and ESPA's sr_band4 are read as well."""
    return tuple(
        Band(
            f"{prefix}B{number}",
            wavelength,
            resolution,
            (
                f"{'' if prefix else 'SR_'}B{number}",
                *_padded(number),
                f"{prefix or 'TOA_'}band{number}",
                *names,
            ),
        )
        for number, wavelength, resolution, names in rows
    )


def _padded(number: str) -> tuple[str, ...]:
    return (f"B0{number}",) if len(number) == 1 else ()


def _surface(name: str, craft: str, rows: Sequence[Row]) -> Sensor:
    return Sensor(
        name=name,
        title=msg("{craft}, Collection 2 Level-2 surface reflectance", craft=craft),
        bands=_landsat(rows, "SR_"),
        scale=2.75e-5,
        offset=-0.2,
        nodata=0.0,
        file_order=(),
        source="USGS, Landsat Collection 2 Level-2: reflectance = DN * 0.0000275 - 0.2, fill 0",
    )


def _top_of_atmosphere(name: str, craft: str, rows: Sequence[Row]) -> Sensor:
    return Sensor(
        name=name,
        title=msg(
            "{craft}, top-of-atmosphere reflectance as numbers 0 to 1, thermal bands in kelvin",
            craft=craft,
        ),
        bands=_landsat(rows, ""),
        scale=1.0,
        offset=0.0,
        nodata=None,
        file_order=(),
        source="Earth Engine, LANDSAT Collection 2 Tier 1 TOA: reflectance and kelvin as floats",
    )


_LANDSAT = (
    _surface("landsat5_sr", "Landsat 4 and 5 TM", [r for r in _TM if r[0] != "6"]),
    _surface("landsat7_sr", "Landsat 7 ETM+", [r for r in _ETM if r[0] in "123457"]),
    _surface("landsat8_sr", "Landsat 8 OLI", _OLI[:7]),
    _surface("landsat9_sr", "Landsat 9 OLI-2", _OLI[:7]),
    _top_of_atmosphere("landsat5_toa", "Landsat 4 and 5 TM", _TM),
    _top_of_atmosphere("landsat7_toa", "Landsat 7 ETM+", _ETM),
    _top_of_atmosphere("landsat8_toa", "Landsat 8 OLI and TIRS", _OLI),
    _top_of_atmosphere("landsat9_toa", "Landsat 9 OLI-2 and TIRS-2", _OLI),
)
_NAIP = Sensor(
    name="naip",
    title=msg("NAIP aerial photographs, 8 bit, red, green, blue and near infrared"),
    bands=(
        Band("red", 635.0, 1.0, ("R", "B1")),
        Band("green", 560.0, 1.0, ("G", "B2")),
        Band("blue", 460.0, 1.0, ("B", "B3")),
        Band("nir", 860.0, 1.0, ("N", "B4")),
    ),
    scale=1 / 255,
    offset=0.0,
    nodata=None,
    file_order=("red", "green", "blue", "nir"),
    source="USDA, NAIP four-band orthophotos: 8-bit values as a share of full scale",
    measures="share",
)
_PLANET4 = Sensor(
    name="planetscope4",
    title=msg("PlanetScope, 4 bands, surface reflectance"),
    bands=(
        Band("blue", 485.0, 3.0, ("B1",)),
        Band("green", 545.0, 3.0, ("B2",)),
        Band("red", 630.0, 3.0, ("B3",)),
        Band("nir", 820.0, 3.0, ("B4",)),
    ),
    scale=1e-4,
    offset=0.0,
    nodata=0.0,
    file_order=("blue", "green", "red", "nir"),
    source="Planet, ortho_analytic_4b_sr: reflectance = DN / 10000, fill 0",
)
_PLANET8 = replace(
    _PLANET4,
    name="planetscope8",
    title=msg("PlanetScope SuperDove, 8 bands, surface reflectance"),
    bands=(
        Band("coastal_blue", 441.5, 3.0, ("B1", "coastal")),
        Band("blue", 490.0, 3.0, ("B2",)),
        Band("green_i", 531.0, 3.0, ("B3",)),
        Band("green", 565.0, 3.0, ("B4", "green_ii")),
        Band("yellow", 610.0, 3.0, ("B5",)),
        Band("red", 665.0, 3.0, ("B6",)),
        Band("rededge", 705.0, 3.0, ("B7",)),
        Band("nir", 865.0, 3.0, ("B8",)),
    ),
    file_order=(
        "coastal_blue",
        "blue",
        "green_i",
        "green",
        "yellow",
        "red",
        "rededge",
        "nir",
    ),
    source="Planet, ortho_analytic_8b_sr: reflectance = DN / 10000, fill 0",
)
SENSORS: dict[str, Sensor] = {
    sensor.name: sensor
    for sensor in (
        _L1C,
        replace(
            _L1C,
            name="sentinel2_l1c_n0400",
            title=msg("Sentinel-2 L1C, top of atmosphere, processing baseline 04.00 and later"),
            offset=-0.1,
            source=_N0400,
        ),
        _L2A,
        replace(
            _L2A,
            name="sentinel2_l2a_n0400",
            title=msg("Sentinel-2 L2A, surface reflectance, processing baseline 04.00 and later"),
            offset=-0.1,
            source=_N0400,
        ),
        _RGB,
        _EUROSAT_RGB,
        _EUROSAT_MS,
        *_LANDSAT,
        _NAIP,
        _PLANET4,
        _PLANET8,
    )
}


PRODUCTS: dict[str, str] = {  # files that state their sensor, which geotl compares with the recipe
    **{
        f"sentinel2_{level.lower()}{end}": (
            f"S2*_MSI{level}_*.SAFE of processing baselines {baseline}, MTD_MSI{level}.xml"
        )
        for level in ("L1C", "L2A")
        for end, baseline in (("", "before 04.00"), ("_n0400", "since 04.00"))
    },
    **{
        f"landsat{number}_sr": f"{start}_L2SP_*_02_T1 (Collection 2 Level-2), *_MTL.txt"
        for number, start in ((5, "LT04 or LT05"), (7, "LE07"), (8, "LC08"), (9, "LC09"))
    },
}
