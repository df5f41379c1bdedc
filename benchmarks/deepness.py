"""How often the Deepness plugin and geotl map name a pixel alike, on real tiles and a real scene.

    python benchmarks/deepness.py tiles MODEL     360 EuroSAT RGB tiles side by side
    python benchmarks/deepness.py havel MODEL [--size 704 704]     a part of the Havel scene

The model must be one of such tiles or of that scene. What the plugin does is done without QGIS
(tests/helpers/deepness_plugin.py).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin

from geotl.cli.main import main
from geotl.imagery.scene import open_scene
from geotl.imagery.windows import Window
from geotl.models.model_file import ModelFile, load

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
from helpers.deepness_plugin import name_pixels  # noqa: E402
from helpers.tiles import data_root, write_tile  # noqa: E402

ROWS, COLS, SEED = 20, 18, 4


def tiles_side_by_side(model: ModelFile, path: Path) -> None:
    """Write tiles of all classes at random as one raster."""
    paths = sorted((data_root() / "eurosat_rgb").rglob("*.jpg"))
    chosen = np.random.default_rng(SEED).choice(len(paths), ROWS * COLS, replace=False)
    tiles = []
    for number in chosen:
        with rasterio.open(paths[number]) as source:
            tiles.append(source.read())
    rows = [np.concatenate(tiles[r * COLS : (r + 1) * COLS], axis=2) for r in range(ROWS)]
    write_tile(path, np.concatenate(rows, axis=1), names=list(model.contract.bands))


def part_of_havel(model: ModelFile, path: Path, size: tuple[int, int]) -> None:
    """Write a part of the scene, all bands on the finest one's grid."""
    contract = model.contract
    scene = open_scene(data_root() / "sentinel2_l1c_havel", contract.sensor, contract.bands)
    data, _ = scene.read(Window(0, 200, *size))
    a, _, left, _, e, top = scene.grid.transform
    write_tile(
        path,
        data.astype(np.uint16),
        names=list(contract.bands),
        nodata=0,
        crs=scene.grid.crs,
        transform=from_origin(left + 200 * a, top, a, -e),
    )


def compare(model: Path, raster: Path, folder: Path) -> None:
    """Export, map both ways, print."""
    out, drawn = folder / "model.onnx", folder / "map.tif"
    assert main(["export", str(model), "--format", "deepness", "-o", str(out)]) == 0
    arguments = [
        "--mode",
        "exact",
        "--resolution-px",
        "1",
        "--precision",
        "float32",
        "--mask",
        "none",
    ]
    arguments += ["-o", str(drawn), "--no-page", "-q"]
    assert main(["map", str(model), str(raster), *arguments]) == 0
    with rasterio.open(drawn) as source:
        wanted = source.read(1)
    same = name_pixels(out, raster) == np.where(wanted == 255, 0, wanted + 1)
    px = load(model).contract.tile_px
    print(
        f"{same.shape[0]} x {same.shape[1]} px, named alike: all {100 * same.mean():.4f} %, "
        f"a window off the edges {100 * same[px:-px, px:-px].mean():.4f} %"
    )


def run() -> None:
    """Read the arguments, make the raster, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["tiles", "havel"])
    parser.add_argument("model", type=Path)
    parser.add_argument("--size", type=int, nargs=2, default=(704, 704), help="of Havel [px]")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        raster = Path(name) / "raster.tif"
        if args.what == "tiles":
            tiles_side_by_side(load(args.model), raster)
        else:
            part_of_havel(load(args.model), raster, tuple(args.size))
        compare(args.model, raster, Path(name))


if __name__ == "__main__":
    run()
