"""A model as a Segmentor of QGIS's Deepness plugin: its tiles, its graph, its metadata.

The plugin asks for a class of every pixel, so the graph predicts windows inside the plugin's tile
and spreads each over the pixels of its cell.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from geotl.arrays import Bools, Float32s, Float64s
from geotl.console import Log
from geotl.errors import DataError
from geotl.export.deployable import Deployed, deployed
from geotl.export.graphs import MapParity, example_tiles, map_parity, onnx_of
from geotl.export.metadata import model_metadata
from geotl.inference.onnx_file import INPUT, open_session, seal
from geotl.inference.sliding_window import Sweep, predict_windows
from geotl.inference.window_grid import WindowGrid, blend
from geotl.io.files import check_absent, whole_file
from geotl.mapping.blocks import window_shares
from geotl.models.model_file import ModelFile

TILE_PX, WINDOWS = 512, 4  # default side of a tile, and default number of windows
NO_DATA = "no data"
MAX_CLASSES = 254  # besides "no data"; the plugin's image of classes is uint8
PER_UNIT = 255.0  # what comes in was divided by it
SLACK = 1e-6  # of a nodata value: division and product in float32 move it by 1.2e-7
AT_ONCE_PX = 1 << 20  # pixels of windows, in the network's input size, in one computation
MAX_PARTS = 64  # copies of the network in the graph, at most
OUTPUT = "probabilities"
MIN_VALID = 0.5  # of a window's pixels, as in `geotl map`


@dataclass(frozen=True)
class TileLayout:
    """Tiles of `tile_px` pixels, which the plugin lays `stride_px` apart.

    Attributes:
        tile_px: side of a tile; its windows begin and end with it.
        window_px: side of a window, the model's tile.
        step_px: pixels between windows.
        overlap_percent: of neighbouring tiles.
    """

    tile_px: int
    window_px: int
    step_px: int
    overlap_percent: int

    @property
    def stride_px(self) -> int:
        """Pixels between tiles."""
        return self.tile_px - overlap_px(self.tile_px, self.overlap_percent)

    @property
    def aligned(self) -> bool:
        """Whether the windows of all tiles lie on one grid, so that no tile's edge can show."""
        return self.stride_px % self.step_px == 0


def overlap_px(tile_px: int, percent: int) -> int:
    """The overlap of two tiles in pixels, computed as the plugin does.

    >>> overlap_px(512, 25), overlap_px(512, 22)
    (128, 112)
    """
    return int(tile_px * percent / 100 * 2) // 2


def tile_layout(
    window_px: int, step_px: int | None = None, tile_px: int | None = None
) -> TileLayout:
    """Tiles for windows of a model, with the least overlap that hides the tiles' edges.

    The part kept of a tile must use every window that it uses in a complete scene, which takes a
    window less a step on each side, and windows of neighbouring tiles should lie on one grid.

    Args:
        window_px: side of a window.
        step_px: pixels between windows, None for half a window.
        tile_px: side of a tile, None for the largest up to 512 px or four windows that goes with
            one grid of windows.

    Raises:
        DataError: a step beyond 1 to the window, or a tile that windows do not fill or whose
            edges no overlap can hide.

    >>> tile_layout(64)
    TileLayout(tile_px=512, window_px=64, step_px=32, overlap_percent=25)
    >>> tile_layout(40), tile_layout(40).stride_px
    (TileLayout(tile_px=500, window_px=40, step_px=20, overlap_percent=8), 460)
    """
    step = max(1, window_px // 2) if step_px is None else step_px
    if not 1 <= step <= window_px:
        raise DataError(f"step {step}: allowed is 1 to the model's window, {window_px} px")
    if tile_px is not None:
        return _of_size(tile_px, window_px, step)
    size = max(TILE_PX, WINDOWS * window_px)
    fits = window_px + (size - window_px) // step * step
    layouts = [_of_size(tile, window_px, step) for tile in range(fits, fits // 2, -step)]
    return next((layout for layout in layouts if layout.aligned), layouts[0])


def _of_size(tile: int, window: int, step: int) -> TileLayout:
    if tile < window or (tile - window) % step:
        below = window + max(0, tile - window) // step * step
        raise DataError(
            f"tile size {tile}: windows of {window} px, {step} px apart, do not fill it; "
            f"{below} and {below + step} px would do"
        )
    tiles = [TileLayout(tile, window, step, percent) for percent in range(100)]
    hiding = [layout for layout in tiles if (tile - layout.stride_px) // 2 >= window - step]
    if not hiding:
        raise DataError(
            f"tile size {tile}: too small to hide tiles' edges with windows of {window} px, {step} "
            f"px apart; take {2 * window} px or more, or a larger step"
        )
    return next((layout for layout in hiding if layout.aligned), hiding[0])


def metadata(
    layout: TileLayout, classes: Sequence[str], channels: int, resolution_m: float | None
) -> dict[str, str]:
    """What the plugin reads of a model, by key, each value as JSON.

    Class 0 is "no data": the plugin gives it every pixel whose probabilities are all below the
    threshold, and the newer ones every pixel outside the polygons processed. The plugin's own
    standardisation is left without effect, the removal of small segments and the threshold off.

    Args:
        layout: of its tiles.
        classes: the model's, without "no data".
        channels: bands of its input.
        resolution_m: size of its pixels, None where unknown; the key is then left out.

    >>> values = metadata(tile_layout(64), ["bog", "fen"], 1, 10.0)
    >>> values["class_names"], values["resolution"], values["standardization_std"]
    ('{"0": "no data", "1": "bog", "2": "fen"}', '1000.0', '[1.0]')

    Raises:
        DataError: more classes than the plugin has values for.
    """
    if len(classes) > MAX_CLASSES:
        raise DataError(f"{len(classes)} classes: the plugin has room for {MAX_CLASSES}")
    names = {str(number): name for number, name in enumerate([NO_DATA, *classes])}
    values: dict[str, object] = {
        "model_type": "Segmentor",
        "class_names": names,
        "tile_size": layout.tile_px,
        "tiles_overlap": layout.overlap_percent,
        "standardization_mean": [0.0] * channels,
        "standardization_std": [1.0] * channels,
        "seg_thresh": 0.0,
        "seg_small_segment": 0,
    }
    if resolution_m is not None:
        values["resolution"] = round(100 * resolution_m, 6)  # cm a pixel
    return {key: json.dumps(value) for key, value in values.items()}


class PixelGraph(nn.Module):
    """Pixels / 255 float32 [1,C,S,S] to probabilities [1,1+K,S,S], channel 0 "no data".

    Raw pixels are recovered first. Those that are not finite, or the sensor's nodata, are invalid:
    their band is filled, and the pixel itself is "no data". A window counts with `min_valid` of its
    pixels valid in every band; where none counts there is "no data" too. Windows are computed in
    parts, one after another, which bounds the memory.
    """

    weight: Tensor
    inside: Tensor
    place: Tensor

    def __init__(self, single: Deployed, grid: WindowGrid, min_valid: float) -> None:
        """Spread the predictions for windows over a square grid of posting 1.

        Raises:
            DataError: too many windows for one graph.
        """
        super().__init__()
        self.single, self.px, self.min_valid = single, grid.px, min_valid
        nodata = float(single.network.normalise.nodata)
        self.slack = SLACK * abs(nodata) if math.isfinite(nodata) else 0.0
        largest = max(size or grid.px for size in single.network.sizes)
        self.at_once = max(1, AT_ONCE_PX // (largest**2 * len(single.views)))
        parts = -(-(len(grid.rows) ** 2) // self.at_once)
        if parts > MAX_PARTS:
            raise DataError(
                f"{len(grid.rows) ** 2} windows in a tile of {grid.height} px at a step of "
                f"{grid.step} px: {parts} parts to be computed one after another, more than "
                f"{MAX_PARTS}; take a larger step, a smaller tile, or fewer views"
            )
        weight = grid.row_weights.toarray().astype(np.float32)
        self.register_buffer("weight", torch.from_numpy(weight))  # [R,S]
        self.register_buffer("inside", torch.from_numpy((weight > 0).astype(np.float32)))
        self.register_buffer("place", torch.from_numpy(grid.rows[:, None] + np.arange(grid.px)))

    def forward(self, scaled: Tensor) -> Tensor:
        """Name every pixel of an image."""
        raw = scaled * PER_UNIT
        lost = self._lost(raw)
        complete = (~lost).float().amin(dim=(0, 1))  # [S,S]
        standard = self.single.network.normalise(torch.where(lost, float("nan"), raw))
        share = self.inside @ complete @ self.inside.T / self.px**2
        counts = (share >= self.min_valid).float()  # [R,R]
        predicted = self._predicted(standard).T.reshape(-1, *counts.shape)  # [K,R,R]
        total = self.weight.T @ counts @ self.weight
        drawn = (total > 0) & (complete > 0)
        sums = self.weight.T @ (predicted * counts) @ self.weight
        probabilities = torch.where(drawn, sums / torch.where(drawn, total, 1.0), 0.0)
        return torch.cat([(~drawn).float()[None], probabilities])[None]

    def _lost(self, raw: Tensor) -> Tensor:
        nodata = self.single.network.normalise.nodata
        return ~torch.isfinite(raw) | ((raw - nodata).abs() <= self.slack)

    def _predicted(self, standard: Tensor) -> Tensor:
        """Probabilities [R*R,K] of every window."""
        across = standard[0][:, :, self.place]  # [C,S,R,px]
        windows = across[:, self.place].permute(1, 3, 0, 2, 4).flatten(0, 1)
        parts = torch.split(windows, self.at_once)
        return torch.cat([torch.softmax(self.single.of_standard(p), dim=1) for p in parts])


@dataclass(frozen=True)
class DeepnessOptions:
    """How a model is spread over the plugin's tiles.

    Attributes:
        tile_px: side of a tile, None for the largest up to 512 px or four windows that goes.
        step_px: pixels between windows, None for half a window.
        views: flips and quarter turns averaged; one by default, as in `geotl map`.
        resolution_m: size of a pixel where the model does not know it.
    """

    tile_px: int | None = None
    step_px: int | None = None
    views: int | None = None
    resolution_m: float | None = None

    def __post_init__(self) -> None:
        """Check what can be checked without a model.

        Raises:
            DataError: a resolution that is not above 0.
        """
        if self.resolution_m is not None and not self.resolution_m > 0:
            raise DataError(f"resolution {self.resolution_m:g}: allowed is above 0 m")


@dataclass(frozen=True)
class ForDeepness:
    """A finished file, its tiles and how it compares with its model."""

    path: Path
    layout: TileLayout
    parity: MapParity


def export_deepness(
    model: ModelFile,
    path: Path,
    options: DeepnessOptions = DeepnessOptions(),
    *,
    overwrite: bool = False,
    log: Log = print,
) -> ForDeepness:
    """Export a model as a Segmentor that the Deepness plugin reads.

    Args:
        model: to export.
        path: to write to; it appears only after a run with the same predictions.
        options: how windows lie in the plugin's tiles.
        overwrite: replace what is there.
        log: gets every line.

    Raises:
        DataError: tiles or a step that do not go.
        OutputError: the file exists or cannot be written.
        ModelError: its predictions differ from the model's; no file is left.
    """
    check_absent(path, overwrite=overwrite)
    contract = model.contract
    layout = tile_layout(contract.tile_px, options.step_px, options.tile_px)
    single = deployed(model, options.views or 1)
    spread = PixelGraph(single, _grid(layout), MIN_VALID).eval()
    file_metadata = model_metadata(model, views=len(single.views), precision="float32")
    file_metadata["resolution_m"] = options.resolution_m or file_metadata["resolution_m"]
    file_metadata["deepness"] = dataclasses.asdict(layout)
    more = metadata(layout, contract.classes, len(contract.bands), file_metadata["resolution_m"])
    raw = mosaic(example_tiles(model), layout.tile_px)
    with whole_file(path) as part:
        _write(spread, raw, part, file_metadata, more)
        parity = _compare(part, raw, single, layout)
        log(str(parity))
        parity.check(path)
    for line in advice(layout, contract.bands, contract.sensor.name, file_metadata["resolution_m"]):
        log(line)
    log(f"deepness {path} ({path.stat().st_size / 1e6:.1f} MB)")
    return ForDeepness(path, layout, parity)


def as_the_plugin(raw: NDArray[Any]) -> Float32s:
    """Raw pixels as the plugin passes them to a model with mean 0 and standard deviation 1.

    >>> as_the_plugin(np.array([0, 255, 10000], np.uint16)).tolist()
    [0.0, 1.0, 39.2156867980957]
    """
    return np.asarray(raw * 1.0 / PER_UNIT, np.float32)


def mosaic(tiles: Float32s, side: int) -> Float32s:
    """Tiles [n,C,s,s] over and over as one image [C,side,side], its last window's worth NaN.

    >>> mosaic(np.arange(2, dtype=np.float32).reshape(2, 1, 1, 1), 3)[0].tolist()
    [[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, nan]]
    """
    count, px = -(-side // tiles.shape[-1]), tiles.shape[-1]
    order = np.arange(count**2).reshape(count, count) % len(tiles)
    image = np.concatenate([np.concatenate(list(tiles[row]), axis=2) for row in order], axis=1)
    image = image[:, :side, :side].copy()
    image[:, side - px :, side - px :] = np.nan
    return image


def advice(
    layout: TileLayout, bands: tuple[str, ...], sensor: str, resolution_m: float | None
) -> list[str]:
    """Advice for loading the file in QGIS, in lines."""
    lines = [
        bands_line(bands, sensor),
        f"tiles    {layout.tile_px} px, {layout.overlap_percent} % overlap; windows of "
        f"{layout.window_px} px every {layout.step_px} px; pixels: "
        f"{pixel_size(resolution_m)}",
    ]
    if not layout.aligned:
        lines.append(
            "tiles    no overlap of whole percent puts all tiles' windows on one grid: where tiles "
            "meet, the map may differ from geotl map's"
        )
    return lines


def bands_line(bands: tuple[str, ...], sensor: str) -> str:
    """Which band of the raster each input takes."""
    order = " ".join(f"{number}={band}" for number, band in enumerate(bands, 1))
    return f"bands    the raster's, in this order: {order}; values as of {sensor}"


def pixel_size(resolution_m: float | None) -> str:
    """The size of a pixel as the plugin asks for it."""
    return f"{100 * resolution_m:g} cm" if resolution_m else "not known, to be set by hand"


def _grid(layout: TileLayout) -> WindowGrid:
    return WindowGrid(layout.tile_px, layout.tile_px, layout.window_px, layout.step_px, 1)


def _write(
    spread: PixelGraph,
    raw: Float32s,
    path: Path,
    file_metadata: dict[str, Any],
    more: dict[str, str],
) -> None:
    with torch.no_grad():
        graph = torch.export.export(spread, (torch.from_numpy(as_the_plugin(raw[None])),))
    seal(onnx_of(graph, [OUTPUT]), path, file_metadata, more)


def _compare(path: Path, raw: Float32s, single: Deployed, layout: TileLayout) -> MapParity:
    """Run a file on an image [C,S,S] and predict the same windows with `geotl map`."""
    output = open_session(path).run([OUTPUT], {INPUT: as_the_plugin(raw[None])})[0][0]
    reference = mapped(raw, single, layout)
    return map_parity("a tile of examples", [(output, reference)])


def mapped(raw: Float32s, single: Deployed, layout: TileLayout) -> Float64s:
    """Probabilities of `geotl map` in exact mode with cells of 1 px for an image: [1+K,S,S].

    Args:
        raw: pixels [C,S,S], NaN or the sensor's nodata where invalid.
        single: the model, deployed.
        layout: of the windows.
    """
    grid, side = _grid(layout), slice(0, layout.tile_px)
    valid = np.isfinite(raw) & (raw != float(single.network.normalise.nodata))
    fill = single.network.normalise.fill.numpy().reshape(-1, 1, 1)
    sweep = Sweep(
        single.network, layout.window_px, len(single.views), "exact", None, "float32", batch=32
    )
    image = torch.from_numpy(np.where(valid, raw, fill))
    predicted = predict_windows(sweep, image, grid.rows, grid.cols, grid.step).probabilities
    complete: Bools = np.all(valid, axis=0)
    usable = window_shares(complete, grid.rows, grid.cols, grid.px) >= MIN_VALID
    probabilities = blend(grid, predicted, usable, side, side).transpose(2, 0, 1)
    drawn = complete & np.isfinite(probabilities[0])
    return np.concatenate([~drawn[None], np.where(drawn, probabilities, 0.0)])
