"""Does geotl suggest pay? Labels added by it, at random or by entropy alone, on the sample scene.

    python benchmarks/suggest.py [--seeds 10] [--start 2] [--rounds 6] [--weights FILE]

truth.tif is the oracle: a window is called by the class that covers most of it. Windows lie every
half tile. Of each seed, 40 % of the scene's blocks of 4 x 4 tiles are for the test (windows side by
side, at least 60 % of one class); nothing is ever labelled there. From `--start` labels a class on,
ten windows a round are added that share no ground with any before. Prints overall and balanced
accuracy on the test windows by number of labels, as mean and 95 % interval over seeds (Student's
t), and the difference to random choice, paired over seeds.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely

from geotl.console import silent
from geotl.data.chips import ChipRules, place_chips
from geotl.data.labels import Label, Labels, raster_labels
from geotl.data.placement import window_about
from geotl.data.splits import Split, folds
from geotl.evaluation.learning_curve import gain
from geotl.evaluation.metrics import confusion, mean_interval, scores
from geotl.experiments.compare import fit_draw, logits_of_test
from geotl.experiments.draws import Draw
from geotl.experiments.experiment import Experiment
from geotl.experiments.named import recipe_sensor
from geotl.experiments.recipe import Recipe, load, resolve_sample
from geotl.experiments.samples import TileSamples, read_samples, recipe_scenes
from geotl.experiments.save import make_companions, make_contract, training_notes
from geotl.imagery.scene import Scene
from geotl.imagery.windows import Window
from geotl.inference.active_learning import SuggestOptions, suggest
from geotl.inference.candidates import features_and_probabilities, normalised_entropy
from geotl.inference.onnx_model import on_device
from geotl.models.model_file import ModelFile

PX, STEP, BLOCK = 40, 20, 4
BANDS = "[B02,B03,B04,B05,B06,B07,B08,B8A,B11,B12]"
RECIPE = [
    "data.scenes=[sample:scene.tif]",
    "data.sensor=sentinel2_l2a_n0400",
    f"data.bands={BANDS}",
    "labels.path=sample:truth.tif",
    f"labels.chip_px={PX}",
    f"labels.stride_px={STEP}",
    "labels.purity=0.01",
    "model.truncate_after=layer3",
    "model.pool=root_mean",
    "model.unit_length=true",
    "strategy=probe",
    "probe.views=4",
    "probe.head=discriminant",
]


@dataclass(frozen=True)
class World:
    """The scene, its windows with their true classes, and which are pure enough to test."""

    recipe: Recipe
    source: TileSamples
    scene: Scene
    windows: list[Window]
    pure: np.ndarray

    @property
    def row_of(self) -> dict[Window, int]:
        """The row of each window."""
        return {window: row for row, window in enumerate(self.windows)}


def world(recipe: Recipe) -> World:
    source = read_samples(recipe, recipe_sensor(recipe), silent, quiet=True)
    placed = {f"{chip.scene}/{chip.id}": chip.window for chip in source.placement.chips}
    windows = [placed[tile.chip] for tile in source.index.tiles]
    scene = recipe_scenes(recipe, recipe_sensor(recipe))[0]
    truth = raster_labels(resolve_sample("labels.path", str(recipe.labels.path)))
    pure = {c.window for c in place_chips([scene], truth, ChipRules(PX, 0.6, step_px=PX)).chips}
    return World(recipe, source, scene, windows, np.array([w in pure for w in windows]))


def blocks_of_the_test(grid_px: int, seed: int) -> list[Window]:
    """40 % of the blocks of 4 x 4 tiles."""
    side = BLOCK * PX
    count = -(-grid_px // side)
    order = np.random.default_rng([seed, 7]).permutation(count**2)[: round(0.4 * count**2)]
    return [Window(int(i) // count * side, int(i) % count * side, side, side) for i in order]


def fitted(it: World, rows: np.ndarray, test: np.ndarray, seed: int, out: Path):
    """A model of some windows, and its logits of the test windows."""
    labels = it.source.labels
    rest = np.zeros(0, np.int64)
    draw = Draw(seed, Split(np.sort(rows), test, rest), folds(labels[np.sort(rows)], 5, seed=seed))
    experiment = Experiment(it.recipe, it.source, out, quiet=True)
    made = fit_draw(experiment, draw)
    held = ModelFile(
        made.fitted.network,
        make_contract(experiment, made.fitted),
        make_companions(experiment, made),
        {"training": training_notes(it.source, draw)},
    )
    return on_device(held), logits_of_test(experiment, made)


def by_suggest(it: World, model: ModelFile, kept: Labels, pool: np.ndarray, seed: int) -> list[int]:
    """The ten that geotl suggest names."""
    options = SuggestOptions(STEP, seed=seed, outside=True, by="uncertain")
    found = suggest(model, [it.scene], 10, options, labels=kept)
    a, _, left, _, _, top = it.scene.grid.transform
    places = [window_about((p.x - left) / a, (top - p.y) / a, PX) for p in found.points]
    return [it.row_of[window] for window in places]


def at_random(it: World, model: ModelFile, kept: Labels, pool: np.ndarray, seed: int) -> list[int]:
    """Ten windows drawn at random."""
    return apart(it, np.random.default_rng([seed, len(pool)]).permutation(pool))


def by_entropy(it: World, model: ModelFile, kept: Labels, pool: np.ndarray, seed: int) -> list[int]:
    """The ten most uncertain."""
    packed = it.source.pack
    parts = [np.asarray(packed.images[pool[i : i + 64]]) for i in range(0, len(pool), 64)]
    valid = [p > 0 for p in parts]
    chances = np.concatenate(
        [features_and_probabilities(model, p, v)[1] for p, v in zip(parts, valid, strict=True)]
    )
    return apart(it, pool[np.argsort(-normalised_entropy(chances), kind="stable")])


def apart(it: World, order: np.ndarray) -> list[int]:
    """The first ten of an order that share no pixel."""
    chosen: list[int] = []
    for row in order.tolist():
        if not any(it.windows[row].meets(it.windows[one]) for one in chosen):
            chosen.append(row)
        if len(chosen) == 10:
            break
    return chosen


WAYS: dict[str, Callable[..., list[int]]] = {
    "random": at_random,
    "most uncertain": by_entropy,
    "geotl suggest": by_suggest,
}


def clear(it: World, open_to: np.ndarray, taken: list[int]) -> np.ndarray:
    """Windows that share no pixel with those taken."""
    return np.array(
        [r for r in open_to if not any(it.windows[r].meets(it.windows[f]) for f in taken)]
    )


def one_seed(it: World, seed: int, start: int, rounds: int, out: Path) -> dict[str, np.ndarray]:
    """Accuracies [rounds + 1, 2] (overall, balanced) by way of choosing."""
    labels, classes = it.source.labels, len(it.source.index.classes)
    blocks = blocks_of_the_test(it.scene.grid.height, seed)
    touched = np.array([any(w.meets(b) for b in blocks) for w in it.windows])
    within = np.array(
        [
            w.row % PX == w.col % PX == 0 and touched[i] and it.pure[i]
            for i, w in enumerate(it.windows)
        ]
    )
    test, open_to = np.flatnonzero(within), np.flatnonzero(~touched)
    random = np.random.default_rng(seed)
    first: list[int] = []
    for k in range(classes):
        mine = [
            row
            for row in random.permutation(open_to[labels[open_to] == k]).tolist()
            if not any(it.windows[row].meets(it.windows[f]) for f in first)
        ]
        first += mine[:start]
    areas = [
        Label(str(i), "test", shapely.box(*b.on(it.scene.grid).bounds))
        for i, b in enumerate(blocks)
    ]
    kept = Labels(Path("test"), tuple(areas), (), str(it.scene.grid.crs))
    found = {}
    for name, choose in WAYS.items():
        rows, curve = list(first), []
        for number in range(rounds + 1):
            model, logits = fitted(it, np.array(rows), test, seed, out)
            result = scores(confusion(labels[test], logits.argmax(1), classes))
            curve.append((result.overall, result.balanced))
            if number < rounds:
                rows += choose(it, model, kept, clear(it, open_to, rows), seed)
        found[name] = np.array(curve)
    print(
        f"seed {seed}: {len(test)} test windows; "
        + ", ".join(f"{n} {a[0, 0]:.3f} to {a[-1, 0]:.3f}" for n, a in found.items()),
        flush=True,
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--start", type=int, default=2, help="labels a class to start from")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--weights", default="none")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["GEOTL_CACHE"] = f"{scratch}/cache"
        it = world(load(None, [*RECIPE, f"model.weights={args.weights}"]))
        runs = [
            one_seed(it, seed, args.start, args.rounds, Path(scratch) / "fit")
            for seed in range(args.seeds)
        ]
    first = args.start * len(it.source.index.classes)
    for column, what in enumerate(("overall", "balanced")):
        print(f"\n{what} accuracy, {args.seeds} seeds, weights {Path(args.weights).name}")
        for name in WAYS:
            table = np.array([run[name][:, column] for run in runs])
            base = np.array([run["random"][:, column] for run in runs])
            for number in range(1, args.rounds + 1):
                mean = mean_interval(table[:, number])
                line = f"{name:16} {first + 10 * number:4} labels  {mean}"
                if name != "random":
                    more, word = gain(base[:, number], table[:, number])
                    line += f"  {more.value:+.3f} [{more.low:+.3f}, {more.high:+.3f}] {word}"
                print(line)
        print(f"{'at the start':16} {first:4} labels  {mean_interval(base[:, 0])}")


if __name__ == "__main__":
    main()
