"""Sensors by name, and bands by name.

Bands are always matched by name. A file that names none is only accepted where the sensor
states the order in which its files hold them, and then only with that very number of bands.
What a sensor is, and those at hand, stand in `sensor_table`; both are offered from here.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from geotl.console import aligned
from geotl.errors import BandError, DataError, MissingBandError, nearest
from geotl.imagery.sensor_table import (
    PRODUCTS,
    SENSORS,
    Band,
    Measured,
    Sensor,
    Unit,
    band_key,
    listed,
)

__all__ = [
    "SENSORS",
    "Band",
    "Measured",
    "Sensor",
    "Unit",
    "custom_sensor",
    "describe_sensor",
    "get_sensor",
    "known_band",
    "match_bands",
    "rescaled",
    "sensor_from",
    "sensor_variant",
    "to_reflectance",
    "wanted_bands",
]


OF_GLS = ("landsat5", "landsat7")  # sensors whose files may bear Global Land Survey's numbers
_OF_TYPE: Mapping[str, Mapping[str, Any]] = {
    "uint8": {"scale": 1 / 255, "offset": 0.0, "nodata": None, "measures": "share"},
    "float32": {"scale": 1.0, "offset": 0.0, "nodata": None},
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
            f"sensor {name!r}: not known; {nearest(name, SENSORS)} (geotl sensors lists them; "
            "describe your own under data.custom_sensor)"
        )
    return SENSORS[name]


def sensor_from(fields: Mapping[str, Any]) -> Sensor:
    """A sensor from plain JSON values, as `dataclasses.asdict` gave them to a model file.

    Raises:
        KeyError: no bands.
        TypeError: a key that no sensor has, or one missing.

    >>> from dataclasses import asdict
    >>> sensor_from(asdict(SENSORS["naip"])) == SENSORS["naip"]
    True
    """
    values = dict(fields)
    bands = tuple(Band(**{**b, "aliases": tuple(b["aliases"])}) for b in values.pop("bands"))
    limits = values.get("limits")
    values |= {"bands": bands, "file_order": tuple(values["file_order"])}
    return Sensor(**{**values, "limits": None if limits is None else tuple(limits)})


def custom_sensor(
    name: str,
    bands: Sequence[Mapping[str, Any]],
    scale: float = 1.0,
    offset: float = 0.0,
    nodata: float | None = None,
    *,
    measures: Measured = "reflectance",
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
    _check_scale(name, scale, offset)
    built = tuple(_band(name, band) for band in bands)
    used = Counter(
        key for band in built for key in {band_key(w) for w in (band.name, *band.aliases)}
    )
    twice = [key for key, count in used.items() if count > 1]
    if twice:
        raise BandError(
            f"sensor {name!r}: {listed(twice)} names more than one band; names and aliases "
            "must differ in more than case, blanks, hyphens and underscores"
        )
    title = f"Custom sensor {name}"
    return Sensor(name, title, built, scale, offset, nodata, (), "custom", measures)


def sensor_variant(base: str, stated: Mapping[str, Any]) -> Sensor:
    """A known sensor whose files hold other numbers: its bands, with what is stated in its place.

    A data type settles what is not stated: 8-bit values are a share of full scale (DN / 255),
    fractions are the values themselves, and neither has a value for no data.

    Args:
        base: a known sensor's name.
        stated: any of `scale`, `offset`, `nodata`, `measures`, and `dtype` (uint8, uint16, int16
            or float32); None for the base's.

    Raises:
        DataError: no such sensor; a scale of zero; 16-bit numbers of a sensor of fractions,
            without a scale.

    >>> drawn = sensor_variant("landsat7_sr", {"dtype": "uint8"})
    >>> drawn.name, drawn.names[0], round(drawn.scale * 255), drawn.offset, drawn.measures
    ('landsat7_sr_variant', 'SR_B1', 1, 0.0, 'share')
    """
    sensor, given = get_sensor(base), {k: v for k, v in stated.items() if v is not None}
    dtype = given.pop("dtype", None)
    values = {**_OF_TYPE.get(dtype, {}), **given}
    if dtype in ("uint16", "int16") and sensor.scale == 1 and "scale" not in values:
        raise DataError(
            f"sensor {base!r}: holds fractions, {dtype} stated; state the scale too, such as "
            f"{{base: {base}, dtype: {dtype}, scale: 0.0001}}"
        )
    variant = replace(sensor, name=f"{base}_variant", source="custom", **values)
    _check_scale(variant.name, variant.scale, variant.offset)
    return replace(variant, title=f"{sensor.title}; {_measured(variant)} as stated")


def _check_scale(name: str, scale: float, offset: float) -> None:
    if not (np.isfinite(scale) and scale != 0 and np.isfinite(offset)):
        raise DataError(
            f"sensor {name!r}: scale {scale}, offset {offset} given; allowed: finite numbers, "
            "and a scale other than 0"
        )


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


def wanted_bands(sensor: Sensor, bands: Sequence[str] | None) -> tuple[str, ...]:
    """The bands asked for by the sensor's own names; all of the sensor's where none are.

    >>> wanted_bands(SENSORS["rgb"], None), wanted_bands(SENSORS["rgb"], ["B"])
    (('red', 'green', 'blue'), ('blue',))
    """
    return sensor.canonical(sensor.names if bands is None else bands)


def known_band(sensor: Sensor, name: str) -> str | None:
    """The sensor's own name of a band given by name or alias, None if it knows no such band.

    >>> known_band(SENSORS["sentinel2_l2a"], "NIR"), known_band(SENSORS["rgb"], "thumbnail")
    ('B08', None)
    """
    return _words(sensor).get(band_key(name))


@functools.lru_cache(maxsize=64)
def _words(sensor: Sensor) -> Mapping[str, str]:
    return {band_key(word): band.name for band in sensor.bands for word in band.words}


def match_bands(
    sensor: Sensor, available: Sequence[str | None], wanted: Sequence[str]
) -> tuple[int, ...]:
    """Positions in a file of the bands wanted, found by name or alias.

    Args:
        sensor: sensor of the band names.
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
    missing = [name for name in names if name not in {band for band, _ in there}]
    if missing:
        listed_names = listed([name or "(unnamed)" for name in available])
        raise MissingBandError(
            f"band {listed(missing)}: missing from a file with {listed_names}; choose other bands "
            f"with data.bands, or the sensor that made the file (now {sensor.name})",
            missing,
        )
    for name, count in Counter(band for band, _ in there).items():
        if count > 1 and name in names:
            listed_names = listed([given or "(unnamed)" for given in available])
            raise BandError(
                f"band {name}: {count} times in a file with {listed_names}; "
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
        f"the file has {len(available)} bands without names, and sensor {sensor.name} states "
        f"an order for {order}; name them in file order with data.file_bands"
    )


def _positions(sensor: Sensor, names: Sequence[str | None]) -> Iterator[tuple[str, int]]:
    """(the sensor's name, position) of every file band that is one of the sensor's."""
    positions = {
        band_key(word): band.name for band in sensor.bands for word in (band.name, *band.aliases)
    }
    for position, name in enumerate(names):
        if name and band_key(name) in positions:
            yield positions[band_key(name)], position


def to_reflectance(dn: np.ndarray, sensor: Sensor) -> np.ndarray:
    """Reflectance (no unit) of digital numbers of any shape: DN * scale + offset.

    Computed and returned in float32, or in float64 where the input needs it. The offset is
    subtracted in DN, so that float32 rounds nothing where it is a whole number of them.

    >>> to_reflectance(np.array([1000, 3500], np.uint16), SENSORS["sentinel2_l2a_n0400"])
    array([0.  , 0.25], dtype=float32)
    """
    dtype = np.result_type(dn.dtype, np.float32)
    zero_dn = dtype.type(sensor.zero_dn)
    return np.asarray((dn.astype(dtype) - zero_dn) * dtype.type(sensor.scale))


def rescaled(dn: np.ndarray, given: Sensor, wanted: Sensor) -> np.ndarray:
    """DN of one sensor as the DN another would show for the same reflectance.

    Args:
        dn: digital numbers, of any shape.
        given: sensor of the values.
        wanted: sensor to convert to; values are clipped to its `limits`.

    >>> l1c, drawn = SENSORS["sentinel2_l1c"], SENSORS["eurosat_rgb"]
    >>> rescaled(np.array([0, 2750, 9000], np.uint16), l1c, drawn).tolist()
    [1.0, 255.0, 255.0]
    """
    if (given.scale, given.offset) == (wanted.scale, wanted.offset):
        return dn
    reflectance = dn.astype(np.float64) * given.scale + given.offset
    numbers = (reflectance - wanted.offset) / wanted.scale
    if wanted.limits is not None:
        numbers = numbers.clip(*wanted.limits)
    return np.asarray(numbers, dtype=np.float32)


def describe_sensor(name: str | None = None) -> str:
    """A printable table: of one sensor's bands, or (None) of all sensors.

    Raises:
        DataError: no sensor of that name.

    >>> print(describe_sensor("rgb"))
    rgb: Plain 8-bit RGB (aerial photographs, screenshots, renderings)
    share of full scale = DN x 0.00392157 + 0; DN without data: none
    band    nm  px [m]  other names
    red    665       -  B04, B4, R
    green  560       -  B03, B3, G
    blue   490       -  B02, B2, B
    recognised in files: by a band's name or other name, as description or at the end of the name of
      a file of one band, such as scene_red.tif or scene_red_10m.tif
    order of bands in files that do not name them: red, green, blue
    source: 8-bit values as a share of full scale; nominal wavelengths
    """
    if name is None:
        return _all_sensors()
    sensor = get_sensor(name)
    rows = [("band", "nm", "px [m]", "other names")]
    rows += [
        (
            band.name,
            _number(band.wavelength_nm),
            _number(band.resolution_m),
            ", ".join(band.aliases),
        )
        for band in sensor.bands
    ]
    order = ", ".join(sensor.file_order) or "unknown; give data.file_bands"
    empty = "none" if sensor.nodata is None else f"{sensor.nodata:g}"
    return "\n".join(
        [
            f"{sensor.name}: {sensor.title}",
            f"{_measured(sensor)}; DN without data: {empty}",
            *aligned(rows, left=(0, 3)),
            *_recognised(sensor),
            f"order of bands in files that do not name them: {order}",
            f"source: {sensor.source}",
        ]
    )


def _all_sensors() -> str:
    rows = [("name", "bands", "scale", "offset", "no data", "title")]
    rows += [
        (s.name, str(len(s.bands)), f"{s.scale:g}", f"{s.offset:g}", _number(s.nodata), s.title)
        for s in SENSORS.values()
    ]
    note = (
        "value = DN x scale + offset; geotl sensors NAME lists bands, wavelengths and files.\n"
        "Set it with data.sensor=NAME; with another scale, offset or data type by "
        "data.sensor='{base: NAME, scale: 0.0001}';\nbands that none of these has are described "
        "under data.custom_sensor (docs/RECIPES.md)"
    )
    return "\n".join([*aligned(rows, left=(0, 5)), note])


def _recognised(sensor: Sensor) -> list[str]:
    """How files are known to hold the sensor's bands."""
    name = sensor.names[0]
    lines = [
        "recognised in files: by a band's name or other name, as description or at the end of the "
        "name of",
        f"  a file of one band, such as scene_{name}.tif or scene_{name}_10m.tif",
    ]
    if sensor.name in PRODUCTS:
        lines.append(f"recognised products: {PRODUCTS[sensor.name]}")
    if sensor.name.startswith(OF_GLS):
        lines.append("  or by Global Land Survey's numbers: scene_10.tif is B1, scene_nn61.tif B6")
    return lines


def _measured(sensor: Sensor) -> str:
    kind = "share of full scale" if sensor.measures == "share" else sensor.measures
    return (
        f"{kind} = DN x {sensor.scale:g} {'-' if sensor.offset < 0 else '+'} {abs(sensor.offset):g}"
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"
