"""The Havel scene with OpenStreetMap's polygons: bands, weights and splits side by side.

    python benchmarks/havel.py [--data ../shared/data] [--choose] [key=value ...]

The recipe havel_osm with 13 bands and with red, green and blue, from ResNet-18's ImageNet weights
and from random ones, beside band statistics with logistic regression; on blocked folds and on
random ones of the same sizes. Settings were chosen by the first two blocked folds; those that chose
nothing are also shown alone. Intervals (95 %) resample polygons, not chips, which resemble each
other within one. Peak memory is the process's so far. Further settings may be changed, such as
labels.chip_px=8.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geotl.arrays import Bools
from geotl.console import Log, silent
from geotl.data.spatial_splits import suggest_block_m
from geotl.experiments.build import open_experiment
from geotl.experiments.compare import fit_draw, logits_of_test
from geotl.experiments.draws import Draw, random_draw
from geotl.experiments.experiment import Experiment
from geotl.experiments.recipe import load
from geotl.training.heads import band_statistics_logits

HERE = Path(__file__).resolve().parent.parent
OSM = "gis_osm_landuse-water_a_free_1_area-10000-to-500000.gpkg"
RESNET18 = "weights/resnet18-imagenet1k_v1-conv1_to_layer3.pth"
BANDS = {"13 bands": (), "RGB": ("data.bands=B04,B03,B02",)}
CHOOSING = 2  # folds by which settings were chosen
TRIED = (
    (),
    ("model.input_px=64",),
    ("model.input_px=128",),
    ("model.input_px=32,64",),
    ("model.input_px=32",),
    ("probe.views=8",),
    ("model.unit_length=true",),
    ("model.pool=mean",),
    ("model.pool=mean_sd",),
    ("probe.head=logistic", "probe.views=1"),
    ("model.feature_stages=layer1",),
    ("model.feature_stages=layer1,layer2",),
    ("model.first_conv=repeat",),
    ("model.first_conv=random",),
    ("model.first_conv=rgb_only",),
    ("labels.chip_px=12",),
    ("labels.chip_px=8",),
)


def opened(data: Path, more: Sequence[str], out: Path, log: Log) -> Experiment:
    """The recipe with its split resolved, and its chips."""
    folder = data / "sentinel2_l1c_havel"
    recipe = load(
        "havel_osm",
        [
            f"data.scenes={folder}",
            f"labels.path={folder / OSM}",
            f"model.weights={data / RESNET18}",
            *more,
        ],
    )
    return open_experiment(recipe, out, log=log, quiet=True, resume=True)


def band_means(experiment: Experiment, draw: Draw) -> NDArray[np.floating]:
    """Logits of band statistics."""
    source, train, test = experiment.samples, draw.split.train, draw.split.test
    return band_statistics_logits(
        source.band_table,
        train,
        source.labels[train],
        test,
        folds=draw.folds,
        classes=len(source.classes),
    )


def network(experiment: Experiment, draw: Draw) -> NDArray[np.floating]:
    """Logits of the recipe's network."""
    return logits_of_test(experiment, fit_draw(experiment, draw))


def answered(
    method: Callable[..., NDArray[np.floating]],
    experiment: Experiment,
    draw: Draw,
) -> tuple[NDArray[np.int64], Bools]:
    """The test chips of a draw, and which were classified correctly."""
    rows = draw.split.test
    return rows, method(experiment, draw).argmax(axis=1) == experiment.samples.labels[rows]


def interval(right: Bools, polygons: Sequence[str]) -> str:
    """Accuracy in % with an interval that resamples polygons (Efron 1979)."""
    place = np.unique(np.array(polygons), return_inverse=True)[1]
    hits, sizes = np.bincount(place, weights=right), np.bincount(place)
    drawn = np.random.default_rng(0).integers(0, len(sizes), (2000, len(sizes)))
    low, high = np.percentile(hits[drawn].sum(1) / sizes[drawn].sum(1), [2.5, 97.5])
    return f"{100 * right.mean():.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def row_of(method: Callable[..., NDArray[np.floating]], experiment: Experiment) -> list[str]:
    """Blocked, the folds that chose nothing alone, random, seconds and memory."""
    begun = time.perf_counter()
    recipe, source = experiment.recipe, experiment.samples
    draws = [experiment.draw(n) for n in range(recipe.split.draws)]
    blocked = [answered(method, experiment, draw) for draw in draws]
    seconds = time.perf_counter() - begun
    shuffled = [answered(method, experiment, random_draw(recipe, source, draw)) for draw in draws]
    cells = []
    for part in (blocked, blocked[CHOOSING:], shuffled):
        rows, right = (np.concatenate(column) for column in zip(*part, strict=True))
        cells.append(interval(right, [str(source.groups[row]) for row in rows]))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return [*cells, f"{seconds:.0f}", f"{peak:.1f}"]


def choose(data: Path, more: Sequence[str], out: Path) -> None:
    """Print how each setting does on the folds that choose."""
    print("| setting | network | band statistics |\n|---|---|---|")
    for settings in TRIED:
        experiment = opened(data, [*more, *settings], out, silent)
        draws = [experiment.draw(n) for n in range(CHOOSING)]
        cells = []
        for method in (network, band_means):
            right = [answered(method, experiment, draw)[1] for draw in draws]
            cells.append(f"{100 * np.concatenate(right).mean():.1f}")
        print(f"| {' '.join(settings) or 'as shipped'} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Print the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = os.environ.get("GEOTL_DATA", HERE.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--choose", action="store_true", help="what was tried, on folds 1 and 2")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["GEOTL_CACHE"] = f"{scratch}/cache"
        out, rows = Path(scratch) / "out", []
        if args.choose:
            choose(args.data, args.overrides, out)
            return
        for bands, chosen in BANDS.items():
            log = silent if rows else print
            experiment = opened(args.data, [*chosen, *args.overrides], out, log)
            source, recipe = experiment.samples, experiment.recipe
            if not rows:
                print(suggest_block_m(source.variogram, source.footprints, 5, seed=0)[1])
            blank = {"weights": "none"}
            fresh = recipe.model_copy(update={"model": recipe.model.model_copy(update=blank)})
            methods = [
                ("ImageNet ResNet-18", network, recipe),
                ("random weights", network, fresh),
                ("mean and sd, logistic", band_means, recipe),
            ]
            for name, method, variant in methods:
                rows.append([f"{bands}, {name}", *row_of(method, experiment.of(variant))])
    print(f"\n| | blocked | folds {CHOOSING + 1} to 5 alone | random | s, blocked | peak GB |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
