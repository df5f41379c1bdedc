"""Where a scene's pixels come from: bands of files, laid on its grid where theirs is another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geotl.arrays import Bools, Pixels
from geotl.imagery.alignment import Axis, resample
from geotl.imagery.cloud_masks import Span
from geotl.io.raster import gdal_settings
from geotl.io.rasterwindows import WindowReader


@dataclass(frozen=True)
class Layer:
    """Bands of a file, and their places on the scene's grid if it is another."""

    reader: WindowReader
    positions: tuple[int, ...]
    nodata: float | None
    places: tuple[Axis, Axis] | None = None

    def read(self, rows: Span, columns: Span) -> Pixels:
        """Pixels and validity [C,h,w] of rows and columns inside the grid."""
        if self.places is None:
            return self._stored(rows, columns)
        needed_rows, down = self.places[0].part(*rows)
        needed_columns, across = self.places[1].part(*columns)
        data, valid = self._stored(needed_rows, needed_columns)
        planes = [resample(d, v, down, across) for d, v in zip(data, valid, strict=True)]
        return np.stack([d for d, _ in planes]), np.stack([v for _, v in planes])

    def coarse(
        self, rows: Span, columns: Span, bands: Sequence[int], shape: tuple[int, int]
    ) -> Pixels:
        """Some bands of rows and columns in fewer pixels, the nearest ones."""
        if self.places is not None:  # within a coarse pixel the same ground
            rows, columns = self.places[0].part(*rows)[0], self.places[1].part(*columns)[0]
        own = [self.positions[band] for band in bands]
        return self._known(*self.reader.read(rows, columns, own, shape))

    def _stored(self, rows: Span, columns: Span) -> Pixels:
        return self._known(*self.reader.read(rows, columns, self.positions))

    def _known(self, data: NDArray[Any], valid: Bools) -> Pixels:
        return data, valid if self.nodata is None else valid & (data != self.nodata)

    def close(self) -> None:
        """Let go of open files; reading again opens them anew."""
        self.reader.close()


@dataclass(frozen=True)
class Stack:
    """Layers of one band each."""

    layers: tuple[Layer, ...]

    def read(self, rows: Span, columns: Span) -> Pixels:
        """Pixels and validity [C,h,w] of rows and columns inside the grid."""
        with gdal_settings():
            read = [layer.read(rows, columns) for layer in self.layers]
        return np.concatenate([d for d, _ in read]), np.concatenate([v for _, v in read])

    def coarse(
        self, rows: Span, columns: Span, bands: Sequence[int], shape: tuple[int, int]
    ) -> Pixels:
        """Some bands of rows and columns in fewer pixels, the nearest ones."""
        with gdal_settings():
            read = [self.layers[band].coarse(rows, columns, [0], shape) for band in bands]
        return np.concatenate([d for d, _ in read]), np.concatenate([v for _, v in read])

    def close(self) -> None:
        """Let go of open files; reading again opens them anew."""
        for layer in self.layers:
            layer.close()
