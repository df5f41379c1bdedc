"""A map's layers: drawn from windows' results, and written as GeoTIFFs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio import shutil as rio_shutil
from rasterio.errors import RasterioError
from rasterio.transform import Affine
from rasterio.windows import Window as RasterioWindow

from geotl.arrays import Bools, Float64s, Int64s, UInt8s, UInt16s
from geotl.console import Progress
from geotl.errors import OutputError
from geotl.evaluation.prediction_sets import in_sets
from geotl.imagery.windows import Window
from geotl.inference.smoothing import GuidedFilter
from geotl.inference.window_grid import WindowGrid, best_of, blend, of_pixels
from geotl.io.geodesy import row_areas_m2
from geotl.io.raster import Grid, gdal_settings
from geotl.mapping.options import NODATA, MapLayer, Overviews
from geotl.mapping.window_store import FULL, Sheet

TILE_PX = 512
AHEAD, WORKERS = 3, 2  # blocks computed before they are drawn, and threads that compute them
MOST_CLASSES = 254
_CLASSES = 16  # up to so many, blocks of TILE_PX cells are drawn at once
Shown = Callable[[Window], Bools]


class ValueSum:
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
        self._stream, self.path, self.tally = stream, path, ValueSum()

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
        "zlevel": 1,  # what is written here is compressed once more when it is finished
        "num_threads": 2,
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


def check_written(path: Path, tally: ValueSum) -> None:
    """Read a file back, for proof that it is whole: a full disk is not always reported.

    Raises:
        OutputError: it is damaged, or not what was written.
    """
    found = ValueSum()
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


@dataclass(frozen=True)
class Areas:
    """Ground of each class [K] and of valid pixels that were not mapped, in m2 and in pixels.

    In m2 everything is nan where the scene has no reference system.
    """

    pixels: Int64s
    square_metres: Float64s
    unmapped_pixels: int
    unmapped_square_metres: float


@dataclass(frozen=True)
class Drawing:
    """What is to be drawn.

    Attributes:
        sheet: what the windows said.
        grid: windows and cells of the scene.
        cells: the cells' grid.
        within: the cells to draw.
        threshold: dissimilarity up to which the model applies.
        shown: bool [h,w] of the cells of a window: those of interest.
        smoothing: of the probabilities, where cells are pixels; None for none.
        set_limits: probability from which each class is in a prediction set [K]; None without sets.
    """

    sheet: Sheet
    grid: WindowGrid
    cells: Grid
    within: Window
    threshold: float
    shown: Shown
    smoothing: GuidedFilter | None = None
    set_limits: Float64s | None = None

    @property
    def own(self) -> Grid:
        """The grid of the cells to draw."""
        return self.within.on(self.cells)

    @property
    def blocks(self) -> list[tuple[Window, Window]]:
        """The blocks to draw one by one, as windows of the scene's cells and of the drawn ones."""
        within, classes = self.within, self.sheet.probabilities.shape[-1]
        return [
            (block, replace(block, row=block.row - within.row, col=block.col - within.col))
            for block in _blocks(within, classes)
        ]


def draw(
    drawing: Drawing, wanted: Mapping[str, MapLayer], folder: Path, progress: Progress | None = None
) -> tuple[Areas, dict[str, ValueSum]]:
    """Draw a part of a map into GeoTIFFs `folder/NAME.tif`, one for each layer.

    A cell is drawn where at least half of it is valid and a window that counts lies over it.

    Args:
        drawing: what.
        wanted: layers by name.
        folder: to write into.
        progress: called with blocks done and in all.

    Returns:
        Areas, and what was written into each layer.

    Raises:
        OutputError: the disk is full.
    """
    ledger, count, own = Ledger(drawing), len(drawing.blocks), drawing.own
    with ExitStack() as stack:
        files = {
            name: stack.enter_context(
                map_writer(folder / f"{name}.tif", own, layer.dtype, len(layer.bands), layer.nodata)
            )
            for name, layer in wanted.items()
        }
        for done, (place, one) in enumerate(_blended_ahead(drawing), 1):
            drawn = ledger.enter(one.block, one.classes, np.isfinite(one.index))
            written = set()
            for name, data in _shown(files, one, drawn, drawing):
                files[name].put(data, place)
                written.add(name)
            if lacking := sorted(files.keys() - written):
                raise NotImplementedError(f"layers without values in _shown: {', '.join(lacking)}")
            drawing.sheet.forget()
            if progress is not None:
                progress(done, count)
    return ledger.areas(), {name: file.tally for name, file in files.items()}


def finish(
    wanted: Mapping[str, MapLayer],
    folder: Path,
    tallies: Mapping[str, ValueSum],
    *,
    classes: Sequence[str],
    colours: Sequence[str],
    tags: Mapping[str, str],
) -> dict[str, Path]:
    """Turn the layers into cloud-optimised GeoTIFFs in `folder/done`, and read them back.

    Raises:
        OutputError: the disk is full, or what was written does not read back as it was.
    """
    (folder / "done").mkdir(exist_ok=True)
    paths = {}
    for name, layer in wanted.items():
        part, path = folder / f"{name}.tif", folder / "done" / f"map{layer.suffix}.tif"
        plain = name == "classes"
        to_cog(
            part,
            path,
            overviews=layer.overviews,
            tags=tags,
            descriptions=layer.bands,
            names=classes if plain else (),
            colours=colours if plain else (),
        )
        check_written(path, tallies[name])
        part.unlink()
        paths[name] = path
    return paths


class Ledger:
    """Ground by class, entered block by block."""

    def __init__(self, drawing: Drawing) -> None:
        """Begin with no ground."""
        self._of, self._rows = drawing, row_areas_m2(drawing.cells)
        count = drawing.sheet.probabilities.shape[-1]
        self._pixels, self._metres = np.zeros(count, np.int64), np.zeros(count)
        self._left_px, self._left_m2 = 0, 0.0

    def enter(self, block: Window, classes: Int64s, known: Bools) -> Bools:
        """Enter a block's classes [h,w]; returns which of its cells are drawn."""
        grid, here = self._of.grid, self._of.shown(block)
        cover = _cover(self._of.sheet, block) * here
        drawn: Bools = here & known & (2 * cover >= _extent(grid, block))
        ground = _ground(self._rows, grid, block) * cover
        count = len(self._pixels)
        self._pixels += np.bincount(classes[drawn], cover[drawn], count).astype(np.int64)
        self._metres += np.bincount(classes[drawn], ground[drawn], count)
        self._left_px += int(cover[~drawn].sum())
        self._left_m2 += float(ground[~drawn].sum())
        return drawn

    def areas(self) -> Areas:
        """What was entered."""
        return Areas(self._pixels, self._metres, self._left_px, self._left_m2)


def _blocks(within: Window, classes: int) -> Iterator[Window]:
    """Windows that tile a part of the map; narrower ones where there are many classes."""
    side = TILE_PX if classes <= _CLASSES else TILE_PX // 4
    below, right = within.row + within.height, within.col + within.width
    for row in range(within.row, below, side):
        for col in range(within.col, right, side):
            yield Window(row, col, min(side, below - row), min(side, right - col))


@dataclass(frozen=True)
class Blended:
    """What windows say of a block of cells.

    Attributes:
        block: of the scene's cells.
        chances: probabilities [h,w,K], 0 where unknown.
        index: dissimilarity [h,w], nan where unknown.
        classes: the most probable ones [h,w].
        most: their probabilities [h,w].
    """

    block: Window
    chances: Float64s
    index: Float64s
    classes: Int64s
    most: Float64s


def _blended_ahead(drawing: Drawing) -> Iterator[tuple[Window, Blended]]:
    """The blocks to draw, as windows of what is drawn; the next ones are computed meanwhile."""
    with ThreadPoolExecutor(WORKERS) as pool:
        waiting: list[tuple[Window, Future[Blended]]] = []
        for block, place in drawing.blocks:
            waiting.append((place, pool.submit(_blended, drawing, block)))
            if len(waiting) > AHEAD:
                yield _arrived(*waiting.pop(0))
        for entry in waiting:
            yield _arrived(*entry)


def _arrived(place: Window, one: Future[Blended]) -> tuple[Window, Blended]:
    return place, one.result()


def _blended(drawing: Drawing, block: Window) -> Blended:
    """What windows say of a block's cells."""
    sheet, grid = drawing.sheet, drawing.grid
    rows, cols = block.slices
    index = blend(grid, sheet.index[..., None], sheet.seen, rows, cols)[..., 0]
    if drawing.smoothing is not None and sheet.guide is not None:
        smooth = _smoothed(drawing.smoothing, sheet, sheet.guide, block)
        chances = np.where(np.isfinite(index)[..., None], smooth, 0.0)
    elif grid.px == 1:
        chances = of_pixels(
            np.asarray(sheet.probabilities[rows, cols]), sheet.seen[rows, cols], FULL
        )
    else:
        chances = blend(grid, sheet.probabilities, sheet.seen, rows, cols)
        chances /= FULL
        np.copyto(chances, 0.0, where=np.isnan(chances))
    return Blended(block, chances, index, *best_of(chances))


def _smoothed(how: GuidedFilter, sheet: Sheet, guide: UInt16s, block: Window) -> Float64s:
    """Smoothed probabilities [h,w,K] of a block's pixels, from what is kept in reach of them."""
    top, left = max(0, block.row - how.reach), max(0, block.col - how.reach)
    wide = Window(
        top,
        left,
        block.row + block.height + how.reach - top,
        block.col + block.width + how.reach - left,
    )
    plain = (sheet.probabilities[wide.slices] / FULL).astype(np.float32)
    inside = replace(block, row=block.row - top, col=block.col - left).slices
    return how.smooth(plain, guide[wide.slices])[inside].astype(np.float64)


def _cover(sheet: Sheet, block: Window) -> Int64s:
    part = sheet.cover[block.row : block.row + block.height, block.col : block.col + block.width]
    return part.astype(np.int64)


def _extent(grid: WindowGrid, block: Window) -> Int64s:
    """Pixels of the scene in each cell: fewer in those that reach beyond it."""
    sides = []
    for start, count, length in (
        (block.row, block.height, grid.height),
        (block.col, block.width, grid.width),
    ):
        first = (start + np.arange(count)) * grid.posting
        sides.append(np.minimum(first + grid.posting, length) - first)
    return np.asarray(np.outer(*sides))


def _ground(areas: Float64s | None, grid: WindowGrid, block: Window) -> Float64s:
    """Square metres of one pixel in each row of cells, [h,1]; nan without a reference system."""
    if areas is None:
        return np.full((block.height, 1), np.nan)
    return areas[block.row : block.row + block.height, None] / grid.posting**2


def _shown(
    wanted: Collection[str], one: Blended, drawn: Bools, drawing: Drawing
) -> Iterator[tuple[str, NDArray[Any]]]:
    """What each layer holds of a block, [C,h,w]."""
    chances, index = one.chances, one.index
    even = np.log(max(2, chances.shape[-1]))
    if "entropy" in wanted:
        logs = np.log(np.where(chances > 0, chances, 1.0))
        yield "entropy", _percent(-(chances * logs).sum(axis=-1) / even, drawn)[None]
    if "probabilities" in wanted:
        known = np.where(drawn[..., None], chances, np.nan).astype(np.float32)
        yield "probabilities", np.moveaxis(known, -1, 0)
    if "applicability" in wanted:
        inside = np.where(drawn, index <= drawing.threshold, NODATA).astype(np.uint8)
        yield "applicability", inside[None]
        yield "dissimilarity", np.where(drawn, index, np.nan).astype(np.float32)[None]
    if "sets" in wanted and drawing.set_limits is not None:
        sets = in_sets(chances, drawing.set_limits)
        yield "sets", np.moveaxis(np.where(drawn[..., None], sets, NODATA), -1, 0).astype(np.uint8)
        yield "set_size", np.where(drawn, sets.sum(axis=-1), NODATA).astype(np.uint8)[None]
    yield "confidence", _percent(one.most, drawn)[None]
    yield "classes", np.where(drawn, one.classes, NODATA).astype(np.uint8)[None]


def _percent(share: Float64s, drawn: Bools) -> UInt8s:
    return np.where(drawn, np.rint(100 * np.clip(share, 0, 1)), NODATA).astype(np.uint8)
