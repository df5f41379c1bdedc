"""Images on disk read in parts, from any thread, with few files open at a time."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window

from geotl.arrays import Bools
from geotl.errors import DataError
from geotl.io.raster import Grid, RasterInfo, gdal, info_of, opened
from geotl.io.rasterpixels import pixels

_IDLE = 128  # data sets kept open while nobody reads them: a scene of 13 files, several threads
NOWHERE = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)  # GDAL's answer for a file that tells no position


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
            DataError: no such file, or one that is empty, cut short, damaged or not an image.
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
        """Close the file's idle data sets; reading again opens it anew."""
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
        """Begin anew, as a child process must: in its parent's data sets both would seek."""
        self._lock = threading.RLock()  # the garbage collector may call clear at any time
        self._idle: list[tuple[object, Any]] = []

    @contextlib.contextmanager
    def borrowed(self, key: object, path: Path) -> Iterator[Any]:
        source = self._taken(key)
        if source is None:
            if not path.exists():
                raise DataError(f"{path}: no such file any more; put it back")
            source = rasterio.open(path)
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
