"""Networks in eight bits, and what the rounding costs in accuracy."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geotl.arrays import Bools, Float32s, Int64s
from geotl.data.splits import Split, by_group, stratified
from geotl.errors import DataError
from geotl.evaluation.metrics import Interval, wilson
from geotl.inference.labelled_tiles import labelled_tiles, tile_blocks
from geotl.inference.onnx_file import INPUT, Runner
from geotl.models.model_file import Contract

LAYERS = ("Conv", "Relu")  # a rectifier after a convolution becomes part of its rounding
MAX_CALIBRATING, BATCH = 256, 4
_Z = 1.96


def quantise(full: Path, path: Path, batches: Iterable[Float32s]) -> None:
    """Write the int8 form of an ONNX file.

    Args:
        full: in float32, its batch normalisations folded.
        path: to write to.
        batches: tiles [n,C,S,S] to measure ranges on, one batch in memory at a time.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    with _without_advice():
        quantize_static(
            full,
            path,
            _reader(batches),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(LAYERS),
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,  # keeps two numbers a layer and batch
        )


def _reader(batches: Iterable[Float32s]) -> object:
    from onnxruntime.quantization import CalibrationDataReader

    left = iter(batches)

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, Float32s] | None:
            tiles = next(left, None)
            return None if tiles is None else {INPUT: tiles}

    return Reader()


@contextmanager
def _without_advice() -> Iterator[None]:
    """Keep the quantiser from advising a preparation of which nothing is left to do."""

    def other(record: logging.LogRecord) -> bool:
        return "pre-processing before quantization" not in record.getMessage()

    root = logging.getLogger()
    root.addFilter(other)
    try:
        yield
    finally:
        root.removeFilter(other)


@dataclass(frozen=True)
class Halves:
    """Labelled tiles in two halves that share no copy, and no group where groups are known.

    Attributes:
        measured: files of at most 256 tiles, spread over the classes, to measure ranges on.
        tested: files of the other half.
        truth: their classes among the model's [n].
    """

    measured: tuple[Path, ...]
    tested: tuple[Path, ...]
    truth: Int64s


def halves(contract: Contract, data: str | Path) -> Halves:
    """Divide labelled tiles, always alike.

    Raises:
        DataError: tiles that cannot be read or divided, or a class the model does not know.
    """
    index, truth = labelled_tiles(contract, data)
    groups = [tile.group for tile in index.tiles]
    content = [tile.content for tile in index.tiles]
    split = (
        by_group(groups, truth, 0.5, seed=0, content=content, names=contract.classes)
        if all(groups)
        else stratified(truth, 0.5, seed=0, content=content, names=contract.classes)
    )
    return _halves([tile.path for tile in index.tiles], truth, split)


def _halves(paths: list[Path], truth: Int64s, split: Split) -> Halves:
    order = np.random.default_rng(0).permutation(split.train)[:MAX_CALIBRATING]
    return Halves(
        tuple(paths[i] for i in order), tuple(paths[i] for i in split.test), truth[split.test]
    )


def raw_batches(
    contract: Contract, paths: tuple[Path, ...], size: int = BATCH
) -> Iterator[Float32s]:
    """Tiles [n,C,S,S] as an export takes them, what is not valid NaN."""
    for images, valid in tile_blocks(contract, paths, block=size):
        yield np.where(valid, images.astype(np.float32), np.float32(np.nan))


@dataclass(frozen=True)
class Loss:
    """Accuracy of a network and of its rounded form on the same tiles.

    Attributes:
        before: share classified correctly, with its interval.
        after: the same, rounded.
        points: what was lost, in percentage points, with its interval; below 0 is a gain.
        tiles: number of test tiles.
        calibrated: how many others the ranges were measured on.
    """

    before: Interval
    after: Interval
    points: Interval
    tiles: int
    calibrated: int

    def __str__(self) -> str:
        """In one line."""
        lost = self.points
        return (
            f"accuracy on {self.tiles} tiles: float32 {self.before}, int8 {self.after}; difference "
            f"{0 - lost.value:+.2f} points [{0 - lost.high:+.2f}, {0 - lost.low:+.2f}] (ranges "
            f"measured on {self.calibrated} other tiles)"
        )


def rounding_loss(
    runners: tuple[Runner, Runner], contract: Contract, split: Halves, size: int = 64
) -> Loss:
    """Classify the test half with a file and its rounded form, batch by batch."""
    classes: list[list[Int64s]] = [[], []]
    for tiles in raw_batches(contract, split.tested, size):
        for rows, runner in zip(classes, runners, strict=True):
            rows.append(runner(tiles)[0].argmax(axis=1))
    right = [np.concatenate(rows) == split.truth for rows in classes]
    n = len(split.truth)
    return Loss(
        wilson(int(right[0].sum()), n),
        wilson(int(right[1].sum()), n),
        points_lost(right[0], right[1]),
        n,
        len(split.measured),
    )


def points_lost(before: Bools, after: Bools) -> Interval:
    """Percentage points of accuracy lost on the same tiles, with a 95 % interval.

    Half a tile is added to each cell of the table of pairs, which holds the interval's level in
    small samples too, and of no disagreement leaves an interval of a width (Agresti & Min 2005,
    doi 10.1002/sim.1781).

    Raises:
        DataError: no tiles.

    >>> right = np.ones(100, bool)
    >>> points_lost(right, np.arange(100) >= 3)
    Interval(value=3.0, low=-0.85..., high=6.74...)
    >>> points_lost(right, right).value
    0.0
    """
    n = len(before)
    if not n:
        raise DataError("no labelled tile to test rounding on; give more with --tiles")
    lost, gained = int((before & ~after).sum()), int((~before & after).sum())
    b, c, total = lost + 0.5, gained + 0.5, n + 2
    middle, spread = (b - c) / total, math.sqrt((b + c) - (b - c) ** 2 / total) / total
    ends = (100 * (middle - _Z * spread), 100 * (middle + _Z * spread))
    return Interval(100 * (lost - gained) / n, *ends)
