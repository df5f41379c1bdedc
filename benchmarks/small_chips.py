"""Seconds of `geotl run` over a made scene whose labels give 730 chips of 8 px.

    python benchmarks/small_chips.py --weights resnet18.pth [key=value ...]

The scene has six bands of Landsat's in 8 bits and squares of six covers; each of 730 points gives
a chip. The recipe is what a lab writes: five folds by place, an ImageNet ResNet-18 up to layer3,
and all else by default. Further settings may be changed, such as model.input_px=[64,128].
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rasterio
import shapely
from rasterio.transform import from_origin

from geotl.experiments.recipe import load
from geotl.experiments.run import run
from geotl.io.vector import write_features

BANDS = ("B1", "B2", "B3", "B4", "B5", "B7")
CHIPS, CHIP_PX, SIDE, SQUARE_PX, METRES = 730, 8, 40, 12, 28.5
LEVELS = np.random.default_rng(7).uniform(30, 120, (6, 6))  # of six covers in six bands
EAST, NORTH = 630000.0, 228000.0


def made(folder: Path) -> tuple[Path, Path]:
    """The scene and its points."""
    random = np.random.default_rng(3)
    covers = random.integers(0, len(LEVELS), (SIDE, SIDE))
    pixels = LEVELS[covers].transpose(2, 0, 1).repeat(SQUARE_PX, 1).repeat(SQUARE_PX, 2)
    noisy = (pixels + random.normal(0, 12, pixels.shape)).clip(1, 255).astype(np.uint8)
    profile = {"driver": "GTiff", "count": 6, "dtype": "uint8", "crs": "EPSG:32633"}
    place = from_origin(EAST, NORTH, METRES, METRES)
    side = SIDE * SQUARE_PX
    path = folder / "scene.tif"
    with rasterio.open(path, "w", height=side, width=side, transform=place, **profile) as target:
        target.write(noisy)
        target.descriptions = BANDS
    chosen = np.sort(random.choice(SIDE * SIDE, CHIPS, replace=False))
    middles = [((k % SIDE + 0.5), (k // SIDE + 0.5)) for k in chosen.tolist()]
    step = SQUARE_PX * METRES
    points = [shapely.Point(EAST + x * step, NORTH - y * step) for x, y in middles]
    names = [f"cover {covers[k // SIDE, k % SIDE]}" for k in chosen.tolist()]
    write_features(folder / "labels.gpkg", points, {"class": names}, "EPSG:32633")
    return path, folder / "labels.gpkg"


def settings(scene: Path, labels: Path, weights: str) -> list[str]:
    """The recipe's keys."""
    return [
        f"data.scenes={scene}",
        "data.sensor={base: landsat7_sr, dtype: uint8}",
        f"labels.path={labels}",
        f"labels.chip_px={CHIP_PX}",
        "split.method=blocks",
        "split.kfold=5",
        f"model.weights={weights}",
        "model.cut_after=layer3",
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """Run it once and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", required=True)
    parser.add_argument("overrides", nargs="*")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as made_in:
        folder = Path(made_in)
        os.environ["GEOTL_CACHE"] = str(folder / "cache")
        recipe = load(None, [*settings(*made(folder), args.weights), *args.overrides])
        begun, busy = time.perf_counter(), time.process_time()
        run(recipe, folder / "run", quiet=True)
        spent = time.perf_counter() - begun, time.process_time() - busy
    print(f"{spent[0]:.0f} s, {spent[1]:.0f} s of the processor")


if __name__ == "__main__":
    main()
