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
from geotl.inference.sliding_window import Mode, Predicted
from geotl.models.input_domain import Range
from geotl.models.pixel_features import PixelFeatures
from geotl.models.pixel_file import PixelContract, features_from, pixel_contract_from

TILE_PX = 256  # side of a tile of the computation, without the halo


@dataclass(frozen=True)
class ServedPixels:
    """Prediction of a block with an exported pixel model; a pixel is a window of side 1.

    Attributes:
        runner: runner of the file.
        bands: number of bands.
        classes: number of classes.
        halo: pixels around a tile that its pixels depend on.
        stride: tiles begin at multiples of it.
        engine: engine with its version.
        views: pixels are not turned.
        mode: pixel by pixel.
        area: dissimilarity is not measured.
        dense: the file does not show its network.
        precision: number format of the features.
        device: device of the computation.
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

    def predict_windows(self, image: Float32s, rows: Int64s, cols: Int64s, step: int) -> Predicted:
        """Predict pixels at rows and columns of a block; see `WindowPredictor.predict_windows`.

        The first row and column lie on multiples of `lattice_px` of the scene.
        """
        down, across = (slice(int(at[0]), int(at[-1]) + 1) for at in (rows, cols))
        probabilities = np.empty((len(rows), len(cols), self.classes), np.float32)
        for tile in product(tiles_of(down, self.lattice_px), tiles_of(across, self.lattice_px)):
            here = tuple(
                slice(part.start - span.start, part.stop - span.start)
                for part, span in zip(tile, (down, across), strict=True)
            )
            probabilities[here] = self._tile(image, *tile)
        return Predicted(probabilities, np.zeros(probabilities.shape[:2], np.float32))

    def _tile(self, image: Float32s, rows: slice, cols: slice) -> Float32s:
        """Probabilities [h,w,K] of a tile of an image [C,H,W], beyond which nothing is valid."""
        halo = self.halo
        raw = around(image, halo, rows, cols, np.nan)
        probabilities: Float32s = self.runner(raw[None])[0][0].transpose(1, 2, 0)
        return probabilities[
            halo : probabilities.shape[0] - halo, halo : probabilities.shape[1] - halo
        ]


@dataclass(frozen=True)
class ServedPixelModel:
    """An exported pixel model, opened: its metadata, and what runs it.

    Attributes:
        contract: classes of the model and the imagery it needs.
        resolution_m: side of a training pixel in metres, None where unknown.
        seen: mean and standard deviation of the bands over the training scene.
        ground: training pixels by reference system, as boxes without area.
        notes: the notes of the model it was exported from.
        weights: weights of its members' log-probabilities, by name.
        features: features of the pixels.
        path: path of the file.
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
    path: Path, metadata: Mapping[str, Any], runner: Runner, engine: str
) -> ServedPixelModel:
    """A pixel model from its metadata.

    Args:
        path: path of the file.
        metadata: metadata of the file.
        runner: runner of the file.
        engine: engine with its version.

    Raises:
        KeyError: the metadata lack something.
    """
    contract, seen = pixel_contract_from(metadata["contract"]), metadata["examples"]
    sizes = len(contract.bands) + len(contract.extra_bands), len(contract.classes)
    return ServedPixelModel(
        contract,
        metadata["resolution_m"],
        Range(np.array(seen["mean"]), np.array(seen["sd"])),
        metadata["ground"],
        metadata["notes"],
        metadata["weights"],
        features_from(metadata["features"]),
        path,
        ServedPixels(runner, *sizes, metadata["halo_px"], metadata["stride_px"], engine),
    )
