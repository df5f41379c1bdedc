"""Any image file, by GDAL or numpy, whole or by windows from any thread."""

from __future__ import annotations

import contextlib
import math
import os
import threading
import tokenize
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from geotl.arrays import Bools
from geotl.errors import BandError, DataError
from geotl.io import raster
from geotl.io.header_limits import check_bands, check_whole
from geotl.io.raster import Grid, Raster, RasterInfo, gdal, info_of, open_pinned, opened, pixels

ARRAYS = frozenset({".npy"})
SUFFIXES = frozenset({".tif", ".tiff", ".jpg", ".jpeg", ".png", ".jp2", ".j2k"}) | ARRAYS
_IDLE = 128  # data sets kept open while nobody reads them: a scene of 13 files, several threads
NOWHERE = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)  # GDAL's answer for a file that tells no position


def describe(path: Path, *, band_count: int | None = None) -> RasterInfo:
    """Read a file's header; `band_count` as in `read`.

    Raises:
        DataError: no such file, an empty one, or one that is not an image of plain numbers.
        BandError: an array with bands that cannot be distinguished from its rows and columns.
    """
    if path.suffix.lower() in ARRAYS:
        data = _mapped(path, band_count)
        return RasterInfo(
            path,
            "NPY",
            data.dtype,
            _grid(data),
            (None,) * len(data),
            "none",
            (None,) * len(data),
            None,
        )
    info = raster.describe(path, band_count=band_count)
    check_numbers(path, info.dtype)
    return info


def read(path: Path, *, band_count: int | None = None) -> Raster:
    """Read a file whole, with its validity.

    An array names no bands and lies nowhere; its NaN and infinite values are not valid.

    Args:
        path: the file.
        band_count: number of bands it is known to hold. An array of two axes is one band; of
            three axes, the first or the last holds the bands: the one of this length.

    Raises:
        DataError: no such file, or one that is empty, truncated, damaged, not an image of plain
            numbers, or pickled (nothing in it is run).
        BandError: an array with bands that cannot be distinguished from its rows and columns.
    """
    if path.suffix.lower() in ARRAYS:
        mapped = _mapped(path, band_count)
        check_whole(path, mapped.shape)
        data = np.array(mapped)
        seen = np.isfinite(data) if data.dtype.kind == "f" else np.ones(data.shape, dtype=bool)
        return Raster(path, data, seen, _grid(data), (None,) * len(data), None, "none")
    image = raster.read(path, band_count=band_count)
    check_numbers(path, image.data.dtype)
    return image


def bands_first(shape: tuple[int, ...], band_count: int | None) -> tuple[int, ...]:
    """Order of the axes that brings an array to [C,H,W]; () for one that needs a first axis.

    Raises:
        BandError: the bands cannot be distinguished from the rows and columns.

    >>> bands_first((3, 64, 64), 3), bands_first((64, 64, 3), 3), bands_first((64, 64), 1)
    ((0, 1, 2), (2, 0, 1), ())
    """
    if len(shape) not in (2, 3) or 0 in shape:
        raise BandError(
            f"an array of shape {list(shape)}; allowed: [bands, rows, columns], [rows, columns] "
            "or [rows, columns, bands]"
        )
    if band_count is None:
        raise BandError("an array names no bands; name them in order with data.file_bands")
    fits = (shape[0] == band_count, shape[-1] == band_count)
    if len(shape) == 2 and band_count == 1:
        return ()
    if len(shape) == 3 and fits == (True, False):
        return 0, 1, 2
    if len(shape) == 3 and fits == (False, True):
        return 2, 0, 1
    many = "more than one axis" if all(fits) and len(shape) == 3 else "no axis"
    raise BandError(
        f"an array of shape {list(shape)}, with {many} of {band_count} bands; save it as [bands, "
        "rows, columns], or name its bands with data.file_bands"
    )


def _mapped(path: Path, band_count: int | None) -> NDArray[Any]:
    """An array file as [C,H,W], in the machine's byte order, mapped from disk."""
    raster.check_file(path)
    try:
        _check_header(path)
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError, TypeError, SyntaxError, OverflowError) as error:
        raise DataError(
            f"{path}: cannot be read as an array ({_reason(error)}); it is truncated, damaged, "
            "pickled or of another format: save it again with numpy.save"
        ) from error
    if isinstance(array, np.ndarray) and array.ndim == 3:
        check_bands(path, min(array.shape[0], array.shape[-1]))
    if not isinstance(array, np.ndarray):
        array.close()
        raise DataError(f"{path}: an archive of arrays; save one array with numpy.save")
    check_numbers(path, array.dtype)
    try:
        axes = bands_first(array.shape, band_count)
    except BandError as error:
        raise BandError(f"{path}: {error}") from error
    turned = array.transpose(axes) if axes else array[None]
    native: NDArray[Any] = turned.astype(array.dtype.newbyteorder("="), copy=False)
    return native


def _check_header(path: Path) -> None:
    """Look at what an array file says of itself before anything is mapped.

    Raises:
        ValueError: it cannot be so.
    """
    with path.open("rb") as stream:
        if stream.read(6) != np.lib.format.MAGIC_PREFIX:
            return  # np.load tells what it is instead
        stream.seek(0)
        version = np.lib.format.read_magic(stream)
        readers = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        if version not in readers:
            raise ValueError(f"version {version[0]}.{version[1]} of the format")
        try:
            shape, _, dtype = readers[version](stream)
        except tokenize.TokenError as error:  # numpy takes it for one of old Python's headers
            raise ValueError("a header that ends too soon") from error
        if dtype.hasobject:
            raise ValueError("Python objects")
        there = path.stat().st_size - stream.tell()
    if any(side < 0 for side in shape) or math.prod(shape) * dtype.itemsize != there:
        raise ValueError(f"its header states {shape} values of {dtype}, it holds {there} bytes")


def _reason(error: Exception) -> str:
    reason = " ".join(str(error).split())
    pickled = "pickle" in reason or "Python objects" in reason  # numpy's words for the two ways in
    return "it holds pickled objects, which are never loaded" if pickled else reason[:120]


def _grid(data: NDArray[Any]) -> Grid:
    return Grid(None, NOWHERE, data.shape[1], data.shape[2])


def check_numbers(path: Path, dtype: np.dtype[Any]) -> None:
    """Make sure that pixels are plain numbers.

    Raises:
        DataError: they are not.
    """
    if dtype.kind not in "iuf":
        raise DataError(f"{path}: pixels of type {dtype}; allowed: integers and floats")


class WindowReader:
    """A file read window by window; many threads may call it at once.

    Row 0 is always the northernmost: a file stored south-up is turned over while it is read.

    Attributes:
        path: the file.
        info: what its header says; the grid is north-up.
    """

    def __init__(self, path: Path, *, band_count: int | None = None) -> None:
        """Look at the header; `band_count` as in `raster.describe`.

        Raises:
            DataError: no such file, or one that is empty, truncated, damaged or not an image.
        """
        with opened(path) as source:
            info = info_of(source, path, band_count)
        self.path = path
        self._stored = info
        placed = info.grid.crs is not None and info.grid.transform != NOWHERE
        self._south_up = placed and info.grid.transform[4] > 0
        self.info = _turned(info) if self._south_up else info
        self._key = object()
        weakref.finalize(self, _SHELF.clear, self._key)

    def read(
        self,
        rows: tuple[int, int],
        columns: tuple[int, int],
        positions: Sequence[int] | None = None,
        shape: tuple[int, int] | None = None,
    ) -> tuple[NDArray[Any], Bools]:
        """Pixels and validity [C,h,w] of rows and columns (from, to) inside the image.

        `positions` are those of bands among `info.band_names`; None for all. `shape` asks for
        fewer rows and columns, taken from the nearest pixels or from the file's overviews.

        Raises:
            DataError: the file is damaged or gone.
        """
        info, (top, bottom) = self._stored, rows
        if self._south_up:
            top, bottom = info.grid.height - bottom, info.grid.height - top
        window = Window(columns[0], top, columns[1] - columns[0], bottom - top)
        with gdal(self.path), _SHELF.borrowed(self._key, self.path) as source:
            data, valid = pixels(
                source, info.alpha, positions, window, paletted=info.paletted, shape=shape
            )
        return (data[:, ::-1], valid[:, ::-1]) if self._south_up else (data, valid)

    def close(self) -> None:
        """Close the file's idle data sets; reading again opens it again."""
        _SHELF.clear(self._key)


def _turned(info: RasterInfo) -> RasterInfo:
    """The header of a south-up image as it is once turned over."""
    a, b, c, d, e, f = info.grid.transform
    height = info.grid.height
    place = (a, -b, c + b * height, d, -e, f + e * height)
    grid = Grid(info.grid.crs, place, height, info.grid.width)
    return RasterInfo(**{**vars(info), "grid": grid})


class _Shelf:
    """Open data sets: each is used by one thread at a time, and the longest idle is closed."""

    def __init__(self) -> None:
        self._empty()
        os.register_at_fork(after_in_child=self._empty)

    def _empty(self) -> None:
        """Begin again, as a child process must: in its parent's data sets both would seek."""
        self._lock = threading.RLock()  # the garbage collector may call clear at any time
        self._idle: list[tuple[object, Any]] = []

    @contextlib.contextmanager
    def borrowed(self, key: object, path: Path) -> Iterator[Any]:
        source = self._taken(key)
        if source is None:
            if not path.exists():
                raise DataError(f"{path}: no such file any more; put it back")
            source = open_pinned(path)
        yield source  # after an error it is left to be closed with the last reference
        self._put_back(key, source)

    def _taken(self, key: object) -> Any:
        with self._lock:
            entry = next((entry for entry in reversed(self._idle) if entry[0] is key), None)
            if entry is not None:
                self._idle.remove(entry)
        return entry and entry[1]

    def _put_back(self, key: object, source: Any) -> None:
        with self._lock:
            self._idle.append((key, source))
            extra, self._idle = self._idle[:-_IDLE], self._idle[-_IDLE:]
        for _, old in extra:
            old.close()

    def clear(self, key: object) -> None:
        with self._lock:
            mine = [source for owner, source in self._idle if owner is key]
            self._idle = [entry for entry in self._idle if entry[0] is not key]
        for source in mine:
            source.close()


_SHELF = _Shelf()
