"""Does it pay to label first what `geotl suggest --weights` proposes, instead of random samples?

    python benchmarks/first_labels.py [--seeds 20] [--only eurosat_rgb] [--data ../shared/data]

Tiles: of each seed half of the tiles may be labelled and the other half is the test; the shipped
recipe's features, and its discriminant on the tiles that were labelled. Pixels of the sample scene:
every cell of a lattice gives one, whose class is that of truth.tif; tested are the pixels of the
other half of the scene's 1 km blocks; the discriminant on window statistics and network, which is a
member of geotl's fusion. A class that no label has is never predicted. Printed are mean accuracies
by budget, and the difference from random choice with its 95 % interval (Student's t), paired over
seeds.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import rasterio
from calibration import HERE, WEIGHTS, opened

from geotl.arrays import Float64s, Floats, Int64s
from geotl.data.pixel_labels import lattice_step, pixel_lattice
from geotl.data.typical_places import typical, unit_space
from geotl.evaluation.metrics import mean_interval
from geotl.experiments.compare import fit_draw
from geotl.experiments.experiment import Experiment
from geotl.experiments.named import recipe_sensor
from geotl.experiments.pixel_networks import deep_networks
from geotl.experiments.pixel_samples import PixelReader, scene_features
from geotl.experiments.pixel_windows import PixelPlaces
from geotl.experiments.recipe import load, resolve_sample
from geotl.experiments.samples import stacked_scenes
from geotl.training.features import raw_features
from geotl.training.heads import WHOLE, Linear, Parts, discriminant, one_hot

BUDGETS = (10, 20, 50, 100)
SHRINKAGE, BLOCK_PX = 0.3, 100


class Pool(NamedTuple):
    """Samples that may be labelled or tested.

    Attributes:
        space: in which they are compared when labels are chosen [N,D].
        features: that the classifier takes [N,V,D].
        labels: their classes [N].
        unit: what lies on one side of a split [N].
        parts: weights of the features' equal parts, a discriminant for each.
    """

    space: Float64s
    features: Floats
    labels: Int64s
    unit: Int64s
    parts: Parts = WHOLE

    def head(self, rows: Int64s) -> Linear:
        """The discriminant of some labels."""
        shares = one_hot(self.labels[rows], int(self.labels.max()) + 1)
        return discriminant(self.features[rows], shares, SHRINKAGE, self.parts)


def of_tiles(experiment: Experiment) -> Pool:
    """An experiment's tiles, by the features of its network; each rendering weighs the same."""
    network = fit_draw(experiment, experiment.draw(0)).fitted.network
    rows = np.arange(len(experiment.samples), dtype=np.int64)
    raw = raw_features(network, experiment.samples.pack, rows)
    scaled = (raw - raw.mean(axis=(0, 1))) / np.maximum(raw.std(axis=(0, 1)), 1e-9)
    space, labels = unit_space({"deep": raw.mean(axis=1)}), experiment.samples.labels
    parts = len(network.spec.renderings)
    return Pool(space, scaled, labels, rows, (1 / parts,) * parts)


def of_pixels(args: argparse.Namespace) -> Pool:
    """Pixels of the sample scene, by window statistics and network."""
    recipe = load("sample_pixels", [f"model.weights={args.data / WEIGHTS}"])
    sensor = recipe_sensor(recipe)
    scenes = stacked_scenes(recipe, sensor)
    grid = scenes[0].grid
    places = pixel_lattice(grid, lattice_step([grid]), 0)
    with rasterio.open(resolve_sample("truth", "sample:truth.tif")) as source:
        truth = source.read(1).astype(np.int64)[tuple(places.T)]
        places, truth = places[truth != source.nodata], truth[truth != source.nodata]
    reader = PixelReader(
        scene_features(scenes, sensor, recipe.pixels),
        deep_networks(recipe, sensor, scenes[0].bands),
    )
    where = PixelPlaces(np.zeros(len(places), np.int64), places)
    table = reader.read(scenes, where, lambda *_: None).features
    blocks = {name: table[name].T for name in ("wide", "deep")}
    parts = [(b - b.mean(axis=0)) / np.maximum(b.std(axis=0), 1e-9) for b in blocks.values()]
    scaled = np.concatenate([part / np.sqrt(part.shape[1]) for part in parts], axis=1)
    labels = np.unique(truth, return_inverse=True)[1].astype(np.int64)
    row, col = (places // BLOCK_PX).T
    return Pool(unit_space(blocks), 10 * scaled[:, None], labels, row * 10_000 + col)


def at_random(space: Float64s, count: int, seed: int) -> Int64s:
    """Samples drawn at random."""
    return np.random.default_rng([seed, 1]).permutation(len(space))[:count]


def proposed(space: Float64s, count: int, seed: int) -> Int64s:
    """Those that are proposed."""
    return typical(space, count, seed).rows


def accuracy(pool: Pool, labelled: Int64s, test: Int64s) -> float:
    """Accuracy of the discriminant of some labels."""
    classes = int(pool.labels.max()) + 1
    logits = pool.head(labelled).logits(pool.features[test])
    logits[:, np.setdiff1d(np.arange(classes), pool.labels[labelled])] = -np.inf
    return float((logits.argmax(axis=1) == pool.labels[test]).mean())


def line(pool: Pool, budget: int, seeds: int) -> str:
    """Accuracies of both ways at a budget."""
    ways: dict[str, Callable[[Float64s, int, int], Int64s]]
    ways = {"random": at_random, "proposed": proposed}
    found: dict[str, list[float]] = {name: [] for name in ways}
    units = np.unique(pool.unit)
    for seed in range(seeds):
        half = np.random.default_rng(seed).permutation(units)[: len(units) // 2]
        inside = np.isin(pool.unit, half)
        own, test = np.flatnonzero(inside), np.flatnonzero(~inside)
        for name, way in ways.items():
            found[name].append(accuracy(pool, own[way(pool.space[own], budget, seed)], test))
    gap = mean_interval(100 * (np.array(found["proposed"]) - np.array(found["random"])))
    means = {name: 100 * np.mean(several) for name, several in found.items()}
    return (
        f"{means['random']:5.1f}   {means['proposed']:5.1f}   "
        f"{gap.value:+5.1f} [{gap.low:+.1f}, {gap.high:+.1f}]"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--only", default="", help="part of a data set's name")
    default = os.environ.get("GEOTL_DATA", HERE.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(default))
    args = parser.parse_args()
    args.draws, args.head = 1, None
    print(f"{'data, labels in all':28} random  proposed  difference")
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["GEOTL_CACHE"] = f"{scratch}/cache"
        for name in ("eurosat_rgb", "ucmerced", "sample_pixels"):
            if args.only not in name:
                continue
            if name == "sample_pixels":
                pool = of_pixels(args)
            else:
                pool = of_tiles(opened(name, "both", 10, args, Path(scratch)))
            for budget in BUDGETS:
                print(f"{f'{name}, {budget}':28} {line(pool, budget, args.seeds)}", flush=True)


if __name__ == "__main__":
    main()
