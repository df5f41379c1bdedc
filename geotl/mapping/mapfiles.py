"""Maps on disk: written block by block, then as cloud-optimised GeoTIFFs that read back whole.

A class map is one band of bytes with a palette, names that GDAL and QGIS show (CategoryNames, which
GDAL keeps beside the file as .aux.xml) and tags; see `classmaps` for the reading side.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal
from xml.sax.saxutils import escape

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio import shutil as rio_shutil
from rasterio.errors import RasterioError
from rasterio.transform import Affine
from rasterio.windows import Window as RasterioWindow

from geotl.errors import OutputError
from geotl.imagery.windows import Window
from geotl.io.raster import Grid, gdal_settings

Overviews = Literal["mode", "nearest", "average"]
TILE_PX = 512


class Tally:
    """What the values written add up to, in whole numbers: the same in whatever windows."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.pixels = self.total = self.placed = 0

    def add(self, data: NDArray[Any], window: Window) -> None:
        """Count [C,h,w] at a window."""
        plain = np.nan_to_num(data, nan=-1.0) if data.dtype.kind == "f" else data
        raw = np.ascontiguousarray(plain).view(np.uint8)
        sums = raw.reshape(*data.shape[:2], -1).sum(axis=2, dtype=np.int64)  # by band and row
        rows = 1 + np.arange(window.row, window.row + window.height, dtype=np.int64) % 997
        bands = 1 + np.arange(len(data), dtype=np.int64)[:, None]
        self.pixels += data.size
        self.total += int(sums.sum())
        self.placed += int((sums * rows * bands).sum())


class MapWriter:
    """A GeoTIFF being written window by window, and the tally of what was put in it."""

    def __init__(self, stream: Any, path: Path) -> None:
        """Wrap an open data set."""
        self._stream, self.path, self.tally = stream, path, Tally()

    def put(self, data: NDArray[Any], window: Window) -> None:
        """Write [C,h,w] at a window.

        Raises:
            OutputError: the disk is full.
        """
        place = RasterioWindow(window.col, window.row, window.width, window.height)
        try:
            self._stream.write(data, window=place)
        except (RasterioError, OSError) as error:
            raise _unwritten(self.path, error) from error
        self.tally.add(data, window)


@contextlib.contextmanager
def map_writer(
    path: Path, grid: Grid, dtype: str, count: int, nodata: float
) -> Iterator[MapWriter]:
    """Open a tiled GeoTIFF to be written window by window.

    Raises:
        OutputError: the folder cannot be written, or the disk is full.
    """
    profile = {
        "driver": "GTiff",
        "count": count,
        "height": grid.height,
        "width": grid.width,
        "dtype": dtype,
        "crs": grid.crs,
        "transform": Affine(*grid.transform),
        "nodata": nodata,
        "tiled": True,
        "blockxsize": TILE_PX,
        "blockysize": TILE_PX,
        "compress": "deflate",
        "predictor": 2 if np.dtype(dtype).kind == "u" else 3,
        "photometric": "minisblack",
        "interleave": "band",
        "bigtiff": "if_safer",
        "sparse_ok": True,
    }
    try:
        with gdal_settings(), rasterio.open(path, "w", **profile) as stream:
            yield MapWriter(stream, path)
    except RasterioError as error:
        raise _unwritten(path, error) from error


def to_cog(
    part: Path,
    path: Path,
    *,
    overviews: Overviews,
    tags: Mapping[str, str],
    descriptions: Sequence[str],
    names: Sequence[str] = (),
    colours: Sequence[str] = (),
) -> None:
    """Turn a GeoTIFF into a cloud-optimised one, with what people and programs read in it.

    Args:
        part: the GeoTIFF; its palette, descriptions and tags are set.
        path: the new file; `path.aux.xml` appears beside it where there are names.
        overviews: how coarser levels are made.
        tags: provenance.
        descriptions: of the bands.
        names: of the classes, from value 0.
        colours: #rrggbb of the classes, from value 0.

    Raises:
        OutputError: the disk is full.
    """
    try:
        with gdal_settings(), rasterio.open(part, "r+") as stream:
            stream.update_tags(**tags)
            stream.descriptions = tuple(descriptions)
            if colours:
                stream.write_colormap(1, _palette(colours))
        with gdal_settings():
            _copy(part, path, overviews, names)
    except RasterioError as error:
        raise _unwritten(path, error) from error


def check_written(path: Path, tally: Tally) -> None:
    """Read a file back, for proof that it is whole: a full disk is not always told of.

    Raises:
        OutputError: it is damaged, or not what was written.
    """
    found = Tally()
    try:
        with gdal_settings(), rasterio.open(path) as stream:
            for _, at in stream.block_windows(1):
                window = Window(at.row_off, at.col_off, at.height, at.width)
                found.add(stream.read(window=at), window)
    except RasterioError as error:
        raise _unwritten(path, error) from error
    if vars(found) != vars(tally):
        raise OutputError(
            f"{path}: does not read back as written; is the disk full? Nothing that stood there "
            "before is lost"
        )


def _copy(part: Path, path: Path, overviews: Overviews, names: Sequence[str]) -> None:
    options = {
        "driver": "COG",
        "compress": "deflate",
        "predictor": "yes",
        "blocksize": TILE_PX,
        "overview_resampling": overviews,
        "bigtiff": "if_safer",
        "num_threads": 2,
    }
    if not names:
        rio_shutil.copy(part, path, **options)
        return
    named = part.with_suffix(".vrt")  # CategoryNames come through a VRT alone
    rio_shutil.copy(part, named, driver="VRT")
    categories = "".join(f"<Category>{escape(name)}</Category>" for name in names)
    text = named.read_text(encoding="utf-8")
    head = text.index("<VRTRasterBand")
    inside = text.index(">", head) + 1
    block = f"<CategoryNames>{categories}</CategoryNames>"
    named.write_text(text[:inside] + block + text[inside:], encoding="utf-8")
    rio_shutil.copy(named, path, **options)
    named.unlink()
    beside = path.with_name(path.name + ".aux.xml")
    if not beside.exists() or not beside.read_text().rstrip().endswith("</PAMDataset>"):
        raise OutputError(f"{beside}: could not be written whole; free some space")


def _palette(colours: Sequence[str]) -> dict[int, tuple[int, int, int, int]]:
    return {
        value: (int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16), 255)
        for value, text in enumerate(colours)
    }


def _unwritten(path: Path, error: Exception) -> OutputError:
    reason = " ".join(str(error.__cause__ or error).split())
    return OutputError(
        f"{path}: could not be written ({reason}); free some space or write elsewhere; nothing "
        "that stood there before is lost"
    )
