"""int8 for an ONNX file: ranges of its convolutions' values measured on tiles, then rounded.

Static quantisation in QDQ form, weights by output channel. Weights take 7 of the 8 bits, since
processors without VNNI add pairs of products in 16 bits and would cut the largest off. With
`onnxfiles` the only place that imports onnxruntime.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from geotl.arrays import Float32s
from geotl.inference.onnx_file import INPUT

LAYERS = ("Conv", "Relu")  # a rectifier after a convolution becomes part of its rounding


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
