"""An exported pixel model in a pixel model's place: its file runs on tiles of one lattice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from geotl.arrays import Float32s, Int64s
from geotl.inference.onnx_file import Runner
from geotl.inference.pixel_predictor import around, tiles_of
from geotl.inference.sliding_window import Mode, Said
from geotl.models.input_domain import Range
from geotl.models.pixel_features import PixelFeatures
from geotl.models.pixel_file import PixelContract, features_from, pixel_contract_from

TILE_PX = 256  # side of what the file computes at once, without the halo


@dataclass(frozen=True)
class ServedPixels:
    """How an exported pixel model predicts a block, in which a pixel is a window of side 1.

    Attributes:
        runner: of the file.
        bands: how many it takes.
        classes: how many it tells apart.
        halo: pixels around a tile that its pixels depend on.
        stride: tiles begin at multiples of it.
        engine: what runs it, with its version.
        views: pixels are not turned.
        mode: each pixel by itself.
        area: dissimilarity is not measured.
        dense: the file does not show its network.
        precision: of the features.
        device: that computes.
    """

    runner: Runner
    bands: int
    classes: int
    halo: int
    stride: int
    engine: str
    views: int = 1
    mode: Mode = "exact"
    area: None = None
    dense: None = None
    precision: str = "float32"
    device: str = "cpu"

    @property
    def fill(self) -> Float32s:
        """Raw values [C] that stand for invalid pixels: NaN, which the graph knows."""
        return np.full(self.bands, np.nan, np.float32)

    @property
    def lattice_px(self) -> int:
        """Side of a tile; blocks begin at multiples of it."""
        return max(1, TILE_PX // self.stride) * self.stride

    def halo_px(self, step: int) -> int:
        """Pixels around a block that its pixels depend on, at any `step`."""
        return self.halo

    def look(self, image: Float32s, rows: Int64s, cols: Int64s, step: int) -> Said:
        """Predict the pixels at some rows and columns of a block; see `WindowPredictor.look`.

        The first row and column lie on multiples of `lattice_px` of the scene.
        """
        down, across = (slice(int(at[0]), int(at[-1]) + 1) for at in (rows, cols))
        found = np.empty((len(rows), len(cols), self.classes), np.float32)
        for tile in product(tiles_of(down, self.lattice_px), tiles_of(across, self.lattice_px)):
            here = tuple(
                slice(part.start - span.start, part.stop - span.start)
                for part, span in zip(tile, (down, across), strict=True)
            )
            found[here] = self._tile(image, *tile)
        return Said(found, np.zeros(found.shape[:2], np.float32))

    def _tile(self, image: Float32s, rows: slice, cols: slice) -> Float32s:
        """Probabilities [h,w,K] of a tile of an image [C,H,W], beyond which nothing is valid."""
        halo = self.halo
        raw = around(image, halo, rows, cols, np.nan)
        said: Float32s = self.runner(raw[None])[0][0].transpose(1, 2, 0)
        return said[halo : said.shape[0] - halo, halo : said.shape[1] - halo]


@dataclass(frozen=True)
class ServedPixelModel:
    """An exported pixel model, opened: its passport, and what runs it.

    Attributes:
        contract: what it is and what imagery it takes.
        resolution_m: side of a training pixel in metres, None where unknown.
        seen: mean and standard deviation of the bands over the training scene.
        ground: training pixels by reference system, as boxes without area.
        notes: what is told of the model it was exported from.
        weights: of its members' log-probabilities, by name.
        features: how pixels are described.
        path: of the file.
        sweep: runs it.
    """

    contract: PixelContract
    resolution_m: float | None
    seen: Range
    ground: dict[str, list[list[float]]]
    notes: dict[str, Any]
    weights: dict[str, float]
    features: PixelFeatures
    path: Path
    sweep: ServedPixels


def served_pixels(
    path: Path, told: Mapping[str, Any], runner: Runner, engine: str
) -> ServedPixelModel:
    """A pixel model by its passport.

    Args:
        path: of the file.
        told: its passport.
        runner: of the file.
        engine: what runs it, with its version.

    Raises:
        KeyError: the passport lacks something.
    """
    contract, seen = pixel_contract_from(told["contract"]), told["examples"]
    sizes = len(contract.bands) + len(contract.extra_bands), len(contract.classes)
    return ServedPixelModel(
        contract,
        told["resolution_m"],
        Range(np.array(seen["mean"]), np.array(seen["sd"])),
        told["ground"],
        told["notes"],
        told["weights"],
        features_from(told["features"]),
        path,
        ServedPixels(runner, *sizes, told["halo_px"], told["stride_px"], engine),
    )
