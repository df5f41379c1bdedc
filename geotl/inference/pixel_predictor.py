"""What a pixel model predicts of the pixels of one block of a scene, strip by strip.

Every pixel's answer has the same bits in whatever block it is computed: features come from sums of
whole numbers, members see pixels in batches of one size, so that a matrix product takes the same
way for each of them, and networks see tiles whose corners lie on one lattice over the scene.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from geotl.arrays import Float32s, Int64s
from geotl.inference.applicability import Applicability
from geotl.inference.pixel_area import PixelArea
from geotl.inference.sliding_window import Mode, Said
from geotl.models.deep_features import DEEP
from geotl.models.device import Precision, autocast
from geotl.models.pixel_features import BlockFeatures
from geotl.models.pixel_model import PixelModel

BATCH_PX = 8192  # pixels that members see together, always so many
STRIP_PX = 4 * BATCH_PX  # of a block that are described together
TILE_PX = 1024  # side of what the network sees at once, without the halo; of about any stride


@dataclass(frozen=True)
class PixelPredictor:
    """How a pixel model predicts a block, in which a pixel is a window of side and step 1.

    Attributes:
        model: members and their fusion.
        likeness: what pixels are compared with; None for no dissimilarity index.
        views: pixels are not turned.
        mode: each pixel by itself.
        dense: there is no network.
        precision: number format of the frozen network.
        device: that computes.
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
        """What measures dissimilarity, None where it is not measured."""
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
        """What computes, with its version."""
        return f"numpy {np.__version__}"

    @property
    def lattice_px(self) -> int:
        """Blocks begin at multiples of this."""
        return TILE_PX if self.model.networks else 1

    def halo_px(self, step: int) -> int:
        """Pixels around a block that its pixels' features depend on, at any `step`."""
        return self.model.halo

    def look(self, image: Float32s, rows: Int64s, cols: Int64s, step: int) -> Said:
        """Predict the pixels at some rows and columns of a block; see `WindowPredictor.look`.

        With a network, the first row and column lie on multiples of `lattice_px` of the scene.
        """
        block = BlockFeatures(self.model.features, image, np.isfinite(image))
        down, across = (slice(int(at[0]), int(at[-1]) + 1) for at in (rows, cols))
        logits = self._network_logits(block, down, across)
        found = np.empty((len(rows), len(cols), self.classes), np.float32)
        index = np.zeros(found.shape[:2], np.float32)

        def fill_in(part: slice) -> None:
            begin = down.start
            strip = block.strip(slice(begin + part.start, begin + part.stop), across)
            own = None if logits is None else logits[:, part]
            probabilities, unlike = self._predicted(strip, own)
            found[part] = probabilities.reshape(found[part].shape)
            index[part] = unlike.reshape(index[part].shape)

        # a matrix product of each strip takes one thread, or threads would wait for each other
        with threadpool_limits(1, "blas"), ThreadPoolExecutor(torch.get_num_threads()) as pool:
            list(pool.map(fill_in, _strips(len(rows), len(cols))))
        return Said(found, index)

    def _network_logits(self, block: BlockFeatures, down: slice, across: slice) -> Float32s | None:
        """What linear members give the networks' features [K,h,w]; None without such members."""
        networks, weights = self.model.networks, self.model.linear
        if not networks:
            return None
        image = block.standardised()
        found = np.zeros((self.classes, down.stop - down.start, across.stop - across.start), "f4")
        for top, low in tiles_of(down, TILE_PX):
            for left, right in tiles_of(across, TILE_PX):
                rows = slice(top - down.start, low - down.start)
                cols = slice(left - across.start, right - across.start)
                for name, network in networks.items():
                    part = around(image, network.halo, (top, low), (left, right))
                    with autocast(torch.device(self.device), self._precision_of(name)):
                        found[:, rows, cols] += network.logits(part, weights[name])
        return found

    def _precision_of(self, block: str) -> Precision:
        """Number format of a network: a decoder's is float32."""
        return self.precision if block == DEEP else "float32"

    def _predicted(
        self, features: Mapping[str, Float32s], logits: Float32s | None
    ) -> tuple[Float32s, Float32s]:
        """Probabilities [h*W,K] and index [h*W] of a strip's pixels, features [D,h,W] by block."""
        flat = {name: rows.reshape(len(rows), -1) for name, rows in features.items()}
        more = None if logits is None else logits.reshape(len(logits), -1)
        count = next(iter(flat.values())).shape[1]
        found, index = np.empty((count, self.classes), np.float32), np.zeros(count, np.float32)
        for start in range(0, count, BATCH_PX):
            batch = {name: _batch(rows, start) for name, rows in flat.items()}
            own = None if more is None else _batch(more, start)
            probabilities = self.model.probabilities(batch, own)
            found[start : start + BATCH_PX] = probabilities[:, : count - start].T
            if self.likeness is not None:
                unlike = self.likeness.index(batch)
                index[start : start + BATCH_PX] = unlike[: count - start]
        return found, index


def tiles_of(span: slice, side: int) -> Iterator[tuple[int, int]]:
    """Begin and end of the tiles of a span, `side` pixels each but for the last.

    >>> list(tiles_of(slice(5, 2000), 1024))
    [(5, 1029), (1029, 2000)]
    """
    for start in range(span.start, span.stop, side):
        yield start, min(start + side, span.stop)


def around(
    image: Float32s, halo: int, rows: tuple[int, int], cols: tuple[int, int], fill: float = 0.0
) -> Float32s:
    """A tile of an image [C,H,W], `halo` wider on every side, with `fill` beyond the image."""
    height, width = image.shape[1:]
    pads = [
        (max(0, halo - begin), max(0, end + halo - length))
        for (begin, end), length in ((rows, height), (cols, width))
    ]
    part = image[
        :, max(0, rows[0] - halo) : rows[1] + halo, max(0, cols[0] - halo) : cols[1] + halo
    ]
    return np.ascontiguousarray(np.pad(part, ((0, 0), *pads), constant_values=fill))


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
