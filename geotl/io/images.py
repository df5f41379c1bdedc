"""One image file, whatever its format: through GDAL, or through numpy for .npy arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geotl.errors import BandError, DataError
from geotl.io import raster
from geotl.io.raster import Grid, Raster, RasterInfo

ARRAYS = frozenset({".npy"})
SUFFIXES = frozenset({".tif", ".tiff", ".jpg", ".jpeg", ".png", ".jp2", ".j2k"}) | ARRAYS
_NOWHERE = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def describe(path: Path, *, band_count: int | None = None) -> RasterInfo:
    """Read a file's header; `band_count` as in `read`.

    Raises:
        DataError: no such file, an empty one, or one that is not an image of plain numbers.
        BandError: an array whose bands cannot be told from its rows and columns.
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
        DataError: no such file, or one that is empty, cut short, damaged, not an image of plain
            numbers, or pickled (nothing in it is run).
        BandError: an array whose bands cannot be told from its rows and columns.
    """
    if path.suffix.lower() in ARRAYS:
        data = np.array(_mapped(path, band_count))
        seen = np.isfinite(data) if data.dtype.kind == "f" else np.ones(data.shape, dtype=bool)
        return Raster(path, data, seen, _grid(data), (None,) * len(data), None, "none")
    image = raster.read(path, band_count=band_count)
    check_numbers(path, image.data.dtype)
    return image


def bands_first(shape: tuple[int, ...], band_count: int | None) -> tuple[int, ...]:
    """Order of the axes that brings an array to [C,H,W]; () for one that needs a first axis.

    Raises:
        BandError: the bands cannot be told from the rows and columns.

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
        held = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(
            f"{path}: cannot be read as an array ({_reason(error)}); it is cut short, damaged, "
            "pickled or of another format: save it anew with numpy.save"
        ) from error
    if not isinstance(held, np.ndarray):
        held.close()
        raise DataError(f"{path}: an archive of arrays; save one array with numpy.save")
    check_numbers(path, held.dtype)
    try:
        axes = bands_first(held.shape, band_count)
    except BandError as error:
        raise BandError(f"{path}: {error}") from error
    turned = held.transpose(axes) if axes else held[None]
    native: NDArray[Any] = turned.astype(held.dtype.newbyteorder("="), copy=False)
    return native


def _reason(error: Exception) -> str:
    told = " ".join(str(error).split())
    pickled = "pickle" in told or "Python objects" in told  # numpy's words for the two ways in
    return "it holds pickled objects, which are never loaded" if pickled else told[:120]


def _grid(data: NDArray[Any]) -> Grid:
    return Grid(None, _NOWHERE, data.shape[1], data.shape[2])


def check_numbers(path: Path, dtype: np.dtype[Any]) -> None:
    """Make sure that pixels are plain numbers.

    Raises:
        DataError: they are not.
    """
    if dtype.kind not in "iuf":
        raise DataError(f"{path}: pixels of type {dtype}; allowed: integers and floats")
