"""With a model and few labels: typical samples next, uncertain ones, or random ones?

    python benchmarks/next_labels.py [--seeds 10] [--data ../shared/data]

Tiles of EuroSAT (a ResNet-18 up to layer3, one view of 64 px) and pixels of the sample scene, as in
first_labels.py: of each seed one half may be labelled, the other is the test. A number of samples
drawn at random has labels; 20 more are chosen: at random; typical (middles of clusters that hold no
label); or uncertain and diverse, as `geotl suggest MODEL` chose before (entropy of the model's
probabilities times the distance to the nearest labelled sample). Printed is the accuracy with them,
and the difference of typical from each other way with its 95 % interval (Student's t), paired over
seeds.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from calibration import HERE, WEIGHTS
from first_labels import Pool, accuracy, of_pixels, of_tiles

from geotl.arrays import Float64s, Int64s
from geotl.console import silent
from geotl.data.typical_places import typical
from geotl.evaluation.evaluate import softmax
from geotl.evaluation.metrics import mean_interval
from geotl.experiments.build import open_experiment
from geotl.experiments.experiment import Experiment
from geotl.experiments.recipe import load
from geotl.inference.candidates import choose, normalised_entropy

STARTS, MORE = (20, 50, 100, 200), 20


def eurosat(data: Path, into: Path) -> Experiment:
    """EuroSAT's tiles in one view at one size, which is quick."""
    keys = [f"data.root={data / 'eurosat_rgb'}", f"model.weights={data / WEIGHTS}"]
    small = ["probe.views=1", "model.input_px=64", "split.shots=5", "split.repeats=1"]
    recipe = load("eurosat_rgb", [*keys, *small])
    return open_experiment(recipe, into / "out", log=silent, quiet=True)


Way = Callable[[Pool, Int64s, Int64s, int], Int64s]


def at_random(pool: Pool, own: Int64s, known: Int64s, seed: int) -> Int64s:
    """Samples drawn at random."""
    free = np.setdiff1d(own, known)
    return np.random.default_rng([seed, 2]).permutation(free)[:MORE]


def as_typical(pool: Pool, own: Int64s, known: Int64s, seed: int) -> Int64s:
    """The middles of clusters without a label."""
    labelled = np.searchsorted(own, np.sort(known))
    return own[typical(pool.space[own], MORE, seed, labelled).rows]


def as_uncertain(pool: Pool, own: Int64s, known: Int64s, seed: int) -> Int64s:
    """Uncertain and unlike what is labelled."""
    free = np.setdiff1d(own, known)
    logits = pool.head(known).logits(pool.features[free])
    entropy = normalised_entropy(softmax(logits, 8.0))
    uncertain = np.argsort(-entropy, kind="stable")[: 10 * MORE]  # the pool of geotl suggest
    space = pool.space[free[uncertain]]
    far = _distance(space, pool.space[known])
    boxes = np.arange(len(space))[:, None] * 2.0 + np.array([0.0, 0.0, 1.0, 1.0])
    inside = np.ones(len(space), dtype=bool)
    return free[uncertain[choose(space, entropy[uncertain], far, boxes, inside, n=MORE, seed=seed)]]


def _distance(space: Float64s, known: Float64s) -> Float64s:
    gaps = np.linalg.norm(space[:, None] - known[None], axis=2)
    return np.asarray(gaps.min(axis=1))


WAYS: dict[str, Way] = {
    "random": at_random,
    "typical": as_typical,
    "uncertain": as_uncertain,
}


def line(pool: Pool, start: int, seeds: int) -> str:
    """Accuracies with the labels added in each way."""
    found: dict[str, list[float]] = {name: [] for name in WAYS}
    units = np.unique(pool.unit)
    for seed in range(seeds):
        half = np.random.default_rng(seed).permutation(units)[: len(units) // 2]
        inside = np.isin(pool.unit, half)
        own, test = np.flatnonzero(inside), np.flatnonzero(~inside)
        known = np.random.default_rng([seed, 1]).permutation(own)[:start]
        for name, way in WAYS.items():
            labelled = np.concatenate([known, way(pool, own, known, seed)])
            found[name].append(100 * accuracy(pool, labelled, test))
    means = "".join(f"{np.mean(several):10.1f}" for several in found.values())
    gaps = (
        mean_interval(np.array(found["typical"]) - np.array(found[name]))
        for name in ("random", "uncertain")
    )
    return means + "".join(
        f"   {gap.value:+5.1f} [{gap.low:+.1f}, {gap.high:+.1f}]" for gap in gaps
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    default = os.environ.get("GEOTL_DATA", HERE.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(default))
    args = parser.parse_args()
    heads = "".join(f"{name:>10}" for name in WAYS)
    print(f"{'data, labels + 20':24}{heads}   typical - random   typical - uncertain")
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["GEOTL_CACHE"] = f"{scratch}/cache"
        for name in ("eurosat_rgb", "sample_pixels"):
            pool = (
                of_pixels(args)
                if name == "sample_pixels"
                else of_tiles(eurosat(args.data, Path(scratch)))
            )
            for start in STARTS:
                print(f"{f'{name}, {start}':24}{line(pool, start, args.seeds)}", flush=True)


if __name__ == "__main__":
    main()
