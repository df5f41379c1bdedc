"""Images brought to one shape: the bands wanted in the order wanted, and one tile size."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from geotl.arrays import Bools, Pixels
from geotl.errors import DataError
from geotl.imagery import band_files
from geotl.imagery.band_files import band_positions
from geotl.imagery.measurable import measurable
from geotl.imagery.sensors import Sensor
from geotl.io import images
from geotl.io.raster import Raster, RasterInfo

Fit = Literal["pad_or_crop", "resize"]
_READERS = 4
In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True)
class TileReading:
    """Options to read image files as tiles.

    Attributes:
        bands: names of the bands to keep, in order; None for all of the sensor's.
        file_bands: names in file order, for files that name none.
        tile_px: side of the tiles in pixels; None for the most common one.
        fit: centre a tile of another size (invalid padding around, or a crop), or resample it.
    """

    bands: Sequence[str] | None = None
    file_bands: Sequence[str] | None = None
    tile_px: int | None = None
    fit: Fit = "pad_or_crop"


AS_THEY_ARE = TileReading()


def load_images(
    paths: Sequence[Path],
    sensor: Sensor,
    bands: Sequence[str],
    file_bands: Sequence[str] | None,
    *,
    tile_px: int,
    fit: Fit = "pad_or_crop",
) -> Generator[Pixels, None, None]:
    """Read tiles in a few threads into the bands and size wanted, in order: see `to_image`.

    A tile is a file, or a folder with one file for each band.

    Raises:
        DataError: a file that cannot be read, or without a valid pixel.
        BandError: a band that is unknown, or not in some file.
    """
    count = len(file_bands or sensor.file_order) or None

    def load(path: Path) -> Pixels:
        if path.is_dir():
            raster = band_files.read_folder(path, sensor, bands)
        else:
            raster = images.read(path, band_count=count)
        return to_image(raster, sensor, bands, file_bands, tile_px, fit)

    return in_order(load, paths)


def check_headers(
    paths: Sequence[Path], sensor: Sensor, bands: Sequence[str], file_bands: Sequence[str] | None
) -> list[RasterInfo]:
    """Read the files' headers and make sure that each has the bands and usable pixels.

    Raises:
        DataError: no files, one that cannot be read, or with pixels that are not plain numbers.
        BandError: a band that is unknown, or not in some file.
    """
    if not paths:
        raise DataError("no tiles to read; give some")
    count = len(file_bands or sensor.file_order) or None

    def check(path: Path) -> RasterInfo:
        if path.is_dir():
            return band_files.describe_folder(path, sensor, bands)
        info = images.describe(path, band_count=count)
        band_positions(info, sensor, bands, file_bands)
        return info

    return list(in_order(check, paths))


def to_image(  # noqa: PLR0917 - what is read first, then the shape wanted
    raster: Raster,
    sensor: Sensor,
    bands: Sequence[str],
    file_bands: Sequence[str] | None,
    tile_px: int,
    fit: Fit = "pad_or_crop",
) -> Pixels:
    """Bands by name and tile size of an image: (data in native type, valid), both [C,S,S].

    A pixel with the sensor's nodata value, or one that it cannot measure, is not valid, whether the
    file declares it or not.

    Raises:
        DataError: no valid pixel is left.
        BandError: a band that is unknown, or not in the file.
    """
    positions = list(band_positions(raster, sensor, bands, file_bands))
    ends = measurable(sensor, bands)
    data, valid = ends.measured(raster.data[positions], raster.valid[positions])
    if data.shape[1:] != (tile_px, tile_px):
        change = _resized if fit == "resize" else _centred
        data, valid = change(data, valid, tile_px)
    if not valid.any():
        raise DataError(
            f"{raster.path}: no valid pixel (all nodata, NaN or masked); take the tile out, or "
            "correct its nodata value"
        )
    return data, valid


def common_size(infos: Iterable[RasterInfo]) -> int:
    """The shorter side most images have, in pixels; the larger one on a tie."""
    sides = Counter(min(info.grid.height, info.grid.width) for info in infos)
    return max(sides, key=lambda side: (sides[side], side))


def in_order(
    call: Callable[[In], Out], items: Iterable[In], *, readers: int = _READERS
) -> Generator[Out, None, None]:
    """Results in order from a few threads, with only a few waiting, so that memory is bounded.

    One reader works one item ahead; several have four each waiting.

    >>> list(in_order(abs, [-1, 2, -3]))
    [1, 2, 3]
    """
    waiting: deque[Future[Out]] = deque()
    ahead = 4 * readers if readers > 1 else 1
    with ThreadPoolExecutor(readers) as pool:
        for item in items:
            waiting.append(pool.submit(call, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _centred(data: NDArray[Any], valid: Bools, px: int) -> Pixels:
    """Crop what is too large and pad what is too small, about the centre; padding is invalid."""
    out = np.zeros((len(data), px, px), dtype=data.dtype)
    mask = np.zeros(out.shape, dtype=bool)
    source, target = zip(*(_overlap(side, px) for side in data.shape[1:]), strict=True)
    out[:, target[0], target[1]] = data[:, source[0], source[1]]
    mask[:, target[0], target[1]] = valid[:, source[0], source[1]]
    return out, mask


def _overlap(side: int, px: int) -> tuple[slice, slice]:
    """Where a centred side lies in the old image and in the new one.

    >>> _overlap(6, 4), _overlap(3, 4)
    ((slice(1, 5, None), slice(0, 4, None)), (slice(0, 3, None), slice(0, 3, None)))
    """
    common = min(side, px)
    old, new = (side - common) // 2, (px - common) // 2
    return slice(old, old + common), slice(new, new + common)


def _resized(data: NDArray[Any], valid: Bools, px: int) -> Pixels:
    """Resample bilinearly from valid pixels only; valid where at least half of the weight is."""
    weight = torch.from_numpy(valid.astype(np.float64))[None]
    values = np.where(valid, data, 0).astype(np.float64)
    total = _interpolated(torch.from_numpy(values)[None] * weight, px)
    share = _interpolated(weight, px)
    value = (total / share.clamp_min(1e-9))[0].numpy()
    if data.dtype.kind in "iu":
        limits = np.iinfo(data.dtype)
        value = np.clip(np.rint(value), limits.min, limits.max)
    return value.astype(data.dtype), (share[0].numpy() >= 0.5 - 1e-9)


def _interpolated(image: Tensor, px: int) -> Tensor:
    return F.interpolate(image, (px, px), mode="bilinear", align_corners=False, antialias=True)
