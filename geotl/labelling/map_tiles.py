"""A model's predictions for a tile as a picture: classes, confidence, applicability.

Confidence is the probability of the class that is shown, in viridis from 0 (dark violet) over 0.5
(green blue) to 1 (yellow). Applicability shows where the model cannot be trusted: pixels in the
area of applicability are transparent; beyond its edge they go from amber, just outside, to dark
red at twice the threshold and further. Pixels without data are transparent in all layers.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from geotl.arrays import Float32s, Int64s, UInt8s
from geotl.errors import DataError
from geotl.imagery.windows import Window
from geotl.inference.applicability import area_of_applicability
from geotl.inference.pixel_area import PART_PX, FeatureSpace, PixelArea
from geotl.labelling.feature_store import FeatureStore
from geotl.labelling.feature_tiles import FeatureTile, TilePlace
from geotl.labelling.smooth_tiles import positions_in, side_at, smoothed
from geotl.labelling.tiles import CONFIDENCE, OUTSIDE, SIDE, png_of
from geotl.models.deep_features import DEEP
from geotl.models.pixel_features import Features
from geotl.models.pixel_model import PixelModel

LAYERS = ("classes", "confidence", "applicability")
MAX_COMPARED = 96  # training pixels that each pixel is compared with, fewer than in `geotl map`
MAX_TRAINING = 2000  # that the threshold rests on


@dataclass(frozen=True)
class TrainingTable:
    """Training pixels that applicability is measured from.

    Attributes:
        features: [n,D], bands and windows.
        folds: the fold that each is tested in [n], -1 for none.
    """

    features: Float32s
    folds: Int64s


@dataclass(frozen=True)
class LiveModel:
    """A model with what its pictures need.

    Attributes:
        version: number of the model, which grows.
        revision: number of the change of labels that it was fitted after.
        stage: quick (linear members) or full.
        model: members and their fusion.
        colours: of its classes, as #rrggbb.
        training: what applicability is measured from.
        smooth_px: side of the windows in which probabilities are smoothed, odd; 1 for none.
    """

    version: int
    revision: int
    stage: str
    model: PixelModel
    colours: tuple[str, ...]
    training: TrainingTable
    smooth_px: int = 1
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    @cached_property
    def area(self) -> PixelArea | None:
        """Area of applicability; None where the training pixels are too few or all alike."""
        some = np.random.default_rng(0).permutation(len(self.training.features))[:MAX_TRAINING]
        rows = self.training.features[np.sort(some)]
        space = FeatureSpace.about(rows, self.model.features)
        try:
            area = area_of_applicability(space.place(rows), self.training.folds[np.sort(some)])
        except DataError:
            return None
        return PixelArea.within(space, area, MAX_COMPARED)

    def dissimilarity(self, features: Features) -> Float32s | None:
        """Index [n] of pixels with features [D,n], over its threshold; None without an area."""
        with self._lock:
            area = self.area
        if area is None:
            return None
        count = next(iter(features.values())).shape[1]
        more = -count % PART_PX  # products are always of one size
        padded = {b: np.pad(x, ((0, 0), (0, more))) for b, x in features.items()}
        return np.asarray(area.index(padded)[:count] / np.float32(area.area.threshold))

    def logits(self, store: FeatureStore, place: TilePlace) -> Float32s | None:
        """What linear members make of the network's stages in a tile [K,h*w]; None without one.

        Raises:
            DataError: a file of the scene is damaged or gone.
        """
        weight = self.model.linear.get(DEEP)
        return None if store.deep is None or weight is None else store.deep.logits(place, weight)

    def smooths(self, layer: str, each: int) -> bool:
        """Whether a layer is smoothed at a level of these pixels to a position."""
        return layer != "applicability" and side_at(self.smooth_px, each) > 1

    def smoothed(self, store: FeatureStore, place: TilePlace) -> Float32s:
        """Smoothed probabilities [K,h*w] of a tile; errors as of `logits`."""
        part = positions_in(place, store.scene.grid)
        return smoothed(self.model, store, place.each, part, self.smooth_px)

    def probabilities_at(self, store: FeatureStore, row: int, col: int) -> Float32s:
        """Smoothed probabilities [K] of a pixel; errors as of `logits`."""
        return smoothed(self.model, store, 1, Window(row, col, 1, 1), self.smooth_px)[:, 0]

    def picture(self, layer: str, tile: FeatureTile, logits: Float32s | None = None) -> bytes:
        """A PNG [256,256] of a layer for a tile; what lies beyond the scene is transparent.

        Args:
            layer: one of `LAYERS`.
            tile: features of bands and windows.
            logits: what `logits` gives for the same tile.
        """
        parts = tile.parts if tile.usable.any() else []
        colours = [
            self._coloured(layer, tile.blocks(part), None if logits is None else logits[:, part])
            for part in parts
        ]
        return _drawn(tile, np.concatenate(colours) if colours else None)

    def smooth_picture(self, layer: str, tile: FeatureTile, probabilities: Float32s) -> bytes:
        """`picture` of classes or confidence, of what `smoothed` gives for the same tile."""
        return _drawn(tile, self._shown(layer, probabilities))

    def _coloured(self, layer: str, features: Features, logits: Float32s | None) -> UInt8s:
        """Colours [n,4] of pixels with features [D,n], and logits [K,n] of a network's."""
        if layer == "applicability":
            return outside_colours(self.dissimilarity(features), next(iter(features.values())))
        return self._shown(layer, self.model.probabilities(features, logits))

    def _shown(self, layer: str, probabilities: Float32s) -> UInt8s:
        """Colours [n,4] of classes or confidence, of probabilities [K,n]."""
        if layer == "confidence":
            return confidence_colours(probabilities.max(axis=0))
        return class_colours(probabilities.argmax(axis=0), self.colours)


def _drawn(tile: FeatureTile, colours: UInt8s | None) -> bytes:
    """A PNG of the colours [h*w,4] of a tile's pixels, those that are usable."""
    (height, width), rgba = tile.shape, np.zeros((SIDE, SIDE, 4), np.uint8)
    if colours is not None:
        shown = colours.reshape(height, width, 4)
        rgba[:height, :width] = np.where(tile.usable[..., None], shown, 0)
    return png_of(rgba)


def class_colours(classes: Int64s, colours: Sequence[str]) -> UInt8s:
    """Colours [n,4] of classes [n].

    >>> class_colours(np.array([1, 0]), ["#000000", "#ff0080"]).tolist()
    [[255, 0, 128, 255], [0, 0, 0, 255]]
    """
    table = np.array([(*_rgb(one), 255) for one in colours], np.uint8)
    return np.asarray(table[classes])


def confidence_colours(confidence: Float32s) -> UInt8s:
    """Colours [n,4] of probabilities [n].

    >>> confidence_colours(np.array([0.0, 1.0], np.float32)).tolist()
    [[68, 1, 84, 255], [253, 231, 37, 255]]
    """
    place: UInt8s = np.rint(confidence * 255).astype(np.uint8)
    return np.asarray(_ramp(CONFIDENCE)[place])


def outside_colours(index: Float32s | None, like: Float32s) -> UInt8s:
    """Colours [n,4] of indices over the threshold [n]; all transparent without an area.

    >>> outside_colours(np.array([0.9, 1.0, 5.0], np.float32), np.zeros((1, 3)))[:, 3].tolist()
    [0, 0, 255]
    """
    if index is None:
        return np.zeros((like.shape[1], 4), np.uint8)
    beyond = np.clip((index - 1) * 255, 0, 255)
    colours = _ramp(OUTSIDE)[np.rint(beyond).astype(np.uint8)]
    colours[index <= 1] = 0
    return np.asarray(colours)


def _ramp(stops: Sequence[str]) -> UInt8s:
    """256 colours [256,4] between some."""
    at, table = np.linspace(0, 255, len(stops)), np.array([_rgb(one) for one in stops])
    channels = [np.interp(np.arange(256), at, channel) for channel in table.T]
    table = np.stack([*channels, np.full(256, 255)], axis=1)
    return np.asarray(np.rint(table), np.uint8)


def _rgb(colour: str) -> tuple[int, int, int]:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return red, green, blue
