"""What the Deepness plugin does with a raster and a Segmentor, without QGIS.

Written after its source (segmentor.py, preprocessing_utils.py, tile_params.py, extent_utils.py,
map_processor_segmentation.py) for an entire layer in its own resolution.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import rasterio


def name_pixels(
    model: Path,
    raster: Path,
    *,
    bands: tuple[int, ...] | None = None,
    threshold: float | None = None,
) -> np.ndarray:
    """Class of every pixel uint8 [H,W], as the plugin finds it.

    Args:
        model: an ONNX file with the plugin's metadata.
        raster: the layer.
        bands: which of its bands feed the input's channels; the first ones unless told otherwise.
        threshold: of probabilities, the model's own unless told otherwise.
    """
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    (into,), (out_of,) = session.get_inputs(), session.get_outputs()
    batch, channels, side, _ = into.shape
    assert batch == 1
    assert len(out_of.shape) == 4
    assert out_of.shape[2] == out_of.shape[3] == side
    told = {
        k: json.loads(v)
        for k, v in session.get_modelmeta().custom_metadata_map.items()
        if k not in ("geotl", "geotl_seal")
    }
    assert told["model_type"].capitalize() == "Segmentor"
    assert told["tile_size"] == side
    assert [int(key) for key in told["class_names"]] == list(range(out_of.shape[1]))
    least = told["seg_thresh"] if threshold is None else threshold
    mean, std = (np.array(told[f"standardization_{n}"], np.float32) for n in ("mean", "std"))
    with rasterio.open(raster) as source:
        layer = source.read(bands or tuple(range(1, channels + 1))).transpose(1, 2, 0)
    overlap = int(side * told["tiles_overlap"] / 100 * 2) // 2
    stride = side - overlap
    above, beside = missing(layer.shape[:2], side, stride)
    whole = np.pad(layer, [(above, 0), (0, beside), (0, 0)])  # grown to the north and the east
    image = np.zeros(whole.shape[:2], np.uint8)
    rows, cols = (round((n - side) / stride) + 1 for n in image.shape)
    for r, c in np.ndindex(rows, cols):
        tile = whole[None, r * stride : r * stride + side, c * stride : c * stride + side]
        fed = (np.float32(tile * 1.0 / 255.0) - mean) / std
        said = session.run(None, {into.name: np.transpose(fed, (0, 3, 1, 2))})[0]
        said[said < least] = 0.0
        named = np.argmax(said, axis=1)[0]
        down, across = kept(r, rows, side, overlap), kept(c, cols, side, overlap)
        place = np.s_[
            r * stride + down.start : r * stride + down.stop,
            c * stride + across.start : c * stride + across.stop,
        ]
        image[place] = named[down, across]
    return image[above:, : layer.shape[1]]


def missing(shape: tuple[int, int], side: int, stride: int) -> tuple[int, int]:
    """Rows and columns that are put on, so that tiles fill the image."""
    return tuple(side - n if n <= side else (stride - (n - side) % stride) % stride for n in shape)


def kept(number: int, count: int, side: int, overlap: int) -> slice:
    """The part of a tile that is kept along an axis: all but half the overlap, but at the ends."""
    half = overlap // 2
    return slice(0 if number == 0 else half, side if number == count - 1 else side - half)
