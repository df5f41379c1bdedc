"""The labels of a project as pixels with features, as `geotl run` of the finished project has them.

What a label gives depends on the label alone, and a pixel's features on the pixel alone: both are
kept, so that after a click only the new label's pixels are read. A label that is moved gives other
pixels; one that gets another class gives the same ones.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import shapely
from shapely.affinity import affine_transform

from geotl.arrays import Bools, Float32s
from geotl.data.labels import Label, Labels, name_of
from geotl.data.pixel_labels import (
    PixelPlacement,
    PixelRules,
    UsablePixels,
    settle_pixels,
    usable_pixels,
)
from geotl.experiments.pixel_networks import DeepNetworks
from geotl.experiments.pixel_samples import LOCAL, PixelReader, PixelSamples, SceneFacts
from geotl.experiments.pixel_windows import PixelPlaces
from geotl.imagery.scene import Scene
from geotl.io.raster import Grid
from geotl.labelling.label_set import LabelSet, PlacedLabel
from geotl.models.pixel_features import PixelFeatures

MIN_CLASSES = 2  # with a label, that a first model needs
LABELS_FILE = Path("labels.gpkg")


def ground_labels(labels: LabelSet, grid: Grid) -> Labels:
    """The labels in the scene's reference system, named as a recipe reads them from the file.

    They come in the order of their numbers, in whatever order they were placed, taken away and
    placed again: so equal labels give equal models.
    """
    a, b, c, d, e, f = grid.transform
    names = {one.id: name_of(one.name) or "" for one in labels.classes}
    placed = tuple(
        Label(
            str(one.id),
            names[one.class_id],
            affine_transform(one.geometry, [a, b, d, e, c, f]),
        )
        for one in in_order(labels)
    )
    return Labels(LABELS_FILE, placed, (), str(grid.crs))


def in_order(labels: LabelSet) -> list[PlacedLabel]:
    """The labels by their numbers."""
    return sorted(labels.labels, key=lambda one: one.id)


class PlacedPixels:
    """The pixels of labels, each read once."""

    def __init__(
        self,
        scene: Scene,
        of: PixelFeatures,
        rules: PixelRules,
        networks: DeepNetworks | None = None,
    ) -> None:
        """Nothing is read yet.

        Args:
            scene: that is labelled.
            of: definition of the features.
            rules: how labels become pixels.
            networks: their stages are features too.
        """
        self.scene, self.of, self.rules, self.networks = scene, of, rules, networks
        self._reader = PixelReader(of, networks)
        self._usable: dict[tuple[int, bytes], UsablePixels] = {}
        self._rows: dict[tuple[int, int], int] = {}  # of each pixel in the tables
        self._tables: dict[str, Float32s] = {}  # [n,D] by block
        self._valid = np.zeros((0, len(of.bands)), bool)
        self._lock = threading.Lock()

    def samples(self, labels: LabelSet) -> PixelSamples:
        """The pixels of all labels that have some, with their features.

        Raises:
            DataError: a file of the scene is damaged or gone.
        """
        placement = self._placed(labels)
        places = [(pixel.place.row, pixel.place.col) for pixel in placement.pixels]
        features, valid = self.described(places)
        scene = self.scene
        facts = SceneFacts(scene.name, scene.path, scene.grid, scene.acquired)
        return PixelSamples(
            placement, self.of, features, valid, scene.sensor, (facts,), self.networks
        )

    def described(self, places: Sequence[tuple[int, int]]) -> tuple[dict[str, Float32s], Bools]:
        """Features [D,n] by block and valid bands [C,n] of pixels, given as rows and columns."""
        with self._lock:
            new = sorted({place for place in places if place not in self._rows})
            if new:
                self._read(new)
            rows = np.array([self._rows[place] for place in places], np.int64)
            tables, valid = self._tables, self._valid
        if not len(rows):
            return {}, np.zeros((len(self.of.bands), 0), bool)
        features = {b: np.ascontiguousarray(table[rows].T) for b, table in tables.items()}
        return features, np.ascontiguousarray(valid[rows].T)

    def _read(self, new: Sequence[tuple[int, int]]) -> None:
        """Read pixels behind those that are known."""
        where = PixelPlaces(np.zeros(len(new), np.int64), np.array(new, np.int64).reshape(-1, 2))
        read = self._reader.read([self.scene], where, lambda *_: None)
        blocks = {name: values.T for name, values in read.features.items() if name != LOCAL}
        if self._rows:
            blocks = {name: np.concatenate([self._tables[name], blocks[name]]) for name in blocks}
            self._valid = np.concatenate([self._valid, read.valid.T])
        else:
            self._valid = read.valid.T
        self._tables = blocks
        self._rows |= {place: len(self._rows) + i for i, place in enumerate(new)}

    def _placed(self, labels: LabelSet) -> PixelPlacement:
        """Which pixels all labels get."""
        placed = ground_labels(labels, self.scene.grid)
        keys = [_key(one) for one in in_order(labels)]
        new = [i for i, key in enumerate(keys) if key not in self._usable]
        if new:
            some = Labels(placed.path, tuple(placed.labels[i] for i in new), (), placed.crs)
            for i, usable in zip(new, usable_pixels(self.scene, some, self.rules), strict=True):
                self._usable[keys[i]] = usable
        return settle_pixels(placed, [self._usable[key] for key in keys], self.rules)


def _key(label: PlacedLabel) -> tuple[int, bytes]:
    """What a label's pixels depend on: its number, by which they are drawn, and its place."""
    return label.id, shapely.to_wkb(label.geometry)


def waiting_for(samples: PixelSamples, labels: LabelSet) -> str | None:
    """What is missing for a first model, in one line; None where nothing is.

    A model needs a label of each of `MIN_CLASSES` classes.
    """
    counts = Counter(samples.placement.labels.values())
    if len(counts) >= MIN_CLASSES:
        return None
    needed = f"{MIN_CLASSES} classes with a label each are needed for a first map"
    names = [name_of(one.name) or "" for one in labels.classes]
    have = ", ".join(f"{name} has {counts[name]}" for name in names) or "there is no class yet"
    unusable = len(samples.placement.rejected)
    more = (
        f"; {unusable} of {len(labels.labels)} labels lie where there is no data or share a pixel"
    )
    return f"{needed}; {have}{more if unusable else ''}"
