"""Small tiles and runs of them, for whatever is tested on a finished run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from helpers.tiles import write_tile

from geotl.cli.main import main

BANDS = ["B02", "B03", "B04", "B08"]


SMALL = [
    "data.sensor=sentinel2_l2a",
    "data.bands=[B02,B03,B04,B08]",
    "model.backbone=lenet5",
    "split.shots=4",
    "split.inner_folds=2",
    "train.epochs=3",
    "train.batch_size=4",
    "evaluate.bootstrap_rounds=50",
]


def made_tiles(root: Path, count: int = 12) -> Path:
    """Three classes of noisy 32-px tiles that differ in level and texture."""
    random = np.random.default_rng(5)
    for k, name in enumerate(["field", "town", "water"]):
        for i in range(count):
            level = np.array([700, 900, 800 + 300 * k, 2500 - 900 * k])[:, None, None]
            tile = level + random.normal(0, 60 + 120 * k, (4, 32, 32))
            write_tile(root / name / f"{i:02d}.tif", tile.clip(1).astype(np.uint16), names=BANDS)
    return root


def run(tiles: Path, out: Path, *more: str, options: tuple[str, ...] = ("-q",)) -> int:
    recipe = out.parent / "small.yaml"
    recipe.write_text("title: small\n")
    settings = [f"data.root={tiles}", *SMALL, *more]
    return main(["run", str(recipe), *settings, "-o", str(out), *options])
