"""A simulated lab in `geotl label`: accuracy against clicks, at suggested, random and wrong places.

    python benchmarks/label_clicks.py [--data sample havel] [--seeds 10] [--first-seed 0]
        [--clicks 10 20 40 80 160] [--tested scene blocks] [--weights resnet18.pth]
        [--map finished] [--ways both] [--json clicks.json]

A click gives a pixel its true class: on the sample scene that of truth.tif, on Havel that of the
OpenStreetMap polygon it lies in (classes as in the recipe havel_osm; nothing else can be clicked).
One lab clicks the ten places that the page suggests, then the next ten, and so on; another clicks
places drawn at random; a third, as soon as there is a map, clicks the middle of the widest place
that the map has wrong, click after click (before, the suggestions). With --ways both a lab clicks
the first ten suggestions, and then where the map is wrong. After so many clicks the page's
quick model is fitted and tested on 3,000 pixels drawn at random, each of which counts alike:
`scene`, all over the scene, at least 40 m from any click of all labs; `blocks`, in two fifths of
the blocks that each seed lays over the scene, where no click falls, nor nearer than the widest
window reaches. Where the page has no map yet (a label of each of two classes is needed) the
commonest class among the labels is tested.

With --weights the network's stages take part, as in `geotl label --weights`. With --map finished
the labs click as before, by the quick model; tested is the map that the page shows at rest and
"Finish" writes: of all members, with smoothed probabilities.

Printed: accuracy in %, the mean over the seeds, and differences from random places with their 95 %
interval (Student's t), paired over seeds; and how many seeds had a map.
GEOTL_DATA is the folder with sentinel2_l1c_havel (default: ../shared/data).
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import rasterio
import rasterio.features
import shapely
from scipy.spatial import cKDTree

from geotl.arrays import Bools, Float64s, Int64s
from geotl.data.labels import read_labels
from geotl.evaluation.metrics import mean_interval
from geotl.experiments.pixel_networks import DeepNetworks, deep_networks
from geotl.experiments.pixel_samples import pixel_rules, scene_features
from geotl.experiments.recipe import Recipe, load, resolve_sample
from geotl.imagery.scene import Scene, open_scene
from geotl.imagery.sensors import get_sensor
from geotl.imagery.stacked import own_bands
from geotl.imagery.windows import Window
from geotl.inference.typical_choice import FEW_LABELS
from geotl.labelling.feature_store import FeatureStore
from geotl.labelling.feature_tiles import TileFeatures, TilePlace
from geotl.labelling.fitting import Fitting, project_recipe
from geotl.labelling.label_set import LabelClass, LabelSet, PlacedLabel
from geotl.labelling.learner import training_features, without_random
from geotl.labelling.next_places import (
    COUNT,
    MAX_CANDIDATES,
    Candidates,
    Labelled,
    next_places,
)
from geotl.labelling.placed_pixels import PlacedPixels, waiting_for
from geotl.labelling.project_recipe import SMOOTH_PX
from geotl.labelling.smooth_tiles import smoothed
from geotl.models.pixel_features import BANDS, WIDE, Features
from geotl.models.pixel_model import PixelModel

HERE = Path(__file__).resolve().parent.parent
OSM = "gis_osm_landuse-water_a_free_1_area-10000-to-500000.gpkg"
POOL, TESTED, TEST_SHARE = 9000, 3000, 0.4
NEAR_PX, BLOCK_PX = 4, {"sample": 128, "havel": 200}  # of 10 m
WAYS = ("suggested", "random", "corrected")
WHERE = ("scene", "blocks")


@dataclass(frozen=True)
class Ground:
    """A scene with true classes at some of its pixels.

    Attributes:
        name: of the data set.
        pixels: describes pixels of the scene.
        networks: whose stages describe them too; None without weights.
        recipe: of a project there.
        places: rows and columns [m,2].
        truth: class of each, by its position among `classes` [m].
        classes: names.
        store: features of all pixels, for the map that a project ends with; None for none.
    """

    name: str
    pixels: PlacedPixels
    networks: DeepNetworks | None
    recipe: Recipe
    places: Int64s
    truth: Int64s
    classes: tuple[str, ...]
    store: FeatureStore | None = None

    def labels(self, clicks: Sequence[int]) -> LabelSet:
        """Points at some of the places, with their true classes."""
        classes = [LabelClass(i, name, "#000000") for i, name in enumerate(self.classes, 1)]
        points = [
            PlacedLabel(number, int(self.truth[i]) + 1, _middle(self.places[i]))
            for number, i in enumerate(clicks, 1)
        ]
        return LabelSet(len(points), tuple(classes), tuple(points))

    def features(self, rows: Int64s) -> Features:
        """Features [D,n] by block of some of the places."""
        return self.pixels.described([(int(r), int(c)) for r, c in self.places[rows]])[0]

    def candidates(self, rows: Int64s) -> Candidates:
        """Some of the places, as the page chooses from."""
        features = {name: self.features(rows)[name] for name in (BANDS, WIDE)}
        return Candidates(TilePlace(1, 0, 0), np.arange(len(rows)), self.places[rows], features)


@dataclass(frozen=True)
class Trial:
    """What may be clicked and what is tested, as positions among the places."""

    free: Int64s
    tested: Int64s


def _middle(place: Int64s) -> shapely.Point:
    return shapely.Point(place[1] + 0.5, place[0] + 0.5)


# --- data sets


def sample_ground(_: Path, weights: Path | None) -> Ground:
    """The sample scene with truth.tif."""
    with rasterio.open(resolve_sample("truth", "sample:truth.tif")) as truth:
        values, tags = truth.read(1).astype(np.int64), truth.tags()
        known = values != truth.nodata
    codes = np.unique(values[known])
    names = tuple(tags[f"CLASS_{code}"] for code in codes)
    path, sensor = resolve_sample("scene", "sample:scene.tif"), "sentinel2_l2a_n0400"
    bands = load("sample_pixels").data.bands
    scene = open_scene(path, get_sensor(sensor), bands)
    classes = np.where(known, np.searchsorted(codes, values), -1)
    return _ground("sample", scene, classes, names, weights)


def havel_ground(data: Path, weights: Path | None) -> Ground:
    """The Havel scene with the classes of OpenStreetMap's polygons."""
    folder = data / "sentinel2_l1c_havel"
    scene, mapping = open_scene(folder, get_sensor("sentinel2_l1c")), load("havel_osm").labels.names
    polygons = read_labels(folder / OSM, field="fclass", crs_to=scene.grid.crs, mapping=mapping)
    shapes = [(one.geometry, polygons.classes.index(one.class_name)) for one in polygons.labels]
    grid = scene.grid
    classes = rasterio.features.rasterize(
        shapes,
        (grid.height, grid.width),
        fill=-1,
        transform=rasterio.Affine(*grid.transform),
        dtype="int16",
    )
    return _ground("havel", scene, classes.astype(np.int64), polygons.classes, weights)


def _ground(
    name: str, scene: Scene, classes: Int64s, names: tuple[str, ...], weights: Path | None
) -> Ground:
    """Pixels of known class, drawn at random, and described once for all seeds."""
    recipe = project_recipe(scene, weights)
    of = scene_features([scene], scene.sensor, recipe.pixels)
    networks = deep_networks(without_random(recipe), scene.sensor, own_bands(scene))
    pixels = PlacedPixels(scene, of, pixel_rules(recipe), networks)
    known = np.argwhere(classes >= 0)
    places = known[np.sort(np.random.default_rng(0).permutation(len(known))[:POOL])]
    pixels.described([(int(row), int(col)) for row, col in places])
    return Ground(name, pixels, networks, recipe, places, classes[tuple(places.T)], names)


GROUNDS: dict[str, Callable[[Path, Path | None], Ground]] = {
    "sample": sample_ground,
    "havel": havel_ground,
}


# --- a trial


def trial_of(ground: Ground, seed: int, where: str) -> Trial:
    """Places to click, and others to test."""
    random, everywhere = np.random.default_rng(seed), np.arange(len(ground.places))
    if where == "scene":
        free = random.permutation(everywhere)[:MAX_CANDIDATES]
        return Trial(np.sort(free), random.permutation(np.setdiff1d(everywhere, free)))
    side = BLOCK_PX[ground.name]
    cells = (ground.places + random.integers(0, side, 2)) // side
    unique, block = np.unique(cells, axis=0, return_inverse=True)
    chosen = random.permutation(len(unique))[: round(TEST_SHARE * len(unique))]
    inside = np.isin(block.reshape(-1), chosen)
    far = ~near(ground, everywhere, everywhere[inside], ground.pixels.of.halo)
    free = random.permutation(np.flatnonzero(~inside & far))[:MAX_CANDIDATES]
    return Trial(np.sort(free), random.permutation(np.flatnonzero(inside)))


def near(ground: Ground, rows: Int64s, others: Int64s, pixels: int) -> Bools:
    """Which places have one of some others within so many rows and columns."""
    tree = cKDTree(ground.places[others])
    return np.asarray(tree.query(ground.places[rows], p=np.inf)[0] <= pixels)


def stored(ground: Ground, folder: Path) -> Ground:
    """The ground with features of all pixels, on the disk."""
    scene, of = ground.pixels.scene, ground.pixels.of
    what = TileFeatures(scene, of, ground.pixels.rules.all_bands)
    deep = None if ground.networks is None else ground.networks.pretrained
    store = FeatureStore(scene, what, folder, deep=deep)
    for _ in store.fill():
        pass
    return replace(ground, store=store)


def fitted(
    ground: Ground, clicks: Sequence[int], *, quick: bool = True
) -> tuple[PixelModel | None, Labelled]:
    """The page's model of some clicks, None where it would have none; and the labels."""
    labels = ground.labels(clicks)
    samples = ground.pixels.samples(labels)
    known = Labelled(
        ground.places[list(clicks)].reshape(-1, 2),
        training_features(samples) if clicks else np.zeros((0, 0), np.float32),
        len(clicks),
    )
    if not clicks or waiting_for(samples, labels) is not None:
        return None, known
    fitting = Fitting(ground.recipe, samples)
    fusion = fitting.fusion(fitting.every, quick=quick)
    deep = None if ground.networks is None else ground.networks.pretrained
    return fusion.model(samples.of, samples.classes, deep), known


def mapped(ground: Ground, model: PixelModel, rows: Int64s) -> Int64s:
    """The class that a model gives some of the places, by its position among the ground's."""
    return _names(ground, model)[model.log_probabilities(ground.features(rows)).argmax(axis=1)]


def finished(ground: Ground, store: FeatureStore, model: PixelModel, rows: Int64s) -> Int64s:
    """`mapped` by the smoothed map of the whole scene."""
    grid = ground.pixels.scene.grid
    probabilities = smoothed(model, store, 1, Window(0, 0, grid.height, grid.width), SMOOTH_PX)
    best = probabilities.argmax(axis=0).reshape(grid.height, grid.width)
    return _names(ground, model)[best[tuple(ground.places[rows].T)]]


def _names(ground: Ground, model: PixelModel) -> Int64s:
    """Position among the ground's classes of each of a model's [K]."""
    return np.array([ground.classes.index(name) for name in model.classes])


def random_clicks(_: Ground, trial: Trial, count: int, seed: int) -> list[int]:
    """Places at random."""
    return [*map(int, np.random.default_rng([seed, 1]).permutation(trial.free)[:count])]


def suggested_clicks(ground: Ground, trial: Trial, count: int, seed: int) -> list[int]:
    """The places that the page suggests, ten after ten; at random where it suggests none."""
    candidates, of = ground.candidates(trial.free), ground.pixels.of
    number = {(int(ground.places[i, 0]), int(ground.places[i, 1])): int(i) for i in trial.free}
    clicks: list[int] = []
    while len(clicks) < count:
        model, known = fitted(ground, clicks)
        few = model is None or known.labels < FEW_LABELS
        chances = None
        if model is not None and not few:
            chances = model.probabilities(ground.features(trial.free)).T
        wanted = next_places(candidates, known, of, chances, min(COUNT, count - len(clicks)))
        chosen = [number[place.row, place.col] for place in wanted]
        clicks += chosen or random_clicks(ground, trial, count - len(clicks), seed)
    return clicks


def corrected_clicks(
    ground: Ground, trial: Trial, count: int, seed: int, begin: int = 0
) -> list[int]:
    """Suggested places until there is a map, then the middles of its widest wrong places.

    The first `begin` clicks are suggested places in any case.
    """
    first = suggested_clicks(ground, trial, count, seed)
    clicks = first[:begin]
    while len(clicks) < count:
        model, _ = fitted(ground, clicks)
        wrong = None if model is None else widest_wrong(ground, model, trial.free)
        if wrong is None or wrong in clicks:
            wrong = next(one for one in first if one not in clicks)
        clicks.append(wrong)
    return clicks


def widest_wrong(ground: Ground, model: PixelModel, free: Int64s) -> int | None:
    """The wrongly mapped place that is farthest from all others but those of its class; or None."""
    truth, where = ground.truth[free], ground.places[free]
    wrong, best = mapped(ground, model, free) != truth, (0.0, -1)
    for number in np.unique(truth[wrong]):
        inside = wrong & (truth == number)
        reach = cKDTree(where[~inside]).query(where[inside])[0] if not inside.all() else np.ones(1)
        best = max(best, (float(reach.max()), int(free[inside][reach.argmax()])))
    return None if best[1] < 0 else best[1]


def accuracy(ground: Ground, tested: Int64s, clicks: Sequence[int]) -> tuple[float, bool]:
    """Share of the tested pixels that is right after some clicks, and whether there is a map."""
    truth = ground.truth[tested]
    model, _ = fitted(ground, clicks, quick=ground.store is None)
    if model is None:
        return float(np.mean(truth == np.bincount(ground.truth[list(clicks)]).argmax())), False
    if ground.store is None:
        return float(np.mean(mapped(ground, model, tested) == truth)), True
    return float(np.mean(finished(ground, ground.store, model, tested) == truth)), True


def both_clicks(ground: Ground, trial: Trial, count: int, seed: int) -> list[int]:
    """The first places that the page suggests, then the middles of the map's widest wrong ones."""
    return corrected_clicks(ground, trial, count, seed, min(COUNT, count))


LABS = dict(zip(WAYS, (suggested_clicks, random_clicks, corrected_clicks), strict=True))
LABS["both"] = both_clicks


def run(
    ground: Ground, seed: int, counts: Sequence[int], where: str, ways: Sequence[str] = WAYS
) -> list[dict[str, object]]:
    """Some labs of one seed: a record for each number of clicks."""
    trial = trial_of(ground, seed, where)
    clicks = {way: LABS[way](ground, trial, max(counts), seed) for way in ways}
    every = np.concatenate([*clicks.values()])
    tested = trial.tested[~near(ground, trial.tested, every, NEAR_PX)][:TESTED]
    rows: list[dict[str, object]] = []
    for way, count in itertools.product(ways, counts):
        some = clicks[way][:count]
        share, mapped = accuracy(ground, tested, some)
        seen = len({int(ground.truth[i]) for i in some})
        row = {"data": ground.name, "tested": where, "seed": seed, "way": way, "clicks": count}
        rows.append({**row, "accuracy": share, "map": mapped, "classes": seen})
    return rows


# --- the table


def line(rows: Sequence[dict[str, object]], count: int) -> str:
    """Accuracies of all labs after some clicks, and the paired differences from random places.

    With other labs there are none: each has a line with its interval over the seeds.
    """
    mine = [row for row in rows if row["clicks"] == count]
    ways = [*dict.fromkeys(str(row["way"]) for row in mine)]
    if ways != [*WAYS]:
        return "\n".join(_alone(way, [row for row in mine if row["way"] == way]) for way in ways)
    by_way = {way: [row for row in mine if row["way"] == way] for way in WAYS}
    shares = {way: np.array([row["accuracy"] for row in by_way[way]]) * 100 for way in WAYS}
    maps = " / ".join(str(sum(bool(row["map"]) for row in by_way[way])) for way in WAYS)
    seen = " / ".join(
        f"{np.mean([float(str(row['classes'])) for row in by_way[way]]):.1f}" for way in WAYS
    )
    gains = [_gain(shares[way] - shares["random"]) for way in WAYS if way != "random"]
    means = [f"{shares[way].mean():.1f}" for way in WAYS]
    cells = [f"{mine[0]['data']}, {mine[0]['tested']}, {count}", *means, *gains, maps, seen]
    return f"| {' | '.join(cells)} |"


def _alone(way: str, rows: Sequence[dict[str, object]]) -> str:
    """Accuracy of one lab: mean, interval, least and largest of the seeds."""
    shares = np.array([float(str(row["accuracy"])) for row in rows]) * 100
    mean, low, high = mean_interval(shares)
    cells = [f"{rows[0]['data']}, {rows[0]['tested']}, {rows[0]['clicks']}", way]
    cells += [f"{mean:.1f} [{low:.1f}, {high:.1f}]", f"{shares.min():.1f} to {shares.max():.1f}"]
    return f"| {' | '.join(cells)} |"


def _gain(differences: Float64s) -> str:
    mean, low, high = mean_interval(differences)
    return f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]"


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", choices=[*GROUNDS], default=[*GROUNDS])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--map", choices=["quick", "finished"], default="quick")
    parser.add_argument("--ways", nargs="+", choices=[*LABS], default=[*WAYS])
    parser.add_argument("--clicks", type=int, nargs="+", default=[10, 20, 40, 80, 160])
    parser.add_argument("--tested", nargs="+", choices=WHERE, default=[*WHERE])
    parser.add_argument("--weights", type=Path, help="file of a network's weights")
    parser.add_argument("--json", type=Path, help="file for every record")
    return parser.parse_args()


def rows_of(ground: Ground, args: argparse.Namespace) -> list[dict[str, object]]:
    """All seeds on one data set, printed."""
    begun, every = time.perf_counter(), list[dict[str, object]]()
    for where in args.tested:
        rows: list[dict[str, object]] = []
        for seed in range(args.first_seed, args.first_seed + args.seeds):
            rows += run(ground, seed, args.clicks, where, args.ways)
            seconds = time.perf_counter() - begun
            print(f"{ground.name} {where} seed {seed}: {seconds:.0f} s", file=sys.stderr)
        for count in args.clicks:
            print(line(rows, count), flush=True)
        every += rows
    return every


def main() -> None:
    args, every = parsed(), list[dict[str, object]]()
    folder = Path(os.environ.get("GEOTL_DATA", HERE.parent / "shared" / "data"))
    heads = ["data, tested, clicks", *WAYS, "suggested - random", "corrected - random"]
    if args.ways != [*WAYS]:
        heads = ["data, tested, clicks", "lab", "accuracy", "least to most"]
    else:
        heads += ["maps", "classes labelled"]
    print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    for name in args.data:
        with tempfile.TemporaryDirectory() as features:
            ground = GROUNDS[name](folder, args.weights)
            if args.map == "finished":
                ground = stored(ground, Path(features))
            every += rows_of(ground, args)
    if args.json:
        args.json.write_text(json.dumps(every, indent=1))


if __name__ == "__main__":
    main()
