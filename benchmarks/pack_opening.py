"""Time to open a cached pack with its checksums compared, and without, as earlier versions did.

`python benchmarks/pack_opening.py` prints a table: median and range of 15 openings each, taken in
turn. "reading the index" hashes every tile's file and comes before the opening in every run; "+"
is what opening adds to it.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from geotl.data import tile_array
from geotl.data.tiles import index_folder
from geotl.imagery.sensors import get_sensor
from geotl.io.raster import Grid, write

ROUNDS = 15
SENSOR = get_sensor("sentinel2_l2a")
BANDS = ("B02", "B03", "B04", "B08")


def made_tiles(root: Path, count: int, side: int) -> None:
    """Tiles of noise in two classes."""
    random = np.random.default_rng(0)
    grid = Grid("EPSG:32633", (10.0, 0.0, 5e5, 0.0, -10.0, 4.6e6), side, side)
    for number in range(count):
        pixels = random.integers(1, 4000, (4, side, side)).astype(np.uint16)
        path = root / "ab"[number % 2] / f"{number:05d}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, pixels, grid, BANDS, 0)


def seconds(action: Callable[[], object]) -> float:
    """How long one call takes."""
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def row(count: int, side: int) -> str:
    """A line of the table for so many tiles."""
    with tempfile.TemporaryDirectory() as folder:
        root, place = Path(folder) / "tiles", Path(folder) / "pack"
        made_tiles(root, count, side)
        index, reading = index_folder(root), tile_array.TileReading(BANDS)
        size = tile_array.pack(index, SENSOR, reading, folder=place).images.nbytes / 1e6
        key = tile_array.fingerprint(index, SENSOR, reading)

        def before() -> None:
            tile_array.fingerprint(index, SENSOR, reading)
            tile_array._reopen(place, key)

        def after() -> None:
            tile_array.pack(index, SENSOR, reading, folder=place)

        actions = {"index": lambda: index_folder(root), "before": before, "after": after}
        times: dict[str, list[float]] = {name: [] for name in actions}
        for _ in range(ROUNDS):
            for name, action in actions.items():
                times[name].append(1e3 * seconds(action))
    cells = " | ".join(
        f"{statistics.median(t):.1f} ({min(t):.1f} to {max(t):.1f})" for t in times.values()
    )
    return f"| {count} x {side} px, {size:.1f} MB | {cells} |"


if __name__ == "__main__":
    print("| pack | reading the index [ms] | + opening, unchecked [ms] | + opening, checked [ms] |")
    print("|---|---|---|---|")
    for count, side in ((60, 32), (400, 64), (1000, 64), (2000, 96)):
        print(row(count, side), flush=True)
