"""Parts of a session that show nothing and learn nothing, for a project without them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from geotl.errors import DataError
from geotl.imagery.scene import Scene
from geotl.labelling.label_set import LabelSet
from geotl.labelling.parts import Publish


class NoTiles:
    """A scene of which only the facts are shown."""

    def __init__(self, scene: Scene) -> None:
        """Take the facts from a scene's header."""
        self._scene = scene

    def facts(self) -> Mapping[str, Any]:
        """Name, size and bands."""
        grid = self._scene.grid
        return {
            "name": self._scene.name,
            "width": grid.width,
            "height": grid.height,
            "pixel_m": None,
            "crs": grid.crs,
            "bands": list(self._scene.bands),
            "true_colour": None,
            "false_colour": None,
            "wavelengths": None,
        }

    def tile(self, bands: Sequence[int], each: int, x: int, y: int, contrast: float = 2.0) -> bytes:
        """Raise, since there is none.

        Raises:
            DataError: always.
        """
        raise DataError("no picture of the scene")


class NoModel:
    """A model that is never there."""

    def start(self) -> None:
        """Do nothing."""

    def changed(self, labels: LabelSet) -> None:
        """Do nothing."""

    def tile(self, layer: str, each: int, x: int, y: int) -> bytes | None:
        """None: there is no model."""
        return None

    def at(self, col: float, row: float) -> Mapping[str, Any]:
        """Nothing is known."""
        return {}

    def close(self) -> None:
        """Do nothing."""


def no_finish(folder: Path, publish: Publish) -> Sequence[str]:
    """Raise, since nothing can be finished.

    Raises:
        DataError: always.
    """
    raise DataError("nothing to finish")
