"""A pixel model as a Segmentor of QGIS's Deepness plugin, the plugin's own kind of model.

Tiles overlap by so much that the part kept of each has all the surroundings that its pixels'
features depend on. What the plugin does to pixels, and its metadata, are as for models of tiles.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from geotl.arrays import Float32s
from geotl.console import Log
from geotl.errors import ModelError
from geotl.export.graphs import MapParity, map_parity, onnx_of, program_of
from geotl.export.metadata import pixel_model_metadata
from geotl.export.pixel_export import (
    deployed_pixels,
    example_image,
    graph_halo,
    mapped_pixels,
)
from geotl.export.pixel_graphs import FLOAT, BeforeForests, Tail, before_names, state_shapes
from geotl.export.pixel_network import PixelNetwork
from geotl.export.qgis_deepness import (
    OUTPUT,
    PER_UNIT,
    SLACK,
    DeepnessOptions,
    ForDeepness,
    TileLayout,
    as_the_plugin,
    bands_line,
    metadata,
    pixel_size,
    tile_layout,
)
from geotl.inference.onnx_file import INPUT, open_session, seal
from geotl.io.files import check_absent, whole_file
from geotl.models.pixel_file import PixelModelFile
from geotl.models.pixel_model import PixelModel

_LOST = "no_data"


class PluginPixels(nn.Module):
    """Pixels / 255 float32 [1,C,S,S] to what `BeforeForests` gives, and to "no data" [1,1,S,S].

    Raw pixels are recovered first; whole numbers exactly. Those that are not finite, or the
    sensor's nodata, are invalid. A pixel is "no data" where a band is invalid, or, where the
    model uses pixels that lack some bands, where all are.
    """

    def __init__(self, network: PixelNetwork, *, some_bands: bool) -> None:
        """Put what the plugin's pixels need before a network."""
        super().__init__()
        self.before, self.some_bands = BeforeForests(network), some_bands

    def forward(self, scaled: Tensor) -> tuple[Tensor, ...]:
        """Scores of the linear members, "no data", and each forest's features."""
        raw = self.recovered(scaled)
        invalid = torch.isnan(raw)
        lost = invalid.all(dim=1, keepdim=True) if self.some_bands else invalid.any(1, keepdim=True)
        scores, *rows = self.before(raw)
        return scores, lost.float(), *rows

    def recovered(self, scaled: Tensor) -> Tensor:
        """Raw pixels, NaN where invalid."""
        exact = scaled.double() * PER_UNIT
        rounded = exact.round()
        raw = torch.where((exact - rounded).abs() <= SLACK * rounded.abs(), rounded, exact).float()
        nodata: Tensor = self.before.network.nodata
        lost = ~torch.isfinite(raw) | ((raw - nodata).abs() <= SLACK * nodata.abs())
        return torch.where(lost, float("nan"), raw)


def pixel_layout(model: PixelModel, tile_px: int | None = None) -> TileLayout:
    """Tiles whose overlap hides the halo, and whose corners lie on the network's stride.

    A pixel with its surroundings counts as a window, the stride as the step between windows.

    Raises:
        DataError: a tile size that is no multiple of the stride, or too small for the halo.
    """
    halo, stride = graph_halo(model)
    return tile_layout(halo + stride, stride, tile_px)


def export_pixel_deepness(
    model: PixelModelFile,
    path: Path,
    options: DeepnessOptions | None = None,
    *,
    overwrite: bool = False,
    log: Log = print,
) -> ForDeepness:
    """Export a pixel model as a Segmentor that the Deepness plugin reads.

    Args:
        model: to export.
        path: to write to; it appears only after a run with the same predictions.
        options: tile size and resolution; steps and views mean nothing here.
        overwrite: replace what is there.
        log: gets every line.

    Raises:
        DataError: a tile size that does not go, or more classes than the plugin takes.
        ModelError: the model needs extra rasters besides the scene.
        OutputError: the file exists or cannot be written.
        ModelError: its predictions differ from the model's; no file is left.
    """
    options = options or DeepnessOptions()
    if model.contract.extra_bands:
        raise ModelError(
            f"{model.path}: wants {', '.join(model.contract.extra_bands)} of other rasters, and "
            "Deepness feeds a model one layer; map with geotl map --extra, or export with --format "
            "onnx, which takes them as further bands"
        )
    check_absent(path, overwrite=overwrite)
    layout, contract = pixel_layout(model.model, options.tile_px), model.contract
    resolution = options.resolution_m or contract.resolution_m
    file_metadata = _metadata(model, layout, resolution)
    more = metadata(layout, contract.classes, len(contract.bands), resolution)
    some_bands = model.features.missing_bands == "use"
    plugin = PluginPixels(deployed_pixels(model), some_bands=some_bands).eval()
    image = example_image(model, file_metadata["halo_px"], (layout.tile_px, layout.tile_px))
    with whole_file(path) as part:
        seal(segmentor(model.model, plugin, as_the_plugin(image)), part, file_metadata, more)
        parity = _compared(model, plugin, part, as_the_plugin(image))
        log(str(parity))
        parity.check(path)
    log(bands_line(contract.bands, contract.sensor.name))
    log(
        f"tiles    {layout.tile_px} px, {layout.overlap_percent} % overlap; a class depends on "
        f"{file_metadata['halo_px']} px around its pixel; pixels: {pixel_size(resolution)}"
    )
    log(f"deepness {path} ({path.stat().st_size / 1e6:.1f} MB)")
    return ForDeepness(path, layout, parity)


def _metadata(
    model: PixelModelFile, layout: TileLayout, resolution_m: float | None
) -> dict[str, Any]:
    """The file's metadata for geotl."""
    halo, stride = graph_halo(model.model)
    return {
        **pixel_model_metadata(model, halo_px=halo, stride_px=stride),
        "resolution_m": resolution_m,
        "deepness": dataclasses.asdict(layout),
    }


def _compared(
    model: PixelModelFile, plugin: PluginPixels, path: Path, scaled: Float32s
) -> MapParity:
    """Run a file on a tile [C,S,S], and compare what is inside the halo with `geotl map`."""
    halo, _ = graph_halo(model.model)
    output = open_session(path).run([OUTPUT], {INPUT: scaled[None]})[0][0]
    inside = np.s_[:, halo : output.shape[1] - halo, halo : output.shape[2] - halo]
    return map_parity("a made tile", [(output[inside], mapped_segments(model, plugin, scaled))])


def segmentor(model: PixelModel, plugin: PluginPixels, scaled: Float32s) -> Any:
    """The plugin's onnx.ModelProto: a tile [1,C,S,S] to probabilities [1,1+K,S,S]."""
    first, *rows = before_names(model)
    names = [first, _LOST, *rows]
    proto = onnx_of(program_of(plugin, torch.from_numpy(scaled[None]), {}), names)
    tail = Tail(proto)
    probabilities, _ = tail.fused(model.forests)
    there = tail.node("Sub", [tail.constant("one", 1.0, np.float32), _LOST], "there")
    shown = tail.node(
        "Mul", [tail.node("Cast", [probabilities], "chances", to=FLOAT), there], "shown"
    )
    tail.output("Concat", [_LOST, shown], OUTPUT, axis=1)
    bands, side, _ = scaled.shape
    outputs = {OUTPUT: (1, 1 + len(model.classes), side, side)}
    state_shapes(proto.graph, (1, bands, side, side), outputs)
    return proto


def mapped_segments(model: PixelModelFile, plugin: PluginPixels, scaled: Float32s) -> Float32s:
    """What `geotl map` makes of the plugin's tile [C,S,S] inside the halo: [1+K,s,s]."""
    halo, _ = graph_halo(model.model)
    raw = plugin.recovered(torch.from_numpy(scaled)).numpy()
    invalid = np.isnan(raw[:, halo : raw.shape[1] - halo, halo : raw.shape[2] - halo])
    lost = invalid.all(axis=0) if plugin.some_bands else invalid.any(axis=0)
    probabilities = np.where(lost, 0.0, mapped_pixels(model, raw))
    return np.concatenate([lost[None], probabilities]).astype(np.float32)
