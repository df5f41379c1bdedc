"""A reference sample that is labelled blind: points in random order, without map and strata.

Who labels a point sees neither the map's class there nor the stratum that the point was drawn
from, which is that class. An answer is a label at the point's place, so that answers are kept,
undone and made again like all labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from geotl.data.labels import name_of
from geotl.errors import DataError
from geotl.evaluation.reference_points import STRATUM, class_field, places_of
from geotl.io.files import given_path
from geotl.io.geopackage_field import filled
from geotl.io.raster import Grid
from geotl.io.vector import field_names, read_features
from geotl.labelling.label_set import LabelSet, PlacedLabel

_DIGITS = 4  # of a pixel: places that agree to these are one
Place = tuple[float, float]


@dataclass(frozen=True)
class SamplePoint:
    """A point of the sample.

    Attributes:
        number: its place in the random order, from 1.
        feature: its number in the file.
        col: column in the scene, where the first pixel's middle is 0.5.
        row: likewise.
        given: class that the file has already, None for none.
    """

    number: int
    feature: int
    col: float
    row: float
    given: str | None

    @property
    def place(self) -> Place:
        """Column and row, rounded for comparison."""
        return round(self.col, _DIGITS), round(self.row, _DIGITS)


@dataclass(frozen=True)
class ReferenceSample:
    """Points that wait for their class.

    Attributes:
        path: of the file.
        content: its bytes.
        field: name of the field with the class.
        points: in random order.
        classes: names that points may get, sorted: those of the strata and of classes given.
        outside: number of points that do not lie in the scene.
    """

    path: Path
    content: bytes
    field: str
    points: tuple[SamplePoint, ...]
    classes: tuple[str, ...]
    outside: int = 0

    def answers(self, labels: LabelSet) -> dict[int, PlacedLabel]:
        """The label at each point that has one, by the point's number."""
        at = {_place_of(one): one for one in labels.labels}
        return {point.number: at[point.place] for point in self.points if point.place in at}

    def event(self, labels: LabelSet) -> list[dict[str, Any]]:
        """The points for the page: place and answer, and nothing that the map says of them."""
        answers = self.answers(labels)
        return [
            {
                "id": point.number,
                "col": point.col,
                "row": point.row,
                "class": answers[point.number].class_id if point.number in answers else None,
            }
            for point in self.points
        ]

    def as_changes(self, answers: object, labels: LabelSet) -> list[dict[str, Any]]:
        """The page's answers as changes of labels.

        Args:
            answers: a list of {"op": "reclass", "id": number of a point, "class": id}.
            labels: as they are.

        Raises:
            DataError: anything else: a blind sample takes no other change.
        """
        by_number = {point.number: point for point in self.points}
        given, changes = self.answers(labels), dict[int, dict[str, Any]]()
        for one in answers if isinstance(answers, list) else [None]:
            change = one if isinstance(one, Mapping) and one.get("op") == "reclass" else {}
            number = change.get("id")
            if type(number) is not int or number not in by_number or number in changes:
                raise DataError("a reference sample takes one class for each of its points, alone")
            there = given.get(number)
            changes[number] = {"class": change.get("class")} | (
                {"op": "add", "geometry": _geojson(by_number[number])}
                if there is None
                else {"op": "reclass", "id": there.id}
            )
        return list(changes.values())

    def given_changes(self, labels: LabelSet) -> list[dict[str, Any]]:
        """The classes that the file has already, as changes of labels without any answer."""
        ids = {one.name: one.id for one in labels.classes}
        once = {point.place: point for point in self.points if point.given in ids}
        return [
            {"op": "add", "class": ids[str(point.given)], "geometry": _geojson(point)}
            for point in once.values()
        ]

    def check(self, labels: LabelSet, folder: Path) -> None:
        """Make sure that labels are answers to this sample.

        Raises:
            DataError: one lies at none of its points.
        """
        places = {point.place for point in self.points}
        if any(_place_of(one) not in places for one in labels.labels):
            raise DataError(
                f"{folder}: answers to another sample than {self.path}; give that one, or name "
                "another folder with -o"
            )

    def write(self, labels: LabelSet, path: Path) -> None:
        """Write the file with the answers in its field; all else in it stays as it is.

        Raises:
            DataError: the file is damaged.
            OutputError: the folder cannot be written, or the disk is full.
        """
        names, answers = labels.class_names, self.answers(labels)
        values = {
            point.feature: names[answers[point.number].class_id]
            if point.number in answers
            else None
            for point in self.points
        }
        filled(self.content, path, self.field, values)


def read_sample(path: Path, grid: Grid, classes: Sequence[str] = ()) -> ReferenceSample:
    """Read points that `geotl sample` drew, or others with a field for their class.

    Args:
        path: a GeoPackage with one layer of points.
        grid: of the scene.
        classes: names that points may get beside those of the file.

    Raises:
        DataError: another file, no field for the class, or no point in the scene.
    """
    path = given_path(path)
    if path.suffix.lower() != ".gpkg":
        raise DataError(f"{path}: a reference sample is a GeoPackage; draw one with geotl sample")
    fields = field_names(path)
    field = class_field(path, fields)
    wanted = [field, *({STRATUM} & {*fields})]
    features = read_features(path, fields=wanted)
    cols, rows = places_of(features, grid)
    inside = (cols >= 0) & (cols < grid.width) & (rows >= 0) & (rows < grid.height)
    if not inside.any():
        raise DataError(f"{path}: none of its {len(cols)} points lies in the scene; give its own")
    given = [name_of(value) for value in features.columns[field]]
    order = np.random.default_rng(len(cols)).permutation(np.flatnonzero(inside)).tolist()
    points = tuple(
        SamplePoint(number, int(features.ids[i]), float(cols[i]), float(rows[i]), given[i])
        for number, i in enumerate(order, 1)
    )
    strata = map(name_of, features.columns.get(STRATUM, ()))
    names = {name for name in (*classes, *given, *strata) if name is not None}
    return ReferenceSample(
        path, path.read_bytes(), field, points, tuple(sorted(names)), int((~inside).sum())
    )


def _geojson(point: SamplePoint) -> dict[str, Any]:
    return {"type": "Point", "coordinates": [point.col, point.row]}


def _place_of(label: PlacedLabel) -> Place:
    middle = label.geometry.centroid
    return round(middle.x, _DIGITS), round(middle.y, _DIGITS)
