"""Fusion of tiles with band statistics: the network alone and fused, on the same draws.

    python benchmarks/fusion.py [--half judge] [--draws 10] [--only eurosat] [--data ../shared/data]
                                [key=value ...]

Settings of the fusion (statistics, members, weights) were chosen on the half of each data set that
is not tested here (halves.py). The sample tiles' source region is split by its groups, the Havel
scene by blocks, and both are whole. Prints the mean and sd of the accuracy of the network alone,
of the fused one and of the baseline on mean and sd; the paired difference of the first two with a
95 % interval over the draws (Student's t); their mean log-losses; and the mean weights.
`--source FILE` gives the network for the target region, from `geotl run sample_source`.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from halves import half_of
from havel import OSM, RESNET18
from scipy import stats
from scipy.special import log_softmax

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
    """One draw: accuracies and log-losses of alone, fused and baseline; weights of the fusion."""

    accuracy: tuple[float, float, float]
    loss: tuple[float, float]
    fusion: TileFusion | None


def cases(data: Path, half: str, scratch: Path, source: Path | None) -> Iterator[Case]:
    """The rows: two data sets of image files, the sample tiles by groups, the Havel scene."""
    weights = f"model.weights={data / RESNET18}"
    for name, shots in SHOTS.items():
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
    """One draw, fitted once: its network alone and fused."""
    recipe, samples = experiment.recipe, experiment.samples
    fused = recipe.model.model_copy(update={"fuse_statistics": True})
    draw = experiment.draw(number)
    truth = samples.labels[draw.split.test]
    accuracy, loss, fusion = [], [], None
    for variant in (recipe, recipe.model_copy(update={"model": fused})):
        made = fit_draw(replace(experiment.of(variant), resume=True), draw)
        logits, heat = logits_of_test(experiment, made), float(made.fitted.network.temperature)
        own = floored(np.asarray(log_softmax(logits, axis=1)), heat)
        accuracy.append(float((logits.argmax(axis=1) == truth).mean()))
        loss.append(log_loss(own, truth, np.ones(len(truth))))
        fusion = made.fitted.fusion
    base = band_statistics_logits(
        samples.band_table,
        draw.split.train,
        samples.labels[draw.split.train],
        draw.split.test,
        folds=draw.folds,
        classes=len(samples.classes),
    )
    right = float((base.argmax(axis=1) == truth).mean())
    return Pair((*accuracy, right), (loss[0], loss[1]), fusion)


def row(name: str, found: Sequence[Pair]) -> str:
    """A row of the table."""
    accuracy = 100 * np.array([one.accuracy for one in found])
    mean, sd = accuracy.mean(axis=0), accuracy.std(axis=0, ddof=1)
    cells = [f"{m:.1f} ± {s:.1f}" for m, s in zip(mean, sd, strict=True)]
    gain = accuracy[:, 1] - accuracy[:, 0]
    reach = stats.t.ppf(0.975, len(gain) - 1) * gain.std(ddof=1) / np.sqrt(len(gain))
    middle = gain.mean()
    loss = np.mean([one.loss for one in found], axis=0)
    shares = [list(one.fusion.weights.values()) for one in found if one.fusion is not None]
    weights = ", ".join(f"{share:.2f}" for share in np.mean(shares, axis=0))
    return (
        f"| {name} | {cells[0]} | {cells[1]} | {cells[2]} | "
        f"{middle:+.1f} [{middle - reach:+.1f}, {middle + reach:+.1f}] | "
        f"{loss[0]:.3f} | {loss[1]:.3f} | {weights} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--half", choices=["choose", "judge", "both"], default="judge")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--only", default="", help="part of a row's name")
    parser.add_argument("--source", type=Path, help="network of geotl run sample_source")
    default = os.environ.get("GEOTL_DATA", HERE.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("more", nargs="*", help="further keys of the recipes")
    args = parser.parse_args()
    print("| data, labels a class | alone | fused | mean and sd | gain | loss | fused | weights |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        os.environ.setdefault("GEOTL_CACHE", f"{scratch}/cache")
        for place, case in enumerate(cases(args.data, args.half, Path(scratch), args.source)):
            if args.only in case.name:
                found = list(pairs(case, args.draws, Path(scratch) / f"{place}", args.more))
                print(row(case.name, found), flush=True)


if __name__ == "__main__":
    main()
