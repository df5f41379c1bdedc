"""Positions of tiles, in metres of one plane, and which tiles overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from pyproj import CRS, Proj, Transformer
from pyproj.exceptions import CRSError, ProjError

from geotl.arrays import Bools, Float64s, Int64s
from geotl.errors import DataError

Box = tuple[float, float, float, float]

_TRUE_SCALE = 0.01  # a projection's metres may differ from the ground's by this share
_APART_M = 50_000.0  # tiles nearer to each other than this are one area
_SLACK = 1e-6  # of a tile's side: neighbours that only touch share no pixel


@dataclass(frozen=True)
class Footprints:
    """Where tiles lie.

    Attributes:
        boxes: left, bottom, right, top in metres [N,4]; nan where the position is not known.
        shared: pairs of tiles whose footprints overlap [M,2], the smaller row first.
    """

    boxes: Float64s
    shared: Int64s

    @property
    def located(self) -> Bools:
        """Whether the position of each tile is known, [N]."""
        return np.asarray(np.isfinite(self.boxes).all(axis=1))

    @property
    def centres(self) -> Float64s:
        """Middle (x, y) of each tile in metres, [N,2]."""
        return np.asarray((self.boxes[:, :2] + self.boxes[:, 2:]) / 2)

    @property
    def sides(self) -> Float64s:
        """The longer side of each tile in metres, [N]; 0 where only its centre is known."""
        return np.asarray((self.boxes[:, 2:] - self.boxes[:, :2]).max(axis=1))


def locate(footprints: Sequence[Box | None], crs: Sequence[str | None]) -> Footprints:
    """Project tiles to metres, and find which of them overlap.

    Tiles of one reference system are compared in it, to the last digit; others by the boxes
    around them in the common plane, which may find a pair too many but never one too few.

    Args:
        footprints: left, bottom, right, top of each tile in its own system.
        crs: the system of each.

    Raises:
        DataError: a reference system that is unknown or cannot be transformed.

    >>> utm = ["EPSG:32633"] * 3
    >>> locate([(0, 0, 10, 10), (10, 0, 20, 10), (5, 5, 15, 15)], utm).shared.tolist()
    [[0, 2], [1, 2]]
    """
    boxes = in_metres(footprints, crs)
    systems = _by_system(footprints, crs)
    system = np.full(len(boxes), -1)
    pairs = [np.zeros((0, 2), np.int64)]
    for number, rows in enumerate(systems.values()):
        system[rows] = number
        pairs.append(rows[_sharing(_given(footprints, rows))])
    if len(systems) > 1:
        located = np.flatnonzero(system >= 0)
        mixed = located[_sharing(boxes[located])]
        pairs.append(mixed[system[mixed[:, 0]] != system[mixed[:, 1]]])
    return Footprints(boxes, np.unique(np.concatenate(pairs), axis=0))


def in_metres(footprints: Sequence[Box | None], crs: Sequence[str | None]) -> Float64s:
    """Footprints in metres of one plane, float64 [N,4]; nan where box or system is not known.

    A projected system that all share is kept (units other than metres are converted) unless its
    scale is more than 1 % off at the tiles' middle, as Web Mercator's is. Else the plane is the
    azimuthal equidistant projection about the tiles' middle: distances from there are true, and
    across it too long by 0.4 % at 1000 km. A box that is turned becomes the box around it.

    Raises:
        DataError: a reference system that is unknown or cannot be transformed.

    >>> in_metres([(0, 0, 10, 10), None], ["EPSG:32633", None]).tolist()
    [[0.0, 0.0, 10.0, 10.0], [nan, nan, nan, nan]]
    """
    boxes = np.full((len(footprints), 4), np.nan)
    systems = _by_system(footprints, crs)
    middle = _middle(footprints, systems)
    if len(systems) == 1:
        (system, rows) = next(iter(systems.items()))
        unit_m = _unit_m(system, middle)
        if unit_m is not None:
            boxes[rows] = _given(footprints, rows) * unit_m
            return boxes
    for system, rows in systems.items():
        if middle is None:
            raise DataError(
                f"{system.name}: a local reference system, which cannot be converted to others; "
                "give all tiles one projected system"
            )
        boxes[rows] = _moved(_given(footprints, rows), system, *middle)
    return boxes


def ground_in_degrees(
    footprints: Sequence[Box | None], crs: Sequence[str | None]
) -> shapely.Geometry | None:
    """The area of tiles in longitude and latitude (WGS 84), None if no position is known.

    Tiles less than 50 km apart share a convex hull; what lies beyond 180 degrees of longitude is
    cut there. Degrees are rounded to six decimals (0.1 m).

    Raises:
        DataError: a reference system that is unknown or cannot be transformed.

    >>> ground = ground_in_degrees([(500000, 0, 510000, 1000), None], ["EPSG:32633", None])
    >>> ground.geom_type, [round(edge, 4) for edge in ground.bounds]
    ('Polygon', [15.0, 0.0, 15.0899, 0.009])
    """
    plane = in_metres(footprints, crs)
    located = np.flatnonzero(np.isfinite(plane).all(axis=1))
    if not len(located):
        return None
    corners = np.full((len(plane), 4, 2), np.nan)
    for system, rows in _by_system(footprints, crs).items():
        box = _given(footprints, rows)[:, [[0, 1], [2, 1], [2, 3], [0, 3]]]
        east, north = _transform(system, CRS("EPSG:4326"), box[..., 0], box[..., 1])
        corners[rows] = np.stack([east, north], axis=-1)
    near_by = shapely.box(*plane[located].T)
    areas = shapely.get_parts(shapely.union_all(shapely.buffer(near_by, _APART_M / 2)))
    tile, area = shapely.STRtree(areas).query(near_by)  # each lies in one of them
    inside, group = shapely.intersects(near_by[tile], areas[area]), located[tile]
    hulls = [_hull(corners[group[inside & (area == n)]]) for n in range(len(areas))]
    ground = shapely.set_precision(shapely.union_all(hulls), 1e-6)
    return _anticlockwise(shapely.normalize(ground))


def _anticlockwise(ground: shapely.Geometry) -> shapely.Geometry:
    """Polygons with their outer rings anticlockwise, as GeoJSON has them (RFC 7946)."""
    if ground.geom_type == "Polygon":
        return shapely.geometry.polygon.orient(ground)
    if ground.geom_type == "MultiPolygon":
        return shapely.multipolygons([_anticlockwise(part) for part in ground.geoms])
    return ground


def _hull(corners: Float64s) -> shapely.Geometry:
    """Convex hull of corners [n,4,2] in degrees, cut at 180 degrees where it crosses them."""
    points = corners.reshape(-1, 2).copy()
    if np.ptp(points[:, 0]) <= 180:
        return shapely.convex_hull(shapely.multipoints(points))
    points[points[:, 0] < 0, 0] += 360
    hull = shapely.convex_hull(shapely.multipoints(points))
    east, west = (hull & shapely.box(*sides) for sides in ((0, -90, 180, 90), (180, -90, 360, 90)))
    return east | shapely.transform(west, lambda xy: xy - [360, 0])


def need_positions(layout: Footprints, names: Sequence[str]) -> None:
    """Make sure that every tile has a position.

    Raises:
        DataError: some have none; the message names one of them and the ways out.
    """
    lost = np.flatnonzero(~layout.located)
    if len(lost):
        raise DataError(
            f"{len(lost)} of {len(layout.boxes)} tiles have no known position (such as "
            f"{names[lost[0]]}); give georeferenced files, or x, y and crs in the table, or choose "
            "another split.method, such as group"
        )


def near(layout: Footprints, rows: Int64s, others: Int64s, buffer_m: float) -> Bools:
    """Which of `rows` overlap a tile of `others`, or lie nearer to one than a buffer.

    Distances are between the footprints' edges. Tiles without a position are near to nothing.

    >>> layout = locate([(0, 0, 10, 10), (30, 0, 40, 10)], ["EPSG:32633"] * 2)
    >>> first, second = np.array([0]), np.array([1])
    >>> near(layout, first, second, 20).tolist(), near(layout, first, second, 21).tolist()
    ([False], [True])
    """
    side = np.zeros((2, len(layout.boxes)), dtype=bool)
    side[0, rows], side[1, others] = True, True
    hit = np.zeros(len(layout.boxes), dtype=bool)
    for one, two in (layout.shared.T, layout.shared.T[::-1]):
        hit[one[side[0, one] & side[1, two]]] = True
    if buffer_m > 0:
        located = layout.located
        here, there = rows[located[rows]], others[located[others]]
        tree = shapely.STRtree(shapely.box(*layout.boxes[there].T))
        reach = layout.boxes[here] + np.array([-1, -1, 1, 1]) * buffer_m
        at, of = tree.query(shapely.box(*reach.T))
        gap = _gaps(layout.boxes[here[at]], layout.boxes[there[of]])
        hit[here[at[gap < buffer_m]]] = True
    return np.asarray(hit[rows])


def _gaps(a: Float64s, b: Float64s) -> Float64s:
    """Distances between boxes [n,4], pair by pair; 0 where they meet."""
    apart = np.maximum(np.maximum(a[:, :2] - b[:, 2:], b[:, :2] - a[:, 2:]), 0)
    return np.asarray(np.hypot(apart[:, 0], apart[:, 1]))


def _sharing(boxes: Float64s) -> Int64s:
    """Pairs of boxes [n,4] that overlap, [m,2]; a point overlaps the box it lies in."""
    geometries = shapely.box(*boxes.T)
    one, two = shapely.STRtree(geometries).query(geometries)
    one, two = one[one < two], two[one < two]
    a, b = boxes[one], boxes[two]
    overlap = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    side = np.minimum(a[:, 2:] - a[:, :2], b[:, 2:] - b[:, :2])
    share = (overlap > _SLACK * side) | ((side == 0) & (overlap >= 0))
    return np.asarray(np.stack([one, two], axis=1)[share.all(axis=1)], dtype=np.int64)


def _by_system(footprints: Sequence[Box | None], crs: Sequence[str | None]) -> dict[CRS, Int64s]:
    """Rows with a known position, by reference system."""
    named: dict[str, list[int]] = {}
    for row, (box, name) in enumerate(zip(footprints, crs, strict=True)):
        if box is not None and name is not None and np.isfinite(box).all():
            named.setdefault(name, []).append(row)
    systems: dict[str, tuple[CRS, list[int]]] = {}
    for name, rows in named.items():
        try:
            system = CRS.from_user_input(name)
        except CRSError as error:
            raise DataError(
                f"reference system {name[:60]!r} is not known; give one such as EPSG:32633"
            ) from error
        key = str(system.to_epsg() or system.to_wkt())
        systems.setdefault(key, (system, []))[1].extend(rows)
    return {system: np.array(sorted(rows), np.int64) for system, rows in systems.values()}


def _given(footprints: Sequence[Box | None], rows: Int64s) -> Float64s:
    return np.array([footprints[row] for row in rows], dtype=np.float64).reshape(-1, 4)


def _middle(
    footprints: Sequence[Box | None], systems: dict[CRS, Int64s]
) -> tuple[float, float] | None:
    """Longitude and latitude of the tiles' mean direction; None for a system without the Earth."""
    directions = [np.zeros((0, 3))]
    for system, rows in systems.items():
        if system.geodetic_crs is None:
            return None
        boxes = _given(footprints, rows)
        x, y = (boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2
        east, north = np.radians(_transform(system, CRS("EPSG:4326"), x, y))
        level = np.cos(north)
        directions.append(np.c_[level * np.cos(east), level * np.sin(east), np.sin(north)])
    mean = np.concatenate(directions).sum(axis=0)
    longitude = np.degrees(np.arctan2(mean[1], mean[0]))
    return float(longitude), float(np.degrees(np.arctan2(mean[2], np.hypot(mean[0], mean[1]))))


def _unit_m(system: CRS, middle: tuple[float, float] | None) -> float | None:
    """Metres on the ground per unit of a system's plane; None if it has no true plane."""
    if system.is_geographic or system.is_geocentric:
        return None
    if system.is_projected and middle is not None:
        scale = Proj(system).get_factors(*middle)
        worst = max(abs(scale.meridional_scale - 1), abs(scale.parallel_scale - 1))
        if not worst <= _TRUE_SCALE:
            return None
    return float(system.axis_info[0].unit_conversion_factor) if system.axis_info else 1.0


def _moved(boxes: Float64s, system: CRS, longitude: float, latitude: float) -> Float64s:
    """Boxes around the corners and the middles of the edges of boxes, in a local plane."""
    plane = CRS(f"+proj=aeqd +lon_0={longitude} +lat_0={latitude} +datum=WGS84 +units=m")
    across, up = np.meshgrid([0.0, 0.5, 1.0], [0.0, 0.5, 1.0])
    left, bottom, right, top = (boxes[:, i, None] for i in range(4))
    x, y = _transform(
        system, plane, left + (right - left) * across.ravel(), bottom + (top - bottom) * up.ravel()
    )
    return np.stack([x.min(1), y.min(1), x.max(1), y.max(1)], axis=1)


def _transform(system: CRS, target: CRS, x: Float64s, y: Float64s) -> Float64s:
    """Positions in another system, as (x, y)."""
    try:
        moved = Transformer.from_crs(system, target, always_xy=True).transform(x, y, errcheck=True)
    except ProjError as error:
        raise DataError(
            f"{system.name}: positions cannot be transformed ({error}); check the tiles' "
            "reference system"
        ) from error
    return np.asarray(moved, dtype=np.float64)
