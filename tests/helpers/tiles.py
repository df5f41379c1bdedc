"""Small tiles on disk, and where the project and the real imagery lie."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin

ROOT = Path(__file__).resolve().parents[2]


def data_root() -> Path:
    """The folder of real imagery: GEOTL_DATA, or ../shared/data from the project's root."""
    return Path(os.environ.get("GEOTL_DATA", ROOT.parent / "shared" / "data"))


def write_tile(path: Path, data: np.ndarray, *, names: list[str] | None = None, **profile) -> Path:
    """Write [C,H,W] as a georeferenced GeoTIFF, with band names as descriptions."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = data.shape
    settings = {
        "driver": "GTiff",
        "count": count,
        "height": height,
        "width": width,
        "dtype": data.dtype.name,
        "crs": "EPSG:32633",
        "transform": from_origin(500000, 4600000, 10, 10),
    } | profile
    with rasterio.open(path, "w", **settings) as target:
        target.write(data)
        if names:
            target.descriptions = tuple(names)
    return path
