"""Points, polygons and class rasters as labels, with the reason of each that is rejected."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

import numpy as np
import rasterio.shutil
import shapely
from numpy.typing import NDArray
from rasterio.io import MemoryFile

from geotl.arrays import Bools, Int64s
from geotl.data.tiles import class_name
from geotl.errors import DataError, nearest
from geotl.io.files import given_path
from geotl.io.raster import Grid, describe, opened
from geotl.io.vector import Features, positions, read_features, transformed
from geotl.language import joined, msg

Reason = Literal[
    "missing geometry",
    "unusable geometry",
    "no class",
    "dropped class",
    "outside",
    "nodata",
    "cloudy",
    "impure",
    "duplicate",
    "conflict",
]
REASONS: dict[Reason, str] = {
    "missing geometry": msg("missing geometry"),
    "unusable geometry": msg("unusable geometry"),
    "no class": msg("no class"),
    "dropped class": msg("dropped class"),
    "outside": msg("outside"),
    "nodata": msg("nodata"),
    "cloudy": msg("cloudy"),
    "impure": msg("impure"),
    "duplicate": msg("duplicate"),
    "conflict": msg("conflict"),
}
OTHERS = "*"  # the mapping's key for every name it does not list
_POINTS = ("Point", "MultiPoint")
_AREAS = ("Polygon", "MultiPolygon")
_CLASS_TAG = re.compile(r"class_(\d+)", re.IGNORECASE)
_MAX_PX = 4096  # side of the blocks in which a class raster is read
_MAX_VALUE = 2**31  # of a class
_ROUNDING = 1e-6  # of a pixel: what a transform's decimals leave open
RASTERS = (".tif", ".tiff", ".vrt", ".img", ".jp2")


@dataclass(frozen=True)
class Label:
    """A place of known class.

    Attributes:
        id: unique among the labels.
        class_name: after mapping.
        geometry: a shapely (Multi)Point or valid (Multi)Polygon, in the labels' system.
    """

    id: str
    class_name: str
    geometry: shapely.Geometry


@dataclass(frozen=True)
class Rejection:
    """A label that gave no chip and no pixel, and why.

    Attributes:
        label_id: the label's.
        reason: one of a few words.
        detail: details for the user.
        class_name: its class, as far as known.
        geometry: geometry in the labels' reference system, None without one.
    """

    label_id: str
    reason: Reason
    detail: str
    class_name: str | None = None
    geometry: shapely.Geometry | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Labels:
    """The labels of a file: every one of its features is here or among the rejected.

    Attributes:
        path: the file.
        labels: those that may be used.
        rejected: the others.
        crs: reference system of all geometries.
        notes: remarks for the user, one line each.
    """

    path: Path
    labels: tuple[Label, ...]
    rejected: tuple[Rejection, ...]
    crs: str
    notes: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """Names in use, sorted."""
        return tuple(sorted({label.class_name for label in self.labels}))


def read_labels(
    path: str | Path,
    *,
    layer: str | None = None,
    field: str,
    crs_to: str | None,
    id_field: str | None = None,
    mapping: Mapping[str, str | None] | None = None,
    crs: str | None = None,
) -> Labels:
    """Read points and polygons with their classes, in the scene's reference system.

    Args:
        path: any vector file, or a CSV of coordinates (see `vector.read_features`).
        layer: name of the layer, if the file has several.
        field: the field with the class; whole numbers serve as names ("3").
        crs_to: reference system wanted; None keeps the file's.
        id_field: field of ids, each used once; else the file's own numbering, a CSV's lines.
        mapping: new name for each name, None to drop it; names that are not listed stay, unless
            "*" gives a rule for them.
        crs: the file's reference system, where the file does not state it.

    Raises:
        DataError: the file, layer or field cannot be had; an id is used twice; no label is left.
    """
    wanted = [field] if id_field is None else [field, id_field]
    features = read_features(path, layer=layer, fields=wanted, crs=crs)
    ids = features.ids if id_field is None else _ids(features, id_field)
    names = [name_of(value) for value in features.columns[field]]
    mapping = {class_name(old): new for old, new in (mapping or {}).items()}
    target = crs_to or features.crs
    moved = transformed(features.geometries, features.crs, target)
    sorted_out = [
        _sort_out(label_id, name, mapping, (here, there), field)
        for label_id, name, here, there in zip(ids, names, features.geometries, moved, strict=True)
    ]
    labels = tuple(one for one in sorted_out if isinstance(one, Label))
    rejected = tuple(one for one in sorted_out if isinstance(one, Rejection))
    if not labels:
        lost = any(one.reason == "outside" for one in rejected)
        hint = f"; is {features.crs} the system of their coordinates?" if lost else ""
        raise DataError(f"{features.path}: no label can be used ({_counts(rejected)}){hint}")
    notes = [
        *features.notes,
        *_unmatched(features.path, mapping, names),
        *_repairs(features, labels, ids),
    ]
    return Labels(features.path, labels, rejected, target, tuple(notes))


def name_of(value: Any) -> str | None:
    """A class's name from a field's value; None where there is none.

    >>> name_of(3), name_of(" forest  edge "), name_of(""), name_of(None)
    ('3', 'forest edge', None, None)
    """
    return (class_name(" ".join(str(value).split())) or None) if value is not None else None


def mapped(name: str, mapping: Mapping[str, str | None]) -> str | None:
    """A class's new name, None if it is dropped.

    >>> rules = {"grass": "meadow", "water": None}
    >>> mapped("grass", rules), mapped("water", rules), mapped("farm", rules)
    ('meadow', None, 'farm')
    >>> mapped("farm", {**rules, "*": None}) is None
    True
    """
    return mapping.get(name, mapping.get(OTHERS, name))


def _sort_out(
    label_id: str,
    name: str | None,
    mapping: Mapping[str, str | None],
    shapes: tuple[shapely.Geometry | None, shapely.Geometry | None],
    field: str,
) -> Label | Rejection:
    """A feature as a label, or as one that cannot be; `shapes` before and after transformation."""
    here, there = shapes
    new = mapped(name, mapping) if name is not None else None
    if name is None:
        return Rejection(label_id, "no class", msg("{field} is empty", field=field), None, there)
    if new is None:
        return Rejection(
            label_id, "dropped class", msg("{name!r} is dropped", name=name), name, there
        )
    if here is None or here.is_empty:
        return Rejection(label_id, "missing geometry", msg("it has no position"), new)
    if there is None:
        return Rejection(
            label_id, "outside", msg("beyond what the scene's system can express"), new
        )
    shape = _usable(there)
    if shape is None:
        detail = msg("it is a {kind}; points and polygons can be used", kind=here.geom_type)
        if not here.is_valid:
            detail = msg(
                "it is a {kind} without an area; points and polygons can be used",
                kind=here.geom_type,
            )
        return Rejection(label_id, "unusable geometry", detail, new, there)
    return Label(label_id, class_name(new), shape)


def _usable(shape: shapely.Geometry) -> shapely.Geometry | None:
    """Points as they are, areas made valid; None for anything else, or for an area of nothing."""
    if shape.geom_type in _POINTS:
        return shape
    if shape.geom_type not in _AREAS:
        return None
    if shape.is_valid:
        return shape
    parts = shapely.get_parts(shapely.get_parts(shapely.make_valid(shape)))
    areas = [part for part in parts if part.geom_type == "Polygon" and part.area > 0]
    return shapely.MultiPolygon(areas) if areas else None


def _ids(features: Features, id_field: str) -> tuple[str, ...]:
    values = features.columns[id_field]
    ids = tuple(str(value) for value in values)
    twice = [name for name, count in Counter(ids).items() if count > 1]
    if None in values or twice:
        detail = f"{twice[0]!r} is there more than once" if twice else "some are empty"
        raise DataError(
            f"{features.path}: field {id_field!r} is not unique ({detail}); choose "
            "another id_field, or none to use the file's numbering"
        )
    return ids


def _unmatched(
    path: Path, mapping: Mapping[str, str | None], names: Sequence[str | None]
) -> list[str]:
    """A line for each name that is mapped and is in no label."""
    there = sorted({name for name in names if name is not None})
    return [
        f"{path}: the mapping names {old!r}, which no label has; {nearest(old, there)}"
        for old in mapping
        if old != OTHERS and old not in there
    ]


def _repairs(features: Features, labels: Sequence[Label], ids: Sequence[str]) -> list[str]:
    usable = {label.id for label in labels}
    broken = shapely.is_valid_reason(features.geometries)
    repaired = [
        label_id
        for label_id, was_broken in zip(ids, broken, strict=True)
        if label_id in usable and was_broken is not None and was_broken != "Valid Geometry"
    ]
    if not repaired:
        return []
    values = {"path": features.path, "count": len(repaired), "ids": ", ".join(repaired[:10])}
    if len(repaired) > 10:
        return [
            msg(
                "{path}: {count} self-intersecting polygons were repaired: {ids} and more", **values
            )
        ]
    return [msg("{path}: {count} self-intersecting polygons were repaired: {ids}", **values)]


def reason_counts(counts: Iterable[tuple[Reason, int]]) -> str:
    """Reasons with their numbers, as a sentence lists them."""
    return joined([msg("{reason} {count}", reason=REASONS[one], count=n) for one, n in counts])


def _counts(rejected: Sequence[Rejection]) -> str:
    if not rejected:
        return "it has none"
    counts = Counter(one.reason for one in rejected).most_common()
    return ", ".join(f"{count} {reason}" for reason, count in counts)


@dataclass(frozen=True)
class ClassRaster:
    """A class raster's header, and what its values are called.

    Attributes:
        path: the file.
        grid: grid of its pixels, with a reference system.
        names: the file's own names of values, those of the mapping applied later.
        mapping: new name for each name or value, None to drop it, as in `labels.read_labels`.
        nodata: value that is no class.
    """

    path: Path
    grid: Grid
    names: Mapping[int, str]
    mapping: Mapping[str, str | None]
    nodata: float | None

    def name_of(self, value: int) -> str | None:
        """The class name of a value, None where it is no class or dropped."""
        if value == self.nodata:
            return None
        name = self.names.get(value, str(value))
        key = str(value) if str(value) in self.mapping else name
        return mapped(key, self.mapping) if name else None


def raster_labels(
    path: str | Path, *, names: Mapping[str, str | None] | None = None
) -> ClassRaster:
    """Take a single-band raster of whole numbers for labels, also if it stores them as floats.

    Names of values come from the file's categories (CategoryNames) or its tags CLASS_n; a value
    without a name is named by its number; a value with a blank category is no class. GDAL's raster
    attribute tables are not read.

    Args:
        path: the file; of any grid and reference system, see `classes_on`.
        names: new name for each of the file's names or values ("3"), None to drop it, "*" for all
            that are not listed.

    Raises:
        DataError: more than one band, values that are not whole, no reference system, or a name
            that the file does not have although it names its values.
    """
    path = given_path(path)
    info = describe(path)
    if len(info.band_names) != 1 or info.paletted or info.dtype.kind not in "iuf":
        raise DataError(
            f"{path}: {len(info.band_names)} bands of {info.dtype}; a raster of classes has one "
            "band of whole numbers"
        )
    if info.grid.crs is None:
        raise DataError(
            f"{path}: has no reference system, so the position of its classes is unknown; give "
            "it one (gdal_edit -a_srs EPSG:...)"
        )
    with opened(path) as source:
        value_name = value_names(source)
    mapping = {class_name(old): new for old, new in (names or {}).items()}
    for old in mapping:
        if value_name and old != OTHERS and not old.isdigit() and old not in value_name.values():
            raise DataError(
                f"{path}: no class {old!r}; {nearest(old, sorted(value_name.values()))}"
            )
    return ClassRaster(path, info.grid, value_name, mapping, info.nodata[0])


def classes_on(labels: ClassRaster, grid: Grid) -> tuple[Int64s, Bools]:
    """Values [h,w] of a class raster on another grid, and where there are any.

    Each pixel takes the value at its middle (nearest neighbour), in whatever reference system;
    where the classes are finer than the grid, those between the middles are not seen. Give it
    blocks of a scene, not scenes.

    Raises:
        DataError: a value that is not whole.
    """
    col, row = _looked_up(labels.grid, grid)
    inside = (row >= 0) & (row < labels.grid.height) & (col >= 0) & (col < labels.grid.width)
    values = np.zeros(inside.shape, dtype=np.int64)
    if not inside.any():
        return values, inside
    top, left = int(row[inside].min()), int(col[inside].min())
    height, width = int(row[inside].max()) - top + 1, int(col[inside].max()) - left + 1
    if max(height, width) > _MAX_PX and max(inside.shape) > 1:
        return _in_quarters(labels, grid)
    with opened(labels.path) as source:
        values_read = source.read(1, window=((top, top + height), (left, left + width)))
        seen = source.read_masks(1, window=((top, top + height), (left, left + width))) > 0
    at = row[inside] - top, col[inside] - left
    values[inside], inside[inside] = _whole_numbers(labels.path, values_read[at], seen[at])
    return values, inside


def _whole_numbers(path: Path, values: NDArray[Any], seen: Bools) -> tuple[Int64s, Bools]:
    """Values of a class raster as integers, and which are a class's; NaN is none.

    Raises:
        DataError: a value that is not whole.
    """
    if values.dtype.kind != "f":
        return values.astype(np.int64), seen
    there = seen & ~np.isnan(values)
    valid_values = np.where(there, values, 0)
    wrong = (valid_values != np.rint(valid_values)) | (np.abs(valid_values) > _MAX_VALUE)
    if wrong.any():
        raise DataError(
            f"{path}: contains the value {valid_values[wrong][0]:g}; a raster of classes has only "
            "whole "
            "numbers: give each class a number, or resample with -r near"
        )
    return valid_values.astype(np.int64), there


def _in_quarters(labels: ClassRaster, grid: Grid) -> tuple[Int64s, Bools]:
    """`classes_on` in parts, for a class raster far finer than the grid."""
    axis = 0 if grid.height >= grid.width else 1
    half = (grid.height, grid.width)[axis] // 2
    first = (half, grid.width) if axis == 0 else (grid.height, half)
    rest = (grid.height - half, grid.width) if axis == 0 else (grid.height, grid.width - half)
    a, b, _, d, e, _ = grid.transform
    x, y = grid.at(0, half) if axis == 0 else grid.at(half, 0)
    parts = [
        classes_on(labels, Grid(grid.crs, grid.transform, *first)),
        classes_on(labels, Grid(grid.crs, (a, b, x, d, e, y), *rest)),
    ]
    values, inside = zip(*parts, strict=True)
    return np.concatenate(values, axis=axis), np.concatenate(inside, axis=axis)


def _looked_up(coarse: Grid, grid: Grid) -> tuple[Int64s, Int64s]:
    """Columns and rows [h,w] of the pixels in which the middles of another grid's lie."""
    rows, cols = np.mgrid[: grid.height, : grid.width] + 0.5
    x, y = grid.at(cols.ravel(), rows.ravel())
    there = positions(np.column_stack([x, y]), str(grid.crs), str(coarse.crs))
    a, b, c, d, e, f = coarse.transform
    size = a * e - b * d
    across, down = there[:, 0] - c, there[:, 1] - f
    place = np.stack([(e * across - b * down) / size, (a * down - d * across) / size])
    place = np.nan_to_num(place, nan=-1.0, posinf=-1.0, neginf=-1.0)
    col, row = np.floor(place + _ROUNDING).astype(np.int64).reshape(2, grid.height, grid.width)
    return col, row


def value_names(source: Any) -> dict[int, str]:
    """Names of an open raster's values, by categories first, then by tags CLASS_n.

    GDAL gives categories in the XML of a copy as VRT. A blank one is "".
    """
    with MemoryFile(ext=".vrt") as copy:
        rasterio.shutil.copy(source, copy.name, driver="VRT")
        categories = ElementTree.fromstring(copy.read()).find(".//CategoryNames")
    if categories is not None:
        return {n: class_name(one.text or "") for n, one in enumerate(categories)}
    tags = {**source.tags(), **source.tags(1)}
    matches = ((_CLASS_TAG.fullmatch(key.strip()), text) for key, text in tags.items())
    return {int(match[1]): class_name(text) for match, text in matches if match}


def read_any(
    path: str | Path,
    *,
    field: str,
    crs_to: str | None,
    layer: str | None = None,
    id_field: str | None = None,
    mapping: Mapping[str, str | None] | None = None,
    crs: str | None = None,
) -> Labels | ClassRaster:
    """Read labels; what ends as a raster does is a class raster, else see `read_labels`.

    Raises:
        DataError: as `read_labels` and `raster_labels`.
    """
    if Path(path).suffix.lower() in RASTERS:
        return raster_labels(path, names=mapping)
    return read_labels(
        path, layer=layer, field=field, crs_to=crs_to, id_field=id_field, mapping=mapping, crs=crs
    )
