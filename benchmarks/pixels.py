"""A class for every pixel from few labels: geotl's fusion, its members, forests and torchgeo.

    python benchmarks/pixels.py --draws 10 --resume pixels.jsonl [--json pixels.json]
        [--data sample havel] [--labels 5 20 50 100 all] [--weights resnet18.pth]
        [--torchgeo] [--torchgeo-draws 10] [--epochs 30] [--accelerator cpu]

Two scenes, tested away from the labels.

sample: the made scene of sample_tiles with its true class of every pixel. Each draw lays blocks
over the scene anew, as wide as its variogram asks for, and tests about 2/5 of their area. Labels
are N points a class, drawn at random from the truth in the other blocks ("all": the points of
labels.gpkg that lie there). Tested are 5,000 pixels drawn at random from the truth of the tested
blocks; what lies nearer than 40 m to one of them is not learnt from.

havel: a real Sentinel-2 L1C image of 13 bands with OpenStreetMap's polygons, six classes as in the
recipe havel_osm. Each draw lays blocks of 2 km anew and deals them over five folds; N polygons a
class are learnt from in each fold (all, where there are fewer), and every polygon is tested once
and counts once. Polygons within 100 m of a tested one are not learnt from.

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
TIMES
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
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
from sklearn.ensemble import RandomForestClassifier

from geotl.arrays import Float32s, Int64s
from geotl.console import silent
from geotl.data.footprints import near
from geotl.data.splits import Split, by_units
from geotl.evaluation.metrics import Interval, mean_interval, scores
from geotl.experiments.draws import Draw, folds_inside, spatial_units
from geotl.experiments.pixel_draws import pixel_draws, settle_folds, some_labels
from geotl.experiments.pixel_report import FUSED, LAB
from geotl.experiments.pixel_samples import LOCAL, LOCAL_PX, PixelSamples, read_pixels
from geotl.experiments.pixels import PixelRun, fit_on, score_fold
from geotl.experiments.recipe import Recipe, load, resolve_sample
from geotl.experiments.samples import recipe_scenes, recipe_sensor
from geotl.imagery.windows import Window
from geotl.io.vector import read_features, write_features
from geotl.models.pixel_features import BANDS
from geotl.training.pixel_members import TREES

HERE = Path(__file__).resolve().parent.parent
RESNET18 = "weights/resnet18-imagenet1k_v1-conv1_to_layer3.pth"
OSM = "gis_osm_landuse-water_a_free_1_area-10000-to-500000.gpkg"
POOL, TESTED, TEST_POOL, TEST_SHARE, BUFFER_M = 800, 5000, 16_000, 0.4, 40.0
UNET = "torchgeo U-Net, lr "


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
        """What is learnt from and tested in one draw."""
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


@dataclass(frozen=True)
class Row:
    """One method in one draw, as a line of the file.

    Attributes:
        data: name of the data set.
        labels: a class, or "all".
        draw: its number.
        method: its name.
        accuracy: share of the tested weight that is correct.
        macro_f1: mean F1 of the classes.
        seconds: of one fit.
        mapping: seconds a megapixel, where it was measured.
        how: settings that other runs may not share.
    """

    data: str
    labels: str
    draw: int
    method: str
    accuracy: float
    macro_f1: float
    seconds: float
    mapping: float | None
    how: str

    @property
    def key(self) -> tuple[str, str, int, str]:
        """What is not computed twice."""
        return self.data, self.labels, self.draw, self.method


# --- data sets


def sample_case(folder: Path, more: Sequence[str]) -> Case:
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


# --- methods


def geotl_rows(case: Case, count: int | None, number: int, *, mapped: bool) -> Iterator[Row]:
    """The fusion, its members, the forest on small windows and the majority class."""
    opened, draws = case.splits(count, number)
    folds = [score_fold(opened, draw) for draw in draws]
    mapping = map_seconds(case, opened, draws[0]) if mapped else {}
    for method in folds[0].predicted:
        tested = [(one.draw.split.test, one.predicted[method]) for one in folds]
        seconds = [one.seconds.get(method, 0.0) for one in folds]
        yield Row(
            case.name,
            told(count),
            number,
            method,
            *accuracy(case.samples, tested),
            statistics.mean(seconds),
            mapping.get(method),
            "",
        )


def map_seconds(case: Case, opened: PixelRun, draw: Draw) -> dict[str, float]:
    """Seconds a megapixel of mapping the scene, by method."""
    samples, image = case.samples, case.image
    model = fit_on(opened, draw).model(samples.of, samples.classes)
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
    """Torchgeo's U-Net at one learning rate."""
    samples, image = case.samples, case.standardised()
    tested, fitting, mapping = [], [], []
    for draw in case.splits(count, number)[1]:
        of = sparse(samples, draw.split.train, image)
        begun = time.perf_counter()
        network = fit_unet(of, plan, number)
        fitting.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        classes = unet_map(network, image)
        mapping.append(time.perf_counter() - begun)
        tested.append((draw.split.test, classes[tuple(places_of(samples, draw.split.test).T)]))
    return Row(
        case.name,
        told(count),
        number,
        f"{UNET}{plan.rate:g}",
        *accuracy(samples, tested),
        statistics.mean(fitting),
        statistics.mean(mapping) / (image[0].size / 1e6),
        f"{plan.epochs} epochs, {plan.accelerator}",
    )


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


def told(count: int | None) -> str:
    """A number of labels a class, or "all"."""
    return "all" if count is None else str(count)


# --- the run


@dataclass(frozen=True)
class Book:
    """All draws' numbers, kept in a file of JSON lines if there is one.

    Attributes:
        rows: by what they are.
        path: of the file; None keeps none.
    """

    rows: dict[tuple[str, str, int, str], Row]
    path: Path | None

    @classmethod
    def opened(cls, path: Path | None) -> Book:
        """With what a file holds already, a line cut off at its end left out."""
        lines = path.read_text().splitlines(keepends=True) if path and path.exists() else []
        whole = [Row(**json.loads(line)) for line in lines if line.endswith("\n")]
        if path and lines:
            path.write_text("".join(line for line in lines if line.endswith("\n")))
        return cls({row.key: row for row in whole}, path)

    def add(self, rows: Sequence[Row]) -> None:
        """Keep the rows of one draw."""
        self.rows.update({row.key: row for row in rows})
        if self.path:
            with self.path.open("a") as to:
                to.write("".join(json.dumps(asdict(row)) + "\n" for row in rows))

    def has(self, case: Case, count: int | None, number: int, method: str, how: str = "") -> bool:
        """Whether a method's number is there.

        Raises:
            SystemExit: it is, but of other settings.
        """
        row = self.rows.get((case.name, told(count), number, method))
        if row and row.how != how:
            raise SystemExit(
                f"{self.path}: {method} of '{row.how}', not of '{how}'; take a new one"
            )
        return row is not None


def run(case: Case, count: int | None, book: Book, args: argparse.Namespace) -> None:
    """All draws of one number of labels; draw by draw, so that a run that ends early tells most."""
    for number in range(args.draws):
        what = f"{case.name}, {told(count)} labels a class, draw {number + 1}/{args.draws}"
        if not book.has(case, count, number, FUSED, args.how):
            mapped = case.name == "sample" and number == 0
            rows = geotl_rows(case, count, number, mapped=mapped)
            book.add([replace(row, how=args.how) for row in rows])
            progress(f"{what}: {told_row(book, case, count, number, FUSED)}")
        for plan in args.plans if number < args.torchgeo_draws else ():
            method, how = f"{UNET}{plan.rate:g}", f"{plan.epochs} epochs, {plan.accelerator}"
            if not book.has(case, count, number, method, how):
                book.add([unet_row(case, count, number, plan)])
                progress(f"{what}: {told_row(book, case, count, number, method)}")


def told_row(book: Book, case: Case, count: int | None, number: int, method: str) -> str:
    """A method's number in a draw, in words."""
    row = book.rows[case.name, told(count), number, method]
    return f"{method} {row.accuracy:.3f} ({row.seconds:.1f} s a fit)"


def progress(line: str) -> None:
    """A line that is no result."""
    print(line, file=sys.stderr, flush=True)


# --- the table


@dataclass(frozen=True)
class Line:
    """A method in the table; intervals are over draws.

    Attributes:
        method: its name.
        draws: how many.
        accuracy: mean.
        macro_f1: mean.
        less: accuracy less the fused model's in the same draws, in points.
        seconds: of one fit, the median.
        mapping: seconds a megapixel, the median of what was measured.
    """

    method: str
    draws: int
    accuracy: Interval
    macro_f1: Interval
    less: Interval
    seconds: float
    mapping: float | None

    @classmethod
    def of(cls, method: str, rows: Sequence[Row], fused: dict[int, Row]) -> Line:
        """From a method's rows and the fused model's, by draw."""
        paired = [100 * (r.accuracy - fused[r.draw].accuracy) for r in rows if r.draw in fused]
        measured = [row.mapping for row in rows if row.mapping is not None]
        return cls(
            method,
            len(rows),
            mean_interval([row.accuracy for row in rows]),
            mean_interval([row.macro_f1 for row in rows]),
            mean_interval(paired or [np.nan]),
            statistics.median(row.seconds for row in rows),
            statistics.median(measured) if measured else None,
        )

    def text(self) -> str:
        """With its numbers in columns."""
        gap = "" if self.method == FUSED else f"{self.less.value:+.1f}{ends(self.less, '+.1f')}"
        mapping = "" if self.mapping is None else f"{self.mapping:.1f}"
        return (
            f"  {self.method:32} {self.draws:>5}  {self.accuracy.value:.3f}"
            f"{ends(self.accuracy, '.3f'):16} {self.macro_f1.value:.3f}    {gap:22}"
            f"{self.seconds:8.1f} {mapping:>9}"
        ).rstrip()


def ends(interval: Interval, style: str) -> str:
    """The ends of an interval, nothing of a single draw."""
    if np.isnan(interval.low):
        return ""
    return f" [{interval.low:{style}}, {interval.high:{style}}]"


def tables(rows: Iterable[Row]) -> dict[tuple[str, str], list[Line]]:
    """Lines by data set and number of labels, the most accurate first."""
    found: dict[tuple[str, str], dict[str, list[Row]]] = {}
    for row in rows:
        found.setdefault((row.data, row.labels), {}).setdefault(row.method, []).append(row)
    return {where: lines_of(methods) for where, methods in found.items()}


def lines_of(methods: dict[str, list[Row]]) -> list[Line]:
    """Of torchgeo's learning rates the best alone, by the mean of its test results."""
    fused = {row.draw: row for row in methods.get(FUSED, [])}
    lines = [Line.of(name, rows, fused) for name, rows in methods.items()]
    unets = [line for line in lines if line.method.startswith(UNET)]
    best = max(unets, key=lambda line: line.accuracy.value, default=None)
    kept = [line for line in lines if line not in unets or line is best]
    return sorted(kept, key=lambda line: -line.accuracy.value)


def print_tables(found: dict[tuple[str, str], list[Line]]) -> None:
    """All tables as aligned text."""
    for (data, labels), lines in found.items():
        print(f"\n{data}, {labels} labels{'' if labels == 'all' else ' a class'}")
        print(
            f"  {'':32} draws  {'accuracy':21} {'macro F1':9}"
            f"{'less fused, points':22}{'fit, s':>9} {'map, s/MP':>9}"
        )
        for line in lines:
            print(line.text(), flush=True)


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument(
        "--data", nargs="+", choices=["sample", "havel"], default=["sample", "havel"]
    )
    parser.add_argument("--labels", nargs="+", default=["5", "20", "50", "100", "all"])
    parser.add_argument("--weights", help="model.weights of the recipe")
    parser.add_argument("--resume", type=Path, help="file of JSON lines, one for each number")
    parser.add_argument("--json", type=Path, help="the tables")
    parser.add_argument("--torchgeo", action="store_true")
    parser.add_argument("--torchgeo-draws", type=int, default=10, help="the first draws alone")
    parser.add_argument("--epochs", type=int, default=30, help="of torchgeo")
    parser.add_argument("--accelerator", default="cpu", help="of torchgeo")
    default = os.environ.get("GEOTL_DATA", HERE.parent / "shared" / "data")
    parser.add_argument("--root", type=Path, default=Path(default), help="the real imagery")
    args = parser.parse_args()
    weights = args.root / RESNET18
    plans = [Plan(weights, args.epochs, rate, args.accelerator) for rate in RATES]
    args.plans = plans if args.torchgeo else []
    args.more = [f"model.weights={args.weights}"] if args.weights else []
    args.how = f"weights {Path(args.weights).name}" if args.weights else ""
    return args


def main() -> None:
    """Run what is not in the file yet, and print the tables."""
    args = parsed()
    book = Book.opened(args.resume)
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["GEOTL_CACHE"] = f"{scratch}/cache"
        for name in args.data:
            folder = Path(scratch)
            sample = name == "sample"
            case = (
                sample_case(folder, args.more)
                if sample
                else havel_case(folder, args.root, args.more)
            )
            for text in args.labels:
                run(case, None if text == "all" else int(text), book, args)
    found = tables(book.rows.values())
    print_tables(found)
    if args.json:
        kept = {", ".join(where): [asdict(x) for x in lines] for where, lines in found.items()}
        args.json.write_text(json.dumps(kept, indent=1))


if __name__ == "__main__":
    main()
