"""Tiles and scenes of one file a band, and the order of bands inside a file."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from geotl.errors import BandError, DataError, MissingBandError
from geotl.imagery.measurable import measurable
from geotl.imagery.sensor_table import listed
from geotl.imagery.sensors import OF_GLS, Sensor, known_band, match_bands
from geotl.imagery.windows import align, resample
from geotl.io.images import SUFFIXES, describe, read
from geotl.io.raster import Raster, RasterInfo

Image = TypeVar("Image", Raster, RasterInfo)
_MAX_WORDS = 3  # of a band's name, such as red_edge_1
_GLS = re.compile(r"(?:n[nt])?(?:([1-5]|7|8)0|6([012]))", re.IGNORECASE)
_RESOLUTION = re.compile(r"\d+m", re.IGNORECASE)


def band_in_name(stem: str, sensor: Sensor, *, numbers: bool = True) -> str | None:
    """The band a file's name ends with, by name or alias; a resolution such as 10m may follow.

    With `numbers`, Global Land Survey's band numbers are known too, of the sensors that it holds.

    >>> from geotl.imagery.sensors import SENSORS
    >>> l2a = SENSORS["sentinel2_l2a"]
    >>> [band_in_name(n, l2a) for n in ("S2A_75_43_B01", "T33UUU_B8A_20m", "x_narrow_nir", "mask")]
    ['B01', 'B8A', 'B8A', None]
    >>> [band_in_name(n, SENSORS["landsat7_toa"]) for n in ("lsat7_2000_40", "p016_nn61", "x_90")]
    ['B4', 'B6_VCID_1', None]
    """
    words = [word for word in re.split(r"[\s._\-]+", stem) if word]
    if len(words) > 1 and _RESOLUTION.fullmatch(words[-1]):
        words.pop()
    for count in range(min(_MAX_WORDS, len(words)), 0, -1):
        band = known_band(sensor, "".join(words[-count:]))
        if band is not None:
            return band
    return _numbered(words[-1], sensor) if words and numbers else None


def _numbered(word: str, sensor: Sensor) -> str | None:
    """The band of a Global Land Survey number: 10 is B1, 61 and 62 are ETM+'s two of B6."""
    match = _GLS.fullmatch(word) if sensor.name.startswith(OF_GLS) else None
    if match is None:
        return None
    if match[1]:
        return known_band(sensor, f"B{match[1]}")
    return known_band(sensor, "B6" if match[2] == "0" else f"B6_VCID_{match[2]}")


def is_band_folder(folder: Path, sensor: Sensor) -> bool:
    """Whether a folder is a tile: its file names give two or more bands, or it has only one file.

    Names of one letter (r, g, b) count only where every image in the folder ends with a band, and
    mere numbers never: tiles have such names too.
    """
    images = images_in(folder)
    bands = {path: band_in_name(path.stem, sensor, numbers=False) for path in images}
    with_band = {path: band for path, band in bands.items() if band is not None}
    letters = any(re.search(r"(?:^|[\s._\-])[A-Za-z]$", path.stem) for path in with_band)
    if letters and len(with_band) < len(images):
        return False
    return len(set(with_band.values())) >= 2 or len(with_band) == len(images) == 1


def images_in(folder: Path) -> list[Path]:
    """The image files directly in a folder, sorted; hidden ones are left out."""
    return sorted(path for path in folder.iterdir() if is_image(path))


def is_image(path: Path) -> bool:
    """Whether a path is an image file by its ending, and not hidden."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def describe_folder(folder: Path, sensor: Sensor, bands: Sequence[str]) -> RasterInfo:
    """Header information of a tile's band files, on the grid of the finest band wanted.

    Raises:
        DataError: a file that cannot be read, or that covers another area than the finest.
        BandError: a band without a file, or with two, or a file with several bands.
    """
    infos = _opened(folder, sensor, bands, describe)
    finest = finest_of(folder, infos)
    dates = [info.acquired for info in infos if info.acquired]
    return RasterInfo(
        path=folder,
        driver="folder",
        dtype=np.result_type(*(info.dtype for info in infos)),
        grid=finest.grid,
        band_names=sensor.canonical(bands),
        names_from="descriptions",
        nodata=tuple(info.nodata[0] for info in infos),
        acquired=dates[0] if dates else None,
    )


def read_folder(folder: Path, sensor: Sensor, bands: Sequence[str]) -> Raster:
    """Read the band files wanted onto the grid of the finest of them: see `windows.resample`.

    Pixels of the sensor's nodata value are taken out before they could bleed into others.

    Raises:
        DataError: as `describe_folder`.
        BandError: as `describe_folder`.
    """
    images = _opened(folder, sensor, bands, read)
    finest = finest_of(folder, images)
    planes = []
    for band, image in zip(sensor.canonical(bands), images, strict=True):
        ends = measurable(sensor, [band])
        data, valid = (part[0] for part in ends.measured(image.data[:1], image.valid[:1]))
        if image.grid != finest.grid:
            data, valid = resample(data, valid, *align(finest.grid, image.grid))
        planes.append((data, valid))
    dates = [image.acquired for image in images if image.acquired]
    return Raster(
        path=folder,
        data=np.stack([data for data, _ in planes]),  # in a type that fits all values
        valid=np.stack([valid for _, valid in planes]),
        grid=finest.grid,
        band_names=sensor.canonical(bands),
        acquired=dates[0] if dates else None,
    )


def _opened(
    folder: Path, sensor: Sensor, bands: Sequence[str], read: Callable[..., Image]
) -> list[Image]:
    """Result of `describe` or `read` for each wanted band's file, in the order wanted."""
    files = band_files(folder, images_in(folder), sensor, bands)
    opened = []
    for band in sensor.canonical(bands):
        info = read(files[band], band_count=1)
        check_band(info, sensor, band)
        opened.append(info)
    return opened


def check_band(info: Raster | RasterInfo, sensor: Sensor, band: str) -> None:
    """Make sure that a file has one band, and does not describe it as another one.

    Raises:
        BandError: it has several bands, or another one.
    """
    if len(info.band_names) != 1:
        raise BandError(
            f"{info.path}: has {len(info.band_names)} bands; each file of the folder of "
            "a tile or scene must have one: split it, or remove the other files"
        )
    stated = known_band(sensor, info.band_names[0]) if info.band_names[0] else None
    if stated not in (None, band) and info.names_from == "descriptions":
        raise BandError(
            f"{info.path}: named as band {band}, but described inside as {stated}; correct one"
        )


def band_files(
    folder: Path, images: Sequence[Path], sensor: Sensor, bands: Sequence[str]
) -> dict[str, Path]:
    """The file of each band wanted: by file name, or else by its band description.

    Of files whose names differ in nothing but a resolution, such as B02_10m and B02_20m, it is
    the finest.

    Raises:
        BandError: a band without a file, or with several.
    """
    wanted = sensor.canonical(bands)
    named = [(band_in_name(path.stem, sensor), path) for path in images]
    if not set(wanted) <= {band for band, _ in named}:
        named = [(band or _described(path, sensor), path) for band, path in named]
    files_of = {
        band: finest_named([path for name, path in named if name == band]) for band in wanted
    }
    rule = (
        "the folder of a tile or scene needs one file for each band, its name ending with the "
        "band's, such as _B02.tif"
    )
    missing = [band for band, mine in files_of.items() if not mine]
    if missing:
        file_names = ", ".join(path.name for path in images) or "no images"
        raise MissingBandError(
            f"{folder}: band {listed(missing)}: not in {file_names}; {rule} (choose bands with "
            "data.bands)",
            missing,
            folder,
        )
    for band, mine in files_of.items():
        if len(mine) > 1:
            names = ", ".join(path.name for path in mine)
            raise BandError(f"{folder}: band {band}: in {len(mine)} files ({names}); {rule}")
    return {band: mine[0] for band, mine in files_of.items()}


def finest_named(paths: Sequence[Path]) -> list[Path]:
    """Files, and of those whose names differ in a last word such as 20m only the finest.

    >>> [p.name for p in finest_named([Path("a_B02_20m.jp2"), Path("a_B02_10m.jp2")])]
    ['a_B02_10m.jp2']
    """
    finest: dict[str, tuple[float, Path]] = {}
    for path in paths:
        plain, _, last = path.stem.rpartition("_")
        match = _RESOLUTION.fullmatch(last)
        key = plain + path.suffix if match else path.name
        metres = int(last[:-1]) if match else float("inf")
        if not match or key not in finest or metres < finest[key][0]:
            finest[str(path) if not match else key] = metres, path
    return [path for _, path in finest.values()]


def _described(path: Path, sensor: Sensor) -> str | None:
    """The band in a file's description, if it has just one and the sensor has it."""
    if path.suffix.lower() == ".npy":
        return None
    info = describe(path)
    name = info.band_names[0] if len(info.band_names) == 1 else None
    return known_band(sensor, name) if name and info.names_from == "descriptions" else None


def finest_of(folder: Path, infos: Sequence[Image]) -> Image:
    """The image with the most pixels; every other must cover the same area.

    Raises:
        DataError: one does not.
    """
    finest = max(infos, key=lambda info: info.grid.height * info.grid.width)
    for info in infos:
        try:
            align(finest.grid, info.grid)
        except DataError as error:
            raise DataError(f"{folder}: {info.path.name} {error}") from error
    return finest


def band_positions(
    image: Raster | RasterInfo,
    sensor: Sensor,
    bands: Sequence[str],
    file_bands: Sequence[str] | None,
) -> tuple[int, ...]:
    """Positions of the bands in a file.

    The file's own descriptions come first if the sensor knows some of them and none is there
    twice, then the order the user gave, then colours and the sensor's own order.
    """
    described = image.names_from == "descriptions"
    order = tuple(file_bands) if file_bands else None
    try:
        return _matched(sensor, image.band_names, described, tuple(bands), order)
    except MissingBandError as error:
        raise MissingBandError(f"{image.path}: {error}", error.bands, image.path) from error
    except BandError as error:
        raise BandError(f"{image.path}: {error}") from error


@functools.lru_cache(maxsize=256)  # thousands of tiles have the same band names
def _matched(
    sensor: Sensor,
    descriptions: tuple[str | None, ...],
    described: bool,
    bands: tuple[str, ...],
    file_bands: tuple[str, ...] | None,
) -> tuple[int, ...]:
    bands_named = [band for name in descriptions if name and (band := known_band(sensor, name))]
    by_description = described and 0 < len(bands_named) == len(set(bands_named))
    if file_bands is None or by_description:
        return match_bands(
            sensor, descriptions if described else _completed(sensor, descriptions), bands
        )
    if len(file_bands) != len(descriptions):
        raise BandError(
            f"has {len(descriptions)} bands, but data.file_bands names {len(file_bands)}; name "
            "every "
            "band of the file in its order"
        )
    return match_bands(sensor, file_bands, bands)


def _completed(sensor: Sensor, colours: tuple[str | None, ...]) -> tuple[str | None, ...]:
    """A file's colours, or the sensor's stated order where that agrees with them and adds names.

    >>> from geotl.imagery.sensors import SENSORS
    >>> _completed(SENSORS["naip"], ("red", "green", "blue", None))
    ('red', 'green', 'blue', 'nir')
    >>> _completed(SENSORS["naip"], ("blue", "green", "red", None))
    ('blue', 'green', 'red', None)
    """
    order = sensor.file_order
    if len(order) != len(colours):
        return colours
    colours_known = [(known_band(sensor, c), o) for c, o in zip(colours, order, strict=True) if c]
    agree = all(colour in (None, known_band(sensor, stated)) for colour, stated in colours_known)
    return order if agree else colours
