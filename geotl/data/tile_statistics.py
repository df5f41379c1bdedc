"""Statistics and thumbnails of all tiles in one pass; tiles that are nearly the same."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geotl.arrays import Bools, Float32s, Float64s, Int64s
from geotl.console import Progress
from geotl.data.tile_array import Pack
from geotl.imagery.measurable import Measurable, measurable
from geotl.imagery.sensors import Sensor
from geotl.language import msg, nmsg

THUMB_PX = 16
QUANTILES = (0.0, 0.001, 0.01, 0.5, 0.99, 0.999, 1.0)
_BLOCK_VALUES = 1 << 22
_SAMPLED_VALUES = 1 << 21  # of each band, behind the quantiles
Box = tuple[float, float, float, float]
SAME = 0.98  # correlation of two thumbnails from which tiles are called near-copies
_EVEN = 0.25  # share of the typical contrast below which a tile is too uniform to be compared
_MAX_TURNED = 3000  # tiles up to which turned and mirrored copies are searched too
_MAX_COMPARED = 30000  # tiles up to which all pairs are compared
_BLOCK = 1024


@dataclass(frozen=True)
class TileFacts:
    """Figures of N tiles of C bands, in DN.

    Attributes:
        mean, sd: statistics of each tile's valid pixels [N,C]; 0 where it has none.
        valid: share of valid pixels of each tile, over all bands [N].
        blank: share of each tile's pixels that are valid and 0 in every band [N].
        full: share of each tile's pixels at the type's largest value in some band [N]; 0 for
            floating point.
        quantiles: quantiles of each band over valid pixels [len(QUANTILES),C], from a regular
            sample of pixels; nan where a band has none.
        thumbs: tiles shrunk by averaging to at most 16 px a side, float32 [N,C,s,s]; invalid
            pixels take the tile's mean.
    """

    mean: Float64s
    sd: Float64s
    valid: Float64s
    blank: Float64s
    full: Float64s
    quantiles: Float64s
    thumbs: Float32s


def tile_facts(pack: Pack, progress: Progress | None = None) -> TileFacts:
    """Statistics of every tile, block by block."""
    count, bands, side, _ = pack.images.shape
    step = max(1, _BLOCK_VALUES // (bands * side * side))
    stride = max(1, count * side * side // _SAMPLED_VALUES)
    parts, sampled = [], []
    for start in range(0, count, step):
        rows = slice(start, start + step)
        image = np.asarray(pack.images[rows])
        valid = np.ones(image.shape, bool) if pack.valid is None else np.asarray(pack.valid[rows])
        parts.append(_figures(image, valid))
        sampled.append(_sampled(image, valid, stride))
        if progress is not None:
            progress(min(start + step, count), count)
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return TileFacts(
        mean=columns[0],
        sd=columns[1],
        valid=columns[2],
        blank=columns[3],
        full=columns[4],
        quantiles=_quantiles(np.concatenate(sampled, axis=1)),
        thumbs=columns[5],
    )


def _figures(image: NDArray[Any], valid: Bools) -> tuple[NDArray[Any], ...]:
    """Means, sds, shares and thumbs of a block [n,C,S,S]."""
    values = image.astype(np.float64)
    number = np.maximum(valid.sum(axis=(2, 3)), 1)
    mean = np.where(valid, values, 0.0).sum(axis=(2, 3)) / number
    about = np.where(valid, values - mean[:, :, None, None], 0.0)
    sd = np.sqrt((about**2).sum(axis=(2, 3)) / number)
    blank = ((image == 0) & valid).all(axis=1).mean(axis=(1, 2))
    full = np.zeros(len(image))
    if image.dtype.kind in "iu":
        full = ((image == np.iinfo(image.dtype).max) & valid).any(axis=1).mean(axis=(1, 2))
    thumbs = _shrunk(mean[:, :, None, None] + about).astype(np.float32)
    return mean, sd, valid.mean(axis=(1, 2, 3)), blank, full, thumbs


def _shrunk(values: Float64s) -> Float64s:
    """Means of boxes [n,C,s,s] of images [n,C,S,S], s at most 16; the boxes differ by a pixel."""
    side = values.shape[-1]
    to = min(THUMB_PX, side)
    edges = np.arange(to) * side // to
    width = np.diff(np.append(edges, side)).astype(np.float64)
    summed = np.add.reduceat(np.add.reduceat(values, edges, axis=2), edges, axis=3)
    return np.asarray(summed / np.outer(width, width))


def _sampled(image: NDArray[Any], valid: Bools, stride: int) -> Float64s:
    """Every stride-th pixel of a block, by band [C,n], nan where it is not valid."""
    flat = np.moveaxis(image, 1, 0).reshape(image.shape[1], -1)[:, ::stride]
    seen = np.moveaxis(valid, 1, 0).reshape(image.shape[1], -1)[:, ::stride]
    return np.where(seen, flat.astype(np.float64), np.nan)


def _quantiles(values: Float64s) -> Float64s:
    quantiles = np.full((len(QUANTILES), len(values)), np.nan)
    for band, row in enumerate(values):
        seen = row[np.isfinite(row)]
        if seen.size:
            quantiles[:, band] = np.quantile(seen, QUANTILES)
    return quantiles


def impossible_values(pack: Pack, sensor: Sensor) -> Int64s:
    """How many values in how many tiles no sensor of this kind can measure, int64 [2].

    They are not valid in the pack, though nothing declares them as nodata.
    """
    counts, ends = np.zeros(2, np.int64), measurable(sensor, pack.bands)
    if pack.valid is None or ends.impossible(pack.images[0]) is None:
        return counts
    for start in range(0, len(pack), 64):
        counts += count_impossible(pack.images[start : start + 64], ends)
    return counts


def count_impossible(images: NDArray[Any], ends: Measurable) -> Int64s:
    """How many values in how many tiles [n,C,S,S] lie beyond what can be measured, int64 [2]."""
    wrong = ends.impossible(images.swapaxes(0, 1))
    if wrong is None:
        return np.zeros(2, np.int64)
    counts = (wrong.swapaxes(0, 1) & np.isfinite(images)).sum(axis=(1, 2, 3))
    return np.array([counts.sum(), (counts > 0).sum()], np.int64)


def impossible_line(counts: Int64s, sensor: Sensor) -> str:
    """How many such values there are, in words.

    >>> from geotl.imagery.sensors import get_sensor
    >>> impossible_line(np.array([3, 1]), get_sensor("rgb"))
    '3 values in 1 tile cannot be of sensor rgb: taken as no data'
    """
    values, tiles = counts.tolist()
    return msg(
        "{values} in {tiles} cannot be of sensor {sensor}: taken as no data",
        values=nmsg("{n} value", "{n} values", values),
        tiles=nmsg("{n} tile", "{n} tiles", tiles),
        sensor=sensor.name,
    )


@dataclass(frozen=True)
class TilePair:
    """Two tiles that share something, the earlier one first.

    Attributes:
        first, second: positions of the tiles.
        share: correlation of near-copies; share of the smaller footprint that overlaps.
        turned: one is turned or mirrored.
    """

    first: int
    second: int
    share: float
    turned: bool = False


def near_copies(thumbs: Float32s, same: float = SAME) -> list[TilePair]:
    """Pairs of tiles whose thumbnails correlate over all bands, by `same` or more.

    Each tile's thumbnail [C,s,s] is taken about its band means and scaled to length 1; tiles with
    less than a quarter of the typical contrast, such as open water, are left out, for noise and
    slow shading are all that they hold. In up to 3,000 tiles the eight turned and mirrored views
    are compared as well; beyond 30,000 tiles, only the first 30,000 are.
    """
    count = min(len(thumbs), _MAX_COMPARED)
    about = thumbs[:count] - thumbs[:count].mean(axis=(2, 3), keepdims=True)
    scale = about.std(axis=(0, 2, 3), keepdims=True)
    about = about / np.where(scale > 0, scale, 1.0)
    length = np.sqrt((about**2).sum(axis=(1, 2, 3)))
    vivid = np.flatnonzero(length >= max(_EVEN * float(np.median(length)), 1e-6))
    unit = about[vivid] / length[vivid][:, None, None, None]
    flat = unit.reshape(len(vivid), -1)
    pairs: dict[tuple[int, int], TilePair] = {}
    for turn, view in enumerate(_views(unit) if count <= _MAX_TURNED else [unit]):
        turned = view.reshape(len(vivid), -1)
        for start in range(0, len(vivid), _BLOCK):
            likeness = flat[start : start + _BLOCK] @ turned[start:].T  # each pair once
            for i, j in np.argwhere(likeness >= same).tolist():
                a, b = int(vivid[start + i]), int(vivid[start + j])
                if a < b and (a, b) not in pairs:
                    pairs[a, b] = TilePair(a, b, min(float(likeness[i, j]), 1.0), turn > 0)
    return [pairs[key] for key in sorted(pairs)]


def overlaps(footprints: Sequence[Box | None], crs: Sequence[str | None]) -> list[TilePair]:
    """Pairs of tiles of one reference system whose footprints share more than an edge.

    >>> boxes = [(0.0, 0.0, 10.0, 10.0), (5.0, 0.0, 15.0, 10.0), (15.0, 0.0, 25.0, 10.0)]
    >>> [(p.first, p.second, p.share) for p in overlaps(boxes, ["EPSG:32633"] * 3)]
    [(0, 1, 0.5)]
    """
    by_crs: dict[str | None, list[int]] = defaultdict(list)
    for place, (box, system) in enumerate(zip(footprints, crs, strict=True)):
        if box is not None and box[2] > box[0] and box[3] > box[1]:
            by_crs[system].append(place)
    pairs = []
    for places in by_crs.values():
        boxes = np.array([footprints[i] for i in places], dtype=np.float64)
        shapes = shapely.box(*boxes.T)
        areas = shapely.area(shapes)
        first, second = shapely.STRtree(shapes).query(shapes, predicate="intersects")
        keep = first < second
        first, second = first[keep], second[keep]
        common = shapely.area(shapely.intersection(shapes[first], shapes[second]))
        share = common / np.minimum(areas[first], areas[second])
        for a, b, part in zip(first.tolist(), second.tolist(), share.tolist(), strict=True):
            if part > 1e-3:  # not for rounding's sake
                pairs.append(TilePair(places[a], places[b], float(part)))
    return sorted(pairs, key=lambda pair: (pair.first, pair.second))


def copies(contents: Sequence[str]) -> list[list[int]]:
    """Groups of tiles with the same content.

    >>> copies(["a", "b", "a", "c"])
    [[0, 2]]
    """
    by_content: dict[str, list[int]] = defaultdict(list)
    for place, content in enumerate(contents):
        by_content[content].append(place)
    return [group for group in by_content.values() if len(group) > 1]


def _views(unit: Float32s) -> Iterable[Float32s]:
    for mirrored in (unit, unit[..., ::-1]):
        for quarter in range(4):
            yield np.ascontiguousarray(np.rot90(mirrored, quarter, axes=(2, 3)))
