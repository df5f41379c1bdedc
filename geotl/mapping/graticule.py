"""Parallels and meridians over a map, and round lengths for its scale bar. Pure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from geotl.arrays import Float64s
from geotl.io.raster import Grid
from geotl.io.vector import positions
from geotl.language import msg, numeral

_DEGREES = "EPSG:4326"
_SECONDS = (  # steps between lines, in seconds of arc
    *(0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200),
    *(18000, 36000, 72000, 108000, 216000, 324000),
)


@dataclass(frozen=True)
class Line:
    """A parallel or meridian.

    Attributes:
        kind: which of the two.
        name: such as 13°20′E.
        places: columns and rows along it [n,2], from the grid's upper left corner.
        label_at: position of its label, along the left edge (a parallel) or the lower one, in
            pixels; None where it does not meet that edge.
    """

    kind: Literal["parallel", "meridian"]
    name: str
    places: Float64s
    label_at: float | None


def graticule(grid: Grid, max_lines: tuple[int, int] = (4, 4)) -> list[Line]:
    """Lines of round longitude and latitude over a grid; none without a reference system.

    None either where the grid holds a pole or places that have no longitude.

    Args:
        grid: of the map.
        max_lines: about how many meridians and parallels are wanted.
    """
    if grid.crs is None:
        return []
    edge = _edge(grid)
    lonlat = positions(np.array([grid.at(c, r) for c, r in edge]), grid.crs, _DEGREES)
    if not np.isfinite(lonlat).all():
        return []
    lon = np.rad2deg(np.unwrap(np.deg2rad(lonlat[:, 0])))
    if abs(lon[0] - lon[-1]) > 180:  # around a pole
        return []
    lat = lonlat[:, 1]
    span = (float(lon.min()), float(lon.max())), (float(lat.min()), float(lat.max()))
    lines = []
    for value, step in _rounds(*span[0], max_lines[0]):
        along = np.column_stack([np.full(101, value), np.linspace(*span[1], 101)])
        lines.append(_line("meridian", _named(value, step, "EW"), along, grid))
    for value, step in _rounds(*span[1], max_lines[1]):
        along = np.column_stack([np.linspace(*span[0], 101), np.full(101, value)])
        lines.append(_line("parallel", _named(value, step, "NS"), along, grid))
    return lines


def lattice(grid: Grid, side: int = 9) -> Float64s | None:
    """Longitude and latitude [side,side,2] of places spread evenly over a grid, corners included.

    None where they are not known.
    """
    if grid.crs is None:
        return None
    cols, rows = np.linspace(0, grid.width, side), np.linspace(0, grid.height, side)
    xy = np.array([grid.at(float(c), float(r)) for r in rows for c in cols])
    lonlat = positions(xy, grid.crs, _DEGREES)
    if not np.isfinite(lonlat).all() or np.ptp(lonlat[:, 0]) > 180:
        return None
    return lonlat.reshape(side, side, 2)


def bar_length(most_m: float) -> float:
    """The longest round length up to one: 1, 2 or 5 times a power of ten, in metres.

    >>> bar_length(4300.0), bar_length(0.7)
    (2000.0, 0.5)
    """
    power = 10.0 ** math.floor(math.log10(most_m))
    return max(float(n * power) for n in (1, 2, 5) if n * power <= most_m * (1 + 1e-9))


def length_name(metres: float) -> str:
    """A length for people.

    >>> length_name(20000.0), length_name(500.0), length_name(0.5)
    ('20 km', '500 m', '0.5 m')
    """
    return numeral(f"{metres / 1000:,.10g} km" if metres >= 1000 else f"{metres:.10g} m")


def _edge(grid: Grid, each: int = 33) -> list[tuple[float, float]]:
    """Columns and rows around a grid's edge, back to the first corner."""
    h, w = float(grid.height), float(grid.width)
    corners = [(0.0, 0.0), (w, 0.0), (w, h), (0.0, h), (0.0, 0.0)]
    points = []
    for (c, r), (to_c, to_r) in itertools.pairwise(corners):
        for t in np.linspace(0, 1, each).tolist():
            points.append((c + t * (to_c - c), r + t * (to_r - r)))
    return points


def _rounds(low: float, high: float, max_lines: int) -> Sequence[tuple[float, float]]:
    """Round degrees between two, at most about `most`, each with the step in seconds."""
    wide = max((high - low) * 3600, 1e-9)
    step = next((s for s in _SECONDS if wide / s <= max_lines), _SECONDS[-1])
    first = math.ceil(low * 3600 / step - 1e-9)
    last = math.floor(high * 3600 / step + 1e-9)
    return [(n * step / 3600, step) for n in range(first, last + 1)]


SIDES = {"N": msg("N"), "S": msg("S"), "E": msg("E"), "W": msg("W")}


def _named(degrees: float, step: float, ends: str) -> str:
    """A round longitude or latitude in degrees, minutes and seconds as the step needs.

    >>> _named(13 + 1 / 3, 600, "EW"), _named(-4.5, 3600, "NS"), _named(0.0, 3600, "NS")
    ('13°20′E', '4°30′S', '0°')
    """
    wrapped = (degrees + 180) % 360 - 180 if ends == "EW" and abs(degrees) != 180 else degrees
    tenths = round(abs(wrapped) * 36000)
    full_degrees, rest = divmod(tenths, 36000)
    minutes, seconds = divmod(rest, 600)
    text = f"{full_degrees}°"
    if step < 3600 or rest:
        text += f"{minutes:02d}′"
    if step < 60 or seconds:
        text += f"{seconds / 10:04.1f}″" if step < 1 else f"{round(seconds / 10):02d}″"
    if tenths == 0 or (ends == "EW" and full_degrees == 180):
        return text
    return msg("{degrees}{side}", degrees=numeral(text), side=SIDES[ends[wrapped < 0]])


def _line(kind: Literal["parallel", "meridian"], name: str, along: Float64s, grid: Grid) -> Line:
    xy = positions(along, _DEGREES, str(grid.crs))
    a, b, c, d, e, f = grid.transform
    x, y, area = xy[:, 0] - c, xy[:, 1] - f, a * e - b * d
    col, row = (e * x - b * y) / area, (a * y - d * x) / area
    keep = np.isfinite(col) & np.isfinite(row)
    col, row = col[keep], row[keep]
    if kind == "meridian":
        at, most = _crossing(row, float(grid.height), col), grid.width
    else:
        at, most = _crossing(col, 0.0, row), grid.height
    inside = at is not None and -1e-6 * most <= at <= most * (1 + 1e-6)
    return Line(kind, name, np.column_stack([col, row]), at if inside else None)


def _crossing(along: Float64s, level: float, across: Float64s) -> float | None:
    """The value of `across` where a line first takes a level; None where it does not."""
    above = along - level
    if len(above) == 0:
        return None
    touch = np.flatnonzero(np.abs(above) < 1e-6 * max(1.0, float(np.abs(along).max())))
    if len(touch):
        return float(across[touch[0]])
    turns = np.flatnonzero(np.sign(above[:-1]) != np.sign(above[1:]))
    if not len(turns):
        return None
    i = turns[0]
    share = above[i] / (above[i] - above[i + 1])
    return float(across[i] + share * (across[i + 1] - across[i]))
