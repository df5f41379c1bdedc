"""Whether stated confidences can be believed where labels are few, before and after.

    python benchmarks/calibration.py [--draws 20] [--only eurosat_rgb] [--head logistic]
                                     [--source runs/sample_source/model.safetensors]
                                     [--data ../shared/data]

For each data set and draw the shipped recipe is fitted and tested on the tiles that were not drawn.
`folds`: the head's setting and temperature from five folds inside the labels, as in earlier
versions. `as run`: as geotl does it (a discriminant on tiles that are left out one by one). Printed
are means over the draws: accuracy; expected calibration error of a draw (15 bins) and what chance
alone would give on so many tiles; mean confidence minus accuracy, with its sd over the draws; and
the calibration error of all draws' predictions together, which chance hardly touches. EuroSAT, and
UC Merced at 5 labels, keep to the half of the tiles on which nothing was chosen (halves.py); UC
Merced at 10 labels needs all tiles of a class. `--source` is the model of `geotl run
sample_source`, for the sample tiles.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from halves import Half, half_of

from geotl.arrays import Float64s, Int64s
from geotl.console import silent
from geotl.evaluation.evaluate import expected_calibration_error, softmax
from geotl.experiments.build import settle
from geotl.experiments.compare import FittedDraw, features_of_test, fit_draw
from geotl.experiments.experiment import Experiment
from geotl.experiments.named import recipe_sensor
from geotl.experiments.recipe import load
from geotl.experiments.samples import read_samples
from geotl.training.heads import Chosen, choose, head_fit
from geotl.training.part_heads import choose_parts

HERE = Path(__file__).resolve().parent.parent
WEIGHTS = "weights/resnet18-imagenet1k_v1-conv1_to_layer3.pth"
CASES: tuple[tuple[str, Half, int], ...] = (
    ("eurosat_rgb", "test", 10),
    ("eurosat_rgb", "test", 40),
    ("ucmerced", "test", 5),
    ("ucmerced", "both", 10),
    ("sample_target", "both", 10),
)
Answer = tuple[Float64s, Int64s]  # probabilities [n, K] of test tiles, and their classes [n]


def opened(name: str, half: Half, shots: int, args: argparse.Namespace, into: Path) -> Experiment:
    """A shipped recipe on its tiles, or on one half of them."""
    given = [f"split.shots={shots}", f"split.repeats={args.draws}"]
    if name == "sample_target":
        given += [f"model.weights={args.source}"]
    else:
        root = half_of(args.data / name, half, into / f"{name}{shots}")
        given += [f"data.root={root}", f"model.weights={args.data / WEIGHTS}"]
    if args.head is not None:
        given += ["strategy=probe", f"probe.head={args.head}"]
    recipe = load(name, given)
    samples = read_samples(recipe, recipe_sensor(recipe), silent, quiet=True)
    return Experiment(settle(recipe, samples, silent), samples, into / "out", quiet=True)


def answers(experiment: Experiment) -> Iterator[dict[str, Answer]]:
    """For each draw what both ways say of its test tiles."""
    labels = experiment.samples.labels
    for number in range(experiment.recipe.split.draws):
        draw = experiment.draw(number)
        made = fit_draw(experiment, draw)
        if made.fitted.chosen is None:
            raise SystemExit("the recipe's strategy is no probe")
        features, truth = features_of_test(experiment, made), labels[draw.split.test]
        several = {"folds": by_folds(experiment, made), "as run": made.fitted.chosen}
        yield {
            name: (softmax(one.head.logits(features), one.temperature), truth)
            for name, one in several.items()
        }


def by_folds(experiment: Experiment, made: FittedDraw) -> Chosen:
    """The head as earlier versions chose and calibrated it: on folds, not tile by tile."""
    probe, samples = experiment.recipe.probe, experiment.samples
    labels, classes = samples.labels[made.draw.split.train], len(samples.classes)
    features, chosen, folds = made.fitted.features, made.fitted.chosen, made.draw.folds
    assert features is not None
    assert chosen is not None
    parts = len(chosen.parts)
    if parts > 1:
        return choose_parts(
            features, labels, folds, probe.head_settings, parts=parts, classes=classes
        )
    return choose(features, labels, folds, head_fit(probe.head, classes), probe.head_settings)


def by_chance(chances: Float64s, random: np.random.Generator) -> float:
    """Calibration error of one sample of truths for which the confidences are right."""
    sure = chances.max(axis=1)
    right = random.random(len(sure)) < sure
    best = chances.argmax(axis=1)
    truth = np.where(right, best, (best + 1) % chances.shape[1])
    return expected_calibration_error(chances, truth)


def line(several: list[Answer]) -> str:
    """Accuracy and calibration of one way over all draws."""
    random = np.random.default_rng(0)
    rows = np.array(
        [
            (
                np.mean(p.argmax(axis=1) == t),
                expected_calibration_error(p, t),
                np.mean([by_chance(p, random) for _ in range(20)]),
                np.mean(p.max(axis=1)) - np.mean(p.argmax(axis=1) == t),
            )
            for p, t in several
        ]
    )
    accuracy, error, chance, gap = rows.mean(axis=0)
    pooled = expected_calibration_error(
        np.concatenate([p for p, _ in several]), np.concatenate([t for _, t in several])
    )
    return (
        f"{100 * accuracy:5.1f} %   {error:.3f} ({chance:.3f})   "
        f"{gap:+.3f} ± {rows[:, 3].std(ddof=1):.3f}   {pooled:.3f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--only", default="", help="part of a data set's name")
    parser.add_argument("--head", choices=["discriminant", "logistic"], help="the recipe's, or")
    parser.add_argument("--source", type=Path, help="model of the sample tiles' source region")
    default = os.environ.get("GEOTL_DATA", HERE.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(default))
    args = parser.parse_args()
    print(f"{'data':28} {'way':8} accuracy  error (chance)  conf. - acc.     all draws")
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["GEOTL_CACHE"] = f"{scratch}/cache"
        for name, half, shots in CASES:
            if args.only not in name or (name == "sample_target" and args.source is None):
                continue
            experiment = opened(name, half, shots, args, Path(scratch))
            drawn = list(answers(experiment))
            for way in drawn[0]:
                words = f"{name}, {shots} a class, {half}"
                print(f"{words:28} {way:8} {line([one[way] for one in drawn])}", flush=True)


if __name__ == "__main__":
    main()
