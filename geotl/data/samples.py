"""Samples of a recipe, row by row; a row is a tile, a chip, or a pixel.

Splits, folds, baselines and evaluation read rows only through `Samples`. What is special to a kind
of row (the pixels of tiles, the features of pixels) stays with the class that implements it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from geotl.arrays import Float64s, Int64s
from geotl.data.footprints import Footprints
from geotl.data.spatial_splits import Variogram


class Samples(Protocol):
    """Rows with a label, a position and a group each; N of them, of K classes."""

    def __len__(self) -> int:
        """Number of rows N."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the K classes, in the order of the labels."""
        ...

    @property
    def labels(self) -> Int64s:
        """Class of each row [N], -1 where there is none."""
        ...

    @property
    def names(self) -> Sequence[str]:
        """Name of each row in tables and messages."""
        ...

    @property
    def paths(self) -> Sequence[Path]:
        """The file behind each row."""
        ...

    @property
    def contents(self) -> Sequence[str]:
        """A checksum of each row's values: rows of equal content stay on one side of a split."""
        ...

    @property
    def groups(self) -> Sequence[str | None]:
        """Group of each row (a region, a polygon) that no split divides, None where unknown."""
        ...

    @property
    def scenes(self) -> Sequence[str | None]:
        """The scene that each row was cut from, None where unknown."""
        ...

    @property
    def sides(self) -> Sequence[str | None]:
        """The side of a split that a table gives each row: train, test, or None."""
        ...

    @property
    def sources(self) -> Sequence[frozenset[str] | None]:
        """Contents that the generator of a synthetic row was trained on, else None."""
        ...

    @property
    def footprints(self) -> Footprints:
        """Where the rows lie, in metres."""
        ...

    @property
    def band_table(self) -> Float64s:
        """Statistics of each row's bands [N,D], for the baseline and the variogram."""
        ...

    @property
    def variogram(self) -> Variogram:
        """How far rows resemble each other, by the distance between them."""
        ...

    @property
    def real(self) -> Samples:
        """The same without its synthetic rows, which come last."""
        ...
