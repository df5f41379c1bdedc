"""Fusion of tiles with band statistics: the network alone, by `auto` and fused, on the same draws.

    python benchmarks/fusion.py [--half test] [--draws 10] [--only eurosat] [--data ../shared/data]
                                [key=value ...]

Settings of the fusion (statistics, members, weights, and what `auto` asks for) were chosen on the
half of each data set that is not tested here (halves.py). The sample tiles' source region is split
by its groups, the Havel scene by blocks, and both are whole. Prints the mean and sd of the accuracy
of the network alone, with model.fuse_statistics=auto and =true, and of the baseline on mean and sd;
the paired gains of auto and true over the network alone with 95 % intervals over the draws
(Student's t); the three mean log-losses; in how many draws auto fuses; in how many the baseline is
ahead of the network alone, and of auto, by more than a 95 % interval paired over the test tiles;
and the processor seconds of the dearest fit alone, from cold, and what the choice adds (median).
`--source FILE` gives the network for the target region, from `geotl run sample_source`.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from halves import half_of
from havel import OSM, RESNET18
from scipy import stats
from scipy.special import log_softmax

from geotl.arrays import Bools, Float64s
from geotl.console import silent
from geotl.experiments.build import open_experiment
from geotl.experiments.compare import fit_draw, logits_of_test
from geotl.experiments.experiment import Experiment
from geotl.experiments.recipe import load
from geotl.training.heads import band_statistics_logits
from geotl.training.opinion_pool import floored, log_loss
from geotl.training.strategies import TileFusion

HERE = Path(__file__).resolve().parent.parent
SHOTS = {"eurosat_rgb": (5, 10, 40), "ucmerced": (5,)}
WHOLE = {"eurosat_rgb": (5, 10, 50), "ucmerced": (5, 10)}  # with --half both
COLUMNS = (
    "data, labels a class",
    *("network alone", "auto", "true", "mean and sd", "gain of auto", "gain of true"),
    *("loss alone, auto, true", "auto fuses", "behind alone, auto", "processor seconds"),
)
GROUPS = ("split.method=group", "split.test_fraction=0.33")


@dataclass(frozen=True)
class Case:
    """A row of the table: its name, the recipe, and how it is changed."""

    name: str
    recipe: str
    keys: tuple[str, ...]
    draws: int | None = None  # None: as asked for


@dataclass(frozen=True)
class Pair:
    """One draw: the network alone, by auto and fused, and the baseline.

    Attributes:
        right: whether each test tile is classified correctly, by each of the four.
        loss: mean of -log p of the first three.
        fusion: how auto chose.
        seconds: of the processor, for a fit alone, and for what the choice adds.
    """

    right: tuple[Bools, Bools, Bools, Bools]
    loss: tuple[float, float, float]
    fusion: TileFusion | None
    seconds: tuple[float, float]

    @property
    def accuracy(self) -> list[float]:
        """Of the four, in percent."""
        return [100 * float(one.mean()) for one in self.right]

    def behind(self, which: int) -> bool:
        """Whether the baseline is ahead of one of the others by more than a paired interval."""
        ahead = self.right[3].astype(float) - self.right[which].astype(float)
        return bool(ahead.mean() > 1.96 * ahead.std() / np.sqrt(len(ahead)))


def cases(data: Path, half: str, scratch: Path, source: Path | None) -> Iterator[Case]:
    """The rows: two data sets of image files, the sample tiles by groups, the Havel scene."""
    weights = f"model.weights={data / RESNET18}"
    for name, shots in (WHOLE if half == "both" else SHOTS).items():
        for count in shots:
            root = half_of(data / name, half, scratch / f"{name}{count}")
            keys = (f"data.root={root}", weights, f"split.shots={count}")
            yield Case(f"{name}, {count}", name, keys)
    for count in (5, 10, 30):
        keys = (*GROUPS, "strategy=auto", weights, f"split.shots={count}", "probe.views=4")
        yield Case(f"sample source, by group, {count}", "sample_source", keys)
    if source is not None:
        for count in (5, 10):
            root = half_of(HERE / "sample_tiles" / "target", half, scratch / f"target{count}")
            keys = (f"data.root={root}", f"model.weights={source}", f"split.shots={count}")
            yield Case(f"sample target, source's network, {count}", "sample_target", keys)
    scene = data / "sentinel2_l1c_havel"
    keys = (f"data.scenes={scene}", f"labels.path={scene / OSM}", weights)
    yield Case("Havel, 13 bands, 5 blocked folds", "havel_osm", keys, draws=5)
    trained = "sample source, by group, trained from random weights"
    keys = (*GROUPS, "train.precision=float32")
    yield Case(f"{trained}, 10", "sample_source", (*keys, "split.shots=10"), draws=5)
    yield Case(f"{trained}, all labels", "sample_source", keys, draws=5)


def pairs(case: Case, draws: int, out: Path, more: Sequence[str]) -> Iterator[Pair]:
    """Each draw of a case, fitted without and with fusion."""
    keys = [*case.keys, *more]
    if case.draws is None:
        keys.append(f"split.repeats={draws}")
    recipe = load(case.recipe, keys)
    experiment = open_experiment(recipe, out, log=silent, quiet=True, resume=True)
    for number in range(case.draws or draws):
        yield pair(experiment, number)


def pair(experiment: Experiment, number: int) -> Pair:
    """One draw, fitted once: its network alone, by auto and fused."""
    draw, samples = experiment.draw(number), experiment.samples
    truth = samples.labels[draw.split.test]
    right, loss, fusions = [], [], []
    begun = time.process_time()
    fit_draw(with_fusion(experiment, False), draw)  # what is computed once lies in the cache then
    seconds = [time.process_time() - begun]
    for choice in (False, "auto", True):
        begun = time.process_time()
        made = fit_draw(with_fusion(experiment, choice), draw)
        seconds.append(time.process_time() - begun)
        logits, heat = logits_of_test(experiment, made), float(made.fitted.network.temperature)
        own = floored(np.asarray(log_softmax(logits, axis=1)), heat)
        right.append(logits.argmax(axis=1) == truth)
        loss.append(log_loss(own, truth, np.ones(len(truth))))
        fusions.append(made.fitted.fusion)
    base = band_statistics_logits(
        samples.band_table,
        draw.split.train,
        samples.labels[draw.split.train],
        draw.split.test,
        folds=draw.folds,
        classes=len(samples.classes),
    )
    right.append(base.argmax(axis=1) == truth)
    cold, alone, auto, _ = seconds
    return Pair(tuple(right), tuple(loss), fusions[1], (cold, auto - alone))


def with_fusion(experiment: Experiment, choice: bool | str) -> Experiment:
    """The experiment with a value of model.fuse_statistics, going on from earlier trainings."""
    model = experiment.recipe.model.model_copy(update={"fuse_statistics": choice})
    recipe = experiment.recipe.model_copy(update={"model": model})
    return replace(experiment.of(recipe), resume=True)


def row(name: str, found: Sequence[Pair]) -> str:
    """A row of the table."""
    accuracy = np.array([one.accuracy for one in found])
    mean, sd = accuracy.mean(axis=0), accuracy.std(axis=0, ddof=1)
    cells = [f"{m:.1f} ± {s:.1f}" for m, s in zip(mean, sd, strict=True)]
    cells += [interval(accuracy[:, way] - accuracy[:, 0]) for way in (1, 2)]
    cells.append(", ".join(f"{loss:.3f}" for loss in np.mean([one.loss for one in found], axis=0)))
    fused = sum(one.fusion is not None and one.fusion.pools for one in found)
    behind = [sum(one.behind(way) for one in found) for way in (0, 1)]
    cold, added = np.array([one.seconds for one in found]).T
    cells += [f"{fused} of {len(found)}", f"{behind[0]}, {behind[1]}"]
    return f"| {name} | {' | '.join(cells)} | {cold.max():.1f}, {np.median(added):+.1f} |"


def interval(gain: Float64s) -> str:
    """Mean of paired gains with a 95 % interval (Student's t)."""
    reach = stats.t.ppf(0.975, len(gain) - 1) * gain.std(ddof=1) / np.sqrt(len(gain))
    middle = gain.mean()
    return f"{middle:+.1f} [{middle - reach:+.1f}, {middle + reach:+.1f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--half", choices=["choose", "test", "both"], default="test")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--only", default="", help="part of a row's name")
    parser.add_argument("--source", type=Path, help="network of geotl run sample_source")
    default = os.environ.get("GEOTL_DATA", HERE.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("more", nargs="*", help="further keys of the recipes")
    args = parser.parse_args()
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        os.environ.setdefault("GEOTL_CACHE", f"{scratch}/cache")
        for place, case in enumerate(cases(args.data, args.half, Path(scratch), args.source)):
            if args.only in case.name:
                found = list(pairs(case, args.draws, Path(scratch) / f"{place}", args.more))
                print(row(case.name, found), flush=True)


if __name__ == "__main__":
    main()
