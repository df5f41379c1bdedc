"""Windows of scenes with labelled pixels, read square by square."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geotl.arrays import Bools, Int64s
from geotl.data.pixel_labels import PixelPlacement, read_squares
from geotl.imagery.windows import Imagery


@dataclass(frozen=True)
class PixelWindow:
    """A window of a scene with some labelled pixels.

    Attributes:
        pixels: their positions among all of those asked for [n].
        data: digital numbers [C,H,W].
        valid: which of them are valid [C,H,W].
        rows: of the pixels in the window [n].
        cols: likewise [n].
    """

    pixels: Int64s
    data: NDArray[np.generic]
    valid: Bools
    rows: Int64s
    cols: Int64s


@dataclass(frozen=True)
class PixelPlaces:
    """Where labelled pixels lie.

    Attributes:
        scene: number of each pixel's scene [N].
        places: its row and column there [N,2].
    """

    scene: Int64s
    places: Int64s

    @classmethod
    def of(cls, placed: PixelPlacement) -> PixelPlaces:
        """Of all pixels that labels gave."""
        every = [pixel.place for pixel in placed.pixels]
        scene = np.array([place.scene for place in every], np.int64)
        places = np.array([[place.row, place.col] for place in every], np.int64).reshape(-1, 2)
        return cls(scene, places)

    def part(self, positions: Int64s) -> PixelPlaces:
        """Some of the pixels."""
        return PixelPlaces(self.scene[positions], self.places[positions])

    def joined(self, others: PixelPlaces) -> PixelPlaces:
        """These and others behind them."""
        scene = np.concatenate([self.scene, others.scene])
        return PixelPlaces(scene, np.concatenate([self.places, others.places]))

    def windows(self, scenes: Sequence[Imagery], halo: int, step: int) -> Iterator[PixelWindow]:
        """Windows `halo` wider than their pixels need, which begin at multiples of `step`."""
        for number, scene in enumerate(scenes):
            rows_of_scene = np.flatnonzero(self.scene == number)
            for some, window in read_squares(self.places[rows_of_scene], halo, step):
                pixels, (data, valid) = rows_of_scene[some], scene.read(window)
                rows, cols = (self.places[pixels] - (window.row, window.col)).T
                yield PixelWindow(pixels, data, valid, rows, cols)
