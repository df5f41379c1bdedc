"""The sample scene with labels drawn from its truth, and a learner with its events."""

from __future__ import annotations

import functools
import io
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import rasterio
import shapely
from helpers.tiles import ROOT
from PIL import Image

from geotl.imagery.scene import Scene, open_scene
from geotl.imagery.sensors import get_sensor
from geotl.labelling.feature_tiles import tiles_of
from geotl.labelling.label_set import LabelClass, LabelSet, PlacedLabel
from geotl.labelling.learner import Learner, LearnerOptions

SAMPLE = ROOT / "sample_tiles"
BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
COVERS = {  # the sample's classes by what they are to somebody who clicks few points
    "forest": (0, 1),
    "farmland": (2, 4, 5),
    "built-up": (3, 6),
    "water": (7,),
    "wetland": (8,),
}
NO_DATA = 255


def sample_scene() -> Scene:
    return open_scene(SAMPLE / "scene.tif", get_sensor("sentinel2_l2a_n0400"), BANDS)


@functools.cache
def truth() -> np.ndarray:
    """The number of the cover of each pixel [H,W], in the order of `COVERS`."""
    with rasterio.open(SAMPLE / "truth.tif") as image:
        classes = image.read(1)
    covers = np.full(classes.shape, NO_DATA, np.uint8)
    for number, some in enumerate(COVERS.values()):
        covers[np.isin(classes, some)] = number
    with rasterio.open(SAMPLE / "scene.tif") as image:
        covers[(image.read() == 0).all(axis=0)] = NO_DATA
    return covers


CLASSES = tuple(LabelClass(i + 1, name, f"#{i:02x}8040") for i, name in enumerate(COVERS))


def drawn(count: int, seed: int = 0) -> tuple[PlacedLabel, ...]:
    """Labels at random places of the sample scene, of its truth."""
    rows, cols = np.nonzero(truth() != NO_DATA)
    some = np.random.default_rng(seed).permutation(len(rows))[:count]
    return tuple(
        PlacedLabel(
            number,
            int(truth()[rows[i], cols[i]]) + 1,
            shapely.Point(cols[i] + 0.5, rows[i] + 0.5),
        )
        for number, i in enumerate(some, start=1)
    )


def label_set(
    labels: Sequence[PlacedLabel], revision: int = 1, classes: tuple[LabelClass, ...] = CLASSES
) -> LabelSet:
    return LabelSet(revision, classes, tuple(labels))


class Events:
    """Takes what a learner publishes."""

    def __init__(self) -> None:
        self.all: list[tuple[str, dict[str, object]]] = []
        self._turn = threading.Condition()

    def __call__(self, kind: str, **values: object) -> None:
        with self._turn:
            self.all.append((kind, values))
            self._turn.notify_all()

    def await_kind(self, kind: str, count: int, timeout_s: float = 60.0) -> None:
        """Wait until there were so many events of a kind."""
        with self._turn:
            assert self._turn.wait_for(lambda: len(self.of(kind)) >= count, timeout_s), self.all

    def of(self, kind: str) -> list[dict[str, object]]:
        return [values for name, values in self.all if name == kind]


@contextmanager
def learning(
    folder: Path, options: LearnerOptions | None = None, scene: Scene | None = None
) -> Iterator[tuple[Learner, Events]]:
    """A learner at work, which rests for a long time unless the options say otherwise."""
    events = Events()
    options = options or LearnerOptions(rest_s=600.0)
    learner = Learner(scene or sample_scene(), folder, events, options=options)
    learner.start()
    try:
        yield learner, events
    finally:
        learner.close()


def pixels(png: bytes) -> np.ndarray:
    """Colours [256,256,4] of a tile."""
    image = Image.open(io.BytesIO(png))
    assert image.format == "PNG"
    assert image.mode == "RGBA"
    return np.asarray(image)


def class_map(learner: Learner, each: int = 1) -> np.ndarray:
    """The number of each position's class, `NO_DATA` where nothing is drawn."""
    scene = learner.scene.grid
    shape = -(-scene.height // each), -(-scene.width // each)
    whole = np.full((shape[0] + 256, shape[1] + 256), NO_DATA, np.uint8)
    for place in tiles_of(scene, each):
        png = learner.tile("classes", *place)
        assert png is not None
        rgba = pixels(png)
        classes = np.where(rgba[..., 3] == 0, NO_DATA, rgba[..., 0])
        whole[place.y * 256 :, place.x * 256 :][:256, :256] = classes
    return whole[: shape[0], : shape[1]]
