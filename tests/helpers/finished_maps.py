"""Finished maps made up: class rasters with their confidence, and what is told beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from helpers.tiles import write_tile
from rasterio.transform import Affine

from geotl.io.raster import Grid
from geotl.mapping.layers import Areas
from geotl.mapping.map_words import MapFacts
from geotl.mapping.preview import Look
from geotl.reporting.rendering import default_colours

UTM = Grid("EPSG:32633", (200.0, 0.0, 340000.0, 0.0, -200.0, 5860000.0), 30, 40)
METRICS = {
    "headline": "overall accuracy 0.886 [0.845, 0.917]",
    "tiles": 306,
    "overall_accuracy": {"value": 0.8856, "low": 0.8451, "high": 0.9166},
    "bootstrap": {"kappa": {"value": 0.871, "low": 0.827, "high": 0.911}},
    "per_class": {"class 1": {"support": 34, "precision": 0.9, "recall": 0.8, "f1": 0.85}},
}


def made_values(grid: Grid = UTM, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Blocks of classes, and confidence that grows along the rows; the first corner is empty."""
    row, col = np.indices((grid.height, grid.width))
    values = ((row // 5 + col // 5) % classes).astype(np.uint8)
    confidence = (30 + 60 * col // max(grid.width - 1, 1)).astype(np.uint8)
    empty = (row < 4) & (col < 6)
    values[empty] = confidence[empty] = 255
    return values, confidence


def made_look(grid: Grid = UTM, classes: int = 4, picture: bool = False) -> Look:
    values, confidence = made_values(grid, classes)
    seen = np.full((grid.height, grid.width, 3), (200, 30, 30), np.uint8) if picture else None
    return Look(grid, values, confidence, 1, seen)


def made_facts(look: Look, names: list[str] | None = None, classes: int = 4, **more) -> MapFacts:
    names = names or [f"class {k}" for k in range(classes)]
    pixels = np.bincount(look.classes[look.classes < 255], minlength=len(names))
    left = int((look.classes == 255).sum())
    areas = Areas(pixels, pixels * 4e4, left, left * 4e4)
    tags = {
        "GEOTL_MODEL_SHA256": "ab" * 32,
        "GEOTL_MODE": "exact",
        "GEOTL_SCENE": "made.tif",
        "GEOTL_WINDOW_PX": "64",
        "GEOTL_STEP_PX": "20",
        "GEOTL_VERSION": "0.1.0",
        "GEOTL_DATE": "2026-11-25T04:00:00+00:00",
    }
    colours = default_colours(len(names))
    settings = {"acquired": "2022-10-02", "metrics": METRICS, "confidence": 61.0} | more
    return MapFacts(
        "made", classes=tuple(names), colours=colours, areas=areas, tags=tags, **settings
    )


def written_map(folder: Path, grid: Grid = UTM) -> dict[str, Path]:
    """The same as files."""
    place = {"crs": grid.crs, "transform": Affine(*grid.transform), "nodata": 255}
    values, confidence = made_values(grid)
    return {
        "classes": write_tile(folder / "map.tif", values[None], **place),
        "confidence": write_tile(folder / "map_confidence.tif", confidence[None], **place),
    }
