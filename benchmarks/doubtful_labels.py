"""Whether wrong labels stand first among those that look like another class.

    python benchmarks/doubtful_labels.py [--draws 10] [--only eurosat_rgb]
                                         [--source runs/sample_source/model.safetensors]
                                         [--data ../shared/data]

A tenth of the training labels get another class at random, then a run's own predictions of labels
that it was not fitted to are ranked as the report does it. Printed are means and sd over the draws:
the share of the wrong labels among the first 10 and 20 % (in a random order 10 and 20 %), and how
many of the labels are listed at all. Tiles as in calibration.py; points are those of the sample
scene, with `--shots` labels a class from its training area.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from calibration import CASES, HERE, opened

from geotl.arrays import Int64s
from geotl.console import silent
from geotl.evaluation.doubtful_labels import HeldOutPredictions, doubtful_labels, margins
from geotl.evaluation.evaluate import softmax
from geotl.experiments.compare import fit_draw
from geotl.experiments.experiment import Experiment
from geotl.experiments.pixel_draws import pixel_draws
from geotl.experiments.pixel_samples import PixelSamples
from geotl.experiments.pixels import PixelRun, open_pixels, score_fold
from geotl.experiments.recipe import load
from geotl.experiments.results import Answers

PLANTED = 0.1
POINTS = (5, 20, 80)


def planted(labels: Int64s, classes: int, seed: int) -> Int64s:
    """Labels [n] of which a tenth has another class."""
    random = np.random.default_rng(seed)
    wrong = random.permutation(len(labels))[: max(1, round(PLANTED * len(labels)))]
    changed = labels.copy()
    changed[wrong] = (labels[wrong] + random.integers(1, classes, len(wrong))) % classes
    return changed


def scores(held: HeldOutPredictions, true: Int64s, names: list[str]) -> tuple[float, float, float]:
    """Shares of the wrong labels among the first 10 and 20 %, and share of labels listed."""
    wrong = (held.given != true)[np.argsort(-margins(held), kind="stable")]
    shares = [wrong[: round(part * len(wrong))].sum() / wrong.sum() for part in (0.1, 0.2)]
    return float(shares[0]), float(shares[1]), len(doubtful_labels(held, names)) / len(set(names))


def of_tiles(experiment: Experiment) -> Iterator[tuple[float, float, float]]:
    """Scores of each draw of a recipe of tiles."""
    samples = experiment.samples
    for number in range(experiment.recipe.split.draws):
        draw = experiment.draw(number)
        rows, true = draw.split.train, samples.labels.copy()
        samples.__dict__["labels"] = labels = true.copy()
        labels[rows] = planted(true[rows], len(samples.classes), number)
        chosen = fit_draw(experiment, draw).fitted.chosen
        samples.__dict__["labels"] = true
        assert chosen is not None
        own = rows[chosen.fold_rows]
        held = HeldOutPredictions(own, softmax(chosen.fold_logits, chosen.temperature), labels[own])
        yield scores(held, true[own], [str(row) for row in own])


def of_points(run: PixelRun, shots: int, draws: int) -> Iterator[tuple[float, float, float]]:
    """Scores of each draw of points of a scene, by folds of blocks."""
    samples = run.samples
    for number in range(draws):
        some = chosen_points(samples, shots, number)
        true = samples.labels[some]
        few = part_of(samples, some, planted(true, len(samples.classes), number))
        opened = replace(run, samples=few)
        folds = [score_fold(opened, draw) for draw in pixel_draws(opened.recipe, few)]
        found = Answers.joined(
            [
                Answers(
                    one.draw.split.test,
                    few.labels[one.draw.split.test],
                    one.logits,
                    np.full(len(one.draw.split.test), one.temperature),
                )
                for one in folds
            ]
        )
        held = HeldOutPredictions(found.rows, found.probabilities, found.truth)
        yield scores(held, true[found.rows], [few.groups[row] for row in found.rows])


def chosen_points(samples: PixelSamples, shots: int, seed: int) -> Int64s:
    """So many labels of each class."""
    random = np.random.default_rng(seed)
    several = [np.flatnonzero(samples.labels == k) for k in range(len(samples.classes))]
    return np.sort(np.concatenate([random.permutation(own)[:shots] for own in several]))


def part_of(samples: PixelSamples, some: Int64s, labels: Int64s) -> PixelSamples:
    """Some pixels, with these classes."""
    pixels = tuple(
        replace(samples.placement.pixels[row], class_name=samples.classes[label])
        for row, label in zip(some, labels, strict=True)
    )
    features = {name: values[:, some] for name, values in samples.features.items()}
    placement = replace(samples.placement, pixels=pixels)
    return replace(samples, placement=placement, features=features, valid=samples.valid[:, some])


def line(name: str, several: list[tuple[float, float, float]]) -> str:
    """A row of the table."""
    table = 100 * np.array(several)
    sd = table.std(axis=0, ddof=1)
    first, second = (f"{table[:, i].mean():5.1f} ± {sd[i]:4.1f}" for i in (0, 1))
    return f"{name:28} {first}   {second}   {table[:, 2].mean():5.1f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--only", default="", help="part of a data set's name")
    parser.add_argument("--source", type=Path, help="model of the sample tiles' source region")
    default = os.environ.get("GEOTL_DATA", HERE.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(default))
    args = parser.parse_args()
    args.head = None
    print(f"{'wrong labels found, %':28} first 10 %     first 20 %     listed")
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["GEOTL_CACHE"] = f"{scratch}/cache"
        for name, half, shots in CASES:
            if args.only in name and (name != "sample_target" or args.source is not None):
                experiment = opened(name, half, shots, args, Path(scratch))
                title = f"{name}, {shots} a class"
                print(line(title, list(of_tiles(experiment))), flush=True)
        if args.only in "sample_pixels":
            run = open_pixels(load("sample_pixels", []), Path(scratch) / "p", log=silent)
            for shots in POINTS:
                title = f"sample_pixels, {shots} a class"
                print(line(title, list(of_points(run, shots, args.draws))), flush=True)


if __name__ == "__main__":
    main()
