"""Sensors: what their bands are called, where they lie in the spectrum, and what a DN means.

Bands are always matched by name. A file that names none is only accepted where the sensor
states the order in which its files hold them, and then only with that very number of bands.

Central wavelengths and resolutions: Sentinel-2A MSI, ESA document COPE-GSEG-EOPG-TN-15-0007
(spectral responses, version 3.0). EuroSAT's rendering: jensleitloff/CNN-Sentinel, issue 1.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from geotl.errors import BandError, DataError, nearest


@dataclass(frozen=True)
class Band:
    """One band: its name, central wavelength in nm, ground resolution in m, other names."""

    name: str
    wavelength_nm: float | None
    resolution_m: float | None
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sensor:
    """A sensor and product level: reflectance = DN * scale + offset.

    `file_order` holds the band names in file order for files that name none; empty means
    that such files are refused. `nodata` is the DN that stands for "nothing measured".
    """

    name: str
    title: str
    bands: tuple[Band, ...]
    scale: float
    offset: float
    nodata: float | None
    file_order: tuple[str, ...]
    source: str

    def band(self, name: str) -> Band:
        """The band of this name or alias, whatever its case, blanks, hyphens or underscores.

        Raises:
            BandError: the sensor has no such band.

        >>> SENSORS["sentinel2_l2a"].band("Red").name
        'B04'
        """
        key = _key(name)
        for band in self.bands:
            if key in map(_key, (band.name, *band.aliases)):
                return band
        known = [word for band in self.bands for word in (band.name, *band.aliases)]
        close = nearest(name, known)
        hint = close if close.startswith("did") else "allowed: " + _listed(self.names)
        raise BandError(f"band {name!r}: not a band of sensor {self.name}; {hint}")

    @property
    def names(self) -> tuple[str, ...]:
        """The bands' own names, in the sensor's order."""
        return tuple(band.name for band in self.bands)

    def canonical(self, names: Sequence[str]) -> tuple[str, ...]:
        """The sensor's own names for bands given by name or alias, in the order given.

        Raises:
            BandError: a band is unknown or asked for twice.

        >>> SENSORS["sentinel2_l1c"].canonical(["nir", "B4"])
        ('B08', 'B04')
        """
        found = tuple(self.band(name).name for name in names)
        twice = [name for name, count in Counter(found).items() if count > 1]
        if twice:
            raise BandError(
                f"bands {_listed(names)}: {_listed(twice)} is asked for more than once; "
                "name each band once"
            )
        return found

    def wavelengths(self, names: Sequence[str]) -> tuple[float | None, ...]:
        """Central wavelengths in nm of the bands named; None where it is not known.

        >>> SENSORS["rgb"].wavelengths(["blue", "red"])
        (490.0, 665.0)
        """
        return tuple(self.band(name).wavelength_nm for name in names)


def _key(name: str) -> str:
    """A name as it is compared: GDAL writes "B4, central wavelength 665 nm" for B04."""
    return re.sub(r"[\s_\-]+", "", name.partition(",")[0]).casefold()


def _listed(names: Sequence[str]) -> str:
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
    title="Sentinel-2 L1C, top of atmosphere, processing baselines before 04.00",
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
    title="Sentinel-2 L2A, surface reflectance, processing baselines before 04.00",
    # The cirrus band sees no ground and has no surface reflectance.
    bands=tuple(band for band in _MSI if band.name != "B10"),
)
_RGB = Sensor(
    name="rgb",
    title="Plain 8-bit RGB (aerial photographs, screenshots, renderings)",
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
)
_EUROSAT_RGB = replace(
    _RGB,
    name="eurosat_rgb",
    title="EuroSAT's RGB rendering of Sentinel-2 L1C (DN 0 to 2750 drawn as 1 to 255)",
    bands=tuple(
        Band(plain.name, msi.wavelength_nm, msi.resolution_m, plain.aliases)
        for plain, msi in zip(_RGB.bands, (_MSI[3], _MSI[2], _MSI[1]), strict=True)
    ),
    scale=0.275 / 254,
    offset=-0.275 / 254,
    source="jensleitloff/CNN-Sentinel, issue 1: reflectance = (DN - 1) / 254 * 0.275",
)
_EUROSAT_MS = replace(
    _L1C,
    name="eurosat_ms",
    title="EuroSAT's 13-band release of Sentinel-2 L1C (B8A is last)",
    file_order=tuple(
        "B01 B02 B03 B04 B05 B06 B07 B08 B09 B10 B11 B12 B8A".split()  # noqa: SIM905 - legible
    ),
    source="EuroSAT (Helber et al. 2019): L1C digital numbers as they are",
)
SENSORS: dict[str, Sensor] = {
    sensor.name: sensor
    for sensor in (
        _L1C,
        replace(
            _L1C,
            name="sentinel2_l1c_n0400",
            title="Sentinel-2 L1C, top of atmosphere, processing baseline 04.00 and later",
            offset=-0.1,
            source=_N0400,
        ),
        _L2A,
        replace(
            _L2A,
            name="sentinel2_l2a_n0400",
            title="Sentinel-2 L2A, surface reflectance, processing baseline 04.00 and later",
            offset=-0.1,
            source=_N0400,
        ),
        _RGB,
        _EUROSAT_RGB,
        _EUROSAT_MS,
    )
}


def get_sensor(name: str) -> Sensor:
    """The sensor of this name.

    Raises:
        DataError: there is none; the message names the nearest.

    >>> get_sensor("sentinel2_l2a_n0400").offset
    -0.1
    """
    if name not in SENSORS:
        raise DataError(
            f"sensor {name!r}: not known; {nearest(name, SENSORS)} "
            "(describe your own under data.custom_sensor)"
        )
    return SENSORS[name]


def custom_sensor(
    name: str,
    bands: Sequence[Mapping[str, Any]],
    scale: float = 1.0,
    offset: float = 0.0,
    nodata: float | None = None,
) -> Sensor:
    """A sensor of the user's own; its files must name their bands (or `data.file_bands` does).

    Each band is a mapping of name and, where known, wavelength_nm, resolution_m, aliases.

    Raises:
        BandError: no bands, a band without a name, an unknown key, or a name used twice.
        DataError: the scale is zero or not a number.

    >>> drone = custom_sensor("drone", [{"name": "nir", "wavelength_nm": 840}], scale=1e-4)
    >>> drone.wavelengths(["NIR"])
    (840.0,)
    """
    if not bands:
        raise BandError(f"sensor {name!r}: no bands given; list at least one with its name")
    if not (np.isfinite(scale) and scale != 0 and np.isfinite(offset)):
        raise DataError(
            f"sensor {name!r}: scale {scale}, offset {offset} given; allowed: finite numbers, "
            "and a scale other than 0"
        )
    built = tuple(_band(name, band) for band in bands)
    used = Counter(key for band in built for key in {_key(w) for w in (band.name, *band.aliases)})
    twice = [key for key, count in used.items() if count > 1]
    if twice:
        raise BandError(
            f"sensor {name!r}: {_listed(twice)} names more than one band; names and aliases "
            "must differ in more than case, blanks, hyphens and underscores"
        )
    return Sensor(name, f"Custom sensor {name}", built, scale, offset, nodata, (), "custom")


def _band(sensor: str, given: Mapping[str, Any]) -> Band:
    allowed = ("name", "wavelength_nm", "resolution_m", "aliases")
    for key in given:
        if key not in allowed:
            raise BandError(f"sensor {sensor!r}: band key {key!r}; {nearest(str(key), allowed)}")
    name = str(given.get("name") or "").strip()
    if not name:
        raise BandError(f"sensor {sensor!r}: a band has no name; give every band one")
    wavelength, resolution = (
        None if given.get(key) is None else float(given[key]) for key in allowed[1:3]
    )
    return Band(name, wavelength, resolution, tuple(given.get("aliases") or ()))


def match_bands(
    sensor: Sensor, available: Sequence[str | None], wanted: Sequence[str]
) -> tuple[int, ...]:
    """Positions in a file of the bands wanted, found by name or alias.

    Args:
        sensor: whose names they are.
        available: the file's band names in file order; None for a band without one.
        wanted: the bands to find, in the order in which they are to be returned.

    Raises:
        BandError: a wanted band is missing, is there twice, or the file names no bands and the
            sensor states no order for that many.

    >>> match_bands(SENSORS["sentinel2_l2a"], ["B8", "red", None], ["B04", "B08"])
    (1, 0)
    >>> match_bands(SENSORS["eurosat_ms"], [None] * 13, ["B8A", "B02"])
    (12, 1)
    """
    names = sensor.canonical(wanted)
    there = list(_positions(sensor, _named(sensor, available)))
    missing = [name for name in names if name not in {found for found, _ in there}]
    if missing:
        held = _listed([name or "(unnamed)" for name in available])
        raise BandError(
            f"band {_listed(missing)}: missing from a file that holds {held}; choose other bands "
            f"with data.bands, or the sensor that made the file (now {sensor.name})"
        )
    for name, count in Counter(found for found, _ in there).items():
        if count > 1 and name in names:
            held = _listed([given or "(unnamed)" for given in available])
            raise BandError(
                f"band {name}: there {count} times in a file that holds {held}; "
                "name its bands in file order with data.file_bands"
            )
    where = dict(there)
    return tuple(where[name] for name in names)


def _named(sensor: Sensor, available: Sequence[str | None]) -> Sequence[str | None]:
    """The file's names, or the sensor's stated order for a file that has none."""
    if any(available):
        return available
    if len(available) == len(sensor.file_order):
        return sensor.file_order
    order = f"files of {len(sensor.file_order)} bands" if sensor.file_order else "no files"
    raise BandError(
        f"the file holds {len(available)} bands and names none, and sensor {sensor.name} states "
        f"an order for {order}; name them in file order with data.file_bands"
    )


def _positions(sensor: Sensor, names: Sequence[str | None]) -> Iterator[tuple[str, int]]:
    """(the sensor's name, position) of every file band that is one of the sensor's."""
    own = {_key(word): band.name for band in sensor.bands for word in (band.name, *band.aliases)}
    for position, name in enumerate(names):
        if name and _key(name) in own:
            yield own[_key(name)], position


def to_reflectance(dn: np.ndarray, sensor: Sensor) -> np.ndarray:
    """Reflectance (no unit) of digital numbers of any shape: DN * scale + offset.

    Computed and returned in float32, or in float64 where the input needs it. The offset is
    taken off in DN, so that float32 rounds nothing where it is a whole number of them.

    >>> to_reflectance(np.array([1000, 3500], np.uint16), SENSORS["sentinel2_l2a_n0400"])
    array([0.  , 0.25], dtype=float32)
    """
    dtype = np.result_type(dn.dtype, np.float32)
    zero_dn = dtype.type(-sensor.offset / sensor.scale)
    return np.asarray((dn.astype(dtype) - zero_dn) * dtype.type(sensor.scale))
