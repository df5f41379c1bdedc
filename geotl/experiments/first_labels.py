"""`geotl suggest` without a model: which places of scenes, or which tiles, to label first."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely

from geotl.arrays import Int64s
from geotl.console import ProgressLine
from geotl.data.pixel_labels import PixelRules, lattice_step, pixel_lattice, validity_at
from geotl.data.splits import Split
from geotl.data.typical_places import Typical, typical, unit_space
from geotl.errors import DataError
from geotl.experiments.build import build_network, with_preset
from geotl.experiments.draws import Draw
from geotl.experiments.experiment import Experiment
from geotl.experiments.named import recipe_sensor
from geotl.experiments.pixel_networks import deep_networks
from geotl.experiments.pixel_samples import (
    PixelReader,
    labelled_pixels,
    recipe_labels,
    scene_features,
)
from geotl.experiments.pixel_windows import PixelPlaces
from geotl.experiments.recipe import Recipe
from geotl.experiments.samples import stacked_scenes, unlabelled_tiles
from geotl.imagery.scene import Scene
from geotl.imagery.stacked import own_bands
from geotl.io.files import write_text
from geotl.io.tables import TableWriter
from geotl.io.vector import positions, write_features
from geotl.models.deep_features import DEEP
from geotl.models.pixel_features import BANDS, WIDE
from geotl.training.features import raw_features

FEW = 5.0  # labels per class; the preset for so few describes tiles
_SPACE = (WIDE, DEEP)  # blocks of features that pixels are compared by; bands where windows are off


@dataclass(frozen=True)
class FirstPixels:
    """Pixels to label first.

    Attributes:
        chosen: among the candidate pixels, with the share that each represents.
        points: middles of the chosen pixels.
        crs: reference system of the points.
        scenes: name of the scene of each.
        candidates: how many pixels were compared.
    """

    chosen: Typical
    points: tuple[shapely.Point, ...]
    crs: str
    scenes: tuple[str, ...]
    candidates: int

    def __len__(self) -> int:
        """Number of points."""
        return len(self.points)

    def line(self) -> str:
        """What was compared, in a printed line."""
        return f"{self.candidates:,} pixels spread over the scenes compared by their features"

    def write(self, path: Path) -> None:
        """Write the points as a GeoPackage, with an empty field `class` to fill in.

        Raises:
            OutputError: the file cannot be written.
        """
        count = len(self)
        columns: dict[str, Sequence[object]] = {
            "id": list(range(1, count + 1)),
            "rank": list(range(1, count + 1)),
            "class": [None] * count,
            "stands_for": self.chosen.share.round(4).tolist(),
            "scene": list(self.scenes),
        }
        write_features(path, self.points, columns, self.crs)


def first_pixels(
    recipe: Recipe, count: int, *, step_px: int | None = None, quiet: bool = False
) -> FirstPixels:
    """The pixels of a recipe's scenes to label first.

    Pixels lie in cells of a lattice, one at random in each. They are compared by the window
    statistics of their bands and by the stages of the recipe's network, if it has weights.

    Args:
        recipe: of task pixels; where it names labels, they stand for what resembles them, and
            their classes do not count.
        count: how many are wanted.
        step_px: side of the lattice's cells; None for about `MAX_LATTICE` cells.
        quiet: show no progress.

    Raises:
        DataError: scenes that cannot be used, or fewer usable pixels than are wanted.
    """
    sensor = recipe_sensor(recipe)
    scenes = stacked_scenes(recipe, sensor)
    networks = deep_networks(recipe, sensor, own_bands(scenes[0]))
    reader = PixelReader(scene_features(scenes, sensor, recipe.pixels), networks)
    spread = _candidates(scenes, recipe, step_px)
    if len(spread.scene) < count:
        raise DataError(
            f"{scenes[0].name}: {len(spread.scene)} usable pixels were candidates, fewer than the "
            f"{count} wanted; ask for fewer (-n), or a smaller --stride-px"
        )
    labelled = _labelled(recipe, scenes)
    with ProgressLine(quiet=quiet) as line:
        every = labelled.joined(spread)
        table = reader.read(scenes, every, line.counter("reading pixels")).features
    blocks = {name: table[name].T for name in _SPACE if name in table} or {BANDS: table[BANDS].T}
    old = np.arange(len(labelled.scene), dtype=np.int64)
    chosen = typical(unit_space(blocks), count, recipe.seed, old)
    crs = str(scenes[0].grid.crs)
    places = [(scenes[every.scene[row]], every.places[row].tolist()) for row in chosen.rows]
    for scene in scenes:
        scene.close()
    points = tuple(_middle(scene, place, crs) for scene, place in places)
    return FirstPixels(
        chosen, points, crs, tuple(scene.name for scene, _ in places), len(spread.scene)
    )


def _candidates(scenes: Sequence[Scene], recipe: Recipe, step_px: int | None) -> PixelPlaces:
    """One usable pixel in each cell of a lattice over scenes."""
    step = step_px or lattice_step([scene.grid for scene in scenes])
    rules = PixelRules(all_bands=recipe.pixels.missing_bands == "exclude")
    owner, places = [], []
    for number, scene in enumerate(scenes):
        lattice = pixel_lattice(scene.grid, step, recipe.seed)
        valid, cloudy = validity_at(scene, lattice)
        usable = lattice[rules.good(valid) & ~cloudy]
        places.append(usable)
        owner.append(np.full(len(usable), number, np.int64))
    return PixelPlaces(np.concatenate(owner), np.concatenate(places))


def _labelled(recipe: Recipe, scenes: Sequence[Scene]) -> PixelPlaces:
    """The pixels of the labels that there are already."""
    if recipe.labels.path is None:
        return PixelPlaces(np.zeros(0, np.int64), np.zeros((0, 2), np.int64))
    labels = recipe_labels(recipe, str(scenes[0].grid.crs))
    return PixelPlaces.of(labelled_pixels(recipe, scenes, labels))


def _middle(scene: Scene, place: Sequence[int], crs: str) -> shapely.Point:
    """The middle of a pixel in a reference system."""
    xy = np.array([scene.grid.at(place[1] + 0.5, place[0] + 0.5)], np.float64)
    return shapely.Point(*positions(xy, str(scene.grid.crs), crs)[0])


@dataclass(frozen=True)
class FirstTiles:
    """Tiles to label first.

    Attributes:
        chosen: among all tiles, with the share that each represents.
        paths: of the chosen tiles.
        candidates: how many tiles were compared.
    """

    chosen: Typical
    paths: tuple[Path, ...]
    candidates: int

    def __len__(self) -> int:
        """Number of tiles."""
        return len(self.paths)

    def line(self) -> str:
        """What was compared, in a printed line."""
        return f"{self.candidates:,} tiles compared by their features"

    def write(self, path: Path) -> None:
        """Write a manifest (CSV) of the tiles, with an empty column `label` to fill in.

        Raises:
            OutputError: the file cannot be written.
        """
        stream = io.StringIO()
        writer = TableWriter(stream)
        writer.writerow(("path", "label", "stands_for"))
        for tile, share in zip(self.paths, self.chosen.share.round(4), strict=True):
            writer.writerow((tile, "", share))
        write_text(path, stream.getvalue())


def first_tiles(recipe: Recipe, count: int, *, quiet: bool = False) -> FirstTiles:
    """The tiles below a recipe's `data.root` to label first, in whatever folders they lie.

    Args:
        recipe: of task tiles; its weights and bands count, its labels do not.
        count: how many are wanted.
        quiet: show no progress.

    Raises:
        DataError: tiles that cannot be read, or fewer than are wanted.
    """
    samples = unlabelled_tiles(recipe, Path(recipe.data.root or ""), quiet=quiet)
    if len(samples) < count:
        raise DataError(
            f"{recipe.data.root}: {len(samples)} tiles, fewer than the {count} wanted; ask for "
            "fewer (-n)"
        )
    recipe, _ = with_preset(recipe, FEW, samples)
    rows = np.arange(len(samples), dtype=np.int64)
    none: Int64s = np.zeros(0, np.int64)
    experiment = Experiment(recipe, samples, Path("unused"), quiet=quiet)
    network, _ = build_network(experiment, Draw(0, Split(rows, none, none), []))
    with ProgressLine(quiet=quiet) as progress:
        features = raw_features(
            network,
            samples.pack,
            rows,
            precision=recipe.train.precision,
            progress=progress.counter("computing features"),
        )
    chosen = typical(unit_space({DEEP: features.mean(axis=1)}), count, recipe.seed)
    paths = tuple(samples.index.tiles[row].path for row in chosen.rows)
    return FirstTiles(chosen, paths, len(samples))
