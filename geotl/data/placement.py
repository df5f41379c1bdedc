"""Windows of one label in one scene."""

from __future__ import annotations

import math
import zlib
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import shapely
from shapely import affinity

from geotl.arrays import Bools, Float64s, UInt8s
from geotl.data.coverage import SLACK, pixel_shares, window_shares
from geotl.data.labels import Label, Reason
from geotl.errors import DataError
from geotl.imagery.windows import Imagery, Window
from geotl.io.raster import Grid
from geotl.language import msg

RejectionReason = tuple[Reason, str]  # why, and what exactly
Place = TypeVar("Place")
Spot = TypeVar("Spot", bound=Hashable)
_EDGE = 1e-6  # of a pixel: a point this close before an edge lies on it, as rounding may have it
_ROUNDING = 1e-9  # of a share
_BLOCK_PX = 512  # side of the blocks in which windows are searched


def on_pixels(shape: shapely.Geometry, grid: Grid) -> shapely.Geometry:
    """A shape of the grid's reference system in columns (x) and rows (y) of the grid.

    Turned and sheared grids too; (0, 0) is the upper left corner of the upper left pixel.

    >>> grid = Grid("EPSG:32633", (10.0, 0.0, 500000.0, 0.0, -10.0, 4600000.0), 391, 517)
    >>> on_pixels(shapely.Point(500015, 4599985), grid)
    <POINT (1.5 1.5)>
    """
    a, b, c, d, e, f = grid.transform
    size = a * e - b * d
    # Shifted first: at a million metres the products below would lose digits.
    near = affinity.translate(shape, -c, -f)
    return affinity.affine_transform(near, (e / size, -b / size, -d / size, a / size, 0.0, 0.0))


@dataclass(frozen=True)
class ChipRules:
    """Conditions for a chip.

    Attributes:
        chip_px: rows and columns.
        purity: least share of its area within its polygon, or of its pixels of its class.
        per_polygon: most chips of one polygon, drawn at random from all (`some_of`); None for all.
        step_px: distance between the chips of a polygon, on a lattice; None packs them side by
            side without a shared pixel.
        min_valid: least share of valid pixels, as a mean over the bands.
        max_cloud: largest share of pixels under the scene's cloud mask.
        seed: seed of the draw.
    """

    chip_px: int
    purity: float = 0.8
    per_polygon: int | None = None
    step_px: int | None = None
    min_valid: float = 0.8
    max_cloud: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        """Reject rules that no chip can meet.

        Raises:
            DataError: a value out of its range.
        """
        for name in ("chip_px", "per_polygon", "step_px"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise DataError(f"{name}: given {value}; allowed: 1 or more")
        for name in ("purity", "min_valid", "max_cloud"):
            if not 0 <= getattr(self, name) <= 1:
                raise DataError(f"{name}: given {getattr(self, name)}; allowed: 0 to 1")
        if self.purity == 0:
            raise DataError("purity: given 0.0; allowed: more than 0, up to 1")


def windows_of(
    shape: shapely.Geometry, scene: Imagery, rules: ChipRules
) -> tuple[Window, ...] | RejectionReason:
    """The windows of a label in a scene, from top to bottom, or why there are none.

    Args:
        shape: the label, in columns (x) and rows (y) of the scene.
        scene: the scene, which limits where windows may lie.
        rules: conditions for a chip.
    """
    if shape.geom_type.endswith("Point"):
        return _about_points(shape, scene, rules)
    return _within(shape, scene, rules)


def some_of(places: Sequence[Place], label_id: str, rules: ChipRules) -> list[Place]:
    """At most `per_polygon` of a label's places, drawn by seed and id, in the order they had.

    >>> some_of("abcdef", "7", ChipRules(8, per_polygon=2)) == some_of("abcdef", "7", ChipRules(8))
    False
    """
    most = rules.per_polygon
    if most is None or len(places) <= most:
        return list(places)
    draw = np.random.default_rng([rules.seed, zlib.crc32(label_id.encode())])
    return [places[i] for i in sorted(draw.choice(len(places), most, replace=False))]


def window_about(x: float, y: float, size_px: int) -> Window:
    """The window whose pixel [size // 2, size // 2] contains a place in columns and rows.

    A pixel includes its upper and left edge, so that a point on an edge goes to the pixel below or
    to the right of it.

    >>> window_about(10.0, 20.99, 4)
    Window(row=18, col=8, height=4, width=4)
    """
    row, col = math.floor(y + _EDGE), math.floor(x + _EDGE)
    return Window(row - size_px // 2, col - size_px // 2, size_px, size_px)


@dataclass(frozen=True)
class Sight:
    """Valid and cloudy shares of each square of pixels in a window, by its upper left pixel.

    Attributes:
        good: enough is valid and little enough cloudy.
        veiled: not good, but without the clouds enough would be valid.
        valid: share of valid pixels.
        cloud: share of cloudy ones.
    """

    good: Bools
    veiled: Bools
    valid: Float64s
    cloud: Float64s


def sight(scene: Imagery, window: Window, rules: ChipRules) -> Sight:
    """Examine all squares of `chip_px` pixels within a window."""
    return sight_of(*_seen(scene, window), rules)


def _seen(scene: Imagery, window: Window) -> tuple[Float64s, Bools]:
    """Share of bands in which each pixel [h,w] is valid, and whether it is cloudy."""
    return scene.read(window)[1].mean(axis=0), scene.cloudy(window)


def sight_of(valid: Float64s, cloudy: Bools, rules: ChipRules) -> Sight:
    """All squares of `chip_px` pixels, of each pixel's share of valid bands and clouds [h,w]."""
    share, cloud = window_shares(valid, rules.chip_px), window_shares(cloudy, rules.chip_px)
    without = window_shares(np.maximum(valid, cloudy), rules.chip_px)
    enough = rules.min_valid - _ROUNDING
    good = (share >= enough) & (cloud <= rules.max_cloud + _ROUNDING)
    return Sight(good, ~good & (without >= enough), share, cloud)


def _about_points(
    shape: shapely.Geometry, scene: Imagery, rules: ChipRules
) -> tuple[Window, ...] | RejectionReason:
    windows: dict[Window, None] = {}
    faults: list[RejectionReason] = []
    for point in shapely.get_parts(shape):
        window = window_about(point.x, point.y, rules.chip_px)
        fault = _fault(scene, window, rules)
        if fault is None:
            windows[window] = None
        else:
            faults.append(fault)
    return tuple(sorted(windows)) or most_informative(faults)


def most_informative(faults: Sequence[RejectionReason]) -> RejectionReason:
    """The fault that came closest to a chip: cloudy, then nodata, impure, outside.

    >>> most_informative([("outside", ""), ("nodata", "a half"), ("impure", "")])
    ('nodata', 'a half')
    """
    order = ("cloudy", "nodata", "impure", "outside")
    return min(faults, key=lambda fault: order.index(fault[0]))


def _fault(scene: Imagery, window: Window, rules: ChipRules) -> RejectionReason | None:
    """Why the window about a point is no chip."""
    grid, size = scene.grid, rules.chip_px
    if not window.inside(grid):
        beyond = max(
            -window.row,
            -window.col,
            window.row + size - grid.height,
            window.col + size - grid.width,
        )
        return "outside", msg(
            "its window reaches {beyond} px beyond {name}", beyond=beyond, name=scene.name
        )
    valid, cloudy = _seen(scene, window)
    seen, centre = sight_of(valid, cloudy, rules), (size // 2, size // 2)
    if cloudy[centre]:
        return "cloudy", msg("its own pixel is under cloud")
    if not seen.good.all():
        return _unseen(seen)
    if valid[centre] == 0:
        return "nodata", msg("its own pixel has no data")
    return None


def _unseen(seen: Sight) -> RejectionReason:
    if seen.veiled.any():
        return "cloudy", msg(
            "{share:.0%} of its window is under cloud", share=seen.cloud[seen.veiled].min()
        )
    return "nodata", msg("{share:.0%} of its window is valid", share=seen.valid.max())


def _within(
    area: shapely.Geometry, scene: Imagery, rules: ChipRules
) -> tuple[Window, ...] | RejectionReason:
    left, top, right, bottom = area.bounds
    grid, size = scene.grid, rules.chip_px
    if right <= 0 or bottom <= 0 or left >= grid.width or top >= grid.height:
        return "outside", msg("it does not meet {name}", name=scene.name)
    rows = max(0, math.floor(top) - size + 1), min(grid.height - size, math.ceil(bottom) - 1)
    cols = max(0, math.floor(left) - size + 1), min(grid.width - size, math.ceil(right) - 1)
    starts = Starts()
    best, faults = 0.0, []
    for block in _blocks(rows, cols):
        pixels = Window(block.row, block.col, block.height + size - 1, block.width + size - 1)
        shares = window_shares(pixel_shares(area, pixels), size)
        best = max(best, shares.max())
        pure = shares >= rules.purity - SLACK
        if pure.any():
            fault = _see(scene, block, pure, rules)
            faults += [fault] if fault else []
            starts.add(block, pure)
    if starts.count == 0:
        detail = msg("at most {best:.0%} of a window of {size} px lies in it", best=best, size=size)
        return most_informative(faults) if faults else ("impure", detail)
    return _chosen(starts, rules)


def _blocks(rows: tuple[int, int], cols: tuple[int, int]) -> Iterator[Window]:
    """Squares of first pixels, from the first to the last row and column, both included."""
    for row in range(rows[0], rows[1] + 1, _BLOCK_PX):
        for col in range(cols[0], cols[1] + 1, _BLOCK_PX):
            yield Window(
                row, col, min(_BLOCK_PX, rows[1] + 1 - row), min(_BLOCK_PX, cols[1] + 1 - col)
            )


def _see(scene: Imagery, block: Window, pure: Bools, rules: ChipRules) -> RejectionReason | None:
    """Remove unusable places from `pure`; give the reason if none is left.

    Only the part of the scene is read in which pure windows lie.
    """
    rows, cols = np.flatnonzero(pure.any(axis=1)), np.flatnonzero(pure.any(axis=0))
    part = slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1)
    reach = rules.chip_px - 1
    seen = sight(
        scene,
        Window(
            block.row + int(rows[0]),
            block.col + int(cols[0]),
            int(rows[-1] - rows[0]) + 1 + reach,
            int(cols[-1] - cols[0]) + 1 + reach,
        ),
        rules,
    )
    inside = pure[part].copy()
    pure[part] &= seen.good
    if pure.any():
        return None
    return _unseen(
        Sight(seen.good, seen.veiled & inside, np.where(inside, seen.valid, 0), seen.cloud)
    )


class Starts:
    """First pixels of the windows that would do, block by block, one bit each."""

    def __init__(self) -> None:
        """Begin without any."""
        self.count = 0
        self._blocks: list[tuple[Window, UInt8s]] = []

    def add(self, block: Window, good: Bools) -> None:
        """Take in a block's."""
        if good.any():
            self.count += int(good.sum())
            self._blocks.append((block, np.packbits(good)))

    def __iter__(self) -> Iterator[tuple[Window, Bools]]:
        """The blocks that hold any, from top to bottom."""
        for block, bits in self._blocks:
            count = block.height * block.width
            yield block, np.unpackbits(bits, count=count).reshape(block.height, -1).astype(bool)

    def __len__(self) -> int:
        """Number of blocks."""
        return len(self._blocks)


def _chosen(starts: Starts, rules: ChipRules) -> tuple[Window, ...]:
    """Windows that share no pixel (or keep their step), as many as a bounded search finds.

    The best of all offsets of a lattice; without `step_px`, gaps then filled from top to bottom.
    In an area of one block, filling alone is tried too, and the more windows win.
    """
    size = rules.chip_px
    starts_chosen = _lattice(starts, rules.step_px or size)
    if rules.step_px is None:
        starts_chosen = _filled(starts, size, starts_chosen)
        if len(starts) == 1:
            starts_chosen = max(starts_chosen, _filled(starts, size, []), key=len)
    return tuple(Window(row, col, size, size) for row, col in sorted(starts_chosen))


def _lattice(starts: Starts, step: int) -> list[tuple[int, int]]:
    """The starts on the lattice with most of them; of equal lattices the upper left one."""
    counts = np.zeros(step * step, dtype=np.int64)
    for block, good in starts:
        rows, cols = np.nonzero(good)
        at = (rows + block.row) % step * step + (cols + block.col) % step
        counts += np.bincount(at, minlength=step * step)
    down, across = divmod(int(counts.argmax()), step)
    lattice_starts = []
    for block, good in starts:
        first = (down - block.row) % step, (across - block.col) % step
        rows, cols = np.nonzero(good[first[0] :: step, first[1] :: step])
        rows, cols = rows * step + first[0] + block.row, cols * step + first[1] + block.col
        lattice_starts += list(zip(rows.tolist(), cols.tolist(), strict=True))
    return lattice_starts


def _filled(starts: Starts, size: int, taken: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Starts taken, and every further one whose window meets none before it."""
    chosen = list(taken)
    for block, free in starts:
        there = np.array(chosen, dtype=np.int64).reshape(-1, 2) - (block.row, block.col)
        near = (there > -size).all(axis=1) & (
            there < (block.height + size, block.width + size)
        ).all(axis=1)
        for row, col in there[near].tolist():
            _take(free, row, col, size)
        for row, col in np.argwhere(free).tolist():
            if free[row, col]:
                _take(free, row, col, size)
                chosen.append((row + block.row, col + block.col))
    return chosen


def _take(free: Bools, row: int, col: int, size: int) -> None:
    free[
        max(0, row - size + 1) : max(0, row + size), max(0, col - size + 1) : max(0, col + size)
    ] = False


def without_shared(
    labels: Sequence[Label], places_of: dict[int, list[Spot]], what: Literal["window", "pixel"]
) -> dict[int, RejectionReason]:
    """Remove shared places from `places_of`; return the labels without a place, with the reason.

    Labels of one class: the first keeps the place. Labels of several: none does.

    Args:
        labels: the labels that the numbers in `places_of` refer to.
        places_of: places of each label; changed.
        what: the word for a place.
    """
    holders: dict[Spot, list[int]] = defaultdict(list)
    for i in sorted(places_of):
        for place in places_of[i]:
            holders[place].append(i)
    lost: dict[int, list[RejectionReason]] = defaultdict(list)
    for place, sharing in holders.items():
        several = len({labels[i].class_name for i in sharing}) > 1
        reason: Reason = "conflict" if several else "duplicate"
        for i in sharing if several else sharing[1:]:
            places_of[i].remove(place)
            others = ", ".join(labels[j].id for j in sharing if j != i)
            lost[i].append((reason, _shared_words(what, others)))
    # "conflict" comes before "duplicate" where a label lost places for both reasons
    refused = {i: min(reasons) for i, reasons in lost.items() if not places_of[i]}
    for i in refused:
        del places_of[i]
    return refused


def _shared_words(what: Literal["window", "pixel"], others: str) -> str:
    """That every window or pixel of a label belongs to others too."""
    if what == "window":
        return msg("no window of its own: shared with {others}", others=others)
    return msg("no pixel of its own: shared with {others}", others=others)
