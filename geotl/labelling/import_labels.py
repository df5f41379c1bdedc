"""Labels taken from files: those of an import, and a labels.gpkg that another program changed."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import shapely

from geotl.data.labels import read_labels
from geotl.errors import DataError
from geotl.io.raster import Grid
from geotl.io.vector import field_names, read_features
from geotl.labelling.changes import Draft, checked_name, draft_of, placed, with_class
from geotl.labelling.label_set import FIELDS, LabelClass, LabelSet, PlacedLabel, to_crs, to_pixels
from geotl.labelling.shapes import simple_parts

MAX_LINES, MAX_ALIKE = 50, 5  # of what is rejected; of these with one reason
_KINDS = ("Point", "MultiPoint", "Polygon", "MultiPolygon")


@dataclass(frozen=True)
class Imported:
    """What a file gives a project.

    Attributes:
        draft: the project's labels after it.
        added: number of new labels.
        rejected: a line for each label that was not taken, and for each remark on the file.
    """

    draft: Draft
    added: int
    rejected: tuple[str, ...]


def imported(
    draft: Draft, path: Path, grid: Grid, *, field: str = "class", layer: str | None = None
) -> Imported:
    """A project's labels with those of a file added.

    Multi-geometries become a label for each part, polygons are cut at the scene's edge, and a
    label that lies there already with the same class is not added again.

    Args:
        draft: the project's labels.
        path: GeoPackage, GeoJSON, CSV or another format that `read_labels` reads.
        grid: of the scene.
        field: with the class.
        layer: of the file, None where it has one.

    Raises:
        DataError: nothing in the file can be used.
    """
    labels = read_labels(path, layer=layer, field=field, crs_to=grid.crs)
    lost = [(one.label_id, f"{one.reason} ({one.detail})") for one in labels.rejected]
    shapes = to_pixels([one.geometry for one in labels.labels], grid)
    earlier = {(one.class_id, one.geometry.wkb) for one in draft.labels.values()}
    present = {*earlier}
    places: list[tuple[int, shapely.Geometry]] = []
    for one, shape in zip(labels.labels, shapes, strict=True):
        try:
            draft, class_ = _class_named(draft, one.class_name)
        except DataError as error:
            lost.append((one.id, str(error)))
            continue
        parts = list(simple_parts(shape, grid.width, grid.height))
        new = [part for part in parts if (class_.id, part.wkb) not in present]
        present |= {(class_.id, part.wkb) for part in new}
        places += [(class_.id, part) for part in new]
        if not new:
            lost.append((one.id, _why_nothing(class_, parts, earlier)))
    notes = [note.removeprefix(f"{path}: ") for note in labels.notes]
    return Imported(placed(draft, places), len(places), (*_in_lines(lost), *notes))


def replaced(draft: Draft, path: Path, grid: Grid) -> Imported:
    """A project's labels after another program changed its labels.gpkg: what is in there now.

    Labels keep their ids, and their geometry to the bit where they were not moved.

    Args:
        draft: the labels as the project knows them.
        path: labels.gpkg.
        grid: of the scene.

    Raises:
        DataError: the file cannot be read, or has no field `class`.
    """
    features = read_features(path, fields=[n for n in FIELDS if n in field_names(path)])
    if "class" not in features.columns:
        raise DataError(f"{path}: no field 'class'; give it one, or delete the file")
    old = draft
    draft, kept, places, lost = replace(draft, labels={}), dict[int, PlacedLabel](), [], []
    ids = features.columns.get("id", features.ids)
    for id_, name, shape in zip(ids, features.columns["class"], features.geometries, strict=True):
        try:
            draft, class_ = _class_named(draft, name)
            parts = _parts_of(shape, grid)
        except DataError as error:
            lost.append((f"feature {id_}", str(error)))
            continue
        label = None if _number(id_) in kept else old.labels.get(_number(id_))
        if label is not None:
            same = to_crs([label.geometry], grid)[0] == shape
            kept[label.id] = PlacedLabel(label.id, class_.id, label.geometry if same else parts[0])
            parts = parts[1:]
        places += [(class_.id, part) for part in parts]
    draft = placed(replace(draft, labels=kept), places)
    return Imported(draft, len(places), _in_lines(lost))


def with_classes(draft: Draft, given: Sequence[tuple[str, str | None]]) -> Draft:
    """A draft with classes by name and colour; those that are there already stay as they are.

    Raises:
        DataError: a name or colour that cannot be.
    """
    for name, colour in given:
        if draft.named(checked_name(name)) is None:
            draft, _ = with_class(draft, name, colour)
    return draft


def read_classes(path: Path) -> list[tuple[str, str | None]]:
    """Names of classes, and their colours where the file gives them.

    A text file has a name a line, a CSV `name,colour`, a JSON a list of names or of objects with
    name and colour, as classes.json of a project.

    Raises:
        DataError: the file cannot be read, holds no class, or a name or colour that cannot be.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        classes = list(_classes_in(text, path.suffix.lower()))
    except (OSError, ValueError, RecursionError, TypeError, KeyError, csv.Error) as error:
        raise DataError(
            f"{path}: cannot be read as classes ({error}); give a text file with a name a line"
        ) from error
    if not classes:
        raise DataError(f"{path}: holds no class; give a name a line")
    try:
        with_classes(draft_of(LabelSet(), 0, 0), classes)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    return classes


def _classes_in(text: str, suffix: str) -> Iterator[tuple[str, str | None]]:
    if suffix == ".json":
        for one in json.loads(text):
            yield (one["name"], one.get("colour")) if isinstance(one, dict) else (str(one), None)
        return
    rows: Any = csv.reader(text.splitlines()) if suffix == ".csv" else _lines(text)
    for row in rows:
        cells = [cell.strip() for cell in row]
        if cells and cells[0] and cells[0].lower() != "name":
            yield cells[0], (cells[1] if len(cells) > 1 and cells[1] else None)


def _lines(text: str) -> Iterator[list[str]]:
    return ([line] for line in text.splitlines() if not line.startswith("#"))


def _why_nothing(
    class_: LabelClass, parts: Sequence[shapely.Geometry], earlier: AbstractSet[tuple[int, bytes]]
) -> str:
    """Why a label with these parts in the scene adds none to those there were before the file."""
    if not parts:
        return "outside the scene"
    there = all((class_.id, part.wkb) in earlier for part in parts)
    return "it is there already" if there else "twice in the file"


def _class_named(draft: Draft, value: object) -> tuple[Draft, LabelClass]:
    """The class of this name, which is added where there is none."""
    if value is None:
        raise DataError("it has no class")
    name = checked_name(str(value))
    there = draft.named(name)
    return (draft, there) if there is not None else with_class(draft, name)


def _parts_of(shape: shapely.Geometry | None, grid: Grid) -> list[shapely.Geometry]:
    if shape is None or shape.is_empty:
        raise DataError("it has no position")
    if shape.geom_type not in _KINDS or not shape.is_valid:
        raise DataError(f"a {shape.geom_type} that crosses itself or is neither point nor polygon")
    parts = list(simple_parts(to_pixels([shape], grid)[0], grid.width, grid.height))
    if not parts:
        raise DataError("it lies outside the scene")
    return parts


def _number(id_: object) -> int:
    """An id of labels.gpkg, perhaps as text; -1 where it is none."""
    text = str(id_)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else -1


def _feature(label: str) -> str:
    """A label as the lines call it: a mere number is that of a feature."""
    return f"feature {label}" if label.isdigit() else label


def _in_lines(lost: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """A line for each (label, reason); one for many labels that were lost for one reason.

    >>> _in_lines([("3", "no class"), *((str(i), "outside the scene") for i in range(9))])
    ('feature 3: no class', '9 labels, such as feature 0: outside the scene')
    """
    labels: dict[str, list[str]] = {}
    for label, reason in lost:
        labels.setdefault(reason, []).append(label)
    lines = [
        line
        for reason, some in labels.items()
        for line in (
            [f"{_feature(label)}: {reason}" for label in some]
            if len(some) <= MAX_ALIKE
            else [f"{len(some):,} labels, such as {_feature(some[0])}: {reason}"]
        )
    ]
    more = len(lines) - MAX_LINES
    return (*lines[:MAX_LINES], *([f"and {more:,} more"] if more > 0 else []))
