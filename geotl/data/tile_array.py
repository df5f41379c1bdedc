"""All tiles in one memory-mapped array, with fingerprints, batches and statistics."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geotl.arrays import Bools, Float64s, Int64s, Pixels
from geotl.console import Progress
from geotl.data.read_tile import (
    AS_THEY_ARE,
    Fit,
    TileReading,
    check_headers,
    common_size,
    load_images,
)
from geotl.data.tiles import Tile, TileIndex
from geotl.errors import DataError, OutputError
from geotl.imagery.band_files import images_in
from geotl.imagery.sensors import Sensor, wanted_bands
from geotl.io.cache_entries import CHECKSUMS, drop_entry, kept
from geotl.io.files import sha256_of, whole_file, write_text
from geotl.io.raster import RasterInfo

Box = tuple[float, float, float, float]

PACK_FORMAT = 2
_FAR = 1e4  # times the spread of a band: what lies beyond is no measurement
_IMAGES, _VALID, _NOTE = "images.npy", "valid.npy", "pack.json"
_HIDDEN = re.compile(r"\.(images|valid|pack)-\w+\.(npy|json)")
_STATISTICS_BLOCK = 1 << 21  # values converted to float64 together (16 MiB)
# Files next to an image from which GDAL takes masks, band names and nodata.
_SIDECARS = (".msk", ".aux.xml")


def fingerprint(
    index: TileIndex,
    sensor: Sensor,
    reading: TileReading = AS_THEY_ARE,
) -> str:
    """Name, in 64 hexadecimal digits, everything the pixels of a pack depend on.

    That is the tiles' relative paths and contents, files next to them with masks or band
    names, the sensor and the options; not the labels, and not the folder's path.
    """
    files = [
        (
            name,
            tile.content,
            *_sidecars(tile.path),
            *((tile.centre, tile.crs) if tile.centre else ()),
        )
        for name, tile in zip(index.names, index.tiles, strict=True)
    ]
    options = [
        PACK_FORMAT,
        wanted_bands(sensor, reading.bands),
        list(reading.file_bands or ()),
        reading.tile_px,
        reading.fit,
        asdict(sensor),
    ]
    return hashlib.sha256(json.dumps([files, options]).encode()).hexdigest()


def pixel_marks(images: NDArray[Any], valid: Bools | None) -> list[str]:
    """Sixteen hexadecimal digits for the valid pixels of each tile [n,C,S,S], in any type and file.

    >>> tiles = np.array([[[[1, 2]]], [[[1, 9]]]])
    >>> first, second = pixel_marks(tiles, tiles < 9)
    >>> len(first), first == second, [second] == pixel_marks(np.array([[[[1.0, 0.0]]]]), None)
    (16, False, True)
    """
    shown = images if valid is None else np.where(valid, images, 0)
    tiles = np.ascontiguousarray(shown, dtype=np.float32)
    return [hashlib.blake2b(tile.tobytes(), digest_size=8).hexdigest() for tile in tiles]


def _sidecars(path: Path) -> Iterator[str]:
    """Hash of each file next to an image, or next to each of a tile's band files."""
    for file in images_in(path) if path.is_dir() else [path]:
        for end in _SIDECARS:
            sidecar = f"{file}{end}"  # a Path costs more than the question, and few are there
            yield sha256_of(Path(sidecar)) if os.access(sidecar, os.F_OK) else ""


@dataclass(frozen=True)
class Pack:
    """All tiles of an index as one array, mapped from disk.

    Attributes:
        images: DN in their native type [N,C,S,S], read only.
        valid: bool [N,C,S,S]; None if every pixel is valid.
        bands: the sensor's names, in the order of the channels.
        fingerprint: fingerprint of files, sensor and options; equal ones hold equal pixels.
        folder: folder of the pack.
        footprints: left, bottom, right, top of each tile in its CRS, where known; of no width
            and height (a point) where only a table gives the tile's centre.
        crs: reference system of each tile, where known.
        acquired: date of each tile as YYYY-MM-DD, where known.
    """

    images: NDArray[Any]
    valid: Bools | None
    bands: tuple[str, ...]
    fingerprint: str
    folder: Path
    footprints: tuple[Box | None, ...]
    crs: tuple[str | None, ...]
    acquired: tuple[str | None, ...]

    def __len__(self) -> int:
        """Number of tiles."""
        return len(self.images)


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation (population) of each band in DN, float64 [C].

    `fill` stands in for invalid pixels: the mean, which standardises to 0. `count` is the
    number of valid pixels behind the figures.
    """

    mean: Float64s
    sd: Float64s
    fill: Float64s
    count: Int64s


def pack(
    index: TileIndex,
    sensor: Sensor,
    reading: TileReading = AS_THEY_ARE,
    *,
    folder: Path,
    progress: Progress | None = None,
) -> Pack:
    """Read every tile once into one memory-mapped array, or reopen the array if it is there.

    Args:
        index: the tiles.
        sensor: sensor of the tiles' bands.
        reading: the bands to read and the size to resample to.
        folder: folder for images.npy, valid.npy (where some pixel is not valid) and pack.json only.
        progress: called with tiles done and tiles in all.

    Raises:
        DataError: a tile that cannot be read, or without a valid pixel.
        BandError: a band that is unknown, or not in some file.
        OutputError: the folder contains other files of these names, or the disk is full; no
            incomplete file is left.
    """
    key = fingerprint(index, sensor, reading)
    wanted, file_bands = wanted_bands(sensor, reading.bands), reading.file_bands
    paths = [tile.path for tile in index.tiles]

    def unread() -> Unread:
        infos = check_headers(paths, sensor, wanted, file_bands)
        side = reading.tile_px or common_size(infos)
        places = [_place(info, tile) for info, tile in zip(infos, index.tiles, strict=True)]
        return Unread(
            pixels=load_images(paths, sensor, wanted, file_bands, tile_px=side, fit=reading.fit),
            shape=(len(paths), len(wanted), side, side),
            dtype=np.result_type(*(info.dtype for info in infos)),
            bands=wanted,
            footprints=[box for box, _ in places],
            crs=[crs for _, crs in places],
            acquired=[info.acquired for info in infos],
        )

    return packed(folder, key, unread, progress)


@dataclass(frozen=True)
class Unread:
    """Tiles about to be packed: their pixels one by one, and the other fields of a pack."""

    pixels: Generator[Pixels, None, None]
    shape: tuple[int, int, int, int]
    dtype: np.dtype[Any]
    bands: tuple[str, ...]
    footprints: Sequence[Box | None]
    crs: Sequence[str | None]
    acquired: Sequence[str | None]


def packed(
    folder: Path, key: str, unread: Callable[[], Unread], progress: Progress | None = None
) -> Pack:
    """Reopen the pack of this fingerprint in a folder, or write it there.

    Args:
        folder: folder for images.npy, valid.npy (where some pixel is not valid) and pack.json only.
        key: the fingerprint.
        unread: called where the pack is not there yet.
        progress: called with tiles done and tiles in all.

    Raises:
        DataError: a tile that cannot be read, or without a valid pixel.
        BandError: a band that is unknown, or not in some file.
        OutputError: the folder contains other files of these names, or the disk is full; no
            incomplete file is left.
    """
    folder = Path(folder)
    _check_folder(folder)
    other = _read_note(folder)
    if other is not None and other.get("fingerprint") != key:
        drop_entry(folder)

    def make(part: Path) -> None:
        tiles_read = unread()
        _write_arrays(part, tiles_read.pixels, tiles_read.shape, tiles_read.dtype, progress)
        write_text(part / _NOTE, json.dumps(_note(key, tiles_read)))

    stored = _reopen(kept(folder, make), key)
    if stored is None:
        raise OutputError(f"{folder}: the packed tiles changed while being opened; run again")
    return stored


def read_tiles(  # noqa: PLR0917 - `to_image`'s arguments in its order
    paths: Sequence[Path],
    sensor: Sensor,
    bands: Sequence[str],
    file_bands: Sequence[str] | None,
    tile_px: int,
    fit: Fit = "pad_or_crop",
    *,
    block: int = 256,
) -> Iterator[Pixels]:
    """Read image files block by block, as (images in native type, valid), both [n,C,S,S].

    Raises:
        DataError: a file that cannot be read, or without a valid pixel.
        BandError: a band that is unknown, or not in some file.
    """
    tiles = load_images(paths, sensor, bands, file_bands, tile_px=tile_px, fit=fit)
    while batch := list(islice(tiles, block)):
        yield np.stack([data for data, _ in batch]), np.stack([valid for _, valid in batch])


def statistics(pack: Pack, rows: Sequence[int] | NDArray[np.integer[Any]]) -> Statistics:
    """Mean and sd of each band over the valid pixels of some tiles, block by block.

    Blocks are merged by Chan, Golub & LeVeque (1979) around the band's first valid value: a
    constant band has a sd of exactly 0. The order of the rows makes no difference. Values of
    floating point that lie beyond the others by 10,000 times their spread are left out.

    Raises:
        DataError: no rows, or a band without a valid pixel in them.
    """
    order = np.sort(np.asarray(rows, dtype=np.int64))
    channels = pack.images.shape[1]
    per_tile = int(np.prod(pack.images.shape[1:]))
    step = max(1, _STATISTICS_BLOCK // per_tile)
    far = pack.images.dtype.kind == "f"  # integers have no values so far off
    ends = _ends(pack, order) if far else np.zeros((2, channels))
    pivot, mean, square = np.zeros((3, channels))
    count = np.zeros(channels, np.int64)
    for start in range(0, len(order), step):
        rows_now = order[start : start + step]
        values = np.asarray(pack.images)[rows_now]
        valid = None if pack.valid is None else np.asarray(pack.valid)[rows_now]
        for band in range(channels):
            plane = values[:, band]
            seen = (plane.ravel() if valid is None else plane[valid[:, band]]).astype(np.float64)
            seen = seen[(seen >= ends[0, band]) & (seen <= ends[1, band])] if far else seen
            if not seen.size:
                continue
            if count[band] == 0:
                pivot[band] = seen[0]
            before = (count[band], mean[band], square[band])
            count[band], mean[band], square[band] = _merged(before, seen - pivot[band])
    _check_seen(pack, count)
    mean += pivot
    return Statistics(mean, np.sqrt(square / count), mean.copy(), count)


def _ends(pack: Pack, rows: Int64s) -> Float64s:
    """Ends [2,C] beyond which a value is no measurement, by the quantiles of a sample of pixels."""
    channels = pack.images.shape[1]
    ends = np.stack([np.full(channels, -np.inf), np.full(channels, np.inf)])
    some = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), 64)).astype(np.int64))]
    step = max(1, pack.images.shape[-1] // 32)
    values = np.asarray(pack.images[some, :, ::step, ::step], dtype=np.float64)
    seen = np.isfinite(values)
    if pack.valid is not None:
        seen &= pack.valid[some, :, ::step, ::step]
    for band in range(channels):
        inside = values[:, band][seen[:, band]]
        if inside.size:
            low, middle, high = np.quantile(inside, (0.05, 0.5, 0.95))
            if high > low:
                ends[:, band] = middle + np.array([-_FAR, _FAR]) * (high - low)
    return ends


def batch(
    pack: Pack,
    rows: Sequence[int] | NDArray[np.integer[Any]],
    *,
    fill: Float64s,
    device: torch.device | str = "cpu",
) -> dict[str, Tensor]:
    """Selected tiles as a batch: image float32 [N,C,S,S] in DN, valid bool [N,C,S,S] or [N,1,S,S].

    Args:
        pack: the tiles.
        rows: positions of the tiles.
        fill: value [C] in DN that invalid pixels take.
        device: device of the batch.
    """
    where = np.asarray(rows, dtype=np.int64)
    valid = None if pack.valid is None else np.asarray(pack.valid)[where]
    return to_batch(np.asarray(pack.images)[where], valid, fill=fill, device=device)


def to_batch(
    images: NDArray[Any],
    valid: Bools | None,
    *,
    fill: Float64s,
    device: torch.device | str = "cpu",
) -> dict[str, Tensor]:
    """Arrays [N,C,S,S] as a batch: see `batch`; valid None means that every pixel is.

    >>> images, valid = np.array([[[[7, 0]]]], np.uint16), np.array([[[[True, False]]]])
    >>> to_batch(images, valid, fill=np.array([5.0]))["image"]
    tensor([[[[7., 5.]]]])
    """
    # In numpy: torch's own casts wait for all cores, and take many times as long on busy ones.
    image = images.astype(np.float32)
    if valid is None:
        valid = np.ones((len(images), 1, *images.shape[2:]), dtype=bool)
    elif not valid.all():
        np.copyto(image, np.asarray(fill, np.float32).reshape(-1, 1, 1), where=~valid)
    return {
        "image": torch.from_numpy(image).to(device),
        "valid": torch.from_numpy(valid).to(device),
    }


def _write_arrays(
    folder: Path,
    tiles: Generator[Pixels, None, None],
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    progress: Progress | None,
) -> None:
    """Write images.npy and, if some pixel is not valid, valid.npy, row by row.

    Plain writes, not a memory map: on a full disk they raise, where a map kills the process.
    """
    with ExitStack() as stack:
        stack.enter_context(closing(tiles))  # here, not in one of its own threads
        images = _start(stack, folder / _IMAGES, shape, dtype)
        valid_file: BinaryIO | None = None
        for row, (data, valid) in enumerate(tiles):
            images.write(data.astype(dtype, copy=False).tobytes())
            if valid_file is None and not valid.all():
                valid_file = _start(stack, folder / _VALID, shape, np.dtype(bool))
                for _ in range(row):
                    valid_file.write(bytes([1]) * valid.size)
            if valid_file is not None:
                valid_file.write(valid.tobytes())
            if progress is not None:
                progress(row + 1, shape[0])


def _start(stack: ExitStack, path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> BinaryIO:
    stream = stack.enter_context(stack.enter_context(whole_file(path)).open("wb"))
    header = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": shape,
    }
    np.lib.format.write_array_header_1_0(stream, header)
    return stream


def _note(key: str, unread: Unread) -> dict[str, Any]:
    return {
        "geotl_pack": PACK_FORMAT,
        "fingerprint": key,
        "bands": unread.bands,
        "footprints": list(unread.footprints),
        "crs": list(unread.crs),
        "acquired": list(unread.acquired),
    }


def _place(info: RasterInfo, tile: Tile) -> tuple[Box | None, str | None]:
    """Footprint and reference system: those of the file, else the point given in the table."""
    if info.grid.crs:
        return info.grid.bounds, info.grid.crs
    return (tile.centre + tile.centre, tile.crs) if tile.centre else (None, None)


def _read_note(folder: Path) -> dict[str, Any] | None:
    """Content of pack.json; None if geotl wrote none here."""
    try:
        note = json.loads((folder / _NOTE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return note if isinstance(note, dict) and "geotl_pack" in note else None


def _check_folder(folder: Path) -> None:
    """Reject a folder with other files than a pack, which is replaced as a whole.

    A killed run of an earlier version leaves hidden files there; they go with the rest.
    """
    names = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    pack_files = {_IMAGES, _VALID, _NOTE, CHECKSUMS} if {_NOTE, CHECKSUMS} & names else set()
    foreign = sorted(name for name in names - pack_files if not _HIDDEN.fullmatch(name))
    is_pack = CHECKSUMS in names or _read_note(folder) is not None
    if names and not (is_pack and not foreign):
        name = foreign[0] if foreign else _NOTE
        raise OutputError(
            f"{folder / name}: not written by geotl, and would be overwritten; choose another "
            "folder for the packed tiles"
        )


def _reopen(folder: Path, key: str) -> Pack | None:
    """The pack in a folder with complete files, if it has this fingerprint."""
    note = _read_note(folder)
    if note is None or note.get("fingerprint") != key:
        return None
    try:
        images = np.load(folder / _IMAGES, mmap_mode="r", allow_pickle=False)
        there = (folder / _VALID).exists()
        valid = np.load(folder / _VALID, mmap_mode="r", allow_pickle=False) if there else None
    except (OSError, ValueError):  # taken away or replaced since it was checked
        return None
    footprints = tuple(None if box is None else tuple(box) for box in note["footprints"])
    return Pack(
        images,
        valid,
        tuple(note["bands"]),
        key,
        folder,
        footprints,
        tuple(note["crs"]),
        tuple(note["acquired"]),
    )


def _merged(before: tuple[int, float, float], values: Float64s) -> tuple[int, float, float]:
    """Count, mean and sum of squared deviations with more values added."""
    n, mean, square = before
    more = values.size
    mean_more = float(values.mean())
    values -= mean_more
    delta = mean_more - mean
    total = n + more
    return (
        total,
        mean + delta * more / total,
        square + float(values @ values) + delta * delta * n * more / total,
    )


def _check_seen(pack: Pack, count: Int64s) -> None:
    if not count.any():
        raise DataError("no valid training pixel to take statistics from; give more tiles")
    empty = [band for band, n in zip(pack.bands, count, strict=True) if n == 0]
    if empty:
        raise DataError(
            f"band {', '.join(empty)}: no valid pixel in any training tile; leave it out with "
            "data.bands, or correct the nodata value"
        )
