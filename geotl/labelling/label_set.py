"""The labels of a project at one moment: classes, points and polygons, in pixels of the scene."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import shapely


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
