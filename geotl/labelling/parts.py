"""What the server asks of the parts beside the project: pictures, a model that learns, an end."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from geotl.labelling.label_set import LabelSet
from geotl.labelling.own_commands import Attempts, OwnCommands


class Publish(Protocol):
    """Sends an event to every open page and keeps the last of its kind; any thread may call it."""

    def __call__(self, kind: str, **values: object) -> None:
        """Send an event, with values that JSON knows."""
        ...


class ScenePictures(Protocol):
    """The scene as pictures."""

    def facts(self) -> Mapping[str, Any]:
        """Name, size, bands and the like, for the page."""
        ...

    def tile(self, bands: Sequence[int], each: int, x: int, y: int, contrast: float = 2.0) -> bytes:
        """A PNG [256,256] of three bands; one of its pixels covers `each` pixels of the scene.

        Args:
            bands: positions of the bands shown as red, green and blue.
            each: pixels of the scene, along a side, to a pixel of the tile.
            x: of the tile, counted from the left.
            y: of the tile, counted from the top.
            contrast: share of the pixels cut at both ends [percent].
        """
        ...


class FollowingModel(Protocol):
    """A model that follows the labels, in threads of its own."""

    def start(self) -> None:
        """Begin the work in the background."""
        ...

    def changed(self, labels: LabelSet) -> None:
        """Take newer labels; returns at once."""
        ...

    def tile(self, layer: str, each: int, x: int, y: int) -> bytes | None:
        """A PNG [256,256] of the newest model's layer; None before there is a model."""
        ...

    def at(self, col: float, row: float) -> Mapping[str, Any]:
        """Probabilities by class, applicability and band values at a place."""
        ...

    def close(self) -> None:
        """End the threads."""
        ...


class Finish(Protocol):
    """Writes recipe, model, map and report of a project, and publishes how far it is."""

    def __call__(self, folder: Path, publish: Publish, commands: OwnCommands) -> Sequence[str]:
        """Names of the files that the page may show, as in `server.FILES`.

        Args:
            folder: of the project.
            publish: takes events `finish`.
            commands: runs what is run, and is closed where the attempt is to end.
        """
        ...


@dataclass(frozen=True)
class Parts:
    """What belongs to a project beside its labels.

    Attributes:
        tiles: the scene as pictures.
        model: follows the labels.
        finish: writes model, map and report.
        attempts: of finishing, one at a time.
        fault: set by a part that cannot go on; the server then ends.
    """

    tiles: ScenePictures
    model: FollowingModel
    finish: Finish
    attempts: Attempts = field(default_factory=Attempts)
    fault: threading.Event = field(default_factory=threading.Event)
