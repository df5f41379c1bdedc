"""A scene in memory, read window by window as those on disk are."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from geotl.imagery.sensors import Sensor, get_sensor
from geotl.imagery.windows import Window
from geotl.io.raster import Grid

UTM = "EPSG:32633"


def made_grid(height: int = 120, width: int = 160, crs: str | None = UTM, *, turn=False) -> Grid:
    """A 10-m grid, perhaps turned by atan(3/4)."""
    along = (8.0, 6.0, 6.0, -8.0) if turn else (10.0, 0.0, 0.0, -10.0)
    return Grid(crs, (along[0], along[1], 500000.0, along[2], along[3], 4600000.0), height, width)


@dataclass
class MadeScene:
    """Pixels [3,H,W] counting up; `valid` and `cloud` [H,W] may be changed; reads are listed."""

    name: str = "made"
    grid: Grid = field(default_factory=made_grid)
    sensor: Sensor = field(default_factory=lambda: get_sensor("rgb"))
    acquired: str | None = "2020-06-01"
    bands: tuple[str, ...] = ("red", "green", "blue")
    path: Path = Path("made.tif")
    dtype: np.dtype = field(default_factory=lambda: np.dtype("uint16"))

    def __post_init__(self) -> None:
        height, width = self.grid.height, self.grid.width
        count = 3 * height * width
        self.data = (np.arange(1, count + 1) % 60000 + 1).astype("uint16").reshape(3, height, width)
        self.valid = np.ones((height, width), dtype=bool)
        self.cloud = np.zeros((height, width), dtype=bool)
        self.reads: list[Window] = []

    def read(self, window: Window):
        assert window.inside(self.grid), f"{window} reaches beyond the scene"
        self.reads.append(window)
        part = np.s_[
            window.row : window.row + window.height, window.col : window.col + window.width
        ]
        seen = (self.valid & ~self.cloud)[part]
        return self.data[:, *part], np.repeat(seen[None], 3, axis=0)

    def cloudy(self, window: Window):
        return self.cloud[
            window.row : window.row + window.height, window.col : window.col + window.width
        ]
