"""Labels as labs hold them: points and polygons with a class, and those that cannot be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import shapely

from geotl.data.tiles import class_name
from geotl.errors import DataError, nearest
from geotl.io.vector import Features, read_features, transformed

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
OTHERS = "*"  # the mapping's key for every name it does not list
_POINTS = ("Point", "MultiPoint")
_AREAS = ("Polygon", "MultiPolygon")


@dataclass(frozen=True)
class Label:
    """A place of known class.

    Attributes:
        id: unlike any other label's.
        class_name: after mapping.
        geometry: a shapely (Multi)Point or valid (Multi)Polygon, in the labels' system.
    """

    id: str
    class_name: str
    geometry: shapely.Geometry


@dataclass(frozen=True)
class Rejection:
    """A label that gave no chip, and why.

    Attributes:
        label_id: the label's.
        reason: one of a few words.
        detail: what exactly, for a reader.
        class_name: its class, as far as known.
        geometry: where it lies, in the labels' system, if anywhere.
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
        notes: what a reader should be told, one line each.
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
        path: any vector file, or a CSV of coordinates (see `vectors.read_features`).
        layer: which of its layers, if it holds several.
        field: the field that holds the class; whole numbers serve as names ("3").
        crs_to: reference system wanted; None leaves the file's own.
        id_field: field of ids, each used once; else the file's own numbering, a CSV's lines.
        mapping: new name for each name, None to drop it; names that are not listed stay, unless
            "*" says what becomes of them.
        crs: the file's reference system, where it does not say.

    Raises:
        DataError: the file, layer or field cannot be had; an id is used twice; no label is left.
    """
    wanted = [field] if id_field is None else [field, id_field]
    found = read_features(path, layer=layer, fields=wanted, crs=crs)
    ids = found.ids if id_field is None else _ids(found, id_field)
    names = [name_of(value) for value in found.columns[field]]
    mapping = {class_name(old): new for old, new in (mapping or {}).items()}
    target = crs_to or found.crs
    moved = transformed(found.geometries, found.crs, target)
    sorted_out = [
        _sort_out(label_id, name, mapping, (here, there), field)
        for label_id, name, here, there in zip(ids, names, found.geometries, moved, strict=True)
    ]
    labels = tuple(one for one in sorted_out if isinstance(one, Label))
    rejected = tuple(one for one in sorted_out if isinstance(one, Rejection))
    if not labels:
        lost = any(one.reason == "outside" for one in rejected)
        hint = f"; is {found.crs} the system of their coordinates?" if lost else ""
        raise DataError(f"{found.path}: no label can be used ({_counts(rejected)}){hint}")
    notes = [*found.notes, *_strangers(found.path, mapping, names), *_repairs(found, labels, ids)]
    return Labels(found.path, labels, rejected, target, tuple(notes))


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
        return Rejection(label_id, "no class", f"{field} is empty", None, there)
    if new is None:
        return Rejection(label_id, "dropped class", f"{name!r} is dropped", name, there)
    if here is None or here.is_empty:
        return Rejection(label_id, "missing geometry", "it has no position", new)
    if there is None:
        return Rejection(label_id, "outside", "beyond what the scene's system can express", new)
    shape = _usable(there)
    if shape is None:
        kind = here.geom_type if here.is_valid else f"{here.geom_type} without an area"
        told = f"it is a {kind}; points and polygons can be used"
        return Rejection(label_id, "unusable geometry", told, new, there)
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


def _ids(found: Features, id_field: str) -> tuple[str, ...]:
    values = found.columns[id_field]
    ids = tuple(str(value) for value in values)
    twice = [name for name, count in Counter(ids).items() if count > 1]
    if None in values or twice:
        told = f"{twice[0]!r} is there more than once" if twice else "some are empty"
        raise DataError(
            f"{found.path}: field {id_field!r} does not tell labels apart ({told}); choose "
            "another id_field, or none for the file's own numbering"
        )
    return ids


def _strangers(
    path: Path, mapping: Mapping[str, str | None], names: Sequence[str | None]
) -> list[str]:
    """A line for each name that is mapped and is in no label."""
    there = sorted({name for name in names if name is not None})
    return [
        f"{path}: the mapping names {old!r}, which no label has; {nearest(old, there)}"
        for old in mapping
        if old != OTHERS and old not in there
    ]


def _repairs(found: Features, labels: Sequence[Label], ids: Sequence[str]) -> list[str]:
    usable = {label.id for label in labels}
    broken = shapely.is_valid_reason(found.geometries)
    repaired = [
        label_id
        for label_id, told in zip(ids, broken, strict=True)
        if label_id in usable and told is not None and told != "Valid Geometry"
    ]
    if not repaired:
        return []
    listed = ", ".join(repaired[:10]) + (" and more" if len(repaired) > 10 else "")
    return [f"{found.path}: {len(repaired)} polygons that cross themselves, repaired: {listed}"]


def _counts(rejected: Sequence[Rejection]) -> str:
    if not rejected:
        return "it holds none"
    counts = Counter(one.reason for one in rejected).most_common()
    return ", ".join(f"{count} {reason}" for reason, count in counts)
