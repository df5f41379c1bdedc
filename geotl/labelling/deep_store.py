"""A frozen network's stages over a scene, kept on the disk at their own strides.

The scene is cut into blocks of 1,024 pixels, with corners on the lattice on which `geotl map` runs
the network, so that both see the same input. A stage of a block is a file of float16. What the
linear members make of the stages is computed at the stages' own resolution, and its K logits are
interpolated at the positions of a tile: the network runs once, whatever is labelled.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import torch

from geotl.arrays import Float32s, Int64s
from geotl.imagery.scene import Scene
from geotl.imagery.windows import Window
from geotl.inference.pixel_predictor import TILE_PX
from geotl.io.files import unwritten
from geotl.labelling.feature_tiles import Halves, TilePlace, blocks_of, positions, save_array
from geotl.models.deep_features import DeepFeatures
from geotl.models.interpolation import CoarseValues
from geotl.models.pixel_features import PixelFeatures, standardised

_PREFIX = "deep-"


class DeepStore:
    """The stages of a network over a scene; any number of threads may ask at once."""

    def __init__(
        self,
        scene: Scene,
        of: PixelFeatures,
        deep: DeepFeatures,
        folder: Path,
        area: Window | None = None,
    ) -> None:
        """Open the store, or make it, and take away those of other networks.

        Args:
            scene: read by windows.
            of: mean and standard deviation of the bands.
            deep: the network.
            folder: of the features of the same scene.
            area: the part of the scene that is labelled; None for all of it.

        Raises:
            OutputError: the folder cannot be written.
        """
        self.scene, self.of, self.deep = scene, of, deep
        self._area = area or Window(0, 0, scene.grid.height, scene.grid.width)
        self.folder = folder / f"{_PREFIX}{_fingerprint(deep)}"
        clear_stages(folder, kept=self.folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritten(folder, error) from error

    @property
    def size(self) -> int:
        """Bytes of all stages of the blocks, about."""
        strides = {name: field.stride for name, field in self.deep.fields.items()}
        channels = self.deep.channels.items()
        per_pixel = sum(count / strides[name] ** 2 for name, count in channels)
        return int(2.1 * per_pixel * sum(one.height * one.width for one in self.blocks))

    @property
    def blocks(self) -> list[Window]:
        """The blocks of the scene that meet the area."""
        grid = self.scene.grid
        every = blocks_of(Window(0, 0, grid.height, grid.width), TILE_PX)
        return [one for one in every if one.meets(self._area)]

    def missing(self) -> list[Window]:
        """Blocks whose stages are not there."""
        return [one for one in self.blocks if not self._is_stored(one)]

    def fill(self, block: Window) -> None:
        """Run the network over a block and write its stages.

        Raises:
            DataError: a file of the scene is damaged or gone.
            OutputError: the disk is full.
        """
        if self._is_stored(block):
            return
        for name, values in self._described(block).items():
            save_array(self._path(block, name), values)

    def logits(self, place: TilePlace, weight: Float32s) -> Float32s:
        """What a linear member with `weight` [K,D] makes of a tile's positions [K,h*w].

        Raises:
            DataError: a file of the scene is damaged or gone.
            OutputError: the disk is full.
        """
        rows, cols = (positions(part) for part in place.within(self.scene.grid))
        return self.logits_at(rows, cols, weight)

    def logits_at(self, rows: Int64s, cols: Int64s, weight: Float32s) -> Float32s:
        """What a linear member makes of pixels of the scene [K,h*w].

        Args:
            rows: of the pixels, rising [h].
            cols: likewise [w].
            weight: of the member [K,D].

        Raises:
            DataError: a file of the scene is damaged or gone.
            OutputError: the disk is full.
        """
        total = np.zeros((len(weight), len(rows), len(cols)), np.float32)
        for block in self.blocks:
            down = _inside(rows, block.row, block.height)
            across = _inside(cols, block.col, block.width)
            if down.start < down.stop and across.start < across.stop:
                part = np.zeros((len(weight), *(x.stop - x.start for x in (down, across))), "f4")
                self._add(block, weight, (rows[down] - block.row, cols[across] - block.col), part)
                total[:, down, across] = part
        return total.reshape(len(weight), -1)

    def _add(
        self, block: Window, weight: Float32s, at: tuple[Int64s, Int64s], total: Float32s
    ) -> None:
        """Add the logits of a block's rows and columns to a total [K,h,w], stage by stage."""
        self.fill(block)
        for name, kernel in self.deep.by_stage(weight).items():
            stride, centre = self._grid(name)
            stored = np.load(self._path(block, name), mmap_mode="c", allow_pickle=False)
            # coarse pixels on both sides of the rows and columns that are wanted, and no others
            spans = [
                slice(max(0, first - 1), max(0, first - 1) + (last - first) + 4)
                for first, last in (
                    ((x[[0, -1]] - centre) // stride).astype(int).tolist() for x in at
                )
            ]
            values = torch.from_numpy(stored[:, spans[0], spans[1]]).float()
            flat = kernel[:, :, 0, 0] @ values.reshape(len(values), -1)
            coarse = flat.reshape(len(weight), *values.shape[1:]).numpy()
            rows, cols = (x - span.start * stride for x, span in zip(at, spans, strict=True))
            CoarseValues(coarse, stride, centre).add_at(rows, cols, total)

    def _described(self, block: Window) -> dict[str, Halves]:
        """The stages of a block [d,h,w], from the coarse pixel before its first row and column."""
        halo, sides = self.deep.halo, (block.height, block.width)
        around = (side + 2 * halo for side in sides)
        data, valid = self.scene.read(Window(block.row - halo, block.col - halo, *around))
        described = {}
        for name, values in self.deep.maps(standardised(self.of, data, valid)).items():
            stride, first = self.deep.fields[name].stride, self._first(name)
            ends = (first + (side - 1) // stride + 3 for side in sides)
            part = values[:, *(slice(first, end) for end in ends)]
            described[name] = np.ascontiguousarray(part.half().numpy())
        return described

    def _first(self, name: str) -> int:
        """The last coarse pixel of a window with its halo before the block's first row."""
        stride, centre = self.deep.fields[name].grid
        return max(0, int((self.deep.halo - centre) // stride))

    def _grid(self, name: str) -> tuple[int, float]:
        """Stride of a stored stage, and the middle of its first pixel, in pixels of the block."""
        stride, centre = self.deep.fields[name].grid
        return stride, centre - self.deep.halo + self._first(name) * stride

    def _is_stored(self, block: Window) -> bool:
        return all(self._path(block, name).is_file() for name in self.deep.stages)

    def _path(self, block: Window, name: str) -> Path:
        return self.folder / name / f"{block.row // TILE_PX}-{block.col // TILE_PX}.npy"


def clear_stages(folder: Path, *, kept: Path | None = None) -> None:
    """Take away the stages of networks.

    Args:
        folder: of the features of a scene.
        kept: folder of the stages that stay; None for none.

    Raises:
        OutputError: the folder cannot be written.
    """
    try:
        for one in folder.glob(f"{_PREFIX}*"):
            if one != kept:
                shutil.rmtree(one)
    except OSError as error:
        raise unwritten(folder, error) from error


def _inside(places: Int64s, start: int, length: int) -> slice:
    """Which of some places, in rising order, lie in a span."""
    first, last = np.searchsorted(places, (start, start + length)).tolist()
    return slice(first, last)


def _fingerprint(deep: DeepFeatures) -> str:
    """Sixteen hexadecimal digits for a network, its weights and what is read of it."""
    digest = hashlib.sha256(repr((deep.backbone.name, deep.stages, deep.composites)).encode())
    for name, values in deep.backbone.state_dict().items():
        digest.update(name.encode() + values.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
