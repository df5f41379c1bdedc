"""The recipe of a project: what `geotl run` needs to train the project's model again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geotl.arrays import Float64s
from geotl.io import yaml
from geotl.io.geodesy import distances_m
from geotl.io.raster import Grid

if TYPE_CHECKING:  # torch, which the page's start can spare
    from geotl.data.pixel_labels import PixelPlacement

FOLDS = 5  # of task pixels, as a recipe has them by default
SMOOTH_PX = 11  # side of the windows in which a new project smooths its map [px]
_BLOCKS = 4 * FOLDS  # that few labels are laid over, where their extent allows
_SMALLER = 0.8  # each side that is tried, times the one before
_HEAD = """\
# geotl run recipe.yaml -o run
# {map_command}
# Run both in this folder: paths without a leading slash start where geotl runs.
"""


@dataclass(frozen=True)
class ProjectInputs:
    """What a project's model is trained on and its map is made of, beside the labels.

    Attributes:
        scene: its file or folder.
        sensor: the sensor's name.
        bands: names of the bands used, None for all of the sensor's.
        mask: auto, none, or a cloud mask's file.
        weights: file of a network's weights, None for none.
        aoi: polygons of the area to map, None for the whole scene.
        file_bands: bands in file order, where the file names none.
        smooth_px: side of the windows in which the map is smoothed [px], odd; 1 for none.
    """

    scene: Path
    sensor: str
    bands: tuple[str, ...] | None = None
    mask: str = "auto"
    weights: Path | None = None
    aoi: Path | None = None
    file_bands: tuple[str, ...] | None = None
    smooth_px: int = 1

    @property
    def map_options(self) -> list[str]:
        """Arguments of `geotl map` behind model and scene."""
        mask = [] if self.mask == "auto" else ["--mask", _path_or(self.mask, ("none",))]
        smooth = [] if self.smooth_px == 1 else ["--smooth-px", str(self.smooth_px)]
        return mask + ([] if self.aoi is None else ["--aoi", str(self.aoi.absolute())]) + smooth


def recipe_text(
    inputs: ProjectInputs,
    colours: Mapping[str, str],
    places_m: Float64s,
    labels: str,
    map_command: str,
) -> str:
    """The recipe as YAML, with the commands that use it above.

    Args:
        inputs: of the project.
        colours: #rrggbb of each class that has labels, by its name.
        places_m: a place in metres of each label [N,2].
        labels: name of the labels' file, beside the recipe.
        map_command: command that maps the scene, for readers.
    """
    return _HEAD.format(map_command=map_command) + yaml.write(
        recipe_values(inputs, colours, places_m, labels)
    )


def recipe_values(
    inputs: ProjectInputs, colours: Mapping[str, str], places_m: Float64s, labels: str
) -> dict[str, Any]:
    """The recipe's keys, but for those at their defaults; arguments as of `recipe_text`."""
    data: dict[str, Any] = {"scenes": [str(inputs.scene.absolute())], "sensor": inputs.sensor}
    if inputs.bands is not None:
        data["bands"] = list(inputs.bands)
    if inputs.file_bands is not None:
        data["file_bands"] = list(inputs.file_bands)
    if inputs.mask != "auto":
        data["mask"] = None if inputs.mask == "none" else str(Path(inputs.mask).absolute())
    values: dict[str, Any] = {
        "title": f"Labels placed on {inputs.scene.name}",
        "task": "pixels",
        "data": {**data, "colours": dict(colours)},
        "labels": {"path": labels, "layer": "labels", "field": "class", "id_field": "id"},
        "split": split_of(places_m),
    }
    if inputs.weights is not None:
        values["model"] = {"weights": str(inputs.weights.absolute())}
    return values


def label_places(placed: PixelPlacement, grid: Grid) -> Float64s:
    """A place in metres of each label that has pixels [N,2].

    Args:
        placed: labels with pixels of one scene.
        grid: of the scene.
    """
    pixels = {pixel.label_id: pixel.place for pixel in placed.pixels}.values()
    middle = np.array([(one.col + 0.5, one.row + 0.5) for one in pixels]).reshape(-1, 2)
    return distances_m(grid, middle[:, 0], middle[:, 1])


def split_of(places_m: Float64s) -> dict[str, Any]:
    """Folds that so many labels allow.

    By default geotl takes five folds of blocks whose side it reads off a variogram. Few labels
    allow none: then the side is the largest that lays them over 20 blocks, or 5 where they are
    closer together. Labels in fewer places are folds of single labels.

    Args:
        places_m: a place in metres of each label [N,2].

    >>> split_of(np.zeros((5, 2)))
    {'method': 'group', 'kfold': 5}
    """
    from geotl.data.spatial_splits import enough_places  # SciPy, which the page's start can spare

    if enough_places(places_m):
        return {"method": "blocks", "kfold": FOLDS}
    sides = _sides(places_m)
    for least in sorted({min(_BLOCKS, len(places_m) // 2), FOLDS}, reverse=True):
        for side in sides:
            if _blocks(places_m, side) >= max(least, FOLDS):
                return {"method": "blocks", "kfold": FOLDS, "block_m": side}
    return {"method": "group", "kfold": max(2, min(FOLDS, len(places_m)))}


def _sides(places_m: Float64s) -> Sequence[float]:
    """Sides of blocks in metres to try, from half of the labels' extent down."""
    extent = float(np.ptp(places_m, axis=0).max(initial=0.0)) if len(places_m) else 0.0
    count = int(np.log(0.02) / np.log(_SMALLER))
    return [float(f"{extent / 2 * _SMALLER**step:.2g}") for step in range(count) if extent]


def _blocks(places_m: Float64s, side: float) -> int:
    from geotl.data.spatial_splits import block_of

    return len(np.unique(block_of(np.hstack([places_m, places_m]), side, seed=0)))


def _path_or(text: str, words: Sequence[str]) -> str:
    return text if text in words else str(Path(text).absolute())
