"""The labels of a project at one moment, and labels.gpkg and classes.json, which hold them.

In a project labels lie in pixels of the scene, in its files in the scene's reference system, for
other programs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from geotl.arrays import Float64s
from geotl.io.files import json_text
from geotl.io.raster import Grid
from geotl.io.vector import Geometries, field_names, geopackage, read_features

LAYER = "labels"
FIELDS = ("id", "class")
Rows = frozenset[tuple[int, str, bytes]]


@dataclass(frozen=True)
class LabelClass:
    """A class.

    Attributes:
        id: number that stays when the class is renamed.
        name: unique among the classes.
        colour: as #rrggbb.
    """

    id: int
    name: str
    colour: str


@dataclass(frozen=True)
class PlacedLabel:
    """A place of known class.

    Attributes:
        id: number that is never given to another label of the project.
        class_id: of its class.
        geometry: a shapely Point or valid Polygon in pixels of the scene: x is the column and y
            the row, counted from the upper left corner, so that the first pixel's middle is
            (0.5, 0.5).
    """

    id: int
    class_id: int
    geometry: shapely.Geometry


@dataclass(frozen=True)
class LabelSet:
    """All labels and classes of a project.

    Attributes:
        revision: number of the last change.
        classes: in the order of their keys.
        labels: in the order in which they were placed.
    """

    revision: int = 0
    classes: tuple[LabelClass, ...] = ()
    labels: tuple[PlacedLabel, ...] = ()

    @cached_property
    def class_names(self) -> dict[int, str]:
        """Name of each class by its id."""
        return {one.id: one.name for one in self.classes}


def to_crs(shapes: Sequence[shapely.Geometry], grid: Grid) -> Geometries:
    """Geometries [N] in the grid's reference system, of those in its pixels."""
    a, b, c, d, e, f = grid.transform
    return _moved(shapes, np.array([[a, b, c], [d, e, f]]))


def to_pixels(shapes: Sequence[shapely.Geometry], grid: Grid) -> Geometries:
    """Geometries [N] in a grid's pixels, of those in its reference system.

    >>> grid = Grid("EPSG:32633", (10.0, 0.0, 500000.0, 0.0, -10.0, 4600000.0), 64, 64)
    >>> to_pixels(to_crs([shapely.Point(3.5, 2)], grid), grid)[0]
    <POINT (3.5 2)>
    """
    a, b, c, d, e, f = grid.transform
    inverse = np.linalg.inv(np.array([[a, b], [d, e]]))
    return _moved(shapes, np.column_stack([inverse, -inverse @ [c, f]]))


def _moved(shapes: Sequence[shapely.Geometry], matrix: Float64s) -> Geometries:
    moved = np.empty(len(shapes), dtype=object)
    moved[:] = list(shapes)
    return np.asarray(
        shapely.transform(moved, lambda xy: xy @ matrix[:, :2].T + matrix[:, 2]), dtype=object
    )


def package_of(labels: LabelSet, grid: Grid) -> memoryview:
    """The bytes of labels.gpkg."""
    names = labels.class_names
    columns: dict[str, Any] = {
        "id": np.array([one.id for one in labels.labels], dtype=np.int64),
        "class": [names[one.class_id] for one in labels.labels],
    }
    shapes = to_crs([one.geometry for one in labels.labels], grid)
    return geopackage(shapes, columns, str(grid.crs), layer=LAYER)


def classes_text(labels: LabelSet) -> str:
    """The text of classes.json."""
    return json_text([{"id": c.id, "name": c.name, "colour": c.colour} for c in labels.classes])


def sha256_of_bytes(content: bytes | memoryview) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def rows_of(labels: LabelSet, grid: Grid) -> Rows:
    """What labels.gpkg holds of a label set: id, class and WKB of each label."""
    names = labels.class_names
    shapes = shapely.to_wkb(to_crs([one.geometry for one in labels.labels], grid))
    pairs = zip(labels.labels, shapes, strict=True)
    return frozenset((one.id, names[one.class_id], wkb) for one, wkb in pairs)


def rows_in(path: Path) -> Rows | None:
    """What a labels.gpkg holds, None where it is not as geotl writes it.

    Raises:
        DataError: it cannot be read.
    """
    if not {*FIELDS} <= {*field_names(path)}:
        return None
    features = read_features(path, fields=FIELDS)
    ids, names = (features.columns[name] for name in FIELDS)
    if not all(isinstance(id_, int) for id_ in ids) or None in features.geometries:
        return None
    rows = zip(ids, map(str, names), shapely.to_wkb(features.geometries), strict=True)
    return frozenset(rows)


def other_fields(path: Path) -> list[str]:
    """Fields of a labels.gpkg that geotl does not write."""
    return [name for name in field_names(path) if name not in FIELDS]
