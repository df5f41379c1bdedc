"""Area of applicability of a pixel model: how much pixels differ from its training pixels.

Index and threshold are those of `applicability`, in the standardised features of bands and windows.
A network's features take no part.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from geotl.arrays import Float32s, Float64s, Floats, Int64s
from geotl.inference.applicability import Applicability, area_of_applicability
from geotl.language import msg
from geotl.models.pixel_features import WIDE, Features, PixelFeatures
from geotl.models.pixel_file import PixelModelFile

MAX_COMPARED = 320  # training pixels that every pixel of a map is compared with
PART_PX = 1024  # pixels whose distances are in memory together; BATCH_PX is a multiple


@dataclass(frozen=True)
class FeatureSpace:
    """Features of bands and windows in which pixels are compared, without those of a network.

    Attributes:
        mean: mean of the training pixels [D].
        scale: factor for features less their mean [D]: 1 over the standard
            deviation, and over the root of the width of a block, so that a wide block does not
            outweigh a narrow one.
        blocks: blocks of features, in this order.
    """

    mean: Float64s
    scale: Float64s
    blocks: tuple[str, ...]

    @classmethod
    def of(cls, file: PixelModelFile) -> FeatureSpace:
        """The space of a model's training pixels; of a single member, with its blocks."""
        return cls.about(file.training.features, file.model.features)

    @classmethod
    def about(cls, training: Float32s, features: PixelFeatures) -> FeatureSpace:
        """The space of training pixels [n,D] with these features, and perhaps more behind them."""
        names = features.names
        widths = [len(block_names) for block_names in names.values()]
        rows = training[:, : sum(widths)].astype(np.float64)
        sd, width = rows.std(axis=0), np.repeat(widths, widths)
        scale = np.where(sd > 1e-6, 1 / np.maximum(sd, 1e-6), 0.0) / np.sqrt(width)
        return cls(rows.mean(axis=0), scale, tuple(names))

    def place(self, table: Float32s) -> Float64s:
        """Pixels [n,D] with features [n,D] of all blocks, or of more."""
        return np.asarray((table[:, : len(self.mean)] - self.mean) * self.scale)

    def area(self, file: PixelModelFile) -> Applicability:
        """The area of applicability of all training pixels that the model's file keeps.

        Raises:
            DataError: too few training pixels to measure likeness by.
        """
        return area_of_applicability(self.place(file.training.features), file.training.folds)


@dataclass(frozen=True)
class PixelArea:
    """The training pixels that every pixel of a map is compared with.

    Attributes:
        space: feature space of the comparison.
        area: mean distance and threshold of all training pixels, and those compared with [R,D].
        training: number of the training pixels that mean and threshold rest on.
    """

    space: FeatureSpace
    area: Applicability
    training: int

    @classmethod
    def of(cls, file: PixelModelFile) -> PixelArea:
        """The area of a pixel model's file; at most `MAX_COMPARED` training pixels, spread out.

        Raises:
            DataError: too few training pixels to measure likeness by.
        """
        space = FeatureSpace.of(file)
        return cls.within(space, space.area(file), MAX_COMPARED)

    @classmethod
    def within(cls, space: FeatureSpace, area: Applicability, most: int) -> PixelArea:
        """The area of all training pixels, with at most so many to compare with, spread out."""
        few = area.features[spread(area.features, most)]
        return cls(space, replace(area, features=few), len(area.features))

    @property
    def words(self) -> str:
        """The comparison in one phrase."""
        values = {
            "threshold": self.area.threshold,
            "some": len(self.area.features),
            "training": self.training,
        }
        if WIDE in self.space.blocks:
            return msg(
                "threshold {threshold:.4g}, each pixel compared with {some:,} of {training:,} "
                "training "
                "pixels in bands and windows",
                **values,
            )
        return msg(
            "threshold {threshold:.4g}, each pixel compared with {some:,} of {training:,} training "
            "pixels in bands",
            **values,
        )

    def index(self, features: Features) -> Float32s:
        """Dissimilarity index [n] of pixels with features [D,n] by block, n a multiple of PART_PX.

        A pixel's index has the same bits wherever it stands: products are always of one size.
        """
        table = np.concatenate([features[name] for name in self.space.blocks])
        parts = [
            self._nearest(table[:, start : start + PART_PX])
            for start in range(0, table.shape[1], PART_PX)
        ]
        return np.asarray(np.concatenate(parts) / np.float32(self.area.mean_distance))

    def _nearest(self, table: Float32s) -> Float32s:
        """Distance [PART_PX] to the nearest training pixel, of features [D,PART_PX]."""
        mean, scale, weight = self._products
        placed = np.ones((len(table) + 1, table.shape[1]), np.float32)
        rows_in = placed[:-1]
        np.subtract(table, mean, out=rows_in)
        rows_in *= scale
        square = (weight @ placed).min(axis=0) + np.square(rows_in).sum(axis=0)
        return np.asarray(np.sqrt(np.maximum(square, 0)))

    @cached_property
    def _products(self) -> tuple[Float32s, Float32s, Float32s]:
        """Mean and scale [D,1], and what gives squared distances [R,D+1] but for a pixel's own."""
        theirs = self.area.features
        weight = np.column_stack([-2 * theirs, np.square(theirs).sum(axis=1)])
        mean, scale = (x.astype(np.float32)[:, None] for x in (self.space.mean, self.space.scale))
        return mean, scale, weight.astype(np.float32)


def spread(rows: Floats, most: int) -> Int64s:
    """Which rows [n,D] to keep, at most so many: the first is nearest to the mean.

    Each next one is the farthest from those kept (Gonzalez 1985), so that no row is far from all
    that are kept. If few enough are given, all are kept.

    >>> spread(np.array([[0.0], [5.0], [4.0], [10.0]]), 3).tolist()
    [0, 1, 3]
    """
    if len(rows) <= most:
        return np.arange(len(rows))
    nearest = np.full(len(rows), np.inf)
    chosen = [int(np.square(rows - rows.mean(axis=0)).sum(axis=1).argmin())]
    while len(chosen) < most:
        nearest = np.minimum(nearest, np.square(rows - rows[chosen[-1]]).sum(axis=1))
        chosen.append(int(nearest.argmax()))
    return np.sort(np.array(chosen, dtype=np.int64))
