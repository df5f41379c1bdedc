"""A class for every pixel from few labels: geotl's fusion, its members, forests and torchgeo.

    python benchmarks/pixels.py --draws 10 --resume pixels.jsonl [--json pixels.json]
        [--data sample havel] [--labels 5 20 50 100 all] [--weights resnet18.pth]
        [--torchgeo] [--torchgeo-draws 3] [--epochs 30] [--accelerator cpu]
        [--block-m METRES]

Two scenes, tested away from the labels.

sample: the made scene of sample_tiles with its true class of every pixel. Each draw lays blocks
over the scene again, as wide as its variogram asks for, and tests about 2/5 of their area. Labels
are N points a class, drawn at random from the truth in the other blocks ("all": the points of
labels.gpkg that lie there). Tested are 5,000 pixels drawn at random from the truth of the tested
blocks; what lies nearer than 40 m to one of them is not trained on.

havel: a real Sentinel-2 L1C image of 13 bands with OpenStreetMap's polygons, six classes as in the
recipe havel_osm. Each draw lays new blocks of 2 km and deals them over five folds; N polygons a
class are the training labels of each fold (all, where there are fewer), and every polygon is
tested once and counts once. Polygons within 100 m of a tested one are not trained on.

Every method sees the same labels and is tested on the same pixels. `forest, bands` and `forest,
bands + 3x3 and 5x5` are scikit-learn's forests of 200 trees. torchgeo's U-Net (pixel_peers.py) is
fitted at 1e-4, 1e-3 and 1e-2 for a fixed number of epochs; of the three the table shows the best
by the test result, which favours it. With --weights the recipe gets `model.weights`; torchgeo
starts from the ResNet-18 file of GEOTL_DATA either way.

Printed: accuracy and macro F1, the difference from the fused model in points, and seconds of one
fit, the median over draws. Intervals are Student's over draws: they tell what another draw of
labels and blocks would give on these scenes, not what another scene would. Seconds of a member
include choosing its setting and temperature; those of the fusion are of all its members. The
sample scene is mapped once for each number of labels: seconds on the clock a megapixel.

--resume keeps every draw's numbers in a file of JSON lines: what is there is not computed again.

Seconds of one core that a draw takes: on the sample scene 5 at 5 labels a class, 16 at 100; on
havel, whose draws are five fits, 30 at 5 and 300 at 100 and all. torchgeo's three rates together
take 10 minutes a draw on the sample scene and 100 on havel; they go over the first
--torchgeo-draws draws alone.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import rasterio
import shapely
from pixel_peers import (
    RATES,
    Plan,
    Sparse,
    fit_unet,
    forest_map,
    fused_map,
    seconds_of,
    unet_map,
)
from pixel_scores import UNET, Book, Row, print_tables, tables
from sklearn.ensemble import RandomForestClassifier

from geotl.arrays import Float32s, Int64s
from geotl.console import silent
from geotl.data.footprints import near
from geotl.data.splits import Split, by_units
from geotl.evaluation.evaluate import plain
from geotl.evaluation.metrics import scores
from geotl.experiments.draws import Draw, folds_inside, spatial_units
from geotl.experiments.named import recipe_sensor
from geotl.experiments.pixel_draws import pixel_draws, settle_folds, some_labels
from geotl.experiments.pixel_report import FUSED, LAB
from geotl.experiments.pixel_samples import LOCAL, LOCAL_PX, PixelSamples, read_pixels
from geotl.experiments.pixels import PixelRun, fit_on, score_fold
from geotl.experiments.recipe import Recipe, load, resolve_sample
from geotl.experiments.samples import recipe_scenes
from geotl.imagery.windows import Window
from geotl.io.vector import read_features, write_features
from geotl.models.pixel_features import BANDS
from geotl.training.pixel_members import TREES

HERE = Path(__file__).resolve().parent.parent
RESNET18 = "weights/resnet18-imagenet1k_v1-conv1_to_layer3.pth"
OSM = "gis_osm_landuse-water_a_free_1_area-10000-to-500000.gpkg"
POOL, TESTED, TEST_POOL, TEST_SHARE, BUFFER_M = 800, 5000, 16_000, 0.4, 40.0


@dataclass(frozen=True)
class Case:
    """A data set with its labelled pixels.

    Attributes:
        name: of the data set.
        recipe: resolved.
        samples: all labelled pixels.
        draws: from a number of labels (None for all) and a draw's number to its splits.
    """

    name: str
    recipe: Recipe
    samples: PixelSamples
    draws: Callable[[Recipe, PixelSamples, int | None], list[Draw]]

    def splits(self, count: int | None, number: int) -> tuple[PixelRun, list[Draw]]:
        """What is trained on and tested in one draw."""
        recipe = self.recipe.model_copy(update={"seed": number})
        opened = PixelRun(recipe, self.samples, Path(), quiet=True)
        return opened, self.draws(recipe, self.samples, count)

    @property
    def image(self) -> Float32s:
        """The scene's digital numbers [C,H,W], NaN where invalid."""
        (scene,) = recipe_scenes(self.recipe, self.samples.sensor)
        data, valid = scene.read(Window(0, 0, scene.grid.height, scene.grid.width))
        scene.close()
        return np.where(valid, data, np.nan).astype(np.float32)

    def standardised(self) -> Float32s:
        """The scene by mean and sd of its bands, 0 where invalid."""
        mean, sd = (np.array(x)[:, None, None] for x in (self.samples.of.mean, self.samples.of.sd))
        return np.nan_to_num((self.image - mean) / sd).astype(np.float32)


# --- data sets


def sample_case(folder: Path, _: Path, more: Sequence[str]) -> Case:
    """The sample scene with a pool of pixels drawn from its truth."""
    path = folder / "pool.gpkg"
    write_pool(path)
    recipe = load(
        "sample_pixels",
        [
            f"labels.path={path}",
            "labels.layer=pool",
            "labels.id_field=id",
            f"split.buffer_m={BUFFER_M}",
            *more,
        ],
    )
    samples = read_pixels(recipe, recipe_sensor(recipe), silent, quiet=True)
    return Case("sample", settle_folds(recipe, samples, progress), samples, sample_draws)


def write_pool(path: Path) -> None:
    """The shipped points, points of each class to learn from, and points to test on."""
    with rasterio.open(resolve_sample("truth", "sample:truth.tif")) as truth:
        classes, crs, at = truth.read(1), truth.crs.to_string(), truth.transform
        names = {k: truth.tags()[f"CLASS_{k}"] for k in np.unique(classes[classes != truth.nodata])}
    shipped = read_features(
        resolve_sample("labels", "sample:labels.gpkg"), layer="points", fields=["class"]
    )
    points = list(shipped.geometries)
    named = [str(name) for name in shipped.columns["class"]]
    ids = [f"shipped-{i}" for i in range(len(points))]
    for kind, pixels in drawn_pixels(classes, sorted(names)).items():
        for row, col in zip(*np.unravel_index(pixels, classes.shape), strict=True):
            points.append(shapely.Point(*(at @ (col + 0.5, row + 0.5))))
            named.append(names[classes[row, col]])
            ids.append(f"{kind}-{len(ids)}")
    write_features(path, points, {"class": named, "id": ids}, crs, layer="pool")


def drawn_pixels(classes: np.ndarray, values: Sequence[int]) -> dict[str, Int64s]:
    """Pixels by their flat number: so many a class to learn from, others at random to test on."""
    random, flat = np.random.default_rng(0), classes.ravel()
    train = np.concatenate(
        [random.choice(np.flatnonzero(flat == value), POOL, replace=False) for value in values]
    )
    rest = np.setdiff1d(np.flatnonzero(np.isin(flat, values)), train)
    return {"train": train, "test": random.choice(rest, TEST_POOL, replace=False)}


def sample_draws(recipe: Recipe, samples: PixelSamples, count: int | None) -> list[Draw]:
    """Blocks of one draw: pixels of the pool on one side, of the test pool on the other."""
    seed = recipe.seed
    kind = np.array([group.partition("-")[0] for group in samples.groups])
    unit = spatial_units(recipe, samples, seed)[0]
    sides = by_units(unit, samples.labels, TEST_SHARE, seed=seed, names=samples.classes)
    test = sides.test[kind[sides.test] == "test"]
    test = np.sort(np.random.default_rng(seed).permutation(test)[:TESTED])
    train = sides.train[kind[sides.train] == ("shipped" if count is None else "train")]
    train = train[~near(samples.footprints, train, test, recipe.split.buffer_m)]
    if count is not None:
        train = some_labels(samples, train, count, seed)
    draw = Draw(0, Split(train, test, np.zeros(0, np.int64)), [])
    return [replace(draw, folds=folds_inside(recipe, samples, draw))]


def havel_case(folder: Path, data: Path, more: Sequence[str]) -> Case:
    """The Havel scene with OpenStreetMap's polygons, classes as in the recipe havel_osm."""
    scene = data / "sentinel2_l1c_havel"
    tiles = load("havel_osm", [f"data.scenes={scene}", f"labels.path={scene / OSM}"])
    keys = ("path", "field", "names")
    stated = {
        "task": "pixels",
        "data": {"scenes": [str(scene)], "sensor": "sentinel2_l1c"},
        "labels": tiles.labels.model_dump(mode="json", include=set(keys)),
        "split": tiles.split.model_dump(include={"method", "kfold", "block_m", "buffer_m"}),
    }
    path = folder / "havel_pixels.yaml"
    path.write_text(json.dumps(stated))  # JSON is YAML
    recipe = load(path, list(more))
    samples = read_pixels(recipe, recipe_sensor(recipe), silent, quiet=True)
    return Case("havel", settle_folds(recipe, samples, progress), samples, havel_draws)


def havel_draws(recipe: Recipe, samples: PixelSamples, count: int | None) -> list[Draw]:
    """Five folds of blocks, with so many polygons a class to learn from."""
    split = recipe.split.model_copy(update={"shots": count})
    return pixel_draws(recipe.model_copy(update={"split": split}), samples)


OPENED = {"sample": sample_case, "havel": havel_case}


# --- methods


def geotl_rows(case: Case, count: int | None, number: int, how: str) -> list[Row]:
    """The fusion, its members, the forest on small windows and the majority class."""
    opened, draws = case.splits(count, number)
    folds = [score_fold(opened, draw) for draw in draws]
    mapped = case.name == "sample" and number == 0
    mapping = map_seconds(case, opened, draws[0]) if mapped else {}
    rows = []
    for method in folds[0].predicted:
        tested = [(one.draw.split.test, one.predicted[method]) for one in folds]
        seconds = statistics.mean(one.seconds.get(method, 0.0) for one in folds)
        score = accuracy(case.samples, tested)
        key = (case.name, count_name(count), number, method)
        rows.append(Row(*key, *score, seconds, mapping.get(method), how))
    return rows


def map_seconds(case: Case, opened: PixelRun, draw: Draw) -> dict[str, float]:
    """Seconds a megapixel of mapping the scene, by method."""
    samples, image = case.samples, case.image
    deep = samples.networks.pretrained if samples.networks else None
    model = fit_on(opened, draw).model(samples.of, samples.classes, deep)
    rows = samples.rows(draw.split.train, (BANDS, LOCAL), opened.recipe.seed)
    forest = RandomForestClassifier(TREES, random_state=rows.seed, n_jobs=-1)
    forest.fit(rows.table((BANDS, LOCAL)), rows.labels, rows.weight)
    local = replace(samples.of, windows_px=LOCAL_PX)
    megapixels = image[0].size / 1e6
    return {
        FUSED: seconds_of(lambda: fused_map(model, image)) / megapixels,
        LAB: seconds_of(lambda: forest_map(forest, local, image)) / megapixels,
    }


def unet_row(case: Case, count: int | None, number: int, plan: Plan) -> Row:
    """The U-Net of torchgeo at one learning rate; seconds are means over the folds."""
    samples, image = case.samples, case.standardised()
    tested, times = [], []
    for draw in case.splits(count, number)[1]:
        of = sparse(samples, draw.split.train, image)
        begun = time.perf_counter()
        network = fit_unet(of, plan, number)
        fitted = time.perf_counter()
        classes = unet_map(network, image)
        times.append((fitted - begun, time.perf_counter() - fitted))
        tested.append((draw.split.test, classes[tuple(places_of(samples, draw.split.test).T)]))
    fitting, mapping = np.mean(times, axis=0).tolist()
    key = (case.name, count_name(count), number, f"{UNET}{plan.rate:g}")
    return Row(*key, *accuracy(samples, tested), fitting, mapping / image[0].size * 1e6, plan.how)


def sparse(samples: PixelSamples, train: Int64s, image: Float32s) -> Sparse:
    """The scene with its training pixels, as torchgeo's network takes them."""
    first = np.unique([samples.groups[row] for row in train], return_index=True)[1]
    places = places_of(samples, train)
    return Sparse(image, places, samples.labels[train], first, len(samples.classes))


def places_of(samples: PixelSamples, rows: Int64s) -> Int64s:
    """Rows and columns of some pixels in the scene [n,2]."""
    pixels = samples.placement.pixels
    return np.array([(pixels[i].place.row, pixels[i].place.col) for i in rows])


def accuracy(samples: PixelSamples, tested: Iterable[tuple[Int64s, Int64s]]) -> tuple[float, float]:
    """Accuracy and macro F1 of predictions for some pixels, by the pixels' weights."""
    cells = np.zeros((len(samples.classes), len(samples.classes)))
    for rows, predicted in tested:
        np.add.at(cells, (samples.labels[rows], predicted), samples.weight[rows])
    found = scores(cells)
    return float(found.overall), float(found.macro_f1)


def count_name(count: int | None) -> str:
    """A number of labels a class, or "all"."""
    return "all" if count is None else str(count)


# --- the run


def run(case: Case, count: int | None, book: Book, args: argparse.Namespace) -> None:
    """All draws of one number of labels, what is in the book left out."""
    for number in range(args.draws):
        where = (case.name, count_name(count), number)
        if not book.has((*where, FUSED), args.how):
            book.add(geotl_rows(case, count, number, args.how))
            progress(f"{' '.join(map(str, where))}: {book.line((*where, FUSED))}")
        for plan in args.plans if number < args.torchgeo_draws else ():
            key = (*where, f"{UNET}{plan.rate:g}")
            if not book.has(key, plan.how):
                book.add([unet_row(case, count, number, plan)])
                progress(f"{' '.join(map(str, where))}: {book.line(key)}")


def progress(line: str) -> None:
    """A line that is no result."""
    print(line, file=sys.stderr, flush=True)


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--data", nargs="+", choices=[*OPENED], default=[*OPENED])
    parser.add_argument("--labels", nargs="+", default=["5", "20", "50", "100", "all"])
    parser.add_argument("--weights", help="model.weights of the recipe")
    parser.add_argument("--block-m", type=float, help="side of the blocks, of all data sets")
    parser.add_argument("--resume", type=Path, help="file of JSON lines, one for each number")
    parser.add_argument("--json", type=Path, help="the tables")
    parser.add_argument("--torchgeo", action="store_true")
    parser.add_argument("--torchgeo-draws", type=int, default=3, help="the first ones alone")
    parser.add_argument("--epochs", type=int, default=30, help="of torchgeo")
    parser.add_argument("--accelerator", default="cpu", help="of torchgeo")
    default = os.environ.get("GEOTL_DATA", HERE.parent / "shared" / "data")
    parser.add_argument("--root", type=Path, default=Path(default), help="the real imagery")
    args = parser.parse_args()
    weights = args.root / RESNET18
    blocks = f", blocks of {args.block_m:g} m" if args.block_m else ""
    plans = [Plan(weights, args.epochs, rate, args.accelerator, blocks) for rate in RATES]
    args.plans = plans if args.torchgeo else []
    keys = {"model.weights": args.weights, "split.block_m": args.block_m}
    args.more = [f"{key}={value}" for key, value in keys.items() if value is not None]
    args.how = ", ".join(args.more)
    return args


def main() -> None:
    """Run what is not in the file yet, and print the tables."""
    args = parsed()
    book = Book.opened(args.resume)
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["GEOTL_CACHE"] = f"{scratch}/cache"
        for name in args.data:
            case = OPENED[name](Path(scratch), args.root, args.more)
            for text in args.labels:
                run(case, None if text == "all" else int(text), book, args)
    found = tables(book.rows.values())
    print_tables(found)
    if args.json:
        kept = {", ".join(where): plain(lines) for where, lines in found.items()}
        args.json.write_text(json.dumps(kept, indent=1))


if __name__ == "__main__":
    main()
