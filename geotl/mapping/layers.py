"""A map drawn from what windows said: classes, confidence and more, block by block."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geotl.arrays import Bools, Float64s, Int64s, UInt8s
from geotl.console import Progress
from geotl.imagery.windows import Window
from geotl.inference.window_grid import WindowGrid, blend
from geotl.io.geodesy import row_areas_m2
from geotl.io.raster import Grid
from geotl.mapping.mapfiles import TILE_PX, Overviews, Tally, check_written, map_writer, to_cog
from geotl.mapping.window_store import FULL, Sheet

NODATA = 255
MOST_CLASSES = 254
_CLASSES = 16  # up to so many, blocks of TILE_PX cells are drawn at once
Shown = Callable[[Window], Bools]


@dataclass(frozen=True)
class Layer:
    """A file of a map: its ending, type and bands, and how coarser levels are made of it."""

    suffix: str
    dtype: str
    nodata: float
    overviews: Overviews
    bands: tuple[str, ...]


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
    """

    sheet: Sheet
    grid: WindowGrid
    cells: Grid
    within: Window
    threshold: float
    shown: Shown


def layers(
    classes: Sequence[str], *, probabilities: bool, applicability: bool, entropy: bool
) -> dict[str, Layer]:
    """The files a map consists of, the class map last."""
    found = {"confidence": Layer("_confidence", "uint8", NODATA, "nearest", ("confidence [%]",))}
    if probabilities:
        names = tuple(f"probability of {name}" for name in classes)
        found["probabilities"] = Layer("_probabilities", "float32", np.nan, "average", names)
    if applicability:
        found["applicability"] = Layer(
            "_applicability", "uint8", NODATA, "mode", ("inside the area of applicability",)
        )
        found["dissimilarity"] = Layer(
            "_dissimilarity", "float32", np.nan, "average", ("dissimilarity index",)
        )
    if entropy:
        found["entropy"] = Layer("_entropy", "uint8", NODATA, "nearest", ("entropy [% of most]",))
    return found | {"classes": Layer("", "uint8", NODATA, "mode", ("class",))}


def draw(
    drawing: Drawing, wanted: Mapping[str, Layer], folder: Path, progress: Progress | None = None
) -> tuple[Areas, dict[str, Tally]]:
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
    within, own = drawing.within, drawing.within.on(drawing.cells)
    ledger = _Ledger(drawing)
    blocks = list(_blocks(within, drawing.sheet.probabilities.shape[-1]))
    with ExitStack() as stack:
        files = {
            name: stack.enter_context(
                map_writer(folder / f"{name}.tif", own, told.dtype, len(told.bands), told.nodata)
            )
            for name, told in wanted.items()
        }
        for done, block in enumerate(blocks, 1):
            chances, index = _blended(drawing.sheet, drawing.grid, block)
            drawn = ledger.enter(block, chances.argmax(axis=-1), np.isfinite(index))
            place = Window(
                block.row - within.row, block.col - within.col, block.height, block.width
            )
            for name, data in _shown(files, chances, index, drawn, drawing.threshold):
                files[name].put(data, place)
            if progress is not None:
                progress(done, len(blocks))
    return ledger.areas(), {name: file.tally for name, file in files.items()}


def finish(
    wanted: Mapping[str, Layer],
    folder: Path,
    tallies: Mapping[str, Tally],
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
    made = {}
    for name, told in wanted.items():
        part, path = folder / f"{name}.tif", folder / "done" / f"map{told.suffix}.tif"
        plain = name == "classes"
        to_cog(
            part,
            path,
            overviews=told.overviews,
            tags=tags,
            descriptions=told.bands,
            names=classes if plain else (),
            colours=colours if plain else (),
        )
        check_written(path, tallies[name])
        part.unlink()
        made[name] = path
    return made


class _Ledger:
    """Ground by class, entered block by block."""

    def __init__(self, drawing: Drawing) -> None:
        self._of, self._rows = drawing, row_areas_m2(drawing.cells)
        count = drawing.sheet.probabilities.shape[-1]
        self._pixels, self._metres = np.zeros(count, np.int64), np.zeros(count)
        self._left_px, self._left_m2 = 0, 0.0

    def enter(self, block: Window, said: Int64s, known: Bools) -> Bools:
        """Enter a block's classes [h,w]; returns which of its cells are drawn."""
        grid, here = self._of.grid, self._of.shown(block)
        cover = _cover(self._of.sheet, block) * here
        drawn: Bools = here & known & (2 * cover >= _extent(grid, block))
        ground = _ground(self._rows, grid, block) * cover
        count = len(self._pixels)
        self._pixels += np.bincount(said[drawn], cover[drawn], count).astype(np.int64)
        self._metres += np.bincount(said[drawn], ground[drawn], count)
        self._left_px += int(cover[~drawn].sum())
        self._left_m2 += float(ground[~drawn].sum())
        return drawn

    def areas(self) -> Areas:
        return Areas(self._pixels, self._metres, self._left_px, self._left_m2)


def _blocks(within: Window, classes: int) -> Iterator[Window]:
    """Windows that tile a part of the map; narrower ones where there are many classes."""
    side = TILE_PX if classes <= _CLASSES else TILE_PX // 4
    below, right = within.row + within.height, within.col + within.width
    for row in range(within.row, below, side):
        for col in range(within.col, right, side):
            yield Window(row, col, min(side, below - row), min(side, right - col))


def _blended(sheet: Sheet, grid: WindowGrid, block: Window) -> tuple[Float64s, Float64s]:
    """Probabilities [h,w,K] (0 where unknown) and dissimilarity [h,w] (nan there) of cells."""
    rows = slice(block.row, block.row + block.height)
    cols = slice(block.col, block.col + block.width)
    chances = blend(grid, sheet.probabilities, sheet.seen, rows, cols) / FULL
    index = blend(grid, sheet.index[..., None], sheet.seen, rows, cols)[..., 0]
    return np.nan_to_num(chances), index


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
    wanted: Collection[str],
    chances: Float64s,
    index: Float64s,
    drawn: Bools,
    threshold: float,
) -> Iterator[tuple[str, NDArray[Any]]]:
    """What each layer holds of a block, [C,h,w]."""
    most = np.log(max(2, chances.shape[-1]))
    if "entropy" in wanted:
        logs = np.log(np.where(chances > 0, chances, 1.0))
        yield "entropy", _percent(-(chances * logs).sum(axis=-1) / most, drawn)[None]
    if "probabilities" in wanted:
        told = np.where(drawn[..., None], chances, np.nan).astype(np.float32)
        yield "probabilities", np.moveaxis(told, -1, 0)
    if "applicability" in wanted:
        inside = np.where(drawn, index <= threshold, NODATA).astype(np.uint8)
        yield "applicability", inside[None]
        yield "dissimilarity", np.where(drawn, index, np.nan).astype(np.float32)[None]
    yield "confidence", _percent(chances.max(axis=-1), drawn)[None]
    yield "classes", np.where(drawn, chances.argmax(axis=-1), NODATA).astype(np.uint8)[None]


def _percent(share: Float64s, drawn: Bools) -> UInt8s:
    return np.where(drawn, np.rint(100 * np.clip(share, 0, 1)), NODATA).astype(np.uint8)
