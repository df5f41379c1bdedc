"""The interface of a model for mapping, the same for every kind of model file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from geotl.imagery.sensors import Sensor
from geotl.models.input_domain import Range


class MapperContract(Protocol):
    """The imagery a model needs, and its classes; see `model_file.Contract`."""

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of its input bands, in order."""

    @property
    def sensor(self) -> Sensor:
        """Radiometry and band names of what it was trained on."""

    @property
    def file_bands(self) -> tuple[str, ...] | None:
        """Names in file order, for files that name none."""

    @property
    def tile_px(self) -> int:
        """Side of a window in pixels: a tile's, or 1."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names in the order of the probabilities."""

    @property
    def colours(self) -> tuple[str, ...]:
        """Colours of the classes, as #rrggbb."""


class Mapper(Protocol):
    """A model that can map: a network's file, one exported from it, or a pixel model's file."""

    @property
    def contract(self) -> MapperContract:
        """The imagery it needs and its classes."""

    @property
    def resolution_m(self) -> float | None:
        """Side of a training pixel in metres, None where unknown."""

    @property
    def seen(self) -> Range:
        """Mean and standard deviation of the bands, by which a scene is checked."""

    @property
    def ground(self) -> Mapping[str, list[list[float]]]:
        """Boxes (left, bottom, right, top) of located training samples, by reference system."""

    @property
    def notes(self) -> Mapping[str, Any]:
        """Recipe, metrics, versions and the like."""

    @property
    def path(self) -> Path | None:
        """The file it was loaded from, None for one that was not."""
