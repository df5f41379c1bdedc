"""A scene whose classes depend on the height of the ground alone, and rasters of that height."""

from __future__ import annotations

from pathlib import Path

import geopandas
import numpy as np
import rasterio
import rasterio.warp
import shapely
from helpers.labelled_scenes import BANDS
from helpers.tiles import write_tile
from rasterio.transform import Affine, from_origin

SIDE = 192  # of the scene in pixels of 10 m
CLASSES = ("high", "low", "middle")
CRS = "EPSG:32633"


def height(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Metres above the sea of positions in EPSG:32633."""
    return 600 + 300 * np.sin(x / 130) * np.cos(y / 150)


def class_at(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Class of positions, a number among `CLASSES`."""
    return np.array([1, 2, 0])[np.digitize(height(x, y), [530, 670])]


def middles(place: Affine, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """X and y of the middles of a grid's pixels."""
    cols, rows = np.meshgrid(np.arange(shape[1]) + 0.5, np.arange(shape[0]) + 0.5)
    return place.c + place.a * cols, place.f + place.e * rows


def dem_of(path: Path, crs: str, place: Affine, shape: tuple[int, int], **profile) -> Path:
    """The height as float32 metres on a grid of any reference system."""
    x, y = middles(place, shape)
    if crs != CRS:
        flat = rasterio.warp.transform(crs, CRS, x.ravel(), y.ravel())
        x, y = (np.reshape(values, shape) for values in flat)
    data = height(x, y).astype(np.float32)[None]
    return write_tile(path, data, crs=crs, transform=place, **profile)


def made_dem(path: Path) -> Path:
    """The height in degrees, in pixels of about 20 x 28 m, from beyond the scene's western edge.

    The scene's last 12 columns lie east of it, and a square in the west is nodata.
    """
    left, top, right, bottom = 499900, 4600100, 501800, 4597950
    west, _, east, north = rasterio.warp.transform_bounds(
        CRS, "EPSG:4326", left, bottom, right, top
    )
    place = Affine(0.00025, 0, west, 0, -0.00025, north)
    width = round((east - west) / 0.00025)
    dem_of(path, "EPSG:4326", place, (90, width), nodata=-9999.0)
    with rasterio.open(path, "r+") as target:
        target.write(np.full((12, 12), -9999, np.float32), 1, window=((20, 32), (20, 32)))
    return path


def made_scene(folder: Path) -> tuple[Path, Path]:
    """Bands of noise, and a point with its class in every 13th pixel: (scene, labels)."""
    random = np.random.default_rng(5)
    pixels = random.integers(800, 1200, (len(BANDS), SIDE, SIDE)).astype(np.uint16)
    pixels[:, :30, :30] = 0
    scene = write_tile(folder / "scene.tif", pixels, names=BANDS, nodata=0)
    x, y = middles(from_origin(500000, 4600000, 10, 10), (SIDE, SIDE))
    x, y = x[6::13, 6::13].ravel(), y[6::13, 6::13].ravel()
    table = {"class": [CLASSES[k] for k in class_at(x, y)]}
    labels = folder / "labels.gpkg"
    geopandas.GeoDataFrame(table, geometry=shapely.points(x, y), crs=CRS).to_file(labels)
    return scene, labels
