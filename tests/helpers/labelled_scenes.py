"""A small scene with labels, and recipes over it."""

from __future__ import annotations

from pathlib import Path

import geopandas
import numpy as np
import shapely
from helpers.tiles import write_tile

from geotl.cli.main import main

BANDS = ["B02", "B03", "B04", "B08"]


PX = 12


SMALL = [
    "data.sensor=sentinel2_l2a",
    "data.bands=[B02,B03,B04,B08]",
    "model.backbone=lenet5",
    "model.input_px=32",
    "strategy=probe",
    "probe.views=1",
    "split.inner_folds=2",
    "evaluate.bootstrap_rounds=20",
    "evaluate.baselines=false",
]


PIXELS = [
    "task=pixels",
    "data.sensor=sentinel2_l2a",
    "data.bands=[B02,B03,B04,B08]",
    "split.inner_folds=3",
    "split.kfold=3",
    "split.block_m=400",
    "evaluate.bootstrap_rounds=50",
]


def made_scene(folder: Path) -> tuple[Path, Path]:
    """A scene of squares of three classes, and a point in each: (scene, labels)."""
    random = np.random.default_rng(3)
    side = 12
    classes = random.integers(0, 3, (side, side))
    level = np.array([[600, 900, 700, 3200], [900, 1000, 1300, 1800], [500, 400, 300, 200]])
    pixels = level[classes].transpose(2, 0, 1).repeat(16, axis=1).repeat(16, axis=2)
    noisy = (pixels + random.normal(0, 70, pixels.shape)).clip(1).astype(np.uint16)
    noisy[:, :20, -20:] = 0
    scene = write_tile(folder / "scene.tif", noisy, names=BANDS)
    rows, cols = np.divmod(np.arange(side * side), side)
    points = [
        shapely.Point(500000 + 160 * c + 85, 4600000 - 160 * r - 85)
        for r, c in zip(rows, cols, strict=True)
    ]
    table = {"class": [("field", "town", "water")[k] for k in classes.ravel()]}
    labels = folder / "labels.gpkg"
    geopandas.GeoDataFrame(table, geometry=points, crs="EPSG:32633").to_file(labels)
    return scene, labels


def run(out: Path, *settings: str) -> int:
    recipe = out.parent / "small.yaml"
    recipe.write_text("title: small\n")
    return main(["run", str(recipe), *SMALL, *settings, "--output", str(out), "-q"])


def over(made: tuple[Path, Path]) -> list[str]:
    return [f"data.scenes={made[0]}", f"labels.path={made[1]}", f"labels.chip_px={PX}"]
