"""A model exported for QGIS's Deepness plugin, compared with `geotl map` before it is kept."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from geotl.arrays import Bools, Float32s, Float64s
from geotl.console import Log
from geotl.errors import DataError, UnfinishedError
from geotl.export.deepnesstiles import TileLayout, metadata, tile_layout
from geotl.export.deployable import Deployed, deployed
from geotl.export.graphs import onnx_of
from geotl.export.metadata import passport
from geotl.export.parity import example_tiles
from geotl.export.spreading import PER_UNIT, Spread
from geotl.inference.onnx_file import INPUT, open_session, seal
from geotl.inference.sliding_window import Sweep, look
from geotl.inference.window_grid import WindowGrid, blend
from geotl.io.files import check_absent, whole_file
from geotl.mapping.blocks import window_shares
from geotl.models.model_file import ModelFile

OUTPUT = "probabilities"
MIN_VALID = 0.5  # of a window's pixels, as in `geotl map`
TOLERANCE = 1e-4  # of probabilities


@dataclass(frozen=True)
class DeepnessOptions:
    """How a model is spread over the plugin's tiles.

    Attributes:
        tile_px: side of a tile, None for the largest up to 512 px or four windows that goes.
        step_px: pixels between windows, None for half a window.
        views: flips and quarter turns averaged; one unless told otherwise, as in `geotl map`.
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
class SpreadParity:
    """How a file's tile compares with what `geotl map` makes of the same pixels.

    Attributes:
        probabilities: largest difference.
        agreement: share of pixels named alike, "no data" being a name.
    """

    probabilities: float
    agreement: float

    def __str__(self) -> str:
        """In one line."""
        return (
            f"parity with geotl map on a tile of examples: probabilities within "
            f"{self.probabilities:.1e}, {100 * self.agreement:.4g} % of pixels named alike"
        )


@dataclass(frozen=True)
class ForDeepness:
    """A finished file, its tiles and how it compares with its model."""

    path: Path
    layout: TileLayout
    parity: SpreadParity


def export_deepness(
    model: ModelFile,
    path: Path,
    options: DeepnessOptions = DeepnessOptions(),
    *,
    overwrite: bool = False,
    say: Log = print,
) -> ForDeepness:
    """Export a model as a Segmentor that the Deepness plugin reads.

    Args:
        model: to export.
        path: to write to; it appears only once it has been run and found to say the same.
        options: how windows lie in the plugin's tiles.
        overwrite: replace what is there.
        say: told every line.

    Raises:
        DataError: tiles or a step that do not go.
        OutputError: the file exists or cannot be written.
        UnfinishedError: it does not say what the model says; nothing is left.
    """
    check_absent(path, overwrite=overwrite)
    contract = model.contract
    layout = tile_layout(contract.tile_px, options.step_px, options.tile_px)
    single = deployed(model, options.views or 1)
    spread = Spread(single, _grid(layout), MIN_VALID).eval()
    told = passport(model, views=len(single.views), precision="float32")
    told["resolution_m"] = options.resolution_m or told["resolution_m"]
    told["deepness"] = dataclasses.asdict(layout)
    more = metadata(layout, contract.classes, len(contract.bands), told["resolution_m"])
    raw = mosaic(example_tiles(model), layout.tile_px)
    with whole_file(path) as part:
        _write(spread, raw, part, told, more)
        found = _compare(part, raw, single, layout)
        say(str(found))
        if not found.probabilities <= TOLERANCE:
            raise UnfinishedError(
                f"{path}: probabilities {found.probabilities:.2g} from the model's, more than "
                f"{TOLERANCE:.0e}; nothing was kept"
            )
    for line in advice(layout, contract.bands, contract.sensor.name, told["resolution_m"]):
        say(line)
    say(f"deepness {path} ({path.stat().st_size / 1e6:.1f} MB)")
    return ForDeepness(path, layout, found)


def as_the_plugin(raw: NDArray[Any]) -> Float32s:
    """Raw pixels as the plugin gives them to a model with mean 0 and standard deviation 1.

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
    """What whoever loads the file in QGIS must see to, a line each."""
    order = " ".join(f"{number}={band}" for number, band in enumerate(bands, 1))
    size = f"{100 * resolution_m:g} cm" if resolution_m else "not known, to be set by hand"
    lines = [
        f"bands    the raster's, in this order: {order}; values as of {sensor}",
        f"tiles    {layout.tile_px} px, {layout.overlap_percent} % overlap; windows of "
        f"{layout.window_px} px every {layout.step_px} px; pixels: {size}",
    ]
    if not layout.aligned:
        lines.append(
            "tiles    no overlap of whole percent puts all tiles' windows on one grid: where tiles "
            "meet, the map may differ from geotl map's"
        )
    return lines


def _grid(layout: TileLayout) -> WindowGrid:
    return WindowGrid(layout.tile_px, layout.tile_px, layout.window_px, layout.step_px, 1)


def _write(
    spread: Spread, raw: Float32s, path: Path, told: dict[str, Any], more: dict[str, str]
) -> None:
    with torch.no_grad():
        graph = torch.export.export(spread, (torch.from_numpy(as_the_plugin(raw[None])),))
    seal(onnx_of(graph, [OUTPUT]), path, told, more)


def _compare(path: Path, raw: Float32s, single: Deployed, layout: TileLayout) -> SpreadParity:
    """Run a file on an image [C,S,S] and look at the same windows as `geotl map` does."""
    found = open_session(path).run([OUTPUT], {INPUT: as_the_plugin(raw[None])})[0][0]
    wanted = mapped(raw, single, layout)
    return SpreadParity(
        float(np.abs(found - wanted).max()), float((found.argmax(0) == wanted.argmax(0)).mean())
    )


def mapped(raw: Float32s, single: Deployed, layout: TileLayout) -> Float64s:
    """What `geotl map` in exact mode at a posting of 1 px says of an image: [1+K,S,S].

    Args:
        raw: pixels [C,S,S], NaN or the sensor's nodata where invalid.
        single: the model, deployed.
        layout: whose windows.
    """
    grid, side = _grid(layout), slice(0, layout.tile_px)
    valid = np.isfinite(raw) & (raw != float(single.network.normalise.nodata))
    fill = single.network.normalise.fill.numpy().reshape(-1, 1, 1)
    sweep = Sweep(
        single.network, layout.window_px, len(single.views), "exact", None, "float32", batch=32
    )
    image = torch.from_numpy(np.where(valid, raw, fill))
    said = look(sweep, image, grid.rows, grid.cols, grid.step).probabilities
    whole: Bools = np.all(valid, axis=0)
    known = window_shares(whole, grid.rows, grid.cols, grid.px) >= MIN_VALID
    chances = blend(grid, said, known, side, side).transpose(2, 0, 1)
    drawn = whole & np.isfinite(chances[0])
    return np.concatenate([~drawn[None], np.where(drawn, chances, 0.0)])
