"""Predictions of a pixel model for the pixels of one block of a scene, strip by strip.

Every pixel's answer has the same bits in whatever block it is computed: features come from sums of
whole numbers, members get pixels in batches of one size, so that a matrix product is computed
the same way for each of them, and networks get tiles with corners on one lattice over the scene.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from geotl.arrays import Float32s, Int64s
from geotl.inference.applicability import Applicability
from geotl.inference.pixel_area import PixelArea
from geotl.inference.sliding_window import Mode, Predicted
from geotl.models.device import Precision, dtype_of
from geotl.models.interpolation import CoarseValues
from geotl.models.pixel_features import BlockFeatures, standardised
from geotl.models.pixel_model import PixelModel

BATCH_PX = 8192  # pixels that members see together, always so many
STRIP_PX = 2 * BATCH_PX  # of a block that are described together
TILE_PX = 1024  # side of the network's input, without the halo; of about any stride
Tile = tuple[slice, slice]  # rows and columns of a block


@dataclass(frozen=True)
class PixelPredictor:
    """Prediction of a block with a pixel model; a pixel is a window of side and step 1.

    Attributes:
        model: members and their fusion.
        likeness: area of applicability; None for no dissimilarity index.
        views: pixels are not turned.
        mode: pixel by pixel.
        dense: there is no network.
        precision: number format of the frozen network.
        device: device of the computation.
    """

    model: PixelModel
    likeness: PixelArea | None = None
    views: int = 1
    mode: Mode = "exact"
    dense: None = None
    precision: Precision = "float32"
    device: str = "cpu"

    @property
    def area(self) -> Applicability | None:
        """Area of applicability, None where dissimilarity is not measured."""
        return None if self.likeness is None else self.likeness.area

    @property
    def fill(self) -> Float32s:
        """Raw values [C] that stand for invalid pixels: NaN, by which they are known."""
        return np.full(len(self.model.features.bands), np.nan, np.float32)

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.model.classes)

    @property
    def engine(self) -> str:
        """Engine with its version."""
        return f"numpy {np.__version__}"

    @property
    def lattice_px(self) -> int:
        """Blocks begin at multiples of this."""
        return TILE_PX if self.has_network else 1

    @property
    def has_network(self) -> bool:
        """Whether networks have a part."""
        return bool(self.model.networks)

    def halo_px(self, step: int) -> int:
        """Pixels around a block that its pixels' features depend on, at any `step`."""
        return self.model.halo

    def predict_windows(self, image: Float32s, rows: Int64s, cols: Int64s, step: int) -> Predicted:
        """Predict pixels at rows and columns of a block; see `WindowPredictor.predict_windows`.

        With a network, the first row and column lie on multiples of `lattice_px` of the scene.
        """
        return self.begin(image, rows, cols)()

    def begin(self, image: Float32s, rows: Int64s, cols: Int64s) -> Callable[[], Predicted]:
        """Run the networks over a block in this thread; return a call that gives the predictions.

        So the network sees a block while the pixels of the one before are predicted.
        """
        down, across = (slice(int(at[0]), int(at[-1]) + 1) for at in (rows, cols))
        tiles = [*product(tiles_of(down, TILE_PX), tiles_of(across, TILE_PX))]
        logits: list[list[CoarseValues]] = [[] for _ in tiles]
        if self.has_network:
            of = self.model.features
            pixels = standardised(of, image, np.isfinite(image[: of.scene_band_count]))
            logits = [self._network_logits(pixels, *tile) for tile in tiles]
        return partial(self._finish, image, tiles, logits)

    def _finish(
        self, image: Float32s, tiles: Sequence[Tile], logits: Sequence[Sequence[CoarseValues]]
    ) -> Predicted:
        """Predict the pixels of a block's tiles, starting from the networks' linear members."""
        spans = [slice(a.start, b.stop) for a, b in zip(tiles[0], tiles[-1], strict=True)]
        margin = self.model.features.halo
        near = [slice(max(0, span.start - margin), span.stop + margin) for span in spans]
        pixels = image[:, *near]
        features = BlockFeatures(self.model.features, pixels, np.isfinite(pixels))
        shape = [span.stop - span.start for span in spans]
        block = Predicted(np.empty((*shape, self.classes), np.float32), np.zeros(shape, np.float32))
        for tile, several in zip(tiles, logits, strict=True):
            here = _within(tile, spans)
            part = Predicted(block.probabilities[here], block.index[here])
            self._fill_in(features, _within(tile, near), several, part)
        return block

    def _fill_in(
        self,
        block: BlockFeatures,
        tile: Tile,
        logits: Sequence[CoarseValues],
        predictions: Predicted,
    ) -> None:
        """Predict a tile of a block into `predictions`, from networks' logits on."""
        down, across = tile

        def fill_in(part: slice) -> None:
            strip = block.strip(_moved(part, down.start), across)
            logits_here = np.zeros(
                (self.classes, part.stop - part.start, across.stop - across.start), "f4"
            )
            for one in logits:
                one.add_to(logits_here, part.start, 0)
            probabilities, unlike = self._predicted(strip, logits_here)
            predictions.probabilities[part] = probabilities.reshape(
                predictions.probabilities[part].shape
            )
            predictions.index[part] = unlike.reshape(predictions.index[part].shape)

        # a matrix product of each strip takes one thread, or threads would wait for each other
        with threadpool_limits(1, "blas"), ThreadPoolExecutor(torch.get_num_threads()) as pool:
            list(pool.map(fill_in, _strips(len(predictions.index), across.stop - across.start)))

    def _network_logits(self, image: Float32s, rows: slice, cols: slice) -> list[CoarseValues]:
        """Logits of linear members for the networks' features of a tile of a standardised block."""
        dtype, several = dtype_of(self.precision, torch.device(self.device)), list[CoarseValues]()
        for name, network in self.model.networks.items():
            part = around(image, network.halo, rows, cols)
            for one in network.logits(part, self.model.linear[name], dtype):
                several.append(replace(one, centre=one.centre - network.halo))
        return several

    def _predicted(
        self, features: Mapping[str, Float32s], logits: Float32s
    ) -> tuple[Float32s, Float32s]:
        """Probabilities [h*W,K] and index [h*W] of a strip's pixels, features [D,h,W] by block."""
        flat = {name: rows.reshape(len(rows), -1) for name, rows in features.items()}
        more = logits.reshape(len(logits), -1)
        count = next(iter(flat.values())).shape[1]
        predicted, index = np.empty((count, self.classes), np.float32), np.zeros(count, np.float32)
        for start in range(0, count, BATCH_PX):
            batch = {name: _batch(rows, start) for name, rows in flat.items()}
            probabilities = self.model.probabilities(batch, _batch(more, start))
            predicted[start : start + BATCH_PX] = probabilities[:, : count - start].T
            if self.likeness is not None:
                unlike = self.likeness.index(batch)
                index[start : start + BATCH_PX] = unlike[: count - start]
        return predicted, index


def tiles_of(span: slice, side: int) -> Iterator[slice]:
    """The tiles of a span, `side` pixels each but for the last.

    >>> list(tiles_of(slice(5, 2000), 1024))
    [slice(5, 1029, None), slice(1029, 2000, None)]
    """
    for start in range(span.start, span.stop, side):
        yield slice(start, min(start + side, span.stop))


def around(image: Float32s, halo: int, rows: slice, cols: slice, fill: float = 0.0) -> Float32s:
    """A tile of an image [C,H,W], `halo` wider on every side, with `fill` beyond the image."""
    pads = [
        (max(0, halo - part.start), max(0, part.stop + halo - length))
        for part, length in zip((rows, cols), image.shape[1:], strict=True)
    ]
    inside = (slice(max(0, part.start - halo), part.stop + halo) for part in (rows, cols))
    part = image[:, *inside]
    if any(map(any, pads)):
        part = np.pad(part, ((0, 0), *pads), constant_values=fill)
    return np.ascontiguousarray(part)


def _within(tile: Tile, spans: Sequence[slice]) -> Tile:
    """A tile's rows and columns, counted from where those of some spans begin."""
    down, across = (_moved(own, -span.start) for own, span in zip(tile, spans, strict=True))
    return down, across


def _moved(span: slice, by: int) -> slice:
    return slice(span.start + by, span.stop + by)


def _strips(height: int, width: int) -> Iterator[slice]:
    """Rows of a block, so many together that they hold about STRIP_PX pixels.

    >>> list(_strips(5, STRIP_PX // 2))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    each = max(1, STRIP_PX // width)
    for start in range(0, height, each):
        yield slice(start, min(start + each, height))


def _batch(rows: Float32s, start: int) -> Float32s:
    """Features [D,BATCH_PX] from a pixel on; the last batch is made up with zeros."""
    part = rows[:, start : start + BATCH_PX]
    if part.shape[1] == BATCH_PX:
        return part
    return np.pad(part, ((0, 0), (0, BATCH_PX - part.shape[1])))
