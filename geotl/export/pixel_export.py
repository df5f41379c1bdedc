"""A pixel model exported: run on made images of two sizes, compared with `geotl map`, then kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from geotl.arrays import Float32s
from geotl.console import Log
from geotl.export.graphs import MapParity, map_parity, run_onnx, run_pt2, save_program
from geotl.export.metadata import pixel_model_metadata
from geotl.export.pixel_graphs import pixel_onnx, pixel_program
from geotl.export.pixel_network import PixelNetwork, nodata_of
from geotl.inference.onnx_file import Runner, seal
from geotl.inference.pixel_predictor import PixelPredictor
from geotl.io.files import check_absent, whole_file
from geotl.models.pixel_file import PixelModelFile
from geotl.models.pixel_model import PixelModel

PixelFormat = Literal["onnx", "pt2"]
PATCH_PX = 12  # side of the patches of a made image
INSIDE_PX = ((48, 40), (29, 67))  # rows and columns inside the halo of the images compared


@dataclass(frozen=True)
class ExportedPixels:
    """A finished file, and how it compares with its model."""

    path: Path
    parity: MapParity


def export_pixels(
    model: PixelModelFile,
    form: PixelFormat,
    path: Path,
    *,
    overwrite: bool = False,
    log: Log = print,
) -> ExportedPixels:
    """Export a pixel model as a graph for images of any size.

    It takes raw pixels float32 [N,C,H,W], bands of extra rasters after the scene's, and gives
    probabilities and scores [N,K,H,W].

    Args:
        model: to export.
        form: which runtime's.
        path: to write to; it appears only after a run with the same predictions.
        overwrite: replace what is there.
        log: gets every line.

    Raises:
        OutputError: the file exists or cannot be written.
        ModelError: its predictions differ from `geotl map`; no file is left.
    """
    check_absent(path, overwrite=overwrite)
    halo, _ = graph_halo(model.model)
    images = example_images(model, halo)
    with whole_file(path) as part:
        _write(model, form, images[0], part)
        parity = compare_pixels(model, (run_onnx if form == "onnx" else run_pt2)(part), images)
        log(str(parity))
        parity.check(path)
    log(f"{form.ljust(8)} {path} ({path.stat().st_size / 1e6:.1f} MB)")
    if model.contract.extra_bands:
        names = ", ".join((*model.contract.bands, *model.contract.extra_bands))
        log(f"bands    {names}: the last {len(model.contract.extra_bands)} of other rasters")
    log(f"image    of any height and width; pixels less than {halo} px from its edge lack context")
    return ExportedPixels(path, parity)


def deployed_pixels(model: PixelModelFile) -> PixelNetwork:
    """A pixel model as a torch module, in evaluation mode."""
    return PixelNetwork(model.model, model.contract.sensor.nodata).eval()


def graph_halo(model: PixelModel) -> tuple[int, int]:
    """Pixels that an image must be wider on every side, and what they are a multiple of.

    The multiple is the stride of the networks' deepest stage, 1 without a network: an image begins
    at multiples of it, so that stages lie as in `geotl map`.
    """
    stride = max([1, *(one.stride for one in (model.deep, model.decoder) if one is not None)])
    return -(-model.halo // stride) * stride, stride


def _write(model: PixelModelFile, form: PixelFormat, image: Float32s, path: Path) -> None:
    network, two = deployed_pixels(model), torch.from_numpy(image[None].repeat(2, axis=0))
    halo, stride = graph_halo(model.model)
    metadata = pixel_model_metadata(model, halo_px=halo, stride_px=stride)
    if form == "pt2":
        save_program(pixel_program(network, two), path, metadata)
    else:
        seal(pixel_onnx(model.model, network, two), path, metadata)


def example_images(model: PixelModelFile, halo: int) -> list[Float32s]:
    """Made images of both sizes, `INSIDE_PX` wide inside the halo."""
    sizes = [(inside[0] + 2 * halo, inside[1] + 2 * halo) for inside in INSIDE_PX]
    return [example_image(model, halo, size, seed) for seed, size in enumerate(sizes)]


def example_image(
    model: PixelModelFile, halo: int, shape: tuple[int, int], seed: int = 0
) -> Float32s:
    """An image float32 [C,H,W] like the training scene in mean and sd, with holes.

    A pixel model keeps no pixels, so they are made: patches of several levels with noise.
    """
    of, random = model.model.features, np.random.default_rng(seed)
    mean, sd = (np.array(x)[:, None, None] for x in (of.mean, of.sd))
    coarse = random.normal(0, 1, (len(mean), *(-(-n // PATCH_PX) for n in shape)))
    levels = coarse.repeat(PATCH_PX, 1).repeat(PATCH_PX, 2)[:, : shape[0], : shape[1]]
    values = mean + sd * (levels + random.normal(0, 0.2, levels.shape))
    return _holed(values.astype(np.float32), halo, model.contract.sensor.nodata)


def _holed(image: Float32s, halo: int, nodata: float | None) -> Float32s:
    """An image with NaN in all bands of a corner, and the nodata value in one band of a square."""
    image[:, : halo + 9, : halo + 7] = np.nan
    image[0, halo + 12 : halo + 20, halo + 15 : halo + 30] = np.nan if nodata is None else nodata
    return image


def compare_pixels(model: PixelModelFile, runner: Runner, images: list[Float32s]) -> MapParity:
    """Run a file on images [C,H,W], and compare what is inside the halo with `geotl map`."""
    halo, _ = graph_halo(model.model)
    inside = np.s_[:, halo:-halo, halo:-halo] if halo else np.s_[:]
    pairs = [(runner(image[None])[0][0][inside], mapped_pixels(model, image)) for image in images]
    sizes = " and ".join(f"{image.shape[1]} x {image.shape[2]}" for image in images)
    return map_parity(f"images of {sizes} px", pairs)


def mapped_pixels(model: PixelModelFile, image: Float32s) -> Float32s:
    """Probabilities [K,h,w] of `geotl map` for the pixels of an image inside the halo."""
    halo, _ = graph_halo(model.model)
    raw, of = image.copy(), model.model.features
    raw[image == nodata_of(of, model.contract.sensor.nodata)] = np.nan
    raw[of.scene_band_count :, np.isnan(raw[: of.scene_band_count]).all(axis=0)] = np.nan
    rows, cols = (np.arange(halo, side - halo) for side in image.shape[1:])
    predicted = PixelPredictor(model.model).predict_windows(raw, rows, cols, 1)
    return predicted.probabilities.transpose(2, 0, 1)
