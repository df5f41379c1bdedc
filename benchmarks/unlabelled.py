"""A pool of unlabelled tiles beside the labels, tested on tiles outside the pool.

    python benchmarks/unlabelled.py [--half test] [--draws 20] [--only eurosat_rgb]
                                    [--ways all] [--data ../shared/data]

Labels and test tiles come from one half of the tiles (halves.py), the pool from the other half and,
on EuroSAT, from half of the undrawn tiles of this one; no test tile is in the pool. The default
half is that on which nothing was chosen; `--half choose` with `--ways all` is how the way of
self-training was chosen. "Skewed" pools hold the classes in frequencies from 1 to 1/10, in an order
that changes with the draw; the test tiles stay as they are.

Prints overall accuracy in %, mean and sd over draws, the gain over the labels alone with its 95 %
interval (Student's t), the worst draw, how often the inner folds took the pool, and the mean
calibration error (15 bins) with confidence minus accuracy. Ways that are no part of the product
(classes aligned to equal shares, thresholds by class) are written out here.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from halves import dealt
from scipy.stats import t as student

from geotl.arrays import Floats, Int64s
from geotl.console import silent
from geotl.data.splits import folds
from geotl.evaluation.evaluate import evaluate, softmax
from geotl.experiments.build import build_network, make_plan, open_experiment
from geotl.experiments.experiment import Experiment
from geotl.experiments.recipe import load
from geotl.models.classifier import TileClassifier
from geotl.training.features import raw_features
from geotl.training.heads import Linear, discriminant_of, one_hot
from geotl.training.learner import Tiles
from geotl.training.semi_supervised import with_unlabelled
from geotl.training.strategies import FitPlan, Fitted, probe, standardised
from geotl.training.tile_pool import self_trained, with_pool

HERE = Path(__file__).resolve().parent.parent
WEIGHTS = "weights/resnet18-imagenet1k_v1-conv1_to_layer3.pth"
ROUNDS = 5


@dataclass(frozen=True)
class Case:
    """A data set, labels a class, and a pool: its size (0: all) and 1 / its rarest class."""

    name: str
    shots: int
    size: int = 0
    skew: float = 1.0

    def __str__(self) -> str:
        """Data, labels a class and pool."""
        pool = f"pool of {self.size}" if self.size else "whole pool"
        return f"{self.name}, {self.shots}, {pool}" + (", skewed" if self.skew > 1 else "")


CASES = (
    Case("eurosat_rgb", 10),
    Case("eurosat_rgb", 10, skew=10.0),
    Case("eurosat_rgb", 10, 200),
    Case("ucmerced", 5),
    Case("eurosat_rgb", 40),
    Case("eurosat_rgb", 10, 500),
)


@dataclass(frozen=True)
class Source:
    """A data set whose features are computed once: its network, raw features and halves."""

    opened: Experiment
    network: TileClassifier
    plan: FitPlan
    raw: Floats
    chooses: np.ndarray

    @classmethod
    def of(cls, data: Path, name: str, scratch: Path) -> Source:
        """Open a data set and compute the features of all its tiles."""
        recipe = load(
            name, [f"data.root={data / name}", f"model.weights={data / WEIGHTS}", "split.shots=5"]
        )
        opened = open_experiment(recipe, scratch / name, log=silent, quiet=True)
        draw = opened.draw(0)
        network, report = build_network(opened, draw)
        rows = np.arange(len(opened.samples), dtype=np.int64)
        raw = raw_features(network, opened.samples.pack, rows)
        first = {
            path.resolve()
            for folder in (data / name).iterdir()
            if folder.is_dir()
            for path in dealt(p for p in folder.iterdir() if p.is_file())[::2]
        }
        chooses = np.array([path.resolve() in first for path in opened.samples.paths])
        return cls(opened, network, make_plan(opened, report, draw), raw, chooses)


@dataclass(frozen=True)
class Drawn:
    """Rows of one draw: labelled, in the pool, tested."""

    train: Int64s
    pool: Int64s
    test: Int64s


def drawn(source: Source, case: Case, half: str, number: int) -> Drawn:
    """Labels and test tiles of one half, and a pool without test tiles."""
    random = np.random.default_rng([18, number, case.shots, half == "test"])
    labels, own = source.opened.samples.labels, source.chooses == (half == "choose")
    train, test, pool = [], [], [np.flatnonzero(~own)]
    for label in range(labels.max() + 1):
        rows = random.permutation(np.flatnonzero(own & (labels == label)))
        rest = rows[case.shots :]
        kept = len(rest) // 2 if case.name == "eurosat_rgb" else len(rest)
        train.append(rows[: case.shots])
        test.append(rest[:kept])
        pool.append(rest[kept:])
    rows = random.permutation(np.concatenate(pool))
    if case.skew > 1:
        rows = skewed(rows, labels[rows], case.skew, random)
    return Drawn(np.concatenate(train), rows[: case.size or None], np.concatenate(test))


def skewed(rows: Int64s, labels: Int64s, skew: float, random: np.random.Generator) -> Int64s:
    """Some of the rows, with the classes in frequencies from 1 to 1 / skew."""
    classes = random.permutation(labels.max() + 1)
    share = skew ** (-np.arange(len(classes)) / (len(classes) - 1))
    parts = [
        rows[labels == label][: max(1, round(part * (labels == label).sum()))]
        for label, part in zip(classes, share, strict=True)
    ]
    return random.permutation(np.concatenate(parts))


Way = Callable[[Fitted, Int64s, Floats, FitPlan], Linear]


def rule(name: str, **settings: float) -> Way:
    """A rule of probe.semi_supervised, on the pool."""

    def fit(fitted: Fitted, labels: Int64s, pool: Floats, plan: FitPlan) -> Linear:
        probe_settings = load("eurosat_rgb", []).probe.model_copy(
            update={"unlabelled": name, **settings}
        )
        return with_unlabelled(fitted.features, labels, pool, fitted.chosen, probe_settings)

    return fit


def rounds_of(shares: Callable[[Floats, float], Floats]) -> Way:
    """Rounds of shares (of logits and a temperature) and of fitting to them."""

    def fit(fitted: Fitted, labels: Int64s, pool: Floats, plan: FitPlan) -> Linear:
        chosen, centred = fitted.chosen, pool.mean(axis=1, keepdims=True)
        known, head = one_hot(labels, len(chosen.head.bias)), chosen.head
        for _ in range(ROUNDS):
            given = shares(head.logits(centred), chosen.temperature)
            blocks = [(fitted.features, known), (centred, given)]
            head = discriminant_of(blocks, chosen.setting, chosen.parts)
        return head

    return fit


def aligned(logits: Floats, temperature: float) -> Floats:
    """Soft labels brought half the way to equally common classes."""
    shares = softmax(logits, 4.0)
    for _ in range(30):
        wanted = 0.5 / shares.shape[1] + 0.5 * shares.mean(axis=0)
        shares = shares * np.sqrt(wanted / np.maximum(shares.mean(axis=0), 1e-9))
        shares /= shares.sum(axis=1, keepdims=True)
    return shares


def thresholds_by_class(logits: Floats, temperature: float) -> Floats:
    """Pseudo-labels whose threshold falls where a class takes few tiles (FlexMatch)."""
    chances = softmax(logits, 0.5 * temperature)
    best, sure = chances.argmax(axis=1), chances.max(axis=1)
    taken = np.bincount(best[sure >= 0.9], minlength=chances.shape[1])
    part = taken / max(taken.max(), 1)
    least = 0.9 * (part / (2 - part))[best]
    return one_hot(best, chances.shape[1]) * (sure >= least)[:, None]


def pseudo(fitted: Fitted, labels: Int64s, pool: Floats, plan: FitPlan) -> Linear:
    """The way of probe.pool, without the folds' consent."""
    centred = pool.mean(axis=1, keepdims=True)
    return self_trained(
        fitted.features, labels, centred, fitted.chosen, load("eurosat_rgb", []).probe
    )


WAYS: dict[str, Way] = {
    "as probe.pool, always taken": pseudo,
    "pseudo-labels at the labels' temperature": rule("pseudo_labels"),
    "the same, threshold 0.6": rule("pseudo_labels", threshold=0.6),
    "soft labels": rule("soft_labels"),
    "soft labels, classes aligned to equal": rounds_of(aligned),
    "thresholds by class": rounds_of(thresholds_by_class),
    "all views agree": rule("consistency"),
    "propagation": rule("propagation"),
}


@dataclass
class Score:
    """A way's draws: accuracy in %, calibration error and confidence minus accuracy."""

    accuracy: list[float]
    error: list[tuple[float, float]]
    taken: int = 0

    def line(self, name: str, base: list[float]) -> str:
        """A row of the table; `base` holds the accuracies of the labels alone."""
        found, gain = np.array(self.accuracy), np.array(self.accuracy) - np.array(base)
        half = student.ppf(0.975, len(gain) - 1) * gain.std(ddof=1) / np.sqrt(len(gain))
        off = np.mean(self.error, axis=0) if self.error else (np.nan, np.nan)
        return (
            f"  {name:42} {found.mean():.1f} ± {found.std(ddof=1):.1f}  {gain.mean():+.1f} "
            f"[{gain.mean() - half:+.1f}, {gain.mean() + half:+.1f}]  worst {gain.min():+.1f}  "
            f"taken {self.taken}/{len(gain)}  calibration {off[0]:.3f} ({off[1]:+.3f})"
        )


def score(source: Source, case: Case, half: str, draws: int, ways: dict[str, Way]) -> None:
    """Print what each way gives in a case."""
    labels = source.opened.samples.labels
    table = {
        name: Score([], []) for name in ("labels alone", "probe.pool, accepted by folds", *ways)
    }
    sizes = []
    for number in range(draws):
        rows = drawn(source, case, half, number)
        own, truth = labels[rows.train], labels[rows.test]
        inner = folds(own, source.opened.recipe.split.folds, seed=number)
        tiles = Tiles(source.opened.samples.pack, rows.train, own)
        fitted = probe(source.network, tiles, inner, source.plan, lambda _, some: source.raw[some])
        pool = standardised(source.network, source.raw[rows.pool])
        test = standardised(source.network, source.raw[rows.test])
        sizes.append(len(rows.pool))
        heads = {name: way(fitted, own, pool, source.plan) for name, way in ways.items()}
        add(table["labels alone"], fitted, test, truth)
        fitted = with_pool(fitted, own, pool, inner, source.opened.recipe.probe)
        add(table["probe.pool, accepted by folds"], fitted, test, truth)
        for name, head in heads.items():
            table[name].accuracy.append(100 * float((head.logits(test).argmax(1) == truth).mean()))
            table[name].taken += 1
    print(f"{case}: {np.mean(sizes):.0f} in the pool, {len(truth)} tested", flush=True)
    for name, one in table.items():
        print(one.line(name, table["labels alone"].accuracy), flush=True)


def add(into: Score, fitted: Fitted, test: Floats, truth: Int64s) -> None:
    """Score a fitted network's own head."""
    network = fitted.network
    head = Linear(network.head.weight.detach().numpy(), network.head.bias.detach().numpy())
    logits = head.logits(test)
    chances = softmax(logits, float(network.temperature))
    classes = tuple(str(i) for i in range(logits.shape[1]))
    found = evaluate(logits, truth, classes, temperature=float(network.temperature), rounds=1)
    right = logits.argmax(1) == truth
    into.accuracy.append(100 * float(right.mean()))
    into.error.append((found.after.error, float(chances.max(axis=1).mean() - right.mean())))
    into.taken += fitted.pool is not None and fitted.pool.used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--half", choices=["choose", "test"], default="test")
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--only", default="", help="part of a case's name")
    parser.add_argument("--ways", choices=["none", "all"], default="none")
    default = os.environ.get("GEOTL_DATA", HERE.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(default))
    args = parser.parse_args()
    wanted = [case for case in CASES if args.only in str(case)]
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["GEOTL_CACHE"] = f"{scratch}/cache"
        for name in dict.fromkeys(case.name for case in wanted):
            source = Source.of(args.data, name, Path(scratch))
            for case in (one for one in wanted if one.name == name):
                score(
                    source,
                    case,
                    args.half,
                    args.draws,
                    WAYS if args.ways == "all" else {},
                )


if __name__ == "__main__":
    main()
