"""Rasters: grid, pixels, validity and metadata, read, described and written."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import re
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader, MemoryFile
from rasterio.transform import Affine

from geotl.arrays import Bools, UInt8s
from geotl.errors import DataError
from geotl.io.drivers import OFFLINE, raster_drivers
from geotl.io.files import whole_file
from geotl.io.header_limits import check_bands, check_whole
from geotl.io.integrity import check_jpeg2000, check_png

NamesFrom = Literal["descriptions", "colours", "none"]
# libjpeg only warns of a file truncated and leaves the rest grey: here that is an error.
# A VRT may hold Python code: it is never run.
_GDAL: dict[str, Any] = {
    "GDAL_ERROR_ON_LIBJPEG_WARNING": "TRUE",
    "GDAL_VRT_ENABLE_PYTHON": "NO",
    **OFFLINE,
}
if "GDAL_CACHEMAX" not in os.environ:  # bytes of decoded blocks: a row of a product's inner tiles
    _GDAL["GDAL_CACHEMAX"] = 256 << 20
_INSIDE = threading.local()
_PICTURES = ("JPEG", "PNG", "GIF", "WEBP")
_PALETTED = ("PNG", "GIF")
_JPEG2000 = (".jp2", ".j2k")
_ACQUIRED_TAGS = (
    "acquired",
    "acquisition_date",
    "acquisitiondatetime",
    "date_acquired",
    "sensing_time",
    "datetime",
    "exif_datetimeoriginal",
    "tifftag_datetime",
)


def pixels(
    source: Any,
    alpha: int | None,
    positions: Sequence[int] | None = None,
    window: Any = None,
    *,
    paletted: bool = False,
    shape: tuple[int, int] | None = None,
) -> tuple[NDArray[Any], Bools]:
    """Bands of an open data set and their validity, both [C,h,w].

    Args:
        source: the data set.
        alpha: the alpha band, counted from 1, if it has one.
        positions: of the bands wanted among those that are not alpha, from 0; None for all.
        window: rasterio's, inside the image; None for all of it.
        paletted: the one band holds indices into a colour table, and its colours are meant.
        shape: rows and columns wanted, the nearest pixels of overviews where there are any; None
            for the pixels as they are.
    """
    bands = [b for b in range(1, source.count + 1) if b != alpha]
    if positions is not None and not paletted:
        bands = [bands[position] for position in positions]
    # One by one: rasterio reads no bands of several types, as a VRT may hold them, at once.
    mixed = len(set(source.dtypes)) > 1
    data = (
        np.stack([source.read(band, window=window, out_shape=shape) for band in bands])
        if mixed
        else source.read(bands, window=window, out_shape=shape and (len(bands), *shape))
    )
    valid = _validity(source, data, bands, alpha, window)
    if paletted:
        data, valid = _through_palette(data[0], valid[0], source.colormap(1))
        if positions is not None:
            data, valid = data[list(positions)], valid[list(positions)]
    return data, valid


def _validity(
    source: Any, data: NDArray[Any], bands: Sequence[int], alpha: int | None, window: Any
) -> Bools:
    """Every reason for which a pixel may not count: GDAL itself looks at the first one only."""
    shape = data.shape[1:]
    valid = np.ones(data.shape, dtype=bool)
    for i, band in enumerate(bands):
        flags, nodata = source.mask_flag_enums[band - 1], source.nodatavals[band - 1]
        if MaskFlags.all_valid not in flags and MaskFlags.alpha not in flags:
            valid[i] &= source.read_masks(band, window=window, out_shape=shape) > 0
        if nodata is not None and not math.isnan(nodata):
            valid[i] &= data[i] != nodata
    if alpha is not None:
        valid &= source.read(alpha, window=window, out_shape=shape) > 0
    if data.dtype.kind in "fc":
        valid &= np.isfinite(data)
    return valid


def _through_palette(
    indices: NDArray[Any], valid: Bools, palette: Mapping[int, tuple[int, ...]]
) -> tuple[UInt8s, Bools]:
    """Colours [3,H,W] of palette indices [H,W]; transparent entries are not valid."""
    table = np.zeros((256, 4), dtype=np.uint8)
    for index, colour in palette.items():
        table[index] = colour
    colours = table[indices]
    seen = valid & (colours[..., 3] > 0)
    return np.moveaxis(colours[..., :3], -1, 0).copy(), np.repeat(seen[None], 3, axis=0)


@dataclass(frozen=True)
class Grid:
    """Where the pixels of an image lie.

    Attributes:
        crs: coordinate reference system such as `EPSG:32633`, or as WKT; None if not known.
        transform: a, b, c, d, e, f of x = a col + b row + c, y = d col + e row + f, from the
            upper left corner of the upper left pixel, in units of the CRS.
        height: rows.
        width: columns.
    """

    crs: str | None
    transform: tuple[float, float, float, float, float, float]
    height: int
    width: int

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, bottom, right, top in units of the CRS.

        >>> Grid("EPSG:32633", (10.0, 0.0, 500000.0, 0.0, -10.0, 4600000.0), 64, 32).bounds
        (500000.0, 4599360.0, 500320.0, 4600000.0)
        """
        corners = [(0, 0), (self.width, 0), (0, self.height), (self.width, self.height)]
        xs, ys = zip(*(self.at(col, row) for col, row in corners), strict=True)
        return min(xs), min(ys), max(xs), max(ys)

    @property
    def centre(self) -> tuple[float, float]:
        """Position (x, y) of the middle, in units of the CRS."""
        return self.at(self.width / 2, self.height / 2)

    @property
    def resolution(self) -> tuple[float, float]:
        """Width and height of a pixel, in units of the CRS.

        >>> Grid(None, (10.0, 0.0, 0.0, 0.0, -20.0, 0.0), 1, 1).resolution
        (10.0, 20.0)
        """
        a, b, _, d, e, _ = self.transform
        return math.hypot(a, d), math.hypot(b, e)

    def at(self, col: float, row: float) -> tuple[float, float]:
        """Position (x, y) of a place given in columns and rows (0, 0 is the upper left corner)."""
        a, b, c, d, e, f = self.transform
        return a * col + b * row + c, d * col + e * row + f


@dataclass(frozen=True)
class RasterInfo:
    """What an image's header says; no pixels.

    Attributes:
        path: the file.
        driver: GDAL's name of the format.
        dtype: type of the pixels.
        grid: where they lie.
        band_names: one for each band but alpha; None where the file gives no name.
        names_from: whether the names are the file's descriptions or only its colours.
        nodata: declared value that marks no data, one for each band.
        acquired: date of acquisition as YYYY-MM-DD, if the tags state it.
        alpha: position of the alpha band, counted from 1, which becomes validity.
        paletted: one band of indices into a colour table, read as its colours.
        scaling: (scale, offset) that the file declares for each band; () where it cannot.
        overviews: how many pixels one of each overview spans along a side, from fine to coarse.
    """

    path: Path
    driver: str
    dtype: np.dtype[Any]
    grid: Grid
    band_names: tuple[str | None, ...]
    names_from: NamesFrom
    nodata: tuple[float | None, ...]
    acquired: str | None
    alpha: int | None = None
    paletted: bool = False
    scaling: tuple[tuple[float, float], ...] = ()
    overviews: tuple[int, ...] = ()


@dataclass(frozen=True)
class Raster:
    """An image in memory.

    Attributes:
        path: the file it came from.
        data: pixels [C,H,W] in their native type.
        valid: bool [C,H,W]; False at nodata, at NaN and infinity, under masks and alpha 0.
        grid: where the pixels lie.
        band_names: one for each band, None where the file gives no name.
        acquired: date of acquisition as YYYY-MM-DD, if the tags state it.
        names_from: whether the names are the file's descriptions or only its colours.
    """

    path: Path
    data: NDArray[Any]
    valid: Bools
    grid: Grid
    band_names: tuple[str | None, ...]
    acquired: str | None = None
    names_from: NamesFrom = "descriptions"


def describe(path: str | Path, *, band_count: int | None = None) -> RasterInfo:
    """Read an image's header.

    Args:
        path: the file.
        band_count: number of bands it is known to hold, if it is. GDAL's writers flag the fourth
            of four 8-bit bands as alpha; where it makes up this number it is a band like others.

    Raises:
        DataError: no such file, an empty one, or one that is not an image.
    """
    with opened(Path(path)) as source:
        return info_of(source, Path(path), band_count)


def read(path: str | Path, *, band_count: int | None = None) -> Raster:
    """Read an image whole, with its validity; `band_count` as in `describe`.

    Raises:
        DataError: no such file, or one that is empty, truncated, damaged or not an image.
    """
    path = Path(path)
    with opened(path) as source:
        check_whole(path, (source.count, source.height, source.width))
        info = info_of(source, path, band_count)
        if info.driver == "PNG":
            check_png(path)
        data, valid = pixels(source, info.alpha, paletted=info.paletted)
    return Raster(path, data, valid, info.grid, info.band_names, info.acquired, info.names_from)


@functools.lru_cache(maxsize=64)
def known_crs(text: str) -> str:
    """A coordinate reference system's name as `Grid.crs` gives it.

    Raises:
        DataError: PROJ knows no such system.

    >>> known_crs("urn:ogc:def:crs:EPSG::32633")
    'EPSG:32633'
    """
    try:
        return str(CRS.from_user_input(text).to_string())
    except (CRSError, ValueError) as error:
        raise DataError(
            f"crs {text!r}: not a known reference system; allowed: such as EPSG:32633"
        ) from error


def write(
    path: str | Path,
    data: NDArray[Any],
    grid: Grid,
    band_names: Sequence[str | None] = (),
    nodata: float | None = None,
    *,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Write [C,H,W] as a compressed GeoTIFF with band names, whole or not at all.

    Raises:
        DataError: data, grid and names do not agree.
        OutputError: the folder cannot be written, or the disk is full.
    """
    path = Path(path)
    if data.ndim != 3 or data.shape[1:] != (grid.height, grid.width):
        raise DataError(
            f"{path}: an array of shape {data.shape} does not fit a grid of {grid.height} rows and "
            f"{grid.width} columns; give [bands, rows, columns]"
        )
    if band_names and len(band_names) != len(data):
        raise DataError(f"{path}: {len(band_names)} names for {len(data)} bands; give one for each")
    _hush()
    # Through memory: when the disk fills up as GDAL closes a file, it says nothing.
    with MemoryFile() as memory:
        with memory.open(**_profile(data, grid, nodata)) as to:
            to.write(data)
            if band_names:
                to.descriptions = tuple(name or "" for name in band_names)
            to.update_tags(**(tags or {}))
        with whole_file(path) as part:
            part.write_bytes(memory.getbuffer())


def _profile(data: NDArray[Any], grid: Grid, nodata: float | None) -> dict[str, Any]:
    return {
        "driver": "GTiff",
        "count": data.shape[0],
        "height": grid.height,
        "width": grid.width,
        "dtype": data.dtype.name,
        "crs": grid.crs,
        "transform": Affine(*grid.transform),
        "nodata": nodata,
        "compress": "deflate",
        # Without this, GDAL calls three bytes RGB and a fourth alpha, whatever they are.
        "photometric": "minisblack",
    }


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A file's open GDAL data set, after a look at whether it is whole.

    Raises:
        DataError: no such file, or one that is empty, truncated, damaged or not an image.
    """
    check_file(path)
    if path.suffix.lower() in _JPEG2000:
        check_jpeg2000(path)
    _hush()
    with gdal(path), open_pinned(path) as source:
        check_bands(path, source.count)
        if source.count == 0:
            raise DataError(f"{path}: holds no bands of its own; give one of its subdatasets")
        yield source


def open_pinned(path: Path) -> Any:
    """An open GDAL data set of the format that the file's name ends in, inside `gdal`.

    Raises:
        DataError: a virtual raster that names files it may not.
        RasterioError: GDAL cannot read it as such.
    """
    return DatasetReader(path, driver=raster_drivers(path))  # rasterio.open takes one driver


@contextlib.contextmanager
def gdal_settings() -> Iterator[None]:
    """GDAL as it is set here, in this thread; within another such block it costs nothing."""
    if getattr(_INSIDE, "on", False):
        yield
        return
    with rasterio.Env(**_GDAL):
        _INSIDE.on = True
        try:
            yield
        finally:
            _INSIDE.on = False


@contextlib.contextmanager
def gdal(path: Path) -> Iterator[None]:
    """GDAL as it is set here, for work on a file that its errors name.

    Raises:
        DataError: GDAL cannot read the file.
    """
    try:
        with gdal_settings():
            yield
    except UnicodeEncodeError as error:
        raise DataError(f"{path}: GDAL reads no name that is not UTF-8; rename it") from error
    except (CPLE_BaseError, RasterioError) as error:
        reason = " ".join(str(error.__cause__ or error).replace(str(path), "the file").split())
        raise DataError(
            f"{path}: cannot be read as an image ({reason}); it is truncated, damaged or of "
            "another format: copy it again, or take it out"
        ) from error


def check_file(path: Path) -> None:
    """Make sure that a path is a file that is not empty.

    Raises:
        DataError: it is not.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file; check the path")
    if path.is_dir():
        raise DataError(f"{path}: a folder, not an image; name a file in it")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty (0 bytes); copy it again, or take it out")


def _hush() -> None:
    """Silence rasterio's warning about images without a place.

    JPEG and PNG tiles have none, as `Grid.crs` tells. The filter is set for good, not in
    `warnings.catch_warnings`, which is not safe while several threads read.
    """
    if not any(entry[2] is NotGeoreferencedWarning for entry in warnings.filters):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)


def info_of(source: Any, path: Path, band_count: int | None = None) -> RasterInfo:
    """What an open data set's header says; `band_count` as in `describe`."""
    alpha = None if band_count == source.count else _alpha(source)
    paletted = source.driver in _PALETTED and source.colorinterp[0] == ColorInterp.palette
    names, names_from = _names(source, alpha, paletted)
    crs = source.crs.to_string() if source.crs else None
    place = tuple(float(v) for v in source.transform[:6])
    return RasterInfo(
        path=path,
        driver=source.driver,
        dtype=np.dtype("uint8" if paletted else np.result_type(*source.dtypes)),
        grid=Grid(crs, place, source.height, source.width),  # type: ignore[arg-type]
        band_names=names,
        names_from=names_from,
        nodata=tuple(v for b, v in enumerate(source.nodatavals, 1) if b != alpha),
        scaling=tuple(
            (source.scales[b], source.offsets[b]) for b in range(source.count) if b + 1 != alpha
        ),
        acquired=_acquired(source.tags()),
        alpha=alpha,
        paletted=paletted,
        overviews=tuple(source.overviews(1)),
    )


def _alpha(source: Any) -> int | None:
    """Position of the alpha band; one with a name of its own is a band wrongly flagged."""
    for band, (colour, name) in enumerate(
        zip(source.colorinterp, source.descriptions, strict=True), 1
    ):
        if (
            colour == ColorInterp.alpha
            and source.count > 1
            and (name or "alpha").lower() == "alpha"
        ):
            return band
    return None


def _names(
    source: Any, alpha: int | None, paletted: bool
) -> tuple[tuple[str | None, ...], NamesFrom]:
    if paletted:
        return ("red", "green", "blue"), "colours"
    keep = [b for b in range(source.count) if b + 1 != alpha]
    described = tuple((source.descriptions[b] or "").strip() or None for b in keep)
    if any(described):
        return described, "descriptions"
    colours = [source.colorinterp[b] for b in keep]
    named = [ColorInterp.red, ColorInterp.green, ColorInterp.blue]
    if source.driver in _PICTURES:
        named.append(ColorInterp.gray)  # in a GeoTIFF the first band is grey unless stated
    if all(c in named for c in colours[:3]) and len(set(colours)) == len(colours):
        return tuple(c.name if c in named else None for c in colours), "colours"
    return described, "none"


def _acquired(tags: Mapping[str, str]) -> str | None:
    """The first date among the tags for the time when an image was taken.

    >>> _acquired({"TIFFTAG_DATETIME": "2017:02:16 10:21:01"})
    '2017-02-16'
    """
    lower = {key.lower(): value for key, value in tags.items()}
    for key in _ACQUIRED_TAGS:
        match = re.match(r"\s*(\d{4})[-:/]?(\d{2})[-:/]?(\d{2})", lower.get(key, ""))
        if match and match[1] != "0000":
            return "-".join(match.groups())
    return None
